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
    /// Lost because they were longer than the interface carries, or shorter than a header.
    pub(crate) rx_malformed: u64,
    /// Handed to Linux.
    pub(crate) tx_packets: u64,
    /// Their bytes.
    pub(crate) tx_bytes: u64,
    /// Not sent: the Linux end is off or gone.
    pub(crate) tx_no_carrier: u64,
    /// Not sent: Linux refused them.
    pub(crate) tx_refused: u64,
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
            tx_no_carrier: self.tx_no_carrier,
            rx_dropped: self.rx_malformed,
            tx_dropped: self.tx_no_carrier + self.tx_refused,
            ..DriverStats::unknown()
        }
    }
}
