//! The formats of the wire. What a reader accepts is written again and read again: both values must be
//! equal, in either byte order.

use qnet_proto::Domain;
use qnet_proto::hosts::Hosts;
use qnet_proto::wire::ack::{Ack, Nack};
use qnet_proto::wire::crc::Crc;
use qnet_proto::wire::kif::Kif;
use qnet_proto::wire::lr::Lr;
use qnet_proto::wire::lwl4::{HEADER, Packet};
use qnet_proto::wire::nr::Nr;
use qnet_proto::wire::tcs::Tcs;
use qnet_proto::wire::tlv::Extensions;
use qnet_proto::wire::{Order, WireError};

/// Room for whatever is written again.
const ROOM: usize = 1 << 17;

/// The byte order is the first byte's lowest bit; the rest is input.
fn order(data: &[u8]) -> Option<(Order, &[u8])> {
    let (&first, rest) = data.split_first()?;
    Some((if first & 1 == 0 { Order::Little } else { Order::Big }, rest))
}

/// A whole packet, and every reader over its payload.
pub(super) fn frame(data: &[u8]) {
    let Ok(packet) = Packet::parse(data) else { return };
    let _ = packet.check(&Crc::new());
    let mut again = vec![0; HEADER + packet.payload.len()];
    again[HEADER..].copy_from_slice(packet.payload);
    let crc = Crc::new();
    let len = packet.header.emit(&mut again, Some(&crc)).expect("it has room for what it was");
    let second = Packet::parse(&again[..len]).expect("what we write we read");
    assert_eq!(second.check(&crc), Ok(()), "our checksum is right");
    assert_eq!(second.payload, packet.payload);
    let order = packet.header.order;
    read_kif(packet.payload, order);
    read_names(packet.payload, order);
    read_acks(packet.payload, order);
    let _ = Extensions::parse(packet.payload, order);
}

/// One KIF message.
pub(super) fn kif(data: &[u8]) {
    if let Some((order, bytes)) = order(data) {
        read_kif(bytes, order);
    }
}

fn read_kif(bytes: &[u8], order: Order) {
    if let Ok((_, head)) = Kif::parse_head(bytes, order) {
        assert!(head <= bytes.len());
    }
    let Ok((message, data)) = Kif::parse(bytes, order) else { return };
    assert!(data.start <= data.end && data.end <= bytes.len());
    let mut again = vec![0; 4096];
    for order in [Order::Little, Order::Big] {
        // What we do not send ourselves need not be writable.
        let Ok(len) = message.emit(&mut again, order) else { continue };
        let mut whole = again[..len].to_vec();
        whole.extend_from_slice(&bytes[data.clone()]);
        let (second, data_again) = Kif::parse(&whole, order).expect("what we write we read");
        assert_eq!(second, message);
        assert_eq!(&whole[data_again], &bytes[data.clone()]);
    }
}

fn read_names(bytes: &[u8], order: Order) {
    let mut again = vec![0; ROOM];
    // A domain without a name is nothing that we would write.
    let odd =
        |lr: &Lr<'_>| [lr.src, lr.dst].iter().any(|party| party.name.is_empty() && !party.domain.is_empty());
    if let Ok(lr) = Lr::parse(bytes, order)
        && !odd(&lr)
        && let Ok(len) = lr.emit(&mut again, order)
    {
        assert_eq!(Lr::parse(&again[..len], order), Ok(lr));
    }
    if let Ok(nr) = Nr::parse(bytes, order)
        && let Ok(len) = nr.emit(&mut again, order)
    {
        assert_eq!(Nr::parse(&again[..len], order), Ok(nr));
    }
    if let Ok(tcs) = Tcs::parse(bytes, order)
        && let Ok(len) = tcs.emit(&mut again, order)
    {
        assert_eq!(Tcs::parse(&again[..len], order), Ok(tcs));
    }
}

/// The extension block.
pub(super) fn tlv(data: &[u8]) {
    let Some((order, bytes)) = order(data) else { return };
    let Ok(Some(extensions)) = Extensions::parse(bytes, order) else { return };
    let mut again = vec![0; 256];
    let len = extensions.write(&mut again, order).expect("a block is short");
    assert_eq!(Extensions::parse(&again[..len], order), Ok(Some(extensions)));
}

/// Acknowledgements.
pub(super) fn ack(data: &[u8]) {
    if let Some((order, bytes)) = order(data) {
        read_acks(bytes, order);
    }
}

fn read_acks(bytes: &[u8], order: Order) {
    let mut again = vec![0; ROOM];
    if let Ok(ack) = Ack::parse(bytes, order) {
        assert!(ack.whole().count() * 8 + ack.partial().count() * 12 <= bytes.len());
        let len = Ack::emit(&ack.head, ack.whole(), ack.partial(), &mut again, order);
        let second = Ack::parse(&again[..len.expect("it has room")], order).expect("what we write we read");
        assert!(second.whole().eq(ack.whole()) && second.partial().eq(ack.partial()));
    }
    match Nack::parse(bytes, order) {
        Ok(nack) => assert!(nack.spans().count() * 12 <= bytes.len()),
        Err(WireError::Truncated { have, .. }) => assert!(have <= bytes.len()),
        Err(_) => {}
    }
}

/// The file of the resolver `file`.
pub(super) fn hosts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let domain = Domain::new("lab.example").expect("a good domain");
    if let Ok(hosts) = Hosts::parse(text, &domain) {
        assert!(hosts.len() <= text.lines().count());
    }
}
