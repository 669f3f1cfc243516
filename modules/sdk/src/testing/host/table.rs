//! The functions that a module calls, over [`Books`] and [`Remote`](super::Remote).

use std::{cell::RefMut, ffi::c_void, os::fd::AsRawFd, sync::PoisonError, sync::atomic::Ordering};

use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, Bytes, FrameDesc, Header, HostTable, InterfaceInfo, PoolInfo, SpawnSpec,
    frame::FLAG_SHARED,
    info::{INTEREST_READ, INTEREST_WRITE},
};

use super::{Books, LogLine, Spawned, State};
use crate::{Interface, raw};

/// # Safety
/// `ctx` is what [`TestHost::ctx`] returned, of a living host.
unsafe fn state<'a>(ctx: *mut c_void) -> &'a State {
    // SAFETY: by the caller's promise.
    unsafe { &*ctx.cast::<State>() }
}

/// # Safety
/// As [`state`], on the use's thread.
unsafe fn books<'a>(ctx: *mut c_void) -> RefMut<'a, Books> {
    // SAFETY: by the caller's promise.
    unsafe { state(ctx) }.books.borrow_mut()
}

/// The functions. The safety of all: the module passes the `ctx` it was given, and pointers as the ABI says.
pub(super) static TABLE: HostTable = HostTable {
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
    open_resolver: None,
};

