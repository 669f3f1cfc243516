//! Front: processes of other nodes that call servers of this one.
//!
//! Who a caller becomes, and which channels it may reach, is decided here, once for each connection.

use qnet_ipc::{
    MAX_DATA, ToServer,
    packet::{self, info, right},
};
use qnet_proto::{
    Buffer, ClientInfo, Command, Data, Errno, NodeId, Outlet, PulseInfo, Rcv, ServerId, VtidInfo,
};

use super::{Back, Call, CallId, Caller, Engine, Front, Piece, Stage, Token, to_wire, wire::errno_of};

/// `_NTO_CHF_UNBLOCK`: the server decides whether a caller whose message it received may leave.
const CHF_UNBLOCK: u32 = 0x2;

/// Who calls from another node, as that node says.
#[derive(Debug)]
pub(super) struct RemoteCaller {
    pub(super) nd: NodeId,
    /// Its process there.
    pub(super) pid: i32,
    pub(super) cred: Option<ClientInfo>,
    pub(super) big_endian: bool,
}

impl Engine {
    /// A process of another node wants to connect.
    pub(super) fn remote_connect(
        &mut self,
        server: ServerId,
        (pid, chid): (i32, i32),
        caller: &RemoteCaller,
    ) {
        let nd = caller.nd;
        let (mut claim, rights) = self.access.map(caller.cred.as_ref());
        (claim.nd, claim.pid) = (nd.0, caller.pid);
        let own_server = (pid, chid) == (1, 1);
        if !own_server && !rights.connect {
            self.say_refusal(nd, pid, chid);
            self.totals.remote_refused += 1;
            return self.command(Command::Reject { server, errno: to_wire(libc::EPERM) });
        }
        let channel = match self.open_channel((nd.node(), claim.pid), (pid, chid)) {
            Ok(channel) => channel,
            Err(errno) => {
                self.totals.remote_refused += 1;
                return self.command(Command::Reject { server, errno: to_wire(errno) });
            }
        };
        self.totals.remote_connects += 1;
        let id = self.fresh_id();
        let front = Front::Remote { server, nd: nd.node(), big_endian: caller.big_endian };
        self.add_conn(id, front, Back::Channel(channel), false);
        let flags = rights.flags() & right::ALL;
        let connect = packet::Connect { conn: id, nd: nd.0, pid, chid, flags, claim: Some(claim) };
        self.tell_channel(channel, &ToServer::Connect(connect));
    }

    /// A message for a server of this node.
    pub(super) fn remote_message(&mut self, rcv: Rcv, server: ServerId, from: &VtidInfo, data: &Data) {
        let conn = self.by_server.get(&server).copied();
        let ends = conn.and_then(|id| self.conns.get(&id)).map(|conn| (conn.front, conn.back));
        let (Some(conn), Some((front, Back::Channel(channel)))) = (conn, ends) else {
            return self.command(Command::Error { rcv, errno: Errno::EBADF });
        };
        let big_endian = matches!(front, Front::Remote { big_endian: true, .. });
        let id = self.add_call(conn, Caller::Remote { rcv }, from.tid, from.srcmsglen);
        let send = packet::Send {
            txn: id,
            conn,
            tid: from.tid,
            coid: from.coid,
            priority: from.priority,
            srcmsglen: from.srcmsglen,
            dstmsglen: from.dstmsglen,
            keydata: from.keydata.cast_unsigned(),
            srcnd: from.srcnd,
            flags: endian(big_endian) | info::TELL_RECEIVED,
        };
        let first = data.len().min(MAX_DATA).min(from.srcmsglen as usize);
        self.channel_send(channel, send, &data[..first]);
    }

    /// Asks the caller's node for the pieces of its message that the server waits for, in order, as far as there is
    /// room for them.
    pub(super) fn fetch(&mut self, token: Token, id: CallId) {
        let Some(nd) = self.node_of(id) else { return };
        loop {
            let (Some(channel), Some(call)) = (self.channels.get_mut(&token), self.calls.get_mut(&id)) else {
                return;
            };
            let Caller::Remote { rcv } = call.caller else { return };
            let waiting = |piece: &Piece| matches!(piece.stage, Stage::Waiting);
            let Some(at) = call.reads.iter().position(waiting) else { break };
            if !channel.may_fetch(nd) {
                if !channel.waiting.contains(&id) {
                    channel.waiting.push_back(id);
                }
                break;
            }
            let piece = &mut call.reads[at];
            let (offset, nbytes) = (piece.offset, piece.nbytes);
            let buffer = Buffer::new(offset.into(), nbytes as usize);
            let into = Outlet::new(buffer.clone());
            let command = Command::Read { rcv, offset, nbytes, into };
            piece.stage = match self.node.handle_command(self.now, command) {
                Ok(()) => {
                    channel.count_fetching(nd, nbytes as usize, 0);
                    Stage::Asked(buffer)
                }
                Err(error) => Stage::Done(Err(errno_of(error))),
            };
        }
        self.pass_reads(token, id);
    }

    /// There may be room for reads that wait.
    pub(super) fn fetch_more(&mut self, token: Token) {
        let Some(channel) = self.channels.get_mut(&token) else { return };
        for id in std::mem::take(&mut channel.waiting) {
            self.fetch(token, id);
        }
    }

    /// Gives the server the pieces that are there: in the order in which it asked.
    fn pass_reads(&mut self, token: Token, txn: CallId) {
        while let Some(call) = self.calls.get_mut(&txn) {
            if !matches!(call.reads.front(), Some(Piece { stage: Stage::Done(_), .. })) {
                return;
            }
            let Some(Piece { offset, stage: Stage::Done(outcome), .. }) = call.reads.pop_front() else {
                return;
            };
            match outcome {
                Ok(data) => self.tell_channel(token, &ToServer::ReadData { txn, offset, data: &data }),
                Err(errno) => self.tell_channel(token, &ToServer::ReadError { txn, offset, errno }),
            }
        }
    }

