//! The packets' checksum: CRC-32 with polynomial 0x04C11DB7, bits not reflected, initial value 0,
//! no final exclusive-or. In catalogue terms `width=32 poly=04c11db7 init=0 refin=false
//! refout=false xorout=0 check=89a1897f`.
//!
//! It covers the 36 header bytes with the checksum field taken as zero, then the payload; not the
//! two pad bytes before the header. For fragments it covers each fragment's own header and payload.

use crc_fast::{CrcParams, Digest};

/// The checksum's value for the nine bytes `123456789`, as the catalogues give it.
pub const CHECK: u32 = 0x89a1_897f;

/// Ready-made tables of the checksum.
#[derive(Clone, Copy, Debug)]
pub struct Crc {
    params: CrcParams,
}

impl Crc {
    /// Prepares the tables.
    #[must_use]
    pub fn new() -> Crc {
        Crc { params: CrcParams::new("LWL4", 32, 0x04c1_1db7, 0, false, 0, u64::from(CHECK)) }
    }

    /// The checksum of the pieces, one after the other.
    #[must_use]
    pub fn of(&self, pieces: &[&[u8]]) -> u32 {
        let mut digest = Digest::new_with_params(self.params);
        for piece in pieces {
            digest.update(piece);
        }
        // The register is 32 bits wide; the library hands it over in a u64.
        (digest.finalize() & 0xffff_ffff) as u32
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
        }
    }
}
