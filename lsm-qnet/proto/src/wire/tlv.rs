//! Our items behind the strings of TCS messages and the data of LR messages (`docs/protocol.md` §4).
//!
//! A plain QNX node sends none and skips them: they lie behind everything its formats point to.
//!
//! ```text
//!   0                   4        6
//!   +----+----+----+----+--------+- - - - - - - - - - -
//!   | 'q'  'n'  'X'  1  | length | items
//!   +----+----+----+----+--------+- - - - - - - - - - -     item: type 2, length 2, value
//! ```
//!
//! `length` counts the items' bytes. Unknown item types are skipped; a known item of another length
//! than its own is an error.

use super::WireError;
use super::bytes::{Order, Reader, Writer};

/// What the block begins with; the last byte is the version of the block.
const MARKER: [u8; 4] = *b"qnX\x01";
/// Bytes of the longest block we write.
pub const MAX_BLOCK: usize = 6 + 2 * (4 + 8) + (4 + 2) + 3 * (4 + 4);

/// Version of our extensions.
pub const VERSION: u16 = 1;
/// Ability: selective acknowledgement bodies on layer 3.
pub const ABILITY_SACK: u32 = 1;
/// Ability: puts a checksum on every packet, so that one without it is damaged.
pub const ABILITY_CRC: u32 = 2;
/// Ability: reads a connect with its first pulse.
pub const ABILITY_CONNECT_PULSE: u32 = 4;

const INCARNATION: u16 = 1;
const PROTOCOL: u16 = 2;
const ABILITIES: u16 = 3;
const LARGEST_PAYLOAD: u16 = 4;
const WINDOW: u16 = 5;
const MEANT_FOR: u16 = 6;

/// What a node of our kind tells about itself. Absent items are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Differs between any two runs of a node.
    pub incarnation: u64,
    /// [`VERSION`] of the sender.
    pub version: u16,
    /// Bits of `ABILITY_*`.
    pub abilities: u32,
    /// The most payload bytes of one packet the sender can receive.
    pub largest_payload: u32,
    /// Bytes of incomplete messages the sender keeps for this peer.
    pub window: u32,
    /// Incarnation of the only node that is to take this, where two nodes share an address.
    pub meant_for: u64,
}

impl Extensions {
    /// Appends the block, items that are 0 left out.
    pub fn emit(&self, w: &mut Writer<'_>) {
        let mut items = [0; MAX_BLOCK];
        let mut inner = Writer::new(&mut items, w.order());
        if self.incarnation != 0 {
            inner.u16(INCARNATION).u16(8).u64(self.incarnation);
        }
        if self.version != 0 {
            inner.u16(PROTOCOL).u16(2).u16(self.version);
        }
        for (kind, value) in
            [(ABILITIES, self.abilities), (LARGEST_PAYLOAD, self.largest_payload), (WINDOW, self.window)]
        {
            if value != 0 {
                inner.u16(kind).u16(4).u32(value);
            }
        }
        if self.meant_for != 0 {
            inner.u16(MEANT_FOR).u16(8).u64(self.meant_for);
        }
        let used = inner.position();
        w.bytes(&MARKER).u16(u16::try_from(used).unwrap_or(0)).bytes(&items[..used]);
    }

    /// Writes the block and returns its length.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] when `out` is too short.
    pub fn write(&self, out: &mut [u8], order: Order) -> Result<usize, WireError> {
        let mut w = Writer::new(out, order);
        self.emit(&mut w);
        w.finish()
    }

    /// Reads the block at the beginning of `bytes`; `None` when there is none.
    ///
    /// # Errors
    /// [`WireError`] when a block begins there and is cut off or holds a bad item.
    pub fn parse(bytes: &[u8], order: Order) -> Result<Option<Extensions>, WireError> {
        if !bytes.starts_with(&MARKER) {
            return Ok(None);
        }
        let mut r = Reader::new(bytes, order, "extension block");
        r.take(MARKER.len())?;
        let length = r.u16()?;
        let mut r = Reader::new(r.take(usize::from(length))?, order, "extension item");
        let mut found = Extensions::default();
        while !r.rest().is_empty() {
            let kind = r.u16()?;
            let length = r.u16()?;
            let mut value = Reader::new(r.take(usize::from(length))?, order, "extension value");
            match kind {
                INCARNATION => found.incarnation = value.u64()?,
                PROTOCOL => found.version = value.u16()?,
                ABILITIES => found.abilities = value.u32()?,
                LARGEST_PAYLOAD => found.largest_payload = value.u32()?,
                WINDOW => found.window = value.u32()?,
                MEANT_FOR => found.meant_for = value.u64()?,
                _ => continue,
            }
            if !value.rest().is_empty() {
                return Err(WireError::BadValue {
                    what: "length of an extension item",
                    value: length.into(),
                });
            }
        }
        Ok(Some(found))
    }
}
