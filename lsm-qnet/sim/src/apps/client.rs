//! The client: works through a plan, several messages at once, and believes nothing.
//!
//! ```text
//!   Waiting ──► Resolving ──► Connecting ──► Ready ──► Done
//!      ▲             │             │           │
//!      └─────────────┴─ failed ────┴─ death ───┘
//! ```
//!
//! A stubborn client tries again whatever fails; another one gives up at the first failure of its
//! connection. What is under way when a client goes away is abandoned, and the ledger knows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use qnet_proto::{
    Body, Buffer, ClientId, ClientInfo, Command, CommandError, Errno, Event, Handle, Instant, Outlet,
    PulseInfo, Qos, VtidInfo,
};

use super::{FIRST_CHUNK, HEAD, Op, Outcome, SharedLedger, fill, sum};
use crate::network::{App, Programs};

/// Time between two tries of a stubborn client.
const PAUSE: Duration = Duration::from_millis(300);

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
    reply: Buffer,
    /// When its sender wants to leave.
    unblock_at: Option<Instant>,
}

/// A client that works through a plan.
pub struct Client {
    ledger: SharedLedger,
    /// Its number; the upper half of all its keys.
    id: u64,
    target: String,
    salt: u64,
    plan: VecDeque<Op>,
    at_once: usize,
    /// Whether what failed is tried again until it works.
    stubborn: bool,
    /// Whether it sends before the connection is there.
    eager: bool,
    /// The policy of its connections.
    qos: Qos,
    stage: Stage,
    /// Connections opened so far.
    opened: u64,
    outstanding: BTreeMap<Handle, Outstanding>,
    /// Messages it left behind; their events may be on their way.
    left: BTreeSet<Handle>,
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
            id: ledger.borrow_mut().add_client(),
            target: target.to_owned(),
            salt,
            plan: plan.into(),
            at_once,
            stubborn,
            eager: false,
            qos: Qos::LoadBalance,
            stage: Stage::Waiting(Instant::ZERO),
            opened: 0,
            outstanding: BTreeMap::new(),
            left: BTreeSet::new(),
            done: done.clone(),
        };
        (Box::new(client), done)
    }

    /// Lets it begin at a time, and send before its connection is there.
    #[must_use]
    pub fn starting(mut self: Box<Client>, at: Instant, eager: bool) -> Box<Client> {
        self.stage = Stage::Waiting(at);
        self.eager = eager;
        self
    }

    /// Lets its connections use the links that a policy allows.
    #[must_use]
    pub fn under(mut self: Box<Client>, qos: Qos) -> Box<Client> {
        self.qos = qos;
        self
    }

    /// Its number: the upper half of the keys in its events.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    fn key(&self) -> ClientId {
        ClientId(self.id << 32 | self.opened)
    }

    fn later(&mut self, host: &Programs<'_>) {
        self.stage = if self.stubborn || self.plan.is_empty() {
            Stage::Waiting(host.now + PAUSE)
        } else {
            *self.done.borrow_mut() = true;
            Stage::Done
        };
    }

    fn may_send(&self) -> bool {
        let open = self.stage == Stage::Ready || (self.eager && self.stage == Stage::Connecting);
        open && self.outstanding.len() < self.at_once
    }

    /// Sends what may be sent now, and notices the end.
    fn go_on(&mut self, host: &mut Programs<'_>) {
        while self.may_send() {
            match self.plan.pop_front() {
                None => break,
                Some(Op::Pulse) => self.pulse(host),
                Some(Op::Leave) => self.leave(host),
                Some(op) => self.send(host, op),
            }
        }
        let over = self.plan.is_empty() && self.outstanding.is_empty();
        if over && matches!(self.stage, Stage::Ready | Stage::Waiting(_)) {
            if self.stage == Stage::Ready {
                let _ = host.command(Command::Disconnect { client: self.key() });
            }
            self.stage = Stage::Done;
            *self.done.borrow_mut() = true;
        }
    }

    fn pulse(&mut self, host: &mut Programs<'_>) {
        let client = self.key();
        let number = self.ledger.borrow_mut().pulse(client.0, host.now);
        let pulse = PulseInfo { code: 5, value: number, priority: 10 };
        if host.command(Command::Pulse { client, info: VtidInfo::default(), pulse }).is_err() {
            self.ledger.borrow_mut().take_back(number);
        }
    }

    /// Closes the connection with everything that is under way on it.
    fn leave(&mut self, host: &mut Programs<'_>) {
        // Refused when it died just now; its events come.
        let _ = host.command(Command::Disconnect { client: self.key() });
        self.abandon();
        self.stage = Stage::Waiting(host.now + PAUSE);
    }

    fn abandon(&mut self) {
        let Ok(mut ledger) = self.ledger.try_borrow_mut() else { return };
        for (handle, sent) in std::mem::take(&mut self.outstanding) {
            ledger.end(sent.number, Outcome::Abandoned);
            // It may never have left, and pulses behind it do.
            ledger.take_back(sent.number);
            self.left.insert(handle);
        }
    }

    fn send(&mut self, host: &mut Programs<'_>, op: Op) {
        let client = self.key();
        let number = self.ledger.borrow_mut().send(client.0, host.now);
        let (kind, argument, len, extra) = op.head();
        let mut message = vec![0x01, 0x20, kind, 0];
        message.extend([0; 8]);
        message.extend(argument.to_le_bytes());
        message.extend(len.to_le_bytes());
        message.extend(fill(number, 0, extra as usize));
        let reply = Buffer::new(0, op.reply_len());
        let info = VtidInfo {
            tid: 1,
            coid: 3,
            priority: 10,
            keydata: number as i32,
            srcmsglen: message.len() as u32,
            dstmsglen: op.reply_len() as u32,
            ..VtidInfo::default()
        };
        let handle = Handle(self.id << 32 | number);
        let first = Body::from(&message[..message.len().min(FIRST_CHUNK as usize)]);
        let outlet = Outlet::new(reply.clone());
        match host.command(Command::Send { client, handle, info, first, reply: outlet }) {
            Ok(()) => {
                let unblock_at = match op {
                    Op::Wait { patience, .. } => Some(host.now + Duration::from_millis(patience.into())),
                    _ => None,
                };
                self.outstanding.insert(handle, Outstanding { number, op, message, reply, unblock_at });
            }
            Err(_) => {
                // The connection is gone; its death will be told after the errors.
                self.ledger.borrow_mut().take_back(number);
                self.failed(number, op, Errno::EBADF);
                self.later(host);
            }
        }
    }

    fn failed(&mut self, number: u64, op: Op, errno: Errno) {
        let mut ledger = self.ledger.borrow_mut();
        if errno == Errno::EINTR {
            // It may never have left.
            ledger.take_back(number);
        }
        ledger.end(number, Outcome::Failed(errno));
        if self.stubborn && !op.is_answered_by(errno) {
            self.plan.push_front(op);
        }
    }

    fn on_reply(&mut self, handle: Handle, status: i32) {
        let Some(sent) = self.outstanding.remove(&handle) else { panic!("{handle:?} ended twice") };
        let reply = sent.reply.take();
        match sent.op {
            Op::Echo { .. } => {
                assert_eq!(status as usize, sent.message.len());
                assert!(reply == sent.message, "echo {} came back damaged", sent.number);
            }
            Op::Read { offset, len } => {
                assert_eq!(status as u32, len);
                assert!(reply == fill(self.salt, offset.into(), len as usize), "damaged at {offset}");
            }
            Op::Put { .. } => assert_eq!(status, sum(&sent.message[HEAD..]), "put {}", sent.number),
            Op::Wait { .. } => assert_eq!(status, 4),
            op => panic!("{op:?} was answered with {status}"),
        }
        let mut ledger = self.ledger.borrow_mut();
        ledger.verified += (reply.len() + sent.message.len()) as u64;
        ledger.end(sent.number, Outcome::Answered);
    }

    fn on_transaction(&mut self, host: &mut Programs<'_>, handle: Handle, event: Event) {
        if self.left.contains(&handle) {
            return;
        }
        match event {
            Event::Read { offset, nbytes, .. } => {
                let Some(sent) = self.outstanding.get(&handle) else { panic!("read of {handle:?}") };
                let (from, to) = (offset as usize, (offset + nbytes) as usize);
                let data = Body::from(&sent.message[from..to]);
                let given = host.command(Command::ReadData { handle, offset, data });
                // Its end may be on the way here.
                assert!(matches!(given, Ok(()) | Err(CommandError::NoSuchMessage)), "{given:?}");
            }
            Event::Reply { status, .. } => {
                self.on_reply(handle, status);
                self.go_on(host);
            }
            Event::Error { errno, .. } => {
                let Some(sent) = self.outstanding.remove(&handle) else { panic!("{handle:?} ended twice") };
                self.failed(sent.number, sent.op, errno);
                self.go_on(host);
            }
            _ => {}
        }
    }
}

