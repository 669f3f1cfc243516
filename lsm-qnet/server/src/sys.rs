//! System calls without a safe wrapper elsewhere.
//!
//! The calls that change an identity are made raw: glibc's wrappers would change it in every thread of
//! the process, and each worker here has an identity of its own.
#![expect(unsafe_code, reason = "raw system calls")]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::wait::WaitStatus;

/// Result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;

/// "Leave this id as it is" for the calls that set several.
const KEEP: libc::uid_t = libc::uid_t::MAX;

/// Takes over a descriptor that the parent process left open for us.
///
/// # Errors
/// It is not open, or not a `SOCK_SEQPACKET` socket.
pub fn inherited_socket(number: RawFd) -> io::Result<OwnedFd> {
    let mut kind: libc::c_int = 0;
    let mut len = size_of_val(&kind) as libc::socklen_t;
    // SAFETY: `kind` and `len` are live and of the size that is told; a bad descriptor gives an error.
    let result = unsafe {
        libc::getsockopt(number, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut len)
    };
    Errno::result(result)?;
    if kind != libc::SOCK_SEQPACKET {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a SOCK_SEQPACKET socket"));
    }
    // SAFETY: the descriptor is open, and nothing in this process has used it before: `main` calls this once,
    // first of all.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // SAFETY: F_SETFD takes an integer and touches no memory.
    Errno::result(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(socket)
}

/// Attributes of what an open descriptor means; with `cached` without asking a server behind it.
///
/// # Errors
/// As `statx`.
pub fn statx(fd: BorrowedFd<'_>, cached: bool) -> Result<libc::statx> {
    statx_path(fd, c"", libc::AT_EMPTY_PATH, cached)
}

/// The same of what has `name`, a single component, in `directory`; a symbolic link is not followed, nothing is mounted for it.
///
/// # Errors
/// As `statx`.
pub fn statx_entry(directory: BorrowedFd<'_>, name: &CStr, cached: bool) -> Result<libc::statx> {
    statx_path(directory, name, libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT, cached)
}

fn statx_path(fd: BorrowedFd<'_>, path: &CStr, flags: libc::c_int, cached: bool) -> Result<libc::statx> {
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID;
    let sync = if cached { libc::AT_STATX_DONT_SYNC } else { libc::AT_STATX_SYNC_AS_STAT };
    let mut out = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path ends with a NUL and lives, `out` has room for the structure, `fd` is open.
    let result = unsafe { libc::statx(fd.as_raw_fd(), path.as_ptr(), flags | sync, mask, out.as_mut_ptr()) };
    Errno::result(result)?;
    // SAFETY: zeroed at first, so every byte is initialised; all fields are integers.
    Ok(unsafe { out.assume_init() })
}

/// Appends what one `read` or `pread` gives, at most `max` bytes, to `out`; the number of bytes.
///
/// # Errors
/// As `read`.
pub fn read_more(fd: BorrowedFd<'_>, at: Option<i64>, max: usize, out: &mut Vec<u8>) -> Result<usize> {
    out.reserve(max);
    let room = &mut out.spare_capacity_mut()[..max];
    let (raw, start) = (fd.as_raw_fd(), room.as_mut_ptr().cast());
    let result = match at {
        // SAFETY: `room` is writable for `max` bytes; `fd` is open.
        Some(at) => unsafe { libc::pread64(raw, start, max, at) },
        // SAFETY: as above.
        None => unsafe { libc::read(raw, start, max) },
    };
    let n = Errno::result(result)? as usize;
    // SAFETY: the kernel has written `n` bytes behind the old end, and `n` is at most `max`.
    unsafe { out.set_len(out.len() + n) };
    Ok(n)
}

/// Writes behind the last byte of a file, wherever that is; the number of bytes. The descriptor's position is
/// behind them then.
///
/// # Errors
/// As `pwritev2` with RWF_APPEND; EOPNOTSUPP for a file whose bytes have no places.
pub fn append(fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize> {
    let part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: `part` covers `data`, which is only read; `fd` is open.
    let result = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const part, 1, -1, libc::RWF_APPEND) };
    Errno::result(result).map(|n| n as usize)
}

/// Copies bytes of one file to another in the kernel, and moves both offsets on; the number of bytes, 0 at the end.
///
/// # Errors
/// As `copy_file_range`.
pub fn copy_range(
    from: BorrowedFd<'_>,
    from_at: &mut i64,
    to: BorrowedFd<'_>,
    to_at: &mut i64,
    len: usize,
) -> Result<usize> {
    let (source, target) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both offsets are live and writable, both descriptors are open.
    let result = unsafe { libc::copy_file_range(source, from_at, target, to_at, len, 0) };
    Errno::result(result).map(|n| n as usize)
}

/// Fills `buffer` with `linux_dirent64` records; 0 bytes are the end.
///
/// # Errors
/// As `getdents64`.
pub fn getdents64(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: `buffer` is writable for its length; `fd` is open.
    let result =
        unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(result).map(|n| n as usize)
}

