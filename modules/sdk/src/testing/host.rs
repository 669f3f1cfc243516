//! The host's table over plain book-keeping: who owns which chunk, what was delivered, sent, logged, claimed.
//!
//! A broken rule is noted, not panicked about: a panic could not cross the module that called. Only `log`, `log_level`,
//! `now` and `wake` may be called from other threads, and only they touch what other threads may see.

mod table;

use std::{
    cell::{Ref, RefCell, RefMut},
    collections::VecDeque,
    ffi::c_void,
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use io_pkt_abi::{
    FrameDesc, HostTable, PollEvent, PoolInfo,
    frame::FLAG_CONTINUES,
    info::{READY_DEADLINE, READY_ERROR, READY_READ, READY_WAKE, READY_WRITE},
};

use crate::Interface;

/// A line that the module logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 1 error … 5 trace.
    pub level: u32,
    /// Module path.
    pub target: String,
    /// Message and fields.
    pub text: String,
}

/// A helper that the module asked for. No process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawned {
    /// Program name.
    pub program: String,
    /// Arguments after it.
    pub args: Vec<String>,
    /// Token for the exit event.
    pub token: u64,
    /// Number of descriptors handed over.
    pub fds: usize,
    /// Signals that the module sent.
    pub signals: Vec<i32>,
}

/// Book-keeping of the loop thread.
#[derive(Debug)]
struct Books {
    memory: *mut u8,
    chunk_size: usize,
    headroom: usize,
    /// References that the use holds, by chunk.
    held: Vec<u32>,
    free: Vec<usize>,
    /// Free chunks that the use cannot get.
    set_aside: Vec<usize>,
    delivered: Vec<Vec<u8>>,
    sent: Vec<(u32, Vec<u8>)>,
    claims: Vec<u32>,
    interface: Option<Interface>,
    deadline: u64,
    violations: Vec<String>,
    helpers: Vec<Spawned>,
    failure: Option<String>,
    watched: Vec<Option<(i32, u64)>>,
    queued: VecDeque<PollEvent>,
}

/// What any thread may touch.
#[derive(Debug, Default)]
struct Remote {
    now: AtomicU64,
    /// Set when real time passes too.
    start: Option<Instant>,
    wake: AtomicBool,
    level: AtomicU32,
    log: Mutex<Vec<LogLine>>,
}

struct State {
    pool: PoolInfo,
    _memfd: File,
    epoll: OwnedFd,
    remote: Remote,
    books: RefCell<Books>,
}

/// A host for one use. See [`crate::testing`].
pub struct TestHost {
    // A raw pointer, because modules hold copies of it.
    state: *mut State,
    table: Box<HostTable>,
}

impl std::fmt::Debug for TestHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.books().fmt(f)
    }
}

