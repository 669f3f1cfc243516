//! Taking uses away: on request, after a failure, and all of them at the end.
//!
//! All three go the same way, and in an order that matters: others are told first, the module may say a last word
//! while it is still in its place, its descriptors are unwatched before they are closed, and chunks are taken back
//! last.

use ctl::Unmounted;
use io_pkt_abi::info::EVENT_GONE;
use io_pkt_host::Kind;
use nix::errno::Errno;
use thiserror::Error;

use super::{FAILED_KEPT, Registry};
use crate::{
    border::{Role, UseContext},
    uses::Use,
};

/// Why a use was not taken away.
#[derive(Debug, Error)]
pub enum UnmountError {
    /// Nothing is called so.
    #[error("{name}: not mounted here; mounted are: {present}")]
    Unknown {
        /// As the user typed it.
        name: String,
        /// What there is.
        present: String,
    },
    /// The module cannot go while the daemon runs.
    #[error(
        "{name} cannot be unmounted while io-pkt runs (QNX's cannot either); end io-pkt instance {instance} (pid {pid}) \
         to be rid of it"
    )]
    Permanent {
        /// Name of the use.
        name: String,
        /// This daemon's instance.
        instance: u32,
        /// Its pid.
        pid: u32,
    },
}

impl UnmountError {
    /// The errno that fits best.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Unknown { .. } => Errno::ENOENT,
            Self::Permanent { .. } => Errno::EBUSY,
        }
    }
}

impl Registry {
    /// Takes the use that `name` means away.
    ///
    /// # Errors
    /// [`UnmountError`]; nothing has changed then.
    pub fn unmount(&mut self, name: &str) -> Result<Unmounted, UnmountError> {
        let at = self
            .find(name)
            .or_else(|| self.owner_of_net(name))
            .ok_or_else(|| UnmountError::Unknown { name: name.to_owned(), present: self.names() })?;
        let use_ = &self.uses[at];
        if !use_.build().is_unmountable() {
            return Err(UnmountError::Permanent {
                name: use_.name().to_owned(),
                instance: self.identity.instance,
                pid: std::process::id(),
            });
        }
        let gone = Unmounted { name: use_.name().to_owned(), module: use_.build().name().to_owned() };
        self.take_away(at);
        tracing::info!(subject = gone.name, "unmounted {}", gone.module);
        self.bury();
        Ok(gone)
    }

    /// Takes everything away, the last mounted first.
    pub fn unmount_all(&mut self) {
        while !self.uses.is_empty() {
            let at = self.uses.len() - 1;
            let name = self.uses[at].name().to_owned();
            self.take_away(at);
            tracing::debug!(subject = name, "unmounted");
        }
        self.doomed.clear();
    }

    /// Takes failed uses away. One failure may cause another, so this goes on until there is none.
    pub(super) fn bury(&mut self) {
        while let Some(id) = self.doomed.pop() {
            let Some(at) = self.place(id) else { continue };
            self.look_at_failure(at);
            let use_ = &self.uses[at];
            let report = use_.describe(self.chunks_of(use_));
            let reason = report.reason.as_deref().unwrap_or("no reason given");
            tracing::error!(subject = report.name, "{} failed and was unmounted: {reason}", report.module);
            self.failed.push_back(report);
            if self.failed.len() > FAILED_KEPT {
                self.failed.pop_front();
            }
            self.take_away(at);
        }
    }

    /// A sentence from the module beats the bare errno of the call that failed.
    fn look_at_failure(&mut self, at: usize) {
        if let Some(reason) = self.uses[at].context.take_failure() {
            self.uses[at].fail(reason);
        }
        if self.uses[at].failure().is_none() {
            self.uses[at].fail("it said that it failed");
        }
    }

    /// Tells the others, then dismantles.
    fn take_away(&mut self, at: usize) {
        if self.uses[at].kind() == Kind::Driver {
            let id = self.uses[at].id();
            self.announce(at, EVENT_GONE);
            // A protocol that failed at this news waits in `doomed`; nobody has been removed.
            let Some(at) = self.place(id) else { return };
            return self.dismantle(at);
        }
        self.dismantle(at);
    }

    /// Stops and destroys a use and gives back everything that it held.
    pub(super) fn dismantle(&mut self, at: usize) {
        // Stopping may send a last word, so the use is still in its place.
        if let Some(error) = self.uses[at].stop() {
            tracing::warn!(subject = self.uses[at].name(), "while stopping: {error}");
        }
        self.send_all();
        let Use { body, context, device, lock, .. } = self.uses.remove(at);
        // Destroying closes the descriptors: a number that is watched must not be used again by somebody else.
        self.core.sources.borrow_mut().remove_all(context.id());
        drop(body);
        self.release(&context);
        drop((device, lock));
        self.share_out();
    }

    /// Frees the place of a use in switchboard, pool and tables.
    pub(super) fn release(&self, context: &UseContext) {
        let now = self.core.clock.now();
        self.core.sources.borrow_mut().remove_all(context.id());
        self.core.helpers.borrow_mut().retire(context.id(), now);
        let (mut board, mut pool) = (self.core.board.borrow_mut(), self.core.pool.borrow_mut());
        match context.role() {
            Role::Driver(id) => board.remove_port(id, &mut pool),
            Role::Protocol(slot) => board.remove_receiver(slot, &mut pool),
        }
        if context.is_lost() {
            tracing::warn!(
                subject = context.name(),
                "its driver may still write to {} chunks: they stay out of the pool until it has gone",
                pool.held_by(context.holder())
            );
            return;
        }
        let left = pool.retire(context.holder());
        if left > 0 {
            tracing::debug!(chunks = left, "took back chunks that a use had not freed");
        }
    }

    /// `umount /net` means the protocol that cannot be unmounted: there is nothing else that could own it.
    fn owner_of_net(&self, name: &str) -> Option<usize> {
        let net = self.identity.root.net();
        let meant = std::path::Path::new(name) == net || name == "/net";
        self.uses.iter().position(|use_| meant && !use_.build().is_unmountable())
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.uses.iter().map(Use::name).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    }
}
