//! The message for a task, and the room that its reply needs.
//!
//! A task by path is one `_IO_CONNECT` that brings along what is to be done, so that it costs one round trip: a look-up asks
//! for the attributes, an open of a small file for its data, an open of a directory for its entries. The directory that
//! holds the last name is guarded: when another node has moved it meanwhile, the answer is ESTALE, and nothing is done in
//! the one that has its name now. What changes a file, or asks for more than
//! its attributes (which tell), says which file it means.

use std::{rc::Rc, time::Instant};

use qnet_iomsg::{
    Connect, Extra, Io, Link as Chain, Subtype, Timestamp,
    connect::EFLAG_DIR,
    filesys::{self, SeekFor, Statvfs, special},
    flags::{self, IOFLAG_CREAT, IOFLAG_DSYNC, IOFLAG_SYNC, S_IFLNK},
    message::{self, XTYPE_DIR_ATTRIBUTES, XTYPE_DIR_EXTRA_HINT},
    netmgr, stat,
};

use super::{
    Engine,
    directory::FIRST_LOOK,
    job::{Job, Stage},
    locks, statistics,
    task::{Made, Task},
};
use crate::{
    fuse::{Attributes, SetTime, reply::Buffer},
    inodes::{Inode, Kind, Location},
    link::{Failure, Message, Request, SessionId, Target, TxnId},
};

/// Longest target of a symbolic link.
pub(super) const LINK_MAX: usize = libc::PATH_MAX as usize - 1;
/// Bit of the flags of an open whose file is to be executed (the kernel's `__FMODE_EXEC`). The kernel looks whether anybody
/// may do that, not whether the caller may.
pub(super) const FOR_EXECUTION: i32 = 0x20;
/// Room for the list of nodes.
const NODES_ROOM: usize = 1 << 20;
/// Memory of replies that is kept for the next ones: from so many bytes on, so often.
const WORTH_KEEPING: usize = 128 << 10;
const SPARES: usize = 8;

impl Engine {
    pub(super) fn send(
        &mut self,
        now: Instant,
        job: &mut Job,
        buffer: Option<Buffer>,
    ) -> Result<TxnId, Failure> {
        (job.changes_before, job.answers_before) = (self.changes, self.answers);
        let (session, mut request) = if job.task.is_for_netmgr() {
            (self.link.session(now, &Target::Netmgr)?, self.netmgr_request(&job.task)?)
        } else if let Some(fh) = job.task.handle() {
            self.file_request(fh, job, buffer)?
        } else {
            self.path_request(now, job)?
        };
        job.session = Some(session);
        request.at_once = job.waits || job.task.gives_back();
        self.link.request(session, request)
    }

    fn netmgr_request(&mut self, task: &Task) -> Result<Request, Failure> {
        let directory = self.config.directory.as_deref();
        let (message, room) = match task {
            Task::LookupNode { name } => (netmgr::Request::Strtond { name: &self.full_name(name) }.emit(), 0),
            Task::Forget { name } => (netmgr::Request::Forget { name: &self.full_name(name) }.emit(), 0),
            Task::Statistics => (netmgr::Request::Stats.emit(), statistics::ROOM),
            _ => match directory {
                Some(directory) => (netmgr::Request::List { directory }.emit(), NODES_ROOM),
                None => (netmgr::Request::Nodes.emit(), NODES_ROOM),
            },
        };
        Ok(Request::new(self.next_coid(), message.map_err(unsendable)?, room))
    }

    /// A node's name as the network manager takes it: with the directory it is a name in.
    fn full_name(&self, name: &[u8]) -> Vec<u8> {
        match &self.config.directory {
            Some(directory) => [directory, &b"/"[..], name].concat(),
            None => name.to_vec(),
        }
    }

