//! Line coverage of the protocol core, from its own tests and the simulator's.
//!
//! Left out are those simulations whose point is size, time or speed: with counters they take an hour, and what they run
//! many times others run, too. (The fuzz corpus runs the readers of bytes only, behind which stand half of the workspace's
//! crates to be built.) The compiler counts; LLVM's own tools of the compiler's version read the counts: those of rustup's
//! component `llvm-tools`, or a system's `llvm-cov-NN` (Debian: package `llvm-NN`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{self, cargo};
use crate::workspace::{self, Workspace};

/// Whose tests count.
const PACKAGES: [&str; 2] = ["qnet-proto", "qnet-sim"];
/// The simulator's tests that are left out.
const LEFT_OUT: [&str; 3] = ["links", "long", "throughput"];
/// Whose lines are counted.
const SOURCES: &str = "lsm-qnet/proto/src/";
/// Seeds of each simulation: more find faults, not lines.
const SEEDS: &str = "60";

/// Runs the tests and prints a line for each file, and the figure for all.
pub(crate) fn coverage() -> Result<()> {
    let (profdata, cov) = (tool("llvm-profdata")?, tool("llvm-cov")?);
    let folder = Workspace::load()?.target_directory.join("coverage");
    let counts = folder.join("counts");
    if counts.exists() {
        std::fs::remove_dir_all(&counts)?;
    }
    let programs = programs(&folder)?;
    for program in &programs {
        let mut command = Command::new(&program.file);
        command.current_dir(&program.package).env("QNET_SIM_SEEDS", SEEDS);
        run::run(command.env("LLVM_PROFILE_FILE", counts.join("%p-%m.profraw")))?;
    }
    let merged = folder.join("merged.profdata");
    let raw = std::fs::read_dir(&counts).with_context(|| format!("cannot read {}", counts.display()))?;
    let raw: Vec<PathBuf> = raw.filter_map(|entry| Some(entry.ok()?.path())).collect();
    run::run(Command::new(profdata).args(["merge", "-sparse", "-o"]).arg(&merged).args(&raw))?;
    let mut export = Command::new(cov);
    export.args(["export", "-summary-only", "-instr-profile"]).arg(&merged);
    for program in &programs {
        export.arg("-object").arg(&program.file);
    }
    let text = run::output(&mut export)?;
    print(&serde_json::from_str(&text).context("llvm-cov wrote no JSON")?)
}

struct Program {
    file: PathBuf,
    package: PathBuf,
}

/// Builds the tests with counters; gives the programs, and the folders they expect to run in.
fn programs(folder: &Path) -> Result<Vec<Program>> {
    let mut command = cargo();
    command
        .args(["test", "--no-run", "--message-format=json-render-diagnostics", "--target-dir"])
        .arg(folder);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command.env("RUSTFLAGS", "-Cinstrument-coverage");
    // Build scripts and macros run with counters, too; theirs are of no interest.
    command.env("LLVM_PROFILE_FILE", folder.join("build/%p.profraw"));
    let text = run::output(&mut command)?;
    let programs = text.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let name = message.pointer("/target/name")?.as_str()?;
        let file = message.get("executable")?.as_str()?.into();
        if LEFT_OUT.contains(&name) {
            return None;
        }
        let manifest: PathBuf = message.get("manifest_path")?.as_str()?.into();
        Some(Program { file, package: manifest.parent()?.to_owned() })
    });
    Ok(programs.collect())
}

fn print(report: &Value) -> Result<()> {
    let files =
        report.pointer("/data/0/files").and_then(Value::as_array).context("the report has no files")?;
    let root = workspace::root();
    let (mut count, mut covered) = (0, 0);
    for file in files {
        let name = file.get("filename").and_then(Value::as_str).unwrap_or_default();
        let name = Path::new(name).strip_prefix(root).unwrap_or(Path::new(name)).to_string_lossy();
        if !name.starts_with(SOURCES) || is_test(&name) {
            continue;
        }
        let number = |what: &str| {
            file.pointer(&format!("/summary/lines/{what}")).and_then(Value::as_u64).unwrap_or_default()
        };
        let (lines, hit) = (number("count"), number("covered"));
        println!("{:6.2} %  {hit:5} of {lines:5}  {}", percent(hit, lines), &name[SOURCES.len()..]);
        count += lines;
        covered += hit;
    }
    if count == 0 {
        bail!("no line of {SOURCES} was counted");
    }
    println!("{:6.2} %  {covered:5} of {count:5}  all of {SOURCES}", percent(covered, count));
    println!("{SEEDS} seeds of each simulation; left out: {}", LEFT_OUT.join(", "));
    Ok(())
}

/// Files that hold tests only.
fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/")
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// One of LLVM's tools, of the version that the compiler is made with.
fn tool(name: &str) -> Result<PathBuf> {
    let version = run::output(Command::new("rustc").arg("-vV"))?;
    let find = |key: &str| version.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
    let host = find("host: ").context("rustc -vV names no host")?;
    let llvm = find("LLVM version: ").context("rustc -vV names no LLVM")?;
    let sysroot = run::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let ours = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin").join(name);
    if ours.exists() {
        return Ok(ours);
    }
    let major = llvm.split('.').next().unwrap_or_default();
    let versioned = format!("{name}-{major}");
    if run::in_path(&versioned) {
        return Ok(versioned.into());
    }
    bail!("{name} is missing: rustup component add llvm-tools, or the package llvm-{major}")
}
