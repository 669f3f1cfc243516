//! What a program of this node gets back from another node, on its way into the program's socket.
//!
//! The core writes a reply's bytes into an [`Inlet`] as they arrive. They gather there into packets as long as the
//! socket allows, which are passed on at once; what is left goes with the reply. All inlets of a client share its
//! [`Allowance`]: with a socket that is not read there is no room, and the other node is told to wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use qnet_ipc::MAX_DATA;
use qnet_proto::{MAX_TRANSFER, Sink};

use super::CallId;

/// Bytes of all replies that may wait for one client.
const LIMIT: usize = 8 * 1024 * 1024;
/// Pieces of one reply that may be open; then the oldest is passed on as it is.
const MAX_OPEN: usize = 32;
/// Empty buffers kept for the next replies of a client.
const MAX_SPARE: usize = 8;

/// Calls with packets that can be passed on.
pub(super) type Ready = Rc<RefCell<Vec<CallId>>>;

/// What the replies of one client may hold.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// Bytes in inlets.
    held: Cell<usize>,
    /// Bytes that inlets keep room for.
    kept: Cell<usize>,
    /// Bytes that wait in the socket's queue.
    queued: Cell<usize>,
    /// Somebody was told that there is little room.
    wanted: Cell<bool>,
    /// Calls with packets that can be passed on, of all clients.
    ready: Ready,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Allowance {
    /// An empty account; calls with something to pass on are named in `ready`.
    pub(super) fn new(ready: &Ready) -> Self {
        Self { ready: Rc::clone(ready), ..Self::default() }
    }

    fn room(&self) -> usize {
        LIMIT.saturating_sub(self.held.get() + self.kept.get() + self.queued.get())
    }

    /// The socket's queue holds so many bytes.
    pub(super) fn set_queued(&self, bytes: usize) {
        self.queued.set(bytes);
    }

    /// Whether there is room again that somebody waits for; told once.
    pub(super) fn has_room_again(&self) -> bool {
        let again = self.wanted.get() && self.room() >= LIMIT / 2;
        if again {
            self.wanted.set(false);
        }
        again
    }

    /// A packet was passed on.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        self.held.set(self.held.get().saturating_sub(buffer.len()));
        let mut spare = self.spare.borrow_mut();
        if spare.len() < MAX_SPARE {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// Bytes that belong together.
#[derive(Debug)]
pub(super) struct Run {
    /// Place in the reply.
    pub(super) offset: u32,
    /// At most [`MAX_DATA`].
    pub(super) bytes: Vec<u8>,
}

/// The part of a reply that was not passed on yet.
#[derive(Debug)]
struct Pieces {
    call: CallId,
    /// Open ones first in, first out.
    open: Vec<Run>,
    full: Vec<Run>,
    /// Bytes that room is kept for.
    kept: usize,
    allowance: Rc<Allowance>,
}

impl Drop for Pieces {
    /// A call that ended without its reply leaves nothing in the account.
    fn drop(&mut self) {
        self.keep(0);
        for run in self.full.drain(..).chain(self.open.drain(..)) {
            self.allowance.give_back(run.bytes);
        }
    }
}

/// One call's reply.
#[derive(Clone, Debug)]
pub(super) struct Inlet {
    pieces: Rc<RefCell<Pieces>>,
    allowance: Rc<Allowance>,
}

impl Inlet {
    pub(super) fn new(call: CallId, allowance: &Rc<Allowance>) -> Self {
        let allowance = Rc::clone(allowance);
        let pieces =
            Pieces { call, open: Vec::new(), full: Vec::new(), kept: 0, allowance: Rc::clone(&allowance) };
        Self { pieces: Rc::new(RefCell::new(pieces)), allowance }
    }

    /// The packets that can be passed on.
    pub(super) fn take_full(&self) -> Vec<Run> {
        std::mem::take(&mut self.pieces.borrow_mut().full)
    }

    /// Everything; the call is over.
    pub(super) fn take_all(&self) -> Vec<Run> {
        let mut pieces = self.pieces.borrow_mut();
        let mut all = std::mem::take(&mut pieces.full);
        all.append(&mut pieces.open);
        all
    }

    /// A packet was passed on.
    pub(super) fn give_back(&self, run: Run) {
        self.allowance.give_back(run.bytes);
    }
}

impl Pieces {
    fn keep(&mut self, bytes: usize) {
        let others = self.allowance.kept.get().saturating_sub(self.kept);
        self.allowance.kept.set(others + bytes);
        self.kept = bytes;
    }

    /// The open piece that ends at `offset` is continued; returns how many bytes went there.
    fn append(&mut self, offset: u32, bytes: &[u8]) -> usize {
        let ends_here = |run: &Run| run.offset as usize + run.bytes.len() == offset as usize;
        let Some(at) = self.open.iter().rposition(ends_here) else { return 0 };
        let run = &mut self.open[at];
        let len = bytes.len().min(MAX_DATA - run.bytes.len());
        run.bytes.extend_from_slice(&bytes[..len]);
        if run.bytes.len() == MAX_DATA {
            let run = self.open.remove(at);
            self.full.push(run);
        }
        len
    }
}

impl Sink for Inlet {
    fn room(&self) -> u64 {
        let room = self.allowance.room();
        if room < MAX_TRANSFER {
            self.allowance.wanted.set(true);
        }
        // The core takes off what it keeps here itself.
        (room + self.pieces.borrow().kept) as u64
    }

    fn keep(&mut self, bytes: u64) {
        self.pieces.borrow_mut().keep(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        // Replies are shorter than 4 GiB.
        let Ok(mut offset) = u32::try_from(offset) else { return };
        let (mut bytes, mut pieces) = (bytes, self.pieces.borrow_mut());
        self.allowance.held.set(self.allowance.held.get() + bytes.len());
        let before = pieces.full.len();
        while !bytes.is_empty() {
            let len = pieces.append(offset, bytes);
            (offset, bytes) = (offset.saturating_add(len as u32), &bytes[len..]);
            if bytes.is_empty() {
                break;
            }
            if pieces.open.len() >= MAX_OPEN {
                let oldest = pieces.open.remove(0);
                pieces.full.push(oldest);
            }
            let buffer = self.allowance.spare.borrow_mut().pop().unwrap_or_default();
            pieces.open.push(Run { offset, bytes: buffer });
        }
        if before == 0 && !pieces.full.is_empty() {
            self.allowance.ready.borrow_mut().push(pieces.call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inlet() -> (Inlet, Rc<Allowance>) {
        let allowance = Rc::new(Allowance::default());
        (Inlet::new(7, &allowance), allowance)
    }

    #[test]
    fn bytes_gather_into_packets_of_the_longest_allowed_length() {
        let (mut inlet, allowance) = inlet();
        let data: Vec<u8> = (0..200_000usize).map(|i| (i / 7) as u8).collect();
        for (i, piece) in data.chunks(1442).enumerate() {
            inlet.write_at((i * 1442) as u64, piece);
        }
        assert_eq!(allowance.ready.take(), [7]);
        let mut all = inlet.take_full();
        assert_eq!(all.iter().map(|run| run.bytes.len()).collect::<Vec<_>>(), [MAX_DATA; 3]);
        all.extend(inlet.take_all());
        let mut copy = vec![0; data.len()];
        for run in all {
            copy[run.offset as usize..][..run.bytes.len()].copy_from_slice(&run.bytes);
            inlet.give_back(run);
        }
        assert_eq!(copy, data);
        assert_eq!(allowance.room(), LIMIT);
    }

    #[test]
    fn pieces_out_of_order_are_all_there_and_few_stay_open() {
        let (mut inlet, _) = inlet();
        for i in (0..1000u64).rev() {
            inlet.write_at(i * 3, &[i as u8, 1, 2]);
        }
        assert!(inlet.pieces.borrow().open.len() <= MAX_OPEN);
        let mut copy = vec![9; 3000];
        for run in inlet.take_all() {
            copy[run.offset as usize..][..run.bytes.len()].copy_from_slice(&run.bytes);
        }
        assert!(copy.chunks(3).enumerate().all(|(i, three)| three == [i as u8, 1, 2]));
    }

    #[test]
    fn inlets_of_one_client_keep_room_for_each_other() {
        let (mut inlet, allowance) = inlet();
        let mut other = Inlet::new(8, &allowance);
        inlet.keep(LIMIT as u64 - 10);
        assert_eq!((inlet.room(), other.room()), (LIMIT as u64, 10));
        inlet.keep(100);
        inlet.write_at(0, &[1; 50]);
        assert_eq!(other.room(), LIMIT as u64 - 150);
        other.keep(50);
        drop(inlet);
        assert_eq!(other.room(), LIMIT as u64, "what an ended call kept is free");
    }

    #[test]
    fn room_that_was_wanted_is_told_of_when_it_is_there() {
        let (mut inlet, allowance) = inlet();
        let data = vec![1; LIMIT - 1000];
        inlet.write_at(0, &data);
        assert_eq!(inlet.room(), 1000);
        assert!(!allowance.has_room_again());
        for run in inlet.take_all() {
            inlet.give_back(run);
        }
        allowance.set_queued(LIMIT - 1000);
        assert!(!allowance.has_room_again(), "it only moved on");
        allowance.set_queued(0);
        assert!(allowance.has_room_again() && !allowance.has_room_again());
    }
}
