//! What a request of the kernel comes to: a task, to be carried out by messages.

use qnet_iomsg::{
    filesys::lock::{self, Verb},
    flags::S_IFMT,
};

use super::{Engine, nodes, statistics};
use crate::{
    fuse::{Attributes, MAX_TRANSFER, Operation, ROOT_ID, abi::InHeader},
    inodes::{Inode, Kind},
};

/// Bytes that one COPY moves at most, so that who copies more can be interrupted.
const COPY_MAX: u64 = 64 << 20;

/// A name in a directory.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// nodeid of the directory.
    pub(super) parent: u64,
    pub(super) name: Box<[u8]>,
}

impl Name {
    fn new(parent: u64, name: &[u8]) -> Self {
        Self { parent, name: name.into() }
    }

    pub(super) fn get(&self) -> (u64, &[u8]) {
        (self.parent, &self.name)
    }
}

/// What is made under a new name.
#[derive(Clone, Debug)]
pub(super) enum Made {
    /// A directory, FIFO or regular file; type and permissions.
    Node { mode: u32 },
    /// A symbolic link, as the node is to have it.
    Symlink { target: Box<[u8]> },
    /// Another name for the file with this nodeid.
    Link { from: u64 },
}

/// What a job has to find out or to do.
#[derive(Debug)]
pub(super) enum Task {
    /// The number of the node `name`.
    LookupNode { name: Vec<u8> },
    /// The nodes there are, for the open directory `fh`.
    ListNodes { fh: u64, size: u32, plus: bool },
    /// The statistics, to be read from a new file handle.
    Statistics,
    /// The node `name` is to leave the list.
    Forget { name: Vec<u8> },
    /// What a name is.
    Lookup(Name),
    /// Attributes by name.
    Getattr { nodeid: u64 },
    /// Attributes of an open file.
    GetattrOpen { nodeid: u64, fh: u64 },
    /// Other attributes; of an open file if there is a handle.
    Setattr { nodeid: u64, fh: Option<u64>, attributes: Attributes },
    /// Target of a symbolic link.
    Readlink { nodeid: u64 },
    /// May the caller do this?
    Access { nodeid: u64, mask: u32 },
    /// The file system behind a file.
    Statfs { nodeid: u64 },
    /// A new open file; `flags` as in `open(2)`.
    Open { nodeid: u64, flags: i32 },
    /// A new open directory.
    OpenDirectory { nodeid: u64 },
    /// A new file, open.
    Create { at: Name, flags: i32, mode: u32 },
    /// Something new that is not opened.
    Make { at: Name, what: Made },
    /// A name less.
    Remove { at: Name, directory: bool },
    /// A name moves.
    Rename { from: Name, to: Name, flags: u32 },
    /// Bytes of an open file.
    Read { fh: u64, offset: u64, size: u32 },
    /// Entries of an open directory.
    Readdir { fh: u64, offset: u64, size: u32, plus: bool },
    /// Bytes for an open file; they are kept with the job. `append`: they go to its end, and `offset` is where the kernel believes
    /// it to be. `mapped`: pages of a mapping, for which no program waits.
    Write { fh: u64, offset: u64, append: bool, mapped: bool },
    /// An open file or directory to the medium.
    Sync { fh: u64, data_only: bool },
    /// Space of an open file.
    Allocate { fh: u64, offset: u64, length: u64, mode: u32 },
    /// Data or a hole in an open file.
    Seek { fh: u64, offset: u64, hole: bool },
    /// A lock of an open file.
    Lock { fh: u64, request: lock::Request },
    /// What of an open file is ready.
    Poll { fh: u64, events: u32, notify: Option<u64> },
    /// The message asks about extended attributes, for so many bytes (0: only how many there are), or (`None`) changes one; of an
    /// open file if there is a handle. What is `behind` stands behind the CONNECT.
    Attribute { nodeid: u64, fh: Option<u64>, message: Box<[u8]>, behind: Box<[u8]>, size: Option<u32> },
    /// From one open file to another.
    Copy { from: u64, from_offset: u64, to: u64, to_offset: u64, length: u64 },
}

impl Task {
    /// Whether the task names its file by path, which any session of the caller can serve.
    pub(super) fn is_by_path(&self) -> bool {
        self.start().is_some()
    }

    /// Whether the network manager is asked, not a node.
    pub(super) fn is_for_netmgr(&self) -> bool {
        matches!(
            self,
            Self::LookupNode { .. } | Self::ListNodes { .. } | Self::Forget { .. } | Self::Statistics
        )
    }

