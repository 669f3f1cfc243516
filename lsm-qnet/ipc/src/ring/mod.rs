//! The fast path of a connection: packets through shared memory instead of the socket.
//!
//! Two rings of records, one for each direction, and beside each an arena for large data, in one piece of memory
//! ([`memory`]). A record is a packet as it would stand on the socket, in one piece:
//!
//! ```text
//!  0      4     8
//!  | GAP  | len |                                                 nothing, to the end of the ring
//!  | HERE | len | packet of len bytes                                        | 0 to 7 bytes |
//!  | LENT | len | slot | number | offset | bytes | head of len bytes          | 0 to 7 bytes |   the data lies in the arena
//! ```
//!
//! [`Outlet`] writes, [`Inlet`] reads. Neither makes a system call or believes a word of the other process: each number
//! is copied once, then judged, then used ([`Broken`]). Who wakes whom, and when, is the business of [`words`]; the
//! bell itself is a packet on the connection's socket ([`crate::Peer`]).

mod arena;
mod memory;
mod words;

use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{MAX_LENT, MAX_PACKET};
pub use arena::Loan;
use arena::{Books, Entry};
pub(crate) use memory::Direction;
use memory::{Area, Memory, RING, Span};
pub use words::Broken;
use words::{Place, Reader, Writer};

const GAP: u32 = 0x51_4e_00;
const HERE: u32 = 0x51_4e_01;
const LENT: u32 = 0x51_4e_02;

/// Bytes before a packet.
const HEADER: u32 = 8;
/// Bytes that describe a loan.
const LOAN: u32 = 16;
/// Data from here on is lent: below, one more copy is cheaper than the books.
const LEND_FROM: usize = 8 * 1024;
/// A ring that is empty begins again at the front when it is used up to here.
const REWIND: u32 = 32 * 1024;

/// Both directions of one end.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) outlet: Outlet,
    pub(crate) inlet: Arc<Inlet>,
}

impl Ring {
    /// Makes the memory, and a descriptor for the other end.
    pub(crate) fn create(out: Direction) -> io::Result<(Self, OwnedFd)> {
        let (memory, fd) = Memory::create()?;
        Ok((Self::over(memory, out), fd))
    }

    /// Takes the memory that the other end made.
    pub(crate) fn adopt(fd: &OwnedFd, out: Direction) -> io::Result<Self> {
        Ok(Self::over(Memory::adopt(fd)?, out))
    }

    fn over(memory: Memory, out: Direction) -> Self {
        let memory = Arc::new(memory);
        let back = match out {
            Direction::ToServer => Direction::ToClient,
            Direction::ToClient => Direction::ToServer,
        };
        Self { outlet: Outlet::new(Arc::clone(&memory), out), inlet: Arc::new(Inlet::new(memory, back)) }
    }
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct Outlet {
    memory: Arc<Memory>,
    way: Direction,
    writer: Writer,
    books: Books,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// There is no room now. The reader rings when there is.
    Full,
    /// It is in; ring, if `bell`.
    In {
        /// The reader sleeps.
        bell: bool,
    },
}

impl Outlet {
    fn new(memory: Arc<Memory>, way: Direction) -> Self {
        Self { memory, way, writer: Writer::new(RING, REWIND), books: Books::default() }
    }

