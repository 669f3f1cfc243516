//! Programs for simulated hosts: a server, a client, and the ledger that watches both.
//!
//! The client sends messages of its plan, a few at a time, answers the server's reads, and compares
//! every reply byte by byte. The [`Ledger`] knows each message by a number inside it and checks the
//! contract: delivered once or the sender was told, never twice, pulses in order.
//!
//! ```text
//!   message: 0x2001 (2), operation (2), number (8), offset (4), length (4), data
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use qnet_proto::{
    Body, ClientId, ClientInfo, Command, Errno, Event, Handle, Instant, PulseInfo, Rcv, ServerId, VtidInfo,
};

use crate::network::{App, Programs};

const HEAD: usize = 20;
/// Bytes the server asks for at once.
const READ_CHUNK: u32 = 60_000;
/// Bytes the server writes at once.
const WRITE_CHUNK: usize = 16_384;
/// What the server tells as its limit for first chunks; QNX's value.
pub const FIRST_CHUNK: u32 = 8192;

/// What a message asks the server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The message comes back.
    Echo {
        /// Data bytes.
        len: u32,
    },
    /// A piece of the server's file comes back.
    Read {
        /// Where it begins.
        offset: u32,
        /// How long it is.
        len: u32,
    },
    /// The data is checked by the server, which answers with its sum.
    Put {
        /// Data bytes.
        len: u32,
    },
    /// A pulse; has no answer.
    Pulse,
}

/// The byte of every file and message at an offset.
#[must_use]
pub fn pattern(salt: u64, offset: u64) -> u8 {
    let x = (offset ^ (salt << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> 56) as u8
}

fn fill(salt: u64, offset: u64, len: usize) -> Vec<u8> {
    (offset..offset + len as u64).map(|at| pattern(salt, at)).collect()
}

fn sum(bytes: &[u8]) -> i32 {
    let sum = bytes.iter().fold(7u32, |sum, &b| sum.wrapping_mul(31).wrapping_add(b.into()));
    (sum >> 1) as i32
}

/// What became of everything.
#[derive(Debug, Default)]
pub struct Ledger {
    delivered: BTreeMap<u64, u32>,
    outcomes: BTreeMap<u64, Result<(), Errno>>,
    sent: u64,
    /// Pulse values, by server and its connection, in the order of arrival.
    pulses: BTreeMap<(u32, u32), Vec<i32>>,
    /// Servers started; a restarted one counts its connections anew.
    servers: u32,
    /// Bytes whose arrival was verified.
    pub verified: u64,
    /// Connections the server saw end.
    pub disconnects: u64,
}

/// A ledger that apps share.
pub type SharedLedger = Rc<RefCell<Ledger>>;

impl Ledger {
    /// A fresh one.
    #[must_use]
    pub fn shared() -> SharedLedger {
        Rc::default()
    }

    /// Checks the contract.
    ///
    /// # Panics
    /// When it was broken.
    pub fn check(&self) {
        for (number, times) in &self.delivered {
            assert_eq!(*times, 1, "message {number} was delivered {times} times");
        }
        for number in 0..self.sent {
            match self.outcomes.get(&number) {
                None => panic!("the sender of message {number} was told nothing"),
                Some(Ok(())) => assert!(self.delivered.contains_key(&number), "{number} answered by nobody"),
                Some(Err(_)) => {}
            }
        }
        for pulses in self.pulses.values() {
            assert!(pulses.is_sorted_by(|a, b| a < b), "pulses out of order: {pulses:?}");
        }
    }

    /// Messages that ended with an error.
    #[must_use]
    pub fn errors(&self) -> Vec<Errno> {
        self.outcomes.values().filter_map(|outcome| outcome.err()).collect()
    }

    /// Messages that were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.outcomes.values().filter(|outcome| outcome.is_ok()).count()
    }

    /// Pulses that arrived.
    #[must_use]
    pub fn pulses(&self) -> usize {
        self.pulses.values().map(Vec::len).sum()
    }
}

/// A server: accepts everybody, serves [`Op`]s.
pub struct Server {
    ledger: SharedLedger,
    life: u32,
    salt: u64,
    open: BTreeMap<Rcv, Collecting>,
    scoid: i32,
}

struct Collecting {
    bytes: Vec<u8>,
    have: u32,
    asked: u32,
}

impl Server {
    /// A server whose file has this salt.
    #[must_use]
    pub fn boxed(ledger: &SharedLedger, salt: u64) -> Box<Server> {
        ledger.borrow_mut().servers += 1;
        let life = ledger.borrow().servers;
        Box::new(Server { ledger: ledger.clone(), life, salt, open: BTreeMap::new(), scoid: 0 })
    }

    /// Asks for what is missing, two reads at a time, or answers.
    fn go_on(&mut self, host: &mut Programs<'_>, rcv: Rcv) {
        let Some(message) = self.open.get_mut(&rcv) else { return };
        let total = message.bytes.len() as u32;
        if message.have == total {
            return self.answer(host, rcv);
        }
        while message.asked < total && message.asked - message.have < 2 * READ_CHUNK {
            let nbytes = READ_CHUNK.min(total - message.asked);
            let read = Command::Read { rcv, offset: message.asked, nbytes };
            message.asked += nbytes;
            if host.command(read).is_err() {
                self.open.remove(&rcv);
                return;
            }
        }
    }

