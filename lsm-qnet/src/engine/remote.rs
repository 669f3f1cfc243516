//! Front: processes of other nodes that call servers of this one.
//!
//! Who a caller becomes, and which channels it may reach, is decided here, once for each connection.

use qnet_ipc::{
    MAX_DATA, ToServer,
    packet::{self, right},
};
use qnet_proto::{ClientInfo, Command, Data, Errno, NodeId, PulseInfo, Rcv, ServerId, VtidInfo};

use super::{Back, CallId, Caller, Engine, Front, from_wire, to_wire};

impl Engine {
    /// A process of another node wants to connect.
    pub(super) fn remote_connect(
        &mut self,
        server: ServerId,
        nd: NodeId,
        (pid, chid): (i32, i32),
        cred: Option<&ClientInfo>,
    ) {
        let (mut claim, rights) = self.access.map(cred);
        claim.nd = nd.0;
        let own_server = (pid, chid) == (1, 1);
        if !own_server && !rights.connect {
            self.say_refusal(nd, pid, chid);
            self.totals.remote_refused += 1;
            return self.command(Command::Reject { server, errno: to_wire(libc::EPERM) });
        }
        let channel = match self.open_channel(pid, chid) {
            Ok(channel) => channel,
            Err(errno) => {
                self.totals.remote_refused += 1;
                return self.command(Command::Reject { server, errno: to_wire(errno) });
            }
        };
        self.totals.remote_connects += 1;
        let id = self.fresh_id();
        self.add_conn(id, Front::Remote { server }, Back::Channel(channel), false);
        let flags = rights.flags() & right::ALL;
        let connect = packet::Connect { conn: id, nd: nd.0, pid, chid, flags, claim: Some(claim) };
        self.tell_channel(channel, &ToServer::Connect(connect));
    }

    /// A message for a server of this node.
    pub(super) fn remote_message(&mut self, rcv: Rcv, server: ServerId, info: &VtidInfo, data: &Data) {
        let conn = self.by_server.get(&server).copied();
        let back = conn.and_then(|id| self.conns.get(&id)).map(|conn| conn.back);
        let (Some(conn), Some(Back::Channel(channel))) = (conn, back) else {
            return self.command(Command::Error { rcv, errno: Errno::EBADF });
        };
        let id = self.add_call(conn, Caller::Remote { rcv }, info.tid, info.srcmsglen);
        let send = packet::Send {
            txn: id,
            conn,
            tid: info.tid,
            coid: info.coid,
            priority: info.priority,
            srcmsglen: info.srcmsglen,
            dstmsglen: info.dstmsglen,
            keydata: info.keydata.cast_unsigned(),
        };
        let first = data.len().min(MAX_DATA).min(info.srcmsglen as usize);
        self.channel_send(channel, send, &data[..first]);
    }

    /// Asks the caller's node for a piece of its message.
    pub(super) fn remote_read(&mut self, id: CallId, rcv: Rcv, offset: u32, nbytes: u32) {
        let command = Command::Read { rcv, offset, nbytes };
        if self.node.handle_command(self.now, command).is_err() {
            self.remote_read_error(rcv, offset, libc::ESRCH);
            tracing::debug!("call {id} is over on the other node");
        }
    }

    /// A piece of a caller's message arrived.
    pub(super) fn remote_read_data(&mut self, rcv: Rcv, offset: u32, data: &Data) {
        let Some((id, channel)) = self.remote_call(rcv) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let at = |piece: &super::Piece| piece.offset + piece.got.len() as u32 == offset;
        let Some(index) = call.reads.iter().position(at) else { return };
        let piece = &mut call.reads[index];
        if piece.got.is_empty() && data.len() >= piece.nbytes as usize {
            // The usual case: all of it at once, passed on without a copy.
            let (offset, nbytes) = (piece.offset, piece.nbytes as usize);
            call.reads.remove(index);
            return self
                .tell_channel(channel, &ToServer::ReadData { txn: id, offset, data: &data[..nbytes] });
        }
        let room = piece.nbytes as usize - piece.got.len();
        piece.got.extend_from_slice(&data[..data.len().min(room)]);
        // An empty piece says that there is no more.
        if piece.got.len() == piece.nbytes as usize || data.is_empty() {
            let Some(piece) = call.reads.remove(index) else { return };
            self.tell_channel(
                channel,
                &ToServer::ReadData { txn: id, offset: piece.offset, data: &piece.got },
            );
        }
    }

    /// A piece of a caller's message cannot be had.
    pub(super) fn remote_read_error(&mut self, rcv: Rcv, offset: u32, errno: i32) {
        let Some((id, channel)) = self.remote_call(rcv) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let within = |piece: &super::Piece| (piece.offset..piece.offset + piece.nbytes).contains(&offset);
        let Some(index) = call.reads.iter().position(within) else { return };
        let Some(piece) = call.reads.remove(index) else { return };
        self.tell_channel(channel, &ToServer::ReadError { txn: id, offset: piece.offset, errno });
    }

    /// A caller wants to leave.
    pub(super) fn remote_unblock(&mut self, rcv: Rcv) {
        let Some((id, channel)) = self.remote_call(rcv) else { return };
        let tid = self.calls.get(&id).map_or(0, |call| call.tid);
        self.tell_channel(channel, &ToServer::Unblock { txn: id, tid });
    }

    /// A pulse for a server of this node.
    pub(super) fn remote_pulse(&mut self, server: ServerId, pulse: &PulseInfo) {
        let Some(id) = self.by_server.get(&server).copied() else { return };
        let Some(Back::Channel(channel)) = self.conns.get(&id).map(|conn| conn.back) else { return };
        let value = u64::from(pulse.value.cast_unsigned());
        let pulse = packet::Pulse { conn: id, code: pulse.code, priority: pulse.priority, value };
        self.tell_channel(channel, &ToServer::Pulse(pulse));
    }

    /// A caller is gone.
    pub(super) fn remote_disconnect(&mut self, server: ServerId) {
        if let Some(id) = self.by_server.get(&server).copied() {
            self.front_gone(id);
        }
    }

    /// The errno of a failed read, as this machine has it.
    pub(super) fn on_read_error(&mut self, rcv: Rcv, offset: u32, errno: Errno) {
        self.remote_read_error(rcv, offset, from_wire(errno));
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
