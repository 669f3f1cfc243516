//! The STAT reply: QNX's `struct stat` and our wide structure behind it.
//!
//! ```text
//!   0 ino u64    8 size u64   16 dev    20 rdev   24 uid    28 gid    32 mtime  36 atime  40 ctime
//!  44 mode      48 nlink      52 blocksize 56 nblocks 60 blksize 64 blocks u64            (72 bytes)
//! ```
//! QNX's times end in 2038 (2106 unsigned) and have no fractions, its device numbers have 32 bits.
//! When the reply buffer has room, 136 more bytes tell the whole truth:
//! ```text
//!  72 size u32   76 magic "Qst1"   80 ino u64   88 size u64   96 blocks u64 (of 512 bytes)
//! 104 mode 108 nlink 112 uid 116 gid 120 dev major 124 dev minor 128 rdev major 132 rdev minor
//! 136 blksize 140 flags 144 atime 160 mtime 176 ctime 192 btime {i64 seconds, u32 ns, u32 0}
//! ```
//! Its `size` is its version: fields are only appended, and a reader takes what it knows.

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{ParseError, take};

/// Bytes of QNX's structure.
pub const QNX_LEN: usize = 72;
/// Bytes of the wide structure as this version writes it.
pub const WIDE_LEN: usize = 136;
/// Bytes of a whole reply.
pub const REPLY_LEN: usize = QNX_LEN + WIDE_LEN;

/// `"Qst1"`: these bytes are the wide structure, and not something else behind QNX's.
const MAGIC: u32 = u32::from_le_bytes(*b"Qst1");

/// [`Stat::flags`]: `btime` holds the time of birth.
pub const FLAG_BTIME: u32 = 1;
/// [`Stat::flags`]: the size does not tell how much can be read (`/proc`, `/sys`, devices).
///
/// Such a file is read without a cache until a read returns nothing.
pub const FLAG_STREAM: u32 = 2;
/// [`Stat::flags`] of an open file: others have it open, too, and it is written.
///
/// It is read and written without a cache, and not mapped as memory that is shared.
pub const FLAG_SHARED: u32 = 4;

/// [`Stat::flags`] of an entry of a directory: it has no extended attributes that the caller could list. Neither an access list nor a
/// security label would be found: ENODATA.
pub const FLAG_BARE: u32 = 8;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// A file's attributes with all their bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes in use.
    pub blocks: u64,
    /// File type and permissions.
    pub mode: u32,
    /// Names of the file.
    pub nlink: u32,
    /// Owner on the serving node.
    pub uid: u32,
    /// Group on the serving node.
    pub gid: u32,
    /// Device that holds the file: (major, minor).
    pub dev: (u32, u32),
    /// Device that the file is: (major, minor).
    pub rdev: (u32, u32),
    /// Preferred size of a transfer.
    pub blksize: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Birth, when `FLAG_BTIME` is set.
    pub btime: Timestamp,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct QnxStat {
    ino: U64,
    size: U64,
    dev: U32,
    rdev: U32,
    uid: U32,
    gid: U32,
    mtime: U32,
    atime: U32,
    ctime: U32,
    mode: U32,
    nlink: U32,
    blocksize: U32,
    nblocks: U32,
    blksize: U32,
    blocks: U64,
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
struct Wide {
    len: U32,
    magic: U32,
    ino: U64,
    size: U64,
    blocks: U64,
    mode: U32,
    nlink: U32,
    uid: U32,
    gid: U32,
    dev: [U32; 2],
    rdev: [U32; 2],
    blksize: U32,
    flags: U32,
    atime: WireTime,
    mtime: WireTime,
    ctime: WireTime,
    btime: WireTime,
}

const _: () = assert!(size_of::<QnxStat>() == QNX_LEN && size_of::<Wide>() == WIDE_LEN);

/// The reply to `_IO_STAT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatReply {
    /// The attributes. From a QNX peer they have QNX's precision.
    pub stat: Stat,
    /// The sender gave the wide structure.
    pub wide: bool,
}

impl StatReply {
    /// Reads a reply.
    ///
    /// # Errors
    /// Fewer than QNX's 72 bytes. A wide structure that is cut or unknown is ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (qnx, rest) = take::<QnxStat>(bytes, "struct stat")?;
        let wide = Wide::read_from_prefix(rest).ok().map(|(wide, _)| wide);
        let wide = wide.filter(|w| w.magic.get() == MAGIC && w.len.get() as usize >= WIDE_LEN);
        Ok(match wide {
            Some(wide) => Self { stat: wide.into(), wide: true },
            None => Self { stat: qnx.into(), wide: false },
        })
    }
}

impl Stat {
    /// The wide structure alone, as directory entries carry it.
    #[must_use]
    pub fn to_wide(&self) -> [u8; WIDE_LEN] {
        zerocopy::transmute!(Wide::from(self))
    }

