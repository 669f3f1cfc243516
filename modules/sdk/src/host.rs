//! The host as a use sees it: time, packet pool, interfaces, descriptors to watch, deadlines, helper processes.
//!
//! A [`Host`] is a counted handle for the loop thread; clones are cheap. When the use is destroyed every clone goes dead:
//! it stays safe to call and does nothing, so a handle that was forgotten somewhere cannot reach freed memory.

use std::{
    cell::Cell,
    ffi::c_void,
    mem::{MaybeUninit, offset_of},
    os::fd::{AsFd, AsRawFd},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, Bytes, CreateArgs, FrameDesc, Header, HostTable, PoolInfo, ResolverTable, TextBuf,
    info,
};

use crate::{Batch, Error, Interface, InterfaceId, frame::Pool};

/// Bytes of the host's table in ABI 1.0. Frozen: what came later is optional.
const TABLE_1_0: usize = offset_of!(HostTable, log_level) + size_of::<usize>();

/// Handle of the host, one per use. See the module documentation.
#[derive(Clone, Debug)]
pub struct Host(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    remote: Remote,
    pool: Pool,
    pool_fd: i32,
    name: String,
    alive: Cell<bool>,
    failed: Cell<bool>,
    shared: Arc<Mutex<Option<Remote>>>,
}

/// The functions of one use's host, with their first argument.
#[derive(Clone, Copy)]
pub(crate) struct Remote {
    table: HostTable,
    ctx: *mut c_void,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({:p})", self.ctx)
    }
}

// SAFETY: a `Remote` that other threads can reach lies in `Inner::shared`, which is emptied before `destroy` returns, and
// they call only `wake`, `log`, `log_level` and `now` on it, which the ABI allows on any thread.
unsafe impl Send for Remote {}

impl Remote {
    pub(crate) fn log(&self, level: u32, target: &str, text: &str) {
        (self.table.log)(self.ctx, level, Bytes::borrow(target.as_bytes()), Bytes::borrow(text.as_bytes()));
    }

    pub(crate) fn log_level(&self) -> u32 {
        (self.table.log_level)(self.ctx)
    }

    fn wake(&self) {
        (self.table.wake)(self.ctx);
    }
}

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Data to read.
    Read,
    /// Room to write.
    Write,
    /// Both.
    Both,
}

impl Interest {
    fn bits(self) -> u32 {
        match self {
            Self::Read => info::INTEREST_READ,
            Self::Write => info::INTEREST_WRITE,
            Self::Both => info::INTEREST_READ | info::INTEREST_WRITE,
        }
    }
}

/// Where the packet pool lies, for system interfaces that map or register it.
#[derive(Clone, Copy, Debug)]
pub struct PoolView {
    /// First byte.
    pub base: *mut u8,
    /// Bytes.
    pub len: usize,
    /// Bytes of a chunk.
    pub chunk_size: usize,
    /// Bytes that a fresh chunk leaves free before its frame.
    pub headroom: usize,
    /// The memfd behind it; owned by the host.
    pub fd: i32,
}

impl Host {
    /// # Safety
    /// `args` is what the host passed to `create`: its table, context and pool stay valid until `destroy` returns.
    pub(crate) unsafe fn new(args: &CreateArgs, name: &str) -> Result<Self, Error> {
        // SAFETY: valid or null by the caller's promise; only the header is read before its size is known.
        let header = unsafe { args.host.cast::<io_pkt_abi::Header>().as_ref() };
        let Some(size) = header.map(|header| header.size as usize).filter(|size| *size >= TABLE_1_0) else {
            return Err(Error::new(libc::EINVAL, "the host's table is smaller than ABI 1.0 says"));
        };
        let mut table = MaybeUninit::<HostTable>::zeroed();
        let bytes = size.min(size_of::<HostTable>());
        // SAFETY: both sides have that many bytes.
        unsafe { std::ptr::copy_nonoverlapping(args.host.cast::<u8>(), table.as_mut_ptr().cast(), bytes) };
        // SAFETY: what ABI 1.0 has is there; what came later may be null, and is an `Option`.
        let table = unsafe { table.assume_init() };
        // SAFETY: null or valid by the ABI; copied.
        let pool = unsafe { (table.pool)(args.ctx).as_ref() };
        let Some(pool) = pool.filter(|pool| pool.size as usize >= size_of::<PoolInfo>()) else {
            return Err(Error::new(libc::EINVAL, "the host has no packet pool"));
        };
        let remote = Remote { table, ctx: args.ctx };
        Ok(Self(Rc::new(Inner {
            remote,
            pool: Pool::new(pool),
            pool_fd: pool.fd,
            name: name.to_owned(),
            alive: Cell::new(true),
            failed: Cell::new(false),
            shared: Arc::new(Mutex::new(Some(remote))),
        })))
    }

