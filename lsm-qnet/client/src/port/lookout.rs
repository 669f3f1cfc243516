//! Waiting for all clients of a channel: a short spin over those that spoke last, then sleep.
//!
//! A client whose packets come through shared memory wakes the sleeper through its socket, like any other. While the leader
//! spins it looks into the memory of the few that spoke last, which costs them and it no system call; the sockets have
//! their turn now and then, so that nobody waits long behind a talkative client.

use std::{
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollEvent, EpollTimeout},
};
use qnet_ipc::{Patience, Signals, Watch, wait_ready};

/// Clients that are looked at while spinning.
const MOST: usize = 8;
/// Turns, and packets found without a look at the sockets, between two such looks.
const SOCKETS_EVERY: u32 = 16;

/// The clients that spoke last, the latest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookout(Arc<[(u32, Watch)]>);

impl Lookout {
    /// With `client` at the front. What falls off at the end is returned.
    pub(super) fn with(&self, client: u32, watch: Watch) -> (Self, Option<u32>) {
        let others = self.0.iter().filter(|(number, _)| *number != client);
        let mut all: Vec<_> = std::iter::once((client, watch)).chain(others.cloned()).collect();
        let off = (all.len() > MOST).then(|| all.pop().map(|(number, _)| number)).flatten();
        (Self(all.into()), off)
    }

    /// Without `client`.
    pub(super) fn without(&self, client: u32) -> Self {
        Self(self.0.iter().filter(|(number, _)| *number != client).cloned().collect())
    }

    pub(super) fn contains(&self, client: u32) -> bool {
        self.0.iter().any(|(number, _)| *number == client)
    }

    /// Their numbers.
    pub(super) fn clients(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|(number, _)| *number)
    }

    /// Clients that have said something in memory.
    pub(super) fn speaking(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter(|(_, watch)| watch.has_packets()).map(|(number, _)| *number)
    }

    fn speaks(&self) -> bool {
        self.0.iter().any(|(_, watch)| watch.has_packets())
    }

    /// Asks all of them for the bell; `false`: somebody has spoken meanwhile.
    fn arm(&self) -> bool {
        // All of them, also behind one that has spoken: the bell costs little.
        self.0.iter().fold(true, |quiet, (_, watch)| watch.arm() & quiet)
    }

    fn disarm(&self) {
        self.0.iter().for_each(|(_, watch)| watch.disarm());
    }
}

/// How a channel's leader waits.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    patience: Patience,
    /// Times that memory was looked at since the sockets were.
    looks: AtomicU32,
}

impl Vigil {
    /// Waits until a socket has something, which is told in `events`, or one of `lookout` speaks.
    ///
    /// # Errors
    /// As poll(2): `EINTR` when a signal handler ran while it slept.
    pub(super) fn wait(
        &self,
        epoll: &Epoll,
        lookout: &Lookout,
        events: &mut [EpollEvent],
        deadline: Option<Instant>,
        signals: &mut Signals,
    ) -> nix::Result<usize> {
        let looks = self.looks.load(Ordering::Relaxed) + 1;
        self.looks.store(looks % SOCKETS_EVERY, Ordering::Relaxed);
        if lookout.speaks() {
            return if looks < SOCKETS_EVERY { Ok(0) } else { epoll.wait(events, EpollTimeout::ZERO) };
        }
        // From here on a handler that runs runs during the wait.
        signals.hold();
        lookout.disarm();
        let (mut turn, mut found) = (0, Ok(0));
        let event = self.patience.spin(deadline, || {
            turn += 1;
            if turn % SOCKETS_EVERY == 0 || lookout.0.is_empty() {
                found = epoll.wait(events, EpollTimeout::ZERO);
            }
            found != Ok(0) || lookout.speaks()
        });
        if event || !lookout.arm() {
            return found;
        }
        if deadline.is_none() && !signals.are_held() {
            // No handler ends this wait: after an `EINTR` the caller just waits on. One system call instead of two.
            return epoll.wait(events, EpollTimeout::NONE);
        }
        // poll(2) and not epoll_wait(2), which SIGSTOP and SIGCONT, a debugger's too, end with `EINTR` without any handler.
        match wait_ready(epoll.0.as_fd(), true, false, deadline, signals) {
            Ok(true) => epoll.wait(events, EpollTimeout::ZERO),
            Ok(false) => Ok(0),
            Err(error) => Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        }
    }
}
