//! Helper processes that modules start: watched by pidfd, told apart by generation, ended in order.
//!
//! A helper is a child of the daemon in a process group of its own, so that a Ctrl-C at the terminal reaches the
//! daemon only and the daemon ends its helpers itself. It does not die with a daemon that crashes: `qnet-netfs`
//! must outlive one, and `qnet-server` sees its socket close.

mod sys;

use std::{ffi::CString, io, os::fd::RawFd, path::Path};

use mio::{Interest, Registry, unix::SourceFd};
use nix::errno::Errno;
use slab::Slab;

use crate::{
    token::{Address, Class},
    uses::UseId,
};

/// How long a helper may take after SIGTERM before it gets SIGKILL: 2 s, in nanoseconds.
pub const GRACE: u64 = 2_000_000_000;
/// Most helpers of one use.
const MAX_PER_USE: usize = 256;

/// A helper to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program file, found already.
    pub program: &'a Path,
    /// Arguments after the program's name.
    pub args: &'a [&'a [u8]],
    /// Descriptors that it gets as 3, 4, …; they stay the caller's.
    pub fds: &'a [RawFd],
    /// The module's own number for it.
    pub token: u64,
}

#[derive(Debug)]
struct Helper {
    /// `None` once its use is gone.
    owner: Option<UseId>,
    token: u64,
    generation: u32,
    child: sys::Child,
    name: String,
    kill_at: Option<u64>,
}

/// A helper that ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    /// The use to tell, unless it is gone.
    pub owner: Option<UseId>,
    /// The module's own number.
    pub token: u64,
    /// Wait status.
    pub status: i32,
    /// Program name, for the log.
    pub name: String,
    /// Process id it had.
    pub pid: i32,
}

/// All helpers.
#[derive(Debug)]
pub struct Helpers {
    registry: Registry,
    entries: Slab<Helper>,
    generation: u32,
}

impl Helpers {
    /// An empty table on that poller.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self { registry, entries: Slab::new(), generation: 0 }
    }

    /// Starts a helper; returns a handle above 0.
    ///
    /// # Errors
    /// As posix_spawn(3); `EINVAL` for an argument with a NUL, `ENOSPC` above 256 helpers of one use.
    pub fn spawn(&mut self, owner: UseId, spawn: &Spawn<'_>) -> Result<i64, Errno> {
        if self.entries.iter().filter(|(_, helper)| helper.owner == Some(owner)).count() >= MAX_PER_USE {
            return Err(Errno::ENOSPC);
        }
        let name = spawn.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut args = vec![CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?];
        for arg in spawn.args {
            args.push(CString::new(*arg).map_err(|_| Errno::EINVAL)?);
        }
        let child = sys::Child::start(spawn.program, &args, spawn.fds)?;
        self.generation = self.generation.wrapping_add(1);
        let address = Address::new(Class::Helper, self.entries.vacant_key(), self.generation);
        let watched =
            self.registry.register(&mut SourceFd(&child.pidfd()), address.token(), Interest::READABLE);
        if let Err(error) = watched {
            // A child nobody watches would stay for ever.
            child.kill_and_wait();
            return Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw));
        }
        tracing::debug!(pid = child.pid(), helper = name, "helper started");
        let (token, generation) = (spawn.token, address.generation);
        self.entries.insert(Helper { owner: Some(owner), token, generation, child, name, kill_at: None });
        Ok(address.handle())
    }

    /// Sends a signal to a helper of that use.
    ///
    /// # Errors
    /// `ENOENT` for a handle that is not the owner's or whose helper has ended; `EINVAL` for no signal.
    pub fn kill(&mut self, owner: UseId, handle: i64, signal: i32) -> Result<(), Errno> {
        let address = Address::of_handle(Class::Helper, handle).ok_or(Errno::ENOENT)?;
        let helper = self.entries.get(address.place as usize).ok_or(Errno::ENOENT)?;
        if helper.owner != Some(owner) || helper.generation != address.generation {
            return Err(Errno::ENOENT);
        }
        helper.child.signal(signal)
    }

    /// A pidfd became readable: takes the helper away and tells how it ended.
    pub fn reap(&mut self, address: Address) -> Option<Exit> {
        let helper = self.entries.get(address.place as usize)?;
        if helper.generation != address.generation {
            return None;
        }
        let status = helper.child.try_wait()?;
        let helper = self.entries.remove(address.place as usize);
        self.unwatch(&helper);
        let Helper { owner, token, name, child, .. } = helper;
        Some(Exit { owner, token, status, name, pid: child.pid() })
    }

    /// The use is gone: its helpers get SIGTERM now and SIGKILL after [`GRACE`].
    pub fn retire(&mut self, owner: UseId, now: u64) {
        for (_, helper) in self.entries.iter_mut().filter(|(_, helper)| helper.owner == Some(owner)) {
            helper.owner = None;
            helper.kill_at = Some(now + GRACE);
            // It may have ended meanwhile; then its pidfd says so.
            let _ = helper.child.signal(libc::SIGTERM);
        }
    }

    /// When [`Helpers::expire`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.entries.iter().filter_map(|(_, helper)| helper.kill_at).min()
    }

    /// Kills helpers whose time is over.
    pub fn expire(&mut self, now: u64) {
        for (_, helper) in self.entries.iter_mut().filter(|(_, h)| h.kill_at.is_some_and(|at| at <= now)) {
            helper.kill_at = None;
            tracing::warn!(pid = helper.child.pid(), helper = helper.name, "helper ignored SIGTERM: killed");
            let _ = helper.child.signal(libc::SIGKILL);
        }
    }

    /// Helpers that run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn unwatch(&self, helper: &Helper) {
        // Closing the pidfd would do the same; being explicit keeps the poller's table true.
        let _: io::Result<()> = self.registry.deregister(&mut SourceFd(&helper.child.pidfd()));
    }
}

impl Exit {
    /// How it ended, for the log.
    #[must_use]
    pub fn describe(&self) -> String {
        if libc::WIFSIGNALED(self.status) {
            format!("killed by signal {}", libc::WTERMSIG(self.status))
        } else {
            format!("exit status {}", libc::WEXITSTATUS(self.status))
        }
    }
}

#[cfg(test)]
mod tests;
