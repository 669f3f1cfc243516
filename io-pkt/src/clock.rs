//! The daemon's clock: nanoseconds since it started, monotonic, never 0.
//!
//! Modules get their time from it (`now`, `PollWork::now`, deadlines), so that all of them and the loop mean the same
//! moment. The loop reads it once a turn.

use std::time::Instant;

/// Reads the time. Cheap to copy; all copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Nanoseconds since the start, at least 1: modules use 0 for "no deadline".
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}
