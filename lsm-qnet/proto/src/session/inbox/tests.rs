//! Tests of the receiving half.
//!
//! Each feeds packets by hand and looks at what they were taken for, and at the memory reserved.

mod table;

use super::*;
use crate::session::stream::{Opened, Target};
use crate::wire::Order;
use crate::wire::kif::{MSGSEND_HEAD, MsgSend, Xfer};
use crate::wire::lwl4::{Kind, WHOLE};

const NOW: Instant = Instant::ZERO;

fn budget() -> Budget {
    Budget { total: 3 << 20, per_peer: 2 << 20, reserved: 0 }
}

/// One sink that takes every transfer, with a room of the test's choice.
struct Desk {
    room: u64,
    promised: u64,
    got: BTreeMap<u64, u8>,
    refused: usize,
}

impl Desk {
    fn new() -> Desk {
        Desk { room: u64::MAX, promised: 0, got: BTreeMap::new(), refused: 0 }
    }
}

impl Delivery for Desk {
    fn open(&self, message: &Kif) -> Opened {
        let xfer = transfer(message).unwrap();
        Opened { target: Target::Reply(xfer.handle), at: xfer.offset.into(), take: xfer.nbytes }
    }
    fn room(&self, _: Target) -> u64 {
        self.room.saturating_sub(self.promised)
    }
    fn promise(&mut self, _: Target, bytes: u64) {
        self.promised += bytes;
    }
    fn release(&mut self, _: Target, bytes: u64) {
        self.promised -= bytes;
    }
    fn write(&mut self, _: Target, at: u64, bytes: &[u8]) {
        self.promised -= bytes.len() as u64;
        self.room -= bytes.len() as u64;
        for (at, &byte) in (at..).zip(bytes) {
            assert_eq!(self.got.insert(at, byte), None, "byte {at} was written twice");
        }
    }
    fn refused(&mut self, _: Target) {
        self.refused += 1;
    }
}

fn data(seq: u32, offset: u32, flags: u8) -> Header {
    Header { seq, offset, flags, ..Header::new(Kind::User, Layer::Kif) }
}

/// A MSGWRITE of `len` bytes, fixed part included, to `at` in the reply buffer.
fn write_at(at: u32, len: usize) -> Vec<u8> {
    let xfer = Xfer { status: 0, handle: 1, offset: at, nbytes: len as u32 - 20 };
    fixed(&Kif::MsgWrite(xfer), len)
}

/// A MSGSEND of `len` bytes, fixed part included.
fn message(len: usize) -> Vec<u8> {
    let info = crate::VtidInfo::default();
    let send = MsgSend { server_id: 1, client_handle: 1, info, nbytes: (len - MSGSEND_HEAD) as u32 };
    fixed(&Kif::MsgSend(send), len)
}

fn fixed(message: &Kif, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; MAX_HEAD.max(len)];
    let head = message.emit(&mut bytes, Order::Little).unwrap();
    bytes.truncate(len);
    (head..len).for_each(|at| bytes[at] = (at * 7 + at / 256) as u8);
    bytes
}

/// A receiving half with its memory and its sink.
struct Bench {
    inbox: Inbox,
    budget: Budget,
    desk: Desk,
}

impl Bench {
    fn new() -> Bench {
        Bench { inbox: Inbox::new(), budget: budget(), desk: Desk::new() }
    }

    fn hear(&mut self, header: &Header, payload: &[u8]) -> Arrival {
        self.inbox.on_data(NOW, header, payload, &mut self.budget, &mut self.desk)
    }

    /// The fragment `from..to` of a message.
    fn part(&mut self, seq: u32, bytes: &[u8], from: usize, to: usize) -> Arrival {
        let first = if from == 0 { FIRST } else { 0 };
        let last = if to == bytes.len() { LAST } else { 0 };
        self.hear(&data(seq, from as u32, first | last), &bytes[from..to])
    }
}

#[test]
fn whole_packets_are_delivered_once_each() {
    let mut bench = Bench::new();
    assert_eq!(bench.hear(&data(2, 0, WHOLE), b"x"), Arrival::Packet);
    assert_eq!(bench.hear(&data(2, 0, WHOLE), b"x"), Arrival::Duplicate);
    assert_eq!(bench.hear(&data(1, 0, WHOLE), b"x"), Arrival::Packet);
    assert_eq!(bench.inbox.ack_head(NOW, &bench.budget).base, 3);
    assert_eq!(bench.hear(&data(1, 0, WHOLE), b"x"), Arrival::Duplicate);
}

