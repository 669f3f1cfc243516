//! The address table: which station was last heard behind which port.
//!
//! Sets of four entries, as in a hardware switch: an address belongs to one set, and when the set is full the entry
//! that was silent longest makes room. Memory is fixed when the table is made, and a look-up touches one set. Time is
//! an argument, in nanoseconds of any monotonic clock; nothing here reads a clock, and nothing allocates after `new`.
//!
//! ```text
//!  address ── hash with a secret ──► set ──► [ entry | entry | entry | entry ]
//! ```
//!
//! The secret keeps a station on the wire from aiming at one set on purpose.

use crate::switch::{Mac, PortId};

/// Entries of a set.
const WAYS: usize = 4;

/// One learned address. `port` 0 marks a free place (the host never gives an interface the id 0).
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    mac: u64,
    port: PortId,
    seen: u64,
}

/// What [`Table::learn`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The address was known behind this port; its age starts anew.
    Refreshed,
    /// The address is new.
    New,
    /// The address was known behind another port.
    Moved,
    /// The address is new, and a living entry had to make room for it.
    Evicted,
}

/// A row of the table for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The station's address.
    pub mac: Mac,
    /// The port behind which it was heard.
    pub port: PortId,
    /// Nanoseconds since it was heard last.
    pub idle: u64,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    sets: Box<[[Entry; WAYS]]>,
    secret: u64,
    age: u64,
}

impl Table {
    /// A table with room for `capacity` addresses (rounded up to a power of two, at least one set) that forgets an
    /// address `age` nanoseconds after it was last heard. `age` 0 keeps addresses until they are pushed out.
    #[must_use]
    pub fn new(capacity: usize, age: u64, secret: u64) -> Self {
        let sets = capacity.div_ceil(WAYS).max(1).next_power_of_two();
        Self { sets: vec![[Entry::default(); WAYS]; sets].into_boxed_slice(), secret, age }
    }

    /// Notes that `mac` was heard behind `port`.
    pub fn learn(&mut self, now: u64, mac: Mac, port: PortId) -> Learned {
        let key = key(mac);
        let age = self.age;
        let set = self.set(key);
        if let Some(entry) = set.iter_mut().find(|entry| entry.port != 0 && entry.mac == key) {
            let stale = expired(entry, now, age);
            let moved = entry.port != port;
            *entry = Entry { mac: key, port, seen: now };
            return match (stale, moved) {
                (true, _) => Learned::New,
                (false, true) => Learned::Moved,
                (false, false) => Learned::Refreshed,
            };
        }
        let place = set
            .iter_mut()
            .min_by_key(|entry| if entry.port == 0 { (0, 0) } else { (1, entry.seen) })
            .expect("a set has four places");
        let evicted = place.port != 0 && !expired(place, now, age);
        *place = Entry { mac: key, port, seen: now };
        if evicted { Learned::Evicted } else { Learned::New }
    }

    /// The port behind which `mac` was heard, unless that is too long ago.
    #[must_use]
    pub fn find(&mut self, now: u64, mac: Mac) -> Option<PortId> {
        let key = key(mac);
        let age = self.age;
        let entry = self.set(key).iter().find(|entry| entry.port != 0 && entry.mac == key)?;
        (!expired(entry, now, age)).then_some(entry.port)
    }

    /// Forgets every address behind `port`; returns how many there were.
    pub fn forget(&mut self, port: PortId) -> usize {
        let mut gone = 0;
        for entry in self.sets.iter_mut().flatten().filter(|entry| entry.port == port && port != 0) {
            *entry = Entry::default();
            gone += 1;
        }
        gone
    }

