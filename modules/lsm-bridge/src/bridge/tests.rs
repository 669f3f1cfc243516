//! The bridge on the SDK's test host.

use io_pkt_sdk::{Interface, Mac, testing::Bench};

use super::*;

const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
const EN: [InterfaceId; 4] = [InterfaceId(11), InterfaceId(12), InterfaceId(13), InterfaceId(14)];

fn interface(number: u8) -> Interface {
    Interface {
        mac: Mac([6, 0, 0, 0, 0, number]),
        system_name: format!("eth{number}"),
        ..Interface::default()
    }
}

fn bridge(options: &[(&str, &str)], ports: usize) -> Bench {
    let mut bench = Bench::protocol::<Bridge>("bridge0", "/nonexistent", options).expect("made");
    bench.start().expect("started");
    for number in 0..ports {
        tell(&mut bench, EventKind::Arrived, number);
    }
    bench
}

fn tell(bench: &mut Bench, kind: EventKind, number: usize) {
    bench.interface_event(kind, EN[number], &format!("en{number}"), &interface(number as u8));
}

fn frame(to: Mac, from: Mac, mark: u8) -> Vec<u8> {
    [to.0.as_slice(), &from.0, &[0x08, 0x00], &[mark; 46]].concat()
}

/// Which frames went out of which port, by their marks.
fn marks(bench: &mut Bench, port: InterfaceId) -> Vec<u8> {
    // `sent` empties the list for all ports, so the caller asks once for each round.
    bench.sent().into_iter().filter(|(to, _)| *to == port).map(|(_, frame)| frame[14]).collect()
}

#[test]
fn it_asks_for_all_frames() {
    assert_eq!(bridge(&[], 0).host().claims(), [0]);
}

#[test]
fn an_unknown_station_is_flooded_and_a_known_one_gets_its_frames_alone() {
    let mut bench = bridge(&[], 3);
    bench.receive(EN[0], &[&frame(B, A, 1)]);
    let sent = bench.sent();
    assert_eq!(sent, [(EN[1], frame(B, A, 1)), (EN[2], frame(B, A, 1))]);
    bench.receive(EN[1], &[&frame(A, B, 2)]);
    assert_eq!(bench.sent(), [(EN[0], frame(A, B, 2))]);
    bench.receive(EN[0], &[&frame(B, A, 3)]);
    assert_eq!(bench.sent(), [(EN[1], frame(B, A, 3))]);
}

#[test]
fn a_mixed_batch_is_sorted_by_port_and_keeps_its_order() {
    let mut bench = bridge(&[], 3);
    bench.receive(EN[1], &[&frame(Mac::BROADCAST, B, 0)]);
    bench.sent();
    let frames: Vec<Vec<u8>> =
        (0..64).map(|n| frame(if n % 3 == 0 { Mac::BROADCAST } else { B }, A, n)).collect();
    let borrowed: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    bench.receive(EN[0], &borrowed);
    let sent = bench.sent();
    let of = |port| sent.iter().filter(move |(to, _)| *to == port).map(|(_, frame)| frame[14]);
    let (broadcast, direct): (Vec<u8>, Vec<u8>) = (0..64).partition(|n| n % 3 == 0);
    assert_eq!(of(EN[2]).collect::<Vec<_>>(), broadcast);
    let (mut flooded, mut forwarded) = (Vec::new(), Vec::new());
    for mark in of(EN[1]) {
        if mark % 3 == 0 { flooded.push(mark) } else { forwarded.push(mark) }
    }
    assert_eq!((flooded, forwarded), (broadcast, direct));
    assert_eq!(of(EN[0]).count(), 0);
}

#[test]
fn a_frame_in_several_pieces_stays_whole() {
    let mut bench = bridge(&[], 3);
    let jumbo = [frame(Mac::BROADCAST, A, 1), vec![7; 8000]].concat();
    bench.receive(EN[0], &[&jumbo, &frame(Mac::BROADCAST, A, 2)]);
    let sent = bench.sent();
    assert_eq!(sent.iter().filter(|(_, frame)| *frame == jumbo).count(), 2);
    assert_eq!(sent.len(), 4);
}

#[test]
fn a_port_that_goes_is_forgotten_and_one_that_comes_joins() {
    let mut bench = bridge(&[], 3);
    bench.receive(EN[2], &[&frame(Mac::BROADCAST, B, 1)]);
    bench.sent();
    tell(&mut bench, EventKind::Gone, 2);
    bench.receive(EN[0], &[&frame(B, A, 2)]);
    assert_eq!(bench.sent(), [(EN[1], frame(B, A, 2))], "flooded to what is left");
    tell(&mut bench, EventKind::Arrived, 3);
    bench.receive(EN[0], &[&frame(B, A, 3)]);
    assert_eq!(bench.sent().len(), 2);
    bench.receive(EN[2], &[&frame(B, A, 4)]);
    assert!(bench.sent().is_empty(), "late frames of a port that is gone");
}

