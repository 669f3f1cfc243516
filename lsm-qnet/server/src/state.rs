//! Connections, transactions and who may go next.
//!
//! All of it is plain bookkeeping under one lock; nothing here waits or touches a file.
//!
//! ```text
//! Send ──▶ Gathering ──▶ Queued ──▶ Running ──▶ answered
//!          (long path)     ▲           │
//!                          └─ Waiting ◀┘  (FIFO or device that is not ready)
//!                          └─ Later ◀──┘  (lock that somebody has)
//! ```
//! Unblock ends a transaction in any stage, at once unless that could lose data; a system call that hangs
//! is left to itself then, and still counts for the shares below. Disconnect ends all transactions of a
//! connection without an answer and closes its files.
//!
//! Shares: connections take turns; one connection has at most half of the workers, one node at most
//! three quarters, so that a node whose requests hang cannot stop the others. Two such nodes cannot either: the first request
//! of a node that has none running goes beyond the number of workers ([`limits::WORKERS_BEYOND`]).

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use qnet_ipc::packet::{Connect, right};
use qnet_ipc::{MAX_DATA, PeerError, ReceiveBuffer, ServerPeer, ToClient, Watch};

use crate::file::{Cancel, OpenFile};
use crate::identity::Identity;
use crate::limits::{self, Limits};
use crate::locks::Waiting;
use crate::opens::Cache;
use crate::outbox::Outbox;
use crate::request::{Outcome, Request, Work};

mod gather;
mod memory;
mod packets;
mod waits;

use gather::Gather;
use memory::{Grant, Memory};
use waits::Later;
pub(crate) use waits::TIMER;

/// Packets taken before the requests in them are begun.
const RECEIVE_BURST: usize = 32;
/// epoll's name for the socket; files that are waited for go by their descriptors.
pub(crate) const SOCKET: u64 = u64::MAX;

/// A request with its place in the bookkeeping.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    /// The transaction to answer: (number, serial). None: nobody waits for an answer.
    txn: Option<(u32, u64)>,
    conn: u32,
    conn_serial: u64,
    nd: u32,
    /// Where an opened file goes.
    coid: i32,
    attempts: u32,
    /// Open files that are closed when it is done.
    closes: usize,
    /// It tries whether the connection's caller can be served.
    probe: bool,
    /// The memory of its message.
    grant: Option<Grant>,
    /// What its file has to be ready for.
    events: PollFlags,
    /// The lock that it waits for.
    lock: Option<Waiting>,
}

impl Job {
    fn new(request: Request, conn: u32, conn_serial: u64, nd: u32) -> Self {
        let (txn, coid, attempts, closes, probe, grant) = (None, 0, 0, 0, false, None);
        let (events, lock) = (PollFlags::empty(), None);
        Self { request, txn, conn, conn_serial, nd, coid, attempts, closes, probe, grant, events, lock }
    }

    /// It only closes files.
    pub(crate) fn is_release(&self) -> bool {
        self.closes > 0
    }
}

#[derive(Debug)]
struct Connection {
    serial: u64,
    nd: u32,
    /// The caller's process.
    pid: i32,
    identity: Arc<Identity>,
    /// What its caller may do beside reading, of [`right`](qnet_ipc::packet::right).
    rights: u32,
    scoid: i32,
    /// Still being tried whether its caller can be served.
    probing: bool,
    queue: VecDeque<Job>,
    running: usize,
    files: HashMap<i32, Slot>,
}

/// A connection's open file (QNX: OCB), by the caller's coid.
#[derive(Debug)]
enum Slot {
    Opening(u64),
    Open(Arc<OpenFile>),
}

#[derive(Debug)]
struct Transaction {
    conn: u32,
    coid: i32,
    serial: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Gathering(Gather),
    Queued,
    /// With true nothing is lost when nobody hears what comes of it.
    Running(Arc<Cancel>, bool),
    Waiting(RawFd),
    Later,
}

/// What one node uses.
#[derive(Debug, Default)]
struct Share {
    running: usize,
    files: usize,
    connections: usize,
    waiting: usize,
    queued: usize,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) peer: ServerPeer,
    epoll: Arc<Epoll>,
    limits: Limits,
    outbox: Outbox,
    connections: HashMap<u32, Connection>,
    transactions: HashMap<u32, Transaction>,
    shares: HashMap<u32, Share>,
    /// Connections with queued jobs, the next to be served first.
    ring: VecDeque<u32>,
    /// Jobs of connections that are gone: closing their files.
    releases: VecDeque<Job>,
    waiting: HashMap<RawFd, Vec<Job>>,
    later: Later,
    memory: Memory,
    /// Transactions whose message there was no memory for, the oldest first; some are over meanwhile.
    ungranted: VecDeque<u32>,
    /// Jobs in the queues of connections.
    queued: usize,
    running: usize,
    open_files: usize,
    serial: u64,
    interest: EpollFlags,
    /// The leader waits without a look at the packets, because there is no room for more replies.
    held_back: bool,
    /// The log has it that signals are not allowed.
    told_of_signals: bool,
}

