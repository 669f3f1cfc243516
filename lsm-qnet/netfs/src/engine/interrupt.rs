//! Signals for those who wait.
//!
//! The kernel says that a signal has come, not what it does. A wait that may last for ever (a read of a FIFO) ends,
//! whatever signal it was: the node is asked to let go, and its answer says whether bytes have moved already, because what has
//! been taken from a FIFO would be lost, and what has been put into it would be written twice by who tries again. Everything
//! else goes on, as it does on a local file system, unless the signal ends the process: then the request is given up, and the
//! node is asked to let go of it. The kernel tells us once per request, so who went on is looked at again until the request
//! ends.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tracing::debug;

use super::Engine;
use crate::fuse::reply;

/// Time between two looks at a process that goes on after a signal. A signal that ends it works within this time.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Requests whose processes got a signal and go on, by the time of the next look.
#[derive(Debug, Default)]
pub(super) struct Patience(BTreeSet<(Instant, u64)>);

impl Patience {
    /// When somebody is to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }
}

impl Engine {
    /// A signal hit the process that waits for `unique`. A request that has ended meanwhile needs nothing.
    pub(super) fn interrupt(&mut self, now: Instant, unique: u64) {
        if self.take_lock_back(now, unique) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&unique) else { return };
        // an open that comes too late is closed again, and nothing is lost with it
        let stays = !job.waits || !job.task.opens();
        if stays && !(self.config.is_dying)(job.thread) {
            if job.waits
                && !std::mem::replace(&mut job.asked_back, true)
                && let Some(txn) = job.txn()
            {
                self.link.unblock(txn);
            }
            self.look_again_later(now, unique);
        } else if let Some(job) = self.withdraw(unique) {
            debug!(unique, "interrupted: {:?}", job.task);
            self.replies.push_back(reply::status(unique, libc::EINTR));
        }
    }

    /// Who waits for `unique` goes on after a signal.
    pub(super) fn look_again_later(&mut self, now: Instant, unique: u64) {
        self.patience.0.insert((now + LOOK_AGAIN, unique));
    }

    /// Looks at those again who went on after a signal.
    pub(super) fn look_again(&mut self, now: Instant) {
        while let Some((at, unique)) = self.patience.0.first().copied()
            && at <= now
        {
            self.patience.0.pop_first();
            self.interrupt(now, unique);
        }
    }
}
