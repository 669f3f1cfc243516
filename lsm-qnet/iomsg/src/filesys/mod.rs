//! Ours: what QNX's file messages cannot say, as `_IO_MSG` for a manager of ours.
//!
//! A QNX resource manager answers these with ENOSYS, and so does an older node of ours. Two kinds:
//!
//! - on an open file, alone or in a chain: TIMES, ALLOCATE, SEEK, COPY, ACCESS, STATVFS, EXPECT, ENTRIES;
//! - by path: RENAME, LINK. Their message is the only one behind the path of an `_IO_CONNECT` COMBINE_CLOSE (the path is
//!   the *new* name), so each costs one round trip. Nothing is opened for them.
//!
//! ```text
//! subtype  data                                                              reply
//!  1 TIMES     access, modification: {seconds i64, nanoseconds u32, 0 u32}   –
//!  2 ALLOCATE  mode u32, 0 u32, offset u64, len u64                          –
//!  3 SEEK      what u32 (0 data, 1 hole), 0 u32, offset u64                  offset u64
//!  4 COPY      source i32, 0 u32, source offset u64, offset u64, len u64     status: bytes copied
//!  5 ACCESS    mask u32                                                      –
//!  6 STATVFS   –                                                             StatvfsReply
//!  7 EXPECT    device u32, u32, inode u64, birth {i64, u32}, file type u32    –
//!  8 ENTRIES   0 u32, number of names u32, names with a NUL behind each      entries
//! 16 RENAME    flags u32, guard u32, old name, NUL                           STAT's reply
//! 17 LINK      guard u32, old name, NUL                                      STAT's reply
//! 32 to 47: extended attributes ([`xattr`]); 48 to 63: locks ([`lock`]); 64 to 79: special files ([`special`])
//! ```
//! Structures only grow at their end; a reader takes what it knows.

mod entries;
mod expect;
mod guard;
pub mod lock;
pub mod special;
mod statvfs;
#[cfg(test)]
mod tests;
pub mod xattr;

pub use entries::{ENTRIES_MAX, EntryNames};
pub use expect::Identity;
pub use guard::guard;
pub use statvfs::Statvfs;
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::message::{Io, Link, chain};
use crate::{ParseError, Timestamp, take, until_nul};

/// The id of these requests in `_IO_MSG`, one of those that QNX leaves to everybody.
pub const MGRID: u16 = 0xf011;

/// [`Request`]'s numbers.
pub mod subtype {
    /// Set both times with all their bits.
    pub const TIMES: u16 = 1;
    /// Allocate, free or shift space.
    pub const ALLOCATE: u16 = 2;
    /// Find data or a hole.
    pub const SEEK: u16 = 3;
    /// Copy from another open file of the same connection.
    pub const COPY: u16 = 4;
    /// Ask what the caller may do.
    pub const ACCESS: u16 = 5;
    /// The file system of a file.
    pub const STATVFS: u16 = 6;
    /// Nothing more is to be done unless this is the file that is meant.
    pub const EXPECT: u16 = 7;
    /// The attributes of several entries of a directory.
    pub const ENTRIES: u16 = 8;
    /// Rename with flags.
    pub const RENAME: u16 = 16;
    /// Make a hard link.
    pub const LINK: u16 = 17;
    /// Extended attributes.
    pub const ATTRIBUTES: core::ops::RangeInclusive<u16> = 32..=47;
    /// Locks.
    pub const LOCKS: core::ops::RangeInclusive<u16> = 48..=63;
    /// Special files.
    pub const SPECIAL: core::ops::RangeInclusive<u16> = 64..=79;
}

/// [`Request::Allocate`]: how; Linux's values of `FALLOC_FL_*`.
pub mod allocate {
    /// The size stays.
    pub const KEEP_SIZE: u32 = 0x01;
    /// Free the space; together with [`KEEP_SIZE`].
    pub const PUNCH_HOLE: u32 = 0x02;
    /// Take the range out of the file.
    pub const COLLAPSE: u32 = 0x08;
    /// Zeros instead of what was there.
    pub const ZERO: u32 = 0x10;
    /// Put a hole in.
    pub const INSERT: u32 = 0x20;
    /// No sharing with other files.
    pub const UNSHARE: u32 = 0x40;
    /// All that are known.
    pub const ALL: u32 = KEEP_SIZE | PUNCH_HOLE | COLLAPSE | ZERO | INSERT | UNSHARE;
}

/// [`Request::Rename`]: how; Linux's values of `RENAME_*`.
pub mod rename {
    /// The new name must not exist.
    pub const NOREPLACE: u32 = 1;
    /// Both names change places.
    pub const EXCHANGE: u32 = 2;
}

/// [`Request::Access`]: bits of the mask; 0 asks only whether the file is there.
pub mod access {
    /// Execute, or search a directory.
    pub const EXECUTE: u32 = 1;
    /// Write.
    pub const WRITE: u32 = 2;
    /// Read.
    pub const READ: u32 = 4;
}

