//! Messages and pulses: send, receive, reply, read, write.

use client::calls::{self, Received};
use libc::{c_int, c_long, c_void, iovec, ssize_t};

use crate::call::{Outcome, calls, errno};
use crate::cancel::waits;
use crate::info::{MsgInfo, PULSE_LEN, pulse_bytes};
use crate::memory::{self, Source, Target};
use crate::registry;

const KEYDATA_CALCULATE: c_int = 0;
const KEYDATA_VERIFY: c_int = 1;

fn send(coid: c_int, message: &Source<'_>, reply: &mut Target<'_>) -> Outcome<c_long> {
    registry::announce();
    calls::msg_sendv(coid, message.slices(), reply.slices()).map_err(errno)
}

waits! {
    /// Sends a message and waits for the reply; returns the server's status. Both sides one buffer.
    MsgSend, MsgSend_r (coid: c_int, smsg: *const c_void, sbytes: usize, rmsg: *mut c_void, rbytes: usize) -> c_long = {
        // SAFETY: the caller's promise.
        unsafe { send(coid, &Source::one(smsg, sbytes)?, &mut Target::one(rmsg, rbytes)?) }
    };

    /// Sends a message and waits for the reply; returns the server's status. The reply goes into several buffers.
    MsgSendsv, MsgSendsv_r (coid: c_int, smsg: *const c_void, sbytes: usize, riov: *const iovec, rparts: usize) -> c_long = {
        // SAFETY: the caller's promise.
        unsafe { send(coid, &Source::one(smsg, sbytes)?, &mut Target::parts(riov, rparts)?) }
    };

    /// Sends a message and waits for the reply; returns the server's status. The message comes out of several buffers.
    MsgSendvs, MsgSendvs_r (coid: c_int, siov: *const iovec, sparts: usize, rmsg: *mut c_void, rbytes: usize) -> c_long = {
        // SAFETY: the caller's promise.
        unsafe { send(coid, &Source::parts(siov, sparts)?, &mut Target::one(rmsg, rbytes)?) }
    };

    /// Sends a message and waits for the reply; returns the server's status. Both sides several buffers.
    MsgSendv, MsgSendv_r (coid: c_int, siov: *const iovec, sparts: usize, riov: *const iovec, rparts: usize) -> c_long = {
        // SAFETY: the caller's promise.
        unsafe { send(coid, &Source::parts(siov, sparts)?, &mut Target::parts(riov, rparts)?) }
    };

    /// Waits for a message (its number is returned) or a pulse (0).
    MsgReceive, MsgReceive_r (chid: c_int, msg: *mut c_void, bytes: usize, info: *mut MsgInfo) -> c_int = {
        // SAFETY: the caller's promise.
        unsafe { receive(chid, Target::one(msg, bytes)?, info) }
    };

    /// As [`MsgReceive`], into several buffers.
    MsgReceivev, MsgReceivev_r (chid: c_int, iov: *const iovec, parts: usize, info: *mut MsgInfo) -> c_int = {
        // SAFETY: the caller's promise.
        unsafe { receive(chid, Target::parts(iov, parts)?, info) }
    };

    /// Waits for a pulse; messages stay where they are.
    MsgReceivePulse, MsgReceivePulse_r (chid: c_int, pulse: *mut c_void, bytes: usize, info: *mut MsgInfo) -> c_int = {
        // SAFETY: the caller's promise.
        unsafe { receive_pulse(chid, Target::one(pulse, bytes)?, info) }
    };

    /// As [`MsgReceivePulse`], into several buffers.
    MsgReceivePulsev, MsgReceivePulsev_r (chid: c_int, iov: *const iovec, parts: usize, info: *mut MsgInfo) -> c_int = {
        // SAFETY: the caller's promise.
        unsafe { receive_pulse(chid, Target::parts(iov, parts)?, info) }
    };
}

