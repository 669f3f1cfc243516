//! The loop of a packet thread: the same turns as loop 0, for drivers only, with rings in the switchboard's place.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::Duration,
};

use io_pkt_abi::{DriverStats, FrameDesc, PollEvent, info::READY_HELPER_EXIT};
use io_pkt_host::{Build, CallError, SearchPath, UseError};
use mio::{Events, Poll, Waker};

use super::{
    channel::{Far, Note, whole_frames},
    handle::{Ended, Request},
    pulse::{End, Pulse},
};
use crate::{
    border::{self, Role, UseContext},
    clock::Clock,
    core::LoopParts,
    event_loop::{Alarm, Spin},
    pool::{Holder, PoolMemory},
    switchboard::{BATCH, MAX_PIECES},
    token::{Address, Class},
    uses::{Body, Use, UseId},
};

/// Most batches that one driver is offered in a turn.
const BATCHES_PER_TURN: usize = 4;

/// What a packet thread starts from.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) clock: Clock,
    pub(super) memory: PoolMemory,
    pub(super) search: SearchPath,
    pub(super) spin: Spin,
    pub(super) inbox: Receiver<Request>,
    /// Wakes loop 0 when a request is answered and when this thread ends.
    pub(super) main: Arc<Waker>,
    /// For loop 0 to look at.
    pub(super) pulse: Arc<Pulse>,
}

/// A driver that runs here.
#[derive(Debug)]
struct Pinned {
    use_: Use,
    far: Rc<RefCell<Far>>,
    /// Frames to send that the driver has not taken yet.
    waiting: Vec<FrameDesc>,
    /// It did not take all; offered again after its next poll.
    blocked: bool,
    /// Loop 0 knows and will take it away.
    failed: bool,
    started: bool,
}

/// The loop. Lives on its thread.
#[derive(Debug)]
pub(super) struct PacketLoop {
    poll: Poll,
    events: Events,
    parts: Rc<LoopParts>,
    drivers: Vec<Pinned>,
    inbox: Receiver<Request>,
    alarm: Alarm,
    spin: Spin,
    quit: bool,
    main: Arc<Waker>,
    pulse: Arc<Pulse>,
}

impl PacketLoop {
    pub(super) fn new(poll: Poll, setup: Setup) -> io::Result<Self> {
        let parts = LoopParts::new(poll.registry(), setup.clock, setup.memory, setup.search)?;
        let alarm = Alarm::new(poll.registry())?;
        let Setup { inbox, spin, main, pulse, .. } = setup;
        let events = Events::with_capacity(256);
        let parts = Rc::new(parts);
        Ok(Self { poll, events, parts, drivers: Vec::new(), inbox, alarm, spin, quit: false, main, pulse })
    }

    pub(super) fn parts(&self) -> &LoopParts {
        &self.parts
    }

    /// Runs until [`PacketLoop::quit`], then gives helpers their time to end.
    pub(super) fn run(mut self, number: u32) {
        tracing::debug!("packet thread {number} runs");
        let end = match self.turns() {
            Ok(()) => End::Orderly,
            Err(error) => {
                tracing::error!("packet thread {number}: the event poller failed: {error}");
                End::Poller
            }
        };
        self.drivers.clear();
        self.pulse.end(end);
    }

    fn turns(&mut self) -> io::Result<()> {
        while !self.quit {
            self.turn()?;
        }
        self.pulse.rest();
        while !self.parts.helpers.borrow().is_empty() {
            let now = self.parts.clock.now();
            self.parts.helpers.borrow_mut().expire(now);
            self.arm();
            self.collect(None)?;
        }
        Ok(())
    }

    /// Ends the loop after this turn.
    pub(super) fn quit(&mut self) {
        self.quit = true;
    }

    /// Ends a sleep of loop 0.
    pub(super) fn wake_main(&self) {
        // Fails only when the daemon ends.
        let _ = self.main.wake();
    }

    /// Makes a use of a driver.
    pub(super) fn create(
        &mut self,
        far: Far,
        build: &Arc<Build>,
        spec: &super::Owned,
        what: (UseId, &str, Role, Holder, u64),
    ) -> Result<(), UseError> {
        self.pulse.enter(what.0);
        let far = Rc::new(RefCell::new(far));
        let context = Rc::new(UseContext::pinned(&self.parts, &far, what));
        let created = border::create_driver(build, &spec.spec(), &context);
        let body = match created {
            Ok(driver) => Body::Driver(driver),
            Err(error) => {
                self.forget(what.0);
                return Err(error);
            }
        };
        let use_ = Use {
            body,
            context,
            device: None,
            lock: None,
            options: String::new(),
            events: Vec::new(),
            more: false,
        };
        let waiting = Vec::with_capacity(BATCH + MAX_PIECES);
        self.drivers.push(Pinned { use_, far, waiting, blocked: false, failed: false, started: false });
        Ok(())
    }

