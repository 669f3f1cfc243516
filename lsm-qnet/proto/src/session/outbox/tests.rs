//! Tests of the sending half, as scripts of what is sent and what comes back.
//!
//! Time is a number of milliseconds, fragments are 100 bytes, and a message is named by the sequence
//! number it got.

use super::*;
use crate::link::{LinkAddr, LinkId};
use crate::session::order::{Class, GateKey};
use crate::source::Body;
use crate::wire::Order;
use crate::wire::ack::{self, Ack, AckHead, Nack, Span, Whole};
use crate::wire::kif::{Kif, Xfer};

pub(super) const PIECE: u32 = 100;
pub(super) const PATIENCE: Patience = Patience {
    longest_timeout: Duration::from_millis(200),
    give_up: Duration::from_secs(5),
    idle: Duration::from_secs(10),
    spacing: Duration::from_secs(1),
    slow: Duration::ZERO,
};
const PATH: (LinkId, LinkAddr) = (LinkId(0), LinkAddr::mac([2; 6]));

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// A message of `len` bytes, fixed part included.
pub(super) fn message(len: u32) -> Message {
    let xfer = Xfer { status: 0, handle: 1, offset: 0, nbytes: len - 20 };
    Message::kif(&Kif::MsgWrite(xfer), Body::from(vec![7; len as usize - 20])).unwrap()
}

fn outbox(selective: bool) -> Outbox {
    let mut outbox = Outbox::new(PIECE);
    outbox.on_peer(PIECE, 1 << 20, selective);
    outbox.set_paths(at(0), &[(PATH, PIECE)]);
    outbox.lanes.iter_mut().for_each(|lane| lane.health.prove(at(0)));
    outbox
}

fn push(outbox: &mut Outbox, now: Instant, message: Message) {
    outbox.push(now, message, Route::default());
}

/// Everything that may be sent now, as (seq, offset, flags).
fn sent(outbox: &mut Outbox, now: Instant) -> Vec<(u32, u32, u8)> {
    let mut frame = vec![0; HEADER + PIECE as usize + 2];
    std::iter::from_fn(|| {
        outbox.poll(now, &mut frame).map(|o| (o.header.seq, o.header.offset, o.header.flags))
    })
    .collect()
}

pub(super) fn ack(
    outbox: &mut Outbox,
    now: Instant,
    base: u32,
    whole: &[(u32, u32)],
    parts: &[(u32, u32, u32)],
) -> bool {
    let head = AckHead { window: 1 << 20, base, echo_delay: u32::MAX, ..AckHead::default() };
    let whole = whole.iter().map(|&(first, count)| Whole { first, count });
    let parts = parts.iter().map(|&(seq, offset, length)| Span { seq, offset, length });
    let mut bytes = [0; 400];
    let len = Ack::emit(&head, whole, parts, &mut bytes, Order::Little).unwrap();
    outbox.on_ack(now, &Ack::parse(&bytes[..len], Order::Little).unwrap())
}

#[test]
fn a_message_is_cut_into_fragments_that_say_first_and_last() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(250));
    assert_eq!(sent(&mut outbox, at(0)), [(1, 0, FIRST), (1, 100, 0), (1, 200, LAST)]);
    assert_eq!(outbox.in_flight(), 250);
    assert!(ack(&mut outbox, at(1), 2, &[], &[]));
    assert!(outbox.is_idle() && outbox.in_flight() == 0);
}

#[test]
fn what_fits_into_one_packet_goes_before_bulk_but_not_for_ever() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(1000));
    (0..20).for_each(|_| push(&mut outbox, at(0), message(50)));
    let order: Vec<bool> =
        sent(&mut outbox, at(0)).iter().map(|&(_, _, flags)| flags == FIRST | LAST).collect();
    assert_eq!(order[..8], [true; 8]);
    assert_eq!(order[8..18], [false, true, true, true, true, true, true, true, true, false]);
}

