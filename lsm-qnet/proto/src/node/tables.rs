//! What is open at the kernel interface: connections and transactions of both sides.
//!
//! Only bookkeeping: which numbers exist, who owns them, what ends with what. The behaviour is in
//! `client.rs` and `server.rs`. Removing an owner removes what it owns, here and nowhere else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::command::{ClientId, Handle, PulseInfo, VtidInfo};
use crate::event::Data;
use crate::session::ranges::Ranges;
use crate::sink::Outlet;
use crate::source::Body;
use crate::table::Table;
use crate::time::Instant;
use crate::wire::kif::{Connect, MsgSend, Xfer};

/// Something sent before the connection was there.
#[derive(Debug)]
pub(super) enum Held {
    /// A message: the number of its transaction.
    Send(u32, Body),
    /// A pulse.
    Pulse(VtidInfo, PulseInfo),
}

/// Where a client-side connection stands.
#[derive(Debug)]
pub(super) enum ClientState {
    /// Nothing was sent, and nothing will be before there is something to send.
    Attached {
        /// What will be.
        connect: Box<Connect>,
    },
    /// CONNECT was sent.
    Connecting {
        /// What waits for the answer, in order.
        held: Vec<Held>,
    },
    /// CONNECT was sent, and the client is gone: close it as soon as it is there.
    Abandoned {
        /// The pulses that it sent before.
        pulses: Vec<(VtidInfo, PulseInfo)>,
    },
    /// Open.
    Open {
        /// The server node's number.
        server_id: u32,
        /// Most bytes of a first chunk.
        limit: u32,
    },
}

/// A client-side connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) key: ClientId,
    pub(super) nd: u16,
    /// Index of its quality of service.
    pub(super) qos: u16,
    pub(super) state: ClientState,
    pub(super) sends: BTreeSet<u32>,
}

impl Client {
    /// Whether the other node has not heard of it.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.state, ClientState::Attached { .. })
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, ClientState::Open { .. })
    }

    /// Whether that node is to answer its CONNECT.
    pub(super) fn awaits(&self, nd: u16) -> bool {
        self.nd == nd && !self.is_attached() && !self.is_open()
    }
}

/// A MSGREAD of the server that is not answered in full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) msgread_handle: u32,
    pub(super) offset: u32,
    pub(super) end: u32,
    /// Bytes still to come.
    pub(super) left: u32,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendState {
    /// Its connection is not there yet.
    Held,
    /// On its way, at the server, or being answered.
    Sent,
    /// And the sender wants to leave.
    Unblocking,
}

/// A client-side transaction: a blocked sender.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) key: Handle,
    pub(super) client: u32,
    pub(super) info: VtidInfo,
    pub(super) state: SendState,
    pub(super) asked: Vec<Asked>,
    /// Its reply buffer.
    pub(super) outlet: Outlet,
    /// Bytes that the reply buffer keeps room for.
    pub(super) promised: u64,
    /// Since when it has had no room.
    pub(super) refused: Option<Instant>,
}

/// All of the client side.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) connections: Table<Client>,
    pub(super) sends: Table<Send>,
    pub(super) by_client: BTreeMap<ClientId, u32>,
    pub(super) by_handle: BTreeMap<Handle, u32>,
    /// Transactions with plain nodes that ended last, and their connections: events may still name them.
    past: BTreeMap<u32, u32>,
    past_order: VecDeque<u32>,
}

/// Ended transactions that are remembered.
const MAX_PAST: usize = 4096;

impl Clients {
    /// The open connection and its number.
    pub(super) fn client(&mut self, key: ClientId) -> Option<(u32, &mut Client)> {
        let number = *self.by_client.get(&key)?;
        self.connections.get_mut(number).map(|client| (number, client))
    }

    /// The open transaction and its number.
    pub(super) fn send(&mut self, key: Handle) -> Option<(u32, &mut Send)> {
        let number = *self.by_handle.get(&key)?;
        self.sends.get_mut(number).map(|send| (number, send))
    }

    /// The transaction of this number, if that node may speak of it: it is with that node, and its
    /// message has left.
    pub(super) fn send_at(&self, nd: u16, number: u32) -> Option<&Send> {
        let send = self.sends.get(number).filter(|send| send.state != SendState::Held)?;
        (self.connections.get(send.client)?.nd == nd).then_some(send)
    }