    fn answer(&mut self, host: &mut Programs<'_>, rcv: Rcv) {
        let Some(message) = self.open.remove(&rcv) else { return };
        let bytes = message.bytes;
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let number = u64::from_le_bytes(bytes[4..12].try_into().expect("eight bytes"));
        *self.ledger.borrow_mut().delivered.entry(number).or_default() += 1;
        let (op, offset, len) = (bytes[2], word(12), word(16));
        let (status, reply) = match op {
            1 => (bytes.len() as i32, bytes),
            2 => (len as i32, fill(self.salt, offset.into(), len as usize)),
            _ => (sum(&bytes[HEAD..]), Vec::new()),
        };
        // Everything but the first piece is written; the first comes with the reply.
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
                let accept = Command::Accept { server, scoid: self.scoid, nbytes: FIRST_CHUNK };
                host.command(accept).expect("a connection that was just asked for");
            }
            Event::Message { rcv, info, data, .. } => {
                let have = data.len() as u32;
                let mut bytes = data.into_vec();
                bytes.resize(info.srcmsglen as usize, 0);
                self.open.insert(rcv, Collecting { bytes, have, asked: have });
                self.go_on(host, rcv);
            }
            Event::ReadData { rcv, offset, data } => {
                if let Some(message) = self.open.get_mut(&rcv) {
                    let at = offset as usize;
                    message.bytes[at..at + data.len()].copy_from_slice(&data);
                    message.have += data.len() as u32;
                    self.go_on(host, rcv);
                }
            }
            Event::ReadError { rcv, errno, .. } => {
                self.open.remove(&rcv);
                let _ = host.command(Command::Error { rcv, errno });
            }
            Event::Unblock { rcv } => {
                self.open.remove(&rcv);
                let _ = host.command(Command::Error { rcv, errno: Errno::EINTR });
            }
            Event::Pulse { server: ServerId(server), pulse } => {
                self.ledger.borrow_mut().pulses.entry((self.life, server)).or_default().push(pulse.value);
            }
            Event::Disconnect { .. } => self.ledger.borrow_mut().disconnects += 1,
            _ => {}
        }
    }

    fn on_time(&mut self, _host: &mut Programs<'_>) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting(Instant),
    Resolving,
    Connecting,
    Ready,
    Done,
}

struct Outstanding {
    number: u64,
    op: Op,
    message: Vec<u8>,
    reply: Vec<u8>,
}

/// A client that works through a plan.
pub struct Client {
    ledger: SharedLedger,
    target: String,
    salt: u64,
    plan: VecDeque<Op>,
    at_once: usize,
    /// Whether what failed is tried again until it works.
    stubborn: bool,
    stage: Stage,
    key: u64,
    pulses: i32,
    outstanding: BTreeMap<Handle, Outstanding>,
    done: Rc<RefCell<bool>>,
}

impl Client {
    /// A client of the server on `target` (whose file has `salt`), with `at_once` messages under
    /// way. Also gives a flag that becomes true when the plan is finished.
    #[must_use]
    pub fn boxed(
        ledger: &SharedLedger,
        target: &str,
        salt: u64,
        plan: Vec<Op>,
        at_once: usize,
        stubborn: bool,
    ) -> (Box<Client>, Rc<RefCell<bool>>) {
        let done = Rc::new(RefCell::new(false));
        let client = Client {
            ledger: ledger.clone(),
            target: target.to_owned(),
            salt,
            plan: plan.into(),
            at_once,
            stubborn,
            stage: Stage::Waiting(Instant::ZERO),
            key: 0,
            pulses: 0,
            outstanding: BTreeMap::new(),
            done: done.clone(),
        };
        (Box::new(client), done)
    }

    fn later(&mut self, host: &Programs<'_>) {
        self.stage = if self.stubborn || self.plan.is_empty() {
            Stage::Waiting(host.now + Duration::from_millis(300))
        } else {
            *self.done.borrow_mut() = true;
            Stage::Done
        };
    }

    /// Sends what may be sent now, and notices the end.
    fn go_on(&mut self, host: &mut Programs<'_>) {
        while self.stage == Stage::Ready && self.outstanding.len() < self.at_once {
            let Some(op) = self.plan.pop_front() else { break };
            if op == Op::Pulse {
                self.pulses += 1;
                let pulse = PulseInfo { code: 5, value: self.pulses, priority: 10 };
                let client = ClientId(self.key);
                let _ = host.command(Command::Pulse { client, info: VtidInfo::default(), pulse });
                continue;
            }
            self.send(host, op);
        }
        let over = self.plan.is_empty() && self.outstanding.is_empty();
        if over && matches!(self.stage, Stage::Ready | Stage::Waiting(_)) {
            if self.stage == Stage::Ready {
                let _ = host.command(Command::Disconnect { client: ClientId(self.key) });
            }
            self.stage = Stage::Done;
            *self.done.borrow_mut() = true;
        }
    }

