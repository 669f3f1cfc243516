//! What lies between loop 0 and a pinned driver: three rings, a line for rare news, and doorbells.
//!
//! ```text
//!  Near (loop 0) ── frames ───► Far (the driver's loop)    whole frames to send
//!                ── chunks ───►                            fresh chunks for `alloc`, refilled in batches
//!                ◄── records ──                            deliver, free, retain, in the order of the calls
//!                ◄── notes ────                            interface data, failure: rare, may allocate
//! ```
//!
//! Each ring has one producer and one consumer. What does not fit into `records` waits in a backlog on the driver's side,
//! and the driver is not polled until that is empty. A side that sleeps is woken by its [`Bell`], one that is awake looks
//! by itself.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
        mpsc::{self, Receiver, Sender},
    },
};

use io_pkt_abi::frame::{FLAG_CONTINUES, FrameDesc};
use mio::Waker;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::{interface::InterfaceData, switchboard::BATCH};

/// Room for frames to send: some batches. Further ones wait in the switchboard, which has an eye on the pool.
const FRAMES: usize = 4 * BATCH;
/// Room for calls of the driver.
const RECORDS: usize = 4096;
/// Calls that wait beside a full ring before the driver counts as mad: more than a sound one has chunks for.
const MAX_BACKLOG: usize = 1 << 18;

/// Wakes a loop that sleeps, and costs a loop that does not sleep nothing but a look at a flag.
///
/// The sleeper says that it will sleep and then looks for work once more; the other side makes work and then looks
/// whether the sleeper sleeps. The fences between make sure that one of the two sees the other.
#[derive(Debug)]
pub struct Bell {
    asleep: AtomicBool,
    waker: Arc<Waker>,
}

impl Bell {
    /// A bell for the loop of that waker.
    #[must_use]
    pub fn new(waker: Arc<Waker>) -> Self {
        Self { asleep: AtomicBool::new(false), waker }
    }

    /// There is new work in a ring.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            // Fails only when the daemon ends.
            let _ = self.waker.wake();
        }
    }

    /// The loop is about to sleep; it must look at its rings once more before it does.
    pub fn lie_down(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The loop is awake.
    pub fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// A call of the driver, for loop 0 to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// `deliver`.
    Deliver,
    /// `deliver`, and the call ended in the middle of a frame: what follows does not belong to it.
    Cut,
    /// `free`.
    Free,
    /// `retain`.
    Retain,
}

/// An [`Op`] on one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) op: Op,
    pub(super) desc: FrameDesc,
}

/// Rare news of the driver.
#[derive(Debug)]
pub(super) enum Note {
    /// New data of the interface.
    Interface(InterfaceData),
    /// The driver has failed, with the reason.
    Failed(String),
}

/// What the driver's side tells beside the rings.
#[derive(Debug, Default)]
struct News {
    /// There are notes, or `short` has grown.
    noted: AtomicBool,
    /// Chunks that `alloc` did not have and that nobody has counted yet.
    short: AtomicU64,
}

/// Loop 0's side.
#[derive(Debug)]
pub(super) struct Near {
    pub(super) frames: Producer<FrameDesc>,
    pub(super) chunks: Producer<FrameDesc>,
    pub(super) records: Consumer<Record>,
    notes: Receiver<Note>,
    news: Arc<News>,
    /// Wakes the other side.
    pub(super) far: Arc<Bell>,
}

/// The driver's side. Lives on the driver's thread.
#[derive(Debug)]
pub struct Far {
    frames: Consumer<FrameDesc>,
    chunks: Consumer<FrameDesc>,
    records: Producer<Record>,
    backlog: VecDeque<Record>,
    notes: Sender<Note>,
    news: Arc<News>,
    near: Arc<Bell>,
    /// Something was put in or taken out since the other side was told.
    stirred: bool,
    /// Chunks that `alloc` did not have since the last flush.
    short: u64,
    /// `alloc` found too few chunks since the driver was polled.
    starved: bool,
    mad: bool,
}

/// Makes both sides, with room for `supply` fresh chunks.
pub(super) fn channel(supply: usize, near: Arc<Bell>, far: Arc<Bell>) -> (Near, Far) {
    let (frames, frames_out) = RingBuffer::new(FRAMES);
    let (chunks, chunks_out) = RingBuffer::new(supply);
    let (records_in, records) = RingBuffer::new(RECORDS);
    let (notes_in, notes) = mpsc::channel();
    let news = Arc::new(News::default());
    let far_side = Far {
        frames: frames_out,
        chunks: chunks_out,
        records: records_in,
        backlog: VecDeque::new(),
        notes: notes_in,
        news: Arc::clone(&news),
        near,
        stirred: false,
        short: 0,
        starved: false,
        mad: false,
    };
    (Near { frames, chunks, records, notes, news, far }, far_side)
}

