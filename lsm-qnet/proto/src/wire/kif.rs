//! KIF: the kernel interface messages (`docs/protocol.md` §6).
//!
//! One KIF message per LWL4 message of type `USER`, layer 0. A message is a fixed part, written and
//! read here, and sometimes data behind it, which this module only finds: [`Kif::parse`] gives its
//! range, [`Kif::emit`] writes the fixed part alone, so that data is never copied on the way.
//!
//! ```text
//!   0      2      4                        size
//!   +------+------+------------------------+----------------+
//!   | type | size |  fields, 4 bytes each  |  data          |
//!   +------+------+------------------------+----------------+
//!   type: bits 0..6 kind, 0x0100 credentials follow, 0x8080 big-endian sender
//! ```

use std::ops::Range;

use super::WireError;
use super::bytes::{Order, Reader, Writer};
use crate::command::{PulseInfo, Sigevent, VtidInfo};

/// Version of the KIF protocol, in the connect messages.
pub const VERSION: u32 = 1;
/// Most supplementary groups that travel.
pub const MAX_GROUPS: usize = 8;
/// Bytes of a MSGSEND before its data.
pub const MSGSEND_HEAD: usize = 48;
/// Bytes of the transfer messages (MSGREAD_XFER .. MSGREAD_ERROR) before their data.
pub const XFER_HEAD: usize = 20;
/// The longest fixed part: a CONNECT_PULSE with credentials, eight groups and a wide value.
pub const MAX_HEAD: usize = 168;

const CRED: u16 = 0x0100;
const BIG: u16 = 0x8080;
const KIND: u16 = 0x007f;
const MSGSEND: u16 = 5;
const MSGREPLY: u16 = 9;
/// Whether CONNECT_SUCCESS has server_id before client_id, as tshark decodes it. The structure in
/// the dissector's notes has them the other way round; no known frame decides.
const SERVER_ID_FIRST: bool = true;

/// Who a client is (`struct _client_info`), as its node claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client's node; the receiver overwrites it with its own number for that node.
    pub nd: u32,
    /// The client process.
    pub pid: i32,
    /// Its session.
    pub sid: i32,
    /// 0x1: big-endian client.
    pub flags: u32,
    /// Real user.
    pub ruid: i32,
    /// Effective user.
    pub euid: i32,
    /// Saved user.
    pub suid: i32,
    /// Real group.
    pub rgid: i32,
    /// Effective group.
    pub egid: i32,
    /// Saved group.
    pub sgid: i32,
    /// Supplementary groups; the first [`MAX_GROUPS`] travel in here, the others behind a CONNECT ([`super::groups`]).
    pub groups: Vec<i32>,
}

/// CONNECT: a client process wants a connection to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// KIF version of the sender.
    pub version: u32,
    /// The server's process.
    pub server_pid: i32,
    /// The server's channel.
    pub server_chid: i32,
    /// The client node's number of the connection.
    pub client_id: u32,
    /// The client process.
    pub client_pid: i32,
    /// Credentials, if sent.
    pub cred: Option<ClientInfo>,
}

/// MSGSEND without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsgSend {
    /// From CONNECT_SUCCESS.
    pub server_id: u32,
    /// The client node's number of the transaction.
    pub client_handle: u32,
    /// About the sender.
    pub info: VtidInfo,
    /// Data bytes carried.
    pub nbytes: u32,
}

/// The layout shared by the five transfer messages, without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xfer {
    /// Reply status, errno, or 0.
    pub status: i32,
    /// The receiver's number: `msgread_handle` or `client_handle`.
    pub handle: u32,
    /// Offset in the message or reply buffer.
    pub offset: u32,
    /// Data bytes carried.
    pub nbytes: u32,
}

