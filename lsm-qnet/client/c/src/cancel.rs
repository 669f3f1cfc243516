//! Cancellation: off inside the library, and how a wait that is a cancellation point ends all the same.
//!
//! ```text
//!  thread T                                   pthread_cancel(T) of the overlay
//!  MsgSend: testcancel                        the C library's pthread_cancel: T is marked, not disturbed,
//!    off, waiting = T                           because its cancellation is off
//!      wait                          ◄──────── a signal, again and again until T no longer waits
//!      EINTR                                    (it may come a moment before the wait begins)
//!    on again
//!    errno is EINTR: testcancel ─► the C library unwinds: above it are only frames without destructors
//! ```
//!
//! A call that came to its end is not undone: the thread is cancelled at its next cancellation point.

use std::{
    ptr,
    sync::{Once, atomic::Ordering},
    thread,
    time::Duration,
};

use libc::{c_int, pthread_t};

use crate::call::{Outcome, Returned, fenced, negative, ordinary};
use crate::registry;

const DISABLE: c_int = 1;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

unsafe extern "C-unwind" {
    fn pthread_testcancel();
}

unsafe extern "C" {
    #[link_name = "pthread_cancel"]
    fn real_pthread_cancel(thread: pthread_t) -> c_int;
}

/// How often a cancelled thread is told that it shall stop waiting, and how long to wait in between.
const NUDGES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(1);

/// Cancellation of this thread is off as long as this lives.
pub(crate) struct Off(c_int);

impl Off {
    pub(crate) fn begin() -> Self {
        let mut old = 0;
        // SAFETY: `old` is a place for an int.
        unsafe { pthread_setcancelstate(DISABLE, &raw mut old) };
        Self(old)
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        // SAFETY: the value came from the same function; NULL is allowed for the old one.
        unsafe { pthread_setcancelstate(self.0, ptr::null_mut()) };
    }
}

/// Tells whether this thread waits. A thread whose thread-locals are gone already is not told to stop waiting.
fn set_waiting(waiting: bool) {
    registry::this(|this| this.waiting.store(waiting, Ordering::SeqCst));
}

/// Runs the body of a call that is a cancellation point. May not return: then the thread ends, and its frames above are left
/// as pthread_cancel() leaves them.
pub(crate) fn point<T>(body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    fenced(|| {
        set_waiting(true);
        let outcome = body();
        set_waiting(false);
        outcome
    })
}

/// Defines both forms of a QNX call that is a cancellation point, as [`crate::call::calls`] does for the others.
macro_rules! waits {
    ($($(#[$doc:meta])* $name:ident, $raw:ident ($($arg:ident: $type:ty),* $(,)?) -> $result:ty = $body:expr;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// Pointers are as QNX documents them for this call.
            #[unsafe(no_mangle)]
            pub unsafe extern "C-unwind" fn $name($($arg: $type),*) -> $result {
                $crate::cancel::test();
                $crate::cancel::finish($crate::cancel::point(|| $body))
            }

            /// The same with the negative errno as its result.
            ///
            /// # Safety
            /// Pointers are as QNX documents them for this call.
            #[unsafe(no_mangle)]
            pub unsafe extern "C-unwind" fn $raw($($arg: $type),*) -> $result {
                $crate::cancel::test();
                $crate::cancel::finish_raw($crate::cancel::point(|| $body))
            }
        )*
    };
}
pub(crate) use waits;

/// Ends the thread if it was cancelled.
pub(crate) fn test() {
    // SAFETY: it unwinds at most through this frame and its callers' in this crate, which are "C-unwind" and hold nothing
    // that has a destructor.
    unsafe { pthread_testcancel() };
}

/// How an interrupted wait of a cancelled thread ends: not at all.
pub(crate) fn finish<T: Returned>(outcome: Outcome<T>) -> T {
    if matches!(outcome, Err(libc::EINTR)) {
        test();
    }
    ordinary(outcome)
}

/// [`finish`] for the forms that end in `_r`.
pub(crate) fn finish_raw<T: Returned>(outcome: Outcome<T>) -> T {
    if matches!(outcome, Err(libc::EINTR)) {
        test();
    }
    negative(outcome)
}

/// The signal that ends a wait: one that programs rarely use, and whose action is left alone if they do.
fn nudge() -> c_int {
    libc::SIGRTMAX() - 1
}

extern "C" fn nothing(_: c_int) {}

fn prepare_nudge() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a sigaction of zeros is valid, and so are the pointers; the handler does nothing.
        unsafe {
            let mut present: libc::sigaction = std::mem::zeroed();
            libc::sigaction(nudge(), ptr::null(), &raw mut present);
            if present.sa_sigaction == libc::SIG_DFL {
                let mut ours: libc::sigaction = std::mem::zeroed();
                ours.sa_sigaction = nothing as extern "C" fn(c_int) as usize;
                libc::sigaction(nudge(), &raw const ours, ptr::null_mut());
            }
        }
    });
}

/// The overlay's pthread_cancel(): a thread that waits for a message is cancelled, too.
///
/// # Safety
/// `thread` is a thread that was not joined, as for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_pthread_cancel(thread: pthread_t) -> c_int {
    // SAFETY: the caller's promise.
    let result = unsafe { real_pthread_cancel(thread) };
    // SAFETY: has no conditions.
    if result != 0 || thread == unsafe { libc::pthread_self() } {
        return result;
    }
    let _ = fenced(|| {
        prepare_nudge();
        for _ in 0..NUDGES {
            let told = registry::of(thread, |entry| {
                // SAFETY: the thread cannot end while its entry is looked at.
                entry.waiting.load(Ordering::SeqCst) && unsafe { libc::pthread_kill(thread, nudge()) } == 0
            });
            if told != Some(true) {
                break;
            }
            thread::sleep(BETWEEN);
        }
        Ok(())
    });
    result
}
