//! `pidin` as it is called: output, complaints, exit codes.

#[path = "../../tests/support.rs"]
mod support;

use serde_json::{Value, json};
use support::{Node, version};

const PIDIN: &str = env!("CARGO_BIN_EXE_pidin");

fn modules(_request: &Value) -> Value {
    let threads = json!([
        {"tid": 4242, "name": "io-pkt", "state": "S", "priority": 20, "stack_used": 8192, "stack_size": 135_168},
        {"tid": 4243, "name": "log", "state": "R", "priority": -51},
    ]);
    let used = json!([{
        "name": "qnet", "module": "lsm-qnet", "kind": "protocol", "options": "", "state": "running", "chunks": 3
    }]);
    let builds = json!([
        {"name": "lsm-qnet", "path": "/opt/lsm-qnet.so", "build_id": "ab", "abi": "1.0", "address": 0xb821_3000_u64,
         "code": 172_032, "data": 36_864, "uses": used},
        {"name": "devn-tap", "path": "/opt/devn-tap.so", "build_id": "cd", "abi": "1.0", "address": 0xb000_0000_u64,
         "code": 4096, "data": 4096, "uses": []},
    ]);
    json!({"ok": {
        "version": version(0, 4242), "program": "/sbin/io-pkt-v4-hc", "code": 896_000, "data": 688_128,
        "threads": threads, "builds": builds, "failed": [],
    }})
}

const EXPECTED: &str = "     pid tid name               prio STATE             code   data        stack
    4242   1 sbin/io-pkt-v4-hc   20o SLEEPING          875K   672K   8192(132K)
    4242   2 log                 50r RUNNING           875K   672K         ?(?)
            lsm-qnet.so        @b8213000               168K    36K /opt/lsm-qnet.so qnet
            devn-tap.so        @b0000000               4096   4096 /opt/devn-tap.so (not in use)
";

#[test]
fn threads_come_first_and_then_the_modules() {
    let node = Node::new();
    node.run(0, modules);
    let run = node.call(PIDIN, &["-P", "io-pkt", "mem"]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    assert_eq!(run.out, EXPECTED);
}

#[test]
fn a_process_answers_to_its_number_and_to_each_name() {
    let node = Node::new();
    node.run(0, modules);
    for name in ["4242", "io-pkt", "io-pkt-v4", "io-pkt-v4-hc", "io-net", "/sbin/io-pkt-v4-hc"] {
        assert_eq!(node.call(PIDIN, &["-P", name, "me"]).code, Some(0), "{name}");
    }
    let run = node.call(PIDIN, &["-P", "17", "mem"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert_eq!(run.err, format!("pidin: 17: no such io-pkt runs in {}\n", node.path().display()));
}

#[test]
fn without_a_daemon_the_root_is_named() {
    let node = Node::new();
    let run = node.call(PIDIN, &["mem"]);
    assert_eq!(run.code, Some(1));
    let expected =
        format!("pidin: io-pkt is not running (no instance answers in {})\n", node.path().display());
    assert_eq!(run.err, expected);
}

#[test]
fn an_unknown_report_is_a_wrong_call() {
    let run = Node::new().call(PIDIN, &["m"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("there are: mem, net"), "{}", run.err);
}
