//! Back: channels of this node, the node's own server among them.
//!
//! `qnet-server` has one socket for all connections; any other channel gets a socket for each process that calls it, so
//! that its server sees the callers apart: one process is one client (`scoid`), whatever its node and however many its
//! connections. A server is believed only about calls on its own connections.

use std::os::fd::AsFd;

use qnet_ipc::{
    ClientPeer, Loan, MAX_DATA, PeerError, ToClient, ToServer, connect_channel,
    packet::{Send, Sigevent},
};

use super::{
    Back, CallId, Caller, ConnId, Engine, Front, MAX_READS, Piece, Stage, Token, Watched,
    flow::{Gauge, Load},
};
use std::collections::{HashMap, VecDeque};

/// Bytes that may wait for a server that does not read; beyond, sends end with `EAGAIN`.
const QUEUE_LIMIT: usize = 16 * 1024 * 1024;
/// Packets read from one server in one go.
const PACKETS: usize = 64;
/// Bytes that may be on their way from one node to one server, because it asked for them.
const MAX_FETCHING: usize = 4 * 1024 * 1024;

/// A process and the channel that it calls: its node and number there, the server's process and channel.
pub(super) type Callers = ((u16, i32), (i32, i32));

/// A socket to a server.
pub(super) struct Channel {
    // Declared before the socket: watching ends first.
    watched: Box<dyn Watched>,
    pub(super) peer: ClientPeer,
    writing: bool,
    /// Connections on it.
    pub(super) conns: usize,
    /// Who calls here, unless everybody does.
    callers: Option<Callers>,
    pub(super) gauge: Gauge,
    /// Bytes that the server asked each other node for and that are not there yet.
    pub(super) fetching: HashMap<u16, usize>,
    /// Calls with reads that wait until there are fewer.
    pub(super) waiting: VecDeque<CallId>,
}