    /// Whether files, names or attributes may be different afterwards. What is such is never sent twice.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Open { flags, .. } => flags & libc::O_TRUNC != 0,
            Self::Create { .. }
            | Self::Make { .. }
            | Self::Remove { .. }
            | Self::Rename { .. }
            | Self::Setattr { .. }
            | Self::Write { .. }
            | Self::Allocate { .. }
            | Self::Attribute { size: None, .. }
            | Self::Copy { .. } => true,
            _ => false,
        }
    }

    /// Whether it takes as long as the disk over there takes, while somebody waits who can be killed: no deadline would be
    /// right, and a node that dies ends it anyhow. Pages of a mapping are written by the kernel, which must not hang.
    pub(super) fn takes_its_time(&self) -> bool {
        matches!(
            self,
            Self::Write { mapped: false, .. }
                | Self::Sync { .. }
                | Self::Allocate { .. }
                | Self::Copy { .. }
                | Self::Lock { request: lock::Request { verb: Verb::Set, .. }, .. }
        )
    }

    /// Whether it only ends a lock.
    pub(super) fn gives_back(&self) -> bool {
        matches!(self, Self::Lock { request, .. } if request.verb == Verb::Release || request.kind == lock::Kind::Unlock)
    }

    /// Whether an open file comes of it.
    pub(super) fn opens(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::OpenDirectory { .. } | Self::Create { .. })
    }

    /// The inode a task by path starts from, and the name below it.
    pub(super) fn start(&self) -> Option<(u64, Option<&[u8]>)> {
        match self {
            Self::Lookup(at)
            | Self::Create { at, .. }
            | Self::Make { at, .. }
            | Self::Remove { at, .. }
            | Self::Rename { to: at, .. } => Some((at.parent, Some(&at.name))),
            Self::Getattr { nodeid }
            | Self::Setattr { nodeid, fh: None, .. }
            | Self::Readlink { nodeid }
            | Self::Access { nodeid, .. }
            | Self::Statfs { nodeid }
            | Self::Attribute { nodeid, fh: None, .. }
            | Self::Open { nodeid, .. }
            | Self::OpenDirectory { nodeid } => Some((*nodeid, None)),
            _ => None,
        }
    }

    /// The open file a task is about.
    pub(super) fn handle(&self) -> Option<u64> {
        match self {
            Self::GetattrOpen { fh, .. }
            | Self::Setattr { fh: Some(fh), .. }
            | Self::Attribute { fh: Some(fh), .. }
            | Self::Read { fh, .. }
            | Self::Readdir { fh, .. }
            | Self::Write { fh, .. }
            | Self::Sync { fh, .. }
            | Self::Allocate { fh, .. }
            | Self::Seek { fh, .. }
            | Self::Lock { fh, .. }
            | Self::Poll { fh, .. }
            | Self::Copy { to: fh, .. } => Some(*fh),
            _ => None,
        }
    }
}

impl Engine {
    /// What there is to do for an operation by who asks, or why not.
    pub(super) fn task(&mut self, header: &InHeader, operation: Operation<'_>) -> Result<Task, i32> {
        let nodeid = header.nodeid;
        if nodeid == ROOT_ID && operation.changes_files() {
            return Err(libc::EROFS);
        }
        Ok(match operation {
            Operation::Lookup { name } if nodeid == ROOT_ID => nodes::lookup_task(name)?,
            Operation::Rmdir { name } if nodeid == ROOT_ID => nodes::forget_task(name)?,
            Operation::Lookup { name: b"." | b".." } => return Err(libc::EINVAL),
            Operation::Lookup { name } => Task::Lookup(Name::new(nodeid, name)),
            Operation::Getattr { fh } => self.getattr_task(nodeid, fh),
            Operation::Setattr { fh, attributes } => self.setattr_task(header, fh, attributes)?,
            Operation::Readlink => Task::Readlink { nodeid },
            Operation::Access { mask } => Task::Access { nodeid, mask },
            Operation::Statfs => Task::Statfs { nodeid },
            Operation::Open { flags } if self.is_statistics(nodeid) => statistics::open_task(flags)?,
            Operation::Open { flags } => Task::Open { nodeid, flags: flags.cast_signed() },
            Operation::Opendir => Task::OpenDirectory { nodeid },
            Operation::Create { name, flags, mode } => {
                Task::Create { at: Name::new(nodeid, name), flags: flags.cast_signed(), mode }
            }
            // The kernel tells programs EOPNOTSUPP, which is how open(2) says that there are no nameless files.
            Operation::Tmpfile => return Err(libc::EOPNOTSUPP),
            Operation::Mknod { .. }
            | Operation::Mkdir { .. }
            | Operation::Symlink { .. }
            | Operation::Link { .. } => self.make_task(nodeid, operation)?,
            Operation::Unlink { name } => Task::Remove { at: Name::new(nodeid, name), directory: false },
            Operation::Rmdir { name } => Task::Remove { at: Name::new(nodeid, name), directory: true },
            Operation::Rename { name, new_parent, new_name, flags } => {
                let (from, to) = (Name::new(nodeid, name), Name::new(new_parent, new_name));
                self.rename_task(from, to, flags)?
            }
            Operation::Readdir { fh, offset, size, plus } => self.readdir_task(fh, offset, size, plus)?,
            Operation::Getxattr { .. }
            | Operation::Listxattr { .. }
            | Operation::Setxattr { .. }
            | Operation::Removexattr { .. } => self.attribute_task(header, operation)?,
            Operation::Getlk { fh, lock } => self.lock_task(fh, lock, Verb::Test)?,
            Operation::Setlk { fh, lock, wait } => {
                self.lock_task(fh, lock, if wait { Verb::Wait } else { Verb::Set })?
            }
            Operation::Poll { fh, events, notify } => Task::Poll { fh, events, notify },
            _ => self.file_task(operation)?,
        })
    }

