//! Waiting for a peer, for programs: a short spin while spinning pays, then sleep.
//!
//! To wake a sleeping process costs more than a whole message, so whoever waits first looks again and again for
//! [`SPIN`]: the answer of a busy server comes sooner than that. `sched_yield` in each turn lets the other side run
//! when both share a CPU. Spins in vain become rare ([`Patience`]), so that waiting for a slow server costs nothing.

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags},
    sys::{
        socket::{MsgFlags, Shutdown, recv, shutdown},
        time::TimeSpec,
    },
};

use crate::{codec::BELL, peer::arm, ring::Inlet, signals::Signals};

/// Longest spin, unless the environment variable `IO_PKT_SPIN` gives another number of microseconds; 0 never spins.
pub const SPIN: Duration = Duration::from_micros(50);
/// No spin is longer, whatever the environment says: it would be taken for a hang.
const LONGEST: Duration = Duration::from_millis(100);
/// Sleeps without a spin after the last of many spins in vain: two to this power.
const MAX_FAILURES: u32 = 8;
/// What a CPU that has nobody else with work to do takes at most to come back from a `sched_yield`, another spinner's look included.
const BUSY: Duration = Duration::from_micros(6);
/// Turns between two looks at the socket of a connection that has a ring.
const SOCKET_EVERY: u32 = 16;

/// Whether to spin before sleeping: yes, until a spin finds nothing. Then the next two sleeps come without, after another
/// failure the next four, and so on up to 256; a spin that finds something forgets it all.
#[derive(Debug, Default)]
pub struct Patience {
    failures: AtomicU32,
    skip: AtomicU32,
    /// Another length than [`SPIN`].
    limit: Option<Duration>,
}

impl Patience {
    /// Full of hope.
    #[must_use]
    pub const fn new() -> Self {
        Self { failures: AtomicU32::new(0), skip: AtomicU32::new(0), limit: None }
    }

    /// The same with spins of another length than [`SPIN`], for who waits for something that takes longer. The environment
    /// has precedence.
    #[must_use]
    pub const fn lasting(limit: Duration) -> Self {
        Self { failures: AtomicU32::new(0), skip: AtomicU32::new(0), limit: Some(limit) }
    }

    /// Asks `ready` again and again while that is worth it; whether it said yes. `deadline` ends it early.
    pub fn spin(&self, deadline: Option<Instant>, mut ready: impl FnMut() -> bool) -> bool {
        let limit = limit().or(self.limit).unwrap_or(SPIN);
        if limit.is_zero() || !self.begin() {
            return false;
        }
        let start = Instant::now();
        let (mut now, mut turns) = (start, Turns::default());
        loop {
            if ready() {
                let whole = now - start;
                // A turn may have taken long: on a busy CPU sleeping would have served better.
                self.end(whole < 2 * limit && !turns.were_crowded(whole));
                return true;
            }
            if now - start >= limit {
                self.end(false);
                return false;
            }
            if deadline.is_some_and(|at| at <= now) {
                return false;
            }
            thread::yield_now();
            let before = std::mem::replace(&mut now, Instant::now());
            turns.passed(now - before);
        }
    }

    /// Whether to spin this time.
    fn begin(&self) -> bool {
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
        }
        skip == 0
    }

    fn end(&self, paid: bool) {
        let failures = if paid { 0 } else { (self.failures.load(Ordering::Relaxed) + 1).min(MAX_FAILURES) };
        self.failures.store(failures, Ordering::Relaxed);
        self.skip.store(if failures == 0 { 0 } else { 1 << failures }, Ordering::Relaxed);
    }
}

/// What the turns of a spin were like.
///
/// On a CPU that all have to share, those who bring the answer about work while this one gives its turns away: each turn in between
/// in which it looks in vain costs them two switches. With another one to work on it, the turns are short or the answer is
/// there after the first.
#[derive(Debug, Default)]
struct Turns {
    /// The one that was not looked after yet.
    last: Duration,
    /// Those in which others worked, and after which nothing was there.
    vain: Duration,
}

