//! Packet threads beyond the first (`-t N`): each runs a loop for the drivers that are pinned to it.
//!
//! ```text
//!            loop 0 (main thread)                                        loop k (thread "packet k")
//!  registry ─ protocols ─ switchboard ─ pool's books
//!     │  Use { Pinned }  ──── frames to send, fresh chunks (rings) ───►  Use { Driver } ─ poll ─ transmit
//!     │                  ◄─── received frames, freed chunks (ring) ────
//!     └────────────────── create, start, stats, stop (requests) ──────►  answered within a bounded time
//! ```
//!
//! Loop 0 keeps the books: every chunk that goes to a pinned driver is held by its use, and what comes back is checked as
//! if the driver ran on loop 0. So a pinned driver that goes wrong or dies costs no chunk and no other use.
//!
//! A new interface goes to the loop with the fewest interfaces, the lowest-numbered of these. Protocols run on loop 0, and so
//! do drivers that do not declare `CAP_PARALLEL`.
//!
//! With `-t 1` there are no threads, and nothing of this is on the way of a frame.

mod channel;
mod handle;
mod packet_loop;
mod proxy;
mod pulse;

use std::{io, rc::Rc};

use thiserror::Error;

use crate::{core::Core, event_loop::Spin, pool::Pool};
pub use channel::{Bell, Far};
use handle::PacketThread;
pub use proxy::{Owned, PinnedDriver};
use pulse::End;

/// Most packet threads.
pub const MAX_THREADS: u32 = 64;

/// A packet thread is gone, and what it knew with it: the daemon cannot go on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("packet thread {number} has ended: {reason}")]
pub struct ThreadLost {
    /// Number of the thread.
    pub number: u32,
    /// What ended it.
    pub reason: &'static str,
}

/// All packet threads beyond the first.
#[derive(Debug, Default)]
pub struct Threads {
    threads: Vec<Rc<PacketThread>>,
}

impl Threads {
    /// Starts `loops - 1` threads. Signals should be blocked already.
    ///
    /// # Errors
    /// When a thread or its poller cannot be made; those made so far end.
    pub fn start(loops: u32, core: &Core, spin: Spin) -> io::Result<Self> {
        let mut made = Self::default();
        for number in 1..loops {
            match PacketThread::start(number, core, spin) {
                Ok(thread) => made.threads.push(Rc::new(thread)),
                Err(error) => {
                    made.end();
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    /// True with `-t 1`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// The thread for a new interface; `None` is loop 0, which has `on_main` interfaces.
    #[must_use]
    pub fn choose(&self, on_main: usize) -> Option<Rc<PacketThread>> {
        // Each pinned driver holds its thread.
        let interfaces = |thread: &Rc<PacketThread>| Rc::strong_count(thread) - 1;
        let usable = self.threads.iter().filter(|thread| thread.is_usable());
        usable.min_by_key(|thread| interfaces(thread)).filter(|thread| interfaces(thread) < on_main).cloned()
    }

    /// Looks at what the threads have done without being asked: drivers that went after all give back their chunks.
    ///
    /// # Errors
    /// A thread has ended although nobody told it to.
    pub fn look(&self, pool: &mut Pool) -> Result<(), ThreadLost> {
        self.threads.iter().for_each(|thread| thread.reclaim(pool));
        let lost = self.threads.iter().find_map(|thread| {
            let reason = match thread.accident()? {
                End::Panic => "a panic in io-pkt itself",
                End::Poller | End::Orderly => "its event poller failed",
            };
            Some(ThreadLost { number: thread.number, reason })
        });
        lost.map_or(Ok(()), Err)
    }

    /// Has our own code panic on the first thread.
    #[cfg(test)]
    pub(crate) fn break_first(&self) {
        drop(self.threads[0].request(|_| -> () { panic!("a fault of our own") }));
    }

    /// Ends all threads; call it after the uses are gone.
    pub fn end(&mut self) {
        for thread in self.threads.drain(..).rev() {
            if let Ok(thread) = Rc::try_unwrap(thread) {
                thread.end();
            }
        }
    }
}

#[cfg(test)]
mod tests;
