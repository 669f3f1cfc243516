//! The tests with their large counts, one part after the other, and a table of what came of each.
//!
//! `IO_PKT_SOAK=1` is what the tests look for. A part that fails does not end the run.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::fuzz;
use crate::run::{cargo, run};

/// CPU seconds for each fuzz target: an hour in all.
const FUZZ_SECONDS: u32 = 300;

/// One part: tests of one package that take their large counts from the environment.
struct Part {
    name: &'static str,
    what: &'static str,
    package: &'static str,
    /// A file of tests; empty: those beside the code.
    target: &'static str,
    /// A part of the tests' names; empty: all.
    filter: &'static str,
}

const PARTS: &[Part] = &[
    Part {
        name: "mounts",
        what: "10,000 mounts and umounts under Qnet's traffic",
        package: "system-tests",
        target: "modules",
        filter: "mounting_in_a_loop",
    },
    Part {
        name: "conformance",
        what: "10,000 mounts under traffic, without Qnet",
        package: "conformance",
        target: "suite",
        filter: "mounting_in_a_loop",
    },
    Part {
        name: "seeds",
        what: "100,000 simulated worlds, watched at every step",
        package: "qnet-sim",
        target: "scenarios",
        filter: "",
    },
    Part {
        name: "files",
        what: "10,000 files over simulated wires of all kinds",
        package: "qnet-sim",
        target: "two_nodes",
        filter: "",
    },
    Part {
        name: "model",
        what: "50,000 sequences of operations on a channel, against a model",
        package: "qnet",
        target: "model",
        filter: "",
    },
    Part {
        name: "far-model",
        what: "5,000 of them with the channel on another node",
        package: "lsm-qnet",
        target: "",
        filter: "model",
    },
    Part { name: "long", what: "a message of 4 GiB - 1", package: "qnet-sim", target: "long", filter: "" },
    Part {
        name: "far-long",
        what: "a message of 4 GiB - 1 between two programs, on one node and on two",
        package: "system-tests",
        target: "messages",
        filter: "as_long_as",
    },
    Part {
        name: "cables",
        what: "a cable pulled 50 times under a reader",
        package: "system-tests",
        target: "faults",
        filter: "cable",
    },
    Part {
        name: "kills",
        what: "io-pkt killed 200 times on either side under a reader",
        package: "system-tests",
        target: "faults",
        filter: "killed",
    },
    Part {
        name: "races",
        what: "20,000 rounds of requests at a place that changes between inside and outside of an export",
        package: "qnet-server",
        target: "process",
        filter: "leads_nobody_out",
    },
    Part {
        name: "net",
        what: "10,000 runs of two nodes on one file",
        package: "system-tests",
        target: "file_model",
        filter: "",
    },
    Part {
        name: "net",
        what: "what was written while cables are pulled 50 times, io-pkt is killed 200 times",
        package: "system-tests",
        target: "net_faults",
        filter: "",
    },
    Part {
        name: "net",
        what: "3,000 files copied both ways under 120 kills, a directory of a million entries",
        package: "system-tests",
        target: "net_trees",
        filter: "",
    },
    Part {
        name: "net",
        what: "fio, sqlite and others with more to do",
        package: "system-tests",
        target: "net_programs",
        filter: "",
    },
];

/// Runs the named parts, or all of them and an hour of fuzzing.
pub(crate) fn soak(names: &[String]) -> Result<()> {
    let known = || PARTS.iter().map(|part| part.name).chain(["fuzz"]);
    if let Some(unknown) = names.iter().find(|name| !known().any(|known| known == *name)) {
        let mut parts: Vec<&str> = known().collect();
        // A part may be tests of several targets.
        parts.dedup();
        bail!("no part {unknown}; there are: {}", parts.join(" "));
    }
    let chosen = |name: &str| names.is_empty() || names.iter().any(|chosen| chosen == name);
    run(cargo().args(["build", "--workspace", "--release"]))?;
    let mut results: Vec<(&str, &str, Duration, Result<()>)> = Vec::new();
    for part in PARTS.iter().filter(|part| chosen(part.name)) {
        let begun = Instant::now();
        let result = part.run();
        results.push((part.name, part.what, begun.elapsed(), result));
    }
    if chosen("fuzz") {
        let begun = Instant::now();
        let result = fuzz::fuzz(None, FUZZ_SECONDS, &[]);
        results.push(("fuzz", "every fuzz target for five minutes of CPU time", begun.elapsed(), result));
    }
    println!("\n{:<12} {:<8} {:>8}  what", "part", "result", "seconds");
    for (name, what, took, result) in &results {
        let verdict = if result.is_ok() { "passed" } else { "FAILED" };
        println!("{name:<12} {verdict:<8} {:>8}  {what}", took.as_secs());
    }
    let failed = results.iter().filter(|(.., result)| result.is_err()).count();
    if failed > 0 {
        bail!("{failed} of {} parts failed", results.len());
    }
    Ok(())
}

impl Part {
    fn run(&self) -> Result<()> {
        let mut command = cargo();
        command.args(["test", "--release", "--package", self.package]);
        match self.target {
            "" => command.arg("--lib"),
            target => command.args(["--test", target]),
        };
        command.arg("--");
        if !self.filter.is_empty() {
            command.arg(self.filter);
        }
        run(command.env("IO_PKT_SOAK", "1").arg("--nocapture"))
    }
}
