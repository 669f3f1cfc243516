//! Open files of other nodes: how they are opened, read and closed.
//!
//! Files with a size are read through the kernel's page cache, in requests of up to 1 MiB; such a request is filled by as
//! many READs as it takes, because the cache takes a short answer for the end of the file. Streams (`/proc`, devices, FIFOs)
//! are read with direct I/O: what has come is passed on at once, and a read may wait as long as the file makes it wait. It
//! ends with a signal or with the connection, not with a deadline.
//!
//! Direct I/O is also for who asks for it (`O_DIRECT`, `--cache none`) and for `O_APPEND`: where the end is only the node
//! knows, because others append, too; the page cache would keep the bytes at the place where the end seemed to be. And it is for
//! files that the node says others have open while they are written: the kernel maps no such file as shared memory, which
//! would not be shared with them.
//!
//! And it is for who opens a file to write it and not to read it, if nobody else here has it open through the cache: the bytes need
//! no page that nobody reads, which takes a copy and a tenth of the time. As long as he has it open, all who open it here go past
//! the cache, too: kernels do not keep pages that are read in the same moment from being older than what was written. Of these, who
//! may write is `beside` him: he writes past the cache for as long as he has the file open, so that long all others open it past the
//! cache as well. But they do not hand it on, or one short `echo` would be felt for as long as opens overlap. Who only reads past the
//! cache harms nobody: he is asked of the node, after the kernel has written back what was stored by memory.
//!
//! Opening is close-to-open consistent: cached pages are dropped, and attributes the kernel remembers are withdrawn when
//! the node's are newer.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use qnet_iomsg::{
    Io, Stat,
    message::XTYPE_APPEND,
    stat::{self, FLAG_SHARED},
};
use tracing::debug;

use super::{
    Cache, Engine,
    directory::Ahead,
    job::{Job, Outcome},
    names::{LIFETIME, is_same, parse},
    nodes::Listed,
    task::Task,
};
use crate::{
    attributes::{self, FileId},
    caller::Caller,
    fuse::{
        abi::{FOPEN_DIRECT_IO, FOPEN_PARALLEL_DIRECT_WRITES, FOPEN_STREAM, InHeader, OpenOut},
        reply,
    },
    inodes::{Inode, Kind, Version},
    link::{Message, Reply, SessionId},
};

/// A file that is no longer than this comes along with its open.
const SMALL: u64 = 64 * 1024;

/// A file or directory that is open on another node.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) session: SessionId,
    pub(super) coid: i32,
    pub(super) nodeid: u64,
    pub(super) id: FileId,
    /// Who has opened it; the node lets him do what is done through it.
    pub(super) caller: Rc<Caller>,
    /// O_RDONLY, O_WRONLY or O_RDWR.
    access: i32,
    /// What has come is all there is to read now.
    pub(super) stream: bool,
    /// The page cache has no part in it.
    pub(super) direct: bool,
    /// That is only because it is written and not read: nobody here may keep pages of it.
    written_past: bool,
    /// It is so because one is `written_past`, and it may be written.
    beside: bool,
    /// The node finds the place to write.
    append: bool,
    /// The content, as it came along with the open.
    small: Option<Small>,
}

/// The content of a small file.
#[derive(Debug)]
pub(super) struct Small {
    data: Box<[u8]>,
    /// It may be given out until then.
    until: Instant,
    /// [`Engine::changes`] when it was asked for.
    changes: u64,
    /// Of the file that it is the content of.
    version: Version,
}

/// What a node has opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) nodeid: u64,
    /// As in `open(2)`.
    pub(super) flags: i32,
    pub(super) stat: Stat,
}

impl OpenFile {
    /// An open directory.
    pub(super) fn directory(
        session: SessionId,
        coid: i32,
        nodeid: u64,
        id: FileId,
        caller: Rc<Caller>,
    ) -> Self {
        let (access, stream, direct) = (libc::O_RDONLY, false, false);
        let (written_past, beside, append, small) = (false, false, false, None);
        Self {
            session,
            coid,
            nodeid,
            id,
            caller,
            access,
            stream,
            direct,
            written_past,
            beside,
            append,
            small,
        }
    }

    /// The `FOPEN_*` flags for the kernel. `wanted`: it goes past the page cache whoever else has it open.
    fn open_flags(&self, wanted: bool) -> u32 {
        let has_positions = matches!(self.id.file_type, libc::S_IFREG | libc::S_IFBLK);
        match (self.direct, self.stream) {
            (false, _) => 0,
            (true, false) if wanted => FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES,
            // one write at a time, as through the cache
            (true, false) => FOPEN_DIRECT_IO,
            (true, true) if has_positions => FOPEN_DIRECT_IO,
            // who reads such a file does not keep another thread from writing it
            (true, true) => FOPEN_DIRECT_IO | FOPEN_STREAM,
        }
    }

