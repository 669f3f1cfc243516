//! From the kernel's attributes to the STAT reply's.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::statfs::fstatfs;
use qnet_iomsg::stat::{FLAG_BARE, FLAG_BTIME, FLAG_STREAM};
use qnet_iomsg::{Stat, Timestamp};

use crate::resolve::Place;
use crate::{sys, xattr};

/// File systems whose files are made up while they are read: their sizes say nothing.
const MADE_UP: [i64; 10] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6265_6570, // configfs
    0xcafe_4a11, // bpf
    0xf97c_ff8c, // selinux
];

/// FUSE: some serve files of size 0 that have content (lxcfs).
const FUSE: i64 = 0x6573_5546;

/// Attributes of what a descriptor (O_PATH or open) means.
///
/// # Errors
/// As `statx`.
pub(crate) fn stat(fd: BorrowedFd<'_>, place: Place) -> Result<Stat, Errno> {
    if place == Place::Network {
        return network_root(fd);
    }
    let stat = sys::statx(fd, false)?;
    Ok(from_kernel(&stat, is_stream(&stat, || file_system(fd))))
}

/// The attributes of the entries of one directory.
#[derive(Debug)]
pub(crate) struct EntryAttributes {
    mount: u64,
    file_system: i64,
    /// A list of extended attributes tells of all of them.
    lists_are_complete: bool,
}

impl EntryAttributes {
    /// # Errors
    /// ENOTDIR. As `statx`.
    pub(crate) fn of_directory(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        let stat = sys::statx(directory, true)?;
        if u32::from(stat.stx_mode) & libc::S_IFMT != libc::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        let file_system = file_system(directory);
        // FUSE: only who serves it knows what the list leaves out
        let lists_are_complete =
            file_system != FUSE && !MADE_UP.contains(&file_system) && xattr::lists_are_complete(directory);
        Ok(Self { mount: stat.stx_mnt_id, file_system, lists_are_complete })
    }

    /// Those of an entry; a symbolic link is not followed. `None` for the directory itself and the one above, for mount points
    /// (what is behind one may be of a server that waits for this very request), and for what cannot be looked at.
    pub(crate) fn of(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Option<Stat> {
        if matches!(name, b"." | b"..") {
            return None;
        }
        let name = CString::new(name).ok()?;
        let mut stat = sys::statx_entry(directory, &name, true).ok()?;
        if stat.stx_mnt_id != self.mount {
            return None;
        }
        // a file system without a disk may have to ask somebody for what is true now
        if stat.stx_dev_major == 0 {
            stat = sys::statx_entry(directory, &name, false).ok().filter(|s| s.stx_mnt_id == self.mount)?;
        }
        let mut told = from_kernel(&stat, is_stream(&stat, || self.file_system));
        let has_lists = matches!(told.mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR);
        if has_lists && self.lists_are_complete && xattr::has_none(directory, &name) {
            told.flags |= FLAG_BARE;
        }
        Some(told)
    }
}

fn from_kernel(stat: &libc::statx, is_stream: bool) -> Stat {
    let flag = |set: bool, bit| if set { bit } else { 0 };
    let flags = flag(stat.stx_mask & libc::STATX_BTIME != 0, FLAG_BTIME) | flag(is_stream, FLAG_STREAM);
    Stat {
        ino: stat.stx_ino,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        mode: stat.stx_mode.into(),
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        dev: (stat.stx_dev_major, stat.stx_dev_minor),
        rdev: (stat.stx_rdev_major, stat.stx_rdev_minor),
        blksize: stat.stx_blksize,
        flags,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        btime: time(stat.stx_btime),
    }
}

/// The root of a network directory as seen from another node: a directory that nobody can enter. Asking
/// its server could wait for this very request.
fn network_root(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    let stat = sys::statx(fd, true)?;
    let dev = (stat.stx_dev_major, stat.stx_dev_minor);
    Ok(Stat {
        ino: stat.stx_ino,
        mode: libc::S_IFDIR | 0o555,
        nlink: 2,
        dev,
        blksize: 4096,
        ..Stat::default()
    })
}

fn is_stream(stat: &libc::statx, file_system: impl FnOnce() -> i64) -> bool {
    match u32::from(stat.stx_mode) & libc::S_IFMT {
        libc::S_IFDIR | libc::S_IFLNK | libc::S_IFBLK => false,
        // file systems on a disk have a device with a major number
        libc::S_IFREG if stat.stx_dev_major != 0 => false,
        libc::S_IFREG => {
            let kind = file_system();
            MADE_UP.contains(&kind) || (kind == FUSE && stat.stx_size == 0)
        }
        _ => true,
    }
}

/// The kernel's number of a kind of file system; 0 when it does not tell.
fn file_system(fd: BorrowedFd<'_>) -> i64 {
    fstatfs(fd).map_or(0, |fs| fs.filesystem_type().0)
}

fn time(time: libc::statx_timestamp) -> Timestamp {
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
}
