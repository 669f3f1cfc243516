//! `qnetstats`: the statistics of this node's Qnet, the text of `/net/.qnetstats`.
//!
//! It asks the network manager itself, so it works where no network directory is mounted. With `-w` it asks again and again and
//! shows what moves between this node and each other one. Exit code: 0 shown, 1 Qnet does not run or does not answer, 2 for
//! a wrong call.

mod watch;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::libc;
use qnet::Netmgr;

use crate::watch::{HEAD, Snapshot};

/// After so many looks the heads of the columns are shown again.
const PAGE: u64 = 20;

/// Show the statistics of Qnet on this node
#[derive(Debug, Parser)]
#[command(name = "qnetstats", version, after_help = EXAMPLES)]
struct RawArgs {
    /// Show every SECONDS what moves between this node and each other one [default: 1]
    #[arg(short = 'w', long = "watch", value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    watch: Option<Duration>,
    /// With -w, stop after so many looks [default: when interrupted]
    #[arg(short = 'c', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), requires = "watch")]
    count: Option<u64>,
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

const EXAMPLES: &str = r#"Examples:
  qnetstats
  qnetstats | grep -e "ok" -e "bad"
  qnetstats -w
  qnetstats -w 0.5 -c 10

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
    let ask = || netmgr.statistics().context("Qnet gives no statistics");
    let mut out = io::stdout().lock();
    if let Some(pause) = raw.watch {
        return watch(ask, pause, raw.count, &mut out);
    }
    let text = ask()?;
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Looks every `pause`, `count` times or until nobody answers or reads any more.
fn watch(
    ask: impl Fn() -> Result<String>,
    pause: Duration,
    count: Option<u64>,
    out: &mut impl Write,
) -> Result<()> {
    let mut before = (Snapshot::read(&ask()?), Instant::now());
    for look in 0.. {
        if count.is_some_and(|count| look >= count) {
            break;
        }
        if look % PAGE == 0 {
            out.write_all(HEAD.as_bytes())?;
        }
        out.flush()?;
        thread::sleep(pause);
        let now = (Snapshot::read(&ask()?), Instant::now());
        out.write_all(now.0.since(&before.0, now.1 - before.1).as_bytes())?;
        before = now;
    }
    Ok(out.flush()?)
}

/// A time in seconds, with a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds =
        seconds.filter(|time| *time >= Duration::from_millis(10) && *time <= Duration::from_secs(86_400));
    seconds.ok_or_else(|| format!("`{text}`: seconds from 0.01 to 86400 are expected"))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
