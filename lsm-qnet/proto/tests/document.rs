//! docs/protocol.md quotes numbers; here they are held against the code.
//!
//! Where one of these tests fails, the document is wrong or the protocol was changed by accident.

use qnet_proto::wire::bytes::Writer;
use qnet_proto::wire::tlv::{ABILITY_CRC, ABILITY_SACK, Extensions};
use qnet_proto::wire::{Order, ack, crc, lwl4};
use qnet_proto::{MAX_FIRST, MAX_TRANSFER};

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

fn says(text: &str) {
    assert!(DOCUMENT.contains(text), "docs/protocol.md no longer says `{text}`");
}

#[test]
fn constants_are_quoted_as_they_are() {
    says(&format!("type {:#06x}", lwl4::ETHERTYPE));
    says(&format!("{:#010x}", crc::CHECK));
    says(&format!("less {}", lwl4::HEADER));
    says(&format!("packet type {} is reserved for sealed packets", lwl4::SEALED));
    says(&format!("at most {} KiB of data", MAX_TRANSFER >> 10));
    says(&format!("never more than {} KiB", MAX_FIRST >> 10));
    says(&format!("{ABILITY_SACK} selective acknowledgements (§7), {ABILITY_CRC} a checksum"));
    says(&format!("| reason | {}: these bytes are missing", ack::MISSING));
    says(&format!("; {}: no memory or room for this message now", ack::NO_ROOM));
    says(&format!("; {}: there is room again |", ack::ROOM));
}

#[test]
fn extension_items_have_the_types_and_lengths_of_the_table() {
    let all =
        Extensions { incarnation: 1, version: 1, abilities: 1, largest_payload: 1, window: 1, meant_for: 1 };
    let mut bytes = [0; 64];
    let mut w = Writer::new(&mut bytes, Order::Little);
    all.emit(&mut w);
    let len = w.position();
    let mut at = 6;
    while at < len {
        let (kind, length) = (bytes[at], usize::from(bytes[at + 2]));
        says(&format!("| {kind} | {length} | "));
        at += 4 + length;
    }
}
