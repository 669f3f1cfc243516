//! Finishing what the sender left to the card: checksums, and super-frames cut into frames that fit the wire.
//!
//! Linux hands frames between virtual interfaces (veth, tap, containers) as its stack made them for a clever card: up
//! to 64 KiB long, with only the pseudo header summed. It says so in a header of ten bytes before each frame:
//!
//! ```text
//!  0      1         2        4         6           8            10
//!  | flags | gso kind | hdr len | gso size | csum start | csum offset |     virtio_net_hdr, host byte order
//! ```
//!
//! Only bytes and numbers here. TCP and UDP over IPv4 and IPv6 are cut (what Linux makes); the old "UDP fragmentation
//! offload" is refused, no kernel since 4.14 makes it by itself. The header describes a frame of this machine's kernel,
//! but a bridge inside a container may have let anything through: every offset is checked.

use crate::checksum::{Sum, finish};

/// Bytes of the header.
pub(crate) const VNET_HEADER: usize = 10;
/// Longest frame that Linux hands over: 64 KiB of IP packet, Ethernet header and two VLAN tags, rounded up.
pub(crate) const LONGEST: usize = 65_536 + 64;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// With TCP: the sender uses ECN, so CWR belongs to the first piece only.
const GSO_ECN: u8 = 0x80;

const ETHERNET: usize = 14;
/// Longest run of headers that is copied before each piece.
const LONGEST_HEADERS: usize = 256;
const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// Why a frame cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfinished {
    /// The offsets do not fit the frame.
    #[error("the offload header does not fit the frame")]
    BadOffset,
    /// The kind of super-frame is not known.
    #[error("super-frames of this kind cannot be cut")]
    UnknownKind,
}

/// What is left to do for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Todo {
    flags: u8,
    kind: u8,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Todo {
    /// Reads the header.
    pub(crate) fn parse(header: &[u8; VNET_HEADER]) -> Self {
        let at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        Self { flags: header[0], kind: header[1], gso_size: at(4), csum_start: at(6), csum_offset: at(8) }
    }

    /// Whether the checksum is missing.
    pub(crate) fn needs_checksum(&self) -> bool {
        self.flags & NEEDS_CHECKSUM != 0
    }

    /// Whether the frame must be cut.
    pub(crate) fn is_super_frame(&self) -> bool {
        self.kind != GSO_NONE
    }
}

/// Fills in a missing checksum.
pub(crate) fn complete(frame: &mut [u8], todo: &Todo) -> Result<(), Unfinished> {
    let start = usize::from(todo.csum_start);
    let place = start + usize::from(todo.csum_offset);
    if place + 2 > frame.len() {
        return Err(Unfinished::BadOffset);
    }
    // The field holds the sum of the pseudo header already and takes part in the sum.
    let sum = Sum::default().add(&frame[start..]).fold();
    frame[place..place + 2].copy_from_slice(&finish(sum).to_be_bytes());
    Ok(())
}

/// Cuts a super-frame. `emit` gets each piece as headers and payload, in order.
pub(crate) fn cut(
    frame: &[u8],
    todo: &Todo,
    mut emit: impl FnMut(&[u8], &[u8]),
) -> Result<usize, Unfinished> {
    let shape = Shape::of(frame, todo)?;
    let payload = &frame[shape.headers..];
    let step = usize::from(todo.gso_size);
    let pieces = payload.len().div_ceil(step).max(1);
    let mut headers = [0; LONGEST_HEADERS];
    let headers = &mut headers[..shape.headers];
    for (index, part) in payload.chunks(step).enumerate() {
        headers.copy_from_slice(&frame[..shape.headers]);
        shape.write_lengths(headers, part.len(), index);
        if shape.tcp {
            shape.write_tcp(headers, index, pieces, step, todo.kind & GSO_ECN != 0);
        }
        shape.write_checksum(headers, part);
        emit(headers, part);
    }
    Ok(pieces)
}

/// Where the headers of a super-frame are.
struct Shape {
    /// IP header.
    network: usize,
    /// TCP or UDP header.
    transport: usize,
    /// All headers.
    headers: usize,
    ipv6: bool,
    tcp: bool,
}

