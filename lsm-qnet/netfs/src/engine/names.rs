//! Names and attributes: look-ups, `stat`, symbolic links, and how long the kernel may remember them.
//!
//! The kernel's cache knows no users: what one user looked up it shows to all. Below a directory that not everybody may
//! search this would let one user's look-up serve another, so there nothing is remembered (timeouts of 0). Elsewhere it is
//! remembered for [`LIFETIME`]. Whether everybody may search is asked of the node again when the answer is older than
//! [`SEARCH_LIFETIME`]; until it comes, nothing is remembered.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use qnet_iomsg::{Connect, Io, Stat, StatReply, stat};

use super::{Cache, Engine, Owner, Symlinks, job::Job, links, messages::LINK_MAX, task::Name};
use crate::{
    attributes::{self, FileId},
    caller::Caller,
    fuse::{
        ROOT_ID,
        abi::{Attr, AttrOut, EntryOut},
        reply,
    },
    inodes::{Inode, Kind, Location, Search, Version},
    link::{Failure, Reply, Request, Target},
};

/// How long the kernel may remember a name or attributes: short, because nobody tells us when they change.
pub(super) const LIFETIME: Duration = Duration::from_secs(1);
/// How long a directory's search permission is believed.
const SEARCH_LIFETIME: Duration = Duration::from_secs(10);

impl Engine {
    pub(super) fn on_lookup(
        &mut self,
        now: Instant,
        unique: u64,
        job: &Job,
        at: &Name,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let stat = parse(data)?;
        Ok(reply::body(unique, &self.named(now, job, at, &stat)?))
    }

    /// Attributes have come; `by_path` when the path, not an open file, was asked for them.
    pub(super) fn on_attributes(
        &mut self,
        now: Instant,
        unique: u64,
        caller: &Rc<Caller>,
        nodeid: u64,
        data: &[u8],
        by_path: bool,
    ) -> Result<Vec<u8>, i32> {
        if self.is_node(nodeid) {
            return Ok(self.own_attributes(unique, nodeid));
        }
        let stat = parse(data)?;
        let inode = self.inodes.get(nodeid).ok_or(libc::ESTALE)?;
        let parent = inode.parent();
        if matches!(inode.kind(), Kind::File(id) if by_path && !is_same(id, &stat)) {
            return Err(libc::ESTALE);
        }
        // A file without a name may not be found in any cache.
        let lifetime = parent.map_or(Duration::ZERO, |parent| self.lifetime_below(now, parent, caller));
        let attr = self.learn(now, nodeid, &stat, self.answers).ok_or(libc::ESTALE)?;
        Ok(reply::body(unique, &attributes_for(lifetime, attr)))
    }

    pub(super) fn on_link(
        &mut self,
        unique: u64,
        job: &Job,
        nodeid: u64,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let target = data.split(|byte| *byte == 0).next().unwrap_or_default();
        if target.is_empty() {
            return Err(libc::EIO);
        }
        if self.config.symlinks == Symlinks::Verbatim {
            return Ok(reply::bytes(unique, target));
        }
        let Location { node, path, .. } = self.inodes.location_for(nodeid, job.thread).ok_or(libc::ESTALE)?;
        let Some(path) = links::leaving(&path, target) else { return Ok(reply::bytes(unique, target)) };
        let name = self.inodes.get(node).ok_or(libc::ESTALE)?.name();
        let target = [&self.config.mount[..], b"/", name, &path].concat();
        if target.len() > LINK_MAX {
            return Err(libc::ENAMETOOLONG);
        }
        Ok(reply::bytes(unique, &target))
    }

