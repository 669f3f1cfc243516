//! The control server: many clients on the loop, none of which can hold up frames.
//!
//! Work is cut into steps of a few microseconds: read a piece, answer one request, write a piece. The loop does one
//! step a turn while frames flow. A client that sends more than it may, or never reads, costs its own connection;
//! with [`MAX_CLIENTS`] of them the one that has been silent longest makes room, strangers first.

mod client;
pub mod commands;
pub mod loads;

use std::{
    collections::VecDeque,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use ctl::{Command, ErrorReply, Outcome};
use mio::{Interest, Registry, net::UnixListener};
use nix::errno::Errno;
use slab::Slab;

use crate::token::{Address, Class};
use client::{Client, Step};
use loads::Ticket;

/// Most connections at a time.
pub const MAX_CLIENTS: usize = 1000;
/// Most connections accepted in one step.
const ACCEPTS: usize = 16;

/// A request that may be carried out.
#[derive(Debug)]
pub struct Request {
    /// What is asked for; the right to ask has been checked.
    pub command: Command,
    /// Descriptors that came along.
    pub files: Vec<std::os::fd::OwnedFd>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// It is done.
    Now(Outcome),
    /// [`Control::finish`] tells the outcome when the module has arrived. The client is not read meanwhile.
    Later(Ticket),
}

/// The server of one instance.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    registry: Registry,
    clients: Slab<Client>,
    generation: u32,
    /// Clients with something to do, each at most once.
    busy: VecDeque<usize>,
    /// Connections may wait in the listener.
    pending_accept: bool,
    /// Counts steps; tells who has been silent longest.
    clock: u64,
}

impl Control {
    /// Listens at `path`, which the caller's lock makes ours: what is there belongs to a dead daemon.
    ///
    /// # Errors
    /// As bind(2), for instance when the path is too long for a socket.
    pub fn bind(path: &Path, registry: &Registry) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        Self::listen(listener, path, registry).inspect_err(|_| {
            // A start that fails leaves nothing; the cause is what the caller hears of.
            let _ = fs::remove_file(path);
        })
    }

    fn listen(mut listener: UnixListener, path: &Path, registry: &Registry) -> io::Result<Self> {
        // Everybody may ask; the kernel's credentials decide who may change anything.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        let registry = registry.try_clone()?;
        registry.register(&mut listener, Address::only(Class::Listener).token(), Interest::READABLE)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            registry,
            clients: Slab::new(),
            generation: 0,
            busy: VecDeque::new(),
            pending_accept: true,
            clock: 0,
        })
    }

    /// Connections open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// True when nobody is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// True when [`Control::step`] has something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.pending_accept || !self.busy.is_empty()
    }

    /// An event of the poller that concerns the server.
    pub fn on_event(&mut self, address: Address, readable: bool, writable: bool) {
        if address.class == Class::Listener {
            self.pending_accept = true;
            return;
        }
        let place = address.place as usize;
        if let Some(client) = self.clients.get_mut(place).filter(|c| c.generation == address.generation) {
            client.on_ready(readable, writable);
            self.enqueue(place);
        }
    }

    /// Does a little work: accepts, or serves one client. `answer` carries out a request.
    pub fn step(&mut self, answer: impl FnOnce(Request) -> Answer) {
        self.clock += 1;
        if std::mem::take(&mut self.pending_accept) {
            self.accept();
        }
        let Some(place) = self.busy.pop_front() else { return };
        let clock = self.clock;
        let Some(client) = self.clients.get_mut(place) else { return };
        client.queued = false;
        match client.step(clock, |request, may_change| {
            if request.command.changes() && !may_change {
                return Answer::Now(Outcome::Error(refusal()));
            }
            answer(request)
        }) {
            Step::Again => self.enqueue(place),
            Step::Wait => {}
            Step::Close => self.close(place),
        }
    }

    /// Answers who waits for that, unless he has gone.
    pub fn finish(&mut self, ticket: Ticket, outcome: Outcome) {
        let waiting = self.clients.iter_mut().find(|(_, client)| client.waits_for(ticket));
        if let Some((place, client)) = waiting {
            client.finish(outcome);
            self.enqueue(place);
        }
    }

    fn enqueue(&mut self, place: usize) {
        if !std::mem::replace(&mut self.clients[place].queued, true) {
            self.busy.push_back(place);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => {
                    // Out of descriptors, most likely. With room made the next step tries again.
                    tracing::debug!("accepting a control connection: {e}");
                    self.pending_accept = self.evict();
                    return;
                }
            };
            if self.clients.len() >= MAX_CLIENTS {
                self.evict();
            }
            self.generation = self.generation.wrapping_add(1);
            let address = Address::new(Class::Client, self.clients.vacant_key(), self.generation);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(e) = self.registry.register(&mut stream, address.token(), interest) {
                tracing::debug!("watching a control connection: {e}");
                continue;
            }
            let place = self.clients.insert(Client::new(stream, address.generation, self.clock));
            self.enqueue(place);
        }
        self.pending_accept = true;
    }

    /// Closes the connection that has been silent longest; false when there is none. Those who may only look go before
    /// those who may change something, so that strangers cannot keep the owner out.
    fn evict(&mut self) -> bool {
        let least = |client: &Client| (client.may_change, client.last_heard);
        let oldest = self.clients.iter().min_by_key(|(_, client)| least(client)).map(|(place, _)| place);
        oldest.map(|place| self.close(place)).is_some()
    }

    fn close(&mut self, place: usize) {
        if let Some(mut client) = self.clients.try_remove(place) {
            // Closing unregisters as well.
            let _ = self.registry.deregister(&mut client.stream);
            self.busy.retain(|other| *other != place);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Gone already when somebody cleared the directory.
        let _ = fs::remove_file(&self.path);
    }
}

fn refusal() -> ErrorReply {
    let uid = nix::unistd::Uid::effective();
    ErrorReply::new(
        Errno::EPERM,
        format!("only root and uid {uid}, who runs this io-pkt, may change anything"),
    )
}

#[cfg(test)]
mod tests;