#[test]
fn a_small_message_waits_for_a_packet_of_bulk_and_one_of_each_other_policy_at_most() {
    for others in 0..4u16 {
        for frames_before in 0..30 {
            let mut outbox = outbox(true);
            for index in 0..=others {
                for _ in 0..5 {
                    outbox.push(at(0), message(5000), Route { index, ..Route::default() });
                }
            }
            let mut frame = vec![0; HEADER + PIECE as usize + 2];
            for _ in 0..frames_before {
                assert!(outbox.poll(at(0), &mut frame).is_some(), "there is always bulk to send");
            }
            push(&mut outbox, at(0), message(50));
            let is_small = |sent: &Outgoing| sent.header.length == 50;
            let waited =
                std::iter::from_fn(|| outbox.poll(at(0), &mut frame)).position(|sent| is_small(&sent));
            assert!(waited.is_some_and(|frames| frames <= 1 + usize::from(others)), "{others}: {waited:?}");
        }
    }
}

#[test]
fn a_full_window_of_bulk_lets_small_messages_through() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(500_000));
    let filled = sent(&mut outbox, at(0)).len() as u64 * u64::from(PIECE);
    assert!(filled >= outbox.window() - u64::from(PIECE), "nothing more of the bulk fits");
    push(&mut outbox, at(0), message(50));
    assert_eq!(sent(&mut outbox, at(0)).len(), 1);
}

#[test]
fn bulk_messages_take_turns() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(300));
    push(&mut outbox, at(0), message(300));
    let seqs: Vec<u32> = sent(&mut outbox, at(0)).iter().map(|s| s.0).collect();
    assert_eq!(seqs, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn three_later_arrivals_make_a_fragment_lost_and_only_that_one_is_sent_again() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(600));
    sent(&mut outbox, at(0));
    ack(&mut outbox, at(1), 1, &[], &[(1, 0, 100), (1, 200, 200)]);
    assert_eq!(sent(&mut outbox, at(1)), [], "two are not enough");
    ack(&mut outbox, at(2), 1, &[], &[(1, 0, 100), (1, 200, 300)]);
    assert_eq!(sent(&mut outbox, at(2)), [(1, 100, 0)]);
    assert_eq!(outbox.take_counts().0, 1);
}

#[test]
fn a_nack_brings_what_it_names_at_once() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(300));
    sent(&mut outbox, at(0));
    let mut bytes = [0; 100];
    let gap = Span { seq: 1, offset: 100, length: 100 };
    let len = Nack::emit(ack::MISSING, 1000, std::iter::once(gap), &mut bytes, Order::Little).unwrap();
    outbox.on_nack(at(1), &Nack::parse(&bytes[..len], Order::Little).unwrap());
    assert_eq!(sent(&mut outbox, at(1)), [(1, 100, 0)]);
}

#[test]
fn what_was_cut_for_a_path_that_died_goes_over_a_narrower_one_in_pieces_that_fit() {
    let narrow = (LinkId(1), LinkAddr::mac([3; 6]));
    for ended in [false, true] {
        let mut outbox = outbox(true);
        push(&mut outbox, at(0), message(250));
        assert_eq!(sent(&mut outbox, at(0)).len(), 3);
        ack(&mut outbox, at(1), 1, &[], &[(1, 0, 100)]);
        let paths: &[_] = if ended { &[(narrow, 40)] } else { &[(PATH, PIECE), (narrow, 40)] };
        outbox.set_paths(at(2), paths);
        for lane in outbox.lanes.iter_mut() {
            if lane.link == narrow.0 { lane.health.prove(at(2)) } else { lane.health.suspect(at(2)) }
        }
        let mut frame = [0; HEADER + PIECE as usize + 2];
        let mut pieces: Vec<(u32, u32)> = Vec::new();
        for ms in 2..200 {
            assert!(!outbox.on_timeout(at(ms), PATIENCE));
            while let Some(out) = outbox.poll(at(ms), &mut frame) {
                assert!(out.header.length <= 40, "{:?}", out.header);
                pieces.push((out.header.offset, out.header.offset + out.header.length));
            }
        }
        pieces.sort_unstable();
        pieces.dedup();
        let expected = [(80, 120), (120, 160), (160, 200), (200, 240), (240, 250)];
        assert_eq!(pieces, expected, "cut anew from its beginning, and what is missing of it: {ended}");
        assert!(ack(&mut outbox, at(201), 2, &[], &[]));
        assert!(outbox.is_idle() && outbox.in_flight() == 0);
    }
}

