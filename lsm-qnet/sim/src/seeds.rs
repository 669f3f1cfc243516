//! Runs of many seeds, and the repetition of one.
//!
//! `QNET_SIM_SEED=n` runs that seed alone and leaves a pcap of it when it fails;
//! `QNET_SIM_SEEDS=n` changes how many are run.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Whether one seed is run again, to be looked into.
pub(crate) fn is_repetition() -> bool {
    number("QNET_SIM_SEED").is_some()
}

/// Calls `run` with each of `count` seeds, and says which seed failed and how to repeat it.
///
/// # Panics
/// When a run does.
pub fn each(count: u64, mut run: impl FnMut(u64)) {
    let seeds = match number("QNET_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QNET_SIM_SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("failed with seed {seed}; repeat it with QNET_SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}
