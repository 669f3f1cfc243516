//! The host table: `extern "C"` functions that modules call, and the unsafe calls into modules.
//!
//! Each function does three things: it finds the use behind `ctx` and makes sure that this is its loop thread
//! ([`on_loop`]), or takes the part that any thread may use ([`anywhere`]); it turns pointers into slices and texts,
//! bounded and checked for null and alignment; and it turns the result into a number. Decisions are in `context.rs`.

use std::{
    cell::Cell,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
};

use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, Bytes, FrameDesc, Header, HostTable, InterfaceEvent, InterfaceInfo, PoolInfo,
    ResolverTable, SpawnSpec, TextBuf,
};
use io_pkt_host::{Build, CallError, DriverUse, ProtocolUse, UseError, UseSpec};
use nix::errno::Errno;

use super::context::{LoopId, Remote, UseContext};
use crate::interface::InterfaceData;

/// Most descriptors in one call of a host function.
const MAX_FRAMES: u32 = 4096;
/// Longest text that is copied from a module, in bytes.
const MAX_TEXT: u64 = 16 * 1024;
/// Most arguments or descriptors of a helper.
const MAX_ITEMS: u32 = 256;

pub(super) static HOST: HostTable = HostTable {
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
    open_resolver: Some(open_resolver),
};

thread_local! {
    /// The loop that this thread runs.
    static LOOP: Cell<LoopId> = const { Cell::new(LoopId::NONE) };
}

/// Makes the use of a driver. `spec`'s host and context are replaced by ours.
///
/// # Errors
/// The module's sentence.
pub fn create_driver(
    build: &Arc<Build>,
    spec: &UseSpec<'_>,
    context: &Rc<UseContext>,
) -> Result<DriverUse, UseError> {
    let spec = own(spec, context);
    // SAFETY: the table is static; the context's owner (`Use`) drops the module's side before the context.
    unsafe { DriverUse::create(build, &spec) }
}

/// The same for a protocol.
///
/// # Errors
/// The module's sentence.
pub fn create_protocol(
    build: &Arc<Build>,
    spec: &UseSpec<'_>,
    context: &Rc<UseContext>,
) -> Result<ProtocolUse, UseError> {
    let spec = own(spec, context);
    // SAFETY: as above.
    unsafe { ProtocolUse::create(build, &spec) }
}

fn own<'a>(spec: &UseSpec<'a>, context: &Rc<UseContext>) -> UseSpec<'a> {
    enter(context);
    UseSpec { host: &raw const HOST, ctx: Rc::as_ptr(context).cast_mut().cast(), ..*spec }
}

/// This thread runs the loop that `context` belongs to.
pub(super) fn enter(context: &UseContext) {
    LOOP.set(context.remote.home);
}

/// Tells a protocol of an interface.
///
/// # Errors
/// The use has failed.
pub fn interface_event(
    protocol: &mut ProtocolUse,
    kind: u32,
    interface: u32,
    name: &str,
    data: &InterfaceData,
) -> Result<(), CallError> {
    let info = data.as_abi();
    let event = InterfaceEvent {
        size: size_of::<InterfaceEvent>() as u32,
        kind,
        interface,
        reserved: 0,
        name: Bytes::borrow(name.as_bytes()),
        info: &raw const info,
    };
    // SAFETY: `name`, `info` and the texts in `data` outlive the call.
    unsafe { protocol.interface_event(&event) }
}

/// Runs `body` for the use behind `ctx` when the caller is on its loop thread; otherwise, and after a panic of ours,
/// the answer is `otherwise`.
#[inline]
fn on_loop<R>(ctx: *mut c_void, otherwise: R, body: impl FnOnce(&UseContext) -> R) -> R {
    let context = ctx.cast_const().cast::<UseContext>();
    if context.is_null() || LOOP.get() == LoopId::NONE {
        return otherwise;
    }
    // SAFETY: `ctx` is what `own` made, alive from `create` to the end of `destroy`, which is the span in which a module
    // may call. Of a use that belongs to another loop only `remote` is read, which threads may share.
    if LOOP.get() != unsafe { &(*context).remote }.home {
        return otherwise;
    }
    // SAFETY: as above, and this is the thread that the rest of the context belongs to.
    let context = unsafe { &*context };
    catch_unwind(AssertUnwindSafe(|| body(context))).unwrap_or_else(|_| {
        context.fail("a function of the host panicked while this module called it");
        otherwise
    })
}

/// Runs `body` for the part of a use that every thread may touch.
#[inline]
fn anywhere<R>(ctx: *mut c_void, otherwise: R, body: impl FnOnce(&Remote) -> R) -> R {
    let context = ctx.cast_const().cast::<UseContext>();
    if context.is_null() {
        return otherwise;
    }
    // SAFETY: alive as above. Only the field `remote` is borrowed, which holds nothing but what threads may share.
    let remote = unsafe { &(*context).remote };
    catch_unwind(AssertUnwindSafe(|| body(remote))).unwrap_or(otherwise)
}

