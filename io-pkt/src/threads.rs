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
//! if the driver ran on loop 0. So a pinned driver that goes wrong or dies costs no chunk and no other use. Protocols run
//! on loop 0. A new interface goes to the loop with the fewest interfaces, the lowest-numbered of these.
//!
//! With `-t 1` there are no threads, and nothing of this is on the way of a frame.

mod channel;
mod packet_loop;
mod proxy;

use std::{
    io,
    rc::Rc,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use mio::{Poll, Waker};

use crate::{core::Core, event_loop::Spin};
pub use channel::{Bell, Far};
use packet_loop::{PacketLoop, Setup};
pub use proxy::{Owned, PinnedDriver};

/// How long `create`, `start` and `stop` may take: some times of what the ABI allows, several drivers share a thread.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long counters may take.
const PATIENCE_STATS: Duration = Duration::from_secs(1);
/// Most packet threads.
pub const MAX_THREADS: u32 = 64;

/// What a thread is asked to do between two of its turns.
type Request = Box<dyn FnOnce(&mut PacketLoop) + Send>;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoAnswer {
    /// The thread is stuck in a module.
    Late,
    /// The thread has ended.
    Ended,
}

/// One packet thread, as loop 0 sees it.
#[derive(Debug)]
pub struct PacketThread {
    number: u32,
    requests: Sender<Request>,
    waker: Arc<Waker>,
    bell: Arc<Bell>,
    stuck: std::cell::Cell<bool>,
    handle: JoinHandle<()>,
}

impl PacketThread {
    fn start(number: u32, core: &Core, spin: Spin) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let (tell, hear) = mpsc::sync_channel(1);
        let setup = Setup {
            clock: core.clock,
            memory: core.pool.borrow().memory(),
            search: core.search.clone(),
            spin,
            inbox,
            main: Arc::clone(&core.waker),
        };
        let run = move || match Poll::new().and_then(|poll| PacketLoop::new(poll, setup)) {
            Ok(packet_loop) => {
                let parts = packet_loop.parts();
                // Nobody listens any more when the daemon ends at this very moment.
                let _ = tell.send(Ok((Arc::clone(&parts.waker), Arc::clone(&parts.bell))));
                packet_loop.run(number);
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        };
        let handle = std::thread::Builder::new().name(format!("packet {number}")).spawn(run)?;
        let (waker, bell) = hear.recv().map_err(|_| io::Error::other("the thread ended at once"))??;
        Ok(Self { number, requests, waker, bell, stuck: std::cell::Cell::new(false), handle })
    }

    /// Has `work` done on the thread, without waiting. False when the thread has ended.
    fn tell(&self, work: impl FnOnce(&mut PacketLoop) + Send + 'static) -> bool {
        let sent = self.requests.send(Box::new(work)).is_ok();
        // Fails only when the daemon ends.
        let _ = self.waker.wake();
        sent
    }

    /// Has `work` done on the thread and waits for the answer, at most for `limit`.
    fn ask<R: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&mut PacketLoop) -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        if self.stuck.get() {
            return Err(NoAnswer::Late);
        }
        let (tell, hear) = mpsc::sync_channel(1);
        self.tell(move |packet_loop| {
            // Too late for whoever asked: the caller has given up.
            let _ = tell.send(work(packet_loop));
        });
        hear.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoAnswer::Late,
            RecvTimeoutError::Disconnected => NoAnswer::Ended,
        })
    }

    /// It did not answer in time: it gets no more interfaces, and nobody waits for it again.
    fn give_up(&self) {
        if !self.stuck.replace(true) {
            tracing::error!(
                "packet thread {} is stuck in a driver; it is left alone from now on",
                self.number
            );
        }
    }

    fn is_usable(&self) -> bool {
        !self.stuck.get() && !self.handle.is_finished()
    }

    /// Ends the thread and waits for that, unless it is stuck.
    fn end(self) {
        if self.ask(PATIENCE, PacketLoop::quit) == Err(NoAnswer::Late) {
            return self.give_up();
        }
        if self.handle.join().is_err() {
            tracing::error!("packet thread {} ended by a panic", self.number);
        }
    }
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

    /// Ends all threads; call it after the uses are gone.
    pub fn end(&mut self) {
        for thread in self.threads.drain(..).rev() {
            if let Ok(thread) = Rc::try_unwrap(thread) {
                thread.end();
            }
        }
    }
}
