//! What the host functions know of the use that calls them.
//!
//! The address of a [`UseContext`] is the `ctx` of every host function. It lives as long as the module's side of
//! the use. All of it belongs to its loop's thread, except [`Remote`], which holds nothing but what threads may
//! share: that is the part behind `wake`, `log`, `log_level` and `now`.
//!
//! A use on loop 0 works on the pool and the switchboard directly. A driver on another loop cannot: its chunks and frames
//! come and go through rings ([`Far`]), and loop 0 keeps the books.

use std::{
    cell::{Cell, RefCell},
    os::fd::RawFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use io_pkt_abi::{FrameDesc, PoolInfo, ResolverTable};
use io_pkt_host::Kind;
use mio::Waker;
use nix::errno::Errno;

use crate::{
    clock::Clock,
    core::{Core, LoopParts},
    helpers::Spawn,
    interface::InterfaceData,
    logging,
    pool::Holder,
    switchboard::{InterfaceId, ProtocolSlot},
    threads::Far,
    uses::UseId,
};

/// A use's place in the switchboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A driver and its interface.
    Driver(InterfaceId),
    /// A protocol.
    Protocol(ProtocolSlot),
}

/// The part that any thread may use.
#[derive(Debug)]
pub(super) struct Remote {
    name: String,
    /// The driver option `verbose=N`: lines that are otherwise too detailed count as info.
    verbose: u64,
    woken: AtomicBool,
    waker: Arc<Waker>,
    clock: Clock,
    /// The loop whose thread the use belongs to.
    pub(super) home: LoopId,
}

/// Names a loop within this process. A plain number, so that any thread may compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoopId(usize);

impl LoopId {
    fn of(parts: &Rc<LoopParts>) -> Self {
        Self(Rc::as_ptr(parts).addr())
    }

    /// The id of no loop.
    pub(super) const NONE: Self = Self(0);
}

/// Where a use's frames come from and go to.
#[derive(Debug)]
enum Frames {
    /// On loop 0.
    Board(Rc<Core>),
    /// On another loop.
    Rings(Rc<RefCell<Far>>),
}

/// The context of one use. Its address is what the module gets as `ctx`.
#[derive(Debug)]
pub struct UseContext {
    pub(super) remote: Remote,
    frames: Frames,
    parts: Rc<LoopParts>,
    id: UseId,
    holder: Holder,
    role: Role,
    deadline: Cell<u64>,
    failure: RefCell<Option<String>>,
    interface: RefCell<Option<InterfaceData>>,
    /// Something for the loop to look at: a failure or new interface data.
    noted: Cell<bool>,
    /// Its thread is stuck in the module, which may go on writing to the chunks that it holds.
    lost: Cell<bool>,
}

impl Remote {
    pub(super) fn log(&self, level: u32, text: &str) {
        let level = match level {
            4 if self.verbose >= 1 => 3,
            5 if self.verbose >= 2 => 3,
            other => other,
        };
        logging::module_line(&self.name, level, text);
    }

    pub(super) fn log_level(&self) -> u32 {
        let wanted = match self.verbose {
            0 => 0,
            1 => 4,
            _ => 5,
        };
        logging::module_level().max(wanted)
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// `on_loop` saves the system call when the loop is awake anyway: it looks before it sleeps.
    pub(super) fn wake(&self, on_loop: bool) {
        if !self.woken.swap(true, Ordering::AcqRel) && !on_loop {
            // Fails only when the daemon ends.
            let _ = self.waker.wake();
        }
    }
}

impl UseContext {
    /// The context of a new use on loop 0 called `name`.
    #[must_use]
    pub fn new(core: &Rc<Core>, id: UseId, name: &str, role: Role, holder: Holder, verbose: u64) -> Self {
        Self::with(Frames::Board(Rc::clone(core)), core.parts(), id, name, role, holder, verbose)
    }

    /// The context of a driver on another loop, whose parts these are. Loop 0 has a context of the same id, name, role
    /// and holder.
    #[must_use]
    pub fn pinned(
        parts: &Rc<LoopParts>,
        far: &Rc<RefCell<Far>>,
        (id, name, role, holder, verbose): (UseId, &str, Role, Holder, u64),
    ) -> Self {
        Self::with(Frames::Rings(Rc::clone(far)), parts, id, name, role, holder, verbose)
    }