/// What a module says are `n` elements; empty when that cannot be true.
///
/// # Safety
/// `ptr` is valid for reading `n` elements for the length of `'a`, unless it is null or not aligned.
unsafe fn slice<'a, T>(ptr: *const T, n: u32, most: u32) -> &'a [T] {
    if n == 0 || n > most || ptr.is_null() || !ptr.is_aligned() {
        return &[];
    }
    // SAFETY: checked above and promised by the caller.
    unsafe { std::slice::from_raw_parts(ptr, n as usize) }
}

/// A copy of a module's bytes, at most [`MAX_TEXT`] of them.
///
/// # Safety
/// As [`slice()`], for `bytes`.
unsafe fn bytes_of<'a>(bytes: Bytes) -> &'a [u8] {
    // SAFETY: a shorter range of the same bytes.
    unsafe { slice(bytes.ptr, bytes.len.min(MAX_TEXT) as u32, MAX_TEXT as u32) }
}

/// A copy of a module's text.
///
/// # Safety
/// As [`slice()`], for `bytes`.
unsafe fn text_of(bytes: Bytes) -> String {
    // SAFETY: by the caller's promise.
    String::from_utf8_lossy(unsafe { bytes_of(bytes) }).into_owned()
}

fn code(result: Result<(), Errno>) -> i32 {
    result.map_or_else(|errno| -(errno as i32), |()| 0)
}

fn handle(result: Result<i64, Errno>) -> i64 {
    result.unwrap_or_else(|errno| -i64::from(errno as i32))
}

extern "C" fn log(ctx: *mut c_void, level: u32, _target: Bytes, text: Bytes) {
    anywhere(ctx, (), |remote| {
        // SAFETY: the module's text is valid during this call.
        remote.log(level, &unsafe { text_of(text) });
    });
}

extern "C" fn log_level(ctx: *mut c_void) -> u32 {
    anywhere(ctx, 0, Remote::log_level)
}

extern "C" fn now(ctx: *mut c_void) -> u64 {
    anywhere(ctx, 0, Remote::now)
}

extern "C" fn wake(ctx: *mut c_void) {
    anywhere(ctx, (), |remote| remote.wake(LOOP.get() == remote.home));
}

extern "C" fn pool(ctx: *mut c_void) -> *const PoolInfo {
    on_loop(ctx, std::ptr::null(), |use_| std::ptr::from_ref(use_.pool_info()))
}

extern "C" fn alloc(ctx: *mut c_void, frames: *mut FrameDesc, n: u32) -> u32 {
    on_loop(ctx, 0, |use_| {
        if frames.is_null() || !frames.is_aligned() || n > MAX_FRAMES {
            return 0;
        }
        // SAFETY: room for `n` descriptors, by the ABI, during this call. They are plain numbers, so whatever lies
        // there is a valid value.
        let room = unsafe { std::slice::from_raw_parts_mut(frames, n as usize) };
        use_.alloc(room) as u32
    })
}

extern "C" fn free(ctx: *mut c_void, frames: *const FrameDesc, n: u32) {
    // SAFETY: `n` descriptors, by the ABI, during this call.
    on_loop(ctx, (), |use_| use_.free(unsafe { slice(frames, n, MAX_FRAMES) }));
}

extern "C" fn retain(ctx: *mut c_void, frames: *const FrameDesc, n: u32) {
    // SAFETY: as above.
    on_loop(ctx, (), |use_| use_.retain(unsafe { slice(frames, n, MAX_FRAMES) }));
}

extern "C" fn deliver(ctx: *mut c_void, frames: *const FrameDesc, n: u32) {
    // SAFETY: as above.
    on_loop(ctx, (), |use_| use_.deliver(unsafe { slice(frames, n, MAX_FRAMES) }));
}

extern "C" fn send(ctx: *mut c_void, interface: u32, frames: *const FrameDesc, n: u32) -> u32 {
    // SAFETY: as above.
    on_loop(ctx, 0, |use_| use_.send(interface, unsafe { slice(frames, n, MAX_FRAMES) }) as u32)
}

extern "C" fn claim(ctx: *mut c_void, ethertype: u32) -> i32 {
    on_loop(ctx, -libc::EPERM, |use_| code(use_.claim(ethertype)))
}

