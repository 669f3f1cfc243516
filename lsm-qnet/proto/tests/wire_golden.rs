//! Hex to value and back: every golden frame is read, means what it says, and is written the same.
//!
//! Both byte orders, every message type, and the one frame of a real QNX network that is public.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod common;

use common::golden;
use qnet_proto::wire::crc::Crc;
use qnet_proto::wire::kif::Kif;
use qnet_proto::wire::lr::{Lr, LrKind};
use qnet_proto::wire::lwl4::{FIRST, HEADER, Kind, LAST, Layer, Packet};
use qnet_proto::wire::nr::Nr;
use qnet_proto::wire::tcs::Tcs;
use qnet_proto::wire::{Order, WireError};

fn with_packet<T>(label: &str, look: impl FnOnce(Packet<'_>) -> T) -> T {
    let golden = golden().into_iter().find(|g| g.label == label);
    look(Packet::parse(&golden.unwrap_or_else(|| panic!("no frame {label}")).frame).unwrap())
}

#[test]
fn every_golden_header_and_checksum_is_written_as_it_was_read() {
    let crc = Crc::new();
    for g in golden() {
        let packet = Packet::parse(&g.frame).unwrap_or_else(|e| panic!("{}: {e}", g.label));
        if packet.has_crc() {
            packet.check(&crc).unwrap_or_else(|e| panic!("{}: {e}", g.label));
        }
        let mut out = vec![0; HEADER + packet.payload.len()];
        out[HEADER..].copy_from_slice(packet.payload);
        packet.header.emit(&mut out, packet.has_crc().then_some(&crc)).unwrap();
        if g.label.ends_with("user-data") {
            out[3] = 0; // the old data type is read, but written as the new one
            let value = crc.of(&[&out[2..34], &[0; 4], &out[38..]]);
            let bytes =
                if packet.header.order == Order::Big { value.to_be_bytes() } else { value.to_le_bytes() };
            out[34..38].copy_from_slice(&bytes);
        }
        assert_eq!(out, g.frame[..out.len()], "{}", g.label);
    }
}

#[test]
fn every_golden_payload_is_written_as_it_was_read() {
    let mut kinds = 0;
    for g in golden() {
        let packet = Packet::parse(&g.frame).unwrap();
        let (header, payload) = (packet.header, packet.payload);
        let order = header.order;
        let mut out = vec![0xee; payload.len() + 64];
        let written = match (header.kind, header.layer) {
            (Kind::TcsInit, _) => Tcs::parse(payload, order).unwrap().emit(&mut out, order).unwrap(),
            (Kind::Lres, Layer::Lr) => Lr::parse(payload, order).unwrap().emit(&mut out, order).unwrap(),
            (Kind::User, Layer::Nr) => Nr::parse(payload, order).unwrap().emit(&mut out, order).unwrap(),
            (Kind::User, Layer::Kif) if header.is_whole() => {
                let (message, data) =
                    Kif::parse(payload, order).unwrap_or_else(|e| panic!("{}: {e}", g.label));
                let (head, len) = Kif::parse_head(payload, order).unwrap();
                assert_eq!((len, &head), (data.start, &message), "{}", g.label);
                message.emit(&mut out, order).unwrap()
            }
            _ => continue,
        };
        kinds += 1;
        if g.label.ends_with("lr-announce") {
            // its lengths do not count the NULs, ours do: the same value, other bytes
            assert_eq!(Lr::parse(&out[..written], order), Lr::parse(payload, order));
            continue;
        }
        assert_eq!(out[..written], payload[..written], "{}", g.label);
        assert!(header.layer == Layer::Kif || written == payload.len(), "{}", g.label);
    }
    assert!(kinds > 130, "only {kinds} payloads were compared");
}

#[test]
fn a_frame_of_a_real_qnx_network_is_understood() {
    with_packet("qnx-2009", |packet| {
        assert!(!packet.has_crc());
        assert_eq!(packet.check(&Crc::new()), Err(WireError::BadCrc { found: 0, expected: 0x40ad_c3a4 }));
        assert_eq!((packet.header.src_nd_for_dst, packet.header.dst_nd_for_src), (3, 7));
        assert_eq!(packet.header.seq, 103_852);
        let (message, data) = Kif::parse(packet.payload, packet.header.order).unwrap();
        let Kif::MsgSend(send) = message else { panic!("{message:?}") };
        assert_eq!((send.server_id, send.client_handle), (0x4000_0267, 278));
        assert_eq!((send.info.tid, send.info.coid, send.info.priority), (1, 2, 10));
        assert_eq!((send.info.srcmsglen, send.info.srcnd), (17, 3));
        assert_eq!(packet.payload[data].last(), Some(&b'\n'));
    });
}

#[test]
fn a_request_names_both_parties_and_an_announcement_only_the_speaker() {
    with_packet("lr-request", |packet| {
        let lr = Lr::parse(packet.payload, packet.header.order).unwrap();
        assert_eq!(lr.kind, LrKind::Request);
        assert_eq!(
            (lr.src.name, lr.src.domain, lr.src.mac),
            ("alpha", "lab.example", Some([2, 0, 0, 0, 0, 10]))
        );
        assert_eq!((lr.dst.name, lr.dst.domain, lr.dst.mac), ("beta", "lab.example", None));
        assert_eq!(lr.extensions, None);
    });
    with_packet("lr-announce", |packet| {
        let lr = Lr::parse(packet.payload, packet.header.order).unwrap();
        assert_eq!((lr.kind, lr.dst.name, lr.dst.mac), (LrKind::Reply, "", None));
    });
}

#[test]
fn the_byte_orders_say_the_same_thing() {
    let mut pairs = 0;
    let all = golden();
    for little in &all {
        let Some(big) = all.iter().find(|g| g.label.strip_prefix("be-") == Some(little.label)) else {
            continue;
        };
        let (a, b) = (Packet::parse(&little.frame).unwrap(), Packet::parse(&big.frame).unwrap());
        assert_eq!(a.header.order, Order::Little, "{}", little.label);
        assert_eq!(b.header.order, Order::Big, "{}", big.label);
        if (a.header.kind, a.header.layer, a.header.is_whole()) == (Kind::User, Layer::Kif, true) {
            let (one, one_data) = Kif::parse(a.payload, Order::Little).unwrap();
            let (two, two_data) = Kif::parse(b.payload, Order::Big).unwrap();
            assert_eq!((one, one_data), (two, two_data), "{}", little.label);
            pairs += 1;
        }
    }
    assert!(pairs > 40, "only {pairs} pairs were compared");
}

#[test]
fn fragments_say_where_they_belong() {
    let headers = ["frag1", "frag2", "frag3"].map(|label| with_packet(label, |p| p.header));
    assert_eq!(headers.map(|h| h.flags & (FIRST | LAST)), [FIRST, 0, LAST]);
    assert_eq!(headers[1].offset, headers[0].length);
    assert_eq!(headers[2].offset, headers[0].length + headers[1].length);
    assert!(headers.iter().all(|h| h.seq == headers[0].seq));
}

#[test]
fn padding_behind_the_announced_length_is_not_payload() {
    with_packet("q-empty-message-tail", |packet| {
        let (message, data) = Kif::parse(packet.payload, packet.header.order).unwrap();
        assert!(matches!(message, Kif::MsgSend(send) if send.nbytes == 0));
        assert!(data.is_empty() && packet.payload.len() == 48);
        assert_eq!(packet.check(&Crc::new()), Ok(()));
    });
}
