//! Front: programs of this node, connected at `qnet.sock`.
//!
//! A client says which channel on which node it wants; it is who the kernel says, unless it runs as the owner of the
//! node's root (as `qnet-netfs` does) and speaks for somebody else.

use std::{collections::HashMap, os::fd::AsFd, rc::Rc};

use qnet_ipc::{
    Claim, Loan, MAX_DATA, PeerError, PeerIdentity, ServerPeer, ToClient, ToServer,
    packet::{Connect, Pulse, Send, Sigevent, right},
};
use qnet_proto::NodeId;

use super::{
    Back, CLOGGED, CallId, Caller, ConnId, Engine, Front, Token, Watched,
    flow::{Gauge, Load},
    inlet::Allowance,
};

/// Programs of the node's owner beyond the share of all.
const OWNERS_OWN: usize = 64;
/// Connections of one client; beyond, `EAGAIN`.
const MAX_CONNS: usize = 65_536;
/// Calls of one client; beyond, `EAGAIN`.
const MAX_CALLS: usize = 16_384;
/// Bytes that may wait for a client that does not read; beyond, it is dropped.
const QUEUE_LIMIT: usize = 64 * 1024 * 1024;
/// Packets read from one client in one go.
const PACKETS: usize = 64;

/// One program.
pub(super) struct LocalClient {
    // Declared before the socket: watching ends first.
    watched: Box<dyn Watched>,
    pub(super) peer: ServerPeer,
    writing: bool,
    identity: PeerIdentity,
    pub(super) gauge: Gauge,
    /// What replies of other nodes may hold.
    pub(super) allowance: Rc<Allowance>,
    /// Its connections, by its own numbers.
    pub(super) conns: HashMap<u32, ConnId>,
    /// Its calls, by its own numbers.
    pub(super) txns: HashMap<u32, CallId>,
}

