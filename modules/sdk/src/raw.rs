//! Reading and writing the border's plain data. All the trust that the SDK puts into the host's pointers is here.

use io_pkt_abi::{Bytes, TextBuf};

/// The bytes behind `bytes`, for as long as the caller chooses `'a`.
///
/// # Safety
/// `bytes.ptr` is valid for `bytes.len` bytes during `'a`, or `bytes.len` is 0.
pub(crate) unsafe fn slice<'a>(bytes: Bytes) -> &'a [u8] {
    if bytes.len == 0 || bytes.ptr.is_null() {
        return &[];
    }
    // SAFETY: not null, and valid for `len` bytes by the caller's promise.
    unsafe { std::slice::from_raw_parts(bytes.ptr, bytes.len as usize) }
}

/// The same as text; bytes that are not UTF-8 give an empty text (the host sends UTF-8 only).
///
/// # Safety
/// As [`slice`].
pub(crate) unsafe fn text<'a>(bytes: Bytes) -> &'a str {
    // SAFETY: passed on.
    std::str::from_utf8(unsafe { slice(bytes) }).unwrap_or_default()
}

/// `n` elements at `ptr`, none when `ptr` is null.
///
/// # Safety
/// `ptr` is null or aligned and valid for `n` elements during `'a`.
pub(crate) unsafe fn elements<'a, T>(ptr: *const T, n: usize) -> &'a [T] {
    if ptr.is_null() || n == 0 {
        return &[];
    }
    // SAFETY: not null, aligned and valid for `n` elements by the caller's promise.
    unsafe { std::slice::from_raw_parts(ptr, n) }
}

/// Writes as much of `text` as fits, cut between characters.
///
/// # Safety
/// `room` is null, or valid for writes, with `room.ptr` valid for `room.cap` bytes.
pub(crate) unsafe fn write_text(room: *mut TextBuf, text: &str) {
    if room.is_null() {
        return;
    }
    // SAFETY: not null, valid by the caller's promise; nobody else looks at it during this call.
    let room = unsafe { &mut *room };
    let mut end = text.len().min(room.cap as usize);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if room.ptr.is_null() {
        end = 0;
    }
    // SAFETY: `end <= cap`, both sides are valid for `end` bytes and cannot overlap: the room is the host's.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), room.ptr, end) };
    room.len = end as u64;
}