    /// Name of this use (`en0`, `qnet`).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Nanoseconds of the same clock as [`crate::Work::now`], read afresh. 0 after the use's end.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.with(0, |remote| (remote.table.now)(remote.ctx))
    }

    /// An empty batch. Keep batches: they are a kilobyte each and made to be used again.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Up to `n` fresh chunks (64 at most), in one call; fewer when the pool runs low.
    #[must_use]
    pub fn alloc(&self, n: usize) -> Batch {
        let mut batch = self.batch();
        batch.refill(n);
        batch
    }

    /// Where the packet pool lies.
    #[must_use]
    pub fn pool_view(&self) -> PoolView {
        let pool = &self.0.pool;
        PoolView {
            base: pool.base(),
            len: pool.len(),
            chunk_size: pool.chunk_size(),
            headroom: pool.headroom(),
            fd: self.0.pool_fd,
        }
    }

    /// Driver: hands received frames to the switchboard and leaves the batch empty. Never blocks.
    #[inline]
    pub fn deliver(&self, batch: &mut Batch) {
        let count = batch.len();
        self.deliver_first(batch, count);
    }

    /// Driver: the same for the first `n` descriptors, which must be whole frames. The others move to the front.
    #[inline]
    pub fn deliver_first(&self, batch: &mut Batch, n: usize) {
        let frames = &batch.descs()[..n.min(batch.len())];
        if !frames.is_empty() && self.0.alive.get() {
            let remote = &self.0.remote;
            (remote.table.deliver)(remote.ctx, frames.as_ptr(), frames.len() as u32);
        }
        let count = frames.len();
        batch.forget_first(count);
    }

    /// Protocol: sends whole frames out of an interface and leaves the batch empty. Returns how many descriptors were
    /// queued; the host freed the others and counted them as dropped (queue full, or no such interface).
    #[inline]
    pub fn send(&self, interface: InterfaceId, batch: &mut Batch) -> usize {
        let frames = batch.descs();
        let count = frames.len();
        if count == 0 {
            return 0;
        }
        let queued = self
            .with(0, |remote| (remote.table.send)(remote.ctx, interface.0, frames.as_ptr(), count as u32));
        batch.forget_first(count);
        queued as usize
    }

    /// Protocol: asks for the frames of an ethertype. VLAN tags are not looked behind.
    ///
    /// # Errors
    /// `EBUSY` when another protocol has it, `EINVAL` below 0x0600.
    pub fn claim(&self, ethertype: u16) -> Result<(), Error> {
        let code = self.with(-libc::ENODEV, |remote| (remote.table.claim)(remote.ctx, ethertype.into()));
        check(code.into(), || format!("cannot claim ethertype 0x{ethertype:04x}")).map(drop)
    }

    /// Protocol: asks for all frames of every interface.
    ///
    /// # Errors
    /// `EBUSY` when another protocol has them.
    pub fn claim_all(&self) -> Result<(), Error> {
        let code = self.with(-libc::ENODEV, |remote| (remote.table.claim)(remote.ctx, 0));
        check(code.into(), || "cannot claim all frames".to_owned()).map(drop)
    }

    /// Driver: makes the interface known, or tells new data of it.
    ///
    /// # Errors
    /// What the host answers.
    pub fn interface(&self, interface: &Interface) -> Result<(), Error> {
        let info = interface.info();
        let code = self.with(-libc::ENODEV, |remote| (remote.table.interface)(remote.ctx, &info));
        check(code.into(), || format!("cannot make interface {} known", self.name())).map(drop)
    }

    /// Watches a descriptor, edge-triggered; `poll` hears of it with `token`. Watching ends when the handle is dropped:
    /// keep the descriptor open at least that long, that is, declare the handle's field before the descriptor's.
    ///
    /// # Errors
    /// What the system says about the descriptor (`EPERM` for a regular file).
    pub fn watch(&self, fd: &impl AsFd, interest: Interest, token: u64) -> Result<PollHandle, Error> {
        let fd = fd.as_fd().as_raw_fd();
        let code = self.with(-i64::from(libc::ENODEV), |remote| {
            (remote.table.poll_add)(remote.ctx, fd, interest.bits(), token)
        });
        let handle = check(code, || format!("cannot watch descriptor {fd}"))?;
        Ok(PollHandle { host: self.clone(), handle })
    }

    /// Asks for `poll` at that time (clock of [`Host::now`]); `None` takes the request back. One deadline per use: the
    /// last one holds.
    pub fn set_deadline(&self, at: Option<u64>) {
        // 0 means "none" on the border; a deadline of 0 is long past and means "at once".
        let at = at.map_or(0, |at| at.max(1));
        self.with((), |remote| (remote.table.set_deadline)(remote.ctx, at));
    }

    /// Asks for `poll` soon.
    pub fn wake(&self) {
        self.with((), Remote::wake);
    }

    /// A handle with which other threads ask for `poll`.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.0.shared))
    }

    /// Marks the use as failed: the host stops and destroys it after the present call.
    pub fn fail(&self, reason: &str) {
        self.0.failed.set(true);
        self.with((), |remote| (remote.table.fail)(remote.ctx, Bytes::borrow(reason.as_bytes())));
    }

    /// Whether [`Host::fail`] was called, by the module or for it.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.failed.get()
    }

    #[inline]
    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(crate) fn remote(&self) -> &Remote {
        &self.0.remote
    }

    pub(crate) fn shared(&self) -> &Arc<Mutex<Option<Remote>>> {
        &self.0.shared
    }

    /// Fills `frames` with fresh chunks and returns how many there are.
    ///
    /// # Safety
    /// `frames` is valid for writing `n` descriptors.
    #[inline]
    pub(crate) unsafe fn alloc_raw(&self, frames: *mut FrameDesc, n: usize) -> usize {
        let got = self.with(0, |remote| (remote.table.alloc)(remote.ctx, frames, n as u32));
        (got as usize).min(n)
    }

    #[inline]
    pub(crate) fn free_raw(&self, frames: &[FrameDesc]) {
        if !frames.is_empty() {
            self.with((), |remote| {
                (remote.table.free)(remote.ctx, frames.as_ptr(), frames.len() as u32);
            });
        }
    }

    #[inline]
    pub(crate) fn retain_raw(&self, frames: &[FrameDesc]) {
        self.with((), |remote| {
            (remote.table.retain)(remote.ctx, frames.as_ptr(), frames.len() as u32);
        });
    }

    pub(crate) fn spawn_raw(&self, spec: &io_pkt_abi::SpawnSpec) -> i64 {
        self.with(-i64::from(libc::ENODEV), |remote| (remote.table.spawn)(remote.ctx, spec))
    }

    pub(crate) fn kill_raw(&self, helper: i64, signal: i32) -> i32 {
        self.with(-libc::ESRCH, |remote| (remote.table.kill)(remote.ctx, helper, signal))
    }

    /// The table of `nr-NAME.so`, checked by the host.
    pub(crate) fn resolver_table(&self, name: &str) -> Result<ResolverTable, Error> {
        let opened = self.with(None, |remote| remote.table.open_resolver.map(|open| (open, remote.ctx)));
        let Some((open, ctx)) = opened else {
            return Err(Error::new(libc::ENOSYS, "this io-pkt has no loadable resolvers"));
        };
        let mut table = MaybeUninit::<ResolverTable>::zeroed();
        let size = size_of::<ResolverTable>() as u32;
        // SAFETY: the header begins the table, which has room for it.
        unsafe {
            table.as_mut_ptr().cast::<Header>().write(Header { size, major: ABI_MAJOR, minor: ABI_MINOR })
        };
        let mut sentence = [0; 1024];
        let mut room = TextBuf { ptr: sentence.as_mut_ptr(), cap: 1024, len: 0 };
        let code = open(ctx, Bytes::borrow(name.as_bytes()), table.as_mut_ptr(), &raw mut room);
        if code != 0 {
            let len = usize::try_from(room.len).unwrap_or(0).min(sentence.len());
            return Err(Error::new(-code, String::from_utf8_lossy(&sentence[..len]).into_owned()));
        }
        // SAFETY: the host has written a whole table, whose functions it has checked.
        Ok(unsafe { table.assume_init() })
    }

    /// Makes all clones dead and waits for other threads that are inside `wake` or `log`.
    pub(crate) fn bury(&self) {
        self.0.alive.set(false);
        self.0.shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    #[inline]
    fn with<R>(&self, dead: R, call: impl FnOnce(&Remote) -> R) -> R {
        if self.0.alive.get() { call(&self.0.remote) } else { dead }
    }
}