impl Engine {
    pub(super) fn accept(&mut self) {
        loop {
            let Some((_, listener)) = &self.listener else { return };
            let (mut peer, mut identity) = match listener.accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return,
                Err(error) => {
                    // No descriptors left: the next try is when one of ours becomes free.
                    tracing::warn!("cannot accept a program at qnet.sock: {error}");
                    self.accept_waits = true;
                    return;
                }
            };
            if !self.has_room_for(&identity) {
                tracing::debug!(
                    "process {} of uid {} turned away: too many clients",
                    identity.pid,
                    identity.uid
                );
                continue;
            }
            // Who it was when it connected is what counts; a second descriptor for each client is not worth it.
            identity.pidfd = None;
            peer.set_queue_limit(QUEUE_LIMIT);
            let token = self.fresh_token();
            let watched = match self.watcher.watch(peer.as_fd(), token) {
                Ok(watched) => watched,
                Err(error) => {
                    tracing::warn!("{error}");
                    continue;
                }
            };
            let client = LocalClient {
                watched,
                peer,
                writing: false,
                identity,
                gauge: Gauge::default(),
                allowance: Rc::new(Allowance::new(&self.ready)),
                conns: HashMap::new(),
                txns: HashMap::new(),
            };
            self.clients.insert(token, client);
            self.read_client(token);
        }
    }

    /// Whether one more client of that user is welcome. The owner's own (`qnet-netfs`) always find room.
    fn has_room_for(&self, identity: &PeerIdentity) -> bool {
        if identity.uid == owner() {
            return self.clients.len() < self.shares.clients + OWNERS_OWN;
        }
        let same = self.clients.values().filter(|client| client.identity.uid == identity.uid).count();
        self.clients.len() < self.shares.clients && same < self.shares.clients_of_user
    }

    /// Whether a call comes from a program of root or of the node's owner.
    pub(super) fn is_of_operator(&self, id: CallId) -> bool {
        let Some(Caller::Local { client, .. }) = self.calls.get(&id).map(|call| call.caller) else {
            return false;
        };
        self.clients
            .get(&client)
            .is_some_and(|client| matches!(client.identity.uid, uid if uid == 0 || uid == owner()))
    }

    /// Who a call comes from: the program itself.
    pub(super) fn claim_of(&self, id: CallId) -> Option<Claim> {
        let Some(Caller::Local { client, .. }) = self.calls.get(&id).map(|call| call.caller) else {
            return None;
        };
        caller(None, &self.clients.get(&client)?.identity, owner()).ok()
    }

    /// Reads what a client said, as far as its share goes.
    pub(super) fn read_client(&mut self, token: Token) {
        let blocked = self.is_blocked(token);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = PACKETS;
        while let Some(client) = self.clients.get_mut(&token) {
            // That nothing can be sent any more shows up below, behind what the client said.
            let _gone = client.peer.flush();
            if left == 0 || client.gauge.is_full() || blocked {
                client.settle();
                self.again.insert(token);
                break;
            }
            left -= 1;
            match client.peer.recv_lent(&mut buffer) {
                Ok(Some((packet, loan))) => {
                    self.on_client_packet(token, packet, loan);
                    self.spoke(token);
                    if self.is_blocked(token) {
                        left = 0;
                    }
                }
                Ok(None) => {
                    client.settle();
                    break;
                }
                Err(error) => {
                    if !matches!(error, PeerError::Closed) {
                        self.totals.clients_dropped += 1;
                        tracing::debug!("process {} at qnet.sock: {error}", client.identity.pid);
                    }
                    self.client_gone(token);
                    break;
                }
            }
        }
        self.buffer = buffer;
        self.tell_room(token);
    }

    /// Sends a packet to a client. One that does not read is dropped.
    pub(super) fn tell_client(&mut self, token: Token, packet: &ToClient<'_>) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        if let Err(PeerError::Full { queued }) = client.peer.send(packet) {
            tracing::warn!(
                "process {} does not read: {queued} bytes wait; it is dropped",
                client.identity.pid
            );
            self.totals.clients_dropped += 1;
            self.client_gone(token);
            return;
        }
        client.settle();
    }

    /// Passes an event on to a client. One that takes none loses them: nobody else may make it lose more.
    pub(super) fn tell_event(&mut self, client: Token, conn: u32, event: Sigevent) {
        if self.queued(client) < CLOGGED {
            self.tell_client(client, &ToClient::Event { conn, event });
        } else {
            self.totals.events_lost += 1;
        }
    }

    /// Whether a socket is left unread although more may be there.
    pub(super) fn is_clogged(&self, token: Token) -> bool {
        let client = self.clients.get(&token).map(|client| &client.gauge);
        let channel = self.channels.get(&token).map(|channel| &channel.gauge);
        client.or(channel).is_some_and(Gauge::is_full) || self.is_blocked(token)
    }

    /// Whether what a socket says would go where too much waits.
    pub(super) fn is_blocked(&self, token: Token) -> bool {
        self.blocked.get(&token).is_some_and(|&target| self.queued(target) >= CLOGGED)
    }

    fn queued(&self, token: Token) -> usize {
        let client = self.clients.get(&token).map(|client| client.peer.queued());
        client.or_else(|| Some(self.channels.get(&token)?.queued())).unwrap_or(0)
    }

    /// `source` sent something on to `target`: it is not read while too much waits there. The node's own server has
    /// many clients, of which none may hold up the others; a client that does not read it loses.
    pub(super) fn block(&mut self, source: Token, target: Token) {
        if self.server != Some(source) && self.queued(target) >= CLOGGED {
            self.blocked.insert(source, target);
        } else {
            self.blocked.remove(&source);
        }
    }

    /// Whether a client runs as the node's owner.
    pub(super) fn is_owners(&self, client: Token) -> bool {
        self.clients.get(&client).is_some_and(|client| client.identity.uid == owner())
    }

    fn client_gone(&mut self, token: Token) {
        let Some(client) = self.clients.remove(&token) else { return };
        self.blocked.remove(&token);
        self.accept_again |= std::mem::take(&mut self.accept_waits);
        for conn in client.conns.into_values() {
            self.front_gone(conn);
        }
    }

    /// `loan`: the data of the packet, if they were lent.
    fn on_client_packet(&mut self, token: Token, packet: ToServer<'_>, loan: Option<Loan>) {
        match packet {
            ToServer::Connect(connect) => self.client_connect(token, connect),
            ToServer::Send(send, data) => self.client_send(token, send, Load::of(data, loan)),
            ToServer::ReadData { txn, offset, data } => {
                self.client_read(token, txn, offset, Ok(Load::of(data, loan)));
            }
            ToServer::ReadError { txn, offset, errno } => self.client_read(token, txn, offset, Err(errno)),
            ToServer::Unblock { txn, tid } => {
                let Some(id) = self.client_call(token, txn) else { return };
                match self.back_of(id) {
                    Some(Back::Channel(channel)) => {
                        self.tell_channel(channel, &ToServer::Unblock { txn: id, tid });
                    }
                    Some(Back::Remote) => self.wire_unblock(id),
                    // A name that is being looked for.
                    Some(Back::Netmgr) => self.reply_error(id, libc::EINTR),
                    None => {}
                }
            }
            ToServer::Pulse(pulse) => self.client_pulse(token, pulse),
            ToServer::Disconnect { conn } => {
                let id = self.clients.get(&token).and_then(|client| client.conns.get(&conn)).copied();
                if let Some(id) = id {
                    self.front_gone(id);
                }
            }
            // A client is who it was when it connected; the owner's programs connect anew for somebody else.
            ToServer::Credentials { .. } => {}
        }
    }

    fn client_connect(&mut self, token: Token, connect: Connect) {
        let Some(client) = self.clients.get(&token) else { return };
        let conn = connect.conn;
        let refuse =
            |engine: &mut Self, errno| engine.tell_client(token, &ToClient::ConnectFail { conn, errno });
        if client.conns.contains_key(&conn) {
            return refuse(self, libc::EINVAL);
        }
        if client.conns.len() >= MAX_CONNS {
            return refuse(self, libc::EAGAIN);
        }
        let claim = match caller(connect.claim.clone(), &client.identity, owner()) {
            Ok(claim) => claim,
            Err(errno) => return refuse(self, errno),
        };
        self.totals.local_connects += 1;
        let id = self.fresh_id();
        let front = Front::Local { client: token, conn };
        // To itself the node needs no link, so no policy.
        let local = NodeId(connect.nd).node() == 0;
        let routed = match (local, connect.pid, connect.chid) {
            (true, 0, 0) => Ok(Back::Netmgr),
            (true, pid, chid) => self.open_channel((0, claim.pid), (pid, chid)).map(Back::Channel),
            (false, _, _) => self.wire_connect(id, &connect, &claim).map(|()| Back::Remote),
        };
        let back = match routed {
            Ok(back) => back,
            Err(errno) => return refuse(self, errno),
        };
        let open = back == Back::Netmgr;
        self.add_conn(id, front, back, open);
        if let Some(client) = self.clients.get_mut(&token) {
            client.conns.insert(conn, id);
        }
        match back {
            Back::Netmgr => self.tell_connected(id, front, 1, MAX_DATA as u32),
            Back::Channel(channel) => {
                let flags = connect.flags & 0xffff | right::ALL;
                let connect = Connect { conn: id, flags, claim: Some(claim), ..connect };
                self.tell_channel(channel, &ToServer::Connect(connect));
            }
            Back::Remote => {}
        }
    }

    fn client_send(&mut self, token: Token, send: Send, load: Load<'_>) {
        let Some(client) = self.clients.get(&token) else { return };
        if client.txns.contains_key(&send.txn) {
            // Two calls of one number cannot be told apart any more.
            tracing::debug!("process {} uses a number twice", client.identity.pid);
            self.totals.clients_dropped += 1;
            return self.client_gone(token);
        }
        // One that is not open yet takes messages, too: whoever opens it holds them until it is, or answers for it.
        let conn = match client.conns.get(&send.conn).copied() {
            Some(_) if client.txns.len() >= MAX_CALLS => Err(libc::EAGAIN),
            Some(conn) => Ok(conn),
            None => Err(libc::EBADF),
        };
        let conn = match conn {
            Ok(conn) => conn,
            Err(errno) => return self.tell_client(token, &ToClient::Error { txn: send.txn, errno }),
        };
        let gauge = client.gauge.clone();
        let caller = Caller::Local { client: token, txn: send.txn };
        let id = self.add_call(conn, caller, send.tid, send.srcmsglen);
        let back = self.conns.get(&conn).map(|conn| conn.back);
        let mut scratch = std::mem::take(&mut self.scratch);
        match back {
            Some(Back::Channel(channel)) => {
                let send = Send { txn: id, conn, ..send };
                self.channel_send(channel, send, load.bytes(&mut scratch));
                self.block(token, channel);
            }
            Some(Back::Remote) => self.wire_send(id, conn, &send, gauge.body(load)),
            Some(Back::Netmgr) => self.netmgr(id, &send, load.bytes(&mut scratch)),
            None => {}
        }
        self.scratch = scratch;
    }

    fn client_pulse(&mut self, token: Token, pulse: Pulse) {
        let id = self.clients.get(&token).and_then(|client| client.conns.get(&pulse.conn)).copied();
        let Some((id, conn)) = id.and_then(|id| Some((id, self.conns.get(&id)?))) else { return };
        match conn.back {
            Back::Channel(channel) => {
                self.tell_channel(channel, &ToServer::Pulse(Pulse { conn: id, ..pulse }))
            }
            Back::Remote => self.wire_pulse(id, &pulse),
            Back::Netmgr => {}
        }
    }

    /// A piece of a message that was asked for.
    fn client_read(&mut self, token: Token, txn: u32, offset: u32, load: Result<Load<'_>, i32>) {
        let Some(id) = self.client_call(token, txn) else { return };
        match (self.back_of(id), load) {
            (Some(Back::Channel(channel)), Ok(load)) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                let data = load.bytes(&mut scratch);
                self.tell_channel(channel, &ToServer::ReadData { txn: id, offset, data });
                self.scratch = scratch;
                self.block(token, channel);
            }
            (Some(Back::Channel(channel)), Err(errno)) => {
                self.tell_channel(channel, &ToServer::ReadError { txn: id, offset, errno });
            }
            (Some(Back::Remote), load) => {
                let Some(gauge) = self.clients.get(&token).map(|client| client.gauge.clone()) else { return };
                self.wire_read_data(id, offset, load, &gauge);
            }
            (Some(Back::Netmgr) | None, _) => {}
        }
    }

    fn client_call(&self, token: Token, txn: u32) -> Option<CallId> {
        self.clients.get(&token)?.txns.get(&txn).copied()
    }

    fn back_of(&self, call: CallId) -> Option<Back> {
        let conn = self.calls.get(&call)?.conn;
        self.conns.get(&conn).map(|conn| conn.back)
    }
}

