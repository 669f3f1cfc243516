//! The timer that ends a loop's sleep at the next deadline.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use mio::{Interest, Registry, unix::SourceFd};
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use crate::token::{Address, Class};

/// A timer on the daemon's clock. Its event has the class [`Class::Timer`].
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    /// What the timer is set to, 0 for nothing.
    armed: u64,
}

impl Alarm {
    /// A timer that is watched by that poller.
    ///
    /// # Errors
    /// As timerfd_create(2) and epoll_ctl(2).
    pub fn new(registry: &Registry) -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let fd = timer.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), Address::only(Class::Timer).token(), Interest::READABLE)?;
        Ok(Self { timer, armed: 0 })
    }

    /// Has the timer ring at `next` (0 for never) or before. Both are nanoseconds of the daemon's clock.
    ///
    /// Deadlines move on with every frame: a timer that rings too early is left as it is, and set anew once it has rung,
    /// which is one useless wake-up instead of a system call for every sleep.
    pub fn set(&mut self, next: u64, now: u64) {
        let rings_before = self.armed > now && (next == 0 || self.armed <= next);
        if next == self.armed || rings_before {
            return;
        }
        self.armed = next;
        let result = if next == 0 {
            self.timer.unset()
        } else {
            // At least a nanosecond: zero would disarm the timer.
            let left = next.saturating_sub(now).max(1);
            let left = TimeSpec::from_duration(Duration::from_nanos(left));
            self.timer.set(Expiration::OneShot(left), TimerSetTimeFlags::empty())
        };
        if let Err(error) = result {
            tracing::error!("setting the timer: {error}");
        }
    }

    /// The timer's event came.
    pub fn rang(&mut self) {
        self.armed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_deadline_sets_the_timer_anew() {
        let poll = mio::Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry()).unwrap();
        const NOW: u64 = 1_000_000;
        const FAR: u64 = NOW + 3_600_000_000_000;
        let set = |alarm: &mut Alarm, next| {
            alarm.set(next, NOW);
            alarm.armed
        };
        assert_eq!(set(&mut alarm, FAR), FAR);
        assert_eq!(set(&mut alarm, FAR + 1), FAR, "it rings before that anyway");
        assert_eq!(set(&mut alarm, 0), FAR, "one useless wake-up costs less");
        assert_eq!(set(&mut alarm, FAR - 1), FAR - 1);
        alarm.rang();
        assert_eq!(set(&mut alarm, FAR + 1), FAR + 1);
        // A deadline that has passed must ring, whatever the timer was set to.
        alarm.rang();
        assert_eq!(set(&mut alarm, NOW - 1), NOW - 1);
        assert_eq!(set(&mut alarm, FAR), FAR, "one that was to ring in the past will not do");
    }
}
