//! For the tests of the tools: a stand-in for the network manager at `ROOT/qnet.sock`.
//!
//! Each tool's tests take this file in by path. It opens every connection to the network manager, leaves those to other nodes
//! without an answer, as dead nodes do, and answers each question with what the test's function says.

use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use qnet_iomsg::netmgr::Request;
use qnet_ipc::{Listener, ReceiveBuffer, ServerPeer, Signals, ToClient, ToServer, wait_ready};

/// Status and data, or an errno.
pub(crate) type Answer = Result<(i64, Vec<u8>), i32>;

/// Starts the stand-in; it ends with the test process.
pub(crate) fn stand_in(root: &Path, answer: fn(Request<'_>) -> Answer) {
    let listener = Listener::at_path(&root.join("qnet.sock"), 0o600).expect("a socket");
    thread::spawn(move || {
        while wait_ready(listener.as_fd(), true, false, None, &Signals::unnoticed()).is_ok() {
            if let Ok(Some((peer, _))) = listener.accept() {
                thread::spawn(move || serve(peer, answer));
            }
        }
    });
}

fn serve(mut peer: ServerPeer, answer: fn(Request<'_>) -> Answer) {
    let mut buffer = ReceiveBuffer::new();
    loop {
        let mut data = Vec::new();
        let said = match peer.recv(&mut buffer) {
            Ok(Some(ToServer::Connect(connect))) if connect.pid == 0 => {
                ToClient::ConnectOk { conn: connect.conn, scoid: 1, limit: 4096 }
            }
            Ok(Some(ToServer::Send(send, message))) => {
                match answer(Request::parse(message).expect("a question to the network manager")) {
                    Ok((status, bytes)) => {
                        data = bytes;
                        ToClient::Reply { txn: send.txn, status, offset: 0, data: &data }
                    }
                    Err(errno) => ToClient::Error { txn: send.txn, errno },
                }
            }
            Ok(Some(_)) => continue,
            Ok(None) => match wait_ready(peer.as_fd(), true, false, None, &Signals::unnoticed()) {
                Ok(_) => continue,
                Err(_) => return,
            },
            Err(_) => return,
        };
        if peer.send(&said).is_err() {
            return;
        }
        drop(data);
    }
}