/// The calling thread's identity as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadIdentity {
    /// Effective user.
    pub euid: u32,
    /// User for file access.
    pub fsuid: u32,
    /// Effective group.
    pub egid: u32,
    /// Group for file access.
    pub fsgid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
}

/// Reads the calling thread's identity.
///
/// # Errors
/// As `getgroups`.
pub fn thread_identity() -> Result<ThreadIdentity> {
    // SAFETY: these calls take integers; -1 is no valid id and only reads.
    let ids = unsafe {
        [
            libc::syscall(libc::SYS_geteuid),
            libc::syscall(libc::SYS_setfsuid, KEEP),
            libc::syscall(libc::SYS_getegid),
            libc::syscall(libc::SYS_setfsgid, KEEP),
        ]
    };
    let [euid, fsuid, egid, fsgid] = ids.map(|id| id as u32);
    let mut groups = thread_groups()?;
    groups.sort_unstable();
    Ok(ThreadIdentity { euid, fsuid, egid, fsgid, groups })
}

fn thread_groups() -> Result<Vec<u32>> {
    loop {
        // SAFETY: a size of 0 asks for the number and writes nothing.
        let count = Errno::result(unsafe { libc::syscall(libc::SYS_getgroups, 0, 0) })? as usize;
        let mut groups = vec![0u32; count.max(1)];
        // SAFETY: `groups` is writable for the number of elements that is told.
        let result = unsafe { libc::syscall(libc::SYS_getgroups, groups.len(), groups.as_mut_ptr()) };
        match Errno::result(result) {
            Ok(n) => {
                groups.truncate(n as usize);
                return Ok(groups);
            }
            // more groups than a moment ago
            Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Sets the calling thread's supplementary groups.
///
/// # Errors
/// As `setgroups`.
pub fn set_thread_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: `groups` is readable for its length.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Sets the calling thread's effective group, and with it the one for file access.
///
/// # Errors
/// As `setresgid`.
pub fn set_thread_egid(gid: u32) -> Result<()> {
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, KEEP, gid, KEEP) }).map(drop)
}

/// Sets the calling thread's effective user, and with it the one for file access. Real and saved user
/// stay, so that the thread can change again.
///
/// # Errors
/// As `setresuid`.
pub fn set_thread_euid(uid: u32) -> Result<()> {
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, KEEP, uid, KEEP) }).map(drop)
}

/// Capability sets of the calling thread, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// In force now.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// Kept over exec.
    pub inheritable: u64,
}

/// CAP_SETGID's bit.
pub const CAP_SETGID: u64 = 1 << 6;
/// CAP_SETUID's bit.
pub const CAP_SETUID: u64 = 1 << 7;

/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit words a set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Reads the calling thread's capabilities.
///
/// # Errors
/// As `capget`.
pub fn capabilities() -> Result<Capabilities> {
    let mut header = CapHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: header and data have the layout of version 3 and are live.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    Errno::result(result)?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Capabilities {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Puts capabilities of the calling thread in force.
///
/// # Errors
/// As `capset`.
pub fn set_capabilities(wanted: Capabilities) -> Result<()> {
    let mut header = CapHeader { version: CAPABILITY_VERSION, pid: 0 };
    let word = |set: u64, shift: u32| (set >> shift) as u32;
    let data = [0, 32].map(|shift| CapData {
        effective: word(wanted.effective, shift),
        permitted: word(wanted.permitted, shift),
        inheritable: word(wanted.inheritable, shift),
    });
    // SAFETY: header and data have the layout of version 3 and are live.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    Errno::result(result).map(drop)
}

/// CAP_LEASE's bit.
const CAP_LEASE: u64 = 1 << 28;

/// Device and inode number of what is open.
///
/// # Errors
/// As `fstat`.
pub fn file_key(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let stat = nix::sys::stat::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The same of what `statx` has told.
#[must_use]
pub fn key_of(stat: &libc::statx) -> (u64, u64) {
    (libc::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino)
}

/// Whether the file is open through another description than that behind `fd`, on this machine: for anything when that one
/// is for writing (`writes`), else for writing.
///
/// The kernel says so by granting a lease or not, which is given back at once. Somebody who opens the file at that very moment
/// waits for this, and the process gets a SIGIO.
///
/// # Errors
/// EACCES: a file of somebody else, and this process may not take leases of those. EINVAL: its file system has none.
pub fn is_open_elsewhere(fd: BorrowedFd<'_>, writes: bool) -> Result<bool> {
    let kind = if writes { libc::F_WRLCK } else { libc::F_RDLCK };
    // to give one back takes the same right
    let ask = || match lease(fd, kind) {
        Ok(()) => lease(fd, libc::F_UNLCK).map(|()| false),
        Err(Errno::EAGAIN) => Ok(true),
        Err(errno) => Err(errno),
    };
    match ask() {
        Err(Errno::EACCES) => with_lease_right(ask)?,
        result => result,
    }
}

fn lease(fd: BorrowedFd<'_>, kind: libc::c_int) -> Result<()> {
    // SAFETY: takes integers only; the descriptor is open as long as it is borrowed.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, kind) }).map(drop)
}

/// Runs `call` with the right to take leases of anybody's files in force, which is good for nothing else.
///
/// # Errors
/// EACCES: it is not permitted to this process.
fn with_lease_right<T>(call: impl FnOnce() -> T) -> Result<T> {
    let caps = capabilities()?;
    if caps.permitted & CAP_LEASE == 0 {
        return Err(Errno::EACCES);
    }
    set_capabilities(Capabilities { effective: caps.effective | CAP_LEASE, ..caps })?;
    let result = call();
    set_capabilities(caps).expect("a right is put out of force without any other");
    Ok(result)
}

/// Sends a signal as a user, by the kernel's rules: in a process of its own, all of whose ids are that user's. (A thread
/// that only acts as the user keeps root's real id, and with it root's right to signal root's processes.)
///
/// # Errors
/// What the kernel says; `EPERM` too when the process cannot become that user, `EIO` when it was killed on its way.
pub fn signal_as(uid: u32, gid: u32, signal: &Signal) -> Result<()> {
    // SAFETY: the child makes nothing but system calls with integers and live memory of its own, and ends without
    // running anything of the parent's.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::last()),
        0 => {
            let code = match become_and_send(uid, gid, signal) {
                Ok(()) => 0,
                Err(errno) => errno as i32,
            };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) }
        }
        child => loop {
            match nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None) {
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                Ok(WaitStatus::Exited(_, errno)) => return Err(Errno::from_raw(errno)),
                Err(Errno::EINTR) => {}
                Ok(_) => return Err(Errno::EIO),
                Err(errno) => return Err(errno),
            }
        },
    }
}

