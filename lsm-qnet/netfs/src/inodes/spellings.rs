//! One node by several names: `joseph`, `joseph.lab`, `joseph~preferred:en0`.
//!
//! Each name is a directory of its own in `/net`, because the name decides which way messages go. The files are the same
//! whatever the way to them: a file that is no directory has one number, and so one page cache, below all names of its node.
//! Names that have the node's number in common are a *group*; when a number changes hands, so does the name, and what lies below
//! it is looked up anew.

use std::time::{Duration, Instant};

use super::{Inode, Inodes, Kind};
use crate::{attributes, fuse::ROOT_ID};

/// The bits of an nd that say which node it is; the others are the policy.
const NODE: u32 = 0xffff;

impl Inodes {
    /// What stands for a node, whichever of its names `node` is.
    pub fn group(&self, node: u64) -> u64 {
        self.inodes.get(&node).map_or(0, |inode| inode.group)
    }

    /// Whether a name in the network directory is known to be this node's.
    pub fn is_name_of(&self, node: u64, name: &[u8]) -> bool {
        let seed = attributes::seed(name);
        let same =
            |other: &u64| self.inodes.get(other).is_some_and(|inode| attributes::seed(inode.name()) == seed);
        same(&node) || self.others(node).any(|other| same(&other))
    }

    /// Whether a file has names below several names of its node.
    pub fn has_several_ways(&self, id: u64) -> bool {
        let Some(inode) = self.inodes.get(&id) else { return false };
        let mut ways =
            inode.places.iter().filter_map(|place| self.inodes.get(&place.parent)).map(|dir| dir.node);
        let first = ways.next();
        ways.any(|way| Some(way) != first)
    }

    /// Notes which thread has looked a name up: what it does next with the file it does by that name.
    pub fn note_asker(&mut self, id: u64, (parent, name): (u64, &[u8]), thread: u32) {
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        for place in &mut inode.places {
            if place.parent == parent && *place.name == *name {
                place.by = thread;
            } else if place.by == thread {
                place.by = 0;
            }
        }
    }

    /// Notes that the kernel remembers names below this name of a node.
    pub fn note_given(&mut self, node: u64, now: Instant) {
        if let Some(inode) = self.inodes.get_mut(&node) {
            inode.below_mut().given = Some(now);
        }
    }

    /// Whether the kernel may remember something below another name of this node: it was told so less than `lifetime` ago.
    pub fn is_given_elsewhere(&self, node: u64, now: Instant, lifetime: Duration) -> bool {
        let given = |other: u64| self.inodes.get(&other)?.below.as_ref()?.given;
        self.others(node).filter_map(given).any(|given| now < given + lifetime)
    }

    /// A node's number has become known: its name joins those that have the same one, and leaves those that have another.
    pub(super) fn regroup(&mut self, node: u64, (generation, nd): (u32, u32)) {
        let number = |other: u64| self.nd(other, generation).map(|nd| nd & NODE);
        let same = self.nodes().find(|other| *other != node && number(*other) == Some(nd & NODE));
        let own = self.group(node);
        let group = match same {
            Some(other) => self.group(other),
            None if self.others(node).any(|other| number(other).is_some()) => {
                self.last += 1;
                self.last
            }
            None => own,
        };
        if group == own {
            return;
        }
        self.drop_files_below(node);
        let seed = same.map_or_else(
            || self.inodes.get(&node).map_or(0, |inode| attributes::seed(inode.name())),
            |other| self.seed(other),
        );
        // files without a name keep what they are known as
        let moves = |inode: &&mut Inode| match inode.kind {
            Kind::Node => true,
            Kind::File(id) => id.is_directory(),
            _ => false,
        };
        for inode in self.inodes.values_mut().filter(|inode| inode.node == node).filter(moves) {
            (inode.group, inode.seed) = (group, seed);
        }
    }

    /// Names below `node` of what other names may share are forgotten here; the kernel asks for them again.
    fn drop_files_below(&mut self, node: u64) {
        let mut dropped = Vec::new();
        for inode in self.inodes.values() {
            if !matches!(inode.kind, Kind::File(id) if !id.is_directory()) {
                continue;
            }
            let below = |parent: &u64| self.inodes.get(parent).is_some_and(|dir| dir.node == node);
            let places = inode.places.iter().filter(|place| below(&place.parent));
            dropped.extend(places.map(|place| (place.parent, std::rc::Rc::clone(&place.name))));
        }
        for (parent, name) in dropped {
            self.remove_name(parent, &name);
        }
    }

    /// Other names of the same node.
    fn others(&self, node: u64) -> impl Iterator<Item = u64> {
        let group = self.group(node);
        self.nodes().filter(move |other| *other != node && self.group(*other) == group)
    }

    fn nodes(&self) -> impl Iterator<Item = u64> {
        let root = self.inodes.get(&ROOT_ID).and_then(|root| root.below.as_ref());
        root.into_iter().flat_map(|below| below.names.values().copied())
    }
}
