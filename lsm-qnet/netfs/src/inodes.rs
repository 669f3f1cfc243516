//! What the kernel knows of `/net`: a number for each file it has looked up.
//!
//! ```text
//!  1 root ── 2 joseph (node) ── 5 etc ── 9 hostname        nodeid ↔ node + path
//! ```
//!
//! A nodeid stands for one file and is never used again. A file that is no directory keeps its number under all of its
//! names, so that hard links share what the kernel caches; the name that was seen last is the one it is asked for by.
//! When a name turns out to mean another file (renamed over, node rebooted), the old number loses that name; whoever still
//! holds a number without a name gets ESTALE instead of the other file's data, unless the file is open.
//!
//! One node may have several names (`inodes/spellings.rs`); its files have one number below all of them.
//!
//! Directories have one name each: the kernel wants it so, and a bind mount over there shows one directory twice.
//!
//! An inode lives while the kernel holds references (`nlookup`, taken back by FORGET) or while others lie below it.

use std::{collections::HashMap, rc::Rc, time::Instant};

use qnet_iomsg::{Stat, filesys};

use crate::{
    attributes::{self, FileId},
    fuse::ROOT_ID,
};

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

impl Kind {
    /// Whether it is a file of a node, below the node's root.
    pub fn is_remote(self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// Whether everybody may search a directory, and when that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// User, group and others all have execute permission.
    pub everybody: bool,
    /// When the node said so.
    pub seen: Instant,
}

/// The node has said that a file has no extended attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bare {
    /// It may be believed until then.
    pub until: Instant,
    /// How often anything had been changed from here at that time.
    pub changes: u64,
    /// The user that it was said to; others may see more.
    pub uid: u32,
}

/// What the kernel was told last of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Bytes.
    pub size: u64,
    /// Time of the last change, seconds and nanoseconds.
    pub mtime: (i64, u32),
}

impl Version {
    /// What attributes say of the content.
    pub fn of(stat: &Stat) -> Self {
        Self { size: stat.size, mtime: (stat.mtime.seconds, stat.mtime.nanoseconds) }
    }
}

/// A name in a directory. The directory has the same bytes as its key: there may be a million.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    parent: u64,
    name: Rc<[u8]>,
    /// The thread that looked it up last, as far as that matters; 0: nobody in particular.
    by: u32,
}

/// What only directories have.
#[derive(Debug, Default)]
struct Below {
    names: HashMap<Rc<[u8]>, u64>,
    /// The link's generation and the node's number in it.
    nd: Option<(u32, u32)>,
    /// The last number, valid or not; the inode number is made of it.
    last_nd: Option<u32>,
    /// Of a node: when the kernel was last told to remember something below this name.
    given: Option<Instant>,
    search: Option<Search>,
    asking: bool,
}

/// A file the kernel knows.
#[derive(Debug)]
pub struct Inode {
    /// Its names, the one seen last at the end.
    places: Vec<Place>,
    kind: Kind,
    /// nodeid of the node's directory, its own for a node; 0 for what is on no node.
    node: u64,
    /// What stands for the node, whichever of its names is used.
    group: u64,
    /// What is mixed into the inode number.
    seed: u64,
    nlookup: u64,
    below: Option<Box<Below>>,
    /// What the kernel was told last.
    pub told: Option<Version>,
    /// The answer that it was told by, counted in answers of nodes: what was asked for before that one may be older.
    pub told_by: u64,
    /// It has no extended attributes, as far as that is known.
    pub bare: Option<Bare>,
    /// Handles of those who have it open.
    pub open: Vec<u64>,
}

impl Inode {
    fn new(kind: Kind, node: u64, (group, seed): (u64, u64)) -> Self {
        let (places, open) = (Vec::new(), Vec::new());
        let (told, told_by, bare) = (None, 0, None);
        Self { places, kind, node, group, seed, nlookup: 0, below: None, told, told_by, bare, open }
    }

    /// What it stands for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What stands for the node that has the file, whichever of its names is used.
    pub fn group(&self) -> u64 {
        self.group
    }

