//! System calls of the driver: receiving packets of a Unix socket straight into chunks. All unsafe code of this crate
//! is here.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use io_pkt_sdk::{BATCH, Batch};

/// Room for `recvmmsg` with up to 64 packets.
pub(crate) struct Receiver {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
}

// SAFETY: the pointers are dead between calls of `receive`, which writes them anew.
unsafe impl Send for Receiver {}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({} packets)", self.headers.len())
    }
}

impl Receiver {
    pub(crate) fn new() -> Self {
        // SAFETY: `mmsghdr` is plain data, for which all zeroes is a value: no name, no parts, no control data.
        let empty: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let nothing = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            headers: vec![empty; BATCH].into_boxed_slice(),
            parts: vec![nothing; BATCH].into_boxed_slice(),
        }
    }

    /// Receives up to `packets` packets into the pieces of `batch` from number `first` on, `pieces` pieces for each.
    /// Returns how many came.
    ///
    /// # Errors
    /// EAGAIN when there is none, ECONNRESET when the other end died with packets of ours unread.
    pub(crate) fn receive(
        &mut self,
        socket: &impl AsFd,
        batch: &mut Batch,
        first: usize,
        packets: usize,
        pieces: usize,
    ) -> io::Result<usize> {
        let room = batch.len().saturating_sub(first);
        let packets = packets.min(room / pieces.max(1)).min(BATCH);
        for (at, part) in self.parts[..packets * pieces].iter_mut().enumerate() {
            let (chunk, len) = batch.raw_piece(first + at).unwrap_or((ptr::null_mut(), 0));
            *part = libc::iovec { iov_base: chunk.cast(), iov_len: len };
        }
        for at in 0..packets {
            let header = &mut self.headers[at].msg_hdr;
            header.msg_iov = self.parts[at * pieces..].as_mut_ptr();
            header.msg_iovlen = pieces;
            header.msg_flags = 0;
        }
        // SAFETY: the socket is open; the first `packets` headers point to parts in `self`, borrowed exclusively, and these
        // to fresh chunks, which `batch` owns alone and is borrowed exclusively too.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                packets as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
    }

    /// Bytes of packet number `at` of the last call. 0 means that the other end closed.
    pub(crate) fn len(&self, at: usize) -> usize {
        self.headers[at].msg_len as usize
    }

    /// Whether the packet was longer than its pieces.
    pub(crate) fn is_cut(&self, at: usize) -> bool {
        self.headers[at].msg_hdr.msg_flags & libc::MSG_TRUNC != 0
    }
}
