//! Checked reading and writing of numbers in the sender's byte order.
//!
//! A [`Reader`] never reads past its slice and says what was missing; a [`Writer`] fills a slice
//! whose size its caller has made sure of, and reports when that was wrong. Neither allocates.

use super::WireError;

/// Byte order of a packet, told by bit 7 of its version byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Version byte `0x2a`. What this implementation sends.
    #[default]
    Little,
    /// Version byte `0xaa`.
    Big,
}

macro_rules! numbers {
    ($($name:ident: $type:ty, $size:literal);+ $(;)?) => {
        impl Order {
            $(
                #[doc = concat!("Reads a `", stringify!($type), "` from exactly its bytes.")]
                #[must_use]
                pub fn $name(self, bytes: [u8; $size]) -> $type {
                    match self {
                        Order::Little => <$type>::from_le_bytes(bytes),
                        Order::Big => <$type>::from_be_bytes(bytes),
                    }
                }
            )+
        }

        impl<'a> Reader<'a> {
            $(
                #[doc = concat!("The next `", stringify!($type), "`.")]
                ///
                /// # Errors
                /// [`WireError::Truncated`] at the end of the bytes.
                pub fn $name(&mut self) -> Result<$type, WireError> {
                    Ok(self.order.$name(self.array()?))
                }
            )+
        }

        impl Writer<'_> {
            $(
                #[doc = concat!("Appends a `", stringify!($type), "`.")]
                pub fn $name(&mut self, value: $type) -> &mut Self {
                    match self.order {
                        Order::Little => self.bytes(&value.to_le_bytes()),
                        Order::Big => self.bytes(&value.to_be_bytes()),
                    }
                }
            )+
        }
    };
}

numbers! { u16: u16, 2; u32: u32, 4; u64: u64, 8; i32: i32, 4; }

/// Reads fields one after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
    order: Order,
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` as a `what` (for error texts) in this byte order.
    #[must_use]
    pub fn new(bytes: &'a [u8], order: Order, what: &'static str) -> Reader<'a> {
        Reader { bytes, pos: 0, order, what }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when fewer are left; nothing is consumed then.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let end = self.pos.checked_add(count).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(WireError::Truncated {
                what: self.what,
                need: self.pos.saturating_add(count),
                have: self.bytes.len(),
            });
        };
        let taken = &self.bytes[self.pos..end];
        self.pos = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        Ok(self.take(N)?.try_into().expect("take returned N bytes"))
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`WireError::Truncated`] at the end of the bytes.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Bytes consumed so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// What is left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.pos..]
    }
}

/// Writes fields one after the other into a slice.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    pos: usize,
    order: Order,
    overrun: bool,
}

impl<'a> Writer<'a> {
    /// Writes into `bytes` from their beginning.
    #[must_use]
    pub fn new(bytes: &'a mut [u8], order: Order) -> Writer<'a> {
        Writer { bytes, pos: 0, order, overrun: false }
    }

    /// The byte order numbers are written in.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Appends bytes. Past the end of the slice nothing is written and [`Writer::finish`] fails.
    pub fn bytes(&mut self, data: &[u8]) -> &mut Self {
        let end = self.pos + data.len();
        match self.bytes.get_mut(self.pos..end) {
            Some(room) if !self.overrun => {
                room.copy_from_slice(data);
                self.pos = end;
            }
            _ => self.overrun = true,
        }
        self
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends zero bytes up to offset `end`.
    pub fn zero_to(&mut self, end: usize) -> &mut Self {
        while self.pos < end && !self.overrun {
            self.u8(0);
        }
        self
    }

    /// Bytes written so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// The number of bytes written.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] when the slice was too short.
    pub fn finish(&self) -> Result<usize, WireError> {
        if self.overrun { Err(WireError::NoRoom { have: self.bytes.len() }) } else { Ok(self.pos) }
    }
}
