//! Open directories of other nodes, read with the attributes of what is in them.
//!
//! An open brings the first entries along, so that a directory of ordinary size costs one round trip. What has come is kept
//! until the kernel has taken it. Attributes are given to the kernel only while they are fresh: for [`LIFETIME`], and as long
//! as nothing was changed from here and the kernel was not told of the file otherwise; afterwards the names alone are given,
//! and the kernel asks for the attributes itself.

use std::{
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use qnet_iomsg::{Dirents, Io, Stat, dirent::NAME_MAX, stat};
use tracing::debug;

use super::{
    Engine,
    entries::Origin,
    files::{Handle, OpenFile},
    job::Job,
    lookahead,
    names::{LIFETIME, entry},
    nodes,
    task::Task,
};
use crate::{
    attributes::{self, FileId},
    caller::Caller,
    fuse::{
        abi::{EntryOut, OpenOut},
        reply,
    },
    inodes::Kind,
};

/// Bytes of entries that an open brings along.
pub(super) const FIRST_LOOK: u32 = 64 * 1024;
/// Bytes of entries fetched at once later; the kernel mostly asks for less.
pub(super) const AHEAD: u32 = 256 * 1024;

/// Entries of a directory that the kernel has not asked for yet.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The offset at which the kernel continues when it takes the first of them.
    position: u64,
    entries: VecDeque<Entry>,
    /// Nothing comes behind them.
    is_end: bool,
    /// When they came.
    fetched: Instant,
    /// [`Engine::changes`] when they were asked for.
    changes: u64,
    origin: Origin,
}

#[derive(Debug)]
struct Entry {
    ino: u64,
    next: u64,
    kind: u8,
    name: Box<[u8]>,
    stat: Option<Box<Stat>>,
}

/// What is asked of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) fh: u64,
    pub(super) offset: u64,
    pub(super) size: u32,
    pub(super) plus: bool,
}

impl Engine {
    pub(super) fn readdir_task(&self, fh: u64, offset: u64, size: u32, plus: bool) -> Result<Task, i32> {
        match self.handles.get(&fh) {
            Some(Handle::Nodes(_)) => Ok(Task::ListNodes { fh, size, plus }),
            Some(Handle::Directory(..)) => Ok(Task::Readdir { fh, offset, size, plus }),
            Some(Handle::File(_) | Handle::Text(_)) => Err(libc::ENOTDIR),
            None => Err(libc::EBADF),
        }
    }

    /// A READDIR that needs nobody else, if it is one.
    pub(super) fn buffered_entries(&mut self, now: Instant, unique: u64, wanted: Wanted) -> Option<Vec<u8>> {
        let Wanted { fh, offset, size, plus } = wanted;
        match self.handles.get(&fh)? {
            Handle::Nodes(listed) if offset > 0 => Some(nodes::entries(unique, listed, offset, size, plus)),
            Handle::Directory(_, ahead) => {
                let fresh = offset > 0 || self.is_fresh(now, ahead);
                let known = ahead.position == offset && (ahead.is_end || !ahead.entries.is_empty());
                (fresh && known).then(|| self.take_entries(now, unique, wanted))
            }
            _ => None,
        }
    }

    pub(super) fn on_open_directory(
        &mut self,
        now: Instant,
        unique: u64,
        job: &Job,
        nodeid: u64,
        status: i64,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let session = job.session.ok_or(libc::EIO)?;
        let opened = self.checked(nodeid, data, true).and_then(|stat| {
            let entries = data.get(stat::REPLY_LEN..).unwrap_or_default();
            // A node that only opens has brought no entries: they are asked for.
            let ahead = if entries.is_empty() {
                Ahead::nothing(now)
            } else {
                self.entries(now, job, (nodeid, FileId::of(&stat)), FIRST_LOOK, status, entries)?
            };
            Ok((stat, ahead))
        });
        match opened {
            Ok((stat, ahead)) => {
                let caller = Rc::clone(&job.caller);
                let file = OpenFile::directory(session, job.coid, nodeid, FileId::of(&stat), caller);
                let fh = self.insert_file(Handle::Directory(file, ahead), session, nodeid);
                Ok(reply::body(unique, &OpenOut { fh, ..OpenOut::default() }))
            }
            Err(errno) => {
                self.link.tell(session, job.coid, Io::Close.to_bytes());
                Err(errno)
            }
        }
    }

    /// Entries have come for a directory.
    pub(super) fn on_entries(
        &mut self,
        now: Instant,
        unique: u64,
        job: &Job,
        status: i64,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let Task::Readdir { fh, offset, size, plus } = job.task else { return Err(libc::EIO) };
        let file = self.handle_file(fh).ok_or(libc::EBADF)?;
        let mut found = self.entries(now, job, (file.nodeid, file.id), AHEAD, status, data)?;
        found.position = offset;
        let Some(Handle::Directory(_, ahead)) = self.handles.get_mut(&fh) else { return Err(libc::EBADF) };
        *ahead = found;
        Ok(self.take_entries(now, unique, Wanted { fh, offset, size, plus }))
    }

