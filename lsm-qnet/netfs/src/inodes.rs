//! What the kernel knows of `/net`: a number for each name it has looked up.
//!
//! ```text
//!  1 root ── 2 joseph (node) ── 5 etc ── 9 hostname        nodeid ↔ node + path
//! ```
//!
//! A nodeid stands for one file under one name and is never used again. When the name turns out to mean another file
//! (renamed over, node rebooted), the old number loses the name and the next look-up gives a new one; whoever still holds
//! the old one gets ESTALE instead of the other file's data.
//!
//! An inode lives while the kernel holds references (`nlookup`, taken back by FORGET) or while others lie below it.

use std::{collections::HashMap, time::Instant};

use crate::{attributes::FileId, fuse::ROOT_ID};

/// What a nodeid stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/net` itself.
    Root,
    /// A node's directory, which is that node's root directory.
    Node,
    /// The statistics of this node's Qnet.
    Statistics,
    /// A file or directory of a node.
    File(FileId),
}

/// Whether everybody may search a directory, and when that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// User, group and others all have execute permission.
    pub everybody: bool,
    /// When the node said so.
    pub seen: Instant,
}

/// A name the kernel knows.
#[derive(Debug)]
pub struct Inode {
    parent: u64,
    name: Box<[u8]>,
    kind: Kind,
    nlookup: u64,
    /// Inodes below, those that have lost their name included.
    dependants: u64,
    names: HashMap<Box<[u8]>, u64>,
    /// Node directories: the link's generation and the node's number in it.
    nd: Option<(u32, u32)>,
    /// Node directories: the last number, valid or not; the inode number is made of it.
    last_nd: Option<u32>,
    /// Directories only.
    pub search: Option<Search>,
    /// A question about `search` is under way.
    pub asking: bool,
    /// Size and time of change that the kernel was told last.
    pub told: Option<(u64, i64, u32)>,
}

impl Inode {
    fn new(parent: u64, name: &[u8], kind: Kind) -> Self {
        Self {
            parent,
            name: name.into(),
            kind,
            nlookup: 0,
            dependants: 0,
            names: HashMap::new(),
            nd: None,
            last_nd: None,
            search: None,
            asking: false,
            told: None,
        }
    }

    /// What it stands for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The directory it lies in; the root lies in itself.
    pub fn parent(&self) -> u64 {
        self.parent
    }

    /// The number that the node had when it was last known.
    pub fn last_nd(&self) -> Option<u32> {
        self.last_nd
    }

    /// Its last path component; empty for the root.
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// nodeid of the node's directory.
    pub node: u64,
    /// Path on the node, relative to its root, without a leading slash; empty for the root.
    pub path: Vec<u8>,
}

/// All inodes.
#[derive(Debug)]
pub struct Inodes {
    inodes: HashMap<u64, Inode>,
    last: u64,
}

impl Default for Inodes {
    fn default() -> Self {
        let root = Inode::new(ROOT_ID, b"", Kind::Root);
        Self { inodes: HashMap::from([(ROOT_ID, root)]), last: ROOT_ID }
    }
}

impl Inodes {
    /// The nodeid for a name in a directory, with one more reference for the kernel. `None` when the directory is not
    /// known.
    pub fn intern(&mut self, parent: u64, name: &[u8], kind: Kind) -> Option<u64> {
        let directory = self.inodes.get_mut(&parent)?;
        let known = directory.names.get(name).copied();
        if let Some(id) = known
            && let Some(inode) = self.inodes.get_mut(&id)
            && inode.kind == kind
        {
            inode.nlookup += 1;
            return Some(id);
        }
        self.last += 1;
        let id = self.last;
        let directory = self.inodes.get_mut(&parent)?;
        directory.names.insert(name.into(), id);
        directory.dependants += 1;
        let mut inode = Inode::new(parent, name, kind);
        inode.nlookup = 1;
        self.inodes.insert(id, inode);
        Some(id)
    }