/// What is to become of a file's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// It stays.
    Omit,
    /// The server's clock.
    Now,
    /// This.
    At(Timestamp),
}

/// What [`Request::Seek`] looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekFor {
    /// The next data at or behind the offset (`SEEK_DATA`).
    Data,
    /// The next hole at or behind it (`SEEK_HOLE`).
    Hole,
}

/// One of our requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Set both times (`utimensat`).
    Times {
        /// Last access.
        atime: SetTime,
        /// Last change of the content.
        mtime: SetTime,
    },
    /// Allocate, free or shift space (`fallocate`).
    Allocate {
        /// Bits of [`allocate`].
        mode: u32,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Find data or a hole; the position of the file stays. The reply is an offset of 8 bytes, ENXIO when there is none.
    Seek {
        /// What is looked for.
        what: SeekFor,
        /// From where on.
        offset: u64,
    },
    /// Copy into this file (`copy_file_range`). The reply's status is the number of bytes, which may be fewer than asked for;
    /// 0 is the end of the source.
    Copy {
        /// The caller's number (coid) of the other open file, of the same connection.
        source: i32,
        /// Where to read.
        source_offset: u64,
        /// Where to write.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Whether the caller may do what the mask says; otherwise the errno says why not.
    Access {
        /// Bits of [`access`].
        mask: u32,
    },
    /// The reply is a [`Statvfs`].
    Statvfs,
    /// In a chain, before what changes a file: ESTALE, and nothing of what follows, if the path has led to another one. Before
    /// a [`Request::Link`] it is the old path that is meant.
    Expect(Identity),
    /// What these names mean in this directory, which need not be open for reading. The status is the length of the entries.
    Entries(EntryNames<'a>),
    /// By path: give the file `old` the name in the CONNECT's path.
    Rename {
        /// Bits of [`rename`].
        flags: u32,
        /// [`guard`] of the directory that holds the old name; 0: whichever it is.
        guard: u32,
        /// The old name, from the node's root, without a NUL.
        old: &'a [u8],
    },
    /// By path: give the file `old` one more name, that in the CONNECT's path. A symbolic link is not followed. The reply is
    /// that of `_IO_STAT`.
    Link {
        /// [`guard`] of the directory that holds the present name; 0: whichever it is.
        guard: u32,
        /// The present name, from the node's root, without a NUL.
        old: &'a [u8],
    },
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireTime {
    seconds: I64,
    nanoseconds: U32,
    zero: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Allocate {
    mode: U32,
    zero: U32,
    offset: U64,
    len: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Seek {
    what: U32,
    zero: U32,
    offset: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Copy {
    source: I32,
    zero: U32,
    source_offset: U64,
    offset: U64,
    len: U64,
}

/// Nanoseconds that mean [`SetTime::Now`] and [`SetTime::Omit`], as `utimensat` has them.
const NOW: u32 = 0x3fff_ffff;
const OMIT: u32 = 0x3fff_fffe;

impl SetTime {
    /// # Errors
    /// Nanoseconds of a second or more.
    fn from_wire(time: WireTime) -> Result<Self, ParseError> {
        match time.nanoseconds.get() {
            NOW => Ok(Self::Now),
            OMIT => Ok(Self::Omit),
            nanoseconds @ ..1_000_000_000 => {
                Ok(Self::At(Timestamp { seconds: time.seconds.get(), nanoseconds }))
            }
            other => Err(ParseError::Invalid { what: "TIMES nanoseconds", value: other.into() }),
        }
    }

    fn to_wire(self) -> WireTime {
        let (seconds, nanoseconds) = match self {
            Self::Omit => (0, OMIT),
            Self::Now => (0, NOW),
            Self::At(time) => (time.seconds, time.nanoseconds),
        };
        WireTime { seconds: I64::new(seconds), nanoseconds: U32::new(nanoseconds), zero: U32::ZERO }
    }
}

impl<'a> Request<'a> {
    /// Reads the fields of an [`Io::Msg`] whose manager is [`MGRID`].
    ///
    /// # Errors
    /// An unknown subtype, data that is too short, a value that means nothing.
    pub fn parse(subtype: u16, data: &'a [u8]) -> Result<Self, ParseError> {
        Ok(match subtype {
            subtype::TIMES => {
                let ([atime, mtime], _) = take::<[WireTime; 2]>(data, "TIMES")?;
                Self::Times { atime: SetTime::from_wire(atime)?, mtime: SetTime::from_wire(mtime)? }
            }
            subtype::ALLOCATE => {
                let (Allocate { mode, offset, len, .. }, _) = take(data, "ALLOCATE")?;
                Self::Allocate { mode: mode.get(), offset: offset.get(), len: len.get() }
            }
            subtype::SEEK => {
                let (Seek { what, offset, .. }, _) = take(data, "SEEK")?;
                let what = match what.get() {
                    0 => SeekFor::Data,
                    1 => SeekFor::Hole,
                    value => return Err(ParseError::Invalid { what: "SEEK for", value: value.into() }),
                };
                Self::Seek { what, offset: offset.get() }
            }
            subtype::COPY => {
                let (Copy { source, source_offset, offset, len, .. }, _) = take(data, "COPY")?;
                let [source_offset, offset, len] = [source_offset, offset, len].map(U64::get);
                Self::Copy { source: source.get(), source_offset, offset, len }
            }
            subtype::ACCESS => Self::Access { mask: take::<U32>(data, "ACCESS")?.0.get() },
            subtype::STATVFS => Self::Statvfs,
            subtype::EXPECT => Self::Expect(Identity::parse(data)?),
            subtype::ENTRIES => Self::Entries(EntryNames::parse(data)?),
            subtype::RENAME => {
                let ([flags, guard], old) = take::<[U32; 2]>(data, "RENAME")?;
                Self::Rename { flags: flags.get(), guard: guard.get(), old: until_nul(old, "old name")? }
            }
            subtype::LINK => {
                let (guard, old) = take::<U32>(data, "LINK")?;
                Self::Link { guard: guard.get(), old: until_nul(old, "old name")? }
            }
            _ => return Err(ParseError::Unknown { what: "filesys subtype", value: subtype.into() }),
        })
    }

    /// Appends the whole `_IO_MSG` to `out`; see [`Io::emit`]. A name must hold no NUL, and at most 4096 bytes.
    pub fn emit(&self, link: Link, out: &mut Vec<u8>) {
        let named = |head: &[u8], name: &[u8]| [head, name, &[0]].concat();
        let (subtype, data) = match *self {
            Self::Times { atime, mtime } => {
                (subtype::TIMES, [atime, mtime].map(SetTime::to_wire).as_bytes().to_vec())
            }
            Self::Allocate { mode, offset, len } => {
                let [offset, len] = [offset, len].map(U64::new);
                let body = Allocate { mode: U32::new(mode), zero: U32::ZERO, offset, len };
                (subtype::ALLOCATE, body.as_bytes().to_vec())
            }
            Self::Seek { what, offset } => {
                let body = Seek { what: U32::new(what as u32), zero: U32::ZERO, offset: U64::new(offset) };
                (subtype::SEEK, body.as_bytes().to_vec())
            }
            Self::Copy { source, source_offset, offset, len } => {
                let [source_offset, offset, len] = [source_offset, offset, len].map(U64::new);
                let body = Copy { source: I32::new(source), zero: U32::ZERO, source_offset, offset, len };
                (subtype::COPY, body.as_bytes().to_vec())
            }
            Self::Access { mask } => (subtype::ACCESS, mask.to_le_bytes().to_vec()),
            Self::Statvfs => (subtype::STATVFS, Vec::new()),
            Self::Expect(identity) => (subtype::EXPECT, identity.emit()),
            Self::Entries(names) => (subtype::ENTRIES, names.emit()),
            Self::Rename { flags, guard, old } => {
                (subtype::RENAME, named([flags, guard].map(U32::new).as_bytes(), old))
            }
            Self::Link { guard, old } => (subtype::LINK, named(&guard.to_le_bytes(), old)),
        };
        Io::Msg { mgrid: MGRID, subtype, data: &data }.emit(link, out);
    }

    /// The whole `_IO_MSG`, alone.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.emit(Link::Last, &mut out);
        out
    }

    /// Whether it names its file by path, and stands alone behind an `_IO_CONNECT`.
    #[must_use]
    pub fn is_by_path(&self) -> bool {
        matches!(self, Self::Rename { .. } | Self::Link { .. })
    }
}

/// The file that a chain's first message says it is for, if it does.
#[must_use]
pub fn expected(messages: &[u8]) -> Option<Identity> {
    match chain(messages).next()? {
        Ok((Io::Msg { mgrid: MGRID, subtype: subtype::EXPECT, data }, _)) => Identity::parse(data).ok(),
        _ => None,
    }
}

/// The request by path that a COMBINE_CLOSE's messages are, if they are one, and the file that a LINK says it is for.
///
/// # Errors
/// It is one of ours, by its number, and not valid.
pub fn by_path(messages: &[u8]) -> Result<Option<(Request<'_>, Option<Identity>)>, ParseError> {
    let expected = expected(messages);
    let mut all = chain(messages);
    let last = if expected.is_some() { all.nth(1) } else { all.next() };
    let Some(Ok((Io::Msg { mgrid: MGRID, subtype, data }, Link::Last))) = last else { return Ok(None) };
    match (subtype, expected) {
        (subtype::RENAME, None) | (subtype::LINK, _) => Ok(Some((Request::parse(subtype, data)?, expected))),
        _ => Ok(None),
    }
}