    /// The living entries, sorted by port and address.
    #[must_use]
    pub fn rows(&self, now: u64) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .sets
            .iter()
            .flatten()
            .filter(|entry| entry.port != 0 && !expired(entry, now, self.age))
            .map(|entry| Row {
                mac: unkey(entry.mac),
                port: entry.port,
                idle: now.saturating_sub(entry.seen),
            })
            .collect();
        rows.sort_by_key(|row| (row.port, row.mac));
        rows
    }

    /// Addresses that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    fn set(&mut self, key: u64) -> &mut [Entry; WAYS] {
        let mixed = (key ^ self.secret).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let index = (mixed ^ (mixed >> 32)) as usize & (self.sets.len() - 1);
        &mut self.sets[index]
    }
}

/// An age of 0 never expires.
fn expired(entry: &Entry, now: u64, age: u64) -> bool {
    age != 0 && now.saturating_sub(entry.seen) > age
}

fn key(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn unkey(key: u64) -> Mac {
    let [_, _, a, b, c, d, e, f] = key.to_be_bytes();
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn station(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        [2, 0, a, b, c, d]
    }

    #[test]
    fn an_address_is_found_behind_the_port_that_heard_it_last() {
        let mut table = Table::new(64, 300 * SECOND, 1);
        assert_eq!(table.learn(0, station(1), 7), Learned::New);
        assert_eq!(table.find(1, station(1)), Some(7));
        assert_eq!(table.learn(2, station(1), 7), Learned::Refreshed);
        assert_eq!(table.learn(3, station(1), 8), Learned::Moved);
        assert_eq!(table.find(4, station(1)), Some(8));
        assert_eq!(table.find(4, station(2)), None);
    }

    #[test]
    fn a_silent_address_is_forgotten_after_the_age() {
        let mut table = Table::new(64, 300 * SECOND, 1);
        table.learn(0, station(1), 7);
        assert_eq!(table.find(300 * SECOND, station(1)), Some(7));
        assert_eq!(table.find(300 * SECOND + 1, station(1)), None);
        assert!(table.rows(301 * SECOND).is_empty());
        assert_eq!(table.learn(301 * SECOND, station(1), 8), Learned::New, "an expired entry does not move");
    }

    #[test]
    fn age_zero_keeps_addresses() {
        let mut table = Table::new(64, 0, 1);
        table.learn(0, station(1), 7);
        assert_eq!(table.find(u64::MAX, station(1)), Some(7));
    }

    #[test]
    fn a_full_table_gives_up_the_address_that_was_silent_longest() {
        let mut table = Table::new(4, 300 * SECOND, 1);
        assert_eq!(table.capacity(), 4);
        for n in 0..4 {
            assert_eq!(table.learn(u64::from(n) + 1, station(n), 7), Learned::New);
        }
        table.learn(10, station(0), 7);
        assert_eq!(table.learn(11, station(9), 7), Learned::Evicted);
        assert_eq!(table.find(12, station(1)), None);
        assert_eq!(table.find(12, station(0)), Some(7));
        assert_eq!(table.rows(12).len(), 4);
    }

    #[test]
    fn an_expired_address_makes_room_without_counting_as_evicted() {
        let mut table = Table::new(4, SECOND, 1);
        for n in 0..4 {
            table.learn(0, station(n), 7);
        }
        assert_eq!(table.learn(2 * SECOND, station(9), 7), Learned::New);
    }

    #[test]
    fn a_port_that_goes_takes_its_addresses_along() {
        let mut table = Table::new(1024, 0, 0x1234);
        for n in 0..100 {
            table.learn(0, station(n), 1 + n % 2);
        }
        assert_eq!(table.forget(1), 50);
        assert_eq!(table.forget(1), 0);
        assert_eq!(table.forget(0), 0, "0 is no port");
        assert!(table.rows(0).iter().all(|row| row.port == 2));
        assert_eq!(table.rows(0).len(), 50);
    }

    #[test]
    fn many_addresses_fit_nearly_to_capacity() {
        let mut table = Table::new(4096, 0, 0xdead_beef);
        for n in 0..2048 {
            table.learn(u64::from(n), station(n), 1);
        }
        assert!(table.rows(0).len() > 1900, "sets overflow too early: {}", table.rows(0).len());
    }
}
