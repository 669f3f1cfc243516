//! Super-frames of every kind, cut and checked by summing them again.

use super::*;

/// TCP or UDP over IPv4 or IPv6 with `payload` bytes, as the kernel hands a super-frame over.
struct Maker {
    ipv6: bool,
    tcp: bool,
    tags: usize,
}

impl Maker {
    fn network(&self) -> usize {
        ETHERNET + 4 * self.tags
    }

    fn transport(&self) -> usize {
        self.network() + if self.ipv6 { 40 } else { 20 }
    }

    fn headers(&self) -> usize {
        self.transport() + if self.tcp { 32 } else { 8 }
    }

    fn frame(&self, payload: usize) -> Vec<u8> {
        let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        for _ in 0..self.tags {
            frame.extend_from_slice(&[0x81, 0x00, 0x00, 0x07]);
        }
        if self.ipv6 {
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0]);
            frame.extend_from_slice(&[if self.tcp { 6 } else { 17 }, 64]);
            frame.extend((0..32).map(|n| 0x20 + n as u8));
        } else {
            frame.extend_from_slice(&[0x08, 0x00, 0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64]);
            frame.extend_from_slice(&[if self.tcp { 6 } else { 17 }, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        frame.extend_from_slice(&[0x30, 0x39, 0x00, 0x50]);
        if self.tcp {
            frame
                .extend_from_slice(&[0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1, 0x80, 0x99, 0x10, 0x00, 0, 0, 0, 0]);
            frame.extend_from_slice(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        } else {
            frame.extend_from_slice(&[0; 4]);
        }
        frame.extend((0..payload).map(|n| (n % 251) as u8));
        frame
    }

    fn todo(&self, gso_size: u16) -> Todo {
        let kind = match (self.tcp, self.ipv6) {
            (true, false) => GSO_TCP4 | GSO_ECN,
            (true, true) => GSO_TCP6,
            (false, _) => GSO_UDP,
        };
        Todo {
            flags: NEEDS_CHECKSUM,
            kind,
            gso_size,
            csum_start: self.transport() as u16,
            csum_offset: if self.tcp { 16 } else { 6 },
        }
    }

    /// Whether the frame's IP and transport checksums and lengths are right.
    fn check(&self, frame: &[u8]) {
        let (n, t) = (self.network(), self.transport());
        let (addresses, len) = if self.ipv6 {
            assert_eq!(usize::from(u16::from_be_bytes([frame[n + 4], frame[n + 5]])), frame.len() - n - 40);
            (&frame[n + 8..n + 40], frame.len() - t)
        } else {
            assert_eq!(usize::from(u16::from_be_bytes([frame[n + 2], frame[n + 3]])), frame.len() - n);
            assert_eq!(Sum::default().add(&frame[n..t]).fold(), 0xffff, "IPv4 header checksum");
            (&frame[n + 12..n + 20], frame.len() - t)
        };
        let sum = Sum::default()
            .add(addresses)
            .add(&(len as u32).to_be_bytes())
            .add(&[0, if self.tcp { 6 } else { 17 }])
            .add(&frame[t..])
            .fold();
        assert_eq!(sum, 0xffff, "transport checksum");
        if !self.tcp {
            assert_eq!(usize::from(u16::from_be_bytes([frame[t + 4], frame[t + 5]])), len);
        }
    }
}

fn pieces(frame: &[u8], todo: &Todo) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let count =
        cut(frame, todo, |headers, part| pieces.push([headers, part].concat())).expect("it can be cut");
    assert_eq!(count, pieces.len());
    pieces
}

#[test]
fn every_piece_is_a_right_frame_and_the_payload_is_whole() {
    for (ipv6, tcp, tags) in
        [(false, true, 0), (true, true, 0), (false, false, 0), (true, false, 1), (false, true, 2)]
    {
        let maker = Maker { ipv6, tcp, tags };
        let whole = maker.frame(10_000);
        let parts = pieces(&whole, &maker.todo(1448));
        assert_eq!(parts.len(), 7);
        let mut payload = Vec::new();
        for part in &parts {
            maker.check(part);
            payload.extend_from_slice(&part[maker.headers()..]);
        }
        assert_eq!(payload, &whole[maker.headers()..]);
    }
}

#[test]
fn sequence_numbers_go_on_and_flags_stay_where_they_belong() {
    let maker = Maker { ipv6: false, tcp: true, tags: 0 };
    let parts = pieces(&maker.frame(3000), &maker.todo(1000));
    let t = maker.transport();
    let sequence = |part: &[u8]| u32::from_be_bytes([part[t + 4], part[t + 5], part[t + 6], part[t + 7]]);
    let sequences: Vec<u32> = parts.iter().map(|part| sequence(part)).collect();
    assert_eq!(sequences, [0xffff_ff00, 0x0000_02e8, 0x0000_06d0]);
    let flags: Vec<u8> = parts.iter().map(|part| part[t + 13]).collect();
    assert_eq!(flags, [0x90, 0x10, 0x19], "CWR first, FIN and PSH last");
    let ids: Vec<u16> = parts.iter().map(|part| u16::from_be_bytes([part[18], part[19]])).collect();
    assert_eq!(ids, [0xffff, 0, 1]);
}

#[test]
fn a_missing_checksum_is_filled_in() {
    for (ipv6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let maker = Maker { ipv6, tcp, tags: 0 };
        // One piece is a right frame; put back the sum of its pseudo header, as the kernel leaves it.
        let mut frame = pieces(&maker.frame(501), &maker.todo(1448)).remove(0);
        let right = frame.clone();
        let (n, t) = (maker.network(), maker.transport());
        let place = t + if tcp { 16 } else { 6 };
        let addresses = if ipv6 { n + 8..n + 40 } else { n + 12..n + 20 };
        let pseudo = Sum::default()
            .add(&frame[addresses])
            .add(&((frame.len() - t) as u32).to_be_bytes())
            .add(&[0, if tcp { 6 } else { 17 }])
            .fold();
        frame[place..place + 2].copy_from_slice(&pseudo.to_be_bytes());
        complete(&mut frame, &Todo { kind: GSO_NONE, ..maker.todo(0) }).expect("it fits");
        assert_eq!(frame, right);
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let maker = Maker { ipv6: false, tcp: true, tags: 0 };
    let frame = maker.frame(3000);
    let good = maker.todo(1000);
    let refused = |todo: Todo, frame: &[u8]| cut(frame, &todo, |_, _| {}).unwrap_err();
    assert_eq!(refused(Todo { kind: 3, ..good }, &frame), Unfinished::UnknownKind);
    assert_eq!(refused(Todo { gso_size: 0, ..good }, &frame), Unfinished::BadOffset);
    assert_eq!(refused(Todo { csum_start: 15, ..good }, &frame), Unfinished::BadOffset);
    assert_eq!(refused(Todo { csum_start: 4000, ..good }, &frame), Unfinished::BadOffset);
    for len in 0..maker.headers() + 1 {
        assert_eq!(refused(good, &frame[..len]), Unfinished::BadOffset, "{len} bytes");
    }
    let mut arp = frame.clone();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(refused(good, &arp), Unfinished::BadOffset);
    let mut short = frame[..60].to_vec();
    let place = Todo { csum_start: 50, csum_offset: 9, ..good };
    assert_eq!(complete(&mut short, &place), Err(Unfinished::BadOffset));
}

#[test]
fn the_header_is_read_in_the_machines_byte_order() {
    let mut header = [0; VNET_HEADER];
    header[0] = 1;
    header[1] = GSO_TCP4;
    header[4..6].copy_from_slice(&1448_u16.to_ne_bytes());
    header[6..8].copy_from_slice(&34_u16.to_ne_bytes());
    header[8..10].copy_from_slice(&16_u16.to_ne_bytes());
    let todo = Todo::parse(&header);
    assert_eq!(todo, Todo { flags: 1, kind: GSO_TCP4, gso_size: 1448, csum_start: 34, csum_offset: 16 });
    assert!(todo.needs_checksum() && todo.is_super_frame());
    assert!(!Todo::default().is_super_frame());
}

#[test]
fn every_lie_in_frame_and_header_is_survived() {
    for (ipv6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let maker = Maker { ipv6, tcp, tags: 1 };
        let (good, todo) = (maker.frame(300), maker.todo(100));
        for at in 0..maker.headers() {
            for value in [0, 1, 0x0f, 0x40, 0x7f, 0xf0, 0xff] {
                let mut frame = good.clone();
                frame[at] = value;
                let _ =
                    cut(&frame, &todo, |headers, part| assert!(headers.len() + part.len() <= frame.len()));
            }
        }
        for value in [0, 1, 13, 14, 33, 34, 54, 255, 319, 0x7fff, u16::MAX] {
            for lie in [
                Todo { gso_size: value, ..todo },
                Todo { csum_start: value, ..todo },
                Todo { csum_offset: value, ..todo },
                Todo { flags: 0, csum_start: value, ..todo },
                Todo { kind: value as u8, ..todo },
            ] {
                let _ = cut(&good, &lie, |_, _| {});
                let _ = complete(&mut good.clone(), &lie);
            }
        }
    }
}
