//! What a link knows: its connections, the senders that wait, and what arrived for them.

use std::{
    collections::{HashMap, VecDeque},
    io::IoSliceMut,
    time::Instant,
};

use qnet_ipc::{ClientPeer, Loan, PeerError, ReceiveBuffer, ToClient, ToServer, Watch};

use crate::{ChannelFlags, Event, crew::Crew, iov::Chunk};

/// Reads that a server may have under way for one message.
const MAX_READS: usize = 1024;

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnState {
    Opening,
    Open {
        scoid: i32,
        limit: u32,
        /// Those of the channel, from servers that tell them.
        flags: Option<ChannelFlags>,
    },
    Refused {
        errno: i32,
    },
    Dead,
}

/// A blocked sender.
#[derive(Debug)]
pub(crate) struct Txn {
    conn: u32,
    room: usize,
    /// Pieces of the message that the server wants.
    pub(crate) reads: VecDeque<(u32, u32)>,
    /// What arrived of the reply while another thread was reading, in order.
    pub(crate) pieces: Vec<(u32, Vec<u8>)>,
    /// Bytes in them.
    held: usize,
    /// Since when the server has the message, if it told.
    pub(crate) received: Option<Instant>,
    /// Status or errno, once it is over.
    pub(crate) done: Option<Result<i64, i32>>,
}

/// The reply buffers of the thread that reads: its own reply goes straight there.
#[derive(Debug)]
pub(crate) struct Direct<'p, 'b> {
    pub(crate) txn: u32,
    pub(crate) parts: &'p mut [IoSliceMut<'b>],
    /// End of the last byte that was written.
    pub(crate) end: usize,
}

impl Direct<'_, '_> {
    /// Puts the first `n` bytes of a piece where they belong.
    pub(crate) fn write(&mut self, offset: u32, data: Chunk<'_>, n: usize) {
        let n = data.scatter_at(n, self.parts, offset as usize);
        if n > 0 {
            self.end = self.end.max(offset as usize + n);
        }
    }
}

/// What concerns the process rather than a sender.
#[derive(Clone, Copy, Debug)]
pub(super) enum Notice {
    Event(Event),
    /// That connection has no server any more; `None`: all of them.
    Death(Option<u32>),
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    peer: ClientPeer,
    buffer: ReceiveBuffer,
    pub(super) crew: Crew<u32>,
    pub(super) writing: bool,
    /// The other end was waited for in vain.
    pub(super) stuck: bool,
    dead: bool,
    last_id: u32,
    pub(crate) conns: HashMap<u32, ConnState>,
    txns: HashMap<u32, Txn>,
    notices: Vec<Notice>,
    /// A thread does what the notices before these tell.
    pub(super) passing_on: bool,
    /// Linux errno of a message that still waits when its connection's death is told: `ESRCH` if the server itself tells.
    /// `lsm-qnet` ends all messages that it knows of before: what is left was sent to a connection that had gone, `EBADF`.
    crossed: i32,
}

impl State {
    pub(super) fn new(mut peer: ClientPeer, through_qnet: bool) -> Self {
        peer.set_attended(true);
        Self {
            peer,
            buffer: ReceiveBuffer::new(),
            crew: Crew::default(),
            writing: false,
            stuck: false,
            dead: false,
            last_id: 0,
            conns: HashMap::new(),
            txns: HashMap::new(),
            notices: Vec::new(),
            passing_on: false,
            crossed: if through_qnet { libc::EBADF } else { libc::ESRCH },
        }
    }

