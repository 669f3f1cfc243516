//! Messages and pulses.

use std::{
    hash::{DefaultHasher, Hasher},
    io::{IoSlice, IoSliceMut},
};

use crate::{
    ChannelFlags, Error, Event, MessageInfo, Pulse, SendOptions, event,
    port::{Ready, Wait},
    process::{self, lock},
    thread::{self, state},
};

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
    Pulse(Pulse),
}

/// Sends a message and waits for the reply; gives the server's status.
///
/// # Errors
/// As [`crate::Connection::send_vectored`]; `EBADF`: no such connection; `EINTR`: a signal handler ran; `ETIMEDOUT`: see
/// [`super::timer_timeout`].
#[doc(alias = "MsgSend")]
#[doc(alias = "MsgSendv")]
#[doc(alias = "MsgSendsv")]
#[doc(alias = "MsgSendvs")]
#[doc(alias("MsgSendnc", "MsgSendvnc", "MsgSendsvnc", "MsgSendvsnc"))]
pub fn msg_sendv(coid: i32, message: &[IoSlice<'_>], reply: &mut [IoSliceMut<'_>]) -> Result<i64, Error> {
    let timeout = thread::take_timeout().filter(|timeout| timeout.states & (state::SEND | state::REPLY) != 0);
    let options = SendOptions { coid, interruptible: true, ..SendOptions::default() };
    let connection = process::get().connection(coid)?;
    Ok(connection.call(message, reply, options, timeout)?.status)
}

/// Sends a pulse; does not wait. `priority` negative: the caller's own.
///
/// # Errors
/// As [`crate::Connection::pulse`]; `EBADF`: no such connection; `EINVAL`: a code outside of 0 to 127.
#[doc(alias = "MsgSendPulse")]
#[doc(alias = "MsgSendPulsePtr")]
pub fn msg_send_pulse(coid: i32, priority: i32, code: i32, value: u64) -> Result<(), Error> {
    let code = i8::try_from(code).ok().filter(|code| *code >= 0).ok_or(Error::Errno(libc::EINVAL))?;
    let priority = if priority < 0 { thread::priority() } else { priority };
    process::get().connection(coid)?.pulse(priority, code, value)
}

