//! The host's side of a [`super::Bench`]: pool, descriptors, deadlines, and the table of functions.
//!
//! One thread only. The functions of the table get the [`State`] as their first argument and borrow it for the length
//! of the call; modules never call the host from inside the host, so no two borrows meet.

use std::{
    ffi::c_void,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, Bytes, FrameDesc, Header, HostTable, InterfaceInfo, PollEvent, PoolInfo, SpawnSpec,
    frame::{FLAG_CONTINUES, FLAG_SHARED},
    info::{INTEREST_READ, INTEREST_WRITE, READY_DEADLINE, READY_ERROR, READY_READ, READY_WAKE, READY_WRITE},
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{Descs, Events};
use crate::{Interface, InterfaceId, raw};

const CHUNKS: usize = 512;
const CHUNK: usize = 2048;
const HEADROOM: usize = 128;

/// A chunk, aligned as the daemon's are.
#[repr(C, align(2048))]
#[derive(Clone, Copy)]
struct Chunk([u8; CHUNK]);

/// Everything that the host knows.
pub(super) struct State {
    chunks: Box<[Chunk]>,
    pool: PoolInfo,
    references: Vec<u32>,
    free: Vec<u32>,
    set_aside: Vec<u32>,
    delivered: Vec<Vec<u8>>,
    sent: Vec<(InterfaceId, Vec<u8>)>,
    interface: Option<Interface>,
    epoll: Epoll,
    watched: Vec<Option<(i32, u64)>>,
    deadline: Option<u64>,
    woken: bool,
    more: bool,
    failure: Option<String>,
    start: Instant,
}

impl State {
    pub(super) fn new() -> Self {
        let mut chunks = vec![Chunk([0; CHUNK]); CHUNKS].into_boxed_slice();
        let pool = PoolInfo {
            size: size_of::<PoolInfo>() as u32,
            chunk_size: CHUNK as u32,
            base: chunks.as_mut_ptr().cast(),
            len: (CHUNKS * CHUNK) as u64,
            headroom: HEADROOM as u32,
            fd: -1,
        };
        Self {
            chunks,
            pool,
            references: vec![0; CHUNKS],
            free: (0..CHUNKS as u32).rev().collect(),
            set_aside: Vec::new(),
            delivered: Vec::new(),
            sent: Vec::new(),
            interface: None,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll descriptor"),
            watched: Vec::new(),
            deadline: None,
            woken: false,
            more: false,
            failure: None,
            start: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64 + 1
    }

    /// What is ready now.
    pub(super) fn ready(&mut self) -> Events {
        let mut found = [EpollEvent::empty(); 32];
        let count = self.epoll.wait(&mut found, EpollTimeout::ZERO).unwrap_or(0);
        let mut events: Events = found[..count].iter().filter_map(|event| self.event(event)).collect();
        if std::mem::take(&mut self.woken) {
            events.push(PollEvent { token: 0, ready: READY_WAKE, value: 0 });
        }
        if self.deadline.is_some_and(|at| at <= self.now()) {
            self.deadline = None;
            events.push(PollEvent { token: 0, ready: READY_DEADLINE, value: 0 });
        }
        events
    }

    /// Waits until something may be ready.
    pub(super) fn wait(&self, longest: Duration) {
        let fd = &self.epoll.0;
        let mut poll = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(fd), nix::poll::PollFlags::POLLIN)];
        let timeout =
            nix::poll::PollTimeout::try_from(longest.as_millis()).unwrap_or(nix::poll::PollTimeout::ZERO);
        let _ = nix::poll::poll(&mut poll, timeout);
    }

    pub(super) fn take_more(&mut self) -> bool {
        std::mem::take(&mut self.more)
    }

    pub(super) fn set_more(&mut self, more: bool) {
        self.more = more;
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn interface(&self) -> Option<Interface> {
        self.interface.clone()
    }

    pub(super) fn take_delivered(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.delivered)
    }

    pub(super) fn take_sent(&mut self) -> Vec<(InterfaceId, Vec<u8>)> {
        std::mem::take(&mut self.sent)
    }

    pub(super) fn free_chunks(&self) -> usize {
        self.free.len()
    }

    pub(super) fn missing_chunks(&self) -> usize {
        CHUNKS - self.free.len() - self.set_aside.len()
    }

    pub(super) fn leave_chunks(&mut self, n: usize) {
        self.free.append(&mut self.set_aside);
        if n < self.free.len() {
            self.set_aside = self.free.split_off(n);
        }
    }

    /// Frames in fresh chunks, as many as fit one batch.
    pub(super) fn compose(&mut self, frames: &[&[u8]]) -> Descs {
        let room = CHUNK - HEADROOM;
        let mut descs = Descs::new();
        for frame in frames {
            let pieces = frame.len().div_ceil(room).max(1);
            if descs.len() + pieces > crate::BATCH {
                break;
            }
            for (index, piece) in frame.chunks(room).enumerate() {
                let mut desc = self.take_chunk().expect("a free chunk");
                let at = desc.offset as usize % CHUNK;
                self.chunks[desc.offset as usize / CHUNK].0[at..at + piece.len()].copy_from_slice(piece);
                desc.len = piece.len() as u32;
                desc.flags = if index + 1 < pieces { FLAG_CONTINUES } else { 0 };
                descs.push(desc);
            }
        }
        descs
    }

    pub(super) fn free(&mut self, descs: &[FrameDesc]) {
        for desc in descs {
            let chunk = desc.offset as usize / CHUNK;
            assert!(self.references[chunk] > 0, "chunk {chunk} was freed twice");
            self.references[chunk] -= 1;
            if self.references[chunk] == 0 {
                self.free.push(chunk as u32);
            }
        }
    }

    fn take_chunk(&mut self) -> Option<FrameDesc> {
        let chunk = self.free.pop()?;
        self.references[chunk as usize] = 1;
        let offset = u64::from(chunk) * CHUNK as u64 + HEADROOM as u64;
        Some(FrameDesc { offset, len: (CHUNK - HEADROOM) as u32, ..FrameDesc::default() })
    }

    /// The bytes of whole frames; their chunks are freed.
    fn collect(&mut self, descs: &[FrameDesc]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut frame = Vec::new();
        for desc in descs {
            let (chunk, at) = (desc.offset as usize / CHUNK, desc.offset as usize % CHUNK);
            assert!(self.references[chunk] > 0, "chunk {chunk} was handed over without being owned");
            frame.extend_from_slice(&self.chunks[chunk].0[at..at + desc.len as usize]);
            if desc.flags & FLAG_CONTINUES == 0 {
                frames.push(std::mem::take(&mut frame));
            }
        }
        assert!(frame.is_empty(), "the last frame of a batch has no end");
        self.free(descs);
        frames
    }

    fn event(&self, event: &EpollEvent) -> Option<PollEvent> {
        let (_, token) = (*self.watched.get(event.data() as usize)?)?;
        let bit = |flag, bit| if event.events().intersects(flag) { bit } else { 0 };
        let ready = bit(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, READY_READ)
            | bit(EpollFlags::EPOLLOUT, READY_WRITE)
            | bit(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP, READY_ERROR);
        Some(PollEvent { token, ready, value: 0 })
    }
}

