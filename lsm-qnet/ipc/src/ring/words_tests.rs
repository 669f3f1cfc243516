//! The algorithm under `loom`: every order in which two threads can run, and every value that a load may give.
//!
//! The very code of [`super`] runs here, over words of `loom`. The bytes of the ring are `loom` cells that complain when
//! two threads touch one at a time, so a position shown too early or given back too early fails the test. Sleeping is a
//! `Notify`: a thread that sleeps although it should be woken is a deadlock, which `loom` reports.

use std::sync::atomic::Ordering;

use loom::{
    cell::UnsafeCell,
    sync::{Arc, Notify, atomic::AtomicU32 as LoomU32},
    thread,
};

use super::*;

impl Word for LoomU32 {
    fn load(&self, order: Ordering) -> u32 {
        Self::load(self, order)
    }
    fn store(&self, value: u32, order: Ordering) {
        Self::store(self, value, order);
    }
    fn fence() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// A ring of 16 bytes: two records of 8.
const CAPACITY: u32 = 16;

struct Shared {
    words: Words<LoomU32>,
    /// The bytes of the records, as far as `loom` is concerned, and what is in them.
    records: [(UnsafeCell<()>, AtomicU32); 2],
    reader: Notify,
    writer: Notify,
}

impl Shared {
    fn new() -> Arc<Self> {
        let words = Words {
            tail: Line(LoomU32::new(0)),
            head: Line(LoomU32::new(0)),
            waiting: Line(LoomU32::new(0)),
            wanted: Line(LoomU32::new(0)),
        };
        let records = Default::default();
        Arc::new(Self { words, records, reader: Notify::new(), writer: Notify::new() })
    }
}

/// Writes 1, 2, … `n`, sleeping while there is no room.
fn write(shared: &Shared, n: u32) {
    let mut writer = Writer::new(CAPACITY, CAPACITY);
    for value in 1..=n {
        let place = loop {
            match writer.reserve(&shared.words, 8).unwrap() {
                Some(place) => break place,
                None => shared.writer.wait(),
            }
        };
        let (bytes, record) = &shared.records[place.at as usize / 8];
        bytes.with_mut(|_| record.store(value, Ordering::Relaxed));
        if writer.publish(&shared.words, place) {
            shared.reader.notify();
        }
    }
}

/// Reads `n` records, sleeping while there is none.
fn read(shared: &Shared, n: u32) {
    let reader = Reader::new(CAPACITY);
    for expected in 1..=n {
        let at = loop {
            if let Some((at, _)) = reader.next(&shared.words).unwrap() {
                break at;
            }
            let sleep = reader.arm(&shared.words);
            if reader.is_wanted(&shared.words) {
                shared.writer.notify();
            }
            if sleep {
                shared.reader.wait();
                reader.disarm(&shared.words);
            }
        };
        let (bytes, record) = &shared.records[at as usize / 8];
        bytes.with(|_| assert_eq!(record.load(Ordering::Relaxed), expected));
        reader.release(&shared.words, 8);
    }
    // The last one to leave tells the other that there is room.
    reader.arm(&shared.words);
    if reader.is_wanted(&shared.words) {
        shared.writer.notify();
    }
}

fn model(n: u32) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let shared = Shared::new();
        let other = Arc::clone(&shared);
        let writer = thread::spawn(move || write(&other, n));
        read(&shared, n);
        writer.join().unwrap();
    });
}

#[test]
fn a_record_wakes_the_reader_and_comes_whole() {
    model(1);
}

#[test]
fn a_full_ring_sleeps_until_there_is_room_and_nothing_is_lost() {
    model(3);
}

#[test]
fn a_position_that_cannot_be_is_refused_by_both_sides() {
    let words: Words<AtomicU32> = Words::default();
    let (mut writer, reader) = (Writer::new(64, 64), Reader::new(64));
    let place = writer.reserve(&words, 32).unwrap().unwrap();
    assert!(!writer.publish(&words, place));
    for tail in [65, 1 << 31, u32::MAX] {
        words.tail.0.store(tail, Ordering::Relaxed);
        assert_eq!(reader.next(&words), Err(Broken::Position { distance: tail, capacity: 64 }));
    }
    // A reader that says to be ahead of the writer, or behind what it said before.
    for head in [33, 64, u32::MAX, 1 << 31] {
        words.head.0.store(head, Ordering::Relaxed);
        assert!(matches!(writer.reserve(&words, 64), Err(Broken::Position { .. })), "{head}");
    }
    words.head.0.store(16, Ordering::Relaxed);
    assert!(writer.reserve(&words, 48).unwrap().is_none(), "48 bytes are free, but not in one piece");
    words.head.0.store(8, Ordering::Relaxed);
    assert!(matches!(writer.reserve(&words, 64), Err(Broken::Position { .. })));
}

#[test]
fn a_record_that_does_not_fit_before_the_end_leaves_a_gap() {
    let words: Words<AtomicU32> = Words::default();
    let (mut writer, reader) = (Writer::new(64, 64), Reader::new(64));
    let first = writer.reserve(&words, 40).unwrap().unwrap();
    assert_eq!((first.at, first.gap), (0, None));
    let _awake = writer.publish(&words, first);
    assert_eq!(writer.reserve(&words, 32).unwrap(), None);
    assert!(reader.is_wanted(&words) && !reader.is_wanted(&words), "it is told once");
    reader.release(&words, 40);
    let second = writer.reserve(&words, 32).unwrap().unwrap();
    assert_eq!((second.at, second.gap), (0, Some((40, 24))));
    let _awake = writer.publish(&words, second);
    assert_eq!(reader.next(&words), Ok(Some((40, 56))));
}

#[test]
fn an_empty_ring_begins_again_at_the_front() {
    let words: Words<AtomicU32> = Words::default();
    let (mut writer, reader) = (Writer::new(64, 16), Reader::new(64));
    for expected in [(0, None), (8, None), (0, Some((16, 48))), (8, None)] {
        let place = writer.reserve(&words, 8).unwrap().unwrap();
        assert_eq!((place.at, place.gap), expected);
        let _awake = writer.publish(&words, place);
        let (_, there) = reader.next(&words).unwrap().unwrap();
        reader.release(&words, there);
    }
    // Not while something is in it.
    let place = writer.reserve(&words, 8).unwrap().unwrap();
    let _awake = writer.publish(&words, place);
    assert_eq!(writer.reserve(&words, 8).unwrap().unwrap().gap, None);
}

#[test]
fn positions_wrap() {
    let words: Words<AtomicU32> = Words::default();
    let (mut writer, reader) = (Writer::new(64, 64), Reader::new(64));
    let near = u32::MAX - 15;
    writer.tail = near;
    writer.head = near;
    reader.head.store(near, Ordering::Relaxed);
    words.head.0.store(near, Ordering::Relaxed);
    words.tail.0.store(near, Ordering::Relaxed);
    for _ in 0..8 {
        let place = writer.reserve(&words, 8).unwrap().unwrap();
        let _awake = writer.publish(&words, place);
        assert!(reader.next(&words).unwrap().is_some_and(|(at, there)| at == place.at && there == 8));
        reader.release(&words, 8);
        assert!(!reader.has_more(&words));
    }
}
