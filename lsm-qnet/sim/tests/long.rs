//! Messages of any length: from a source that makes its bytes up into a sink that looks at them and keeps
//! none, so that neither the nodes nor the test hold a message.
//!
//! The server reads what did not come with the message in one read, and replies with data of the length
//! that the message's first bytes ask for.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use qnet_proto::{
    Body, ClientId, ClientInfo, Command, Config, Errno, Event, Handle, Instant, MAX_TRANSFER, Outlet, Rcv,
    Sink, Source, VtidInfo,
};
use qnet_sim::{App, Faults, HostId, Network, Programs, seeds};

/// After so many bytes they begin anew: a prime, so that no power of two hides a mistake.
const PERIOD: usize = 65_521;
/// Message bytes that travel at once.
const FIRST: u32 = 8192;

thread_local! {
    static BYTES: Rc<Vec<u8>> =
        Rc::new((0..2 * PERIOD as u32).map(|n| ((n % PERIOD as u32).wrapping_mul(2_654_435_761) >> 13) as u8).collect());
}

fn table() -> Rc<Vec<u8>> {
    BYTES.with(Rc::clone)
}

/// The bytes `from..from + len` of the endless message.
struct Made {
    from: u64,
    len: u64,
}

impl Source for Made {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        assert!(offset + out.len() as u64 <= self.len, "nobody reads behind the end");
        let mut at = (self.from + offset) as usize % PERIOD;
        for piece in out.chunks_mut(PERIOD) {
            piece.copy_from_slice(&table()[at..at + piece.len()]);
            at = (at + piece.len()) % PERIOD;
        }
    }
}

/// What arrived of a message, and how slowly it is taken.
#[derive(Default)]
struct Arrived {
    /// Ends of the ranges that arrived, by their starts.
    ranges: BTreeMap<u64, u64>,
    bytes: u64,
    /// Bytes that wait to be taken; `None`: they are taken at once.
    waiting: Option<u64>,
    /// Room in all when they wait.
    room: u64,
    most: u64,
}

impl Arrived {
    fn note(&mut self, start: u64, end: u64) {
        let before = self.ranges.range(..=start).next_back().map(|(&a, &b)| (a, b));
        let after = self.ranges.range(start..).next().map(|(&a, &b)| (a, b));
        assert!(before.is_none_or(|(_, b)| b <= start), "{start} came twice");
        assert!(after.is_none_or(|(a, _)| a >= end), "{end} came twice");
        let mut joined = (start, end);
        if let Some((a, b)) = before.filter(|&(_, b)| b == start) {
            self.ranges.remove(&a);
            joined.0 = a;
            assert_eq!(b, start);
        }
        if let Some((a, b)) = after.filter(|&(a, _)| a == end) {
            self.ranges.remove(&a);
            joined.1 = b;
        }
        self.ranges.insert(joined.0, joined.1);
        self.bytes += end - start;
    }
}

#[derive(Clone, Default)]
struct Looked(Rc<RefCell<Arrived>>);

impl Looked {
    fn slow(room: u64) -> Looked {
        Looked(Rc::new(RefCell::new(Arrived { waiting: Some(0), room, ..Arrived::default() })))
    }
}

impl Sink for Looked {
    fn room(&self) -> u64 {
        let arrived = self.0.borrow();
        arrived.waiting.map_or(u64::MAX, |waiting| arrived.room - waiting)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset as usize % PERIOD;
        for piece in bytes.chunks(PERIOD) {
            assert!(piece == &table()[at..at + piece.len()], "damaged at {offset}");
            at = (at + piece.len()) % PERIOD;
        }
        let mut arrived = self.0.borrow_mut();
        if let Some(waiting) = &mut arrived.waiting {
            *waiting += bytes.len() as u64;
            let (waiting, room) = (*waiting, arrived.room);
            assert!(waiting <= room, "{waiting} bytes wait where {room} have room");
            arrived.most = arrived.most.max(waiting);
        }
        arrived.note(offset, offset + bytes.len() as u64);
    }
}

/// Lengths of messages, and how many bytes of each arrived.
type Taken = Rc<RefCell<Vec<(u64, u64)>>>;

/// Takes messages of any length and replies with as many bytes as `reply_len` says.
struct Giver {
    reply_len: u64,
    reads: BTreeMap<Rcv, (Looked, u32)>,
    taken: Taken,
}

