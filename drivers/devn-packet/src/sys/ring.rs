//! The TPACKET_V2 receive ring: slots of memory that the kernel and this driver hand to each other by one status word.
//!
//! ```text
//!  slot   | tpacket2_hdr | address | … | offload header (10) | frame …            tp_mac: where the frame begins
//! ```
//!
//! V2 and not V3: version 3 hands over whole blocks by a timer of at least a millisecond, V2 each frame at once. A frame
//! longer than its slot comes whole through the socket's queue, and the slot says so ([`ReceiveRing::skip_queued`]). There is no
//! ring for sending: the kernel must copy out of it page by page (`skb_copy_ubufs`), and `sendmmsg` is faster (measured:
//! a frame forwarded costs 1.55 µs against 1.67 µs of CPU time with 64 bytes, 1.67 against 1.90 with 1514).

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{PacketSocket, Tag};
use crate::offload::VNET_HEADER;

const PAGE: usize = 4096;
/// The kernel asks for a block at once; 128 KiB are found even in fragmented memory.
const BLOCK: usize = 32 * PAGE;
/// Bytes before the frame in a slot: header, address, offload header, alignment.
const BEFORE: usize = 96;

/// The ring that the kernel fills.
#[derive(Debug)]
pub(crate) struct ReceiveRing {
    base: NonNull<u8>,
    bytes: usize,
    size: usize,
    per_block: usize,
    count: usize,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone; nothing in it depends on the thread.
unsafe impl Send for ReceiveRing {}

impl Drop for ReceiveRing {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `open`, which nobody uses any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A received frame in its slot; dropping it hands the slot back to the kernel.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    ring: &'a mut ReceiveRing,
    header: libc::tpacket2_hdr,
}

impl ReceiveRing {
    /// Makes about `count` slots for frames of `frame` bytes.
    ///
    /// # Errors
    /// ENOMEM, EMSGSIZE for frames above 128 KiB.
    pub(crate) fn open(socket: &PacketSocket, frame: usize, count: usize) -> io::Result<Self> {
        // Longer frames are queued whole on the socket, however long.
        socket.set(libc::SOL_PACKET, libc::PACKET_COPY_THRESH, &1_i32)?;
        let size = (BEFORE + frame).next_multiple_of(128);
        if size > BLOCK {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let per_block = BLOCK / size;
        let blocks = count.div_ceil(per_block).max(1);
        let count = blocks * per_block;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: size as u32,
            tp_frame_nr: count as u32,
        };
        socket.set(libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as i32))?;
        socket.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let bytes = blocks * BLOCK;
        // SAFETY: a fresh mapping of the ring that was just made, at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_fd().as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes, size, per_block, count, next: 0 })
    }

    /// The next frame, if it is there.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Slot<'_>> {
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the status says that the slot is ours, so the kernel does not write to the header until it is handed
        // back; it is aligned and inside the mapping.
        let header = unsafe { self.slot().cast::<libc::tpacket2_hdr>().read() };
        Some(Slot { ring: self, header })
    }

    /// Hands back up to `most` slots in a row whose frames wait in the socket's queue; how many. These frames are the
    /// next ones there, in the order of the slots.
    #[inline]
    pub(crate) fn skip_queued(&mut self, most: usize) -> usize {
        let mut count = 0;
        while count < most
            && let Some(slot) = self.next()
        {
            if !slot.is_queued() {
                slot.keep();
                break;
            }
            count += 1;
        }
        count
    }

    /// Where the next slot begins.
    #[inline]
    fn slot(&self) -> *mut u8 {
        let offset = self.next / self.per_block * BLOCK + self.next % self.per_block * self.size;
        // SAFETY: `next < count`, so the offset lies inside the mapping.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// The next slot's status word, through which both sides hand it over.
    #[inline]
    fn status(&self) -> &AtomicU32 {
        // SAFETY: a slot begins with `tp_status`, is aligned to 16 bytes and mapped as long as `self`; the kernel and
        // this process only ever load and store the word as a whole.
        unsafe { AtomicU32::from_ptr(self.slot().cast()) }
    }

    #[inline]
    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.count {
            self.next = 0;
        }
    }
}

impl Slot<'_> {
    /// The frame, or its beginning when it is longer than the slot.
    #[inline]
    pub(crate) fn frame(&self) -> &[u8] {
        let at = usize::from(self.header.tp_mac).min(self.ring.size);
        let len = (self.header.tp_snaplen as usize).min(self.ring.size - at);
        // SAFETY: inside the slot, which is ours until it is dropped.
        unsafe { slice::from_raw_parts(self.ring.slot().add(at), len) }
    }

    /// The offload header.
    #[inline]
    pub(crate) fn todo(&self) -> [u8; VNET_HEADER] {
        let at = usize::from(self.header.tp_mac).clamp(VNET_HEADER, self.ring.size) - VNET_HEADER;
        // SAFETY: `at` and the ten bytes behind it are inside the slot, which is ours until it is dropped.
        unsafe { self.ring.slot().add(at).cast::<[u8; VNET_HEADER]>().read() }
    }

    /// Bytes of the whole frame.
    #[inline]
    pub(crate) fn whole_len(&self) -> usize {
        self.header.tp_len as usize
    }

    /// The frame did not fit and waits, whole, in the socket's queue.
    #[inline]
    pub(crate) fn is_queued(&self) -> bool {
        self.header.tp_status & libc::TP_STATUS_COPY != 0
    }

    /// It stays the next one.
    #[inline]
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }

    /// The VLAN tag that was taken out.
    #[inline]
    pub(crate) fn tag(&self) -> Option<Tag> {
        Tag::from_status(self.header.tp_status, self.header.tp_vlan_tpid, self.header.tp_vlan_tci)
    }
}

impl Drop for Slot<'_> {
    #[inline]
    fn drop(&mut self) {
        self.ring.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.ring.advance();
    }
}
