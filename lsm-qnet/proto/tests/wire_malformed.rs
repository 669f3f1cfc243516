//! Hostile bytes: cut off anywhere, lying in any field, or random, they give a typed error or a
//! harmless value, and never a panic.
//!
//! The honest bytes are those of `golden/frames.txt`.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod common;

use common::golden;
use qnet_proto::wire::ack::{Ack, AckHead, Nack, Span, Whole};
use qnet_proto::wire::bytes::Writer;
use qnet_proto::wire::crc::Crc;
use qnet_proto::wire::kif::Kif;
use qnet_proto::wire::lr::Lr;
use qnet_proto::wire::lwl4::{HEADER, Layer, Packet};
use qnet_proto::wire::nr::Nr;
use qnet_proto::wire::tcs::Tcs;
use qnet_proto::wire::tlv::Extensions;
use qnet_proto::wire::{Order, WireError};

/// Runs every reader over the payload; they must return.
fn read_everything(payload: &[u8], order: Order) {
    if let Ok((_, data)) = Kif::parse(payload, order) {
        assert!(data.end <= payload.len());
    }
    let _ = Kif::parse_head(payload, order);
    let _ = Lr::parse(payload, order);
    let _ = Nr::parse(payload, order);
    let _ = Tcs::parse(payload, order);
    let _ = Extensions::parse(payload, order);
    if let Ok(ack) = Ack::parse(payload, order) {
        assert!(ack.whole().count() * 8 + ack.partial().count() * 12 <= payload.len());
    }
    if let Ok(nack) = Nack::parse(payload, order) {
        assert!(nack.spans().count() * 12 <= payload.len());
    }
}

fn read_frame(frame: &[u8], crc: &Crc) {
    if let Ok(packet) = Packet::parse(frame) {
        let _ = packet.check(crc);
        read_everything(packet.payload, packet.header.order);
    }
}

#[test]
fn a_frame_cut_off_anywhere_is_refused() {
    for g in golden() {
        let len = HEADER + Packet::parse(&g.frame).unwrap().payload.len();
        for cut in 0..len {
            match Packet::parse(&g.frame[..cut]) {
                Err(WireError::Truncated { have, .. }) => assert_eq!(have, cut, "{}", g.label),
                Err(WireError::BadValue { .. }) if cut <= 2 => {}
                other => panic!("{} cut at {cut}: {other:?}", g.label),
            }
        }
    }
}

#[test]
fn a_message_cut_off_inside_its_fixed_part_or_data_is_refused() {
    for g in golden() {
        let packet = Packet::parse(&g.frame).unwrap();
        if packet.header.layer != Layer::Kif || !packet.header.is_whole() {
            continue;
        }
        let Ok((_, data)) = Kif::parse(packet.payload, packet.header.order) else { continue };
        for cut in 0..data.end {
            let result = Kif::parse(&packet.payload[..cut], packet.header.order);
            assert!(
                matches!(result, Err(WireError::Truncated { .. })),
                "{} cut at {cut}: {result:?}",
                g.label
            );
        }
    }
}

#[test]
fn every_byte_lied_about_is_survived() {
    let crc = Crc::new();
    for g in golden() {
        let mut frame = g.frame.clone();
        for at in 0..frame.len() {
            let honest = frame[at];
            for lie in [0, 1, 0x7f, 0x80, 0xff, honest.wrapping_add(1), honest.wrapping_sub(1)] {
                frame[at] = lie;
                read_frame(&frame, &crc);
            }
            frame[at] = honest;
        }
    }
}

