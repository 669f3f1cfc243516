//! Messages on an open connection: READ, WRITE, STAT, LSEEK, CLOSE and the rest.
//!
//! Each begins with its type and `combine_len`: the size of its structure, and in bit 15 whether
//! another message follows right behind it. A chain is walked with [`chain`], built by emitting one
//! message after the other with [`Link::Follows`].
//!
//! READ and WRITE may carry an offset of their own (xtype OFFSET), which makes them pread and pwrite.
//! The data of a WRITE, DEVCTL or MSG is what follows the structure in the same message.

use zerocopy::little_endian::{I32, I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{ParseError, take};

/// The first 16 bits of a message.
pub mod message_type {
    /// Turn a path into a connection; see [`crate::connect`].
    pub const CONNECT: u16 = 0x100;
    /// Read data or directory entries.
    pub const READ: u16 = 0x101;
    /// Write data.
    pub const WRITE: u16 = 0x102;
    /// Attributes.
    pub const STAT: u16 = 0x104;
    /// Device control.
    pub const DEVCTL: u16 = 0x106;
    /// A limit of the file system.
    pub const PATHCONF: u16 = 0x108;
    /// Move the file's position.
    pub const LSEEK: u16 = 0x109;
    /// Change permissions.
    pub const CHMOD: u16 = 0x10a;
    /// Change the owner.
    pub const CHOWN: u16 = 0x10b;
    /// Change times.
    pub const UTIME: u16 = 0x10c;
    /// Open what a descriptor names once more.
    pub const OPENFD: u16 = 0x10d;
    /// Allocate or free space.
    pub const SPACE: u16 = 0x110;
    /// A manager's own message; see [`crate::netmgr`].
    pub const MSG: u16 = 0x113;
    /// A connection was duplicated.
    pub const DUP: u16 = 0x115;
    /// The connection is closed.
    pub const CLOSE: u16 = 0x116;
    /// Write what is buffered to the medium.
    pub const SYNC: u16 = 0x119;
    /// First and last type that belongs to `_IO_` messages.
    pub const RANGE: core::ops::RangeInclusive<u16> = 0x100..=0x1ff;
}

/// Bit of `combine_len`: another message follows.
pub const COMBINE_FLAG: u16 = 0x8000;

/// Low byte of `xtype`.
const XTYPE_MASK: u32 = 0xff;
/// The message carries its own offset.
pub const XTYPE_OFFSET: u32 = 5;
/// Read with a minimum, a time and a timeout (terminals).
pub const XTYPE_READCOND: u32 = 1;
/// Directory entries shall carry the file's type ([`crate::dirent`]).
pub const XTYPE_DIR_EXTRA_HINT: u32 = 0x100;
/// Ours, beside the hint: directory entries shall carry all attributes.
pub const XTYPE_DIR_ATTRIBUTES: u32 = 0x200;
/// Ours, for a WRITE: to the end of the file, wherever that is. The offset beside it is where the caller believes the end to be,
/// for a server that does not know the bit.
pub const XTYPE_APPEND: u32 = 0x1000;
/// This message alone does not wait.
pub const XTYPE_NONBLOCK: u32 = 0x4000;

/// Whether another message follows in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// This is the last one.
    Last,
    /// Another one follows right behind it.
    Follows,
}

/// Where LSEEK counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// From the beginning.
    Set,
    /// From the present position.
    Current,
    /// From the end.
    End,
}