/// The functions that a module calls.
pub(super) fn table() -> HostTable {
    HostTable {
        header: Header { size: size_of::<HostTable>() as u32, major: ABI_MAJOR, minor: ABI_MINOR },
        log,
        now,
        pool,
        alloc,
        free,
        retain,
        deliver,
        send,
        claim,
        interface,
        poll_add,
        poll_modify,
        poll_remove,
        set_deadline,
        wake,
        spawn,
        kill,
        fail,
        log_level,
    }
}

/// The state behind a module's context.
fn state<'a>(ctx: *mut c_void) -> &'a mut State {
    // SAFETY: the context that `Bench` passed to `create`: its boxed state, which outlives the use. Modules under test
    // call from the test's thread only, and no host function calls another one.
    unsafe { &mut *ctx.cast::<State>() }
}

fn descs<'a>(frames: *const FrameDesc, n: u32) -> &'a [FrameDesc] {
    // SAFETY: valid for `n` descriptors during the call by the ABI.
    unsafe { raw::elements(frames, n as usize) }
}

fn text(bytes: Bytes) -> String {
    // SAFETY: valid during the call by the ABI.
    unsafe { raw::text(bytes) }.to_owned()
}

extern "C" fn log(_: *mut c_void, level: u32, target: Bytes, line: Bytes) {
    // Shown by the test harness when the test fails. Any thread may come here, so the state is not touched.
    println!("{level} {}: {}", text(target), text(line));
}

extern "C" fn log_level(_: *mut c_void) -> u32 {
    4
}

extern "C" fn now(ctx: *mut c_void) -> u64 {
    state(ctx).now()
}

