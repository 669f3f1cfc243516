//! `umount` as it is called: for io-pkt, and for the system.

#[path = "../../tests/support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};
use support::{Node, Run, version};

const UMOUNT: &str = env!("CARGO_BIN_EXE_qnx-umount");

fn answer(request: &Value) -> Value {
    match (request["cmd"].as_str(), request["name"].as_str()) {
        (Some("modules"), _) => json!({"ok": {
            "version": version(0, 1), "program": "/io-pkt", "code": 1, "data": 1, "threads": [], "failed": [],
            "builds": [{"name": "lsm-qnet", "path": "/q.so", "build_id": "1", "abi": "1.0", "address": 1, "code": 1,
                "data": 1, "uses": [{"name": "qnet", "module": "lsm-qnet", "kind": "protocol", "options": "",
                "state": "running", "chunks": 0}]}],
        }}),
        (_, Some("qnet")) => {
            json!({"error": {"errno": "EBUSY", "text": "qnet: goes only with io-pkt itself"}})
        }
        (_, Some(name)) if name.starts_with("en") => json!({"ok": {"name": name, "module": "devn-packet"}}),
        (_, name) => json!({"error": {"errno": "ENOENT", "text": format!("{name:?}: nothing of that name")}}),
    }
}

/// Calls our umount by its QNX name, with a stand-in for the system's behind it in `PATH`.
fn call(node: &Node, args: &[&str]) -> Run {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("umount");
    fs::write(&script, "#!/bin/sh\nprintf '<%s>' \"$@\"\nexit 3\n").expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
    let link = node.path().join("umount");
    if link.symlink_metadata().is_err() {
        symlink(UMOUNT, &link).expect("a link");
    }
    let path = std::env::join_paths([node.path(), folder.path()]).expect("a PATH");
    Run::of(Command::new(link).args(args).env("PATH", path).env("IO_PKT_ROOT", node.path()))
}

#[test]
fn the_device_file_leads_to_its_instance() {
    let node = Node::new();
    node.run(1, answer);
    node.device("en1", 1);
    for name in ["/dev/io-net/en1", "en1"] {
        let run = call(&node, &["-v", name]);
        assert_eq!(
            (run.code, run.out.as_str(), run.err.as_str()),
            (Some(0), "devn-packet: en1 unmounted\n", "")
        );
    }
    assert_eq!(node.requests()[0]["name"], "en1");
}

#[test]
fn qnet_cannot_be_unmounted_and_says_so_for_its_directory() {
    let node = Node::new();
    node.run(0, answer);
    let net = node.path().join("net").to_string_lossy().into_owned();
    let run = call(&node, &[&net]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert_eq!(run.err, format!("umount: {net}: qnet: goes only with io-pkt itself\n"));
    // The system's umount would take it for the source of the mount at /net.
    let run = call(&node, &["qnet"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert_eq!(run.err, "umount: qnet: qnet: goes only with io-pkt itself\n");
}

#[test]
fn other_calls_reach_the_systems_umount_untouched() {
    let node = Node::new();
    node.run(0, answer);
    for args in [&["/mnt/x y"][..], &["-l", "/mnt"], &["-a", "-t", "ext4"], &["--help"], &[]] {
        let run = call(&node, args);
        let expected =
            if args.is_empty() { "<>".to_owned() } else { args.iter().map(|a| format!("<{a}>")).collect() };
        assert_eq!((run.code, run.out, run.err.as_str()), (Some(3), expected, ""));
    }
    assert!(node.requests().is_empty());
}

#[test]
fn a_mixed_call_is_divided() {
    let node = Node::new();
    node.run(0, answer);
    node.device("en0", 0);
    let run = call(&node, &["-f", "/mnt", "en0"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), "<-f><--></mnt>"));
    assert_eq!(node.requests()[0]["name"], "en0");
}

#[test]
fn a_daemon_that_is_gone_is_named() {
    let node = Node::new();
    node.device("en0", 0);
    let run = call(&node, &["/dev/io-net/en0"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.starts_with("umount: /dev/io-net/en0: io-pkt is not running"), "{}", run.err);
}
