//! rtnetlink messages about interfaces: requests built, answers read. Bytes and values only.
//!
//! ```text
//!  nlmsghdr (16)                      ifinfomsg (16)                     attributes, each padded to 4
//!  | len | type | flags | seq | pid | family | type | index | flags … | len | type | value … | …
//! ```
//!
//! All numbers are in the machine's byte order. Answers come from the kernel, yet every length is checked: a message
//! that does not add up is skipped, never trusted.

use crate::Mac;

/// Bytes of a `nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of an `ifinfomsg`.
const INFO: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_INFO_KIND: u16 = 1;
/// Nested and byte-order marks in an attribute's type.
const TYPE_MASK: u16 = 0x3fff;

/// What the kernel counts for an interface. Frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Collisions of all kinds.
    pub collisions: u64,
    /// Received with a wrong checksum.
    pub rx_crc: u64,
    /// Received with a broken alignment.
    pub rx_frame: u64,
    /// Dropped on receive by the kernel or the card.
    pub rx_dropped: u64,
    /// Given up on transmit (excessive collisions).
    pub tx_aborted: u64,
    /// Not sent for want of a carrier.
    pub tx_carrier: u64,
    /// Transmit FIFO ran empty.
    pub tx_fifo: u64,
    /// Collisions outside the window.
    pub tx_window: u64,
}

/// One interface as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number, unique in its network namespace as long as it lives.
    pub index: i32,
    /// Its name.
    pub name: String,
    /// Its other names.
    pub alt_names: Vec<String>,
    /// `IFF_*`.
    pub flags: u32,
    /// `ARPHRD_*`: 1 is Ethernet, 772 the loopback.
    pub hardware: u16,
    /// Its address, when that has six bytes.
    pub mac: Mac,
    /// The address burnt in, when the kernel knows it.
    pub permanent_mac: Option<Mac>,
    /// Largest payload in bytes.
    pub mtu: u32,
    /// Kind of a virtual interface (`veth`, `bridge`, `tun`), empty for hardware.
    pub kind: String,
    /// The kernel's counters.
    pub counters: LinkCounters,
}

impl Link {
    /// Whether it is switched on (`ip link set … up`).
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// Whether it is switched on and has a carrier.
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        let both = libc::IFF_UP as u32 | libc::IFF_LOWER_UP as u32;
        self.flags & both == both
    }

    /// Whether it carries Ethernet frames.
    #[must_use]
    pub fn is_ethernet(&self) -> bool {
        self.hardware == libc::ARPHRD_ETHER
    }

    /// Whether it is called so, by its name or another of its names.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alt_names.iter().any(|other| other == name)
    }
}

/// Which interfaces a request asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which<'a> {
    All,
    Index(i32),
    Name(&'a str),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Link(Box<Link>),
    Done,
    /// An errno value; 0 is an acknowledgement.
    Error(i32),
}

