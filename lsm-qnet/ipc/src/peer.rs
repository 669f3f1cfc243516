//! One end of a connected channel socket, for event loops.
//!
//! Nothing blocks. Whoever drives a peer does three things:
//!
//! 1. when the socket is readable, calls [`Peer::recv`] until it gives `None`;
//! 2. calls [`Peer::send`] at any time; what the socket does not take at once is queued up to [`Peer::queue_limit`];
//! 3. while [`Peer::wants_write`], watches the socket for writability and calls [`Peer::flush`] then.
//!
//! Any error of [`Peer::recv`] ends the connection: drop the peer. After [`PeerError::Closed`] from a send, what the
//! other end said before it left can still be received. The hellos go by themselves. The type parameter keeps the roles apart: a [`ClientPeer`] cannot utter a server's packet, and takes one
//! from the wrong side for what it is, a broken peer.

use std::{
    collections::VecDeque,
    fmt, io,
    io::IoSlice,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv, sendmsg},
};
use thiserror::Error;

use crate::{
    MAX_DATA, MAX_PACKET, PeerIdentity, VERSION,
    codec::{self, DecodeError},
    packet::{Hello, ToClient, ToServer},
};

/// Bytes that may wait in a peer before [`Peer::send`] says [`PeerError::Full`], unless told otherwise.
const QUEUE_LIMIT: usize = 1024 * 1024;

/// Why a peer could not send or receive.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The other end is gone.
    #[error("the other end closed the connection")]
    Closed,
    /// The kernel refused.
    #[error("socket: {0}")]
    Io(#[source] io::Error),
    /// The other end broke the rules.
    #[error("bad packet: {0}")]
    Decode(#[from] DecodeError),
    /// A packet larger than [`MAX_PACKET`] came in.
    #[error("packet of {len} bytes, at most {MAX_PACKET} are allowed")]
    Oversized {
        /// Its bytes.
        len: usize,
    },
    /// The other end speaks another version.
    #[error("the other end speaks version {theirs} of the channel protocol, we speak {VERSION}")]
    Version {
        /// Its version.
        theirs: u16,
    },
    /// The queue is full and nothing was queued: wait until [`Peer::flush`] made room, or give up on a peer that does
    /// not read.
    #[error("the other end does not read, {queued} bytes wait")]
    Full {
        /// Bytes in the queue.
        queued: usize,
    },
    /// More than [`MAX_DATA`] bytes of data in one packet; nothing was queued.
    #[error("{len} bytes of data in one packet, at most {MAX_DATA} are allowed")]
    TooLong {
        /// Bytes of data.
        len: usize,
    },
}

impl PeerError {
    /// Whether the connection is over, as against a [`Peer::send`] that merely cannot be done now.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Full { .. } | Self::TooLong { .. })
    }
}

/// What an end of a connection may say and hear. Implemented by [`ClientSide`] and [`ServerSide`] only.
pub trait Role: sealed::Sealed {
    /// Packets that this side sends.
    type Out<'a>: fmt::Debug;
    /// Packets that this side receives.
    type In<'a>: fmt::Debug;
    #[doc(hidden)]
    fn encode<'p>(packet: &'p Self::Out<'_>, head: &mut Vec<u8>) -> &'p [u8];
    #[doc(hidden)]
    fn decode(packet: &[u8]) -> Result<Self::In<'_>, DecodeError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ClientSide {}
    impl Sealed for super::ServerSide {}
}

/// The role of the one who connects, sends messages and gets replies.
#[derive(Debug)]
pub struct ClientSide;

/// The role of the one who owns the channel.
#[derive(Debug)]
pub struct ServerSide;

impl Role for ClientSide {
    type Out<'a> = ToServer<'a>;
    type In<'a> = ToClient<'a>;
    fn encode<'p>(packet: &'p ToServer<'_>, head: &mut Vec<u8>) -> &'p [u8] {
        codec::encode_to_server(packet, head)
    }
    fn decode(packet: &[u8]) -> Result<ToClient<'_>, DecodeError> {
        codec::decode_to_client(packet)
    }
}

impl Role for ServerSide {
    type Out<'a> = ToClient<'a>;
    type In<'a> = ToServer<'a>;
    fn encode<'p>(packet: &'p ToClient<'_>, head: &mut Vec<u8>) -> &'p [u8] {
        codec::encode_to_client(packet, head)
    }
    fn decode(packet: &[u8]) -> Result<ToServer<'_>, DecodeError> {
        codec::decode_to_server(packet)
    }
}

