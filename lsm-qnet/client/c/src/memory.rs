//! What a program points to: lengths and vectors as C passes them, turned into slices or refused.
//!
//! QNX's kernel answers a bad address with `EFAULT`. A library cannot ask for every page of a buffer; what it can see is
//! refused here: NULL with a length, a range beyond what a process can have, and counts that no program means.
//!
//! Programs send out of the buffer that the reply goes into: both sides of a call may be the same memory. What is made here
//! holds addresses; the library copies pieces out and in, one at a time, on the thread that called.

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::slice;

use libc::{c_char, c_void, iovec};

use crate::call::Outcome;

/// End of the addresses that a process can have: 2^56 with the largest page tables of x86-64, less elsewhere.
const TOP: usize = 1 << 56;

/// Longest message: 4 GiB - 1.
pub(crate) const MAX_MESSAGE: usize = u32::MAX as usize;

/// Most parts of a message, as QNX has it.
const MAX_PARTS: usize = 1 << 19;

/// Fills the caller's structure, if there is one.
///
/// # Safety
/// `to` is NULL or a place for a `T`.
pub(crate) unsafe fn put<T>(to: *mut T, value: impl FnOnce() -> Outcome<T>) -> Outcome<()> {
    if to.is_null() {
        return Ok(());
    }
    let value = value()?;
    // SAFETY: the caller's promise; it need not be aligned.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// The caller's structure, if there is one.
///
/// # Safety
/// `from` is NULL or points to a `T`.
pub(crate) unsafe fn get<T: Copy>(from: *const T) -> Option<T> {
    // SAFETY: the caller's promise; it need not be aligned.
    (!from.is_null()).then(|| unsafe { from.read_unaligned() })
}

/// Whether a process can have these bytes at all.
fn range(base: *const c_void, len: usize) -> Outcome<()> {
    if len == 0 {
        return Ok(());
    }
    if len > MAX_MESSAGE {
        return Err(libc::EINVAL);
    }
    let end = base.addr().checked_add(len).ok_or(libc::EFAULT)?;
    if base.is_null() || end > TOP { Err(libc::EFAULT) } else { Ok(()) }
}

/// What a program sends: one buffer or several.
pub(crate) struct Source<'a>(Vec<IoSlice<'a>>);

impl Source<'_> {
    /// One buffer.
    ///
    /// # Safety
    /// `len` bytes at `base` can be read, and nobody writes them, as long as this lives.
    pub(crate) unsafe fn one(base: *const c_void, len: usize) -> Outcome<Self> {
        range(base, len)?;
        // SAFETY: the caller's promise.
        Ok(Self(vec![IoSlice::new(unsafe { bytes(base, len) })]))
    }

    /// A vector.
    ///
    /// # Safety
    /// `parts` entries at `iov` can be read, and each is as for [`Source::one`].
    pub(crate) unsafe fn parts(iov: *const iovec, parts: usize) -> Outcome<Self> {
        // SAFETY: the caller's promise.
        let parts = unsafe { entries(iov, parts) }?;
        // SAFETY: the caller's promise; each was checked.
        Ok(Self(
            parts.iter().map(|part| IoSlice::new(unsafe { bytes(part.iov_base, part.iov_len) })).collect(),
        ))
    }

    /// The buffers.
    pub(crate) fn slices(&self) -> &[IoSlice<'_>] {
        &self.0
    }
}

/// Where a program wants to receive: one buffer or several.
pub(crate) struct Target<'a>(Vec<IoSliceMut<'a>>);

impl<'a> Target<'a> {
    /// One buffer.
    ///
    /// # Safety
    /// `len` bytes at `base` can be written, and nobody else uses them, as long as this lives.
    pub(crate) unsafe fn one(base: *mut c_void, len: usize) -> Outcome<Self> {
        range(base, len)?;
        // SAFETY: the caller's promise.
        Ok(Self(vec![IoSliceMut::new(unsafe { bytes_mut(base, len) })]))
    }

    /// A vector.
    ///
    /// # Safety
    /// `parts` entries at `iov` can be read, and each is as for [`Target::one`]; parts do not overlap.
    pub(crate) unsafe fn parts(iov: *const iovec, parts: usize) -> Outcome<Self> {
        // SAFETY: the caller's promise.
        let parts = unsafe { entries(iov, parts) }?;
        let slice = |part: &iovec| {
            // SAFETY: the caller's promise; the entry was checked.
            IoSliceMut::new(unsafe { bytes_mut(part.iov_base, part.iov_len) })
        };
        Ok(Self(parts.iter().map(slice).collect()))
    }

    /// The buffers.
    pub(crate) fn slices(&mut self) -> &mut [IoSliceMut<'a>] {
        &mut self.0
    }

