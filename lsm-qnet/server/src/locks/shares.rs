//! How much of the table of locks each node has: an owner costs a descriptor, a range memory of the kernel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use nix::errno::Errno;

use super::locked;
use crate::limits;

/// What is in use.
#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    owners: usize,
    ranges: usize,
}

/// What is in use by all nodes, and by each.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Owners that all nodes may have.
    most: OnceLock<usize>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    all: Usage,
    nodes: HashMap<u32, Usage>,
}

impl Shares {
    /// See [`LockTable::bound`](super::LockTable::bound); the first word counts.
    pub(super) fn bound(&self, owners: usize) {
        self.most.get_or_init(|| owners);
    }

    /// One more owner of a node; given back when it is dropped.
    ///
    /// # Errors
    /// ENOLCK: the node has enough, or all of them have.
    pub(super) fn owner(self: &Arc<Self>, nd: u32) -> Result<Share, Errno> {
        let most = self.most.get().copied().unwrap_or(limits::LOCK_OWNERS);
        let mut inner = locked(&self.inner);
        let of_node = inner.nodes.get(&nd).map_or(0, |usage| usage.owners);
        // three quarters of it are one node's share, as of everything
        if inner.all.owners >= most || of_node >= most - most / 4 {
            return Err(Errno::ENOLCK);
        }
        inner.all.owners += 1;
        inner.nodes.entry(nd).or_default().owners += 1;
        Ok(Share { shares: Arc::clone(self), nd, ranges: 0 })
    }

    /// Nodes that hold something.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        locked(&self.inner).nodes.len()
    }
}

/// One owner's part.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    nd: u32,
    ranges: usize,
}

impl Share {
    /// # Errors
    /// ENOLCK: its node holds as many ranges as one may, or all nodes do.
    pub(super) fn may_grow(&self) -> Result<(), Errno> {
        let inner = locked(&self.shares.inner);
        let of_node = inner.nodes.get(&self.nd).map_or(0, |usage| usage.ranges);
        let full = inner.all.ranges >= limits::LOCK_RANGES || of_node >= limits::LOCK_RANGES_PER_NODE;
        if full { Err(Errno::ENOLCK) } else { Ok(()) }
    }

    /// The owner has so many ranges now.
    pub(super) fn note(&mut self, ranges: usize) {
        let before = std::mem::replace(&mut self.ranges, ranges);
        let mut inner = locked(&self.shares.inner);
        inner.all.ranges = inner.all.ranges + ranges - before;
        let of_node = inner.nodes.entry(self.nd).or_default();
        of_node.ranges = of_node.ranges + ranges - before;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.note(0);
        let mut inner = locked(&self.shares.inner);
        inner.all.owners -= 1;
        let of_node = inner.nodes.entry(self.nd).or_default();
        of_node.owners -= 1;
        if of_node.owners == 0 {
            inner.nodes.remove(&self.nd);
        }
    }
}
