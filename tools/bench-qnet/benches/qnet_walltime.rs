//! `cargo xtask bench qnet`: Qnet between two nodes beside TCP, UDP, ZeroMQ and raw frames.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use bench_qnet::{
    lines,
    role::{self, Role},
    sections::{self, Effort},
};
use bench_support::{install, report, stage::Stage};
use clap::Parser;

/// Qnet between two installed release io-pkt over veth, side by side with others in one run.
///
/// `wire` is a source and a sink inside the two lsm-qnet (their meters), `process` goes from one process's memory to
/// another's. The figures belong to the machine; the ratios within a round count.
#[derive(Parser)]
struct Cli {
    /// Rounds; in each, everything has its turn
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Milliseconds of each measurement (iperf3: whole seconds)
    #[arg(long, default_value_t = 1000)]
    span: u64,
    /// Three rounds, fewer nodes, shorter waits
    #[arg(long)]
    quick: bool,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = ["bulk", "lines", "trip", "crowd"].map(str::to_owned))]
    sections: Vec<String>,
    /// MTUs for bulk
    #[arg(long, value_delimiter = ',', default_values_t = [1500, 9000])]
    mtu: Vec<u32>,
    /// KiB of a bulk message
    #[arg(long, default_value_t = 1024)]
    size: u32,
    /// Bulk messages under way
    #[arg(long, default_value_t = 4)]
    in_flight: u32,
    /// Numbers of simulated nodes
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1000])]
    crowd: Vec<usize>,
    /// What each link of section lines carries, as tc writes it; a machine with other work fills fewer bits
    #[arg(long, default_value = "500mbit")]
    rate: String,
    /// Only lines whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Where the JSON goes
    #[arg(long, default_value = "target/bench/qnet.json")]
    json: PathBuf,
    /// Use this installed io-pkt instead of installing one below target/bench
    #[arg(long)]
    program: Option<PathBuf>,
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
    let program = install::io_pkt(cli.program)?;
    let effort = Effort {
        program,
        rounds: if cli.quick { cli.rounds.min(3) } else { cli.rounds },
        span: Duration::from_millis(if cli.quick { cli.span.min(700) } else { cli.span }),
        size: cli.size << 10,
        in_flight: cli.in_flight,
        rate: cli.rate,
        only: cli.only,
    };
    let wants = |section: &str| cli.sections.iter().any(|name| name == section);
    let mut tables = Vec::new();
    for &mtu in cli.mtu.iter().filter(|_| wants("bulk")) {
        tables.push(sections::bulk(&effort, mtu)?);
    }
    if wants("lines") {
        tables.push(lines::two(&effort)?);
    }
    if wants("trip") {
        tables.extend(sections::round_trips(&effort)?);
    }
    if wants("crowd") {
        let (effort, quiet) = match cli.quick {
            true => (Effort { rounds: 1, ..effort }, Duration::from_secs(20)),
            false => (effort, Duration::from_secs(60)),
        };
        tables.extend(sections::crowds(&effort, &cli.crowd, quiet)?);
    }
    report::publish("qnet", &tables, &install::top()?.join(&cli.json))
}