    /// The entries in a reply of `status` bytes, for which there was `room`.
    fn entries(
        &self,
        now: Instant,
        job: &Job,
        (nodeid, id): (u64, FileId),
        room: u32,
        status: i64,
        data: &[u8],
    ) -> Result<Ahead, i32> {
        let length = usize::try_from(status).unwrap_or(usize::MAX);
        let data = data.get(..length).ok_or(libc::EIO)?;
        let seed = self.inodes.get(nodeid).map_or(0, |inode| self.inodes.seed(inode.node()));
        let mut entries = VecDeque::new();
        let mut has_attributes = false;
        for entry in Dirents::new(data) {
            let Ok(entry) = entry else {
                debug!(nodeid, "a directory has a broken entry");
                return Err(libc::EIO);
            };
            has_attributes |= entry.stat.is_some();
            let (device, ino) = entry.stat.map_or((id.device, entry.ino), |stat| (stat.dev, stat.ino));
            entries.push_back(Entry {
                ino: attributes::mixed_ino(seed, device, ino),
                next: entry.next,
                kind: attributes::entry_type(entry.file_type),
                name: entry.name.into(),
                stat: entry.stat.map(Box::new),
            });
        }
        // A node of ours fills the room; when one more entry would have fitted there is none. A QNX node may stop earlier.
        let left = (room as usize).saturating_sub(length);
        let is_end = length == 0 || has_attributes && left >= qnet_iomsg::DirentWriter::room_for(NAME_MAX);
        let origin = Origin { asked: job.answers_before, came: self.answers };
        Ok(Ahead { position: 0, entries, is_end, fetched: now, changes: job.changes_before, origin })
    }

    fn is_fresh(&self, now: Instant, ahead: &Ahead) -> bool {
        now < ahead.fetched + LIFETIME && ahead.changes == self.changes
    }

    /// The reply with as many entries as fit. EINVAL when not even one does, as `getdents` says.
    fn take_entries(&mut self, now: Instant, unique: u64, wanted: Wanted) -> Vec<u8> {
        let Some(Handle::Directory(file, ahead)) = self.handles.get_mut(&wanted.fh) else {
            return reply::status(unique, libc::EBADF);
        };
        let (nodeid, caller) = (file.nodeid, Rc::clone(&file.caller));
        let mut entries = std::mem::take(&mut ahead.entries);
        let mut position = ahead.position;
        let (fetched, origin) = (ahead.fetched, ahead.origin);
        let fresh = now < fetched + LIFETIME && ahead.changes == self.changes;
        let mut directory = reply::Directory::new(wanted.size as usize);
        let mut taken = 0;
        let mut bare = Vec::new();
        while let Some(next) = entries.front() {
            let mut is_known = false;
            let pushed = if wanted.plus {
                directory.has_room_for_attributes(&next.name) && {
                    let left = if fresh { lookahead::left(now, fetched) } else { Duration::ZERO };
                    let known = self.known_entry(now, nodeid, (next, origin), left, &caller);
                    is_known = known.is_some();
                    let known = known.unwrap_or_default();
                    directory.push_with_attributes(&known, next.ino, next.next, next.kind, &next.name)
                }
            } else {
                directory.push(next.ino, next.next, next.kind, &next.name)
            };
            if !pushed {
                break;
            }
            taken += 1;
            position = next.next;
            let Some(Entry { name, ino, .. }) = entries.pop_front() else { break };
            if !is_known && !matches!(&*name, b"." | b"..") {
                bare.push((name, ino));
            }
        }
        let nothing = taken == 0 && !entries.is_empty();
        if let Some(Handle::Directory(_, ahead)) = self.handles.get_mut(&wanted.fh) {
            (ahead.entries, ahead.position) = (entries, position);
        }
        self.note_listed(now, nodeid, wanted.fh, wanted.offset == 0, bare);
        if nothing { reply::status(unique, libc::EINVAL) } else { directory.into_reply(unique) }
    }

    /// What a look-up of an entry would say, for the time that is `left` of it; nothing where it would not be remembered.
    fn known_entry(
        &mut self,
        now: Instant,
        parent: u64,
        (entry_, origin): (&Entry, Origin),
        left: Duration,
        caller: &Rc<Caller>,
    ) -> Option<EntryOut> {
        let stat = entry_.stat.as_deref().filter(|_| !matches!(&*entry_.name, b"." | b".."))?;
        let lifetime = self.lifetime_below(now, parent, caller).min(left);
        if lifetime.is_zero() {
            return None;
        }
        // what is looked up each time is not told of in advance, nor what may be older than what is known
        if attributes::is_special(stat) || self.knows_better((parent, &entry_.name), stat, origin) {
            return None;
        }
        let nodeid = self.inodes.intern(parent, &entry_.name, Kind::File(FileId::of(stat)))?;
        let attr = self.learn(now, nodeid, stat, origin.came)?;
        self.note_bare(now, nodeid, stat, lifetime, caller.uid);
        let entry = entry(nodeid, lifetime, attr);
        let looked_up = EntryOut { entry_valid: 0, entry_valid_nsec: 0, ..entry };
        Some(if self.inodes.has_several_ways(nodeid) { looked_up } else { entry })
    }
}

impl Ahead {
    fn nothing(now: Instant) -> Self {
        let origin = Origin { asked: 0, came: 0 };
        Self { position: 0, entries: VecDeque::new(), is_end: false, fetched: now, changes: 0, origin }
    }
}
