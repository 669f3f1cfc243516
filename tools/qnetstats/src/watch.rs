//! `qnetstats -w`: what moves between this node and the others, from the differences of two texts.
//!
//! ```text
//!   joseph.lab (nd 3): up for 1 min 0 s; heard 0.1 s ago
//!     sent             10 packets, 1 of them again, 5120 bytes
//!     received         20 packets, 2 a second time, 3 dropped, 20480 bytes
//! ```
//!
//! Bytes are those behind the packets' headers. A node whose counters went back was forgotten in between, and has begun anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// What one text says of a node since the node is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    sent: u64,
    again: u64,
    sent_bytes: u64,
    received: u64,
    received_bytes: u64,
}

/// The counters of all nodes in one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<String, Totals>);

impl Snapshot {
    /// Reads the text of the statistics. Nodes that it says no counters of are left out.
    pub(crate) fn read(text: &str) -> Self {
        let mut nodes: BTreeMap<String, Totals> = BTreeMap::new();
        let mut node = None;
        for line in text.lines() {
            if !line.starts_with("    ") {
                node = line.strip_prefix("  ").and_then(|line| Some(line.split_once(" (nd ")?.0.to_owned()));
                continue;
            }
            let Some(name) = &node else { continue };
            let (words, numbers) = split(line);
            let totals = match (words.first(), numbers.as_slice()) {
                (Some(&"sent"), &[sent, again, sent_bytes]) => {
                    Totals { sent, again, sent_bytes, ..Totals::default() }
                }
                (Some(&"received"), &[received, _, _, received_bytes]) => {
                    Totals { received, received_bytes, ..Totals::default() }
                }
                _ => continue,
            };
            let known = nodes.entry(name.clone()).or_default();
            *known = known.combine(totals, |a, b| a + b);
        }
        Self(nodes)
    }

    /// A line for each node with which something moved since `before`, or one that says that nothing did.
    pub(crate) fn since(&self, before: &Self, time: Duration) -> String {
        let mut text = String::new();
        let seconds = time.as_secs_f64().max(f64::EPSILON);
        for (name, now) in &self.0 {
            let then = before.0.get(name).copied().unwrap_or_default();
            let begun_anew = now.sent < then.sent || now.received < then.received;
            let moved = if begun_anew { *now } else { now.combine(then, u64::saturating_sub) };
            if moved == Totals::default() {
                continue;
            }
            let rate = |count: u64, unit: f64| count as f64 / unit / seconds;
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "{name:<20} {:>10.2} {:>10.2} {:>10.0} {:>10.0} {:>8.0}",
                rate(moved.sent_bytes, 1e6),
                rate(moved.received_bytes, 1e6),
                rate(moved.sent, 1.0),
                rate(moved.received, 1.0),
                rate(moved.again, 1.0),
            );
        }
        if text.is_empty() { "nothing moves\n".to_owned() } else { text }
    }
}

/// What stands above the lines.
pub(crate) const HEAD: &str = "\
node                  MB/s sent   received  pkt/s sent  received    again
";

impl Totals {
    fn combine(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            sent: with(self.sent, other.sent),
            again: with(self.again, other.again),
            sent_bytes: with(self.sent_bytes, other.sent_bytes),
            received: with(self.received, other.received),
            received_bytes: with(self.received_bytes, other.received_bytes),
        }
    }
}

/// The words of a line, and the numbers among them.
fn split(line: &str) -> (Vec<&str>, Vec<u64>) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let numbers = words.iter().filter_map(|word| word.parse().ok()).collect();
    (words, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sent: u64, received: u64) -> String {
        format!(
            "**** Qnet compiled on a day running on alonzo.lab\n  txd ok  1\n\nnodes: 2 beside this one\n  \
             joseph.lab (nd 3): up for 1 min 0 s; heard 0.1 s ago\n    round trip       123 us\n    sent             \
             {sent} packets, 1 of them again, {} bytes\n    received         {received} packets, 2 a second time, 3 dropped, \
             {} bytes\n  quiet.lab (nd 4): known, no session\n\ntraffic\n            12  packets sent\n",
            sent * 1000,
            received * 1000,
        )
    }

    fn joseph(line: &str) -> Vec<f64> {
        line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn rates_are_differences_by_time() {
        let (before, after) = (Snapshot::read(&text(1000, 2000)), Snapshot::read(&text(9000, 3000)));
        let said = after.since(&before, Duration::from_secs(2));
        assert!(said.starts_with("joseph.lab ") && said.lines().count() == 1, "{said}");
        assert_eq!(joseph(&said), [4.0, 0.5, 4000.0, 500.0, 0.0]);
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let (before, after) = (Snapshot::read(&text(0, 0)), Snapshot::read(&text(5, 5)));
        let said = after.since(&before, Duration::from_secs(1));
        assert_eq!(said.trim_end().len(), HEAD.trim_end().len(), "{HEAD}{said}");
    }

    #[test]
    fn a_quiet_network_is_told() {
        let seen = Snapshot::read(&text(5, 5));
        assert_eq!(seen.since(&seen, Duration::from_secs(1)), "nothing moves\n");
        assert_eq!(Snapshot::read("").since(&Snapshot::default(), Duration::ZERO), "nothing moves\n");
    }

    #[test]
    fn a_node_that_begins_anew_has_no_negative_rate() {
        let (before, after) = (Snapshot::read(&text(9000, 9000)), Snapshot::read(&text(10, 20)));
        assert_eq!(joseph(&after.since(&before, Duration::from_secs(1))), [0.01, 0.02, 10.0, 20.0, 1.0]);
    }
}