    /// Writes a packet: its head, and the data behind it (gathered, `len` bytes). More data than fits into a ring goes
    /// only when the arena has room.
    pub(crate) fn push(&mut self, head: &[u8], data: &[IoSlice<'_>], len: usize) -> Result<Pushed, Broken> {
        debug_assert!(len <= MAX_LENT);
        let lent = if len >= LEND_FROM { self.books.take(&self.memory, self.way, len as u32) } else { None };
        let (kind, body, extra) = match lent {
            Some(_) => (LENT, head.len(), LOAN),
            None => (HERE, head.len() + len, 0),
        };
        if body > MAX_PACKET {
            return Ok(Pushed::Full);
        }
        let size = (HEADER + extra + body as u32).next_multiple_of(8);
        let reserved = self.writer.reserve(self.memory.words(self.way), size)?;
        let Some(place) = reserved else {
            if let Some(entry) = lent {
                self.books.undo(entry);
            }
            return Ok(Pushed::Full);
        };
        self.fill(place, kind, head, data, body as u32, lent);
        let words = self.memory.words(self.way);
        Ok(Pushed::In { bell: self.writer.publish(words, place) })
    }

    fn fill(
        &self,
        place: Place,
        kind: u32,
        head: &[u8],
        data: &[IoSlice<'_>],
        body: u32,
        lent: Option<Entry>,
    ) {
        let ring = |offset| Span { area: Area::Ring(self.way), offset };
        if let Some((at, len)) = place.gap {
            self.memory.put(ring(at), numbers([GAP, len]).as_flattened());
        }
        self.memory.put(ring(place.at), numbers([kind, body]).as_flattened());
        let at = place.at + HEADER;
        let (head_at, mut to) = match lent {
            None => (at, ring(at + head.len() as u32)),
            Some(Entry { slot, number, offset, len }) => {
                self.memory.put(ring(at), numbers([slot, number, offset, len]).as_flattened());
                (at + LOAN, Span { area: Area::Arena(self.way), offset })
            }
        };
        self.memory.put(ring(head_at), head);
        for part in data {
            self.memory.put(to, part);
            to.offset += part.len() as u32;
        }
    }

    /// Bytes of the largest data that would be lent now.
    pub(crate) fn room(&mut self) -> usize {
        (self.books.room(&self.memory, self.way) as usize).min(MAX_LENT)
    }
}

/// The receiving half, shared by the one who reads and the one who waits.
#[derive(Debug)]
pub(crate) struct Inlet {
    memory: Arc<Memory>,
    way: Direction,
    reader: Reader,
    /// The socket has something to say.
    socket: AtomicBool,
}

/// A packet that was taken out.
#[derive(Debug)]
pub(crate) struct Popped {
    /// Bytes in the buffer.
    pub(crate) len: usize,
    /// The data, if it stayed where it was.
    pub(crate) loan: Option<Loan>,
}

impl Inlet {
    fn new(memory: Arc<Memory>, way: Direction) -> Self {
        Self { memory, way, reader: Reader::new(RING), socket: AtomicBool::new(true) }
    }

    /// Takes the next packet into `buffer`; large data is copied as well unless `lend`.
    pub(crate) fn pop(&self, buffer: &mut Vec<u8>, lend: bool) -> Result<Option<Popped>, Broken> {
        let words = self.memory.words(self.way);
        while let Some((at, there)) = self.reader.next(words)? {
            let [kind, len] = self.read(at, there, HEADER)?;
            let broken = Broken::Record { kind, len };
            let there = there.min(RING - at);
            let extra = match kind {
                GAP if len == RING - at && len <= there => {
                    self.reader.release(words, len);
                    continue;
                }
                HERE => 0,
                LENT => LOAN,
                _ => return Err(broken),
            };
            if len as usize > MAX_PACKET || (HEADER + extra + len).next_multiple_of(8) > there {
                return Err(broken);
            }
            let loan = match kind {
                LENT => Some(self.loan(at + HEADER)?),
                _ => None,
            };
            let (head, len) =
                (Span { area: Area::Ring(self.way), offset: at + HEADER + extra }, len as usize);
            let copied = loan.as_ref().filter(|_| !lend).map_or(0, Loan::len);
            if buffer.len() < len + copied {
                buffer.resize(len + copied, 0);
            }
            self.memory.get(head, &mut buffer[..len]);
            self.reader.release(words, (HEADER + extra + len as u32).next_multiple_of(8));
            return Ok(Some(match loan {
                Some(loan) if !lend => {
                    loan.copy(0, &mut buffer[len..len + copied]);
                    Popped { len: len + copied, loan: None }
                }
                loan => Popped { len, loan },
            }));
        }
        Ok(None)
    }

    /// The numbers at the head of a record, of which `there` bytes are in the ring.
    fn read<const N: usize>(&self, at: u32, there: u32, need: u32) -> Result<[u32; N], Broken> {
        if there < need || RING - at < need {
            return Err(Broken::Position { distance: there, capacity: RING });
        }
        let mut bytes = [[0; 4]; N];
        self.memory.get(Span { area: Area::Ring(self.way), offset: at }, bytes.as_flattened_mut());
        Ok(bytes.map(u32::from_le_bytes))
    }

    fn loan(&self, at: u32) -> Result<Loan, Broken> {
        let [slot, number, offset, len] = self.read(at, LOAN, LOAN)?;
        Loan::accept(&self.memory, self.way, Entry { slot, number, offset, len })
    }

    /// Whether a packet (or nonsense) is there.
    pub(crate) fn has_more(&self) -> bool {
        self.reader.has_more(self.memory.words(self.way))
    }

    /// Asks to be woken by the bell. `sleep`: nothing is there, and the bell will come with the next packet. `bell`: the
    /// writer has waited for room and must be woken.
    pub(crate) fn arm(&self) -> Armed {
        let words = self.memory.words(self.way);
        let sleep = self.reader.arm(words);
        Armed { sleep, bell: self.reader.is_wanted(words) }
    }

    /// Looks without a barrier whether the writer has waited for room: early, not surely.
    pub(crate) fn is_wanted(&self) -> bool {
        self.reader.is_wanted(self.memory.words(self.way))
    }

    /// No bell is needed now.
    pub(crate) fn disarm(&self) {
        self.reader.disarm(self.memory.words(self.way));
    }

    /// Notes whether the socket may have something to say.
    pub(crate) fn note_socket(&self, speaks: bool) {
        self.socket.store(speaks, Ordering::Relaxed);
    }

    /// Whether the socket may have something to say.
    pub(crate) fn socket_speaks(&self) -> bool {
        self.socket.load(Ordering::Relaxed)
    }
}

/// See [`Inlet::arm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Armed {
    pub(crate) sleep: bool,
    pub(crate) bell: bool,
}

/// Little-endian, as on the socket.
fn numbers<const N: usize>(values: [u32; N]) -> [[u8; 4]; N] {
    values.map(u32::to_le_bytes)
}

#[cfg(test)]
mod tests;
