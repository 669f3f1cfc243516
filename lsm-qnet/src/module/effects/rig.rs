//! Two nodes on a wire that the test holds in its hands, in time that the test makes.
//!
//! Programs of the nodes are real threads at real sockets. Time passes for the nodes only when [`Rig::step`] says so, and
//! what is measured lies between two frames of one node, so it is exact however slow this machine is.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use io_pkt_sdk::{
    Interface, InterfaceId, Mac,
    interface::EventKind,
    testing::{Bench, LogLine},
};
use qnet::{Channel, ChannelFlags, Connection, Netmgr, Received};
use qnet_ipc::Root;

use crate::Qnet;

pub(super) const EN0: InterfaceId = InterfaceId(1);
pub(super) const EN1: InterfaceId = InterfaceId(2);
/// A tick unless `periodic_ticks=` says otherwise, in milliseconds.
pub(super) const TICK: u64 = 200;
/// Simulated time of a step, in milliseconds: all measured times are exact to that.
pub(super) const STEP: u64 = 10;
/// How long anything may take in real time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where things stand in a frame without a tag.
const VERSION: usize = 16;
const KIND: usize = 17;
const FLAGS: usize = 18;
/// Kinds of packets.
pub(super) const INIT: u8 = 1;
pub(super) const USER: u8 = 8;
pub(super) const ACK: u8 = 9;
pub(super) const RESOLVE: u8 = 11;

/// A frame that left a node.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// When, in milliseconds of simulated time.
    pub(super) at: u64,
    pub(super) interface: InterfaceId,
    pub(super) frame: Vec<u8>,
}

impl Sent {
    /// The kind of its packet, if it is one of Qnet's without a tag.
    pub(super) fn kind(&self) -> Option<u8> {
        let plain = self.frame.get(12..14)? == [0x82, 0x04] && self.frame[VERSION] & 0x7f == 0x2a;
        plain.then(|| self.frame[KIND])
    }

    pub(super) fn has_checksum(&self) -> bool {
        self.frame[FLAGS] & 4 != 0
    }
}

/// One node.
pub(super) struct Node {
    pub(super) bench: Bench,
    pub(super) root: Root,
    /// Everything that it sent.
    pub(super) sent: Vec<Sent>,
    /// Everything that it logged.
    pub(super) log: Vec<LogLine>,
    _directory: tempfile::TempDir,
}

impl Node {
    fn new(name: &str, last_octet: u8, options: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut all = options.to_vec();
        if !options.iter().any(|(option, _)| *option == "host") {
            all.push(("host", name));
        }
        let root = directory.path().to_str().unwrap();
        let mut bench = Bench::protocol_in_still_time::<Qnet>("qnet", root, &all).unwrap();
        bench.start().unwrap();
        for (id, name, octet) in [(EN0, "en0", 0), (EN1, "en1", 1)] {
            let mac = Mac([2, 0, 0, 0, octet, last_octet]);
            let interface = Interface { mac, permanent_mac: mac, ..Interface::default() };
            bench.interface_event(EventKind::Arrived, id, name, &interface);
        }
        let root = Root::at(directory.path()).unwrap();
        Self { bench, root, sent: Vec::new(), log: Vec::new(), _directory: directory }
    }

    /// Lines of that level that contain `part`.
    pub(super) fn said(&self, part: &str) -> Vec<&LogLine> {
        self.log.iter().filter(|line| line.text.contains(part)).collect()
    }

    /// Frames of that kind, each transmission counted.
    pub(super) fn frames(&self, kind: u8) -> Vec<&Sent> {
        self.sent.iter().filter(|sent| sent.kind() == Some(kind)).collect()
    }

    fn collect(&mut self, at: u64) -> Vec<Sent> {
        while self.bench.poll() {}
        let sent = self.bench.sent().into_iter().map(|(interface, frame)| Sent { at, interface, frame });
        let sent: Vec<Sent> = sent.collect();
        self.sent.extend(sent.iter().cloned());
        self.log.extend(self.bench.host().log_lines());
        sent
    }

    fn hear(&mut self, frames: &[Sent]) {
        for sent in frames {
            self.bench.receive(sent.interface, &[&sent.frame]);
        }
    }
}

/// Node alonzo, which has the options under test, and node joseph.
pub(super) struct Rig {
    pub(super) alonzo: Node,
    pub(super) joseph: Node,
    /// Whether alonzo's frames reach joseph, and joseph's alonzo.
    pub(super) wire: (bool, bool),
    /// Milliseconds of simulated time.
    pub(super) now: u64,
}

impl Rig {
    /// Both nodes with a wire between their interfaces `en0`, and one between `en1`.
    pub(super) fn new(alonzo: &[(&str, &str)], joseph: &[(&str, &str)]) -> Self {
        let mut rig = Self {
            alonzo: Node::new("alonzo", 1, alonzo),
            joseph: Node::new("joseph", 2, joseph),
            wire: (true, true),
            now: 0,
        };
        rig.exchange();
        rig
    }

