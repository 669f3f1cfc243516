//! Worlds drawn from seeds: the contract holds in all of them, at every step.
//!
//! 2,000 seeds in the ordinary tests, 100,000 in `cargo xtask soak`. A seed that fails is printed with its
//! scenario and leaves its frames as a pcap; `QNET_SIM_SEED=n cargo test -p qnet-sim --test scenarios`
//! repeats it.

use std::sync::atomic::{AtomicUsize, Ordering};

use qnet_sim::scenario::{self, Scenario};
use qnet_sim::seeds;

#[test]
fn every_promise_holds_in_every_world() {
    let (answered, failed, pulses) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let count = seeds::count(2_000, 100_000);
    seeds::spread(count, |seed| {
        let summary = scenario::run(seed);
        answered.fetch_add(summary.answered, Ordering::Relaxed);
        failed.fetch_add(summary.failed, Ordering::Relaxed);
        pulses.fetch_add(summary.pulses, Ordering::Relaxed);
    });
    let count = seeds::planned(count);
    println!("{count} seeds: {answered:?} messages answered, {failed:?} failed, {pulses:?} pulses arrived");
}

/// Seeds that a soak found, and what was wrong.
const ONCE_WRONG: [(u64, &str); 7] = [
    (22_037, REFUSED),
    (36_429, REFUSED),
    (78_393, REFUSED),
    (78_837, REFUSED),
    (5_997, BLOCKED),
    (6_293, BLOCKED),
    (6_907, BLOCKED),
];
const REFUSED: &str = "the ledger took a message refused with EAGAIN for one that a pulse overtook";
const BLOCKED: &str =
    "a message to a plain node that could not begin held back the one whose end it waited for";

#[test]
fn what_a_soak_found_once_stays_mended() {
    for (seed, what) in ONCE_WRONG {
        println!("{seed}: {what}");
        scenario::run(seed);
    }
}

#[test]
fn a_seed_always_draws_the_same_world_and_the_worlds_differ() {
    let text = |seed| format!("{:?}", Scenario::draw(seed));
    assert_eq!(text(7), text(7));
    let worlds: std::collections::BTreeSet<String> = (0..100).map(text).collect();
    assert_eq!(worlds.len(), 100);
    let hosts: Vec<usize> = (0..2000).map(|seed| Scenario::draw(seed).hosts.len()).collect();
    assert!(
        hosts.contains(&2) && hosts.iter().any(|&n| n > 50) && hosts.iter().all(|&n| (2..=64).contains(&n))
    );
}
