//! The rarer verbs: another node's number for a node, events for a client, signals for a process.
//!
//! None of them blocks a sender in the core. An event and a signal are handed over and forgotten, as the
//! kernel's calls do; a question about a number is answered, or fails with the session.

use crate::command::{ClientId, Errno, ServerId, Sigevent, SignalInfo};
use crate::event::{Event, NodeId};
use crate::names::Fqnn;
use crate::session::message::Message;
use crate::session::order::{Class, GateKey};
use crate::source::Body;
use crate::time::Instant;
use crate::wire::kif::{ClientInfo, Kif};
use crate::wire::lwl4::Layer;
use crate::wire::nr::Nr;
use crate::wire::{Order, WireError};

use super::frames::Incoming;
use super::{CommandError, Node};

/// Questions to other nodes that may be unanswered; beyond: `Busy`.
const MAX_QUESTIONS: usize = 1024;
/// In an EVENT of ours: what follows is the number of a connection, not of a transaction.
const CONNECTION: u32 = 1 << 31;
/// Room for every NR message.
const LONGEST: usize = 4 + 256;

/// A question to another node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    nd: u16,
    token: u64,
}

impl Node {
    // ---- numbers ----

    /// Asks a node for its number for another.
    pub(super) fn remote_nd(
        &mut self,
        now: Instant,
        token: u64,
        nd: NodeId,
        name: &str,
    ) -> Result<(), CommandError> {
        let nd = nd.node();
        self.peers.get(nd).ok_or(CommandError::NoSuchNode)?;
        self.check_queue(nd)?;
        if self.questions.len() >= MAX_QUESTIONS {
            return Err(CommandError::Busy);
        }
        let mut bytes = [0; LONGEST];
        let id = loop {
            let id = self.new_id() as u16; // the low half is as good
            if !self.questions.contains_key(&id) {
                break id;
            }
        };
        let request = Nr::RemoteRequest { id, name };
        let len = request.emit(&mut bytes, Order::Little).map_err(|_| CommandError::BadName)?;
        self.questions.insert(id, Question { nd, token });
        self.send_message(now, nd, Message::plain(Layer::Nr, &bytes[..len]));
        Ok(())
    }

    /// A message of the network resolver, in the sequence.
    pub(super) fn on_nr(&mut self, now: Instant, incoming: &Incoming<'_>) -> Result<(), WireError> {
        let answer = match Nr::parse(&incoming.bytes, incoming.order)? {
            Nr::PingRequest => Nr::PingAnswer,
            Nr::EchoRequest { id } => Nr::EchoAnswer { id },
            Nr::RemoteRequest { id, name } => self.remote_answer(id, name),
            Nr::RemoteAnswer { id, nd } => {
                self.on_remote_answer(incoming.nd, id, Ok(nd));
                return Ok(());
            }
            Nr::RemoteError { id, status } => {
                self.on_remote_answer(incoming.nd, id, Err(Errno(status)));
                return Ok(());
            }
            Nr::PingAnswer | Nr::EchoAnswer { .. } => return Ok(()),
        };
        let mut bytes = [0; 8];
        let len = answer.emit(&mut bytes, Order::Little)?;
        self.send_message(now, incoming.nd, Message::plain(Layer::Nr, &bytes[..len]));
        Ok(())
    }

    /// This node's number for a name.
    fn remote_answer(&self, id: u16, name: &str) -> Nr<'static> {
        let found = Fqnn::parse(name, &self.config.domain)
            .ok()
            .and_then(|name| if name == self.own { Some(0) } else { self.peers.find(&name) });
        match found {
            Some(nd) => Nr::RemoteAnswer { id, nd: nd.into() },
            None => Nr::RemoteError { id, status: Errno::ENOENT.0 },
        }
    }

    fn on_remote_answer(&mut self, nd: u16, id: u16, outcome: Result<u32, Errno>) {
        // Nobody answers for another node.
        if self.questions.get(&id).is_some_and(|question| question.nd == nd)
            && let Some(Question { token, .. }) = self.questions.remove(&id)
        {
            self.event(Event::RemoteNd { token, outcome });
        }
    }

    /// The node's session is over: what it was asked stays unanswered.
    pub(super) fn questions_down(&mut self, nd: u16, errno: Errno) {
        let asked = self.questions.iter().filter(|(_, question)| question.nd == nd);
        for id in asked.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.on_remote_answer(nd, id, Err(errno));
        }
    }

    /// What a node of our kind can do, as far as its session tells; `None`: it is plain, or nothing is known yet.
    pub(super) fn abilities(&self, nd: u16) -> Option<u32> {
        let session = self.peers.get(nd)?.session.as_ref()?;
        session.extensions.as_ref().map(|extensions| extensions.abilities)
    }

    // ---- events ----

    /// Hands an event to the node of a connection's client.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        server: ServerId,
        sigevent: Sigevent,
    ) -> Result<(), CommandError> {
        let connection = self.servers.connections.get(server.0).ok_or(CommandError::NoSuchConnection)?;
        let (nd, client_id, last) = (connection.nd, connection.client_id, connection.last_handle);
        self.check_queue(nd)?;
        // A plain node knows its transactions only, and half of the value.
        let (client_handle, value) = match self.abilities(nd) {
            Some(_) => (client_id | CONNECTION, sigevent.value),
            None => (last, sigevent.value & u64::from(u32::MAX)),
        };
        let sigevent = Sigevent { value, ..sigevent };
        let message = Message::kif(&Kif::Event { client_handle, sigevent }, Body::empty());
        let message = message
            .map(|m| m.behind(GateKey::Events(server.0), Class::Ordered).counted(GateKey::Server(server.0)));
        self.send_message(now, nd, message);
        Ok(())
    }

    /// An event arrived for a client of this node.
    pub(super) fn on_sigevent(&mut self, nd: u16, client_handle: u32, sigevent: Sigevent) {
        let number = match client_handle & CONNECTION {
            0 => self.clients.client_of(nd, client_handle),
            _ => Some(client_handle & !CONNECTION),
        };
        let client = number.and_then(|number| self.clients.connections.get(number));
        let key: Option<ClientId> = client.filter(|client| client.nd == nd).map(|client| client.key);
        if let Some(client) = key {
            self.event(Event::Sigevent { client, sigevent });
        }
    }

    // ---- signals ----

    /// Sends a signal to a process of another node.
    pub(super) fn signal(
        &mut self,
        now: Instant,
        nd: NodeId,
        signal: SignalInfo,
        mut cred: ClientInfo,
    ) -> Result<(), CommandError> {
        let nd = nd.node();
        let peer = self.peers.get(nd).ok_or(CommandError::NoSuchNode)?;
        cred.nd = peer.their_nd.into();
        self.check_queue(nd)?;
        let SignalInfo { pid, tid, signo, code, value } = signal;
        let message = Kif::Signal { client_handle: 0, pid, tid, signo, code, value, cred: Some(cred) };
        self.send_message(now, nd, Message::kif(&message, Body::empty()));
        Ok(())
    }

    /// A signal arrived for a process of this node.
    pub(super) fn on_signal(&mut self, nd: u16, signal: SignalInfo, cred: Option<ClientInfo>) {
        let nd = NodeId(nd.into());
        // What the sender's node calls itself means nothing here.
        let cred = cred.map(|cred| ClientInfo { nd: nd.0, ..cred });
        self.event(Event::Signal { nd, signal, cred });
    }
}
