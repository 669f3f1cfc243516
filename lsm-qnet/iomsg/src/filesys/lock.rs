//! Locks on an open file: byte ranges with an owner (`fcntl`), and whole opens (`flock`). All of it is **ours**.
//!
//! QNX's `_IO_LOCK` knows one owner per connection, the process, and its `flock` structure is not public. Ours names the
//! owner, because one connection of a mounted `/net` stands for all processes of a user:
//!
//! ```text
//! subtypes: 0x30 TEST   0x31 SET   0x32 WAIT (as SET, but waits)   0x33 RELEASE (everything of this owner)
//!
//!  0 mount u64    whose owners these are: a random number, chosen when /net is mounted
//!  8 owner u64    the mount's number for a process (scope 0)
//! 16 start u64   24 end u64     first and last byte; the largest i64: whatever will be there
//! 32 pid u32     of the owner, for who asks with TEST
//! 36 kind u16    1 read, 2 write, 3 unlock
//! 38 scope u16   0 the owner's range, 1 the open itself (start, end and owner mean nothing)
//!
//! reply of TEST: kind u16 (3: nobody is in the way), zero u16, pid u32 (0: not a process of this mount), start u64, end u64
//! ```
//!
//! The others answer with nothing, or with an errno: EAGAIN (SET: taken), EDEADLK, EINTR (WAIT, taken back), ENOLCK.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::MGRID;
use crate::message::Io;
use crate::{ParseError, take};

/// The last byte that a lock can name: it reaches to the end, wherever that will be.
pub const END: u64 = i64::MAX as u64;
/// Bytes of a request behind the head of its message.
pub const REQUEST_LEN: usize = size_of::<Body>();
/// Bytes of a TEST's reply.
pub const HOLDER_LEN: usize = size_of::<HolderBody>();

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Verb {
    /// Say who is in the way.
    Test = 0x30,
    /// Lock or unlock; at once or not at all.
    Set = 0x31,
    /// Lock; wait for whoever is in the way.
    Wait = 0x32,
    /// Unlock everything of the owner: its process has closed the file.
    Release = 0x33,
}

/// What a lock keeps others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Writing; others may read as well.
    Read = 1,
    /// Everything.
    Write = 2,
    /// Nothing: there is no lock.
    Unlock = 3,
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Scope {
    /// An owner holds ranges, through whichever open (`fcntl`).
    Owner = 0,
    /// The open holds all of the file (`flock`).
    Open = 1,
}

/// A request about locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// Who holds it.
    pub scope: Scope,
    /// What kind of lock.
    pub kind: Kind,
    /// Whose owners these are.
    pub mount: u64,
    /// Which owner.
    pub owner: u64,
    /// Its process, by the number that its node knows it by.
    pub pid: u32,
    /// First byte.
    pub start: u64,
    /// Last byte, at most [`END`].
    pub end: u64,
}

/// Who is in the way of a lock, as TEST tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// What he holds; [`Kind::Unlock`]: nobody is in the way, and the rest means nothing.
    pub kind: Kind,
    /// His process; 0 when it is not one of the mount that asks.
    pub pid: u32,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Body {
    mount: U64,
    owner: U64,
    start: U64,
    end: U64,
    pid: U32,
    kind: U16,
    scope: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct HolderBody {
    kind: U16,
    zero: U16,
    pid: U32,
    start: U64,
    end: U64,
}

impl Kind {
    fn from_wire(value: u16) -> Result<Self, ParseError> {
        match value {
            1 => Ok(Self::Read),
            2 => Ok(Self::Write),
            3 => Ok(Self::Unlock),
            _ => Err(ParseError::Invalid { what: "lock kind", value: value.into() }),
        }
    }
}

impl Request {
    /// Reads subtype and data of an `_IO_MSG` with [`MGRID`].
    ///
    /// # Errors
    /// Another subtype, a body that is too short, unknown words in it, or a range that ends before it begins.
    pub fn parse(subtype: u16, data: &[u8]) -> Result<Self, ParseError> {
        let verb = match subtype {
            0x30 => Verb::Test,
            0x31 => Verb::Set,
            0x32 => Verb::Wait,
            0x33 => Verb::Release,
            _ => return Err(ParseError::Unknown { what: "lock subtype", value: subtype.into() }),
        };
        let (body, _) = take::<Body>(data, "lock")?;
        let scope = match body.scope.get() {
            0 => Scope::Owner,
            1 => Scope::Open,
            other => return Err(ParseError::Invalid { what: "lock scope", value: other.into() }),
        };
        let kind = Kind::from_wire(body.kind.get())?;
        let (start, end) = (body.start.get(), body.end.get());
        if start > end || end > END {
            return Err(ParseError::Invalid { what: "lock range", value: start });
        }
        let (mount, owner, pid) = (body.mount.get(), body.owner.get(), body.pid.get());
        Ok(Self { verb, scope, kind, mount, owner, pid, start, end })
    }

    /// The whole `_IO_MSG` message.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let Self { verb, scope, kind, mount, owner, pid, start, end } = *self;
        let body = Body {
            mount: mount.into(),
            owner: owner.into(),
            start: start.into(),
            end: end.into(),
            pid: pid.into(),
            kind: U16::new(kind as u16),
            scope: U16::new(scope as u16),
        };
        Io::Msg { mgrid: MGRID, subtype: verb as u16, data: body.as_bytes() }.to_bytes()
    }
}

