//! The Internet checksum (RFC 1071): the ones' complement of the ones' complement sum of 16-bit words.
//!
//! Sums eight bytes at a time into 64 bits with the carry added back, which the compiler turns into plain additions;
//! the words may be added in any order and any width because carries are never lost. Every piece but the last must
//! have an even length: the caller's headers do.

/// A running sum.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes; an odd last byte counts as the high half of a word.
    pub(crate) fn add(self, bytes: &[u8]) -> Self {
        let (wide, rest) = bytes.as_chunks::<8>();
        let mut sum = self.0;
        for part in wide {
            let (added, carry) = sum.overflowing_add(u64::from_be_bytes(*part));
            sum = added + u64::from(carry);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let (added, carry) = sum.overflowing_add(u64::from_be_bytes(last));
        Self(added + u64::from(carry))
    }

    /// The sum as 16 bits, not yet complemented.
    pub(crate) fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum >> 48) + (sum >> 32 & 0xffff) + (sum >> 16 & 0xffff) + (sum & 0xffff);
        }
        sum as u16
    }
}

/// The checksum to be sent for a sum; 0 means "none" in UDP and is sent as its other representation.
pub(crate) fn finish(sum: u16) -> u16 {
    match !sum {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by the book: one word at a time.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn wide_sums_equal_the_sum_by_the_book() {
        let bytes: Vec<u8> = (0..2000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in [0, 1, 2, 3, 7, 8, 9, 20, 40, 63, 64, 65, 1460, 1999] {
            assert_eq!(Sum::default().add(&bytes[..len]).fold(), plain(&bytes[..len]), "{len} bytes");
        }
        assert_eq!(Sum::default().add(&[0xff; 4096]).fold(), 0xffff);
    }

    #[test]
    fn pieces_of_even_length_sum_like_the_whole() {
        let bytes: Vec<u8> = (0..255).collect();
        let pieces = Sum::default().add(&bytes[..20]).add(&bytes[20..22]).add(&bytes[22..]).fold();
        assert_eq!(pieces, plain(&bytes));
    }

    #[test]
    fn a_checksum_is_never_zero() {
        assert_eq!(finish(0xffff), 0xffff);
        assert_eq!(finish(0), 0xffff);
        assert_eq!(finish(0x1234), 0xedcb);
    }
}