/// Receives into `target`, which has room for a pulse.
///
/// # Safety
/// `info` is NULL or a place for one.
unsafe fn receive(chid: c_int, mut target: Target<'_>, info: *mut MsgInfo) -> Outcome<c_int> {
    if target.room() < PULSE_LEN {
        return Err(libc::EFAULT);
    }
    registry::announce();
    match calls::msg_receivev(chid, target.slices()).map_err(errno)? {
        Received::Message { rcvid, info: about } => {
            // SAFETY: the caller's promise.
            unsafe { memory::put(info, || Ok(MsgInfo::from(&about))) }?;
            Ok(rcvid)
        }
        // QNX leaves the information of a pulse alone.
        Received::Pulse(pulse) => {
            target.fill(&pulse_bytes(&pulse));
            Ok(0)
        }
    }
}

/// Receives a pulse into `target`.
///
/// # Safety
/// `info` is NULL or a place for one.
unsafe fn receive_pulse(chid: c_int, mut target: Target<'_>, _info: *mut MsgInfo) -> Outcome<c_int> {
    if target.room() < PULSE_LEN {
        return Err(libc::EFAULT);
    }
    registry::announce();
    let pulse = calls::msg_receive_pulse(chid).map_err(errno)?;
    target.fill(&pulse_bytes(&pulse));
    Ok(0)
}

fn reply(rcvid: c_int, status: c_long, parts: &Source<'_>) -> Outcome<c_int> {
    calls::msg_replyv(rcvid, status, parts.slices()).map(|()| 0).map_err(errno)
}

/// A count of bytes as calls return it.
fn count(bytes: usize) -> ssize_t {
    ssize_t::try_from(bytes).unwrap_or(ssize_t::MAX)
}

