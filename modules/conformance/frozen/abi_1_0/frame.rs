//! Frames in the packet pool.
//!
//! The pool is one shared mapping of equal chunks. A frame lies in one chunk, or in several that follow each other in a
//! batch and are tied by [`FLAG_CONTINUES`]. Only descriptors cross the border; the bytes stay where they are.

use abi_stable::StableAbi;

/// In [`FrameDesc::flags`]: the frame goes on in the next descriptor of the batch. (Bit 0, as in `xdp_desc.options`.)
pub const FLAG_CONTINUES: u16 = 1 << 0;
/// In [`FrameDesc::flags`]: others hold references to this chunk; its bytes must not be written.
pub const FLAG_SHARED: u16 = 1 << 1;

/// The packet pool itself, the only region so far. Other values of [`FrameDesc::region`] are reserved.
pub const REGION_POOL: u16 = 0;

/// One piece of a frame, in the shape of the kernel's `xdp_desc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, StableAbi)]
pub struct FrameDesc {
    /// First byte of the frame, counted from the start of the region. The chunk is `offset / chunk_size`.
    pub offset: u64,
    /// Bytes of this piece.
    pub len: u32,
    /// `FLAG_*`.
    pub flags: u16,
    /// `REGION_*`.
    pub region: u16,
}

/// Where the packet pool is mapped. Valid from `create` until after `destroy`.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct PoolInfo {
    /// `size_of::<PoolInfo>()` of the host.
    pub size: u32,
    /// Bytes of a chunk: 2048 or 4096, never above a page.
    pub chunk_size: u32,
    /// First byte of the pool.
    pub base: *mut u8,
    /// Bytes of the pool, a multiple of `chunk_size`.
    pub len: u64,
    /// Bytes that a fresh chunk leaves free before its frame.
    pub headroom: u32,
    /// The memfd behind the pool (sealed against shrinking and growing), for AF_XDP; owned by the host.
    pub fd: i32,
}
