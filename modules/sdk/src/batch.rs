//! A batch of frames that the use owns.
//!
//! A batch holds references to at most 64 chunks and gives them back when it is dropped, with one call of the host. It
//! lives on the stack or in a field, never on the heap; emptied by [`Host::deliver`] or [`Host::send`] it is used again.

use std::{fmt, io::IoSliceMut, mem::MaybeUninit};

use io_pkt_abi::{FrameDesc, frame::FLAG_CONTINUES, frame::FLAG_SHARED};

use crate::{
    Host,
    frame::{Frame, Frames, first_frame, first_frames},
};

/// Most descriptors in a batch.
pub const BATCH: usize = 64;

/// Owned frames. See the module documentation.
pub struct Batch {
    host: Host,
    len: usize,
    descs: [MaybeUninit<FrameDesc>; BATCH],
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.frames()).finish()
    }
}

impl Drop for Batch {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl Batch {
    #[inline]
    pub(crate) fn new(host: Host) -> Self {
        Self { host, len: 0, descs: [MaybeUninit::uninit(); BATCH] }
    }

    /// Takes over what the host hands in; `descs` has at most [`BATCH`] elements. Public for code that stands in for the
    /// border, such as a benchmark that calls a module without one.
    ///
    /// # Safety
    /// The use owns a reference to the chunk of each descriptor and gives it to this batch alone; a descriptor without
    /// `FLAG_SHARED` is the only one of its chunk. Otherwise two batches could write to the same bytes.
    #[inline]
    #[must_use]
    pub unsafe fn adopt(host: Host, descs: &[FrameDesc]) -> Self {
        let mut batch = Self::new(host);
        batch.append_raw(descs);
        batch
    }

    /// Number of descriptors (pieces, not frames).
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Descriptors that can still be added.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        BATCH - self.len
    }

    /// The descriptors, for those who hand them to a ring.
    #[inline]
    #[must_use]
    pub fn descs(&self) -> &[FrameDesc] {
        // SAFETY: the first `len` elements are initialised; `MaybeUninit<T>` has the layout of `T`.
        unsafe { std::slice::from_raw_parts(self.descs.as_ptr().cast(), self.len) }
    }