calls! {
    /// [`MsgSend`] that is not a cancellation point.
    MsgSendnc, MsgSendnc_r (coid: c_int, smsg: *const c_void, sbytes: usize, rmsg: *mut c_void, rbytes: usize) -> c_long = {
        // SAFETY: the caller's promise.
        unsafe { send(coid, &Source::one(smsg, sbytes)?, &mut Target::one(rmsg, rbytes)?) }
    };

    /// [`MsgSendsv`] that is not a cancellation point.
    MsgSendsvnc, MsgSendsvnc_r (coid: c_int, smsg: *const c_void, sbytes: usize, riov: *const iovec, rparts: usize) -> c_long = {
        // SAFETY: the caller's promise.
        unsafe { send(coid, &Source::one(smsg, sbytes)?, &mut Target::parts(riov, rparts)?) }
    };

    /// [`MsgSendvs`] that is not a cancellation point.
    MsgSendvsnc, MsgSendvsnc_r (coid: c_int, siov: *const iovec, sparts: usize, rmsg: *mut c_void, rbytes: usize) -> c_long = {
        // SAFETY: the caller's promise.
        unsafe { send(coid, &Source::parts(siov, sparts)?, &mut Target::one(rmsg, rbytes)?) }
    };

    /// [`MsgSendv`] that is not a cancellation point.
    MsgSendvnc, MsgSendvnc_r (coid: c_int, siov: *const iovec, sparts: usize, riov: *const iovec, rparts: usize) -> c_long = {
        // SAFETY: the caller's promise.
        unsafe { send(coid, &Source::parts(siov, sparts)?, &mut Target::parts(riov, rparts)?) }
    };

    /// Answers a message: its sender's call returns `status`.
    MsgReply, MsgReply_r (rcvid: c_int, status: c_long, msg: *const c_void, bytes: usize) -> c_int = {
        // SAFETY: the caller's promise.
        reply(rcvid, status, &unsafe { Source::one(msg, bytes) }?)
    };

    /// As [`MsgReply`], out of several buffers.
    MsgReplyv, MsgReplyv_r (rcvid: c_int, status: c_long, iov: *const iovec, parts: usize) -> c_int = {
        // SAFETY: the caller's promise.
        reply(rcvid, status, &unsafe { Source::parts(iov, parts) }?)
    };

    /// Answers a message with an error; EOK is a reply with status 0, ERESTART makes the client send again.
    MsgError, MsgError_r (rcvid: c_int, error: c_int) -> c_int = match error {
        0 => calls::msg_replyv(rcvid, 0, &[]).map(|()| 0).map_err(errno),
        1..4096 => calls::msg_error(rcvid, error).map(|()| 0).map_err(errno),
        _ => Err(libc::EINVAL),
    };

    /// Reads the message from `offset` on.
    MsgRead, MsgRead_r (rcvid: c_int, msg: *mut c_void, bytes: usize, offset: usize) -> ssize_t = {
        // SAFETY: the caller's promise.
        let mut target = unsafe { Target::one(msg, bytes) }?;
        calls::msg_readv(rcvid, target.slices(), offset).map(count).map_err(errno)
    };

    /// As [`MsgRead`], into several buffers.
    MsgReadv, MsgReadv_r (rcvid: c_int, iov: *const iovec, parts: usize, offset: usize) -> ssize_t = {
        // SAFETY: the caller's promise.
        let mut target = unsafe { Target::parts(iov, parts) }?;
        calls::msg_readv(rcvid, target.slices(), offset).map(count).map_err(errno)
    };

    /// Writes into the sender's reply buffers at `offset`.
    MsgWrite, MsgWrite_r (rcvid: c_int, msg: *const c_void, bytes: usize, offset: usize) -> ssize_t = {
        // SAFETY: the caller's promise.
        let source = unsafe { Source::one(msg, bytes) }?;
        calls::msg_writev(rcvid, source.slices(), offset).map(count).map_err(errno)
    };

    /// As [`MsgWrite`], out of several buffers.
    MsgWritev, MsgWritev_r (rcvid: c_int, iov: *const iovec, parts: usize, offset: usize) -> ssize_t = {
        // SAFETY: the caller's promise.
        let source = unsafe { Source::parts(iov, parts) }?;
        calls::msg_writev(rcvid, source.slices(), offset).map(count).map_err(errno)
    };

    /// About a message that was received and not answered yet.
    MsgInfo, MsgInfo_r (rcvid: c_int, info: *mut MsgInfo) -> c_int = {
        let about = calls::msg_info(rcvid).map_err(errno)?;
        if info.is_null() {
            return Err(libc::EFAULT);
        }
        // SAFETY: the caller's promise.
        unsafe { memory::put(info, || Ok(MsgInfo::from(&about))) }?;
        Ok(0)
    };

    /// This thread works for the sender of that message from now on, and takes over its priority.
    MsgCurrent, MsgCurrent_r (rcvid: c_int) -> c_int = calls::msg_current(rcvid).map(|()| 0).map_err(errno);

    /// Calculates a key for data that a client carries from one server to another, or verifies one.
    ///
    /// DEVIATION: `key` is what the two servers share; QNX keeps a secret in the kernel. Verifying compares with what `newkey`
    /// points to.
    MsgKeyData, MsgKeyData_r (
        rcvid: c_int, op: c_int, key: u32, newkey: *mut u32, iov: *const iovec, parts: c_int
    ) -> c_int = {
        let parts = usize::try_from(parts).map_err(|_| libc::EINVAL)?;
        // SAFETY: the caller's promise.
        let source = unsafe { Source::parts(iov, parts) }?;
        let calculated = calls::msg_key_data(rcvid, key, source.slices()).map_err(errno)?;
        // SAFETY: the caller's promise.
        let given = unsafe { memory::get(newkey) }.ok_or(libc::EFAULT)?;
        match op {
            // SAFETY: the caller's promise.
            KEYDATA_CALCULATE => unsafe { memory::put(newkey, || Ok(calculated)) }.map(|()| 0),
            KEYDATA_VERIFY if given == calculated => Ok(0),
            KEYDATA_VERIFY => Err(libc::EPERM),
            _ => Err(libc::EINVAL),
        }
    };

    /// Sends a pulse with a number.
    MsgSendPulse, MsgSendPulse_r (coid: c_int, priority: c_int, code: c_int, value: c_int) -> c_int = {
        pulse(coid, priority, code, u64::from(value.cast_unsigned()))
    };

    /// Sends a pulse with a pointer.
    MsgSendPulsePtr, MsgSendPulsePtr_r (coid: c_int, priority: c_int, code: c_int, value: *mut c_void) -> c_int = {
        pulse(coid, priority, code, value.addr() as u64)
    };
}

fn pulse(coid: c_int, priority: c_int, code: c_int, value: u64) -> Outcome<c_int> {
    registry::announce();
    calls::msg_send_pulse(coid, priority, code, value).map(|()| 0).map_err(errno)
}
