//! One end of a connected channel socket, for event loops.
//!
//! Nothing blocks. Whoever drives a peer does three things:
//!
//! 1. when the socket is readable, calls [`Peer::recv`] until it gives `None`;
//! 2. calls [`Peer::send`] at any time; what the socket does not take at once is queued up to [`Peer::queue_limit`];
//! 3. while [`Peer::wants_writable`], watches the socket for writability; calls [`Peer::flush`] when it is readable or writable.
//!
//! While [`Peer::wants_write`] is true and [`Peer::wants_writable`] is not, the packets wait for room in shared memory: the
//! socket becomes readable when there is some, and [`Peer::recv`], which takes the bell, flushes as well. So whoever waits
//! for the queue looks at it after receiving.
//!
//! Whoever stops receiving before `None`, however the socket is watched, comes back by itself: what is left in shared memory
//! makes nothing readable ([`Peer::has_packets`]).
//!
//! After some messages the packets go through shared memory (`ring.rs`) by themselves; the socket then carries the bells
//! and the end. Whoever keeps to the three rules need not know.
//!
//! Any error of [`Peer::recv`] ends the connection: drop the peer. After [`PeerError::Closed`] from a send, what the
//! other end said before it left can still be received. The hellos go by themselves. The type parameter keeps the roles
//! apart: a [`ClientPeer`] cannot utter a server's packet, and takes one from the wrong side for what it is, a broken peer.

use std::{
    collections::VecDeque,
    io,
    io::IoSlice,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
    time::Instant,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::{
    MAX_DATA, MAX_LENT, MAX_PACKET, PeerIdentity, Signals, VERSION, Watch,
    codec::{self, DecodeError, Inner},
    packet::{Hello, ability},
    ring::{Inlet, Loan, Popped},
    wait::Patience,
};
pub use error::PeerError;
use pathway::Pathway;
pub(crate) use pathway::ring_bell;
pub use role::{ClientSide, Role, ServerSide};

mod error;
mod pathway;
mod role;

/// Bytes that may wait in a peer before [`Peer::send`] says [`PeerError::Full`], unless told otherwise.
const QUEUE_LIMIT: usize = 1024 * 1024;

/// The client's end.
pub type ClientPeer = Peer<ClientSide>;
/// The server's end.
pub type ServerPeer = Peer<ServerSide>;

/// A packet, and its data if that was lent.
pub type Lent<'b, R> = (<R as Role>::In<'b>, Option<Loan>);

/// Bells in a row without a packet: more than a socket can hold from an honest peer.
const MAX_BELLS: usize = 1024;

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

/// A packet that waits.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    /// Of them, those before the data.
    head: usize,
    /// Those after it go through the ring.
    then_ring: bool,
}

