//! What of an open file is ready.
//!
//! Files with a size always are. Of FIFOs, devices and the like the node is asked; when nothing is ready and somebody waits, it
//! is asked a second time, with leave to answer later, and its answer wakes the kernel, which then asks anew. One such question
//! is open for each file handle.
//!
//! A node that refuses the second question (it has no room for more that wait) is asked once in [`PAUSE`] instead: the kernel
//! may be woken for nothing, and asks anew as long as somebody waits.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use qnet_iomsg::filesys::special;
use tracing::debug;

use super::{Engine, Owner, job::Job, task::Task};
use crate::{
    fuse::{abi::PollOut, reply},
    link::{Failure, Reply, Request, TxnId},
};

/// What a file that never makes anybody wait is ready for.
const ALWAYS: libc::c_short = libc::POLLIN | libc::POLLOUT | libc::POLLRDNORM | libc::POLLWRNORM;

/// Time between two questions for a node that does not tell by itself.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Questions that wait for an answer, by file handle.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_handle: HashMap<u64, Watch>,
    /// Handles of those whose question was refused, by when the kernel is woken instead.
    refused: BTreeSet<(Instant, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    state: State,
    events: u32,
    /// The kernel's number for who waits.
    kh: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Asked(TxnId),
    Refused { again: Instant },
}

impl Watches {
    /// When somebody is to be woken.
    pub(super) fn next(&self) -> Option<Instant> {
        self.refused.first().map(|(again, _)| *again)
    }
}

impl Engine {
    /// The answer to a POLL of a file that is always ready.
    pub(super) fn always_ready(&self, unique: u64, fh: u64, events: u32) -> Option<Vec<u8>> {
        let is_stream = self.handle_file(fh).is_some_and(|file| file.stream);
        let revents = events & u32::from(ALWAYS.cast_unsigned());
        (!is_stream).then(|| reply::body(unique, &PollOut { revents, padding: 0 }))
    }

    /// The node has said what is ready now.
    pub(super) fn on_poll(&mut self, unique: u64, job: &Job, status: i64) -> Result<Vec<u8>, i32> {
        let Task::Poll { fh, events, notify } = job.task else { return Err(libc::EIO) };
        let revents = u32::try_from(status).map_err(|_| libc::EIO)?;
        if let (0, Some(kh)) = (revents, notify) {
            self.watch(fh, events, kh);
        }
        Ok(reply::body(unique, &PollOut { revents, padding: 0 }))
    }

    /// Asks to be told when one of the events comes.
    fn watch(&mut self, fh: u64, events: u32, kh: u64) {
        let before = self.watches.by_handle.get(&fh).copied();
        if before.is_some_and(|watch| watch.events & events == events && watch.kh == kh) {
            return;
        }
        let events = events | before.map_or(0, |watch| watch.events);
        self.unwatch(fh);
        let Some(file) = self.handle_file(fh) else { return };
        let (session, coid) = (file.session, file.coid);
        let message = special::Request { events, wait: true }.emit();
        match self.link.request(session, Request { at_once: true, ..Request::new(coid, message, 0) }) {
            Ok(txn) => {
                self.owners.insert(txn, Owner::Watch(fh));
                self.watches.by_handle.insert(fh, Watch { state: State::Asked(txn), events, kh });
            }
            // whoever waits is to ask again, and is told why it is in vain
            Err(_) => self.replies.push_back(reply::wake_poll(kh)),
        }
    }

    /// Takes a question back.
    pub(super) fn unwatch(&mut self, fh: u64) {
        match self.watches.by_handle.remove(&fh).map(|watch| watch.state) {
            Some(State::Asked(txn)) => {
                self.owners.remove(&txn);
                self.link.abandon(txn, None);
            }
            Some(State::Refused { again }) => _ = self.watches.refused.remove(&(again, fh)),
            None => {}
        }
    }

    /// Something is ready, or the node is gone: who waits is to ask again. If the node refuses to tell, after a while.
    pub(super) fn on_watch(&mut self, now: Instant, fh: u64, result: Result<Reply, Failure>) {
        let Some(watch) = self.watches.by_handle.remove(&fh) else { return };
        match result {
            Err(failure) if !failure.lost => {
                debug!(fh, failure.errno, "readiness is not told");
                let again = now + PAUSE;
                self.watches.refused.insert((again, fh));
                self.watches.by_handle.insert(fh, Watch { state: State::Refused { again }, ..watch });
            }
            _ => self.replies.push_back(reply::wake_poll(watch.kh)),
        }
    }

    /// Has those ask again whose node does not tell.
    pub(super) fn watch_again(&mut self, now: Instant) {
        while let Some((again, fh)) = self.watches.refused.first().copied()
            && again <= now
        {
            self.watches.refused.pop_first();
            if let Some(watch) = self.watches.by_handle.remove(&fh) {
                self.replies.push_back(reply::wake_poll(watch.kh));
            }
        }
    }
}