    /// As [`Rig::new`], but joseph's interfaces have alonzo's addresses.
    pub(super) fn twins() -> Self {
        let allow = [("allow", "connect")];
        let (alonzo, joseph) = (Node::new("alonzo", 1, &[]), Node::new("joseph", 1, &allow));
        let mut rig = Self { alonzo, joseph, wire: (true, true), now: 0 };
        rig.exchange();
        rig
    }

    /// alonzo alone: nobody hears or answers.
    pub(super) fn alone(options: &[(&str, &str)]) -> Self {
        let mut rig = Self {
            alonzo: Node::new("alonzo", 1, options),
            joseph: Node::new("joseph", 2, &[("auto_add", "0")]),
            wire: (false, false),
            now: 0,
        };
        rig.exchange();
        rig
    }

    fn exchange(&mut self) {
        loop {
            let (a, b) = (self.alonzo.collect(self.now), self.joseph.collect(self.now));
            if a.is_empty() && b.is_empty() {
                return;
            }
            if self.wire.0 {
                self.joseph.hear(&a);
            }
            if self.wire.1 {
                self.alonzo.hear(&b);
            }
        }
    }

    /// Lets a little time pass.
    pub(super) fn step(&mut self) {
        self.now += STEP;
        for node in [&self.alonzo, &self.joseph] {
            node.bench.host().advance(STEP * 1_000_000);
        }
        self.exchange();
    }

    /// Lets ticks of 200 ms pass.
    pub(super) fn ticks(&mut self, ticks: u64) {
        for _ in 0..ticks * TICK / STEP {
            self.step();
        }
    }

    /// Lets time pass until `done`, programs having their share of the processor.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "{what}: it did not happen within {PATIENCE:?}");
            self.step();
            self.alonzo.bench.host().wait(Duration::from_millis(1));
            self.exchange();
        }
    }

    /// Lets time pass until that program has ended.
    pub(super) fn finish<T>(&mut self, program: JoinHandle<T>) -> T {
        self.until("the end of a program", |_| program.is_finished());
        program.join().unwrap()
    }

    /// A program of alonzo that asks for `name`.
    pub(super) fn look_up(&self, name: &'static str) -> JoinHandle<Result<u32, i32>> {
        let root = self.alonzo.root.clone();
        thread::spawn(move || {
            let netmgr = Netmgr::attach(&root).map_err(|error| error.errno())?;
            netmgr.strtond(name).map_err(|error| error.errno())
        })
    }

    /// A program of alonzo that sends `len` bytes to a channel of joseph.
    pub(super) fn send(&self, to: (i32, i32), len: usize) -> JoinHandle<Result<(), i32>> {
        let root = self.alonzo.root.clone();
        thread::spawn(move || {
            let nd = Netmgr::attach(&root).and_then(|netmgr| netmgr.strtond("joseph"));
            let connection = Connection::attach(&root, nd.map_err(|error| error.errno())?, to.0, to.1);
            let connection = connection.map_err(|error| error.errno())?;
            connection.send(&vec![7; len], &mut []).map(drop).map_err(|error| error.errno())
        })
    }

    /// A program of alonzo that has sent 200,000 bytes to a channel of joseph, and sends `len` more when it is told to; it
    /// ends with the errno.
    pub(super) fn send_twice(&mut self, to: (i32, i32), len: usize) -> (mpsc::Sender<()>, JoinHandle<i32>) {
        let root = self.alonzo.root.clone();
        let (go, told) = mpsc::channel();
        let (ready, done) = mpsc::channel();
        let program = thread::spawn(move || {
            let nd = Netmgr::attach(&root).unwrap().strtond("joseph").unwrap();
            let connection = Connection::attach(&root, nd, to.0, to.1).unwrap();
            connection.send(&[7; 200_000], &mut []).unwrap();
            ready.send(()).unwrap();
            told.recv().unwrap();
            connection.send(&vec![7; len], &mut []).map_or_else(|error| error.errno(), |_| 0)
        });
        self.until("the first message", |_| done.try_recv().is_ok());
        (go, program)
    }

    /// A channel of joseph, and a program that answers `messages` there; it tells as whom each caller came.
    pub(super) fn serve(&self, messages: usize) -> ((i32, i32), JoinHandle<Vec<u32>>) {
        let channel = Channel::create(&self.joseph.root, ChannelFlags::empty()).unwrap();
        let at = (channel.pid(), channel.chid());
        let serve = move || {
            let mut callers = Vec::new();
            while callers.len() < messages {
                if let Ok(Received::Message(message)) = channel.receive(Some(Instant::now() + PATIENCE)) {
                    callers.push(message.info().credentials.euid);
                    // All of it is fetched, as most servers do.
                    let _all = message.read(0, &mut vec![0; 1 << 20]);
                    let _gone = message.reply(0, &[]);
                } else {
                    break;
                }
            }
            callers
        };
        (at, thread::spawn(serve))
    }

    /// Sets a session up and lets everything come to rest.
    pub(super) fn connect(&mut self) -> (i32, i32) {
        let (at, server) = self.serve(1);
        let client = self.send(at, 10);
        assert_eq!(self.finish(client), Ok(()));
        self.finish(server);
        self.ticks(2);
        at
    }
}

/// The times between frames that follow each other.
pub(super) fn gaps(frames: &[&Sent]) -> Vec<u64> {
    frames.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}
