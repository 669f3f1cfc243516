//! `cargo xtask`: every task of this workspace that is more than one cargo call.
//!
//! `ci` runs the steps that the server runs, in the same order; each step also runs alone
//! (`cargo xtask arrows`). `install` lays out a release build below a prefix, `soak` repeats
//! the tests with their large counts, `bench` runs a benchmark by its short name.
//!
//! The exit code is 0 when all went well, 1 when a step failed, 2 when the call was wrong.

mod arrows;
mod bench;
mod ci;
mod coverage;
mod docs;
mod fuzz;
mod install;
mod man;
mod run;
mod soak;
mod sources;
mod workspace;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::ci::Step;

/// Tasks of the io-pkt workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every step of the continuous integration, in order
    Ci,
    /// Check the formatting of all crates
    Fmt,
    /// Check the source rules: file headers, file sizes
    Sources,
    /// Compare the crate graph with the permitted arrows
    Arrows,
    /// Licences, advisories and bans (needs cargo-deny)
    Deny,
    /// Lint all targets; a warning is an error
    Clippy,
    /// Build all programs and modules
    Build,
    /// Run all tests and documentation examples
    Test {
        /// Arguments for the test runner, such as a part of a test's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build the documentation and check the links between the documents
    Docs,
    /// Run the tests with their large counts (hours)
    Soak {
        /// The parts, such as seeds or kills; all of them when left out
        parts: Vec<String>,
    },
    /// Report which lines of the protocol core its tests run
    Coverage,
    /// Let libFuzzer look for inputs that break a reader of foreign bytes
    Fuzz {
        /// The target, such as session; all of them when left out
        target: Option<String>,
        /// Seconds of CPU time for each
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Arguments for libFuzzer, such as -jobs=2
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build for release and install below a directory
    Install {
        /// Where bin, lib, include and share are made
        #[arg(long, value_name = "DIR")]
        prefix: PathBuf,
    },
    /// Build, then show two nodes and what they can do (qnet-lab tour)
    Tour {
        /// Arguments for qnet-lab tour, such as --wire segment
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run a benchmark, such as forward or abi; without a name, list them
    Bench {
        /// The benchmark's short name
        name: Option<String>,
        /// Arguments for the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Ci => ci::all(),
        Task::Fmt => ci::one(Step::Fmt),
        Task::Sources => ci::one(Step::Sources),
        Task::Arrows => ci::one(Step::Arrows),
        Task::Deny => ci::one(Step::Deny),
        Task::Clippy => ci::one(Step::Clippy),
        Task::Build => ci::one(Step::Build),
        Task::Test { args } => ci::test(&args),
        Task::Docs => ci::one(Step::Docs),
        Task::Soak { parts } => soak::soak(&parts),
        Task::Coverage => coverage::coverage(),
        Task::Fuzz { target, seconds, args } => fuzz::fuzz(target.as_deref(), seconds, &args),
        Task::Install { prefix } => install::install(&prefix),
        Task::Tour { args } => tour(&args),
        Task::Bench { name, args } => bench::bench(name.as_deref(), &args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds what the tour needs; it finds the rest beside `qnet-lab`.
fn tour(args: &[String]) -> Result<()> {
    run::run(run::cargo().args(["build", "--workspace"]))?;
    let lab = workspace::Workspace::load()?.target_directory.join("debug/qnet-lab");
    run::run(Command::new(lab).arg("tour").args(args))
}
