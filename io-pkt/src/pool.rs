//! The packet pool: equal chunks in one shared mapping, and who holds references to them.
//!
//! Modules see the bytes and descriptors only. Reference counts and holders live here, outside the shared pages, so
//! that a module that goes wrong cannot forge them:
//!
//! ```text
//!  refs[chunk]              how many references there are in all
//!  held[holder][chunk]      how many of them that use holds; the rest lie in queues of the switchboard
//! ```
//!
//! Every hand-over between a use and the switchboard checks the descriptor and moves a reference, so a use can free
//! or send only what it holds, and everything a dead use held is taken back exactly.

mod sys;

use std::io;

use io_pkt_abi::frame::{FLAG_CONTINUES, FLAG_SHARED, FrameDesc, PoolInfo, REGION_POOL};

/// Size of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Bytes of a chunk: 2048 or 4096.
    pub chunk_size: u32,
    /// Number of chunks.
    pub chunks: u32,
    /// Bytes that a fresh chunk leaves free before its frame.
    pub headroom: u32,
}

impl Default for PoolConfig {
    /// 16 MiB, of which only the pages in use cost memory.
    fn default() -> Self {
        Self { chunk_size: 2048, chunks: 8192, headroom: 128 }
    }
}

/// Somebody who can hold references: one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(usize);

/// Counters of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Requests for a chunk that found none.
    pub exhausted: u64,
    /// Descriptors that named no chunk, or one that the caller does not hold.
    pub bad_descriptors: u64,
    /// Chunks taken back from uses that went without freeing them.
    pub reclaimed: u64,
}

/// The memory of a pool without its books: for the threads that run drivers. It keeps the memory mapped.
#[derive(Clone, Debug)]
pub struct PoolMemory {
    memory: sys::SharedMemory,
    config: PoolConfig,
}

impl PoolMemory {
    /// What modules are told of the pool. The pointers are valid as long as this value lives.
    #[must_use]
    pub fn info(&self) -> PoolInfo {
        PoolInfo {
            size: size_of::<PoolInfo>() as u32,
            chunk_size: self.config.chunk_size,
            base: self.memory.base(),
            len: self.memory.len() as u64,
            headroom: self.config.headroom,
            fd: self.memory.fd(),
        }
    }
}

/// The pool. Lives on the loop thread.
#[derive(Debug)]
pub struct Pool {
    memory: sys::SharedMemory,
    config: PoolConfig,
    shift: u32,
    free: Vec<u32>,
    refs: Box<[u16]>,
    held: Vec<Option<Box<[u16]>>>,
    stats: PoolStats,
}

