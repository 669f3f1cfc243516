//! The system calls of the tests that no safe wrapper exists for: a child that becomes another user, extended attributes,
//! shared memory of files.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, pipe, setgroups, setresgid, setresuid};

/// What an operation came to: a number that means something to the one who asked, or an error.
pub type Outcome = nix::Result<i64>;

/// A child that does what it was told, and its way to tell.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    results: File,
}

impl Child {
    /// Starts a child with this user, group and supplementary groups that runs `work` and ends.
    ///
    /// # Errors
    /// There are other threads, whose locks would stay locked in the child; or no process can be made.
    pub fn start(
        (uid, gid, groups): (u32, u32, &[u32]),
        work: impl FnOnce() -> Vec<Outcome>,
    ) -> Result<Self> {
        ensure!(std::fs::read_dir("/proc/self/task")?.count() == 1, "only a process of one thread can fork");
        let (results, tell) = pipe()?;
        // SAFETY: with one thread no lock and no allocator state is held by anyone else at this moment,
        // so the child may go on as if nothing had happened.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Parent { child } => Ok(Self { pid: child, results: results.into() }),
            ForkResult::Child => {
                drop(results);
                // A panic has been printed; the parent misses the results.
                let outcome = catch_unwind(AssertUnwindSafe(|| -> nix::Result<Vec<Outcome>> {
                    if !(Uid::effective().as_raw() == uid && uid == 0) {
                        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
                        setgroups(&groups)?;
                        setresgid(gid.into(), gid.into(), gid.into())?;
                        setresuid(uid.into(), uid.into(), uid.into())?;
                    }
                    Ok(work())
                }));
                if let Ok(Ok(results)) = outcome {
                    let number = |outcome: &Outcome| outcome.unwrap_or_else(|errno| -i64::from(errno as i32));
                    let bytes: Vec<u8> = results.iter().flat_map(|one| number(one).to_le_bytes()).collect();
                    // Who does not read them any more does not miss them.
                    let _ = File::from(tell).write_all(&bytes);
                }
                // SAFETY: ends the process; nothing of the parent's is flushed twice.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// The child's process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end; gives what it told, which is nothing when it was killed.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn results(mut self) -> Result<Vec<Outcome>> {
        let mut bytes = Vec::new();
        self.results.read_to_end(&mut bytes)?;
        waitpid(self.pid, None)?;
        let number = |bytes: &[u8]| bytes.try_into().map(i64::from_le_bytes).context("half a number");
        let outcome = |number: i64| match i32::try_from(-number) {
            Ok(errno) if errno > 0 => Err(Errno::from_raw(errno)),
            _ => Ok(number),
        };
        bytes.chunks(8).map(|bytes| number(bytes).map(outcome)).collect()
    }
}

/// Which extended attribute of which file; a symbolic link is not followed.
fn names(path: &Path, name: &str) -> nix::Result<(CString, CString)> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    Ok((text(path.as_os_str().as_bytes())?, text(name.as_bytes())?))
}

/// Sets an attribute; `flags` is 0, `XATTR_CREATE` or `XATTR_REPLACE`.
///
/// # Errors
/// Those of lsetxattr(2).
pub fn set_xattr(path: &Path, name: &str, value: &[u8], flags: i32) -> nix::Result<()> {
    let (path, name) = names(path, name)?;
    // SAFETY: both names end with NUL, `value` is as long as it says; all outlive the call, which only reads them.
    let result =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    Errno::result(result).map(drop)
}

/// Sets an attribute of an open file.
///
/// # Errors
/// Those of fsetxattr(2).
pub fn set_open_xattr(file: &File, name: &str, value: &[u8]) -> nix::Result<()> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the name ends with NUL, `value` is as long as it says; both outlive the call, which only reads them.
    let result =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result).map(drop)
}

/// Reads an attribute into `room` bytes.
///
/// # Errors
/// Those of lgetxattr(2).
pub fn get_xattr(path: &Path, name: &str, room: usize) -> nix::Result<Vec<u8>> {
    let (path, name) = names(path, name)?;
    let mut value = vec![0; room];
    // SAFETY: both names end with NUL; `value` has `room` bytes to write to; all outlive the call.
    let result = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), room) };
    value.truncate(Errno::result(result)? as usize);
    Ok(value)
}

