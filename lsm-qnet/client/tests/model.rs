//! Channels against a small reference model: random operations of a few clients and one server, thousands of sequences.
//!
//! The model is a list of what waits, ordered by priority and arrival, and a set of what was received. Clients are raw
//! ends of channel sockets, so that one thread plays all of them and every sequence is the same each time. `QNET_MODEL_CASES`
//! sets the number of sequences; the default is CI's share.

#![expect(clippy::unwrap_used, reason = "a sequence that panics has failed")]

use std::{collections::BTreeMap, env, time::Instant};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use qnet::{Channel, ChannelFlags, Message, Pulse, Received, Root};
use qnet_ipc::{ClientPeer, ReceiveBuffer, ToClient, ToServer, packet};

const CLIENTS: usize = 3;
const CI_CASES: u32 = 2_000;

#[derive(Clone, Debug)]
enum Op {
    Send { client: usize, priority: i32, len: usize },
    Pulse { client: usize, priority: i32, value: u64 },
    Leave { client: usize },
    Receive,
    Answer { which: usize, status: i64 },
}

fn op() -> impl Strategy<Value = Op> {
    let client = || 0..CLIENTS;
    prop_oneof![
        4 => (client(), 1..4_i32, 0..200_usize).prop_map(|(client, priority, len)| Op::Send { client, priority, len }),
        2 => (client(), 1..4_i32, any::<u64>()).prop_map(|(client, priority, value)| Op::Pulse { client, priority, value }),
        1 => client().prop_map(|client| Op::Leave { client }),
        4 => Just(Op::Receive),
        3 => (0..8_usize, any::<i64>()).prop_map(|(which, status)| Op::Answer { which, status }),
    ]
}

/// What the model knows of something that waits.
#[derive(Clone, Debug, PartialEq)]
enum Waiting {
    Message { client: usize, txn: u32, len: usize },
    Pulse { value: u64 },
}

struct World {
    channel: Channel,
    clients: Vec<ClientPeer>,
    txns: u32,
    /// By priority (the highest first) and arrival.
    waiting: BTreeMap<(i32, u32), Waiting>,
    received: Vec<(Message, usize, u32)>,
}

impl World {
    fn new(root: &Root) -> Self {
        let channel = Channel::create(root, ChannelFlags::empty()).unwrap();
        let address = root.channel(channel.pid(), channel.chid()).unwrap();
        let connect =
            packet::Connect { conn: 1, nd: 0, pid: address.pid, chid: address.chid, flags: 0, claim: None };
        let clients = (0..CLIENTS)
            .map(|_| {
                let (mut client, _) = qnet_ipc::connect_channel(&address).unwrap();
                client.send(&ToServer::Connect(connect.clone())).unwrap();
                client
            })
            .collect();
        Self { channel, clients, txns: 1, waiting: BTreeMap::new(), received: Vec::new() }
    }

    fn run(&mut self, op: &Op) {
        self.txns += 1;
        let txn = self.txns;
        match *op {
            Op::Send { client, priority, len } => {
                let head =
                    packet::Send { txn, conn: 1, priority, srcmsglen: len as u32, ..packet::Send::default() };
                self.clients[client].send(&ToServer::Send(head, &vec![client as u8; len])).unwrap();
                self.waiting.insert((-priority, txn), Waiting::Message { client, txn, len });
                self.settle(client);
            }
            Op::Pulse { client, priority, value } => {
                let pulse = packet::Pulse { conn: 1, code: 7, priority, value };
                self.clients[client].send(&ToServer::Pulse(pulse)).unwrap();
                self.waiting.insert((-priority, txn), Waiting::Pulse { value });
                self.settle(client);
            }
            Op::Leave { client } => self.leave(client),
            Op::Receive => self.receive(),
            Op::Answer { which, status } => {
                if self.received.is_empty() {
                    return;
                }
                let (message, client, txn) = self.received.remove(which % self.received.len());
                message.reply(status, b"").unwrap();
                assert_eq!(self.heard(client), (txn, Ok(status)));
            }
        }
    }

    /// Lets the channel take in what was sent, so that arrivals of different clients have an order: nothing is received,
    /// because a pulse of the lowest priority, and only it, is.
    fn settle(&mut self, client: usize) {
        let marker = packet::Pulse { conn: 1, code: 9, priority: i32::MAX, value: 0 };
        self.clients[client].send(&ToServer::Pulse(marker)).unwrap();
        let Received::Pulse(Pulse { code: 9, .. }) = self.channel.receive(None).unwrap() else {
            panic!("the most urgent pulse was not first")
        };
    }

    /// The oldest message of the client, waiting or received, gives up; without the flag it may at once.
    fn leave(&mut self, client: usize) {
        let waits = self.waiting.iter().find_map(|(key, waiting)| match waiting {
            Waiting::Message { client: of, txn, .. } if *of == client => Some((*key, *txn)),
            _ => None,
        });
        let txn = if let Some((key, txn)) = waits {
            self.waiting.remove(&key);
            txn
        } else if let Some(at) = self.received.iter().position(|(_, of, _)| *of == client) {
            let (message, _, txn) = self.received.remove(at);
            self.clients[client].send(&ToServer::Unblock { txn, tid: 1 }).unwrap();
            self.settle(client);
            assert_eq!(message.reply(0, b"").unwrap_err().errno(), libc::ESRCH);
            assert_eq!(self.heard(client), (txn, Err(libc::EINTR)));
            return;
        } else {
            return;
        };
        self.clients[client].send(&ToServer::Unblock { txn, tid: 1 }).unwrap();
        self.settle(client);
        assert_eq!(self.heard(client), (txn, Err(libc::EINTR)));
    }

    fn receive(&mut self) {
        let expected = self.waiting.pop_first().map(|(_, waiting)| waiting);
        match (self.channel.receive(Some(Instant::now())), expected) {
            (Err(error), None) => assert_eq!(error.errno(), libc::ETIMEDOUT),
            (Ok(Received::Pulse(pulse)), Some(Waiting::Pulse { value })) => assert_eq!(pulse.value, value),
            (Ok(Received::Message(message)), Some(Waiting::Message { client, txn, len })) => {
                assert_eq!(message.data(), vec![client as u8; len]);
                self.received.push((message, client, txn));
            }
            (got, expected) => panic!("{got:?} where {expected:?} was next"),
        }
    }

    /// The next end of a transaction that a client hears of.
    fn heard(&mut self, client: usize) -> (u32, Result<i64, i32>) {
        let mut buffer = ReceiveBuffer::new();
        loop {
            match self.clients[client].recv(&mut buffer).unwrap() {
                Some(ToClient::Reply { txn, status, .. }) => return (txn, Ok(status)),
                Some(ToClient::Error { txn, errno }) => return (txn, Err(errno)),
                Some(_) => {}
                None => {
                    self.clients[client].wait(None).unwrap();
                    self.clients[client].flush().unwrap();
                }
            }
        }
    }
}

#[test]
fn a_channel_does_what_the_model_says() {
    let cases = env::var("QNET_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CI_CASES);
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path()).unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(op(), 1..40), |ops| {
            let mut world = World::new(&root);
            ops.iter().for_each(|op| world.run(op));
            Ok(())
        })
        .unwrap();
}