    /// The message of a task by path, or first the question for the node's number.
    fn path_request(&mut self, now: Instant, job: &mut Job) -> Result<(SessionId, Request), Failure> {
        let stale = Failure::of(libc::ESTALE);
        let (nodeid, name) = job.task.start().ok_or(stale)?;
        let location = match name {
            Some(name) => self.inodes.location_in(nodeid, name),
            None => self.inodes.location_for(nodeid, job.thread),
        };
        let location = location.ok_or(stale)?;
        let node = location.node;
        job.node = node;
        self.known_dead(now, node)?;
        // Reconnects first if need be: numbers of an earlier connection mean nothing on this one.
        let netmgr = self.link.session(now, &Target::Netmgr)?;
        let Some(nd) = self.inodes.nd(node, self.link.generation()) else {
            let name = self.full_name(self.inodes.get(node).ok_or(stale)?.name());
            let message = netmgr::Request::Strtond { name: &name }.emit().map_err(unsendable)?;
            job.stage = Stage::Resolve(node);
            return Ok((netmgr, Request::new(self.next_coid(), message, 0)));
        };
        job.coid = self.next_coid();
        let target = Target::Node { nd, caller: Rc::clone(&job.caller) };
        let session = self.link.session(now, &target)?;
        let (message, room) = self.connect_message(job, &location)?;
        Ok((session, Request::new(job.coid, message, room)))
    }

    /// The `_IO_CONNECT` of a task by path, and the room its reply needs.
    fn connect_message(&self, job: &Job, at: &Location) -> Result<(Vec<u8>, usize), Failure> {
        let path = &at.path[..];
        let mut chained = Vec::new();
        let (connect, room) = match &job.task {
            Task::Readlink { nodeid } => {
                self.emit_expected(job, *nodeid, Chain::Last, &mut chained);
                (Connect::readlink(path), LINK_MAX)
            }
            Task::Open { nodeid, flags } => {
                let ahead = self.reads_ahead(*nodeid, *flags);
                if flags & libc::O_TRUNC != 0 {
                    self.expect(job, *nodeid, &mut chained);
                }
                if flags & FOR_EXECUTION != 0 && !job.plain {
                    let execute = filesys::Request::Access { mask: filesys::access::EXECUTE };
                    execute.emit(Chain::Follows, &mut chained);
                }
                open_chain(&mut chained, (ahead > 0).then_some((ahead, 0)));
                (combine(path, flags::ioflag_from_linux(*flags), 0), stat::REPLY_LEN + ahead as usize)
            }
            Task::OpenDirectory { .. } => {
                open_chain(&mut chained, Some((FIRST_LOOK, XTYPE_DIR_EXTRA_HINT | XTYPE_DIR_ATTRIBUTES)));
                let connect = combine(path, flags::ioflag_from_linux(libc::O_RDONLY), 0);
                (Connect { eflag: EFLAG_DIR, ..connect }, stat::REPLY_LEN + FIRST_LOOK as usize)
            }
            Task::Create { flags, mode, .. } => {
                open_chain(&mut chained, None);
                let ioflag = flags::ioflag_from_linux(*flags) | IOFLAG_CREAT;
                (combine(path, ioflag, mode & 0o7777), stat::REPLY_LEN)
            }
            Task::Make { what, .. } => return self.make_message(job, what, at),
            Task::Remove { directory, .. } => {
                let eflag = if *directory { EFLAG_DIR } else { 0 };
                (Connect { eflag, ..Connect::new(Subtype::Unlink, path) }, 0)
            }
            Task::Rename { from, flags, .. } => {
                let old =
                    self.inodes.location_in(from.parent, &from.name).ok_or(Failure::of(libc::ESTALE))?;
                return rename_message(at, &old, *flags, job.plain);
            }
            Task::Setattr { nodeid, attributes, .. } => {
                self.expect(job, *nodeid, &mut chained);
                setattr_chain(attributes, &mut chained);
                (Connect::combine_close(path, false, &[]), stat::REPLY_LEN)
            }
            Task::Access { nodeid, mask } => {
                self.expect(job, *nodeid, &mut chained);
                filesys::Request::Access { mask: *mask }.emit(Chain::Last, &mut chained);
                (Connect::combine_close(path, false, &[]), 0)
            }
            Task::Attribute { nodeid, message, size, .. } => {
                self.expect(job, *nodeid, &mut chained);
                chained.extend_from_slice(message);
                (Connect::combine_close(path, false, &[]), size.unwrap_or(0) as usize)
            }
            Task::Statfs { .. } => {
                filesys::Request::Statvfs.emit(Chain::Last, &mut chained);
                (Connect::combine_close(path, false, &[]), Statvfs::LEN)
            }
            _ => {
                Io::Stat.emit(Chain::Last, &mut chained);
                (Connect::combine_close(path, false, &[]), stat::REPLY_LEN)
            }
        };
        let extra = if chained.is_empty() { connect.extra } else { Extra::Messages(&chained) };
        let (mut message, room) = emit(&Connect { extra, ..connect }.guarded(at.guard), room)?;
        if let Task::Attribute { behind, .. } = &job.task {
            message.extend_from_slice(behind);
        }
        Ok((message, room))
    }

