//! The steps of the continuous integration, in the order in which a fault is cheapest to find.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::run::{self, cargo, run};
use crate::workspace::Workspace;
use crate::{arrows, docs, sources};

/// One step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Fmt,
    Sources,
    Arrows,
    Deny,
    Build,
    Clippy,
    Test,
    Docs,
}

/// Clippy comes after the build: both want the same dependencies, and a compile error reads better there.
const STEPS: [Step; 8] =
    [Step::Fmt, Step::Sources, Step::Arrows, Step::Deny, Step::Build, Step::Clippy, Step::Test, Step::Docs];

/// Runs all steps; the first failure ends the run.
pub(crate) fn all() -> Result<()> {
    let start = Instant::now();
    for step in STEPS {
        let begun = Instant::now();
        eprintln!("\n== {step:?}");
        one(step).with_context(|| format!("step {step:?} failed"))?;
        eprintln!("== {step:?}: {} s", begun.elapsed().as_secs());
    }
    eprintln!("\nall steps passed in {} s", start.elapsed().as_secs());
    Ok(())
}

/// Runs one step.
pub(crate) fn one(step: Step) -> Result<()> {
    match step {
        Step::Fmt => run(cargo().args(["fmt", "--all", "--check"])),
        Step::Sources => sources::check(),
        Step::Arrows => arrows::check(&Workspace::load()?),
        Step::Deny => deny(),
        // Tests and the lab start programs and load modules from the target folder, so they come first.
        Step::Build => run(cargo().args(["build", "--workspace", "--locked"])),
        Step::Clippy => {
            run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
        }
        Step::Test => test(&[]),
        Step::Docs => docs::check(),
    }
}

/// Runs the tests: with nextest where it is installed, then the examples in the documentation.
pub(crate) fn test(args: &[String]) -> Result<()> {
    run(cargo().args(["build", "--workspace"]))?;
    if !run::in_path("cargo-nextest") {
        return run(cargo().args(["test", "--workspace", "--no-fail-fast"]).args(args));
    }
    run(cargo().args(["nextest", "run", "--workspace", "--no-fail-fast"]).args(args))?;
    // nextest does not run the examples in the documentation.
    if args.is_empty() { run(cargo().args(["test", "--workspace", "--doc"])) } else { Ok(()) }
}

fn deny() -> Result<()> {
    if run::in_path("cargo-deny") {
        return run(cargo().args(["deny", "check"]));
    }
    // The index of advisories needs the network, so a machine without the tool is not at fault.
    eprintln!("cargo-deny is not installed: licences and advisories were not checked");
    if !crate::workspace::root().join("deny.toml").exists() {
        bail!("deny.toml is missing");
    }
    Ok(())
}
