//! What the kernel can ask for, with the arguments of each.
//!
//! Values only: `request` makes them from bytes, the engine acts on them. Names and data are borrowed from the request.

use zerocopy::FromBytes;

use super::{
    abi::{ForgetOne, InitIn},
    opcode::Opcode,
};

/// What the kernel asks for, with its arguments. Names are single path components without NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// First request of a mount: versions and abilities.
    Init {
        /// What the kernel offers.
        asked: InitIn,
    },
    /// Last request of a mount.
    Destroy,
    /// The request with this `unique` should end with EINTR. Has no reply of its own.
    Interrupt {
        /// `unique` of the request to end.
        unique: u64,
    },
    /// The kernel gives back `nlookup` references to the header's `nodeid`. Has no reply.
    Forget {
        /// References given back.
        nlookup: u64,
    },
    /// The same for many nodes. Has no reply.
    BatchForget(Forgets<'a>),
    /// Find a name in the directory `nodeid`.
    Lookup {
        /// The name.
        name: &'a [u8],
    },
    /// Attributes of `nodeid`.
    Getattr {
        /// The open file they are wanted of, if any.
        fh: Option<u64>,
    },
    /// Change attributes of `nodeid`, or of a file that is open.
    Setattr {
        /// The open file, if one is meant.
        fh: Option<u64>,
        /// What is to become of them.
        attributes: Attributes,
    },
    /// Target of the symbolic link `nodeid`.
    Readlink,
    /// May the caller do this with `nodeid`?
    Access {
        /// `R_OK`, `W_OK`, `X_OK` as in `access(2)`.
        mask: u32,
    },
    /// Open the file `nodeid`.
    Open {
        /// Linux `open(2)` flags.
        flags: u32,
    },
    /// Make a file in the directory `nodeid` and open it.
    Create {
        /// Its name.
        name: &'a [u8],
        /// Linux `open(2)` flags.
        flags: u32,
        /// Type and permissions, masked.
        mode: u32,
    },
    /// Make a file without a name in the directory `nodeid` and open it.
    Tmpfile,
    /// Make a FIFO, a device or a regular file.
    Mknod {
        /// Its name.
        name: &'a [u8],
        /// Type and permissions, masked.
        mode: u32,
    },
    /// Make a directory.
    Mkdir {
        /// Its name.
        name: &'a [u8],
        /// Permissions, masked.
        mode: u32,
    },
    /// Make a symbolic link.
    Symlink {
        /// Its name.
        name: &'a [u8],
        /// What it is to say.
        target: &'a [u8],
    },
    /// Give the file `from` another name, in the directory `nodeid`.
    Link {
        /// nodeid of the file.
        from: u64,
        /// The new name.
        name: &'a [u8],
    },
    /// Remove a name that is not a directory's.
    Unlink {
        /// The name.
        name: &'a [u8],
    },
    /// Remove the directory of that name in the directory `nodeid`.
    Rmdir {
        /// The name.
        name: &'a [u8],
    },
    /// Move a name from the directory `nodeid`.
    Rename {
        /// The old name.
        name: &'a [u8],
        /// The directory it is moved to.
        new_parent: u64,
        /// The new name.
        new_name: &'a [u8],
        /// `RENAME_*`.
        flags: u32,
    },
    /// Read from an open file.
    Read {
        /// From the reply to `Open`.
        fh: u64,
        /// Byte offset in the file.
        offset: u64,
        /// Largest number of bytes to return.
        size: u32,
    },
    /// Write to an open file.
    Write {
        /// From the reply to `Open`.
        fh: u64,
        /// Byte offset in the file.
        offset: u64,
        /// They go to the end; the offset is where the kernel believes it to be.
        append: bool,
        /// They are pages of a mapping.
        mapped: bool,
        /// The bytes. They begin [`super::WRITE_DATA`] bytes behind the beginning of the request.
        data: &'a [u8],
    },
    /// An open file was closed by one of those who have it.
    Flush {
        /// From the reply to `Open`.
        fh: u64,
        /// Whose locks end.
        lock_owner: u64,
    },
    /// Bring an open file, or (`directory`) an open directory, to the medium.
    Fsync {
        /// From the reply to `Open` or `Opendir`.
        fh: u64,
        /// Attributes that reading does not need may stay behind.
        data_only: bool,
    },
    /// Allocate or free space of an open file.
    Fallocate {
        /// From the reply to `Open`.
        fh: u64,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// `FALLOC_FL_*`.
        mode: u32,
    },
    /// Find data or a hole.
    Lseek {
        /// From the reply to `Open`.
        fh: u64,
        /// Where to begin.
        offset: u64,
        /// `SEEK_DATA` or `SEEK_HOLE`.
        whence: u32,
    },
    /// Copy from one open file to another.
    CopyFileRange {
        /// The file to read.
        from: u64,
        /// Where in it.
        from_offset: u64,
        /// The file to write.
        to: u64,
        /// nodeid of that file.
        to_nodeid: u64,
        /// Where in it.
        to_offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// Who is in the way of a lock of an open file?
    Getlk {
        /// From the reply to `Open`.
        fh: u64,
        /// The lock.
        lock: FileLock,
    },
    /// Lock or unlock an open file.
    Setlk {
        /// From the reply to `Open`.
        fh: u64,
        /// The lock.
        lock: FileLock,
        /// Wait for whoever is in the way.
        wait: bool,
    },
    /// What of an open file is ready?
    Poll {
        /// From the reply to `Open`.
        fh: u64,
        /// Bits as in `poll(2)`.
        events: u32,
        /// Tell the kernel under this number when one of them comes.
        notify: Option<u64>,
    },
    /// Give `nodeid` an extended attribute.
    Setxattr {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// `XATTR_CREATE`, `XATTR_REPLACE` or 0.
        flags: u32,
    },
    /// The value of an extended attribute of `nodeid`.
    Getxattr {
        /// Its name.
        name: &'a [u8],
        /// Most bytes wanted; 0: only how many there are.
        size: u32,
    },
    /// The names of the extended attributes of `nodeid`.
    Listxattr {
        /// Most bytes wanted; 0: only how many there are.
        size: u32,
    },
    /// Take an extended attribute of `nodeid` away.
    Removexattr {
        /// Its name.
        name: &'a [u8],
    },
    /// Last close of an open file.
    Release {
        /// From the reply to `Open`.
        fh: u64,
    },
    /// Open the directory `nodeid`.
    Opendir,
    /// Read entries of an open directory.
    Readdir {
        /// From the reply to `Opendir`.
        fh: u64,
        /// 0, or the `off` of the last entry the kernel has.
        offset: u64,
        /// Largest number of bytes to return.
        size: u32,
        /// Each entry is to bring what a look-up of it would say.
        plus: bool,
    },
    /// Last close of an open directory.
    Releasedir {
        /// From the reply to `Opendir`.
        fh: u64,
    },
    /// Statistics of the file system that holds `nodeid`.
    Statfs,
    /// An operation whose arguments nobody here needs; the caller answers by its opcode. `None` is one that this
    /// protocol version does not have.
    Other(Option<Opcode>),
}

impl Operation<'_> {
    /// Whether it changes files, names or attributes.
    pub const fn changes_files(&self) -> bool {
        matches!(
            self,
            Self::Setattr { .. }
                | Self::Create { .. }
                | Self::Tmpfile
                | Self::Mknod { .. }
                | Self::Mkdir { .. }
                | Self::Symlink { .. }
                | Self::Link { .. }
                | Self::Unlink { .. }
                | Self::Rename { .. }
                | Self::Write { .. }
                | Self::Fallocate { .. }
                | Self::Setxattr { .. }
                | Self::Removexattr { .. }
                | Self::CopyFileRange { .. }
        )
    }
}

/// A lock of an open file, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLock {
    /// The kernel's number for who holds it.
    pub owner: u64,
    /// Its process.
    pub pid: u32,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub kind: u32,
    /// All of the file, for this open (`flock`).
    pub whole: bool,
}

/// Attributes that are to be changed; `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the content.
    pub mtime: Option<SetTime>,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The serving node's present time.
    Now,
    /// This one.
    To {
        /// Seconds since 1970, negative before.
        seconds: i64,
        /// Nanoseconds.
        nanoseconds: u32,
    },
}

/// The entries of a BATCH_FORGET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgets<'a>(pub(super) &'a [u8]);

impl Iterator for Forgets<'_> {
    type Item = ForgetOne;

    fn next(&mut self) -> Option<ForgetOne> {
        let (one, rest) = ForgetOne::read_from_prefix(self.0).ok()?;
        self.0 = rest;
        Some(one)
    }
}
