//! Starting, signalling and reaping one child.
//!
//! posix_spawn(3) rather than fork(2): the daemon has a large mapping, and the child must not run a line of Rust
//! between fork and exec. A child is known by its pidfd, so no SIGCHLD handler is needed and no pid is ever
//! mistaken.

use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn},
    sys::{
        signal::{SigSet, Signal, kill},
        stat::Mode,
    },
    unistd::Pid,
};

/// First descriptor number that a helper gets.
const FIRST_FD: RawFd = 3;

/// A child that has not been waited for, so its pid is still its own.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Child {
    /// Starts `program` with descriptors 0 (nothing), 1 and 2 (ours), 3… (`fds`), default signals, own process group.
    pub(super) fn start(program: &Path, args: &[CString], fds: &[RawFd]) -> nix::Result<Self> {
        let mut actions = PosixSpawnFileActions::init()?;
        actions.add_open(0, c"/dev/null", OFlag::O_RDONLY, Mode::empty())?;
        // Copies above all targets first: a target number may be one of the sources.
        let floor = FIRST_FD + RawFd::try_from(fds.len()).map_err(|_| Errno::EINVAL)?;
        let mut copies = Vec::with_capacity(fds.len());
        for (target, fd) in (FIRST_FD..).zip(fds) {
            let copy = duplicate(*fd, floor)?;
            actions.add_dup2(copy.as_raw_fd(), target)?;
            copies.push(copy);
        }
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_flags(
            PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
                | PosixSpawnFlags::POSIX_SPAWN_SETPGROUP,
        )?;
        attributes.set_sigmask(&SigSet::empty())?;
        attributes.set_sigdefault(&SigSet::all())?;
        attributes.set_pgroup(Pid::from_raw(0))?;
        let pid = posix_spawn(program, &actions, &attributes, args, &environment())?;
        match pidfd_open(pid) {
            Ok(pidfd) => Ok(Self { pid, pidfd }),
            Err(errno) => {
                // Without a pidfd nobody would notice its end.
                let _ = kill(pid, Signal::SIGKILL);
                let _ = nix::sys::wait::waitpid(pid, None);
                Err(errno)
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub(super) fn pidfd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    /// Sends a signal. The pid cannot have been recycled: only `try_wait` frees it, and then this value is dropped.
    pub(super) fn signal(&self, signal: i32) -> nix::Result<()> {
        kill(self.pid, Signal::try_from(signal)?)
    }

    /// The raw wait status, once the child has ended.
    pub(super) fn try_wait(&self) -> Option<i32> {
        let mut status = 0;
        // SAFETY: `status` is a live integer that waitpid fills in.
        let pid = unsafe { libc::waitpid(self.pid.as_raw(), &raw mut status, libc::WNOHANG) };
        (pid == self.pid.as_raw()).then_some(status)
    }

    /// For a child that cannot be watched.
    pub(super) fn kill_and_wait(self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.pid, None);
    }
}

/// Our environment without what is meant for this process alone.
fn environment() -> Vec<CString> {
    std::env::vars_os()
        .filter(|(name, _)| name != "NOTIFY_SOCKET" && name != "WATCHDOG_USEC" && name != "WATCHDOG_PID")
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect()
}

fn duplicate(fd: RawFd, floor: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: any number may be asked about; the kernel answers EBADF for one that is not open.
    let copy = Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, floor) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    debug_assert!(fcntl(&copy, FcntlArg::F_GETFD).is_ok());
    Ok(copy)
}

fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor (closed on exec) for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
