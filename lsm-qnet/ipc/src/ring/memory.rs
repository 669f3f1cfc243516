//! The shared memory behind a ring: made, checked, mapped, copied from and to.
//!
//! ```text
//!  0            4 KiB       260 KiB       516 KiB         516 KiB + 2 MiB       516 KiB + 4 MiB
//!  | words      | ring      | ring        | arena          | arena               |
//!  | both ways  | to server | to client   | to server      | to client           |
//! ```
//!
//! It is a memfd of exactly this size, sealed against being made smaller or larger, so that no access can fault. Pages
//! that nobody touched cost nothing.
//!
//! What the other process writes here may change at any moment. No reference to it ever exists except to atomic words;
//! everything else is copied, once, and judged afterwards.
#![expect(unsafe_code, reason = "shared memory")]

use std::{io, os::fd::OwnedFd, ptr::NonNull, sync::atomic::AtomicU32};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
        stat::fstat,
        statfs::{TMPFS_MAGIC, fstatfs},
    },
    unistd::ftruncate,
};

use super::words::Words;

/// Bytes of a ring.
pub(super) const RING: u32 = 256 * 1024;
/// Bytes of an arena.
pub(super) const ARENA: u32 = 2 * 1024 * 1024;
/// Loans of one direction that may be out at a time.
pub(super) const SLOTS: usize = 32;

const CONTROL: usize = 4096;
const SIZE: usize = CONTROL + 2 * (RING as usize + ARENA as usize);

/// A way through the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// The words of one direction.
#[derive(Debug)]
#[repr(C, align(128))]
struct Control {
    words: Words<AtomicU32>,
    /// Number of the last loan of each slot that the reader is done with.
    returned: [AtomicU32; SLOTS],
}

const _: () = assert!(2 * size_of::<Control>() <= CONTROL && align_of::<Control>() <= CONTROL);

/// A mapping of the memory; it is unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to the process, not to a thread; all access is by atomics and raw copies.
unsafe impl Send for Memory {}
// SAFETY: as above; the users of the copies keep the two sides apart by the words.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes the memory, and the descriptor by which the other process gets it.
    pub(super) fn create() -> io::Result<(Self, OwnedFd)> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        // Never executable where the kernel knows the flag (Linux 6.3); some machines insist on it.
        let strict = flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
        let fd = match memfd_create(c"qnet-ring", strict) {
            Err(Errno::EINVAL) => memfd_create(c"qnet-ring", flags)?,
            other => other?,
        };
        ftruncate(&fd, SIZE as i64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        Ok((Self::map(&fd)?, fd))
    }

    /// Maps what the other process made, if it can be trusted not to fault.
    pub(super) fn adopt(fd: &OwnedFd) -> io::Result<Self> {
        let refused =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the shared memory {what}"));
        // Huge pages can be taken away by punching holes; ordinary ones come back as zeros.
        if fstatfs(fd)?.filesystem_type() != TMPFS_MAGIC {
            return Err(refused("is not a memfd of ordinary pages"));
        }
        let seals = SealFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GET_SEALS)?);
        if !seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW) {
            return Err(refused("is not sealed"));
        }
        let size = fstat(fd)?.st_size;
        if size != SIZE as i64 {
            return Err(refused(&format!("has {size} bytes instead of {SIZE}")));
        }
        Self::map(fd)
    }

    fn map(fd: &OwnedFd) -> io::Result<Self> {
        let size = const { std::num::NonZeroUsize::new(SIZE).expect("it is not zero") };
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free range, so no existing mapping is touched; the file has `SIZE` bytes and
        // keeps them, because it is sealed.
        let base = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { base: base.cast() })
    }

    pub(super) fn words(&self, way: Direction) -> &Words<AtomicU32> {
        &self.control(way).words
    }

    pub(super) fn returned(&self, way: Direction) -> &[AtomicU32; SLOTS] {
        &self.control(way).returned
    }

    fn control(&self, way: Direction) -> &Control {
        let at = way as usize * size_of::<Control>();
        // SAFETY: both controls lie in the first page of the mapping, aligned as they must be (checked above, and a
        // mapping begins at a page). They are atomics only, so the other process may write them, and any bits are
        // valid. They live as long as the mapping, which `self` owns.
        unsafe { self.base.add(at).cast::<Control>().as_ref() }
    }

    /// Copies bytes into a ring or an arena; `place` must lie in it.
    pub(super) fn put(&self, place: Span, bytes: &[u8]) {
        let to = self.at(place, bytes.len());
        // SAFETY: `at` checked that the range lies in the mapping; private memory cannot overlap it. Nobody holds a
        // reference to these bytes, and whoever reads them meanwhile copies them the same way.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Copies bytes out of a ring or an arena; `place` must lie in it.
    pub(super) fn get(&self, place: Span, bytes: &mut [u8]) {
        let from = self.at(place, bytes.len());
        // SAFETY: as in `put`; whatever the bytes are while they are copied, they are valid afterwards.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
    }

    fn at(&self, place: Span, len: usize) -> *mut u8 {
        let (base, limit) = match place.area {
            Area::Ring(way) => (CONTROL + way as usize * RING as usize, RING),
            Area::Arena(way) => (CONTROL + 2 * RING as usize + way as usize * ARENA as usize, ARENA),
        };
        let offset = place.offset as usize;
        assert!(offset <= limit as usize && len <= limit as usize - offset, "a place outside of its area");
        // SAFETY: the area lies in the mapping, and the offset in the area.
        unsafe { self.base.as_ptr().add(base + offset) }
    }
}

/// One of the four areas.
#[derive(Clone, Copy, Debug)]
pub(super) enum Area {
    Ring(Direction),
    Arena(Direction),
}

/// Bytes of an area, from an offset on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) area: Area,
    pub(super) offset: u32,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size; every reference into it borrows `self`.
        let unmapped = unsafe { munmap(self.base.cast(), SIZE) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}
