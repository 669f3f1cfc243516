//! Why frames are dropped, and how often.
//!
//! Every frame that io-pkt itself drops is counted under one of these reasons; `nicinfo` and the control server show
//! them. Frames that the kernel or a device lost before are in the driver's own counters.

use ctl::DropCount;

/// Why a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// No protocol asked for its ethertype.
    NoProtocol,
    /// The interface's send queue is full.
    TxQueueFull,
    /// All send queues together hold half of the pool.
    PoolReserve,
    /// A protocol sent to an interface that is not there (any more).
    NoInterface,
    /// Shorter than an Ethernet header.
    Runt,
    /// More pieces than a frame may have, or the last piece is missing.
    BadChain,
    /// A module passed a descriptor that it does not hold.
    BadDescriptor,
    /// A driver delivered more in one call than the switchboard takes.
    RxBurst,
    /// It waited for a use that was unmounted or failed.
    UseGone,
}

/// All reasons with their stable word and their meaning.
const REASONS: [(DropReason, &str, &str); 9] = [
    (DropReason::NoProtocol, "no-protocol", "no mounted protocol asked for frames of this ethertype"),
    (
        DropReason::TxQueueFull,
        "tx-queue-full",
        "the send queue is full: the device is slower than the traffic",
    ),
    (
        DropReason::PoolReserve,
        "pool-reserve",
        "send queues hold the part of the packet pool that is theirs: give io-pkt more --chunks",
    ),
    (DropReason::NoInterface, "no-interface", "sent to an interface that is not mounted any more"),
    (DropReason::Runt, "runt", "shorter than an Ethernet header"),
    (DropReason::BadChain, "bad-chain", "too many pieces, or the last piece is missing: a fault in a module"),
    (
        DropReason::BadDescriptor,
        "bad-descriptor",
        "a module passed a chunk that it does not hold: a fault in it",
    ),
    (
        DropReason::RxBurst,
        "rx-burst",
        "the driver delivered more at once than it was asked for: a fault in it",
    ),
    (DropReason::UseGone, "use-gone", "waited for a driver or protocol that was unmounted or failed"),
];

/// Drop counters, one for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; REASONS.len()]);

impl Drops {
    /// Counts frames.
    #[inline]
    pub fn count(&mut self, reason: DropReason, frames: u64) {
        self.0[reason as usize] += frames;
    }

    /// Adds the counters of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Frames dropped for one reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// The counters that are not zero, for people.
    #[must_use]
    pub fn report(&self) -> Vec<DropCount> {
        let counted = REASONS.iter().filter(|(reason, ..)| self.of(*reason) > 0);
        counted
            .map(|(reason, word, meaning)| DropCount {
                reason: (*word).to_owned(),
                meaning: (*meaning).to_owned(),
                count: self.of(*reason),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_place() {
        for (at, (reason, ..)) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, at);
        }
    }

    #[test]
    fn zeros_are_left_out_and_sums_add_up() {
        let mut drops = Drops::default();
        assert!(drops.report().is_empty());
        drops.count(DropReason::Runt, 2);
        let mut sum = drops;
        sum.add(&drops);
        let report = sum.report();
        assert_eq!(report.len(), 1);
        assert_eq!((report[0].reason.as_str(), report[0].count), ("runt", 4));
    }
}
