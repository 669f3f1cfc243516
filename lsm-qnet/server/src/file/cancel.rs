//! Callers that leave before their request is done.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::errno::Errno;

use crate::sys;

/// Tells a request that its caller has left.
#[derive(Debug, Default)]
pub struct Cancel {
    left: AtomicBool,
    /// The thread that works on the request; 0 is none.
    thread: AtomicI32,
}

impl Cancel {
    /// The caller has left: a thread that waits in the kernel for it is woken.
    pub fn set(&self) {
        self.left.store(true, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            sys::wake_thread(thread);
        }
    }

    /// Whether it has.
    pub fn is_set(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    /// Runs `work` as the thread that [`Cancel::set`] wakes.
    pub fn guard<T>(&self, work: impl FnOnce() -> T) -> T {
        self.thread.store(nix::unistd::gettid().as_raw(), Ordering::SeqCst);
        let result = work();
        self.thread.store(0, Ordering::SeqCst);
        result
    }

    /// Repeats a call that a signal ended, unless the signal meant this request.
    pub fn retry<T>(&self, mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        loop {
            match call() {
                Err(Errno::EINTR) if !self.is_set() => {}
                result => return result,
            }
        }
    }
}
