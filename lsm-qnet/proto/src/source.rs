//! Where the bytes of an outgoing message come from.
//!
//! The core never asks for a whole message: it reads the piece that fits the frame at hand,
//! straight into the frame, and reads it again if the frame has to be repeated, until the message
//! is acknowledged, which is when the core drops the source. Its length must not change.
//!
//! Its bytes may: a source can be memory that is shared with the program whose message it is. The
//! core never looks at them where they lie. Checksums are made over the copy in the frame, so each
//! frame is whole in itself. A program that changes its message while it is sent may have any piece
//! of it arrive as it was at any moment in between: bytes that it wrote there itself, as when it
//! changes a buffer that a system call is reading. Others' messages are never touched by it.

use std::fmt;
use std::sync::Arc;

/// Bytes that can be read at any offset, any number of times.
pub trait Source {
    /// Length in bytes; constant for the life of the source.
    fn len(&self) -> u64;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from `offset` on. The core asks for no byte at or past [`Source::len`].
    fn read_at(&self, offset: u64, out: &mut [u8]);
}

impl Source for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        let start = usize::try_from(offset).expect("an offset below len fits usize");
        out.copy_from_slice(&self[start..start + out.len()]);
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        self.as_slice().read_at(offset, out);
    }
}

impl<const N: usize> Source for [u8; N] {
    fn len(&self) -> u64 {
        N as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        self.as_slice().read_at(offset, out);
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        (**self).read_at(offset, out);
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        (**self).read_at(offset, out);
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        (**self).read_at(offset, out);
    }
}

/// Two sources one behind the other: a header and its data, without copying either.
impl<A: Source, B: Source> Source for (A, B) {
    fn len(&self) -> u64 {
        self.0.len() + self.1.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        let head = self.0.len();
        if offset >= head {
            return self.1.read_at(offset - head, out);
        }
        let left = usize::try_from(head - offset).unwrap_or(usize::MAX);
        if out.len() <= left {
            return self.0.read_at(offset, out);
        }
        let (front, back) = out.split_at_mut(left);
        self.0.read_at(offset, front);
        self.1.read_at(0, back);
    }
}

/// The data of an outgoing message. Plain vectors, the usual case, are held without a box.
pub enum Body {
    /// Bytes owned by the message.
    Bytes(Vec<u8>),
    /// Anything else.
    Source(Box<dyn Source + Send>),
}

impl Body {
    /// No data.
    #[must_use]
    pub const fn empty() -> Body {
        Body::Bytes(Vec::new())
    }

    /// A body read from `source` piece by piece.
    #[must_use]
    pub fn from_source(source: impl Source + Send + 'static) -> Body {
        Body::Source(Box::new(source))
    }

    /// Only its first `len` bytes.
    #[must_use]
    pub(crate) fn cut(self, len: u64) -> Body {
        if self.len() <= len {
            return self;
        }
        match self {
            Body::Bytes(mut bytes) => {
                bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
                Body::Bytes(bytes)
            }
            Body::Source(source) => Body::from_source(Cut { source, len }),
        }
    }
}

/// The beginning of a source.
struct Cut {
    source: Box<dyn Source + Send>,
    len: u64,
}

impl Source for Cut {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        self.source.read_at(offset, out);
    }
}

impl Source for Body {
    fn len(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.as_slice().len() as u64,
            Body::Source(source) => source.len(),
        }
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        match self {
            Body::Bytes(bytes) => bytes.as_slice().read_at(offset, out),
            Body::Source(source) => source.read_at(offset, out),
        }
    }
}

impl Default for Body {
    fn default() -> Body {
        Body::empty()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::Bytes(bytes)
    }
}

impl From<&[u8]> for Body {
    /// Copies the bytes.
    fn from(bytes: &[u8]) -> Body {
        Body::Bytes(bytes.to_vec())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_reads_across_its_seam_at_every_offset_and_length() {
        let pair = (vec![1u8, 2, 3], vec![4u8, 5]);
        let whole = [1u8, 2, 3, 4, 5];
        for start in 0..5 {
            for end in start..=5 {
                let mut out = vec![0; end - start];
                pair.read_at(start as u64, &mut out);
                assert_eq!(out, whole[start..end], "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_body_reads_the_same_from_a_vector_and_from_a_boxed_source() {
        let bytes = vec![9u8, 8, 7, 6];
        let boxed = Body::from_source(Arc::<[u8]>::from(bytes.as_slice()));
        let plain = Body::from(bytes);
        let (mut a, mut b) = ([0; 2], [0; 2]);
        boxed.read_at(1, &mut a);
        plain.read_at(1, &mut b);
        assert_eq!(a, b);
        assert_eq!(boxed.len(), plain.len());
    }
}