    /// Whether what is opened with `flags` can be done through this file as well.
    fn allows(&self, caller: &Caller, flags: i32) -> bool {
        let access = flags & libc::O_ACCMODE;
        let is_new = flags & (libc::O_TRUNC | libc::O_DIRECT) != 0;
        let same = self.append == (flags & libc::O_APPEND != 0) && *self.caller == *caller;
        !is_new && same && (self.access == access || self.access == libc::O_RDWR)
    }
}

/// What a file handle of the kernel stands for.
#[derive(Debug)]
pub(super) enum Handle {
    /// `/net` itself, as it was when the present pass over it began.
    Nodes(Vec<Listed>),
    /// A file.
    File(OpenFile),
    /// A directory.
    Directory(OpenFile, Ahead),
    /// The statistics, as they were when they were opened.
    Text(Box<[u8]>),
}

impl Handle {
    /// The open file on another node, if it is one.
    pub(super) fn file(&self) -> Option<&OpenFile> {
        match self {
            Self::Nodes(_) | Self::Text(_) => None,
            Self::File(file) | Self::Directory(file, _) => Some(file),
        }
    }
}

impl Engine {
    /// A file or directory that is open, by the kernel's handle.
    pub(super) fn handle_file(&self, fh: u64) -> Option<&OpenFile> {
        self.handles.get(&fh).and_then(Handle::file)
    }

    /// A file that is open and no directory.
    ///
    /// # Errors
    /// EISDIR, EBADF.
    pub(super) fn regular(&self, fh: u64) -> Result<&OpenFile, i32> {
        match self.handles.get(&fh) {
            Some(Handle::File(file)) => Ok(file),
            // What was opened for reading cannot be written, and nobody copies from it.
            Some(Handle::Text(_)) | None => Err(libc::EBADF),
            Some(Handle::Nodes(_) | Handle::Directory(..)) => Err(libc::EISDIR),
        }
    }

    /// A handle by which the file can be reached, of those that `wanted` says.
    pub(super) fn live_handle(&self, nodeid: u64, wanted: impl Fn(&OpenFile) -> bool) -> Option<u64> {
        let open = &self.inodes.get(nodeid)?.open;
        let usable = |fh: &&u64| {
            let file = self.handle_file(**fh);
            file.is_some_and(|file| self.link.is_alive(file.session) && wanted(file))
        };
        open.iter().find(usable).copied()
    }

    /// How long a task may take; `None`: as long as the file makes it wait, and any signal ends it.
    pub(super) fn patience_with(&self, task: &Task) -> Option<Duration> {
        let waits = match task {
            Task::Read { fh, .. } | Task::Write { fh, .. } => {
                self.handle_file(*fh).is_some_and(|file| file.stream)
            }
            // a FIFO is open when somebody has its other end open
            Task::Open { nodeid, flags } => {
                flags & libc::O_NONBLOCK == 0 && self.inodes.get(*nodeid).is_some_and(is_fifo)
            }
            Task::Lock { request, .. } => return self.lock_patience(request),
            _ => false,
        };
        (!waits).then_some(self.config.deadline)
    }

    /// The message for bytes that are to be written. Whether they go to the end is the descriptor's to say, which may have
    /// changed its mind since it was opened (`fcntl`).
    pub(super) fn write_message(
        &self,
        fh: u64,
        (offset, append): (u64, bool),
        buffer: &mut Vec<u8>,
        len: usize,
    ) -> Message {
        let opened_so = self.handle_file(fh).is_some_and(|file| file.append);
        match (append, opened_so) {
            (false, _) => Message::write(buffer, len, 0, Some(offset)),
            (true, true) => Message::write(buffer, len, 0, None),
            (true, false) => Message::write(buffer, len, XTYPE_APPEND, Some(offset)),
        }
    }

    /// Bytes that an open of the file brings along, 0 for one that is not small.
    pub(super) fn reads_ahead(&self, nodeid: u64, flags: i32) -> u32 {
        let is_reader = flags & (libc::O_ACCMODE | libc::O_DIRECT | libc::O_TRUNC) == libc::O_RDONLY;
        let told = self.inodes.get(nodeid).and_then(|inode| inode.told);
        match told {
            Some(Version { size, .. })
                if is_reader && size <= SMALL && self.config.cache == Cache::CloseToOpen =>
            {
                size as u32
            }
            _ => 0,
        }
    }

