//! What the wire does to frames.
//!
//! Each frame and receiver draws on its own: a broadcast may reach one and miss another.

use std::time::Duration;

use crate::rng::Rng;

/// How bad the wire is. The default is a perfect one with 50 µs delay.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Frames lost, of 1000.
    pub loss: u32,
    /// Frames delivered twice, of 1000.
    pub duplicate: u32,
    /// Frames with one to four bytes changed, of 1000.
    pub corrupt: u32,
    /// Frames held back so that later ones overtake them, of 1000.
    pub reorder: u32,
    /// Time on the wire.
    pub delay: Duration,
    /// Added to it at random; frames of one sender keep their order.
    pub jitter: Duration,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            loss: 0,
            duplicate: 0,
            corrupt: 0,
            reorder: 0,
            delay: Duration::from_micros(50),
            jitter: Duration::ZERO,
        }
    }
}

impl Faults {
    /// A wire that drops `loss` of 1000 frames and is perfect otherwise.
    #[must_use]
    pub fn lossy(loss: u32) -> Faults {
        Faults { loss, ..Faults::default() }
    }

    /// A wire of random badness: up to `worst_loss` of 1000 frames lost, and some of the rest.
    #[must_use]
    pub fn random(rng: &mut Rng, worst_loss: u32) -> Faults {
        Faults {
            loss: rng.below(u64::from(worst_loss) + 1) as u32,
            duplicate: rng.below(60) as u32,
            corrupt: rng.below(15) as u32,
            reorder: rng.below(120) as u32,
            delay: Duration::from_micros(10 + rng.below(1500)),
            jitter: Duration::from_micros(rng.below(300)),
        }
    }

    /// When a frame arrives after it was sent: nothing for a lost one, two times for a duplicate.
    pub(crate) fn arrivals(&self, rng: &mut Rng) -> [Option<Duration>; 2] {
        if rng.chance(self.loss) {
            return [None, None];
        }
        let first = self.travel(rng);
        let second = rng.chance(self.duplicate).then(|| self.travel(rng) * 2);
        [Some(first), second]
    }

    fn travel(&self, rng: &mut Rng) -> Duration {
        let jitter = Duration::from_nanos(rng.below(self.jitter.as_nanos() as u64 + 1));
        let held = if rng.chance(self.reorder) { (self.delay + self.jitter) * 2 } else { Duration::ZERO };
        self.delay + jitter + held
    }

    pub(crate) fn damage(&self, rng: &mut Rng, frame: &mut [u8]) -> bool {
        if frame.is_empty() || !rng.chance(self.corrupt) {
            return false;
        }
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(frame.len() as u64) as usize;
            frame[at] ^= 1 + rng.below(255) as u8;
        }
        true
    }
}
