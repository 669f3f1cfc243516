//! The event loop: `/dev/fuse`, the link and signals, on one thread.
//!
//! Descriptors are edge-triggered, so each is read until it is empty. A turn takes bounded shares of each and goes round
//! again without sleeping while something is left; no source can starve another.
//!
//! Before it sleeps it looks again and again for a moment, while that pays ([`Patience`]): to be woken costs more than a whole
//! round trip to another node, and whoever reads small files asks again at once.
//!
//! One thread and one queue of the device: docs/performance.md tells what several were found to give.

use std::{
    io::{self, Read, Write},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use qnet_ipc::Patience;
use tracing::{debug, info, warn};

use crate::{
    engine::{Engine, Watch},
    fuse::READ_BUFFER,
    mount::Mount,
};

const DEVICE: Token = Token(0);
const SIGNALS: Token = Token(1);
const LINK: Token = Token(2);

/// Longest look before it sleeps: another node's answer takes as long, so a shorter one would be in vain each time.
const ROUND_TRIP: Duration = Duration::from_micros(200);
/// Requests taken in one turn.
const REQUESTS: usize = 64;
/// Packets taken in one turn.
const PACKETS: usize = 256;

/// Signals that end the server, blocked so that they are read here. Make it before anything that takes time.
///
/// # Errors
/// No descriptors left.
pub fn ending_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGHUP);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A signal asked for it.
    Asked,
    /// Somebody unmounted the network directory.
    Unmounted,
}

/// Serves the mount until a signal comes or it is unmounted.
///
/// # Errors
/// The device or the event queue does not work any more.
pub fn serve(engine: &mut Engine, mount: &Mount, signals: &SignalFd) -> io::Result<Ended> {
    Server::new(engine, mount, signals)?.run()
}

struct Server<'a> {
    engine: &'a mut Engine,
    mount: &'a Mount,
    signals: &'a SignalFd,
    poll: Poll,
    patience: Patience,
    buffer: Vec<u8>,
    /// What is watched of the link.
    watched: Option<Watch>,
    requests_wait: bool,
    packets_wait: bool,
    was_ready: bool,
}

impl<'a> Server<'a> {
    fn new(engine: &'a mut Engine, mount: &'a Mount, signals: &'a SignalFd) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&mount.device().as_raw_fd()), DEVICE, Interest::READABLE)?;
        poll.registry().register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;
        engine.link_mut().attend();
        Ok(Self {
            engine,
            mount,
            signals,
            poll,
            patience: Patience::lasting(ROUND_TRIP),
            buffer: vec![0; READ_BUFFER],
            watched: None,
            requests_wait: true,
            packets_wait: false,
            was_ready: false,
        })
    }

    fn run(mut self) -> io::Result<Ended> {
        let mut events = Events::with_capacity(16);
        loop {
            self.engine.handle_timeout(Instant::now());
            self.answer();
            self.watch_link()?;
            match self.wait(&mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    DEVICE => self.requests_wait = true,
                    LINK => {
                        self.engine.link_mut().is_ready();
                        self.packets_wait = true;
                    }
                    _ => {
                        if let Ok(Some(signal)) = self.signals.read_signal() {
                            info!(signal = signal.ssi_signo, "asked to end");
                            return Ok(Ended::Asked);
                        }
                    }
                }
            }
            if self.packets_wait || self.engine.link_mut().has_packets() {
                self.packets_wait = self.engine.handle_link(Instant::now(), PACKETS);
                self.answer();
            }
            if self.requests_wait && !self.take_requests()? {
                return Ok(Ended::Unmounted);
            }
        }
    }

    /// Waits until something happens or is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        events.clear();
        let timeout = self.timeout();
        if timeout == Some(Duration::ZERO) {
            return self.poll.poll(events, timeout);
        }
        let Self { engine, poll, patience, .. } = self;
        let link = engine.link_mut();
        let deadline = timeout.map(|left| Instant::now() + left);
        // An error comes again, with the poll that may sleep.
        let look =
            || link.has_packets() || poll.poll(events, Some(Duration::ZERO)).is_ok() && !events.is_empty();
        if patience.spin(deadline, look) || !link.arm() {
            return Ok(());
        }
        let result = poll.poll(events, timeout);
        link.disarm();
        result
    }

    /// `None` sleeps until something happens.
    fn timeout(&self) -> Option<Duration> {
        if self.requests_wait || self.packets_wait {
            return Some(Duration::ZERO);
        }
        self.engine.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Reads requests; `false` when the mount has ended.
    fn take_requests(&mut self) -> io::Result<bool> {
        for _ in 0..REQUESTS {
            match self.mount.device().read(&mut self.buffer) {
                Ok(len) => {
                    self.engine.handle_request(Instant::now(), &mut self.buffer, len);
                    self.answer();
                    if self.engine.is_over() {
                        return Ok(false);
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        self.requests_wait = false;
                        return Ok(true);
                    }
                    // ENOENT: the process gave up while its request was on the way.
                    Some(libc::EINTR | libc::ENOENT) => {}
                    Some(libc::ENODEV) => return Ok(false),
                    _ => return Err(error),
                },
            }
        }
        Ok(true)
    }

    /// Writes the replies there are. The device takes each at once or refuses it.
    fn answer(&mut self) {
        while let Some(reply) = self.engine.poll_reply() {
            match self.mount.device().write(&reply) {
                Ok(_) => {}
                // The one who asked is gone, or the mount is.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                    debug!("a reply came too late: {error}");
                }
                Err(error) => warn!("the kernel refused a reply of {} bytes: {error}", reply.len()),
            }
            self.engine.recycle(reply);
        }
        if self.engine.is_ready() && !self.was_ready {
            self.was_ready = true;
            self.mount.raise_readahead();
        }
    }

    /// Follows the link to its present socket and its present wishes.
    fn watch_link(&mut self) -> io::Result<()> {
        let present = self.engine.link();
        if present == self.watched {
            return Ok(());
        }
        if let Some(Watch { fd, generation, writable }) = present {
            let interest =
                if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            // An old socket was closed with its connection, which took it off the event queue.
            let known = self.watched.is_some_and(|watched| watched.generation == generation);
            let registry = self.poll.registry();
            if known {
                registry.reregister(&mut SourceFd(&fd), LINK, interest)?;
            } else {
                registry.register(&mut SourceFd(&fd), LINK, interest)?;
            }
            self.packets_wait = true;
        }
        self.watched = present;
        Ok(())
    }
}
