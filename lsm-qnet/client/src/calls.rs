//! QNX's calls with integer handles, as safe functions on slices: what the C face converts its pointers for.
//!
//! | handle | is |
//! |---|---|
//! | `chid` | a channel of this process, from 1 |
//! | `coid` | a connection of this process: the lowest number from 3 that no descriptor uses, or one from [`SIDE_CHANNEL`] |
//! | `rcvid` | a received message, above 0; refused with `ESRCH` once it was answered or its sender left |
//! | `scoid` | a client process of a channel |
//!
//! One table of them lives behind the process; nothing of it is made before the first call and no thread belongs to it.
//! The root of the node is the one that [`Root::locate`] finds at the first call.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{IoSlice, IoSliceMut},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::{
    Channel, ChannelFlags, Connection, Error, Message, MessageInfo, PulseMessage, Root, SendOptions, iov,
};

/// `_NTO_SIDE_CHANNEL`: in the index of [`connect_attach`], a number outside the range of descriptors.
pub const SIDE_CHANNEL: u32 = 0x4000_0000;

/// What a receive brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message, in the caller's buffers as far as they go; its sender waits for the answer to `rcvid`.
    Message {
        /// Its number.
        rcvid: i32,
        /// About it.
        info: MessageInfo,
    },
    /// A pulse; the buffers are untouched.
    Pulse(PulseMessage),
}

/// What this process has.
#[derive(Debug)]
struct Process {
    root: Root,
    channels: Mutex<BTreeMap<i32, Arc<Channel>>>,
    connections: Mutex<BTreeMap<i32, Arc<Connection>>>,
    received: Mutex<(i32, HashMap<i32, Arc<Message>>)>,
}

