//! `_IO_CONNECT`: the message that turns a path into a connection, or acts on a name.
//!
//! ```text
//!  0 type 0x100   2 subtype      4 file_type        8 reply_max  10 entry_max
//! 12 key         16 handle      20 ioflag          24 mode       28 sflag     30 access
//! 32 zero        34 path_len    36 eflag 37 extra_type           38 extra_len
//! 40 path, NUL-terminated (path_len counts the NUL)
//!    0..7 zero bytes up to a multiple of 8, only when extra_len > 0
//!    extra: an `_IO_` message (COMBINE, COMBINE_CLOSE), a link's target, an old name
//! ```
//!
//! Paths are relative to the node's root, without a leading slash; the empty path is the root.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::flags::{IOFLAG_LARGEFILE, IOFLAG_READ, S_IFLNK, S_IFMT};
use crate::message::message_type;
use crate::{BuildError, ParseError, pad8, take, until_nul};

/// The path names a directory (it ended in a slash).
pub const EFLAG_DIR: u8 = 1;
/// The last component is `.` or `..`.
pub const EFLAG_DOT: u8 = 2;
/// The last component is `..`.
pub const EFLAG_DOTDOT: u8 = 4;

/// `file_type`: anything.
pub const FTYPE_ANY: u32 = 0;
/// `file_type`: a regular file or a directory.
pub const FTYPE_FILE: u32 = 1;
/// `file_type`: the name of a channel.
pub const FTYPE_NAME: u32 = 12;

/// Sharing mode of POSIX programs: nothing is denied.
pub const SFLAG_DENY_NONE: u16 = 0x40;

/// `handle` of a request whose `key` is a [guard](crate::filesys::guard()) (ours): no prefix of a QNX node has this number.
const GUARDED: u32 = u32::from_le_bytes(*b"Qgrd");

const EXTRA_NONE: u8 = 0;
const EXTRA_LINK: u8 = 1;
const EXTRA_SYMLINK: u8 = 2;
const EXTRA_RENAME: u8 = 9;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    kind: U16,
    subtype: U16,
    file_type: U32,
    reply_max: U16,
    entry_max: U16,
    key: U32,
    handle: U32,
    ioflag: U32,
    mode: U32,
    sflag: U16,
    access: U16,
    zero: U16,
    path_len: U16,
    eflag: u8,
    extra_type: u8,
    extra_len: U16,
}

/// What an `_IO_CONNECT` is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Subtype {
    /// Connect and act at once (the extra is an `_IO_` message); the connection stays open.
    Combine = 0,
    /// Connect, act, close: one round trip for a stat.
    CombineClose = 1,
    /// Open.
    Open = 2,
    /// Remove a name.
    Unlink = 3,
    /// Give a file another name (the extra is the old one).
    Rename = 4,
    /// Make a directory, FIFO or device; the kind is in `mode`.
    Mknod = 5,
    /// Read a symbolic link; its target is the reply's data.
    Readlink = 6,
    /// Make a link: hard, or symbolic when the extra is a target.
    Link = 7,
    /// Reserved by QNX.
    Unblock = 8,
    /// Mount.
    Mount = 9,
}

impl Subtype {
    /// The subtype with this number.
    ///
    /// # Errors
    /// [`ParseError::Unknown`] for any other number.
    pub fn from_wire(value: u16) -> Result<Self, ParseError> {
        Ok(match value {
            0 => Self::Combine,
            1 => Self::CombineClose,
            2 => Self::Open,
            3 => Self::Unlink,
            4 => Self::Rename,
            5 => Self::Mknod,
            6 => Self::Readlink,
            7 => Self::Link,
            8 => Self::Unblock,
            9 => Self::Mount,
            _ => return Err(ParseError::Unknown { what: "connect.subtype", value: value.into() }),
        })
    }
}

