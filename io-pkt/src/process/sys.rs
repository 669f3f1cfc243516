//! fork(2) and setpriority(2).
//!
//! Both are called before the daemon has anything to lose: no pool, no modules, no threads.
//! See `process.rs` for what they are used for.

use std::io;

use nix::unistd::ForkResult;

/// Splits the process; true in the parent.
///
/// # Errors
/// As fork(2), and `Other` when there is more than one thread.
pub(super) fn fork() -> io::Result<bool> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(io::Error::other(format!("{threads} threads run already")));
    }
    // SAFETY: with a single thread no lock can be held by somebody who does not exist in the child.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { .. } => Ok(true),
        ForkResult::Child => Ok(false),
    }
}

/// Sets the nice value of this process.
///
/// # Errors
/// As setpriority(2).
pub(super) fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: plain numbers; 0 means this process.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