fn process() -> Result<&'static Process, Error> {
    static PROCESS: OnceLock<Process> = OnceLock::new();
    if let Some(process) = PROCESS.get() {
        return Ok(process);
    }
    let root = Root::locate(None)?;
    Ok(PROCESS.get_or_init(|| Process {
        root,
        channels: Mutex::default(),
        connections: Mutex::default(),
        received: Mutex::default(),
    }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno<T>(errno: i32) -> Result<T, Error> {
    Err(Error::Errno(errno))
}

/// Makes a channel; `flags` are `_NTO_CHF_*`.
///
/// # Errors
/// As [`Channel::create`].
#[doc(alias = "ChannelCreate")]
pub fn channel_create(flags: u32) -> Result<i32, Error> {
    let process = process()?;
    let channel = Channel::create(&process.root, ChannelFlags::from_bits(flags))?;
    let chid = channel.chid();
    lock(&process.channels).insert(chid, Arc::new(channel));
    Ok(chid)
}

/// Ends a channel: its clients are told.
///
/// # Errors
/// `EINVAL`: no such channel.
#[doc(alias = "ChannelDestroy")]
pub fn channel_destroy(chid: i32) -> Result<(), Error> {
    let channel = lock(&process()?.channels).remove(&chid);
    channel.map(drop).ok_or(Error::Errno(libc::EINVAL))
}

/// Attaches to channel `chid` of process `pid` on node `nd`; `pid` 0 is this process when `nd` is 0. `index` is the lowest
/// number that is wanted, or [`SIDE_CHANNEL`]; `flags` are `_NTO_COF_*`.
///
/// # Errors
/// As [`Connection::attach`]; `EMFILE`: no number left.
#[doc(alias = "ConnectAttach")]
pub fn connect_attach(nd: u32, pid: i32, chid: i32, index: u32, flags: u32) -> Result<i32, Error> {
    // The flags only matter to the C library's own descriptors: our sockets close on exec in any case.
    let _flags = flags;
    let process = process()?;
    let pid = if (nd, pid) == (0, 0) && chid != 0 { std::process::id().cast_signed() } else { pid };
    let connection = Connection::attach(&process.root, nd, pid, chid)?;
    let mut connections = lock(&process.connections);
    let side = index & SIDE_CHANNEL != 0;
    let lowest = if side { index.cast_signed() } else { index.cast_signed().max(3) };
    let coid = (lowest..i32::MAX)
        .find(|coid| !connections.contains_key(coid) && (side || !is_open(*coid)))
        .ok_or(Error::Errno(libc::EMFILE))?;
    connections.insert(coid, Arc::new(connection));
    Ok(coid)
}

/// Whether a number is an open descriptor of this process.
fn is_open(fd: i32) -> bool {
    fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()
}

/// Detaches.
///
/// # Errors
/// `EINVAL`: no such connection.
#[doc(alias = "ConnectDetach")]
pub fn connect_detach(coid: i32) -> Result<(), Error> {
    let connection = lock(&process()?.connections).remove(&coid);
    connection.map(drop).ok_or(Error::Errno(libc::EINVAL))
}

fn connection(coid: i32) -> Result<Arc<Connection>, Error> {
    lock(&process()?.connections).get(&coid).cloned().ok_or(Error::Errno(libc::EBADF))
}

/// Sends a message and waits for the reply; gives the server's status.
///
/// # Errors
/// As [`Connection::send_vectored`]; `EBADF`: no such connection.
#[doc(alias = "MsgSend")]
#[doc(alias = "MsgSendv")]
#[doc(alias = "MsgSendsv")]
#[doc(alias = "MsgSendvs")]
pub fn msg_sendv(coid: i32, message: &[IoSlice<'_>], reply: &mut [IoSliceMut<'_>]) -> Result<i64, Error> {
    let options = SendOptions { coid, ..SendOptions::default() };
    Ok(connection(coid)?.send_vectored(message, reply, options)?.status)
}

/// Sends a pulse; does not wait. `priority` negative: the caller's own.
///
/// # Errors
/// As [`Connection::pulse`]; `EBADF`: no such connection; `EINVAL`: a code outside of -128 to 127.
#[doc(alias = "MsgSendPulse")]
#[doc(alias = "MsgSendPulsePtr")]
pub fn msg_send_pulse(coid: i32, priority: i32, code: i32, value: u64) -> Result<(), Error> {
    let code = i8::try_from(code).map_err(|_| Error::Errno(libc::EINVAL))?;
    let priority = if priority < 0 { SendOptions::default().priority } else { priority };
    connection(coid)?.pulse(priority, code, value)
}

/// Waits for a message or pulse on a channel of this process and puts a message into `parts`.
///
/// # Errors
/// `ESRCH`: no such channel; `ETIMEDOUT`.
#[doc(alias = "MsgReceive")]
#[doc(alias = "MsgReceivev")]
pub fn msg_receivev(chid: i32, parts: &mut [IoSliceMut<'_>]) -> Result<Received, Error> {
    let process = process()?;
    let channel = lock(&process.channels).get(&chid).cloned().ok_or(Error::Errno(libc::ESRCH))?;
    match channel.receive(None)? {
        crate::Received::Pulse(pulse) => Ok(Received::Pulse(pulse)),
        crate::Received::Message(message) => {
            let mut info = message.info().clone();
            info.msglen = iov::scatter(message.data(), parts);
            let mut received = lock(&process.received);
            let (last, messages) = &mut *received;
            let rcvid = loop {
                *last = (*last & (i32::MAX - 1)) + 1;
                if !messages.contains_key(last) {
                    break *last;
                }
            };
            messages.insert(rcvid, Arc::new(message));
            Ok(Received::Message { rcvid, info })
        }
    }
}

fn message(rcvid: i32) -> Result<Arc<Message>, Error> {
    lock(&process()?.received).1.get(&rcvid).cloned().ok_or(Error::Errno(libc::ESRCH))
}

fn take(rcvid: i32) -> Result<Message, Error> {
    let message = lock(&process()?.received).1.remove(&rcvid).ok_or(Error::Errno(libc::ESRCH))?;
    Arc::try_unwrap(message).or_else(|_| errno(libc::ESRCH))
}

/// Answers a message: its sender's call returns `status`, and what `parts` hold goes into its reply buffers.
///
/// # Errors
/// `ESRCH`: no such message, it was answered already, or its sender is gone.
#[doc(alias = "MsgReply")]
#[doc(alias = "MsgReplyv")]
pub fn msg_replyv(rcvid: i32, status: i64, parts: &[IoSlice<'_>]) -> Result<(), Error> {
    take(rcvid)?.reply(status, &iov::gather(parts, 0, iov::len(parts)))
}

/// Answers a message with an error.
///
/// # Errors
/// As [`msg_replyv`].
#[doc(alias = "MsgError")]
pub fn msg_error(rcvid: i32, errno: i32) -> Result<(), Error> {
    take(rcvid)?.error(errno)
}

/// Reads the message from `offset` on; gives the number of bytes that were there.
///
/// # Errors
/// As [`msg_replyv`].
#[doc(alias = "MsgRead")]
#[doc(alias = "MsgReadv")]
pub fn msg_readv(rcvid: i32, parts: &mut [IoSliceMut<'_>], offset: usize) -> Result<usize, Error> {
    let Ok(mut at) = u32::try_from(offset) else { return Ok(0) };
    let (message, mut done) = (message(rcvid)?, 0);
    for part in parts {
        let n = message.read(at, part)?;
        done += n;
        at = at.saturating_add(n as u32);
        if n < part.len() {
            break;
        }
    }
    Ok(done)
}

/// Writes into the sender's reply buffers at `offset`; gives the number of bytes that had room.
///
/// # Errors
/// As [`msg_replyv`].
#[doc(alias = "MsgWrite")]
#[doc(alias = "MsgWritev")]
pub fn msg_writev(rcvid: i32, parts: &[IoSlice<'_>], offset: usize) -> Result<usize, Error> {
    let message = message(rcvid)?;
    let room = (message.info().dstmsglen as usize).saturating_sub(offset);
    let data = iov::gather(parts, 0, room.min(iov::len(parts)));
    message.write(u32::try_from(offset).unwrap_or(u32::MAX), &data)?;
    Ok(data.len())
}

/// About a message that was received and not answered yet.
///
/// # Errors
/// As [`msg_replyv`].
#[doc(alias = "MsgInfo")]
pub fn msg_info(rcvid: i32) -> Result<MessageInfo, Error> {
    message(rcvid).map(|message| message.info().clone())
}
