//! LWL4: the header of every packet (`docs/protocol.md` §2).
//!
//! ```text
//!   -2     0      1      2       3       4          6          8       12      16
//!   +------+------+------+-------+-------+----------+----------+-------+-------+
//!   | pad  | ver  | type | flags | layer | nd s→d   | nd d→s   | sconn | dconn |
//!   +------+------+------+-------+-------+----------+----------+-------+-------+
//!   16      20         22          24       28       32    36
//!   +-------+----------+-----------+--------+--------+-----+ - - - -
//!   | seq   | qos type | qos index | offset | length | crc | payload
//!   +-------+----------+-----------+--------+--------+-----+ - - - -
//! ```
//!
//! Multi-byte fields are in the sender's byte order; `length` counts the payload of this packet.

use super::WireError;
use super::bytes::{Order, Reader, Writer};
use super::crc::Crc;

/// Pad bytes between the carrier's header and ours.
pub const PAD: usize = 2;
/// Pad and header: what precedes the payload in a frame.
pub const HEADER: usize = PAD + 36;
/// The Ethernet type of Qnet.
pub const ETHERTYPE: u16 = 0x8204;

const VERSION: u8 = 0x2a;
const BIG_BIT: u8 = 0x80;

/// Flag bit: the first fragment of its message.
pub const FIRST: u8 = 1;
/// Flag bit: the last fragment of its message.
pub const LAST: u8 = 2;
/// Flag bit: the checksum field is in use.
pub const CRC: u8 = 4;
/// Packet type reserved for sealed (authenticated, encrypted) packets; nobody sends it yet.
pub const SEALED: u8 = 12;
/// Both fragment bits: the whole message.
pub const WHOLE: u8 = FIRST | LAST;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 1: asks for a session.
    TcsInit,
    /// 2: agrees.
    TcsRemUp,
    /// 3: confirms.
    TcsUp,
    /// 4: ends the session.
    TcsDown,
    /// 5: confirms the end; also "I do not know this session".
    TcsRemDown,
    /// 8 (and the old 0): a message or a fragment of one.
    User,
    /// 9.
    Ack,
    /// 10.
    Nack,
    /// 11: discovery.
    Lres,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Kind, WireError> {
        Ok(match byte {
            0 | 8 => Kind::User,
            1 => Kind::TcsInit,
            2 => Kind::TcsRemUp,
            3 => Kind::TcsUp,
            4 => Kind::TcsDown,
            5 => Kind::TcsRemDown,
            9 => Kind::Ack,
            10 => Kind::Nack,
            11 => Kind::Lres,
            other => return Err(WireError::BadValue { what: "packet type", value: other.into() }),
        })
    }

    fn to_byte(self) -> u8 {
        match self {
            Kind::TcsInit => 1,
            Kind::TcsRemUp => 2,
            Kind::TcsUp => 3,
            Kind::TcsDown => 4,
            Kind::TcsRemDown => 5,
            Kind::User => 8,
            Kind::Ack => 9,
            Kind::Nack => 10,
            Kind::Lres => 11,
        }
    }
}

/// Who gets the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// 0: the kernel interface.
    Kif,
    /// 1: the network resolver.
    Nr,
    /// 2: the lan resolver.
    Lr,
    /// 3: nobody; on ACK and NACK, a body of ours.
    Seq,
}

impl Layer {
    fn from_byte(byte: u8) -> Result<Layer, WireError> {
        Ok(match byte {
            0 => Layer::Kif,
            1 => Layer::Nr,
            2 => Layer::Lr,
            3 => Layer::Seq,
            other => return Err(WireError::BadValue { what: "layer", value: other.into() }),
        })
    }

    fn to_byte(self) -> u8 {
        match self {
            Layer::Kif => 0,
            Layer::Nr => 1,
            Layer::Lr => 2,
            Layer::Seq => 3,
        }
    }
}

/// A packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's byte order.
    pub order: Order,
    /// What the packet is.
    pub kind: Kind,
    /// [`FIRST`], [`LAST`], [`CRC`].
    pub flags: u8,
    /// Who gets the payload.
    pub layer: Layer,
    /// The sender's number for the receiver; 0 unknown.
    pub src_nd_for_dst: u16,
    /// The receiver's number for the sender; 0 unknown.
    pub dst_nd_for_src: u16,
    /// The sender's session id.
    pub sconn: u32,
    /// The receiver's session id; 0 unknown.
    pub dconn: u32,
    /// The message's number in the session.
    pub seq: u32,
    /// 0 load balance, 1 redundant, 2 exclusive, 3 preferred.
    pub qos_type: u16,
    /// The sender's quality-of-service index.
    pub src_qos_idx: u16,
    /// Place of the payload in its message.
    pub offset: u32,
    /// Payload bytes in this packet.
    pub length: u32,
}

