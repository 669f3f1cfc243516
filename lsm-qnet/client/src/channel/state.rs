//! What a channel knows: its clients, the messages that wait, and those received but not answered.
//!
//! ```text
//!  Send ──▶ waiting (queue, by priority) ──receive──▶ received ──reply, error──▶ forgotten
//!              └ Unblock: EINTR                          └ Unblock: pulse, or EINTR without the flag
//! ```
//!
//! A message's number is never used twice, so an answer that comes too late finds nothing instead of a stranger.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use qnet_ipc::{
    Claim, Listener, MAX_DATA, PeerError, PeerIdentity, ReceiveBuffer, ServerPeer, ToClient, ToServer,
    packet::{Connect, Send},
};

use super::{ChannelFlags, MessageInfo, PulseMessage};

/// Token of the listening socket; clients count from 1.
const LISTENER: u64 = 0;
/// Bytes of messages that one client may have waiting; beyond, its sends end with `EAGAIN`.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// Bytes that a waiting message counts at least.
const MESSAGE_COST: usize = 256;
/// Pulses that may wait; beyond, a client's pulses are dropped.
const MAX_PULSES: usize = 65_536;

/// What waits to be received.
#[derive(Debug)]
pub(super) enum Ready {
    Pulse(PulseMessage),
    Message { rcvid: u64, info: MessageInfo, data: Vec<u8> },
}

#[derive(Debug)]
struct Client {
    peer: ServerPeer,
    identity: PeerIdentity,
    scoid: i32,
    conns: HashMap<u32, Arc<Claim>>,
    /// Transaction to message.
    txns: HashMap<u32, u64>,
    waiting: usize,
    writing: bool,
}

