//! The server's side: a channel, what is received on it, and what can be done with a received message.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Instant,
};

use qnet_ipc::{Claim, Root};

use crate::{
    ChannelFlags, Error, Event, MessageInfo, Pulse,
    iov::Body,
    port::{Port, Ready, Wait},
    process::{SEQUENCE_BITS, pid},
};

/// What [`Channel::receive`] brings.
#[derive(Debug)]
pub enum Received {
    /// A message, whose sender waits.
    Message(Message),
    /// A pulse.
    Pulse(Pulse),
}

/// A channel. It is closed, and its clients are told, when it and the last message received on it are dropped.
///
/// Threads share it freely; each message goes to one of those that receive.
#[doc(alias = "ChannelCreate")]
#[derive(Debug)]
pub struct Channel {
    port: Arc<Port>,
    pid: i32,
}

impl Channel {
    /// Makes a channel of this process, found by clients that use the same root. Its number is the lowest free one.
    ///
    /// # Errors
    /// `EINVAL`: flags that mean nothing here; no descriptors left; somebody squats on the addresses of this process.
    #[doc(alias = "ChannelCreate")]
    pub fn create(root: &Root, flags: ChannelFlags) -> Result<Self, Error> {
        Ok(Self { port: Port::create(root, flags)?, pid: pid() })
    }

    /// Waits for the next message or pulse: the most urgent first, equal ones in order of arrival.
    ///
    /// # Errors
    /// `ETIMEDOUT` when `deadline` passed first; `ESRCH` in a child of the process that made the channel.
    #[doc(alias = "MsgReceive")]
    pub fn receive(&self, deadline: Option<Instant>) -> Result<Received, Error> {
        let wait = Wait { deadline, ..Wait::default() };
        Ok(self.received(self.port.receive(wait)?))
    }

    /// Waits as [`Channel::receive`] and puts the message into the caller's buffers, as much of it as they hold
    /// ([`MessageInfo::msglen`] says how much); [`Message::data`] is empty then. Of a message from another node, only what
    /// came at first is there; [`Message::read`] brings the rest.
    ///
    /// # Errors
    /// As [`Channel::receive`].
    #[doc(alias = "MsgReceivev")]
    pub fn receive_into(
        &self,
        parts: &mut [IoSliceMut<'_>],
        deadline: Option<Instant>,
    ) -> Result<Received, Error> {
        let wait = Wait { deadline, ..Wait::default() };
        Ok(self.received(self.port.receive_into(parts, wait)?))
    }

    /// Waits for the next pulse; messages stay where they are.
    ///
    /// # Errors
    /// As [`Channel::receive`].
    #[doc(alias = "MsgReceivePulse")]
    pub fn receive_pulse(&self, deadline: Option<Instant>) -> Result<Pulse, Error> {
        let wait = Wait { deadline, pulses_only: true, ..Wait::default() };
        loop {
            if let Ready::Pulse(pulse) = self.port.receive(wait)? {
                return Ok(pulse);
            }
        }
    }

    /// Who the client with number `scoid` is; it need not have sent anything yet.
    ///
    /// # Errors
    /// `EINVAL`: there is no such client (any more).
    #[doc(alias = "ConnectClientInfo")]
    pub fn client(&self, scoid: i32) -> Result<Arc<Claim>, Error> {
        let number = client_number(scoid).ok_or(Error::Errno(libc::EINVAL))?;
        self.port.claim(number).map_err(|_| Error::Errno(libc::EINVAL))
    }

    /// The process that clients name: this one.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The number that clients name.
    #[must_use]
    pub fn chid(&self) -> i32 {
        self.port.chid()
    }

    fn received(&self, ready: Ready) -> Received {
        match ready {
            Ready::Pulse(pulse) => Received::Pulse(pulse),
            Ready::Message { rcvid, info, data } => Received::Message(Message {
                port: Arc::clone(&self.port),
                rcvid,
                info,
                body: Body::new(data),
                answered: false,
            }),
        }
    }
}

/// The client number in an scoid.
pub(crate) fn client_number(scoid: i32) -> Option<u32> {
    // From twice the first number on there are side channels.
    let numbers = 1..crate::port::FIRST_SCOID;
    scoid
        .checked_sub(crate::port::FIRST_SCOID)
        .filter(|number| numbers.contains(number))
        .map(i32::cast_unsigned)
}

/// A received message. Its sender waits until it is answered; one that is dropped unanswered ends with `ESRCH`.
#[must_use = "the sender waits for a reply"]
#[derive(Debug)]
pub struct Message {
    port: Arc<Port>,
    rcvid: i32,
    info: MessageInfo,
    body: Body,
    answered: bool,
}

impl Message {
    /// The first bytes of the message: all of it when it is short.
    ///
    /// A long message lies in memory that its sender shares with this process, and could change there: it is copied when it
    /// is asked for here, once. [`Message::read`] takes it from there straight into the caller's buffers.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.body.bytes()
    }

