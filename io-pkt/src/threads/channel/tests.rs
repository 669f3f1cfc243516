//! The rings between two loops: order, bounds, and many frames between two threads.

use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::*;

fn bell() -> (Poll, Arc<Bell>) {
    let poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
    (poll, Arc::new(Bell::new(waker)))
}

fn sides(supply: usize) -> (Near, Far) {
    let ((_, near), (_, far)) = (bell(), bell());
    channel(supply, near, far)
}

fn desc(offset: u64, flags: u16) -> FrameDesc {
    FrameDesc { offset, flags, ..FrameDesc::default() }
}

fn records(near: &mut Near) -> Vec<(Op, u64)> {
    std::iter::from_fn(|| near.records.pop().ok()).map(|record| (record.op, record.desc.offset)).collect()
}

#[test]
fn calls_arrive_in_their_order() {
    let (mut near, mut far) = sides(8);
    far.retain(&[desc(1, 0)]);
    far.deliver(&[desc(1, 0), desc(2, 0)]);
    far.free(&[desc(1, 0)]);
    far.deliver(&[desc(3, 0), desc(4, FLAG_CONTINUES)]);
    let expected = [(Op::Retain, 1), (Op::Deliver, 1), (Op::Deliver, 2), (Op::Free, 1), (Op::Deliver, 3)];
    let got = records(&mut near);
    assert_eq!(got[..5], expected);
    assert_eq!(got[5..], [(Op::Cut, 4)], "a call that ends inside a frame says so");
}

#[test]
fn a_full_ring_keeps_calls_back_and_in_order() {
    let (mut near, mut far) = sides(8);
    let many: Vec<_> = (0..RECORDS as u64 + 100).map(|n| desc(n, 0)).collect();
    far.free(&many);
    assert!(!far.flush());
    assert!(!far.has_news(false), "nothing to do before the other side has made room");
    let mut got = records(&mut near);
    assert!(far.has_news(false) && far.flush());
    got.extend(records(&mut near));
    assert!(got.iter().map(|(_, n)| *n).eq(0..RECORDS as u64 + 100));
    assert!(!far.is_mad());
}

#[test]
fn calls_without_end_are_noticed_and_bounded() {
    let (_near, mut far) = sides(8);
    let many = vec![desc(0, 0); RECORDS];
    (0..=MAX_BACKLOG / RECORDS).for_each(|_| far.free(&many));
    assert!(!far.is_mad(), "ring and backlog take that many");
    far.free(&many[..1]);
    assert!(far.is_mad());
    assert_eq!(far.backlog.len(), MAX_BACKLOG);
}

#[test]
fn only_whole_frames_go_to_the_driver() {
    let (mut near, mut far) = sides(8);
    let long = [desc(0, FLAG_CONTINUES), desc(1, FLAG_CONTINUES), desc(2, 0)];
    for _ in 0..FRAMES / 3 {
        assert_eq!(near.push_frames(&long), 3);
    }
    assert_eq!(near.push_frames(&long), 0, "one place is left, and a frame is not cut");
    let mut out = Vec::new();
    far.take_frames(&mut out, 4);
    assert_eq!(out.len(), 6, "the frame that was begun is taken to its end");
    assert_eq!(whole_frames(&out), 6);
    assert_eq!(whole_frames(&out[..5]), 3);
}

#[test]
fn a_dearth_of_chunks_is_told_and_ends() {
    let (mut near, mut far) = sides(8);
    near.chunks.push(desc(7, 0)).unwrap();
    let mut out = [FrameDesc::default(); 3];
    assert_eq!((far.alloc(&mut out), out[0].offset), (1, 7));
    far.announce();
    assert!(near.take_noted() && !near.take_noted());
    assert_eq!((near.take_short(), near.take_short()), (2, 0));
    assert!(!far.has_news(false) && !far.take_relief());
    near.chunks.push(desc(8, 0)).unwrap();
    assert!(far.has_news(false) && far.take_relief() && !far.take_relief());
}

#[test]
fn everything_left_on_the_drivers_side_comes_back() {
    let (mut near, mut far) = sides(8);
    near.chunks.push(desc(1, 0)).unwrap();
    near.push_frames(&[desc(2, 0)]);
    far.deliver(&vec![desc(3, 0); RECORDS + 1]);
    let left: Vec<_> = far.leftovers().iter().map(|record| (record.op, record.desc.offset)).collect();
    assert_eq!(left, [(Op::Deliver, 3), (Op::Free, 2), (Op::Free, 1)]);
}

#[test]
fn a_bell_wakes_a_sleeper_once_and_nobody_else() {
    let (mut poll, bell) = bell();
    let mut events = Events::with_capacity(4);
    let mut rung = |poll: &mut Poll| {
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().count()
    };
    bell.ring();
    assert_eq!(rung(&mut poll), 0, "nobody sleeps");
    bell.lie_down();
    bell.ring();
    bell.ring();
    assert_eq!(rung(&mut poll), 1);
    bell.lie_down();
    bell.get_up();
    bell.ring();
    assert_eq!(rung(&mut poll), 0);
}

/// Both sides sleep whenever they find nothing: a wake-up that is lost would end this test at its deadline.
#[test]
fn no_frame_and_no_wake_up_is_lost_between_two_threads() {
    const FRAMES: u64 = 200_000;
    let ((mut near_poll, near_bell), (mut far_poll, far_bell)) = (bell(), bell());
    let (mut near, mut far) = channel(64, Arc::clone(&near_bell), Arc::clone(&far_bell));
    let deadline = Instant::now() + Duration::from_secs(60);
    let patience = Some(Duration::from_secs(60));
    let driver = std::thread::spawn(move || {
        let (mut events, mut batch, mut seen) = (Events::with_capacity(4), Vec::new(), 0);
        while seen < FRAMES {
            assert!(Instant::now() < deadline, "the driver's side has {seen} of {FRAMES}");
            if far.flush() {
                batch.clear();
                far.take_frames(&mut batch, 64);
                for desc in &batch {
                    assert_eq!(desc.offset, seen);
                    seen += 1;
                }
                far.free(&batch);
            }
            far.announce();
            far_bell.lie_down();
            if seen < FRAMES && !far.has_news(false) {
                far_poll.poll(&mut events, patience).unwrap();
            }
            far_bell.get_up();
        }
        // What is kept back still has to go, and the other side makes room without being asked.
        while !far.flush() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        far.announce();
    });
    let (mut events, mut next, mut back) = (Events::with_capacity(4), 0, 0);
    while back < FRAMES {
        assert!(Instant::now() < deadline, "loop 0's side has {back} of {FRAMES}");
        let batch: Vec<_> = (next..FRAMES.min(next + 64)).map(|n| desc(n, 0)).collect();
        let pushed = near.push_frames(&batch);
        next += pushed as u64;
        let mut got = 0;
        while let Ok(record) = near.records.pop() {
            assert_eq!((record.op, record.desc.offset), (Op::Free, back));
            back += 1;
            got += 1;
        }
        if pushed + got > 0 {
            near.far.ring();
        }
        near_bell.lie_down();
        if pushed + got == 0 && near.records.is_empty() {
            near_poll.poll(&mut events, patience).unwrap();
        }
        near_bell.get_up();
    }
    driver.join().unwrap();
}