    /// The transaction of this number, if that node may speak of it.
    pub(super) fn send_of(&mut self, nd: u16, number: u32) -> Option<&mut Send> {
        self.send_at(nd, number)?;
        self.sends.get_mut(number)
    }

    /// Ends a transaction.
    pub(super) fn end_send(&mut self, number: u32) -> Option<Send> {
        let send = self.sends.remove(number)?;
        self.by_handle.remove(&send.key);
        if let Some(client) = self.connections.get_mut(send.client) {
            client.sends.remove(&number);
        }
        Some(send)
    }

    /// Remembers whose a transaction was that ends.
    pub(super) fn remember(&mut self, number: u32, client: u32) {
        if self.past.insert(number, client).is_none() {
            self.past_order.push_back(number);
        }
        if self.past_order.len() > MAX_PAST
            && let Some(oldest) = self.past_order.pop_front()
        {
            self.past.remove(&oldest);
        }
    }

    /// The connection of a transaction, also of one that ended lately.
    pub(super) fn client_of(&self, nd: u16, number: u32) -> Option<u32> {
        let past = || self.past.get(&number).copied();
        self.send_at(nd, number).map(|send| send.client).or_else(past)
    }

    /// Ends a connection; its transactions' keys are returned in the order they were opened.
    pub(super) fn end_client(&mut self, number: u32) -> Option<(Client, Vec<Handle>)> {
        let client = self.connections.remove(number)?;
        if self.by_client.get(&client.key) == Some(&number) {
            self.by_client.remove(&client.key);
        }
        let sends: Vec<u32> = client.sends.iter().copied().collect();
        let handles = sends.into_iter().filter_map(|n| self.end_send(n)).map(|send| send.key).collect();
        Some((client, handles))
    }

    /// The numbers of all connections to a node.
    pub(super) fn of_node(&self, nd: u16) -> Vec<u32> {
        self.connections.iter().filter(|(_, c)| c.nd == nd).map(|(number, _)| number).collect()
    }
}

/// What comes with a CONNECT.
#[derive(Debug)]
pub(super) enum First {
    /// A message.
    Send(MsgSend, Data),
    /// A pulse.
    Pulse(PulseInfo),
}

/// Where a server-side connection stands.
#[derive(Debug)]
pub(super) enum ServerState {
    /// The caller was asked.
    Asked {
        /// What came with the CONNECT.
        first: Option<First>,
    },
    /// Accepted.
    Open,
}

impl ServerState {
    /// Message bytes that wait for the caller's answer.
    fn early_bytes(&self) -> usize {
        match self {
            ServerState::Asked { first: Some(First::Send(_, data)) } => data.len(),
            _ => 0,
        }
    }
}

/// A server-side connection.
#[derive(Debug)]
pub(super) struct Server {
    /// Index of the quality of service that its client asked for.
    pub(super) qos: u16,
    pub(super) nd: u16,
    pub(super) client_id: u32,
    /// The client's number of the last transaction on it.
    pub(super) last_handle: u32,
    pub(super) state: ServerState,
    pub(super) received: BTreeSet<u32>,
}

/// A message that waits for its reply.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) server: u32,
    pub(super) nd: u16,
    pub(super) client_handle: u32,
    /// Length of the whole message; `None` when the sender did not tell.
    pub(super) whole: Option<u32>,
    pub(super) reads: BTreeSet<u32>,
}

/// A read the server waits for.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) received: u32,
    pub(super) offset: u32,
    pub(super) end: u32,
    /// What has come.
    pub(super) got: Ranges,
    /// Where it goes.
    pub(super) outlet: Outlet,
    /// Bytes that keep their room there.
    pub(super) promised: u64,
}

impl Reading {
    /// Whether the transfer answers it, or a part of it.
    pub(super) fn holds(&self, xfer: &Xfer) -> bool {
        xfer.offset >= self.offset && xfer.offset.checked_add(xfer.nbytes).is_some_and(|end| end <= self.end)
    }
}

/// What one node has open here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub(super) connections: usize,
    pub(super) messages: usize,
    /// Bytes that came with connections nobody has accepted yet.
    pub(super) early_bytes: usize,
}