    /// The whole frames in order.
    #[inline]
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        Frames::new(self.host.pool(), self.descs())
    }

    /// Walks over the whole frames, moving some of them to other batches; the others stay.
    ///
    /// ```no_run
    /// # fn f(batch: &mut io_pkt_sdk::Batch, ours: &mut io_pkt_sdk::Batch) {
    /// let mut cursor = batch.cursor();
    /// while let Some(frame) = cursor.next() {
    ///     if frame.frame().ethertype() == Some(0x8204) {
    ///         frame.move_to(ours); // does nothing when `ours` is full
    ///     }
    /// }
    /// # }
    /// ```
    #[inline]
    pub fn cursor(&mut self) -> Cursor<'_> {
        let end = std::mem::take(&mut self.len);
        Cursor { batch: self, read: 0, end }
    }

    /// The bytes of piece `index`; empty when there is none.
    #[inline]
    #[must_use]
    pub fn bytes(&self, index: usize) -> &[u8] {
        match self.descs().get(index) {
            // SAFETY: this batch holds a reference; `self` is borrowed shared, so no write goes through it, and a chunk
            // with several references is written by nobody.
            Some(desc) => unsafe { self.host.pool().bytes(desc) },
            None => &[],
        }
    }

    /// The bytes of piece `index`, to be written; `None` when there is no such piece or others hold references to it.
    #[inline]
    #[must_use]
    pub fn bytes_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let desc = *self.descs().get(index)?;
        if desc.flags & FLAG_SHARED != 0 {
            return None;
        }
        // SAFETY: not shared, so this batch holds the only reference, and `self` is borrowed exclusively.
        Some(unsafe { self.host.pool().bytes_mut(&desc) })
    }

    /// Every piece as a slice for `readv`; pieces that others share come as empty slices.
    pub fn io_slices_mut(&mut self) -> impl ExactSizeIterator<Item = IoSliceMut<'_>> {
        let pool = *self.host.pool();
        self.descs().iter().map(move |desc| {
            if desc.flags & FLAG_SHARED != 0 {
                return IoSliceMut::new(&mut []);
            }
            // SAFETY: not shared; every piece of a batch lies in a chunk of its own, so the slices do not overlap; they
            // borrow `self` exclusively.
            IoSliceMut::new(unsafe { pool.bytes_mut(desc) })
        })
    }

    /// Address and length of piece `index`, for building `iovec`s and rings in a `sys` module. Valid while the piece is
    /// in this batch; write only when [`Frame::is_shared`] is false.
    #[inline]
    #[must_use]
    pub fn raw_piece(&self, index: usize) -> Option<(*mut u8, usize)> {
        Some(self.host.pool().locate(self.descs().get(index)?))
    }

    /// Adds fresh chunks until the batch holds `n` descriptors (64 at most), in one call; returns how many it holds.
    /// Each is a frame of its own that spans the whole room behind the headroom: set its length after filling it.
    #[inline]
    pub fn refill(&mut self, n: usize) -> usize {
        let wanted = n.min(BATCH).saturating_sub(self.len);
        if wanted > 0 {
            let at = self.descs[self.len..].as_mut_ptr().cast();
            // SAFETY: `len + wanted <= BATCH` elements lie behind `at`; the host initialises as many as it reports.
            self.len += unsafe { self.host.alloc_raw(at, wanted) };
        }
        self.len
    }

    /// Sets the bytes of piece `index` after a device filled it. At most to the end of its chunk: returns false, and
    /// changes nothing, beyond that.
    #[inline]
    pub fn set_len(&mut self, index: usize, bytes: usize) -> bool {
        let pool = *self.host.pool();
        let Some(desc) = self.descs_mut().get_mut(index) else { return false };
        let (_, end) = pool.chunk(desc.offset);
        if bytes as u64 > end - desc.offset {
            return false;
        }
        desc.len = bytes as u32;
        true
    }

    /// Ties piece `index` to the next one, or cuts the tie.
    #[inline]
    pub fn set_continues(&mut self, index: usize, continues: bool) {
        if let Some(desc) = self.descs_mut().get_mut(index) {
            desc.flags = desc.flags & !FLAG_CONTINUES | if continues { FLAG_CONTINUES } else { 0 };
        }
    }

    /// Makes piece `index` longer at its front by `bytes` of headroom. False, and nothing changed, when the headroom is
    /// too small or the piece is shared. The new bytes hold whatever was there.
    pub fn grow_front(&mut self, index: usize, bytes: usize) -> bool {
        let pool = *self.host.pool();
        let Some(desc) = self.descs_mut().get_mut(index) else { return false };
        let (start, _) = pool.chunk(desc.offset);
        if desc.flags & FLAG_SHARED != 0 || desc.offset - start < bytes as u64 {
            return false;
        }
        desc.offset -= bytes as u64;
        desc.len += bytes as u32;
        true
    }

    /// Cuts `bytes` off the front of piece `index`. False, and nothing changed, when it is shorter.
    pub fn shrink_front(&mut self, index: usize, bytes: usize) -> bool {
        let Some(desc) = self.descs_mut().get_mut(index) else { return false };
        if (desc.len as usize) < bytes {
            return false;
        }
        desc.offset += bytes as u64;
        desc.len -= bytes as u32;
        true
    }

    /// A second batch of the same frames, for sending them more than once without a copy. Both are read-only from now
    /// on. One call of the host.
    #[must_use]
    pub fn share(&mut self) -> Self {
        for desc in self.descs_mut() {
            desc.flags |= FLAG_SHARED;
        }
        self.host.retain_raw(self.descs());
        // SAFETY: the references were taken just now, and all descriptors say that they are shared.
        unsafe { Self::adopt(self.host.clone(), self.descs()) }
    }

    /// Moves whole frames from the front of `from` to the end of this batch, as many as fit. Returns how many.
    pub fn append(&mut self, from: &mut Self) -> usize {
        let (mut frames, mut pieces) = (0, 0);
        while let Some(count) = first_frame(&from.descs()[pieces..]) {
            if pieces + count > self.room() {
                break;
            }
            frames += 1;
            pieces += count;
        }
        self.append_raw(&from.descs()[..pieces]);
        from.forget_first(pieces);
        frames
    }

    /// Gives the first `frames` whole frames back to the pool; the others move to the front.
    pub fn drop_first(&mut self, frames: usize) {
        let pieces = first_frames(self.descs(), frames);
        self.host.free_raw(&self.descs()[..pieces]);
        self.forget_first(pieces);
    }

    /// Gives everything back to the pool.
    #[inline]
    pub fn clear(&mut self) {
        self.host.free_raw(self.descs());
        self.len = 0;
    }

    /// Drops the first `pieces` descriptors without freeing them: somebody else owns them now.
    #[inline]
    pub(crate) fn forget_first(&mut self, pieces: usize) {
        self.descs.copy_within(pieces..self.len, 0);
        self.len -= pieces;
    }

    /// Adds descriptors; the caller has looked at [`Batch::room`].
    #[inline]
    pub(crate) fn append_raw(&mut self, descs: &[FrameDesc]) {
        let (from, to) = (self.len, self.len + descs.len());
        if let [desc] = descs {
            self.descs[from].write(*desc);
        } else {
            self.descs[from..to].write_copy_of_slice(descs);
        }
        self.len = to;
    }

    #[inline]
    fn descs_mut(&mut self) -> &mut [FrameDesc] {
        // SAFETY: the first `len` elements are initialised; `MaybeUninit<T>` has the layout of `T`.
        unsafe { std::slice::from_raw_parts_mut(self.descs.as_mut_ptr().cast(), self.len) }
    }

    /// Moves `count` descriptors at `from` down to the end of the kept ones.
    #[inline]
    fn keep(&mut self, from: usize, count: usize) {
        if from != self.len {
            self.descs.copy_within(from..from + count, self.len);
        }
        self.len += count;
    }

    #[inline]
    fn slots(&self, from: usize, count: usize) -> &[FrameDesc] {
        let slots = &self.descs[from..from + count];
        // SAFETY: a cursor only names slots below the batch's former length, which are initialised.
        unsafe { std::slice::from_raw_parts(slots.as_ptr().cast(), count) }
    }
}

