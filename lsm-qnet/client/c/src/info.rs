//! The structures that calls fill: `_msg_info`, `_pulse`, as `sys/neutrino.h` lays them out.

use client::{MessageInfo, Pulse, ServerInfo};
use libc::{c_int, pid_t};

/// `struct _msg_info`, and `struct _server_info`, which is the same.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct MsgInfo {
    pub(crate) nd: u32,
    pub(crate) srcnd: u32,
    pub(crate) pid: pid_t,
    pub(crate) tid: i32,
    pub(crate) chid: i32,
    pub(crate) scoid: i32,
    pub(crate) coid: i32,
    pub(crate) priority: i16,
    pub(crate) flags: i16,
    pub(crate) msglen: usize,
    pub(crate) srcmsglen: usize,
    pub(crate) dstmsglen: usize,
    pub(crate) type_id: u32,
    pub(crate) reserved: u32,
}

impl From<&MessageInfo> for MsgInfo {
    fn from(info: &MessageInfo) -> Self {
        Self {
            nd: info.nd,
            srcnd: info.srcnd,
            pid: info.pid,
            tid: info.tid,
            chid: info.chid,
            scoid: info.scoid,
            coid: info.coid,
            priority: short(info.priority),
            flags: info.flags as i16,
            msglen: info.msglen,
            srcmsglen: info.srcmsglen as usize,
            dstmsglen: info.dstmsglen as usize,
            type_id: 0,
            reserved: 0,
        }
    }
}

impl From<&ServerInfo> for MsgInfo {
    fn from(info: &ServerInfo) -> Self {
        Self {
            nd: info.nd,
            pid: info.pid,
            chid: info.chid,
            scoid: info.scoid.unwrap_or(0),
            coid: info.coid,
            flags: info.flags as i16,
            ..Self::default()
        }
    }
}

/// A priority as the structure holds it.
pub(crate) fn short(priority: c_int) -> i16 {
    i16::try_from(priority).unwrap_or(i16::MAX)
}

/// Size of `struct _pulse`.
pub(crate) const PULSE_LEN: usize = 24;

/// `struct _pulse`: type and subtype 0, code, three zero bytes, the value's union, the client, padding.
pub(crate) fn pulse_bytes(pulse: &Pulse) -> [u8; PULSE_LEN] {
    let mut bytes = [0; PULSE_LEN];
    bytes[4..5].copy_from_slice(&pulse.code.to_ne_bytes());
    bytes[8..16].copy_from_slice(&pulse.value.to_ne_bytes());
    bytes[16..20].copy_from_slice(&pulse.scoid.to_ne_bytes());
    bytes
}