impl Giver {
    fn boxed(reply_len: u64) -> (Box<Giver>, Taken) {
        let taken = Rc::default();
        (Box::new(Giver { reply_len, reads: BTreeMap::new(), taken: Rc::clone(&taken) }), taken)
    }

    fn reply(&self, host: &mut Programs<'_>, rcv: Rcv) {
        let data = Body::from_source(Made { from: 0, len: self.reply_len });
        let _ = host.command(Command::Reply { rcv, status: 0, data });
    }
}

impl App for Giver {
    fn on_event(&mut self, host: &mut Programs<'_>, event: Event) {
        match event {
            Event::Connect { server, .. } => {
                host.command(Command::Accept { server, scoid: 1, nbytes: FIRST }).unwrap();
            }
            Event::Message { rcv, info, data, .. } => {
                let looked = Looked::default();
                looked.clone().write_at(0, &data);
                let left = info.srcmsglen - data.len() as u32;
                if left == 0 {
                    self.taken.borrow_mut().push((info.srcmsglen.into(), data.len() as u64));
                    return self.reply(host, rcv);
                }
                let into = Outlet::new(looked.clone());
                let read = Command::Read { rcv, offset: data.len() as u32, nbytes: left, into };
                host.command(read).unwrap();
                self.reads.insert(rcv, (looked, info.srcmsglen));
            }
            Event::ReadDone { rcv, .. } => {
                let (looked, len) = self.reads.remove(&rcv).unwrap();
                let arrived = looked.0.borrow();
                assert!(arrived.ranges.len() <= 1, "all of it is there when the read is done");
                self.taken.borrow_mut().push((len.into(), arrived.bytes));
                self.reply(host, rcv);
            }
            Event::ReadError { rcv, .. } | Event::Unblock { rcv } => {
                self.reads.remove(&rcv);
                let _ = host.command(Command::Error { rcv, errno: Errno::EINTR });
            }
            _ => {}
        }
    }

    fn on_time(&mut self, _: &mut Programs<'_>) {}
}

/// What became of a message.
type Outcomes = Rc<RefCell<BTreeMap<u64, (Result<(), Errno>, Instant)>>>;

/// Sends messages of given lengths, all at once.
struct Asker {
    target: &'static str,
    /// Length of the message, and what takes its reply.
    plan: Vec<(u32, Looked)>,
    reply_len: u32,
    outcomes: Outcomes,
    /// Bytes taken from each slow sink every millisecond.
    pace: u64,
    next: Option<Instant>,
    done: usize,
    own: Option<Box<Giver>>,
}

impl Asker {
    fn boxed(
        target: &'static str,
        plan: Vec<(u32, Looked)>,
        reply_len: u32,
        pace: u64,
    ) -> (Box<Asker>, Outcomes) {
        let outcomes = Outcomes::default();
        let kept = Rc::clone(&outcomes);
        let next = Some(Instant::ZERO);
        (Box::new(Asker { target, plan, reply_len, outcomes, pace, next, done: 0, own: None }), kept)
    }

    fn start(&mut self, host: &mut Programs<'_>) {
        for (number, (len, looked)) in self.plan.iter().enumerate() {
            let info = VtidInfo { srcmsglen: *len, dstmsglen: self.reply_len, tid: 1, ..VtidInfo::default() };
            let first = Body::from_source(Made { from: 0, len: u64::from(*len).min(FIRST.into()) });
            let (client, handle) = (ClientId(1), Handle(number as u64));
            let reply = Outlet::new(looked.clone());
            host.command(Command::Send { client, handle, info, first, reply }).unwrap();
        }
    }

    fn end(&mut self, host: &Programs<'_>, handle: Handle, how: Result<(), Errno>) {
        let before = self.outcomes.borrow_mut().insert(handle.0, (how, host.now));
        assert!(before.is_none(), "{handle:?} ended twice");
        self.done += 1;
    }
}

impl App for Asker {
    fn on_event(&mut self, host: &mut Programs<'_>, event: Event) {
        match event {
            Event::Resolved { nd, .. } => {
                let (client, cred) = (ClientId(1), ClientInfo { pid: 77, ..ClientInfo::default() });
                host.command(Command::Connect { client, nd, pid: 1, chid: 1, cred }).unwrap();
                self.start(host);
            }
            Event::Read { handle, offset, nbytes } => {
                let data = Body::from_source(Made { from: offset.into(), len: nbytes.into() });
                host.command(Command::ReadData { handle, offset, data }).unwrap();
            }
            Event::Reply { handle, .. } => self.end(host, handle, Ok(())),
            Event::Error { handle, errno, .. } => self.end(host, handle, Err(errno)),
            Event::ResolveFailed { .. } => panic!("{} is not found", self.target),
            other => {
                if let Some(own) = &mut self.own {
                    own.on_event(host, other);
                }
            }
        }
    }

