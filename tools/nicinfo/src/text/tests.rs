//! The text of one interface, line by line.

use super::*;
use ctl::{DropCount, Stats};

const ALL: Parts = Parts { configuration: true, general: true, errors: true, verbose: false };

fn interface() -> Interface {
    Interface {
        name: "en0".into(),
        system_name: "eth1".into(),
        driver: "devn-packet".into(),
        driver_path: "/opt/lib/io-pkt/devn-packet.so".into(),
        path: "/dev/io-net/en0".into(),
        instance: 0,
        pid: 42,
        description: "Linux network interface".into(),
        media: "UTP".into(),
        mac: Mac([0x02, 0, 0, 0, 0, 0x0a]),
        permanent_mac: Mac([0x00, 0x0c, 0x29, 0xdd, 0x35, 0x28]),
        mtu: 1500,
        speed_mbps: Some(100),
        full_duplex: false,
        link: true,
        promiscuous: false,
        multicast: true,
        stats: Stats { tx_packets: Some(3), rx_bytes: Some(0), ..Stats::default() },
        queued: 0,
        drops: vec![DropCount { reason: "no-protocol".into(), meaning: "nobody wants it".into(), count: 7 }],
    }
}

#[test]
fn fields_stand_in_the_originals_order() {
    let text = describe(&interface(), ALL);
    let labels: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(" .")).map(|(label, _)| label.trim()).collect();
    assert_eq!(
        labels,
        [
            "Physical Node ID",
            "Current Physical Node ID",
            "Current Operation Rate",
            "Active Interface Type",
            "Maximum Transmittable data Unit",
            "Maximum Receivable data Unit",
            "Hardware Interrupt",
            "I/O Aperture",
            "Memory Aperture",
            "Promiscuous Mode",
            "Multicast Support",
            "Packets Transmitted OK",
            "Bytes Transmitted OK",
            "Memory Allocation Failures on Transmit",
            "Packets Received OK",
            "Bytes Received OK",
            "Memory Allocation Failures on Receive",
            "Single Collisions on Transmit",
            "Deferred Transmits",
            "Late Collision on Transmit errors",
            "Transmits aborted (excessive collisions)",
            "Transmit Underruns",
            "No Carrier on Transmit",
            "Receive Alignment errors",
            "Received packets with CRC errors",
            "Packets Dropped on receive",
        ]
    );
}

#[test]
fn values_stand_in_one_column() {
    let text = describe(&interface(), ALL);
    let columns: Vec<usize> =
        text.lines().filter_map(|line| line.find(".. ").map(|at| at + "..".len())).collect();
    assert!(columns.len() > 20 && columns.windows(2).all(|pair| pair[0] == pair[1]), "{columns:?}");
}

#[test]
fn known_values_are_shown_as_the_original_does() {
    let text = describe(&interface(), ALL);
    assert!(text.starts_with("en0: \n  Linux network interface (eth1)\n\n"), "{text}");
    assert!(text.contains("  Physical Node ID ........................... 000C29 DD3528\n"), "{text}");
    assert!(text.contains("  Current Physical Node ID ................... 020000 00000A\n"), "{text}");
    assert!(text.contains(" 100.00 Mb/s half-duplex\n"), "{text}");
    assert!(text.contains("  Packets Transmitted OK ..................... 3\n"), "{text}");
    assert!(text.contains("  Bytes Received OK .......................... 0\n"), "{text}");
}

#[test]
fn what_nobody_knows_is_unknown() {
    let text = describe(&interface(), ALL);
    assert!(text.contains("  Hardware Interrupt ......................... unknown\n"), "{text}");
    assert!(text.contains("  Bytes Transmitted OK ....................... unknown\n"), "{text}");
}

#[test]
fn each_part_can_be_left_out() {
    let none = Parts { configuration: false, general: false, errors: false, verbose: false };
    assert_eq!(describe(&interface(), none).lines().count(), 3);
    let general = describe(&interface(), Parts { general: true, ..none });
    assert!(general.contains("Packets Received OK") && !general.contains("Deferred"), "{general}");
    let verbose = describe(&interface(), Parts { verbose: true, ..none });
    assert!(
        verbose.contains("Dropped: no-protocol ....................... 7 (nobody wants it)\n"),
        "{verbose}"
    );
}