#[test]
fn fragments_in_any_order_make_the_message_and_give_the_memory_back() {
    let bytes = message(300);
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let mut bench = Bench::new();
        let mut result = Arrival::Part;
        for index in order {
            assert_eq!(result, Arrival::Part);
            result = bench.part(1, &bytes, index * 100, (index + 1) * 100);
        }
        assert_eq!(result, Arrival::Message(bytes.clone()));
        assert_eq!(bench.budget.reserved, 0);
    }
}

#[test]
fn data_goes_into_its_sink_as_it_comes_and_is_kept_nowhere_else() {
    let bytes = write_at(5000, 200_020);
    for backwards in [false, true] {
        let mut bench = Bench::new();
        let mut parts: Vec<usize> = (0..bytes.len()).step_by(1462).collect();
        if backwards {
            parts[1..].reverse();
        }
        for (i, &from) in parts.iter().enumerate() {
            let to = (from + 1462).min(bytes.len());
            let arrival = bench.part(1, &bytes, from, to);
            assert_eq!(matches!(arrival, Arrival::Transfer(_)), i == parts.len() - 1);
            assert!(bench.budget.reserved <= ENTRY, "{}", bench.budget.reserved);
        }
        assert_eq!((bench.desk.promised, bench.budget.reserved), (0, 0));
        let expected = (5000..).zip(bytes[20..].iter().copied());
        assert!(bench.desk.got.into_iter().eq(expected));
    }
}

