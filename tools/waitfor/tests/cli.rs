//! `waitfor` as it is called: exit codes and complaints. Live network directories are tested on real nodes.

#[path = "../../tests/support.rs"]
mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::Node;

const WAITFOR: &str = env!("CARGO_BIN_EXE_waitfor");

#[test]
fn a_path_that_is_there_is_found() {
    let node = Node::new();
    let device = node.device("en0", 0);
    let run = node.call(WAITFOR, &[&device.to_string_lossy()]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(0), "", ""));
}

#[test]
fn a_limit_of_zero_is_one_look() {
    assert_eq!(Node::new().call(WAITFOR, &["/etc", "0"]).code, Some(0));
    assert_eq!(Node::new().call(WAITFOR, &["/no/such/path", "0"]).code, Some(1));
}

#[test]
fn a_path_that_stays_away_is_a_failure() {
    let run = Node::new().call(WAITFOR, &["/no/such/path", "0.1:10"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert_eq!(run.err, "waitfor: /no/such/path: still not there after 0.1 s\n");
}

#[test]
fn a_path_that_appears_later_is_found() {
    let node = Node::new();
    let path = node.path().join("later");
    let mut command = Command::new(WAITFOR);
    command.args([path.to_string_lossy().as_ref(), "60:10"]).env("IO_PKT_ROOT", node.path());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("waitfor starts");
    fs::write(&path, "").expect("a file");
    assert!(child.wait().expect("waitfor ends").success());
}

#[test]
fn an_empty_network_directory_is_not_live() {
    let node = Node::new();
    let net = node.path().join("net");
    fs::create_dir(&net).expect("a folder");
    let net = net.to_string_lossy();
    let run = node.call(WAITFOR, &[&net, "0:10"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.starts_with(&format!("waitfor: {net}: still not")), "{}", run.err);
    assert_eq!(node.call(WAITFOR, &["-s", &net]).code, Some(0));
}

#[test]
fn a_time_that_is_none_is_a_wrong_call() {
    let run = Node::new().call(WAITFOR, &["/", "soon"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("`soon` is not a time; wanted seconds[:milliseconds]"), "{}", run.err);
}