/// Waits for a message or pulse on a channel of this process and puts a message into `parts`.
///
/// # Errors
/// `ESRCH`: no such channel, or it was destroyed meanwhile; `EINTR`: a signal handler ran; `ETIMEDOUT`: see
/// [`super::timer_timeout`].
#[doc(alias = "MsgReceive")]
#[doc(alias = "MsgReceivev")]
pub fn msg_receivev(chid: i32, parts: &mut [IoSliceMut<'_>]) -> Result<Received, Error> {
    Ok(match receive(chid, parts, false)? {
        Ready::Pulse(pulse) => Received::Pulse(pulse),
        Ready::Message { rcvid, info, .. } => Received::Message { rcvid, info },
    })
}

/// Waits for a pulse on a channel of this process; messages stay where they are.
///
/// # Errors
/// As [`msg_receivev`].
#[doc(alias = "MsgReceivePulse")]
#[doc(alias = "MsgReceivePulsev")]
pub fn msg_receive_pulse(chid: i32) -> Result<Pulse, Error> {
    loop {
        if let Ready::Pulse(pulse) = receive(chid, &mut [], true)? {
            return Ok(pulse);
        }
    }
}

fn receive(chid: i32, parts: &mut [IoSliceMut<'_>], pulses_only: bool) -> Result<Ready, Error> {
    let mut timeout = thread::take_timeout().filter(|timeout| timeout.states & state::RECEIVE != 0);
    let port = lock(&process::get().channels).get(&chid).cloned().ok_or(Error::Errno(libc::ESRCH))?;
    loop {
        let deadline = timeout.map(|timeout| timeout.deadline);
        let wait = Wait { deadline, interruptible: true, pulses_only };
        match (port.receive_into(parts, wait), timeout) {
            // Something else than an end of the wait was to happen.
            (Err(Error::Errno(libc::ETIMEDOUT)), Some(over)) if over.event != Event::Unblock => {
                event::perform_own(over.event);
                timeout = None;
            }
            (outcome, _) => return outcome,
        }
    }
}

/// Answers a message: its sender's call returns `status`, and what `parts` hold goes into its reply buffers.
///
/// # Errors
/// `ESRCH`: no such message, it was answered already, or its sender is gone.
#[doc(alias = "MsgReply")]
#[doc(alias = "MsgReplyv")]
pub fn msg_replyv(rcvid: i32, status: i64, parts: &[IoSlice<'_>]) -> Result<(), Error> {
    process::get().port_of(rcvid)?.reply(rcvid, status, parts)
}

/// Answers a message with an error; with `ERESTART`, its sender sends it again.
///
/// # Errors
/// As [`msg_replyv`]; `EINVAL`: a number that no errno has.
#[doc(alias = "MsgError")]
pub fn msg_error(rcvid: i32, errno: i32) -> Result<(), Error> {
    process::get().port_of(rcvid)?.error(rcvid, errno)
}

/// Reads the message from `offset` on; gives the number of bytes that were there.
///
/// # Errors
/// As [`msg_replyv`]; `ETIMEDOUT`: the sender does not hand over what it sent (it was stopped, say) within ten seconds, or
/// the time of [`super::timer_timeout`] for the reply state.
#[doc(alias = "MsgRead")]
#[doc(alias = "MsgReadv")]
pub fn msg_readv(rcvid: i32, parts: &mut [IoSliceMut<'_>], offset: usize) -> Result<usize, Error> {
    let timeout = thread::take_timeout().filter(|timeout| timeout.states & state::REPLY != 0);
    let patience = timeout.map(|timeout| timeout.length);
    process::get().port_of(rcvid)?.read(rcvid, parts, offset, patience)
}

/// Writes into the sender's reply buffers at `offset`; gives the number of bytes that had room.
///
/// # Errors
/// As [`msg_replyv`].
#[doc(alias = "MsgWrite")]
#[doc(alias = "MsgWritev")]
pub fn msg_writev(rcvid: i32, parts: &[IoSlice<'_>], offset: usize) -> Result<usize, Error> {
    process::get().port_of(rcvid)?.write(rcvid, parts, offset)
}

/// About a message that was received and not answered yet.
///
/// # Errors
/// As [`msg_replyv`].
#[doc(alias = "MsgInfo")]
pub fn msg_info(rcvid: i32) -> Result<MessageInfo, Error> {
    process::get().port_of(rcvid)?.info(rcvid)
}

/// The calling thread works for the sender of that message from now on: it takes over its priority, unless the channel has
/// `_NTO_CHF_FIXED_PRIORITY`.
///
/// # Errors
/// As [`msg_replyv`].
#[doc(alias = "MsgCurrent")]
pub fn msg_current(rcvid: i32) -> Result<(), Error> {
    let port = process::get().port_of(rcvid)?;
    let info = port.info(rcvid)?;
    if !port.flags().contains(ChannelFlags::FIXED_PRIORITY) {
        thread::inherit(info.priority);
    }
    Ok(())
}

/// A key for data that an untrusted client carries from one server to another: both compute it and compare. It depends on
/// `key`, which the servers share and the client does not know, and on the data; never 0.
///
/// DEVIATION: QNX keeps a secret in the kernel. Here the secret is `key` alone.
///
/// # Errors
/// As [`msg_replyv`].
#[doc(alias = "MsgKeyData")]
pub fn msg_key_data(rcvid: i32, key: u32, data: &[IoSlice<'_>]) -> Result<u32, Error> {
    process::get().port_of(rcvid)?.info(rcvid)?;
    let mut hasher = DefaultHasher::new();
    hasher.write_u32(key);
    data.iter().for_each(|part| hasher.write(part));
    let hash = hasher.finish();
    Ok(((hash >> 32) as u32 ^ hash as u32).max(1))
}