impl Drop for Client {
    /// It dies with its host.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.abandon();
        }
    }
}

impl App for Client {
    fn on_event(&mut self, host: &mut Programs<'_>, event: Event) {
        match event {
            Event::Resolved { nd, .. } if self.stage == Stage::Resolving => {
                self.opened += 1;
                self.stage = Stage::Connecting;
                let cred = ClientInfo { pid: 77, ruid: 1000, groups: vec![100, 27], ..ClientInfo::default() };
                let Ok(nd) = host.with_qos(nd, &self.qos) else { return self.later(host) };
                let client = self.key();
                // Who sends at once may leave it to the first message to bring the connection with it.
                let sends = self.plan.front().is_some_and(|op| !matches!(op, Op::Leave));
                let command = if self.eager && sends && self.opened % 2 == 1 {
                    Command::Attach { client, nd, pid: 1, chid: 1, cred }
                } else {
                    Command::Connect { client, nd, pid: 1, chid: 1, cred }
                };
                if host.command(command).is_err() {
                    self.later(host);
                }
                self.go_on(host);
            }
            Event::ResolveFailed { .. } if self.stage == Stage::Resolving => {
                self.later(host);
                self.go_on(host);
            }
            Event::ConnectFailed { client, .. } | Event::Death { client } if client == self.key() => {
                // When it left in the same moment, its pause goes on.
                if matches!(self.stage, Stage::Connecting | Stage::Ready) {
                    self.later(host);
                    self.go_on(host);
                }
            }
            Event::Connected { client, .. } if client == self.key() && self.stage == Stage::Connecting => {
                self.stage = Stage::Ready;
                self.go_on(host);
            }
            Event::Read { handle, .. } | Event::Reply { handle, .. } | Event::Error { handle, .. } => {
                self.on_transaction(host, handle, event)
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
            if host.command(Command::Resolve { token: self.id << 32, name }).is_err() {
                self.later(host);
            }
        }
        for (&handle, sent) in &mut self.outstanding {
            if sent.unblock_at.is_some_and(|at| at <= host.now) {
                sent.unblock_at = None;
                // Refused when its end is on the way here.
                let _ = host.command(Command::Unblock { handle });
            }
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        let wait = if let Stage::Waiting(at) = self.stage { Some(at) } else { None };
        let unblock = self.outstanding.values().filter_map(|sent| sent.unblock_at).min();
        wait.into_iter().chain(unblock).min()
    }
}
