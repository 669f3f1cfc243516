//! The server's side: a channel, what is received on it, and what can be done with a received message.
//!
//! Threads share a channel freely. As on the client's side there is no thread behind it: whoever waits reads for all
//! ([`state`] sorts the packets). Only when a reply did not fit into its socket and nobody waits, a thread is started that
//! ends as soon as the client took it: replying does not wait for the client, up to a mebibyte. Messages and pulses are received by priority, equal ones in order of arrival.

mod state;

use std::{
    os::fd::AsFd,
    process,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollEvent, EpollTimeout},
};
use qnet_ipc::{Claim, Listener, MAX_DATA, Root, ToClient};

use crate::Error;
use state::{Ready, State};

/// Number of the next channel of this process.
static NEXT_CHID: AtomicI32 = AtomicI32::new(1);

/// `_NTO_CHF_*`: what a channel wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelFlags(u32);

impl ChannelFlags {
    /// `_NTO_CHF_UNBLOCK`: a pulse when a client that waits for a reply wants to leave; the server must then reply.
    pub const UNBLOCK: Self = Self(0x2);
    /// `_NTO_CHF_DISCONNECT`: a pulse when a client is gone.
    pub const DISCONNECT: Self = Self(0x8);

    /// No flags.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// QNX's `_NTO_CHF_*` numbers.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Both sets of flags together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `struct _msg_info`: about a received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    /// Process of the sender, on its own node.
    pub pid: i32,
    /// Thread of the sender.
    pub tid: i32,
    /// Channel it came in on.
    pub chid: i32,
    /// Number of the client on this channel.
    pub scoid: i32,
    /// The sender's number of the connection.
    pub coid: i32,
    /// Bytes received at first ([`Message::data`]).
    pub msglen: usize,
    /// Length of the whole message.
    pub srcmsglen: u32,
    /// Room for the reply.
    pub dstmsglen: u32,
    /// The sender's priority.
    pub priority: i32,
    /// Who the sender is: from the kernel for a local process, mapped by `lsm-qnet` for a remote one.
    pub credentials: Arc<Claim>,
}

/// A pulse as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PulseMessage {
    /// Code: 0 to 127 from users, negative from the system.
    pub code: i8,
    /// Its value.
    pub value: u64,
    /// Its priority.
    pub priority: i32,
    /// Client that it came from.
    pub scoid: i32,
}

impl PulseMessage {
    /// `_PULSE_CODE_UNBLOCK`: the client behind the message whose number is the value wants to leave.
    pub const UNBLOCK: i8 = -32;
    /// `_PULSE_CODE_DISCONNECT`: the client `scoid` is gone.
    pub const DISCONNECT: i8 = -33;
}

/// What [`Channel::receive`] brings.
#[derive(Debug)]
pub enum Received {
    /// A message, whose sender waits.
    Message(Message),
    /// A pulse.
    Pulse(PulseMessage),
}

/// A channel. It is closed, and its clients are told, when it and the last message received on it are dropped.
#[doc(alias = "ChannelCreate")]
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    pid: i32,
    chid: i32,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    turn: Condvar,
    epoll: Arc<Epoll>,
}

impl Channel {
    /// Makes a channel of this process, found by clients that use the same root.
    ///
    /// # Errors
    /// No descriptors left; somebody squats on the addresses of this process.
    #[doc(alias = "ChannelCreate")]
    pub fn create(root: &Root, flags: ChannelFlags) -> Result<Self, Error> {
        let pid = process::id().cast_signed();
        let (listener, chid) = loop {
            let chid = NEXT_CHID.fetch_add(1, Ordering::Relaxed);
            // (1, 1) is the node's server, whoever has the pid.
            if (pid, chid) == (1, 1) {
                continue;
            }
            break (Listener::channel(&root.channel(pid, chid)?)?, chid);
        };
        let epoll = Arc::new(Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC)?);
        let state = State::new(listener, Arc::clone(&epoll), flags, chid, root.path().to_owned())?;
        let shared = Shared { state: Mutex::new(state), turn: Condvar::new(), epoll };
        Ok(Self { shared: Arc::new(shared), pid, chid })
    }

    /// Waits for the next message or pulse.
    ///
    /// # Errors
    /// `ETIMEDOUT` when `deadline` passed first.
    #[doc(alias = "MsgReceive")]
    pub fn receive(&self, deadline: Option<Instant>) -> Result<Received, Error> {
        let ready = self.shared.wait(deadline, State::next)?;
        Ok(match ready.ok_or(Error::Errno(libc::ETIMEDOUT))? {
            Ready::Pulse(pulse) => Received::Pulse(pulse),
            Ready::Message { rcvid, info, data } => Received::Message(Message {
                shared: Arc::clone(&self.shared),
                rcvid,
                info,
                data,
                answered: false,
            }),
        })
    }

    /// The process that clients name: this one.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The number that clients name.
    #[must_use]
    pub fn chid(&self) -> i32 {
        self.chid
    }
}

/// A received message. Its sender waits until it is answered; one that is dropped unanswered ends with `ESRCH`.
#[must_use = "the sender waits for a reply"]
#[derive(Debug)]
pub struct Message {
    shared: Arc<Shared>,
    rcvid: u64,
    info: MessageInfo,
    data: Vec<u8>,
    answered: bool,
}