fn check(code: i64, what: impl FnOnce() -> String) -> Result<i64, Error> {
    if code < 0 { Err(Error::from_code(what(), code)) } else { Ok(code) }
}

/// A watched descriptor; dropping it ends the watching.
#[derive(Debug)]
pub struct PollHandle {
    host: Host,
    handle: i64,
}

impl PollHandle {
    /// Changes what the descriptor is watched for. Readiness that exists already is told again.
    ///
    /// # Errors
    /// What the system says.
    pub fn modify(&self, interest: Interest) -> Result<(), Error> {
        let code = self.host.with(-libc::ENODEV, |remote| {
            (remote.table.poll_modify)(remote.ctx, self.handle, interest.bits())
        });
        check(code.into(), || "cannot change what a descriptor is watched for".to_owned()).map(drop)
    }
}

impl Drop for PollHandle {
    fn drop(&mut self) {
        self.host.with(0, |remote| (remote.table.poll_remove)(remote.ctx, self.handle));
    }
}

/// Asks for `poll` from any thread. Does nothing once the use is destroyed.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Mutex<Option<Remote>>>);

impl Waker {
    /// Asks for `poll` soon. Several calls may be answered by one `poll`.
    pub fn wake(&self) {
        if let Some(remote) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            remote.wake();
        }
    }
}
