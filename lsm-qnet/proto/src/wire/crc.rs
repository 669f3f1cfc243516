//! The packets' checksum: CRC-32 with polynomial 0x04C11DB7, bits not reflected, initial value 0,
//! no final exclusive-or. In catalogue terms `width=32 poly=04c11db7 init=0 refin=false
//! refout=false xorout=0 check=89a1897f`.
//!
//! It covers the 36 header bytes with the checksum field taken as zero, then the payload; not the
//! two pad bytes before the header. For fragments it covers each fragment's own header and payload.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// The checksum's value for the nine bytes `123456789`, as the catalogues give it.
pub const CHECK: u32 = 0x89a1_897f;

/// The catalogue's algorithm of the same polynomial, whose tables are part of the program: it differs from ours in
/// its last step only, an exclusive-or with all ones.
const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc32Cksum;
const LAST_STEP: u64 = 0xffff_ffff;

/// The checksum.
#[derive(Clone, Copy, Debug)]
pub struct Crc(());

impl Crc {
    /// Ready at once.
    #[must_use]
    pub const fn new() -> Crc {
        Crc(())
    }

    /// The checksum of the pieces, one after the other. One piece is the fast case.
    #[must_use]
    pub fn of(&self, pieces: &[&[u8]]) -> u32 {
        let value = match pieces {
            [whole] => checksum(ALGORITHM, whole),
            _ => {
                let mut digest = Digest::new_with_init_state(ALGORITHM, 0);
                pieces.iter().for_each(|piece| digest.update(piece));
                digest.finalize()
            }
        };
        // The register is 32 bits wide; the library hands it over in a u64.
        ((value ^ LAST_STEP) & 0xffff_ffff) as u32
    }
}

impl Default for Crc {
    fn default() -> Crc {
        Crc::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_check_value_comes_out() {
        assert_eq!(Crc::new().of(&[b"123456789"]), CHECK);
        assert_eq!(Crc::new().of(&[b"1234", b"", b"56789"]), CHECK);
        assert_eq!(Crc::new().of(&[]), 0);
    }

    #[test]
    fn it_agrees_with_the_bit_by_bit_definition_at_every_length() {
        let bytes: Vec<u8> = (0..600u32).map(|i| (i * 37 % 251) as u8).collect();
        let crc = Crc::new();
        for len in 0..bytes.len() {
            let mut register = 0u32;
            for &byte in &bytes[..len] {
                register ^= u32::from(byte) << 24;
                for _ in 0..8 {
                    let top = register >> 31 != 0;
                    register = (register << 1) ^ if top { 0x04c1_1db7 } else { 0 };
                }
            }
            assert_eq!(crc.of(&[&bytes[..len]]), register, "{len} bytes");
            let (one, other) = bytes[..len].split_at(len / 3);
            assert_eq!(crc.of(&[one, other]), register, "{len} bytes in two pieces");
        }
    }
}