#[test]
fn silence_brings_everything_again_later_and_later_and_then_the_end() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(150));
    sent(&mut outbox, at(0));
    let (mut now, mut gaps) = (at(0), Vec::new());
    loop {
        let next = outbox.deadline(PATIENCE).unwrap();
        if next > now {
            gaps.push(next.since(now).as_millis());
        }
        now = next;
        if outbox.on_timeout(now, PATIENCE) {
            break;
        }
        sent(&mut outbox, now);
    }
    assert_eq!(now, at(5000), "tx_retries times tx_ticks");
    assert_eq!(gaps[..4], [50, 100, 200, 200]);
    assert!(outbox.take_counts().0 >= 2 * 25);
}

#[test]
fn progress_puts_the_end_off() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(150));
    sent(&mut outbox, at(0));
    ack(&mut outbox, at(4000), 1, &[], &[(1, 0, 100)]);
    assert!(!outbox.on_timeout(at(6000), PATIENCE));
    assert!(outbox.on_timeout(at(9000), PATIENCE));
}

#[test]
fn acknowledgements_of_the_past_and_of_nothing_do_no_harm() {
    let mut outbox = outbox(true);
    for _ in 0..3 {
        push(&mut outbox, at(0), message(50));
    }
    sent(&mut outbox, at(0));
    assert!(ack(&mut outbox, at(1), 3, &[], &[]));
    assert!(ack(&mut outbox, at(2), 1, &[(1, 1)], &[(2, 0, 50)]), "overtaken");
    assert!(!ack(&mut outbox, at(3), 99, &[], &[]), "never sent");
    ack(&mut outbox, at(3), 3, &[(50, u32::MAX), (3, 0)], &[(77, 0, u32::MAX), (3, 7, 1)]);
    assert_eq!(outbox.queued(), 1);
    ack(&mut outbox, at(4), 3, &[(3, u32::MAX)], &[]);
    assert!(outbox.is_idle());
}

#[test]
fn an_ordered_message_goes_when_those_before_it_are_acknowledged() {
    let mut outbox = outbox(true);
    let key = GateKey::Rcv(5);
    for _ in 0..2 {
        push(&mut outbox, at(0), message(150).behind(key, Class::Free));
    }
    push(&mut outbox, at(0), message(50).behind(key, Class::Ordered));
    assert_eq!(sent(&mut outbox, at(0)).len(), 4);
    ack(&mut outbox, at(1), 2, &[], &[]);
    assert_eq!(sent(&mut outbox, at(1)), []);
    ack(&mut outbox, at(2), 3, &[], &[]);
    assert_eq!(sent(&mut outbox, at(2)), [(3, 0, FIRST | LAST)]);
}

/// Lets time pass, and gives how many fragments went in each 50 milliseconds.
fn flow(outbox: &mut Outbox, from: u64, spans: u64) -> Vec<usize> {
    let span = |span| {
        let ms = from + span * 50..from + (span + 1) * 50;
        let step = |ms| {
            assert!(!outbox.on_timeout(at(ms), PATIENCE));
            sent(outbox, at(ms)).len()
        };
        ms.map(step).sum()
    };
    (0..spans).map(span).collect()
}

#[test]
fn a_plain_peer_gets_a_long_message_a_window_each_round_trip_and_without_repetition() {
    let mut outbox = outbox(false);
    push(&mut outbox, at(0), message(50_000));
    let went = flow(&mut outbox, 0, 8);
    assert!(went[0] <= 64 + 32 && went[1..].iter().all(|&count| count <= 65), "{went:?}");
    assert_eq!(went.iter().sum::<usize>(), 500, "{went:?}");
    assert_eq!(outbox.take_counts().0, 0, "nothing went twice");
    outbox.on_plain_nack(at(401), 1, 49_900);
    assert_eq!(sent(&mut outbox, at(401)), [(1, 49_900, LAST)]);
    outbox.on_plain_ack(at(402), 1);
    assert!(outbox.is_idle() && outbox.in_flight() == 0);
}

#[test]
fn a_plain_peer_that_is_silent_gets_all_of_a_message_again_and_fewer_fragments_at_once() {
    let mut outbox = outbox(false);
    push(&mut outbox, at(0), message(50_000));
    flow(&mut outbox, 0, 8);
    // Silence: after each timeout it goes again, with half the window in twice the time.
    let slower = flow(&mut outbox, 400, 80);
    let most = |spans: &[usize]| spans.iter().copied().max().unwrap_or_default();
    assert!(most(&slower[..8]) <= 32 + 16, "{slower:?}");
    assert!(most(&slower[60..]) <= 16, "{slower:?}");
    assert!(slower.iter().sum::<usize>() > 500, "all of it, and again: {slower:?}");
}

