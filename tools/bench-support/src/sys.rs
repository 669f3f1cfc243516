//! System calls that the benchmarks share: packet sockets, CPU pinning, shared memory and futexes, CPU time of others.

use std::{
    ffi::CString,
    fs::File,
    io,
    num::NonZeroUsize,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sys::{
        mman::{MapFlags, ProtFlags, mmap, munmap},
        socket::{self, AddressFamily, SockFlag, SockType},
    },
    unistd::Pid,
};

/// Index of an interface in the current network namespace.
///
/// # Errors
/// There is none of that name.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let text = CString::new(name)?;
    // SAFETY: `text` is a NUL-terminated string that lives over the call.
    let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()) } else { Ok(index) }
}

/// Runs the calling thread on that CPU only.
///
/// # Errors
/// There is no such CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu)?;
    Ok(nix::sched::sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// A raw packet socket bound to an interface; `protocol` in host order, 0 receives nothing.
///
/// # Errors
/// Without the right to raw sockets, or without such an interface.
pub fn packet_socket(interface: &str, protocol: u16) -> io::Result<OwnedFd> {
    let index = interface_index(interface)?;
    let fd = socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1_i32)?;
    // SAFETY: all-zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index.cast_signed();
    // SAFETY: `address` is a `sockaddr_ll` of the stated size, alive over the call.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Sets a socket option to a plain value.
///
/// # Errors
/// The kernel refuses it.
pub fn set_option<T: Copy>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which lives over the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `sendmmsg` of the same frame `count` times (at most 64); how many went.
///
/// # Errors
/// None went.
pub fn send_copies(fd: &OwnedFd, frame: &[u8], count: usize) -> io::Result<usize> {
    let mut vector = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
    // SAFETY: all-zero is a valid `mmsghdr`.
    let mut messages: [libc::mmsghdr; 64] = unsafe { std::mem::zeroed() };
    for message in &mut messages {
        message.msg_hdr.msg_iov = &raw mut vector;
        message.msg_hdr.msg_iovlen = 1;
    }
    let count = count.min(messages.len()) as u32;
    // SAFETY: the messages point to `vector` and it to `frame`; all live over the call, which only reads the frame.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent.cast_unsigned() as usize) }
}

/// Memory that processes share, a file behind it.
#[derive(Debug)]
pub struct SharedMemory {
    start: NonNull<u8>,
    len: usize,
}

impl SharedMemory {
    /// Makes it, all zeros.
    ///
    /// # Errors
    /// There is a file at the path, or no room.
    pub fn create(path: &Path, len: usize) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(len as u64)?;
        Self::map(&file, len)
    }

    /// Maps what another process made.
    ///
    /// # Errors
    /// There is nothing at the path, or it is shorter.
    pub fn open(path: &Path, len: usize) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() < len as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::map(&file, len)
    }

    fn map(file: &File, len: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; nothing else lies there.
        let start = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast(), len })
    }

    /// The word at an offset that is a multiple of four.
    ///
    /// # Panics
    /// The offset is none.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len, "word {offset} of {}", self.len);
        // SAFETY: inside the mapping, aligned (a mapping begins at a page), valid for as long as `self`; everybody
        // accesses these words as atomics only.
        unsafe { AtomicU32::from_ptr(self.start.add(offset).as_ptr().cast()) }
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// They do not fit.
    pub fn put(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len, "{} bytes at {offset} of {}", bytes.len(), self.len);
        // SAFETY: inside the mapping; `bytes` is the caller's own memory, so they do not overlap. The other process keeps
        // away between its last change of a word and ours.
        unsafe { self.start.add(offset).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// There are not as many.
    pub fn get(&self, offset: usize, into: &mut [u8]) {
        assert!(offset + into.len() <= self.len, "{} bytes at {offset} of {}", into.len(), self.len);
        // SAFETY: as in `put`, the other way round.
        unsafe { self.start.add(offset).copy_to_nonoverlapping(NonNull::from(&mut *into).cast(), into.len()) }
    }

    /// Adds one to a word and wakes who waits for it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn change(&self, offset: usize) -> io::Result<()> {
        let word = self.word(offset);
        word.fetch_add(1, Ordering::Release);
        futex(word, libc::FUTEX_WAKE, 1)
    }

    /// Sleeps while a word is `seen`; its new value.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait_for_change(&self, offset: usize, seen: u32) -> io::Result<u32> {
        let word = self.word(offset);
        loop {
            let now = word.load(Ordering::Acquire);
            if now != seen {
                return Ok(now);
            }
            match futex(word, libc::FUTEX_WAIT, seen) {
                Err(error) if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {
                    return Err(error);
                }
                _ => {}
            }
        }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping of `map`, with its length; nothing borrowed from it outlives `self`.
        let unmapped = unsafe { munmap(self.start.cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

fn futex(word: &AtomicU32, operation: i32, value: u32) -> io::Result<()> {
    // SAFETY: the word lives over the call; no timeout and no second word are given.
    let result = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, std::ptr::null::<libc::timespec>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// CPU time that a process has used so far, with all its threads.
///
/// # Errors
/// There is no such process.
pub fn cpu_time(process: i32) -> io::Result<Duration> {
    Ok(Duration::from(nix::time::ClockId::pid_cpu_clock_id(Pid::from_raw(process))?.now()?))
}