/// The client's end.
pub type ClientPeer = Peer<ClientSide>;
/// The server's end.
pub type ServerPeer = Peer<ServerSide>;

/// Room for one packet, allocated when it is first used. One serves all peers of a loop; a packet borrows from it until
/// the next [`Peer::recv`].
#[derive(Debug, Default)]
pub struct ReceiveBuffer(Vec<u8>);

impl ReceiveBuffer {
    /// A buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }
}

/// One end of a connection; see the head of this file.
#[derive(Debug)]
pub struct Peer<R: Role> {
    socket: Arc<OwnedFd>,
    /// Whole packets that the socket did not take yet.
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    queue_limit: usize,
    /// Scratch for the head of a packet.
    head: Vec<u8>,
    remote: Option<Hello>,
    /// Nothing can be sent any more.
    mute: bool,
    /// Nothing can be received any more.
    dead: bool,
    role: PhantomData<R>,
}

impl<R: Role> Peer<R> {
    /// Takes over one end of a connected `SOCK_SEQPACKET` socket (such as an inherited descriptor 3) and says hello.
    ///
    /// # Errors
    /// The descriptor is not such a socket. One that the other end has left already is fine: its packets are there.
    pub fn new(socket: OwnedFd) -> Result<Self, PeerError> {
        let mut peer = Self {
            socket: Arc::new(socket),
            queue: VecDeque::new(),
            queued: 0,
            queue_limit: QUEUE_LIMIT,
            head: Vec::with_capacity(128),
            remote: None,
            mute: false,
            dead: false,
            role: PhantomData,
        };
        codec::encode_hello(Hello { version: VERSION, abilities: 0 }, &mut peer.head);
        match peer.put(&[], QUEUE_LIMIT) {
            Ok(()) | Err(PeerError::Closed) => Ok(peer),
            Err(error) => Err(error),
        }
    }

    /// Sends a packet, or queues it behind those that wait.
    ///
    /// # Errors
    /// [`PeerError::Full`] and [`PeerError::TooLong`] change nothing; any other ends the connection.
    pub fn send(&mut self, packet: &R::Out<'_>) -> Result<(), PeerError> {
        let data = R::encode(packet, &mut self.head);
        if data.len() > MAX_DATA {
            return Err(PeerError::TooLong { len: data.len() });
        }
        self.put(data, self.queue_limit)
    }

    /// Sends a packet if the socket takes it at once; nothing is queued.
    ///
    /// # Errors
    /// As [`Peer::send`]; [`PeerError::Full`] when the socket does not take it.
    pub fn send_now(&mut self, packet: &R::Out<'_>) -> Result<(), PeerError> {
        let data = R::encode(packet, &mut self.head);
        if data.len() > MAX_DATA {
            return Err(PeerError::TooLong { len: data.len() });
        }
        self.put(data, 0)
    }

    /// Sends what waits in the queue, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is over.
    pub fn flush(&mut self) -> Result<(), PeerError> {
        if self.mute {
            return Err(PeerError::Closed);
        }
        while let Some(packet) = self.queue.front() {
            match self.transmit(packet, &[]) {
                Ok(true) => self.queued -= packet.len(),
                Ok(false) => break,
                Err(error) => return Err(self.silence(error)),
            }
            self.queue.pop_front();
        }
        Ok(())
    }

