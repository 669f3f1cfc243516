//! Packets through shared memory, and a peer that writes nonsense into it.

use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
    unistd::ftruncate,
};
use proptest::prelude::*;

use super::*;
use crate::MAX_DATA;

/// A client's end and a server's end.
fn ends() -> (Ring, Ring) {
    let (client, fd) = Ring::create(Direction::ToServer).unwrap();
    (client, Ring::adopt(&fd, Direction::ToClient).unwrap())
}

fn push(outlet: &mut Outlet, head: &[u8], data: &[u8]) -> Pushed {
    outlet.push(head, &[IoSlice::new(data)], data.len()).unwrap()
}

fn pop(inlet: &Inlet) -> Option<Vec<u8>> {
    let mut buffer = Vec::new();
    inlet.pop(&mut buffer, false).unwrap().map(|popped| buffer[..popped.len].to_vec())
}

fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn packets_of_every_size_come_in_order_in_both_directions() {
    let (mut client, mut server) = ends();
    for n in [0, 1, 7, 8, 100, LEND_FROM - 1, LEND_FROM, MAX_DATA, MAX_DATA + 1, MAX_LENT] {
        let data = pattern(n);
        assert_eq!(push(&mut client.outlet, b"to server", &data), Pushed::In { bell: false });
        assert_eq!(push(&mut server.outlet, b"to client", &data), Pushed::In { bell: false });
        assert_eq!(pop(&server.inlet).unwrap(), [b"to server", &data[..]].concat());
        assert_eq!(pop(&client.inlet).unwrap(), [b"to client", &data[..]].concat());
    }
    assert!(pop(&server.inlet).is_none() && pop(&client.inlet).is_none());
}

#[test]
fn data_gathered_from_many_places_arrives_in_one() {
    let (mut client, server) = ends();
    for n in [3, 3000] {
        let data = pattern(10 * n);
        let parts: Vec<_> = data.chunks(n).map(IoSlice::new).collect();
        client.outlet.push(b"head", &parts, data.len()).unwrap();
        assert_eq!(pop(&server.inlet).unwrap(), [b"head", &data[..]].concat());
    }
}

#[test]
fn a_loan_is_read_in_place_and_its_room_comes_back() {
    let (mut client, server) = ends();
    let data = pattern(MAX_LENT);
    for _ in 0..10 {
        push(&mut client.outlet, b"head", &data);
        let mut buffer = Vec::new();
        let popped = server.inlet.pop(&mut buffer, true).unwrap().unwrap();
        assert_eq!(&buffer[..popped.len], b"head");
        let loan = popped.loan.unwrap();
        let mut copy = vec![0; MAX_LENT];
        assert_eq!((loan.len(), loan.copy(0, &mut copy)), (MAX_LENT, MAX_LENT));
        assert_eq!(copy, data);
        assert_eq!(loan.copy(MAX_LENT - 3, &mut copy), 3);
        assert_eq!(copy[..3], data[MAX_LENT - 3..]);
        assert_eq!((loan.copy(MAX_LENT, &mut copy), loan.copy(usize::MAX, &mut copy)), (0, 0));
    }
    assert_eq!(client.outlet.room(), MAX_LENT);
}

#[test]
fn a_full_ring_says_so_and_asks_to_be_told_of_room() {
    let (mut client, server) = ends();
    let data = [7; 1000];
    let mut sent = 0;
    while push(&mut client.outlet, b"head", &data) != Pushed::Full {
        sent += 1;
        assert!(sent < 1000, "the ring has no bound");
    }
    assert!(server.inlet.is_wanted());
    for _ in 0..sent {
        assert_eq!(pop(&server.inlet).unwrap().len(), 1004);
    }
    assert_eq!(push(&mut client.outlet, b"head", &data), Pushed::In { bell: false });
}

