//! One mounted driver or protocol, as the daemon keeps it.
//!
//! A [`Use`] ties the module's side ([`Body`], from `io-pkt-host`) to what the daemon lends it: a context for host
//! functions, a name in the device directory, a lock. It also collects what has happened since the module was called
//! last, so that one call of `poll` tells all of it.

use std::rc::Rc;

use ctl::UseState;
use io_pkt_abi::{
    DriverStats, FrameDesc, PollEvent, PollWork,
    info::{READY_DEADLINE, READY_ERROR, READY_READ, READY_WAKE, READY_WRITE},
};
use io_pkt_host::{Build, CallError, DriverUse, Kind, ProtocolUse, UseError};

use crate::{
    border::{Role, UseContext},
    names::{DeviceName, PidLock},
    switchboard::BATCH,
    threads::PinnedDriver,
};

/// Names a use for as long as the daemon runs; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UseId(pub u32);

/// Most bytes that a use may handle in one call of `poll`.
pub const BUDGET_BYTES: u32 = 256 * 1024;

/// The module's side of a use.
#[derive(Debug)]
pub enum Body {
    /// A driver.
    Driver(DriverUse),
    /// A driver that runs on another packet thread.
    Pinned(PinnedDriver),
    /// A protocol.
    Protocol(ProtocolUse),
}

/// A use. Fields are dropped in this order: the module first, then what it was told to rely on.
#[derive(Debug)]
pub struct Use {
    /// The module's side.
    pub body: Body,
    /// What the host functions know of it.
    pub context: Rc<UseContext>,
    /// Its file in the device directory; protocols that cannot be unmounted have none.
    pub device: Option<DeviceName>,
    /// For a protocol of which there may be one on the node.
    pub lock: Option<PidLock>,
    /// Options as typed.
    pub options: String,
    /// What happened since its last poll.
    pub events: Vec<PollEvent>,
    /// It stopped for want of budget.
    pub more: bool,
}

impl Use {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> UseId {
        self.context.id()
    }

