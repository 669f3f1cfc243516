//! Scatter receive: `recvmmsg` into buffers of a given size.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// Frames fetched at a time.
const BATCH: usize = 64;

/// Buffers for [`BATCH`] frames.
pub(crate) struct Drain {
    _frames: Vec<Vec<u8>>,
    _vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl Drain {
    /// For frames of at most `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        let mut frames = vec![vec![0_u8; size]; BATCH];
        let mut vectors: Vec<libc::iovec> = frames
            .iter_mut()
            .map(|frame| libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() })
            .collect();
        let messages = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: all-zero is a valid `mmsghdr`.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        Self { _frames: frames, _vectors: vectors, messages }
    }

    /// Waits for frames, for as long as the socket's receive timeout allows; their number and bytes.
    pub(crate) fn fetch(&mut self, from: &OwnedFd) -> io::Result<(usize, u64)> {
        // SAFETY: every message points to one vector and it to one frame of `self`; neither moved since `new`, and the
        // kernel writes no further than the length that the vector tells.
        let got = unsafe {
            libc::recvmmsg(
                from.as_raw_fd(),
                self.messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        Ok((got, self.messages[..got].iter().map(|message| u64::from(message.msg_len)).sum()))
    }
}
