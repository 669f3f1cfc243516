//! The system calls of the lab that no safe wrapper exists for: forking, pidfds, read-only trees.
//!
//! Nothing here knows what a node is.

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, Signal};
use nix::unistd::ForkResult;

/// Forks this process, which must have one thread only.
///
/// # Errors
/// `EBUSY` when there are other threads: their locks would stay locked for ever in the child.
pub(crate) fn fork() -> io::Result<ForkResult> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) => {}
        // We see a node's /proc and are not in it. The kernel lets only a single thread change its root.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(_) => return Err(io::Error::from_raw_os_error(libc::EBUSY)),
        Err(error) => return Err(error),
    }
    // SAFETY: with one thread no lock and no allocator state is held by anyone else at this moment,
    // so the child may go on as if nothing had happened.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// A descriptor that stands for the process `pid`, whatever becomes of the number.
pub(crate) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: two integers go in; nothing in our memory is touched.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Moves this process into namespaces of the process behind `pidfd`, all of them or none.
pub(crate) fn enter(pidfd: &OwnedFd, flags: CloneFlags) -> io::Result<()> {
    Ok(nix::sched::setns(pidfd, flags)?)
}

/// Sends `signal` to the process behind `pidfd`.
pub(crate) fn signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks the kernel to fill in what kill(2) would; no memory of ours is read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the mount at `path` and everything mounted below it read-only.
///
/// The other flags stay as they are: in a user namespace they are locked and may not be lost.
pub(crate) fn read_only_tree(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: `name` ends with NUL and `attributes` is as long as the size says; both outlive the call,
    // which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            name.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            mem::size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks the kernel to send `SIGKILL` to this process when its parent ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// When the living process `pid` was started, in clock ticks since boot; with it a process id is unique.
pub(crate) fn start_time(pid: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name stands in parentheses and may hold blanks; the start time is the 22nd field.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_whitespace();
    let state = fields.next().unwrap_or("X");
    if matches!(state, "Z" | "X") {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    fields
        .nth(18)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// May this process become `nobody`? Not without root, and not where a user namespace does not know it.
pub(crate) fn can_become_nobody() -> bool {
    const NOBODY: u64 = 65534;
    let is_mapped = |path: &str| {
        fs::read_to_string(path).is_ok_and(|map| {
            map.lines().any(|line| {
                let numbers: Vec<u64> =
                    line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
                matches!(numbers[..], [first, _, length] if first <= NOBODY && NOBODY - first < length)
            })
        })
    };
    let may_drop_groups = fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow");
    nix::unistd::Uid::effective().is_root()
        && may_drop_groups
        && is_mapped("/proc/self/uid_map")
        && is_mapped("/proc/self/gid_map")
}

/// Ignores `signal` from now on.
pub(crate) fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: ignoring installs no code of ours, so nothing can run at a bad moment.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}
