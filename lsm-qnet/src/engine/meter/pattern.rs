//! The bytes of a meter's message: the same at the same offset of each, different from their neighbours.

use std::sync::{Arc, LazyLock};

use qnet_proto::Source;

/// After so many bytes they begin anew; a prime, so that no power of two hides a mistake.
const PERIOD: usize = 65_521;

static BYTES: LazyLock<Arc<[u8]>> =
    LazyLock::new(|| (0..PERIOD as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 15) as u8).collect());

/// Makes pieces of messages.
#[derive(Debug)]
pub(super) struct Pattern(Arc<[u8]>);

impl Pattern {
    pub(super) fn new() -> Self {
        Self(Arc::clone(&BYTES))
    }

    /// The bytes of a message from `offset` on.
    pub(super) fn piece(&self, offset: u32, len: u32) -> Piece {
        Piece { bytes: Arc::clone(&self.0), offset, len }
    }

    /// Whether both ends of a piece are what a meter sends there. (That the bytes between are the right ones is the
    /// checksum's business; the meter must not become the slowest part of what it measures.)
    pub(super) fn matches(offset: u32, data: &[u8]) -> bool {
        let right =
            |at: usize| data.get(at).is_none_or(|byte| *byte == BYTES[(offset as usize + at) % PERIOD]);
        let ends = 0..data.len().min(8);
        ends.clone().all(right) && ends.map(|back| data.len() - 1 - back).all(right)
    }
}

/// A piece of a message.
pub(super) struct Piece {
    bytes: Arc<[u8]>,
    offset: u32,
    len: u32,
}

impl Source for Piece {
    fn len(&self) -> u64 {
        self.len.into()
    }

    fn read_at(&self, offset: u64, mut out: &mut [u8]) {
        let mut at = ((u64::from(self.offset) + offset) % PERIOD as u64) as usize;
        while !out.is_empty() {
            let (now, later) = out.split_at_mut(out.len().min(PERIOD - at));
            now.copy_from_slice(&self.bytes[at..at + now.len()]);
            (out, at) = (later, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_matches_at_its_own_offset_only() {
        let pattern = Pattern::new();
        for (offset, len) in [(0, 1), (0, 64), (65_500, 100), (65_521, 30), (1 << 29, 200_000)] {
            let piece = pattern.piece(offset, len);
            let mut bytes = vec![0; len as usize];
            piece.read_at(0, &mut bytes);
            assert!(Pattern::matches(offset, &bytes), "{len} bytes at {offset}");
            assert!(len == 1 || !Pattern::matches(offset + 1, &bytes), "{len} bytes one further");
            *bytes.last_mut().unwrap() ^= 1;
            assert!(!Pattern::matches(offset, &bytes), "a wrong last byte");
        }
        assert!(Pattern::matches(7, &[]));
    }
}