#[derive(Debug)]
struct Pending {
    client: u64,
    conn: u32,
    txn: u32,
    /// Until it is received.
    waiting: Option<(MessageInfo, Vec<u8>)>,
    /// Answers to reads that nobody fetched yet.
    reads: Vec<(u32, Result<Vec<u8>, i32>)>,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct State {
    listener: Listener,
    epoll: Arc<Epoll>,
    flags: ChannelFlags,
    chid: i32,
    /// The node's root; whoever owns it is believed about other callers.
    root: PathBuf,
    /// A thread waits for the sockets.
    pub(super) reading: bool,
    /// A thread of ours sees to it that everything is sent.
    pub(super) flushing: bool,
    buffer: ReceiveBuffer,
    clients: HashMap<u64, Client>,
    /// Clients for whom packets wait.
    unsent: usize,
    last_client: u64,
    pending: HashMap<u64, Pending>,
    last_rcvid: u64,
    /// Priority, order of arrival, and the message (or none: the pulse of that number).
    queue: BinaryHeap<(i32, Reverse<u64>, Option<u64>)>,
    pulses: HashMap<u64, PulseMessage>,
    arrivals: u64,
}

impl State {
    pub(super) fn new(
        listener: Listener,
        epoll: Arc<Epoll>,
        flags: ChannelFlags,
        chid: i32,
        root: PathBuf,
    ) -> nix::Result<Self> {
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            listener,
            epoll,
            flags,
            chid,
            root,
            reading: false,
            flushing: false,
            buffer: ReceiveBuffer::new(),
            clients: HashMap::new(),
            unsent: 0,
            last_client: 0,
            pending: HashMap::new(),
            last_rcvid: 0,
            queue: BinaryHeap::new(),
            pulses: HashMap::new(),
            arrivals: 0,
        })
    }

    /// The next thing to receive.
    pub(super) fn next(&mut self) -> Option<Ready> {
        while let Some((_, Reverse(arrival), rcvid)) = self.queue.pop() {
            let Some(rcvid) = rcvid else {
                if let Some(pulse) = self.pulses.remove(&arrival) {
                    return Some(Ready::Pulse(pulse));
                }
                continue;
            };
            // Messages whose sender left while they waited are gone from `pending`.
            let Some(pending) = self.pending.get_mut(&rcvid) else { continue };
            let Some((info, data)) = pending.waiting.take() else { continue };
            if let Some(client) = self.clients.get_mut(&pending.client) {
                client.waiting -= MESSAGE_COST + data.len();
            }
            return Some(Ready::Message { rcvid, info, data });
        }
        None
    }

    /// Sends a packet about a received message; `None`: not now, the client does not read.
    pub(super) fn send<'a>(
        &mut self,
        rcvid: u64,
        packet: impl Fn(u32) -> ToClient<'a>,
    ) -> Option<Result<(), i32>> {
        let Some((id, txn)) = self.pending.get(&rcvid).map(|pending| (pending.client, pending.txn)) else {
            return Some(Err(libc::ESRCH));
        };
        let Some(client) = self.clients.get_mut(&id) else { return Some(Err(libc::ESRCH)) };
        let outcome = match client.peer.send(&packet(txn)) {
            Ok(()) => Some(Ok(())),
            Err(PeerError::Full { .. }) => None,
            Err(_) => Some(Err(libc::ESRCH)),
        };
        self.watch(id);
        outcome
    }

    /// Whether packets wait for slow clients.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// The answer to a read of that message at `offset`, when it is there.
    pub(super) fn take_read(&mut self, rcvid: u64, offset: u32) -> Option<Result<Vec<u8>, i32>> {
        let Some(pending) = self.pending.get_mut(&rcvid) else { return Some(Err(libc::ESRCH)) };
        let index = pending.reads.iter().position(|(at, _)| *at == offset)?;
        Some(pending.reads.remove(index).1)
    }

    /// The message was answered.
    pub(super) fn forget(&mut self, rcvid: u64) {
        if let Some(pending) = self.pending.remove(&rcvid)
            && let Some(client) = self.clients.get_mut(&pending.client)
        {
            client.txns.remove(&pending.txn);
        }
    }

    /// Ends a message with an error, if its client still listens.
    pub(super) fn refuse(&mut self, rcvid: u64, errno: i32) {
        if self.send(rcvid, |txn| ToClient::Error { txn, errno }).is_none() {
            // A client that reads nothing and asks for more is not worth its memory.
            if let Some(id) = self.pending.get(&rcvid).map(|pending| pending.client) {
                self.remove(id);
            }
        }
        self.forget(rcvid);
    }

    /// Something happened on a socket.
    pub(super) fn on_ready(&mut self, token: u64) {
        if token == LISTENER { self.accept() } else { self.read(token) }
    }

    fn accept(&mut self) {
        // An error (no descriptors left) leaves the client in the kernel's queue for another time.
        while let Ok(Some((peer, mut identity))) = self.listener.accept() {
            // Who it was when it connected is what counts; a second descriptor for each client is not worth it.
            identity.pidfd = None;
            self.last_client += 1;
            let id = self.last_client;
            if self.epoll.add(&peer, EpollEvent::new(EpollFlags::EPOLLIN, id)).is_err() {
                continue;
            }
            let scoid = (id & 0x3fff_ffff) as i32;
            let (conns, txns) = (HashMap::new(), HashMap::new());
            self.clients
                .insert(id, Client { peer, identity, scoid, conns, txns, waiting: 0, writing: false });
        }
    }

    fn read(&mut self, id: u64) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(client) = self.clients.get_mut(&id) {
            // What cannot be sent any more does not matter: the end shows up in `recv`.
            let _gone = client.peer.flush();
            match client.peer.recv(&mut buffer) {
                Ok(Some(packet)) => self.on_packet(id, packet),
                Ok(None) => {
                    self.watch(id);
                    break;
                }
                Err(_) => {
                    self.remove(id);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    fn on_packet(&mut self, id: u64, packet: ToServer<'_>) {
        match packet {
            ToServer::Connect(connect) => self.on_connect(id, connect),
            ToServer::Send(send, data) => self.on_send(id, send, data),
            ToServer::ReadData { txn, offset, data } => self.on_read(id, txn, offset, Ok(data.to_vec())),
            ToServer::ReadError { txn, offset, errno } => self.on_read(id, txn, offset, Err(errno)),
            ToServer::Unblock { txn, .. } => self.on_unblock(id, txn),
            ToServer::Pulse(pulse) => {
                let Some(client) =
                    self.clients.get(&id).filter(|client| client.conns.contains_key(&pulse.conn))
                else {
                    return;
                };
                let (code, value, priority) = (pulse.code, pulse.value, pulse.priority);
                let scoid = client.scoid;
                // Negative codes are the system's.
                if code >= 0 && self.pulses.len() < MAX_PULSES {
                    self.push_pulse(PulseMessage { code, value, priority, scoid });
                }
            }
            ToServer::Disconnect { conn } => self.on_disconnect(id, conn),
            ToServer::Credentials { conn, claim } => {
                let Some(client) = self.clients.get_mut(&id) else { return };
                if owner(&self.root) == Some(client.identity.uid)
                    && let Some(credentials) = client.conns.get_mut(&conn)
                {
                    *credentials = Arc::new(claim);
                }
            }
        }
    }

    fn on_connect(&mut self, id: u64, connect: Connect) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let conn = connect.conn;
        let identity = &client.identity;
        let own = || Claim {
            pid: identity.pid,
            ..Claim::user(identity.uid, identity.gid, identity.groups.clone())
        };
        let credentials = match connect.claim {
            Some(claim) if owner(&self.root) == Some(identity.uid) => Ok(claim),
            Some(_) => Err(libc::EPERM),
            None if client.conns.contains_key(&conn) => Err(libc::EINVAL),
            None => Ok(own()),
        };
        let answer = match credentials {
            Ok(claim) => {
                client.conns.insert(conn, Arc::new(claim));
                ToClient::ConnectOk { conn, scoid: client.scoid, limit: MAX_DATA as u32 }
            }
            Err(errno) => ToClient::ConnectFail { conn, errno },
        };
        self.answer(id, &answer);
    }

    fn on_send(&mut self, id: u64, send: Send, data: &[u8]) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let cost = MESSAGE_COST + data.len();
        let refused = match client.conns.get(&send.conn) {
            None => Some(libc::EBADF),
            Some(_) if client.txns.contains_key(&send.txn) => Some(libc::EINVAL),
            Some(_) if client.waiting + cost > MAX_WAITING => Some(libc::EAGAIN),
            Some(_) => None,
        };
        if let Some(errno) = refused {
            self.answer(id, &ToClient::Error { txn: send.txn, errno });
            return;
        }
        let Some(credentials) = client.conns.get(&send.conn).cloned() else { return };
        self.last_rcvid += 1;
        let rcvid = self.last_rcvid;
        client.waiting += cost;
        client.txns.insert(send.txn, rcvid);
        let info = MessageInfo {
            pid: credentials.pid,
            tid: send.tid,
            chid: self.chid,
            scoid: client.scoid,
            coid: send.coid,
            msglen: data.len(),
            srcmsglen: send.srcmsglen,
            dstmsglen: send.dstmsglen,
            priority: send.priority,
            credentials,
        };
        let waiting = Some((info, data.to_vec()));
        let pending = Pending { client: id, conn: send.conn, txn: send.txn, waiting, reads: Vec::new() };
        self.pending.insert(rcvid, pending);
        self.push(send.priority, Some(rcvid));
    }

    fn on_read(&mut self, id: u64, txn: u32, offset: u32, data: Result<Vec<u8>, i32>) {
        let rcvid = self.clients.get(&id).and_then(|client| client.txns.get(&txn));
        if let Some(pending) = rcvid.and_then(|rcvid| self.pending.get_mut(rcvid)) {
            // One read is under way for each thread that reads: more answers than that were not asked for.
            if pending.reads.len() < 64 {
                pending.reads.push((offset, data));
            }
        }
    }

    fn on_unblock(&mut self, id: u64, txn: u32) {
        let Some(client) = self.clients.get(&id) else { return };
        let Some(rcvid) = client.txns.get(&txn).copied() else { return };
        let received = self.pending.get(&rcvid).is_some_and(|pending| pending.waiting.is_none());
        if received && self.flags.contains(ChannelFlags::UNBLOCK) {
            let (scoid, value) = (client.scoid, rcvid);
            self.push_pulse(PulseMessage { code: PulseMessage::UNBLOCK, value, priority: 10, scoid });
        } else {
            self.drop_waiting(rcvid);
            self.refuse(rcvid, libc::EINTR);
        }
    }

    fn on_disconnect(&mut self, id: u64, conn: u32) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.conns.remove(&conn);
        let ended = |pending: &Pending| pending.client == id && pending.conn == conn;
        let gone: Vec<u64> = self.pending.iter().filter(|(_, p)| ended(p)).map(|(rcvid, _)| *rcvid).collect();
        for rcvid in gone {
            self.drop_waiting(rcvid);
            self.forget(rcvid);
        }
    }

    /// Takes a message that was not received yet out of its client's account.
    fn drop_waiting(&mut self, rcvid: u64) {
        let Some(pending) = self.pending.get_mut(&rcvid) else { return };
        if let (Some((_, data)), Some(client)) =
            (pending.waiting.take(), self.clients.get_mut(&pending.client))
        {
            client.waiting -= MESSAGE_COST + data.len();
        }
    }

    /// Answers at once; a client that does not read its answers is dropped.
    fn answer(&mut self, id: u64, packet: &ToClient<'_>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match client.peer.send(packet) {
            Err(PeerError::Full { .. }) => self.remove(id),
            // Other errors show up in `recv`, behind what the client said before.
            Ok(()) | Err(_) => self.watch(id),
        }
    }

    /// Watches for writability while something waits to be written.
    fn watch(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.writing == client.peer.wants_write() {
            return;
        }
        client.writing = client.peer.wants_write();
        if client.writing {
            self.unsent += 1;
        } else {
            self.unsent -= 1;
        }
        let mut interest = EpollFlags::EPOLLIN;
        interest.set(EpollFlags::EPOLLOUT, client.writing);
        if self.epoll.modify(&client.peer, &mut EpollEvent::new(interest, id)).is_err() {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u64) {
        let Some(client) = self.clients.remove(&id) else { return };
        self.unsent -= usize::from(client.writing);
        // Closing the socket would do it too, but another thread may hold it for a moment longer.
        let _closed = self.epoll.delete(&client.peer);
        for rcvid in client.txns.values() {
            self.pending.remove(rcvid);
        }
        if self.flags.contains(ChannelFlags::DISCONNECT) && !client.conns.is_empty() {
            let (scoid, value) = (client.scoid, 0);
            self.push_pulse(PulseMessage { code: PulseMessage::DISCONNECT, value, priority: 10, scoid });
        }
    }

    fn push(&mut self, priority: i32, rcvid: Option<u64>) -> u64 {
        self.arrivals += 1;
        self.queue.push((priority, Reverse(self.arrivals), rcvid));
        self.arrivals
    }

    fn push_pulse(&mut self, pulse: PulseMessage) {
        let arrival = self.push(pulse.priority, None);
        self.pulses.insert(arrival, pulse);
    }
}

/// Who owns the node's root, if it exists. Asked for each claim: the daemon may be started after the channel.
fn owner(root: &Path) -> Option<u32> {
    fs::metadata(root).ok().map(|data| data.uid())
}
