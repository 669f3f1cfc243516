//! Runs a benchmark by its short name.
//!
//! Benchmarks are cargo's bench targets named `NAME_walltime` or `NAME_simulated`; a new one
//! appears here by itself. Each prints its table and writes `target/bench/NAME.json`.

use anyhow::{Result, bail};

use crate::run::{self, cargo};
use crate::workspace::Workspace;

const ENDINGS: [&str; 2] = ["_walltime", "_simulated"];

/// Runs the benchmark `name`, or lists them all.
pub(crate) fn bench(name: Option<&str>, args: &[String]) -> Result<()> {
    let workspace = Workspace::load()?;
    let known: Vec<(&str, &str, &str)> = workspace
        .packages
        .iter()
        .flat_map(|package| package.targets_of("bench").map(move |target| (package.name.as_str(), target)))
        .filter_map(|(package, target)| {
            let short = ENDINGS.iter().find_map(|ending| target.strip_suffix(ending))?;
            Some((short, package, target))
        })
        .collect();
    let Some(name) = name else {
        for (short, package, target) in &known {
            println!("{short:<16} {package}: {target}");
        }
        return Ok(());
    };
    let Some((_, package, target)) = known.iter().find(|(short, ..)| *short == name) else {
        let names: Vec<&str> = known.iter().map(|(short, ..)| *short).collect();
        bail!("no benchmark {name}; there are: {}", names.join(" "));
    };
    // A benchmark runs the daemon and its modules: they must be as optimised as it is.
    run::run(cargo().args(["build", "--release", "--workspace"]))?;
    run::run(cargo().args(["bench", "--package", package, "--bench", target, "--"]).args(args))
}