#[test]
fn large_data_goes_in_pieces_while_the_arena_is_taken() {
    let (mut client, server) = ends();
    let data = pattern(MAX_LENT);
    let mut loans = Vec::new();
    for _ in 0..2 {
        push(&mut client.outlet, b"head", &data);
        loans.push(server.inlet.pop(&mut Vec::new(), true).unwrap().unwrap().loan.unwrap());
    }
    assert_eq!(client.outlet.room(), 0);
    assert_eq!(push(&mut client.outlet, b"head", &data), Pushed::Full);
    assert_eq!(push(&mut client.outlet, b"head", &data[..MAX_DATA]), Pushed::In { bell: false });
    assert_eq!(pop(&server.inlet).unwrap()[4..], data[..MAX_DATA]);
}

#[test]
fn a_sleeper_is_rung_once() {
    let (mut client, server) = ends();
    assert_eq!(server.inlet.arm(), Armed { sleep: true, bell: false });
    assert_eq!(push(&mut client.outlet, b"head", b"1"), Pushed::In { bell: true });
    assert_eq!(push(&mut client.outlet, b"head", b"2"), Pushed::In { bell: false });
    assert_eq!(server.inlet.arm(), Armed { sleep: false, bell: false });
}

#[test]
fn memory_that_could_fault_is_refused() {
    let make = |flags, size, seals| {
        let fd = memfd_create(c"hostile", flags).unwrap();
        ftruncate(&fd, size).unwrap();
        if let Some(seals) = seals {
            fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        }
        fd
    };
    let sealing = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let both = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let (_ring, good) = Ring::create(Direction::ToServer).unwrap();
    let size = nix::sys::stat::fstat(good.as_fd()).unwrap().st_size;
    let (pipe, _write) = nix::unistd::pipe().unwrap();
    let refused = [
        ("not sealed", make(sealing, size, None)),
        ("may shrink", make(sealing, size, Some(SealFlag::F_SEAL_GROW))),
        ("too short", make(sealing, size - 4096, Some(both))),
        ("too long", make(sealing, size + 4096, Some(both))),
        ("empty", make(sealing, 0, Some(both))),
        ("cannot be written", make(sealing, size, Some(both | SealFlag::F_SEAL_WRITE))),
        ("a pipe", pipe),
        ("a file", std::fs::File::open("/proc/self/exe").unwrap().into()),
    ];
    for (what, fd) in refused {
        assert!(Ring::adopt(&fd, Direction::ToClient).is_err(), "{what}");
    }
    assert!(Ring::adopt(&make(sealing, size, Some(both)), Direction::ToClient).is_ok());
}

/// Writes a record as a liar would, and shows it.
fn lie(liar: &mut Outlet, record: &[u8], size: u32) {
    let words = liar.memory.words(liar.way);
    let place = liar.writer.reserve(words, size).unwrap().unwrap();
    liar.memory.put(Span { area: Area::Ring(liar.way), offset: place.at }, record);
    let _bell = liar.writer.publish(words, place);
}

#[test]
fn every_number_of_a_record_may_be_a_lie() {
    let lies = [0, 1, 7, 8, 9, 23, 24, 25, 4095, RING - 8, RING, RING + 1, 1 << 31, u32::MAX - 7, u32::MAX];
    for kind in [0, GAP, HERE, LENT, LENT + 1, u32::MAX] {
        for len in lies {
            for (slot, offset, bytes) in [(0, 0, 9), (u32::MAX, 0, 1), (1, u32::MAX, 1), (1, 8, u32::MAX)] {
                let (mut liar, victim) = ends();
                let record = numbers([kind, len, slot, 1, offset, bytes]);
                lie(&mut liar.outlet, record.as_flattened(), 32);
                let mut buffer = Vec::new();
                for _ in 0..4 {
                    match victim.inlet.pop(&mut buffer, len % 2 == 0) {
                        Ok(Some(popped)) => assert!(popped.len <= 32 + 9, "{} bytes of 32", popped.len),
                        Ok(None) | Err(_) => break,
                    }
                }
                assert!(buffer.len() <= 64, "{} bytes for a record of 32", buffer.len());
            }
        }
    }
}

#[test]
fn returned_loans_that_were_never_made_do_no_harm() {
    let (mut honest, liar) = ends();
    let data = pattern(LEND_FROM);
    for word in honest.outlet.memory.returned(Direction::ToServer) {
        word.store(u32::MAX, Ordering::Relaxed);
    }
    for slot in 0..200 {
        // Numbers that are to come.
        honest.outlet.memory.returned(Direction::ToServer)[slot % 32]
            .store(slot as u32 + 1, Ordering::Relaxed);
        push(&mut honest.outlet, b"head", &data);
        assert_eq!(pop(&liar.inlet).unwrap()[4..], data);
    }
}

