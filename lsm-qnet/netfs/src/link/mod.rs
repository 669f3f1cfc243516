//! The way to other nodes: sessions and transactions over `ROOT/qnet.sock`.
//!
//! A *session* is one connection to a node's server under one caller's identity, or to the network manager; it is made
//! on first use and shared by everything that caller does there. A *transaction* is one message and its reply.
//!
//! ```text
//!            session()        request()                  poll_completion()
//!  engine ───────────▶ Link ───────────▶ qnet.sock … ──────────────────▶ engine
//!   Opening ── ConnectOk ──▶ Open ── Death, ConnectFail, lost socket ──▶ gone, its transactions fail as lost
//! ```
//!
//! Nothing blocks. Requests made while a session opens wait for it. When `lsm-qnet` goes away every transaction ends,
//! and the socket is tried again: at once when somebody asks, and every [`RETRY`] otherwise.
//!
//! Bounds: [`MAX_SESSIONS`]; what `flow` says of requests that are under way at the same time; [`MAX_UNREAD`] bytes that
//! `lsm-qnet` has not taken, after which it counts as gone; [`MAX_ABANDONED`] transactions of a session that nobody waits for
//! any more, after which the session is closed. Closes, of which there are no more than files were open, are none of these.

mod attention;
mod failure;
mod flow;
mod message;
mod session;

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsRawFd, RawFd},
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use nix::unistd::geteuid;
use qnet_ipc::{
    ClientPeer, Loan, MAX_DATA, PeerError, ReceiveBuffer, ToClient, ToServer, connect_path, packet::Connect,
};
use tracing::{debug, info, warn};

use self::session::{Session, State};
pub use self::{failure::Failure, flow::MAX_UNDER_WAY, message::Message};
use crate::{caller::Caller, fuse::reply::Buffer};

/// Pause between attempts to reach a socket that is not there.
pub const RETRY: Duration = Duration::from_millis(500);
/// A session that nobody has used for so long is closed.
pub const IDLE: Duration = Duration::from_secs(60);
/// Most sessions; the longest unused one makes room.
pub const MAX_SESSIONS: usize = 1024;
/// Bytes that may wait for `lsm-qnet` to read them.
pub const MAX_UNREAD: usize = 8 << 20;
/// Buffers that are kept for the next messages.
const MAX_SPARE: usize = 16;
/// Transactions of one session that were given up and whose end has not been heard of.
pub const MAX_ABANDONED: usize = 1024;

/// Shortest pause between attempts when requests ask for the link.
const EAGER_RETRY: Duration = Duration::from_millis(50);
/// QNX's default priority of a process.
const PRIORITY: i32 = 10;
/// Process and channel of a node's server.
const SERVER: (i32, i32) = (1, 1);

/// Number of a session; never used twice in the life of a [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(u32);

/// Number of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TxnId(u32);

/// What a session is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// This node's network manager: names and numbers of nodes.
    Netmgr,
    /// A node's server, on behalf of a caller.
    Node {
        /// The node, as `lsm-qnet` numbers it in this connection's life.
        nd: u32,
        /// Whose rights count there.
        caller: Rc<Caller>,
    },
}

/// A message to send.
#[derive(Debug)]
pub struct Request {
    /// The open file it is about, see `Send::coid`.
    pub coid: i32,
    /// The whole message.
    pub message: Message,
    /// Where the reply goes; its limit is the room the other side is told.
    pub reply: Buffer,
    /// Bytes of the buffer that are filled already; the reply is placed behind them.
    pub filled: usize,
    /// It is sent at once, however many others are under way: it may wait for ever, or gives something back.
    pub at_once: bool,
}

impl Request {
    /// A message whose reply has room for `room` bytes.
    pub fn new(coid: i32, message: impl Into<Message>, room: usize) -> Self {
        Self { coid, message: message.into(), reply: Buffer::new(room), filled: 0, at_once: false }
    }
}

/// How a transaction ended well.
#[derive(Debug)]
pub struct Reply {
    /// What `MsgSend` returns.
    pub status: i64,
    /// Its data.
    pub buffer: Buffer,
}

