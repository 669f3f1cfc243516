//! The first packet on every connection, in both directions: who is there, and which frames it wants.
//!
//! ```text
//!  0        4         6       8             14         16
//!  | "ioSG" | version | wants | address (6) | reserved |       numbers in the machine's byte order: one machine
//! ```
//!
//! Every later packet is one Ethernet frame. A port that has not greeted yet gets every frame; each port also looks at
//! what arrives, so a filter on the sending side only saves work.

use io_pkt_sdk::Mac;

/// Bytes of a greeting.
pub(crate) const LEN: usize = 16;

const MAGIC: [u8; 4] = *b"ioSG";
const VERSION: u16 = 1;
const PROMISCUOUS: u16 = 1;
const MULTICAST: u16 = 2;

/// What a port wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// Its address.
    pub(crate) mac: Mac,
    /// Everything, whatever its destination.
    pub(crate) promiscuous: bool,
    /// All multicast.
    pub(crate) multicast: bool,
}

/// Why a packet is no greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoGreeting {
    /// It is something else.
    #[error("it does not speak this protocol")]
    Foreign,
    /// It speaks another version.
    #[error("it speaks version {0} of the segment, this driver speaks version {VERSION}")]
    Version(u16),
}

impl Greeting {
    pub(crate) fn emit(&self) -> [u8; LEN] {
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        let wants = flag(self.promiscuous, PROMISCUOUS) | flag(self.multicast, MULTICAST);
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_ne_bytes());
        bytes[6..8].copy_from_slice(&wants.to_ne_bytes());
        bytes[8..14].copy_from_slice(&self.mac.0);
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NoGreeting> {
        let bytes: &[u8; LEN] = bytes.first_chunk().ok_or(NoGreeting::Foreign)?;
        let [a, b, c, d, e, f, g, h, mac @ .., _, _] = *bytes;
        if [a, b, c, d] != MAGIC {
            return Err(NoGreeting::Foreign);
        }
        let (version, wants) = (u16::from_ne_bytes([e, f]), u16::from_ne_bytes([g, h]));
        if version != VERSION {
            return Err(NoGreeting::Version(version));
        }
        Ok(Self { mac: Mac(mac), promiscuous: wants & PROMISCUOUS != 0, multicast: wants & MULTICAST != 0 })
    }

    /// Whether a frame for `destination` is to be heard.
    #[inline]
    pub(crate) fn wants(&self, destination: Mac) -> bool {
        self.promiscuous
            || destination == self.mac
            || destination == Mac::BROADCAST
            || (self.multicast && destination.is_group())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: Greeting = Greeting { mac: Mac([2, 0, 0, 0, 0, 7]), promiscuous: false, multicast: true };

    #[test]
    fn what_is_said_is_understood() {
        for promiscuous in [false, true] {
            for multicast in [false, true] {
                let greeting = Greeting { promiscuous, multicast, ..GREETING };
                assert_eq!(Greeting::parse(&greeting.emit()), Ok(greeting));
            }
        }
    }

    #[test]
    fn other_packets_are_no_greetings() {
        let good = GREETING.emit();
        for len in 0..LEN {
            assert_eq!(Greeting::parse(&good[..len]), Err(NoGreeting::Foreign));
        }
        let mut newer = good;
        newer[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(Greeting::parse(&newer), Err(NoGreeting::Version(2)));
        let mut other = good;
        other[0] = b'x';
        assert_eq!(Greeting::parse(&other), Err(NoGreeting::Foreign));
    }

    #[test]
    fn a_port_hears_what_an_ethernet_card_would() {
        let (own, other, group) = (GREETING.mac, Mac([2, 0, 0, 0, 0, 8]), Mac([0x33, 0x33, 0, 0, 0, 1]));
        let plain = Greeting { multicast: false, ..GREETING };
        let everything = Greeting { promiscuous: true, ..plain };
        assert!(GREETING.wants(own) && GREETING.wants(Mac::BROADCAST) && GREETING.wants(group));
        assert!(!GREETING.wants(other));
        assert!(plain.wants(Mac::BROADCAST) && !plain.wants(group));
        assert!(everything.wants(other) && everything.wants(group));
    }
}
