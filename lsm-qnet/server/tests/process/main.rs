//! The real `qnet-server`, asked through a socket as `lsm-qnet` asks it.
//!
//! What needs root, a user namespace or FUSE is reported as ignored where that is missing; with `CI=true`
//! that is a failure.

#![expect(clippy::unwrap_used, reason = "a test; functions outside #[test] are not exempted by themselves")]

mod attributes;
mod changing;
mod entries;
mod hostile;
mod identity;
mod locks;
mod names;
mod places;
mod race;
mod reading;
mod rights;
mod signals;
mod special;
mod support;
mod writing;

use std::{env, process::ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use support::Need;

/// A test: the behaviour it proves, what it needs, how.
type Case = (&'static str, Need, fn());

fn main() -> ExitCode {
    let must_run = env::var_os("CI").is_some_and(|value| value == "true");
    let cases = [
        reading::CASES,
        writing::CASES,
        changing::CASES,
        entries::CASES,
        rights::CASES,
        identity::CASES,
        places::CASES,
        race::CASES,
        hostile::CASES,
        names::CASES,
        signals::CASES,
        locks::CASES,
        attributes::CASES,
        special::CASES,
    ]
    .concat();
    let trials = cases.into_iter().map(|(name, need, test)| match need.missing() {
        None => Trial::test(name, move || {
            test();
            Ok(())
        }),
        Some(reason) if must_run => Trial::test(name, move || {
            Err(Failed::from(format!("cannot run here, and CI=true asks for it: {reason}")))
        }),
        Some(reason) => {
            eprintln!("{name}: ignored: {reason}");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
