//! `qnetstats` as it is called, against a stand-in for the network manager.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use qnet_iomsg::netmgr::Request;
use qnet_ipc::{Listener, ReceiveBuffer, ServerPeer, ToClient, ToServer, wait_ready};

const QNETSTATS: &str = env!("CARGO_BIN_EXE_qnetstats");
const TEXT: &str = "**** Qnet compiled on a day running on alonzo\n  txd ok 1\n";

/// Answers one program at `root/qnet.sock`: the first question gets the text or an error.
fn stand_in(root: &Path, answer: Result<&'static str, i32>) {
    let listener = Listener::at_path(&root.join("qnet.sock"), 0o600).expect("a socket");
    thread::spawn(move || {
        while wait_ready(listener.as_fd(), true, false, None).is_ok() {
            if let Ok(Some((peer, _))) = listener.accept() {
                serve(peer, answer);
            }
        }
    });
}

fn serve(mut peer: ServerPeer, answer: Result<&str, i32>) {
    let mut buffer = ReceiveBuffer::new();
    loop {
        let said = match peer.recv(&mut buffer) {
            Ok(Some(ToServer::Connect(connect))) => {
                ToClient::ConnectOk { conn: connect.conn, scoid: 1, limit: 4096 }
            }
            Ok(Some(ToServer::Send(send, message))) => {
                assert_eq!(Request::parse(message), Ok(Request::Stats));
                match answer {
                    Ok(text) => ToClient::Reply {
                        txn: send.txn,
                        status: text.len() as i64,
                        offset: 0,
                        data: text.as_bytes(),
                    },
                    Err(errno) => ToClient::Error { txn: send.txn, errno },
                }
            }
            Ok(Some(_)) => continue,
            Ok(None) => {
                if wait_ready(peer.as_fd(), true, false, None).is_err() {
                    return;
                }
                continue;
            }
            Err(_) => return,
        };
        if peer.send(&said).is_err() {
            return;
        }
    }
}

fn call(root: &Path) -> (Option<i32>, String, String) {
    let output = Command::new(QNETSTATS).arg("--root").arg(root).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_text_is_printed_as_it_is() {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), Ok(TEXT));
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
    stand_in(root.path(), Err(nix::libc::ENOSYS));
    let (code, _, err) = call(root.path());
    assert_eq!(code, Some(1));
    assert!(err.starts_with("qnetstats: Qnet gives no statistics: Function not implemented"), "{err}");
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let root = tempfile::tempdir().expect("a folder");
    stand_in(root.path(), Ok(TEXT));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(QNETSTATS);
    let output = command.arg("--root").arg(root.path()).stdout(writer).stderr(Stdio::piped()).output();
    let output = output.expect("it starts");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
