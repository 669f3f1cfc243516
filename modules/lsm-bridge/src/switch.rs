//! What a bridge does with one frame: the decision alone, without frames, ports or clocks of its own.
//!
//! | destination | verdict |
//! |---|---|
//! | address of one of our ports | local: the node's own protocols get it elsewhere |
//! | 01-80-c2-00-00-01 … 0f (one link only: pause, LACP, LLDP) | never forwarded |
//! | group or broadcast address | every port but the one it came from |
//! | heard behind the port it came from | nothing: it has arrived already (no hairpin) |
//! | heard behind another port | that port |
//! | not heard | every port but the one it came from |
//!
//! 01-80-c2-00-00-00 (spanning tree) is flooded: this bridge takes no part in the tree, and the switches around it
//! find a loop through it only if they hear each other.

use crate::table::{Learned, Table};

/// An Ethernet address.
pub type Mac = [u8; 6];
/// The host's id of an interface; never 0.
pub type PortId = u32;

/// Bytes of destination, source and ethertype.
pub(crate) const HEADER: usize = 14;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Out of this port.
    To(PortId),
    /// Out of every port but the one it came from.
    Flood,
    /// Nowhere.
    Drop(Reason),
}

/// Why a frame goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Shorter than an Ethernet header.
    Short,
    /// The source is a group address or all zero.
    BadSource,
    /// It is for the node itself.
    Local,
    /// Its address is reserved for a single link.
    OneLink,
    /// The station is behind the port the frame came from.
    SameSide,
    /// There is no other port.
    NoPort,
}

/// What a bridge counts. Frames, unless the name says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came in.
    pub received: u64,
    /// Frames sent to the one port behind which their station is.
    pub forwarded: u64,
    /// Frames sent to every other port.
    pub flooded: u64,
    /// Frames refused by an interface's queue (one per port).
    pub refused: u64,
    /// Dropped as [`Reason::Short`].
    pub short: u64,
    /// Dropped as [`Reason::BadSource`].
    pub bad_source: u64,
    /// Not forwarded: [`Reason::Local`].
    pub local: u64,
    /// Not forwarded: [`Reason::OneLink`].
    pub one_link: u64,
    /// Not forwarded: [`Reason::SameSide`].
    pub same_side: u64,
    /// Dropped as [`Reason::NoPort`].
    pub no_port: u64,
    /// Addresses learned.
    pub learned: u64,
    /// Addresses that turned up behind another port.
    pub moved: u64,
    /// Addresses pushed out of a full table before their time.
    pub evicted: u64,
}

/// The bridge's memory: addresses of the ports, addresses learned, counters.
#[derive(Debug)]
pub struct Switch {
    table: Table,
    ports: Vec<(PortId, Mac)>,
    /// What happened so far.
    pub counters: Counters,
}

impl Switch {
    /// A bridge without ports.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { table, ports: Vec::new(), counters: Counters::default() }
    }

    /// Adds a port, or tells the new address of one.
    pub fn set_port(&mut self, port: PortId, mac: Mac) {
        match self.ports.iter_mut().find(|(id, _)| *id == port) {
            Some(known) => known.1 = mac,
            None => self.ports.push((port, mac)),
        }
    }

    /// Takes a port away, and all that was learned behind it.
    pub fn remove_port(&mut self, port: PortId) {
        self.ports.retain(|(id, _)| *id != port);
        self.table.forget(port);
    }

    /// Forgets what was learned behind `port`, which stays a port.
    pub fn forget(&mut self, port: PortId) {
        self.table.forget(port);
    }

    /// Learns from a frame that came in by `port`, and says where it goes. `frame` is its beginning, at least
    /// `HEADER` bytes unless the whole frame is shorter.
    pub fn decide(&mut self, now: u64, port: PortId, frame: &[u8]) -> Verdict {
        self.counters.received += 1;
        let verdict = self.judge(now, port, frame);
        match verdict {
            Verdict::To(_) => self.counters.forwarded += 1,
            Verdict::Flood => self.counters.flooded += 1,
            Verdict::Drop(reason) => *self.counter(reason) += 1,
        }
        verdict
    }

    /// The ports, in the order in which they came.
    #[must_use]
    pub fn ports(&self) -> &[(PortId, Mac)] {
        &self.ports
    }

    /// The addresses learned.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn judge(&mut self, now: u64, port: PortId, frame: &[u8]) -> Verdict {
        let Some((destination, source)) = addresses(frame) else { return Verdict::Drop(Reason::Short) };
        if is_group(source) || source == [0; 6] {
            return Verdict::Drop(Reason::BadSource);
        }
        // A port's own address on the wire is the node speaking, not a station to be learned.
        if !self.is_ours(source) {
            match self.table.learn(now, source, port) {
                Learned::Refreshed => {}
                Learned::New => self.counters.learned += 1,
                Learned::Moved => self.counters.moved += 1,
                Learned::Evicted => {
                    self.counters.learned += 1;
                    self.counters.evicted += 1;
                }
            }
        }
        if is_group(destination) {
            if is_one_link(destination) {
                return Verdict::Drop(Reason::OneLink);
            }
            return self.flood();
        }
        if self.is_ours(destination) {
            return Verdict::Drop(Reason::Local);
        }
        match self.table.find(now, destination) {
            Some(known) if known == port => Verdict::Drop(Reason::SameSide),
            Some(known) => Verdict::To(known),
            None => self.flood(),
        }
    }

    fn flood(&self) -> Verdict {
        if self.ports.len() < 2 { Verdict::Drop(Reason::NoPort) } else { Verdict::Flood }
    }

    fn is_ours(&self, mac: Mac) -> bool {
        self.ports.iter().any(|(_, ours)| *ours == mac)
    }

    fn counter(&mut self, reason: Reason) -> &mut u64 {
        match reason {
            Reason::Short => &mut self.counters.short,
            Reason::BadSource => &mut self.counters.bad_source,
            Reason::Local => &mut self.counters.local,
            Reason::OneLink => &mut self.counters.one_link,
            Reason::SameSide => &mut self.counters.same_side,
            Reason::NoPort => &mut self.counters.no_port,
        }
    }
}

