//! Sending through AF_XDP in copy mode: frames lie in an area that the kernel knows, a ring tells it which, and one
//! system call makes it copy and send them.
//!
//! ```text
//!  area   | slot | slot | …            2 or 4 KiB each, a frame in each
//!  tx     | {address, length} … |      this driver writes, the kernel reads during `sendto`
//!  done   | address … |                the kernel writes when it has no more need of a slot
//! ```
//!
//! No program is attached to the interface and nothing is received here. What `sendmmsg` does for each frame besides
//! copying it (reading a message header, importing vectors, choosing a queue) falls away. In copy mode the kernel
//! looks at the ring only during a system call of ours.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use io_pkt_sdk::{BATCH, Frame};

use super::check;

/// Frames that the kernel may have at a time, at most.
const SLOTS: u32 = 512;
/// Slots of the ring towards the kernel: at least a batch.
const RING: u32 = 128;
/// The kernel wants a ring for received frames, too.
const UNUSED_RING: u32 = 2;
/// What a frame counts against the socket's buffer beside its slot, generously.
const OVERHEAD: u32 = 1024;
const SEND_BUFFER: libc::c_int = 4 << 20;
/// The kernel takes 32 frames with a call.
const CALLS: usize = BATCH / 32 + 1;
/// Slot sizes that the kernel accepts everywhere.
const SIZES: [usize; 2] = [2048, 4096];

/// A socket to send with, its area and its rings.
#[derive(Debug)]
pub(crate) struct XdpSender {
    socket: OwnedFd,
    area: Mapping,
    slot: usize,
    tx: Ring,
    done: Ring,
    /// Addresses of slots that are ours; the last used is the next one, because it is still in the cache.
    free: Vec<u64>,
}

impl XdpSender {
    /// Whether frames of that length fit a slot.
    pub(crate) fn carries(longest: usize) -> bool {
        SIZES.iter().any(|size| longest <= *size)
    }

