//! What the driver counts, and how it looks to `nicinfo`.

use io_pkt_sdk::{DriverStats, linux::LinkCounters};

/// Frames, unless the name says bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Handed to the host.
    pub(crate) rx_packets: u64,
    /// Their bytes.
    pub(crate) rx_bytes: u64,
    /// Lost because the packet pool was empty.
    pub(crate) rx_no_memory: u64,
    /// Lost in the kernel because this driver did not fetch them in time.
    pub(crate) rx_overrun: u64,
    /// Lost because their offload header or length made no sense.
    pub(crate) rx_malformed: u64,
    /// Multicast that nobody wanted (`nomulticast`); not an error.
    pub(crate) rx_unwanted: u64,
    /// Super-frames that were cut; their pieces are counted above.
    pub(crate) rx_super: u64,
    /// Handed to the kernel.
    pub(crate) tx_packets: u64,
    /// Their bytes.
    pub(crate) tx_bytes: u64,
    /// Not sent: no carrier, or no interface.
    pub(crate) tx_no_carrier: u64,
    /// Not sent: longer than the interface carries.
    pub(crate) tx_too_long: u64,
    /// Not sent: the kernel refused them (its queue was full).
    pub(crate) tx_refused: u64,
}

impl Counters {
    /// As the host asks for them, completed by what the kernel counts for the interface.
    pub(crate) fn report(&self, link: Option<&LinkCounters>) -> DriverStats {
        let kernel = link.copied().unwrap_or_default();
        let known = |value: u64| if link.is_some() { value } else { io_pkt_sdk::UNKNOWN };
        DriverStats {
            tx_packets: self.tx_packets,
            tx_bytes: self.tx_bytes,
            tx_no_memory: 0,
            rx_packets: self.rx_packets,
            rx_bytes: self.rx_bytes,
            rx_no_memory: self.rx_no_memory,
            late_collisions: known(kernel.tx_window),
            tx_aborted: known(kernel.tx_aborted),
            tx_underruns: known(kernel.tx_fifo),
            tx_no_carrier: self.tx_no_carrier + kernel.tx_carrier,
            rx_alignment: known(kernel.rx_frame),
            rx_crc: known(kernel.rx_crc),
            rx_dropped: self.rx_overrun + self.rx_malformed,
            tx_dropped: self.tx_no_carrier + self.tx_too_long + self.tx_refused,
            ..DriverStats::unknown()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lost_frame_has_a_place_in_the_report() {
        let counters = Counters {
            rx_overrun: 1,
            rx_malformed: 2,
            tx_no_carrier: 4,
            tx_too_long: 8,
            tx_refused: 16,
            ..Counters::default()
        };
        let report = counters.report(None);
        assert_eq!((report.rx_dropped, report.tx_dropped, report.tx_no_carrier), (3, 28, 4));
        assert_eq!(report.rx_crc, io_pkt_sdk::UNKNOWN, "nobody counted");
    }

    #[test]
    fn the_kernels_counters_complete_the_report() {
        let kernel = LinkCounters { rx_crc: 3, tx_carrier: 2, ..LinkCounters::default() };
        let report = Counters { tx_no_carrier: 1, ..Counters::default() }.report(Some(&kernel));
        assert_eq!((report.rx_crc, report.tx_no_carrier), (3, 3));
    }
}
