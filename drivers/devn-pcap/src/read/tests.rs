//! Captures made by hand: every format and order, and every way to be damaged.

use super::*;

/// A capture under construction.
struct Bytes(Vec<u8>, Order);

impl Bytes {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(match self.1 {
            Order::Little => value.to_le_bytes(),
            Order::Big => value.to_be_bytes(),
        });
        self
    }

    fn u32s(mut self, values: &[u32]) -> Self {
        for value in values {
            self.0.extend(match self.1 {
                Order::Little => value.to_le_bytes(),
                Order::Big => value.to_be_bytes(),
            });
        }
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A pcapng block with its length on both sides.
    fn block(self, kind: u32, body: Self) -> Self {
        let length = u32::try_from(body.0.len()).unwrap().next_multiple_of(4) + 12;
        let padding = vec![0; (length as usize - 12) - body.0.len()];
        self.u32s(&[kind, length]).bytes(&body.0).bytes(&padding).u32s(&[length])
    }

    fn new(order: Order) -> Self {
        Self(Vec::new(), order)
    }
}

fn classic(order: Order, magic: u32) -> Bytes {
    Bytes::new(order).u32s(&[magic]).u16(2).u16(4).u32s(&[0, 0, 65535, 1])
}

/// A section with one interface of microseconds.
fn section(order: Order) -> Bytes {
    let head = Bytes::new(order).u32s(&[0x1a2b_3c4d]).u16(1).u16(0).u32s(&[u32::MAX, u32::MAX]);
    Bytes::new(order).block(0x0a0d_0d0a, head).block(1, Bytes::new(order).u16(1).u16(0).u32s(&[64]))
}

fn packet(order: Order, interface: u32, time: u64, captured: u32, length: u32, frame: &[u8]) -> Bytes {
    let words = [interface, (time >> 32) as u32, time as u32, captured, length];
    Bytes::new(order).u32s(&words).bytes(frame)
}

/// All records with their frames, or the sentence about what is wrong.
fn read(bytes: &[u8]) -> Result<Vec<(Record, Vec<u8>)>, String> {
    let mut capture = Capture::open(bytes).map_err(|error| error.to_string())?;
    let mut all = Vec::new();
    while let Some(record) = capture.next().map_err(|error| error.to_string())? {
        all.push((record, capture.frame().to_vec()));
    }
    Ok(all)
}

fn whole(stamp: u64, frame: &[u8]) -> (Record, Vec<u8>) {
    (Record { stamp: Some(stamp), whole: true }, frame.to_vec())
}

#[test]
fn both_byte_orders_and_resolutions_of_pcap_are_read() {
    for order in [Order::Little, Order::Big] {
        for (magic, unit) in [(MICRO, 1000), (NANO, 1)] {
            let file =
                classic(order, magic).u32s(&[5, 7, 4, 4]).bytes(b"abcd").u32s(&[6, 0, 2, 2]).bytes(b"ef");
            let expected = vec![whole(5_000_000_000 + 7 * unit, b"abcd"), whole(6_000_000_000, b"ef")];
            assert_eq!(read(&file.0), Ok(expected), "{order:?} {magic:x}");
        }
    }
}

#[test]
fn a_frame_that_the_capture_cut_is_told() {
    let file = classic(Order::Little, MICRO).u32s(&[1, 0, 4, 1500]).bytes(b"abcd");
    let (record, frame) = read(&file.0).unwrap().remove(0);
    assert_eq!((record.whole, frame.as_slice()), (false, &b"abcd"[..]));
}

#[test]
fn a_frame_check_sequence_is_taken_off() {
    let linktype = 1 | 1 << 26 | 2 << 28;
    let head = Bytes::new(Order::Little).u32s(&[MICRO]).u16(2).u16(4).u32s(&[0, 0, 65535, linktype]);
    let file = head.u32s(&[1, 0, 8, 8]).bytes(b"abcdFCS.");
    assert_eq!(read(&file.0), Ok(vec![whole(1_000_000_000, b"abcd")]));
}

#[test]
fn pcapng_of_both_byte_orders_with_strange_blocks_and_two_sections_is_read() {
    for order in [Order::Little, Order::Big] {
        let other = if order == Order::Little { Order::Big } else { Order::Little };
        let first = section(order)
            .block(0x0bad, Bytes::new(order).bytes(b"nobody knows this block"))
            .block(6, packet(order, 0, 3, 5, 5, b"abcde"));
        let second = section(other).block(6, packet(other, 0, 1 << 32, 2, 2, b"fg"));
        let file = first.bytes(&second.0);
        let expected = vec![whole(3000, b"abcde"), whole((1 << 32) * 1000, b"fg")];
        assert_eq!(read(&file.0), Ok(expected), "{order:?}");
    }
}

#[test]
fn old_and_simple_packets_are_read() {
    let order = Order::Little;
    let old = Bytes::new(order).u16(0).u16(9).u32s(&[0, 2, 3, 3]).bytes(b"abc");
    // The interface's snap length of 64 bounds a simple packet.
    let simple = Bytes::new(order).u32s(&[100]).bytes(&[7; 64]);
    let file =
        section(order).block(2, old).block(3, Bytes::new(order).u32s(&[2]).bytes(b"de")).block(3, simple);
    let records = read(&file.0).unwrap();
    assert_eq!(records[0], whole(2000, b"abc"));
    assert_eq!(records[1], (Record { stamp: None, whole: true }, b"de".to_vec()));
    assert_eq!(records[2], (Record { stamp: None, whole: false }, vec![7; 64]));
}

