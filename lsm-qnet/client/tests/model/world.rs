//! Channels against a small reference model: random operations of a few clients and one server, thousands of sequences. The
//! same sequences run on one node (`main.rs`) and between two (`lsm-qnet/src/engine/tests/model.rs`).
//!
//! The model is a list of what waits, ordered by priority and arrival, and a list of what was received and not answered.
//! Clients are raw ends of sockets, so that one thread plays all of them and a sequence is the same each time; only a
//! server's read of a message has a thread of its own, because it waits for the client. `QNET_MODEL_CASES` sets the number
//! of sequences.

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use qnet::{Channel, ChannelFlags, Message, Pulse, Received, Root};
use qnet_ipc::{ClientPeer, ReceiveBuffer, ToClient, ToServer, packet};

const CLIENTS: usize = 3;
/// For anything that should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// Code of the pulses by which the world knows that all before them has arrived.
const MARK: i8 = 127;
/// Priority of a pulse about a client's end.
const DISCONNECT_PRIORITY: i32 = 10;

/// The way between clients and channel.
pub(crate) trait Way {
    /// Root of the channel's node.
    fn root(&self) -> Root;

    /// A client of the channel, in a process of that number, and what it says to connect.
    fn client(&mut self, channel: &Channel, pid: i32) -> (ClientPeer, packet::Connect);

    /// Whether both are on one node. Then what a server wrote is there when it answers with an error; else it goes with a
    /// reply.
    fn is_on_one_node(&self) -> bool;

    /// Something moves.
    fn turn(&mut self);

    /// Everything that was said arrives at the other end's socket.
    fn rest(&mut self);
}

/// What happens. `which` counts among the messages that were received and not answered.
#[derive(Clone, Debug)]
enum Op {
    Send { client: usize, priority: i32, len: usize, room: usize },
    Pulse { client: usize, priority: i32, value: u64 },
    Leave { client: usize },
    Die { client: usize },
    Receive,
    Read { which: usize, offset: u32, len: usize },
    Write { which: usize, offset: u32, len: usize },
    Answer { which: usize, outcome: Result<i32, i32>, len: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let (client, which, priority) = (|| 0..CLIENTS, || 0..8_usize, || 1..20_i32);
    // Short, around the first piece of another node, and longer than it.
    let len = || prop_oneof![4 => 0..200_usize, 1 => 8_100..8_300_usize, 1 => 0..40_000_usize];
    let offset = || prop_oneof![3 => 0..250_u32, 1 => 0..40_000_u32];
    let outcome = prop_oneof![4 => any::<i32>().prop_map(Ok), 1 => (1..40_i32).prop_map(Err)];
    prop_oneof![
        8 => (client(), priority(), len(), len())
            .prop_map(|(client, priority, len, room)| Op::Send { client, priority, len, room }),
        4 => (client(), priority(), any::<u64>())
            .prop_map(|(client, priority, value)| Op::Pulse { client, priority, value }),
        2 => client().prop_map(|client| Op::Leave { client }),
        1 => client().prop_map(|client| Op::Die { client }),
        8 => Just(Op::Receive),
        3 => (which(), offset(), len()).prop_map(|(which, offset, len)| Op::Read { which, offset, len }),
        3 => (which(), offset(), len()).prop_map(|(which, offset, len)| Op::Write { which, offset, len }),
        6 => (which(), outcome, len()).prop_map(|(which, outcome, len)| Op::Answer { which, outcome, len }),
    ]
}

/// A message as its sender knows it.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    client: usize,
    txn: u32,
    len: usize,
    /// What the reply buffer holds.
    reply: Vec<u8>,
    /// It said that it wants to leave.
    leaving: bool,
    /// The sender is gone.
    dead: bool,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        (0..self.len).map(|at| (at as u32 ^ self.txn.wrapping_mul(31)) as u8).collect()
    }

    /// What a write of `data` does to the reply buffer; how many bytes have room.
    fn write(&mut self, offset: usize, data: &[u8]) -> usize {
        let n = data.len().min(self.reply.len().saturating_sub(offset));
        if n > 0 {
            self.reply[offset..offset + n].copy_from_slice(&data[..n]);
        }
        n
    }
}

