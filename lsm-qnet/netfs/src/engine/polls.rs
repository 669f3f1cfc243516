//! What of an open file is ready.
//!
//! Files with a size always are. Of FIFOs, devices and the like the node is asked; when nothing is ready and somebody waits, it
//! is asked a second time, with leave to answer later, and its answer wakes the kernel, which then asks anew. One such question
//! is open for each file handle.

use std::collections::HashMap;

use qnet_iomsg::filesys::special;
use tracing::debug;

use super::{Engine, Owner, job::Job, task::Task};
use crate::{
    fuse::{abi::PollOut, reply},
    link::{Failure, Reply, Request, TxnId},
};

/// What a file that never makes anybody wait is ready for.
const ALWAYS: libc::c_short = libc::POLLIN | libc::POLLOUT | libc::POLLRDNORM | libc::POLLWRNORM;

/// Questions that wait for an answer, by file handle.
#[derive(Debug, Default)]
pub(super) struct Watches(HashMap<u64, Watch>);

#[derive(Clone, Copy, Debug)]
struct Watch {
    txn: TxnId,
    events: u32,
    /// The kernel's number for who waits.
    kh: u64,
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
        let before = self.watches.0.get(&fh).copied();
        if before.is_some_and(|watch| watch.events & events == events && watch.kh == kh) {
            return;
        }
        let events = events | before.map_or(0, |watch| watch.events);
        self.unwatch(fh);
        let Some(file) = self.handle_file(fh) else { return };
        let (session, coid) = (file.session, file.coid);
        let message = special::Request { events, wait: true }.emit();
        match self.link.request(session, Request::new(coid, message, 0)) {
            Ok(txn) => {
                self.owners.insert(txn, Owner::Watch(fh));
                self.watches.0.insert(fh, Watch { txn, events, kh });
            }
            // whoever waits is to ask again, and is told why it is in vain
            Err(_) => self.replies.push_back(reply::wake_poll(kh)),
        }
    }

    /// Takes a question back.
    pub(super) fn unwatch(&mut self, fh: u64) {
        if let Some(watch) = self.watches.0.remove(&fh) {
            self.owners.remove(&watch.txn);
            self.link.abandon(watch.txn, None);
        }
    }

    /// Something is ready, or the node is gone: who waits is to ask again.
    pub(super) fn on_watch(&mut self, fh: u64, result: Result<Reply, Failure>) {
        let Some(watch) = self.watches.0.remove(&fh) else { return };
        match result {
            // a node that cannot watch would be asked without end
            Err(failure) if !failure.lost => debug!(fh, failure.errno, "readiness is not told"),
            _ => self.replies.push_back(reply::wake_poll(watch.kh)),
        }
    }
}
