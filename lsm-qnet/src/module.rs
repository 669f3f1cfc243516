//! The module's face to io-pkt: frames in, frames out, descriptors, deadlines.
//!
//! The node begins to exist when its name is known: at `start`, or with the first interface when the machine has no name
//! and is called after an address (`hostname.rs`).

use std::{fmt, fs::File, io::Read, os::fd::BorrowedFd, path::Path, rc::Rc};

use io_pkt_sdk::{
    Args, Batch, Error, Host, Interest, InterfaceId, Opt, PollHandle, Protocol, Work,
    interface::{Event, EventKind},
};
use qnet_ipc::Root;
use qnet_proto::Instant;

use crate::{
    engine::{Engine, Setup, Token, Verbosity, Watched, Watcher},
    helpers::Helpers,
    hostname::Follower,
    internet::Internet,
    options::{OPTIONS, Settings},
    places::Carrier,
    ports::{Budget, Ports},
    report,
    resolvers::Resolvers,
};

/// Number under which the host name is watched.
const HOSTNAME: Token = 18;
/// Frames sent at the end of one `receive`; what is left goes out with the next `poll`.
const FRAMES_AFTER_RECEIVE: usize = 256;

/// A running Qnet.
pub struct Qnet {
    host: Host,
    settings: Settings,
    root: Root,
    engine: Option<Engine>,
    ports: Ports,
    /// Until the engine has them.
    resolvers: Option<Resolvers>,
    helpers: Helpers,
    /// The host name, if the node is called after it.
    follower: Option<Follower>,
    /// The deadline that the host knows.
    deadline: Option<u64>,
    /// When a helper is to be started.
    helper_due: Option<u64>,
    /// Interfaces of `bind=` that have not been seen.
    unseen: Vec<String>,
    /// They were told.
    told_unseen: bool,
}

impl fmt::Debug for Qnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qnet")
            .field("engine", &self.engine)
            .field("helpers", &self.helpers)
            .finish_non_exhaustive()
    }
}

impl Protocol for Qnet {
    const OPTIONS: &'static [Opt] = OPTIONS;
    const PREFIX: &'static str = "qnet";
    // As in QNX: connections of programs and other nodes cannot be moved elsewhere.
    const UNMOUNTABLE: bool = false;
    const SINGLE: bool = true;

    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let settings = Settings::from_args(args)?;
        let root =
            Root::at(Path::new(args.root())).map_err(|error| Error::new(libc::EINVAL, error.to_string()))?;
        let follow = settings.follow_in.as_ref();
        let follower = follow.and_then(|domain| Follower::new(&host, HOSTNAME, domain.as_deref()));
        let places = &settings.places;
        let mut ports = Ports::new(&host, Internet::open(&places.carrier, &host)?);
        ports.tune(settings.tuning.vlan, settings.tuning.reserve);
        let resolvers = Resolvers::open(&places.resolvers, &places.carrier, settings.name.domain(), &host)?;
        let helpers = Helpers::new(&host, &root, settings.mounts(), &settings.tuning);
        let unseen = match &places.carrier {
            Carrier::Ethernet(names) => names.clone(),
            Carrier::Ip | Carrier::Udp(_) => Vec::new(),
        };
        for notice in &settings.tuning.notices {
            tracing::info!("{notice}");
        }
        Ok(Self {
            host,
            settings,
            root,
            engine: None,
            ports,
            resolvers: Some(resolvers),
            helpers,
            follower,
            deadline: None,
            helper_due: None,
            unseen,
            told_unseen: false,
        })
    }

    fn start(&mut self) -> Result<(), Error> {
        self.host.claim(self.ports.ethertype())?;
        self.host.wake();
        self.begin(None)
    }

    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        let now = work.now();
        // The first time comes after the events of the interfaces that were there.
        if !std::mem::replace(&mut self.told_unseen, true) {
            for name in &self.unseen {
                tracing::warn!("bind={name}: there is no such interface; Qnet uses it when it appears");
            }
        }
        let Some(engine) = &mut self.engine else { return Ok(()) };
        engine.set_now(now);
        for event in work.events() {
            if event.is_deadline() {
                // It is used up: the same one would have to be asked for again.
                self.deadline = None;
            }
            match event.helper_exit() {
                Some(status) => {
                    self.helpers.on_exit(event.token(), status, engine, now);
                    self.helper_due = Some(now);
                }
                None if self.ports.on_ready(event.token()) => work.did(1),
                None if event.token() == HOSTNAME => {
                    if let Some((name, domain)) = self.follower.as_mut().and_then(Follower::look) {
                        engine.rename(name, domain);
                    }
                }
                None if event.token() != 0 => {
                    engine.on_ready(event.token());
                    work.did(1);
                }
                None => {}
            }
        }
        if engine.look() {
            work.did(1);
        } else if engine.is_attentive() {
            // The others need the CPU to say something.
            let before = self.host.now();
            std::thread::yield_now();
            let after = self.host.now();
            engine.set_now(after);
            engine.yielded(after.saturating_sub(before));
            if engine.look_again() {
                work.did(1);
            }
        }
        if self.helper_due.is_some_and(|at| at <= now) {
            self.helper_due = self.helpers.tick(engine, now);
        }
        let now = engine.now();
        if self.ports.receive_packets(engine.node(), now) {
            work.more();
        }
        self.turn(&mut Budget::Work(work));
        Ok(())
    }

    fn receive(&mut self, interface: InterfaceId, frames: &mut Batch) -> Result<(), Error> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        engine.set_now(self.host.now());
        let now = engine.now();
        self.ports.receive(engine.node(), now, interface, frames);
        frames.clear();
        self.turn(&mut Budget::Frames(FRAMES_AFTER_RECEIVE));
        Ok(())
    }

    fn interface_event(&mut self, event: &Event) -> Result<(), Error> {
        if !self.settings.uses(&event.name) {
            if event.kind == EventKind::Arrived {
                tracing::debug!("{} is not used: bind= names others", event.name);
            }
            return Ok(());
        }
        self.unseen.retain(|name| *name != event.name);
        if self.ports.on_event(event) {
            tracing::info!("Qnet uses {}: {}", event.name, self.settings.access.sentence());
        }
        if self.engine.is_none() {
            self.begin(Some(event.interface.mac.0))?;
        }
        let now = self.host.now();
        if let Some(engine) = &mut self.engine {
            engine.set_now(now);
            let now = engine.now();
            self.ports.tell(engine.node(), now, event);
        }
        self.turn(&mut Budget::Frames(FRAMES_AFTER_RECEIVE));
        Ok(())
    }

    fn report(&mut self, topic: &str, out: &mut dyn fmt::Write) -> Result<(), Error> {
        if !topic.is_empty() {
            return Err(Error::new(
                libc::ENOENT,
                format!("{topic}: Qnet has one report only, without a topic"),
            ));
        }
        let written = match &self.engine {
            Some(engine) => report::write(out, engine, &self.ports, &self.helpers, self.host.now()),
            None => writeln!(out, "the node has no name yet: it waits for an interface"),
        };
        written.map_err(|_| Error::new(libc::ENOMEM, "the report does not fit"))
    }

    fn stop(&mut self) {
        self.helpers.stop();
        if let Some(engine) = &mut self.engine {
            engine.set_now(self.host.now());
            engine.shutdown();
        }
        self.turn(&mut Budget::Frames(FRAMES_AFTER_RECEIVE));
    }
}

