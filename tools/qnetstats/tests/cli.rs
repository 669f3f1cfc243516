//! `qnetstats` as it is called, against a stand-in for the network manager.

#[path = "../../tests/netmgr.rs"]
mod netmgr;

use std::path::Path;
use std::process::{Command, Stdio};

use netmgr::{Answer, stand_in};
use qnet_iomsg::netmgr::Request;

const QNETSTATS: &str = env!("CARGO_BIN_EXE_qnetstats");
const TEXT: &str = "**** Qnet compiled on a day running on alonzo\n  txd ok 1\n";

fn text(question: Request<'_>) -> Answer {
    assert_eq!(question, Request::Stats);
    Ok((TEXT.len() as i64, TEXT.into()))
}

fn call(root: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(QNETSTATS).arg("--root").arg(root).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_text_is_printed_as_it_is() {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), text);
    assert_eq!(call(root.path()), (Some(0), TEXT.to_owned(), String::new()));
}

#[test]
fn without_qnet_the_socket_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let (code, out, err) = call(root.path());
    let socket = root.path().join("qnet.sock");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        err,
        format!("qnetstats: Qnet does not run on this node (nobody answers at {})\n", socket.display())
    );
}

#[test]
fn a_refusal_is_told() {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), |_| Err(nix::libc::ENOSYS));
    let (code, _, err) = call(root.path());
    assert_eq!(code, Some(1));
    assert!(err.starts_with("qnetstats: Qnet gives no statistics: Function not implemented"), "{err}");
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), text);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(QNETSTATS);
    let output = command.arg("--root").arg(root.path()).stdout(writer).stderr(Stdio::piped()).output();
    let output = output.expect("it starts");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
