//! `qnetstats`: the statistics of this node's Qnet, the text of `/net/.qnetstats`.
//!
//! It asks the network manager itself, so it works where no network directory is mounted. Exit code: 0 shown, 1 Qnet does
//! not run or does not answer, 2 for a wrong call.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::libc;
use qnet::Netmgr;

/// Show the statistics of Qnet on this node
#[derive(Debug, Parser)]
#[command(name = "qnetstats", version, after_help = EXAMPLES)]
struct RawArgs {
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

const EXAMPLES: &str = r#"Examples:
  qnetstats
  qnetstats | grep -e "ok" -e "bad"

Exit status:
  0 shown, 1 Qnet does not run or does not answer, 2 for a wrong call"#;

fn main() -> ExitCode {
    let raw = RawArgs::parse();
    match run(&raw) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qnetstats: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(raw: &RawArgs) -> Result<()> {
    let found = ctl::Root::find(raw.root.as_deref())?;
    let root = qnet::Root::at(found.dir())?;
    let netmgr = match Netmgr::attach(&root) {
        Ok(netmgr) => netmgr,
        Err(error) if error.errno() == libc::ENOTSUP => {
            bail!("Qnet does not run on this node (nobody answers at {})", root.qnet_socket().display())
        }
        Err(error) => return Err(error).context("cannot reach Qnet"),
    };
    let text = netmgr.statistics().context("Qnet gives no statistics")?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
