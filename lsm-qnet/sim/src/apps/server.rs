//! The server: takes every connection, serves every [`Op`](super::Op).
//!
//! It fetches what did not come with a message two reads at a time, writes long replies in pieces and
//! lets the rest come with the reply.

use std::collections::BTreeMap;
use std::time::Duration;

use qnet_proto::{Body, Buffer, Command, Errno, Event, Instant, Outlet, Rcv, ServerId, Sink};

use super::{HEAD, SharedLedger, fill, sum};
use crate::network::{App, Programs};

/// Bytes the server asks for at once.
const READ_CHUNK: u32 = 60_000;
/// Bytes the server writes at once.
const WRITE_CHUNK: usize = 16_384;
/// What the server tells as its limit for first chunks; QNX's value.
pub const FIRST_CHUNK: u32 = 8192;

/// A server.
pub struct Server {
    ledger: SharedLedger,
    salt: u64,
    open: BTreeMap<Rcv, Collecting>,
    /// Messages whose answer takes its time.
    slow: BTreeMap<Rcv, Instant>,
    scoid: i32,
    limit: u32,
}

struct Collecting {
    server: ServerId,
    bytes: Buffer,
    total: u32,
    have: u32,
    asked: u32,
}

impl Server {
    /// A server whose file has this salt.
    #[must_use]
    pub fn boxed(ledger: &SharedLedger, salt: u64) -> Box<Server> {
        let (open, slow) = (BTreeMap::new(), BTreeMap::new());
        Box::new(Server { ledger: ledger.clone(), salt, open, slow, scoid: 0, limit: FIRST_CHUNK })
    }

    /// Changes how many bytes come with a message at once.
    #[must_use]
    pub fn with_limit(mut self: Box<Server>, limit: u32) -> Box<Server> {
        self.limit = limit;
        self
    }

    /// Asks for what is missing, two reads at a time, or answers.
    fn go_on(&mut self, host: &mut Programs<'_>, rcv: Rcv) {
        let Some(message) = self.open.get_mut(&rcv) else { return };
        let total = message.total;
        if message.have == total {
            return self.serve(host, rcv);
        }
        while message.asked < total && message.asked - message.have < 2 * READ_CHUNK {
            let nbytes = READ_CHUNK.min(total - message.asked);
            let into = Outlet::new(message.bytes.clone());
            let read = Command::Read { rcv, offset: message.asked, nbytes, into };
            message.asked += nbytes;
            if host.command(read).is_err() {
                self.open.remove(&rcv);
                return;
            }
        }
    }

    fn serve(&mut self, host: &mut Programs<'_>, rcv: Rcv) {
        let Some(message) = self.open.remove(&rcv) else { return };
        let bytes = message.bytes.take();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (argument, len) = (word(12), word(16));
        match bytes[2] {
            1 => self.reply(host, rcv, bytes.len() as i32, &bytes),
            2 => {
                let piece = fill(self.salt, argument.into(), len as usize);
                self.reply(host, rcv, len as i32, &piece);
            }
            3 => self.reply(host, rcv, sum(&bytes[HEAD..]), &[]),
            4 => {
                let at = host.now + Duration::from_millis(argument.into());
                self.slow.insert(rcv, at);
            }
            5 => drop(host.command(Command::Error { rcv, errno: Errno::EAGAIN })),
            _ => drop(host.command(Command::ConnectDeath { server: message.server })),
        }
    }

    /// Everything but the first piece is written; the first comes with the reply.
    fn reply(&mut self, host: &mut Programs<'_>, rcv: Rcv, status: i32, reply: &[u8]) {
        let mut at = WRITE_CHUNK.min(reply.len());
        let first = reply[..at].to_vec();
        while at < reply.len() {
            let end = (at + WRITE_CHUNK).min(reply.len());
            let data = Body::from(&reply[at..end]);
            let _ = host.command(Command::Write { rcv, offset: at as u32, data });
            at = end;
        }
        let _ = host.command(Command::Reply { rcv, status, data: first.into() });
    }
}

impl App for Server {
    fn on_event(&mut self, host: &mut Programs<'_>, event: Event) {
        match event {
            Event::Connect { server, cred, .. } => {
                assert!(cred.is_some_and(|cred| cred.pid == 77), "credentials arrive");
                self.scoid += 1;
                let accept = Command::Accept { server, scoid: self.scoid, nbytes: self.limit };
                host.command(accept).expect("a connection that was just asked for");
            }
            Event::Message { rcv, server, info, data } => {
                self.ledger.borrow_mut().arrived(info.keydata as u64, false);
                let have = data.len() as u32;
                let total = info.srcmsglen;
                let mut bytes = Buffer::new(0, total as usize);
                bytes.write_at(0, &data);
                self.open.insert(rcv, Collecting { server, bytes, total, have, asked: have });
                self.go_on(host, rcv);
            }
            Event::ReadDone { rcv, nbytes, .. } => {
                if let Some(message) = self.open.get_mut(&rcv) {
                    message.have += nbytes;
                    self.go_on(host, rcv);
                }
            }
            Event::ReadError { rcv, errno, .. } => {
                self.open.remove(&rcv);
                let _ = host.command(Command::Error { rcv, errno });
            }
            Event::Unblock { rcv } => {
                self.open.remove(&rcv);
                self.slow.remove(&rcv);
                let _ = host.command(Command::Error { rcv, errno: Errno::EINTR });
            }
            Event::Pulse { pulse, .. } => {
                self.ledger.borrow_mut().arrived(pulse.value, true);
            }
            Event::Disconnect { .. } => self.ledger.borrow_mut().disconnects += 1,
            _ => {}
        }
    }

    fn on_time(&mut self, host: &mut Programs<'_>) {
        let due: Vec<Rcv> =
            self.slow.iter().filter(|(_, at)| **at <= host.now).map(|(&rcv, _)| rcv).collect();
        for rcv in due {
            self.slow.remove(&rcv);
            // Refused when the sender's connection is gone.
            let _ = host.command(Command::Reply { rcv, status: 4, data: Body::empty() });
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.slow.values().min().copied()
    }
}
