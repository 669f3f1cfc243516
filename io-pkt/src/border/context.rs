//! What the host functions know of the use that calls them.
//!
//! The address of a [`UseContext`] is the `ctx` of every host function. It lives as long as the module's side of
//! the use. All of it belongs to the loop thread, except [`Remote`], which holds nothing but what threads may
//! share: that is the part behind `wake`, `log`, `log_level` and `now`.

use std::{
    cell::{Cell, RefCell},
    os::fd::RawFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use io_pkt_abi::{FrameDesc, PoolInfo};
use mio::Waker;
use nix::errno::Errno;

use crate::{
    clock::Clock,
    core::Core,
    helpers::Spawn,
    interface::InterfaceData,
    logging,
    pool::Holder,
    switchboard::{InterfaceId, ProtocolSlot},
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
}

/// The context of one use. Its address is what the module gets as `ctx`.
#[derive(Debug)]
pub struct UseContext {
    pub(super) remote: Remote,
    core: Rc<Core>,
    id: UseId,
    holder: Holder,
    role: Role,
    deadline: Cell<u64>,
    failure: RefCell<Option<String>>,
    interface: RefCell<Option<InterfaceData>>,
    /// Something for the loop to look at: a failure or new interface data.
    noted: Cell<bool>,
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
    /// The context of a new use called `name`.
    #[must_use]
    pub fn new(core: &Rc<Core>, id: UseId, name: &str, role: Role, holder: Holder, verbose: u64) -> Self {
        Self {
            remote: Remote {
                name: name.to_owned(),
                verbose,
                woken: AtomicBool::new(false),
                waker: Arc::clone(&core.waker),
                clock: core.clock,
            },
            core: Rc::clone(core),
            id,
            holder,
            role,
            deadline: Cell::new(0),
            failure: RefCell::new(None),
            interface: RefCell::new(None),
            noted: Cell::new(false),
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

    pub(super) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub(super) fn pool_info(&self) -> &PoolInfo {
        self.core.pool_info()
    }

    pub(super) fn alloc(&self, frames: &mut [FrameDesc]) -> usize {
        self.core.pool.borrow_mut().alloc(self.holder, frames)
    }

    pub(super) fn free(&self, frames: &[FrameDesc]) {
        self.core.pool.borrow_mut().free(self.holder, frames);
    }

    pub(super) fn retain(&self, frames: &[FrameDesc]) {
        self.core.pool.borrow_mut().retain(self.holder, frames);
    }

    pub(super) fn deliver(&self, frames: &[FrameDesc]) {
        match self.role {
            Role::Driver(id) => {
                self.core.board.borrow_mut().deliver(
                    id,
                    self.holder,
                    frames,
                    &mut self.core.pool.borrow_mut(),
                );
            }
            Role::Protocol(_) => {
                self.free(frames);
                self.fail("called deliver, which is for drivers");
            }
        }
    }

    pub(super) fn send(&self, interface: u32, frames: &[FrameDesc]) -> usize {
        match self.role {
            Role::Protocol(_) => {
                let mut pool = self.core.pool.borrow_mut();
                self.core.board.borrow_mut().send(InterfaceId(interface), self.holder, frames, &mut pool)
            }
            Role::Driver(_) => {
                self.free(frames);
                self.fail("called send, which is for protocols");
                0
            }
        }
    }

    pub(super) fn claim(&self, ethertype: u32) -> Result<(), Errno> {
        use crate::switchboard::ClaimError;
        let Role::Protocol(slot) = self.role else { return Err(Errno::EPERM) };
        self.core.board.borrow_mut().claim(slot, ethertype).map_err(|error| {
            tracing::warn!(subject = self.remote.name, "claim refused: {error}");
            match error {
                ClaimError::Impossible(_) => Errno::EINVAL,
                ClaimError::Taken(_) => Errno::EBUSY,
            }
        })
    }

    pub(super) fn set_interface(&self, data: InterfaceData) -> Result<(), Errno> {
        if !matches!(self.role, Role::Driver(_)) {
            return Err(Errno::EPERM);
        }
        let changed = self.interface.borrow().as_ref() != Some(&data);
        if changed {
            if self.interface.borrow().as_ref().is_some_and(|old| old.link() != data.link()) {
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
        self.core.sources.borrow_mut().add(self.id, fd, interest, token)
    }

    pub(super) fn poll_modify(&self, handle: i64, interest: u32) -> Result<(), Errno> {
        self.core.sources.borrow_mut().modify(self.id, handle, interest)
    }

    pub(super) fn poll_remove(&self, handle: i64) -> Result<(), Errno> {
        self.core.sources.borrow_mut().remove(self.id, handle)
    }

    pub(super) fn set_deadline(&self, at: u64) {
        self.deadline.set(at);
    }

    pub(super) fn spawn(
        &self,
        program: &str,
        args: &[&[u8]],
        fds: &[RawFd],
        token: u64,
    ) -> Result<i64, Errno> {
        let Some(path) = self.core.program(program) else {
            let dirs: Vec<_> = self.core.search.dirs().iter().map(|dir| dir.display().to_string()).collect();
            tracing::warn!(subject = self.remote.name, "helper {program} is not in {}", dirs.join(", "));
            return Err(Errno::ENOENT);
        };
        let spawn = Spawn { program: &path, args, fds, token };
        self.core.helpers.borrow_mut().spawn(self.id, &spawn)
    }

    pub(super) fn kill(&self, helper: i64, signal: i32) -> Result<(), Errno> {
        self.core.helpers.borrow_mut().kill(self.id, helper, signal)
    }

    /// Notes a failure; the first reason stays.
    pub(super) fn fail(&self, reason: &str) {
        self.failure.borrow_mut().get_or_insert_with(|| reason.to_owned());
        self.noted.set(true);
    }
}
