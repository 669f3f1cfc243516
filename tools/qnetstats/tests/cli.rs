//! `qnetstats` as it is called, against a stand-in for the network manager.

#[path = "../../tests/netmgr.rs"]
mod netmgr;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use netmgr::{Answer, stand_in};
use qnet_iomsg::netmgr::Request;

const QNETSTATS: &str = env!("CARGO_BIN_EXE_qnetstats");
const TEXT: &str = "**** Qnet compiled on a day running on alonzo\n  txd ok 1\n";

fn text(question: Request<'_>) -> Answer {
    assert_eq!(question, Request::Stats);
    Ok((TEXT.len() as i64, TEXT.into()))
}

/// A node to which ten packets more were sent each time, and one that says nothing.
fn growing(_: Request<'_>) -> Answer {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
    let text = format!(
        "  joseph.lab (nd 3): up\n    sent             {} packets, 0 of them again, 1000 bytes\n  \
         silent.lab (nd 4): known, no session\n",
        looks * 10
    );
    Ok((text.len() as i64, text.into()))
}

fn call(root: &Path) -> (Option<i32>, String, String) {
    call_with(root, &[])
}

fn call_with(root: &Path, options: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(QNETSTATS).arg("--root").arg(root).args(options).output().expect("it starts");
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
fn watching_shows_who_moves_something() {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), growing);
    let (code, out, err) = call_with(root.path(), &["-w", "0.05", "-c", "2"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "the heads and two looks: {out}");
    assert!(
        lines[0].starts_with("node ") && lines[1..].iter().all(|line| line.starts_with("joseph.lab ")),
        "{out}"
    );
    let packets: f64 = lines[1].split_whitespace().nth(3).expect("a column").parse().expect("a number");
    assert!(packets > 0.0 && packets <= 200.0, "ten packets in at least 0.05 s: {out}");
}

#[test]
fn watching_a_quiet_network_says_so() {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), text);
    let (code, out, _) = call_with(root.path(), &["--watch", "0.01", "-c", "1"]);
    assert_eq!((code, out.lines().last()), (Some(0), Some("nothing moves")));
}

#[test]
fn a_wrong_call_of_watching_is_told() {
    let root = tempfile::tempdir().expect("a folder");
    let (code, _, err) = call_with(root.path(), &["-w", "never"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("`never`: seconds from 0.01 to 86400 are expected"), "{err}");
    assert_eq!(call_with(root.path(), &["-c", "3"]).0, Some(2), "a count of nothing");
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