/// Walks over a batch; see [`Batch::cursor`]. Frames that were not moved are kept, in order.
#[derive(Debug)]
pub struct Cursor<'b> {
    batch: &'b mut Batch,
    read: usize,
    end: usize,
}

impl<'b> Cursor<'b> {
    /// The next whole frame.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a lending iterator: each frame borrows the cursor")]
    pub fn next(&mut self) -> Option<CursorFrame<'_, 'b>> {
        let at = self.read;
        let pieces = first_frame(self.batch.slots(at, self.end - at))?;
        self.read += pieces;
        Some(CursorFrame { cursor: self, at, pieces, moved: false })
    }
}

impl Drop for Cursor<'_> {
    #[inline]
    fn drop(&mut self) {
        self.batch.keep(self.read, self.end - self.read);
    }
}

/// A frame under a [`Cursor`]: look at it, move it, or leave it where it is.
#[derive(Debug)]
pub struct CursorFrame<'c, 'b> {
    cursor: &'c mut Cursor<'b>,
    at: usize,
    pieces: usize,
    moved: bool,
}

impl CursorFrame<'_, '_> {
    /// The frame.
    #[inline]
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        Frame::new(self.cursor.batch.host.pool(), self.cursor.batch.slots(self.at, self.pieces))
    }

    /// Moves the frame to the end of `to`. False, and the frame stays, when it does not fit.
    #[inline]
    pub fn move_to(mut self, to: &mut Batch) -> bool {
        if to.room() < self.pieces {
            return false;
        }
        to.append_raw(self.cursor.batch.slots(self.at, self.pieces));
        self.moved = true;
        true
    }
}

impl Drop for CursorFrame<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        if !self.moved {
            self.cursor.batch.keep(self.at, self.pieces);
        }
    }
}