    /// Says which file the rest of the chain is for. Of a QNX node, which does not know this, nobody knows better.
    fn expect(&self, job: &Job, nodeid: u64, chained: &mut Vec<u8>) {
        self.emit_expected(job, nodeid, Chain::Follows, chained);
    }

    fn emit_expected(&self, job: &Job, nodeid: u64, link: Chain, chained: &mut Vec<u8>) {
        if let Some(Kind::File(id)) = self.inodes.get(nodeid).map(Inode::kind)
            && !job.plain
        {
            filesys::Request::Expect(id.identity()).emit(link, chained);
        }
    }

    fn make_message(&self, job: &Job, what: &Made, at: &Location) -> Result<(Vec<u8>, usize), Failure> {
        let path = &at.path[..];
        let connect = match what {
            Made::Node { mode } => Connect { mode: *mode, ..Connect::new(Subtype::Mknod, path) },
            Made::Symlink { target } => {
                let extra = Extra::Symlink(target);
                Connect { mode: S_IFLNK, extra, ..Connect::new(Subtype::Link, path) }
            }
            Made::Link { from } => {
                let old = self.inodes.location(*from).ok_or(Failure::of(libc::ESTALE))?;
                let mut link = Vec::new();
                self.expect(job, *from, &mut link);
                filesys::Request::Link { guard: old.guard, old: &old.path }.emit(Chain::Last, &mut link);
                return emit(&Connect::combine_close(path, false, &link).guarded(at.guard), stat::REPLY_LEN);
            }
        };
        emit(&connect.guarded(at.guard), stat::REPLY_LEN)
    }

    /// The message of a task on an open file.
    fn file_request(
        &mut self,
        fh: u64,
        job: &mut Job,
        buffer: Option<Buffer>,
    ) -> Result<(SessionId, Request), Failure> {
        let bad = Failure::of(libc::EBADF);
        let file = self.handle_file(fh).ok_or(bad)?;
        let (session, coid) = (file.session, file.coid);
        let (message, room) = match job.payload.take() {
            Some(payload) => (payload, 0),
            None => {
                let source = match job.task {
                    Task::Copy { from, .. } => self.handle_file(from).map_or(0, |file| file.coid),
                    _ => 0,
                };
                let (message, room) = file_message(&job.task, job.filled, source);
                (Message::from(message), room)
            }
        };
        let reply = buffer.unwrap_or_else(|| self.buffer(room));
        Ok((session, Request { coid, message, reply, filled: job.filled, at_once: false }))
    }

    /// Room for a reply: where there is much of it, in memory that the kernel need not find and clear first.
    fn buffer(&mut self, room: usize) -> Buffer {
        let spare = if room >= WORTH_KEEPING { self.spares.pop() } else { None };
        spare.map_or_else(|| Buffer::new(room), |spare| Buffer::reusing(spare, room))
    }

    /// Takes back the memory of a reply that was written to `/dev/fuse`.
    pub fn recycle(&mut self, reply: Vec<u8>) {
        if reply.capacity() >= WORTH_KEEPING && self.spares.len() < SPARES {
            self.spares.push(reply);
        }
    }
}

