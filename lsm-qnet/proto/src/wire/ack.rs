//! The bodies of our acknowledgements (`docs/protocol.md` §7; ours, not QNX's).
//!
//! They travel in packets of type ACK and NACK on layer 3, which stock tools leave alone. A plain
//! QNX node gets, and sends, ACK packets without a body: there `seq` names one complete message.
//!
//! ```text
//!   ACK   0     1   2       4         6        8        12     16         20          24
//!         +-----+---+-------+---------+--------+--------+------+----------+-----------+---------+
//!         | ver | 0 | whole | partial | 0      | window | base | echo seq | echo off. | delay   |
//!         |  1  |   | count |  count  |        |        |      |          |           |  µs     |
//!         +-----+---+-------+---------+--------+--------+------+----------+-----------+---------+
//!         28: whole x (first 4, count 4), then partial x (seq 4, offset 4, length 4)
//!
//!   NACK  0     1        2       4        8
//!         +-----+--------+-------+--------+
//!         | ver | reason | count | window |   then count x (seq 4, offset 4, length 4)
//!         +-----+--------+-------+--------+
//! ```
//!
//! Every message before `base` has been delivered; `whole` ranges, too; of `partial` messages the
//! listed bytes have arrived. `echo` names the fragment that arrived last and how long ago.

use super::WireError;
use super::bytes::{Order, Reader, Writer};

const VERSION: u8 = 1;
/// Bytes of an ACK body before its ranges.
pub(crate) const ACK_HEAD: usize = 28;
/// Bytes of a NACK body before its ranges.
const NACK_HEAD: usize = 8;
/// NACK reason: these bytes are missing, send them again.
pub const MISSING: u8 = 1;
/// NACK reason: no memory for this message now; the sender tries again later.
pub const NO_ROOM: u8 = 2;
/// NACK reason: there is room again for what was refused; names nothing.
pub const ROOM: u8 = 3;

/// Complete messages `first..first + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The first one's number.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Whole {
    /// Bytes on the wire.
    pub(crate) const SIZE: usize = 8;

    /// Of a run of full message numbers.
    pub(crate) fn from_run((first, count): (u64, u64)) -> Whole {
        // The wire carries the low 32 bits; a run is at most a receiver's span long.
        Whole { first: first as u32, count: count as u32 }
    }
}

/// Bytes `offset..offset + length` of message `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The message.
    pub seq: u32,
    /// First byte.
    pub offset: u32,
    /// How many.
    pub length: u32,
}

impl Span {
    /// Bytes on the wire.
    pub(crate) const SIZE: usize = 12;
}

/// The fixed part of an ACK body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckHead {
    /// Bytes of incomplete messages the sender of the ACK has room for.
    pub window: u32,
    /// All messages before this one are complete.
    pub base: u32,
    /// The fragment that arrived last: its message.
    pub echo_seq: u32,
    /// The fragment that arrived last: its offset.
    pub echo_offset: u32,
    /// Microseconds between its arrival and this ACK; all ones: there was none.
    pub echo_delay: u32,
}

/// An ACK body, seen in place.
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a> {
    /// Its fixed part.
    pub head: AckHead,
    whole: &'a [u8],
    partial: &'a [u8],
    order: Order,
}

