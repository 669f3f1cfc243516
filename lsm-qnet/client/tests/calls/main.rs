//! QNX's calls with integer handles, between threads and between real processes.
//!
//! The program is its own client and server: called with a role (the first argument `role`) it plays that, and says on its
//! output what happens; otherwise it runs the trials, in a root directory of their own.

#![expect(clippy::unwrap_used, reason = "a trial that panics has failed")]

mod blocking;
mod data;
mod deaths;
mod events;
mod handles;
mod limits;
mod processes;
mod roles;
mod signals;
mod support;

use std::{env, process::Command};

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut args = env::args().skip(1);
    if args.next().as_deref() == Some("role") {
        let role = args.next().expect("a role");
        return roles::play(&role, &args.collect::<Vec<_>>());
    }
    if env::var_os("QNET_TEST_INSIDE").is_none() {
        let directory = tempfile::tempdir().expect("a folder");
        let inside = Command::new(env::current_exe().expect("a program"))
            .args(env::args_os().skip(1))
            .env("QNET_TEST_INSIDE", "1")
            .env("IO_PKT_ROOT", directory.path())
            .status()
            .expect("the trials run");
        drop(directory);
        std::process::exit(inside.code().unwrap_or(1));
    }
    let mut arguments = Arguments::from_args();
    // The process has one table of handles: what one trial counts, another one would change.
    arguments.test_threads = Some(1);
    let all = [
        handles::trials(),
        data::trials(),
        blocking::trials(),
        signals::trials(),
        deaths::trials(),
        events::trials(),
        processes::trials(),
        limits::trials(),
    ];
    libtest_mimic::run(&arguments, all.into_iter().flatten().collect()).exit();
}

/// One trial from a function that panics when something is wrong.
fn trial(name: &str, run: fn()) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}
