//! Ethernet frames with an experimental ethertype, and their addresses.

use anyhow::{Context, Result, ensure};

/// Source address of the generator's frames.
pub const GENERATOR: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0a];

/// A frame of `len` bytes with an experimental ethertype.
#[must_use]
pub fn frame(destination: [u8; 6], source: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = vec![0xa5; len];
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&source);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// Reads an Ethernet address.
///
/// # Errors
/// It is none.
pub fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut mac {
        let part = parts.next().with_context(|| format!("`{text}` is no Ethernet address"))?;
        *octet = u8::from_str_radix(part, 16).with_context(|| format!("`{text}` is no Ethernet address"))?;
    }
    ensure!(parts.next().is_none(), "`{text}` is longer than an Ethernet address");
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_has_six_octets() {
        assert_eq!(parse_mac("02:00:00:00:00:0a").ok(), Some(GENERATOR));
        for wrong in ["", "02:00:00:00:00", "02:00:00:00:00:0a:0b", "02:00:00:00:00:zz"] {
            assert!(parse_mac(wrong).is_err(), "{wrong}");
        }
    }
}