impl Default for TestHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw` in `with_pool`; the use is gone by the contract of `ctx`.
        let state = unsafe { Box::from_raw(self.state) };
        // SAFETY: mapped in `with_pool` with this length.
        unsafe { libc::munmap(state.pool.base.cast(), state.pool.len as usize) };
    }
}

impl TestHost {
    /// A host with 256 chunks of 2048 bytes and a clock that stands still.
    #[must_use]
    pub fn new() -> Self {
        Self::with_pool(256, 2048)
    }

    /// Lets real time pass on the clock from now on.
    #[must_use]
    pub fn with_real_clock(self) -> Self {
        // SAFETY: no use has got the state yet, and `self` is not borrowed.
        unsafe { &mut *self.state }.remote.start = Some(Instant::now());
        self
    }

    /// A host with another pool; the headroom is 128 bytes.
    ///
    /// # Panics
    /// When the system has no memory.
    #[must_use]
    pub fn with_pool(chunks: usize, chunk_size: usize) -> Self {
        let len = chunks * chunk_size;
        // SAFETY: a name with its NUL; the result is checked.
        let fd = unsafe { libc::memfd_create(c"io-pkt-test-pool".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0, "no memfd for the pool");
        // SAFETY: just made, owned by nobody else.
        let memfd = unsafe { File::from_raw_fd(fd) };
        memfd.set_len(len as u64).expect("room for the pool");
        // SAFETY: a fresh shared mapping of a file of that length.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        assert_ne!(base, libc::MAP_FAILED, "no memory for the pool");
        // SAFETY: no argument but a flag; the result is checked.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0, "no epoll");
        let state = State {
            pool: PoolInfo {
                size: size_of::<PoolInfo>() as u32,
                chunk_size: chunk_size as u32,
                base: base.cast(),
                len: len as u64,
                headroom: 128,
                fd,
            },
            _memfd: memfd,
            // SAFETY: just made, owned by nobody else.
            epoll: unsafe { OwnedFd::from_raw_fd(epoll) },
            remote: Remote { level: AtomicU32::new(5), now: AtomicU64::new(1), ..Remote::default() },
            books: RefCell::new(Books {
                memory: base.cast(),
                chunk_size,
                headroom: 128,
                held: vec![0; chunks],
                free: (0..chunks).rev().collect(),
                set_aside: Vec::new(),
                delivered: Vec::new(),
                sent: Vec::new(),
                claims: Vec::new(),
                interface: None,
                deadline: 0,
                violations: Vec::new(),
                helpers: Vec::new(),
                failure: None,
                watched: Vec::new(),
                queued: VecDeque::new(),
            }),
        };
        Self { state: Box::into_raw(Box::new(state)), table: Box::new(table::TABLE) }
    }

    /// The host's functions, for `CreateArgs`.
    #[must_use]
    pub fn table(&self) -> *const HostTable {
        &raw const *self.table
    }

    /// Their first argument. Uses that got it must be destroyed before this host is dropped.
    #[must_use]
    pub fn ctx(&self) -> *mut c_void {
        self.state.cast()
    }

    /// The clock in nanoseconds. It stands still until [`TestHost::advance`], unless it is a real one.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.state().remote.now()
    }

    /// Moves the clock.
    pub fn advance(&self, nanoseconds: u64) {
        self.state().remote.now.fetch_add(nanoseconds, Ordering::SeqCst);
    }

    /// Sets the most detailed log level that is kept (1 error … 5 trace).
    pub fn keep_log_level(&self, level: u32) {
        self.state().remote.level.store(level, Ordering::SeqCst);
    }

    /// Takes the frames that a driver delivered.
    #[must_use]
    pub fn delivered(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.books_mut().delivered)
    }

    /// Takes the frames that a protocol sent, each with its interface.
    #[must_use]
    pub fn sent(&self) -> Vec<(u32, Vec<u8>)> {
        std::mem::take(&mut self.books_mut().sent)
    }

    /// Takes the lines that were logged.
    #[must_use]
    pub fn log_lines(&self) -> Vec<LogLine> {
        std::mem::take(&mut *self.state().remote.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ethertypes that a protocol claimed; 0 stands for all frames.
    #[must_use]
    pub fn claims(&self) -> Vec<u32> {
        self.books().claims.clone()
    }

    /// What a driver told of its interface.
    #[must_use]
    pub fn interface(&self) -> Option<Interface> {
        self.books().interface.clone()
    }

    /// The deadline that the use asked for.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        Some(self.books().deadline).filter(|at| *at != 0)
    }

    /// Helpers that the use asked for.
    #[must_use]
    pub fn helpers(&self) -> Vec<Spawned> {
        self.books().helpers.clone()
    }

    /// Why the use is failed, when it is.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.books().failure.clone()
    }

    /// Rules of the border that the use broke.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.books().violations.clone()
    }

    /// References to chunks in the use's hands.
    #[must_use]
    pub fn held_by_use(&self) -> usize {
        self.books().held.iter().map(|count| *count as usize).sum()
    }

    /// Sets free chunks aside so that the use can get `n` at most; `usize::MAX` gives all back.
    pub fn leave_chunks(&self, n: usize) {
        let mut books = self.books_mut();
        let mut aside = std::mem::take(&mut books.set_aside);
        books.free.append(&mut aside);
        let keep = n.min(books.free.len());
        books.set_aside = books.free.split_off(keep);
    }

    /// Chunks that the use can get.
    #[must_use]
    pub fn free_chunks(&self) -> usize {
        self.books().free.len()
    }

    /// Descriptors that the use still has registered for watching.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.books().watched.iter().flatten().count()
    }

    /// Adds an event to the next turn (a helper's end, say).
    pub fn queue_event(&self, event: PollEvent) {
        self.books_mut().queued.push_back(event);
    }

    /// Writes frames into fresh chunks that the use then owns, as `receive` and `transmit` hand them over.
    ///
    /// # Panics
    /// When the pool has too few free chunks.
    #[must_use]
    pub fn give(&self, frames: &[&[u8]]) -> Vec<FrameDesc> {
        let mut books = self.books_mut();
        let room = books.chunk_size - books.headroom;
        let mut descs = Vec::new();
        for frame in frames {
            let pieces = frame.len().div_ceil(room).max(1);
            for index in 0..pieces {
                let chunk = books.free.pop().expect("a free chunk in the test pool");
                books.held[chunk] = 1;
                let piece = &frame[index * room..frame.len().min((index + 1) * room)];
                let offset = (chunk * books.chunk_size + books.headroom) as u64;
                // SAFETY: inside the mapping, and nobody else owns the chunk.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        piece.as_ptr(),
                        books.memory.add(offset as usize),
                        piece.len(),
                    );
                };
                let flags = if index + 1 < pieces { FLAG_CONTINUES } else { 0 };
                descs.push(FrameDesc { offset, len: piece.len() as u32, flags, region: 0 });
            }
        }
        descs
    }

    /// How many of the frames fit into `limit` descriptors, at least one.
    #[must_use]
    pub fn fitting(&self, frames: &[&[u8]], limit: usize) -> usize {
        let books = self.books();
        let room = books.chunk_size - books.headroom;
        let mut left = limit;
        let fit = frames.iter().take_while(|frame| {
            let pieces = frame.len().div_ceil(room).max(1);
            let fits = pieces <= left;
            left = left.saturating_sub(pieces);
            fits
        });
        fit.count().max(1)
    }

    /// Takes back descriptors that the use did not take.
    pub fn take_back(&self, descs: &[FrameDesc]) {
        let mut books = self.books_mut();
        for desc in descs {
            books.give_up("transmit", desc);
        }
    }

    /// Waits until a descriptor may be ready, for `longest` at most.
    pub fn wait(&self, longest: Duration) {
        let mut poll = libc::pollfd { fd: self.state().epoll.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid element.
        unsafe { libc::poll(&raw mut poll, 1, longest.as_millis() as i32) };
    }

    /// The events of one turn: descriptors that are ready, a deadline that has passed, a wake-up. Waits at most
    /// `timeout_ms` for a descriptor when there is nothing else.
    #[must_use]
    pub fn turn(&self, timeout_ms: i32) -> Vec<PollEvent> {
        let mut events: Vec<PollEvent> = self.books_mut().queued.drain(..).collect();
        if self.state().remote.wake.swap(false, Ordering::SeqCst) {
            events.push(PollEvent { token: 0, ready: READY_WAKE, value: 0 });
        }
        let now = self.now();
        let mut books = self.books_mut();
        if books.deadline != 0 && books.deadline <= now {
            books.deadline = 0;
            events.push(PollEvent { token: 0, ready: READY_DEADLINE, value: 0 });
        }
        let wait = if events.is_empty() { timeout_ms } else { 0 };
        let mut ready = [libc::epoll_event { events: 0, u64: 0 }; 32];
        // SAFETY: a valid epoll descriptor and room for 32 events.
        let count = unsafe {
            libc::epoll_wait(self.state().epoll.as_raw_fd(), ready.as_mut_ptr(), ready.len() as i32, wait)
        };
        for event in &ready[..count.max(0) as usize] {
            let (index, bits) = (event.u64 as usize, event.events);
            let Some(Some((_, token))) = books.watched.get(index) else { continue };
            let flag = |mask: i32, ready: u32| if bits & mask as u32 != 0 { ready } else { 0 };
            let ready = flag(libc::EPOLLIN | libc::EPOLLRDHUP, READY_READ)
                | flag(libc::EPOLLOUT, READY_WRITE)
                | flag(libc::EPOLLERR | libc::EPOLLHUP, READY_ERROR);
            events.push(PollEvent { token: *token, ready, value: 0 });
        }
        events
    }

    fn state(&self) -> &State {
        // SAFETY: lives as long as `self`; only shared references to it are ever made.
        unsafe { &*self.state }
    }

    fn books(&self) -> Ref<'_, Books> {
        self.state().books.borrow()
    }

    fn books_mut(&self) -> RefMut<'_, Books> {
        self.state().books.borrow_mut()
    }
}

impl Remote {
    fn now(&self) -> u64 {
        let real = self.start.map_or(0, |start| start.elapsed().as_nanos() as u64);
        self.now.load(Ordering::SeqCst) + real
    }
}

impl Books {
    fn broke(&mut self, rule: String) {
        // A module that breaks a rule per frame must not eat the memory of the test.
        if self.violations.len() < 100 {
            self.violations.push(rule);
        }
    }

    /// The chunk of a descriptor that the use holds.
    fn chunk_held(&mut self, call: &str, desc: &FrameDesc) -> Option<usize> {
        let chunk = desc.offset as usize / self.chunk_size;
        let end = desc.offset as usize + desc.len as usize;
        if desc.region != 0 || chunk >= self.held.len() || end > (chunk + 1) * self.chunk_size {
            self.broke(format!("{call}: {desc:?} does not lie in one chunk"));
            return None;
        }
        if self.held[chunk] == 0 {
            self.broke(format!("{call}: the use does not own chunk {chunk}"));
            return None;
        }
        Some(chunk)
    }

    fn give_up(&mut self, call: &str, desc: &FrameDesc) {
        if let Some(chunk) = self.chunk_held(call, desc) {
            self.held[chunk] -= 1;
            if self.held[chunk] == 0 {
                self.free.push(chunk);
            }
        }
    }

    /// Copies whole frames out and gives their chunks up.
    fn take_frames(&mut self, call: &str, descs: &[FrameDesc]) -> Vec<Vec<u8>> {
        let (mut frames, mut frame, mut open) = (Vec::new(), Vec::new(), false);
        for desc in descs {
            if self.chunk_held(call, desc).is_some() {
                // SAFETY: inside the mapping, as just checked; the use gives it up with this call.
                frame.extend_from_slice(unsafe {
                    std::slice::from_raw_parts(self.memory.add(desc.offset as usize), desc.len as usize)
                });
                self.give_up(call, desc);
            }
            open = desc.flags & FLAG_CONTINUES != 0;
            if !open {
                frames.push(std::mem::take(&mut frame));
            }
        }
        if open {
            self.broke(format!("{call}: the last frame has no end"));
        }
        frames
    }
}