/// A finished transaction.
#[derive(Debug)]
pub struct Completion {
    /// Which one.
    pub txn: TxnId,
    /// Its end.
    pub result: Result<Reply, Failure>,
}

/// What becomes of the result of a transaction that nobody waits for.
#[derive(Debug)]
enum Purpose {
    /// It is reported.
    Awaited,
    /// It is dropped, as it was to be from the beginning: a close.
    Told,
    /// It is dropped; if it was a success this message is sent on the same file: an open must not leak.
    Abandoned { undo: Option<Vec<u8>> },
}

#[derive(Debug)]
struct Txn {
    session: SessionId,
    request: Request,
    purpose: Purpose,
    /// The message has gone out.
    sent: bool,
    /// It is one of those that [`Session::under_way`] counts.
    counted: bool,
}

/// The link to `lsm-qnet`.
#[derive(Debug)]
pub struct Link {
    path: PathBuf,
    pid: i32,
    peer: Option<ClientPeer>,
    /// The owner looks by itself, see [`Self::attend`].
    attended: bool,
    buffer: ReceiveBuffer,
    /// Whether `lsm-qnet` believes what we say of our callers, which it does when both run as the same user. Otherwise
    /// the mount is a private one, and the only caller is the user who runs us.
    claims: bool,
    generation: u32,
    last_attempt: Option<Instant>,
    next_number: u32,
    sessions: HashMap<SessionId, Session>,
    targets: HashMap<Target, SessionId>,
    txns: HashMap<TxnId, Txn>,
    completions: VecDeque<Completion>,
    /// Sessions of which requests were given up. What they keep back goes out when all are given up that are to be: of a crowd
    /// whose time is over each would make room for the next one.
    freed: Vec<SessionId>,
    /// Buffers whose messages are through.
    spare: Vec<Vec<u8>>,
}

