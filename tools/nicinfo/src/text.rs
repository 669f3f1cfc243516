//! An interface as text: QNX's fields in QNX's order, dotted to one column.
//!
//! What Linux does not know of a device is `unknown`, so that a script finds every line it looks for.

use std::fmt::{Display, Write};

use ctl::{Interface, Mac};

/// Column at which the values stand.
const COLUMN: usize = 47;

/// What is to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// Addresses, rate, sizes, modes.
    pub(crate) configuration: bool,
    /// Packets, bytes, memory failures.
    pub(crate) general: bool,
    /// What went wrong on the wire.
    pub(crate) errors: bool,
    /// What the original does not have.
    pub(crate) verbose: bool,
}

/// The whole text of one interface, with an empty line behind it.
pub(crate) fn describe(interface: &Interface, parts: Parts) -> String {
    let mut lines = Lines { text: format!("{}: \n  {}\n\n", interface.name, description(interface)) };
    if parts.configuration {
        configuration(&mut lines, interface);
        lines.text.push('\n');
    }
    if parts.general {
        general(&mut lines, interface);
        lines.text.push('\n');
    }
    if parts.errors {
        errors(&mut lines, interface);
        lines.text.push('\n');
    }
    if parts.verbose {
        verbose(&mut lines, interface);
        lines.text.push('\n');
    }
    lines.text
}

/// The card's description, with the name Linux has for it.
fn description(interface: &Interface) -> String {
    let Interface { description, system_name, .. } = interface;
    if system_name.is_empty() || description.split_whitespace().any(|word| word == system_name) {
        description.clone()
    } else {
        format!("{description} ({system_name})")
    }
}

fn configuration(lines: &mut Lines, interface: &Interface) {
    lines.put("Physical Node ID", address(interface.permanent_mac));
    lines.put("Current Physical Node ID", address(interface.mac));
    let duplex = if interface.full_duplex { "full" } else { "half" };
    let rate = interface.speed_mbps.map(|speed| format!("{speed}.00 Mb/s {duplex}-duplex"));
    lines.put("Current Operation Rate", known(rate));
    lines.put("Active Interface Type", known(Some(&interface.media).filter(|media| !media.is_empty())));
    if interface.media == "MII" {
        lines.put("  Active PHY address", UNKNOWN);
    }
    lines.put("Maximum Transmittable data Unit", interface.mtu);
    lines.put("Maximum Receivable data Unit", interface.mtu);
    lines.put("Hardware Interrupt", UNKNOWN);
    lines.put("I/O Aperture", UNKNOWN);
    lines.put("Memory Aperture", UNKNOWN);
    lines.put("Promiscuous Mode", if interface.promiscuous { "On" } else { "Off" });
    lines.put("Multicast Support", if interface.multicast { "Enabled" } else { "Disabled" });
}

fn general(lines: &mut Lines, interface: &Interface) {
    let stats = &interface.stats;
    lines.put("Packets Transmitted OK", known(stats.tx_packets));
    lines.put("Bytes Transmitted OK", known(stats.tx_bytes));
    lines.put("Memory Allocation Failures on Transmit", known(stats.tx_no_memory));
    lines.text.push('\n');
    lines.put("Packets Received OK", known(stats.rx_packets));
    lines.put("Bytes Received OK", known(stats.rx_bytes));
    lines.put("Memory Allocation Failures on Receive", known(stats.rx_no_memory));
}

fn errors(lines: &mut Lines, interface: &Interface) {
    let stats = &interface.stats;
    lines.put("Single Collisions on Transmit", known(stats.single_collisions));
    lines.put("Deferred Transmits", known(stats.deferred));
    lines.put("Late Collision on Transmit errors", known(stats.late_collisions));
    lines.put("Transmits aborted (excessive collisions)", known(stats.tx_aborted));
    lines.put("Transmit Underruns", known(stats.tx_underruns));
    lines.put("No Carrier on Transmit", known(stats.tx_no_carrier));
    lines.put("Receive Alignment errors", known(stats.rx_alignment));
    lines.put("Received packets with CRC errors", known(stats.rx_crc));
    lines.put("Packets Dropped on receive", known(stats.rx_dropped));
}

/// Lines that the original does not have.
fn verbose(lines: &mut Lines, interface: &Interface) {
    lines.put("Driver", format!("{} ({})", interface.driver, interface.driver_path.display()));
    lines.put("Device", format!("{} = {}", interface.path.display(), interface.system_name));
    lines.put("Instance", format!("io-pkt{} (pid {})", interface.instance, interface.pid));
    lines.put("Link", if interface.link { "Up" } else { "Down" });
    lines.put("Descriptors waiting to be sent", interface.queued);
    lines.put("Packets Dropped on transmit", known(interface.stats.tx_dropped));
    for drop in &interface.drops {
        lines.put(&format!("Dropped: {}", drop.reason), format!("{} ({})", drop.count, drop.meaning));
    }
}

const UNKNOWN: &str = "unknown";

fn known(value: Option<impl Display>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
}

/// `000C29 DD3528`
fn address(Mac([a, b, c, d, e, f]): Mac) -> String {
    format!("{a:02X}{b:02X}{c:02X} {d:02X}{e:02X}{f:02X}")
}

struct Lines {
    text: String,
}

impl Lines {
    fn put(&mut self, label: &str, value: impl Display) {
        let dots = ".".repeat(COLUMN.saturating_sub(label.len() + 4).max(1));
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "  {label} {dots} {value}");
    }
}

#[cfg(test)]
mod tests;
