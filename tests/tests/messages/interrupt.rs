//! Signals that end a call of this thread, sent when the server has its message: then it is the server who decides.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{getpid, gettid};

extern "C" fn ignore(_signal: libc::c_int) {}

/// Makes the `call`, which signals end once `waits` is true; asks for that on another thread.
pub(crate) fn interrupted<T>(waits: impl Fn() -> bool + Sync, call: impl FnOnce() -> T) -> Result<T> {
    let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }?;
    let (process, caller, over) = (getpid().as_raw(), gettid().as_raw(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let ended = || over.load(Ordering::Acquire);
            while !ended() && !waits() {
                thread::yield_now();
            }
            // One is enough, but for a call that has not come to its end yet another one does no harm.
            while !ended() {
                // SAFETY: plain values, of which the second names the thread that waits for this one.
                unsafe { libc::syscall(libc::SYS_tgkill, process, caller, libc::SIGUSR1) };
                thread::park_timeout(Duration::from_millis(1));
            }
        });
        let outcome = call();
        over.store(true, Ordering::Release);
        Ok(outcome)
    })
}