    /// What is mixed into its inode number, see [`Inodes::seed`].
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// nodeid of the directory of the node that has the file; of a file with several ways to it, that of the first, which
    /// may be gone.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// The directory it lies in; `None` for the root, and for a file that has lost its name.
    pub fn parent(&self) -> Option<u64> {
        self.places.last().map(|place| place.parent)
    }

    /// The number that the node had when it was last known.
    pub fn last_nd(&self) -> Option<u32> {
        self.below.as_ref()?.last_nd
    }

    /// Whether everybody may search the directory, as far as that is known.
    pub fn search(&self) -> Option<Search> {
        self.below.as_ref()?.search
    }

    /// Notes who may search the directory; what was known before.
    pub fn set_search(&mut self, search: Option<Search>) -> Option<Search> {
        std::mem::replace(&mut self.below_mut().search, search)
    }

    /// Whether a question about that is under way.
    pub fn is_asking(&self) -> bool {
        self.below.as_ref().is_some_and(|below| below.asking)
    }

    /// Notes whether one is.
    pub fn set_asking(&mut self, asking: bool) {
        self.below_mut().asking = asking;
    }

    fn below_mut(&mut self) -> &mut Below {
        self.below.get_or_insert_default()
    }

    /// The file of that name in the directory.
    fn child(&self, name: &[u8]) -> Option<u64> {
        self.below.as_ref()?.names.get(name).copied()
    }

    /// Whether the kernel or something below it needs it.
    fn is_needed(&self) -> bool {
        self.nlookup > 0 || self.below.as_ref().is_some_and(|below| !below.names.is_empty())
    }

    /// Its last path component; empty for the root, and for a file that has lost its name.
    pub fn name(&self) -> &[u8] {
        self.places.last().map_or(&[], |place| &place.name)
    }

    /// The guard of a directory, see [`filesys::guard`]; 0 where there is nothing to guard: a node's root is not renamed.
    fn guard(&self) -> u32 {
        match self.kind {
            Kind::File(id) => filesys::guard(id.device, id.ino),
            _ => 0,
        }
    }

    /// The file grew, or its size was set, by what was done here.
    pub fn note_size(&mut self, size: impl FnOnce(u64) -> u64) {
        if let Some(told) = &mut self.told {
            told.size = size(told.size);
        }
    }
}

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// nodeid of the node's directory.
    pub node: u64,
    /// Path on the node, relative to its root, without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// Guard of the directory that the last component lies in, see [`filesys::guard`]; 0 where none is needed.
    pub guard: u32,
}

/// All inodes.
#[derive(Debug)]
pub struct Inodes {
    inodes: HashMap<u64, Inode>,
    /// Files that are no directories, by node (whatever its name) and identity.
    files: HashMap<(u64, FileId), u64>,
    last: u64,
}

impl Default for Inodes {
    fn default() -> Self {
        let root = Inode::new(Kind::Root, 0, (0, 0));
        Self { inodes: HashMap::from([(ROOT_ID, root)]), files: HashMap::new(), last: ROOT_ID }
    }
}

impl Inodes {
    /// The nodeid for a name in a directory, with one more reference for the kernel. `None` when the directory is not
    /// known.
    pub fn intern(&mut self, parent: u64, name: &[u8], kind: Kind) -> Option<u64> {
        let directory = self.inodes.get(&parent)?;
        let Inode { node, group, seed, .. } = *directory;
        // what is no directory holds nothing: it could come to lie in itself
        if matches!(directory.kind, Kind::File(of) if !of.is_directory()) {
            return None;
        }
        if let Some(id) = directory.child(name) {
            if self.inodes.get(&id)?.kind == kind {
                self.inodes.get_mut(&id)?.nlookup += 1;
                self.prefer(id, parent, name);
                return Some(id);
            }
            self.remove_name(parent, name);
        }
        let known = shared(group, kind).and_then(|key| self.files.get(&key).copied());
        let id = match known {
            Some(id) => id,
            None => {
                self.last += 1;
                let id = self.last;
                let inode = match kind {
                    Kind::Node => Inode::new(kind, id, (id, attributes::seed(name))),
                    _ => Inode::new(kind, node, (group, seed)),
                };
                self.inodes.insert(id, inode);
                if let Some(key) = shared(group, kind) {
                    self.files.insert(key, id);
                }
                id
            }
        };
        self.inodes.get_mut(&id)?.nlookup += 1;
        self.add_name(parent, name, id);
        Some(id)
    }

