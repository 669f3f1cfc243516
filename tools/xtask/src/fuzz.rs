//! Runs a fuzz target under libFuzzer, on the stable compiler.
//!
//! The instrumentation that libFuzzer needs is an LLVM pass which stable rustc runs when told to; only the
//! address sanitizer would need a nightly one, and the code under test has no `unsafe`. Overflow checks
//! and debug assertions are on.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{self, cargo};
use crate::workspace::{self, Workspace};

const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// The longest input, in bytes.
const LONGEST: u32 = 4096;

/// Builds the fuzzer and runs `target` (all of them when there is none named) for `seconds` each.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32, args: &[String]) -> Result<()> {
    let program = build()?;
    let corpus = workspace::root().join("fuzz/corpus");
    let mut known: Vec<String> = std::fs::read_dir(&corpus)
        .with_context(|| format!("cannot read {}", corpus.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    known.sort();
    let chosen: Vec<&String> = known.iter().filter(|name| target.is_none_or(|t| t == *name)).collect();
    if chosen.is_empty() {
        bail!("no fuzz target {}; there are: {}", target.unwrap_or_default(), known.join(" "));
    }
    let found = Workspace::load()?.target_directory.join("fuzz-found");
    for name in chosen {
        let (new, crashes) = (found.join(name), found.join(format!("{name}-crashes")));
        std::fs::create_dir_all(&new)?;
        std::fs::create_dir_all(&crashes)?;
        let mut command = Command::new(&program);
        command.env("QNET_FUZZ_TARGET", name);
        // New inputs go into the first folder; the corpus of the tree is read only.
        command.arg(&new).arg(corpus.join(name));
        command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={LONGEST}"));
        command.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"]);
        command.arg(format!("-artifact_prefix={}/", crashes.display()));
        run::run(command.args(args))
            .with_context(|| format!("{name}: its input is in {}", crashes.display()))?;
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let target = run::output(Command::new("rustc").arg("-vV"))?;
    let host = target.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc -vV names no host")?.to_owned();
    let folder = Workspace::load()?.target_directory.join("fuzz");
    let mut command = cargo();
    command.args(["build", "--release", "--package", "fuzz", "--features", "libfuzzer"]);
    // With a target named, build scripts and procedural macros are not instrumented.
    command.args(["--target", &host]).arg("--target-dir").arg(&folder);
    run::run(command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f")))?;
    Ok(folder.join(host).join("release/fuzz"))
}
