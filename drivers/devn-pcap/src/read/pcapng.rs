//! pcapng: sections of blocks.
//!
//! ```text
//!  block   type 4 | length 4 (of all of it, a multiple of 4) | body | the length again
//!  0a0d0d0a section   byte order 4, version 2+2, length of the section 8, options
//!  1        interface link type 2, 0, snap length 4, options: 9 resolution of time, 13 length of the FCS, 14 offset of time
//!  2        packet, old    interface 2, drops 2, time 4+4 (high, low), captured 4, length 4, bytes
//!  3        packet, simple length 4, bytes                       (of the first interface, without a time)
//!  6        packet         interface 4, time 4+4, captured 4, length 4, bytes, options
//! ```
//!
//! Blocks of other types are passed over. A section brings its own byte order and its own interfaces.

use std::io::Read;

use super::{CaptureError, ETHERNET, Input, LONGEST, Order, Record, check_length, strip};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const PACKET: u32 = 6;

const ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Bytes of a block that are not its body.
const FRAME: u32 = 12;
/// Longest body of an interface; its options are names and comments.
const LONGEST_INTERFACE: u32 = 1 << 20;
/// Interfaces of one section.
const MOST_INTERFACES: usize = 65_536;
const HEAD: &str = "a block's head";
const BODY: &str = "a block";

/// What is known of the section that is being read.
#[derive(Debug)]
pub(crate) struct Sections {
    order: Order,
    interfaces: Vec<Interface>,
}

/// An interface of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interface {
    linktype: u16,
    snaplen: u32,
    /// Units of time a second.
    resolution: Resolution,
    /// Seconds to add to each time.
    offset: i64,
    fcs: usize,
}

/// How fine times are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    Decimal(u8),
    Binary(u8),
}

impl Resolution {
    /// Units as nanoseconds.
    fn nanoseconds(self, units: u64) -> u64 {
        let units = u128::from(units);
        let nanoseconds = match self {
            Self::Decimal(power @ 0..=9) => units * 10_u128.pow(9 - u32::from(power)),
            Self::Decimal(power) => {
                units.checked_div(10_u128.checked_pow(u32::from(power) - 9).unwrap_or(0)).unwrap_or(0)
            }
            Self::Binary(power) => (units * 1_000_000_000).checked_shr(power.into()).unwrap_or(0),
        };
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }
}

impl Sections {
    /// Reads the head of the first section; its type has been read.
    pub(crate) fn open<R: Read>(input: &mut Input<R>) -> Result<Self, CaptureError> {
        let mut this = Self { order: Order::Little, interfaces: Vec::new() };
        this.section(input)?;
        Ok(this)
    }