/// A signal for a process, in this system's numbers.
#[derive(Debug, Clone, Copy)]
pub struct Signal {
    /// Its number; 0 for none.
    pub signo: i32,
    /// The process.
    pub pid: i32,
    /// A thread of it, or 0.
    pub tid: i32,
    /// `si_value`, when it comes with one.
    pub value: Option<u64>,
}

fn become_and_send(uid: u32, gid: u32, signal: &Signal) -> Result<()> {
    // Without the right to change, all of these succeed for the own ids only. What is permitted is put in force for them;
    // with the last one it is gone, unless the user is root.
    let caps = capabilities()?;
    set_capabilities(Capabilities { effective: caps.permitted, ..caps })?;
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: as above.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    let now = capabilities()?;
    if uid != 0 && now.permitted != 0 {
        set_capabilities(Capabilities { effective: 0, permitted: 0, inheritable: 0 })?;
    }
    let Signal { signo, pid, tid, value } = *signal;
    let result = match (tid, value) {
        // SAFETY: takes integers only.
        (0, None) => unsafe { libc::syscall(libc::SYS_kill, pid, signo) },
        (0, Some(value)) => {
            let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value as usize) };
            // SAFETY: the value is handed on as it is and nothing behind it is looked at.
            unsafe { libc::sigqueue(pid, signo, value) }.into()
        }
        // SAFETY: takes integers only.
        (tid, _) => unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signo) },
    };
    Errno::result(result).map(drop)
}

/// The signal that gets a worker out of a waiting system call.
const WAKE: nix::sys::signal::Signal = nix::sys::signal::Signal::SIGUSR1;

extern "C" fn on_wake(_signal: libc::c_int) {}

/// Prepares for [`wake_thread`]: the signal does nothing but end a system call with EINTR.
///
/// # Errors
/// As `sigaction`.
pub fn install_wake_signal() -> Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
    let action = SigAction::new(SigHandler::Handler(on_wake), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it is async-signal-safe.
    unsafe { sigaction(WAKE, &action) }?;
    // whoever started this program may have blocked it
    let mut wake = SigSet::empty();
    wake.add(WAKE);
    wake.thread_unblock()
}

/// Signals that would end the process for what callers make it do: a write beyond the limit on the size of files fails with
/// EFBIG and does nothing else, and who opens a file of which there is a lease (see [`is_open_elsewhere`]) just waits for it.
///
/// # Errors
/// As `sigaction`.
pub fn ignore_signals_of_files() -> Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for one in [Signal::SIGXFSZ, Signal::SIGIO] {
        // SAFETY: nothing of this process runs when the signal comes.
        unsafe { signal(one, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Ends the system call in which a thread of this process waits. A thread that does not wait, or is gone,
/// is not affected.
pub fn wake_thread(tid: i32) {
    // SAFETY: takes integers only; the signal has a handler.
    unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, WAKE as libc::c_int) };
}