impl Link {
    /// A link over the socket at `path`, not yet connected; `pid` is this process.
    pub fn new(path: PathBuf, pid: i32) -> Self {
        Self {
            path,
            pid,
            peer: None,
            attended: false,
            buffer: ReceiveBuffer::new(),
            claims: false,
            generation: 0,
            last_attempt: None,
            next_number: 0,
            sessions: HashMap::new(),
            targets: HashMap::new(),
            txns: HashMap::new(),
            completions: VecDeque::new(),
            freed: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Counts the connections made so far. Node numbers are valid within one of them.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Descriptor to watch, while connected.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.peer.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Whether the descriptor is to be watched for room to send.
    pub fn wants_write(&self) -> bool {
        self.peer.as_ref().is_some_and(ClientPeer::wants_writable)
    }

    /// The session for `target`, opened now if there is none.
    ///
    /// # Errors
    /// No Qnet runs, or there are too many sessions and all are in use.
    pub fn session(&mut self, now: Instant, target: &Target) -> Result<SessionId, Failure> {
        self.connect(now, EAGER_RETRY);
        if let Some(id) = self.targets.get(target) {
            let id = *id;
            self.session_mut(id)?.touch(now);
            return Ok(id);
        }
        if self.peer.is_none() {
            return Err(Failure::NO_LINK);
        }
        if self.sessions.len() >= MAX_SESSIONS {
            self.evict()?;
        }
        let id = SessionId(self.number());
        let (nd, (pid, chid), claim) = match target {
            Target::Netmgr => (0, (0, 0), None),
            Target::Node { nd, caller } => (*nd, SERVER, self.claims.then(|| caller.claim(self.pid))),
        };
        self.transmit(&ToServer::Connect(Connect { conn: id.0, nd, pid, chid, flags: 0, claim }))?;
        self.sessions.insert(id, Session::new(target.clone(), now));
        self.targets.insert(target.clone(), id);
        Ok(id)
    }

    /// Sends a message on a session, or queues it while the session opens. Its end comes with
    /// [`Self::poll_completion`].
    ///
    /// # Errors
    /// The session has ended.
    pub fn request(&mut self, id: SessionId, request: Request) -> Result<TxnId, Failure> {
        self.begin(id, request, Purpose::Awaited)
    }

    /// Sends a message whose result nobody needs. A session that has ended swallows it.
    pub fn tell(&mut self, id: SessionId, coid: i32, message: Vec<u8>) {
        // The other side forgets everything about a session that ended: nothing is left to tell it.
        let _ = self.begin(id, Request::new(coid, message, 0), Purpose::Told);
    }

    /// Gives a transaction up: the server is asked to let go, and its answer, should it come, is dropped. `undo` is sent
    /// on the same file if the operation turns out to have succeeded.
    pub fn abandon(&mut self, txn: TxnId, undo: Option<Vec<u8>>) {
        let Some(entry) = self.txns.get_mut(&txn) else { return };
        entry.purpose = Purpose::Abandoned { undo };
        entry.request.reply = Buffer::new(0);
        let id = entry.session;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.withdraw(txn) {
            self.txns.remove(&txn);
            return;
        }
        // The node lets go of it, and has room for another.
        session.under_way -= usize::from(std::mem::take(&mut entry.counted));
        session.abandoned += 1;
        if session.abandoned > MAX_ABANDONED {
            warn!(session = id.0, "{MAX_ABANDONED} requests unanswered, closing the connection");
            self.close(id);
            return;
        }
        self.unblock(txn);
        self.freed.push(id);
    }

    /// Asks the server to let go of a transaction whose answer is still waited for.
    pub fn unblock(&mut self, txn: TxnId) {
        // A link that fails here has told its transactions so.
        let _ = self.transmit(&ToServer::Unblock { txn: txn.0, tid: 1 });
    }

    /// A buffer for the next request of the kernel, if one has become free.
    pub fn take_spare(&mut self) -> Option<Vec<u8>> {
        self.spare.pop()
    }

    /// Whether a session still is one: files on it can be used.
    pub fn is_alive(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Counts an open file on the session, which keeps it from being closed as idle.
    pub fn hold(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.files += 1;
        }
    }

    /// Takes back one [`Self::hold`].
    pub fn release(&mut self, now: Instant, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.files = session.files.saturating_sub(1);
            session.touch(now);
        }
    }

    /// Lets no new request for the node use this session; those under way go on. The network manager is on this node and
    /// has no other session to offer.
    pub fn retire(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get(&id)
            && session.target != Target::Netmgr
        {
            self.unlist(id);
        }
    }

    /// Takes a session off the list of those that serve new requests.
    fn unlist(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get(&id)
            && self.targets.get(&session.target) == Some(&id)
        {
            self.targets.remove(&session.target);
        }
    }

    /// Takes in at most `budget` packets; `true` when more may wait. Call when the descriptor is ready, and again while
    /// it says so.
    pub fn receive(&mut self, budget: usize) -> bool {
        self.flush();
        for _ in 0..budget {
            match self.receive_one() {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    self.lose(&error);
                    return false;
                }
            }
        }
        true
    }

    /// The next finished transaction. Call until `None` after every other call that takes `&mut self`.
    #[must_use]
    pub fn poll_completion(&mut self) -> Option<Completion> {
        while let Some(id) = self.freed.pop() {
            self.go_on(id);
        }
        self.completions.pop_front()
    }