/// `source` is the number of the file that is copied from.
fn file_message(task: &Task, filled: usize, source: i32) -> (Vec<u8>, usize) {
    let mut message = Vec::new();
    let room = match *task {
        Task::Attribute { message: ref asked, size, .. } => {
            message.extend_from_slice(asked);
            size.unwrap_or(0) as usize
        }
        Task::Read { offset, size, .. } => {
            let left = size.saturating_sub(filled as u32);
            let offset = Some(offset.saturating_add(filled as u64));
            Io::Read { nbytes: left, xtype: 0, offset }.emit(Chain::Last, &mut message);
            size as usize
        }
        Task::Readdir { offset, plus, .. } => {
            let nbytes = super::directory::AHEAD;
            let attributes = if plus { XTYPE_DIR_ATTRIBUTES } else { 0 };
            let xtype = XTYPE_DIR_EXTRA_HINT | attributes;
            Io::Read { nbytes, xtype, offset: Some(offset) }.emit(Chain::Last, &mut message);
            nbytes as usize
        }
        Task::Setattr { attributes, .. } => {
            setattr_chain(&attributes, &mut message);
            stat::REPLY_LEN
        }
        Task::Sync { data_only, .. } => {
            let flag = if data_only { IOFLAG_DSYNC } else { IOFLAG_SYNC };
            Io::Sync { flag }.emit(Chain::Last, &mut message);
            0
        }
        Task::Allocate { offset, length, mode, .. } => {
            let request = filesys::Request::Allocate { mode, offset, len: length };
            request.emit(Chain::Last, &mut message);
            0
        }
        Task::Seek { offset, hole, .. } => {
            let what = if hole { SeekFor::Hole } else { SeekFor::Data };
            filesys::Request::Seek { what, offset }.emit(Chain::Last, &mut message);
            size_of::<u64>()
        }
        Task::Lock { request, .. } => return (request.emit(), locks::room(&request)),
        Task::Poll { events, .. } => return (special::Request { events, wait: false }.emit(), 0),
        Task::Copy { from_offset, to_offset, length, .. } => {
            let (source_offset, offset, len) = (from_offset, to_offset, length);
            let request = filesys::Request::Copy { source, source_offset, offset, len };
            request.emit(Chain::Last, &mut message);
            0
        }
        _ => {
            Io::Stat.emit(Chain::Last, &mut message);
            stat::REPLY_LEN
        }
    };
    (message, room)
}

/// An open that acts at once. A symbolic link that has taken the name is not followed.
fn combine(path: &[u8], ioflag: u32, permissions: u32) -> Connect<'_> {
    Connect { ioflag, mode: S_IFLNK | permissions, ..Connect::new(Subtype::Combine, path) }
}

/// What an open brings along: the attributes, and the first bytes or (with the bits for it) the first entries.
fn open_chain(out: &mut Vec<u8>, read: Option<(u32, u32)>) {
    let Some((nbytes, xtype)) = read else { return Io::Stat.emit(Chain::Last, out) };
    Io::Stat.emit(Chain::Follows, out);
    Io::Read { nbytes, xtype, offset: Some(0) }.emit(Chain::Last, out);
}

/// The changes in the order in which one cannot undo the other (a new owner clears bits of the mode), and the attributes as
/// they are then.
fn setattr_chain(attributes: &Attributes, out: &mut Vec<u8>) {
    let Attributes { mode, uid, gid, size, atime, mtime } = *attributes;
    if uid.is_some() || gid.is_some() {
        let stays = u32::MAX;
        Io::Chown { gid: gid.unwrap_or(stays), uid: uid.unwrap_or(stays) }.emit(Chain::Follows, out);
    }
    if let Some(start) = size {
        Io::Space { subtype: message::space::FREE, whence: 0, start, len: 0 }.emit(Chain::Follows, out);
    }
    if let Some(mode) = mode {
        Io::Chmod { mode }.emit(Chain::Follows, out);
    }
    if atime.is_some() || mtime.is_some() {
        let [atime, mtime] = [atime, mtime].map(|time| match time {
            None => filesys::SetTime::Omit,
            Some(SetTime::Now) => filesys::SetTime::Now,
            Some(SetTime::To { seconds, nanoseconds }) => {
                filesys::SetTime::At(Timestamp { seconds, nanoseconds })
            }
        });
        filesys::Request::Times { atime, mtime }.emit(Chain::Follows, out);
    }
    Io::Stat.emit(Chain::Last, out);
}

/// `plain`: in QNX's words, which know neither flags nor guards of the old name.
fn rename_message(
    at: &Location,
    old: &Location,
    flags: u32,
    plain: bool,
) -> Result<(Vec<u8>, usize), Failure> {
    if plain || flags == 0 && old.guard == 0 {
        let connect = Connect { extra: Extra::Rename(&old.path), ..Connect::new(Subtype::Rename, &at.path) };
        return emit(&connect.guarded(at.guard), 0);
    }
    let rename = filesys::Request::Rename { flags, guard: old.guard, old: &old.path }.to_bytes();
    emit(&Connect::combine_close(&at.path, false, &rename).guarded(at.guard), 0)
}

fn emit(connect: &Connect<'_>, room: usize) -> Result<(Vec<u8>, usize), Failure> {
    Ok((connect.emit().map_err(unsendable)?, room))
}

fn unsendable(error: qnet_iomsg::BuildError) -> Failure {
    Failure::of(error.linux_errno())
}
