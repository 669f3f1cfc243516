//! What the kernel is told of a name: a number for the file, its attributes, and how long it may remember the name.
//!
//! Two kinds of files are not remembered by name, so that whoever opens one has looked it up himself just before:
//!
//! - what has been found by several names of its node (`joseph`, `joseph~preferred:en0`): the number is the same, and which
//!   way the messages go is decided by the name that the asking thread has looked up last;
//! - special files. One that somebody has open gets another number at the next look-up: the kernel lets only one at a
//!   time write to an inode, change it or remove its last name, and a FIFO that is full may keep the first one for ever.

use std::time::{Duration, Instant};

use qnet_iomsg::Stat;

use super::{
    Engine,
    job::Job,
    names::{LIFETIME, entry},
    task::{Name, Task},
};
use crate::{
    attributes::{self, FileId},
    fuse::{abi::EntryOut, reply},
    inodes::{Inode, Kind},
};

/// Where attributes are from that are given to the kernel later than they came, counted in answers of nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// Answers that had come when they were asked for.
    pub(super) asked: u64,
    /// The answer that brought them.
    pub(super) came: u64,
}

impl Origin {
    /// Whether another answer, from which the kernel was told, may tell of a later time. One message tells of a file with several
    /// names several times.
    fn is_before(self, told_by: u64) -> bool {
        self.asked < told_by && self.came != told_by
    }
}

impl Engine {
    /// The entry for a name that means the file with these attributes, with one more reference for the kernel.
    pub(super) fn named(&mut self, now: Instant, job: &Job, at: &Name, stat: &Stat) -> Result<EntryOut, i32> {
        let lifetime = self.lifetime_below(now, at.parent, &job.caller);
        self.named_for(now, at.get(), stat, (job.thread, lifetime, self.answers)).ok_or(libc::ESTALE)
    }

    /// The same for a name that `thread` has looked up, that may be remembered for `lifetime`, and of which `answer` told.
    pub(super) fn named_for(
        &mut self,
        now: Instant,
        (parent, name): (u64, &[u8]),
        stat: &Stat,
        (thread, lifetime, answer): (u32, Duration, u64),
    ) -> Option<EntryOut> {
        let kind = Kind::File(FileId::of(stat));
        let is_special = attributes::is_special(stat);
        if is_special && let Some(known) = self.inodes.known(parent, kind).filter(|id| self.is_in_use(*id)) {
            self.inodes.renew(known);
        }
        let known = self.inodes.known(parent, kind);
        let had_several = known.is_some_and(|id| self.inodes.has_several_ways(id));
        let nodeid = self.inodes.intern(parent, name, kind)?;
        let attr = self.learn(now, nodeid, stat, answer)?;
        let mut entry = entry(nodeid, lifetime, attr);
        let has_several = self.inodes.has_several_ways(nodeid);
        self.inodes.note_asker(nodeid, (parent, name), thread);
        if has_several && !had_several {
            // it may be remembered by the other name
            self.names_changed(now, parent);
        }
        if has_several || is_special {
            (entry.entry_valid, entry.entry_valid_nsec) = (0, 0);
        }
        Some(entry)
    }

    /// Whether the kernel has been told of the file that a name means by an answer that came after the attributes at hand were asked
    /// for: by an open, over a handle, by another name. They may be the older ones, and a size that goes back would take pages away
    /// from those who have the file open.
    pub(super) fn knows_better(&self, (parent, name): (u64, &[u8]), stat: &Stat, origin: Origin) -> bool {
        let by_identity = self.inodes.known(parent, Kind::File(FileId::of(stat)));
        let known = [by_identity, self.inodes.child((parent, name))].into_iter().flatten();
        known.filter_map(|id| self.inodes.get(id)).any(|inode| origin.is_before(inode.told_by))
    }

    /// Names of a node have changed: what the kernel remembers of them by another name of that node it is to look up anew. (Kernels
    /// before 6.16 cannot be told, and forget it after a second.)
    pub(super) fn names_changed(&mut self, now: Instant, directory: u64) {
        let node = self.inodes.get(directory).map_or(0, Inode::node);
        if self.has_epochs && self.inodes.is_given_elsewhere(node, now, LIFETIME) {
            self.replies.push_back(reply::forget_names());
        }
    }

    /// Whether somebody has a file open, or is about to.
    fn is_in_use(&self, nodeid: u64) -> bool {
        let opens = |job: &Job| matches!(job.task, Task::Open { nodeid: id, .. } if id == nodeid);
        self.inodes.get(nodeid).is_some_and(|inode| !inode.open.is_empty()) || self.jobs.values().any(opens)
    }
}