    /// Starts a driver.
    pub(super) fn start(&mut self, id: UseId) -> Result<(), UseError> {
        let Some(driver) = self.find(id) else { return Ok(()) };
        driver.use_.start()?;
        driver.settle(false);
        Ok(())
    }

    /// Loop 0 knows that the driver is started: its life begins.
    pub(super) fn go(&mut self, id: UseId) {
        if let Some(driver) = self.find(id) {
            driver.started = true;
            // A first poll right away: descriptors may have been ready before they were watched.
            driver.use_.more = true;
        }
    }

    /// Asks a driver for its counters.
    pub(super) fn stats(&mut self, id: UseId) -> Result<DriverStats, CallError> {
        let gone = || CallError { call: "stats", errno: libc::ENODEV, text: "it is gone".to_owned() };
        let driver = self.find(id).ok_or_else(gone)?;
        let stats = driver.use_.stats().ok_or_else(gone)?;
        driver.settle(false);
        stats
    }

    /// Gives back what a driver's stock has beyond `level` chunks.
    pub(super) fn trim(&mut self, id: UseId, level: usize) {
        if let Some(driver) = self.find(id) {
            driver.far.borrow_mut().trim(level);
        }
    }

    /// Stops and destroys a driver; what it held and did last comes back.
    pub(super) fn end(&mut self, id: UseId) -> Ended {
        let Some(at) = self.drivers.iter().position(|driver| driver.use_.id() == id) else {
            return (Ok(()), Vec::new());
        };
        self.pulse.enter(id);
        let Pinned { mut use_, far, waiting, .. } = self.drivers.remove(at);
        let error = use_.stop();
        // Destroying closes the descriptors: a number that is watched must not be used again by somebody else.
        self.parts.sources.borrow_mut().remove_all(id);
        drop(use_);
        self.forget(id);
        let mut far = far.borrow_mut();
        far.free(&waiting);
        let left = far.leftovers();
        far.announce();
        (error.map_or(Ok(()), Err), left)
    }

    fn forget(&self, id: UseId) {
        self.parts.sources.borrow_mut().remove_all(id);
        self.parts.helpers.borrow_mut().retire(id, self.parts.clock.now());
    }

    /// The driver, which is about to be called.
    fn find(&mut self, id: UseId) -> Option<&mut Pinned> {
        self.pulse.enter(id);
        self.drivers.iter_mut().find(|driver| driver.use_.id() == id)
    }

    fn turn(&mut self) -> io::Result<()> {
        self.serve();
        self.pulse.begin();
        let now = self.parts.clock.now();
        let (mut worked, mut again) = (false, false);
        for driver in &mut self.drivers {
            self.pulse.enter(driver.use_.id());
            let (did, more) = driver.turn(now);
            worked |= did;
            again |= more;
        }
        self.parts.helpers.borrow_mut().expire(now);
        if worked {
            self.spin.worked(now);
        }
        let woken = self.drivers.iter().any(|driver| driver.use_.context.is_woken());
        if again || woken || self.quit {
            return self.collect(Some(Duration::ZERO));
        }
        if self.spin.go_on(now) {
            let events = self.collect(Some(Duration::ZERO));
            // A spinner that never yields would starve loop 0 when both share a CPU.
            std::thread::yield_now();
            return events;
        }
        self.parts.bell.lie_down();
        if self.drivers.iter().any(Pinned::has_news) {
            self.parts.bell.get_up();
            return self.collect(Some(Duration::ZERO));
        }
        self.arm();
        self.pulse.rest();
        self.collect(None)?;
        self.parts.bell.get_up();
        self.spin.slept(now, self.parts.clock.now());
        Ok(())
    }