    fn with(
        frames: Frames,
        parts: &Rc<LoopParts>,
        id: UseId,
        name: &str,
        role: Role,
        holder: Holder,
        verbose: u64,
    ) -> Self {
        Self {
            remote: Remote {
                name: name.to_owned(),
                verbose,
                woken: AtomicBool::new(false),
                waker: Arc::clone(&parts.waker),
                clock: parts.clock,
                home: LoopId::of(parts),
            },
            frames,
            parts: Rc::clone(parts),
            id,
            holder,
            role,
            deadline: Cell::new(0),
            failure: RefCell::new(None),
            interface: RefCell::new(None),
            noted: Cell::new(false),
            lost: Cell::new(false),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> UseId {
        self.id
    }

    /// Its holder in the pool.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// Its place in the switchboard.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// True when a wake-up waits to be taken.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.remote.woken.load(Ordering::Relaxed)
    }

    /// True once after each wake-up.
    #[must_use]
    pub fn take_wake(&self) -> bool {
        self.remote.woken.load(Ordering::Relaxed) && self.remote.woken.swap(false, Ordering::AcqRel)
    }

    /// True once when the deadline has come.
    #[must_use]
    pub fn take_deadline(&self, now: u64) -> bool {
        let due = self.deadline.get() != 0 && self.deadline.get() <= now;
        if due {
            self.deadline.set(0);
        }
        due
    }

    /// When it wants to be polled; 0 for never.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.deadline.get()
    }

    /// True once after the module said something that the loop must look at.
    #[must_use]
    pub fn take_noted(&self) -> bool {
        self.noted.get() && self.noted.replace(false)
    }

    /// The reason that the module gave for its failure.
    #[must_use]
    pub fn take_failure(&self) -> Option<String> {
        self.failure.take()
    }

    /// The interface as the driver described it last; `None` before it did.
    #[must_use]
    pub fn interface(&self) -> Option<InterfaceData> {
        self.interface.borrow().clone()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.remote.name
    }

    /// The option `verbose=N`.
    #[must_use]
    pub fn verbose(&self) -> u64 {
        self.remote.verbose
    }

    /// Its thread no longer answers: what it holds must not be given to others.
    pub fn lose(&self) {
        self.lost.set(true);
    }

    /// True after [`UseContext::lose`].
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Chunks in the pool that nobody holds; 0 on another loop than 0, which does not know.
    #[must_use]
    pub fn free_chunks(&self) -> usize {
        match &self.frames {
            Frames::Board(core) => core.pool.borrow().free_chunks(),
            Frames::Rings(_) => 0,
        }
    }

    /// A driver on another loop found that many chunks too few.
    pub fn count_exhausted(&self, chunks: u64) {
        if let Frames::Board(core) = &self.frames {
            core.pool.borrow_mut().count_exhausted(chunks);
        }
    }

    pub(super) fn pool_info(&self) -> &PoolInfo {
        self.parts.pool_info()
    }

    /// As `HostTable::alloc`.
    pub fn alloc(&self, frames: &mut [FrameDesc]) -> usize {
        match &self.frames {
            Frames::Board(core) => core.pool.borrow_mut().alloc(self.holder, frames),
            Frames::Rings(far) => far.borrow_mut().alloc(frames),
        }
    }

    /// As `HostTable::free`.
    pub fn free(&self, frames: &[FrameDesc]) {
        match &self.frames {
            Frames::Board(core) => core.pool.borrow_mut().free(self.holder, frames),
            Frames::Rings(far) => far.borrow_mut().free(frames),
        }
    }

    /// As `HostTable::retain`.
    pub fn retain(&self, frames: &[FrameDesc]) {
        match &self.frames {
            Frames::Board(core) => core.pool.borrow_mut().retain(self.holder, frames),
            Frames::Rings(far) => far.borrow_mut().retain(frames),
        }
    }

    /// As `HostTable::deliver`.
    pub fn deliver(&self, frames: &[FrameDesc]) {
        match self.role {
            Role::Driver(id) => match &self.frames {
                Frames::Board(core) => {
                    let pool = &mut core.pool.borrow_mut();
                    core.board.borrow_mut().deliver(id, self.holder, frames, pool);
                }
                Frames::Rings(far) => far.borrow_mut().deliver(frames),
            },
            Role::Protocol(_) => {
                self.free(frames);
                self.fail("called deliver, which is for drivers");
            }
        }
    }

