//! Signals between nodes: out by the network manager (`SignalKill`), in to the node's server, which has the processes.
//!
//! A signal from another node is a message to `qnet-server` on a connection of its own, under the identity and with the rights
//! that its sender is given here; nobody waits for the outcome.
//!
//! ```text
//!   program ── netmgr SIGNAL ──► KIF SIGNAL ──► node       node ── KIF SIGNAL ──► Connect, Send, … Disconnect ──► qnet-server
//! ```

use qnet_iomsg::{netmgr, signal};
use qnet_ipc::{
    ToServer,
    packet::{Connect, Send, right},
};
use qnet_proto::{ClientInfo, Command, NodeId, SignalInfo};

use super::{Back, CallId, Caller, Engine, Front, wire::client_info, wire::errno_of};

/// Signals of other nodes under way; beyond, they are lost.
const MAX_SIGNALS: usize = 256;

impl Engine {
    /// A program signals a process of another node.
    pub(super) fn signal(&mut self, id: CallId, signal: &netmgr::Signal) {
        let Some(claim) = self.claim_of(id) else { return };
        let nd = NodeId(signal.nd);
        if nd.node() == NodeId::LOCAL.node() {
            // Its own node's processes are signalled by kill(2).
            return self.reply_error(id, libc::EINVAL);
        }
        let netmgr::Signal { pid, tid, signo, code, value, .. } = *signal;
        let signal = SignalInfo { pid, tid, signo, code, value };
        match self.node.handle_command(self.now, Command::Signal { nd, signal, cred: client_info(&claim) }) {
            Ok(()) => self.reply(id, 0, 0, &[]),
            Err(error) => self.reply_error(id, errno_of(error)),
        }
    }

    /// A process of another node signals one of this node.
    pub(super) fn remote_signal(&mut self, nd: NodeId, signal: &SignalInfo, cred: Option<&ClientInfo>) {
        let Some(server) = self.server else { return };
        let under_way = self.conns.values().filter(|conn| conn.front == Front::Signal).count();
        if under_way >= MAX_SIGNALS {
            return tracing::debug!("a signal from {nd:?} is lost: {under_way} are under way");
        }
        let (mut claim, rights) = self.access.map(cred);
        claim.nd = nd.0;
        let conn = self.fresh_id();
        self.add_conn(conn, Front::Signal, Back::Channel(server), false);
        let flags = rights.flags() & right::ALL;
        let connect = Connect { conn, nd: 0, pid: 1, chid: 1, flags, claim: Some(claim) };
        self.tell_channel(server, &ToServer::Connect(connect));
        let SignalInfo { pid, tid, signo, code, value } = *signal;
        // `value` is 32 bits on the wire.
        let value = u64::from(value.cast_unsigned());
        let message = signal::Request { signo, pid, tid, code, value }.emit();
        let srcmsglen = message.len() as u32;
        let txn = self.add_call(conn, Caller::Nobody, 1, srcmsglen);
        self.channel_send(server, Send { txn, conn, tid: 1, srcmsglen, ..Send::default() }, &message);
    }

    /// What came of a signal.
    pub(super) fn signalled(&mut self, id: CallId, outcome: Result<(), i32>) {
        if let Err(errno) = outcome {
            let why = nix::errno::Errno::from_raw(errno);
            tracing::info!("a signal from another node was not delivered: {}", why.desc());
        }
        if let Some(conn) = self.calls.get(&id).map(|call| call.conn) {
            self.front_gone(conn);
        }
    }
}