extern "C" fn interface(ctx: *mut c_void, info: *const InterfaceInfo) -> i32 {
    on_loop(ctx, -libc::EPERM, |use_| {
        if info.is_null() || !info.is_aligned() {
            return -libc::EFAULT;
        }
        // SAFETY: aligned, and by the ABI at least `size` bytes long; every version has had all of these fields.
        let size = unsafe { (*info).size } as usize;
        if size < size_of::<InterfaceInfo>() {
            return -libc::EINVAL;
        }
        // SAFETY: the structure is at least as long as ours.
        let info = unsafe { info.read() };
        // SAFETY: its texts are valid during this call.
        let text = |bytes| unsafe { text_of(bytes) };
        code(use_.set_interface(InterfaceData {
            flags: info.flags,
            mac: info.mac,
            permanent_mac: info.permanent_mac,
            mtu: info.mtu,
            speed_mbps: info.speed_mbps,
            system_name: text(info.system_name),
            description: text(info.description),
            media: text(info.media),
        }))
    })
}

extern "C" fn poll_add(ctx: *mut c_void, fd: i32, interest: u32, token: u64) -> i64 {
    on_loop(ctx, -i64::from(libc::EPERM), |use_| handle(use_.poll_add(fd, interest, token)))
}

extern "C" fn poll_modify(ctx: *mut c_void, source: i64, interest: u32) -> i32 {
    on_loop(ctx, -libc::EPERM, |use_| code(use_.poll_modify(source, interest)))
}

extern "C" fn poll_remove(ctx: *mut c_void, source: i64) -> i32 {
    on_loop(ctx, -libc::EPERM, |use_| code(use_.poll_remove(source)))
}

extern "C" fn set_deadline(ctx: *mut c_void, at: u64) {
    on_loop(ctx, (), |use_| use_.set_deadline(at));
}

extern "C" fn spawn(ctx: *mut c_void, spec: *const SpawnSpec) -> i64 {
    on_loop(ctx, -i64::from(libc::EPERM), |use_| {
        if spec.is_null() || !spec.is_aligned() {
            return -i64::from(libc::EFAULT);
        }
        // SAFETY: aligned, and by the ABI at least `size` bytes long.
        let size = unsafe { (*spec).size } as usize;
        if size < size_of::<SpawnSpec>() {
            return -i64::from(libc::EINVAL);
        }
        // SAFETY: the structure is at least as long as ours.
        let spec = unsafe { spec.read() };
        if spec.n_args > MAX_ITEMS || spec.n_fds > MAX_ITEMS {
            return -i64::from(libc::E2BIG);
        }
        // SAFETY: the list and its texts are valid during this call.
        let args = unsafe { slice(spec.args, spec.n_args, MAX_ITEMS) };
        // SAFETY: as above.
        let args: Vec<&[u8]> = args.iter().map(|arg| unsafe { bytes_of(*arg) }).collect();
        // SAFETY: as above.
        let (program, fds) = unsafe { (text_of(spec.program), slice(spec.fds, spec.n_fds, MAX_ITEMS)) };
        handle(use_.spawn(&program, &args, fds, spec.token))
    })
}

extern "C" fn open_resolver(
    ctx: *mut c_void,
    name: Bytes,
    table: *mut ResolverTable,
    error: *mut TextBuf,
) -> i32 {
    on_loop(ctx, -libc::EPERM, |use_| {
        if table.is_null() || !table.is_aligned() {
            return -libc::EFAULT;
        }
        // SAFETY: aligned, and by the ABI at least `header.size` bytes long, of which the header is one part.
        let room = unsafe { (*table).header.size } as usize;
        if room < size_of::<ResolverTable>() {
            // There is no smaller one: it came with this function.
            return -libc::EINVAL;
        }
        // SAFETY: the module's text is valid during this call.
        match use_.open_resolver(&unsafe { text_of(name) }) {
            Ok(found) => {
                // SAFETY: the room is as large as ours.
                unsafe { table.write(found) };
                0
            }
            Err((errno, sentence)) => {
                // SAFETY: null, or a room that the module owns during this call.
                unsafe { write_text(error, &sentence) };
                -(errno as i32)
            }
        }
    })
}

/// Writes as much of a sentence as fits, cut between characters.
///
/// # Safety
/// `room` is null or valid, and its `ptr` null or valid for writing `cap` bytes.
unsafe fn write_text(room: *mut TextBuf, text: &str) {
    // SAFETY: by the caller's promise.
    let Some(room) = (unsafe { room.as_mut() }).filter(|room| !room.ptr.is_null()) else { return };
    let mut end = text.len().min(usize::try_from(room.cap).unwrap_or(usize::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // SAFETY: `end` is within both.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), room.ptr, end) };
    room.len = end as u64;
}

extern "C" fn kill(ctx: *mut c_void, helper: i64, signal: i32) -> i32 {
    on_loop(ctx, -libc::EPERM, |use_| code(use_.kill(helper, signal)))
}

extern "C" fn fail(ctx: *mut c_void, reason: Bytes) {
    // SAFETY: the module's text is valid during this call.
    on_loop(ctx, (), |use_| use_.fail(&unsafe { text_of(reason) }));
}
