//! Extended attributes of a file. All of it is **ours**: QNX has none.
//!
//! ```text
//! 0x20 GET      size u32 (most bytes wanted; 0: only how many there are)   name
//! 0x21 SET      flags u32 (1 only a new one, 2 only one that is there)  name_len u16  zero u16   name   value
//! 0x22 LIST     size u32, as in GET
//! 0x23 REMOVE   name
//! 0x24 SET      flags u32   name_len u16  zero u16   value_len u32   name          the value stands behind the CONNECT
//! ```
//! Status of GET and LIST: the length of the value, or of all names; the reply's data are the value, or the names, each with
//! a NUL behind it. Names are those of Linux (`user.`, `trusted.`, `security.`, `system.posix_acl_…`) and reach to the end of
//! the message where no length is given. They travel as the message of a COMBINE_CLOSE connect, in one round trip. A value that
//! does not fit there, because the length of a connect's extra has 16 bits, stands behind the connect.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::MGRID;
use crate::Connect;
use crate::message::Io;
use crate::{ParseError, take};

/// Longest name, as in Linux.
pub const NAME_MAX: usize = 255;
/// Longest value, as in Linux.
pub const VALUE_MAX: usize = 65_536;
/// Longest value that stands in a connect's extra, with the longest name and an [`EXPECT`](super::subtype::EXPECT) before it.
pub const INSIDE_MAX: usize = 65_535 - 64 - size_of::<SetHead>() - NAME_MAX;
/// SET: the attribute must not exist (EEXIST).
pub const CREATE: u32 = 1;
/// SET: the attribute must exist (ENODATA).
pub const REPLACE: u32 = 2;

/// A virtual attribute of ours, for reading only: what a file of another node is that looks like a regular file. `fifo`,
/// `socket`, `character MAJOR:MINOR`, `block MAJOR:MINOR`; other files have none.
pub const TRUE_TYPE: &[u8] = b"user.qnet.type";
/// Rights that come with a program file. They are neither shown nor given through Qnet, where no program file gives any.
pub const CAPABILITY: &[u8] = b"security.capability";

/// A request about extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// A value.
    Get {
        /// Whose.
        name: &'a [u8],
        /// Most bytes wanted; 0: only the length.
        size: u32,
    },
    /// A new value.
    Set {
        /// Whose.
        name: &'a [u8],
        /// The value.
        value: &'a [u8],
        /// [`CREATE`], [`REPLACE`] or 0.
        flags: u32,
    },
    /// All names.
    List {
        /// Most bytes wanted; 0: only the length.
        size: u32,
    },
    /// Take it away.
    Remove {
        /// Which.
        name: &'a [u8],
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct SetHead {
    flags: U32,
    name_len: U16,
    zero: U16,
}

const GET: u16 = 0x20;
const SET: u16 = 0x21;
const LIST: u16 = 0x22;
const REMOVE: u16 = 0x23;
const SET_BEHIND: u16 = 0x24;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct SetBehindHead {
    head: SetHead,
    value_len: U32,
}

impl<'a> Request<'a> {
    /// Reads subtype and data of an `_IO_MSG` with [`MGRID`]; `behind` is what [stands behind](behind) the CONNECT that brought it,
    /// nothing where none did.
    ///
    /// # Errors
    /// Another subtype, a body that is too short, a name that is empty, too long or has a NUL in it, both flags of SET, a value
    /// that is not all there or longer than [`VALUE_MAX`].
    pub fn parse(subtype: u16, data: &'a [u8], behind: &'a [u8]) -> Result<Self, ParseError> {
        match subtype {
            GET => {
                let (size, name) = take::<U32>(data, "GETXATTR")?;
                Ok(Self::Get { name: checked(name)?, size: size.get() })
            }
            SET => {
                let (head, rest) = take::<SetHead>(data, "SETXATTR")?;
                let need = usize::from(head.name_len.get());
                let short = ParseError::Short { what: "name of an attribute", need, have: rest.len() };
                let (name, value) = rest.split_at_checked(need).ok_or(short)?;
                Ok(Self::Set { name: checked(name)?, value: bounded(value)?, flags: head.flags()? })
            }
            SET_BEHIND => {
                let (SetBehindHead { head, value_len }, name) = take::<SetBehindHead>(data, "SETXATTR")?;
                let need = usize::from(head.name_len.get());
                let short = ParseError::Short { what: "name of an attribute", need, have: name.len() };
                let name = name.get(..need).ok_or(short)?;
                let need = value_len.get() as usize;
                let short = ParseError::Short { what: "value of an attribute", need, have: behind.len() };
                let value = behind.get(..need).ok_or(short)?;
                Ok(Self::Set { name: checked(name)?, value: bounded(value)?, flags: head.flags()? })
            }
            LIST => Ok(Self::List { size: take::<U32>(data, "LISTXATTR")?.0.get() }),
            REMOVE => Ok(Self::Remove { name: checked(data)? }),
            _ => Err(ParseError::Unknown { what: "xattr subtype", value: subtype.into() }),
        }
    }

    /// The whole `_IO_MSG` message, for an open file. Names and values are within their bounds ([`NAME_MAX`], [`VALUE_MAX`]); the
    /// caller has seen to that.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let (subtype, data) = match *self {
            Self::Get { name, size } => (GET, [&size.to_le_bytes(), name].concat()),
            Self::Set { name, value, flags } => {
                (SET, [SetHead::new(flags, name).as_bytes(), name, value].concat())
            }
            Self::List { size } => (LIST, size.to_le_bytes().to_vec()),
            Self::Remove { name } => (REMOVE, name.to_vec()),
        };
        Io::Msg { mgrid: MGRID, subtype, data: &data }.to_bytes()
    }

    /// The message for the extra of a connect, and what is to stand behind the connect: a value that is too long for the extra.
    #[must_use]
    pub fn emit_for_connect(&self) -> (Vec<u8>, &'a [u8]) {
        match *self {
            Self::Set { name, value, flags } if value.len() > INSIDE_MAX => {
                let head = SetBehindHead {
                    head: SetHead::new(flags, name),
                    value_len: U32::new(u32::try_from(value.len()).unwrap_or(u32::MAX)),
                };
                let data = [head.as_bytes(), name].concat();
                (Io::Msg { mgrid: MGRID, subtype: SET_BEHIND, data: &data }.to_bytes(), value)
            }
            _ => (self.emit(), &[]),
        }
    }

    /// True when it would change the file.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(self, Self::Set { .. } | Self::Remove { .. })
    }
}