    /// The target that the node of the directory `parent` is to have for a link made with `target`.
    pub(super) fn inside<'a>(&self, parent: u64, target: &'a [u8]) -> &'a [u8] {
        if self.config.symlinks == Symlinks::Verbatim {
            return target;
        }
        let node = self.inodes.get(parent).map_or(0, Inode::node);
        links::stripped(target, &self.config.mount, |name| self.inodes.is_name_of(node, name))
    }

    /// The answer "no such name", valid for `lifetime`.
    pub(super) fn absent(&self, unique: u64, lifetime: Duration) -> Vec<u8> {
        if lifetime.is_zero() {
            return reply::status(unique, libc::ENOENT);
        }
        reply::body(unique, &entry(0, lifetime, Attr::default()))
    }

    /// How long the kernel may remember what lies in `directory`.
    pub(super) fn lifetime_below(&mut self, now: Instant, directory: u64, caller: &Rc<Caller>) -> Duration {
        if self.config.cache == Cache::Nothing {
            return Duration::ZERO;
        }
        let mut unknown = Vec::new();
        let mut at = directory;
        while at != ROOT_ID {
            let Some(inode) = self.inodes.get(at) else { return Duration::ZERO };
            match inode.search() {
                Some(Search { everybody: false, seen }) if now < seen + SEARCH_LIFETIME => {
                    return Duration::ZERO;
                }
                Some(Search { everybody: true, seen }) if now < seen + SEARCH_LIFETIME => {}
                _ => unknown.push(at),
            }
            let Some(parent) = inode.parent() else { return Duration::ZERO };
            at = parent;
        }
        for nodeid in &unknown {
            self.ask_search(now, *nodeid, caller);
        }
        if !unknown.is_empty() {
            return Duration::ZERO;
        }
        if let Some(node) = self.inodes.get(directory).map(Inode::node) {
            self.inodes.note_given(node, now);
        }
        LIFETIME
    }

    /// Whether nothing below a directory is remembered, as far as is known; asks nobody.
    pub(super) fn remembers_nothing_below(&self, directory: u64) -> bool {
        let mut at = directory;
        while at != ROOT_ID {
            let inode = self.inodes.get(at);
            let open = inode.filter(|inode| inode.search().is_none_or(|search| search.everybody));
            let Some(parent) = open.and_then(Inode::parent) else { return true };
            at = parent;
        }
        self.config.cache == Cache::Nothing
    }

    /// Asks the node, in the background, who may search a directory.
    fn ask_search(&mut self, now: Instant, nodeid: u64, caller: &Rc<Caller>) {
        if self.inodes.get(nodeid).is_none_or(Inode::is_asking) {
            return;
        }
        let Some(Location { node, path, .. }) = self.inodes.location(nodeid) else { return };
        let Some(nd) = self.inodes.nd(node, self.link.generation()) else { return };
        let Ok(message) = Connect::combine_close(&path, false, &Io::Stat.to_bytes()).emit() else { return };
        let target = Target::Node { nd, caller: Rc::clone(caller) };
        let coid = self.next_coid();
        // No answer means that nothing is cached, which is safe.
        let Ok(session) = self.link.session(now, &target) else { return };
        let Ok(txn) = self.link.request(session, Request::new(coid, message, stat::REPLY_LEN)) else {
            return;
        };
        self.owners.insert(txn, Owner::Search(nodeid));
        if let Some(inode) = self.inodes.get_mut(nodeid) {
            inode.set_asking(true);
        }
    }

    pub(super) fn on_search(&mut self, now: Instant, nodeid: u64, result: Result<Reply, Failure>) {
        let stat = result.ok().and_then(|reply| parse(reply.buffer.data()).ok());
        let Some(inode) = self.inodes.get_mut(nodeid) else { return };
        inode.set_asking(false);
        inode.set_search(None);
        let same = |stat: &Stat| match inode.kind() {
            Kind::File(id) => is_same(id, stat),
            _ => true,
        };
        if let Some(stat) = stat.filter(same) {
            self.note_search(now, nodeid, &stat);
        }
    }

    /// Notes what attributes say about an inode that came with this answer, and gives the kernel's form of them.
    pub(super) fn learn(&mut self, now: Instant, nodeid: u64, stat: &Stat, answer: u64) -> Option<Attr> {
        self.note_search(now, nodeid, stat);
        let inode = self.inodes.get_mut(nodeid)?;
        inode.told = (!attributes::is_stream(stat)).then(|| Version::of(stat));
        inode.told_by = answer;
        Some(attributes::of_file(inode.seed(), stat))
    }

    fn note_search(&mut self, now: Instant, nodeid: u64, stat: &Stat) {
        if stat.mode & libc::S_IFMT != libc::S_IFDIR {
            return;
        }
        let Some(inode) = self.inodes.get_mut(nodeid) else { return };
        let everybody = attributes::everybody_searches(stat);
        let before = inode.set_search(Some(Search { everybody, seen: now }));
        if self.has_epochs && !everybody && before.is_some_and(|search| search.everybody) {
            // What lies below was found by people who may not find it any more.
            self.replies.push_back(reply::forget_names());
        }
    }
}

/// Whether attributes are those of the file with this identity. Files of `/proc` and `/sys` get new inode numbers as the
/// kernel over there pleases; their type has to do.
pub(super) fn is_same(id: FileId, stat: &Stat) -> bool {
    let found = FileId::of(stat);
    found == id || stat.flags & stat::FLAG_STREAM != 0 && found.file_type == id.file_type
}

/// A node's word on a file. A QNX node does not say which files have content and no size: an empty one may be such.
pub(super) fn parse(data: &[u8]) -> Result<Stat, i32> {
    let StatReply { mut stat, wide } = StatReply::parse(data).map_err(|_| libc::EIO)?;
    if !wide && stat.size == 0 {
        stat.flags |= stat::FLAG_STREAM;
    }
    Ok(stat)
}

pub(super) fn entry(nodeid: u64, lifetime: Duration, attr: Attr) -> EntryOut {
    EntryOut {
        nodeid,
        generation: 0,
        entry_valid: lifetime.as_secs(),
        attr_valid: lifetime.as_secs(),
        entry_valid_nsec: lifetime.subsec_nanos(),
        attr_valid_nsec: lifetime.subsec_nanos(),
        attr,
    }
}

pub(super) fn attributes_for(lifetime: Duration, attr: Attr) -> AttrOut {
    AttrOut { attr_valid: lifetime.as_secs(), attr_valid_nsec: lifetime.subsec_nanos(), dummy: 0, attr }
}