/// The length of an attribute's value.
///
/// # Errors
/// Those of lgetxattr(2).
pub fn xattr_len(path: &Path, name: &str) -> nix::Result<usize> {
    let (path, name) = names(path, name)?;
    // SAFETY: both names end with NUL; with a length of 0 nothing is written.
    let result = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    Errno::result(result).map(|len| len as usize)
}

/// The names of all attributes, sorted.
///
/// # Errors
/// Those of llistxattr(2).
pub fn list_xattr(path: &Path, room: usize) -> nix::Result<Vec<String>> {
    let (path, _) = names(path, "")?;
    let mut list = vec![0_u8; room];
    // SAFETY: the path ends with NUL; `list` has `room` bytes to write to; both outlive the call.
    let result = unsafe { libc::llistxattr(path.as_ptr(), list.as_mut_ptr().cast(), room) };
    list.truncate(Errno::result(result)? as usize);
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Takes an attribute away.
///
/// # Errors
/// Those of lremovexattr(2).
pub fn remove_xattr(path: &Path, name: &str) -> nix::Result<()> {
    let (path, name) = names(path, name)?;
    // SAFETY: both names end with NUL and outlive the call, which only reads them.
    Errno::result(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}

/// A file's bytes as memory; they are there until this value goes.
#[derive(Debug)]
pub struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes: `flags` is `MAP_SHARED` or `MAP_PRIVATE`, writing is asked for by `writable`.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(file: &File, len: usize, flags: i32, writable: bool) -> nix::Result<Self> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at a place that the kernel chooses; nothing of ours is replaced.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        NonNull::new(at.cast()).map(|at| Self { at, len }).ok_or(Errno::ENOMEM)
    }

    /// One byte of it.
    ///
    /// # Panics
    /// It has no such byte.
    pub fn load(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: within the mapping, which lives as long as `self`; volatile because others may write to the file.
        unsafe { self.at.add(at).read_volatile() }
    }

    /// Changes one byte; the mapping must be writable.
    ///
    /// # Panics
    /// It has no such byte.
    pub fn store(&mut self, at: usize, byte: u8) {
        assert!(at < self.len);
        // SAFETY: within the mapping, which lives as long as `self` and was made writable.
        unsafe { self.at.add(at).write_volatile(byte) }
    }

    /// Writes what was changed to the file, and waits for it.
    ///
    /// # Errors
    /// Those of msync(2), among them the file's when writing failed.
    pub fn sync(&self) -> nix::Result<()> {
        // SAFETY: exactly the mapping.
        Errno::result(unsafe { libc::msync(self.at.as_ptr().cast(), self.len, libc::MS_SYNC) }).map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping, to which nobody has a pointer any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// Copies bytes from file to file within the kernel; without offsets, at the places of the descriptors.
///
/// # Errors
/// Those of `copy_file_range(2)`.
pub fn copy_file_range(
    from: &File,
    at: Option<&mut i64>,
    to: &File,
    there: Option<&mut i64>,
    len: usize,
) -> nix::Result<usize> {
    let offset = |offset: Option<&mut i64>| offset.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: the descriptors are open; each offset is null or a number of ours that outlives the call.
    let result =
        unsafe { libc::copy_file_range(from.as_raw_fd(), offset(at), to.as_raw_fd(), offset(there), len, 0) };
    Errno::result(result).map(|count| count as usize)
}

/// Limits the size of files that this process writes, in bytes.
///
/// # Errors
/// Those of setrlimit(2).
pub fn limit_file_size(most: u64) -> nix::Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE, most, most)
}

/// Is `name` in the folder, as its listing says?
///
/// # Errors
/// The folder cannot be read.
pub fn lists(folder: &Path, name: &OsStr) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        if entry?.file_name() == name {
            return Ok(true);
        }
    }
    Ok(false)
}
