//! From the kernel's attributes to the STAT reply's.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::statfs::fstatfs;
use qnet_iomsg::stat::{FLAG_BTIME, FLAG_STREAM};
use qnet_iomsg::{Stat, Timestamp};

use crate::resolve::Place;
use crate::sys;

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
    let mut flags = 0;
    if stat.stx_mask & libc::STATX_BTIME != 0 {
        flags |= FLAG_BTIME;
    }
    if is_stream(fd, &stat) {
        flags |= FLAG_STREAM;
    }
    Ok(Stat {
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
    })
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

fn is_stream(fd: BorrowedFd<'_>, stat: &libc::statx) -> bool {
    match u32::from(stat.stx_mode) & libc::S_IFMT {
        libc::S_IFDIR | libc::S_IFLNK | libc::S_IFBLK => false,
        // file systems on a disk have a device with a major number
        libc::S_IFREG if stat.stx_dev_major != 0 => false,
        libc::S_IFREG => fstatfs(fd).is_ok_and(|fs| {
            let kind = fs.filesystem_type().0;
            MADE_UP.contains(&kind) || (kind == FUSE && stat.stx_size == 0)
        }),
        _ => true,
    }
}

fn time(time: libc::statx_timestamp) -> Timestamp {
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
}
