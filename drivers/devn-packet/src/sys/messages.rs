//! `recvmmsg` straight into chunks of the packet pool.
//!
//! ```text
//!  one message received:  [ offload header 10 ][ chunk, as far as it goes ][ spill, for what is longer ]
//! ```
//!
//! The spill area is 64 KiB of address space for each of 64 messages; only super-frames and jumbo frames touch it. The
//! message headers are built anew for every call, which costs a few stores and keeps no pointer between calls.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

use io_pkt_sdk::{BATCH, Batch};

use super::{PacketSocket, Tag};
use crate::offload::{LONGEST, VNET_HEADER};

/// Parts of a received message: offload header, chunk, spill.
const PARTS: usize = 3;
/// Bytes of control data for one `tpacket_auxdata`, generously.
const CONTROL: usize = 64;

/// Control data of one message, aligned as `cmsghdr` wants.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Room for receiving up to 64 frames with one system call.
pub(crate) struct Receiver {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    controls: Box<[Control]>,
    todos: Box<[[u8; VNET_HEADER]]>,
    spill: Box<[u8]>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receiver({} messages)", self.headers.len())
    }
}

// SAFETY: the pointers in `headers` and `parts` are dead between calls of `receive`, which writes them anew.
unsafe impl Send for Receiver {}

impl Receiver {
    /// Room for up to [`BATCH`] messages a call.
    pub(crate) fn new() -> Self {
        Self {
            headers: vec![no_message(); BATCH].into_boxed_slice(),
            parts: vec![NO_PART; BATCH * PARTS].into_boxed_slice(),
            controls: vec![Control([0; CONTROL]); BATCH].into_boxed_slice(),
            todos: vec![[0; VNET_HEADER]; BATCH].into_boxed_slice(),
            spill: vec![0; BATCH * LONGEST].into_boxed_slice(),
        }
    }

    /// Receives frames into the pieces of `batch` from number `first` on, at most `count`, one frame a piece. Returns
    /// how many came; their lengths and the rest are asked for afterwards with [`Receiver::len`] and so on.
    ///
    /// # Errors
    /// EAGAIN when there is none.
    pub(crate) fn receive(
        &mut self,
        socket: &PacketSocket,
        batch: &mut Batch,
        first: usize,
        count: usize,
    ) -> io::Result<usize> {
        let count = count.min(BATCH).min(batch.len().saturating_sub(first));
        for at in 0..count {
            let (chunk, room) = batch.raw_piece(first + at).unwrap_or((ptr::null_mut(), 0));
            self.prepare(at, chunk, room);
        }
        if count == 0 {
            return Ok(0);
        }
        self.call(socket, count).or_else(|error| {
            // The interface went off: told once, before the frames that wait.
            if error.raw_os_error() == Some(libc::ENETDOWN) { self.call(socket, count) } else { Err(error) }
        })
    }

    /// Receives the frame that waits first into the spill area, alone, and returns its length.
    ///
    /// # Errors
    /// As [`Receiver::receive`].
    pub(crate) fn receive_one(&mut self, socket: &PacketSocket) -> io::Result<usize> {
        self.prepare(0, ptr::null_mut(), 0);
        match self.call(socket, 1) {
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => self.call(socket, 1)?,
            outcome => outcome?,
        };
        Ok(self.len(0))
    }

    /// The system call, for headers that [`Receiver::prepare`] filled in.
    fn call(&mut self, socket: &PacketSocket, count: usize) -> io::Result<usize> {
        // SAFETY: the socket is open; the first `count` headers point to parts and control data that live in `self`, which
        // is borrowed exclusively, and to fresh chunks, which the caller's batch owns alone and keeps during the call.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        super::check(got).map(|got| got as usize)
    }

    /// Bytes of frame number `at` of the last call.
    #[inline]
    pub(crate) fn len(&self, at: usize) -> usize {
        (self.headers[at].msg_len as usize).saturating_sub(VNET_HEADER)
    }

    /// Whether even the spill area was too small for it.
    #[inline]
    pub(crate) fn is_cut(&self, at: usize) -> bool {
        self.headers[at].msg_hdr.msg_flags & libc::MSG_TRUNC != 0
    }

    /// Its offload header.
    #[inline]
    pub(crate) fn todo(&self, at: usize) -> &[u8; VNET_HEADER] {
        &self.todos[at]
    }

    /// The whole of a frame that went on into the spill area; `start` is its beginning, in the chunk.
    pub(crate) fn whole(&mut self, at: usize, start: &[u8]) -> &[u8] {
        let len = self.len(at).min(LONGEST);
        let spill = &mut self.spill[at * LONGEST..(at + 1) * LONGEST];
        spill[..start.len()].copy_from_slice(start);
        &spill[..len]
    }

    /// The VLAN tag that the kernel took out of it.
    #[inline]
    pub(crate) fn tag(&self, at: usize) -> Option<Tag> {
        let header = &self.headers[at].msg_hdr;
        let need = size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
        if header.msg_controllen < need {
            return None;
        }
        let control = &self.controls[at].0;
        // SAFETY: the area is aligned for a `cmsghdr` and longer than one; the kernel filled it.
        let head = unsafe { control.as_ptr().cast::<libc::cmsghdr>().read() };
        if head.cmsg_level != libc::SOL_PACKET || head.cmsg_type != libc::PACKET_AUXDATA {
            return None;
        }
        let data = &control[size_of::<libc::cmsghdr>()..need];
        // SAFETY: `data` is as long as the structure, which is plain data; alignment is not assumed.
        let aux = unsafe { data.as_ptr().cast::<libc::tpacket_auxdata>().read_unaligned() };
        Tag::from_status(aux.tp_status, aux.tp_vlan_tpid, aux.tp_vlan_tci)
    }

    #[inline]
    fn prepare(&mut self, at: usize, chunk: *mut u8, room: usize) {
        let parts = &mut self.parts[at * PARTS..(at + 1) * PARTS];
        let rest = &mut self.spill[at * LONGEST + room.min(LONGEST)..(at + 1) * LONGEST];
        parts[0] = libc::iovec { iov_base: (&raw mut self.todos[at]).cast(), iov_len: VNET_HEADER };
        parts[1] = libc::iovec { iov_base: chunk.cast(), iov_len: room };
        parts[2] = libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() };
        let header = &mut self.headers[at].msg_hdr;
        header.msg_iov = parts.as_mut_ptr();
        header.msg_iovlen = PARTS;
        header.msg_control = (&raw mut self.controls[at]).cast();
        header.msg_controllen = CONTROL;
        header.msg_flags = 0;
    }
}

const NO_PART: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

fn no_message() -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is plain data, for which all zeroes is a value: no name, no parts, no control data.
    unsafe { std::mem::zeroed() }
}