impl Qnet {
    /// Makes the node, once its name is known.
    fn begin(&mut self, mac: Option<[u8; 6]>) -> Result<(), Error> {
        let Some((name, domain)) = self.settings.name.resolve(mac) else {
            tracing::info!("this machine has no name: the node will be called after its first interface");
            return Ok(());
        };
        let dot = if domain.as_str().is_empty() { "" } else { "." };
        tracing::info!("this is node {name}{dot}{domain}");
        let (incarnation, seed) = chance()?;
        let setup = Setup {
            config: self.settings.config(name, domain, incarnation, seed),
            root: self.root.clone(),
            nets: self.settings.mounts().map(|path| path.to_string_lossy().into_owned()).collect(),
            access: self.settings.access.clone(),
            verbosity: Verbosity::new(self.settings.verbose, self.settings.tuning.qos_verbose),
        };
        let now = self.host.now();
        let mut engine = Engine::new(setup, Rc::new(HostWatcher(self.host.clone())), now);
        engine.listen()?;
        if let Some(resolvers) = self.resolvers.take() {
            engine.set_resolvers(resolvers);
        }
        if self.ports.open_packets(engine.node(), Instant::from_nanos(now)) {
            engine.ask_own_address();
            let carrier = self.ports.internet().map_or("", |(name, ..)| name);
            tracing::info!("Qnet uses {carrier}: {}", self.settings.access.sentence());
        }
        self.engine = Some(engine);
        // The helpers are started in `poll`: programs that they ask must be answered meanwhile.
        self.helper_due = Some(now);
        self.host.wake();
        Ok(())
    }

    /// Lets everything settle: timers, events, frames; then asks for the next call.
    fn turn(&mut self, budget: &mut Budget<'_, '_>) {
        let Some(engine) = &mut self.engine else { return };
        let now = engine.now();
        if engine.node().poll_timeout().is_some_and(|at| at <= now) {
            engine.node().handle_timeout(now);
        }
        engine.pump();
        if let Some(own) = engine.take_own_address() {
            self.ports.on_own_address(engine.node(), now, own);
        }
        for (link, addr) in engine.take_addresses() {
            self.ports.take_address(engine.node(), now, link, addr);
        }
        let drained = self.ports.transmit(engine.node(), now, budget);
        engine.pump();
        if engine.wants_statistics() {
            let mut text = String::new();
            // Writing to a string cannot fail.
            let _ = report::write(&mut text, engine, &self.ports, &self.helpers, now.as_nanos());
            engine.answer_statistics(&text);
        }
        // Who was called asks to be called again: a program that is looked at does not ring.
        if !drained || engine.has_more() {
            match budget {
                Budget::Work(work) => work.more(),
                Budget::Frames(_) => self.host.wake(),
            }
        }
        let timeout = engine.node().poll_timeout().map(|at| at.as_nanos());
        let next = [timeout, engine.poll_timeout(), self.helper_due].into_iter().flatten().min();
        if next != self.deadline {
            self.deadline = next;
            self.host.set_deadline(next);
        }
    }
}

/// Two numbers that no other run of the node has.
fn chance() -> Result<(u64, u64), Error> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| Error::os("cannot read /dev/urandom", &error))?;
    let number = u128::from_le_bytes(bytes);
    Ok(((number as u64).max(1), (number >> 64) as u64))
}

/// The host as the engine's watcher.
struct HostWatcher(Host);

impl Watcher for HostWatcher {
    fn watch(&self, fd: BorrowedFd<'_>, token: Token) -> Result<Box<dyn Watched>, Error> {
        Ok(Box::new(HostWatched(self.0.watch(&fd, Interest::Read, token)?)))
    }
}

struct HostWatched(PollHandle);

impl Watched for HostWatched {
    fn set_writing(&self, writing: bool) {
        let interest = if writing { Interest::Both } else { Interest::Read };
        if let Err(error) = self.0.modify(interest) {
            tracing::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod effects;
#[cfg(test)]
mod tests;
