//! `nicinfo` as it is called: output, complaints, exit codes.

#[path = "../../tests/support.rs"]
mod support;

use serde_json::{Value, json};
use support::{Node, Run, interface};

const NICINFO: &str = env!("CARGO_BIN_EXE_nicinfo");

fn one(request: &Value) -> Value {
    match request["name"].as_str() {
        None | Some("en0" | "/dev/io-net/en0" | "eth1") => json!({"ok": [interface("en0", "eth1")]}),
        Some(other) => json!({"error": {"errno": "ENOENT", "text": format!("{other}: no such interface")}}),
    }
}

fn other(request: &Value) -> Value {
    match request["name"].as_str() {
        None | Some("en1") => json!({"ok": [interface("en1", "tap0")]}),
        Some(other) => json!({"error": {"errno": "ENOENT", "text": format!("{other}: no such interface")}}),
    }
}

#[test]
fn all_interfaces_of_all_instances_are_shown() {
    let node = Node::new();
    node.run(0, one);
    node.run(1, other);
    let run = node.call(NICINFO, &[]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let names: Vec<&str> = run.out.lines().filter(|line| line.ends_with(": ")).collect();
    assert_eq!(names, ["en0: ", "en1: "]);
    assert!(
        run.out.contains("  Physical Node ID ........................... 000C29 DD3528\n"),
        "{}",
        run.out
    );
    assert!(
        run.out.contains("  Current Operation Rate ..................... 1000.00 Mb/s full-duplex\n"),
        "{}",
        run.out
    );
}

#[test]
fn an_interface_is_found_by_each_of_its_names() {
    let node = Node::new();
    node.run(0, one);
    for name in ["en0", "/dev/io-net/en0", "eth1"] {
        let run = node.call(NICINFO, &[name]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.out.starts_with("en0: \n  Linux network interface (eth1)\n"), "{}", run.out);
    }
}

#[test]
fn the_instance_that_has_the_interface_is_found() {
    let node = Node::new();
    node.run(0, one);
    node.run(1, other);
    let run = node.call(NICINFO, &["en1"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.starts_with("en1: \n"), "{}", run.out);
}

#[test]
fn an_unknown_interface_is_named_and_the_others_are_shown() {
    let node = Node::new();
    node.run(0, one);
    let run = node.call(NICINFO, &["en7", "en0"]);
    assert_eq!(run.code, Some(1));
    assert_eq!(run.err, "nicinfo: en7: no such interface\n");
    assert!(run.out.starts_with("en0: \n"), "{}", run.out);
}

#[test]
fn relative_names_lie_in_the_device_directory() {
    let node = Node::new();
    node.run(0, one);
    assert_eq!(node.call(NICINFO, &["-r", "en0"]).code, Some(0));
    assert_eq!(node.call(NICINFO, &["-r", "eth1"]).code, Some(1));
    assert_eq!(node.requests()[0]["name"], "/dev/io-net/en0");
}

#[test]
fn parts_are_chosen_by_letters() {
    let node = Node::new();
    node.run(0, one);
    let part = |option: &str| -> Run { node.call(NICINFO, &[option, "en0"]) };
    let (configuration, general, statistics) = (part("-c").out, part("-g").out, part("-s").out);
    assert!(configuration.contains("Promiscuous Mode") && !configuration.contains("Packets Transmitted OK"));
    assert!(general.contains("Packets Transmitted OK") && !general.contains("Deferred Transmits"));
    assert!(statistics.contains("Deferred Transmits") && !statistics.contains("Promiscuous Mode"));
    assert!(part("-v").out.contains("Dropped: no-protocol ....................... 7 (nobody wants it)\n"));
    assert_eq!(node.call(NICINFO, &["-c", "-s"]).code, Some(2));
}

#[test]
fn without_a_daemon_the_root_is_named() {
    let node = Node::new();
    let run = node.call(NICINFO, &[]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    let expected =
        format!("nicinfo: io-pkt is not running (no instance answers in {})\n", node.path().display());
    assert_eq!(run.err, expected);
}