impl Near {
    /// True once after each note, and once after several.
    pub(super) fn take_noted(&self) -> bool {
        self.is_noted() && self.news.noted.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_noted(&self) -> bool {
        self.news.noted.load(Ordering::Relaxed)
    }

    /// Chunks that the driver wanted and that were not at hand since the last time.
    pub(super) fn take_short(&self) -> u64 {
        self.news.short.swap(0, Ordering::Relaxed)
    }

    pub(super) fn next_note(&self) -> Option<Note> {
        self.notes.try_recv().ok()
    }

    /// Puts the first whole frames that fit into the ring; returns how many descriptors that were.
    pub(super) fn push_frames(&mut self, frames: &[FrameDesc]) -> usize {
        let room = self.frames.slots().min(frames.len());
        let whole = whole_frames(&frames[..room]);
        // There is room for them, so all of them go.
        let (pushed, _) = self.frames.push_partial_slice(&frames[..whole]);
        pushed.len()
    }
}

impl Far {
    pub(crate) fn alloc(&mut self, out: &mut [FrameDesc]) -> usize {
        let (taken, missing) = self.chunks.pop_partial_slice(out);
        self.stirred |= !taken.is_empty();
        if !missing.is_empty() {
            self.short += missing.len() as u64;
            self.starved = true;
        }
        taken.len()
    }

    pub(crate) fn free(&mut self, frames: &[FrameDesc]) {
        frames.iter().for_each(|desc| self.record(Op::Free, desc));
    }

    pub(crate) fn retain(&mut self, frames: &[FrameDesc]) {
        frames.iter().for_each(|desc| self.record(Op::Retain, desc));
    }

    pub(crate) fn deliver(&mut self, frames: &[FrameDesc]) {
        let Some((last, others)) = frames.split_last() else { return };
        others.iter().for_each(|desc| self.record(Op::Deliver, desc));
        let whole = last.flags & FLAG_CONTINUES == 0;
        self.record(if whole { Op::Deliver } else { Op::Cut }, last);
    }

    /// Moves the next whole frames to send behind what is in `out`, about `most` descriptors.
    pub(super) fn take_frames(&mut self, out: &mut Vec<FrameDesc>, most: usize) {
        while out.len() < most || out.last().is_some_and(|last| last.flags & FLAG_CONTINUES != 0) {
            let Ok(desc) = self.frames.pop() else { return };
            out.push(desc);
            self.stirred = true;
        }
    }

    /// Moves what waits in the backlog into the ring. True when nothing is left of it.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(record) = self.backlog.front() {
            if self.records.push(*record).is_err() {
                return false;
            }
            self.backlog.pop_front();
            self.stirred = true;
        }
        true
    }

    /// Rings when there is something new for the other side.
    pub(super) fn announce(&mut self) {
        if self.short > 0 {
            self.news.short.fetch_add(std::mem::take(&mut self.short), Ordering::Relaxed);
            self.tell();
        }
        if std::mem::take(&mut self.stirred) {
            self.near.ring();
        }
    }

    /// Passes news on.
    pub(super) fn note(&mut self, note: Note) {
        // The other side goes away only after this one.
        let _ = self.notes.send(note);
        self.tell();
    }

    fn tell(&mut self) {
        self.news.noted.store(true, Ordering::Release);
        self.stirred = true;
    }

    /// True when there is work for the driver's loop: frames to send, room for the backlog, chunks after a dearth.
    pub(super) fn has_news(&self, blocked: bool) -> bool {
        if !self.backlog.is_empty() {
            // Nothing else goes on before this is done.
            return !self.records.is_full();
        }
        (!blocked && !self.frames.is_empty()) || (self.starved && !self.chunks.is_empty())
    }

    /// Frees what the stock has beyond `level` chunks.
    pub(super) fn trim(&mut self, level: usize) {
        while self.chunks.slots() > level
            && let Ok(desc) = self.chunks.pop()
        {
            self.record(Op::Free, &desc);
        }
    }

    /// True once when chunks came after a dearth.
    pub(super) fn take_relief(&mut self) -> bool {
        let relief = self.starved && !self.chunks.is_empty();
        self.starved &= !relief;
        relief
    }

    /// The driver calls without end.
    pub(super) fn is_mad(&self) -> bool {
        self.mad
    }

    /// Takes out everything that the other side has not got: calls that wait, and chunks that the driver never took.
    pub(super) fn leftovers(&mut self) -> Vec<Record> {
        let mut left: Vec<_> = self.backlog.drain(..).collect();
        for ring in [&mut self.frames, &mut self.chunks] {
            while let Ok(desc) = ring.pop() {
                left.push(Record { op: Op::Free, desc });
            }
        }
        left
    }

    fn record(&mut self, op: Op, desc: &FrameDesc) {
        let record = Record { op, desc: *desc };
        if self.backlog.is_empty() && self.records.push(record).is_ok() {
            self.stirred = true;
        } else if self.backlog.len() < MAX_BACKLOG {
            self.backlog.push_back(record);
        } else {
            // Nothing is lost: loop 0's books still say that the driver holds the chunk.
            self.mad = true;
        }
    }
}

/// How many of the descriptors make whole frames.
pub(super) fn whole_frames(frames: &[FrameDesc]) -> usize {
    frames.iter().rposition(|desc| desc.flags & FLAG_CONTINUES == 0).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests;
