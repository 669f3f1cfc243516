//! Reading frames in the packet pool: the pool itself, whole frames, and walking over a batch of them.

use std::{fmt, slice};

use io_pkt_abi::{FrameDesc, PoolInfo, frame::FLAG_CONTINUES, frame::FLAG_SHARED, frame::REGION_POOL};

use crate::Mac;

/// Bytes of an Ethernet header without a VLAN tag.
pub const ETHERNET_HEADER: usize = 14;

/// Where the pool is. The bytes it gives out are bounded by it, whatever a descriptor claims.
#[derive(Clone, Copy)]
pub(crate) struct Pool {
    base: *mut u8,
    len: u64,
    chunk_size: u64,
    headroom: u64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} chunks of {})", self.len / self.chunk_size.max(1), self.chunk_size)
    }
}

impl Pool {
    pub(crate) fn new(info: &PoolInfo) -> Self {
        Self {
            base: info.base,
            len: if info.base.is_null() { 0 } else { info.len },
            chunk_size: u64::from(info.chunk_size).max(1),
            headroom: info.headroom.into(),
        }
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn chunk_size(&self) -> usize {
        self.chunk_size as usize
    }

    pub(crate) fn headroom(&self) -> usize {
        self.headroom as usize
    }

    /// First and last byte (exclusive) of the chunk that `offset` lies in.
    pub(crate) fn chunk(&self, offset: u64) -> (u64, u64) {
        let start = offset - offset % self.chunk_size;
        (start, start + self.chunk_size)
    }

    /// Address and length of a piece; nothing when it does not lie inside the pool.
    #[inline]
    pub(crate) fn locate(&self, desc: &FrameDesc) -> (*mut u8, usize) {
        let fits = desc.region == REGION_POOL
            && desc.offset.checked_add(desc.len.into()).is_some_and(|end| end <= self.len);
        if fits {
            // `wrapping_add` stays inside the mapping, as just checked.
            (self.base.wrapping_add(desc.offset as usize), desc.len as usize)
        } else {
            (std::ptr::NonNull::dangling().as_ptr(), 0)
        }
    }

    /// The bytes of a piece.
    ///
    /// # Safety
    /// The caller owns a reference to the chunk during `'a` and nobody writes to the piece meanwhile.
    #[inline]
    pub(crate) unsafe fn bytes<'a>(&self, desc: &FrameDesc) -> &'a [u8] {
        let (ptr, len) = self.locate(desc);
        // SAFETY: inside the mapping or empty, by `locate`; not written by the caller's promise.
        unsafe { slice::from_raw_parts(ptr, len) }
    }

    /// The bytes of a piece, to be written.
    ///
    /// # Safety
    /// The caller owns the only reference to the chunk during `'a` and gives the piece to nobody else meanwhile.
    #[inline]
    pub(crate) unsafe fn bytes_mut<'a>(&self, desc: &FrameDesc) -> &'a mut [u8] {
        let (ptr, len) = self.locate(desc);
        // SAFETY: inside the mapping or empty, by `locate`; exclusive by the caller's promise.
        unsafe { slice::from_raw_parts_mut(ptr, len) }
    }
}

/// A whole frame, in one piece or in several, to be read.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pool: &'a Pool,
    descs: &'a [FrameDesc],
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes in {} pieces)", self.len(), self.descs.len())
    }
}

impl<'a> Frame<'a> {
    #[inline]
    pub(crate) fn new(pool: &'a Pool, descs: &'a [FrameDesc]) -> Self {
        Self { pool, descs }
    }

    /// Bytes of all pieces.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.descs.iter().map(|desc| desc.len as usize).sum()
    }

    /// Whether it has no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its descriptors, for those who hand them to a ring.
    #[inline]
    #[must_use]
    pub fn descs(&self) -> &'a [FrameDesc] {
        self.descs
    }

    /// The first piece. It holds at least the Ethernet header in frames made by this SDK, but look at its length:
    /// other modules may cut differently.
    #[inline]
    #[must_use]
    pub fn first(&self) -> &'a [u8] {
        match self.descs.first() {
            // SAFETY: the batch behind `'a` holds a reference; it is borrowed shared, so nobody writes through it, and
            // other holders must not write to a chunk with several references.
            Some(desc) => unsafe { self.pool.bytes(desc) },
            None => &[],
        }
    }

    /// All bytes, when they lie in one piece.
    #[inline]
    #[must_use]
    pub fn contiguous(&self) -> Option<&'a [u8]> {
        (self.descs.len() == 1).then(|| self.first())
    }

    /// The pieces in order. Empty ones are possible.
    #[inline]
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let pool = self.pool;
        // SAFETY: as in `first`.
        self.descs.iter().map(move |desc| unsafe { pool.bytes(desc) })
    }

    /// Copies as much as fits into `to` and returns how much that was.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let mut at = 0;
        for piece in self.pieces() {
            let count = piece.len().min(to.len() - at);
            to[at..at + count].copy_from_slice(&piece[..count]);
            at += count;
        }
        at
    }

    /// All bytes in a new vector: for slow paths and tests.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces().flatten().copied().collect()
    }

    /// Destination address; `None` when the first piece is too short.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Option<Mac> {
        self.first().first_chunk().map(|octets| Mac(*octets))
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Option<Mac> {
        self.first().get(6..)?.first_chunk().map(|octets| Mac(*octets))
    }

    /// The two bytes after the addresses: ethertype, VLAN tag mark, or a length below 0x0600.
    #[inline]
    #[must_use]
    pub fn ethertype(&self) -> Option<u16> {
        self.first().get(12..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
    }

    /// Whether others hold references to it, so that it must not be written.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.descs.iter().any(|desc| desc.flags & FLAG_SHARED != 0)
    }
}

/// Walks over the whole frames of a batch.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    pool: &'a Pool,
    rest: &'a [FrameDesc],
}

impl<'a> Frames<'a> {
    #[inline]
    pub(crate) fn new(pool: &'a Pool, descs: &'a [FrameDesc]) -> Self {
        Self { pool, rest: descs }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'a>> {
        let count = first_frame(self.rest)?;
        let (frame, rest) = self.rest.split_at(count);
        self.rest = rest;
        Some(Frame::new(self.pool, frame))
    }
}

/// Number of descriptors of the first frame; a chain without an end counts as one frame.
#[inline]
pub(crate) fn first_frame(descs: &[FrameDesc]) -> Option<usize> {
    // Nearly every frame lies in one piece.
    if descs.first()?.flags & FLAG_CONTINUES == 0 {
        return Some(1);
    }
    let last = descs.iter().position(|desc| desc.flags & FLAG_CONTINUES == 0);
    Some(last.map_or(descs.len(), |at| at + 1))
}

/// Number of descriptors of the first `frames` whole frames.
pub(crate) fn first_frames(descs: &[FrameDesc], frames: usize) -> usize {
    let mut at = 0;
    for _ in 0..frames {
        match first_frame(&descs[at..]) {
            Some(count) => at += count,
            None => break,
        }
    }
    at
}
