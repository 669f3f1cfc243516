//! Structures and constants of the kernel's FUSE protocol 7, as `linux/fuse.h` lays them out.
//!
//! Only what `/net` reads or writes is here. Structures have explicit padding, so every byte of a reply is defined and
//! none of this process's memory leaks into the kernel. Names follow the header without the `fuse_` prefix.

#![expect(missing_docs, reason = "the fields are the kernel's; linux/fuse.h documents them")]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Major version of the protocol spoken here.
pub const FUSE_KERNEL_VERSION: u32 = 7;
/// Highest minor version whose layouts are known here.
pub const FUSE_KERNEL_MINOR_VERSION: u32 = 38;
pub const FUSE_ROOT_ID: u64 = 1;

pub const FOPEN_DIRECT_IO: u32 = 1 << 0;
pub const FOPEN_STREAM: u32 = 1 << 4;
pub const FOPEN_NOFLUSH: u32 = 1 << 5;
pub const FOPEN_PARALLEL_DIRECT_WRITES: u32 = 1 << 6;

pub const FUSE_ASYNC_READ: u32 = 1 << 0;
pub const FUSE_ATOMIC_O_TRUNC: u32 = 1 << 3;
pub const FUSE_BIG_WRITES: u32 = 1 << 5;
pub const FUSE_DONT_MASK: u32 = 1 << 6;
pub const FUSE_AUTO_INVAL_DATA: u32 = 1 << 12;
pub const FUSE_DO_READDIRPLUS: u32 = 1 << 13;
pub const FUSE_READDIRPLUS_AUTO: u32 = 1 << 14;
pub const FUSE_ASYNC_DIO: u32 = 1 << 15;
pub const FUSE_PARALLEL_DIROPS: u32 = 1 << 18;
pub const FUSE_MAX_PAGES: u32 = 1 << 22;
pub const FUSE_HANDLE_KILLPRIV_V2: u32 = 1 << 28;

pub const FUSE_GETATTR_FH: u32 = 1 << 0;

pub const FATTR_MODE: u32 = 1 << 0;
pub const FATTR_UID: u32 = 1 << 1;
pub const FATTR_GID: u32 = 1 << 2;
pub const FATTR_SIZE: u32 = 1 << 3;
pub const FATTR_ATIME: u32 = 1 << 4;
pub const FATTR_MTIME: u32 = 1 << 5;
pub const FATTR_FH: u32 = 1 << 6;
pub const FATTR_ATIME_NOW: u32 = 1 << 7;
pub const FATTR_MTIME_NOW: u32 = 1 << 8;

/// The data are pages of a mapping, and not what a `write` has just brought.
pub const FUSE_WRITE_CACHE: u32 = 1 << 0;
pub const FUSE_FSYNC_FDATASYNC: u32 = 1 << 0;

pub const FUSE_POSIX_LOCKS: u32 = 1 << 1;
pub const FUSE_FLOCK_LOCKS: u32 = 1 << 10;
/// Of `LkIn::lk_flags`.
pub const FUSE_LK_FLOCK: u32 = 1 << 0;
/// Of `PollIn::flags`.
pub const FUSE_POLL_SCHEDULE_NOTIFY: u32 = 1 << 0;

/// In place of an errno in a message whose `unique` is 0.
pub const FUSE_NOTIFY_INVAL_INODE: i32 = 2;
/// All names that the kernel remembers are old. Since minor version [`EPOCH_MINOR`].
pub const FUSE_NOTIFY_INC_EPOCH: i32 = 8;
pub const EPOCH_MINOR: u32 = 44;
/// The same: somebody who polls should look again.
pub const FUSE_NOTIFY_POLL: i32 = 1;

macro_rules! kernel_structs {
    ($($(#[$doc:meta])* $name:ident = $size:literal { $($field:ident : $ty:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub struct $name { $(pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

kernel_structs! {
    /// Begins every request.
    InHeader = 40 {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        total_extlen: u16, padding: u16,
    }
    /// Begins every reply; `error` is 0 or a negative errno value.
    OutHeader = 16 { len: u32, error: i32, unique: u64 }

    /// Asked of a kernel that speaks at least 7.36; older ones send the first 16 bytes only.
    InitIn = 16 { major: u32, minor: u32, max_readahead: u32, flags: u32 }
    InitOut = 64 {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16, congestion_threshold: u16,
        max_write: u32, time_gran: u32, max_pages: u16, map_alignment: u16, flags2: u32, unused: [u32; 7],
    }

    Attr = 88 {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32,
        blksize: u32, flags: u32,
    }
    EntryOut = 128 {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32, attr_valid_nsec: u32,
        attr: Attr,
    }
    AttrOut = 104 { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr }
    OpenOut = 16 { fh: u64, open_flags: u32, padding: u32 }
    Kstatfs = 80 {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64,
        bsize: u32, namelen: u32, frsize: u32, padding: u32, spare: [u32; 6],
    }
    /// Followed by the name and zeros up to the next multiple of 8.
    Dirent = 24 { ino: u64, off: u64, namelen: u32, kind: u32 }

    NotifyPollWakeup = 8 { kh: u64 }
    NotifyInvalInode = 24 { nodeid: u64, offset: i64, len: i64 }

    ForgetIn = 8 { nlookup: u64 }
    BatchForgetIn = 8 { count: u32, dummy: u32 }
    ForgetOne = 16 { nodeid: u64, nlookup: u64 }
    GetattrIn = 16 { getattr_flags: u32, dummy: u32, fh: u64 }
    OpenIn = 8 { flags: u32, open_flags: u32 }
    ReadIn = 40 { fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    ReleaseIn = 24 { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    InterruptIn = 8 { unique: u64 }

    CreateIn = 16 { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    MknodIn = 16 { mode: u32, rdev: u32, umask: u32, padding: u32 }
    MkdirIn = 8 { mode: u32, umask: u32 }
    RenameIn = 8 { newdir: u64 }
    Rename2In = 16 { newdir: u64, flags: u32, padding: u32 }
    LinkIn = 8 { oldnodeid: u64 }
    SetattrIn = 88 {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    WriteIn = 40 { fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    WriteOut = 8 { size: u32, padding: u32 }
    FlushIn = 24 { fh: u64, unused: u32, padding: u32, lock_owner: u64 }
    FsyncIn = 16 { fh: u64, fsync_flags: u32, padding: u32 }
    AccessIn = 8 { mask: u32, padding: u32 }
    FallocateIn = 32 { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    /// `fuse_file_lock` begins at `start`.
    LkIn = 48 { fh: u64, owner: u64, start: u64, end: u64, kind: u32, pid: u32, lk_flags: u32, padding: u32 }
    LkOut = 24 { start: u64, end: u64, kind: u32, pid: u32 }
    /// Followed by the name with its NUL, then the value.
    SetxattrIn = 8 { size: u32, flags: u32 }
    /// Followed, unless it lists, by the name with its NUL.
    GetxattrIn = 8 { size: u32, padding: u32 }
    GetxattrOut = 8 { size: u32, padding: u32 }
    PollIn = 24 { fh: u64, kh: u64, flags: u32, events: u32 }
    PollOut = 8 { revents: u32, padding: u32 }
    LseekIn = 24 { fh: u64, offset: u64, whence: u32, padding: u32 }
    LseekOut = 8 { offset: u64 }
    CopyFileRangeIn = 56 {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64,
    }
}