/// One message on an open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io<'a> {
    /// `_IO_READ`; the reply's status is the number of bytes.
    Read {
        /// Bytes wanted.
        nbytes: u32,
        /// Type and modifier bits, without OFFSET (the field below says it).
        xtype: u32,
        /// Where to read; `None` is the connection's position. For a directory: a cookie.
        offset: Option<u64>,
    },
    /// `_IO_WRITE`; the reply's status is the number of bytes written.
    Write {
        /// Bytes to be written, which may be more than `data` holds.
        nbytes: u32,
        /// As in `Read`.
        xtype: u32,
        /// As in `Read`.
        offset: Option<u64>,
        /// The bytes that came with this part of the message.
        data: &'a [u8],
    },
    /// `_IO_STAT`; the reply is a [`crate::StatReply`].
    Stat,
    /// `_IO_CLOSE`.
    Close,
    /// `_IO_LSEEK`; the reply is the new position, 8 bytes (nothing when it is not the last message).
    Lseek {
        /// Where the offset counts from.
        whence: Whence,
        /// Bytes, or a directory cookie.
        offset: i64,
    },
    /// `_IO_SYNC`.
    Sync {
        /// `IOFLAG_DSYNC`, `IOFLAG_SYNC` or `IOFLAG_RSYNC`.
        flag: u32,
    },
    /// `_IO_DEVCTL`.
    Devctl {
        /// Command, class, size and direction.
        dcmd: u32,
        /// Bytes the client sends or accepts.
        nbytes: u32,
        /// What it sends.
        data: &'a [u8],
    },
    /// `_IO_PATHCONF`; the reply's status is the value.
    Pathconf {
        /// Which limit (`PC_*`).
        name: u16,
    },
    /// `_IO_CHMOD`.
    Chmod {
        /// New permissions.
        mode: u32,
    },
    /// `_IO_CHOWN`; -1 (`u32::MAX`) leaves one as it is.
    Chown {
        /// New group.
        gid: u32,
        /// New owner.
        uid: u32,
    },
    /// `_IO_UTIME`.
    Utime {
        /// Both times are now; the others are ignored.
        now: bool,
        /// Access time, seconds.
        atime: u32,
        /// Modification time, seconds.
        mtime: u32,
    },
    /// `_IO_SPACE`.
    Space {
        /// Of [`space`].
        subtype: u16,
        /// Where `start` counts from.
        whence: u16,
        /// First byte.
        start: u64,
        /// Bytes.
        len: u64,
    },
    /// `_IO_MSG`, a manager's own message.
    Msg {
        /// Which manager.
        mgrid: u16,
        /// Its own number.
        subtype: u16,
        /// Its data.
        data: &'a [u8],
    },
    /// `_IO_DUP`: one more user of the connection.
    Dup,
}

/// Subtypes of SPACE.
pub mod space {
    /// Allocate the range; the file grows when it ends behind its end.
    pub const ALLOCATE: u16 = 110;
    /// Free the range; with a length of 0 the file ends at `start` (`ftruncate`).
    pub const FREE: u16 = 111;
}

/// Names of PATHCONF limits.
pub mod pathconf {
    /// Links to a file.
    pub const LINK_MAX: u16 = 1;
    /// Bytes in a name.
    pub const NAME_MAX: u16 = 4;
    /// Bytes in a path.
    pub const PATH_MAX: u16 = 5;
    /// Bytes written to a FIFO in one piece.
    pub const PIPE_BUF: u16 = 6;
    /// Long names are an error.
    pub const NO_TRUNC: u16 = 7;
    /// Only root may give files away.
    pub const CHOWN_RESTRICTED: u16 = 9;
    /// Bits of a file's size.
    pub const FILESIZEBITS: u16 = 16;
    /// Bytes in a symbolic link.
    pub const SYMLINK_MAX: u16 = 17;
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    kind: U16,
    combine_len: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Transfer {
    nbytes: U32,
    xtype: U32,
    zero: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Seek {
    whence: U16,
    zero: U16,
    offset: I64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SpaceBody {
    subtype: U16,
    whence: U16,
    start: U64,
    len: U64,
}

/// Bytes of a DUP message: head, `_msg_info`, reserved, key.
const DUP_LEN: usize = 60;

/// The type of a message, if there are two bytes.
#[must_use]
pub fn peek_type(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes([*bytes.first()?, *bytes.get(1)?]))
}

/// Walks the messages of a chain. A message that cannot be read is the last item.
pub fn chain(bytes: &[u8]) -> impl Iterator<Item = Result<(Io<'_>, Link), ParseError>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.take()?;
        Some(Io::parse(bytes).map(|(io, follows)| {
            rest = follows;
            (io, if follows.is_some() { Link::Follows } else { Link::Last })
        }))
    })
}

/// A body of one 32-bit word, or two.
fn words<const N: usize>(body: &[u8], what: &'static str) -> Result<[u32; N], ParseError> {
    take::<[U32; N]>(body, what).map(|(words, _)| words.map(U32::get))
}

impl<'a> Io<'a> {
    /// Reads a message that must be an `_IO_MSG` for the manager `wanted`: its subtype and data.
    ///
    /// # Errors
    /// As [`Io::parse`]; another type of message; another manager's.
    pub(crate) fn parse_for(wanted: u16, bytes: &'a [u8]) -> Result<(u16, &'a [u8]), ParseError> {
        match Self::parse(bytes)?.0 {
            Self::Msg { mgrid, subtype, data } if mgrid == wanted => Ok((subtype, data)),
            Self::Msg { mgrid, .. } => Err(ParseError::Unknown { what: "mgrid", value: mgrid.into() }),
            io => Err(ParseError::Type { wanted: message_type::MSG, found: io.message_type() }),
        }
    }

