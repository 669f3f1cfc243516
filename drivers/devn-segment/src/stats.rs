//! What the driver counts, and how it looks to `nicinfo`.

use io_pkt_sdk::DriverStats;

/// Frames, unless the name says bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Handed to the host.
    pub(crate) rx_packets: u64,
    /// Their bytes.
    pub(crate) rx_bytes: u64,
    /// Lost because the packet pool was empty.
    pub(crate) rx_no_memory: u64,
    /// Lost because they were longer than the payload size allows, or shorter than a header.
    pub(crate) rx_malformed: u64,
    /// Sent to all ports that wanted them; counted once however many these were.
    pub(crate) tx_packets: u64,
    /// Their bytes.
    pub(crate) tx_bytes: u64,
    /// Times that a port had no room and sending waited for it.
    pub(crate) tx_waits: u64,
    /// Lost for one port that had not read for too long, once for each such port.
    pub(crate) tx_stalled: u64,
    /// Not sent: longer than the payload size allows.
    pub(crate) tx_too_long: u64,
}

impl Counters {
    /// As the host asks for them.
    pub(crate) fn report(&self) -> DriverStats {
        DriverStats {
            tx_packets: self.tx_packets,
            tx_bytes: self.tx_bytes,
            tx_no_memory: 0,
            rx_packets: self.rx_packets,
            rx_bytes: self.rx_bytes,
            rx_no_memory: self.rx_no_memory,
            deferred: self.tx_waits,
            rx_dropped: self.rx_malformed,
            tx_dropped: self.tx_stalled + self.tx_too_long,
            ..DriverStats::unknown()
        }
    }
}