    /// The nodeid that a file has below whichever names of the node that `directory` is of; `None` for directories, too.
    pub fn known(&self, directory: u64, kind: Kind) -> Option<u64> {
        self.files.get(&shared(self.inodes.get(&directory)?.group, kind)?).copied()
    }

    /// A nodeid for a file that is never asked for by it, with one reference for the kernel.
    pub fn unnamed(&mut self, kind: Kind) -> u64 {
        self.last += 1;
        let inode = Inode { nlookup: 1, ..Inode::new(kind, 0, (0, 0)) };
        self.inodes.insert(self.last, inode);
        self.last
    }

    /// The kernel gives back references.
    pub fn forget(&mut self, id: u64, nlookup: u64) {
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.nlookup = inode.nlookup.saturating_sub(nlookup);
        }
        self.collect(id);
    }

    /// A name is no more.
    pub fn remove_name(&mut self, parent: u64, name: &[u8]) {
        let Some(directory) = self.inodes.get_mut(&parent) else { return };
        let Some(id) = directory.below.as_mut().and_then(|below| below.names.remove(name)) else { return };
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.places.retain(|place| place.parent != parent || *place.name != *name);
        }
        self.collect(id);
        self.collect(parent);
    }

    /// A name has moved; what the new one meant before has lost it.
    pub fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8])) {
        if from == to {
            return;
        }
        let moved = self.child(from);
        self.remove_name(to.0, to.1);
        let Some(id) = moved else { return };
        self.add_name(to.0, to.1, id);
        self.remove_name(from.0, from.1);
    }

    /// Two names have changed places.
    pub fn exchange(&mut self, one: (u64, &[u8]), other: (u64, &[u8])) {
        // References keep both alive while they have no name.
        let [first, second] = [one, other].map(|place| self.hold(self.child(place)));
        for ((parent, name), id) in [(one, second), (other, first)] {
            self.remove_name(parent, name);
            if let Some(id) = id {
                self.add_name(parent, name, id);
            }
        }
        [first, second].into_iter().flatten().for_each(|id| self.forget(id, 1));
    }

    /// The file that a name is known to mean.
    pub fn child(&self, (parent, name): (u64, &[u8])) -> Option<u64> {
        self.inodes.get(&parent)?.child(name)
    }
    /// An inode by its number.
    pub fn get(&self, id: u64) -> Option<&Inode> {
        self.inodes.get(&id)
    }

    /// An inode by its number.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Inode> {
        self.inodes.get_mut(&id)
    }

    /// Node and path of a file. `None` for the root, the statistics, unknown numbers, and what has lost its name.
    pub fn location(&self, id: u64) -> Option<Location> {
        self.location_for(id, 0)
    }

    /// The same by the name that `thread` has looked up, if the file has several and it has looked up one of them.
    pub fn location_for(&self, id: u64, thread: u32) -> Option<Location> {
        let mut components = Vec::new();
        let mut guard = 0;
        let mut at = id;
        let places = &self.inodes.get(&id)?.places;
        let meant = places.iter().find(|place| thread != 0 && place.by == thread).or(places.last());
        loop {
            let inode = self.inodes.get(&at)?;
            let place = if at == id { meant } else { inode.places.last() };
            if at != id && components.len() == 1 {
                guard = inode.guard();
            }
            match inode.kind {
                Kind::Root | Kind::Statistics => return None,
                Kind::Node => break,
                Kind::File(_) => components.push(&*place?.name),
            }
            at = place?.parent;
        }
        components.reverse();
        Some(Location { node: at, path: components.join(&b'/'), guard })
    }

    /// Where a name in a directory is.
    pub fn location_in(&self, parent: u64, name: &[u8]) -> Option<Location> {
        let mut location = self.location(parent)?;
        location.guard = self.inodes.get(&parent)?.guard();
        if !location.path.is_empty() {
            location.path.push(b'/');
        }
        location.path.extend_from_slice(name);
        Some(location)
    }

    /// What is mixed into the inode numbers of a node's files: the same for all names of a node, and made of the first one that was
    /// used, so that it is the same in each life of this program: programs keep inode numbers (git's index does).
    pub fn seed(&self, node: u64) -> u64 {
        self.inodes.get(&node).map_or(0, Inode::seed)
    }

    /// The node's number, if it was learned on the link's connection `generation`.
    pub fn nd(&self, node: u64, generation: u32) -> Option<u32> {
        self.inodes
            .get(&node)?
            .below
            .as_ref()?
            .nd
            .filter(|(learned, _)| *learned == generation)
            .map(|(_, nd)| nd)
    }

    /// Notes or, with `None`, forgets the number of a node.
    pub fn set_nd(&mut self, node: u64, nd: Option<(u32, u32)>) {
        if let Some(inode) = self.inodes.get_mut(&node) {
            let below = inode.below_mut();
            let before = std::mem::replace(&mut below.nd, nd);
            below.last_nd = nd.map(|(_, nd)| nd).or(below.last_nd);
            if let Some(nd) = nd.filter(|_| before != nd) {
                self.regroup(node, nd);
            }
        }
    }

    /// A file gets another number at its next look-up; who has it open keeps this one.
    pub fn renew(&mut self, id: u64) {
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        if let Some(key) = shared(inode.group, inode.kind) {
            self.files.remove(&key);
        }
        let places = std::mem::take(&mut inode.places);
        for Place { parent, name, .. } in places {
            self.remove_name(parent, &name);
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

    /// Makes a name the one that a file is asked for by.
    fn prefer(&mut self, id: u64, parent: u64, name: &[u8]) {
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        let at = inode.places.iter().position(|place| place.parent == parent && *place.name == *name);
        if let Some(at) = at {
            let place = inode.places.remove(at);
            inode.places.push(place);
        }
    }

    fn add_name(&mut self, parent: u64, name: &[u8], id: u64) {
        let Some(directory) = self.inodes.get_mut(&parent) else { return };
        let name: Rc<[u8]> = name.into();
        directory.below_mut().names.insert(Rc::clone(&name), id);
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.places.push(Place { parent, name, by: 0 });
        }
    }

    /// One more reference, so that it is not collected.
    fn hold(&mut self, id: Option<u64>) -> Option<u64> {
        self.inodes.get_mut(&id?)?.nlookup += 1;
        id
    }

    /// Removes an inode that nobody needs, then its parents if that was their last, and so on.
    fn collect(&mut self, id: u64) {
        let mut unneeded = vec![id];
        while let Some(at) = unneeded.pop() {
            if at == ROOT_ID || self.inodes.get(&at).is_none_or(Inode::is_needed) {
                continue;
            }
            let Some(inode) = self.inodes.remove(&at) else { continue };
            if let Some(key) = shared(inode.group, inode.kind)
                && self.files.get(&key) == Some(&at)
            {
                self.files.remove(&key);
            }
            for Place { parent, name, .. } in inode.places {
                let Some(directory) = self.inodes.get_mut(&parent) else { continue };
                if directory.child(&name) == Some(at) {
                    directory.below_mut().names.remove(&name);
                    unneeded.push(parent);
                }
            }
        }
    }
}

/// The key under which a file shares its number with its other names.
fn shared(group: u64, kind: Kind) -> Option<(u64, FileId)> {
    match kind {
        Kind::File(id) if !id.is_directory() => Some((group, id)),
        _ => None,
    }
}

mod spellings;

#[cfg(test)]
mod tests;
