//! `waitfor path [seconds[:ms]]`: waits until a path is there.
//!
//! For a network directory (`/net`) being there means that Qnet serves it: a file system of type
//! `fuse.qnet` is mounted and lists entries; an empty folder that waits for its mount does not count.
//! `-s` asks no more than that stat() works. Exit code: 0 there, 1 not in time, 2 for a wrong call.

mod limit;
mod presence;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use ctl::Root;

use crate::limit::Limit;
use crate::presence::Presence;

/// Wait until a path is there
#[derive(Debug, Parser)]
#[command(name = "waitfor", version, after_help = EXAMPLES)]
struct RawArgs {
    /// Only ask whether stat() works, also for a network directory
    #[arg(short = 's')]
    stat: bool,
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// What to wait for; a network directory must be live
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// How long, in seconds with tenths, and how often to look, in milliseconds
    #[arg(value_name = "SECONDS[:MS]", default_value = "5.0:100")]
    limit: Limit,
}

const EXAMPLES: &str = "Examples:
  waitfor /dev/io-net/en0 60
  waitfor /net
  waitfor /net/joseph/etc 2.5:50

Exit status:
  0 it is there, 1 not in time, 2 for a wrong call";

/// Enough for the first look on a busy machine.
const ONE_LOOK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let raw = RawArgs::parse();
    match run(&raw) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waitfor: {}: {error:#}", raw.path.display());
            ExitCode::FAILURE
        }
    }
}

fn run(raw: &RawArgs) -> Result<()> {
    let net = Root::find(raw.root.as_deref())?.net();
    let (path, limit, stat) = (raw.path.clone(), raw.limit, raw.stat);
    let (tell, answer) = mpsc::channel();
    // A look below a node that does not answer may take longer than our limit: somebody else looks.
    thread::spawn(move || {
        loop {
            let presence = if stat { presence::stat(&path) } else { presence::live(&path, &net) };
            let is_last = presence == Presence::There;
            // Nobody listens any more when the time is over; the process is about to end then.
            if tell.send(presence).is_err() || is_last {
                return;
            }
            thread::sleep(limit.pause);
        }
    });
    let mut last = Presence::Missing;
    // There is always one look, also with a limit of 0.
    let mut patience = limit.left().max(ONE_LOOK);
    loop {
        match answer.recv_timeout(patience) {
            Ok(Presence::There) => return Ok(()),
            Ok(other) => last = other,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
        patience = limit.left();
        if patience.is_zero() {
            break;
        }
    }
    bail!("{last} after {} s", limit.seconds());
}