impl State {
    pub(crate) fn new(peer: ServerPeer, epoll: Arc<Epoll>, limits: Limits) -> Result<Self, Errno> {
        let interest = EpollFlags::EPOLLIN;
        epoll.add(&peer, EpollEvent::new(interest, SOCKET))?;
        let later = Later::new()?;
        epoll.add(later.timer(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let mut peer = peer;
        // Requests that cannot be queued are refused one by one, in less than a packet each.
        peer.set_queue_limit(2 * limits::OUTGOING_BYTES);
        // the leader looks by itself, and asks for the bell before it sleeps
        peer.set_attended(true);
        Ok(Self {
            peer,
            epoll,
            limits,
            outbox: Outbox::default(),
            connections: HashMap::new(),
            transactions: HashMap::new(),
            shares: HashMap::new(),
            ring: VecDeque::new(),
            releases: VecDeque::new(),
            waiting: HashMap::new(),
            later,
            memory: Memory::default(),
            ungranted: VecDeque::new(),
            queued: 0,
            running: 0,
            open_files: 0,
            serial: 0,
            interest,
            held_back: false,
            told_of_signals: false,
        })
    }

    /// The next job that may run now. The caller must hand it back to [`State::finish`].
    pub(crate) fn take_job(&mut self) -> Option<Job> {
        if let Some(index) = self.next_release() {
            let job = self.releases.remove(index)?;
            return Some(self.start(job));
        }
        let index = self.next_connection()?;
        // those that were passed over have their turn after the others
        self.ring.rotate_left(index);
        let conn = self.ring.pop_front()?;
        let connection = self.connections.get_mut(&conn)?;
        let job = connection.queue.pop_front()?;
        connection.running += 1;
        if !connection.queue.is_empty() {
            self.ring.push_back(conn);
        }
        self.count_queued(job.nd, -1);
        Some(self.start(job))
    }

    /// Whether there is a job that may run now.
    pub(crate) fn has_job(&self) -> bool {
        !self.is_idle() && (self.next_release().is_some() || self.next_connection().is_some())
    }

    fn next_release(&self) -> Option<usize> {
        self.releases.iter().position(|job| self.has_worker_for(job.nd))
    }

    fn next_connection(&self) -> Option<usize> {
        let may_run = |connection: &Connection| {
            let share = if connection.probing { 1 } else { self.limits.workers_per_connection() };
            connection.running < share && self.has_worker_for(connection.nd)
        };
        // when all are busy, most often everybody has one
        let newcomer = |share: &Share| share.running == 0 && share.queued > 0;
        if self.running >= self.limits.workers && !self.shares.values().any(newcomer) {
            return None;
        }
        self.ring.iter().position(|conn| self.connections.get(conn).is_some_and(may_run))
    }

    /// Whether one more job of a node may run.
    fn has_worker_for(&self, nd: u32) -> bool {
        match self.shares.get(&nd).map_or(0, |share| share.running) {
            0 => self.running < self.limits.most_workers(),
            own => self.running < self.limits.workers && own < self.limits.workers_per_node(),
        }
    }

    /// Whether nothing waits for a worker.
    pub(crate) fn is_idle(&self) -> bool {
        self.ring.is_empty() && self.releases.is_empty()
    }

    fn start(&mut self, job: Job) -> Job {
        self.running += 1;
        self.shares.entry(job.nd).or_default().running += 1;
        if let Some(transaction) = job.txn.and_then(|(txn, _)| self.transactions.get_mut(&txn)) {
            transaction.stage = Stage::Running(Arc::clone(&job.request.cancel), job.request.is_idempotent());
        }
        job
    }

    /// Books what became of a job and answers its caller. `data` is the reply's; what stands there afterwards is of no
    /// use, and may be other memory.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(crate) fn finish(
        &mut self,
        mut job: Job,
        outcome: Outcome,
        data: &mut Vec<u8>,
    ) -> Result<(), PeerError> {
        self.running -= 1;
        self.memory.keep(std::mem::take(&mut job.request.spent));
        self.shares.entry(job.nd).or_default().running -= 1;
        if let Some(connection) = self.connections.get_mut(&job.conn)
            && connection.serial == job.conn_serial
        {
            connection.running -= 1;
        }
        if job.closes > 0 {
            self.forget_files(job.nd, job.closes);
        }
        if job.probe {
            self.finish_probe(&job, &outcome)
        } else {
            self.finish_transaction(job, outcome, data)
        }
    }

    fn finish_probe(&mut self, job: &Job, outcome: &Outcome) -> Result<(), PeerError> {
        let conn = job.conn;
        let Some(connection) = self.connections.get_mut(&conn).filter(|c| c.serial == job.conn_serial) else {
            return Ok(());
        };
        if let Outcome::Failed(errno) = *outcome {
            self.disconnect(conn);
            return self.peer.send(&ToClient::ConnectFail { conn, errno: errno as i32 });
        }
        connection.probing = false;
        let scoid = connection.scoid;
        self.peer.send(&ToClient::ConnectOk { conn, scoid, limit: MAX_DATA as u32 })
    }

    fn finish_transaction(
        &mut self,
        job: Job,
        outcome: Outcome,
        data: &mut Vec<u8>,
    ) -> Result<(), PeerError> {
        let Some((txn, serial)) = job.txn else { return Ok(()) };
        let known = self.transactions.get(&txn).is_some_and(|t| t.serial == serial);
        if !known {
            // its connection is gone; what was opened for it is closed again
            if let Outcome::Opened(_, file) = outcome {
                self.open_files += 1;
                self.shares.entry(job.nd).or_default().files += 1;
                self.release(job.nd, vec![Arc::new(file)]);
            }
            return Ok(());
        }
        match outcome {
            Outcome::Wait(file, wait) => self.wait_for(job, txn, file.as_ref(), wait),
            Outcome::Done(status) => {
                self.unreserve_file(job.conn, job.coid, serial);
                self.transactions.remove(&txn);
                self.outbox.reply(&mut self.peer, txn, status, data)
            }
            Outcome::Opened(status, file) => {
                self.transactions.remove(&txn);
                if let Some(connection) = self.connections.get_mut(&job.conn) {
                    connection.files.insert(job.coid, Slot::Open(Arc::new(file)));
                }
                self.outbox.reply(&mut self.peer, txn, status, data)
            }
            Outcome::Failed(errno) => {
                self.unreserve_file(job.conn, job.coid, serial);
                self.fail(txn, errno)
            }
        }
    }

    /// Gives a reserved place back when nothing was opened for it.
    fn unreserve_file(&mut self, conn: u32, coid: i32, serial: u64) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if matches!(connection.files.get(&coid), Some(Slot::Opening(by)) if *by == serial) {
            connection.files.remove(&coid);
            let nd = connection.nd;
            self.forget_files(nd, 1);
        }
    }

