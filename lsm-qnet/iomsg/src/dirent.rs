//! Directory entries, as a READ of a directory returns them.
//!
//! ```text
//!  0 ino u64   8 offset u64 (cookie: where the next entry is)
//! 16 reclen i16   18 namelen i16   20 name, NUL, zero bytes up to a multiple of 8
//!    with XTYPE_DIR_EXTRA_HINT: 8 datalen u16, type u16, reserved u32, then datalen bytes
//! ```
//! An entry is never cut: a reply holds as many whole ones as fit. A read with OFFSET continues at a
//! cookie; the cookie 0 is the beginning.
//!
//! The extra we send with the hint has the type [`EXTRA_MODE`] (ours): the file's type as the bits of a
//! mode, and four zero bytes; with XTYPE_DIR_ATTRIBUTES (ours) it is [`EXTRA_STAT`]: the wide structure of a STAT reply.
//! QNX's own extras (a whole `struct stat`) are skipped by this reader.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::flags::S_IFMT;
use crate::stat::WIDE_LEN;
use crate::{ParseError, Stat, pad8, take};

/// Longest name of a directory entry on Linux.
pub const NAME_MAX: usize = 255;

/// Type of the extra that carries the file's type; above QNX's numbers.
pub const EXTRA_MODE: u16 = 0x4c01;

/// Type of the extra that carries all attributes, those of a symbolic link itself.
pub const EXTRA_STAT: u16 = 0x4c02;

const FIXED: usize = size_of::<Fixed>();

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Fixed {
    ino: U64,
    offset: U64,
    reclen: U16,
    namelen: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ExtraHead {
    datalen: U16,
    kind: U16,
    reserved: U32,
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// Inode number.
    pub ino: u64,
    /// Cookie at which reading goes on behind this entry.
    pub next: u64,
    /// The name's bytes.
    pub name: &'a [u8],
    /// The file's type (`S_IFDIR`, …) when the server told it.
    pub file_type: Option<u32>,
    /// All attributes, when the server told them.
    pub stat: Option<Stat>,
}

/// Writes entries until a limit is reached.
#[derive(Debug)]
pub struct DirentWriter {
    out: Vec<u8>,
    limit: usize,
    with_type: bool,
}

impl DirentWriter {
    /// A writer for a reply of at most `limit` bytes; `with_type` is the client's hint.
    #[must_use]
    pub fn new(limit: usize, with_type: bool) -> Self {
        Self { out: Vec::with_capacity(limit.min(4096)), limit, with_type }
    }

    /// Appends an entry; false when it does not fit (then nothing was written) or its name is not
    /// one (empty, longer than the 16-bit fields, with a slash or a NUL).
    pub fn push(&mut self, entry: &Dirent<'_>) -> bool {
        let bare = FIXED + entry.name.len() + 1;
        let padded = bare + pad8(bare);
        let extra = if self.with_type { Extra::of(entry) } else { Extra::None };
        let len = padded + extra.len();
        let bad_name = entry.name.is_empty() || entry.name.iter().any(|b| matches!(b, 0 | b'/'));
        if bad_name || len > i16::MAX as usize || len > self.limit.saturating_sub(self.out.len()) {
            return false;
        }
        let start = self.out.len();
        // both fit: checked against i16::MAX above
        let (reclen, namelen) = (U16::new(len as u16), U16::new(entry.name.len() as u16));
        let fixed = Fixed { ino: U64::new(entry.ino), offset: U64::new(entry.next), reclen, namelen };
        self.out.extend_from_slice(fixed.as_bytes());
        self.out.extend_from_slice(entry.name);
        self.out.resize(start + padded, 0);
        extra.emit(&mut self.out);
        true
    }

    /// How much an entry with a name of `len` bytes takes at most.
    #[must_use]
    pub fn room_for(len: usize) -> usize {
        FIXED + len + 1 + 7 + size_of::<ExtraHead>() + WIDE_LEN
    }

    /// Bytes that are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }

    /// True while nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The reply's data.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// What stands behind a name.
enum Extra {
    None,
    Mode(u32),
    Stat([u8; WIDE_LEN]),
}

impl Extra {
    fn of(entry: &Dirent<'_>) -> Self {
        match (entry.stat, entry.file_type) {
            (Some(stat), _) => Self::Stat(stat.to_wide()),
            (None, Some(mode)) => Self::Mode(mode),
            (None, None) => Self::None,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Mode(_) => size_of::<ExtraHead>() + 8,
            Self::Stat(_) => size_of::<ExtraHead>() + WIDE_LEN,
        }
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u16, data: &[u8]| {
            // both are far shorter than 64 KiB, and multiples of eight
            let datalen = U16::new(data.len() as u16);
            out.extend_from_slice(
                ExtraHead { datalen, kind: U16::new(kind), reserved: U32::ZERO }.as_bytes(),
            );
            out.extend_from_slice(data);
        };
        match self {
            Self::None => {}
            Self::Mode(mode) => put(EXTRA_MODE, &u64::from(*mode).to_le_bytes()),
            Self::Stat(wide) => put(EXTRA_STAT, wide),
        }
    }
}

/// Reads the entries of a reply; the first one that is not valid ends it with an error.
#[derive(Debug, Clone)]
pub struct Dirents<'a> {
    rest: &'a [u8],
}

impl<'a> Dirents<'a> {
    /// The entries in `data`.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    fn parse_one(&self) -> Result<(Dirent<'a>, &'a [u8]), ParseError> {
        let (fixed, _) = take::<Fixed>(self.rest, "dirent")?;
        let reclen = usize::from(fixed.reclen.get());
        let namelen = usize::from(fixed.namelen.get());
        let invalid = |what, value: usize| ParseError::Invalid { what, value: value as u64 };
        let (record, rest) = self.rest.split_at_checked(reclen).ok_or_else(|| invalid("d_reclen", reclen))?;
        let name = record.get(FIXED..FIXED + namelen).ok_or_else(|| invalid("d_namelen", namelen))?;
        if name.is_empty() || name.iter().any(|b| matches!(b, 0 | b'/')) {
            return Err(invalid("d_name", namelen));
        }
        let bare = FIXED + namelen + 1;
        let extras = record.get(bare + pad8(bare)..).unwrap_or_default();
        let (file_type, stat) = find_attributes(extras);
        Ok((Dirent { ino: fixed.ino.get(), next: fixed.offset.get(), name, file_type, stat }, rest))
    }
}

impl<'a> Iterator for Dirents<'a> {
    type Item = Result<Dirent<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.parse_one() {
            Ok((entry, rest)) => {
                self.rest = rest;
                Some(Ok(entry))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// Our extras among those behind the name; each begins at a multiple of eight.
fn find_attributes(mut extras: &[u8]) -> (Option<u32>, Option<Stat>) {
    let mut file_type = None;
    while let Ok((head, rest)) = ExtraHead::read_from_prefix(extras) {
        let len = usize::from(head.datalen.get());
        let Some(data) = rest.get(..len) else { break };
        match head.kind.get() {
            EXTRA_MODE => file_type = file_type.or(first_word(data)),
            EXTRA_STAT => {
                if let Ok(stat) = Stat::parse_wide(data) {
                    return (Some(stat.mode & S_IFMT), Some(stat));
                }
            }
            _ => {}
        }
        extras = rest.get(len + pad8(len)..).unwrap_or_default();
    }
    (file_type, None)
}

fn first_word(data: &[u8]) -> Option<u32> {
    data.first_chunk().map(|word| u32::from_le_bytes(*word))
}
