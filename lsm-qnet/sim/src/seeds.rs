//! Runs of many seeds, and the repetition of one.
//!
//! A seed that fails is run once more, this time with all its frames recorded; its number and the
//! capture are printed. `QNET_SIM_SEED=n` runs that seed alone, and `QNET_SIM_SEEDS=n` changes how many are
//! run.

use std::cell::Cell;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static REPEATING: Cell<bool> = const { Cell::new(false) };
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Whether a seed is run again, to be looked into.
#[must_use]
pub fn is_repetition() -> bool {
    REPEATING.get() || number("QNET_SIM_SEED").is_some()
}

/// How many seeds a test runs: `usual`, or `many` when `cargo xtask soak` runs it.
#[must_use]
pub fn count(usual: u64, many: u64) -> u64 {
    if std::env::var_os("IO_PKT_SOAK").is_some() { many } else { usual }
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
fn one(seed: u64, run: &mut dyn FnMut(u64)) -> std::thread::Result<()> {
    let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
    if result.is_err() && !is_repetition() {
        eprintln!("failed with seed {seed}; once more, for its frames (QNET_SIM_SEED={seed} repeats it):");
        REPEATING.set(true);
        let again = catch_unwind(AssertUnwindSafe(|| run(seed)));
        REPEATING.set(false);
        if again.is_ok() {
            eprintln!("seed {seed} did not fail again: something in it does not follow from the seed");
        }
    }
    result
}

/// Calls `run` with each of `count` seeds, and says which seed failed and how to repeat it.
///
/// # Panics
/// When a run does.
pub fn each(count: u64, mut run: impl FnMut(u64)) {
    for seed in range(count) {
        if let Err(panic) = one(seed, &mut run) {
            resume_unwind(panic);
        }
    }
}

/// As [`each`], on as many threads as the machine has processors.
///
/// # Panics
/// When a run does.
pub fn spread(count: u64, run: impl Fn(u64) + Sync) {
    let seeds = range(count);
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(());
            }
            if let Err(panic) = one(seed, &mut |seed| run(seed)) {
                next.store(seeds.end, Ordering::Relaxed);
                return Err(panic);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    for result in results {
        if let Err(panic) = result.and_then(|result| result) {
            resume_unwind(panic);
        }
    }
}
