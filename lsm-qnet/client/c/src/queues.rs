//! Message queues: mq_notify() of the overlay, which takes QNX's events.
//!
//! Signals are the kernel's work. For the other kinds the C library starts a thread when the queue is no longer empty, and
//! that thread lets the event happen.

use std::{
    collections::HashMap,
    ffi::c_void,
    ptr,
    sync::{Mutex, PoisonError},
};

use client::{PerProcess, generation};
use libc::{c_int, mqd_t};

use crate::call::{Outcome, fenced, ordinary};
use crate::clocks::check;
use crate::events::{Local, Sigevent, Value, notify};
use crate::memory;

/// Linux's `struct sigevent`.
#[repr(C)]
struct LinuxSigevent {
    value: u64,
    signo: c_int,
    notify: c_int,
    function: Option<extern "C" fn(Value)>,
    attributes: *mut c_void,
    rest: [u64; 4],
}

const _: () = assert!(size_of::<LinuxSigevent>() == 64);

const LINUX_SIGNAL: c_int = 0;
const LINUX_NONE: c_int = 1;
const LINUX_THREAD: c_int = 2;

unsafe extern "C" {
    #[link_name = "mq_notify"]
    fn real_mq_notify(queue: mqd_t, event: *const LinuxSigevent) -> c_int;
}

/// What happens at which queue, and in which process.
struct Table(u32, Mutex<HashMap<mqd_t, Local>>);

static EVENTS: PerProcess<Table> = PerProcess::new();

fn events<T>(with: impl FnOnce(&mut HashMap<mqd_t, Local>) -> T) -> T {
    let table = EVENTS.get(|table| table.0 == generation(), || Table(generation(), Mutex::default()));
    with(&mut table.1.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs in the C library's thread.
extern "C" fn notified(value: Value) {
    let _ = fenced(|| {
        let queue = mqd_t::try_from(value.0).map_err(|_| libc::EBADF)?;
        // One notification is one event: the program asks for the next one.
        events(|events| events.remove(&queue)).map_or(Ok(()), |event| event.happen())
    });
}

/// Asks for an event when the queue gets a message; the kinds that Linux has no word for go by way of a thread.
fn request(queue: mqd_t, event: &Sigevent) -> Outcome<c_int> {
    let local = Local::new(event, libc::SI_MESGQ)?;
    let mut linux = LinuxSigevent {
        value: event.value.0,
        signo: 0,
        notify: LINUX_NONE,
        function: None,
        attributes: ptr::null_mut(),
        rest: [0; 4],
    };
    match local {
        Local::Nothing => {}
        Local::Signal { signo, .. } if event.kind() == notify::SIGNAL => {
            linux.signo = signo;
            linux.notify = LINUX_SIGNAL;
        }
        _ => {
            linux.value = u64::from(queue.cast_unsigned());
            linux.notify = LINUX_THREAD;
            linux.function = Some(notified);
        }
    }
    // The lock is held, so that a message which comes at once finds the event; a request that is refused leaves the former.
    events(|events| {
        // SAFETY: the structure is ours and laid out as the C library's.
        check(unsafe { real_mq_notify(queue, &raw const linux) })?;
        if linux.notify == LINUX_THREAD {
            events.insert(queue, local);
        }
        Ok(0)
    })
}

/// The overlay's mq_notify().
///
/// # Safety
/// `event` is NULL or points to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_mq_notify(queue: mqd_t, event: *const Sigevent) -> c_int {
    // SAFETY: the caller's promise.
    let event = unsafe { memory::get(event) };
    ordinary(fenced(|| match &event {
        Some(event) => request(queue, event),
        None => {
            // SAFETY: NULL takes the request back.
            check(unsafe { real_mq_notify(queue, ptr::null()) })?;
            events(|events| events.remove(&queue));
            Ok(0)
        }
    }))
}