/// One end of a connection; see the head of this file.
#[derive(Debug)]
pub struct Peer<R: Role> {
    socket: Arc<OwnedFd>,
    /// Whole packets that found no room yet.
    queue: VecDeque<Waiting>,
    queued: usize,
    queue_limit: usize,
    /// Scratch for the head of a packet.
    head: Vec<u8>,
    remote: Option<Hello>,
    pathway: Pathway,
    /// The owner looks at the ring by itself before it sleeps.
    attended: bool,
    /// The owner is told again of what it leaves on the socket.
    told_again: bool,
    /// The socket's calls block, and the owner sleeps in one.
    blocking: bool,
    patience: Arc<Patience>,
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
            pathway: Pathway::default(),
            attended: false,
            told_again: false,
            blocking: false,
            patience: Arc::default(),
            mute: false,
            dead: false,
            role: PhantomData,
        };
        codec::encode_hello(Hello { version: VERSION, abilities: ability::RING }, &mut peer.head);
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
        self.put(&[IoSlice::new(data)], self.queue_limit)
    }

    /// Sends a packet if the way takes it at once; nothing is queued.
    ///
    /// # Errors
    /// As [`Peer::send`]; [`PeerError::Full`] when it is not taken.
    pub fn send_now(&mut self, packet: &R::Out<'_>) -> Result<(), PeerError> {
        let data = R::encode(packet, &mut self.head);
        self.put(&[IoSlice::new(data)], 0)
    }

    /// As [`Peer::send`], with the data gathered from several places; `packet` itself carries none.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn send_gather(&mut self, packet: &R::Out<'_>, data: &[IoSlice<'_>]) -> Result<(), PeerError> {
        let none = R::encode(packet, &mut self.head);
        debug_assert!(none.is_empty(), "the data of {packet:?} is given apart");
        self.put(data, self.queue_limit)
    }

    /// Sends what waits in the queue, as far as there is room.
    ///
    /// # Errors
    /// The connection is over.
    pub fn flush(&mut self) -> Result<(), PeerError> {
        if self.mute {
            return Err(PeerError::Closed);
        }
        while let Some(packet) = self.queue.front() {
            let (head, data) = packet.bytes.split_at(packet.head);
            match self.pathway.transmit(&self.socket, head, &[IoSlice::new(data)]) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(self.silence(error)),
            }
            self.queued -= packet.bytes.len();
            if packet.then_ring {
                self.pathway.send_through_ring();
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
        let Some(Popped { len, .. }) = self.take(&mut buffer.0, false)? else { return Ok(None) };
        R::decode(&buffer.0[..len]).map(Some).map_err(|error| self.fatal(error.into()))
    }

    /// As [`Peer::recv`], but large data may stay where the sender put it: then the packet carries none, and the loan is
    /// the data. While it is kept, the sender has less room.
    ///
    /// # Errors
    /// As [`Peer::recv`].
    pub fn recv_lent<'b>(&mut self, buffer: &'b mut ReceiveBuffer) -> Result<Option<Lent<'b, R>>, PeerError> {
        let Some(Popped { len, loan }) = self.take(&mut buffer.0, true)? else { return Ok(None) };
        let decoded = R::decode(&buffer.0[..len]).and_then(|packet| {
            if let Some(loan) = &loan {
                R::check_lent(&packet, loan.len())?;
            }
            Ok((packet, loan))
        });
        decoded.map(Some).map_err(|error| self.fatal(error.into()))
    }

    /// Most bytes of data that one packet may carry now: [`MAX_DATA`], or more while shared memory has room for them. A
    /// packet with more ends with [`PeerError::TooLong`].
    pub fn room(&mut self) -> usize {
        if self.queue.is_empty() { self.pathway.room().max(MAX_DATA) } else { MAX_DATA }
    }

    /// Most bytes of data that one packet of the other end can carry: more than [`MAX_DATA`] only if it can use shared
    /// memory.
    #[must_use]
    pub fn max_data(&self) -> usize {
        let rings = self.remote.is_some_and(|hello| hello.abilities & ability::RING != 0);
        if rings && !self.pathway.is_closed() { MAX_LENT } else { MAX_DATA }
    }

    /// Never uses shared memory. Call it before anything is sent or received.
    pub fn keep_to_socket(&mut self) {
        self.pathway.close();
    }

    /// Whether the packets in both directions go through shared memory.
    #[must_use]
    pub fn uses_ring(&self) -> bool {
        self.pathway.receives() && self.pathway.sends()
    }

    /// Whether the other end's packets come through shared memory.
    #[must_use]
    pub fn receives_from_ring(&self) -> bool {
        self.pathway.receives()
    }

    /// With `true`, [`Peer::recv`] that finds nothing asks for no bell, which saves the other end the ringing while the
    /// owner looks by itself. The owner promises to wait with [`Peer::watch`], or to call [`Watch::arm`] before it
    /// sleeps and [`Peer::socket_is_ready`] when the socket woke it.
    pub fn set_attended(&mut self, attended: bool) {
        self.attended = attended;
    }

    /// Lets [`Watch::wait`] sleep in the very call that takes the bell, where nothing else can end the wait: one system call
    /// instead of three. Every other call of ours says for itself that it does not block. The owner looks again after a wait that
    /// brought nothing: what lay behind the bell, the end among it, ends the next wait.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn set_blocking(&mut self) -> io::Result<()> {
        let flags = OFlag::from_bits_truncate(fcntl(&*self.socket, FcntlArg::F_GETFL)?);
        fcntl(&*self.socket, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
        self.blocking = true;
        Ok(())
    }

    /// With `true`, an attended peer reads one bell and leaves what else is on the socket, which saves a system call that mostly
    /// finds nothing. The owner promises to wait for the socket by something that tells again of what is left there, as poll(2)
    /// and epoll(7) without `EPOLLET` do.
    pub fn set_told_again(&mut self, told_again: bool) {
        self.told_again = told_again;
    }

    /// Asks for a bell, before an owner who attends to the peer turns to something else. `false`: packets are there.
    #[must_use]
    pub fn arm(&self) -> bool {
        self.pathway.inlet().is_none_or(|inlet| arm(inlet, &self.socket))
    }

    /// Needs no bell for now: the owner looks by itself.
    pub fn disarm(&self) {
        if let Some(inlet) = self.pathway.inlet() {
            inlet.disarm();
        }
    }

    /// For an owner who takes no packets now, and whose socket is readable: hears what stands there and sends what has waited
    /// for room. Packets stay in shared memory; before there is any, the socket's packets are for [`Peer::recv`] and this does
    /// nothing.
    ///
    /// # Errors
    /// As [`Peer::recv`]; what the other end said before it left is lost.
    pub fn hear_bells(&mut self, buffer: &mut ReceiveBuffer) -> Result<(), PeerError> {
        if buffer.0.len() < MAX_PACKET {
            buffer.0.resize(MAX_PACKET, 0);
        }
        for _ in 0..MAX_BELLS {
            if !self.pathway.receives() {
                return Ok(());
            }
            match self.pathway.receive(&self.socket, &mut buffer.0, R::OFFERS) {
                Ok(None) => return Ok(()),
                Ok(Some((len, fd))) => {
                    self.hear(&buffer.0[..len], fd).map_err(|error| self.fatal(error))?;
                }
                Err(error) => return Err(self.fatal(error)),
            }
        }
        Err(self.fatal(PeerError::Bells))
    }

    /// Whether packets are there, as far as can be seen without a system call.
    #[must_use]
    pub fn has_packets(&self) -> bool {
        self.pathway.inlet().is_some_and(|inlet| inlet.has_more())
    }

    /// The socket was found to be readable: the next [`Peer::recv`] of an attended peer reads it.
    pub fn socket_is_ready(&self) {
        if let Some(inlet) = self.pathway.inlet() {
            inlet.note_socket(true);
        }
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
    /// As [`Watch::wait`].
    pub fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        self.watch().wait(true, self.wants_writable(), deadline, &Signals::unnoticed())
    }

    /// What is needed for waiting while the peer itself is behind a lock. It keeps the connection open. Take a new one for
    /// each wait: it does not learn of a ring that is made later.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            socket: Arc::clone(&self.socket),
            inlet: self.pathway.inlet().map(Arc::clone),
            patience: Arc::clone(&self.patience),
            blocking: self.blocking,
        }
    }

    /// A second hold on the socket. It keeps the connection open.
    #[must_use]
    pub fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    /// Whether packets wait to be sent.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether packets wait for the socket to become writable.
    #[must_use]
    pub fn wants_writable(&self) -> bool {
        !self.queue.is_empty() && !self.pathway.sends()
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
    fn put(&mut self, data: &[IoSlice<'_>], limit: usize) -> Result<(), PeerError> {
        let len = data.iter().map(|part| part.len()).sum();
        if len > MAX_DATA && len > self.room() {
            return Err(PeerError::TooLong { len });
        }
        if self.mute || self.wants_write() {
            self.flush()?;
        }
        if !self.wants_write() {
            match self.pathway.transmit(&self.socket, &self.head, data) {
                Ok(true) => return self.sent(),
                Ok(false) => {}
                Err(error) => return Err(self.silence(error)),
            }
        }
        if len > MAX_DATA {
            return Err(PeerError::TooLong { len });
        }
        if self.queued >= limit {
            return Err(PeerError::Full { queued: self.queued });
        }
        let mut bytes = self.head.clone();
        data.iter().for_each(|part| bytes.extend_from_slice(part));
        self.enqueue(Waiting { bytes, head: self.head.len(), then_ring: false });
        Ok(())
    }

    fn enqueue(&mut self, packet: Waiting) {
        self.queued += packet.bytes.len();
        self.queue.push_back(packet);
    }

    /// A packet went out at once, so nothing waits: the moment to speak of a ring.
    fn sent(&mut self) -> Result<(), PeerError> {
        let able = self.remote.is_some_and(|hello| hello.abilities & ability::RING != 0);
        if R::OFFERS && able {
            let offered = self.pathway.offer_in_time(&self.socket);
            offered.map_err(|error| self.silence(error))?;
        }
        Ok(())
    }

    /// The next packet for the owner, in `buffer`.
    fn take(&mut self, buffer: &mut Vec<u8>, lend: bool) -> Result<Option<Popped>, PeerError> {
        if self.dead {
            return Err(PeerError::Closed);
        }
        if buffer.len() < MAX_PACKET {
            buffer.resize(MAX_PACKET, 0);
        }
        for _ in 0..MAX_BELLS {
            if self.pathway.receives() {
                match self.pathway.pop(&self.socket, buffer, lend, self.attended) {
                    Ok(Next::Packet(packet)) => return Ok(Some(packet)),
                    Ok(Next::Nothing) => return Ok(None),
                    Ok(Next::Again) => continue,
                    Ok(Next::AskSocket) => {}
                    Err(error) => return Err(self.fatal(error)),
                }
            }
            let (len, fd) = match self.pathway.receive(&self.socket, buffer, R::OFFERS) {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(None),
                // What went through the ring before the end is still to be read.
                Err(PeerError::Closed) if self.pathway.ends() => continue,
                Err(error) => return Err(self.fatal(error)),
            };
            let heard = self.hear(&buffer[..len], fd).map_err(|error| self.fatal(error))?;
            if heard {
                return Ok(Some(Popped { len, loan: None }));
            }
            if let Some(inlet) = self.pathway.inlet().filter(|_| self.attended && self.told_again) {
                inlet.note_socket(false);
            }
        }
        Err(self.fatal(PeerError::Bells))
    }

    /// Whether a packet from the socket is for the owner.
    fn hear(&mut self, packet: &[u8], fd: Option<OwnedFd>) -> Result<bool, PeerError> {
        if self.remote.is_none() {
            let hello = codec::decode_hello(packet)?;
            if hello.version != VERSION {
                return Err(PeerError::Version { theirs: hello.version });
            }
            self.remote = Some(hello);
            return Ok(false);
        }
        let Some(inner) = codec::decode_inner(packet)? else {
            return match self.pathway.receives() {
                false => Ok(true),
                // It could not be said when it was sent.
                true => Err(DecodeError::Verb { verb: u16::from_le_bytes([packet[0], packet[1]]) }.into()),
            };
        };
        if let Some(answer) = self.pathway.on_inner::<R>(inner, fd)? {
            codec::encode_inner(answer, &mut self.head);
            let then_ring = matches!(answer, Inner::Switch | Inner::Answer { errno: 0 });
            self.enqueue(Waiting { bytes: self.head.clone(), head: self.head.len(), then_ring });
        }
        if self.wants_write() {
            // The bell may have been about room, and once it is taken nobody rings again for that. That nothing can be
            // sent any more shows up when the socket is read.
            let _gone = self.flush();
        }
        Ok(false)
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

/// What the ring has to say.
enum Next {
    Packet(Popped),
    Nothing,
    /// Something came meanwhile.
    Again,
    AskSocket,
}

/// Asks for a bell; `false`: packets are there.
pub(crate) fn arm(inlet: &Inlet, socket: &OwnedFd) -> bool {
    let armed = inlet.arm();
    if armed.bell {
        // An error here shows up as the end of the socket.
        let _gone = ring_bell(socket);
    }
    armed.sleep
}

impl<R: Role> Drop for Peer<R> {
    fn drop(&mut self) {
        // Who still writes into the ring rings, and learns that nobody is there.
        if let Some(inlet) = self.pathway.inlet() {
            inlet.arm();
        }
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

#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod tests;