impl Holder {
    /// The answer when nobody is in the way.
    pub const NOBODY: Self = Self { kind: Kind::Unlock, pid: 0, start: 0, end: END };

    /// Reads the reply of a TEST.
    ///
    /// # Errors
    /// Too short, an unknown kind, or a range that ends before it begins.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let (body, _) = take::<HolderBody>(data, "holder of a lock")?;
        let (start, end) = (body.start.get(), body.end.get());
        if start > end || end > END {
            return Err(ParseError::Invalid { what: "lock range", value: start });
        }
        Ok(Self { kind: Kind::from_wire(body.kind.get())?, pid: body.pid.get(), start, end })
    }

    /// The reply's bytes.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let Self { kind, pid, start, end } = *self;
        let kind = U16::new(kind as u16);
        let body =
            HolderBody { kind, zero: U16::ZERO, pid: pid.into(), start: start.into(), end: end.into() };
        body.as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request = Request {
        verb: Verb::Wait,
        scope: Scope::Owner,
        kind: Kind::Write,
        mount: 0x1122_3344_5566_7788,
        owner: 9,
        pid: 4242,
        start: 1 << 40,
        end: END,
    };

    fn parse(bytes: &[u8]) -> Result<Request, ParseError> {
        let (subtype, data) = Io::parse_for(MGRID, bytes)?;
        Request::parse(subtype, data)
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_cut_ones_are_refused() {
        let bytes = REQUEST.emit();
        assert_eq!(bytes.len(), 48);
        assert_eq!(parse(&bytes), Ok(REQUEST));
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn ranges_end_where_they_begin_or_later_and_before_the_largest_offset() {
        for (start, end) in [(1, 0), (0, END + 1), (u64::MAX, u64::MAX)] {
            assert!(parse(&Request { start, end, ..REQUEST }.emit()).is_err(), "{start}..={end}");
        }
        assert!(parse(&Request { start: END, end: END, ..REQUEST }.emit()).is_ok());
    }

    #[test]
    fn unknown_words_are_refused() {
        for (at, what) in [(44, "kind"), (46, "scope")] {
            let mut bytes = REQUEST.emit();
            bytes[at] = 77;
            assert!(parse(&bytes).is_err(), "{what}");
        }
        assert!(Request::parse(0x34, &[0; 64]).is_err());
    }

    #[test]
    fn a_holder_is_read_as_it_was_written() {
        let holder = Holder { kind: Kind::Read, pid: 7, start: 5, end: 9 };
        let bytes = holder.emit();
        assert_eq!((bytes.len(), Holder::parse(&bytes)), (HOLDER_LEN, Ok(holder)));
        assert_eq!(Holder::parse(&Holder::NOBODY.emit()), Ok(Holder::NOBODY));
        for len in 0..bytes.len() {
            assert!(Holder::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(Holder::parse(&Holder { start: 9, end: 5, ..holder }.emit()).is_err());
    }
}
