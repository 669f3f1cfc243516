//! What a file system tells of itself: the reply to STATVFS.
//!
//! ```text
//!  0 blocks u64   8 free u64   16 available u64   24 files u64   32 free files u64
//! 40 block size u32   44 fragment size u32   48 name max u32   52 flags u32           (56 bytes)
//! ```

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{ParseError, take};

/// A file system's figures, as `statvfs` gives them; blocks are counted in `fragment` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statvfs {
    /// Blocks there are.
    pub blocks: u64,
    /// Blocks that are free.
    pub free: u64,
    /// Blocks that are free for users other than root.
    pub available: u64,
    /// Files there can be.
    pub files: u64,
    /// Files that can still be made.
    pub free_files: u64,
    /// Preferred size of a transfer, bytes.
    pub block: u32,
    /// Bytes of a block.
    pub fragment: u32,
    /// Longest name, bytes.
    pub name_max: u32,
    /// Bits of this module: what cannot be done there.
    pub flags: u32,
}

impl Statvfs {
    /// [`Statvfs::flags`]: nothing can be changed, by the file system or for the caller's node.
    pub const READ_ONLY: u32 = 1;
    /// Bytes of a reply.
    pub const LEN: usize = size_of::<Wire>();

    /// Reads a reply.
    ///
    /// # Errors
    /// It is too short.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (Wire { counts, sizes }, _) = take(bytes, "STATVFS reply")?;
        let [blocks, free, available, files, free_files] = counts.map(U64::get);
        let [block, fragment, name_max, flags] = sizes.map(U32::get);
        Ok(Self { blocks, free, available, files, free_files, block, fragment, name_max, flags })
    }

    /// The reply's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { blocks, free, available, files, free_files, block, fragment, name_max, flags } = *self;
        let counts = [blocks, free, available, files, free_files].map(U64::new);
        let sizes = [block, fragment, name_max, flags].map(U32::new);
        Wire { counts, sizes }.as_bytes().to_vec()
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Wire {
    counts: [U64; 5],
    sizes: [U32; 4],
}