/// Destination and source of a frame that is long enough to have them.
fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let header = frame.get(..HEADER)?;
    Some((header[..6].try_into().ok()?, header[6..12].try_into().ok()?))
}

fn is_group(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

fn is_one_link(mac: Mac) -> bool {
    mac[..5] == [0x01, 0x80, 0xc2, 0x00, 0x00] && (0x01..=0x0f).contains(&mac[5])
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 0xa];
    const B: Mac = [2, 0, 0, 0, 0, 0xb];
    const ALL: Mac = [0xff; 6];

    fn switch(ports: u32) -> Switch {
        let mut switch = Switch::new(Table::new(64, 300, 1));
        for port in 1..=ports {
            switch.set_port(port, [6, 0, 0, 0, 0, port as u8]);
        }
        switch
    }

    fn frame(to: Mac, from: Mac) -> Vec<u8> {
        [to.as_slice(), &from, &[0x08, 0x00]].concat()
    }

    #[test]
    fn an_unknown_station_is_flooded_and_a_heard_one_is_not() {
        let mut switch = switch(3);
        assert_eq!(switch.decide(0, 1, &frame(B, A)), Verdict::Flood);
        assert_eq!(switch.decide(1, 2, &frame(A, B)), Verdict::To(1));
        assert_eq!(switch.decide(2, 1, &frame(B, A)), Verdict::To(2));
        assert_eq!((switch.counters.learned, switch.counters.forwarded, switch.counters.flooded), (2, 2, 1));
    }

    #[test]
    fn broadcast_goes_to_everybody_else_even_from_a_known_station() {
        let mut switch = switch(2);
        switch.decide(0, 1, &frame(ALL, A));
        assert_eq!(switch.decide(1, 1, &frame(ALL, A)), Verdict::Flood);
        assert_eq!(switch.decide(1, 1, &frame([0x33, 0x33, 0, 0, 0, 1], A)), Verdict::Flood);
    }

    #[test]
    fn a_frame_never_goes_back_out_of_its_port() {
        let mut switch = switch(2);
        switch.decide(0, 1, &frame(ALL, A));
        switch.decide(0, 1, &frame(ALL, B));
        assert_eq!(switch.decide(1, 1, &frame(B, A)), Verdict::Drop(Reason::SameSide));
    }

    #[test]
    fn a_station_that_moves_is_followed_by_its_next_frame() {
        let mut switch = switch(3);
        switch.decide(0, 1, &frame(ALL, A));
        switch.decide(1, 2, &frame(ALL, A));
        assert_eq!(switch.decide(2, 3, &frame(A, B)), Verdict::To(2));
        assert_eq!(switch.counters.moved, 1);
    }

    #[test]
    fn a_port_that_goes_is_forgotten_and_its_stations_are_flooded_again() {
        let mut switch = switch(3);
        switch.decide(0, 2, &frame(ALL, A));
        switch.remove_port(2);
        assert_eq!(switch.decide(1, 1, &frame(A, B)), Verdict::Flood);
        switch.remove_port(3);
        assert_eq!(switch.decide(2, 1, &frame(A, B)), Verdict::Drop(Reason::NoPort));
    }

    #[test]
    fn an_aged_station_is_flooded_again() {
        let mut switch = switch(2);
        switch.decide(0, 2, &frame(ALL, A));
        assert_eq!(switch.decide(300, 1, &frame(A, B)), Verdict::To(2));
        assert_eq!(switch.decide(301, 1, &frame(A, B)), Verdict::Flood);
    }

    #[test]
    fn frames_for_the_node_or_for_one_link_stay_here() {
        let mut switch = switch(2);
        assert_eq!(switch.decide(0, 1, &frame([6, 0, 0, 0, 0, 2], A)), Verdict::Drop(Reason::Local));
        let pause = [0x01, 0x80, 0xc2, 0, 0, 0x01];
        assert_eq!(switch.decide(0, 1, &frame(pause, A)), Verdict::Drop(Reason::OneLink));
        let spanning_tree = [0x01, 0x80, 0xc2, 0, 0, 0x00];
        assert_eq!(switch.decide(0, 1, &frame(spanning_tree, A)), Verdict::Flood);
    }

    #[test]
    fn the_nodes_own_address_is_not_learned_from_the_wire() {
        let mut switch = switch(2);
        switch.decide(0, 2, &frame(ALL, [6, 0, 0, 0, 0, 1]));
        assert!(switch.table().rows(0).is_empty());
    }

    #[test]
    fn damaged_frames_are_counted_and_dropped() {
        let mut switch = switch(2);
        assert_eq!(switch.decide(0, 1, &[0; 13]), Verdict::Drop(Reason::Short));
        assert_eq!(switch.decide(0, 1, &frame(A, ALL)), Verdict::Drop(Reason::BadSource));
        assert_eq!(switch.decide(0, 1, &frame(A, [0; 6])), Verdict::Drop(Reason::BadSource));
        assert_eq!((switch.counters.short, switch.counters.bad_source, switch.counters.received), (1, 2, 3));
    }
}
