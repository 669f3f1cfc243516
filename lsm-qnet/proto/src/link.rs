//! Links: the interfaces a node speaks on, and the addresses reached through them.
//!
//! The core knows a link by a number of the caller's choice and an address by its bytes. Whether
//! those bytes are an Ethernet address, an IPv4 or an IPv6 one is the carrier's business; only
//! discovery (`LR`) looks inside, because the wire format names Ethernet addresses.

use std::fmt;

/// The caller's number of a link. Never reused while a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// Longest address: an IPv6 address with its port.
const LONGEST: usize = 18;

/// An opaque address on a link, up to 18 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkAddr {
    len: u8,
    bytes: [u8; LONGEST],
}

impl LinkAddr {
    /// An Ethernet address.
    #[must_use]
    pub const fn mac(mac: [u8; 6]) -> LinkAddr {
        let mut bytes = [0; LONGEST];
        let mut i = 0;
        while i < 6 {
            bytes[i] = mac[i];
            i += 1;
        }
        LinkAddr { len: 6, bytes }
    }

    /// An address of any carrier; `None` when it is empty or longer than 18 bytes.
    #[must_use]
    pub fn new(address: &[u8]) -> Option<LinkAddr> {
        if address.is_empty() || address.len() > LONGEST {
            return None;
        }
        let mut bytes = [0; LONGEST];
        bytes[..address.len()].copy_from_slice(address);
        Some(LinkAddr { len: u8::try_from(address.len()).ok()?, bytes })
    }

    /// The address's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The Ethernet address, when this is one (six bytes).
    #[must_use]
    pub fn as_mac(&self) -> Option<[u8; 6]> {
        self.as_bytes().try_into().ok()
    }
}

impl fmt::Display for LinkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.as_bytes().iter().enumerate() {
            if i > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for LinkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkAddr({self})")
    }
}

/// What the caller tells about a link when it comes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// This node's own address on the link.
    pub addr: LinkAddr,
    /// Largest carrier payload in bytes (Ethernet: 1500), our two pad bytes included.
    pub mtu: u32,
    /// Name for people and for the quality-of-service policies: `en0`.
    pub name: String,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To every node on the link.
    Broadcast,
    /// To one address.
    Unicast(LinkAddr),
}

/// A frame that [`Node::poll_transmit`](crate::Node::poll_transmit) wrote into the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The link to send it on.
    pub link: LinkId,
    /// Whom to send it to; the caller puts the carrier's header (Ethernet: ethertype `0x8204`).
    pub dst: Destination,
    /// Bytes written: everything behind the carrier's header, beginning with the two pad bytes.
    pub len: usize,
}
