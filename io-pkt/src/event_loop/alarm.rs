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

    /// Sets the timer to `next` (0 for never), if it is not set to it already. Both are nanoseconds of the daemon's clock.
    pub fn set(&mut self, next: u64, now: u64) {
        if next == self.armed {
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