    /// Reads the wide structure alone.
    ///
    /// # Errors
    /// It is too short, or not one.
    pub fn parse_wide(bytes: &[u8]) -> Result<Self, ParseError> {
        let (wide, _) = take::<Wide>(bytes, "wide stat")?;
        match wide.magic.get() {
            MAGIC => Ok(wide.into()),
            other => Err(ParseError::Invalid { what: "wide stat", value: other.into() }),
        }
    }

    /// The reply for a client that accepts `room` bytes: with the wide structure when it fits.
    ///
    /// The caller cuts the result to `room` when that is less than QNX's 72 bytes.
    #[must_use]
    pub fn emit(&self, room: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(REPLY_LEN);
        out.extend_from_slice(QnxStat::from(self).as_bytes());
        if room >= REPLY_LEN {
            out.extend_from_slice(Wide::from(self).as_bytes());
        }
        out
    }
}

/// Seconds as QNX holds them: 32 bits, unsigned; what lies outside becomes the nearest.
fn qnx_seconds(time: Timestamp) -> U32 {
    U32::new(u32::try_from(time.seconds.max(0)).unwrap_or(u32::MAX))
}

/// Linux's 12 + 20 bits; enough for what travels in QNX's field.
fn qnx_device((major, minor): (u32, u32)) -> U32 {
    U32::new((major & 0xfff) << 20 | minor & 0xf_ffff)
}

impl From<&Stat> for QnxStat {
    fn from(stat: &Stat) -> Self {
        Self {
            ino: U64::new(stat.ino),
            size: U64::new(stat.size),
            dev: qnx_device(stat.dev),
            rdev: qnx_device(stat.rdev),
            uid: U32::new(stat.uid),
            gid: U32::new(stat.gid),
            mtime: qnx_seconds(stat.mtime),
            atime: qnx_seconds(stat.atime),
            ctime: qnx_seconds(stat.ctime),
            mode: U32::new(stat.mode),
            nlink: U32::new(stat.nlink),
            blocksize: U32::new(512),
            nblocks: U32::new(u32::try_from(stat.blocks).unwrap_or(u32::MAX)),
            blksize: U32::new(stat.blksize),
            blocks: U64::new(stat.blocks),
        }
    }
}

impl From<QnxStat> for Stat {
    fn from(qnx: QnxStat) -> Self {
        let time = |seconds: U32| Timestamp { seconds: seconds.get().into(), nanoseconds: 0 };
        let device = |dev: U32| (dev.get() >> 20, dev.get() & 0xf_ffff);
        Self {
            ino: qnx.ino.get(),
            size: qnx.size.get(),
            blocks: qnx.blocks.get(),
            mode: qnx.mode.get(),
            nlink: qnx.nlink.get(),
            uid: qnx.uid.get(),
            gid: qnx.gid.get(),
            dev: device(qnx.dev),
            rdev: device(qnx.rdev),
            blksize: qnx.blksize.get(),
            flags: 0,
            atime: time(qnx.atime),
            mtime: time(qnx.mtime),
            ctime: time(qnx.ctime),
            btime: Timestamp::default(),
        }
    }
}

impl From<Timestamp> for WireTime {
    fn from(time: Timestamp) -> Self {
        Self { seconds: I64::new(time.seconds), nanoseconds: U32::new(time.nanoseconds), zero: U32::ZERO }
    }
}

impl From<WireTime> for Timestamp {
    fn from(time: WireTime) -> Self {
        // a sender's nonsense must not make a caller's arithmetic overflow
        Self { seconds: time.seconds.get(), nanoseconds: time.nanoseconds.get().min(999_999_999) }
    }
}

impl From<&Stat> for Wide {
    fn from(stat: &Stat) -> Self {
        Self {
            len: U32::new(size_of::<Wide>() as u32),
            magic: U32::new(MAGIC),
            ino: U64::new(stat.ino),
            size: U64::new(stat.size),
            blocks: U64::new(stat.blocks),
            mode: U32::new(stat.mode),
            nlink: U32::new(stat.nlink),
            uid: U32::new(stat.uid),
            gid: U32::new(stat.gid),
            dev: [U32::new(stat.dev.0), U32::new(stat.dev.1)],
            rdev: [U32::new(stat.rdev.0), U32::new(stat.rdev.1)],
            blksize: U32::new(stat.blksize),
            flags: U32::new(stat.flags),
            atime: stat.atime.into(),
            mtime: stat.mtime.into(),
            ctime: stat.ctime.into(),
            btime: stat.btime.into(),
        }
    }
}

impl From<Wide> for Stat {
    fn from(wide: Wide) -> Self {
        Self {
            ino: wide.ino.get(),
            size: wide.size.get(),
            blocks: wide.blocks.get(),
            mode: wide.mode.get(),
            nlink: wide.nlink.get(),
            uid: wide.uid.get(),
            gid: wide.gid.get(),
            dev: (wide.dev[0].get(), wide.dev[1].get()),
            rdev: (wide.rdev[0].get(), wide.rdev[1].get()),
            blksize: wide.blksize.get(),
            flags: wide.flags.get(),
            atime: wide.atime.into(),
            mtime: wide.mtime.into(),
            ctime: wide.ctime.into(),
            btime: wide.btime.into(),
        }
    }
}