impl LocalClient {
    /// Watches for writability exactly while something waits to be written.
    fn settle(&mut self) {
        self.allowance.set_queued(self.peer.queued());
        if self.writing != self.peer.wants_writable() {
            self.writing = self.peer.wants_writable();
            self.watched.set_writing(self.writing);
        }
    }
}

/// The uid that owns the node's root: ours.
fn owner() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Who a client of `qnet.sock` calls for: itself, or whomever the node's owner names.
fn caller(claim: Option<Claim>, identity: &PeerIdentity, owner: u32) -> Result<Claim, i32> {
    match claim {
        Some(claim) if identity.uid == owner => Ok(claim),
        Some(_) => Err(libc::EPERM),
        None => {
            let own = Claim::user(identity.uid, identity.gid, identity.groups.clone());
            // One that is gone, or of another PID namespace, has no session that could be told.
            let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(identity.pid)));
            let sid = session.ok().filter(|_| identity.pid > 0).map_or(0, nix::unistd::Pid::as_raw);
            Ok(Claim { pid: identity.pid, sid, ..own })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(uid: u32) -> PeerIdentity {
        PeerIdentity { pid: 9, uid, gid: 50, groups: vec![51], pidfd: None }
    }

    #[test]
    fn nobody_but_the_owner_speaks_for_others() {
        let claim = Claim { pid: 7, ..Claim::user(0, 0, vec![]) };
        assert_eq!(caller(Some(claim.clone()), &identity(1000), 1000), Ok(claim.clone()));
        assert_eq!(caller(Some(claim.clone()), &identity(1001), 1000), Err(libc::EPERM));
        assert_eq!(caller(Some(claim), &identity(0), 1000), Err(libc::EPERM), "not even root of elsewhere");
        let own = caller(None, &identity(1001), 1000).unwrap();
        assert_eq!((own.pid, own.ruid, own.euid, own.egid, own.groups), (9, 1001, 1001, 50, vec![51]));
    }
}