    /// Room in all of them.
    pub(crate) fn room(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    /// Copies `data` into the buffers, as much as they take; returns how much that is.
    pub(crate) fn fill(&mut self, mut data: &[u8]) -> usize {
        let all = data.len();
        for part in &mut self.0 {
            let (now, rest) = data.split_at(data.len().min(part.len()));
            part[..now.len()].copy_from_slice(now);
            data = rest;
        }
        all - data.len()
    }
}

/// The entries of a vector, each within what a process can have, all together no longer than a message.
unsafe fn entries<'a>(iov: *const iovec, parts: usize) -> Outcome<&'a [iovec]> {
    if parts == 0 {
        return Ok(&[]);
    }
    if parts > MAX_PARTS {
        return Err(libc::EINVAL);
    }
    range(iov.cast(), parts * size_of::<iovec>())?;
    if !iov.is_aligned() {
        return Err(libc::EFAULT);
    }
    // SAFETY: the caller's promise; aligned and not NULL.
    let entries = unsafe { slice::from_raw_parts(iov, parts) };
    let mut all = 0_usize;
    for entry in entries {
        range(entry.iov_base, entry.iov_len)?;
        all += entry.iov_len;
    }
    if all > MAX_MESSAGE { Err(libc::EINVAL) } else { Ok(entries) }
}

unsafe fn bytes<'a>(base: *const c_void, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise; not NULL, and a range that a process can have.
    unsafe { slice::from_raw_parts(base.cast(), len) }
}

unsafe fn bytes_mut<'a>(base: *mut c_void, len: usize) -> &'a mut [u8] {
    if len == 0 {
        return &mut [];
    }
    // SAFETY: the caller's promise; not NULL, and a range that a process can have.
    unsafe { slice::from_raw_parts_mut(base.cast(), len) }
}

/// A string of the caller; `EFAULT` for NULL, `EINVAL` for one that is not UTF-8 (no name or node has such).
///
/// # Safety
/// `text` is NULL or a string that lives as long as what is returned.
pub(crate) unsafe fn text<'a>(text: *const c_char) -> Outcome<&'a str> {
    if text.is_null() {
        return Err(libc::EFAULT);
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| libc::EINVAL)
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use libc::c_int;

    use super::*;

    fn errno<T>(outcome: Outcome<T>) -> c_int {
        outcome.err().unwrap_or(0)
    }

    #[test]
    fn what_no_process_can_have_is_refused() {
        let mut byte = 0_u8;
        let here: *mut c_void = (&raw mut byte).cast();
        let high = ptr::without_provenance_mut::<c_void>(usize::MAX - 10);
        for (base, len, expected) in [
            (here, 1, 0),
            (ptr::null_mut(), 0, 0),
            (ptr::null_mut(), 1, libc::EFAULT),
            (high, 5, libc::EFAULT),
            (high, 100, libc::EFAULT),
            (here, usize::MAX, libc::EINVAL),
            (here, MAX_MESSAGE + 1, libc::EINVAL),
        ] {
            // SAFETY: what is not refused is the byte above, or nothing.
            assert_eq!(errno(unsafe { Source::one(base, len) }), expected, "{base:?} {len}");
            // SAFETY: as above.
            assert_eq!(errno(unsafe { Target::one(base, len) }), expected, "{base:?} {len}");
        }
    }

    #[test]
    fn vectors_are_judged_part_by_part_and_as_a_whole() {
        let text = *b"abcdef";
        let part = |at: usize, len| iovec { iov_base: (&raw const text[at]).cast_mut().cast(), iov_len: len };
        let good = [part(0, 2), iovec { iov_base: ptr::null_mut(), iov_len: 0 }, part(3, 3)];
        // SAFETY: the parts lie in the text.
        let source = unsafe { Source::parts(good.as_ptr(), 3) }.expect("good parts");
        assert_eq!(source.slices().iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 0, 3]);
        let null = [part(0, 2), iovec { iov_base: ptr::null_mut(), iov_len: 7 }];
        // SAFETY: refused.
        assert_eq!(errno(unsafe { Source::parts(null.as_ptr(), 2) }), libc::EFAULT);
        let long = [part(0, MAX_MESSAGE), part(0, 6)];
        // SAFETY: refused.
        assert_eq!(errno(unsafe { Source::parts(long.as_ptr(), 2) }), libc::EINVAL);
        // SAFETY: refused before the vector is read.
        assert_eq!(errno(unsafe { Source::parts(good.as_ptr(), usize::MAX) }), libc::EINVAL);
        // SAFETY: refused.
        assert_eq!(errno(unsafe { Target::parts(ptr::null(), 1) }), libc::EFAULT);
        let crooked = good.as_ptr().wrapping_byte_add(1);
        // SAFETY: refused.
        assert_eq!(errno(unsafe { Target::parts(crooked, 1) }), libc::EFAULT);
    }

    #[test]
    fn filling_stops_where_either_side_ends() {
        let mut text = *b"......";
        let base = text.as_mut_ptr();
        let part = |at: usize, len| iovec { iov_base: base.wrapping_add(at).cast(), iov_len: len };
        let parts = [part(0, 1), part(2, 3)];
        // SAFETY: the parts lie in the text and do not overlap.
        let mut target = unsafe { Target::parts(parts.as_ptr(), 2) }.expect("good parts");
        assert_eq!(target.room(), 4);
        assert_eq!((target.fill(b"ab"), target.fill(b"vwxyz")), (2, 4));
        assert_eq!(&text, b"v.wxy.");
    }
}