    fn forget_files(&mut self, nd: u32, count: usize) {
        self.open_files = self.open_files.saturating_sub(count);
        let share = self.shares.entry(nd).or_default();
        share.files = share.files.saturating_sub(count);
        self.drop_idle_share(nd);
    }

    /// Ends a transaction with an error.
    fn fail(&mut self, txn: u32, errno: Errno) -> Result<(), PeerError> {
        self.transactions.remove(&txn);
        self.peer.send(&ToClient::Error { txn, errno: errno as i32 })
    }

    /// Closes files without anybody waiting for it.
    fn release(&mut self, nd: u32, files: Vec<Arc<OpenFile>>) {
        let closes = files.len();
        let request = Request {
            identity: Arc::new(Identity::nobody()),
            work: Work::Release { files },
            room: 0,
            may_change: false,
            cache: Cache { nd, pid: 0 },
            cancel: Arc::default(),
            spent: Vec::new(),
        };
        let mut job = Job::new(request, 0, 0, nd);
        job.closes = closes;
        self.releases.push_back(job);
    }

    fn enqueue(&mut self, job: Job) {
        self.count_queued(job.nd, 1);
        let Some(connection) = self.connections.get_mut(&job.conn) else { return };
        if connection.queue.is_empty() {
            self.ring.push_back(job.conn);
        }
        connection.queue.push_back(job);
    }

    fn count_queued(&mut self, nd: u32, change: isize) {
        self.queued = self.queued.saturating_add_signed(change);
        let share = self.shares.entry(nd).or_default();
        share.queued = share.queued.saturating_add_signed(change);
    }