    /// Reconnects and closes idle sessions, as far as it is time to.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.connect(now, RETRY);
        let expired = |session: &Session| session.is_idle() && session.expiry().is_some_and(|at| at <= now);
        let idle: Vec<_> =
            self.sessions.iter().filter(|(_, session)| expired(session)).map(|(id, _)| *id).collect();
        idle.into_iter().for_each(|id| self.close(id));
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.peer.is_none() {
            return self.last_attempt.map(|last| last + RETRY);
        }
        self.sessions.values().filter(|session| session.is_idle()).filter_map(Session::expiry).min()
    }

    /// Connects if that was not tried for `pause`.
    fn connect(&mut self, now: Instant, pause: Duration) {
        if self.peer.is_some() || self.last_attempt.is_some_and(|last| now < last + pause) {
            return;
        }
        self.last_attempt = Some(now);
        match connect_path(&self.path) {
            Ok((mut peer, identity)) => {
                self.claims = identity.uid == geteuid().as_raw();
                peer.set_queue_limit(MAX_UNREAD);
                peer.set_attended(self.attended);
                self.peer = Some(peer);
                self.generation += 1;
                info!(socket = %self.path.display(), "connected to Qnet");
            }
            Err(error) => debug!("{error}"),
        }
    }

    fn transmit(&mut self, packet: &ToServer<'_>) -> Result<(), Failure> {
        let peer = self.peer.as_mut().ok_or(Failure::GONE)?;
        let sent = peer.send(packet);
        self.check(sent)
    }

    /// A send that failed ends the connection: also when the queue is full, because a daemon that leaves
    /// [`MAX_UNREAD`] bytes unread does not work any more.
    fn check(&mut self, sent: Result<(), PeerError>) -> Result<(), Failure> {
        sent.map_err(|error| {
            self.lose(&error);
            Failure::GONE
        })
    }

    fn flush(&mut self) {
        if let Some(peer) = &mut self.peer
            && peer.wants_write()
            && let Err(error) = peer.flush()
        {
            self.lose(&error);
        }
    }

    /// Takes one packet in; `false` when none waits.
    fn receive_one(&mut self) -> Result<bool, PeerError> {
        let Some(peer) = &mut self.peer else { return Ok(false) };
        let Some((packet, loan)) = peer.recv_lent(&mut self.buffer)? else { return Ok(false) };
        match packet {
            ToClient::Write { txn, offset, data } => {
                if let Some(entry) = self.txns.get_mut(&TxnId(txn)) {
                    place(&mut entry.request, offset, data, loan.as_ref());
                }
            }
            ToClient::Reply { txn, status, offset, data } => {
                if let Some(mut entry) = self.txns.remove(&TxnId(txn)) {
                    place(&mut entry.request, offset, data, loan.as_ref());
                    self.finish(TxnId(txn), entry, Ok(status));
                }
            }
            ToClient::Error { txn, errno } => {
                if let Some(entry) = self.txns.remove(&TxnId(txn)) {
                    let session = self.sessions.get(&entry.session);
                    let netmgr = session.is_some_and(|session| session.target == Target::Netmgr);
                    let failure = if netmgr { Failure::of_netmgr(errno) } else { Failure::answered(errno) };
                    self.finish(TxnId(txn), entry, Err(failure));
                }
            }
            ToClient::Lost { txn, errno } => {
                if let Some(entry) = self.txns.remove(&TxnId(txn)) {
                    self.finish(TxnId(txn), entry, Err(Failure::lost(errno)));
                }
            }
            ToClient::Read { txn, offset, nbytes } => {
                let entry = self.txns.get(&TxnId(txn));
                let message = entry.map(|entry| &entry.request.message[..]).unwrap_or_default();
                let rest = message.get(offset as usize..).unwrap_or_default();
                let data = &rest[..rest.len().min(nbytes as usize).min(MAX_DATA)];
                peer.send(&ToServer::ReadData { txn, offset, data })?;
            }
            ToClient::ConnectOk { conn, limit, .. } => self.opened(SessionId(conn), limit),
            ToClient::ConnectFail { conn, errno } => {
                self.ended(SessionId(conn), Failure::lost(errno));
            }
            // Files register no events with anybody, and whether a message was received makes no difference to them.
            ToClient::Channel { .. } | ToClient::Received { .. } | ToClient::Event { .. } => {}
            ToClient::Death { conn } => self.ended(SessionId(conn), Failure::GONE),
        }
        Ok(true)
    }

    /// A session is open: what has waited for it goes out.
    fn opened(&mut self, id: SessionId, limit: u32) {
        let limit = limit as usize;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let State::Opening { queued } = std::mem::replace(&mut session.state, State::Open { limit }) {
            for txn in queued {
                // A failure has ended every transaction, this one included.
                let _ = self.start(txn, limit);
            }
        }
    }

    /// A session is no more; its transactions fail.
    fn ended(&mut self, id: SessionId, failure: Failure) {
        self.unlist(id);
        if self.sessions.remove(&id).is_none() {
            return;
        }
        let (mut gone, kept): (Vec<_>, _) = self.txns.drain().partition(|(_, txn)| txn.session == id);
        self.txns = kept.into_iter().collect();
        gone.sort_unstable_by_key(|(txn, _)| *txn);
        for (txn, entry) in gone {
            let sent = failure.sent && entry.sent;
            self.finish(txn, entry, Err(Failure { sent, ..failure }));
        }
    }

    /// Closes a session from this side.
    fn close(&mut self, id: SessionId) {
        if self.sessions.contains_key(&id) {
            // A link that fails here has ended all sessions, which is what is wanted.
            let _ = self.transmit(&ToServer::Disconnect { conn: id.0 });
        }
        self.ended(id, Failure::GONE);
    }

    fn finish(&mut self, txn: TxnId, entry: Txn, result: Result<i64, Failure>) {
        let abandoned = matches!(entry.purpose, Purpose::Abandoned { .. });
        let lost = matches!(result, Err(failure) if failure.lost);
        if let Some(session) = self.sessions.get_mut(&entry.session) {
            session.in_flight = session.in_flight.saturating_sub(1);
            session.abandoned = session.abandoned.saturating_sub(usize::from(abandoned));
            session.under_way -= usize::from(entry.counted);
        }
        let id = entry.session;
        let Request { coid, message, reply, .. } = entry.request;
        if self.spare.len() < MAX_SPARE {
            self.spare.extend(message.into_spare());
        }
        match entry.purpose {
            Purpose::Awaited => {
                let result = result.map(|status| Reply { status, buffer: reply });
                self.completions.push_back(Completion { txn, result });
            }
            Purpose::Abandoned { undo: Some(message) } if result.is_ok() => {
                self.tell(entry.session, coid, message);
            }
            Purpose::Abandoned { .. } | Purpose::Told => {}
        }
        // With the connection that one was on goes all that it has sent: what it keeps back may be done on another one.
        if !lost {
            self.go_on(id);
        }
    }

    /// The socket is gone: everything on it ends.
    fn lose(&mut self, error: &PeerError) {
        if self.peer.take().is_none() {
            return;
        }
        info!(socket = %self.path.display(), "lost Qnet: {error}");
        self.sessions.clear();
        self.targets.clear();
        let mut txns: Vec<_> = self.txns.drain().collect();
        txns.sort_unstable_by_key(|(txn, _)| *txn);
        for (txn, entry) in txns {
            let sent = entry.sent;
            self.finish(txn, entry, Err(Failure { sent, ..Failure::GONE }));
        }
    }

    /// Makes room for a session by closing the one that was not used for the longest time.
    fn evict(&mut self) -> Result<(), Failure> {
        let idle = self.sessions.iter().filter(|(_, session)| session.is_idle());
        let oldest = idle.filter_map(|(id, session)| Some((session.expiry()?, *id))).min();
        let (_, id) = oldest.ok_or(Failure::of(libc::ENFILE))?;
        self.close(id);
        Ok(())
    }

    fn session_mut(&mut self, id: SessionId) -> Result<&mut Session, Failure> {
        self.sessions.get_mut(&id).ok_or(Failure { sent: false, ..Failure::GONE })
    }

    /// Numbers for sessions and transactions. They come round after 2^32; one that is still in use is skipped.
    fn number(&mut self) -> u32 {
        loop {
            self.next_number = self.next_number.wrapping_add(1);
            let number = self.next_number;
            if number != 0
                && !self.txns.contains_key(&TxnId(number))
                && !self.sessions.contains_key(&SessionId(number))
            {
                return number;
            }
        }
    }
}

/// Places a piece of a reply, straight from the memory in which it was lent if it was.
fn place(request: &mut Request, offset: u32, data: &[u8], loan: Option<&Loan>) {
    let at = request.filled + offset as usize;
    match loan {
        Some(loan) => {
            let room = request.reply.room_at(at, loan.len());
            loan.copy(0, room);
        }
        None => request.reply.place(at, data),
    }
}