    /// Reads the first message of `bytes`; with it come the bytes of the next one, if one follows.
    ///
    /// # Errors
    /// A message that is too short for its structure, an unknown type, or a `combine_len` that ends
    /// inside the structure or behind the message.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, Option<&'a [u8]>), ParseError> {
        let (head, _) = take::<Head>(bytes, "_IO_ message")?;
        let combine_len = head.combine_len.get();
        let (own, next) = if combine_len & COMBINE_FLAG == 0 {
            (bytes, None)
        } else {
            let len = usize::from(combine_len & !COMBINE_FLAG);
            let bad = ParseError::Invalid { what: "combine_len", value: combine_len.into() };
            // shorter than its own head would repeat the same message for ever
            if len < size_of::<Head>() {
                return Err(bad);
            }
            let (own, next) = bytes.split_at_checked(len).ok_or(bad)?;
            (own, Some(next))
        };
        let body = own.get(size_of::<Head>()..).unwrap_or_default();
        Ok((Self::parse_body(head.kind.get(), own, body)?, next))
    }

    fn parse_body(kind: u16, own: &'a [u8], body: &'a [u8]) -> Result<Self, ParseError> {
        Ok(match kind {
            message_type::READ => {
                let (nbytes, xtype, offset, _) = parse_transfer(body, "_IO_READ")?;
                Self::Read { nbytes, xtype, offset }
            }
            message_type::WRITE => {
                let (nbytes, xtype, offset, data) = parse_transfer(body, "_IO_WRITE")?;
                Self::Write { nbytes, xtype, offset, data }
            }
            message_type::STAT => words::<1>(body, "_IO_STAT").map(|_| Self::Stat)?,
            message_type::CLOSE => Self::Close,
            message_type::LSEEK => {
                let (seek, _) = take::<Seek>(body, "_IO_LSEEK")?;
                Self::Lseek { whence: Whence::from_wire(seek.whence.get())?, offset: seek.offset.get() }
            }
            message_type::SYNC => Self::Sync { flag: words::<1>(body, "_IO_SYNC")?[0] },
            message_type::DEVCTL => {
                let (words, data) = take::<[U32; 3]>(body, "_IO_DEVCTL")?;
                Self::Devctl { dcmd: words[0].get(), nbytes: words[1].get(), data }
            }
            message_type::PATHCONF => {
                let (fields, _) = take::<[U16; 2]>(body, "_IO_PATHCONF")?;
                Self::Pathconf { name: fields[0].get() }
            }
            message_type::CHMOD => Self::Chmod { mode: words::<1>(body, "_IO_CHMOD")?[0] },
            message_type::CHOWN => {
                let [gid, uid] = words(body, "_IO_CHOWN")?;
                Self::Chown { gid, uid }
            }
            message_type::UTIME => {
                let [now, atime, mtime] = words(body, "_IO_UTIME")?;
                Self::Utime { now: now != 0, atime, mtime }
            }
            message_type::SPACE => {
                let (space, _) = take::<SpaceBody>(body, "_IO_SPACE")?;
                let (start, len) = (space.start.get(), space.len.get());
                Self::Space { subtype: space.subtype.get(), whence: space.whence.get(), start, len }
            }
            message_type::MSG => {
                let (ids, data) = take::<[U16; 2]>(body, "_IO_MSG")?;
                Self::Msg { mgrid: ids[0].get(), subtype: ids[1].get(), data }
            }
            message_type::DUP if own.len() >= DUP_LEN => Self::Dup,
            message_type::DUP => {
                return Err(ParseError::Short { what: "_IO_DUP", need: DUP_LEN, have: own.len() });
            }
            _ => return Err(ParseError::Unknown { what: "message type", value: kind.into() }),
        })
    }

    /// Appends the message to `out`. With [`Link::Follows`] the next one must be appended right after.
    ///
    /// Data of WRITE, DEVCTL and MSG is counted into `combine_len` only when another message follows,
    /// as QNX does; such data must stay below 32 KiB.
    pub fn emit(&self, link: Link, out: &mut Vec<u8>) {
        let start = out.len();
        let head = Head { kind: U16::new(self.message_type()), combine_len: U16::ZERO };
        out.extend_from_slice(head.as_bytes());
        let data = self.emit_body(out);
        let structure = out.len() - start;
        out.extend_from_slice(data);
        let combine_len = match link {
            Link::Last => structure,
            Link::Follows => (out.len() - start) | usize::from(COMBINE_FLAG),
        };
        debug_assert!(combine_len <= usize::from(u16::MAX), "data too long for a chain");
        if let Some(field) = out.get_mut(start + 2..start + 4) {
            #[expect(clippy::cast_possible_truncation, reason = "documented bound of chained data")]
            field.copy_from_slice(&(combine_len as u16).to_le_bytes());
        }
    }

    /// The message alone.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        self.emit(Link::Last, &mut out);
        out
    }

    /// The fixed part behind the head; what is returned are the message's data.
    fn emit_body(&self, out: &mut Vec<u8>) -> &'a [u8] {
        let mut put =
            |words: &[u32]| words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        match *self {
            Self::Read { nbytes, xtype, offset } => emit_transfer(nbytes, xtype, offset, out),
            Self::Write { nbytes, xtype, offset, data } => {
                emit_transfer(nbytes, xtype, offset, out);
                return data;
            }
            Self::Stat => put(&[0]),
            Self::Close => {}
            Self::Lseek { whence, offset } => {
                let whence = U16::new(whence as u16);
                let seek = Seek { whence, zero: U16::ZERO, offset: I64::new(offset) };
                out.extend_from_slice(seek.as_bytes());
            }
            Self::Sync { flag } => put(&[flag]),
            Self::Devctl { dcmd, nbytes, data } => {
                put(&[dcmd, nbytes, 0]);
                return data;
            }
            Self::Pathconf { name } => put(&[name.into()]),
            Self::Chmod { mode } => put(&[mode]),
            Self::Chown { gid, uid } => put(&[gid, uid]),
            Self::Utime { now, atime, mtime } => put(&[now.into(), atime, mtime]),
            Self::Space { subtype, whence, start, len } => {
                let (subtype, whence) = (U16::new(subtype), U16::new(whence));
                let body = SpaceBody { subtype, whence, start: U64::new(start), len: U64::new(len) };
                out.extend_from_slice(body.as_bytes());
            }
            Self::Msg { mgrid, subtype, data } => {
                put(&[u32::from(mgrid) | u32::from(subtype) << 16]);
                return data;
            }
            Self::Dup => out.extend_from_slice(&[0; DUP_LEN - size_of::<Head>()]),
        }
        &[]
    }

    /// The number of this message's type.
    #[must_use]
    pub fn message_type(&self) -> u16 {
        match self {
            Self::Read { .. } => message_type::READ,
            Self::Write { .. } => message_type::WRITE,
            Self::Stat => message_type::STAT,
            Self::Close => message_type::CLOSE,
            Self::Lseek { .. } => message_type::LSEEK,
            Self::Sync { .. } => message_type::SYNC,
            Self::Devctl { .. } => message_type::DEVCTL,
            Self::Pathconf { .. } => message_type::PATHCONF,
            Self::Chmod { .. } => message_type::CHMOD,
            Self::Chown { .. } => message_type::CHOWN,
            Self::Utime { .. } => message_type::UTIME,
            Self::Space { .. } => message_type::SPACE,
            Self::Msg { .. } => message_type::MSG,
            Self::Dup => message_type::DUP,
        }
    }

    /// True for messages that change a file.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::Chmod { .. }
                | Self::Chown { .. }
                | Self::Utime { .. }
                | Self::Space { .. }
        )
    }
}