/// All of the server side.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) connections: Table<Server>,
    pub(super) received: Table<Received>,
    pub(super) reads: Table<Reading>,
    pub(super) by_sender: BTreeMap<(u16, u32), u32>,
    shares: BTreeMap<u16, Share>,
}

impl Servers {
    /// What the node has open.
    pub(super) fn share(&self, nd: u16) -> Share {
        self.shares.get(&nd).copied().unwrap_or_default()
    }

    fn change(&mut self, nd: u16, change: impl FnOnce(&mut Share)) {
        let share = self.shares.entry(nd).or_default();
        change(share);
        if share.connections == 0 && share.messages == 0 {
            self.shares.remove(&nd);
        }
    }

    pub(super) fn add(&mut self, server: Server) -> Option<u32> {
        let (nd, bytes) = (server.nd, server.state.early_bytes());
        let number = self.connections.insert(server)?;
        self.change(nd, |share| {
            share.connections += 1;
            share.early_bytes += bytes;
        });
        Some(number)
    }

    /// The caller answers about a connection: returns the state it leaves, if it was asked.
    pub(super) fn answer(&mut self, number: u32) -> Option<(u16, u32, ServerState)> {
        let server = self.connections.get_mut(number)?;
        if matches!(server.state, ServerState::Open) {
            return None;
        }
        let state = std::mem::replace(&mut server.state, ServerState::Open);
        let (nd, client_id, bytes) = (server.nd, server.client_id, state.early_bytes());
        self.change(nd, |share| share.early_bytes -= bytes);
        Some((nd, client_id, state))
    }

    /// Takes back a message that came with a connection which nobody has answered about; false when there is none. The
    /// connection stays.
    pub(super) fn withdraw(&mut self, nd: u16, client_handle: u32) -> bool {
        let theirs =
            |first: &First| matches!(first, First::Send(send, _) if send.client_handle == client_handle);
        for number in self.of_node(nd) {
            let Some(Server { state: ServerState::Asked { first }, .. }) = self.connections.get_mut(number)
            else {
                continue;
            };
            if let Some(First::Send(_, data)) = first.take_if(|first| theirs(first)) {
                self.change(nd, |share| share.early_bytes -= data.len());
                return true;
            }
        }
        false
    }

    /// The connection of this number, if it is that node's.
    pub(super) fn of(&mut self, nd: u16, number: u32) -> Option<&mut Server> {
        self.connections.get_mut(number).filter(|server| server.nd == nd)
    }

    pub(super) fn add_received(&mut self, received: Received) -> Option<u32> {
        let (nd, handle, server) = (received.nd, received.client_handle, received.server);
        let number = self.received.insert(received)?;
        self.by_sender.insert((nd, handle), number);
        if let Some(server) = self.connections.get_mut(server) {
            server.received.insert(number);
        }
        self.change(nd, |share| share.messages += 1);
        Some(number)
    }

    /// Ends a transaction and its reads.
    pub(super) fn end_received(&mut self, number: u32) -> Option<Received> {
        let received = self.received.remove(number)?;
        let sender = (received.nd, received.client_handle);
        if self.by_sender.get(&sender) == Some(&number) {
            self.by_sender.remove(&sender);
        }
        if let Some(server) = self.connections.get_mut(received.server) {
            server.received.remove(&number);
        }
        for read in &received.reads {
            self.reads.remove(*read);
        }
        self.change(received.nd, |share| share.messages -= 1);
        Some(received)
    }

    /// Ends a connection; its unanswered messages are returned.
    pub(super) fn end(&mut self, number: u32) -> Option<(Server, Vec<(u32, Received)>)> {
        let server = self.connections.remove(number)?;
        let bytes = server.state.early_bytes();
        self.change(server.nd, |share| {
            share.connections -= 1;
            share.early_bytes -= bytes;
        });
        let open: Vec<u32> = server.received.iter().copied().collect();
        let ended = open.into_iter().filter_map(|n| self.end_received(n).map(|r| (n, r))).collect();
        Some((server, ended))
    }

    /// The numbers of all connections of a node.
    pub(super) fn of_node(&self, nd: u16) -> Vec<u32> {
        self.connections.iter().filter(|(_, s)| s.nd == nd).map(|(number, _)| number).collect()
    }
}