#[test]
fn every_word_lied_about_is_survived() {
    let crc = Crc::new();
    for g in golden() {
        for at in 0..g.frame.len().saturating_sub(4) {
            for lie in [0u32, 1, u32::MAX, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, g.frame.len() as u32] {
                let mut frame = g.frame.clone();
                frame[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                read_frame(&frame, &crc);
            }
        }
    }
}

#[test]
fn random_bytes_are_survived() {
    let crc = Crc::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..200_000u32 {
        let len = (next() % 160) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| (next() >> 32) as u8).collect();
        let order = if round % 2 == 0 { Order::Little } else { Order::Big };
        read_everything(&bytes, order);
        if bytes.len() > 5 {
            // get past the header's fixed values
            bytes[2] = if round % 2 == 0 { 0x2a } else { 0xaa };
            bytes[3] %= 12;
            bytes[5] %= 4;
        }
        read_frame(&bytes, &crc);
    }
}

#[test]
fn corruption_of_any_bit_is_seen_by_the_checksum() {
    let crc = Crc::new();
    let g = golden().into_iter().find(|g| g.label == "msgreply-read").unwrap();
    let len = HEADER + Packet::parse(&g.frame).unwrap().payload.len();
    for bit in 16..len * 8 {
        let mut frame = g.frame.clone();
        frame[bit / 8] ^= 1 << (bit % 8);
        let seen = match Packet::parse(&frame) {
            Err(_) => true,
            Ok(packet) => packet.check(&crc).is_err() || !packet.has_crc(),
        };
        assert!(seen, "bit {bit}");
    }
}

#[test]
fn unknown_extension_items_are_skipped_and_damaged_ones_refused() {
    let known = Extensions {
        incarnation: 7,
        version: 1,
        abilities: 1,
        largest_payload: 1462,
        window: 9,
        meant_for: 3,
    };
    for order in [Order::Little, Order::Big] {
        let mut block = [0; 128];
        let mut w = Writer::new(&mut block, order);
        known.emit(&mut w);
        let len = w.finish().unwrap();
        assert_eq!(Extensions::parse(&block[..len], order), Ok(Some(known)));
        for cut in 4..len {
            assert!(Extensions::parse(&block[..cut], order).is_err(), "cut at {cut}");
        }
        // an unknown item of 3 bytes in front
        let mut more = block[..4].to_vec();
        more.extend(if order == Order::Big { [0, (len - 6 + 7) as u8] } else { [(len - 6 + 7) as u8, 0] });
        more.extend(if order == Order::Big { [9, 9, 0, 3] } else { [9, 9, 3, 0] });
        more.extend([1, 2, 3]);
        more.extend(&block[6..len]);
        assert_eq!(Extensions::parse(&more, order), Ok(Some(known)));
        assert_eq!(Extensions::parse(b"something else", order), Ok(None));
    }
}

#[test]
fn acknowledgement_bodies_come_back_as_written_and_shrink_to_their_room() {
    let head = AckHead { window: 1 << 20, base: u32::MAX, echo_seq: 3, echo_offset: 1462, echo_delay: 17 };
    let whole = [Whole { first: 2, count: 1 }, Whole { first: 5, count: 9 }];
    let partial = [Span { seq: 1, offset: 0, length: 1462 }, Span { seq: 4, offset: 2924, length: 7 }];
    for order in [Order::Little, Order::Big] {
        let mut out = [0; 100];
        let len = Ack::emit(&head, whole.into_iter(), partial.into_iter(), &mut out, order).unwrap();
        let ack = Ack::parse(&out[..len], order).unwrap();
        assert_eq!(ack.head, head);
        assert!(ack.whole().eq(whole) && ack.partial().eq(partial));
        for cut in 0..len {
            assert!(Ack::parse(&out[..cut], order).is_err());
        }
        let len = Ack::emit(&head, whole.into_iter(), partial.into_iter(), &mut out[..50], order).unwrap();
        let ack = Ack::parse(&out[..len], order).unwrap();
        assert_eq!((ack.whole().count(), ack.partial().count()), (2, 0));
        let len = Nack::emit(1, 77, partial.into_iter(), &mut out, order).unwrap();
        let nack = Nack::parse(&out[..len], order).unwrap();
        assert_eq!((nack.reason, nack.window), (1, 77));
        assert!(nack.spans().eq(partial));
    }
}
