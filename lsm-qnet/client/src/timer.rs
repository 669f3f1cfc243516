//! Timers: pulses and other events at a time of a clock, once or again and again.
//!
//! A timer is a timerfd, so it follows its clock and counts what it could not tell. One thread (`qnet-timer`), started with
//! the first timer of the process, waits for all of them and lets their events happen; a child of `fork` has no timers and no
//! thread.
//!
//! ```
//! use std::time::Duration;
//! use qnet::{Channel, ChannelFlags, Clock, Connection, LOCAL_NODE, Root, Timer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let root = Root::at(directory.path())?;
//! let channel = Channel::create(&root, ChannelFlags::PRIVATE)?;
//! let own = Connection::attach(&root, LOCAL_NODE, channel.pid(), channel.chid())?;
//! let timer = Timer::pulsing(Clock::Monotonic, own, 10, 1, 4711)?;
//! timer.every(Duration::from_millis(5))?;
//! for _ in 0..3 {
//!     let pulse = channel.receive_pulse(None)?;
//!     assert_eq!((pulse.code, pulse.value), (1, 4711));
//! }
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeMap,
    fmt,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    signal::{SigSet, SigmaskHow},
    timerfd::{ClockId, TimerFd, TimerFlags},
};

use crate::{
    Connection, Error, Event,
    event::{deliver, is_well_formed},
    process::lock,
    sys::{self, KeptFromChild, PerProcess, generation, timerfd},
};

/// Times that the event of one timer happens at once when it could not happen in time; the others count as overrun.
const MOST_AT_ONCE: u64 = 1000;

/// What a timer's times are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The time of day, which may be set.
    Realtime,
    /// Time since some beginning, without that in which the machine slept.
    Monotonic,
    /// The same with it.
    Boottime,
}

/// When a timer is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// For the first time; zero: never.
    pub first: Duration,
    /// From one time to the next; zero: it is due once.
    pub every: Duration,
}

/// A timer of this process. Dropping it ends it: nothing more comes of it then.
///
/// What happens when it is due waits for nothing: a pulse that its channel does not take is lost, as with a full queue.
#[doc(alias = "TimerCreate")]
#[doc(alias = "timer_create")]
#[derive(Debug)]
pub struct Timer {
    token: u64,
}

/// What happens when a timer is due.
struct Action {
    /// Whether it happens as often as the timer was due, or once for all that it was late for.
    each: bool,
    act: Box<dyn Fn() + Send>,
}

/// A timer's descriptor and what comes of it.
struct Entry {
    // Dropped first: see there.
    _kept: KeptFromChild,
    descriptor: OwnedFd,
    action: Action,
    overrun: u64,
}

/// The timers of a process. Whoever holds the lock finds none of them in the middle of something.
struct Timers {
    _kept: KeptFromChild,
    epoll: Arc<Epoll>,
    entries: BTreeMap<u64, Entry>,
    last: u64,
}

/// With the process that they belong to: a child begins without.
struct Table(u32, Mutex<Option<Timers>>);

static TIMERS: PerProcess<Table> = PerProcess::new();

fn timers() -> MutexGuard<'static, Option<Timers>> {
    let table = TIMERS.get(|table| table.0 == generation(), || Table(generation(), Mutex::default()));
    lock(&table.1)
}

impl Timer {
    /// A timer that lets an event happen in this process. It is not set yet.
    ///
    /// # Errors
    /// `EINVAL`: an event that makes no sense, [`Event::Unblock`] among them, which ends calls only; no descriptors or no
    /// thread left.
    pub fn new(clock: Clock, event: Event) -> Result<Self, Error> {
        if !is_well_formed(&event) {
            return Err(Error::Errno(libc::EINVAL));
        }
        let each = matches!(event, Event::Pulse { .. });
        // Nobody is there to hear of an event that cannot happen.
        Self::with(clock, each, move || drop(deliver(event)))
    }

    /// A timer that sends a pulse over a connection, usually one to a channel of this process. It is not set yet.
    ///
    /// # Errors
    /// No descriptors or no thread left.
    pub fn pulsing(
        clock: Clock,
        over: Connection,
        priority: i32,
        code: i8,
        value: u64,
    ) -> Result<Self, Error> {
        Self::with(clock, true, move || drop(over.pulse(priority, code, value)))
    }