#[test]
fn a_lost_link_forgets_the_stations_behind_it() {
    let mut bench = bridge(&[], 3);
    bench.receive(EN[2], &[&frame(Mac::BROADCAST, B, 1)]);
    bench.sent();
    bench.interface_event(EventKind::Changed, EN[2], "en2", &Interface { link_up: false, ..interface(2) });
    bench.receive(EN[0], &[&frame(B, A, 2)]);
    assert_eq!(marks(&mut bench, EN[1]), [2], "it may be elsewhere by now");
}

#[test]
fn only_named_ports_take_part() {
    let mut bench = bridge(&[("ports", "en0:en2")], 4);
    bench.receive(EN[0], &[&frame(Mac::BROADCAST, A, 1)]);
    assert_eq!(bench.sent(), [(EN[2], frame(Mac::BROADCAST, A, 1))]);
    bench.receive(EN[1], &[&frame(Mac::BROADCAST, A, 2)]);
    assert!(bench.sent().is_empty());
}

#[test]
fn an_address_is_forgotten_after_its_age() {
    let mut bench = bridge(&[("age", "5")], 3);
    bench.receive(EN[2], &[&frame(Mac::BROADCAST, B, 1)]);
    bench.sent();
    bench.host().advance(4 * SECOND);
    bench.receive(EN[0], &[&frame(B, A, 2)]);
    assert_eq!(bench.sent().len(), 1);
    bench.host().advance(2 * SECOND);
    bench.receive(EN[0], &[&frame(B, A, 3)]);
    assert_eq!(bench.sent().len(), 2, "flooded again");
}

#[test]
fn the_reports_say_what_happened() {
    let mut bench = bridge(&[("ports", "en0:en1:en9")], 2);
    bench.receive(EN[0], &[&frame(Mac::BROADCAST, A, 1)]);
    bench.receive(EN[1], &[&frame(A, B, 1), &[0; 5]]);
    let text = bench.report("").expect("a report");
    assert!(text.starts_with("bridge0: 2 ports, addresses kept for 300 s\n"), "{text}");
    for line in ["en0      eth0", "en9      (not there yet)", "frames received", "dropped: too short"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let table = bench.report("table").expect("a report");
    assert!(table.starts_with("bridge0: 2 of 8192 addresses\n"), "{table}");
    assert!(table.contains("02:00:00:00:00:0b  en1      idle     0 s"), "{table}");
    let error = bench.report("nonsense").expect_err("unknown");
    assert_eq!(error.text(), "the bridge has no report \"nonsense\"; it has table, and one without a name");
}

#[test]
fn ports_are_named_once_each_and_are_two_at_least() {
    assert_eq!(wanted_ports(None).expect("all"), Vec::<String>::new());
    assert_eq!(wanted_ports(Some("en0:en1:tap0")).expect("three").len(), 3);
    for bad in ["en0", "en0:", ":en0", "en0::en1", "en0:en0", ""] {
        let error = wanted_ports(Some(bad)).expect_err(bad);
        assert_eq!(error.errno(), libc::EINVAL);
        assert!(error.text().starts_with(&format!("ports={bad}: ")), "{error}");
    }
    let lonely = wanted_ports(Some("en9")).expect_err("one port");
    assert_eq!(
        lonely.text(),
        "ports=en9: names one interface, and a bridge joins two or more: ports=en9:en0"
    );
}

#[test]
fn the_manual_has_every_option() {
    let manual = include_str!("../../../../docs/drivers.md");
    for option in Bridge::OPTIONS {
        let row = format!("| `{}` | {} |\n", option.name(), option.help());
        assert!(manual.contains(&row), "docs/drivers.md lacks: {row}");
    }
}

#[test]
fn a_port_that_is_not_there_is_told_and_joins_when_it_appears() {
    let mut bench = bridge(&[("ports", "en0:en2")], 2);
    bench.settle();
    let said = |bench: &Bench| bench.host().log_lines().into_iter().map(|line| line.text).collect::<Vec<_>>();
    assert!(said(&bench).contains(&"en2 is not there yet: it joins when it appears".to_owned()));
    tell(&mut bench, EventKind::Arrived, 2);
    bench.settle();
    let lines = said(&bench);
    assert_eq!(lines, ["en2 (eth2) joins"], "what is missing is told once");
}

#[test]
fn a_second_bridge_on_the_same_interfaces_is_refused() {
    let _first = bridge(&[("ports", "en0:en1")], 2);
    let second = Bench::protocol::<Bridge>("bridge1", "/nonexistent", &[("ports", "en1:en2")]);
    let error = second.map(drop).unwrap_err();
    assert_eq!(error.errno(), libc::EBUSY);
    assert!(error.text().contains("en1 belongs to bridge0"), "{error}");
    Bench::protocol::<Bridge>("bridge1", "/nonexistent", &[("ports", "en2:en3")]).expect("others are free");
}
