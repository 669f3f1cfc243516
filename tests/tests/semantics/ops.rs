//! System calls by path, as the tables name them.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid};

use crate::suite::errno;

/// An operation on one path.
pub(crate) type Op = fn(&Path) -> nix::Result<()>;

/// open(2) with permissions for a new file.
pub(crate) fn open_with(path: &Path, flags: OFlag, mode: u32) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::from_bits_truncate(mode))
}

/// open(2); a new file is for everybody.
pub(crate) fn open(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    open_with(path, flags, 0o666)
}

/// open(2) and close(2). A FIFO is not waited for.
pub(crate) fn opens(path: &Path, flags: OFlag) -> nix::Result<()> {
    open(path, flags | OFlag::O_NONBLOCK).map(drop)
}

pub(crate) fn create(path: &Path) -> nix::Result<()> {
    opens(path, OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY)
}

pub(crate) fn mkdir(path: &Path) -> nix::Result<()> {
    nix::unistd::mkdir(path, Mode::from_bits_truncate(0o777))
}

pub(crate) fn mkfifo(path: &Path) -> nix::Result<()> {
    nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o666))
}

pub(crate) fn symlink_here(path: &Path) -> nix::Result<()> {
    symlink(Path::new("target"), path)
}

pub(crate) fn symlink(target: &Path, path: &Path) -> nix::Result<()> {
    nix::unistd::symlinkat(target, AT_FDCWD, path)
}

pub(crate) fn unlink(path: &Path) -> nix::Result<()> {
    nix::unistd::unlink(path)
}

pub(crate) fn rmdir(path: &Path) -> nix::Result<()> {
    errno(fs::remove_dir(path))
}

pub(crate) fn readlink(path: &Path) -> nix::Result<()> {
    nix::fcntl::readlink(path).map(drop)
}

pub(crate) fn list(path: &Path) -> nix::Result<()> {
    errno(fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>())).map(drop)
}

pub(crate) fn stat(path: &Path) -> nix::Result<()> {
    attributes(path).map(drop)
}

pub(crate) fn lstat(path: &Path) -> nix::Result<()> {
    nix::sys::stat::lstat(path).map(drop)
}

/// stat(2).
pub(crate) fn attributes(path: &Path) -> nix::Result<FileStat> {
    nix::sys::stat::stat(path)
}

/// Permission bits, set-id bits and sticky bit.
pub(crate) fn mode(path: &Path) -> nix::Result<u32> {
    nix::sys::stat::lstat(path).map(|stat| stat.st_mode & 0o7777)
}

pub(crate) fn truncate(path: &Path) -> nix::Result<()> {
    nix::unistd::truncate(path, 3)
}

pub(crate) fn chmod(path: &Path) -> nix::Result<()> {
    chmod_to(path, 0o640)
}

pub(crate) fn chmod_to(path: &Path, mode: u32) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(mode);
    nix::sys::stat::fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink)
}

/// chown(2), or lchown(2) with `follow` false; `None` leaves as is.
pub(crate) fn chown(path: &Path, uid: Option<u32>, gid: Option<u32>, follow: bool) -> nix::Result<()> {
    let flags = if follow { AtFlags::empty() } else { AtFlags::AT_SYMLINK_NOFOLLOW };
    nix::unistd::fchownat(AT_FDCWD, path, uid.map(Uid::from_raw), gid.map(Gid::from_raw), flags)
}

/// A time in seconds and nanoseconds.
pub(crate) const fn at(seconds: i64, nanoseconds: i64) -> TimeSpec {
    TimeSpec::new(seconds, nanoseconds)
}

/// utimensat(2): when it was read, when it was written.
pub(crate) fn utimens(path: &Path, read: TimeSpec, written: TimeSpec) -> nix::Result<()> {
    nix::sys::stat::utimensat(AT_FDCWD, path, &read, &written, UtimensatFlags::FollowSymlink)
}

/// The same of a symbolic link itself.
pub(crate) fn lutimens(path: &Path, read: TimeSpec, written: TimeSpec) -> nix::Result<()> {
    nix::sys::stat::utimensat(AT_FDCWD, path, &read, &written, UtimensatFlags::NoFollowSymlink)
}

/// When it was written, in seconds and nanoseconds.
pub(crate) fn written(path: &Path) -> nix::Result<(i64, i64)> {
    nix::sys::stat::lstat(path).map(|stat| (stat.st_mtime, stat.st_mtime_nsec))
}

/// When it was read, in seconds and nanoseconds.
pub(crate) fn read_at(path: &Path) -> nix::Result<(i64, i64)> {
    nix::sys::stat::lstat(path).map(|stat| (stat.st_atime, stat.st_atime_nsec))
}

pub(crate) fn rename(from: &Path, to: &Path) -> nix::Result<()> {
    errno(fs::rename(from, to))
}

pub(crate) fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> nix::Result<()> {
    nix::fcntl::renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)
}

/// link(2): a symbolic link is linked itself.
pub(crate) fn link(from: &Path, to: &Path) -> nix::Result<()> {
    nix::unistd::linkat(AT_FDCWD, from, AT_FDCWD, to, LinkatFlags::empty())
}

/// linkat(2) with `AT_SYMLINK_FOLLOW`.
pub(crate) fn link_target(from: &Path, to: &Path) -> nix::Result<()> {
    nix::unistd::linkat(AT_FDCWD, from, AT_FDCWD, to, LinkatFlags::AT_SYMLINK_FOLLOW)
}

/// Links it to a name beside it.
pub(crate) fn link_beside(path: &Path) -> nix::Result<()> {
    link(path, &path.with_extension("linked"))
}

/// All bytes from an offset on, at most `room`.
pub(crate) fn read_from(file: impl AsFd, offset: i64, room: usize) -> nix::Result<Vec<u8>> {
    let mut bytes = vec![0; room];
    let mut have = 0;
    while have < room {
        match nix::sys::uio::pread(&file, &mut bytes[have..], offset + have as i64)? {
            0 => break,
            more => have += more,
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

/// The whole file by its name, as text.
pub(crate) fn text(path: &Path) -> nix::Result<String> {
    errno(fs::read(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Size of an open file.
pub(crate) fn size(file: &File) -> nix::Result<i64> {
    nix::sys::stat::fstat(file).map(|stat| stat.st_size)
}

/// Whether an operation worked, for tables that compare with a bool.
pub(crate) fn allowed<T>(result: nix::Result<T>) -> nix::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(Errno::EACCES) => Ok(false),
        Err(other) => Err(other),
    }
}