impl Header {
    /// A header of this kind and layer for a whole message, everything else 0.
    #[must_use]
    pub const fn new(kind: Kind, layer: Layer) -> Header {
        Header {
            order: Order::Little,
            kind,
            flags: WHOLE,
            layer,
            src_nd_for_dst: 0,
            dst_nd_for_src: 0,
            sconn: 0,
            dconn: 0,
            seq: 0,
            qos_type: 0,
            src_qos_idx: 0,
            offset: 0,
            length: 0,
        }
    }

    /// Whether the packet holds its whole message.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.flags & WHOLE == WHOLE
    }

    /// Writes pad and header in front of the payload that already stands in
    /// `frame[HEADER..HEADER + self.length]`, with the checksum if `crc` is given.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] when the frame is shorter than header and payload.
    pub fn emit(&self, frame: &mut [u8], crc: Option<&Crc>) -> Result<usize, WireError> {
        let total = HEADER.saturating_add(self.length as usize);
        if frame.len() < total {
            return Err(WireError::NoRoom { have: frame.len() });
        }
        let flags = if crc.is_some() { self.flags | CRC } else { self.flags & !CRC };
        let version = if self.order == Order::Big { VERSION | BIG_BIT } else { VERSION };
        let mut w = Writer::new(&mut frame[..HEADER], self.order);
        w.bytes(&[0; PAD]).u8(version).u8(self.kind.to_byte()).u8(flags).u8(self.layer.to_byte());
        w.u16(self.src_nd_for_dst).u16(self.dst_nd_for_src).u32(self.sconn).u32(self.dconn);
        w.u32(self.seq).u16(self.qos_type).u16(self.src_qos_idx);
        w.u32(self.offset).u32(self.length).u32(0);
        w.finish()?;
        if let Some(crc) = crc {
            let value = crc.of(&[&frame[PAD..total]]);
            Writer::new(&mut frame[HEADER - 4..HEADER], self.order).u32(value);
        }
        Ok(total)
    }
}

/// A packet as it stands in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its header.
    pub header: Header,
    /// Its payload, without the carrier's padding.
    pub payload: &'a [u8],
    bytes: &'a [u8],
    found: u32,
}

impl<'a> Packet<'a> {
    /// Reads everything behind the carrier's header. Bytes past the announced length are the
    /// carrier's padding. The checksum is not looked at yet; see [`Packet::check`].
    ///
    /// # Errors
    /// [`WireError`] for a short frame, an unknown version, type or layer, or a length past the end.
    pub fn parse(frame: &'a [u8]) -> Result<Packet<'a>, WireError> {
        let version = frame.get(PAD).copied().unwrap_or(0);
        let order = if version & BIG_BIT == 0 { Order::Little } else { Order::Big };
        let mut r = Reader::new(frame, order, "LWL4 packet");
        r.take(PAD + 1)?;
        if version & !BIG_BIT != VERSION {
            return Err(WireError::BadValue { what: "LWL4 version", value: version.into() });
        }
        let header = Header {
            order,
            kind: Kind::from_byte(r.u8()?)?,
            flags: r.u8()?,
            layer: Layer::from_byte(r.u8()?)?,
            src_nd_for_dst: r.u16()?,
            dst_nd_for_src: r.u16()?,
            sconn: r.u32()?,
            dconn: r.u32()?,
            seq: r.u32()?,
            qos_type: r.u16()?,
            src_qos_idx: r.u16()?,
            offset: r.u32()?,
            length: r.u32()?,
        };
        let found = r.u32()?;
        let payload = r.take(header.length as usize)?;
        Ok(Packet { header, payload, bytes: &frame[PAD..r.position()], found })
    }

    /// Whether the packet carries a checksum.
    #[must_use]
    pub fn has_crc(&self) -> bool {
        self.header.flags & CRC != 0
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// [`WireError::BadCrc`] when it does not match (a packet without one counts as 0).
    pub fn check(&self, crc: &Crc) -> Result<(), WireError> {
        // Two pieces are cheaper than three: the short ones cost more than their bytes.
        let mut head = [0; HEADER - PAD];
        let field = head.len() - 4;
        head[..field].copy_from_slice(&self.bytes[..field]);
        let expected = crc.of(&[&head, &self.bytes[head.len()..]]);
        if expected == self.found { Ok(()) } else { Err(WireError::BadCrc { found: self.found, expected }) }
    }
}
