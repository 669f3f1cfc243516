//! Fresh chunks kept in stock, so that composing frames one by one costs one call of the host per 64 frames; and, for who
//! wants it, a reserve for the time when the pool is empty.

use std::{collections::VecDeque, fmt};

use crate::{Batch, Host, batch::BATCH};

/// Why a frame could not be composed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The batch has too little room left: send it and try again.
    #[error("the batch is full")]
    Full,
    /// The pool has no free chunk.
    #[error("the packet pool has no free chunk")]
    NoMemory,
    /// The frame does not fit into a batch of 64 chunks.
    #[error("the frame is larger than a batch")]
    TooLarge,
}

/// Chunks in stock; at most 64 are set aside, and the reserve.
pub struct Stock {
    host: Host,
    /// Chunks that were handed over, then fresh ones.
    chunks: Batch,
    used: usize,
    room: usize,
    /// Full batches for when the pool is empty; the last one may be short.
    reserve: VecDeque<Batch>,
    /// Chunks that `reserve` should hold.
    wanted: usize,
}

impl fmt::Debug for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stock({} chunks)", self.chunks.len() - self.used)
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.forget_used();
    }
}

impl Stock {
    /// An empty stock; the first frame fills it.
    #[must_use]
    pub fn new(host: &Host) -> Self {
        let pool = host.pool();
        let room = pool.chunk_size().saturating_sub(pool.headroom());
        Self { host: host.clone(), chunks: host.batch(), used: 0, room, reserve: VecDeque::new(), wanted: 0 }
    }

    /// Wants `chunks` more kept for when the pool is empty; [`Self::replenish`] fetches them.
    pub fn set_reserve(&mut self, chunks: usize) {
        self.wanted = chunks;
    }

    /// Chunks in the reserve.
    #[must_use]
    pub fn in_reserve(&self) -> usize {
        self.reserve.iter().map(Batch::len).sum()
    }

    /// Fetches up to 64 chunks for the reserve if it is not full. Call it now and then; true when more are wanted and
    /// the pool may have them.
    pub fn replenish(&mut self) -> bool {
        let missing = self.wanted.saturating_sub(self.in_reserve());
        if missing == 0 {
            return false;
        }
        let batch = self.host.alloc(missing.min(BATCH));
        let got = batch.len();
        if got > 0 {
            self.reserve.push_back(batch);
        }
        got == BATCH && got < missing
    }

    /// Bytes that fit into one chunk behind its headroom.
    #[must_use]
    pub fn chunk_room(&self) -> usize {
        self.room
    }

    /// Composes a frame from `parts` and appends it to `out`, over several chunks when it is large.
    ///
    /// # Errors
    /// [`PushError`]; then `out` is as it was.
    pub fn push(&mut self, out: &mut Batch, parts: &[&[u8]]) -> Result<(), PushError> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let pieces = self.reserve(out, bytes)?;
        let mut parts = parts.iter().copied();
        let mut part: &[u8] = &[];
        for index in 0..pieces {
            let room = self.room;
            let target = self.chunks.bytes_mut(self.used + index).ok_or(PushError::NoMemory)?;
            let mut at = 0;
            while at < room {
                if part.is_empty() {
                    match parts.next() {
                        Some(next) => part = next,
                        None => break,
                    }
                }
                let count = part.len().min(room - at);
                target[at..at + count].copy_from_slice(&part[..count]);
                part = &part[count..];
                at += count;
            }
            self.finish_piece(index, at, index + 1 < pieces);
        }
        self.hand_over(out, pieces);
        Ok(())
    }

    /// The whole room of the next fresh chunk, to be filled; [`Stock::finish`] makes a frame of it. Asking again gives the
    /// same chunk.
    ///
    /// # Errors
    /// [`PushError::NoMemory`].
    #[inline]
    pub fn begin(&mut self) -> Result<&mut [u8], PushError> {
        self.fill(1)?;
        let (room, at) = (self.room, self.used);
        let chunk = self.chunks.bytes_mut(at).ok_or(PushError::NoMemory)?;
        Ok(&mut chunk[..room])
    }

    /// Appends the chunk that [`Stock::begin`] gave to `out`, as a frame of its first `bytes`.
    ///
    /// # Errors
    /// [`PushError::Full`], and `out` is as it was; [`PushError::NoMemory`] when none was begun.
    #[inline]
    pub fn finish(&mut self, out: &mut Batch, bytes: usize) -> Result<(), PushError> {
        if self.used == self.chunks.len() {
            return Err(PushError::NoMemory);
        }
        if out.room() == 0 {
            return Err(PushError::Full);
        }
        self.finish_piece(0, bytes.min(self.room), false);
        self.hand_over(out, 1);
        Ok(())
    }

    /// Appends a frame of at most one chunk that `fill` writes; it gets the whole room and returns how many bytes it
    /// used.
    ///
    /// # Errors
    /// [`PushError`]; then `out` is as it was and `fill` was not called.
    pub fn push_with(
        &mut self,
        out: &mut Batch,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), PushError> {
        self.reserve(out, 1)?;
        let target = self.begin()?;
        let len = target.len();
        target[..14.min(len)].fill(0);
        let used = fill(target).min(len);
        self.finish(out, used)
    }

    /// Number of chunks for a frame of `bytes`, which are then in stock and have room in `out`.
    fn reserve(&mut self, out: &Batch, bytes: usize) -> Result<usize, PushError> {
        if self.room == 0 {
            return Err(PushError::NoMemory);
        }
        let pieces = bytes.div_ceil(self.room).max(1);
        if pieces > BATCH {
            return Err(PushError::TooLarge);
        }
        if pieces > out.room() {
            return Err(PushError::Full);
        }
        self.fill(pieces)?;
        Ok(pieces)
    }

    /// Makes sure that there are so many fresh chunks.
    #[inline]
    fn fill(&mut self, pieces: usize) -> Result<(), PushError> {
        if self.chunks.len() - self.used >= pieces {
            return Ok(());
        }
        self.forget_used();
        if self.chunks.refill(BATCH) >= pieces || self.draw(pieces) {
            Ok(())
        } else {
            Err(PushError::NoMemory)
        }
    }

    /// Moves what is fresh to the front. Once for 64 chunks: moving it for every frame cost more than composing one.
    fn forget_used(&mut self) {
        self.chunks.forget_first(self.used);
        self.used = 0;
    }

    /// Takes chunks from the reserve until `pieces` are fresh; nothing is used then.
    fn draw(&mut self, pieces: usize) -> bool {
        while self.chunks.len() < pieces {
            let Some(batch) = self.reserve.front_mut() else { return false };
            let count = batch.len().min(self.chunks.room());
            self.chunks.append_raw(&batch.descs()[..count]);
            batch.forget_first(count);
            if batch.is_empty() {
                self.reserve.pop_front();
            }
            if count == 0 {
                return false;
            }
        }
        true
    }

    fn finish_piece(&mut self, index: usize, bytes: usize, continues: bool) {
        self.chunks.set_len(self.used + index, bytes);
        self.chunks.set_continues(self.used + index, continues);
    }

    fn hand_over(&mut self, out: &mut Batch, pieces: usize) {
        out.append_raw(&self.chunks.descs()[self.used..self.used + pieces]);
        self.used += pieces;
    }
}
