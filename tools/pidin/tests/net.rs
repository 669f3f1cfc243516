//! `pidin net` against a stand-in for the network manager.

#[path = "../../tests/netmgr.rs"]
mod netmgr;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use netmgr::{Answer, stand_in};
use qnet_iomsg::netmgr::{self as wire, NodeState, Request};

const PIDIN: &str = env!("CARGO_BIN_EXE_pidin");
/// Nodes that do not answer.
const DEAD: u32 = 200;
/// As long as they would take one after the other, at 900 ms each. Together they take a moment; half of this is far more than
/// that on a machine that has other work.
const IN_TURN: Duration = Duration::from_millis(DEAD as u64 * 900);

fn call(root: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(PIDIN).arg("--root").arg(root).arg("net").output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// This node, and those that never answer; the last of them was renamed.
fn dead_nodes(question: Request<'_>) -> Answer {
    assert_eq!(question, Request::Nodes);
    let mut records = Vec::new();
    for nd in 0..=DEAD {
        let (name, flags) = (format!("node{nd}"), if nd == DEAD { wire::RENAMED } else { 0 });
        let node = wire::Node { nd, state: NodeState::Known, flags, name: name.as_bytes(), domain: b"" };
        node.emit(&mut records).expect("a short name");
    }
    Ok((records.len() as i64, records))
}

#[test]
fn dead_nodes_do_not_wait_for_each_other() {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), dead_nodes);
    let begun = Instant::now();
    let (code, out, err) = call(root.path());
    assert!(begun.elapsed() < IN_TURN / 2, "{:?}", begun.elapsed());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with(" 0     node0 ") && lines[1].contains("Mb/"), "{out}");
    let dead: Vec<&&str> = lines.iter().filter(|line| line.ends_with("Host is down")).collect();
    assert_eq!(dead.len(), DEAD as usize);
    assert_eq!(*dead[0], " 1     node1            Host is down");
    assert_eq!(lines.last(), Some(&"       listed by this name because its own was taken: give it another"));
}

#[test]
fn without_a_network_manager_it_is_said() {
    let root = tempfile::tempdir().expect("a folder");
    let (code, out, err) = call(root.path());
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let socket = root.path().join("qnet.sock");
    let expected =
        format!("pidin: the network manager is not running (nobody answers at {})\n", socket.display());
    assert_eq!(err, expected);
}