/// What follows the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra<'a> {
    /// Nothing.
    None,
    /// The `_IO_` messages to carry out on the new connection; read them with [`crate::chain`].
    Messages(&'a [u8]),
    /// Target of a symbolic link that is to be made, without a NUL.
    Symlink(&'a [u8]),
    /// Old name of a rename, without a NUL.
    Rename(&'a [u8]),
    /// The connection that a hard link is made from: the 48 bytes of QNX's `_msg_info`.
    Link(&'a [u8]),
    /// Any other kind, with its number.
    Other(u8, &'a [u8]),
}

/// An `_IO_CONNECT` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// What it is for.
    pub subtype: Subtype,
    /// Kind of server wanted, `FTYPE_*`.
    pub file_type: u32,
    /// Bytes of reply that the client accepts; 0 when it says nothing.
    pub reply_max: u16,
    /// Redirections that the client accepts.
    pub entry_max: u16,
    /// Reserved by QNX; ours with a guard ([`Connect::guarded`]).
    pub key: u32,
    /// Handle of the prefix the path was resolved through.
    pub handle: u32,
    /// Open flags, `IOFLAG_*`.
    pub ioflag: u32,
    /// File type and permissions, as the subtype uses them.
    pub mode: u32,
    /// Sharing mode.
    pub sflag: u16,
    /// Access wanted under that mode.
    pub access: u16,
    /// `EFLAG_*`.
    pub eflag: u8,
    /// Path without its NUL.
    pub path: &'a [u8],
    /// What follows the path.
    pub extra: Extra<'a>,
}

impl<'a> Connect<'a> {
    /// A request of the given kind with everything else at its usual value.
    #[must_use]
    pub fn new(subtype: Subtype, path: &'a [u8]) -> Self {
        Self {
            subtype,
            file_type: FTYPE_ANY,
            reply_max: 0,
            entry_max: 0,
            key: 0,
            handle: 0,
            ioflag: IOFLAG_LARGEFILE,
            mode: 0,
            sflag: SFLAG_DENY_NONE,
            access: 0,
            eflag: 0,
            path,
            extra: Extra::None,
        }
    }

    /// Open `path` with `ioflag` (see [`crate::flags::ioflag_from_linux`]); `mode` holds the
    /// permissions of a file that is created.
    #[must_use]
    pub fn open(path: &'a [u8], ioflag: u32, mode: u32) -> Self {
        Self { ioflag, mode, ..Self::new(Subtype::Open, path) }
    }

    /// Connect, carry out `messages`, close; without `follow` a symbolic link itself is meant.
    #[must_use]
    pub fn combine_close(path: &'a [u8], follow: bool, messages: &'a [u8]) -> Self {
        let mode = if follow { 0 } else { S_IFLNK };
        Self { mode, extra: Extra::Messages(messages), ..Self::new(Subtype::CombineClose, path) }
    }

    /// Read the symbolic link `path`.
    #[must_use]
    pub fn readlink(path: &'a [u8]) -> Self {
        Self { mode: S_IFLNK, ioflag: IOFLAG_LARGEFILE | IOFLAG_READ, ..Self::new(Subtype::Readlink, path) }
    }

    /// The same request, to be refused with ESTALE unless the directory that holds the path's last name has this
    /// [guard](crate::filesys::guard()); 0: whichever it is.
    #[must_use]
    pub fn guarded(self, guard: u32) -> Self {
        if guard == 0 { self } else { Self { handle: GUARDED, key: guard, ..self } }
    }

    /// The guard of the directory that holds the path's last name, if there is one.
    #[must_use]
    pub fn guard(&self) -> Option<u32> {
        (self.handle == GUARDED && self.key != 0).then_some(self.key)
    }

    /// True when a symbolic link as the last component is meant itself.
    #[must_use]
    pub fn is_nofollow(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }

    /// Reads a message.
    ///
    /// # Errors
    /// A message that is too short, of another type, of an unknown subtype, whose path has no NUL at
    /// its declared end or a NUL inside, or whose extra is not complete.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, rest) = take::<Header>(bytes, "_IO_CONNECT")?;
        if header.kind.get() != message_type::CONNECT {
            return Err(ParseError::Type { wanted: message_type::CONNECT, found: header.kind.get() });
        }
        let subtype = Subtype::from_wire(header.subtype.get())?;
        let path = parse_path(rest, header.path_len.get())?;
        let extra = parse_extra(bytes, &header, subtype)?;
        Ok(Self {
            subtype,
            file_type: header.file_type.get(),
            reply_max: header.reply_max.get(),
            entry_max: header.entry_max.get(),
            key: header.key.get(),
            handle: header.handle.get(),
            ioflag: header.ioflag.get(),
            mode: header.mode.get(),
            sflag: header.sflag.get(),
            access: header.access.get(),
            eflag: header.eflag,
            path,
            extra,
        })
    }

    /// Length of the whole message whose first bytes these are (40 suffice).
    ///
    /// A server that received only a part learns here how much of it to fetch.
    ///
    /// # Errors
    /// Fewer than 40 bytes.
    pub fn declared_len(bytes: &[u8]) -> Result<usize, ParseError> {
        let (header, _) = take::<Header>(bytes, "_IO_CONNECT")?;
        let end = size_of::<Header>() + usize::from(header.path_len.get());
        let extra = usize::from(header.extra_len.get());
        Ok(if extra > 0 { end + pad8(end) + extra } else { end })
    }

    /// The bytes of this message.
    ///
    /// # Errors
    /// A path or extra that does not fit its 16-bit length, or contains a NUL where it is a text.
    pub fn emit(&self) -> Result<Vec<u8>, BuildError> {
        let path_len = text_len(self.path, "path")?;
        let (extra_type, extra, text) = match self.extra {
            Extra::None => (EXTRA_NONE, &[][..], false),
            Extra::Messages(data) => (EXTRA_NONE, data, false),
            Extra::Symlink(data) => (EXTRA_SYMLINK, data, true),
            Extra::Rename(data) => (EXTRA_RENAME, data, true),
            Extra::Link(data) => (EXTRA_LINK, data, false),
            Extra::Other(kind, data) => (kind, data, false),
        };
        let extra_len = if text {
            text_len(extra, "extra")?
        } else {
            u16::try_from(extra.len()).map_err(|_| too_long("extra", extra.len()))?
        };
        let header = Header {
            kind: U16::new(message_type::CONNECT),
            subtype: U16::new(self.subtype as u16),
            file_type: U32::new(self.file_type),
            reply_max: U16::new(self.reply_max),
            entry_max: U16::new(self.entry_max),
            key: U32::new(self.key),
            handle: U32::new(self.handle),
            ioflag: U32::new(self.ioflag),
            mode: U32::new(self.mode),
            sflag: U16::new(self.sflag),
            access: U16::new(self.access),
            zero: U16::ZERO,
            path_len: U16::new(path_len),
            eflag: self.eflag,
            extra_type,
            extra_len: U16::new(extra_len),
        };
        let mut out = Vec::with_capacity(header.as_bytes().len() + usize::from(path_len) + extra.len() + 8);
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(self.path);
        out.push(0);
        if extra_len > 0 {
            out.resize(out.len() + pad8(out.len()), 0);
            out.extend_from_slice(extra);
            if text {
                out.push(0);
            }
        }
        Ok(out)
    }
}

fn parse_path(rest: &[u8], path_len: u16) -> Result<&[u8], ParseError> {
    let need = usize::from(path_len);
    let text = rest.get(..need).ok_or(ParseError::Short { what: "path", need, have: rest.len() })?;
    match text.split_last() {
        // QNX counts the NUL; a sender that leaves path and NUL away means the root
        None => Ok(&[]),
        Some((0, path)) if !path.contains(&0) => Ok(path),
        Some(_) => Err(ParseError::Invalid { what: "path_len", value: path_len.into() }),
    }
}

fn parse_extra<'a>(bytes: &'a [u8], header: &Header, subtype: Subtype) -> Result<Extra<'a>, ParseError> {
    let need = usize::from(header.extra_len.get());
    if need == 0 {
        return Ok(Extra::None);
    }
    let end = size_of::<Header>() + usize::from(header.path_len.get());
    let start = end + pad8(end);
    let have = bytes.len().saturating_sub(start);
    let data = bytes.get(start..start + need).ok_or(ParseError::Short { what: "extra", need, have })?;
    if matches!(subtype, Subtype::Combine | Subtype::CombineClose) {
        return Ok(Extra::Messages(data));
    }
    Ok(match header.extra_type {
        EXTRA_SYMLINK => Extra::Symlink(until_nul(data, "symlink target")?),
        EXTRA_RENAME => Extra::Rename(until_nul(data, "old name")?),
        EXTRA_LINK => Extra::Link(data),
        EXTRA_NONE if subtype == Subtype::Readlink => Extra::Messages(data),
        other => Extra::Other(other, data),
    })
}

/// Length of a text with its NUL.
fn text_len(text: &[u8], what: &'static str) -> Result<u16, BuildError> {
    if text.contains(&0) {
        return Err(BuildError::Nul { what });
    }
    u16::try_from(text.len() + 1).map_err(|_| too_long(what, text.len()))
}

fn too_long(what: &'static str, len: usize) -> BuildError {
    BuildError::TooLong { what, len, max: usize::from(u16::MAX) }
}