    /// Does what loop 0 asked for.
    fn serve(&mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(request) => {
                    self.pulse.begin();
                    request(self);
                }
                Err(TryRecvError::Empty) => return,
                // Loop 0 is gone without a word: it can only have panicked.
                Err(TryRecvError::Disconnected) => {
                    self.quit = true;
                    return;
                }
            }
        }
    }

    fn arm(&mut self) {
        let helpers = self.parts.helpers.borrow().deadline();
        let drivers = self.drivers.iter().map(|driver| driver.use_.context.deadline());
        let next = drivers.chain(helpers).filter(|at| *at > 0).min().unwrap_or(0);
        self.alarm.set(next, self.parts.clock.now());
    }

    /// Fetches events, waiting at most `timeout`, and hands them to whom they concern.
    fn collect(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let Self { events, parts, drivers, alarm, .. } = self;
        let mut notify = |owner: UseId, event: PollEvent| {
            if let Some(driver) = drivers.iter_mut().find(|driver| driver.use_.id() == owner) {
                driver.use_.notify(event);
            }
        };
        for event in events.iter() {
            let Some(address) = Address::of(event.token()) else { continue };
            match address.class {
                Class::Timer => alarm.rang(),
                Class::Source => {
                    let found = parts.sources.borrow().resolve(address, event);
                    if let Some((owner, token, ready)) = found {
                        notify(owner, PollEvent { token, ready, value: 0 });
                    }
                }
                Class::Helper => {
                    let exit = parts.helpers.borrow_mut().reap(address);
                    if let Some(exit) = exit
                        && let Some(owner) = exit.owner
                    {
                        let (token, value) = (exit.token, exit.status);
                        notify(owner, PollEvent { token, ready: READY_HELPER_EXIT, value });
                    }
                }
                Class::Waker | Class::Signals | Class::Listener | Class::Client => {}
            }
        }
        Ok(())
    }
}

impl Drop for PacketLoop {
    fn drop(&mut self) {
        if self.pulse.ended().is_none() {
            // Unwinding, and from our own code: a module's panics end at the border.
            self.drivers.clear();
            self.pulse.end(End::Panic);
        }
        self.wake_main();
    }
}

impl Pinned {
    /// Lets the driver work once and offers it what there is to send. Returns whether something was done, and whether
    /// there is more.
    fn turn(&mut self, now: u64) -> (bool, bool) {
        if !self.started || self.failed {
            self.far.borrow_mut().announce();
            return (false, false);
        }
        let mut worked = false;
        // A driver whose calls are not carried out yet makes no new ones.
        let flowing = self.far.borrow_mut().flush();
        if flowing {
            let relief = self.far.borrow_mut().take_relief();
            if relief | self.use_.is_ready(now) {
                worked |= self.poll(now);
            }
            worked |= self.send();
        }
        let mut far = self.far.borrow_mut();
        far.announce();
        (worked, !self.failed && (far.has_news(self.blocked) || (flowing && self.use_.more)))
    }

    fn poll(&mut self, now: u64) -> bool {
        let result = self.use_.poll(now);
        self.blocked = false;
        self.settle(result.is_err());
        result.is_ok_and(|done| done > 0)
    }

    /// Offers frames until there are none, the driver is full or it is somebody else's turn.
    fn send(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..BATCHES_PER_TURN {
            if self.blocked || self.failed {
                break;
            }
            self.far.borrow_mut().take_frames(&mut self.waiting, BATCH);
            let whole = whole_frames(&self.waiting);
            if whole == 0 {
                break;
            }
            let (taken, result) = self.use_.transmit(&self.waiting[..whole]);
            worked |= taken > 0;
            // A driver that takes part of a frame gets no second chance with the rest of it.
            let rest = &self.waiting[taken..whole];
            let torn = match self.waiting[..taken].last() {
                Some(last) if last.flags & io_pkt_abi::frame::FLAG_CONTINUES != 0 => first_frame(rest),
                _ => 0,
            };
            self.far.borrow_mut().free(&rest[..torn]);
            self.waiting.drain(..taken + torn);
            self.blocked = taken + torn < whole;
            self.settle(result.is_err());
        }
        worked
    }

    /// Passes on what the driver told the host in its last call.
    fn settle(&mut self, broken: bool) {
        let noted = self.use_.context.take_noted();
        let mad = self.far.borrow().is_mad();
        if !(noted || broken || mad) || self.failed {
            return;
        }
        if let Some(reason) = self.use_.context.take_failure() {
            self.use_.fail(reason);
        } else if mad {
            self.use_.fail("it called the host without end");
        } else if !broken {
            if let Some(data) = self.use_.context.interface() {
                self.far.borrow_mut().note(Note::Interface(data));
            }
            return;
        }
        self.failed = true;
        let reason = self.use_.failure().unwrap_or("it said that it failed").to_owned();
        self.far.borrow_mut().note(Note::Failed(reason));
    }

    fn has_news(&self) -> bool {
        self.started && !self.failed && self.far.borrow().has_news(self.blocked)
    }
}

/// Pieces of the first frame.
fn first_frame(frames: &[FrameDesc]) -> usize {
    let end = frames.iter().position(|desc| desc.flags & io_pkt_abi::frame::FLAG_CONTINUES == 0);
    end.map_or(frames.len(), |last| last + 1)
}