/// A KIF message without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kif {
    /// 0, client to server.
    Connect(Connect),
    /// 1, client to server: a connect with its first message.
    ConnectMsgSend(Connect, MsgSend),
    /// 2, server to client.
    ConnectSuccess {
        /// KIF version of the sender.
        version: u32,
        /// The server node's number of the connection.
        server_id: u32,
        /// From the CONNECT.
        client_id: u32,
        /// Server connection number.
        scoid: i32,
        /// Most bytes per MSGSEND.
        nbytes: u32,
    },
    /// 3, server to client.
    ConnectFail {
        /// KIF version of the sender.
        version: u32,
        /// From the CONNECT.
        client_id: u32,
        /// errno.
        status: u32,
    },
    /// 4, client to server: the sending thread wants to leave.
    Unblock {
        /// The connection.
        server_id: u32,
        /// The transaction.
        client_handle: u32,
        /// The thread, as in the MSGSEND.
        tid: i32,
    },
    /// 5, client to server.
    MsgSend(MsgSend),
    /// 6, server to client: more of the message, please.
    MsgRead {
        /// The server's number of this read.
        msgread_handle: u32,
        /// The transaction.
        client_handle: u32,
        /// Offset in the message.
        offset: u32,
        /// Bytes wanted.
        nbytes: u32,
    },
    /// 7, client to server: data for a MSGREAD.
    MsgReadXfer(Xfer),
    /// 8, server to client: data for the reply buffer.
    MsgWrite(Xfer),
    /// 9, server to client: ends the transaction.
    MsgReply(Xfer),
    /// 10, server to client: ends the transaction with an errno.
    MsgError(Xfer),
    /// 11, server to client: a `sigevent` for the client.
    Event {
        /// A transaction of the client.
        client_handle: u32,
        /// The event. The upper half of its value follows only when it is not 0 (**ours**).
        sigevent: Sigevent,
    },
    /// 12, client to server.
    Pulse {
        /// The connection.
        server_id: u32,
        /// The client node's number, unused.
        client_handle: u32,
        /// About the sender.
        info: VtidInfo,
        /// The pulse. The upper half of its value follows only when it is not 0 (**ours**).
        pulse: PulseInfo,
        /// `_pulse.type` and `.subtype`.
        kind: (u16, u16),
        /// Server connection number.
        scoid: i32,
        /// Credentials, if sent.
        cred: Option<ClientInfo>,
    },
    /// 13, client to server.
    Signal {
        /// The client node's number.
        client_handle: u32,
        /// Target process.
        pid: i32,
        /// Target thread.
        tid: i32,
        /// Signal number.
        signo: i32,
        /// Signal code.
        code: i32,
        /// Signal value.
        value: i32,
        /// Credentials, if sent.
        cred: Option<ClientInfo>,
    },
    /// 14, client to server: the connection is closed.
    Disconnect {
        /// The connection.
        server_id: u32,
    },
    /// 15, server to client: the channel is gone.
    ConnectDeath {
        /// The connection.
        client_id: u32,
    },
    /// 16, client to server: the MSGREAD failed; `status` is the errno.
    MsgReadError(Xfer),
    /// 17, client to server: a connect with its first pulse. Only the name is public; the layout, that of CONNECT_MSGSEND
    /// with a PULSE in its place, is **ours**.
    ConnectPulse(Connect, PulseInfo),
}

impl Kif {
    /// Reads a message; also gives the range of its data in `bytes`.
    ///
    /// # Errors
    /// [`WireError`] when the message is shorter than its fixed part or than the data it
    /// announces, or is of an unknown kind. Never panics, whatever the bytes.
    pub fn parse(bytes: &[u8], order: Order) -> Result<(Kif, Range<usize>), WireError> {
        let mut r = Reader::new(bytes, order, "KIF message");
        let message = parse_fixed(&mut r)?;
        let start = r.position();
        let announced = message.nbytes() as usize;
        if r.rest().len() < announced {
            return Err(WireError::Truncated {
                what: "KIF data",
                need: start.saturating_add(announced),
                have: bytes.len(),
            });
        }
        Ok((message, start..start + announced))
    }

    /// Reads the fixed part of a message from its beginning, and gives the length of that part; the
    /// data behind it need not be there.
    ///
    /// # Errors
    /// [`WireError`] when these bytes do not hold the whole fixed part, or are no KIF message.
    pub fn parse_head(first: &[u8], order: Order) -> Result<(Kif, usize), WireError> {
        let mut r = Reader::new(first, order, "KIF message");
        let message = parse_fixed(&mut r)?;
        Ok((message, r.position()))
    }

    /// Whether these are the first bytes of a MSGSEND or MSGREPLY.
    pub(crate) fn is_call_or_reply(first: &[u8], order: Order) -> bool {
        let kind = Reader::new(first, order, "KIF message").u16().map(|word| word & KIND);
        matches!(kind, Ok(MSGSEND | MSGREPLY))
    }

    /// Data bytes that belong behind the fixed part.
    #[must_use]
    pub fn nbytes(&self) -> u32 {
        match self {
            Kif::MsgSend(send) | Kif::ConnectMsgSend(_, send) => send.nbytes,
            Kif::MsgReadXfer(x) | Kif::MsgWrite(x) | Kif::MsgReply(x) => x.nbytes,
            _ => 0,
        }
    }