extern "C" fn log(ctx: *mut c_void, level: u32, target: Bytes, text: Bytes) {
    // SAFETY: see `TABLE`.
    let (state, target, text) = unsafe { (state(ctx), raw::text(target), raw::text(text)) };
    let line = LogLine { level, target: target.to_owned(), text: text.to_owned() };
    if level <= state.remote.level.load(Ordering::SeqCst) {
        // The test harness shows it when the test fails.
        println!("{level} {}: {}", line.target, line.text);
        state.remote.log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

extern "C" fn log_level(ctx: *mut c_void) -> u32 {
    // SAFETY: see `TABLE`.
    unsafe { state(ctx) }.remote.level.load(Ordering::SeqCst)
}

extern "C" fn now(ctx: *mut c_void) -> u64 {
    // SAFETY: see `TABLE`.
    unsafe { state(ctx) }.remote.now()
}

extern "C" fn wake(ctx: *mut c_void) {
    // SAFETY: see `TABLE`.
    unsafe { state(ctx) }.remote.wake.store(true, Ordering::SeqCst);
}

extern "C" fn pool(ctx: *mut c_void) -> *const PoolInfo {
    // SAFETY: see `TABLE`.
    &raw const unsafe { state(ctx) }.pool
}

extern "C" fn alloc(ctx: *mut c_void, frames: *mut FrameDesc, n: u32) -> u32 {
    // SAFETY: see `TABLE`.
    let mut books = unsafe { books(ctx) };
    let count = (n as usize).min(books.free.len());
    for index in 0..count {
        let Some(chunk) = books.free.pop() else { break };
        books.held[chunk] = 1;
        let desc = FrameDesc {
            offset: (chunk * books.chunk_size + books.headroom) as u64,
            len: (books.chunk_size - books.headroom) as u32,
            flags: 0,
            region: 0,
        };
        // SAFETY: `index < n`; see `TABLE`.
        unsafe { frames.add(index).write(desc) };
    }
    count as u32
}

extern "C" fn free(ctx: *mut c_void, frames: *const FrameDesc, n: u32) {
    // SAFETY: see `TABLE`.
    let (mut books, frames) = unsafe { (books(ctx), raw::elements(frames, n as usize)) };
    for desc in frames {
        books.give_up("free", desc);
    }
}

extern "C" fn retain(ctx: *mut c_void, frames: *const FrameDesc, n: u32) {
    // SAFETY: see `TABLE`.
    let (mut books, frames) = unsafe { (books(ctx), raw::elements(frames, n as usize)) };
    for desc in frames {
        if let Some(chunk) = books.chunk_held("retain", desc) {
            books.held[chunk] += 1;
            if desc.flags & FLAG_SHARED == 0 {
                books.broke(format!("retain: chunk {chunk} is not marked as shared"));
            }
        }
    }
}

extern "C" fn deliver(ctx: *mut c_void, frames: *const FrameDesc, n: u32) {
    // SAFETY: see `TABLE`.
    let (mut books, frames) = unsafe { (books(ctx), raw::elements(frames, n as usize)) };
    let mut taken = books.take_frames("deliver", frames);
    books.delivered.append(&mut taken);
}

extern "C" fn send(ctx: *mut c_void, interface: u32, frames: *const FrameDesc, n: u32) -> u32 {
    // SAFETY: see `TABLE`.
    let (mut books, frames) = unsafe { (books(ctx), raw::elements(frames, n as usize)) };
    let taken = books.take_frames("send", frames);
    books.sent.extend(taken.into_iter().map(|frame| (interface, frame)));
    n
}

extern "C" fn claim(ctx: *mut c_void, ethertype: u32) -> i32 {
    // SAFETY: see `TABLE`.
    let mut books = unsafe { books(ctx) };
    if ethertype != 0 && !(0x0600..=0xffff).contains(&ethertype) {
        return -libc::EINVAL;
    }
    if books.claims.contains(&ethertype) {
        return -libc::EBUSY;
    }
    books.claims.push(ethertype);
    0
}

extern "C" fn interface(ctx: *mut c_void, info: *const InterfaceInfo) -> i32 {
    // SAFETY: see `TABLE`.
    let mut books = unsafe { books(ctx) };
    // SAFETY: see `TABLE`.
    let Some(info) = (unsafe { info.as_ref() }) else { return -libc::EINVAL };
    if (info.size as usize) < size_of::<InterfaceInfo>() {
        return -libc::EINVAL;
    }
    // SAFETY: the texts are valid during the call.
    books.interface = Some(unsafe { Interface::from_info(info) });
    0
}

fn watch(ctx: *mut c_void, operation: i32, fd: i32, interest: u32, index: usize) -> i32 {
    let flag = |bit: u32, mask: i32| if interest & bit != 0 { mask as u32 } else { 0 };
    let events = flag(INTEREST_READ, libc::EPOLLIN | libc::EPOLLRDHUP)
        | flag(INTEREST_WRITE, libc::EPOLLOUT)
        | libc::EPOLLET as u32;
    let mut event = libc::epoll_event { events, u64: index as u64 };
    // SAFETY: a valid epoll descriptor and event; see `TABLE`.
    let code = unsafe { libc::epoll_ctl(state(ctx).epoll.as_raw_fd(), operation, fd, &raw mut event) };
    if code == 0 { 0 } else { -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) }
}

extern "C" fn poll_add(ctx: *mut c_void, fd: i32, interest: u32, token: u64) -> i64 {
    // SAFETY: see `TABLE`.
    let index = unsafe { books(ctx) }.watched.len();
    let code = watch(ctx, libc::EPOLL_CTL_ADD, fd, interest, index);
    if code < 0 {
        return code.into();
    }
    // SAFETY: see `TABLE`.
    unsafe { books(ctx) }.watched.push(Some((fd, token)));
    index as i64 + 1
}

fn watched(ctx: *mut c_void, call: &str, handle: i64) -> Option<(usize, i32)> {
    // SAFETY: see `TABLE`.
    let mut books = unsafe { books(ctx) };
    let index = usize::try_from(handle - 1).ok()?;
    if let Some(Some((fd, _))) = books.watched.get(index) {
        return Some((index, *fd));
    }
    books.broke(format!("{call}: no handle {handle}"));
    None
}

extern "C" fn poll_modify(ctx: *mut c_void, handle: i64, interest: u32) -> i32 {
    match watched(ctx, "poll_modify", handle) {
        Some((index, fd)) => watch(ctx, libc::EPOLL_CTL_MOD, fd, interest, index),
        None => -libc::ENOENT,
    }
}

extern "C" fn poll_remove(ctx: *mut c_void, handle: i64) -> i32 {
    let Some((index, fd)) = watched(ctx, "poll_remove", handle) else { return -libc::ENOENT };
    let code = watch(ctx, libc::EPOLL_CTL_DEL, fd, 0, index);
    // SAFETY: see `TABLE`.
    let mut books = unsafe { books(ctx) };
    books.watched[index] = None;
    if code < 0 {
        books.broke(format!("poll_remove: descriptor {fd} was closed before its handle"));
    }
    code
}

extern "C" fn set_deadline(ctx: *mut c_void, at: u64) {
    // SAFETY: see `TABLE`.
    unsafe { books(ctx) }.deadline = at;
}

extern "C" fn spawn(ctx: *mut c_void, spec: *const SpawnSpec) -> i64 {
    // SAFETY: see `TABLE`.
    let mut books = unsafe { books(ctx) };
    // SAFETY: see `TABLE`.
    let Some(spec) = (unsafe { spec.as_ref() }) else { return -i64::from(libc::EINVAL) };
    // SAFETY: see `TABLE`.
    let (program, args) =
        unsafe { (raw::text(spec.program), raw::elements(spec.args, spec.n_args as usize)) };
    books.helpers.push(Spawned {
        program: program.to_owned(),
        args: args
            .iter()
            .map(|arg| {
                // SAFETY: see `TABLE`.
                unsafe { raw::text(*arg) }.to_owned()
            })
            .collect(),
        token: spec.token,
        fds: spec.n_fds as usize,
        signals: Vec::new(),
    });
    books.helpers.len() as i64
}

extern "C" fn kill(ctx: *mut c_void, helper: i64, signal: i32) -> i32 {
    // SAFETY: see `TABLE`.
    let mut books = unsafe { books(ctx) };
    match usize::try_from(helper - 1).ok().and_then(|index| books.helpers.get_mut(index)) {
        Some(helper) => {
            helper.signals.push(signal);
            0
        }
        None => -libc::ESRCH,
    }
}

extern "C" fn fail(ctx: *mut c_void, reason: Bytes) {
    // SAFETY: see `TABLE`.
    let (mut books, reason) = unsafe { (books(ctx), raw::text(reason)) };
    books.failure.get_or_insert_with(|| reason.to_owned());
}
