//! The real `qnet-netfs` on a real kernel, with a fake Qnet behind it.
//!
//! Each test has its own mount namespace, node root and fake network. Without root or FUSE the tests are reported as
//! ignored with the reason; with `CI=true` that is a failure.

#![expect(clippy::unwrap_used, reason = "a test; functions outside #[test] are not exempted by themselves")]

mod mounting;
mod reading;
mod support;
mod trouble;

use std::{env, process::ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let obstacle = support::obstacle();
    let helper_obstacle = obstacle.clone().or_else(support::helper_obstacle);
    let tests = [reading::TESTS, trouble::TESTS, mounting::TESTS].concat();
    let mut trials: Vec<_> = tests.iter().map(|test| trial(*test, obstacle.as_deref())).collect();
    trials.extend(mounting::HELPER_TESTS.iter().map(|test| trial(*test, helper_obstacle.as_deref())));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial((name, test): (&str, fn()), obstacle: Option<&str>) -> Trial {
    let must_run = env::var_os("CI").is_some_and(|value| value == "true");
    match obstacle.map(str::to_owned) {
        None => Trial::test(name, move || {
            support::in_private_namespace(test);
            Ok(())
        }),
        Some(reason) if must_run => Trial::test(name, move || Err(Failed::from(reason))),
        Some(reason) => Trial::test(name, || Ok(())).with_ignored_flag(true).with_kind(reason),
    }
}

/// Names of tests with their functions.
type Tests = [(&'static str, fn())];