    /// Writes the fixed part into `out` and returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`]; [`MAX_HEAD`] bytes are always enough.
    pub fn emit(&self, out: &mut [u8], order: Order) -> Result<usize, WireError> {
        let mut w = Writer::new(out, order);
        match self {
            Kif::Connect(connect) => emit_connect(&mut w, 0, connect),
            Kif::ConnectMsgSend(connect, send) => {
                emit_connect(&mut w, 1, connect);
                emit_msgsend(&mut w, send);
            }
            Kif::ConnectPulse(connect, pulse) => {
                emit_connect(&mut w, 17, connect);
                emit_pulse(&mut w, (u32::MAX, 0), &VtidInfo::default(), pulse, ((0, 0), 0, None));
            }
            Kif::MsgSend(send) => emit_msgsend(&mut w, send),
            Kif::MsgReadXfer(x) => emit_xfer(&mut w, 7, x),
            Kif::MsgWrite(x) => emit_xfer(&mut w, 8, x),
            Kif::MsgReply(x) => emit_xfer(&mut w, MSGREPLY, x),
            Kif::MsgError(x) => emit_xfer(&mut w, 10, x),
            Kif::MsgReadError(x) => emit_xfer(&mut w, 16, x),
            other => emit_small(&mut w, other),
        }
        w.finish()
    }
}

fn head(w: &mut Writer<'_>, kind: u16, size: usize, cred: bool, order: Order) {
    let mut value = kind;
    if cred {
        value |= CRED;
    }
    if order == Order::Big {
        value |= BIG;
    }
    // The size field counts a fixed part of at most MAX_HEAD bytes.
    w.u16(value).u16(u16::try_from(size).unwrap_or(u16::MAX));
}

fn cred_len(cred: Option<&ClientInfo>) -> usize {
    cred.map_or(0, |info| 44 + 4 * info.groups.len().min(MAX_GROUPS))
}

fn emit_cred(w: &mut Writer<'_>, cred: Option<&ClientInfo>) {
    let Some(info) = cred else { return };
    w.u32(info.nd).i32(info.pid).i32(info.sid).u32(info.flags);
    for id in [info.ruid, info.euid, info.suid, info.rgid, info.egid, info.sgid] {
        w.i32(id);
    }
    let groups = &info.groups[..info.groups.len().min(MAX_GROUPS)];
    w.u32(u32::try_from(groups.len()).unwrap_or(0));
    for &group in groups {
        w.i32(group);
    }
}

fn emit_connect(w: &mut Writer<'_>, kind: u16, c: &Connect) {
    let order = w.order();
    head(w, kind, 24 + cred_len(c.cred.as_ref()), c.cred.is_some(), order);
    w.u32(c.version).i32(c.server_pid).i32(c.server_chid).u32(c.client_id).i32(c.client_pid);
    emit_cred(w, c.cred.as_ref());
}

fn emit_info(w: &mut Writer<'_>, server_id: u32, client_handle: u32, v: &VtidInfo) {
    w.u32(server_id).u32(client_handle);
    w.i32(v.tid).i32(v.coid).i32(v.priority).u32(v.srcmsglen);
    w.i32(v.keydata).u32(v.srcnd).u32(v.dstmsglen).u32(0);
}

fn emit_msgsend(w: &mut Writer<'_>, send: &MsgSend) {
    let order = w.order();
    head(w, MSGSEND, MSGSEND_HEAD, false, order);
    emit_info(w, send.server_id, send.client_handle, &send.info);
    w.u32(send.nbytes);
}

fn emit_xfer(w: &mut Writer<'_>, kind: u16, x: &Xfer) {
    let order = w.order();
    head(w, kind, XFER_HEAD, false, order);
    w.i32(x.status).u32(x.handle).u32(x.offset).u32(x.nbytes);
}