    /// Takes the next packet; `None` when there is none yet.
    ///
    /// # Errors
    /// The connection is over; [`PeerError::Closed`] when the other end ended it.
    pub fn recv<'b>(&mut self, buffer: &'b mut ReceiveBuffer) -> Result<Option<R::In<'b>>, PeerError> {
        buffer.0.resize(MAX_PACKET, 0);
        let len = loop {
            let Some(len) = self.recv_bytes(&mut buffer.0)? else { return Ok(None) };
            if self.remote.is_some() {
                break len;
            }
            let hello = codec::decode_hello(&buffer.0[..len]).map_err(|error| self.fatal(error.into()))?;
            if hello.version != VERSION {
                return Err(self.fatal(PeerError::Version { theirs: hello.version }));
            }
            self.remote = Some(hello);
        };
        R::decode(&buffer.0[..len]).map(Some).map_err(|error| self.fatal(error.into()))
    }

    /// Sets the number of bytes that may wait before [`Peer::send`] says [`PeerError::Full`]. A packet is queued whole
    /// when fewer bytes wait, so the queue holds at most `bytes` and one packet.
    pub fn set_queue_limit(&mut self, bytes: usize) {
        self.queue_limit = bytes;
    }

    /// Waits until a packet can be received, or (while [`Peer::wants_write`]) the queue can be flushed, or the other
    /// end is gone; for programs without an event loop. `false` when `deadline` passed first.
    ///
    /// # Errors
    /// As [`wait_ready`].
    pub fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        wait_ready(self.socket.as_fd(), true, self.wants_write(), deadline)
    }

    /// A second hold on the socket, for waiting while the peer itself is behind a lock. It keeps the connection open.
    #[must_use]
    pub fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    /// Whether packets wait for the socket to become writable.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes that may wait.
    #[must_use]
    pub fn queue_limit(&self) -> usize {
        self.queue_limit
    }

    /// What the other end said of itself; `None` until its first packet was received.
    #[must_use]
    pub fn hello(&self) -> Option<Hello> {
        self.remote
    }

    /// Who the other end is, from the kernel.
    ///
    /// # Errors
    /// The socket is not a Unix socket.
    pub fn identity(&self) -> io::Result<PeerIdentity> {
        PeerIdentity::of(&*self.socket)
    }

    /// Sends the packet whose head stands in `self.head`, or queues it when fewer than `limit` bytes wait.
    fn put(&mut self, data: &[u8], limit: usize) -> Result<(), PeerError> {
        if self.mute || self.wants_write() {
            self.flush()?;
        }
        if !self.wants_write() {
            match self.transmit(&self.head, data) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(self.silence(error)),
            }
        }
        if self.queued >= limit {
            return Err(PeerError::Full { queued: self.queued });
        }
        let packet = [&self.head[..], data].concat();
        self.queued += packet.len();
        self.queue.push_back(packet);
        Ok(())
    }

    /// Whether the socket took the packet.
    fn transmit(&self, head: &[u8], data: &[u8]) -> Result<bool, PeerError> {
        let parts = [IoSlice::new(head), IoSlice::new(data)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.socket.as_raw_fd(), &parts, &[], flags, None) {
                Ok(_) => return Ok(true),
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => return Err(PeerError::Closed),
                Err(errno) => return Err(PeerError::Io(errno.into())),
            }
        }
    }

    fn recv_bytes(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, PeerError> {
        if self.dead {
            return Err(PeerError::Closed);
        }
        // MSG_TRUNC: the true length of a packet that does not fit. Descriptors that came along are closed by the
        // kernel, because no room for them is offered.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        loop {
            let error = match recv(self.socket.as_raw_fd(), buffer, flags) {
                Ok(0) => PeerError::Closed,
                Ok(len) if len <= buffer.len() => return Ok(Some(len)),
                Ok(len) => PeerError::Oversized { len },
                Err(Errno::EAGAIN) => return Ok(None),
                // ECONNRESET is told once when the other end left without reading all; its own packets come after it.
                Err(Errno::EINTR | Errno::ECONNRESET) => continue,
                Err(Errno::ENOTCONN) => PeerError::Closed,
                Err(errno) => PeerError::Io(errno.into()),
            };
            return Err(self.fatal(error));
        }
    }

    /// Nothing more goes out: what waits is thrown away.
    fn silence(&mut self, error: PeerError) -> PeerError {
        self.mute = true;
        self.queue.clear();
        self.queued = 0;
        error
    }

    /// The connection is over in both directions.
    fn fatal(&mut self, error: PeerError) -> PeerError {
        self.dead = true;
        self.silence(error)
    }
}

impl<R: Role> AsFd for Peer<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<R: Role> AsRawFd for Peer<R> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Waits until `socket` is readable (if `read`), writable (if `write`) or broken; `false` when `deadline` passed first.
///
/// # Errors
/// `EINTR` when a signal came; other errors of `poll`.
pub fn wait_ready(
    socket: BorrowedFd<'_>,
    read: bool,
    write: bool,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let timeout = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
        None => PollTimeout::NONE,
        // Rounded up, so that a caller who loops does not spin through the last millisecond.
        Some(left) => {
            PollTimeout::try_from(left.saturating_add(Duration::from_micros(999))).unwrap_or(PollTimeout::MAX)
        }
    };
    let mut interest = PollFlags::empty();
    interest.set(PollFlags::POLLIN, read);
    interest.set(PollFlags::POLLOUT, write);
    Ok(poll(&mut [PollFd::new(socket, interest)], timeout)? > 0)
}

#[cfg(test)]
mod tests;