    /// A number for a new connection or transaction.
    pub(crate) fn fresh_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = self.last_id;
            if id != 0 && !self.conns.contains_key(&id) && !self.txns.contains_key(&id) {
                return id;
            }
        }
    }

    /// Begins a transaction on `conn` with room for `room` bytes of reply.
    pub(super) fn begin(&mut self, conn: u32, room: usize) -> u32 {
        let id = self.fresh_id();
        let txn = Txn {
            conn,
            room,
            reads: VecDeque::new(),
            pieces: Vec::new(),
            held: 0,
            received: None,
            done: None,
        };
        self.txns.insert(id, txn);
        id
    }

    pub(super) fn txn(&mut self, id: u32) -> Option<&mut Txn> {
        self.txns.get_mut(&id)
    }

    /// Whether something is there for a transaction.
    pub(super) fn concerns(&self, id: u32) -> bool {
        self.txns
            .get(&id)
            .is_none_or(|txn| txn.done.is_some() || !txn.reads.is_empty() || !txn.pieces.is_empty())
    }

    pub(super) fn end_txn(&mut self, id: u32) {
        self.txns.remove(&id);
    }

    /// Sends or queues a packet; `Full`: not now.
    pub(crate) fn send(&mut self, packet: &ToServer<'_>) -> Result<(), PeerError> {
        let wrote = self.peer.wants_write();
        let sent = self.peer.send(packet);
        self.tell_room(wrote);
        if let Err(error) = &sent
            && error.is_fatal()
        {
            // What the other end said before it left is still to be read.
            self.peer.socket_is_ready();
            self.pump(None);
            self.end();
        }
        sent
    }

    /// Whether packets wait to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.peer.wants_write()
    }

    /// Most bytes of data that a packet may carry now.
    pub(super) fn room(&mut self) -> usize {
        self.peer.room()
    }

    /// Whether the socket must become writable.
    pub(super) fn wants_writable(&self) -> bool {
        self.peer.wants_writable()
    }

    /// What the leader needs for waiting without the lock.
    pub(super) fn watch(&self) -> Watch {
        self.peer.watch()
    }

    /// Takes in what has arrived although nobody waits, and sees to it that the socket tells of what comes next.
    pub(super) fn look(&mut self) {
        self.peer.socket_is_ready();
        self.pump(None);
        self.rest();
    }

    /// Takes in what has arrived, also what only the socket knows of.
    pub(super) fn take_in(&mut self, direct: &mut Direct<'_, '_>) {
        self.peer.socket_is_ready();
        self.pump(Some(direct));
    }

    /// Nobody waits any more: from now on the socket tells of everything that comes.
    pub(super) fn rest(&mut self) {
        while !self.dead && !self.peer.arm() {
            self.pump(None);
        }
    }

    /// Whether the socket is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    pub(super) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Takes in what has arrived.
    pub(super) fn pump(&mut self, mut direct: Option<&mut Direct<'_, '_>>) {
        if self.dead {
            return;
        }
        let wrote = self.peer.wants_write();
        // What the other end said before it left is still to be read.
        let _gone = self.peer.flush();
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            match self.peer.recv_lent(&mut buffer) {
                Ok(Some((packet, loan))) => self.on_packet(packet, loan.as_ref(), direct.as_deref_mut()),
                Ok(None) => break,
                Err(_) => {
                    self.end();
                    break;
                }
            }
        }
        self.buffer = buffer;
        self.tell_room(wrote);
    }

    /// Sends what waits, as far as there is room, and reads nothing.
    pub(super) fn flush(&mut self) {
        let wrote = self.peer.wants_write();
        // That the other end is gone shows when its last words are read.
        let _gone = self.peer.flush();
        self.tell_room(wrote);
    }

    /// Packets waited to be sent, if `waited`: threads that wait for room are told when none does any more, whoever saw to
    /// that.
    fn tell_room(&self, waited: bool) {
        if waited && !self.peer.wants_write() {
            self.crew.wake(0);
        }
    }

    fn on_packet(&mut self, packet: ToClient<'_>, loan: Option<&Loan>, direct: Option<&mut Direct<'_, '_>>) {
        match packet {
            ToClient::ConnectOk { conn, scoid, limit } => {
                self.set_conn(conn, ConnState::Open { scoid, limit, flags: None });
            }
            ToClient::Channel { conn, flags: of_channel } => {
                if let Some(ConnState::Open { flags, .. }) = self.conns.get_mut(&conn) {
                    *flags = Some(ChannelFlags::from_bits(of_channel));
                }
                // Who wants to leave learns whether it may.
                self.txns.iter().filter(|(_, txn)| txn.conn == conn).for_each(|(id, _)| self.crew.wake(*id));
            }
            ToClient::ConnectFail { conn, errno } => self.set_conn(conn, ConnState::Refused { errno }),
            ToClient::Death { conn } => {
                self.set_conn(conn, ConnState::Dead);
                self.notices.push(Notice::Death(Some(conn)));
                for (id, txn) in self.txns.iter_mut().filter(|(_, txn)| txn.conn == conn) {
                    txn.done.get_or_insert(Err(self.crossed));
                    self.crew.wake(*id);
                }
            }
            ToClient::Event { event, .. } => {
                self.notices.extend(Event::from_packet(event).map(Notice::Event));
            }
            ToClient::Received { txn } => {
                if let Some(state) = self.txns.get_mut(&txn) {
                    state.received.get_or_insert_with(Instant::now);
                    self.crew.wake(txn);
                }
            }
            ToClient::Read { txn, offset, nbytes } => self.on_read(txn, offset, nbytes),
            ToClient::Write { txn, offset, data } => {
                self.write(txn, offset, Chunk::of(data, loan), direct);
            }
            ToClient::Reply { txn, status, offset, data } => {
                self.write(txn, offset, Chunk::of(data, loan), direct);
                self.finish(txn, Ok(status));
            }
            ToClient::Error { txn, errno } | ToClient::Lost { txn, errno } => self.finish(txn, Err(errno)),
        }
    }

    fn set_conn(&mut self, conn: u32, to: ConnState) {
        if let Some(state) = self.conns.get_mut(&conn) {
            *state = to;
            self.crew.wake(conn);
        }
    }

    fn finish(&mut self, id: u32, how: Result<i64, i32>) {
        if let Some(txn) = self.txns.get_mut(&id) {
            txn.done.get_or_insert(how);
            self.crew.wake(id);
        }
    }

    fn on_read(&mut self, id: u32, offset: u32, nbytes: u32) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        txn.reads.push_back((offset, nbytes));
        if txn.reads.len() > MAX_READS {
            self.end();
        } else {
            self.crew.wake(id);
        }
    }

    /// Puts reply data where it belongs; what lies behind the caller's room is dropped.
    fn write(&mut self, id: u32, offset: u32, data: Chunk<'_>, direct: Option<&mut Direct<'_, '_>>) {
        let Some(txn) = self.txns.get_mut(&id) else { return };
        let len = data.len().min(txn.room.saturating_sub(offset as usize));
        if len == 0 {
            return;
        }
        match direct {
            Some(direct) if direct.txn == id && txn.pieces.is_empty() => direct.write(offset, data, len),
            _ => {
                // A server that writes one place over and over may not fill our memory: the last word counts.
                if txn.held > txn.room {
                    txn.pieces.retain(|(at, old)| {
                        let (begin, end) = (offset as usize, offset as usize + len);
                        !(begin <= *at as usize && *at as usize + old.len() <= end)
                    });
                    txn.held = txn.pieces.iter().map(|(_, piece)| piece.len()).sum();
                }
                if txn.held > 2 * txn.room + len {
                    return self.end();
                }
                txn.held += len;
                txn.pieces.push((offset, data.to_vec(len)));
                self.crew.wake(id);
            }
        }
    }

    /// The other end is gone: everything that waits ends.
    fn end(&mut self) {
        if self.dead {
            return;
        }
        self.dead = true;
        self.notices.push(Notice::Death(None));
        for state in self.conns.values_mut() {
            *state = match *state {
                ConnState::Opening => ConnState::Refused { errno: libc::ESRCH },
                ConnState::Refused { errno } => ConnState::Refused { errno },
                ConnState::Open { .. } | ConnState::Dead => ConnState::Dead,
            };
        }
        for txn in self.txns.values_mut() {
            txn.done.get_or_insert(Err(libc::ESRCH));
        }
        self.crew.wake_all();
    }
}

impl Txn {
    /// What other threads read of the reply.
    pub(super) fn take_pieces(&mut self) -> Vec<(u32, Vec<u8>)> {
        self.held = 0;
        std::mem::take(&mut self.pieces)
    }
}