fn emit_small(w: &mut Writer<'_>, message: &Kif) {
    let order = w.order();
    match message {
        Kif::ConnectSuccess { version, server_id, client_id, scoid, nbytes } => {
            head(w, 2, 24, false, order);
            let (first, second) =
                if SERVER_ID_FIRST { (server_id, client_id) } else { (client_id, server_id) };
            w.u32(*version).u32(*first).u32(*second).i32(*scoid).u32(*nbytes);
        }
        Kif::ConnectFail { version, client_id, status } => {
            head(w, 3, 16, false, order);
            w.u32(*version).u32(*client_id).u32(*status);
        }
        Kif::Unblock { server_id, client_handle, tid } => {
            head(w, 4, 16, false, order);
            w.u32(*server_id).u32(*client_handle).i32(*tid);
        }
        Kif::MsgRead { msgread_handle, client_handle, offset, nbytes } => {
            head(w, 6, 20, false, order);
            w.u32(*msgread_handle).u32(*client_handle).u32(*offset).u32(*nbytes);
        }
        Kif::Event { client_handle, sigevent } => {
            head(w, 11, 24, false, order);
            w.u32(*client_handle).u32(sigevent.notify).i32(sigevent.id).u32(low(sigevent.value));
            w.u32(
                u32::from(sigevent.code.cast_unsigned()) | u32::from(sigevent.priority.cast_unsigned()) << 16,
            );
            emit_high(w, sigevent.value);
        }
        Kif::Pulse { server_id, client_handle, info, pulse, kind, scoid, cred } => {
            emit_pulse(w, (*server_id, *client_handle), info, pulse, (*kind, *scoid, cred.as_ref()));
        }
        Kif::Signal { client_handle, pid, tid, signo, code, value, cred } => {
            head(w, 13, 28 + cred_len(cred.as_ref()), cred.is_some(), order);
            w.u32(*client_handle).i32(*pid).i32(*tid).i32(*signo).i32(*code).i32(*value);
            emit_cred(w, cred.as_ref());
        }
        Kif::Disconnect { server_id } => {
            head(w, 14, 8, false, order);
            w.u32(*server_id);
        }
        Kif::ConnectDeath { client_id } => {
            head(w, 15, 8, false, order);
            w.u32(*client_id);
        }
        // Everything else was written by `emit`.
        _ => {}
    }
}

/// The half of a value that stands in the public layouts.
fn low(value: u64) -> u32 {
    value as u32
}

/// The other half of a value, behind everything else.
fn emit_high(w: &mut Writer<'_>, value: u64) {
    match (value >> 32) as u32 {
        0 => {}
        high => drop(w.u32(high)),
    }
}

/// Completes a value whose lower half was read.
fn parse_high(r: &mut Reader<'_>, low: u32) -> Result<u64, WireError> {
    let high = if r.rest().len() >= 4 { r.u32()? } else { 0 };
    Ok(u64::from(high) << 32 | u64::from(low))
}

fn emit_pulse(
    w: &mut Writer<'_>,
    (server_id, client_handle): (u32, u32),
    info: &VtidInfo,
    pulse: &PulseInfo,
    (kind, scoid, cred): ((u16, u16), i32, Option<&ClientInfo>),
) {
    let order = w.order();
    head(w, 12, 64 + cred_len(cred), cred.is_some(), order);
    emit_info(w, server_id, client_handle, info);
    w.u16(kind.0).u16(kind.1).bytes(&pulse.code.to_ne_bytes()).bytes(&[0; 3]);
    w.u32(low(pulse.value)).i32(scoid).i32(pulse.priority);
    emit_cred(w, cred);
    emit_high(w, pulse.value);
}

fn parse_cred(r: &mut Reader<'_>, present: bool) -> Result<Option<ClientInfo>, WireError> {
    if !present {
        return Ok(None);
    }
    let mut info =
        ClientInfo { nd: r.u32()?, pid: r.i32()?, sid: r.i32()?, flags: r.u32()?, ..Default::default() };
    for id in [&mut info.ruid, &mut info.euid, &mut info.suid, &mut info.rgid, &mut info.egid, &mut info.sgid]
    {
        *id = r.i32()?;
    }
    let count = r.u32()?;
    if count as usize > MAX_GROUPS {
        return Err(WireError::BadValue { what: "number of groups", value: count });
    }
    for _ in 0..count {
        info.groups.push(r.i32()?);
    }
    Ok(Some(info))
}

fn parse_connect(r: &mut Reader<'_>, cred: bool) -> Result<Connect, WireError> {
    Ok(Connect {
        version: r.u32()?,
        server_pid: r.i32()?,
        server_chid: r.i32()?,
        client_id: r.u32()?,
        client_pid: r.i32()?,
        cred: parse_cred(r, cred)?,
    })
}

fn parse_info(r: &mut Reader<'_>) -> Result<(u32, u32, VtidInfo), WireError> {
    let (server_id, client_handle) = (r.u32()?, r.u32()?);
    let info = VtidInfo {
        tid: r.i32()?,
        coid: r.i32()?,
        priority: r.i32()?,
        srcmsglen: r.u32()?,
        keydata: r.i32()?,
        srcnd: r.u32()?,
        dstmsglen: r.u32()?,
    };
    r.u32()?;
    Ok((server_id, client_handle, info))
}

fn parse_msgsend(r: &mut Reader<'_>) -> Result<MsgSend, WireError> {
    let (server_id, client_handle, info) = parse_info(r)?;
    Ok(MsgSend { server_id, client_handle, info, nbytes: r.u32()? })
}

