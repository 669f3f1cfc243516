//! The address of a port without `mac=`: the same at every start.
//!
//! A node that is started again is then taken for itself at once; with another address each time the others would have
//! to find out first that its former one is dead. The address is a hash of what makes the port this one and no other:
//! machine, host name, node (root directory), interface and segment. Two ports that agree in all of that (containers
//! made from one image) are told apart when the second one enters the segment: it takes the next address.

use std::fs;

use io_pkt_sdk::Mac;
use nix::unistd::gethostname;

/// Files with a number that this installation of the system has alone.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// What the address of a port is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    text: String,
}

impl Origin {
    /// The port `interface` of the node at `root`, in the segment at `path`, on this machine.
    pub(crate) fn here(root: &str, interface: &str, path: &str) -> Self {
        let machine = MACHINE_IDS.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let host = gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self::new(&[machine.trim(), &host, root, interface, path])
    }

    /// The parts cannot run into each other: none has a NUL.
    fn new(parts: &[&str]) -> Self {
        Self { text: parts.join("\0") }
    }

    /// The first of its addresses that is not in `taken`.
    pub(crate) fn address(&self, taken: &[Mac]) -> Mac {
        let mut addresses = (0..=taken.len() as u64).map(|turn| self.candidate(turn));
        // Of one address more than there are in `taken` one is free, unless two of them are equal by chance.
        addresses.find(|mac| !taken.contains(mac)).unwrap_or_else(|| self.candidate(u64::MAX))
    }

    fn candidate(&self, turn: u64) -> Mac {
        let bytes = self.text.bytes().chain(turn.to_le_bytes());
        // FNV-1a, and a last stir, because only some of its bits are used.
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let [a, b, c, d, e, f, ..] = (hash ^ hash >> 32).to_le_bytes();
        Mac::local([a, b, c, d, e, f])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [&str; 5] = ["0123456789abcdef", "alonzo", "/run/io-pkt", "en0", "/tmp/segment"];

    #[test]
    fn a_port_has_the_same_address_at_every_start() {
        let mac = Origin::new(&PARTS).address(&[]);
        assert_eq!(Origin::new(&PARTS).address(&[]), mac);
        assert!(mac.is_local() && !mac.is_group());
        assert_eq!(Origin::here("/r", "en0", "/s"), Origin::here("/r", "en0", "/s"));
    }

    #[test]
    fn whatever_differs_makes_another_address() {
        let mac = Origin::new(&PARTS).address(&[]);
        for at in 0..PARTS.len() {
            let mut parts = PARTS;
            parts[at] = "other";
            assert_ne!(Origin::new(&parts).address(&[]), mac, "{}", PARTS[at]);
        }
        assert_ne!(Origin::new(&["ab", "c"]).address(&[]), Origin::new(&["a", "bc"]).address(&[]));
    }

    #[test]
    fn addresses_that_are_taken_are_left_out() {
        let origin = Origin::new(&PARTS);
        let mut taken = Vec::new();
        for _ in 0..100 {
            let mac = origin.address(&taken);
            assert!(!taken.contains(&mac) && mac.is_local() && !mac.is_group());
            taken.push(mac);
        }
    }
}