#[test]
fn memory_that_changes_while_it_is_read_breaks_nothing_else() {
    let (liar, victim) = ends();
    let (memory, stop) = (Arc::clone(&liar.outlet.memory), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 1_u32;
            while !stop.load(Ordering::Relaxed) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let kind = [GAP, HERE, LENT][state as usize % 3];
                let record = numbers([kind, state >> 13, state >> 28, state, state >> 11, state >> 12]);
                let offset = (state >> 9) % 512 * 8;
                memory.put(Span { area: Area::Ring(Direction::ToServer), offset }, record.as_flattened());
            }
        });
        let mut writer = Writer::new(RING, RING);
        let words = victim.inlet.memory.words(Direction::ToServer);
        let (mut buffer, mut broken) = (Vec::new(), 0);
        for _ in 0..20_000 {
            if let Ok(Some(place)) = writer.reserve(words, 64) {
                let _bell = writer.publish(words, place);
            }
            match victim.inlet.pop(&mut buffer, false) {
                Ok(Some(popped)) => assert!(popped.len <= buffer.len()),
                Ok(None) => {}
                // The connection would be over; the next one begins here.
                Err(_) => {
                    broken += 1;
                    let there = victim.inlet.reader.next(words).unwrap().map_or(0, |(_, there)| there);
                    victim.inlet.reader.release(words, there);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(broken > 0, "nothing was ever wrong");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn arbitrary_memory_never_panics_and_never_costs_more_than_a_packet(
        bytes in proptest::collection::vec(any::<u8>(), 0..512),
        tail in prop_oneof![Just(64_u32), 0..1024_u32, any::<u32>()],
        lend in any::<bool>(),
    ) {
        let (liar, victim) = ends();
        liar.outlet.memory.put(Span { area: Area::Ring(Direction::ToServer), offset: 0 }, &bytes);
        let mut writer = Writer::new(RING, RING);
        let words = liar.outlet.memory.words(Direction::ToServer);
        let place = writer.reserve(words, tail % (RING / 2) / 8 * 8).unwrap().unwrap();
        let _bell = writer.publish(words, place);
        let mut buffer = Vec::new();
        for _ in 0..64 {
            if !matches!(victim.inlet.pop(&mut buffer, lend), Ok(Some(_))) {
                break;
            }
        }
        prop_assert!(buffer.len() <= MAX_PACKET + MAX_LENT);
    }

    #[test]
    fn any_packets_arrive_as_they_were_sent(
        sizes in proptest::collection::vec(prop_oneof![0..200_usize, 0..200_usize, 0..MAX_DATA, 0..MAX_LENT], 1..40),
        reads in proptest::collection::vec(0..4_usize, 1..60),
    ) {
        let (mut client, server) = ends();
        let (mut expected, mut reads) = (std::collections::VecDeque::new(), reads.into_iter().cycle());
        let (mut buffer, all) = (Vec::new(), pattern(MAX_LENT + 251));
        let mut read = |expected: &mut std::collections::VecDeque<Vec<u8>>| {
            let popped = server.inlet.pop(&mut buffer, false).unwrap();
            assert_eq!(popped.as_ref().map(|popped| buffer[..popped.len].to_vec()), expected.pop_front());
            popped.is_some()
        };
        for (i, size) in sizes.into_iter().enumerate() {
            let size = if size > MAX_DATA && client.outlet.room() < size { MAX_DATA } else { size };
            let (head, data) = (i.to_le_bytes(), &all[i % 251..][..size]);
            while push(&mut client.outlet, &head, data) == Pushed::Full {
                assert!(read(&mut expected), "an empty ring is full");
            }
            expected.push_back([&head[..], data].concat());
            for _ in 0..reads.next().unwrap_or(0) {
                read(&mut expected);
            }
        }
        while read(&mut expected) {}
        prop_assert!(expected.is_empty());
    }
}
