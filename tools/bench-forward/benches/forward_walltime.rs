//! `cargo xtask bench forward`: frames a second through io-pkt's bridge and through others.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use bench_forward::{
    measure::{Forwarder, Spans, measure},
    peers::Peer,
    report::{self, Series},
    role::{self, Role},
};
use bench_support::stage::Stage;
use clap::Parser;

/// Forwarding of small and large frames between two veth pairs, side by side in one run
#[derive(Parser)]
struct Cli {
    /// Rounds; in each, every forwarder has its turn with every size
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Frame sizes in bytes, without the checksum
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1514])]
    sizes: Vec<usize>,
    /// Milliseconds of overload
    #[arg(long, default_value_t = 1500)]
    overload: u64,
    /// Two rounds, shorter measurements
    #[arg(long)]
    quick: bool,
    /// Where the JSON goes
    #[arg(long, default_value = "target/bench/forward.json")]
    json: PathBuf,
    /// Only forwarders whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// The io-pkt to measure
    #[arg(long, default_value = "target/release/io-pkt")]
    program: PathBuf,
    /// Packet threads of io-pkt (`-t`); each number is a forwarder of its own
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    threads: Vec<u32>,
    #[command(flatten)]
    stage: Stage,
    #[command(subcommand)]
    role: Option<Role>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if cli.stage.play(cli.role.clone(), role::play)? {
        return Ok(());
    }
    // cargo runs a bench in its package's folder.
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let program = top.join(&cli.program);
    ensure!(
        program.exists(),
        "{} is missing; build with cargo build --release --workspace",
        program.display()
    );
    let io_pkt = |&threads| Forwarder::IoPkt { program: program.clone(), threads };
    let mut forwarders: Vec<_> = cli.threads.iter().map(io_pkt).collect();
    forwarders.extend([
        Forwarder::MinimalRing,
        Forwarder::MinimalRingMmsg,
        Forwarder::MinimalMmsg,
        Forwarder::KernelBridge,
    ]);
    forwarders.extend(Peer::installed().into_iter().map(Forwarder::Peer));
    forwarders.retain(|forwarder| forwarder.name().contains(&cli.only));
    ensure!(!forwarders.is_empty(), "no forwarder's name contains `{}`", cli.only);
    let (rounds, overload, steps) =
        if cli.quick { (cli.rounds.min(2), cli.overload.min(700), 5) } else { (cli.rounds, cli.overload, 7) };
    let spans = Spans { overload: Duration::from_millis(overload), step: Duration::from_millis(400), steps };
    let mut all: Vec<Series> = cli
        .sizes
        .iter()
        .flat_map(|&size| forwarders.iter().map(move |f| Series { name: f.name(), size, rounds: Vec::new() }))
        .collect();
    for round in 1..=rounds {
        for (series, forwarder) in all.iter_mut().zip(forwarders.iter().cycle()) {
            let rates = measure(forwarder, series.size, spans)
                .with_context(|| format!("{} with {} bytes", series.name, series.size))?;
            eprintln!(
                "round {round}: {}, {} bytes: {:.0} of {:.0} k/s, loss-free {:.0} k/s",
                series.name,
                series.size,
                rates.overload / 1e3,
                rates.offered / 1e3,
                rates.loss_free / 1e3
            );
            series.rounds.push(rates);
        }
    }
    report::print(&all);
    let path = top.join(&cli.json);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(&path, serde_json::to_string_pretty(&report::json(&all))?)
        .with_context(|| format!("{}", path.display()))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}
