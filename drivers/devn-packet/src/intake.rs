//! From what the kernel hands over to frames in the packet pool.
//!
//! The usual frame fits one chunk and needs at most its checksum and its VLAN tag: it goes into the next fresh chunk of
//! a batch that is delivered when it is full or when the poll ends. A super-frame or a jumbo frame is composed of
//! several chunks in a second batch; what came before it is delivered first, so frames keep their order.

use io_pkt_sdk::{BATCH, Batch, ETHERNET_HEADER, Host, PushError, Stock};

use crate::{
    offload::{self, Todo, VNET_HEADER},
    stats::Counters,
    sys::Tag,
};

/// Bytes of the two addresses, behind which a VLAN tag stands.
const ADDRESSES: usize = 12;
const TAG: usize = 4;
/// For how many calls a super-frame is remembered.
const CAUTION: u32 = 256;

/// Collects received frames. See the module documentation.
#[derive(Debug)]
pub(crate) struct Intake {
    host: Host,
    /// Frames, then fresh chunks.
    batch: Batch,
    /// Number of frames at the front of `batch`.
    used: usize,
    stock: Stock,
    large: Batch,
    /// Where a large frame gets its checksum; it lies in the kernel's memory or in the spill area before.
    scratch: Vec<u8>,
    /// Multicast frames are wanted.
    multicast: bool,
    /// Frames and bytes since [`Intake::begin`].
    frames: usize,
    bytes: usize,
    /// How far these may go.
    most_frames: usize,
    most_bytes: usize,
    /// Calls of [`Intake::cautious`] until super-frames are not expected any more.
    caution: u32,
    /// What came in so far.
    pub(crate) counters: Counters,
}

impl Intake {
    pub(crate) fn new(host: &Host, multicast: bool) -> Self {
        Self {
            host: host.clone(),
            batch: host.batch(),
            used: 0,
            stock: Stock::new(host),
            large: host.batch(),
            scratch: Vec::new(),
            multicast,
            frames: 0,
            bytes: 0,
            most_frames: 0,
            most_bytes: 0,
            caution: 0,
            counters: Counters::default(),
        }
    }

    /// Starts a new poll, which may take in so many frames and bytes. A super-frame counts with all its pieces: a few of
    /// them are more than other parts of the daemon can queue.
    pub(crate) fn begin(&mut self, most_frames: usize, most_bytes: usize) {
        (self.frames, self.bytes) = (0, 0);
        (self.most_frames, self.most_bytes) = (most_frames, most_bytes);
    }