    pub(super) fn on_open(
        &mut self,
        now: Instant,
        unique: u64,
        job: &Job,
        (nodeid, flags): (u64, i32),
        status: i64,
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let session = job.session.ok_or(libc::EIO)?;
        let stat = match self.checked(nodeid, data, false) {
            Ok(stat) => stat,
            Err(errno) => {
                self.link.tell(session, job.coid, Io::Close.to_bytes());
                return Err(errno);
            }
        };
        let small = self.small_content(now, job, &stat, status, data);
        let version = Version::of(&stat);
        if let Some(inode) = self.inodes.get_mut(nodeid) {
            inode.told_by = self.answers;
            if !attributes::is_stream(&stat) && inode.told.replace(version) != Some(version) {
                inode.bare = None;
                self.replies.push_back(reply::forget_attributes(nodeid));
            }
        }
        let (fh, open_flags) = self.keep_open(job, session, &Opened { nodeid, flags, stat }, small);
        Ok(reply::body(unique, &OpenOut { fh, open_flags, padding: 0 }))
    }

    /// The attributes that an open has brought, if what was opened is what was meant.
    pub(super) fn checked(&self, nodeid: u64, data: &[u8], directory: bool) -> Result<Stat, i32> {
        let stat = parse(data)?;
        let inode = self.inodes.get(nodeid).ok_or(libc::ESTALE)?;
        if matches!(inode.kind(), Kind::File(known) if !is_same(known, &stat)) {
            return Err(libc::ESTALE);
        }
        match FileId::of(&stat).is_directory() {
            is if is == directory => Ok(stat),
            _ if directory => Err(libc::ENOTDIR),
            _ => Err(libc::EISDIR),
        }
    }

    /// The content that came behind the attributes, if all of it did.
    fn small_content(&self, now: Instant, job: &Job, stat: &Stat, status: i64, data: &[u8]) -> Option<Small> {
        let Task::Open { nodeid, flags } = job.task else { return None };
        let content = data.get(stat::REPLY_LEN..)?;
        let content = content.get(..usize::try_from(status).ok()?)?;
        let is_all = content.len() as u64 == stat.size && stat.size > 0;
        let is_cached = !attributes::is_stream(stat) && stat.flags & FLAG_SHARED == 0;
        let is_wanted = self.reads_ahead(nodeid, flags) > 0 && is_cached;
        let (until, changes, version) = (now + LIFETIME, job.changes_before, Version::of(stat));
        (is_all && is_wanted).then(|| Small { data: content.into(), until, changes, version })
    }

    /// Makes a handle for what has been opened; with it come the `FOPEN_*` flags.
    pub(super) fn keep_open(
        &mut self,
        job: &Job,
        session: SessionId,
        opened: &Opened,
        small: Option<Small>,
    ) -> (u64, u32) {
        let Opened { nodeid, flags, stat } = opened;
        let stream = attributes::is_stream(stat);
        let append = flags & libc::O_APPEND != 0;
        let asked = append || flags & libc::O_DIRECT != 0 || self.config.cache == Cache::Nothing;
        let access = flags & libc::O_ACCMODE;
        let mine = !stream && !asked;
        let written_past = mine && access == libc::O_WRONLY && !self.is_open(*nodeid, |file| !file.direct);
        let beside = mine && access == libc::O_RDWR && self.is_open(*nodeid, |file| file.written_past);
        let others_past = self.is_open(*nodeid, |file| file.written_past || file.beside);
        let wanted = asked || stat.flags & FLAG_SHARED != 0;
        let direct = stream || wanted || others_past || written_past;
        let file = OpenFile {
            session,
            coid: job.coid,
            nodeid: *nodeid,
            id: FileId::of(stat),
            caller: Rc::clone(&job.caller),
            access,
            stream,
            direct,
            written_past,
            beside,
            append,
            small: small.filter(|_| !direct),
        };
        let open_flags = file.open_flags(wanted);
        (self.insert_file(Handle::File(file), session, *nodeid), open_flags)
    }

    /// Whether a file is open here in a way that `wanted` says.
    fn is_open(&self, nodeid: u64, wanted: impl Fn(&OpenFile) -> bool) -> bool {
        let open = self.inodes.get(nodeid).map_or(&[][..], |inode| &inode.open);
        open.iter().any(|fh| self.handle_file(*fh).is_some_and(&wanted))
    }

    /// A handle that holds its session open and can be found by its inode.
    pub(super) fn insert_file(&mut self, handle: Handle, session: SessionId, nodeid: u64) -> u64 {
        self.link.hold(session);
        let fh = self.insert_handle(handle);
        if let Some(inode) = self.inodes.get_mut(nodeid) {
            inode.open.push(fh);
        }
        fh
    }

