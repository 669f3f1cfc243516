//! Who waits for whom, and circles among them (EDEADLK).
//!
//! The search looks at all that lies between an owner and those in its way, while nobody else may begin to wait. Its work is
//! bounded by [`limits::LOCK_SEARCH`], whatever crowds of owners, ranges and waits a node has put there: a circle that is not
//! found within it is no error, its owners wait. They are tried again now and then, and searched for each time.

use std::collections::{BTreeMap, HashSet};

use super::ranges::Span;
use super::{FileKey, LockTable, OwnerKey, locked};
use crate::limits;

/// Ranges of an owner that are looked at in one step.
const RANGES: usize = 64;

/// What somebody waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) owner: OwnerKey,
    pub(super) file: FileKey,
    pub(super) span: Span,
    pub(super) write: bool,
}

/// A wait: its owner's, and the number of its [`Waiting`](super::Waiting).
pub(super) type WantKey = (OwnerKey, u64);

/// All waits.
#[derive(Debug, Default)]
pub(super) struct Wants(BTreeMap<WantKey, Want>);

impl Wants {
    /// One more.
    pub(super) fn insert(&mut self, id: u64, want: Want) -> WantKey {
        let key = (want.owner, id);
        self.0.insert(key, want);
        key
    }

    /// One is over.
    pub(super) fn remove(&mut self, key: WantKey) {
        self.0.remove(&key);
    }

    /// What an owner waits for.
    fn of(&self, owner: OwnerKey) -> impl Iterator<Item = &Want> {
        self.0.range((owner, 0)..=(owner, u64::MAX)).map(|(_, want)| want)
    }
}

/// What is left of the work that one search may do.
#[derive(Debug)]
pub(super) struct Budget(pub(super) usize);

impl Budget {
    /// Of one search.
    pub(super) const SEARCH: Self = Self(limits::LOCK_SEARCH);

    /// Whether there is so much left; it is used up then, else all of it is.
    fn spend(&mut self, steps: usize) -> bool {
        let enough = self.0 >= steps;
        self.0 = self.0.saturating_sub(steps);
        enough
    }
}

impl LockTable {
    /// Whether those in the way of `want` wait, over however many others, for its owner, as far as `budget` shows it.
    pub(super) fn is_deadlock(&self, wants: &Wants, want: &Want, mut budget: Budget) -> bool {
        let mut ahead = self.blockers(want, &mut budget);
        let mut seen: HashSet<OwnerKey> = ahead.iter().copied().collect();
        while let Some(owner) = ahead.pop() {
            for blocked in wants.of(owner) {
                if !budget.spend(1) {
                    return false;
                }
                for next in self.blockers(blocked, &mut budget) {
                    if next == want.owner {
                        return true;
                    }
                    if seen.insert(next) {
                        ahead.push(next);
                    }
                }
            }
        }
        false
    }

    /// The owners in the way of `want`, as far as the budget goes. Nobody, when their file's locks are being changed: a
    /// deadlock is found by the next try.
    fn blockers(&self, want: &Want, budget: &mut Budget) -> Vec<OwnerKey> {
        let files = locked(&self.files);
        let Some(file) = files.get(&want.file) else { return Vec::new() };
        let Ok(owners) = file.owners.try_lock() else { return Vec::new() };
        let others = owners.iter().filter(|(key, _)| **key != want.owner);
        let looked_at = others.take_while(|(_, owner)| budget.spend(1 + owner.ranges.len() / RANGES));
        let blocking =
            looked_at.filter(|(_, owner)| owner.ranges.in_the_way(want.span, want.write).is_some());
        blocking.map(|(key, _)| *key).collect()
    }
}