    /// A timer that calls a function, on the library's own thread: one that waits keeps all other timers waiting, and
    /// one that touches a timer waits for ever. With `each` it is called as often as the timer was due, up to 1000 times
    /// at once. It is not set yet.
    ///
    /// # Errors
    /// No descriptors or no thread left.
    pub fn with(clock: Clock, each: bool, act: impl Fn() + Send + 'static) -> Result<Self, Error> {
        let clock = match clock {
            Clock::Realtime => ClockId::CLOCK_REALTIME,
            Clock::Monotonic => ClockId::CLOCK_MONOTONIC,
            Clock::Boottime => ClockId::CLOCK_BOOTTIME,
        };
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let descriptor: OwnedFd = TimerFd::new(clock, flags)?.into();
        let action = Action { each, act: Box::new(act) };
        let _kept = KeptFromChild::new(descriptor.as_fd());
        let mut all = timers();
        let timers = match &mut *all {
            Some(timers) => timers,
            none => none.insert(Timers::start()?),
        };
        timers.last += 1;
        let token = timers.last;
        timers.epoll.add(&descriptor, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        timers.entries.insert(token, Entry { _kept, descriptor, action, overrun: 0 });
        Ok(Self { token })
    }

    /// Sets the timer, from now on; gives what was left of its former setting.
    ///
    /// # Errors
    /// `EINVAL`: a time that the kernel has no number for; in a child of the process that made it.
    #[doc(alias = "TimerSettime")]
    #[doc(alias = "timer_settime")]
    pub fn set(&self, times: Times) -> Result<Times, Error> {
        self.set_to(false, times)
    }

    /// Sets the timer; its first time is one of its clock's. One that is over is due at once.
    ///
    /// # Errors
    /// As [`Timer::set`].
    pub fn set_at(&self, times: Times) -> Result<Times, Error> {
        self.set_to(true, times)
    }

    /// Due once, after `time`.
    ///
    /// # Errors
    /// As [`Timer::set`].
    pub fn after(&self, time: Duration) -> Result<(), Error> {
        self.set(Times { first: time, every: Duration::ZERO }).map(drop)
    }

    /// Due after `time`, and again and again.
    ///
    /// # Errors
    /// As [`Timer::set`].
    pub fn every(&self, time: Duration) -> Result<(), Error> {
        self.set(Times { first: time, every: time }).map(drop)
    }

    /// Not due any more. What was on its way has happened when this is back.
    ///
    /// # Errors
    /// As [`Timer::set`].
    pub fn stop(&self) -> Result<(), Error> {
        self.set(Times::default()).map(drop)
    }

    /// What is left until it is due, and its period.
    ///
    /// # Errors
    /// As [`Timer::set`].
    #[doc(alias = "timer_gettime")]
    pub fn left(&self) -> Result<Times, Error> {
        let (first, every) = self.entry(|entry| timerfd::left(entry.descriptor.as_fd()))??;
        Ok(Times { first, every })
    }

    /// How often it was due beyond what its last event stands for.
    ///
    /// # Errors
    /// As [`Timer::set`].
    #[doc(alias = "timer_getoverrun")]
    pub fn overrun(&self) -> Result<u64, Error> {
        self.entry(|entry| entry.overrun)
    }

    fn set_to(&self, absolute: bool, Times { first, every }: Times) -> Result<Times, Error> {
        let set = |entry: &Entry| timerfd::set(entry.descriptor.as_fd(), absolute, (first, every));
        let (first, every) = self.entry(set)??;
        Ok(Times { first, every })
    }

    fn entry<T>(&self, with: impl FnOnce(&Entry) -> T) -> Result<T, Error> {
        let timers = timers();
        let entry = timers.as_ref().and_then(|timers| timers.entries.get(&self.token));
        entry.map(with).ok_or(Error::Errno(libc::EINVAL))
    }
}

impl Drop for Timer {
    #[doc(alias = "TimerDestroy")]
    #[doc(alias = "timer_delete")]
    fn drop(&mut self) {
        let mut timers = timers();
        // In a child there is none of that number.
        let Some(timers) = timers.as_mut() else { return };
        if let Some(entry) = timers.entries.remove(&self.token) {
            // A child may hold the same descriptor for a moment, and as long the kernel would tell us of it.
            let _gone = timers.epoll.delete(&entry.descriptor);
        }
    }
}

impl Timers {
    fn start() -> Result<Self, Error> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let watched = Arc::clone(&epoll);
        let thread = thread::Builder::new().name("qnet-timer".into());
        with_signals_blocked(|| thread.spawn(move || watch(&watched)))?;
        Ok(Self { _kept: KeptFromChild::new(epoll.0.as_fd()), epoll, entries: BTreeMap::new(), last: 0 })
    }
}

/// A thread that is started in `with` takes no signals: they are the program's threads' own.
fn with_signals_blocked<T>(with: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let value = with();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    value
}

/// The timer thread.
fn watch(epoll: &Epoll) {
    let generation = sys::generation();
    let mut events = [EpollEvent::empty(); 64];
    while sys::generation() == generation {
        let Ok(ready) = epoll.wait(&mut events, EpollTimeout::NONE) else { continue };
        for event in &events[..ready] {
            // Under the lock: when a timer was dropped or set anew, nothing more comes of its former setting.
            if let Some(entry) = timers().as_mut().and_then(|timers| timers.entries.get_mut(&event.data())) {
                entry.expire();
            }
        }
    }
}

impl Entry {
    /// Lets happen what is due.
    fn expire(&mut self) {
        let mut count = [0_u8; 8];
        // Nothing to read: it was set anew in this moment.
        let Ok(8) = nix::unistd::read(&self.descriptor, &mut count) else { return };
        let expired = u64::from_ne_bytes(count);
        let times = expired.min(if self.action.each { MOST_AT_ONCE } else { 1 });
        self.overrun = expired - times;
        (0..times).for_each(|_| (self.action.act)());
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Action").field("each", &self.each).finish_non_exhaustive()
    }
}