#[test]
fn no_more_is_started_than_the_peer_has_room_for() {
    let mut outbox = outbox(true);
    outbox.on_peer(PIECE, 1000, true);
    for _ in 0..3 {
        push(&mut outbox, at(0), message(800));
    }
    let started: Vec<u32> = sent(&mut outbox, at(0)).iter().map(|s| s.0).collect();
    assert!(started.iter().all(|&seq| seq == 1), "{started:?}");
    let head = AckHead { window: 1000, base: 2, echo_delay: u32::MAX, ..AckHead::default() };
    let mut bytes = [0; 100];
    let none = std::iter::empty;
    let len = Ack::emit(&head, none(), std::iter::empty(), &mut bytes, Order::Little).unwrap();
    outbox.on_ack(at(1), &Ack::parse(&bytes[..len], Order::Little).unwrap());
    assert!(sent(&mut outbox, at(1)).iter().all(|s| s.0 == 2));
}

#[test]
fn the_sequence_number_wraps_without_a_seam() {
    let mut outbox = outbox(true);
    outbox.base = (1 << 32) - 2;
    for _ in 0..5 {
        push(&mut outbox, at(0), message(50));
    }
    let seqs: Vec<u32> = sent(&mut outbox, at(0)).iter().map(|s| s.0).collect();
    assert_eq!(seqs, [u32::MAX - 1, u32::MAX, 0, 1, 2]);
    assert!(ack(&mut outbox, at(1), 1, &[(2, 1)], &[]));
    assert_eq!(outbox.in_flight(), 50, "only number 1 is missing");
    assert!(ack(&mut outbox, at(1), 3, &[], &[]));
    assert!(outbox.is_idle());
}

#[test]
fn a_round_trip_is_measured_on_what_was_sent_once() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(50));
    sent(&mut outbox, at(0));
    let head = AckHead { window: 1, base: 2, echo_seq: 1, echo_offset: 0, echo_delay: 2000 };
    let mut bytes = [0; 100];
    let len = Ack::emit(&head, std::iter::empty(), std::iter::empty(), &mut bytes, Order::Little).unwrap();
    outbox.on_ack(at(10), &Ack::parse(&bytes[..len], Order::Little).unwrap());
    assert_eq!(outbox.rtt(), Some(Duration::from_millis(8)), "the receiver's delay is taken off");
}

#[test]
fn a_refusal_for_lack_of_memory_is_no_silence() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(150));
    sent(&mut outbox, at(0));
    let mut bytes = [0; 100];
    let all = Span { seq: 1, offset: 0, length: u32::MAX };
    let len = Nack::emit(ack::NO_ROOM, 1000, std::iter::once(all), &mut bytes, Order::Little).unwrap();
    for second in 1..20 {
        outbox.on_nack(at(second * 1000), &Nack::parse(&bytes[..len], Order::Little).unwrap());
        assert!(!outbox.on_timeout(at(second * 1000 + 999), PATIENCE), "the peer lives");
    }
    assert!(outbox.deadline(PATIENCE).is_some());
}

pub(super) fn nack(outbox: &mut Outbox, now: Instant, reason: u8, seq: Option<u32>) {
    let mut bytes = [0; 100];
    let all = seq.map(|seq| Span { seq, offset: 0, length: u32::MAX });
    let len = Nack::emit(reason, 1000, all.into_iter(), &mut bytes, Order::Little).unwrap();
    outbox.on_nack(now, &Nack::parse(&bytes[..len], Order::Little).unwrap());
}