    /// The task of an operation on an open file.
    fn file_task(&self, operation: Operation<'_>) -> Result<Task, i32> {
        Ok(match operation {
            Operation::Read { fh, offset, size } => {
                self.regular(fh)?;
                Task::Read { fh, offset, size: size.min(MAX_TRANSFER) }
            }
            Operation::Fsync { fh, data_only } => Task::Sync { fh, data_only },
            Operation::Fallocate { fh, offset, length, mode } => {
                self.regular(fh)?;
                Task::Allocate { fh, offset, length, mode }
            }
            Operation::Lseek { fh, offset, whence } => {
                self.regular(fh)?;
                let hole = match whence.cast_signed() {
                    libc::SEEK_DATA => false,
                    libc::SEEK_HOLE => true,
                    _ => return Err(libc::EINVAL),
                };
                Task::Seek { fh, offset, hole }
            }
            Operation::CopyFileRange { from, from_offset, to, to_offset, length, .. } => {
                let (source, target) = (self.regular(from)?, self.regular(to)?);
                // The server of one node copies between files of one connection; else the kernel reads and writes.
                if source.session != target.session {
                    return Err(libc::EXDEV);
                }
                Task::Copy { from, from_offset, to, to_offset, length: length.min(COPY_MAX) }
            }
            _ => return Err(libc::ENOSYS),
        })
    }

    /// Attributes are asked of whoever has the file open, which works when it has lost its name.
    fn getattr_task(&self, nodeid: u64, fh: Option<u64>) -> Task {
        match fh.filter(|fh| self.handles.contains_key(fh)).or_else(|| self.live_handle(nodeid, |_| true)) {
            Some(fh) => Task::GetattrOpen { nodeid, fh },
            None => Task::Getattr { nodeid },
        }
    }

    /// `fchmod` comes without a handle. The caller's own is taken, so that it means the file that is open, whatever its name
    /// means by now; another's would lend his rights.
    fn setattr_task(
        &mut self,
        header: &InHeader,
        fh: Option<u64>,
        attributes: Attributes,
    ) -> Result<Task, i32> {
        let nodeid = header.nodeid;
        if self.inodes.get(nodeid).is_some_and(|inode| !inode.kind().is_remote()) {
            return Err(libc::EROFS);
        }
        if attributes.size.is_some() && !self.has_size(nodeid) {
            return Err(libc::EINVAL);
        }
        let fh = match fh.filter(|fh| self.handles.contains_key(fh)) {
            // ftruncate comes with its handle; truncate asks for the right to write.
            None if attributes.size.is_none() => self.own_handle(header),
            found => found,
        };
        Ok(Task::Setattr { nodeid, fh, attributes })
    }

    /// A handle of the file that a request is about, opened by the very user and groups that ask.
    pub(super) fn own_handle(&mut self, header: &InHeader) -> Option<u64> {
        if self.inodes.get(header.nodeid)?.open.is_empty() {
            return None;
        }
        let caller = self.caller(header);
        self.live_handle(header.nodeid, |file| *file.caller == *caller)
    }

    /// Special files look like regular ones here and have no size that could be set, even so.
    fn has_size(&self, nodeid: u64) -> bool {
        match self.inodes.get(nodeid).map(Inode::kind) {
            Some(Kind::File(id)) => id.file_type == libc::S_IFREG,
            _ => true,
        }
    }

    fn make_task(&self, parent: u64, operation: Operation<'_>) -> Result<Task, i32> {
        let (name, what) = match operation {
            Operation::Mkdir { name, mode } => (name, Made::Node { mode: libc::S_IFDIR | mode & 0o7777 }),
            Operation::Mknod { name, mode } => match mode & S_IFMT {
                // Nobody could use the socket or the device: it would be one of the other machine.
                libc::S_IFREG | libc::S_IFIFO => (name, Made::Node { mode }),
                _ => return Err(libc::EPERM),
            },
            Operation::Symlink { name, target } => {
                (name, Made::Symlink { target: self.inside(parent, target).into() })
            }
            Operation::Link { from, name } => {
                self.same_node(from, parent)?;
                (name, Made::Link { from })
            }
            _ => return Err(libc::ENOSYS),
        };
        Ok(Task::Make { at: Name::new(parent, name), what })
    }

    fn rename_task(&self, from: Name, to: Name, flags: u32) -> Result<Task, i32> {
        if to.parent == ROOT_ID {
            return Err(libc::EROFS);
        }
        self.same_node(from.parent, to.parent)?;
        if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 {
            return Err(libc::EINVAL);
        }
        Ok(Task::Rename { from, to, flags })
    }

    /// Names do not go from one node to another.
    fn same_node(&self, one: u64, other: u64) -> Result<(), i32> {
        let group = |nodeid| self.inodes.get(nodeid).map(Inode::group).ok_or(libc::ESTALE);
        if group(one)? == group(other)? { Ok(()) } else { Err(libc::EXDEV) }
    }
}
