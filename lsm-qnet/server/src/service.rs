//! The threads: one waits for packets, the others carry out requests, and they change places.
//!
//! A thread that is free takes the next request; if there is none it becomes the *leader*, which waits
//! for the socket and for files that requests wait for. A leader that receives a request wakes or starts
//! another thread to be the next leader, and carries the request out itself: no request is handed from
//! thread to thread, and the socket is always watched, even when every other thread hangs on a disk.
//!
//! Threads are started when they are needed, at most one more than requests may run at once.
//!
//! To wake the next leader costs more than most requests take. So while there is traffic one of the idle threads is the
//! *deputy*: it looks once in a millisecond whether the socket is still unwatched, and leads then. A leader whose
//! request is the only one leaves it at that.

use std::any::Any;
use std::collections::HashSet;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use qnet_ipc::{Patience, PeerError, ReceiveBuffer, ServerPeer, Watch};
use thiserror::Error;

use crate::export::Export;
use crate::identity::{Identity, SwitchError, Switcher};
use crate::limits::Limits;
use crate::request::{MAX_REPLY, Outcome};
use crate::state::{Job, SOCKET, State, TIMER};
use crate::sys::{self, ThreadIdentity};

/// Longest look before a leader sleeps: the next request of a caller that waits for each answer takes a round trip.
const ROUND_TRIP: Duration = Duration::from_micros(200);
/// The socket is unwatched no longer than about this time, while a request takes long.
const UNWATCHED: Duration = Duration::from_millis(1);
/// A deputy that saw no request for so long sleeps.
const QUIET: Duration = Duration::from_millis(20);
/// Turns of a look between two at the socket and at files, where packets come through shared memory.
const SOCKET_EVERY: u32 = 16;
/// Reply buffers above this size are given back after use. A full READ is not: the kernel would have to find, clear and take
/// back 256 pages for each.
const KEEP_BUFFER: usize = MAX_REPLY;
/// Identities whose refusal has been logged; more are not remembered, and not logged either.
const LOGGED_REFUSALS: usize = 64;

/// Why the service ended, other than by the other side closing the socket.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The socket broke.
    #[error("the connection to lsm-qnet: {0}")]
    Socket(PeerError),
    /// The kernel refused something that every thread needs.
    #[error("cannot {what}: {errno}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A defect of this program.
    #[error("a thread of the service panicked: {0}")]
    Panic(String),
}

impl From<PeerError> for ServiceError {
    fn from(error: PeerError) -> Self {
        Self::Socket(error)
    }
}

/// Everything the threads share.
struct Service {
    export: Export,
    limits: Limits,
    own: ThreadIdentity,
    epoll: Arc<Epoll>,
    patience: Patience,
    shared: Mutex<Shared>,
    free: Condvar,
    next_name: AtomicUsize,
    ended: Sender<Result<(), ServiceError>>,
    logged: Mutex<HashSet<Identity>>,
}

struct Shared {
    state: State,
    /// A thread waits for packets.
    leader: bool,
    /// Threads that wait for something to do, the deputy among them.
    idle: usize,
    /// One of them looks by itself.
    deputy: bool,
    /// The last request was begun.
    begun: Instant,
    threads: usize,
}

/// The signal that asks the process to end, held back so that it comes to who waits for it.
#[derive(Debug)]
pub struct Asked(SigSet);

impl Asked {
    /// Holds SIGTERM back in the calling thread, and so in all that it starts from now on: to be called before the first, for
    /// a thread that holds nothing back would end the process in the middle of its work. SIGINT is held back, too, and left
    /// to `io-pkt`, which a terminal sends it as well.
    ///
    /// # Errors
    /// Those of sigprocmask(2).
    pub fn hold() -> Result<Self, ServiceError> {
        let asked = SigSet::from(Signal::SIGTERM);
        let mut held = asked;
        held.add(Signal::SIGINT);
        held.thread_block().map_err(|errno| ServiceError::System { what: "block signals", errno })?;
        Ok(Self(asked))
    }