/// Something that waits to be received.
#[derive(Clone, Debug, PartialEq)]
enum Waiting {
    Message(Sent),
    Pulse { code: i8, value: u64 },
}

/// A client's end of its socket.
struct Client {
    peer: ClientPeer,
    /// Most bytes that go along with a message.
    first: usize,
    /// Messages that are not over: their bytes, and what the reply buffer holds.
    open: BTreeMap<u32, (Vec<u8>, Vec<u8>)>,
    /// How messages ended, with what the reply buffer held then.
    ended: VecDeque<(u32, Result<i64, i32>, Vec<u8>)>,
}

impl Client {
    /// Takes in what was said to it, and answers reads.
    fn hear(&mut self) {
        let mut buffer = ReceiveBuffer::new();
        // That nobody is there any more shows in `recv`.
        let _gone = self.peer.flush();
        while let Ok(Some(packet)) = self.peer.recv(&mut buffer) {
            match packet {
                ToClient::ConnectOk { limit, .. } => self.first = limit as usize,
                ToClient::Read { txn, offset, nbytes } => {
                    let (bytes, _) = &self.open[&txn];
                    let rest = &bytes[bytes.len().min(offset as usize)..];
                    let data = &rest[..rest.len().min(nbytes as usize)];
                    self.peer.send(&ToServer::ReadData { txn, offset, data }).unwrap();
                }
                ToClient::Write { txn, offset, data } => self.put(txn, offset, data),
                ToClient::Reply { txn, status, offset, data } => {
                    self.put(txn, offset, data);
                    self.end(txn, Ok(status));
                }
                ToClient::Error { txn, errno } | ToClient::Lost { txn, errno } => self.end(txn, Err(errno)),
                ToClient::Received { .. } | ToClient::Channel { .. } | ToClient::Death { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn put(&mut self, txn: u32, offset: u32, data: &[u8]) {
        let (_, reply) = self.open.get_mut(&txn).unwrap();
        if !data.is_empty() {
            reply[offset as usize..][..data.len()].copy_from_slice(data);
        }
    }

    fn end(&mut self, txn: u32, outcome: Result<i64, i32>) {
        let (_, reply) = self.open.remove(&txn).unwrap();
        self.ended.push_back((txn, outcome, reply));
    }
}

struct World<'w, W> {
    way: &'w mut W,
    channel: Channel,
    flags: ChannelFlags,
    /// Whether clients use shared memory, when they find that it pays; see `new`.
    rings: bool,
    clients: Vec<Client>,
    /// One more, which only marks.
    marker: Option<Client>,
    /// Processes and transactions so far.
    pids: i32,
    txns: u32,
    /// By priority (the highest first) and arrival.
    waiting: BTreeMap<(i32, u32), Waiting>,
    received: Vec<(Message, Sent)>,
}

impl<'w, W: Way> World<'w, W> {
    /// Where rings may come about an event loop watches the channel. Without one, a server that looks into the memory of
    /// those who spoke last looks at the sockets of the others now and then only, so that the order between the two is
    /// not always that of the model.
    fn new(way: &'w mut W, flags: ChannelFlags, rings: bool) -> Self {
        let channel = Channel::create(&way.root(), flags).unwrap();
        if rings || !way.is_on_one_node() {
            let _watched = channel.as_fd();
        }
        let (received, waiting) = (Vec::new(), BTreeMap::new());
        let (clients, marker) = (Vec::new(), None);
        let (pids, txns) = (0, 1);
        let mut world = Self { way, channel, flags, rings, clients, marker, pids, txns, waiting, received };
        world.marker = Some(world.connected());
        for _ in 0..CLIENTS {
            let client = world.connected();
            world.clients.push(client);
        }
        world
    }

    /// A client whose connection is open.
    fn connected(&mut self) -> Client {
        self.pids += 1;
        let (mut peer, connect) = self.way.client(&self.channel, 1000 + self.pids);
        if !self.rings {
            peer.keep_to_socket();
        }
        peer.send(&ToServer::Connect(connect)).unwrap();
        let mut client = Client { peer, first: 0, open: BTreeMap::new(), ended: VecDeque::new() };
        let end = Instant::now() + PATIENCE;
        while client.first == 0 {
            assert!(Instant::now() < end, "the connection does not come");
            self.mark();
            client.hear();
        }
        client
    }

    /// Lets the channel take in what was said, so that arrivals of different clients have an order. Nothing is received by
    /// that: only the most urgent pulse of all, sent for the purpose.
    fn mark(&mut self) {
        let Some(marker) = &mut self.marker else {
            // Nobody can have said anything else yet.
            self.way.rest();
            let nothing = self.channel.receive(Some(Instant::now())).unwrap_err();
            assert_eq!(nothing.errno(), libc::ETIMEDOUT);
            return self.way.rest();
        };
        let mark = packet::Pulse { conn: 1, code: MARK, priority: i32::MAX, value: 0 };
        marker.peer.send(&ToServer::Pulse(mark)).unwrap();
        self.way.rest();
        let marked = self.channel.receive(Some(Instant::now() + PATIENCE)).unwrap();
        match marked {
            Received::Pulse(pulse) => assert_eq!(pulse.code, MARK, "came first"),
            Received::Message(message) => panic!("{:?} came first", message.info()),
        }
        self.way.rest();
    }

    fn run(&mut self, op: &Op) {
        self.txns += 1;
        match *op {
            Op::Send { client, priority, len, room } => self.send(client, priority, len, room),
            Op::Pulse { client, priority, value } => {
                let pulse = packet::Pulse { conn: 1, code: 7, priority, value };
                self.clients[client].peer.send(&ToServer::Pulse(pulse)).unwrap();
                self.waiting.insert((-priority, self.txns), Waiting::Pulse { code: 7, value });
                self.way.rest();
                self.mark();
            }
            Op::Leave { client } => self.leave(client),
            Op::Die { client } => self.die(client),
            Op::Receive => self.receive(),
            Op::Read { which, offset, len } => self.read(which, offset, len),
            Op::Write { which, offset, len } => self.write(which, offset, len),
            Op::Answer { which, outcome, len } => self.answer(which, outcome, len),
        }
    }

    fn send(&mut self, client: usize, priority: i32, len: usize, room: usize) {
        let txn = self.txns;
        let sent = Sent { client, txn, len, reply: vec![b'.'; room], leaving: false, dead: false };
        let (srcmsglen, dstmsglen) = (len as u32, room as u32);
        let head = packet::Send { txn, conn: 1, priority, srcmsglen, dstmsglen, ..packet::Send::default() };
        let bytes = sent.bytes();
        let sender = &mut self.clients[client];
        sender.peer.send(&ToServer::Send(head, &bytes[..len.min(sender.first)])).unwrap();
        sender.open.insert(txn, (bytes, sent.reply.clone()));
        self.waiting.insert((-priority, txn), Waiting::Message(sent));
        self.way.rest();
        self.mark();
    }

    /// The oldest message of the client, waiting or received, wants to end.
    fn leave(&mut self, client: usize) {
        let of_client =
            |waiting: &Waiting| matches!(waiting, Waiting::Message(sent) if sent.client == client);
        let waits = self.waiting.iter().find(|(_, waiting)| of_client(waiting)).map(|(key, _)| *key);
        if let Some(Waiting::Message(sent)) = waits.and_then(|key| self.waiting.remove(&key)) {
            self.unblock(client, sent.txn);
            return self.ends(&sent, Err(libc::EINTR));
        }
        let with_pulse = self.flags.contains(ChannelFlags::UNBLOCK);
        let held = |(_, sent): &(Message, Sent)| sent.client == client && !sent.dead;
        let Some(at) = self.received.iter().position(held) else { return };
        self.unblock(client, self.received[at].1.txn);
        if with_pulse {
            let (message, sent) = &mut self.received[at];
            let (value, priority) = (message.rcvid() as u64, message.info().priority);
            if !std::mem::replace(&mut sent.leaving, true) {
                self.waiting.insert((-priority, self.txns), Waiting::Pulse { code: Pulse::UNBLOCK, value });
            }
            return;
        }
        let (message, sent) = self.received.remove(at);
        assert_eq!(message.reply(0, b"").unwrap_err().errno(), libc::ESRCH);
        self.ends(&sent, Err(libc::EINTR));
    }

    fn unblock(&mut self, client: usize, txn: u32) {
        self.clients[client].peer.send(&ToServer::Unblock { txn, tid: 1 }).unwrap();
        self.way.rest();
        self.mark();
    }

    /// The client's process ends, and another one takes its place.
    fn die(&mut self, client: usize) {
        let of_client =
            |waiting: &Waiting| matches!(waiting, Waiting::Message(sent) if sent.client == client);
        self.waiting.retain(|_, waiting| !of_client(waiting));
        for (_, sent) in self.received.iter_mut().filter(|(_, sent)| sent.client == client) {
            sent.dead = true;
        }
        if self.flags.contains(ChannelFlags::DISCONNECT) {
            let gone = Waiting::Pulse { code: Pulse::DISCONNECT, value: 0 };
            self.waiting.insert((-DISCONNECT_PRIORITY, self.txns), gone);
        }
        drop(self.clients.remove(client));
        self.way.rest();
        self.mark();
        let next = self.connected();
        self.clients.insert(client, next);
    }

    fn receive(&mut self) {
        let expected = self.waiting.pop_first();
        match (self.channel.receive(Some(Instant::now())), expected) {
            (Err(error), None) => assert_eq!(error.errno(), libc::ETIMEDOUT),
            (Ok(Received::Pulse(pulse)), Some((_, Waiting::Pulse { code, value }))) => {
                assert_eq!((pulse.code, pulse.value), (code, value));
            }
            (Ok(Received::Message(message)), Some(((urgency, _), Waiting::Message(sent)))) => {
                let info = message.info();
                let first = sent.len.min(self.clients[sent.client].first);
                assert_eq!((info.srcmsglen as usize, info.priority), (sent.len, -urgency));
                assert_eq!((info.dstmsglen as usize, info.msglen), (sent.reply.len(), first));
                assert!(message.data() == &sent.bytes()[..first]);
                self.received.push((message, sent));
            }
            (Ok(Received::Message(message)), expected) => {
                panic!("{:?} where {expected:?} was next", message.info());
            }
            (got, expected) => panic!("{got:?} where {expected:?} was next"),
        }
        self.way.rest();
    }

    fn read(&mut self, which: usize, offset: u32, len: usize) {
        if self.received.is_empty() {
            return;
        }
        let at = which % self.received.len();
        let (message, sent) = &self.received[at];
        let mut buffer = vec![0; len];
        let (way, clients) = (&mut *self.way, &mut self.clients);
        let outcome = thread::scope(|scope| {
            let reader = scope.spawn(|| message.read(offset, &mut buffer));
            let end = Instant::now() + PATIENCE;
            while !reader.is_finished() {
                assert!(Instant::now() < end, "the read does not end");
                way.turn();
                clients.iter_mut().for_each(Client::hear);
            }
            reader.join().unwrap()
        });
        match outcome {
            Ok(got) => {
                let bytes = sent.bytes();
                let expected = &bytes[bytes.len().min(offset as usize)..];
                let expected = &expected[..expected.len().min(len)];
                assert_eq!(got, expected.len());
                assert!(buffer[..got] == *expected);
            }
            Err(error) => assert!(sent.dead && error.errno() == libc::ESRCH, "{error}"),
        }
        self.way.rest();
    }

    fn write(&mut self, which: usize, offset: u32, len: usize) {
        if self.received.is_empty() {
            return;
        }
        let at = which % self.received.len();
        let data = vec![self.txns as u8; len];
        let (message, sent) = &mut self.received[at];
        match message.write(offset, &data) {
            Ok(written) => assert_eq!((written, false), (sent.write(offset as usize, &data), sent.dead)),
            Err(error) => assert!(sent.dead && error.errno() == libc::ESRCH, "{error}"),
        }
        self.way.rest();
    }

    fn answer(&mut self, which: usize, outcome: Result<i32, i32>, len: usize) {
        if self.received.is_empty() {
            return;
        }
        let (message, mut sent) = self.received.remove(which % self.received.len());
        // Who is answered has nothing to leave any more, but the pulse that said so is on its way.
        let data = vec![!self.txns as u8; len];
        let answered = match outcome {
            Ok(status) => message.reply(status.into(), &data),
            Err(errno) => message.error(errno),
        };
        if sent.dead {
            assert_eq!(answered.unwrap_err().errno(), libc::ESRCH);
            return self.way.rest();
        }
        answered.unwrap();
        if outcome.is_ok() {
            sent.write(0, &data);
        }
        self.ends(&sent, outcome.map(i64::from));
    }

    /// The sender hears of the end of its message.
    fn ends(&mut self, sent: &Sent, outcome: Result<i64, i32>) {
        self.way.rest();
        let end = Instant::now() + PATIENCE;
        let client = &mut self.clients[sent.client];
        loop {
            client.hear();
            if let Some((txn, how, reply)) = client.ended.pop_front() {
                assert_eq!((txn, how), (sent.txn, outcome));
                let compared = outcome.is_ok() || self.way.is_on_one_node();
                return assert!(!compared || reply == sent.reply, "another reply than was given");
            }
            assert!(Instant::now() < end, "the end of {sent:?} is not told");
            self.way.turn();
        }
    }

    /// The server ends: whoever still waits is told, or finds nobody there.
    fn finish(mut self) {
        self.received.clear();
        drop(self.channel);
        self.way.rest();
        for client in &mut self.clients {
            client.hear();
            let closed = client.peer.recv(&mut ReceiveBuffer::new()).is_err();
            assert!(closed || client.open.is_empty(), "{:?} wait for ever", client.open.keys());
            assert!(client.ended.iter().all(|(_, how, _)| *how == Err(libc::ESRCH)), "{:?}", client.ended);
        }
    }
}

/// Runs as many sequences as an ordinary test, or as a long one.
pub(crate) fn run(way: &mut impl Way, (usual, soak): (u32, u32)) {
    let usual = if env::var_os("IO_PKT_SOAK").is_some() { soak } else { usual };
    let cases = env::var("QNET_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    let settings = (any::<bool>(), any::<bool>(), any::<bool>());
    let way = std::cell::RefCell::new(way);
    TestRunner::new(config)
        .run(&(settings, prop::collection::vec(op(), 1..40)), |((unblock, disconnect, rings), ops)| {
            let flag = |on: bool, flag| if on { flag } else { ChannelFlags::empty() };
            let flags =
                flag(unblock, ChannelFlags::UNBLOCK).union(flag(disconnect, ChannelFlags::DISCONNECT));
            let mut way = way.borrow_mut();
            let mut world = World::new(&mut **way, flags, rings);
            ops.iter().for_each(|op| world.run(op));
            world.finish();
            Ok(())
        })
        .unwrap();
}
