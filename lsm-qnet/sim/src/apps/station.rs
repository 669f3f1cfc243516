//! Several programs on one host: a server, and any number of clients.
//!
//! Keys of a client carry its number in their upper half, which is how its events find it. The station
//! also watches what concerns the whole host: a session to a node comes up before it goes down, and
//! not twice.

use std::collections::BTreeSet;

use qnet_proto::{Event, Instant, NodeId};

use super::{Client, Server};
use crate::network::{App, Programs};

/// The programs of a host.
pub struct Station {
    server: Box<Server>,
    clients: Vec<Client>,
    up: BTreeSet<NodeId>,
}

impl Station {
    /// A host with these programs.
    #[must_use]
    pub fn boxed(server: Box<Server>, clients: Vec<Client>) -> Box<Station> {
        Box::new(Station { server, clients, up: BTreeSet::new() })
    }

    fn client(&mut self, key: u64) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id() == key >> 32)
    }
}

impl App for Station {
    fn on_event(&mut self, host: &mut Programs<'_>, event: Event) {
        let key = match &event {
            Event::Resolved { token, .. } | Event::ResolveFailed { token, .. } => *token,
            Event::Connected { client, .. }
            | Event::ConnectFailed { client, .. }
            | Event::Death { client } => client.0,
            Event::Read { handle, .. } | Event::Reply { handle, .. } | Event::Error { handle, .. } => {
                handle.0
            }
            Event::NodeUp { nd } => {
                assert!(self.up.insert(*nd), "the session to {nd:?} came up twice");
                return;
            }
            Event::NodeDown { nd, .. } => {
                assert!(self.up.remove(nd), "the session to {nd:?} went down without having been up");
                return;
            }
            _ => return self.server.on_event(host, event),
        };
        if let Some(client) = self.client(key) {
            client.on_event(host, event);
        }
    }

    fn on_time(&mut self, host: &mut Programs<'_>) {
        self.server.on_time(host);
        for client in &mut self.clients {
            client.on_time(host);
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        let clients = self.clients.iter().filter_map(|client| client.wakes_at());
        self.server.wakes_at().into_iter().chain(clients).min()
    }
}
