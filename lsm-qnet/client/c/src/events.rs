//! `struct sigevent` as the overlay's headers lay it out, and what this process does when an event of its own happens.

use std::ffi::c_void;

use client::Event;
use libc::{c_int, c_short, pid_t, pthread_attr_t, pthread_t};

use crate::call::{Outcome, errno};
use crate::clocks::check;
use crate::threads;

/// Kinds of events, `SIGEV_*`.
pub(crate) mod notify {
    use libc::c_int;

    pub(crate) const NONE: c_int = 0;
    pub(crate) const SIGNAL: c_int = 1;
    pub(crate) const SIGNAL_CODE: c_int = 2;
    pub(crate) const SIGNAL_THREAD: c_int = 3;
    pub(crate) const PULSE: c_int = 4;
    pub(crate) const UNBLOCK: c_int = 5;
    pub(crate) const THREAD: c_int = 7;
    pub(crate) const HANDLE: c_int = 8;
    /// The bits beside the kind.
    pub(crate) const FLAGS: c_int = 0xf000;
}

/// `struct sigevent`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Sigevent {
    pub(crate) notify: c_int,
    pub(crate) who: Who,
    pub(crate) value: Value,
    pub(crate) how: How,
    pub(crate) reserved: [i64; 4],
}

/// Signal, connection, handle or function.
#[derive(Clone, Copy)]
#[repr(C)]
pub union Who {
    pub(crate) id: c_int,
    pub(crate) function: Option<extern "C" fn(Value)>,
}

/// `union sigval`, as the 64 bits that it has.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Value(pub(crate) u64);

/// Code and priority, or attributes of a thread.
#[derive(Clone, Copy)]
#[repr(C)]
pub union How {
    pub(crate) pulse: [c_short; 2],
    pub(crate) attributes: *const pthread_attr_t,
}

const _: () = assert!(size_of::<Sigevent>() == 64);

impl Sigevent {
    /// The kind, without flags.
    pub(crate) fn kind(&self) -> c_int {
        self.notify & !notify::FLAGS
    }

    fn id(&self) -> c_int {
        // SAFETY: every value of the union is one of an int.
        unsafe { self.who.id }
    }

    fn code_and_priority(&self) -> [c_short; 2] {
        // SAFETY: every value of the union is one of two shorts.
        unsafe { self.how.pulse }
    }

    /// The event as a value; `EINVAL` for one that can only happen here (SIGEV_THREAD) or does not exist.
    pub(crate) fn event(&self) -> Outcome<Event> {
        let (id, value, [code, priority]) = (self.id(), self.value.0, self.code_and_priority());
        let signal = |signo: c_int| {
            if (1..=libc::SIGRTMAX()).contains(&signo) { Ok(signo) } else { Err(libc::EINVAL) }
        };
        Ok(match self.kind() {
            notify::NONE => Event::None,
            notify::SIGNAL => Event::Signal { signo: signal(id)? },
            notify::SIGNAL_CODE => Event::SignalCode { signo: signal(id)?, code, value },
            notify::SIGNAL_THREAD => Event::SignalThread { signo: signal(id)?, code, value },
            notify::PULSE => Event::Pulse { coid: id, priority, code, value },
            notify::UNBLOCK => Event::Unblock,
            notify::HANDLE => Event::Registered { handle: id },
            _ => return Err(libc::EINVAL),
        })
    }
}

/// `SI_TIMER`, `SI_QUEUE`: why a signal came.
pub(crate) const SI_TIMER: c_int = -2;

/// An event that happens in this process, ready to be carried out any number of times.
#[derive(Clone, Copy)]
pub(crate) enum Local {
    Nothing,
    Signal { signo: c_int, code: c_int, value: u64, thread: Option<pid_t> },
    Pulse { coid: c_int, priority: c_int, code: c_int, value: u64 },
    Thread { function: extern "C" fn(Value), value: Value, attributes: *const pthread_attr_t },
}

// SAFETY: the attributes are the program's, which keeps them as long as the event can happen (POSIX says so of SIGEV_THREAD).
unsafe impl Send for Local {}

