//! Whether to look for more work before sleeping.
//!
//! A wake-up costs tens of microseconds, so a short spin after traffic pays when the next frame comes soon. It does
//! not when traffic is sparse: then a spin that finds nothing is skipped the next few times, twice as many after
//! each failure, until one finds something again.

/// Most sleeps that are entered without a spin after repeated failures.
const MAX_SKIP: u32 = 256;

/// The state of the decision. Times are nanoseconds of the daemon's clock.
#[derive(Clone, Copy, Debug)]
pub struct Spin {
    /// Length of a spin; 0 never spins.
    limit: u64,
    /// The present spin ends here; 0 when there was no work since the last sleep.
    until: u64,
    /// The present spin began without work of its own to do.
    spinning: bool,
    failures: u32,
    skip: u32,
    /// Start of the present stretch of work.
    awake_since: u64,
}

impl Spin {
    /// Spins of `limit` nanoseconds.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, until: 0, spinning: false, failures: 0, skip: 0, awake_since: 0 }
    }

    /// There was work at `now`.
    pub fn worked(&mut self, now: u64) {
        if self.spinning {
            self.failures = 0;
            self.spinning = false;
        }
        if self.skip == 0 {
            self.until = now + self.limit;
        }
    }

    /// Whether to look again rather than sleep.
    #[must_use]
    pub fn go_on(&mut self, now: u64) -> bool {
        if now < self.until {
            self.spinning = true;
            return true;
        }
        if self.spinning {
            // This one was in vain.
            self.spinning = false;
            self.failures = (self.failures + 1).min(8);
            self.skip = (1 << self.failures).min(MAX_SKIP);
        }
        false
    }

    /// The loop slept from `from` to `to`. Returns how long it had been awake before.
    pub fn slept(&mut self, from: u64, to: u64) -> u64 {
        let awake = from.saturating_sub(self.awake_since);
        self.awake_since = to;
        self.until = 0;
        self.skip = self.skip.saturating_sub(1);
        awake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_follows_work_and_ends_at_its_limit() {
        let mut spin = Spin::new(50);
        assert!(!spin.go_on(1000), "no work, no spin");
        spin.worked(1000);
        assert!(spin.go_on(1010) && spin.go_on(1049));
        assert!(!spin.go_on(1050));
    }

    #[test]
    fn spins_that_pay_go_on() {
        let mut spin = Spin::new(50);
        let mut now = 1000;
        spin.worked(now);
        for _ in 0..100 {
            now += 40;
            assert!(spin.go_on(now));
            spin.worked(now);
        }
    }

    #[test]
    fn vain_spins_become_rare_and_come_back_when_one_pays() {
        let mut spin = Spin::new(50);
        let (mut now, mut spins) = (1000, 0);
        for _ in 0..2000 {
            spin.worked(now);
            while spin.go_on(now) {
                spins += 1;
                now += 50;
            }
            spin.slept(now, now + 300);
            now += 300;
        }
        assert!(spins < 30, "{spins} spins for sparse traffic");
        // Dense traffic: soon after the next attempt every gap is spun over.
        let mut asleep = 0;
        for _ in 0..1000 {
            spin.worked(now);
            now += 10;
            if !spin.go_on(now) {
                spin.slept(now, now);
                asleep += 1;
            }
        }
        assert!(asleep <= MAX_SKIP, "{asleep} sleeps in dense traffic");
    }

    #[test]
    fn a_limit_of_zero_never_spins() {
        let mut spin = Spin::new(0);
        spin.worked(5);
        assert!(!spin.go_on(5));
    }
}
