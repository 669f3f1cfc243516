//! Typed replies to bytes.
//!
//! A reply is one buffer and is written with one `write`. [`Buffer`] leaves room for the header in front of the data, so
//! that file contents arriving from the network are placed where the kernel will read them and are never moved again.

use zerocopy::IntoBytes;

use super::abi::{
    Dirent, EntryOut, FUSE_NOTIFY_INC_EPOCH, FUSE_NOTIFY_INVAL_INODE, FUSE_NOTIFY_POLL, NotifyInvalInode,
    NotifyPollWakeup, OutHeader,
};

/// Bytes of a reply's header.
pub const HEADER: usize = size_of::<OutHeader>();
/// Largest errno the kernel takes in a reply.
const MAX_ERRNO: i32 = 511;

/// A reply that only says how the request ended. `errno` is positive, 0 for success.
///
/// The kernel leaves a request waiting for ever when the answer's errno is out of its range, so a number that came from
/// elsewhere and is none becomes EIO.
pub fn status(unique: u64, errno: i32) -> Vec<u8> {
    let errno = if (0..=MAX_ERRNO).contains(&errno) { errno } else { libc::EIO };
    finish(unique, errno, vec![0; HEADER])
}

/// A successful reply whose body is one structure.
pub fn body(unique: u64, body: &(impl IntoBytes + zerocopy::Immutable)) -> Vec<u8> {
    bytes(unique, body.as_bytes())
}

/// A successful reply whose body is `data`.
pub fn bytes(unique: u64, data: &[u8]) -> Vec<u8> {
    let mut reply = Vec::with_capacity(HEADER + data.len());
    reply.resize(HEADER, 0);
    reply.extend_from_slice(data);
    finish(unique, 0, reply)
}

/// Not an answer but a word to the kernel: the attributes it remembers of `nodeid` are old. Cached data is not touched.
pub fn forget_attributes(nodeid: u64) -> Vec<u8> {
    let notice = NotifyInvalInode { nodeid, offset: -1, len: 0 };
    let len = (HEADER + size_of_val(&notice)) as u32;
    let header = OutHeader { len, error: FUSE_NOTIFY_INVAL_INODE, unique: 0 };
    [header.as_bytes(), notice.as_bytes()].concat()
}

/// A word to the kernel: every name it remembers is to be looked up again. It takes no lock for that, unlike for single names.
pub fn forget_names() -> Vec<u8> {
    OutHeader { len: HEADER as u32, error: FUSE_NOTIFY_INC_EPOCH, unique: 0 }.as_bytes().to_vec()
}

/// The same: whoever polls under this number of the kernel's is to look again.
pub fn wake_poll(kh: u64) -> Vec<u8> {
    let notice = NotifyPollWakeup { kh };
    let len = (HEADER + size_of_val(&notice)) as u32;
    let header = OutHeader { len, error: FUSE_NOTIFY_POLL, unique: 0 };
    [header.as_bytes(), notice.as_bytes()].concat()
}

/// Writes the header into the first bytes of a reply.
fn finish(unique: u64, errno: i32, mut reply: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(reply.len()).expect("replies are bounded by MAX_TRANSFER and a header");
    let header = OutHeader { len, error: -errno, unique };
    reply[..HEADER].copy_from_slice(header.as_bytes());
    reply
}

/// A first piece of this size announces more: room for all of it is made at once.
const LARGE: usize = 32 * 1024;

/// Data that grows behind the room for its header.
#[derive(Debug)]
pub struct Buffer {
    /// Longer than what is used where the memory served before; what stands there then is nobody's.
    bytes: Vec<u8>,
    used: usize,
    limit: usize,
}

impl Buffer {
    /// A buffer for at most `limit` bytes of data. Memory is taken as data comes.
    pub fn new(limit: usize) -> Self {
        Self::reusing(Vec::new(), limit)
    }

    /// The same in memory that was used before.
    pub fn reusing(mut bytes: Vec<u8>, limit: usize) -> Self {
        if bytes.len() < HEADER {
            bytes.resize(HEADER, 0);
        }
        Self { bytes, used: HEADER, limit }
    }

    /// Places `data` at `offset`; bytes beyond the limit are dropped, a gap in front of it reads as zeros.
    pub fn place(&mut self, offset: usize, data: &[u8]) {
        let room = self.room_at(offset, data.len());
        let len = room.len();
        room.copy_from_slice(&data[..len]);
    }

    /// Where `len` bytes at `offset` go, as many as the limit allows; the caller fills all of them. A gap in front reads as
    /// zeros.
    pub fn room_at(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let len = len.min(self.limit.saturating_sub(offset));
        if len == 0 {
            return &mut [];
        }
        if self.used == HEADER && len >= LARGE {
            self.bytes.reserve_exact((HEADER + self.limit).saturating_sub(self.bytes.len()));
        }
        let (start, end) = (HEADER + offset, HEADER + offset + len);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if self.used < start {
            self.bytes[self.used..start].fill(0);
        }
        self.used = self.used.max(end);
        &mut self.bytes[start..end]
    }

    /// Most bytes of data it takes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The data so far.
    pub fn data(&self) -> &[u8] {
        &self.bytes[HEADER..self.used]
    }

    /// Shortens the data to `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.used = self.used.min(HEADER + len.min(self.limit));
    }

    /// The successful reply that carries the data.
    pub fn into_reply(mut self, unique: u64) -> Vec<u8> {
        self.bytes.truncate(self.used);
        finish(unique, 0, self.bytes)
    }
}

/// Entries for a READDIR reply, as many as fit.
#[derive(Debug)]
pub struct Directory {
    bytes: Vec<u8>,
    limit: usize,
}

impl Directory {
    /// Room for `limit` bytes of entries.
    pub fn new(limit: usize) -> Self {
        Self { bytes: vec![0; HEADER], limit: HEADER + limit }
    }

    /// Appends an entry and says whether it fitted. `next` is what the kernel hands back to continue *behind* it; `kind`
    /// is a `DT_*` value.
    #[must_use]
    pub fn push(&mut self, ino: u64, next: u64, kind: u8, name: &[u8]) -> bool {
        let end = (self.bytes.len() + size_of::<Dirent>() + name.len()).next_multiple_of(8);
        let Ok(namelen) = u32::try_from(name.len()) else { return false };
        if end > self.limit {
            return false;
        }
        let head = Dirent { ino, off: next, namelen, kind: u32::from(kind) };
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(name);
        self.bytes.resize(end, 0);
        true
    }

    /// Whether an entry of that name still fits when it brings its attributes.
    pub fn has_room_for_attributes(&self, name: &[u8]) -> bool {
        let len = size_of::<EntryOut>() + size_of::<Dirent>() + name.len();
        (self.bytes.len() + len).next_multiple_of(8) <= self.limit
    }

    /// Like [`Self::push`] for READDIRPLUS. An `entry` with the nodeid 0 says nothing about the file.
    #[must_use]
    pub fn push_with_attributes(
        &mut self,
        entry: &EntryOut,
        ino: u64,
        next: u64,
        kind: u8,
        name: &[u8],
    ) -> bool {
        if !self.has_room_for_attributes(name) {
            return false;
        }
        self.bytes.extend_from_slice(entry.as_bytes());
        self.push(ino, next, kind, name)
    }

    /// The successful reply with the entries; none means the end of the directory.
    pub fn into_reply(self, unique: u64) -> Vec<u8> {
        finish(unique, 0, self.bytes)
    }
}