extern "C" fn pool(ctx: *mut c_void) -> *const PoolInfo {
    &raw const state(ctx).pool
}

extern "C" fn alloc(ctx: *mut c_void, frames: *mut FrameDesc, n: u32) -> u32 {
    let state = state(ctx);
    for at in 0..n {
        let Some(desc) = state.take_chunk() else { return at };
        // SAFETY: valid for writing `n` descriptors by the ABI.
        unsafe { frames.add(at as usize).write(desc) };
    }
    n
}

extern "C" fn free(ctx: *mut c_void, frames: *const FrameDesc, n: u32) {
    state(ctx).free(descs(frames, n));
}

extern "C" fn retain(ctx: *mut c_void, frames: *const FrameDesc, n: u32) {
    for desc in descs(frames, n) {
        assert_ne!(desc.flags & FLAG_SHARED, 0, "a shared chunk must say so");
        state(ctx).references[desc.offset as usize / CHUNK] += 1;
    }
}

extern "C" fn deliver(ctx: *mut c_void, frames: *const FrameDesc, n: u32) {
    let frames = state(ctx).collect(descs(frames, n));
    state(ctx).delivered.extend(frames);
}

extern "C" fn send(ctx: *mut c_void, interface: u32, frames: *const FrameDesc, n: u32) -> u32 {
    let frames = state(ctx).collect(descs(frames, n));
    state(ctx).sent.extend(frames.into_iter().map(|frame| (InterfaceId(interface), frame)));
    n
}

extern "C" fn claim(_: *mut c_void, _: u32) -> i32 {
    0
}

extern "C" fn interface(ctx: *mut c_void, info: *const InterfaceInfo) -> i32 {
    // SAFETY: valid during the call by the ABI.
    let Some(info) = (unsafe { info.as_ref() }) else { return -libc::EINVAL };
    // SAFETY: as above, with its texts.
    state(ctx).interface = Some(unsafe { Interface::from_info(info) });
    0
}

extern "C" fn poll_add(ctx: *mut c_void, fd: i32, interest: u32, token: u64) -> i64 {
    let state = state(ctx);
    let handle = state.watched.len();
    // SAFETY: the module keeps the descriptor open at least until it removes the handle.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    match state.epoll.add(borrowed, EpollEvent::new(flags(interest), handle as u64)) {
        Ok(()) => {
            state.watched.push(Some((fd, token)));
            handle as i64 + 1
        }
        Err(errno) => -i64::from(errno as i32),
    }
}

extern "C" fn poll_modify(ctx: *mut c_void, handle: i64, interest: u32) -> i32 {
    let state = state(ctx);
    let index = (handle - 1) as usize;
    let Some(Some((fd, _))) = state.watched.get(index) else { return -libc::ENOENT };
    // SAFETY: as in `poll_add`.
    let borrowed = unsafe { BorrowedFd::borrow_raw(*fd) };
    let mut event = EpollEvent::new(flags(interest), index as u64);
    state.epoll.modify(borrowed, &mut event).map_or_else(|errno| -(errno as i32), |()| 0)
}

extern "C" fn poll_remove(ctx: *mut c_void, handle: i64) -> i32 {
    let state = state(ctx);
    let Some((fd, _)) = state.watched.get_mut((handle - 1) as usize).and_then(Option::take) else {
        return -libc::ENOENT;
    };
    // SAFETY: as in `poll_add`.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    state.epoll.delete(borrowed).map_or_else(|errno| -(errno as i32), |()| 0)
}

extern "C" fn set_deadline(ctx: *mut c_void, at: u64) {
    state(ctx).deadline = (at != 0).then_some(at);
}

extern "C" fn wake(ctx: *mut c_void) {
    state(ctx).woken = true;
}

extern "C" fn spawn(_: *mut c_void, _: *const SpawnSpec) -> i64 {
    -i64::from(libc::ENOSYS)
}

extern "C" fn kill(_: *mut c_void, _: i64, _: i32) -> i32 {
    -libc::ESRCH
}

extern "C" fn fail(ctx: *mut c_void, reason: Bytes) {
    state(ctx).failure = Some(text(reason));
}

fn flags(interest: u32) -> EpollFlags {
    let bit = |set: u32, flag| if interest & set != 0 { flag } else { EpollFlags::empty() };
    EpollFlags::EPOLLET
        | bit(INTEREST_READ, EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP)
        | bit(INTEREST_WRITE, EpollFlags::EPOLLOUT)
}
