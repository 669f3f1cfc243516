//! Threads that wait for the same sockets: one leads and waits for the kernel, the others sleep until it wakes them.
//!
//! There is no thread of the library behind a channel or connection; whoever waits does the work for all. The leader sorts what
//! arrives and wakes those whom it concerns. A thread that got what it wanted and was the leader wakes one of those that
//! still sleep, so that somebody leads as long as anybody waits.

use std::{cell::RefCell, sync::Arc};

use crate::sys::Parker;

thread_local! {
    static PARKER: RefCell<Arc<Parker>> = RefCell::default();
}

/// The sleeping place of the calling thread.
pub(crate) fn parker() -> Arc<Parker> {
    PARKER.with_borrow_mut(|parker| {
        if !parker.is_ours() {
            *parker = Arc::default();
        }
        Arc::clone(parker)
    })
}

/// Who waits, and for what; `K` tells it.
#[derive(Debug)]
pub(crate) struct Crew<K> {
    /// A thread waits for the kernel.
    pub(crate) leading: bool,
    asleep: Vec<(K, Arc<Parker>)>,
}

impl<K> Default for Crew<K> {
    fn default() -> Self {
        Self { leading: false, asleep: Vec::new() }
    }
}

impl<K: Copy + PartialEq> Crew<K> {
    /// The calling thread is about to sleep until something about `key` happens.
    pub(crate) fn join(&mut self, key: K) -> Arc<Parker> {
        let parker = parker();
        self.asleep.push((key, Arc::clone(&parker)));
        parker
    }

    /// The calling thread is awake again.
    pub(crate) fn leave(&mut self, parker: &Arc<Parker>) {
        if let Some(at) = self.asleep.iter().position(|(_, other)| Arc::ptr_eq(other, parker)) {
            self.asleep.remove(at);
        }
    }

    /// Something about `key` happened.
    pub(crate) fn wake(&self, key: K) {
        for (_, parker) in self.asleep.iter().filter(|(wants, _)| *wants == key) {
            parker.unpark();
        }
    }

    /// One thread that waits for `key` has something to do. The one that has slept longest is taken, and will not be
    /// taken again before it has slept again.
    pub(crate) fn wake_one(&mut self, key: K) {
        if let Some(at) = self.asleep.iter().position(|(wants, _)| *wants == key) {
            self.asleep.remove(at).1.unpark();
        }
    }

    /// Whether a thread sleeps that waits for `key`.
    #[cfg(test)]
    pub(crate) fn has_asleep(&self, key: K) -> bool {
        self.asleep.iter().any(|(wants, _)| *wants == key)
    }

    /// Everything changed.
    pub(crate) fn wake_all(&self) {
        for (_, parker) in &self.asleep {
            parker.unpark();
        }
    }

    /// The calling thread stops waiting: somebody else has to lead, if anybody still waits.
    pub(crate) fn hand_over(&self) {
        if !self.leading
            && let Some((_, parker)) = self.asleep.first()
        {
            parker.unpark();
        }
    }
}
