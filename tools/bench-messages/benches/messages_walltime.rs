//! `cargo xtask bench messages`: MsgSend and MsgReply, on one node and between two, beside what else there is.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use bench_messages::{
    clients,
    role::{self, Role},
    sections::{self, Effort},
};
use bench_support::{install, report, stage::Stage};
use clap::Parser;

/// Parts of the benchmark, in their order.
const SECTIONS: [&str; 4] = ["local", "remote", "bulk", "clients"];

/// Messages on one node beside a Unix socket, a pipe and futexes; between two nodes beside ZeroMQ, gRPC, TCP, UDP and raw
/// frames; bulk beside TCP; and one server with many clients.
///
/// Every line is measured with all processes on one CPU, with a CPU a side, and not pinned. The figures belong to the
/// machine; the ratios within a round count.
#[derive(Parser)]
struct Cli {
    /// Rounds; in each, everything has its turn
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Milliseconds of each measurement
    #[arg(long, default_value_t = 500)]
    span: u64,
    /// Three rounds, shorter measurements
    #[arg(long)]
    quick: bool,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = SECTIONS.map(str::to_owned))]
    sections: Vec<String>,
    /// Sizes of local messages, bytes
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1 << 10, 1 << 16, 1 << 20])]
    sizes: Vec<usize>,
    /// Sizes of messages between nodes, bytes
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1 << 10, 1 << 16])]
    remote_sizes: Vec<usize>,
    /// MTUs for bulk
    #[arg(long, value_delimiter = ',', default_values_t = [1500, 9000])]
    mtu: Vec<u32>,
    /// Numbers of clients on the server's node
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1000])]
    clients: Vec<usize>,
    /// Numbers of clients on another node, of which each has a socket to the channel there
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 200])]
    remote_clients: Vec<usize>,
    /// Only lines whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Where the JSON goes
    #[arg(long, default_value = "target/bench/messages.json")]
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
    for name in &cli.sections {
        ensure!(SECTIONS.contains(&name.as_str()), "--sections {name}: there are {}", SECTIONS.join(", "));
    }
    let effort = Effort {
        program: install::io_pkt(cli.program)?,
        rounds: if cli.quick { cli.rounds.min(3) } else { cli.rounds },
        span: Duration::from_millis(if cli.quick { cli.span.min(150) } else { cli.span }),
        only: cli.only,
    };
    let wants = |section: &str| cli.sections.iter().any(|name| name == section);
    let mut tables = Vec::new();
    if wants("local") {
        tables.extend(sections::local(&effort, &cli.sizes)?);
    }
    if wants("remote") {
        tables.extend(sections::remote(&effort, &cli.remote_sizes)?);
    }
    for &mtu in cli.mtu.iter().filter(|_| wants("bulk")) {
        tables.extend(sections::bulk(&effort, mtu)?);
    }
    for (counts, remote) in [(&cli.clients, false), (&cli.remote_clients, true)] {
        if wants("clients") {
            tables.extend(clients::clients(&effort, counts, remote)?);
        }
    }
    report::publish("messages", &tables, &install::top()?.join(&cli.json))
}
