//! `cargo xtask bench crc`: gigabytes a second through the packets' checksum.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use bench_qnet::crc::{Bench, Worker};
use bench_support::spread::Spread;
use clap::Parser;
use serde_json::json;

/// The checksum of packets, side by side with a table-driven one and a copy of the same bytes
#[derive(Parser)]
struct Cli {
    /// Rounds; in each, everyone has their turn with every length
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Packet lengths in bytes
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1498, 8998, 65536])]
    lengths: Vec<usize>,
    /// Milliseconds of each measurement
    #[arg(long, default_value_t = 20)]
    span: u64,
    /// A fifth of the rounds
    #[arg(long)]
    quick: bool,
    /// Where the JSON goes
    #[arg(long, default_value = "target/bench/crc.json")]
    json: PathBuf,
    /// Ignored; cargo adds it
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let rounds = if cli.quick { cli.rounds.div_ceil(5) } else { cli.rounds };
    let longest = cli.lengths.iter().copied().max().context("no lengths are given")?;
    let mut bench = Bench::new(longest);
    let mut rows: Vec<(Worker, usize, Vec<f64>)> =
        cli.lengths.iter().flat_map(|&len| Worker::ALL.map(|worker| (worker, len, Vec::new()))).collect();
    for _ in 0..rounds {
        for (worker, len, rates) in &mut rows {
            rates.push(bench.rate(*worker, *len, Duration::from_millis(cli.span)) / 1e9);
        }
    }
    println!("GB/s: median (minimum to maximum) of {rounds} rounds\n");
    println!("| bytes | worker | GB/s | ns a packet |\n|---|---|---|---|");
    let mut json = Vec::new();
    for (worker, len, rates) in rows {
        let Some(spread) = Spread::of(rates) else { continue };
        let each = len as f64 / spread.median;
        println!("| {len} | {} | {} | {each:.0} |", worker.name(), spread.show(1));
        json.push(json!({"worker": worker.name(), "bytes": len, "gb_per_second": spread.json()}));
    }
    // cargo runs a bench in its package's folder.
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(&cli.json);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(&path, serde_json::to_string_pretty(&json!({"benchmark": "crc", "rows": json}))?)
        .with_context(|| format!("{}", path.display()))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}
