//! `nicinfo`: what io-pkt knows of its network interfaces, in the fields and order of the original.
//!
//! Exit code: 0 shown, 1 not, 2 for a wrong call.

mod lookup;
mod text;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use ctl::Root;

use crate::text::Parts;

/// Show what io-pkt knows of its network interfaces
#[derive(Debug, Parser)]
#[command(name = "nicinfo", version, after_help = EXAMPLES)]
struct RawArgs {
    /// Configuration only
    #[arg(short = 'c', conflicts_with_all = ["general", "statistics"])]
    configuration: bool,
    /// General statistics only
    #[arg(short = 'g', conflicts_with = "statistics")]
    general: bool,
    /// Statistics only
    #[arg(short = 's')]
    statistics: bool,
    /// Names are relative to /dev/io-net
    #[arg(short = 'r')]
    relative: bool,
    /// Also the driver, the instance, the link, and the frames that io-pkt dropped, by reason
    #[arg(short = 'v')]
    verbose: bool,
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Such as en0, /dev/io-net/en0, or the name that Linux has for it (eth1) [default: all]
    #[arg(value_name = "INTERFACE")]
    interfaces: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  nicinfo
  nicinfo -s en0
  nicinfo -v eth1

Exit status:
  0 shown, 1 not, 2 for a wrong call";

fn main() -> ExitCode {
    let raw = RawArgs::parse();
    match run(&raw) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nicinfo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Was every interface that was asked for there? What was not is told already.
fn run(raw: &RawArgs) -> Result<bool> {
    let root = Root::find(raw.root.as_deref())?;
    let parts = Parts {
        configuration: !raw.general && !raw.statistics,
        general: !raw.configuration,
        errors: !raw.configuration && !raw.general,
        verbose: raw.verbose,
    };
    let (found, missing) = lookup::find(&root, &raw.interfaces, raw.relative)?;
    let mut out = io::stdout().lock();
    for interface in &found {
        out.write_all(text::describe(interface, parts).as_bytes())?;
    }
    out.flush()?;
    for (name, why) in &missing {
        eprintln!("nicinfo: {name}: {why}");
    }
    Ok(missing.is_empty())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