    /// A piece of a caller's message arrived, or cannot be had.
    pub(super) fn remote_read_done(&mut self, rcv: Rcv, offset: u32, outcome: Result<u32, i32>) {
        let Some((id, token)) = self.remote_call(rcv) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let this = |piece: &&mut Piece| piece.offset == offset && matches!(piece.stage, Stage::Asked(_));
        let Some(piece) = call.reads.iter_mut().find(this) else { return };
        let nbytes = piece.nbytes as usize;
        let stage = std::mem::replace(&mut piece.stage, Stage::Done(Err(libc::EIO)));
        if let Stage::Asked(buffer) = stage {
            piece.stage = Stage::Done(outcome.map(|got| {
                let mut bytes = buffer.take();
                bytes.truncate(got as usize);
                bytes
            }));
        }
        if let (Some(nd), Some(channel)) = (self.node_of(id), self.channels.get_mut(&token)) {
            channel.count_fetching(nd, 0, nbytes);
        }
        self.pass_reads(token, id);
        self.fetch_more(token);
    }

    /// A call is over: what was fetched for it does not count any more.
    pub(super) fn reads_over(&mut self, call: &Call) {
        let conn = self.conns.get(&call.conn).map(|conn| (conn.front, conn.back));
        let Some((Front::Remote { nd, .. }, Back::Channel(token))) = conn else { return };
        let Some(channel) = self.channels.get_mut(&token) else { return };
        let asked = call.reads.iter().filter(|piece| matches!(piece.stage, Stage::Asked(_)));
        let bytes: usize = asked.map(|piece| piece.nbytes as usize).sum();
        channel.count_fetching(nd, 0, bytes);
        if bytes > 0 && !channel.waiting.is_empty() {
            self.again.insert(token);
        }
    }

    /// A caller wants to leave, by the rule of a caller on this node: at once while its message was not received, or if the
    /// channel does not ask to be told first. A server that is stopped holds nobody so.
    pub(super) fn remote_unblock(&mut self, rcv: Rcv) {
        let Some((id, channel)) = self.remote_call(rcv) else { return };
        let Some(call) = self.calls.get(&id) else { return };
        let (tid, received) = (call.tid, call.received);
        let flags = self.conns.get(&call.conn).and_then(|conn| conn.channel);
        self.tell_channel(channel, &ToServer::Unblock { txn: id, tid });
        if flags.is_some_and(|flags| !received || flags & CHF_UNBLOCK == 0) {
            self.reply_error(id, libc::EINTR);
        }
    }

    /// A pulse for a server of this node.
    pub(super) fn remote_pulse(&mut self, server: ServerId, pulse: &PulseInfo) {
        let Some(id) = self.by_server.get(&server).copied() else { return };
        let Some(Back::Channel(channel)) = self.conns.get(&id).map(|conn| conn.back) else { return };
        let PulseInfo { code, value, priority } = *pulse;
        let pulse = packet::Pulse { conn: id, code, priority, value };
        self.tell_channel(channel, &ToServer::Pulse(pulse));
    }

    /// A caller is somebody else from now on: the server is told who, and what that one may do, as if it had connected so.
    pub(super) fn remote_credentials(&mut self, server: ServerId, cred: &ClientInfo) {
        let Some(conn) = self.by_server.get(&server).copied() else { return };
        let Some(Back::Channel(channel)) = self.conns.get(&conn).map(|conn| conn.back) else { return };
        let (mut claim, rights) = self.access.map(Some(cred));
        claim.nd = cred.nd;
        let flags = rights.flags() & right::ALL;
        self.tell_channel(channel, &ToServer::Credentials { conn, flags, claim });
    }

    /// A caller is gone.
    pub(super) fn remote_disconnect(&mut self, server: ServerId) {
        if let Some(id) = self.by_server.get(&server).copied() {
            self.front_gone(id);
        }
    }

    /// The node that a call came from.
    fn node_of(&self, id: CallId) -> Option<u16> {
        match self.conns.get(&self.calls.get(&id)?.conn)?.front {
            Front::Remote { nd, .. } => Some(nd),
            Front::Local { .. } | Front::Signal => None,
        }
    }

    fn remote_call(&self, rcv: Rcv) -> Option<(CallId, super::Token)> {
        let id = *self.by_rcv.get(&rcv)?;
        let conn = self.calls.get(&id)?.conn;
        match self.conns.get(&conn)?.back {
            Back::Channel(channel) => Some((id, channel)),
            Back::Remote | Back::Netmgr => None,
        }
    }

    /// Says once which option would let callers in.
    pub(super) fn say_refusal(&mut self, nd: NodeId, pid: i32, chid: i32) {
        let name = self.node.nodes().find(|view| view.nd == nd).map(|view| view.name.to_string());
        let name = name.unwrap_or_else(|| format!("nd {}", nd.0));
        let text = format!(
            "node {name} may not connect to channel {chid} of process {pid}: allow=connect, maproot= or mapany= would let it"
        );
        if std::mem::replace(&mut self.told_refusal, true) {
            tracing::debug!("{text}");
        } else {
            tracing::warn!("{text} (said once)");
        }
    }
}

/// The flags of a message whose sender's numbers are big-endian or not.
pub(super) fn endian(big: bool) -> u32 {
    let differs = big != cfg!(target_endian = "big");
    (if big { info::ENDIAN_BIG } else { 0 }) | (if differs { info::ENDIAN_DIFF } else { 0 })
}