impl Turns {
    /// The CPU was given away for so long; before, nothing was there.
    fn passed(&mut self, turn: Duration) {
        let before = std::mem::replace(&mut self.last, turn);
        if before >= BUSY {
            self.vain += before;
        }
    }

    /// Whether sleeping would have served better: more than half of the time went by so.
    fn were_crowded(&self, whole: Duration) -> bool {
        2 * self.vain > whole
    }
}

/// The longest spin in this process, if somebody said.
fn limit() -> Option<Duration> {
    static LIMIT: OnceLock<Option<Duration>> = OnceLock::new();
    *LIMIT.get_or_init(|| spin_of(std::env::var_os("IO_PKT_SPIN").as_deref()))
}

/// What the environment variable says; nonsense says nothing.
fn spin_of(text: Option<&OsStr>) -> Option<Duration> {
    let micros = text.and_then(OsStr::to_str).and_then(|text| text.trim().parse().ok());
    micros.map(|micros| Duration::from_micros(micros).min(LONGEST))
}

/// Waits for one peer while the peer itself is behind somebody's lock: see [`crate::Peer::watch`].
#[derive(Clone, Debug)]
pub struct Watch {
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) inlet: Option<Arc<Inlet>>,
    pub(crate) patience: Arc<Patience>,
    pub(crate) blocking: bool,
}

impl Watch {
    /// Waits until a packet can be received (if `read`), or the queue can be flushed (if `write`, which is
    /// [`crate::Peer::wants_writable`]), or the other end is gone. `false` when `deadline` passed first.
    ///
    /// # Errors
    /// `EINTR` when a signal handler ran, if `signals` says so at any time since they are held; other errors of `ppoll`.
    pub fn wait(
        &self,
        read: bool,
        write: bool,
        deadline: Option<Instant>,
        signals: &Signals,
    ) -> io::Result<bool> {
        if !read {
            return wait_ready(self.socket.as_fd(), read, write, deadline, signals);
        }
        if self.has_packets() || !write && self.spin(deadline) {
            return Ok(true);
        }
        if !self.arm() {
            return Ok(true);
        }
        let nothing_else = !write && deadline.is_none() && !signals.are_held();
        if let Some(inlet) = self.inlet.as_ref().filter(|_| self.blocking && nothing_else) {
            let taken = self.take_bell(inlet);
            inlet.disarm();
            return taken.map(|()| true);
        }
        let ready = wait_ready(self.socket.as_fd(), read, write, deadline, signals);
        if let Some(inlet) = &self.inlet {
            inlet.disarm();
            if !matches!(ready, Ok(false)) {
                inlet.note_socket(true);
            }
        }
        ready
    }

    /// Whether a packet is there already, as far as can be seen without a system call.
    #[must_use]
    pub fn has_packets(&self) -> bool {
        self.inlet.as_ref().is_some_and(|inlet| inlet.has_more())
    }

    /// Asks for the bell, before the owner of an attended peer sleeps on its socket. `false`: do not sleep, packets are
    /// there.
    #[must_use]
    pub fn arm(&self) -> bool {
        self.inlet.as_ref().is_none_or(|inlet| arm(inlet, &self.socket))
    }

    /// Needs no bell for now: the owner looks by itself.
    pub fn disarm(&self) {
        if let Some(inlet) = &self.inlet {
            inlet.disarm();
        }
    }