impl Whence {
    /// # Errors
    /// [`ParseError::Invalid`] for anything but 0, 1, 2.
    fn from_wire(value: u16) -> Result<Self, ParseError> {
        match value {
            0 => Ok(Self::Set),
            1 => Ok(Self::Current),
            2 => Ok(Self::End),
            _ => Err(ParseError::Invalid { what: "lseek.whence", value: value.into() }),
        }
    }
}

/// (nbytes, xtype without OFFSET, offset, what follows)
type TransferParts<'a> = (u32, u32, Option<u64>, &'a [u8]);

fn parse_transfer<'a>(body: &'a [u8], what: &'static str) -> Result<TransferParts<'a>, ParseError> {
    let (transfer, rest) = take::<Transfer>(body, what)?;
    let (nbytes, xtype) = (transfer.nbytes.get(), transfer.xtype.get());
    match xtype & XTYPE_MASK {
        XTYPE_OFFSET => {
            let (offset, rest) = take::<U64>(rest, what)?;
            Ok((nbytes, xtype & !XTYPE_MASK, Some(offset.get()), rest))
        }
        XTYPE_READCOND => {
            let (_, rest) = take::<[I32; 3]>(rest, what)?;
            Ok((nbytes, xtype, None, rest))
        }
        _ => Ok((nbytes, xtype, None, rest)),
    }
}

fn emit_transfer(nbytes: u32, xtype: u32, offset: Option<u64>, out: &mut Vec<u8>) {
    let kind = if offset.is_some() { xtype & !XTYPE_MASK | XTYPE_OFFSET } else { xtype };
    let transfer = Transfer { nbytes: U32::new(nbytes), xtype: U32::new(kind), zero: U32::ZERO };
    out.extend_from_slice(transfer.as_bytes());
    if let Some(offset) = offset {
        out.extend_from_slice(&offset.to_le_bytes());
    }
    if xtype & XTYPE_MASK == XTYPE_READCOND && offset.is_none() {
        // no minimum, no time, no timeout
        out.extend_from_slice(&[0; 12]);
    }
}
