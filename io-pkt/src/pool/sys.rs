//! The mapping behind the pool.
//!
//! A memfd sealed against shrinking and growing, so that nobody with the descriptor can make an access fault; never
//! executable where the kernel knows how. Others write to the pages, so nothing here makes a reference to them.

use std::{
    ffi::c_void,
    io,
    num::NonZeroUsize,
    os::fd::{AsRawFd, OwnedFd},
    ptr::NonNull,
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
    },
    unistd::ftruncate,
};

/// A memfd of fixed size, mapped shared and writable. Clones are the same mapping, which lives as long as one of them.
#[derive(Clone, Debug)]
pub(super) struct SharedMemory {
    /// One load nearer than in `mapping`.
    base: NonNull<c_void>,
    len: usize,
    mapping: Arc<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    base: NonNull<c_void>,
    len: usize,
    fd: OwnedFd,
}

// SAFETY: the address belongs to the process, not to a thread, and nothing here dereferences it except `read_be16`, which
// reads bytes that anybody may change at any time.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}
// SAFETY: as above.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl SharedMemory {
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = create()?;
        ftruncate(&fd, i64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?)?;
        fcntl(
            &fd,
            FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL),
        )?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs no memory of ours.
        let base = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &fd, 0) }?;
        Ok(Self { base, len, mapping: Arc::new(Mapping { base, len, fd }) })
    }

    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr().cast()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn fd(&self) -> i32 {
        self.mapping.fd.as_raw_fd()
    }

    /// Two bytes in network order at `offset`. Others may write to the mapping, so this reads, it does not borrow.
    #[inline]
    pub(super) fn read_be16(&self, offset: usize) -> Option<u16> {
        if offset.checked_add(2)? > self.len {
            return None;
        }
        let at = self.base().wrapping_add(offset).cast::<[u8; 2]>();
        // SAFETY: both bytes lie inside the mapping, which lives as long as `self`; a byte array needs no alignment.
        Some(u16::from_be_bytes(unsafe { at.read_volatile() }))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are those of the mapping made in `new`; modules must not touch it after `destroy`.
        // A failure would leave it mapped, which harms nobody.
        let _ = unsafe { munmap(self.base, self.len) };
    }
}

/// A memfd that never becomes executable, where the kernel knows such (Linux 6.3; it may insist on it).
fn create() -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    match memfd_create(c"io-pkt pool", flags | no_exec) {
        Err(Errno::EINVAL) => memfd_create(c"io-pkt pool", flags),
        other => other,
    }
}
