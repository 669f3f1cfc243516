//! `cargo xtask bench net`: files of another node, beside other ways to reach them.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use bench_net::{
    role::{self, Role},
    sections::{self, Effort},
    work::Work,
};
use bench_support::{install, report, stage::Stage};
use clap::Parser;

/// Files of another node through /net, beside sshfs, NFS-Ganesha with libnfs, 9P with diod, and a local pass-through file
/// system, all with their default options over veth.
///
/// Each measurement has a fresh mount, so that the client's caches are cold; the server's files lie in memory. The
/// figures belong to the machine; the ratios within a round count.
#[derive(Parser)]
struct Cli {
    /// Rounds; in each, everything has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of random reads, and of messages between the nodes
    #[arg(long, default_value_t = 1000)]
    span: u64,
    /// MiB of the large file
    #[arg(long, default_value_t = 1024)]
    size: u64,
    /// Three rounds, a large file of 128 MiB, shorter random reads
    #[arg(long)]
    quick: bool,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = Work::ALL.map(|work| work.word().to_owned()))]
    work: Vec<String>,
    /// Only lines whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure another installed io-pkt beside it, as line `/net, beside`
    #[arg(long)]
    beside: Option<PathBuf>,
    /// MTU of every veth; with another one than 1500 our nodes get the option that lets them use it
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Measure our nodes with these options of devn-packet, too (`send=xdp`), as lines with the options in their names;
    /// up to four times
    #[arg(long, value_name = "OPTIONS")]
    driver: Vec<String>,
    /// Where the JSON goes
    #[arg(long, default_value = "target/bench/net.json")]
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
    let effort = Effort {
        work: cli.work.iter().map(|word| word.parse()).collect::<Result<_>>()?,
        program: install::io_pkt(cli.program)?,
        beside: cli.beside,
        mtu: cli.mtu,
        drivers: cli.driver,
        rounds: if cli.quick { cli.rounds.min(3) } else { cli.rounds },
        span: Duration::from_millis(if cli.quick { cli.span.min(400) } else { cli.span }),
        size: (if cli.quick { cli.size.min(128) } else { cli.size }) << 20,
        only: cli.only,
    };
    report::publish("net", &sections::all(&effort)?, &install::top()?.join(&cli.json))
}