impl<'a> Ack<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`WireError`] for an unknown version or ranges past the end.
    pub fn parse(bytes: &'a [u8], order: Order) -> Result<Ack<'a>, WireError> {
        let mut r = Reader::new(bytes, order, "ACK body");
        check_version(r.u8()?)?;
        r.u8()?;
        let (whole, partial) = (usize::from(r.u16()?), usize::from(r.u16()?));
        r.u16()?;
        let head = AckHead {
            window: r.u32()?,
            base: r.u32()?,
            echo_seq: r.u32()?,
            echo_offset: r.u32()?,
            echo_delay: r.u32()?,
        };
        Ok(Ack { head, whole: r.take(whole * 8)?, partial: r.take(partial * 12)?, order })
    }

    /// The ranges of complete messages.
    pub fn whole(&self) -> impl Iterator<Item = Whole> + use<'a> {
        let order = self.order;
        self.whole.chunks_exact(8).map(move |b| Whole { first: word(b, 0, order), count: word(b, 4, order) })
    }

    /// The ranges of incomplete messages.
    pub fn partial(&self) -> impl Iterator<Item = Span> + use<'a> {
        spans(self.partial, self.order)
    }

    /// Writes a body with as many of the ranges as fit, and returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] when not even the fixed part fits.
    pub fn emit(
        head: &AckHead,
        whole: impl Iterator<Item = Whole>,
        partial: impl Iterator<Item = Span>,
        out: &mut [u8],
        order: Order,
    ) -> Result<usize, WireError> {
        let room = out.len().saturating_sub(ACK_HEAD);
        let mut w = Writer::new(out, order);
        w.zero_to(ACK_HEAD);
        let (mut wholes, mut partials) = (0u16, 0u16);
        let fit = (room / 8).min(usize::from(u16::MAX));
        for range in whole.take(fit) {
            w.u32(range.first).u32(range.count);
            wholes += 1;
        }
        let fit = ((room - usize::from(wholes) * 8) / 12).min(usize::from(u16::MAX));
        for span in partial.take(fit) {
            w.u32(span.seq).u32(span.offset).u32(span.length);
            partials += 1;
        }
        let total = w.finish()?;
        let mut w = Writer::new(&mut out[..ACK_HEAD], order);
        w.u8(VERSION).u8(0).u16(wholes).u16(partials).u16(0);
        w.u32(head.window).u32(head.base);
        w.u32(head.echo_seq).u32(head.echo_offset).u32(head.echo_delay);
        w.finish()?;
        Ok(total)
    }
}

/// A NACK body, seen in place.
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    /// [`MISSING`], [`NO_ROOM`] or [`ROOM`]; others are ignored by receivers.
    pub reason: u8,
    /// Bytes of incomplete messages the sender of the NACK has room for.
    pub window: u32,
    spans: &'a [u8],
    order: Order,
}

impl<'a> Nack<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`WireError`] for an unknown version or ranges past the end.
    pub fn parse(bytes: &'a [u8], order: Order) -> Result<Nack<'a>, WireError> {
        let mut r = Reader::new(bytes, order, "NACK body");
        check_version(r.u8()?)?;
        let reason = r.u8()?;
        let count = usize::from(r.u16()?);
        let window = r.u32()?;
        Ok(Nack { reason, window, spans: r.take(count * 12)?, order })
    }

    /// The ranges it is about.
    pub fn spans(&self) -> impl Iterator<Item = Span> + use<'a> {
        spans(self.spans, self.order)
    }

    /// Writes a body with as many of the ranges as fit, and returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] when not even the fixed part fits.
    pub fn emit(
        reason: u8,
        window: u32,
        spans: impl Iterator<Item = Span>,
        out: &mut [u8],
        order: Order,
    ) -> Result<usize, WireError> {
        let fit = (out.len().saturating_sub(NACK_HEAD) / 12).min(usize::from(u16::MAX));
        let mut w = Writer::new(out, order);
        w.zero_to(NACK_HEAD);
        let mut count = 0u16;
        for span in spans.take(fit) {
            w.u32(span.seq).u32(span.offset).u32(span.length);
            count += 1;
        }
        let total = w.finish()?;
        let mut w = Writer::new(&mut out[..NACK_HEAD], order);
        w.u8(VERSION).u8(reason).u16(count).u32(window);
        w.finish()?;
        Ok(total)
    }
}

fn check_version(version: u8) -> Result<(), WireError> {
    if version == VERSION {
        Ok(())
    } else {
        Err(WireError::BadValue { what: "version of an ACK body", value: version.into() })
    }
}

fn word(bytes: &[u8], at: usize, order: Order) -> u32 {
    order.u32(bytes[at..at + 4].try_into().expect("chunks_exact gave whole ranges"))
}

fn spans<'a>(bytes: &'a [u8], order: Order) -> impl Iterator<Item = Span> + use<'a> {
    bytes.chunks_exact(12).map(move |b| Span {
        seq: word(b, 0, order),
        offset: word(b, 4, order),
        length: word(b, 8, order),
    })
}
