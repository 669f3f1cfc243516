//! The tag of a VLAN (IEEE 802.1Q) in front of Qnet's ethertype.
//!
//! ```text
//!  0      6      12     14    16     18
//!  | dst  | src  | 8100 | tag | 8204 | two pad bytes and the packet …
//! ```
//!
//! With `vtag=N` every frame carries it, and frames of other VLANs or without a tag are not heard. Its four bytes are not
//! part of the packet: an interface that cannot send 1518 bytes needs `mtu_en=1496`.

use io_pkt_sdk::ETHERNET_HEADER;

/// Ethertype of a tag.
pub(crate) const ETHERTYPE: u16 = 0x8100;
/// Bytes of a tag.
pub(crate) const TAG: usize = 4;

/// Where the header of a frame ends, if it is one of ours: `inner` in VLAN `vlan`, or `inner` without a tag.
pub(crate) fn header_len(frame: &[u8], vlan: Option<u16>, inner: u16) -> Option<usize> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    match vlan {
        // The host has looked at the ethertype.
        None => Some(ETHERNET_HEADER),
        Some(vlan) => {
            let ours = word(12)? == ETHERTYPE && word(14)? & 0xfff == vlan && word(16)? == inner;
            ours.then_some(ETHERNET_HEADER + TAG)
        }
    }
}

/// Writes ethertype and tag behind the two addresses; returns the length of the header.
pub(crate) fn put_types(header: &mut [u8; ETHERNET_HEADER + TAG], vlan: Option<u16>, inner: u16) -> usize {
    match vlan {
        None => {
            header[12..14].copy_from_slice(&inner.to_be_bytes());
            ETHERNET_HEADER
        }
        Some(vlan) => {
            header[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
            header[14..16].copy_from_slice(&vlan.to_be_bytes());
            header[16..].copy_from_slice(&inner.to_be_bytes());
            ETHERNET_HEADER + TAG
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for vlan in [None, Some(1), Some(4094)] {
            let mut header = [0; ETHERNET_HEADER + TAG];
            let len = put_types(&mut header, vlan, 0x8204);
            assert_eq!(header_len(&header[..len], vlan, 0x8204), Some(len));
        }
    }

    #[test]
    fn frames_of_other_vlans_and_types_are_not_ours() {
        let mut header = [0; ETHERNET_HEADER + TAG];
        put_types(&mut header, Some(7), 0x8204);
        assert_eq!(header_len(&header, Some(8), 0x8204), None);
        assert_eq!(header_len(&header, Some(7), 0x0800), None);
        assert_eq!(header_len(&header[..16], Some(7), 0x8204), None, "cut short");
        put_types(&mut header, None, 0x8204);
        assert_eq!(header_len(&header, Some(7), 0x8204), None, "without a tag");
        // Priority bits do not count.
        put_types(&mut header, Some(7), 0x8204);
        header[14] |= 0xe0;
        assert_eq!(header_len(&header, Some(7), 0x8204), Some(18));
    }
}