impl Engine {
    /// The node's own server runs and is reached by `peer`.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn set_server(&mut self, peer: ClientPeer) -> Result<(), io_pkt_sdk::Error> {
        let token = self.add_channel(peer, None)?;
        self.server = Some(token);
        Ok(())
    }

    /// The node's own server ended: its callers get `ESRCH`.
    pub fn server_gone(&mut self) {
        if let Some(token) = self.server.take() {
            self.channel_gone(token, libc::ESRCH);
        }
    }

    /// Whether the node's own server is connected.
    #[must_use]
    pub fn has_server(&self) -> bool {
        self.server.is_some()
    }

    /// Finds or makes the socket of a calling process to a channel of this node.
    pub(super) fn open_channel(&mut self, caller: (u16, i32), (pid, chid): (i32, i32)) -> Result<Token, i32> {
        if (pid, chid) == (1, 1) {
            return self.server.ok_or(libc::ESRCH);
        }
        let callers = (caller, (pid, chid));
        if let Some(token) = self.by_callers.get(&callers) {
            return Ok(*token);
        }
        let of_node = self.by_callers.keys().filter(|((nd, _), _)| *nd == caller.0).count();
        if self.by_callers.len() >= self.shares.channels || of_node >= self.shares.channels_of_node {
            return Err(libc::EAGAIN);
        }
        let address = self.root.channel(pid, chid).map_err(|_| libc::ESRCH)?;
        let (peer, _) = connect_channel(&address).map_err(|error| error.errno())?;
        self.add_channel(peer, Some(callers)).map_err(|error| error.errno())
    }

    fn add_channel(
        &mut self,
        mut peer: ClientPeer,
        callers: Option<Callers>,
    ) -> Result<Token, io_pkt_sdk::Error> {
        peer.set_queue_limit(QUEUE_LIMIT);
        let token = self.fresh_token();
        let watched = self.watcher.watch(peer.as_fd(), token)?;
        let channel = Channel {
            watched,
            peer,
            writing: false,
            conns: 0,
            callers,
            gauge: Gauge::default(),
            fetching: HashMap::new(),
            waiting: VecDeque::new(),
        };
        self.channels.insert(token, channel);
        if let Some(callers) = callers {
            self.by_callers.insert(callers, token);
        }
        // What it said before it was watched.
        self.again.insert(token);
        Ok(token)
    }

    /// Reads what a server said, as far as its share goes.
    pub(super) fn read_channel(&mut self, token: Token) {
        let blocked = self.is_blocked(token);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = PACKETS;
        while let Some(channel) = self.channels.get_mut(&token) {
            // That nothing can be sent any more shows up below, behind what the server said.
            let _gone = channel.peer.flush();
            if left == 0 || channel.gauge.is_full() || blocked {
                channel.settle();
                self.again.insert(token);
                break;
            }
            left -= 1;
            match channel.peer.recv_lent(&mut buffer) {
                Ok(Some((packet, loan))) => {
                    self.on_channel_packet(token, packet, loan);
                    self.spoke(token);
                    if self.is_blocked(token) {
                        left = 0;
                    }
                }
                Ok(None) => {
                    channel.settle();
                    break;
                }
                Err(error) => {
                    if !matches!(error, PeerError::Closed) {
                        tracing::warn!("a server of this node: {error}");
                    }
                    self.channel_gone(token, libc::ESRCH);
                    break;
                }
            }
        }
        self.buffer = buffer;
        self.fetch_more(token);
    }

    /// Sends a packet to a server that must not miss it. A server that reads nothing is given up.
    pub(super) fn tell_channel(&mut self, token: Token, packet: &ToServer<'_>) {
        let Some(channel) = self.channels.get_mut(&token) else { return };
        if let Err(PeerError::Full { queued }) = channel.peer.send(packet) {
            if matches!(packet, ToServer::Pulse(_)) {
                return;
            }
            tracing::warn!("a server of this node does not read: {queued} bytes wait; it is given up");
            self.channel_gone(token, libc::ESRCH);
            return;
        }
        channel.settle();
    }

    /// Sends a message to a server; its caller gets `EAGAIN` when the server does not keep up.
    pub(super) fn channel_send(&mut self, token: Token, send: Send, data: &[u8]) {
        let Some(channel) = self.channels.get_mut(&token) else { return };
        let data = &data[..data.len().min(MAX_DATA)];
        match channel.peer.send(&ToServer::Send(send, data)) {
            Err(PeerError::Full { .. }) => self.reply_error(send.txn, libc::EAGAIN),
            // Other errors show up when the socket is read, behind what the server said before.
            Ok(()) | Err(_) => channel.settle(),
        }
    }

    /// A connection on the socket is over; the last one closes it.
    pub(super) fn leave_channel(&mut self, token: Token) {
        let Some(channel) = self.channels.get_mut(&token) else { return };
        channel.conns = channel.conns.saturating_sub(1);
        if channel.conns == 0 && channel.callers.is_some() {
            self.drop_channel(token);
        }
    }

    /// Closes a socket; false when it was closed before.
    fn drop_channel(&mut self, token: Token) -> bool {
        let Some(channel) = self.channels.remove(&token) else { return false };
        if let Some(callers) = channel.callers {
            self.by_callers.remove(&callers);
        }
        self.blocked.remove(&token);
        true
    }

    fn channel_gone(&mut self, token: Token, errno: i32) {
        if !self.drop_channel(token) {
            return;
        }
        self.accept_again |= std::mem::take(&mut self.accept_waits);
        if self.server == Some(token) {
            self.server = None;
        }
        let on_it = |back: Back| back == Back::Channel(token);
        let conns: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| on_it(conn.back)).map(|(id, _)| *id).collect();
        for conn in conns {
            self.back_gone(conn, errno);
        }
    }

    /// `loan`: the data of the packet, if they were lent.
    fn on_channel_packet(&mut self, token: Token, packet: ToClient<'_>, loan: Option<Loan>) {
        match packet {
            ToClient::ConnectOk { conn, scoid, limit } => {
                let Some(front) = self.opening(token, conn) else { return };
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.open = true;
                }
                self.tell_connected(conn, front, scoid, limit);
            }
            ToClient::ConnectFail { conn, errno } => {
                if self.opening(token, conn).is_some() {
                    self.back_gone(conn, errno);
                }
            }
            ToClient::Event { conn, event } => self.channel_event(token, conn, event),
            ToClient::Channel { conn, flags } => {
                let conn =
                    self.conns.get_mut(&conn).filter(|conn| conn.back == Back::Channel(token) && conn.open);
                let Some(conn) = conn else { return };
                conn.channel = Some(flags);
                if let Front::Local { client, conn } = conn.front {
                    self.tell_client(client, &ToClient::Channel { conn, flags });
                }
            }
            ToClient::Received { txn: id } if self.serves(token, id) => {
                let Some(call) = self.calls.get_mut(&id) else { return };
                call.received = true;
                if let Caller::Local { client, txn } = call.caller {
                    self.tell_client(client, &ToClient::Received { txn });
                }
            }
            ToClient::Death { conn } => {
                if self.conns.get(&conn).is_some_and(|conn| conn.back == Back::Channel(token)) {
                    self.back_gone(conn, libc::ESRCH);
                }
            }
            ToClient::Read { txn, offset, nbytes } if self.serves(token, txn) => {
                self.channel_read(token, txn, offset, nbytes);
            }
            ToClient::Write { txn, offset, data } if self.serves(token, txn) => {
                let client = self.client_of(txn);
                self.reply_write(txn, offset, Load::of(data, loan));
                self.block_for(token, client);
            }
            ToClient::Reply { txn, status, offset, data } if self.serves(token, txn) => {
                let client = self.client_of(txn);
                self.reply_with(txn, status, offset, Load::of(data, loan));
                self.block_for(token, client);
            }
            ToClient::Error { txn, errno } | ToClient::Lost { txn, errno } if self.serves(token, txn) => {
                self.reply_error(txn, errno);
            }
            // About a call that is over.
            ToClient::Read { .. }
            | ToClient::Write { .. }
            | ToClient::Reply { .. }
            | ToClient::Received { .. }
            | ToClient::Error { .. }
            | ToClient::Lost { .. } => {}
        }
    }

    /// A server delivers an event to one of its clients.
    fn channel_event(&mut self, token: Token, conn: ConnId, event: Sigevent) {
        let Some(conn) = self.conns.get(&conn).filter(|conn| conn.back == Back::Channel(token)) else {
            return;
        };
        match conn.front {
            Front::Local { client, conn } => self.tell_event(client, conn, event),
            Front::Remote { server, .. } => self.wire_event(server, &event),
            Front::Signal => {}
        }
    }

    /// A server wants a piece of a message.
    fn channel_read(&mut self, token: Token, id: CallId, offset: u32, nbytes: u32) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match call.caller {
            Caller::Local { client, txn } => {
                self.tell_client(client, &ToClient::Read { txn, offset, nbytes })
            }
            // It was sent whole.
            Caller::Nobody => {
                self.tell_channel(token, &ToServer::ReadError { txn: id, offset, errno: libc::EFAULT });
            }
            Caller::Remote { .. } => {
                if call.reads.len() >= MAX_READS {
                    return self
                        .tell_channel(token, &ToServer::ReadError { txn: id, offset, errno: libc::EAGAIN });
                }
                let nbytes = nbytes.min(call.srcmsglen.saturating_sub(offset)).min(MAX_DATA as u32);
                // Behind the message's end there is nothing, and nobody need be asked for it.
                let stage = if nbytes == 0 { Stage::Done(Ok(Vec::new())) } else { Stage::Waiting };
                call.reads.push_back(Piece { offset, nbytes, stage });
                self.fetch(token, id);
            }
        }
    }

    /// The program that waits for a call, when it is one of this node.
    fn client_of(&self, call: CallId) -> Option<Token> {
        match self.calls.get(&call)?.caller {
            Caller::Local { client, .. } => Some(client),
            Caller::Remote { .. } | Caller::Nobody => None,
        }
    }

    fn block_for(&mut self, source: Token, client: Option<Token>) {
        match client {
            Some(client) => self.block(source, client),
            None => drop(self.blocked.remove(&source)),
        }
    }

    /// The front of a connection that is being opened on that socket.
    fn opening(&self, token: Token, conn: ConnId) -> Option<Front> {
        let conn = self.conns.get(&conn)?;
        (conn.back == Back::Channel(token) && !conn.open).then_some(conn.front)
    }

    /// Whether that call is one on that socket.
    fn serves(&self, token: Token, call: CallId) -> bool {
        let conn = self.calls.get(&call).and_then(|call| self.conns.get(&call.conn));
        conn.is_some_and(|conn| conn.back == Back::Channel(token))
    }
}

impl Channel {
    /// Whether more may be fetched from a node. Each has its share: one whose programs do not answer holds up itself.
    pub(super) fn may_fetch(&self, nd: u16) -> bool {
        self.fetching.get(&nd).copied().unwrap_or(0) + self.queued() < MAX_FETCHING
    }

    /// More, or fewer, bytes are on their way from a node.
    pub(super) fn count_fetching(&mut self, nd: u16, more: usize, fewer: usize) {
        let bytes = self.fetching.entry(nd).or_default();
        *bytes = (*bytes + more).saturating_sub(fewer);
        if *bytes == 0 {
            self.fetching.remove(&nd);
        }
    }

    /// Bytes that wait to be written.
    pub(super) fn queued(&self) -> usize {
        self.peer.queued()
    }

    /// Watches for writability exactly while something waits to be written.
    fn settle(&mut self) {
        if self.writing != self.peer.wants_writable() {
            self.writing = self.peer.wants_writable();
            self.watched.set_writing(self.writing);
        }
    }
}