impl SetHead {
    fn new(flags: u32, name: &[u8]) -> Self {
        let name_len = U16::new(u16::try_from(name.len()).unwrap_or(u16::MAX));
        Self { flags: U32::new(flags), name_len, zero: U16::ZERO }
    }

    fn flags(&self) -> Result<u32, ParseError> {
        match self.flags.get() {
            flags @ 0..=REPLACE => Ok(flags),
            flags => Err(ParseError::Invalid { what: "setxattr flags", value: flags.into() }),
        }
    }
}

/// What stands behind an `_IO_CONNECT` message.
#[must_use]
pub fn behind(connect: &[u8]) -> &[u8] {
    Connect::declared_len(connect).ok().and_then(|len| connect.get(len..)).unwrap_or_default()
}

fn bounded(value: &[u8]) -> Result<&[u8], ParseError> {
    if value.len() > VALUE_MAX {
        return Err(ParseError::Invalid { what: "length of an attribute", value: value.len() as u64 });
    }
    Ok(value)
}

fn checked(name: &[u8]) -> Result<&[u8], ParseError> {
    if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
        return Err(ParseError::Invalid { what: "name of an attribute", value: name.len() as u64 });
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::super::Identity;
    use super::*;
    use crate::{Extra, Link, Timestamp, chain};

    fn parse(bytes: &[u8]) -> Result<Request<'_>, ParseError> {
        let (subtype, data) = Io::parse_for(MGRID, bytes)?;
        Request::parse(subtype, data, &[])
    }

    #[test]
    fn requests_are_read_as_they_were_written() {
        let value = [7; VALUE_MAX];
        for request in [
            Request::Get { name: b"user.colour", size: 4096 },
            Request::Set { name: b"user.colour", value: b"red\0green", flags: CREATE },
            Request::Set { name: &[b'n'; NAME_MAX], value: &value, flags: 0 },
            Request::Set { name: b"user.empty", value: b"", flags: REPLACE },
            Request::List { size: 0 },
            Request::Remove { name: b"user.colour" },
        ] {
            assert_eq!(parse(&request.emit()), Ok(request));
        }
    }

    #[test]
    fn a_value_that_does_not_fit_into_a_connect_stands_behind_it() {
        let (name, value) = ([b'n'; NAME_MAX], [7; VALUE_MAX]);
        for (len, outside) in
            [(0, 0), (INSIDE_MAX, 0), (INSIDE_MAX + 1, INSIDE_MAX + 1), (VALUE_MAX, VALUE_MAX)]
        {
            let request = Request::Set { name: &name, value: &value[..len], flags: CREATE };
            let (message, rest) = request.emit_for_connect();
            assert_eq!(rest.len(), outside, "of {len}");
            let mut chained = Vec::new();
            let born = Timestamp { seconds: i64::MAX, nanoseconds: 0 };
            let identity = Identity { file_type: 0, device: (0, 0), ino: 0, born };
            super::super::Request::Expect(identity).emit(Link::Follows, &mut chained);
            chained.extend_from_slice(&message);
            let path = [b'p'; 4095];
            let connect = Connect::combine_close(&path, false, &chained).emit().expect("it fits");
            let whole = [&connect, rest].concat();
            let Ok(Connect { extra: Extra::Messages(messages), .. }) = Connect::parse(&whole) else {
                panic!()
            };
            let (Io::Msg { subtype, data, .. }, _) = chain(messages).nth(1).unwrap().unwrap() else {
                panic!()
            };
            assert_eq!(Request::parse(subtype, data, behind(&whole)), Ok(request));
            if outside > 0 {
                assert!(Request::parse(subtype, data, &rest[1..]).is_err(), "not all of the value is there");
            }
        }
        let request = Request::Set { name: &name, value: &[7; VALUE_MAX + 1], flags: 0 };
        assert!(parse(&request.emit()).is_err());
    }

    #[test]
    fn names_are_of_a_usable_length_and_without_nul() {
        for name in [&b""[..], &[b'n'; NAME_MAX + 1], b"user.a\0b"] {
            assert!(parse(&Request::Get { name, size: 0 }.emit()).is_err());
            assert!(parse(&Request::Set { name, value: b"", flags: 0 }.emit()).is_err());
            assert!(parse(&Request::Remove { name }.emit()).is_err());
        }
    }

    #[test]
    fn lengths_that_lie_and_flags_that_contradict_are_refused() {
        let mut bytes = Request::Set { name: b"user.x", value: b"", flags: 0 }.emit();
        bytes[12] = 7;
        assert!(parse(&bytes).is_err(), "the name is longer than the message");
        assert!(parse(&Request::Set { name: b"user.x", value: b"", flags: 3 }.emit()).is_err());
        for subtype in GET..=SET_BEHIND {
            for len in 0..4 {
                let result = Request::parse(subtype, &[b'x'; 4][..len], &[]);
                assert!(result.is_err() || subtype == REMOVE, "{subtype:#x} with {len} bytes: {result:?}");
            }
        }
    }
}