#[test]
fn an_interfaces_options_count() {
    let order = Order::Big;
    let head = Bytes::new(order).u32s(&[0x1a2b_3c4d]).u16(1).u16(0).u32s(&[u32::MAX, u32::MAX]);
    // A name; times in units of 2^-1 s; 4 bytes of check sequence; ten seconds to add; the end.
    let interface = Bytes::new(order)
        .u16(1)
        .u16(0)
        .u32s(&[0])
        .u16(2)
        .u16(3)
        .bytes(b"en0\0")
        .u16(9)
        .u16(1)
        .bytes(&[0x81, 0, 0, 0])
        .u16(13)
        .u16(1)
        .bytes(&[4, 0, 0, 0])
        .u16(14)
        .u16(8)
        .u32s(&[0, 10])
        .u16(0)
        .u16(0);
    let file = Bytes::new(order)
        .block(0x0a0d_0d0a, head)
        .block(1, interface)
        .block(6, packet(order, 0, 3, 7, 7, b"abcFCS."));
    assert_eq!(read(&file.0), Ok(vec![whole(11_500_000_000, b"abc")]));
}

#[test]
fn what_is_no_ethernet_capture_is_refused_by_name() {
    let text = |bytes: &[u8]| read(bytes).unwrap_err();
    assert_eq!(text(b""), "is empty");
    assert_eq!(text(b"#!/bin/sh"), "is neither pcap nor pcapng: it begins with 23212f62");
    let cooked = Bytes::new(Order::Little).u32s(&[MICRO]).u16(2).u16(4).u32s(&[0, 0, 65535, 113]);
    assert_eq!(
        text(&cooked.0),
        "is a capture of link type 113 (at offset 20); only Ethernet (1) can be replayed"
    );
    let old = Bytes::new(Order::Big).u32s(&[MICRO]).u16(1).u16(4).u32s(&[0, 0, 65535, 1]);
    assert_eq!(text(&old.0), "is damaged at offset 4: the version is 1");
}

#[test]
fn every_cut_through_a_file_is_told_with_its_offset() {
    let order = Order::Little;
    let files = [
        classic(order, MICRO).u32s(&[5, 7, 4, 4]).bytes(b"abcd"),
        section(order).block(6, packet(order, 0, 3, 5, 5, b"abcde")),
    ];
    // Where a file may end: behind the head, behind each block or record.
    let ends: [&[usize]; 2] = [&[24, 44], &[28, 48, 88]];
    for (file, ends) in files.iter().zip(ends) {
        assert_eq!(ends.last(), Some(&file.0.len()));
        for cut in 1..file.0.len() {
            match read(&file.0[..cut]) {
                Ok(_) => assert!(ends.contains(&cut), "{cut} bytes are a whole file"),
                Err(text) => {
                    assert!(text.starts_with(&format!("is cut off at offset {cut}: ")), "{cut}: {text}")
                }
            }
        }
    }
}

#[test]
fn lying_lengths_are_found_and_nothing_of_that_length_is_made() {
    let text = |bytes: Bytes| read(&bytes.0).unwrap_err();
    let order = Order::Little;
    assert_eq!(
        text(classic(order, MICRO).u32s(&[1, 0, u32::MAX, u32::MAX])),
        "is damaged at offset 32: the length of a frame is 4294967295"
    );
    assert_eq!(
        text(classic(order, MICRO).u32s(&[1, 0, 9, 8]).bytes(b"abcdefghi")),
        "is damaged at offset 32: the captured length of a frame, longer than the frame, is 9"
    );
    assert_eq!(text(section(order).u32s(&[6, 13])), "is damaged at offset 52: the length of a block is 13");
    assert_eq!(
        text(section(order).u32s(&[6, 16, 0])),
        "is damaged at offset 52: the length of a packet's block is 4"
    );
    assert_eq!(
        text(section(order).block(6, packet(order, 0, 0, 64, 64, b"short"))),
        "is damaged at offset 68: the captured length of a frame, longer than its block, is 64"
    );
    assert_eq!(
        text(section(order).block(6, packet(order, 7, 0, 1, 1, b"a"))),
        "is damaged at offset 56: the number of an interface that the section does not have is 7"
    );
    let mut twice = section(order).block(6, packet(order, 0, 0, 1, 1, b"a")).0;
    let last = twice.len() - 4;
    twice[last] ^= 4;
    let told = read(&twice).unwrap_err();
    assert!(
        told.starts_with(&format!("is damaged at offset {last}: the length of a block, told for the second"))
    );
    assert_eq!(
        text(section(order).block(6, packet(order, 0, 0, 1, 1, b"a")).u32s(&[0x0a0d_0d0a, 28, 0])),
        "is damaged at offset 92: the byte order of a section is 0"
    );
}

#[test]
fn noise_never_panics() {
    let mut state = 7_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let order = Order::Little;
    let good = section(order)
        .block(6, packet(order, 0, 3, 5, 5, b"abcde"))
        .block(3, Bytes::new(order).u32s(&[2]).bytes(b"de"));
    for _ in 0..20_000 {
        let mut bytes = good.0.clone();
        for _ in 0..3 {
            let at = usize::from(noise()) % bytes.len();
            bytes[at] = noise();
        }
        // Whatever it says of it.
        let _ = read(&bytes);
    }
}
