//! The frames that a driver is asked to send.

use std::fmt;

use io_pkt_abi::FrameDesc;

use crate::{
    Batch, Host,
    frame::{Frames, first_frame, first_frames},
};

/// Frames offered by the host. The driver takes them from the front, by [`TxBatch::move_to`] or [`TxBatch::finish`];
/// those it leaves stay with the host, which offers them again after the driver's next `poll`.
pub struct TxBatch<'a> {
    host: &'a Host,
    rest: &'a [FrameDesc],
    taken: usize,
}

impl fmt::Debug for TxBatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.frames()).finish()
    }
}

impl<'a> TxBatch<'a> {
    #[inline]
    pub(crate) fn new(host: &'a Host, descs: &'a [FrameDesc]) -> Self {
        Self { host, rest: descs, taken: 0 }
    }

    /// Descriptors (pieces) left.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether all were taken.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The frames left, in order. They are read-only as long as the host owns them.
    #[inline]
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        Frames::new(self.host.pool(), self.rest)
    }

    /// The descriptors left, for those who hand them to a ring.
    #[inline]
    #[must_use]
    pub fn descs(&self) -> &[FrameDesc] {
        self.rest
    }

    /// Takes whole frames over into `to`, as many as fit; returns how many frames. The driver sends them and gives them
    /// back by clearing or dropping the batch.
    pub fn move_to(&mut self, to: &mut Batch) -> usize {
        let (mut frames, mut pieces) = (0, 0);
        while let Some(count) = first_frame(&self.rest[pieces..]) {
            if pieces + count > to.room() {
                break;
            }
            frames += 1;
            pieces += count;
        }
        to.append_raw(&self.rest[..pieces]);
        self.skip(pieces);
        frames
    }

    /// The first `frames` frames are sent, or dropped on purpose: gives them back to the pool. One call of the host.
    pub fn finish(&mut self, frames: usize) {
        let pieces = first_frames(self.rest, frames);
        self.host.free_raw(&self.rest[..pieces]);
        self.skip(pieces);
    }

    /// Descriptors taken so far.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    fn skip(&mut self, pieces: usize) {
        self.rest = &self.rest[pieces..];
        self.taken += pieces;
    }
}
