//! Connections that the other node hears of with their first message (`ConnectAttach` succeeds even when it is off).
//!
//! ```text
//!   Attached ── Send ───► CONNECT_MSGSEND ─┐
//!            ── Pulse ──► CONNECT_PULSE ───┴► Connecting      a round trip less, to a node of ours whose session is up
//!            ── either ─► CONNECT ──────────► Connecting      to any other: the message or pulse is held
//! ```
//!
//! What a node can read is known once its session is up, so the first connection of all goes the long way.

use crate::command::{ClientId, PulseInfo, VtidInfo};
use crate::event::NodeId;
use crate::session::message::Message;
use crate::session::order::{Class, GateKey};
use crate::source::{Body, Source};
use crate::time::Instant;
use crate::wire::groups;
use crate::wire::kif::{self, ClientInfo, Connect, Kif, MsgSend};
use crate::wire::tlv::ABILITY_CONNECT_PULSE;

use super::tables::{Client, ClientState, Held, SendState};
use super::{CommandError, Node};

/// Bytes of a message that may go with a connect: QNX's own limit, which nobody has told us otherwise yet.
const FIRST: u32 = 8192;
/// The place of a number that the server's node has yet to give.
pub(super) const NO_SERVER: u32 = u32::MAX;

impl Node {
    /// Notes a connection that nobody else hears of yet.
    pub(super) fn attach(
        &mut self,
        key: ClientId,
        nd: NodeId,
        server: (i32, i32),
        cred: ClientInfo,
    ) -> Result<(), CommandError> {
        self.attached(key, nd, server, cred).map(drop)
    }

    /// The number of a new connection that nobody else hears of yet.
    pub(super) fn attached(
        &mut self,
        key: ClientId,
        nd: NodeId,
        (server_pid, server_chid): (i32, i32),
        cred: ClientInfo,
    ) -> Result<u32, CommandError> {
        if self.clients.by_client.contains_key(&key) {
            return Err(CommandError::KeyInUse);
        }
        let (nd, qos) = (nd.node(), nd.qos_index());
        if self.qos.get(qos).is_none() || self.peers.get(nd).is_none() {
            return Err(CommandError::NoSuchNode);
        }
        let connect = Connect {
            version: kif::VERSION,
            server_pid,
            server_chid,
            client_id: 0,
            client_pid: cred.pid,
            cred: Some(cred),
        };
        let state = ClientState::Attached { connect: Box::new(connect) };
        let client = Client { key, nd, qos, state, sends: Default::default() };
        let number = self.clients.connections.insert(client).ok_or(CommandError::Busy)?;
        self.clients.by_client.insert(key, number);
        Ok(number)
    }

    /// The connect of a connection that was waiting for a reason to send it.
    pub(super) fn leave_attached(&mut self, number: u32) -> Option<Box<Connect>> {
        let connection = self.clients.connections.get_mut(number).filter(|client| client.is_attached())?;
        let nd = connection.nd;
        let state = std::mem::replace(&mut connection.state, ClientState::Connecting { held: Vec::new() });
        let ClientState::Attached { mut connect } = state else { return None };
        connect.client_id = number;
        if let (Some(cred), Some(peer)) = (&mut connect.cred, self.peers.get(nd)) {
            cred.nd = peer.their_nd.into();
        }
        Some(connect)
    }

    /// Sends a connect, perhaps with more in it.
    pub(super) fn say_connect(&mut self, now: Instant, number: u32, connect: Option<Kif>, data: Body) {
        let data = match &connect {
            Some(Kif::Connect(Connect { cred: Some(cred), .. })) => Body::Bytes(groups::emit(cred)),
            _ => data,
        };
        let client = self.clients.connections.get(number).map(|client| (client.nd, client.qos));
        let (Some(connect), Some((nd, qos))) = (connect, client) else { return };
        let message = Message::kif(&connect, data);
        // What comes after it waits for its answer, but for an UNBLOCK of what it brings along.
        let message = message.map(|m| m.by(qos).behind(GateKey::Client(number), Class::Free));
        self.send_message(now, nd, message);
    }

    /// The first message of a connection: sent with the connect if the other node can read that. Given back when it is to be
    /// treated as any other.
    pub(super) fn send_attached(
        &mut self,
        now: Instant,
        client: u32,
        transaction: u32,
        first: Body,
    ) -> Option<Body> {
        let Some(connect) = self.leave_attached(client) else { return Some(first) };
        let nd = self.clients.connections.get(client).map_or(0, |client| client.nd);
        // a connect with groups behind it is full
        let ours = self.abilities(nd).is_some() && !has_more_groups(&connect);
        let Some(send) = self.clients.sends.get_mut(transaction).filter(|_| ours) else {
            self.say_connect(now, client, Some(Kif::Connect(*connect)), Body::empty());
            return Some(first);
        };
        send.state = SendState::Sent;
        let first = first.cut(u64::from(FIRST.min(send.info.srcmsglen)));
        let message = MsgSend {
            server_id: NO_SERVER,
            client_handle: transaction,
            info: VtidInfo { srcnd: nd.into(), ..send.info },
            nbytes: first.len() as u32, // bounded by FIRST
        };
        self.say_connect(now, client, Some(Kif::ConnectMsgSend(*connect, message)), first);
        None
    }

    /// The first thing sent on a connection is a pulse.
    pub(super) fn pulse_attached(&mut self, now: Instant, client: u32, info: VtidInfo, pulse: PulseInfo) {
        let Some(connect) = self.leave_attached(client) else { return };
        let Some(connection) = self.clients.connections.get_mut(client) else { return };
        let nd = connection.nd;
        let abilities = self.abilities(nd).filter(|_| !has_more_groups(&connect));
        let first = if abilities.is_some_and(|abilities| abilities & ABILITY_CONNECT_PULSE != 0) {
            Kif::ConnectPulse(*connect, pulse)
        } else {
            if let Some(Client { state: ClientState::Connecting { held }, .. }) =
                self.clients.connections.get_mut(client)
            {
                held.push(Held::Pulse(info, pulse));
            }
            Kif::Connect(*connect)
        };
        self.say_connect(now, client, Some(first), Body::empty());
    }
}

/// Whether the client has more groups than the credentials hold.
fn has_more_groups(connect: &Connect) -> bool {
    connect.cred.as_ref().is_some_and(|cred| cred.groups.len() > kif::MAX_GROUPS)
}
