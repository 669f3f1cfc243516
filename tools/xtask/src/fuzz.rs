//! Runs a fuzz target under libFuzzer, on the stable compiler.
//!
//! The instrumentation that libFuzzer needs is an LLVM pass which stable rustc runs when told to; only the
//! address sanitizer would need a nightly one, and the code under test has no `unsafe`. Overflow checks
//! and debug assertions are on.
//!
//! Time is CPU time: on a machine with other work, a target gets what it was promised and not what was left over.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

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

/// What one target has had.
#[derive(Default)]
struct Spent {
    runs: u64,
    cpu: Duration,
    wall: Duration,
}

/// Builds the fuzzer and runs `target` (all of them when there is none named) for `seconds` of CPU time each. A target
/// that finds something does not end the run; the table at the end has what each had.
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
    let mut table = Vec::new();
    for name in chosen {
        let (new, crashes) = (found.join(name), found.join(format!("{name}-crashes")));
        std::fs::create_dir_all(&new)?;
        std::fs::create_dir_all(&crashes)?;
        let mut spent = Spent::default();
        let result = search(&mut spent, seconds, |slice| {
            let mut command = Command::new(&program);
            command.env("QNET_FUZZ_TARGET", name);
            // New inputs go into the first folder; the corpus of the tree is read only.
            command.arg(&new).arg(corpus.join(name));
            command.arg(format!("-max_total_time={slice}")).arg(format!("-max_len={LONGEST}"));
            command.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"]);
            command.arg(format!("-artifact_prefix={}/", crashes.display()));
            command.args(args);
            command
        });
        table.push((name, spent, result.with_context(|| format!("its input is in {}", crashes.display()))));
    }
    println!("\n{:<10} {:>12} {:>12} {:>8}  result", "target", "runs", "CPU seconds", "seconds");
    for (name, spent, result) in &table {
        let verdict = if result.is_ok() { "nothing found" } else { "FAILED" };
        let (cpu, wall) = (spent.cpu.as_secs(), spent.wall.as_secs());
        println!("{name:<10} {:>12} {cpu:>12} {wall:>8}  {verdict}", spent.runs);
    }
    table.into_iter().try_for_each(|(name, _, result)| result.with_context(|| name.clone()))
}

/// Runs the fuzzer in slices until it has had its CPU time. On a machine of its own that is one.
fn search(spent: &mut Spent, seconds: u32, command: impl Fn(u64) -> Command) -> Result<()> {
    let promised = Duration::from_secs(seconds.into());
    while spent.cpu + Duration::from_secs(1) < promised {
        let slice = (promised - spent.cpu).as_secs();
        let (begun, before) = (Instant::now(), cpu_of_children()?);
        let runs = watched(&mut command(slice));
        spent.cpu += cpu_of_children()?.saturating_sub(before);
        spent.wall += begun.elapsed();
        spent.runs += runs?;
    }
    Ok(())
}

/// Runs libFuzzer, passes on what it says, and gives the number of inputs that it tried.
fn watched(command: &mut Command) -> Result<u64> {
    eprintln!("$ {}", run::shown(command));
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start the fuzzer")?;
    let mut runs = None;
    for line in BufReader::new(child.stderr.take().context("no pipe")?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            runs = count.trim().parse().ok();
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{}: {status}", Path::new(command.get_program()).display());
    }
    runs.context("the fuzzer does not say how many inputs it tried")
}

/// CPU time of all children that have been waited for.
fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    Ok(time(usage.user_time()) + time(usage.system_time()))
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
