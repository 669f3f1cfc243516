//! The whole file system with a network that says anything: FUSE requests, and whatever bytes for answers.
//!
//! The input is a list of steps, `what, which, length`, a byte each, then so many bytes. With the high bit of `what` clear a step is a
//! request of the kernel, as in the target `netfs`. Else it is the answer to one of the transactions that are under way:
//!
//! | `what & 7` | |
//! |---|---|
//! | 0 | a reply with these bytes, and their number for its status |
//! | 1 | a reply whose status is the first eight bytes |
//! | 2, 3 | an errno of the server; of a connection that is gone |
//! | 4 | a piece of a reply, at the offset in the first two bytes |
//! | 5 | attributes (type, inode, size and owner of the first four bytes), and the rest of the bytes behind them |
//! | 6 | the connection dies |
//! | 7 | time passes |
//!
//! Whatever they are, each request is answered once, with bytes that the kernel takes, and nobody is waited for when the network
//! is gone.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use qnet_iomsg::{Stat, stat};
use qnet_ipc::{Listener, ReceiveBuffer, ServerPeer, ToClient, ToServer};

use super::netfs;

/// Steps in one run.
const MOST: usize = 300;
/// Transactions that are remembered.
const UNDER_WAY: usize = 1000;

/// What stands for `lsm-qnet`.
struct Network {
    listener: Listener,
    path: PathBuf,
    peer: Option<ServerPeer>,
    buffer: ReceiveBuffer,
    /// Transactions without an answer, with their connections.
    under_way: Vec<(u32, u32)>,
}

/// Feeds the steps and looks at every answer to the kernel.
pub(super) fn run(data: &[u8]) {
    let Some(mut network) = Network::new() else { return };
    let mut engine = netfs::engine(network.path.clone());
    let (mut rest, mut unique, mut now) = (data, 0, Instant::now());
    let (mut buffer, mut open) = (Vec::new(), HashSet::new());
    engine.handle_timeout(now);
    for _ in 0..MOST {
        let Some((&[what, which, len], behind)) = rest.split_first_chunk() else { break };
        let (body, behind) = behind.split_at(usize::from(len).min(behind.len()));
        rest = behind;
        if what & 0x80 == 0 {
            unique += 2;
            netfs::ask(&mut engine, now, &mut buffer, (unique, what, which), body, &mut open);
        } else if what & 7 == 7 {
            now += Duration::from_millis(50) * u32::from(which);
            engine.handle_timeout(now);
        } else {
            network.answer(what & 7, which, body);
            engine.handle_link(now, usize::MAX);
        }
        // a connection, its grant, and what has waited for that
        for _ in 0..2 {
            network.hear();
            engine.handle_link(now, usize::MAX);
        }
        network.hear();
        netfs::answers(&mut engine, &mut open);
    }
    drop(network);
    engine.handle_link(now, usize::MAX);
    engine.handle_timeout(now + Duration::from_secs(60));
    netfs::answers(&mut engine, &mut open);
    assert!(open.is_empty(), "requests without an answer: {open:?}");
}

impl Network {
    /// `None` where no socket can be made, which says nothing about the input.
    fn new() -> Option<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fuzz-answers-{}-{number}", std::process::id()));
        let listener = Listener::at_path(&path, 0o600).ok()?;
        Some(Self { listener, path, peer: None, buffer: ReceiveBuffer::new(), under_way: Vec::new() })
    }

    /// Takes what the file system has said. Connections are granted on the way.
    fn hear(&mut self) {
        if self.peer.is_none() {
            self.peer = self.listener.accept().ok().flatten().map(|(peer, _)| peer);
        }
        while let Some(peer) = &mut self.peer {
            match peer.recv(&mut self.buffer) {
                Ok(Some(ToServer::Connect(connect))) => {
                    let granted = ToClient::ConnectOk { conn: connect.conn, scoid: 1, limit: 65_536 };
                    if peer.send(&granted).is_err() {
                        self.peer = None;
                    }
                }
                Ok(Some(ToServer::Send(send, _))) if self.under_way.len() < UNDER_WAY => {
                    self.under_way.push((send.txn, send.conn));
                }
                Ok(Some(ToServer::Disconnect { conn })) => self.under_way.retain(|(_, of)| *of != conn),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => self.peer = None,
            }
        }
        self.under_way.clear();
    }

    fn answer(&mut self, what: u8, which: u8, body: &[u8]) {
        if self.under_way.is_empty() {
            return;
        }
        let at = usize::from(which) % self.under_way.len();
        let (txn, conn) = if what == 4 { self.under_way[at] } else { self.under_way.remove(at) };
        let errno = i32::from(body.first().copied().unwrap_or_default().max(1));
        let attributes;
        let packet = match what {
            1 => match body.split_first_chunk() {
                Some((status, data)) => {
                    ToClient::Reply { txn, status: i64::from_le_bytes(*status), offset: 0, data }
                }
                None => ToClient::Reply { txn, status: i64::MIN, offset: 0, data: &[] },
            },
            2 => ToClient::Error { txn, errno },
            3 => ToClient::Lost { txn, errno },
            4 => {
                let Some((offset, data)) = body.split_first_chunk() else { return };
                ToClient::Write { txn, offset: u16::from_le_bytes(*offset).into(), data }
            }
            5 => {
                let Some((&[kind, ino, size, owner], behind)) = body.split_first_chunk() else { return };
                let mode = u32::from(kind >> 4) << 12 | 0o755;
                let (ino, size, uid) = (ino.into(), size.into(), owner.into());
                let described = Stat { mode, ino, size, uid, dev: (8, 1), nlink: 1, ..Stat::default() };
                attributes = [&described.emit(stat::REPLY_LEN)[..], behind].concat();
                ToClient::Reply { txn, status: behind.len() as i64, offset: 0, data: &attributes }
            }
            6 => {
                self.under_way.retain(|(_, of)| *of != conn);
                ToClient::Death { conn }
            }
            _ => ToClient::Reply { txn, status: body.len() as i64, offset: 0, data: body },
        };
        if self.peer.as_mut().is_none_or(|peer| peer.send(&packet).is_err()) {
            self.peer = None;
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // nobody is to find it any more, and an old name would only lie there
        let _ = std::fs::remove_file(&self.path);
    }
}
