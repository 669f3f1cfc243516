//! A bounded queue of frames: descriptors in a row, so that a batch of them is one slice.
//!
//! The memory is allocated once, at twice the bound: descriptors are moved to the front at most once for each
//! `bound` of them that pass. When full the queue refuses; it never drops what it has.

use io_pkt_abi::frame::FrameDesc;

/// A queue of descriptors. When full it refuses, it never drops what it has.
#[derive(Debug)]
pub(super) struct FrameQueue {
    frames: Vec<FrameDesc>,
    /// Descriptors before this one are gone.
    head: usize,
    bound: usize,
}

impl FrameQueue {
    pub(super) fn new(bound: usize) -> Self {
        // Twice the bound: the row is moved to the front at most once for each `bound` descriptors.
        Self { frames: Vec::with_capacity(2 * bound), head: 0, bound }
    }

    /// Appends a whole frame; false when it does not fit.
    #[inline]
    pub(super) fn push(&mut self, frame: &[FrameDesc]) -> bool {
        if self.frames.len() - self.head + frame.len() > self.bound {
            return false;
        }
        if self.frames.len() + frame.len() > 2 * self.bound {
            self.frames.drain(..self.head);
            self.head = 0;
        }
        self.frames.extend_from_slice(frame);
        true
    }

    /// Everything that waits, oldest first.
    pub(super) fn all(&self) -> &[FrameDesc] {
        &self.frames[self.head..]
    }

    /// Forgets the oldest `n` descriptors.
    pub(super) fn pop(&mut self, n: usize) {
        self.head += n;
        if self.head >= self.frames.len() {
            self.frames.clear();
            self.head = 0;
        }
    }

    /// Of the oldest `batch` descriptors forgets the first `gone`, keeps the next `kept` and forgets the rest.
    pub(super) fn keep(&mut self, gone: usize, kept: usize, batch: usize) {
        if gone + kept < batch {
            self.frames.drain(self.head + gone + kept..self.head + batch);
        }
        self.pop(gone);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: u64) -> [FrameDesc; 1] {
        [FrameDesc { offset: n, ..FrameDesc::default() }]
    }

    #[test]
    fn order_holds_and_the_memory_never_grows() {
        let mut queue = FrameQueue::new(4);
        let room = queue.frames.capacity();
        let (mut pushed, mut popped) = (0, 0);
        for step in 0..1000 {
            while queue.push(&frame(pushed)) {
                pushed += 1;
            }
            assert_eq!(queue.all().len(), 4);
            let n = 1 + step % 4;
            for desc in &queue.all()[..n] {
                assert_eq!(desc.offset, popped);
                popped += 1;
            }
            queue.pop(n);
        }
        assert_eq!(queue.frames.capacity(), room);
    }

    #[test]
    fn the_kept_part_of_a_batch_stays_in_front() {
        let mut queue = FrameQueue::new(8);
        for n in 0..8 {
            assert!(queue.push(&frame(n)));
        }
        queue.keep(2, 1, 5);
        let left: Vec<_> = queue.all().iter().map(|desc| desc.offset).collect();
        assert_eq!(left, [2, 5, 6, 7]);
    }

    #[test]
    fn a_frame_goes_in_whole_or_not_at_all() {
        let mut queue = FrameQueue::new(4);
        assert!(queue.push(&[FrameDesc::default(); 3]));
        assert!(!queue.push(&[FrameDesc::default(); 2]));
        assert_eq!(queue.all().len(), 3);
        queue.pop(3);
        assert!(queue.is_empty());
    }
}