impl Local {
    /// What a timer or queue does; `EINVAL` for events that make no sense there. `why` is the code of a plain signal.
    pub(crate) fn new(event: &Sigevent, why: c_int) -> Outcome<Self> {
        if event.kind() == notify::THREAD {
            // SAFETY: for this kind the program wrote a function there.
            let function = unsafe { event.who.function }.ok_or(libc::EINVAL)?;
            // SAFETY: for this kind the program wrote a pointer there.
            let attributes = unsafe { event.how.attributes };
            return Ok(Self::Thread { function, value: event.value, attributes });
        }
        let plain = event.value.0;
        Ok(match event.event()? {
            Event::None => Self::Nothing,
            Event::Signal { signo } => Self::Signal { signo, code: why, value: plain, thread: None },
            Event::SignalCode { signo, code, value } => {
                Self::Signal { signo, code: code.into(), value, thread: None }
            }
            Event::SignalThread { signo, code, value } => {
                // SAFETY: has no conditions.
                let thread = Some(unsafe { libc::gettid() });
                Self::Signal { signo, code: code.into(), value, thread }
            }
            Event::Pulse { coid, priority, code, value } => {
                if !(-128..=127).contains(&code) {
                    return Err(libc::EINVAL);
                }
                Self::Pulse { coid, priority: priority.into(), code: code.into(), value }
            }
            Event::Unblock | Event::Registered { .. } => return Err(libc::EINVAL),
        })
    }

    /// Carries it out.
    pub(crate) fn happen(&self) -> Outcome<()> {
        match *self {
            Self::Nothing => Ok(()),
            Self::Signal { signo, code, value, thread } => queue_signal(signo, code, value, thread),
            Self::Pulse { coid, priority, code, value } => {
                client::calls::msg_send_pulse(coid, priority, code, value).map_err(errno)
            }
            Self::Thread { function, value, attributes } => start(function, value, attributes),
        }
    }
}

/// `siginfo_t` of a queued signal.
#[repr(C)]
struct Siginfo {
    signo: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    pid: pid_t,
    uid: libc::uid_t,
    value: u64,
    rest: [u64; 12],
}

const _: () = assert!(size_of::<Siginfo>() == size_of::<libc::siginfo_t>());

/// A signal with a code and a value to this process or one thread of it.
fn queue_signal(signo: c_int, code: c_int, value: u64, thread: Option<pid_t>) -> Outcome<()> {
    // SAFETY: has no conditions.
    let (pid, uid) = unsafe { (libc::getpid(), libc::getuid()) };
    let info = Siginfo { signo, errno: 0, code, padding: 0, pid, uid, value, rest: [0; 12] };
    let info = &raw const info;
    let result = match thread {
        // SAFETY: the structure is ours and as long as the kernel's.
        Some(tid) => unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signo, info) },
        // SAFETY: as above.
        None => unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signo, info) },
    };
    check(c_int::try_from(result).unwrap_or(-1))
}

/// What a thread of SIGEV_THREAD runs.
struct Call(extern "C" fn(Value), Value);

fn start(function: extern "C" fn(Value), value: Value, attributes: *const pthread_attr_t) -> Outcome<()> {
    extern "C-unwind" fn run(call: *mut c_void) -> *mut c_void {
        // SAFETY: made below, for this thread alone.
        let Call(function, value) = *unsafe { Box::from_raw(call.cast::<Call>()) };
        function(value);
        std::ptr::null_mut()
    }
    let call = Box::into_raw(Box::new(Call(function, value)));
    let mut thread: pthread_t = 0;
    // SAFETY: the attributes are the program's, see `Local`; the argument belongs to the new thread.
    let result = unsafe { threads::qnet_pthread_create(&raw mut thread, attributes, Some(run), call.cast()) };
    if result != 0 {
        // SAFETY: no thread was made, so nobody else has it.
        drop(unsafe { Box::from_raw(call) });
        return Err(result);
    }
    // SAFETY: the thread was made joinable or detached by the attributes; a second detach is refused, not harmful.
    unsafe { libc::pthread_detach(thread) };
    Ok(())
}