    /// Frames that may still be taken in; 0 when there were bytes enough.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        if self.bytes < self.most_bytes { self.most_frames.saturating_sub(self.frames) } else { 0 }
    }

    /// Whether super-frames came lately, so that a handful of messages may be all that can be taken in at once.
    pub(crate) fn cautious(&mut self) -> bool {
        self.caution = self.caution.saturating_sub(1);
        self.caution > 0
    }

    /// Frames and bytes since [`Intake::begin`].
    pub(crate) fn amount(&self) -> (usize, usize) {
        (self.frames, self.bytes)
    }

    /// Bytes of a fresh chunk.
    pub(crate) fn chunk_room(&self) -> usize {
        self.stock.chunk_room()
    }

    /// The same, but half a batch at least (unless the pool is empty): one system call is to fill many.
    #[inline]
    pub(crate) fn many_fresh(&mut self) -> usize {
        if self.batch.len() - self.used < BATCH / 2 {
            self.flush();
            self.batch.refill(BATCH);
        }
        self.batch.len() - self.used
    }

    /// Fresh chunks behind the frames collected, topped up when none is left.
    #[inline]
    pub(crate) fn fresh(&mut self) -> usize {
        if self.used == self.batch.len() {
            if self.used > BATCH / 2 {
                self.flush();
            }
            self.batch.refill(BATCH);
        }
        self.batch.len() - self.used
    }

    /// The batch and the number of its first fresh chunk, for receiving into the chunks directly.
    #[inline]
    pub(crate) fn chunks(&mut self) -> (&mut Batch, usize) {
        (&mut self.batch, self.used)
    }

    /// A frame that lies elsewhere and is copied.
    #[inline]
    pub(crate) fn copy(&mut self, frame: &[u8], todo: [u8; VNET_HEADER], tag: Option<Tag>) {
        let tag = tag.map(Tag::bytes);
        let extra = if tag.is_some() { TAG } else { 0 };
        let parsed = Todo::parse(&todo);
        if frame.len() + extra > self.chunk_room() || frame.len() < ETHERNET_HEADER || parsed.is_super_frame()
        {
            return self.compose(frame, &parsed, tag.as_ref());
        }
        if self.fresh() == 0 {
            self.counters.rx_no_memory += 1;
            return;
        }
        let Some(chunk) = self.batch.bytes_mut(self.used) else { return };
        match tag {
            None => chunk[..frame.len()].copy_from_slice(frame),
            Some(tag) => {
                chunk[..ADDRESSES].copy_from_slice(&frame[..ADDRESSES]);
                chunk[ADDRESSES..ADDRESSES + TAG].copy_from_slice(&tag);
                chunk[ADDRESSES + TAG..frame.len() + TAG].copy_from_slice(&frame[ADDRESSES..]);
            }
        }
        self.batch.set_len(self.used, frame.len() + extra);
        self.accept(&parsed, extra);
    }

    /// A frame of `len` bytes that was received straight into the first fresh chunk, and is no super-frame.
    #[inline]
    pub(crate) fn arrived(&mut self, len: usize, todo: &Todo, tag: Option<Tag>) {
        self.batch.set_len(self.used, len);
        if len < ETHERNET_HEADER {
            self.counters.rx_malformed += 1;
            return self.skip_chunk();
        }
        let mut extra = 0;
        if let Some(tag) = tag {
            if !self.batch.grow_front(self.used, TAG) {
                self.counters.rx_malformed += 1;
                return self.skip_chunk();
            }
            if let Some(frame) = self.batch.bytes_mut(self.used) {
                frame.copy_within(TAG..TAG + ADDRESSES, 0);
                frame[ADDRESSES..ADDRESSES + TAG].copy_from_slice(&tag.bytes());
            }
            extra = TAG;
        }
        self.accept(todo, extra);
    }

    /// A frame that lies elsewhere and needs several chunks or is a super-frame.
    #[cold]
    pub(crate) fn copy_large(&mut self, frame: &[u8], todo: &Todo, tag: Option<Tag>) {
        self.compose(frame, todo, tag.map(Tag::bytes).as_ref());
    }

    /// The first fresh chunk was written to, and for nothing: it goes back to the pool.
    #[cold]
    pub(crate) fn skip_chunk(&mut self) {
        self.flush();
        self.batch.drop_first(1);
    }

    /// A frame that needs more than one chunk, or more than one frame.
    #[cold]
    fn compose(&mut self, frame: &[u8], todo: &Todo, tag: Option<&[u8; TAG]>) {
        if frame.len() < ETHERNET_HEADER {
            self.counters.rx_malformed += 1;
            return;
        }
        if !self.multicast && is_multicast(frame) {
            self.counters.rx_unwanted += 1;
            return;
        }
        self.flush();
        let outcome = if todo.is_super_frame() {
            self.counters.rx_super += 1;
            self.caution = CAUTION;
            offload::cut(frame, todo, |headers, payload| self.push(headers, tag, payload)).map(drop)
        } else if todo.needs_checksum() {
            let mut whole = std::mem::take(&mut self.scratch);
            whole.clear();
            whole.extend_from_slice(frame);
            let outcome = offload::complete(&mut whole, todo).map(|()| self.push(&whole, tag, &[]));
            self.scratch = whole;
            outcome
        } else {
            self.push(frame, tag, &[]);
            Ok(())
        };
        if outcome.is_err() {
            self.counters.rx_malformed += 1;
        }
        // Frames that come after this one must not overtake it.
        self.host.deliver(&mut self.large);
    }

    /// Hands everything collected to the host.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if self.used > 0 {
            self.host.deliver_first(&mut self.batch, self.used);
            self.used = 0;
        }
        if !self.large.is_empty() {
            self.host.deliver(&mut self.large);
        }
    }

    /// The frame in the first fresh chunk is whole: finishes its checksum and counts it.
    #[inline]
    fn accept(&mut self, todo: &Todo, shift: usize) {
        let Some(frame) = self.batch.bytes_mut(self.used) else { return };
        if !self.multicast && is_multicast(frame) {
            self.counters.rx_unwanted += 1;
            return self.skip_chunk();
        }
        if todo.needs_checksum() && offload::complete(&mut frame[shift..], todo).is_err() {
            self.counters.rx_malformed += 1;
            return self.skip_chunk();
        }
        self.count(self.batch.bytes(self.used).len());
        self.used += 1;
    }

    /// Appends a composed frame to the batch of large ones, with the tag behind its addresses.
    fn push(&mut self, headers: &[u8], tag: Option<&[u8; TAG]>, payload: &[u8]) {
        let (addresses, rest) = headers.split_at(ADDRESSES);
        let tag: &[u8] = tag.map_or(&[], |tag| tag);
        let parts = [addresses, tag, rest, payload];
        let mut outcome = self.stock.push(&mut self.large, &parts);
        if outcome == Err(PushError::Full) {
            self.host.deliver(&mut self.large);
            outcome = self.stock.push(&mut self.large, &parts);
        }
        match outcome {
            Ok(()) => self.count(headers.len() + tag.len() + payload.len()),
            Err(_) => self.counters.rx_no_memory += 1,
        }
    }

    #[inline]
    fn count(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
        self.counters.rx_packets += 1;
        self.counters.rx_bytes += bytes as u64;
    }
}

/// Multicast, broadcast not counted.
#[inline]
fn is_multicast(frame: &[u8]) -> bool {
    frame[0] & 1 != 0 && frame[..6] != [0xff; 6]
}