fn parse_pulse(r: &mut Reader<'_>, cred: bool) -> Result<Kif, WireError> {
    let (server_id, client_handle, info) = parse_info(r)?;
    let kind = (r.u16()?, r.u16()?);
    let code = i8::from_ne_bytes([r.u8()?]);
    r.take(3)?;
    let (value, scoid, priority) = (r.u32()?, r.i32()?, r.i32()?);
    let cred = parse_cred(r, cred)?;
    let pulse = PulseInfo { code, value: parse_high(r, value)?, priority };
    Ok(Kif::Pulse { server_id, client_handle, info, pulse, kind, scoid, cred })
}

fn parse_event(r: &mut Reader<'_>) -> Result<Kif, WireError> {
    let (client_handle, notify, id, value) = (r.u32()?, r.u32()?, r.i32()?, r.u32()?);
    let last = r.u32()?; // code and priority, or attributes: one number, as tshark shows it
    let (code, priority) = ((last as u16).cast_signed(), ((last >> 16) as u16).cast_signed());
    let value = parse_high(r, value)?;
    Ok(Kif::Event { client_handle, sigevent: Sigevent { notify, id, value, code, priority } })
}

/// The credentials behind a MSGSEND's data, which ends at `end`: the sender's have changed.
#[must_use]
pub fn changed_cred(bytes: &[u8], end: usize, order: Order) -> Option<ClientInfo> {
    let word = Reader::new(bytes, order, "KIF message").u16().ok()?;
    let mut r = Reader::new(bytes.get(end..)?, order, "client_info");
    parse_cred(&mut r, word & CRED != 0).ok().flatten()
}

fn parse_fixed(r: &mut Reader<'_>) -> Result<Kif, WireError> {
    let word = r.u16()?;
    r.u16()?; // the size field: no known receiver checks it
    let cred = word & CRED != 0;
    let xfer = |r: &mut Reader<'_>| -> Result<Xfer, WireError> {
        Ok(Xfer { status: r.i32()?, handle: r.u32()?, offset: r.u32()?, nbytes: r.u32()? })
    };
    Ok(match word & KIND {
        0 => Kif::Connect(parse_connect(r, cred)?),
        1 => {
            let connect = parse_connect(r, cred)?;
            let inner = r.u16()?;
            r.u16()?;
            if inner & KIND != 5 {
                return Err(WireError::BadValue { what: "message behind a connect", value: inner.into() });
            }
            Kif::ConnectMsgSend(connect, parse_msgsend(r)?)
        }
        2 => {
            let (version, first, second) = (r.u32()?, r.u32()?, r.u32()?);
            let (server_id, client_id) = if SERVER_ID_FIRST { (first, second) } else { (second, first) };
            Kif::ConnectSuccess { version, server_id, client_id, scoid: r.i32()?, nbytes: r.u32()? }
        }
        3 => Kif::ConnectFail { version: r.u32()?, client_id: r.u32()?, status: r.u32()? },
        4 => Kif::Unblock { server_id: r.u32()?, client_handle: r.u32()?, tid: r.i32()? },
        MSGSEND => Kif::MsgSend(parse_msgsend(r)?),
        6 => Kif::MsgRead {
            msgread_handle: r.u32()?,
            client_handle: r.u32()?,
            offset: r.u32()?,
            nbytes: r.u32()?,
        },
        7 => Kif::MsgReadXfer(xfer(r)?),
        8 => Kif::MsgWrite(xfer(r)?),
        MSGREPLY => Kif::MsgReply(xfer(r)?),
        10 => Kif::MsgError(xfer(r)?),
        11 => parse_event(r)?,
        12 => parse_pulse(r, cred)?,
        13 => Kif::Signal {
            client_handle: r.u32()?,
            pid: r.i32()?,
            tid: r.i32()?,
            signo: r.i32()?,
            code: r.i32()?,
            value: r.i32()?,
            cred: parse_cred(r, cred)?,
        },
        14 => Kif::Disconnect { server_id: r.u32()? },
        15 => Kif::ConnectDeath { client_id: r.u32()? },
        16 => Kif::MsgReadError(xfer(r)?),
        17 => {
            let connect = parse_connect(r, cred)?;
            let inner = r.u16()?;
            r.u16()?;
            match (inner & KIND, parse_pulse(r, inner & CRED != 0)?) {
                (12, Kif::Pulse { pulse, .. }) => Kif::ConnectPulse(connect, pulse),
                _ => return Err(WireError::BadValue { what: "pulse behind a connect", value: inner.into() }),
            }
        }
        other => return Err(WireError::BadValue { what: "KIF message type", value: other.into() }),
    })
}
