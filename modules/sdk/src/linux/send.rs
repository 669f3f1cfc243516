//! Sending frames straight out of the packet pool, up to a batch with one system call.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use crate::{BATCH, Frame};

/// Room for `sendmmsg` with up to [`BATCH`] frames. Made once and used again: nothing is allocated per call.
pub struct FrameSender {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
}

// SAFETY: the pointers are dead between calls of `send`, which writes them anew.
unsafe impl Send for FrameSender {}

impl fmt::Debug for FrameSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameSender({} frames)", self.headers.len())
    }
}

impl Default for FrameSender {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameSender {
    /// Room for a batch.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: `mmsghdr` is plain data, for which all zeroes is a value: no name, no parts, no control data.
        let empty: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let nothing = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            headers: vec![empty; BATCH].into_boxed_slice(),
            parts: vec![nothing; BATCH].into_boxed_slice(),
        }
    }

    /// Sends frames in order, each as one message, as many as a batch holds; returns how many the kernel took. Never
    /// blocks and raises no signal. An iterator without frames gives 0.
    ///
    /// # Errors
    /// Why the first one was not taken: EAGAIN when the socket's buffer is full, EPIPE when the other end is gone, and
    /// what the kind of socket adds to that.
    pub fn send<'f>(
        &mut self,
        socket: &impl AsFd,
        frames: impl Iterator<Item = Frame<'f>>,
    ) -> io::Result<usize> {
        let (mut count, mut used) = (0, 0);
        for frame in frames.take(BATCH) {
            let pieces = frame.descs().len();
            if used + pieces > self.parts.len() {
                break;
            }
            for (part, piece) in self.parts[used..].iter_mut().zip(frame.pieces()) {
                *part = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
            }
            let header = &mut self.headers[count].msg_hdr;
            header.msg_iov = self.parts[used..].as_mut_ptr();
            header.msg_iovlen = pieces;
            used += pieces;
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        if let (1, [part, ..]) = (used, &*self.parts) {
            // The usual case where latency counts, and the cheapest call for it.
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the socket is open; the part is a piece borrowed for `'f`, which the kernel only reads.
            let sent = unsafe { libc::send(socket.as_fd().as_raw_fd(), part.iov_base, part.iov_len, flags) };
            return if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(1) };
        }
        // SAFETY: the socket is open; the first `count` headers point to parts in `self`, which point to pieces borrowed
        // for `'f`; the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}
