//! System calls that no crate of ours wraps: signals by process descriptor, scheduling of one thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// A descriptor that stands for the process which has this number now.
pub(crate) fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process behind the descriptor; ESRCH when it has ended.
pub(crate) fn send(process: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open for the call; a null siginfo is allowed and means an ordinary kill.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as i32, no_info, 0) };
    Errno::result(result).map(drop)
}

/// Sets policy and real-time priority of a thread.
pub(crate) fn set_policy(tid: i32, policy: i32, priority: i32) -> Result<(), Errno> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the structure lives during the call and is only read.
    Errno::result(unsafe { libc::sched_setscheduler(tid, policy, &parameters) }).map(drop)
}

/// Sets the nice value of a thread.
pub(crate) fn set_nice(tid: i32, nice: i32) -> Result<(), Errno> {
    let tid = libc::id_t::try_from(tid).map_err(|_| Errno::ESRCH)?;
    // SAFETY: integers only.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, tid, nice) }).map(drop)
}

/// Lets a thread run on these processors only.
pub(crate) fn set_affinity(tid: i32, cpus: &[u32]) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu as usize))?;
    sched_setaffinity(Pid::from_raw(tid), &set)
}
