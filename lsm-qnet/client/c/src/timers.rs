//! Timers: timer_create and friends of the overlay, TimerCreate and TimerSettime.
//!
//! A timer is a timerfd, so it follows its clock and counts what it could not tell. One thread, started with the first
//! timer of the process, waits for all of them and lets their events happen; a child of fork() has no timers and no thread.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use client::{Error, PerProcess, generation};
use libc::{c_int, clockid_t, itimerspec};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    timerfd::{ClockId, TimerFd, TimerFlags},
};
use std::os::fd::AsRawFd;

use crate::call::{Outcome, calls, fenced, ordinary};
use crate::clocks::{check, from_nanoseconds, nanoseconds};
use crate::events::{Local, SI_TIMER, Sigevent};
use crate::memory;

/// Pulses that one timer sends at once when it could not send them in time; the others count as overrun.
const MOST_AT_ONCE: u64 = 1000;

/// Largest number of a timer.
const MOST_TIMERS: c_int = 1 << 20;

struct Timer {
    descriptor: OwnedFd,
    event: Local,
    overrun: c_int,
}

struct Timers {
    epoll: Arc<Epoll>,
    timers: BTreeMap<c_int, Timer>,
}

impl Timer {
    /// Lets happen what is due.
    fn expire(&mut self) {
        let mut count = [0_u8; 8];
        // Nothing to read: it was set anew in this moment.
        let Ok(8) = nix::unistd::read(&self.descriptor, &mut count) else { return };
        let expired = u64::from_ne_bytes(count);
        let times = match self.event {
            Local::Pulse { .. } => expired.min(MOST_AT_ONCE),
            _ => expired.min(1),
        };
        self.overrun = c_int::try_from(expired - times).unwrap_or(c_int::MAX);
        for _ in 0..times {
            // A connection that is gone takes no pulses; QNX's timer does not mind either.
            let _ = self.event.happen();
        }
    }
}

/// The timers of this process, and which process that is.
struct Table(u32, Mutex<Option<Timers>>);

static TIMERS: PerProcess<Table> = PerProcess::new();

/// In a child the parent's timers do not exist.
fn lock() -> MutexGuard<'static, Option<Timers>> {
    let table = TIMERS.get(|table| table.0 == generation(), || Table(generation(), Mutex::default()));
    table.1.lock().unwrap_or_else(PoisonError::into_inner)
}

fn os(errno: nix::errno::Errno) -> c_int {
    errno as c_int
}

impl Timers {
    fn start() -> Outcome<Self> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(os)?);
        let watched = Arc::clone(&epoll);
        let thread = thread::Builder::new().name("qnet-timer".into());
        with_signals_blocked(|| thread.spawn(move || watch(&watched)))
            .map_err(|error| Error::from(error).errno())?;
        Ok(Self { epoll, timers: BTreeMap::new() })
    }

    fn of(&self, id: c_int) -> Outcome<&Timer> {
        self.timers.get(&id).ok_or(libc::EINVAL)
    }
}

/// A thread that is started in `with` takes no signals: they are the program's threads' own.
fn with_signals_blocked<T>(with: impl FnOnce() -> T) -> T {
    use nix::sys::signal::{SigSet, SigmaskHow};
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let value = with();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    value
}

/// The timer thread.
fn watch(epoll: &Epoll) {
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let Ok(ready) = epoll.wait(&mut events, EpollTimeout::NONE) else { continue };
        for event in &events[..ready] {
            let id = c_int::try_from(event.data()).unwrap_or(0);
            // Under the lock: when timer_delete() or timer_settime() is back, nothing more comes of the former setting. What
            // happens waits for nothing: a pulse that its channel does not take is lost, as with a full queue.
            if let Some(timer) = lock().as_mut().and_then(|timers| timers.timers.get_mut(&id)) {
                timer.expire();
            }
        }
    }
}

fn create(clock: clockid_t, event: Option<Local>) -> Outcome<c_int> {
    let clock = match clock {
        libc::CLOCK_REALTIME => ClockId::CLOCK_REALTIME,
        libc::CLOCK_MONOTONIC => ClockId::CLOCK_MONOTONIC,
        libc::CLOCK_BOOTTIME => ClockId::CLOCK_BOOTTIME,
        _ => return Err(libc::EINVAL),
    };
    let descriptor: OwnedFd =
        TimerFd::new(clock, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK).map_err(os)?.into();
    let mut all = lock();
    let timers = match &mut *all {
        Some(timers) => timers,
        none => none.insert(Timers::start()?),
    };
    let id = (1..MOST_TIMERS).find(|id| !timers.timers.contains_key(id)).ok_or(libc::EAGAIN)?;
    let watched = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(id.cast_unsigned()));
    timers.epoll.add(descriptor.as_fd(), watched).map_err(os)?;
    let alarm = Local::Signal {
        signo: libc::SIGALRM,
        code: SI_TIMER,
        value: id.cast_unsigned().into(),
        thread: None,
    };
    timers.timers.insert(id, Timer { descriptor, event: event.unwrap_or(alarm), overrun: 0 });
    Ok(id)
}

fn delete(id: c_int) -> Outcome<()> {
    let mut timers = lock();
    timers.as_mut().and_then(|timers| timers.timers.remove(&id)).map(drop).ok_or(libc::EINVAL)
}

