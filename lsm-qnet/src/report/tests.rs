//! The text as a whole: what programs find in it, and that all who ask get the same.

use std::time::{Duration, Instant};

use io_pkt_sdk::{Interface, InterfaceId, Mac, interface::EventKind, testing::Bench};
use qnet::Netmgr;
use qnet_ipc::Root;

use crate::Qnet;

const EN0: InterfaceId = InterfaceId(1);
const PATIENCE: Duration = Duration::from_secs(20);

fn node(directory: &std::path::Path) -> Bench {
    let options = [("host", "alonzo"), ("do_crc", "1")];
    let mut bench = Bench::protocol::<Qnet>("qnet", directory.to_str().unwrap(), &options).unwrap();
    bench.start().unwrap();
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let interface = Interface { mac, permanent_mac: mac, ..Interface::default() };
    bench.interface_event(EventKind::Arrived, EN0, "en0", &interface);
    bench
}

/// The lines that `grep -e "ok" -e "bad"` prints.
fn grepped(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("ok") || line.contains("bad")).collect()
}

#[test]
fn the_documented_grep_prints_the_five_documented_counters() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = node(directory.path());
    bench.settle();
    // Noise, and something of Qnet that no node has asked for.
    let mut frame = [0_u8; 60];
    frame[..6].fill(0xff);
    frame[12..14].copy_from_slice(&[0x82, 0x04]);
    bench.receive(EN0, &[&frame]);
    frame[16..20].copy_from_slice(&[0x2a, 9, 3, 0]);
    frame[24] = 1;
    bench.receive(EN0, &[&frame]);
    // Somebody else's, on an interface that hears everything.
    frame[..6].fill(0x02);
    bench.receive(EN0, &[&frame]);
    bench.settle();
    let text = bench.report("").unwrap();
    let lines = grepped(&text);
    let names: Vec<String> = lines
        .iter()
        .map(|line| line.trim_end_matches(|c: char| c.is_ascii_digit()).trim().to_owned())
        .collect();
    assert_eq!(names, ["txd ok", "txd bad", "rxd ok", "rxd bad dr", "rxd bad L4"]);
    assert!(lines.iter().all(|line| line.starts_with("  ") && line.len() == lines[0].len()), "{lines:?}");
    let value = |line: &str| line.split_whitespace().last().unwrap().parse::<u64>().unwrap();
    assert!(value(lines[0]) > 0, "it has announced itself");
    assert!(value(lines[3]) > 0, "noise is damage: {text}");
    assert!(text.contains("           1  received: for other stations"), "{text}");
}

#[test]
fn programs_get_the_text_of_the_control_command() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = node(directory.path());
    let root = Root::at(directory.path()).unwrap();
    let asked = std::thread::spawn(move || Netmgr::attach(&root)?.statistics());
    let end = Instant::now() + PATIENCE;
    while !asked.is_finished() {
        assert!(Instant::now() < end, "nobody answered within {PATIENCE:?}");
        if !bench.poll() {
            bench.host().wait(Duration::from_millis(1));
        }
    }
    let text = asked.join().unwrap().unwrap();
    let head = |text: &str| text.lines().next().map(str::to_owned);
    assert_eq!(head(&text), head(&bench.report("").unwrap()));
    assert!(text.contains("           1  programs at qnet.sock"), "{text}");
    assert!(text.contains("checksums on;"), "{text}");
}

#[test]
fn a_helpers_reason_does_not_look_like_a_counter() {
    let line = |text: &str| super::helper_line(text);
    assert_eq!(line("qnet-netfs: running for 3 s"), "qnet-netfs: running for 3 s");
    assert_eq!(line("qnet-netfs: not running: no FUSE"), "qnet-netfs: not running: no FUSE");
    assert_eq!(line("qnet-netfs: not running: a broken pipe"), "qnet-netfs: not running, the log says why");
}
