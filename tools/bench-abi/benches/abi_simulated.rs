//! `cargo xtask bench abi`: instructions per frame through the module border, counted by callgrind.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use bench_abi::{FRAMES, linked, module};
use clap::{Parser, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Variant {
    /// The crate, called directly
    Linked,
    /// The shared object, called through the border
    Module,
}

/// Instructions per frame with and without the module border
#[derive(Parser)]
struct Cli {
    /// Rounds of the longer run; the shorter has a tenth, and the difference is what is counted
    #[arg(long, default_value_t = 2_000)]
    rounds: usize,
    /// Where the JSON goes
    #[arg(long, default_value = "target/bench/abi.json")]
    json: PathBuf,
    /// The module to measure
    #[arg(long, default_value = "target/release/liblsm_bridge.so")]
    module: PathBuf,
    /// Ignored; cargo adds it
    #[arg(long, hide = true)]
    bench: bool,
    /// Run this variant instead of measuring
    #[arg(long, hide = true)]
    variant: Option<Variant>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let path = top.join(&cli.module);
    if let Some(variant) = cli.variant {
        let sent = match variant {
            Variant::Linked => linked::run(cli.rounds),
            Variant::Module => module::run(&path, cli.rounds),
        }?;
        // The very first batch meets an empty table and is flooded, which sends as many frames.
        ensure!(sent == (2 * FRAMES * cli.rounds) as u64, "{sent} frames sent");
        return Ok(());
    }
    ensure!(path.exists(), "{} is missing; build with cargo build --release --workspace", path.display());
    let linked = per_frame(&cli, Variant::Linked)?;
    let module = per_frame(&cli, Variant::Module)?;
    let ratio = module / linked;
    println!("instructions per frame, 64-byte frames in batches of {FRAMES}, forwarded by lsm-bridge\n");
    println!("| variant | instructions per frame | ratio |");
    println!("|---|---|---|");
    println!("| linked, called directly | {linked:.2} | 1.000 |");
    println!("| lsm-bridge.so through the border | {module:.2} | {ratio:.3} |");
    println!("\ncallgrind counts the same for the same program and input: there is no spread");
    let json = serde_json::json!({
        "benchmark": "abi", "rounds": cli.rounds, "frames_per_batch": FRAMES,
        "linked_instructions_per_frame": linked, "module_instructions_per_frame": module, "ratio": ratio,
    });
    let path = top.join(&cli.json);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(&path, serde_json::to_string_pretty(&json)?)?;
    println!("written to {}", path.display());
    Ok(())
}

/// Instructions of the longer run less those of the shorter, by frame: what starting up costs falls out.
fn per_frame(cli: &Cli, variant: Variant) -> Result<f64> {
    let short = cli.rounds / 10;
    let difference = instructions(cli, variant, cli.rounds)? - instructions(cli, variant, short)?;
    Ok(difference as f64 / (2 * FRAMES * (cli.rounds - short)) as f64)
}

fn instructions(cli: &Cli, variant: Variant, rounds: usize) -> Result<i64> {
    let out = std::env::temp_dir().join(format!("callgrind.{}.{variant:?}.{rounds}", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .arg("--rounds")
        .arg(rounds.to_string())
        .arg("--module")
        .arg(&cli.module)
        .args(["--variant", if variant == Variant::Linked { "linked" } else { "module" }])
        .output()
        .context("valgrind (package valgrind)")?;
    if !output.status.success() {
        bail!("{variant:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let total = total(&out);
    std::fs::remove_file(&out).with_context(|| format!("{}", out.display()))?;
    total
}

fn total(out: &Path) -> Result<i64> {
    let text = std::fs::read_to_string(out)?;
    text.lines()
        .find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("no total in {}", out.display()))
}