impl Shape {
    fn of(frame: &[u8], todo: &Todo) -> Result<Self, Unfinished> {
        let tcp = match todo.kind & !GSO_ECN {
            GSO_TCP4 | GSO_TCP6 => true,
            GSO_UDP => false,
            _ => return Err(Unfinished::UnknownKind),
        };
        let network = network_offset(frame).ok_or(Unfinished::BadOffset)?;
        let ipv6 = match frame.get(network).map(|byte| byte >> 4) {
            Some(4) => false,
            Some(6) => true,
            _ => return Err(Unfinished::BadOffset),
        };
        let transport = if todo.needs_checksum() {
            usize::from(todo.csum_start)
        } else if ipv6 {
            network + 40
        } else {
            network + usize::from(frame[network] & 0x0f) * 4
        };
        let least = if ipv6 { 40 } else { 20 };
        let header = if tcp {
            usize::from(frame.get(transport + 12).ok_or(Unfinished::BadOffset)? >> 4) * 4
        } else {
            8
        };
        let headers = transport + header;
        let fits = transport >= network + least
            && header >= if tcp { 20 } else { 8 }
            && headers < frame.len()
            && headers <= LONGEST_HEADERS
            && todo.gso_size > 0;
        if fits { Ok(Self { network, transport, headers, ipv6, tcp }) } else { Err(Unfinished::BadOffset) }
    }

    /// IP length, IPv4 identification and header checksum, UDP length.
    fn write_lengths(&self, headers: &mut [u8], payload: usize, index: usize) {
        let n = self.network;
        if self.ipv6 {
            let len = self.headers - n - 40 + payload;
            headers[n + 4..n + 6].copy_from_slice(&(len as u16).to_be_bytes());
        } else {
            let len = self.headers - n + payload;
            headers[n + 2..n + 4].copy_from_slice(&(len as u16).to_be_bytes());
            let id = u16::from_be_bytes([headers[n + 4], headers[n + 5]]).wrapping_add(index as u16);
            headers[n + 4..n + 6].copy_from_slice(&id.to_be_bytes());
            headers[n + 10..n + 12].fill(0);
            let end = (n + usize::from(headers[n] & 0x0f) * 4).min(self.transport);
            let sum = !Sum::default().add(&headers[n..end]).fold();
            headers[n + 10..n + 12].copy_from_slice(&sum.to_be_bytes());
        }
        if !self.tcp {
            let len = (8 + payload) as u16;
            headers[self.transport + 4..self.transport + 6].copy_from_slice(&len.to_be_bytes());
        }
    }

    /// Sequence number; FIN and PSH on the last piece, CWR on the first.
    fn write_tcp(&self, headers: &mut [u8], index: usize, pieces: usize, step: usize, ecn: bool) {
        let t = self.transport;
        let first = u32::from_be_bytes([headers[t + 4], headers[t + 5], headers[t + 6], headers[t + 7]]);
        let sequence = first.wrapping_add((index * step) as u32);
        headers[t + 4..t + 8].copy_from_slice(&sequence.to_be_bytes());
        if index + 1 < pieces {
            headers[t + 13] &= !(TCP_FIN | TCP_PSH);
        }
        if ecn && index > 0 {
            headers[t + 13] &= !TCP_CWR;
        }
    }

    /// The TCP or UDP checksum over pseudo header, header and payload.
    fn write_checksum(&self, headers: &mut [u8], payload: &[u8]) {
        let place = self.transport + if self.tcp { 16 } else { 6 };
        headers[place..place + 2].fill(0);
        let addresses = if self.ipv6 {
            self.network + 8..self.network + 40
        } else {
            self.network + 12..self.network + 20
        };
        let len = headers.len() - self.transport + payload.len();
        let protocol: u8 = if self.tcp { libc::IPPROTO_TCP as u8 } else { libc::IPPROTO_UDP as u8 };
        let sum = Sum::default()
            .add(&headers[addresses])
            .add(&(len as u32).to_be_bytes())
            .add(&[0, protocol])
            .add(&headers[self.transport..])
            .add(payload)
            .fold();
        headers[place..place + 2].copy_from_slice(&finish(sum).to_be_bytes());
    }
}

/// Where the IP header begins, behind any VLAN tags.
fn network_offset(frame: &[u8]) -> Option<usize> {
    let mut at = ETHERNET;
    for _ in 0..3 {
        match u16::from_be_bytes(frame.get(at - 2..at)?.try_into().ok()?) {
            0x8100 | 0x88a8 => at += 4,
            0x0800 | 0x86dd => return Some(at),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