impl Message {
    /// The first bytes of the message: all of it when it is short.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// About the sender and the message.
    #[must_use]
    #[doc(alias = "MsgInfo")]
    pub fn info(&self) -> &MessageInfo {
        &self.info
    }

    /// Number of this message, as it stands in an unblock pulse; unique on the channel for ever.
    #[must_use]
    pub fn rcvid(&self) -> u64 {
        self.rcvid
    }

    /// Reads the message from `offset` on; returns how many bytes there were.
    ///
    /// # Errors
    /// `ESRCH` when the sender is gone.
    #[doc(alias = "MsgRead")]
    pub fn read(&self, offset: u32, into: &mut [u8]) -> Result<usize, Error> {
        if let Some(data) = self.data.get(offset as usize..)
            && (data.len() >= into.len() || self.data.len() == self.info.srcmsglen as usize)
        {
            let n = data.len().min(into.len());
            into[..n].copy_from_slice(&data[..n]);
            return Ok(n);
        }
        let mut done = 0;
        while done < into.len() {
            let piece = &mut into[done..];
            let nbytes = piece.len().min(MAX_DATA) as u32;
            let Some(at) = offset.checked_add(done as u32) else { break };
            self.shared.send(self.rcvid, |txn| ToClient::Read { txn, offset: at, nbytes })?;
            let data = self.shared.wait(None, |state| state.take_read(self.rcvid, at))?;
            let data = data.unwrap_or(Err(libc::ESRCH)).map_err(Error::Errno)?;
            let n = data.len().min(piece.len());
            piece[..n].copy_from_slice(&data[..n]);
            done += n;
            if data.len() < nbytes as usize {
                break;
            }
        }
        Ok(done)
    }

    /// Writes into the sender's reply buffer at `offset`; what does not fit there is dropped.
    ///
    /// # Errors
    /// `ESRCH` when the sender is gone.
    #[doc(alias = "MsgWrite")]
    pub fn write(&self, offset: u32, data: &[u8]) -> Result<(), Error> {
        for (i, piece) in data.chunks(MAX_DATA).enumerate() {
            let Some(at) = offset.checked_add((i * MAX_DATA) as u32) else { break };
            self.shared.send(self.rcvid, |txn| ToClient::Write { txn, offset: at, data: piece })?;
        }
        Ok(())
    }

    /// Ends the sender's wait; `status` is what its send returns.
    ///
    /// # Errors
    /// `ESRCH` when the sender is gone.
    #[doc(alias = "MsgReply")]
    pub fn reply(mut self, status: i64, data: &[u8]) -> Result<(), Error> {
        let last = data.len() - data.len().min(MAX_DATA);
        self.write(0, &data[..last])?;
        let (offset, data) = (last as u32, &data[last..]);
        self.answered = true;
        self.shared.send(self.rcvid, |txn| ToClient::Reply { txn, status, offset, data })?;
        self.shared.lock().forget(self.rcvid);
        Ok(())
    }

    /// Ends the sender's wait with an error.
    ///
    /// # Errors
    /// `ESRCH` when the sender is gone.
    #[doc(alias = "MsgError")]
    pub fn error(mut self, errno: i32) -> Result<(), Error> {
        self.answered = true;
        self.shared.send(self.rcvid, |txn| ToClient::Error { txn, errno })?;
        self.shared.lock().forget(self.rcvid);
        Ok(())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if !self.answered {
            let mut state = self.shared.lock();
            state.refuse(self.rcvid, libc::ESRCH);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a packet about a received message, waiting while its client reads too slowly.
    fn send<'a>(self: &Arc<Self>, rcvid: u64, packet: impl Fn(u32) -> ToClient<'a>) -> Result<(), Error> {
        let sent = self.wait(None, |state| state.send(rcvid, &packet))?;
        self.flush()?;
        sent.unwrap_or(Err(libc::ESRCH)).map_err(Error::Errno)
    }

    /// Makes sure that what waits for slow clients is sent although no thread of the program may wait any more.
    fn flush(self: &Arc<Self>) -> Result<(), Error> {
        let mut state = self.lock();
        if state.flushing || state.reading || !state.has_unsent() {
            return Ok(());
        }
        state.flushing = true;
        drop(state);
        let shared = Arc::clone(self);
        let flush = move || {
            let sent = |state: &mut State| (!state.has_unsent()).then(|| state.flushing = false);
            if shared.wait(None, sent).is_err() {
                shared.lock().flushing = false;
            }
        };
        std::thread::Builder::new().name("qnet-flush".into()).spawn(flush)?;
        Ok(())
    }

    /// Waits until `ready` gives a value, reading the sockets for everybody meanwhile; `None` after the deadline.
    fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut events = [EpollEvent::empty(); 64];
        let mut state = self.lock();
        loop {
            if let Some(value) = ready(&mut state) {
                return Ok(Some(value));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            if state.reading {
                state = match left {
                    None => self.turn.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(left) => {
                        self.turn.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                continue;
            }
            state.reading = true;
            drop(state);
            let timeout = left.map_or(EpollTimeout::NONE, |left| {
                let left = left.saturating_add(Duration::from_micros(999));
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            });
            let woken = self.epoll.wait(&mut events, timeout);
            state = self.lock();
            state.reading = false;
            match woken {
                Ok(n) => events[..n].iter().for_each(|event| state.on_ready(event.data())),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            self.turn.notify_all();
        }
    }
}

impl AsFd for Channel {
    /// A descriptor that is readable when something may be received; for event loops.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.shared.epoll.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
