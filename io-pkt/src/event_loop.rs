//! The event loop: turns of work while there is any, a short spin after traffic, then sleep.
//!
//! ```text
//!  ┌─► uses that are ready, each once ─► frames moved ─► one step of control work ─► events ─┐
//!  └──────────────── no wait while somebody has more; spin; sleep until an event ◄───────────┘
//! ```

mod alarm;
mod spin;

use std::{io, sync::Arc, time::Duration};

use ctl::report::LoopCounters;
use io_pkt_abi::{PollEvent, info::READY_HELPER_EXIT};
use mio::{Events, Interest, Poll, unix::SourceFd};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use std::os::fd::{AsFd, AsRawFd};
use thiserror::Error;

use crate::{
    control::{
        Control,
        commands::{self, Facts},
        loads::Loads,
    },
    registry::Registry,
    threads::ThreadLost,
    token::{Address, Class},
};
pub use alarm::Alarm;
pub use spin::Spin;

/// Control steps in a turn without frames.
const IDLE_STEPS: usize = 32;

/// Why a daemon cannot go on.
#[derive(Debug, Error)]
pub enum LoopError {
    /// The poller failed.
    #[error("the event poller failed: {0}")]
    Poller(#[from] io::Error),
    /// A packet thread is gone.
    #[error(transparent)]
    Thread(#[from] ThreadLost),
}

/// A daemon's loop with everything that it turns.
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    events: Events,
    registry: Registry,
    control: Control,
    loads: Loads,
    alarm: Alarm,
    signals: SignalFd,
    spin: Spin,
    facts: Facts,
    stop: Option<Signal>,
    /// The waker was used since the last turn.
    woken: bool,
}

/// Blocks the signals that end the daemon, so that the loop can read them. Call before other threads exist.
///
/// # Errors
/// As sigprocmask(2) and signalfd(2).
pub fn take_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

impl EventLoop {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When the poller refuses the timer or the signals.
    pub fn new(
        poll: Poll,
        registry: Registry,
        control: Control,
        signals: SignalFd,
        spin: Spin,
        program: String,
    ) -> io::Result<Self> {
        let alarm = Alarm::new(poll.registry())?;
        let (fd, token) = (signals.as_fd().as_raw_fd(), Address::only(Class::Signals).token());
        poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        let facts = Facts { program, ..Facts::default() };
        let events = Events::with_capacity(256);
        let loads = Loads::new(registry.finder(), Arc::clone(&registry.core().waker));
        Ok(Self {
            poll,
            events,
            registry,
            control,
            loads,
            alarm,
            signals,
            spin,
            facts,
            stop: None,
            woken: false,
        })
    }

    /// The uses, for mounting at the start.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Runs until a signal says stop. [`EventLoop::end`] should follow.
    ///
    /// # Errors
    /// [`LoopError`], which nothing can repair.
    pub fn run(&mut self) -> Result<Signal, LoopError> {
        loop {
            if let Some(signal) = self.stop.take() {
                return Ok(signal);
            }
            self.turn()?;
            if std::mem::take(&mut self.woken) {
                self.registry.on_wake()?;
            }
        }
    }

    /// Unmounts everything, the last first, and gives helpers their time to end; another signal means that somebody
    /// is in a hurry. Call it also when the start failed half-way.
    ///
    /// # Errors
    /// When the poller fails.
    pub fn end(mut self) -> io::Result<()> {
        self.registry.unmount_all();
        while !self.registry.core().helpers.borrow().is_empty() {
            let now = self.registry.core().clock.now();
            let over = if self.stop.take().is_some() { u64::MAX } else { now };
            self.registry.core().helpers.borrow_mut().expire(over);
            self.arm();
            self.collect(None)?;
        }
        self.registry.end_threads();
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let now = self.registry.core().clock.now();
        let turn = self.registry.turn(now);
        self.registry.core().helpers.borrow_mut().expire(now);
        self.serve(if turn.worked { 1 } else { IDLE_STEPS });
        if turn.worked {
            self.spin.worked(now);
        }
        let counters = &mut self.facts.event_loop;
        counters.turns += 1;
        if turn.again || self.control.has_work() || self.registry.is_woken() {
            return self.collect(Some(Duration::ZERO));
        }
        if self.spin.go_on(now) {
            counters.spins += 1;
            // Without this a spinner would starve the very client that it waits for. Before looking, not after: what the
            // others did meanwhile is seen at once.
            std::thread::yield_now();
            return self.collect(Some(Duration::ZERO));
        }
        if !self.registry.lie_down(now) {
            return self.collect(Some(Duration::ZERO));
        }
        counters.sleeps += 1;
        self.arm();
        self.collect(None)?;
        self.registry.get_up();
        let after = self.registry.core().clock.now();
        let counters: &mut LoopCounters = &mut self.facts.event_loop;
        counters.longest_turn_ns = counters.longest_turn_ns.max(self.spin.slept(now, after));
        Ok(())
    }

    /// Control work. Mounting happens in here, between two turns of frames, when the module has been read.
    fn serve(&mut self, steps: usize) {
        let Self { control, registry, loads, facts, .. } = self;
        while let Some(arrived) = loads.poll() {
            control.finish(arrived.ticket, commands::mount(registry, &arrived.options, arrived.found));
        }
        for _ in 0..steps {
            if !control.has_work() {
                return;
            }
            facts.clients = control.len() as u64;
            control.step(|request| commands::answer(registry, loads, facts, request));
        }
    }

    /// Sets the timer to the next deadline, if it is not set to it already.
    fn arm(&mut self) {
        let helpers = self.registry.core().helpers.borrow().deadline().unwrap_or(0);
        let next = [self.registry.deadline(), helpers].into_iter().filter(|at| *at > 0).min().unwrap_or(0);
        self.alarm.set(next, self.registry.core().clock.now());
    }

    /// Fetches events, waiting at most `timeout`, and hands them to whom they concern.
    fn collect(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let Some(address) = Address::of(event.token()) else { continue };
            match address.class {
                Class::Waker => self.woken = true,
                Class::Timer => self.alarm.rang(),
                Class::Signals => self.stop = read_signal(&self.signals).or(self.stop),
                Class::Listener | Class::Client => {
                    self.control.on_event(
                        address,
                        event.is_readable() || event.is_error(),
                        event.is_writable(),
                    );
                }
                Class::Source => {
                    let found = self.registry.core().sources.borrow().resolve(address, event);
                    if let Some((owner, token, ready)) = found {
                        self.registry.notify(owner, PollEvent { token, ready, value: 0 });
                    }
                }
                Class::Helper => on_helper(&mut self.registry, address),
            }
        }
        Ok(())
    }
}

fn on_helper(registry: &mut Registry, address: Address) {
    let exit = registry.core().helpers.borrow_mut().reap(address);
    let Some(exit) = exit else { return };
    tracing::debug!(pid = exit.pid, helper = exit.name, "helper ended: {}", exit.describe());
    if let Some(owner) = exit.owner {
        registry.notify(owner, PollEvent { token: exit.token, ready: READY_HELPER_EXIT, value: exit.status });
    }
}

fn read_signal(signals: &SignalFd) -> Option<Signal> {
    let info = signals.read_signal().ok().flatten()?;
    Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()
}

#[cfg(test)]
mod tests;