    fn on_time(&mut self, host: &mut Programs<'_>) {
        if self.next == Some(Instant::ZERO) {
            let name = self.target.to_owned();
            host.command(Command::Resolve { token: 1, name }).unwrap();
        }
        let slow = self.pace > 0 && self.done < self.plan.len();
        self.next = slow.then(|| host.now + Duration::from_millis(1));
        for (number, (_, looked)) in self.plan.iter().enumerate() {
            let mut arrived = looked.0.borrow_mut();
            if let Some(waiting) = arrived.waiting.filter(|&waiting| waiting > 0) {
                arrived.waiting = Some(waiting.saturating_sub(self.pace));
                drop(arrived);
                // Refused when its end is on the way here.
                let _ = host.command(Command::Room { handle: Handle(number as u64) });
            }
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.next
    }
}

fn pair(net: &mut Network, plain: &str, mtu: u32) -> (HostId, HostId) {
    let make = |net: &mut Network, name: &str| {
        let extensions = plain != name;
        let host = net.add_with(name, |config: &mut Config| {
            config.extensions = extensions;
            config.mtu_en = mtu;
            config.conn_est_retries = 20;
            config.res_retries = 20;
        });
        net.set_mtu(host, mtu);
        host
    };
    (make(net, "asker"), make(net, "giver"))
}

/// One message of `len` bytes and a reply of as many; returns the most that a node held.
fn there_and_back(seed: u64, len: u32, mtu: u32, plain: &str, faults: Faults) -> u32 {
    let mut net = Network::new(seed);
    let (a, b) = pair(&mut net, plain, mtu);
    net.set_faults(faults);
    let (giver, taken) = Giver::boxed(len.into());
    net.install(b, giver);
    let looked = Looked::default();
    let (asker, outcomes) = Asker::boxed("giver", vec![(len, looked.clone())], len, 0);
    net.install(a, asker);
    let mut most = 0;
    let done = net.run_while(Duration::from_secs(3000), |net| {
        most = most.max(net.node(a).reassembly_bytes()).max(net.node(b).reassembly_bytes());
        !outcomes.borrow().is_empty()
    });
    assert!(done, "{len} bytes, seed {seed}, plain {plain:?}, {faults:?}");
    assert_eq!(outcomes.borrow()[&0].0, Ok(()), "{len} bytes, plain {plain:?}");
    assert_eq!(*taken.borrow(), [(u64::from(len), u64::from(len))]);
    let arrived = looked.0.borrow();
    assert_eq!((arrived.bytes, arrived.ranges.len()), (len.into(), usize::from(len > 0)));
    net.run_for(Duration::from_secs(1));
    for host in [a, b] {
        assert_eq!((net.node(host).reassembly_bytes(), net.node(host).holdings().queued), (0, 0));
    }
    most
}

#[test]
fn messages_of_every_length_around_a_border_arrive_byte_by_byte() {
    let packet = 1500 - 38;
    let borders = [packet, 2 * packet, FIRST, MAX_TRANSFER as u32, 2 * MAX_TRANSFER as u32, 1 << 20];
    let heads = [0, 20, 48];
    let mut lengths = vec![0, 1, 2];
    for border in borders {
        for head in heads {
            lengths.extend([border - head - 1, border - head, border - head + 1]);
        }
    }
    for len in lengths {
        for plain in ["", "asker", "giver"] {
            there_and_back(1, len, 1500, plain, Faults::default());
        }
    }
}

#[test]
fn long_messages_survive_a_bad_wire_and_cost_little_memory() {
    seeds::each(12, |seed| {
        let plain = ["", "asker", "giver"][seed as usize % 3];
        let faults = Faults { duplicate: 30, reorder: 60, ..Faults::lossy(20) };
        let most = there_and_back(seed, 3_000_001, 1500, plain, faults);
        assert!(most <= 4 << 20, "{most} bytes kept of messages");
    });
}

#[test]
fn a_message_of_hundreds_of_megabytes_and_its_reply_are_never_held() {
    let most = there_and_back(3, 300_000_007, 60_000, "", Faults::default());
    // nothing comes before its first fragment here
    assert!(most <= 128 << 10, "{most} bytes kept of messages");
}

#[test]
fn the_longest_message_and_the_longest_reply_work() {
    let len = if seeds::count(1, 2) > 1 { u32::MAX } else { 64 << 20 };
    there_and_back(4, len, 60_000, "", Faults::lossy(1));
}

#[test]
fn a_slow_sink_is_never_given_more_than_it_has_room_for_and_holds_nobody_up() {
    for (plain, mtu) in [("", 1500), ("", 9000), ("asker", 1500)] {
        let mut net = Network::new(5);
        let (a, b) = pair(&mut net, plain, mtu);
        let (giver, _) = Giver::boxed(3_000_000);
        net.install(b, giver);
        // The first one takes a megabyte a second, with room for 300 KB; the others take all at once.
        let slow = Looked::slow(300_000);
        let mut plan = vec![(10, slow.clone())];
        plan.extend((0..20).map(|_| (10, Looked::default())));
        let (asker, outcomes) = Asker::boxed("giver", plan, 3_000_000, 1000);
        let began = net.now();
        net.install(a, asker);
        let done = net.run_while(Duration::from_secs(120), |_| outcomes.borrow().len() == 21);
        assert!(done, "{plain:?}: {:?}", outcomes.borrow().len());
        let outcomes = outcomes.borrow();
        assert!(outcomes.values().all(|(how, _)| *how == Ok(())), "{plain:?}");
        let fast = outcomes.iter().filter(|&(&n, _)| n > 0).map(|(_, &(_, at))| at).max().unwrap();
        // A plain node is not told of room: what it repeats in vain costs the others time.
        let bound = Duration::from_secs(if plain.is_empty() { 2 } else { 20 });
        assert!(fast.since(began) < bound, "{plain:?}: the others took {:?}", fast.since(began));
        assert!(outcomes[&0].1.since(began) > Duration::from_secs(2), "one was slow");
        assert_eq!(slow.0.borrow().bytes, 3_000_000);
        assert!(slow.0.borrow().most > 250_000, "its room is used");
    }
}

#[test]
fn two_slow_sinks_at_both_ends_of_a_session_do_not_lock_each_other() {
    seeds::each(10, |seed| {
        let mut net = Network::new(seed);
        let (a, b) = pair(&mut net, "", 1500);
        net.set_faults(Faults { reorder: 20, ..Faults::lossy(20) });
        let mut watched = Vec::new();
        for (host, target) in [(a, "giver"), (b, "asker")] {
            let plan = (0..3).map(|_| (50_000, Looked::slow(280_000))).collect();
            let (mut asker, outcomes) = Asker::boxed(target, plan, 1_000_000, 2000);
            asker.own = Some(Giver::boxed(1_000_000).0);
            net.install(host, asker);
            watched.push(outcomes);
        }
        let done = net.run_while(Duration::from_secs(120), |_| watched.iter().all(|o| o.borrow().len() == 3));
        assert!(done);
        for outcomes in watched {
            assert!(outcomes.borrow().values().all(|(how, _)| *how == Ok(())));
        }
    });
}

#[test]
fn a_sink_that_never_has_room_loses_its_transaction_and_nobody_else_anything() {
    let mut net = Network::new(6);
    let (a, b) = pair(&mut net, "", 1500);
    let (giver, _) = Giver::boxed(500_000);
    net.install(b, giver);
    let stuck = Looked::slow(100);
    let plan = vec![(10, stuck.clone()), (10, Looked::default()), (10, Looked::default())];
    let (asker, outcomes) = Asker::boxed("giver", plan, 500_000, 0);
    let began = net.now();
    net.install(a, asker);
    assert!(net.run_while(Duration::from_secs(60), |_| outcomes.borrow().len() == 3));
    let (how, at) = outcomes.borrow()[&0];
    assert_eq!(how, Err(Errno::ETIMEDOUT));
    let after = at.since(began);
    assert!(after > Duration::from_secs(29) && after < Duration::from_secs(33), "{after:?}");
    assert!((1..3).all(|n| outcomes.borrow()[&n].0 == Ok(())));
    net.run_for(Duration::from_secs(5));
    assert_eq!((net.node(a).counters().sessions_down, net.node(b).holdings().queued), (0, 0));
    assert_eq!(stuck.0.borrow().bytes, 0);
}