    /// The kernel gives back references.
    pub fn forget(&mut self, id: u64, nlookup: u64) {
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.nlookup = inode.nlookup.saturating_sub(nlookup);
        }
        self.collect(id);
    }

    /// An inode by its number.
    pub fn get(&self, id: u64) -> Option<&Inode> {
        self.inodes.get(&id)
    }

    /// An inode by its number.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Inode> {
        self.inodes.get_mut(&id)
    }

    /// Node and path of a file. `None` for the root, the statistics and unknown numbers.
    pub fn location(&self, id: u64) -> Option<Location> {
        let mut components = Vec::new();
        let mut at = id;
        loop {
            let inode = self.inodes.get(&at)?;
            match inode.kind {
                Kind::Root | Kind::Statistics => return None,
                Kind::Node => break,
                Kind::File(_) => components.push(&*inode.name),
            }
            at = inode.parent;
        }
        components.reverse();
        Some(Location { node: at, path: components.join(&b'/') })
    }

    /// The node's number, if it was learned on the link's connection `generation`.
    pub fn nd(&self, node: u64, generation: u32) -> Option<u32> {
        self.inodes.get(&node)?.nd.filter(|(learned, _)| *learned == generation).map(|(_, nd)| nd)
    }

    /// Notes or, with `None`, forgets the number of a node.
    pub fn set_nd(&mut self, node: u64, nd: Option<(u32, u32)>) {
        if let Some(inode) = self.inodes.get_mut(&node) {
            inode.nd = nd;
            inode.last_nd = nd.map(|(_, nd)| nd).or(inode.last_nd);
        }
    }

    /// Number of inodes, the root included.
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Never: the root is always there.
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    /// Removes an inode that nobody needs, then its parent if that was its last, and so on.
    fn collect(&mut self, id: u64) {
        let mut at = id;
        while at != ROOT_ID {
            let Some(inode) = self.inodes.get(&at) else { return };
            if inode.nlookup > 0 || inode.dependants > 0 {
                return;
            }
            let Some(inode) = self.inodes.remove(&at) else { return };
            let Some(parent) = self.inodes.get_mut(&inode.parent) else { return };
            parent.dependants -= 1;
            if parent.names.get(&inode.name) == Some(&at) {
                parent.names.remove(&inode.name);
            }
            at = inode.parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(ino: u64) -> Kind {
        Kind::File(FileId { device: (8, 1), ino, file_type: libc::S_IFREG })
    }

    #[test]
    fn a_name_keeps_its_number_while_it_means_the_same_file() {
        let mut inodes = Inodes::default();
        let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
        let first = inodes.intern(node, b"etc", file(1)).unwrap();
        assert_eq!(inodes.intern(node, b"etc", file(1)), Some(first));
        let second = inodes.intern(node, b"etc", file(2)).unwrap();
        assert_ne!(first, second);
        assert_eq!(inodes.intern(node, b"etc", file(2)), Some(second));
        assert!(matches!(inodes.get(first).unwrap().kind(), kind if kind == file(1)));
    }

    #[test]
    fn a_location_is_the_node_and_the_path_on_it() {
        let mut inodes = Inodes::default();
        let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
        let etc = inodes.intern(node, b"etc", file(1)).unwrap();
        let name = inodes.intern(etc, b"hostname", file(2)).unwrap();
        assert_eq!(inodes.location(name), Some(Location { node, path: b"etc/hostname".to_vec() }));
        assert_eq!(inodes.location(node), Some(Location { node, path: vec![] }));
        assert_eq!(inodes.location(ROOT_ID), None);
        assert_eq!(inodes.location(999), None);
    }

    #[test]
    fn forgetting_everything_in_any_order_leaves_the_root_alone() {
        let mut inodes = Inodes::default();
        let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
        let etc = inodes.intern(node, b"etc", file(1)).unwrap();
        let old = inodes.intern(etc, b"hostname", file(2)).unwrap();
        let new = inodes.intern(etc, b"hostname", file(3)).unwrap();
        inodes.intern(etc, b"hostname", file(3)).unwrap();
        inodes.forget(node, 1);
        inodes.forget(etc, 1);
        assert_eq!(inodes.len(), 5, "those with others below them stay");
        inodes.forget(new, 1);
        assert_eq!(inodes.len(), 5, "one of two references is left");
        inodes.forget(new, 1);
        inodes.forget(old, 1);
        assert_eq!(inodes.len(), 1);
    }

    #[test]
    fn forgetting_too_much_or_the_root_does_no_harm() {
        let mut inodes = Inodes::default();
        inodes.forget(ROOT_ID, u64::MAX);
        inodes.forget(77, 1);
        let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
        inodes.forget(node, u64::MAX);
        assert_eq!(inodes.len(), 1);
        assert_ne!(inodes.intern(ROOT_ID, b"joseph", Kind::Node), Some(node), "numbers are never used again");
    }

    #[test]
    fn a_nodes_number_is_valid_within_one_life_of_the_link() {
        let mut inodes = Inodes::default();
        let node = inodes.intern(ROOT_ID, b"joseph", Kind::Node).unwrap();
        inodes.set_nd(node, Some((1, 4)));
        assert_eq!(inodes.nd(node, 1), Some(4));
        assert_eq!(inodes.nd(node, 2), None);
        inodes.set_nd(node, None);
        assert_eq!(inodes.nd(node, 1), None);
    }
}