    fn drop_idle_share(&mut self, nd: u32) {
        if self
            .shares
            .get(&nd)
            .is_some_and(|s| s.connections + s.queued + s.running + s.waiting + s.files == 0)
        {
            self.shares.remove(&nd);
        }
    }

    /// Sends what waits, and tells epoll what to watch the socket for from now on.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(crate) fn settle(&mut self) -> Result<(), PeerError> {
        if !self.ungranted.is_empty() {
            self.ask_for_more()?;
        }
        if self.peer.wants_write() || !self.outbox.is_empty() {
            self.outbox.flush(&mut self.peer)?;
        }
        let mut interest = EpollFlags::empty();
        // room in shared memory is told by a bell, whether packets are wanted or not
        interest.set(EpollFlags::EPOLLIN, self.can_receive() || self.waits_for_bell());
        // a socket that can be written to wakes the leader, who was not to look for packets and now is
        let resumes = self.held_back && self.can_receive();
        interest.set(EpollFlags::EPOLLOUT, self.peer.wants_writable() || resumes);
        if interest != self.interest {
            let mut event = EpollEvent::new(interest, SOCKET);
            self.epoll.modify(&self.peer, &mut event).map_err(|errno| PeerError::Io(errno.into()))?;
            self.interest = interest;
        }
        Ok(())
    }

    /// What the leader looks at while it waits: shared memory, while packets there would be taken.
    pub(crate) fn watch(&mut self) -> Option<Watch> {
        let rings = self.peer.receives_from_ring();
        self.held_back = rings && !self.can_receive();
        (rings && !self.held_back).then(|| self.peer.watch())
    }

    /// Takes packets, as many as belong to one turn, when the socket is `ready` or something is in shared memory.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(crate) fn receive(&mut self, ready: bool, buffer: &mut ReceiveBuffer) -> Result<(), PeerError> {
        self.held_back = false;
        if ready {
            self.peer.socket_is_ready();
        } else if !self.peer.has_packets() {
            return Ok(());
        }
        for _ in 0..RECEIVE_BURST {
            // where the bells do not come apart from packets yet, there are few of these
            if !self.can_receive() && (self.peer.receives_from_ring() || !self.waits_for_bell()) {
                return self.peer.hear_bells(buffer);
            }
            let Some((packet, loan)) = self.peer.recv_lent(buffer)? else { break };
            match (packet, loan) {
                (packet, None) => self.on_packet(packet)?,
                (packet, Some(loan)) => self.on_lent(packet, &loan)?,
            }
        }
        Ok(())
    }

    /// Whether replies wait for room in shared memory.
    fn waits_for_bell(&self) -> bool {
        self.peer.wants_write() && !self.peer.wants_writable()
    }

    /// Whether there is room for more replies.
    pub(crate) fn can_receive(&self) -> bool {
        self.outbox.bytes() + self.peer.queued() < limits::OUTGOING_BYTES
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn new_job(&mut self, conn: u32, work: Work, room: u32) -> Option<Job> {
        let connection = self.connections.get(&conn)?;
        // what is done on an open file is done as who opened it
        let identity = match &work {
            Work::File { file, .. } => file.identity(),
            _ => &connection.identity,
        };
        let request = Request {
            identity: Arc::clone(identity),
            work,
            room: room as usize,
            may_change: connection.rights & right::WRITE != 0,
            cache: Cache { nd: connection.nd, pid: connection.pid },
            cancel: Arc::default(),
            spent: Vec::new(),
        };
        Some(Job::new(request, conn, connection.serial, connection.nd))
    }

    fn new_connection(&mut self, connect: &Connect, identity: Identity, nd: u32) -> Connection {
        let serial = self.next_serial();
        self.shares.entry(nd).or_default().connections += 1;
        tracing::debug!(target: crate::LOG, conn = connect.conn, nd, uid = identity.uid, gid = identity.gid, "connection");
        Connection {
            serial,
            nd,
            pid: connect.claim.as_ref().map_or(0, |claim| claim.pid),
            identity: Arc::new(identity),
            // Without a claim nobody vouches for the caller.
            rights: if connect.claim.is_some() { connect.flags & right::ALL } else { 0 },
            // never 0; a wrap after 2^31 connections does no harm, callers do not look at it
            scoid: i32::try_from(serial & 0x3fff_ffff).unwrap_or(1).max(1),
            probing: true,
            queue: VecDeque::new(),
            running: 0,
            files: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod tests;