    /// Ends the service when it comes.
    fn end(self, ended: Sender<Result<(), ServiceError>>) -> Result<(), ServiceError> {
        let wait = move || {
            let result = self.0.wait().map(drop);
            // an error here could only be that of a wrong set of signals
            let _ =
                ended.send(result.map_err(|errno| ServiceError::System { what: "wait for SIGTERM", errno }));
        };
        thread::Builder::new().name("signals".into()).spawn(wait).map_err(ServiceError::Thread)?;
        Ok(())
    }
}

/// Serves until the other side closes the socket, or the process is asked to end.
///
/// The process is expected to end after this returns: threads that hang in the kernel are left behind.
///
/// # Errors
/// See [`ServiceError`].
pub fn serve(export: Export, peer: ServerPeer, limits: Limits, asked: Asked) -> Result<(), ServiceError> {
    let system = |what| move |errno| ServiceError::System { what, errno };
    let own = sys::thread_identity().map_err(system("read the process's identity"))?;
    sys::install_wake_signal().map_err(system("install a signal handler"))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system("make an epoll descriptor"))?;
    let epoll = Arc::new(epoll);
    let state = State::new(peer, Arc::clone(&epoll), limits).map_err(system("watch the socket"))?;
    export.locks().bound(limits.lock_owners);
    let (ended, end) = channel();
    let service = Arc::new(Service {
        export,
        limits,
        own,
        epoll,
        patience: Patience::lasting(ROUND_TRIP),
        shared: Mutex::new(Shared {
            state,
            leader: false,
            idle: 0,
            deputy: false,
            begun: Instant::now(),
            threads: 1,
        }),
        free: Condvar::new(),
        next_name: AtomicUsize::new(0),
        ended,
        logged: Mutex::default(),
    });
    asked.end(service.ended.clone())?;
    service.spawn().map_err(ServiceError::Thread)?;
    // the threads hold a sender each for as long as they run
    drop(service);
    end.recv().unwrap_or(Ok(()))
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        // whoever panicked has reported it, and the process is about to end
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(self: &Arc<Self>) -> std::io::Result<()> {
        let service = Arc::clone(self);
        let name = format!("worker {}", self.next_name.fetch_add(1, Ordering::Relaxed));
        thread::Builder::new().name(name).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| service.work()))
                .unwrap_or_else(|panic| Err(ServiceError::Panic(panic_text(&*panic))));
            // nobody listens any more when another thread reported first
            let _ = service.ended.send(match result {
                Err(ServiceError::Socket(PeerError::Closed)) => Ok(()),
                other => other,
            });
        })?;
        Ok(())
    }

    /// The life of a thread. It ends with the socket only.
    fn work(self: &Arc<Self>) -> Result<(), ServiceError> {
        // an own working directory, root and umask, so that no thread can meet another one's
        unshare(CloneFlags::CLONE_FS)
            .map_err(|errno| ServiceError::System { what: "unshare file system attributes", errno })?;
        umask(Mode::empty());
        let mut switcher = Switcher::new(self.own.clone())
            .map_err(|errno| ServiceError::System { what: "read capabilities", errno })?;
        let mut received = ReceiveBuffer::new();
        let mut reply = Vec::new();
        let mut shared = self.lock();
        loop {
            if let Some(job) = shared.state.take_job() {
                shared.begun = Instant::now();
                let watched = shared.leader || shared.deputy && shared.state.is_idle();
                // what ended before this one may have made room for two
                if !watched || shared.state.has_job() {
                    self.next_leader(&mut shared);
                }
                drop(shared);
                let (job, outcome) = self.run(job, &mut switcher, &mut reply);
                shared = self.lock();
                shared.state.finish(job, outcome, &mut reply)?;
                let freed = self.export.locks().take_freed();
                if !freed.is_empty() {
                    shared.state.retry_locks(&freed);
                }
                shared.state.settle()?;
                reply.clear();
                reply.shrink_to(KEEP_BUFFER);
            } else if !shared.leader {
                shared.leader = true;
                let watch = shared.state.watch();
                drop(shared);
                let ready = self.wait(watch.as_ref())?;
                shared = self.lock();
                let result = receive(&mut shared.state, &ready, &mut received);
                shared.leader = false;
                result?;
            } else {
                shared.idle += 1;
                shared = self.rest(shared);
                shared.idle -= 1;
            }
        }
    }

    /// Waits for something to do, as the deputy if there is none.
    fn rest<'s>(&'s self, mut shared: MutexGuard<'s, Shared>) -> MutexGuard<'s, Shared> {
        while !shared.deputy && shared.begun.elapsed() < QUIET {
            shared.deputy = true;
            let (after, timeout) =
                self.free.wait_timeout(shared, UNWATCHED).unwrap_or_else(PoisonError::into_inner);
            shared = after;
            shared.deputy = false;
            let unwatched = !shared.leader && shared.begun.elapsed() >= UNWATCHED;
            if !timeout.timed_out() || unwatched || !shared.state.is_idle() {
                return shared;
            }
        }
        self.free.wait(shared).unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds a thread that takes the next job, or watches the socket, while the calling one is busy.
    fn next_leader(self: &Arc<Self>, shared: &mut Shared) {
        if shared.idle > 0 {
            self.free.notify_one();
        } else if shared.threads <= self.limits.most_workers() {
            match self.spawn() {
                Ok(()) => shared.threads += 1,
                // the calling thread watches again when it has finished
                Err(error) => tracing::warn!(target: crate::LOG, "cannot start another thread: {error}"),
            }
        }
    }

    /// Waits until the socket or a file is ready, or packets are in shared memory: looks again and again for a moment, while
    /// that pays, then sleeps.
    fn wait(&self, watch: Option<&Watch>) -> Result<Vec<u64>, ServiceError> {
        let mut events = [EpollEvent::empty(); 16];
        let tokens = |events: &[EpollEvent]| events.iter().map(EpollEvent::data).collect();
        let (mut found, mut turn) = (0, 0);
        let look = || {
            if watch.is_some_and(Watch::has_packets) {
                return true;
            }
            turn += 1;
            if watch.is_none() || turn % SOCKET_EVERY == 0 {
                // An error comes again, with the wait that sleeps.
                found = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            }
            found > 0
        };
        if self.patience.spin(None, look) {
            return Ok(tokens(&events[..found]));
        }
        if !watch.is_none_or(Watch::arm) {
            return Ok(Vec::new());
        }
        let result = loop {
            match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(n) => break Ok(tokens(&events[..n])),
                Err(Errno::EINTR) => {}
                Err(errno) => break Err(ServiceError::System { what: "wait for the socket", errno }),
            }
        };
        watch.inspect(|watch| watch.disarm());
        result
    }

    /// Carries out a request as its caller.
    fn run(&self, mut job: Job, switcher: &mut Switcher, reply: &mut Vec<u8>) -> (Job, Outcome) {
        // closing needs no rights, and must be possible in any case
        if !job.is_release()
            && let Err(error) = switcher.become_identity(&job.request.identity)
        {
            self.log_refusal(&job.request.identity, &error);
            return (job, Outcome::Failed(Errno::EPERM));
        }
        debug_assert!(reply.is_empty(), "left over from another request");
        let cancel = Arc::clone(&job.request.cancel);
        let work = || cancel.guard(|| job.request.run(&self.export, reply));
        let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            tracing::error!(target: crate::LOG, "a request panicked: {}", panic_text(&*panic));
            Outcome::Failed(Errno::EIO)
        });
        debug_assert!(reply.len() <= MAX_REPLY, "a reply larger than any request may ask for");
        (job, outcome)
    }

    /// Says once for each identity why it is not served.
    fn log_refusal(&self, identity: &Identity, error: &SwitchError) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < LOGGED_REFUSALS && logged.insert(identity.clone()) {
            tracing::warn!(target: crate::LOG, "remote callers mapped to uid {} are refused: {error}", identity.uid);
        }
    }
}

/// Takes packets from the socket, and gives requests back to their queues whose files are ready.
fn receive(state: &mut State, ready: &[u64], buffer: &mut ReceiveBuffer) -> Result<(), PeerError> {
    for file in ready.iter().filter(|token| !matches!(**token, SOCKET | TIMER)) {
        state.on_file_ready(*file as RawFd);
    }
    if ready.contains(&TIMER) {
        state.on_timer();
    }
    state.receive(ready.contains(&SOCKET), buffer)?;
    state.settle()
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}
