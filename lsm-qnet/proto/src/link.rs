//! Links: the interfaces a node speaks on, and the addresses reached through them.
//!
//! The core knows a link by a number of the caller's choice and an address by its bytes. Whether
//! those bytes are an Ethernet address, an IPv4 or an IPv6 one is the carrier's business; only
//! discovery (`LR`) looks inside, because the wire format names Ethernet addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

    /// An address of the Internet protocol: 4 or 16 octets, and for UDP the port behind 16 octets (an
    /// IPv4 address is mapped into IPv6 there, so that no address has the six octets of Ethernet's).
    #[must_use]
    pub fn ip(ip: IpAddr, port: Option<u16>) -> LinkAddr {
        let mut bytes = [0; LONGEST];
        let octets = match (ip, port) {
            (IpAddr::V4(ip), None) => {
                bytes[..4].copy_from_slice(&ip.octets());
                return LinkAddr { len: 4, bytes };
            }
            (IpAddr::V4(ip), Some(_)) => ip.to_ipv6_mapped().octets(),
            (IpAddr::V6(ip), _) => ip.octets(),
        };
        bytes[..16].copy_from_slice(&octets);
        let Some(port) = port else { return LinkAddr { len: 16, bytes } };
        bytes[16..].copy_from_slice(&port.to_be_bytes());
        LinkAddr { len: 18, bytes }
    }

    /// The Internet address, when this is one, and the port of UDP.
    #[must_use]
    pub fn as_ip(&self) -> Option<(IpAddr, Option<u16>)> {
        match *self.as_bytes() {
            [a, b, c, d] => Some((IpAddr::V4(Ipv4Addr::new(a, b, c, d)), None)),
            ref bytes @ [.., high, low] if bytes.len() >= 16 => {
                let octets: [u8; 16] = bytes[..16].try_into().ok()?;
                let ip = IpAddr::V6(Ipv6Addr::from(octets));
                match bytes.len() {
                    16 => Some((ip, None)),
                    _ => Some((ip.to_canonical(), Some(u16::from_be_bytes([high, low])))),
                }
            }
            _ => None,
        }
    }

    /// Whether both belong to the same kind of carrier: Ethernet, the Internet protocol, UDP.
    #[must_use]
    pub fn is_like(&self, other: &LinkAddr) -> bool {
        let carrier = |len| if len == 4 { 16 } else { len };
        carrier(self.len) == carrier(other.len)
    }

    /// The last three octets, a port not counted: what the name of a node without one is made of.
    #[must_use]
    pub(crate) fn tail(&self) -> [u8; 3] {
        let octets = &self.as_bytes()[..usize::from(self.len).min(16)];
        let mut tail = [0; 3];
        let n = octets.len().min(3);
        tail[3 - n..].copy_from_slice(&octets[octets.len() - n..]);
        tail
    }

    /// The Ethernet address, when this is one (six bytes).
    #[must_use]
    pub fn as_mac(&self) -> Option<[u8; 6]> {
        self.as_bytes().try_into().ok()
    }
}

impl fmt::Display for LinkAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_ip() {
            Some((ip, None)) => return ip.fmt(f),
            Some((ip, Some(port))) => return SocketAddr::new(ip, port).fmt(f),
            None => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_comes_back_as_it_was_given() {
        for (text, port) in
            [("10.1.2.3", None), ("fd00::7", None), ("10.1.2.3", Some(33_284)), ("::1", Some(7))]
        {
            let ip: IpAddr = text.parse().unwrap();
            let addr = LinkAddr::ip(ip, port);
            assert_eq!(addr.as_ip(), Some((ip, port)), "{addr}");
            assert_eq!(addr.as_mac(), None, "{addr}");
        }
        assert_eq!(LinkAddr::mac([2, 0, 0, 1, 2, 3]).as_ip(), None);
    }

    #[test]
    fn addresses_read_as_people_write_them() {
        let show = |ip: &str, port| LinkAddr::ip(ip.parse().unwrap(), port).to_string();
        assert_eq!(show("10.1.2.3", None), "10.1.2.3");
        assert_eq!(show("10.1.2.3", Some(80)), "10.1.2.3:80");
        assert_eq!(show("fd00::7", Some(80)), "[fd00::7]:80");
        assert_eq!(LinkAddr::mac([2, 0, 0, 1, 2, 3]).to_string(), "02:00:00:01:02:03");
    }

    #[test]
    fn the_tail_is_the_address_without_its_port() {
        let tail = |ip: &str, port| LinkAddr::ip(ip.parse().unwrap(), port).tail();
        assert_eq!(tail("10.1.2.3", None), [1, 2, 3]);
        assert_eq!(tail("10.1.2.3", Some(0x0405)), [1, 2, 3]);
        assert_eq!(tail("fd00::a1:b2c3", None), [0xa1, 0xb2, 0xc3]);
    }
}