    /// A read that needs nobody else, because the content came along with the open.
    pub(super) fn read_small(
        &mut self,
        now: Instant,
        unique: u64,
        fh: u64,
        offset: u64,
        size: u32,
    ) -> Option<Vec<u8>> {
        let changes = self.changes;
        let Handle::File(OpenFile { small, nodeid, .. }) = self.handles.get_mut(&fh)? else { return None };
        // A later open may have found another content, which the page cache must not lose for this one.
        let told = self.inodes.get(*nodeid).and_then(|inode| inode.told);
        let is_current = |small: &Small| told == Some(small.version) && small.changes == changes;
        let content = small.take_if(|small| now < small.until && is_current(small));
        let Some(content) = content else {
            *small = None;
            return None;
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.data.len());
        let end = start.saturating_add(size as usize).min(content.data.len());
        let answer = reply::bytes(unique, &content.data[start..end]);
        // Once its end has been read it is in the page cache.
        *small = Some(content).filter(|content| end < content.data.len());
        Some(answer)
    }

    /// Data has come for a read at `offset` that has `filled` bytes already.
    pub(super) fn on_data(
        &mut self,
        unique: u64,
        (fh, offset, size): (u64, u64, u32),
        filled: &mut usize,
        reply: Reply,
    ) -> Result<Outcome, i32> {
        let Reply { status, mut buffer } = reply;
        let got = usize::try_from(status).map_err(|_| libc::EIO)?;
        let total = filled.saturating_add(got);
        if total > size as usize || buffer.data().len() < total {
            debug!(fh, status, "a read was answered with fewer or more bytes than it says");
            return Err(libc::EIO);
        }
        buffer.truncate(total);
        let file = self.regular(fh)?;
        let is_all = got == 0 || total == size as usize || self.reaches_the_end(file, offset, total);
        if file.stream || is_all {
            return Ok(Outcome::Answer(buffer.into_reply(unique)));
        }
        *filled = total;
        Ok(Outcome::More(buffer))
    }

    /// Whether `total` bytes at `offset` are all that the kernel can want: its page cache takes a file to end at the size
    /// that it was told last, and asks anew when it is told another. Saves a small file the READ that only finds its end.
    fn reaches_the_end(&self, file: &OpenFile, offset: u64, total: usize) -> bool {
        let told = self.inodes.get(file.nodeid).and_then(|inode| inode.told);
        !file.direct && told.is_some_and(|told| offset.saturating_add(total as u64) >= told.size)
    }

    /// An open of a file that has lost its name, through `/proc/self/fd`: no message could say which file is meant, but one
    /// that the caller has open already is good for a second time.
    pub(super) fn open_again(&mut self, header: &InHeader, flags: i32) -> Option<Vec<u8>> {
        let InHeader { unique, nodeid, .. } = *header;
        if self.inodes.get(nodeid)?.parent().is_some() {
            return None;
        }
        let caller = self.opener(header);
        let fh = self.live_handle(nodeid, |file| file.allows(&caller, flags))?;
        let Handle::File(file) = self.handles.get(&fh)? else { return None };
        let (session, open_flags) = (file.session, file.open_flags(false));
        let again = OpenFile { caller: Rc::clone(&file.caller), small: None, ..*file };
        let fh = self.insert_file(Handle::File(again), session, nodeid);
        Some(reply::body(unique, &OpenOut { fh, open_flags, padding: 0 }))
    }

    /// The kernel has closed a file.
    pub(super) fn close(&mut self, now: Instant, fh: u64) {
        let Some(handle) = self.handles.remove(&fh) else { return };
        self.unwatch(fh);
        let Some(file) = handle.file() else { return };
        let (mut shared, mut node) = (false, 0);
        let same = |other: &OpenFile| other.session == file.session && other.coid == file.coid;
        if let Some(inode) = self.inodes.get_mut(file.nodeid) {
            inode.open.retain(|open| *open != fh);
            node = inode.node();
            let others = inode.open.iter().filter_map(|open| self.handles.get(open)?.file());
            shared = others.into_iter().any(same);
        }
        self.forget_holders(node, file.id);
        if !shared {
            self.link.tell(file.session, file.coid, Io::Close.to_bytes());
        }
        self.link.release(now, file.session);
    }

    pub(super) fn insert_handle(&mut self, handle: Handle) -> u64 {
        self.last_fh += 1;
        self.handles.insert(self.last_fh, handle);
        self.last_fh
    }
}

fn is_fifo(inode: &Inode) -> bool {
    matches!(inode.kind(), Kind::File(id) if id.file_type == libc::S_IFIFO)
}