impl Pool {
    /// Makes a pool in a memfd that can neither shrink nor grow.
    ///
    /// # Errors
    /// `InvalidInput` for a chunk size other than 2048 or 4096, no chunks, or a headroom that leaves no room;
    /// otherwise as memfd_create(2), ftruncate(2), mmap(2).
    pub fn new(config: PoolConfig) -> io::Result<Self> {
        let PoolConfig { chunk_size, chunks, headroom } = config;
        if !matches!(chunk_size, 2048 | 4096) || chunks == 0 || headroom >= chunk_size / 2 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("impossible pool {config:?}")));
        }
        Ok(Self {
            memory: sys::SharedMemory::new(chunk_size as usize * chunks as usize)?,
            config,
            shift: chunk_size.trailing_zeros(),
            // The last one is taken first: low chunks stay warm in the cache and high ones untouched.
            free: (0..chunks).rev().collect(),
            refs: vec![0; chunks as usize].into_boxed_slice(),
            held: Vec::new(),
            stats: PoolStats::default(),
        })
    }

    /// Adds a use that may hold references.
    pub fn register(&mut self) -> Holder {
        let table = vec![0; self.refs.len()].into_boxed_slice();
        match self.held.iter().position(Option::is_none) {
            Some(at) => {
                self.held[at] = Some(table);
                Holder(at)
            }
            None => {
                self.held.push(Some(table));
                Holder(self.held.len() - 1)
            }
        }
    }

    /// Removes a use and takes back what it still holds. Returns the number of references taken back.
    pub fn retire(&mut self, holder: Holder) -> u64 {
        let Some(table) = self.held.get_mut(holder.0).and_then(Option::take) else { return 0 };
        let mut taken = 0;
        for (chunk, &count) in table.iter().enumerate().filter(|(_, count)| **count > 0) {
            taken += u64::from(count);
            self.drop_refs(chunk, count);
        }
        self.stats.reclaimed += taken;
        taken
    }

    /// Takes up to `out.len()` free chunks for a use; returns how many. Each descriptor begins behind the headroom
    /// and spans the rest of its chunk.
    pub fn alloc(&mut self, holder: Holder, out: &mut [FrameDesc]) -> usize {
        let Some(Some(table)) = self.held.get_mut(holder.0) else { return 0 };
        let n = out.len().min(self.free.len());
        self.stats.exhausted += (out.len() - n) as u64;
        let fresh = self.free.drain(self.free.len() - n..);
        for (desc, chunk) in out.iter_mut().zip(fresh.rev()) {
            self.refs[chunk as usize] = 1;
            table[chunk as usize] = 1;
            *desc = FrameDesc {
                offset: (u64::from(chunk) << self.shift) + u64::from(self.config.headroom),
                len: self.config.chunk_size - self.config.headroom,
                flags: 0,
                region: REGION_POOL,
            };
        }
        n
    }

    /// Gives up one reference of a use to each chunk. Descriptors it does not hold are counted and ignored.
    pub fn free(&mut self, holder: Holder, frames: &[FrameDesc]) {
        for desc in frames {
            match self.take_one(holder, desc) {
                Some(chunk) => self.drop_refs(chunk, 1),
                None => self.stats.bad_descriptors += 1,
            }
        }
    }

    /// Takes one more reference for a use to each chunk it holds. Others, and a count that would overflow, are
    /// counted and ignored: the sending of such a frame fails later.
    pub fn retain(&mut self, holder: Holder, frames: &[FrameDesc]) {
        for desc in frames {
            let chunk = self.chunk_of(desc);
            let Some(Some(table)) = self.held.get_mut(holder.0) else { return };
            let count = chunk.and_then(|chunk| table.get_mut(chunk)).filter(|count| **count > 0);
            match (chunk, count) {
                (Some(chunk), Some(count)) if self.refs[chunk] < u16::MAX => {
                    *count += 1;
                    self.refs[chunk] += 1;
                }
                _ => self.stats.bad_descriptors += 1,
            }
        }
    }

    /// Moves one reference to the chunk of `desc` from a use to the switchboard. False, counted, when the use does
    /// not hold it or the descriptor leaves its chunk.
    #[must_use]
    pub fn take_over(&mut self, holder: Holder, desc: &FrameDesc) -> bool {
        let ours = self.take_one(holder, desc).is_some();
        self.stats.bad_descriptors += u64::from(!ours);
        ours
    }

    /// Moves references from the switchboard to a use and tells it which chunks have other holders.
    pub fn hand_over(&mut self, holder: Holder, frames: &mut [FrameDesc]) {
        let Some(Some(table)) = self.held.get_mut(holder.0) else { return };
        for desc in frames {
            let chunk = (desc.offset >> self.shift) as usize;
            table[chunk] += 1;
            let shared = if self.refs[chunk] > 1 { FLAG_SHARED } else { 0 };
            desc.flags = (desc.flags & FLAG_CONTINUES) | shared;
        }
    }

    /// Drops references that the switchboard holds.
    pub fn release(&mut self, frames: &[FrameDesc]) {
        for desc in frames {
            self.drop_refs((desc.offset >> self.shift) as usize, 1);
        }
    }

    /// Takes one more reference for the switchboard to each chunk, to route a frame to one more receiver. False, with
    /// nothing taken, when a count would overflow.
    #[must_use]
    pub fn share(&mut self, frames: &[FrameDesc]) -> bool {
        for (done, desc) in frames.iter().enumerate() {
            let refs = &mut self.refs[(desc.offset >> self.shift) as usize];
            if *refs == u16::MAX {
                self.release(&frames[..done]);
                return false;
            }
            *refs += 1;
        }
        true
    }

    /// The ethertype of a frame whose first piece is `desc`; `None` when the piece ends before it.
    #[must_use]
    pub fn ethertype(&self, desc: &FrameDesc) -> Option<u16> {
        if desc.len < ETHERNET_HEADER { None } else { self.memory.read_be16(desc.offset as usize + 12) }
    }

    /// The memory alone.
    #[must_use]
    pub fn memory(&self) -> PoolMemory {
        PoolMemory { memory: self.memory.clone(), config: self.config }
    }

    /// What modules are told of the pool. The pointers are valid as long as the pool lives.
    #[must_use]
    pub fn info(&self) -> PoolInfo {
        self.memory().info()
    }

    /// A driver on another thread wanted that many chunks more than it had at hand.
    pub fn count_exhausted(&mut self, chunks: u64) {
        self.stats.exhausted += chunks;
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.stats
    }

    /// Chunks that nobody holds.
    #[must_use]
    pub fn free_chunks(&self) -> usize {
        self.free.len()
    }

    /// Size of the pool.
    #[must_use]
    pub fn config(&self) -> PoolConfig {
        self.config
    }

    /// References that a use holds at the moment.
    #[must_use]
    pub fn held_by(&self, holder: Holder) -> u64 {
        let table = self.held.get(holder.0).and_then(Option::as_ref);
        table.map_or(0, |table| table.iter().map(|&count| u64::from(count)).sum())
    }

    /// The chunk of a descriptor that lies inside one chunk of the pool.
    fn chunk_of(&self, desc: &FrameDesc) -> Option<usize> {
        let size = u64::from(self.config.chunk_size);
        let inside = (desc.offset & (size - 1)) + u64::from(desc.len) <= size;
        let chunk = (desc.offset >> self.shift) as usize;
        (inside && desc.region == REGION_POOL && chunk < self.refs.len()).then_some(chunk)
    }

    fn take_one(&mut self, holder: Holder, desc: &FrameDesc) -> Option<usize> {
        let chunk = self.chunk_of(desc)?;
        let count = self.held.get_mut(holder.0)?.as_mut()?.get_mut(chunk)?;
        *count = count.checked_sub(1)?;
        Some(chunk)
    }

    fn drop_refs(&mut self, chunk: usize, count: u16) {
        let refs = &mut self.refs[chunk];
        *refs -= count;
        if *refs == 0 {
            self.free.push(chunk as u32);
        }
    }
}

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: u32 = 14;

#[cfg(test)]
mod tests;
