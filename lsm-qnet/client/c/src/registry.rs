//! What this library knows of the program's threads: their priority as QNX counts it, and whether they wait for a message.
//!
//! A thread enters when it is made by the overlay's `pthread_create`, or with its first call that asks for it, and leaves
//! before it ends; in a child of fork() the table is empty. As long as the table is locked and names a thread, that thread exists.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use client::{PerProcess, generation};
use libc::{c_int, pid_t, pthread_t};

use crate::priority;

/// One thread.
#[derive(Debug)]
pub(crate) struct Thread {
    /// The kernel's number of it.
    pub(crate) tid: pid_t,
    /// QNX's: from 1.
    pub(crate) number: c_int,
    /// The priority was set by another thread.
    changed: AtomicBool,
    /// Inside a call that is a cancellation point.
    pub(crate) waiting: AtomicBool,
    /// Priority as QNX counts it, 1 to 255.
    priority: AtomicI32,
    /// Policy that the program asked for.
    policy: AtomicI32,
}

impl Thread {
    /// Priority and policy.
    pub(crate) fn schedule(&self) -> (c_int, c_int) {
        (self.policy.load(Ordering::Relaxed), self.priority.load(Ordering::Relaxed))
    }

    /// Notes what the program asked for, whether or not the kernel agreed.
    pub(crate) fn set_schedule(&self, policy: c_int, priority: c_int) {
        self.policy.store(policy, Ordering::Relaxed);
        self.priority.store(priority, Ordering::Relaxed);
        self.changed.store(true, Ordering::Relaxed);
    }
}

type Threads = HashMap<pthread_t, Arc<Thread>>;

/// The threads of this process, and which process that is.
struct Table(u32, Mutex<Threads>);

static THREADS: PerProcess<Table> = PerProcess::new();

thread_local! {
    static THIS: Entry = Entry::new();
}

/// A thread's place in the table.
struct Entry {
    handle: pthread_t,
    thread: Arc<Thread>,
}

impl Entry {
    fn new() -> Self {
        // SAFETY: has no conditions.
        let handle = unsafe { libc::pthread_self() };
        let (policy, priority) = priority::of_kernel(0).unwrap_or((libc::SCHED_OTHER, priority::USUAL));
        let thread = Arc::new(Thread {
            // SAFETY: has no conditions.
            tid: unsafe { libc::gettid() },
            number: client::calls::thread_id(),
            changed: AtomicBool::new(true),
            waiting: AtomicBool::new(false),
            priority: AtomicI32::new(priority),
            policy: AtomicI32::new(policy),
        });
        lock().insert(handle, Arc::clone(&thread));
        Self { handle, thread }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock().remove(&self.handle);
    }
}

fn lock() -> MutexGuard<'static, Threads> {
    let table = THREADS.get(|table| table.0 == generation(), || Table(generation(), Mutex::default()));
    table.1.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives this thread's entry; `None` when the thread is so far in its end that it has none any more.
pub(crate) fn this<T>(with: impl FnOnce(&Thread) -> T) -> Option<T> {
    THIS.try_with(|entry| with(&entry.thread)).ok()
}

/// Gives the entry of a thread while it cannot end; `None` when it is not known.
pub(crate) fn of<T>(handle: pthread_t, with: impl FnOnce(&Thread) -> T) -> Option<T> {
    lock().get(&handle).map(|thread| with(thread))
}

/// [`of`] by the kernel's number.
pub(crate) fn of_tid<T>(tid: pid_t, with: impl FnOnce(&Thread) -> T) -> Option<T> {
    find(|thread| thread.tid == tid, with)
}

/// [`of`] by QNX's number.
pub(crate) fn of_number<T>(number: c_int, with: impl FnOnce(&Thread) -> T) -> Option<T> {
    find(|thread| thread.number == number, with)
}

fn find<T>(is: impl Fn(&Thread) -> bool, with: impl FnOnce(&Thread) -> T) -> Option<T> {
    let threads = lock();
    threads.values().find(|thread| is(thread)).map(|thread| with(thread))
}

/// Tells the library below of a priority that another thread gave to this one: it goes with what the thread sends next.
///
/// What the thread set itself was told at once; what it inherits from a client is the library's to know.
pub(crate) fn announce() {
    this(|this| {
        if this.changed.swap(false, Ordering::Relaxed) {
            client::calls::set_priority(this.priority.load(Ordering::Relaxed));
        }
    });
}