    fn send(&mut self, host: &mut Programs<'_>, op: Op) {
        let number = {
            let mut ledger = self.ledger.borrow_mut();
            ledger.sent += 1;
            ledger.sent - 1
        };
        let (kind, offset, len, extra, reply) = match op {
            Op::Echo { len } => (1u8, 0, len, len, HEAD + len as usize),
            Op::Read { offset, len } => (2, offset, len, 0, len as usize),
            Op::Put { len } => (3, 0, len, len, 0),
            Op::Pulse => unreachable!("pulses are not sent as messages"),
        };
        let mut message = vec![0x01, 0x20, kind, 0];
        message.extend(number.to_le_bytes());
        message.extend(offset.to_le_bytes());
        message.extend(len.to_le_bytes());
        message.extend(fill(number, 0, extra as usize));
        let info = VtidInfo {
            tid: 1,
            coid: 3,
            priority: 10,
            srcmsglen: message.len() as u32,
            dstmsglen: reply as u32,
            ..VtidInfo::default()
        };
        let handle = Handle(number);
        let first = Body::from(&message[..message.len().min(FIRST_CHUNK as usize)]);
        let send = Command::Send { client: ClientId(self.key), handle, info, first };
        match host.command(send) {
            Ok(()) => {
                let reply = vec![0; reply];
                self.outstanding.insert(handle, Outstanding { number, op, message, reply });
            }
            Err(_) => {
                // The connection is gone; its death will be told after the errors.
                self.failed(number, op, Errno::EBADF);
                self.later(host);
            }
        }
    }

    fn failed(&mut self, number: u64, op: Op, errno: Errno) {
        let before = self.ledger.borrow_mut().outcomes.insert(number, Err(errno));
        assert_eq!(before, None, "message {number} ended twice");
        if self.stubborn {
            self.plan.push_front(op);
        }
    }

    fn on_reply(&mut self, handle: Handle, status: i32, data: &[u8]) {
        let Some(mut sent) = self.outstanding.remove(&handle) else { panic!("{handle:?} ended twice") };
        sent.reply[..data.len()].copy_from_slice(data);
        match sent.op {
            Op::Echo { .. } => {
                assert_eq!(status as usize, sent.message.len());
                assert!(sent.reply == sent.message, "echo {} came back damaged", sent.number);
            }
            Op::Read { offset, len } => {
                assert_eq!(status as u32, len);
                assert!(sent.reply == fill(self.salt, offset.into(), len as usize), "damaged at {offset}");
            }
            Op::Put { .. } => assert_eq!(status, sum(&sent.message[HEAD..]), "put {}", sent.number),
            Op::Pulse => {}
        }
        let mut ledger = self.ledger.borrow_mut();
        ledger.verified += (sent.reply.len() + sent.message.len()) as u64;
        let before = ledger.outcomes.insert(sent.number, Ok(()));
        assert_eq!(before, None, "message {} ended twice", sent.number);
    }
}

impl App for Client {
    fn on_event(&mut self, host: &mut Programs<'_>, event: Event) {
        match event {
            Event::Resolved { nd, .. } => {
                self.key += 1;
                self.stage = Stage::Connecting;
                let cred = ClientInfo { pid: 77, ruid: 1000, groups: vec![100, 27], ..ClientInfo::default() };
                let client = ClientId(self.key);
                if host.command(Command::Connect { client, nd, pid: 1, chid: 1, cred }).is_err() {
                    self.later(host);
                }
            }
            Event::ResolveFailed { .. } | Event::ConnectFailed { .. } | Event::Death { .. } => {
                self.later(host);
                self.go_on(host);
            }
            Event::Connected { .. } => {
                self.stage = Stage::Ready;
                self.go_on(host);
            }
            Event::Read { handle, offset, nbytes } => {
                let Some(sent) = self.outstanding.get(&handle) else { panic!("read of {handle:?}") };
                let (from, to) = (offset as usize, (offset + nbytes) as usize);
                let data = Body::from(&sent.message[from..to]);
                host.command(Command::ReadData { handle, offset, data }).expect("it was asked for");
            }
            Event::Write { handle, offset, data } => {
                let Some(sent) = self.outstanding.get_mut(&handle) else { panic!("write to {handle:?}") };
                sent.reply[offset as usize..offset as usize + data.len()].copy_from_slice(&data);
            }
            Event::Reply { handle, status, data, .. } => {
                self.on_reply(handle, status, &data);
                self.go_on(host);
            }
            Event::Error { handle, errno } => {
                let Some(sent) = self.outstanding.remove(&handle) else { panic!("{handle:?} ended twice") };
                self.failed(sent.number, sent.op, errno);
                self.go_on(host);
            }
            _ => {}
        }
    }

    fn on_time(&mut self, host: &mut Programs<'_>) {
        if let Stage::Waiting(at) = self.stage
            && host.now >= at
        {
            self.stage = Stage::Resolving;
            let name = self.target.clone();
            if host.command(Command::Resolve { token: 1, name }).is_err() {
                self.later(host);
            }
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting(at) => Some(at),
            _ => None,
        }
    }
}
