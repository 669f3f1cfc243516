//! One packet thread, as loop 0 sees it: requests and answers, with no wait that has no end.
//!
//! A request is a closure that the thread runs between two of its turns. Loop 0 waits for the answer as long as the thread
//! turns, within a limit. A thread that is stuck in a driver is given up: nobody waits for it again, its interfaces are
//! unmounted, and the chunks that its drivers may still write to stay out of the pool. Should it come back, it finds the
//! requests that take its drivers down, and the chunks return ([`Orphan`]).

use std::{
    any::Any,
    cell::{Cell, RefCell},
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use io_pkt_host::CallError;
use mio::{Poll, Waker};

use super::{
    channel::{Bell, Record},
    packet_loop::{PacketLoop, Setup},
    pulse::{End, LOOK, Pulse, STRIKES, Watch},
};
use crate::{
    clock::Clock,
    core::Core,
    event_loop::Spin,
    pool::{Holder, Pool},
    uses::UseId,
};

/// How long the answer to `quit` may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a thread is asked to do between two of its turns.
pub(super) type Request = Box<dyn FnOnce(&mut PacketLoop) + Send>;

/// What comes back of a driver that was taken down: its complaint, and the calls that loop 0 has not carried out.
pub(super) type Ended = (Result<(), CallError>, Vec<Record>);

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The thread is stuck in a module, or takes too long.
    Late,
    /// The thread has ended.
    Ended,
}

/// A driver that is gone for everybody but its thread, which has not answered yet.
#[derive(Debug)]
struct Orphan {
    name: String,
    holder: Holder,
    ended: Receiver<Ended>,
}

/// One packet thread, as loop 0 sees it.
#[derive(Debug)]
pub struct PacketThread {
    pub(super) number: u32,
    pub(super) bell: Arc<Bell>,
    pub(super) pulse: Arc<Pulse>,
    watch: Watch,
    stuck: Cell<bool>,
    orphans: RefCell<Vec<Orphan>>,
    requests: Sender<Request>,
    waker: Arc<Waker>,
    clock: Clock,
    handle: JoinHandle<()>,
}

impl PacketThread {
    pub(super) fn start(number: u32, core: &Core, spin: Spin) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let (tell, hear) = mpsc::sync_channel(1);
        let pulse = Arc::new(Pulse::default());
        let setup = Setup {
            clock: core.clock,
            memory: core.pool.borrow().memory(),
            search: core.search.clone(),
            spin,
            inbox,
            main: Arc::clone(&core.waker),
            pulse: Arc::clone(&pulse),
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
        let (watch, stuck, orphans) = (Watch::default(), Cell::new(false), RefCell::default());
        Ok(Self { number, bell, pulse, watch, stuck, orphans, requests, waker, clock: core.clock, handle })
    }

    /// Has `work` done on the thread. Its answer comes without a wait, and wakes loop 0.
    pub(super) fn request<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut PacketLoop) -> R + Send + 'static,
    ) -> Receiver<R> {
        let (tell, hear) = mpsc::sync_channel(1);
        let request: Request = Box::new(move |packet_loop| {
            // Nobody hears it when who asked has given up.
            let _ = tell.send(work(packet_loop));
            packet_loop.wake_main();
        });
        // Dropped, and so answered, when the thread has ended.
        let _ = self.requests.send(request);
        // Fails only when the daemon ends.
        let _ = self.waker.wake();
        hear
    }

    /// Waits for an answer, at most for `limit`, and not at all for a thread that is stuck.
    pub(super) fn wait<R>(&self, answer: &Receiver<R>, limit: Duration) -> Result<R, NoAnswer> {
        let since = Instant::now();
        loop {
            let left = limit.saturating_sub(since.elapsed());
            if left.is_zero() || self.is_stuck(self.now()) {
                return answer.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => NoAnswer::Late,
                    TryRecvError::Disconnected => NoAnswer::Ended,
                });
            }
            match answer.recv_timeout(left.min(Duration::from_nanos(LOOK))) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(NoAnswer::Ended),
            }
        }
    }

    /// Both. What is asked of a stuck thread is not even asked.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&mut PacketLoop) -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        if self.stuck.get() {
            return Err(NoAnswer::Late);
        }
        self.wait(&self.request(work), limit)
    }

    /// The time, in nanoseconds of the daemon's clock.
    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Looks whether it turns. True from the moment on when it is known not to.
    pub(super) fn is_stuck(&self, now: u64) -> bool {
        if !self.stuck.get() && self.watch.look(&self.pulse, now) {
            self.stuck.set(true);
            tracing::error!(
                "packet thread {} has been in one call of a driver for {} s and is given up; the interfaces of other \
                 threads go on",
                self.number,
                Duration::from_nanos(LOOK * u64::from(STRIKES)).as_secs()
            );
        }
        self.stuck.get()
    }

    /// What is wrong, for the one who asked in vain on behalf of `id`.
    pub(super) fn excuse(&self, id: UseId, no_answer: NoAnswer) -> String {
        let number = self.number;
        match no_answer {
            NoAnswer::Ended => format!("its packet thread {number} has ended"),
            NoAnswer::Late if !self.stuck.get() => format!("its packet thread {number} does not answer"),
            NoAnswer::Late if self.pulse.inside() == id => {
                format!("a call has not come back; packet thread {number} is stuck in it")
            }
            NoAnswer::Late => format!("its packet thread {number} is stuck in another driver"),
        }
    }

    /// Keeps the chunks of a driver that did not go in time until it has gone.
    pub(super) fn adopt(&self, name: &str, holder: Holder, ended: Receiver<Ended>) {
        self.orphans.borrow_mut().push(Orphan { name: name.to_owned(), holder, ended });
    }

    /// Gives back to the pool what drivers held that have gone at last.
    pub(super) fn reclaim(&self, pool: &mut Pool) {
        let mut orphans = self.orphans.borrow_mut();
        let before = orphans.len();
        orphans.retain(|orphan| {
            // A thread that has ended has taken its drivers along.
            let gone = !matches!(orphan.ended.try_recv(), Err(TryRecvError::Empty));
            if gone {
                let chunks = pool.retire(orphan.holder);
                let (number, name) = (self.number, &orphan.name);
                tracing::warn!(
                    chunks,
                    "packet thread {number} came back: {name} is down and its chunks are free"
                );
            }
            !gone
        });
        if before > 0 && orphans.is_empty() {
            self.stuck.set(false);
            self.watch.forgive();
        }
    }

    /// How it ended although nobody told it to.
    pub(super) fn accident(&self) -> Option<End> {
        self.pulse.ended().filter(|end| *end != End::Orderly)
    }

    /// It can be given another driver.
    pub(super) fn is_usable(&self) -> bool {
        !self.stuck.get() && self.pulse.ended().is_none()
    }

    /// Ends the thread and waits for that, unless it is stuck.
    pub(super) fn end(self) {
        if self.ask(PATIENCE, PacketLoop::quit) == Err(NoAnswer::Late) {
            tracing::error!("packet thread {} does not end: it is left behind", self.number);
            return;
        }
        if let Err(payload) = self.handle.join() {
            tracing::error!("packet thread {} panicked: {}", self.number, sentence(&*payload));
        }
    }
}

/// What a panic said.
fn sentence(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}
