//! Runs of many seeds, and the repetition of one.
//!
//! A seed that fails is run once more, this time with its frames recorded; its number and the capture, which is called
//! after the test and the seed, are printed. `QNET_SIM_SEED=n` runs that seed alone, and `QNET_SIM_SEEDS=n` changes how
//! many are run. A soak goes on after a failure, up to `ENOUGH_FAILED` of them, and names all seeds that failed.

use std::any::Any;
use std::cell::Cell;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::pcap::Pcap;

/// Failed seeds after which a soak ends before its time.
const ENOUGH_FAILED: usize = 100;

/// Bytes of a failed seed's capture; what came before is forgotten.
const CAPTURE: usize = 8 << 20;

thread_local! {
    static REPEATING: Cell<Option<u64>> = const { Cell::new(None) };
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Whether a seed is run again, to be looked into.
#[must_use]
pub fn is_repetition() -> bool {
    repeated().is_some()
}

/// The seed that is run again.
fn repeated() -> Option<u64> {
    REPEATING.get().or_else(|| number("QNET_SIM_SEED"))
}

/// What a network records of its frames from its beginning: nothing, unless its seed is run again.
#[must_use]
pub(crate) fn capture() -> Option<Pcap> {
    is_repetition().then(|| Pcap::of_the_last(CAPTURE))
}

/// Where the frames of a seed go that failed in the test of this thread. Another failure of the same replaces them.
fn capture_path(seed: Option<u64>) -> PathBuf {
    let thread = thread::current();
    let test = thread.name().unwrap_or("unnamed").replace("::", "-");
    let seed = seed.map_or_else(String::new, |seed| format!("-seed-{seed}"));
    std::env::temp_dir().join(format!("qnet-sim-{test}{seed}.pcap"))
}

/// Leaves the frames of a run that failed, and says where.
pub(crate) fn leave(pcap: &Pcap) {
    let path = capture_path(repeated());
    let (frames, forgotten) = (pcap.frames(), pcap.forgotten());
    let which =
        if forgotten > 0 { format!("last {frames} of {}", frames + forgotten) } else { frames.to_string() };
    match std::fs::write(&path, pcap.bytes()) {
        Ok(()) => eprintln!("its {which} frames are in {}", path.display()),
        Err(error) => eprintln!("its {which} frames cannot be written to {}: {error}", path.display()),
    }
}

/// How many seeds a test runs: `usual`, or `many` when `cargo xtask soak` runs it.
#[must_use]
pub fn count(usual: u64, many: u64) -> u64 {
    if is_soak() { many } else { usual }
}

fn is_soak() -> bool {
    std::env::var_os("IO_PKT_SOAK").is_some()
}

fn range(count: u64) -> std::ops::Range<u64> {
    match number("QNET_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QNET_SIM_SEEDS").unwrap_or(count),
    }
}

/// How many of `count` seeds are really run: `QNET_SIM_SEEDS` and `QNET_SIM_SEED` change that.
#[must_use]
pub fn planned(count: u64) -> u64 {
    let range = range(count);
    range.end - range.start
}

/// Runs one seed, and once more if it fails.
fn one(seed: u64, run: &mut dyn FnMut(u64)) -> thread::Result<()> {
    let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
    if result.is_err() && !is_repetition() {
        eprintln!("failed with seed {seed}; once more, for its frames (QNET_SIM_SEED={seed} repeats it):");
        REPEATING.set(Some(seed));
        let again = catch_unwind(AssertUnwindSafe(|| run(seed)));
        REPEATING.set(None);
        if again.is_ok() {
            eprintln!("seed {seed} did not fail again: something in it does not follow from the seed");
        }
    }
    result
}

/// The seeds that failed so far, and what the first of them said.
#[derive(Default)]
struct Failures {
    seeds: Vec<u64>,
    first: Option<Box<dyn Any + Send>>,
}

impl Failures {
    /// Notes a failure. Returns whether it was one too many.
    fn add(&mut self, seed: u64, panic: Box<dyn Any + Send>) -> bool {
        self.seeds.push(seed);
        self.first.get_or_insert(panic);
        self.seeds.len() >= if is_soak() { ENOUGH_FAILED } else { 1 }
    }

    /// Fails as the first of them did.
    fn tell(mut self) {
        if let Some(panic) = self.first {
            self.seeds.sort_unstable();
            eprintln!("failed seeds: {:?}", self.seeds);
            resume_unwind(panic);
        }
    }
}

/// Calls `run` with each of `count` seeds, and says which seeds failed and how to repeat them.
///
/// # Panics
/// When a run does.
pub fn each(count: u64, mut run: impl FnMut(u64)) {
    let mut failures = Failures::default();
    for seed in range(count) {
        if let Err(panic) = one(seed, &mut run)
            && failures.add(seed, panic)
        {
            break;
        }
    }
    failures.tell();
}

/// As [`each`], on as many threads as the machine has processors.
///
/// # Panics
/// When a run does.
pub fn spread(count: u64, run: impl Fn(u64) + Sync) {
    let seeds = range(count);
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Failures::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Err(panic) = one(seed, &mut |seed| run(seed))
                && failures.lock().expect("nothing panics while it is locked").add(seed, panic)
            {
                next.store(seeds.end, Ordering::Relaxed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    // They are called after the test, as captures are.
    let name = thread::current().name().unwrap_or("unnamed").to_owned();
    thread::scope(|scope| {
        for _ in 0..threads {
            let started = thread::Builder::new().name(name.clone()).spawn_scoped(scope, work);
            started.expect("a machine that runs tests can start a thread");
        }
    });
    failures.into_inner().expect("nothing panics while it is locked").tell();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    fn fail_the_third(seed: u64) {
        let mut network = Network::new(seed);
        network.add("alonzo");
        network.run_for(std::time::Duration::from_secs(60));
        assert_ne!(seed, 2, "the third one");
    }

    #[test]
    fn a_seed_that_fails_leaves_its_frames_under_the_names_of_test_and_seed() {
        let path = capture_path(Some(2));
        assert!(path.ends_with(
            "qnet-sim-seeds-tests-a_seed_that_fails_leaves_its_frames_under_the_names_of_test_and_seed-seed-2.pcap"
        ));
        let runners: [fn(); 2] = [|| each(5, fail_the_third), || spread(5, fail_the_third)];
        for runner in runners {
            assert!(catch_unwind(runner).is_err());
            assert!(std::fs::metadata(&path).expect("it is there").len() > 24, "it has frames");
            std::fs::remove_file(&path).expect("it is ours");
        }
    }
}
