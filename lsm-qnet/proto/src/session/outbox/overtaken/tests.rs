//! Two lanes of fragments, and acknowledgements that come in any order.

use std::time::Duration;

use super::super::super::health::PathState;
use super::super::tests::{PATIENCE, PIECE, ack, message, nack};
use super::super::{Outbox, Outgoing};
use super::*;
use crate::link::{LinkAddr, LinkId};
use crate::qos::Route;
use crate::wire::ack::MISSING;
use crate::wire::lwl4::HEADER;

const PATHS: [(LinkId, LinkAddr); 2] =
    [(LinkId(0), LinkAddr::mac([2; 6])), (LinkId(1), LinkAddr::mac([3; 6]))];

fn at(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

/// Two lanes that are up, with round trips of 100 µs.
fn two_lanes() -> Outbox {
    let mut outbox = Outbox::new(PIECE);
    outbox.on_peer(PIECE, 1 << 20, true);
    outbox.set_paths(at(0), &PATHS.map(|path| (path, PIECE)));
    for lane in outbox.lanes.iter_mut() {
        lane.health.prove(at(0));
        (0..50).for_each(|_| lane.rtt.on_sample(at(0), Duration::from_micros(100)));
    }
    outbox
}

/// A message of 20 fragments, and the offsets that went by the first lane.
fn sent_by_both(outbox: &mut Outbox) -> Vec<u32> {
    outbox.push(at(0), message(2000), Route::default());
    let sent = poll_all(outbox, at(0));
    let first = outbox.lanes.at(0).map(|lane| lane.id).unwrap();
    let offsets = |by_first: bool| {
        let one = sent.iter().filter(move |out| (out.lane == first) == by_first);
        one.map(|out| out.header.offset).collect::<Vec<_>>()
    };
    assert_eq!((offsets(true).len(), offsets(false).len()), (10, 10));
    offsets(true)
}

fn poll_all(outbox: &mut Outbox, now: Instant) -> Vec<Outgoing> {
    let mut frame = vec![0; HEADER + PIECE as usize + 2];
    std::iter::from_fn(|| outbox.poll(now, &mut frame)).collect()
}

/// Tells that these fragments of the first message arrived.
fn tell(outbox: &mut Outbox, now: Instant, offsets: &[u32]) {
    let parts: Vec<_> = offsets.iter().map(|&offset| (1, offset, PIECE)).collect();
    assert!(ack(outbox, now, 1, &[], &parts));
}

#[test]
fn an_acknowledgement_that_overtook_another_makes_nothing_lost() {
    let mut outbox = two_lanes();
    let offsets = sent_by_both(&mut outbox);
    tell(&mut outbox, at(100), &offsets[5..]);
    assert_eq!(poll_all(&mut outbox, at(100)).len(), 0);
    let window = outbox.window();
    tell(&mut outbox, at(101), &offsets[..5]);
    assert!(!outbox.on_timeout(at(1200), PATIENCE));
    assert_eq!(poll_all(&mut outbox, at(1200)).len(), 0);
    assert_eq!(outbox.window(), window);
    assert!(outbox.lanes.iter().all(|lane| lane.overtaken.is_none()), "and nothing is waited for");
}

#[test]
fn what_is_still_overtaken_a_moment_later_is_lost() {
    let mut outbox = two_lanes();
    let offsets = sent_by_both(&mut outbox);
    tell(&mut outbox, at(100), &offsets[2..]);
    let due = outbox.deadline(PATIENCE).unwrap();
    assert!(due >= at(1100) && due < at(1300), "{due}");
    assert!(!outbox.on_timeout(due, PATIENCE));
    let again: Vec<u32> = poll_all(&mut outbox, due).iter().map(|out| out.header.offset).collect();
    assert_eq!(again, offsets[..2]);
}

#[test]
fn a_lane_that_is_left_alone_waits_for_no_other_and_wakes_nobody_for_it() {
    let mut outbox = two_lanes();
    let offsets = sent_by_both(&mut outbox);
    tell(&mut outbox, at(100), &offsets[2..]);
    outbox.set_paths(at(200), &[(PATHS[0], PIECE)]);
    assert!(!outbox.on_timeout(at(200), PATIENCE));
    let again: Vec<u32> = poll_all(&mut outbox, at(200)).iter().map(|out| out.header.offset).collect();
    assert!(again.contains(&offsets[0]) && again.contains(&offsets[1]), "{again:?}");
    assert!(outbox.deadline(PATIENCE).unwrap() > at(9000));
}

#[test]
fn the_moment_lasts_until_the_slowest_lane_can_have_told() {
    let mut outbox = two_lanes();
    let slow = outbox.lanes.at(1).map(|lane| lane.id).unwrap();
    let offsets = sent_by_both(&mut outbox);
    let lane = outbox.lanes.get_mut(slow).unwrap();
    (0..200).for_each(|_| lane.rtt.on_sample(at(0), Duration::from_millis(8)));
    tell(&mut outbox, at(100), &offsets[2..]);
    let due = outbox.lanes.at(0).and_then(|lane| lane.overtaken).map(|overtaken| overtaken.until).unwrap();
    assert!(due > at(7500) && due < at(9000), "{due}");
}

#[test]
fn a_report_that_something_is_missing_proves_nothing_about_a_lane_by_which_nothing_later_came() {
    let mut outbox = two_lanes();
    let offsets = sent_by_both(&mut outbox);
    nack(&mut outbox, at(5000), MISSING, Some(1));
    assert_eq!(poll_all(&mut outbox, at(5000)).len(), 0);
    tell(&mut outbox, at(5000), &offsets[9..]);
    nack(&mut outbox, at(5001), MISSING, Some(1));
    assert_eq!(poll_all(&mut outbox, at(5001)).len(), 9, "those that went before it");
}

#[test]
fn lanes_that_are_silent_alike_are_not_doubted_at_the_first_timeout() {
    let states = |outbox: &Outbox| outbox.lanes.iter().map(|lane| lane.health.state()).collect::<Vec<_>>();
    let mut outbox = two_lanes();
    let offsets = sent_by_both(&mut outbox);
    assert!(!outbox.on_timeout(at(10_000), PATIENCE));
    assert_eq!(states(&outbox), [PathState::Up; 2], "the peer has something else to do");
    // The second one answers, so it is the first one that does not.
    let mut outbox = two_lanes();
    sent_by_both(&mut outbox);
    let others: Vec<u32> = (0..20).map(|n| n * PIECE).filter(|offset| !offsets.contains(offset)).collect();
    tell(&mut outbox, at(9000), &others);
    assert!(!outbox.on_timeout(at(10_000), PATIENCE));
    assert_ne!(states(&outbox)[0], PathState::Up);
    assert_eq!(states(&outbox)[1], PathState::Up);
}