    /// Its name (`en0`).
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.body {
            Body::Driver(driver) => driver.name(),
            Body::Pinned(driver) => driver.name(),
            Body::Protocol(protocol) => protocol.name(),
        }
    }

    /// Its module file.
    #[must_use]
    pub fn build(&self) -> &Build {
        match &self.body {
            Body::Driver(driver) => driver.build(),
            Body::Pinned(driver) => driver.build(),
            Body::Protocol(protocol) => protocol.build(),
        }
    }

    /// Driver or protocol.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Driver(_) | Body::Pinned(_) => Kind::Driver,
            Body::Protocol(_) => Kind::Protocol,
        }
    }

    /// The driver, if it runs on another packet thread.
    #[must_use]
    pub fn pinned(&self) -> Option<&PinnedDriver> {
        match &self.body {
            Body::Pinned(driver) => Some(driver),
            Body::Driver(_) | Body::Protocol(_) => None,
        }
    }

    /// Its place in the switchboard.
    #[must_use]
    pub fn role(&self) -> Role {
        self.context.role()
    }

    /// Notes an event for its next poll. Readiness of one descriptor is merged; the end of a helper never is.
    pub fn notify(&mut self, event: PollEvent) {
        const READINESS: u32 = READY_READ | READY_WRITE | READY_ERROR;
        let merges = |ready: u32| ready & !READINESS == 0;
        let same = |old: &&mut PollEvent| old.token == event.token && merges(old.ready);
        match self.events.iter_mut().find(same).filter(|_| merges(event.ready)) {
            Some(old) => old.ready |= event.ready,
            None => self.events.push(event),
        }
    }

    /// True when it has something to do at `now`. Takes note of wake-ups and deadlines that have come.
    pub fn is_ready(&mut self, now: u64) -> bool {
        if self.context.take_wake() {
            self.notify(PollEvent { ready: READY_WAKE, ..PollEvent::default() });
        }
        if self.context.take_deadline(now) {
            self.notify(PollEvent { ready: READY_DEADLINE, ..PollEvent::default() });
        }
        if self.more || !self.events.is_empty() {
            return true;
        }
        matches!(&self.body, Body::Pinned(driver) if driver.has_news())
    }

    /// The counters of a driver; `None` for a protocol.
    pub fn stats(&mut self) -> Option<Result<DriverStats, CallError>> {
        match &mut self.body {
            Body::Driver(driver) => Some(driver.stats()),
            Body::Pinned(driver) => Some(driver.stats()),
            Body::Protocol(_) => None,
        }
    }

    /// Opens the device, or begins as a protocol.
    ///
    /// # Errors
    /// The module's sentence.
    pub fn start(&mut self) -> Result<(), UseError> {
        match &mut self.body {
            Body::Driver(driver) => driver.start(),
            Body::Pinned(driver) => driver.start(),
            Body::Protocol(protocol) => protocol.start(),
        }
    }

    /// Lets the module work; returns how much it did.
    ///
    /// # Errors
    /// The use has failed.
    pub fn poll(&mut self, now: u64) -> Result<u32, CallError> {
        let mut work = PollWork {
            size: size_of::<PollWork>() as u32,
            n_events: self.events.len() as u32,
            events: self.events.as_ptr(),
            now,
            budget_frames: BATCH as u32,
            budget_bytes: BUDGET_BYTES,
            more: 0,
            done: 0,
        };
        let result = match &mut self.body {
            Body::Driver(driver) => driver.poll(&mut work),
            Body::Pinned(driver) => {
                driver.poll(&mut work);
                Ok(())
            }
            Body::Protocol(protocol) => protocol.poll(&mut work),
        };
        self.events.clear();
        self.more = work.more != 0;
        result.map(|()| work.done)
    }

    /// Hands received frames to a protocol. False when it did not take them over (it is no protocol, or not running).
    ///
    /// # Errors
    /// The use has failed.
    pub fn receive(&mut self, interface: u32, frames: &[FrameDesc]) -> Result<bool, CallError> {
        match &mut self.body {
            Body::Protocol(protocol) => protocol.receive(interface, frames),
            Body::Driver(_) | Body::Pinned(_) => Ok(false),
        }
    }

    /// Offers frames to a driver; returns how many descriptors it took.
    pub fn transmit(&mut self, frames: &[FrameDesc]) -> (usize, Result<(), CallError>) {
        match &mut self.body {
            Body::Driver(driver) => driver.transmit(frames),
            Body::Pinned(driver) => (driver.transmit(frames), Ok(())),
            Body::Protocol(_) => (0, Ok(())),
        }
    }

    /// Marks it failed; the first reason stays.
    pub fn fail(&mut self, reason: impl Into<String>) {
        match &mut self.body {
            Body::Driver(driver) => driver.fail(reason),
            Body::Pinned(driver) => driver.fail(reason),
            Body::Protocol(protocol) => protocol.fail(reason),
        }
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        let state = match &self.body {
            Body::Driver(driver) => driver.state(),
            Body::Pinned(driver) => driver.state(),
            Body::Protocol(protocol) => protocol.state(),
        };
        match state {
            io_pkt_host::State::Failed { reason } => Some(reason),
            _ => None,
        }
    }

    /// Stops it; a complaint of the module is returned for the log.
    pub fn stop(&mut self) -> Option<CallError> {
        match &mut self.body {
            Body::Driver(driver) => driver.stop().err(),
            Body::Pinned(driver) => driver.stop().err(),
            Body::Protocol(protocol) => protocol.stop().err(),
        }
    }

    /// What control clients are told.
    #[must_use]
    pub fn describe(&self, chunks: u64) -> ctl::Use {
        ctl::Use {
            name: self.name().to_owned(),
            module: self.build().name().to_owned(),
            kind: self.kind().word().to_owned(),
            options: self.options.clone(),
            state: if self.failure().is_some() { UseState::Failed } else { UseState::Running },
            reason: self.failure().map(str::to_owned),
            chunks,
            thread: self.pinned().map_or(0, PinnedDriver::thread),
        }
    }
}
