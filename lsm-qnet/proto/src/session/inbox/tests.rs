//! Tests of the receiving half.
//!
//! Each feeds packets by hand and looks at what they were taken for, and at the memory reserved.

use super::*;
use crate::wire::Order;
use crate::wire::kif::Xfer;
use crate::wire::lwl4::{Kind, WHOLE};

const NOW: Instant = Instant::ZERO;

fn budget() -> Budget {
    Budget { total: 3 << 20, per_peer: 2 << 20, reserved: 0 }
}

fn data(seq: u32, offset: u32, flags: u8) -> Header {
    Header { seq, offset, flags, ..Header::new(Kind::User, Layer::Kif) }
}

/// The bytes of a KIF message that is `len` bytes long.
fn message(len: usize) -> Vec<u8> {
    let xfer = Xfer { status: 0, handle: 1, offset: 0, nbytes: len as u32 - 20 };
    let mut bytes = vec![0; MAX_HEAD.max(len)];
    Kif::MsgWrite(xfer).emit(&mut bytes, Order::Little).unwrap();
    bytes.truncate(len);
    (20..len).for_each(|at| bytes[at] = (at * 7) as u8);
    bytes
}

#[test]
fn whole_packets_are_delivered_once_each() {
    let (mut inbox, mut budget) = (Inbox::new(), budget());
    assert_eq!(inbox.on_data(NOW, &data(2, 0, WHOLE), b"x", &mut budget), Arrival::Packet);
    assert_eq!(inbox.on_data(NOW, &data(2, 0, WHOLE), b"x", &mut budget), Arrival::Duplicate);
    assert_eq!(inbox.on_data(NOW, &data(1, 0, WHOLE), b"x", &mut budget), Arrival::Packet);
    assert_eq!(inbox.ack_head(NOW, &budget).base, 3);
    assert_eq!(inbox.on_data(NOW, &data(1, 0, WHOLE), b"x", &mut budget), Arrival::Duplicate);
}

#[test]
fn fragments_in_any_order_make_the_message_and_give_the_memory_back() {
    let bytes = message(300);
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let (mut inbox, mut budget) = (Inbox::new(), budget());
        let mut result = Arrival::Part;
        for index in order {
            assert_eq!(result, Arrival::Part);
            let flags = [FIRST, 0, LAST][index];
            let piece = &bytes[index * 100..(index + 1) * 100];
            result = inbox.on_data(NOW, &data(1, index as u32 * 100, flags), piece, &mut budget);
        }
        assert_eq!(result, Arrival::Message(bytes.clone()));
        assert_eq!(budget.reserved, 0);
    }
}

#[test]
fn the_first_fragment_tells_how_much_memory_is_reserved() {
    let (mut inbox, mut budget) = (Inbox::new(), budget());
    let bytes = message(300);
    inbox.on_data(NOW, &data(1, 100, 0), &bytes[100..200], &mut budget);
    assert_eq!(budget.reserved, LONGEST, "unknown yet");
    inbox.on_data(NOW, &data(1, 0, FIRST), &bytes[..100], &mut budget);
    assert_eq!(budget.reserved, 300);
    inbox.clear(&mut budget);
    assert_eq!(budget.reserved, 0);
}

#[test]
fn a_message_without_room_is_refused_until_there_is_some() {
    let (mut inbox, mut budget) = (Inbox::new(), budget());
    let bytes = message(900_000);
    let first = |inbox: &mut Inbox, budget: &mut Budget, seq| {
        inbox.on_data(NOW, &data(seq, 0, FIRST), &bytes[..1000], budget)
    };
    assert_eq!(first(&mut inbox, &mut budget, 1), Arrival::Part);
    assert_eq!(first(&mut inbox, &mut budget, 2), Arrival::Part);
    assert_eq!(first(&mut inbox, &mut budget, 3), Arrival::NoRoom);
    let mut other = Inbox::new();
    assert_eq!(first(&mut other, &mut budget, 1), Arrival::Part, "another peer has its own share");
    assert_eq!(first(&mut other, &mut budget, 2), Arrival::NoRoom, "of the same total");
    let rest = inbox.on_data(NOW, &data(1, 1000, LAST), &bytes[1000..], &mut budget);
    assert_eq!(rest, Arrival::Message(bytes.clone()));
    assert_eq!(first(&mut inbox, &mut budget, 3), Arrival::Part);
}

#[test]
fn a_message_longer_than_its_first_fragment_said_is_refused() {
    let (mut inbox, mut budget) = (Inbox::new(), budget());
    let bytes = message(300);
    inbox.on_data(NOW, &data(1, 0, FIRST), &bytes[..100], &mut budget);
    assert_eq!(inbox.on_data(NOW, &data(1, 250, LAST), &[0; 100], &mut budget), Arrival::Refused);
    assert_eq!(inbox.on_data(NOW, &data(1, u32::MAX, 0), &[0; 100], &mut budget), Arrival::Refused);
    assert_eq!(inbox.on_data(NOW, &data(9, 5, WHOLE), b"x", &mut budget), Arrival::Refused);
    assert_eq!(inbox.on_data(NOW, &data(1 << 20, 0, WHOLE), b"x", &mut budget), Arrival::Refused);
}

#[test]
fn however_little_fits_every_arrival_is_told_of_in_time() {
    let (mut inbox, mut budget) = (Inbox::new(), budget());
    let bytes = message(300);
    for seq in 1..=40 {
        inbox.on_data(NOW, &data(seq, 0, FIRST), &bytes[..100], &mut budget);
        inbox.on_data(NOW, &data(seq + 100 + seq, 0, WHOLE), b"x", &mut budget);
    }
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