#[test]
fn what_comes_before_its_first_fragment_is_charged_by_the_byte_and_delivered_with_it() {
    let bytes = write_at(0, 1000);
    let mut bench = Bench::new();
    assert_eq!(bench.part(1, &bytes, 400, 700), Arrival::Part);
    assert_eq!(bench.budget.reserved, 300 + PIECE + ENTRY);
    assert_eq!(bench.part(1, &bytes, 700, 1000), Arrival::Part);
    assert!(bench.desk.got.is_empty());
    assert_eq!(
        bench.part(1, &bytes, 0, 400),
        Arrival::Transfer(Kif::MsgWrite(Xfer { status: 0, handle: 1, offset: 0, nbytes: 980 }))
    );
    assert_eq!((bench.desk.got.len(), bench.budget.reserved), (980, 0));
    bench.budget.per_peer = 600;
    let (mut kept, mut dropped) = (0, 0);
    for seq in 2..50 {
        match bench.part(seq, &bytes, 400, 700) {
            Arrival::Part => kept += 1,
            Arrival::Dropped => dropped += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((kept, dropped), (1, 47), "no more than the peer's share");
}

#[test]
fn a_sink_without_room_refuses_a_message_before_it_begins_and_never_after() {
    let bytes = write_at(0, 10_020);
    let mut bench = Bench::new();
    bench.desk.room = 15_000;
    assert_eq!(bench.part(1, &bytes, 0, 1000), Arrival::Part);
    assert_eq!(bench.part(2, &bytes, 0, 1000), Arrival::NoRoom, "the first one's room is promised");
    assert_eq!(bench.part(2, &bytes, 1000, 2000), Arrival::Dropped);
    assert!(bench.inbox.take_waits() && !bench.inbox.take_waits());
    assert!(matches!(bench.part(1, &bytes, 1000, 10_020), Arrival::Transfer(_)));
    bench.desk.got.clear();
    bench.desk.room = 10_000;
    assert_eq!(bench.part(2, &bytes, 0, 2000), Arrival::Part);
    assert_eq!(bench.part(3, &write_at(0, 21), 0, 21), Arrival::NoRoom, "a message of one packet, too");
    assert!(matches!(bench.part(2, &bytes, 2000, 10_020), Arrival::Transfer(_)));
    assert_eq!(bench.hear(&data(3, 0, WHOLE), b""), Arrival::Packet, "its number goes to a filler");
    assert_eq!((bench.desk.promised, bench.budget.reserved, bench.desk.refused), (0, 0, 2));
}

#[test]
fn a_plain_peers_message_longer_than_any_room_comes_in_as_the_sink_empties() {
    let bytes = write_at(0, 2_000_020);
    let mut bench = Bench::new();
    bench.desk.room = 300_000;
    let mut turns = 0;
    let done = loop {
        let mut done = false;
        for from in (0..bytes.len()).step_by(10_000) {
            let arrival = bench.part(1, &bytes, from, (from + 10_000).min(bytes.len()));
            done |= matches!(arrival, Arrival::Transfer(_));
            assert!(matches!(
                arrival,
                Arrival::Part | Arrival::Again | Arrival::Dropped | Arrival::Transfer(_) | Arrival::Duplicate
            ));
        }
        turns += 1;
        if done || turns > 20 {
            break done;
        }
        bench.desk.room = 300_000;
    };
    assert!(done, "{turns}");
    assert!(bench.desk.got.into_iter().eq((0..).zip(bytes[20..].iter().copied())));
}

#[test]
fn a_message_without_memory_is_refused_until_there_is_some() {
    let mut bench = Bench::new();
    bench.budget = Budget { total: 150_000, per_peer: 100_000, reserved: 0 };
    let bytes = message(60_000);
    assert_eq!(bench.part(1, &bytes, 0, 1000), Arrival::Part);
    assert_eq!(bench.part(2, &bytes, 0, 1000), Arrival::NoRoom);
    let mut other = Inbox::new();
    let first = data(1, 0, FIRST);
    let theirs = other.on_data(NOW, &first, &bytes[..1000], &mut bench.budget, &mut bench.desk);
    assert_eq!(theirs, Arrival::Part, "another peer has its own share");
    let second = data(2, 0, FIRST);
    let theirs = other.on_data(NOW, &second, &bytes[..1000], &mut bench.budget, &mut bench.desk);
    assert_eq!(theirs, Arrival::NoRoom, "of the same total");
    assert_eq!(bench.part(1, &bytes, 1000, 60_000), Arrival::Message(bytes.clone()));
    assert_eq!(bench.part(2, &bytes, 0, 1000), Arrival::Part);
}

#[test]
fn a_message_longer_than_its_first_fragment_said_is_refused() {
    for bytes in [message(300), write_at(0, 300)] {
        let mut bench = Bench::new();
        bench.part(1, &bytes, 0, 100);
        assert_eq!(bench.hear(&data(1, 250, LAST), &[0; 100]), Arrival::Refused);
        assert_eq!(bench.hear(&data(1, u32::MAX, 0), &[0; 100]), Arrival::Refused);
        assert_eq!(bench.hear(&data(9, 5, WHOLE), b"x"), Arrival::Refused);
        assert_eq!(bench.hear(&data(9, 0, LAST), b"x"), Arrival::Refused, "the first is not marked");
        assert_eq!(bench.hear(&data(1 << 20, 0, WHOLE), b"x"), Arrival::Refused);
        assert_eq!(bench.hear(&data(8, 0, FIRST), b"short"), Arrival::Refused);
    }
    let mut bench = Bench::new();
    let bytes = write_at(0, 300);
    bench.part(1, &bytes, 0, 100);
    assert_eq!(bench.hear(&data(1, 100, LAST), &bytes[100..200]), Arrival::Refused, "ends too early");
    bench.inbox.clear(&mut bench.budget);
    assert_eq!(bench.budget.reserved, 0);
}

#[test]
fn however_little_fits_every_arrival_is_told_of_in_time() {
    let mut bench = Bench::new();
    let bytes = message(300);
    for seq in 1..=40 {
        bench.part(seq, &bytes, 0, 100);
        bench.hear(&data(seq + 100 + seq, 0, WHOLE), b"x");
    }
    let inbox = &mut bench.inbox;
    let (mut parts, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..60 {
        let more = inbox.compose(40);
        assert!(inbox.whole().count() * 8 + inbox.parts().count() * 12 <= 40);
        parts.extend(inbox.parts().map(|span| span.seq));
        whole.extend(inbox.whole().map(|run| run.first));
        if !more {
            break;
        }
    }
    assert!((1..=40).all(|seq| parts.contains(&seq)), "{parts:?}");
    assert!((1..=40).all(|seq| whole.contains(&(2 * seq + 100))), "{whole:?}");
}

#[test]
fn what_one_acknowledgement_told_the_next_one_tells_again_for_it_may_be_lost() {
    let mut bench = Bench::new();
    let bytes = message(300);
    bench.part(1, &bytes, 0, 100);
    bench.hear(&data(50, 0, WHOLE), b"x");
    let mut told = || {
        bench.inbox.compose(400);
        let (whole, parts) = (bench.inbox.whole().count(), bench.inbox.parts().count());
        (whole, parts)
    };
    assert_eq!(
        [told(), told(), told()],
        [(1, 1), (1, 1), (1, 0)],
        "what is whole is told while there is room"
    );
}