    /// Opens it on the first queue of an interface, for frames of at most `longest` bytes.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW, EBUSY when another program has the queue, EAFNOSUPPORT without AF_XDP in the kernel,
    /// EMSGSIZE for frames that fit no slot.
    pub(crate) fn open(index: i32, longest: usize) -> io::Result<Self> {
        let slot = SIZES.into_iter().find(|size| longest <= *size);
        let slot = slot.ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers; the descriptor that comes back is new and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_XDP, kind, 0))?) };
        let slots = slots(&socket, slot)?;
        let area = Mapping::anonymous(slots as usize * slot)?;
        let request = libc::xdp_umem_reg_v1 {
            addr: area.start.as_ptr().addr() as u64,
            len: area.len as u64,
            chunk_size: slot as u32,
            headroom: 0,
        };
        set(&socket, libc::XDP_UMEM_REG, &request)?;
        set(&socket, libc::XDP_UMEM_FILL_RING, &UNUSED_RING)?;
        // As long as there are slots, so that the kernel always finds room in it.
        set(&socket, libc::XDP_UMEM_COMPLETION_RING, &slots)?;
        set(&socket, libc::XDP_TX_RING, &RING)?;
        let at = offsets(&socket)?;
        let desc = size_of::<libc::xdp_desc>();
        let tx = Ring::map(&socket, &at.tx, RING, desc, libc::XDP_PGOFF_TX_RING)?;
        let of_done = libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t;
        let done = Ring::map(&socket, &at.cr, slots, size_of::<u64>(), of_done)?;
        bind(&socket, index)?;
        let free = (0..u64::from(slots)).rev().map(|number| number * slot as u64).collect();
        Ok(Self { socket, area, slot, tx, done, free })
    }

    /// Copies frames into slots, in order, as many as there is room for, and sends them; how many were taken. An iterator
    /// without frames gives 0.
    ///
    /// # Errors
    /// EAGAIN when there is room for none; ENETDOWN and the like when the interface takes none. (What lies in the ring by
    /// then goes out when it takes some again.)
    pub(crate) fn send<'f>(&mut self, frames: impl Iterator<Item = Frame<'f>>) -> io::Result<usize> {
        let mut frames = frames.peekable();
        if frames.peek().is_none() {
            return Ok(0);
        }
        self.reclaim();
        let mut taken = 0;
        for frame in frames.take(self.tx.room() as usize) {
            if frame.len() > self.slot {
                break;
            }
            let Some(address) = self.free.pop() else { break };
            let mut at = address as usize;
            for piece in frame.pieces() {
                self.area.write(at, piece);
                at += piece.len();
            }
            let len = frame.len() as u32;
            self.tx.push(libc::xdp_desc { addr: address, len, options: 0 });
            taken += 1;
        }
        self.tx.publish();
        if taken == 0 {
            self.kick()?;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.kick() {
            // They stay in the ring, and go with the next call.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)) =>
            {
                Ok(taken)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(taken),
        }
    }

    /// Whether the kernel has not taken everything yet: [`XdpSender::kick`] when the socket is writable.
    pub(crate) fn is_pending(&self) -> bool {
        self.tx.left() > 0
    }

    /// Has the kernel send what is in the ring.
    ///
    /// # Errors
    /// Why it sends nothing: ENETDOWN, ENOBUFS, EAGAIN when the interface has no room.
    pub(crate) fn kick(&mut self) -> io::Result<()> {
        let mut last = Ok(());
        for _ in 0..CALLS {
            if self.tx.left() == 0 {
                return Ok(());
            }
            // SAFETY: the socket is open; there is nothing to send but what the ring names.
            let sent = unsafe {
                libc::sendto(
                    self.socket.as_raw_fd(),
                    std::ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null(),
                    0,
                )
            };
            if sent < 0 {
                let error = io::Error::last_os_error();
                // Its share of a call is used up, or the interface is full: the ring shows which.
                if error.raw_os_error() != Some(libc::EAGAIN) {
                    return Err(error);
                }
                last = Err(error);
            }
        }
        if self.tx.left() == 0 { Ok(()) } else { last }
    }

    /// Takes back the slots that the kernel is done with.
    fn reclaim(&mut self) {
        while let Some(address) = self.done.pop() {
            self.free.push(address);
        }
    }
}

impl AsFd for XdpSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Memory mapped for this value alone (the kernel aside).
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value; nothing in it depends on the thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(-1, len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, 0)
    }

    fn of(socket: &OwnedFd, len: usize, at: libc::off_t) -> io::Result<Self> {
        Self::map(socket.as_raw_fd(), len, libc::MAP_SHARED, at)
    }

    fn map(fd: libc::c_int, len: usize, flags: libc::c_int, at: libc::off_t) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags | libc::MAP_POPULATE, fd, at) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Writes bytes of a frame into a slot of ours.
    #[inline]
    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len, "a slot lies in the area");
        // SAFETY: inside the mapping, which no reference points into; `bytes` is memory of the packet pool.
        unsafe { self.start.add(at).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) }
    }

    /// A value of the ring at `at`; `at` was checked when the ring was made.
    #[inline]
    fn at<T>(&self, at: usize) -> NonNull<T> {
        debug_assert!(at + size_of::<T>() <= self.len);
        // SAFETY: inside the mapping.
        unsafe { self.start.add(at) }.cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`, which nobody uses any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// One of the rings: entries between two counters that run on, one written by each side.
#[derive(Debug)]
struct Ring {
    memory: Mapping,
    producer: usize,
    consumer: usize,
    entries: usize,
    count: u32,
    /// Our counter, possibly ahead of what the kernel has been told.
    ours: u32,
}

impl Ring {
    fn map(
        socket: &OwnedFd,
        at: &libc::xdp_ring_offset,
        count: u32,
        entry: usize,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        let [producer, consumer, entries] = [at.producer, at.consumer, at.desc].map(|at| at as usize);
        let len = entries + count as usize * entry;
        if producer.max(consumer) + size_of::<u32>() > len
            || (producer | consumer) % 4 != 0
            || entries % 8 != 0
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let memory = Mapping::of(socket, len, offset)?;
        Ok(Self { memory, producer, consumer, entries, count, ours: 0 })
    }

    #[inline]
    fn counter(&self, at: usize) -> &AtomicU32 {
        // SAFETY: a counter of the ring, aligned and mapped as long as `self`; both sides only load and store it whole.
        unsafe { AtomicU32::from_ptr(self.memory.at(at).as_ptr()) }
    }

    /// Entries that the kernel has not consumed.
    #[inline]
    fn left(&self) -> u32 {
        // It cannot be more; a kernel that says so must not make us write elsewhere.
        self.ours.wrapping_sub(self.counter(self.consumer).load(Ordering::Acquire)).min(self.count)
    }

    /// Entries that may be pushed.
    #[inline]
    fn room(&self) -> u32 {
        self.count - self.left()
    }

    /// Writes an entry; there must be room.
    #[inline]
    fn push(&mut self, desc: libc::xdp_desc) {
        let at = self.entries + (self.ours % self.count) as usize * size_of::<libc::xdp_desc>();
        // SAFETY: an entry that the kernel does not look at before the counter has passed it; aligned to 8 bytes.
        unsafe { self.memory.at(at).write(desc) };
        self.ours = self.ours.wrapping_add(1);
    }

    /// Shows the kernel what was pushed.
    #[inline]
    fn publish(&self) {
        self.counter(self.producer).store(self.ours, Ordering::Release);
    }

    /// Takes an entry of the ring that the kernel writes.
    #[inline]
    fn pop(&mut self) -> Option<u64> {
        if self.counter(self.producer).load(Ordering::Acquire) == self.ours {
            return None;
        }
        let at = self.entries + (self.ours % self.count) as usize * size_of::<u64>();
        // SAFETY: an entry that the kernel has finished; aligned to 8 bytes.
        let address = unsafe { self.memory.at::<u64>(at).read() };
        self.ours = self.ours.wrapping_add(1);
        self.counter(self.consumer).store(self.ours, Ordering::Release);
        Some(address)
    }
}

/// How many frames the socket's buffer lets the kernel have at a time: a power of two.
fn slots(socket: &OwnedFd, slot: usize) -> io::Result<u32> {
    set_at(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)
        .or_else(|_| set_at(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER))?;
    let buffer: libc::c_int = get(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, 0)?;
    let most = buffer.cast_unsigned() / (slot as u32 + OVERHEAD);
    // The largest power of two that is not above it.
    Ok(1 << most.clamp(16, SLOTS).ilog2())
}

fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: plain data, for which all zeroes is a value.
    let empty: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    get(socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, empty)
}

fn bind(socket: &OwnedFd, index: i32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: index.cast_unsigned(),
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
    // SAFETY: the socket is open, and `address` is an address of its family of `len` bytes.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

fn set<T: Copy>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    set_at(socket, libc::SOL_XDP, name, value)
}

/// Sets a socket option whose value is the plain data `T`.
fn set_at<T: Copy>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the socket is open, and `value` is `len` readable bytes.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), len) })
        .map(drop)
}

/// Reads a socket option into a value of plain data, in which every pattern of bits is one.
fn get<T: Copy>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, mut value: T) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the socket is open, and `value` has room for `len` bytes.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len)
    })?;
    if len as usize == size_of::<T>() { Ok(value) } else { Err(io::ErrorKind::InvalidData.into()) }
}