/// A request with sequence number `seq`.
pub(super) fn request(which: Which<'_>, seq: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER + INFO];
    let dump = if which == Which::All { NLM_F_DUMP } else { 0 };
    bytes[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | dump).to_ne_bytes());
    bytes[8..12].copy_from_slice(&seq.to_ne_bytes());
    match which {
        Which::All => {}
        Which::Index(index) => bytes[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes()),
        Which::Name(name) => {
            // The kernel looks an "alternative" name up among the ordinary ones too, and takes 127 bytes of it.
            let len = 4 + name.len() + 1;
            bytes.extend_from_slice(&(len as u16).to_ne_bytes());
            bytes.extend_from_slice(&IFLA_ALT_IFNAME.to_ne_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes
}

/// The answers with sequence number `seq` in one datagram; others are skipped.
pub(super) fn answers(mut datagram: &[u8], seq: u32) -> Vec<Answer> {
    let mut found = Vec::new();
    while let Some(len) = u32_at(datagram, 0).map(|len| len as usize) {
        if len < HEADER || len > datagram.len() {
            break;
        }
        let body = &datagram[HEADER..len];
        if u32_at(datagram, 8) == Some(seq) {
            match u16_at(datagram, 4) {
                Some(NLMSG_DONE) => found.push(Answer::Done),
                Some(NLMSG_ERROR) => found.push(Answer::Error(-(u32_at(body, 0).unwrap_or(0) as i32))),
                Some(RTM_NEWLINK) => found.extend(link(body).map(|link| Answer::Link(Box::new(link)))),
                _ => {}
            }
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The interface that a RTM_NEWLINK body describes.
fn link(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        hardware: u16_at(body, 2)?,
        index: u32_at(body, 4)? as i32,
        flags: u32_at(body, 8)?,
        ..Link::default()
    };
    for (kind, value) in Attributes(body.get(INFO..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = mac(value).unwrap_or_default(),
            IFLA_PERM_ADDRESS => link.permanent_mac = mac(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_STATS64 => link.counters = counters(value),
            IFLA_PROP_LIST => {
                let names = Attributes(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                link.alt_names = names.map(|(_, name)| text(name)).collect();
            }
            IFLA_LINKINFO => {
                let kind = Attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = kind.map(|(_, name)| text(name)).unwrap_or_default();
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// `struct rtnl_link_stats64`, by position.
fn counters(value: &[u8]) -> LinkCounters {
    let at = |position: usize| {
        let bytes = value.get(position * 8..position * 8 + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    };
    LinkCounters {
        rx_dropped: at(6),
        collisions: at(9),
        rx_crc: at(12),
        rx_frame: at(13),
        tx_aborted: at(16),
        tx_carrier: at(17),
        tx_fifo: at(18),
        tx_window: at(20),
    }
}

/// Walks over attributes; stops at the first that does not fit.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn mac(value: &[u8]) -> Option<Mac> {
    value.try_into().ok().map(Mac)
}

/// Text up to its NUL.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [((4 + value.len()) as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn newlink(seq: u32) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend_from_slice(&1_u16.to_ne_bytes());
        body.extend_from_slice(&7_u32.to_ne_bytes());
        body.extend_from_slice(&((libc::IFF_UP | libc::IFF_LOWER_UP) as u32).to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend(attribute(IFLA_IFNAME, b"eth1\0"));
        body.extend(attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9]));
        body.extend(attribute(IFLA_MTU, &1500_u32.to_ne_bytes()));
        body.extend(attribute(
            IFLA_PROP_LIST | 0x8000,
            &attribute(IFLA_ALT_IFNAME, b"lan-behind-the-house\0"),
        ));
        body.extend(attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"veth\0")));
        let stats: Vec<u8> = (0..24_u64).flat_map(u64::to_ne_bytes).collect();
        body.extend(attribute(IFLA_STATS64, &stats));
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&seq.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn an_interface_is_read_with_all_its_names() {
        let found = answers(&newlink(5), 5);
        let [Answer::Link(link)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((link.index, link.name.as_str(), link.mtu), (7, "eth1", 1500));
        assert_eq!(link.mac, Mac([2, 0, 0, 0, 0, 9]));
        assert!(link.is_up() && link.has_carrier() && link.is_ethernet());
        assert!(link.is_called("eth1") && link.is_called("lan-behind-the-house") && !link.is_called("eth2"));
        assert_eq!(link.kind, "veth");
        assert_eq!((link.counters.rx_dropped, link.counters.rx_crc, link.counters.tx_window), (6, 12, 20));
    }

    #[test]
    fn answers_to_other_requests_are_skipped() {
        assert!(answers(&newlink(5), 6).is_empty());
    }

    #[test]
    fn every_lie_about_a_length_is_survived() {
        let good = newlink(5);
        for cut in 0..good.len() {
            let _ = answers(&good[..cut], 5);
        }
        for at in 0..good.len() {
            for value in [0, 1, 3, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = answers(&bad, 5);
            }
        }
    }

    #[test]
    fn a_request_states_its_own_length() {
        for which in
            [Which::All, Which::Index(3), Which::Name("eth1"), Which::Name("a-name-longer-than-fifteen")]
        {
            let bytes = request(which, 9);
            assert_eq!(u32_at(&bytes, 0), Some(bytes.len() as u32));
            assert_eq!(bytes.len() % 4, 0);
        }
    }
}