#[test]
fn what_a_sink_has_no_room_for_gives_its_number_back_and_asks_again_with_one_fragment() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(350));
    assert_eq!(sent(&mut outbox, at(0)).len(), 4);
    nack(&mut outbox, at(1), ack::NO_ROOM, Some(1));
    assert_eq!(outbox.in_flight(), 0);
    assert_eq!(sent(&mut outbox, at(1)), [(1, 0, FIRST | LAST)], "a filler");
    nack(&mut outbox, at(1), ack::NO_ROOM, Some(1));
    assert_eq!(sent(&mut outbox, at(1)), [], "a refusal that comes late changes nothing");
    ack(&mut outbox, at(2), 2, &[], &[]);
    assert!(!outbox.is_idle());
    let mut gaps = Vec::new();
    let (mut now, mut seq) = (at(2), 2);
    for _ in 0..8 {
        let next = outbox.deadline(PATIENCE).unwrap();
        gaps.push(next.since(now).as_millis());
        now = next;
        assert!(!outbox.on_timeout(now, PATIENCE), "the peer lives");
        assert_eq!(sent(&mut outbox, now), [(seq, 0, FIRST)], "the others wait for the answer");
        nack(&mut outbox, now, ack::NO_ROOM, Some(seq));
        assert_eq!(sent(&mut outbox, now), [(seq, 0, FIRST | LAST)]);
        ack(&mut outbox, now, seq + 1, &[], &[]);
        seq += 1;
    }
    assert_eq!(gaps, [19, 40, 80, 160, 320, 640, 1280, 1280]);
    nack(&mut outbox, now, ack::ROOM, None);
    assert_eq!(sent(&mut outbox, now), [(seq, 0, FIRST)], "told of room, it asks at once");
    ack(&mut outbox, now, seq, &[], &[(seq, 0, 100)]);
    assert_eq!(sent(&mut outbox, now), [(seq, 100, 0), (seq, 200, 0), (seq, 300, LAST)]);
    ack(&mut outbox, now, seq + 1, &[], &[]);
    assert!(outbox.is_idle() && outbox.in_flight() == 0);
}

#[test]
fn a_transfer_longer_than_a_message_may_be_goes_as_several_a_few_at_once() {
    let mut outbox = Outbox::new(60_000);
    outbox.on_peer(60_000, 64 << 20, true);
    outbox.set_paths(at(0), &[(PATH, 60_000)]);
    let most = crate::MAX_TRANSFER;
    let total = 40 * most + 5;
    let xfer = Xfer { status: 0, handle: 9, offset: 1000, nbytes: total as u32 };
    let key = GateKey::Rcv(1);
    let long = Message::kif(&Kif::MsgWrite(xfer), Body::from(vec![7; total])).unwrap();
    push(&mut outbox, at(0), long.behind(key, Class::Free));
    push(&mut outbox, at(0), message(50).behind(key, Class::Ordered));
    let mut frame = vec![0; HEADER + 60_002];
    let (mut next, mut order, mut last_alone) = (1000, Vec::new(), false);
    for round in 0..10_000 {
        let now = at(round);
        let mut base = 0;
        while let Some(Outgoing { header, .. }) = outbox.poll(now, &mut frame) {
            base = base.max(header.seq);
            if header.flags & FIRST != 0 {
                let (kif, _) = Kif::parse_head(&frame[HEADER..], Order::Little).unwrap();
                let Kif::MsgWrite(xfer) = kif else { panic!("{kif:?}") };
                last_alone = xfer.nbytes == 30;
                if !last_alone {
                    order.push((xfer.offset, xfer.nbytes));
                }
            }
        }
        assert!(outbox.started.len() <= MAX_SHARERS + 1, "{}", outbox.started.len());
        if base == 0 {
            break;
        }
        ack(&mut outbox, now, base + 1, &[], &[]);
        if outbox.is_idle() {
            break;
        }
    }
    assert!(outbox.is_idle() && last_alone, "the ordered one comes when all pieces are there");
    for (offset, nbytes) in order {
        assert_eq!(offset, next);
        next += nbytes;
    }
    assert_eq!(next as usize, 1000 + total);
}

#[test]
fn after_a_first_timeout_four_fragments_go_again_and_tell_what_else_was_lost() {
    let mut outbox = outbox(true);
    push(&mut outbox, at(0), message(1000));
    assert_eq!(sent(&mut outbox, at(0)).len(), 10);
    let window = outbox.window();
    assert!(!outbox.on_timeout(at(50), PATIENCE));
    let again: Vec<u32> = sent(&mut outbox, at(50)).into_iter().map(|(_, offset, _)| offset).collect();
    assert_eq!(again, [0, 100, 200, 300]);
    assert_eq!(outbox.window(), window, "one silence proves little");
    let due = outbox.deadline(PATIENCE).unwrap();
    assert!(!outbox.on_timeout(due, PATIENCE));
    assert_eq!(sent(&mut outbox, due).len(), 6, "what was not due at the first timeout is now");
    assert!(outbox.window() < window);
}