    /// Sleeps until the bell is there and takes it.
    ///
    /// Once packets come through memory, bells are all that an honest peer says on the socket.
    fn take_bell(&self, inlet: &Inlet) -> io::Result<()> {
        let mut packet = [0; 2 * BELL.len()];
        match recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::MSG_TRUNC) {
            Ok(len) if packet.get(..len) == Some(&BELL) => return Ok(()),
            Err(Errno::EINTR) => return Err(Errno::EINTR.into()),
            // Somebody made the socket one that does not block.
            Err(Errno::EAGAIN) => {
                wait_ready(self.socket.as_fd(), true, false, None, &Signals::unnoticed())?;
            }
            // The end, or about to be one: what was said cannot be said here, and the owner does not get to see it.
            Ok(0) | Err(_) => {}
            Ok(_) => drop(shutdown(self.socket.as_raw_fd(), Shutdown::Both)),
        }
        inlet.note_socket(true);
        Ok(())
    }

    fn spin(&self, deadline: Option<Instant>) -> bool {
        let unnoticed = Signals::unnoticed();
        let now = || {
            let looked = wait_ready(self.socket.as_fd(), true, false, Some(Instant::now()), &unnoticed);
            looked.is_ok_and(|ready| ready)
        };
        let Some(inlet) = &self.inlet else { return self.patience.spin(deadline, now) };
        inlet.disarm();
        let mut turn = 0;
        self.patience.spin(deadline, || {
            if inlet.has_more() {
                return true;
            }
            // The end of the other side, and room for what waits to be sent, are told there.
            turn += 1;
            let spoken = turn % SOCKET_EVERY == 0 && now();
            if spoken {
                inlet.note_socket(true);
            }
            spoken
        })
    }
}

/// Waits until `socket` is readable (if `read`), writable (if `write`) or broken; `false` when `deadline` passed first.
///
/// # Errors
/// `EINTR` when a signal handler ran, or had to wait in `signals`; other errors of `ppoll`.
pub fn wait_ready(
    socket: BorrowedFd<'_>,
    read: bool,
    write: bool,
    deadline: Option<Instant>,
    signals: &Signals,
) -> io::Result<bool> {
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let mut interest = PollFlags::empty();
    interest.set(PollFlags::POLLIN, read);
    interest.set(PollFlags::POLLOUT, write);
    Ok(signals.poll(&mut [PollFd::new(socket, interest)], left.map(TimeSpec::from_duration))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spins(patience: &Patience, sleeps: u32) -> u32 {
        (0..sleeps).filter(|_| patience.begin()).map(|_| patience.end(false)).count() as u32
    }

    #[test]
    fn spins_in_vain_become_rare() {
        let patience = Patience::new();
        assert_eq!(spins(&patience, 1), 1, "the first wait spins");
        let many = spins(&patience, 2560);
        assert!((10..=20).contains(&many), "{many} spins");
    }

    #[test]
    fn a_spin_that_pays_brings_them_back() {
        let patience = Patience::new();
        spins(&patience, 3000);
        let until = (0..300).position(|_| patience.begin()).unwrap();
        assert!(until <= 256, "{until} sleeps before it was tried again");
        patience.end(true);
        for _ in 0..100 {
            assert!(patience.begin());
            patience.end(true);
        }
    }

    fn crowded(turns: &[u64]) -> bool {
        let mut seen = Turns::default();
        turns.iter().for_each(|micros| seen.passed(Duration::from_micros(*micros)));
        seen.were_crowded(Duration::from_micros(turns.iter().sum()))
    }

    #[test]
    fn who_shares_a_cpu_with_all_the_others_should_sleep() {
        assert!(crowded(&[14, 12, 9]), "all three others work in each turn");
        assert!(!crowded(&[]) && !crowded(&[0]));
        assert!(!crowded(&[40]), "the answer was there when it came back");
        assert!(!crowded(&[8, 3, 3, 3, 3, 3]), "the others work on another CPU");
    }

    #[test]
    fn the_environment_sets_the_spin_and_nonsense_does_not() {
        let spin = |text: &str| spin_of(Some(OsStr::new(text)));
        assert_eq!((spin("0"), spin(" 20 ")), (Some(Duration::ZERO), Some(Duration::from_micros(20))));
        assert_eq!((spin("-1"), spin("fast"), spin_of(None)), (None, None, None));
        assert_eq!(spin("18446744073709551615"), Some(LONGEST));
    }

    #[test]
    fn a_spin_ends_with_the_event_or_with_the_deadline() {
        let patience = Patience::new();
        assert!(patience.spin(None, || true));
        let now = Instant::now();
        assert!(!Patience::new().spin(Some(now), || false));
        assert!(Patience::lasting(2 * SPIN).spin(None, || true));
        assert!(!Patience::lasting(Duration::ZERO).spin(None, || true), "nothing is looked at");
    }
}