/// Sets a timer; gives what was left of the former setting.
fn set(id: c_int, flags: c_int, time: &itimerspec) -> Outcome<itimerspec> {
    if flags & !libc::TIMER_ABSTIME != 0 {
        return Err(libc::EINVAL);
    }
    with_timer(id, |timer| {
        let (mut before, flags) = (zero(), if flags == 0 { 0 } else { libc::TFD_TIMER_ABSTIME });
        let time = ptr::from_ref(time);
        // SAFETY: both structures are ours.
        check(unsafe { libc::timerfd_settime(timer.descriptor.as_raw_fd(), flags, time, &raw mut before) })?;
        Ok(before)
    })
}

fn left(id: c_int) -> Outcome<itimerspec> {
    with_timer(id, |timer| {
        let mut time = zero();
        // SAFETY: the structure is ours.
        check(unsafe { libc::timerfd_gettime(timer.descriptor.as_raw_fd(), &raw mut time) })?;
        Ok(time)
    })
}

fn with_timer<T>(id: c_int, with: impl FnOnce(&Timer) -> Outcome<T>) -> Outcome<T> {
    lock().as_ref().ok_or(libc::EINVAL).and_then(|timers| with(timers.of(id)?))
}

fn zero() -> itimerspec {
    itimerspec { it_interval: from_nanoseconds(0), it_value: from_nanoseconds(0) }
}

/// The event of a timer, if the program gave one.
///
/// # Safety
/// `event` is NULL or points to one.
unsafe fn event_of(event: *const Sigevent) -> Outcome<Option<Local>> {
    // SAFETY: the caller's promise.
    unsafe { memory::get(event) }.map(|event| Local::new(&event, SI_TIMER)).transpose()
}

/// The overlay's timer_create().
///
/// # Safety
/// The pointers are NULL or point to a sigevent and to a place for a timer's number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_timer_create(
    clock: clockid_t,
    event: *const Sigevent,
    timer: *mut c_int,
) -> c_int {
    ordinary(fenced(|| {
        if timer.is_null() {
            return Err(libc::EFAULT);
        }
        // SAFETY: the caller's promise.
        let id = create(clock, unsafe { event_of(event) }?)?;
        // SAFETY: the caller's promise.
        unsafe { memory::put(timer, || Ok(id)) }?;
        Ok(0)
    }))
}

/// The overlay's timer_delete().
#[unsafe(no_mangle)]
pub extern "C" fn qnet_timer_delete(timer: c_int) -> c_int {
    ordinary(fenced(|| delete(timer).map(|()| 0)))
}

/// The overlay's timer_settime().
///
/// # Safety
/// The pointers are NULL or point to their structures.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_timer_settime(
    timer: c_int,
    flags: c_int,
    time: *const itimerspec,
    old: *mut itimerspec,
) -> c_int {
    ordinary(fenced(|| {
        // SAFETY: the caller's promise.
        let time = unsafe { memory::get(time) }.ok_or(libc::EINVAL)?;
        let before = set(timer, flags, &time)?;
        // SAFETY: the caller's promise.
        unsafe { memory::put(old, || Ok(before)) }?;
        Ok(0)
    }))
}

/// The overlay's timer_gettime().
///
/// # Safety
/// `time` is NULL or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_timer_gettime(timer: c_int, time: *mut itimerspec) -> c_int {
    ordinary(fenced(|| {
        let left = left(timer)?;
        if time.is_null() {
            return Err(libc::EFAULT);
        }
        // SAFETY: the caller's promise.
        unsafe { memory::put(time, || Ok(left)) }?;
        Ok(0)
    }))
}

/// The overlay's timer_getoverrun(): expirations that the last event stands for beside its own.
#[unsafe(no_mangle)]
pub extern "C" fn qnet_timer_getoverrun(timer: c_int) -> c_int {
    ordinary(fenced(|| with_timer(timer, |timer| Ok(timer.overrun))))
}

/// `struct _itimer`, in nanoseconds.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Itimer {
    nsec: u64,
    interval_nsec: u64,
}

calls! {
    /// Makes a timer; its number is the result.
    TimerCreate, TimerCreate_r (clock: clockid_t, event: *const Sigevent) -> c_int = {
        // SAFETY: the caller's promise.
        create(clock, unsafe { event_of(event) }?)
    };

    /// Removes a timer.
    TimerDestroy, TimerDestroy_r (timer: c_int) -> c_int = delete(timer).map(|()| 0);

    /// Sets a timer, in nanoseconds.
    TimerSettime, TimerSettime_r (timer: c_int, flags: c_int, time: *const Itimer, old: *mut Itimer) -> c_int = {
        // SAFETY: the caller's promise.
        let Itimer { nsec, interval_nsec } = unsafe { memory::get(time) }.ok_or(libc::EFAULT)?;
        let time = itimerspec { it_value: from_nanoseconds(nsec), it_interval: from_nanoseconds(interval_nsec) };
        let before = set(timer, flags, &time)?;
        let (nsec, interval_nsec) = (nanoseconds(&before.it_value), nanoseconds(&before.it_interval));
        // SAFETY: the caller's promise.
        unsafe { memory::put(old, || Ok(Itimer { nsec, interval_nsec })) }?;
        Ok(0)
    };
}