    /// About the sender and the message, as it was received.
    #[must_use]
    #[doc(alias = "MsgInfo")]
    pub fn info(&self) -> &MessageInfo {
        &self.info
    }

    /// Number of this message, as it stands in an unblock pulse.
    #[must_use]
    pub fn rcvid(&self) -> i32 {
        self.rcvid
    }

    /// Reads the message from `offset` on; returns how many bytes there were.
    ///
    /// # Errors
    /// `ESRCH` when the sender is gone, `ETIMEDOUT` when it does not hand over what it sent (it was stopped, say).
    #[doc(alias = "MsgRead")]
    pub fn read(&self, offset: u32, into: &mut [u8]) -> Result<usize, Error> {
        self.read_vectored(offset, &mut [IoSliceMut::new(into)])
    }

    /// Reads the message from `offset` on into several buffers; returns how many bytes there were.
    ///
    /// # Errors
    /// As [`Message::read`].
    #[doc(alias = "MsgReadv")]
    pub fn read_vectored(&self, offset: u32, into: &mut [IoSliceMut<'_>]) -> Result<usize, Error> {
        let offset = offset as usize;
        let room: usize = into.iter().map(|part| part.len()).sum();
        // What came along is here already.
        let have = self.body.read_at(offset, into);
        if have == room || self.body.len() == self.info.srcmsglen as usize {
            return Ok(have);
        }
        self.port.read_rest(self.rcvid, into, have, offset)
    }

    /// Writes into the sender's reply buffer at `offset`; returns how many bytes have room there.
    ///
    /// # Errors
    /// `ESRCH` when the sender is gone.
    #[doc(alias = "MsgWrite")]
    #[doc(alias = "MsgWritev")]
    pub fn write(&self, offset: u32, data: &[u8]) -> Result<usize, Error> {
        self.port.write(self.rcvid, &[IoSlice::new(data)], offset as usize)
    }

    /// Ends the sender's wait; `status` is what its send returns.
    ///
    /// # Errors
    /// `ESRCH` when the sender is gone.
    #[doc(alias = "MsgReply")]
    pub fn reply(self, status: i64, data: &[u8]) -> Result<(), Error> {
        self.reply_vectored(status, &[IoSlice::new(data)])
    }

    /// Ends the sender's wait with bytes from several buffers.
    ///
    /// # Errors
    /// As [`Message::reply`].
    #[doc(alias = "MsgReplyv")]
    pub fn reply_vectored(mut self, status: i64, parts: &[IoSlice<'_>]) -> Result<(), Error> {
        self.answered = true;
        // The sender has its memory back when it hears of the answer.
        self.body.release();
        self.port.reply(self.rcvid, status, parts)
    }

    /// Ends the sender's wait with an error.
    ///
    /// # Errors
    /// As [`Message::reply`]; `EINVAL` for a number that no errno has.
    #[doc(alias = "MsgError")]
    pub fn error(mut self, errno: i32) -> Result<(), Error> {
        self.answered = true;
        self.body.release();
        self.port.error(self.rcvid, errno)
    }

    /// Lets the sender go on waiting when this value is gone; its number answers it ([`crate::calls::msg_replyv`]). For servers
    /// that keep numbers, as C programs do.
    #[must_use = "without its number the message cannot be answered"]
    pub fn into_rcvid(mut self) -> i32 {
        self.answered = true;
        self.rcvid
    }

    /// Who will be told of events when the message is answered already.
    #[must_use]
    pub fn client(&self) -> ClientHandle {
        ClientHandle { port: Arc::downgrade(&self.port), rcvid: self.rcvid }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.answered {
            // A sender that is gone needs no answer.
            let _gone = self.port.error(self.rcvid, libc::ESRCH);
        }
    }
}

/// A client to let events happen in, long after its message was answered.
#[derive(Clone, Debug)]
pub struct ClientHandle {
    port: std::sync::Weak<Port>,
    rcvid: i32,
}

impl ClientHandle {
    /// Lets an event happen that the client asked for; does not wait until it did.
    ///
    /// # Errors
    /// `ESRCH` when the client or the channel is gone, `EAGAIN` when the client reads nothing.
    #[doc(alias = "MsgDeliverEvent")]
    pub fn deliver(&self, event: Event) -> Result<(), Error> {
        self.port.upgrade().ok_or(Error::Errno(libc::ESRCH))?.deliver(self.rcvid, event)
    }

    /// Number of the client, as in [`MessageInfo::scoid`].
    #[must_use]
    pub fn scoid(&self) -> i32 {
        crate::port::FIRST_SCOID + (self.rcvid >> SEQUENCE_BITS)
    }
}

impl AsFd for Channel {
    /// A descriptor that is readable when something may be received; for event loops.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.expose()
    }
}

#[cfg(test)]
mod tests;
