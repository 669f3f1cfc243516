//! `qnet-ping` as it is called, against a stand-in for the network manager.

#[path = "../../tests/netmgr.rs"]
mod netmgr;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use netmgr::{Answer, stand_in};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_iomsg::netmgr::{Pong, Request};

const QNET_PING: &str = env!("CARGO_BIN_EXE_qnet-ping");

/// Joseph is node 3 and answers over en0; whoever asks over another link, or for longer than a second, gets errors.
fn network(question: Request<'_>) -> Answer {
    match question {
        Request::Strtond { name: b"joseph" } => Ok((3, Vec::new())),
        Request::Strtond { name: b"alonzo" } => Ok((0, Vec::new())),
        Request::Strtond { name: b"karl" } => Ok((4, Vec::new())),
        Request::Strtond { name: b"eileen" } => Ok((5, Vec::new())),
        Request::Strtond { .. } => Err(libc::ENOENT),
        Request::Ping { nd: 3, link: b"" | b"en0", .. } => {
            let pong = Pong { nanoseconds: 123_000, link: b"en0", addr: b"02:00:00:00:00:02" };
            Ok((0, pong.emit().expect("short texts")))
        }
        Request::Ping { nd: 0, .. } => {
            Ok((0, Pong { nanoseconds: 0, link: b"", addr: b"" }.emit().expect("short texts")))
        }
        Request::Ping { nd: 4, patience, .. } => {
            assert_eq!(patience, 1500);
            Ok((qnet_iomsg::linux_to_qnx(libc::ETIMEDOUT).into(), ways(&[(b"en1", b"02:00:00:00:01:04")])))
        }
        Request::Ping { nd: 5, .. } => {
            let tried: [(&[u8], &[u8]); 2] = [(b"en0", b"02:00:00:00:00:05"), (b"en1", b"02:00:00:00:01:05")];
            Ok((qnet_iomsg::linux_to_qnx(libc::EHOSTUNREACH).into(), ways(&tried)))
        }
        Request::Ping { .. } => Err(libc::ENODEV),
        other => panic!("unexpected: {other:?}"),
    }
}

/// What a reply has that tells of nobody's answer.
fn ways(ways: &[(&[u8], &[u8])]) -> Vec<u8> {
    let record =
        |&(link, addr): &(&[u8], &[u8])| Pong { nanoseconds: 0, link, addr }.emit().expect("short texts");
    ways.iter().map(record).collect::<Vec<_>>().concat()
}

fn call(root: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(QNET_PING).arg("--root").arg(root).args(args).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn on_network(args: &[&str]) -> (Option<i32>, String, String) {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), network);
    call(root.path(), args)
}

#[test]
fn answers_are_shown_with_time_and_link() {
    let (code, out, err) = on_network(&["-c", "2", "-i", "0.01", "joseph"]);
    let expected = "qnet-ping joseph: found, node number 3
seq=1 from 02:00:00:00:00:02 over en0 time=0.123 ms
seq=2 from 02:00:00:00:00:02 over en0 time=0.123 ms
--- joseph
2 asked, 2 answered, 0% lost
round trip min/avg/max = 0.123/0.123/0.123 ms
links: en0 2\n";
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), expected, ""));
}

#[test]
fn quiet_is_the_summary_alone_and_a_link_may_be_chosen() {
    let (code, out, _) = on_network(&["-q", "-c", "1", "-I", "en0", "joseph"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("--- joseph\n1 asked, 1 answered"), "{out}");
}

#[test]
fn silence_is_status_one_with_the_reason_and_the_links_that_were_tried() {
    let (code, out, err) = on_network(&["-c", "1", "-W", "1.5", "karl"]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert!(out.contains("seq=1 no answer within 1.5 s over en1 at 02:00:00:00:01:04\n"), "{out}");
    assert!(out.contains("100% lost"), "{out}");
    let (code, out, _) = on_network(&["-c", "1", "eileen"]);
    assert_eq!(code, Some(1));
    let why = "no session: the node is known but does not answer the set-up \
               over en0 at 02:00:00:00:00:05 or en1 at 02:00:00:00:01:05; is io-pkt";
    assert!(out.contains(why), "{out}");
}

#[test]
fn this_node_itself_answers() {
    let (code, out, _) = on_network(&["-c", "1", "alonzo"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("seq=1 this node itself\n") && !out.contains("links:"), "{out}");
}

#[test]
fn what_cannot_be_asked_is_status_two() {
    let (code, out, err) = on_network(&["-c", "1", "nosuch"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(err, "qnet-ping: nosuch: not found: no node of this name is known, and none answers to it\n");
    let (code, _, err) = on_network(&["-c", "1", "-I", "en7", "joseph"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("joseph: not over en7: there is no such link, or"), "{err}");
    let (code, _, err) = on_network(&["-i", "0", "joseph"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("from 0.001 to 3600 seconds"), "{err}");
    let root = tempfile::tempdir().expect("a folder");
    let (code, _, err) = call(root.path(), &["joseph"]);
    assert_eq!(code, Some(2));
    assert!(err.starts_with("qnet-ping: Qnet does not run on this node"), "{err}");
}

#[test]
fn an_interrupt_ends_with_the_summary() {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), network);
    let mut command = Command::new(QNET_PING);
    command.arg("--root").arg(root.path()).args(["-i", "3600", "joseph"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut lines = String::new();
    for _ in 0..2 {
        out.read_line(&mut lines).expect("a line");
    }
    assert!(lines.contains("seq=1 "), "{lines}");
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a number")), Signal::SIGINT).expect("it lives");
    out.read_to_string(&mut lines).expect("the rest");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(lines.contains("--- joseph\n1 asked, 1 answered, 0% lost\n"), "{lines}");
}
