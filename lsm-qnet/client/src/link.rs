//! The client's end of one channel socket, shared by the threads and connections that use it.
//!
//! There is no thread behind it. Whoever waits and finds nobody reading becomes the reader: it waits for the socket
//! without holding the lock, sorts what came to the transactions it belongs to, and wakes the others. A thread whose
//! packet did not fit into the socket becomes the writer in the same way.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use qnet_ipc::{ClientPeer, PeerError, ReceiveBuffer, ToClient, ToServer, wait_ready};

use crate::Error;

/// Reads that a server may have under way for one message.
const MAX_READS: usize = 1024;

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnState {
    Opening,
    Open { scoid: i32, limit: u32 },
    Refused { errno: i32 },
    Dead,
}

/// A blocked sender.
#[derive(Debug)]
pub(crate) struct Txn {
    conn: u32,
    room: usize,
    /// Pieces of the message that the server wants.
    pub(crate) reads: VecDeque<(u32, u32)>,
    /// What arrived of the reply so far.
    pub(crate) reply: Vec<u8>,
    /// Status or errno, once it is over.
    pub(crate) done: Option<Result<i64, i32>>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct State {
    peer: ClientPeer,
    buffer: ReceiveBuffer,
    reading: bool,
    writing: bool,
    dead: bool,
    last_id: u32,
    pub(crate) conns: HashMap<u32, ConnState>,
    pub(crate) txns: HashMap<u32, Txn>,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    turn: Condvar,
    socket: Arc<OwnedFd>,
}

impl Link {
    pub(crate) fn new(peer: ClientPeer) -> Self {
        let socket = peer.socket();
        let state = State {
            peer,
            buffer: ReceiveBuffer::new(),
            reading: false,
            writing: false,
            dead: false,
            last_id: 0,
            conns: HashMap::new(),
            txns: HashMap::new(),
        };
        Self { state: Mutex::new(state), turn: Condvar::new(), socket }
    }

    /// The state. A thread that panicked holding it left it consistent: it is changed only by whole packets.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a packet, waiting for room as long as it takes.
    pub(crate) fn send(&self, packet: &ToServer<'_>) -> Result<(), Error> {
        self.wait(None, |state| match state.peer.send(packet) {
            Ok(()) => Some(Ok(())),
            Err(PeerError::Full { .. }) => None,
            Err(error) => {
                state.end();
                Some(Err(Error::Peer(error)))
            }
        })?
        .unwrap_or(Err(Error::Errno(libc::EBADF)))
    }

    /// Waits until `ready` gives a value; `None` when the deadline passed first. `ready` is asked at least once, also
    /// on a dead link.
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut state = self.lock();
        loop {
            if let Some(value) = ready(&mut state) {
                return Ok(Some(value));
            }
            if state.dead {
                return Err(Error::Errno(libc::EBADF));
            }
            let (read, write) = (!state.reading, state.peer.wants_write() && !state.writing);
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Ok(None);
            }
            if !read && !write {
                state = self.sleep(state, deadline);
                continue;
            }
            state.reading |= read;
            state.writing |= write;
            drop(state);
            let woken = wait_ready(self.socket.as_fd(), read, write, deadline);
            state = self.lock();
            state.reading &= !read;
            state.writing &= !write;
            match woken {
                Ok(true) => state.pump(),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            self.turn.notify_all();
        }
    }

    fn sleep<'s>(&self, state: MutexGuard<'s, State>, deadline: Option<Instant>) -> MutexGuard<'s, State> {
        match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            None => self.turn.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(left) => self.turn.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
        }
    }
}

impl State {
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
    pub(crate) fn begin(&mut self, conn: u32, room: usize) -> u32 {
        let id = self.fresh_id();
        let txn = Txn { conn, room, reads: VecDeque::new(), reply: Vec::new(), done: None };
        self.txns.insert(id, txn);
        id
    }

    /// Sends if the socket takes it at once.
    pub(crate) fn try_send(&mut self, packet: &ToServer<'_>) -> bool {
        self.peer.send_now(packet).is_ok()
    }

    /// Whether the socket is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    fn pump(&mut self) {
        if self.peer.flush().is_err() {
            // What the other end said before it left is still to be read.
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            match self.peer.recv(&mut buffer) {
                Ok(Some(packet)) => self.on_packet(packet),
                Ok(None) => break,
                Err(_) => {
                    self.end();
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    fn on_packet(&mut self, packet: ToClient<'_>) {
        match packet {
            ToClient::ConnectOk { conn, scoid, limit } => {
                self.set_conn(conn, ConnState::Open { scoid, limit })
            }
            ToClient::ConnectFail { conn, errno } => self.set_conn(conn, ConnState::Refused { errno }),
            // Nothing here gives a server an event to deliver.
            ToClient::Channel { .. } | ToClient::Received { .. } | ToClient::Event { .. } => {}
            ToClient::Death { conn } => {
                self.set_conn(conn, ConnState::Dead);
                for txn in self.txns.values_mut().filter(|txn| txn.conn == conn) {
                    txn.done.get_or_insert(Err(libc::ESRCH));
                }
            }
            ToClient::Read { txn, offset, nbytes } => {
                let Some(txn) = self.txns.get_mut(&txn) else { return };
                txn.reads.push_back((offset, nbytes));
                if txn.reads.len() > MAX_READS {
                    self.end();
                }
            }
            ToClient::Write { txn, offset, data } => self.write(txn, offset, data),
            ToClient::Reply { txn, status, offset, data } => {
                self.write(txn, offset, data);
                self.finish(txn, Ok(status));
            }
            ToClient::Error { txn, errno } => self.finish(txn, Err(errno)),
        }
    }

    fn set_conn(&mut self, conn: u32, to: ConnState) {
        if let Some(state) = self.conns.get_mut(&conn) {
            *state = to;
        }
    }

    fn finish(&mut self, txn: u32, how: Result<i64, i32>) {
        if let Some(txn) = self.txns.get_mut(&txn) {
            txn.done.get_or_insert(how);
        }
    }

    /// Puts reply data where it belongs; what lies behind the caller's room is dropped.
    fn write(&mut self, txn: u32, offset: u32, data: &[u8]) {
        let Some(txn) = self.txns.get_mut(&txn) else { return };
        let start = (offset as usize).min(txn.room);
        let data = &data[..data.len().min(txn.room - start)];
        let end = start + data.len();
        if data.is_empty() {
            return;
        }
        if txn.reply.len() < end {
            txn.reply.resize(end, 0);
        }
        txn.reply[start..end].copy_from_slice(data);
    }

    /// The other end is gone: everything that waits ends.
    fn end(&mut self) {
        self.dead = true;
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
    }
}