    pub(super) fn send(&self, interface: u32, frames: &[FrameDesc]) -> usize {
        match (self.role, &self.frames) {
            (Role::Protocol(_), Frames::Board(core)) => {
                let mut pool = core.pool.borrow_mut();
                core.board.borrow_mut().send(InterfaceId(interface), self.holder, frames, &mut pool)
            }
            _ => {
                self.free(frames);
                self.fail("called send, which is for protocols");
                0
            }
        }
    }

    pub(super) fn claim(&self, ethertype: u32) -> Result<(), Errno> {
        use crate::switchboard::ClaimError;
        let (Role::Protocol(slot), Frames::Board(core)) = (self.role, &self.frames) else {
            return Err(Errno::EPERM);
        };
        core.board.borrow_mut().claim(slot, ethertype).map_err(|error| {
            tracing::warn!(subject = self.remote.name, "claim refused: {error}");
            match error {
                ClaimError::Impossible(_) => Errno::EINVAL,
                ClaimError::Taken(_) => Errno::EBUSY,
            }
        })
    }

    /// As `HostTable::interface`.
    ///
    /// # Errors
    /// `EPERM` for a protocol.
    pub fn set_interface(&self, data: InterfaceData) -> Result<(), Errno> {
        if !matches!(self.role, Role::Driver(_)) {
            return Err(Errno::EPERM);
        }
        let changed = self.interface.borrow().as_ref() != Some(&data);
        if changed {
            let link_changed = self.interface.borrow().as_ref().is_some_and(|old| old.link() != data.link());
            // Loop 0 hears of it as well and is the one to say so.
            if link_changed && matches!(self.frames, Frames::Board(_)) {
                tracing::info!(
                    subject = self.remote.name,
                    "link is {}",
                    if data.link() { "up" } else { "down" }
                );
            }
            self.interface.replace(Some(data));
            self.noted.set(true);
        }
        Ok(())
    }

    pub(super) fn poll_add(&self, fd: RawFd, interest: u32, token: u64) -> Result<i64, Errno> {
        self.parts.sources.borrow_mut().add(self.id, fd, interest, token)
    }

    pub(super) fn poll_modify(&self, handle: i64, interest: u32) -> Result<(), Errno> {
        self.parts.sources.borrow_mut().modify(self.id, handle, interest)
    }

    pub(super) fn poll_remove(&self, handle: i64) -> Result<(), Errno> {
        self.parts.sources.borrow_mut().remove(self.id, handle)
    }

    /// As `HostTable::set_deadline`.
    pub fn set_deadline(&self, at: u64) {
        self.deadline.set(at);
    }

    pub(super) fn spawn(
        &self,
        program: &str,
        args: &[&[u8]],
        fds: &[RawFd],
        token: u64,
    ) -> Result<i64, Errno> {
        let Some(path) = self.parts.program(program) else {
            let dirs: Vec<_> = self.parts.search.dirs().iter().map(|dir| dir.display().to_string()).collect();
            tracing::warn!(subject = self.remote.name, "helper {program} is not in {}", dirs.join(", "));
            return Err(Errno::ENOENT);
        };
        let spawn = Spawn { program: &path, args, fds, token };
        self.parts.helpers.borrow_mut().spawn(self.id, &spawn)
    }

    /// As `HostTable::open_resolver`: the table, or an errno and a sentence.
    pub(super) fn open_resolver(&self, name: &str) -> Result<ResolverTable, (Errno, String)> {
        let (Frames::Board(core), Role::Protocol(_)) = (&self.frames, self.role) else {
            return Err((Errno::EPERM, "only protocols open resolvers".to_owned()));
        };
        let plain = !name.is_empty() && !name.contains('/');
        if !plain {
            return Err((Errno::EINVAL, format!("{name}: is no name of a resolver")));
        }
        let file = self.parts.search.resolve(Kind::Resolver, name);
        let build = file.and_then(|file| core.resolvers.borrow_mut().load(Kind::Resolver, &file));
        let build = build.map_err(|error| (Errno::from_raw(error.errno()), error.to_string()))?;
        tracing::info!(subject = self.remote.name, "uses {} of {}", build.name(), build.path().display());
        build.resolver().ok_or_else(|| (Errno::EINVAL, format!("{}: is no resolver", build.name())))
    }

    pub(super) fn kill(&self, helper: i64, signal: i32) -> Result<(), Errno> {
        self.parts.helpers.borrow_mut().kill(self.id, helper, signal)
    }

    /// Notes a failure; the first reason stays.
    pub fn fail(&self, reason: &str) {
        self.failure.borrow_mut().get_or_insert_with(|| reason.to_owned());
        self.noted.set(true);
    }
}