    pub(crate) fn next<R: Read>(
        &mut self,
        input: &mut Input<R>,
        frame: &mut Vec<u8>,
    ) -> Result<Option<Record>, CaptureError> {
        loop {
            let Some(kind) = input.maybe::<4>(HEAD)? else { return Ok(None) };
            // A section's type reads the same in both orders.
            let kind = self.order.u32(kind);
            if kind == SECTION {
                self.section(input)?;
                continue;
            }
            let at = input.offset();
            let length = self.order.u32(input.exactly(HEAD)?);
            let body = self.body_length(at, length)?;
            let record = match kind {
                INTERFACE => {
                    self.interface(input, at, body)?;
                    None
                }
                PACKET | OLD_PACKET => Some(self.packet(input, at, body, kind == OLD_PACKET, frame)?),
                SIMPLE_PACKET => Some(self.simple_packet(input, at, body, frame)?),
                _ => {
                    input.skip(body.into(), BODY)?;
                    None
                }
            };
            self.trailer(input, length)?;
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    fn body_length(&self, offset: u64, length: u32) -> Result<u32, CaptureError> {
        match length.checked_sub(FRAME) {
            Some(body) if length.is_multiple_of(4) => Ok(body),
            _ => Err(CaptureError::Damaged { offset, what: "the length of a block", value: length.into() }),
        }
    }

    fn trailer<R: Read>(&self, input: &mut Input<R>, length: u32) -> Result<(), CaptureError> {
        let offset = input.offset();
        let again = self.order.u32(input.exactly("a block's end")?);
        if again == length {
            return Ok(());
        }
        let what = "the length of a block, told for the second time,";
        Err(CaptureError::Damaged { offset, what, value: again.into() })
    }

    fn section<R: Read>(&mut self, input: &mut Input<R>) -> Result<(), CaptureError> {
        let at = input.offset();
        let length = input.exactly(HEAD)?;
        let magic = input.exactly(HEAD)?;
        self.order = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (ORDER_MAGIC, _) => Order::Little,
            (_, ORDER_MAGIC) => Order::Big,
            (other, _) => {
                let what = "the byte order of a section";
                return Err(CaptureError::Damaged { offset: at + 4, what, value: other.into() });
            }
        };
        self.interfaces.clear();
        let length = self.order.u32(length);
        let rest = self.body_length(at, length)?.checked_sub(8).ok_or(CaptureError::Damaged {
            offset: at,
            what: "the length of a section's head",
            value: length.into(),
        })?;
        let version = self.order.u16(input.exactly(HEAD)?);
        if version != 1 {
            return Err(CaptureError::Damaged { offset: at + 8, what: "the version", value: version.into() });
        }
        input.exactly::<2>(HEAD)?;
        input.skip(rest.into(), BODY)?;
        self.trailer(input, length)
    }

    fn interface<R: Read>(&mut self, input: &mut Input<R>, at: u64, body: u32) -> Result<(), CaptureError> {
        if !(8..=LONGEST_INTERFACE).contains(&body) || self.interfaces.len() >= MOST_INTERFACES {
            let what = "the length of an interface's block";
            return Err(CaptureError::Damaged { offset: at, what, value: body.into() });
        }
        let mut bytes = Vec::new();
        input.fill(&mut bytes, body, BODY)?;
        let (head, options) = bytes.split_at(8);
        let mut interface = Interface {
            linktype: self.order.u16([head[0], head[1]]),
            snaplen: self.order.u32([head[4], head[5], head[6], head[7]]),
            resolution: Resolution::Decimal(6),
            offset: 0,
            fcs: 0,
        };
        self.options(options, &mut interface);
        if interface.linktype != ETHERNET {
            return Err(CaptureError::LinkType { offset: at + 4, linktype: interface.linktype });
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// Code 2, length 2, value padded to a multiple of 4; what is cut off is as good as absent.
    fn options(&self, mut rest: &[u8], interface: &mut Interface) {
        while let Some((head, behind)) = rest.split_first_chunk::<4>() {
            let code = self.order.u16([head[0], head[1]]);
            let length = usize::from(self.order.u16([head[2], head[3]]));
            let Some(value) = behind.get(..length) else { return };
            match (code, value) {
                (0, _) => return,
                (9, [power]) if power & 0x80 != 0 => interface.resolution = Resolution::Binary(power & 0x7f),
                (9, [power]) => interface.resolution = Resolution::Decimal(*power),
                (13, [length]) => interface.fcs = usize::from(*length),
                (14, bytes) => {
                    if let Ok(bytes) = <[u8; 8]>::try_from(bytes) {
                        interface.offset = match self.order {
                            Order::Little => i64::from_le_bytes(bytes),
                            Order::Big => i64::from_be_bytes(bytes),
                        };
                    }
                }
                _ => {}
            }
            rest = behind.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn packet<R: Read>(
        &self,
        input: &mut Input<R>,
        at: u64,
        body: u32,
        old: bool,
        frame: &mut Vec<u8>,
    ) -> Result<Record, CaptureError> {
        let too_short =
            CaptureError::Damaged { offset: at, what: "the length of a packet's block", value: body.into() };
        let Some(room) = body.checked_sub(20) else { return Err(too_short) };
        let word = input.exactly(BODY)?;
        let number = if old { self.order.u16([word[0], word[1]]).into() } else { self.order.u32(word) };
        let interface = self.interface_of(at + 4, number)?;
        let high = self.order.u32(input.exactly(BODY)?);
        let low = self.order.u32(input.exactly(BODY)?);
        let lengths = input.offset();
        let captured = self.order.u32(input.exactly(BODY)?);
        let length = self.order.u32(input.exactly(BODY)?);
        check_length(lengths, captured, length)?;
        if captured > room {
            let what = "the captured length of a frame, longer than its block,";
            return Err(CaptureError::Damaged { offset: lengths, what, value: captured.into() });
        }
        input.fill(frame, captured, "a frame")?;
        // Padding and options.
        input.skip((room - captured).into(), BODY)?;
        let whole = strip(frame, length, interface.fcs);
        let units = u64::from(high) << 32 | u64::from(low);
        let nanoseconds = interface.resolution.nanoseconds(units);
        let shift = interface.offset.saturating_mul(1_000_000_000);
        Ok(Record { stamp: Some(nanoseconds.saturating_add_signed(shift)), whole })
    }

    fn simple_packet<R: Read>(
        &self,
        input: &mut Input<R>,
        at: u64,
        body: u32,
        frame: &mut Vec<u8>,
    ) -> Result<Record, CaptureError> {
        let too_short =
            CaptureError::Damaged { offset: at, what: "the length of a packet's block", value: body.into() };
        let Some(room) = body.checked_sub(4) else { return Err(too_short) };
        let interface = self.interface_of(at + 4, 0)?;
        let lengths = input.offset();
        let length = self.order.u32(input.exactly(BODY)?);
        let snaplen = if interface.snaplen == 0 { LONGEST } else { interface.snaplen };
        let captured = length.min(snaplen).min(room);
        check_length(lengths, captured, length)?;
        input.fill(frame, captured, "a frame")?;
        input.skip((room - captured).into(), BODY)?;
        Ok(Record { stamp: None, whole: strip(frame, length, interface.fcs) })
    }

    fn interface_of(&self, offset: u64, number: u32) -> Result<Interface, CaptureError> {
        let found = self.interfaces.get(number as usize).copied();
        let what = "the number of an interface that the section does not have";
        found.ok_or(CaptureError::Damaged { offset, what, value: number.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::Resolution::{Binary, Decimal};

    #[test]
    fn times_of_every_resolution_become_nanoseconds() {
        assert_eq!(Decimal(6).nanoseconds(5), 5000);
        assert_eq!(Decimal(9).nanoseconds(5), 5);
        assert_eq!(Decimal(0).nanoseconds(5), 5_000_000_000);
        assert_eq!(Decimal(12).nanoseconds(5999), 5);
        assert_eq!(Binary(1).nanoseconds(3), 1_500_000_000);
        assert_eq!(Decimal(127).nanoseconds(u64::MAX), 0);
        assert_eq!(Binary(127).nanoseconds(u64::MAX), 0);
        assert_eq!(Decimal(0).nanoseconds(u64::MAX), u64::MAX);
    }
}
