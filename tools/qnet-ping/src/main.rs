//! `qnet-ping NODE`: is that node reachable, by which link, how fast, and if not, why? `qnet-ping NODE NAME`: and is the
//! service of that name?
//!
//! The question is put in the order in which things can fail: does Qnet run here, does the name lead to a node, does the node
//! take a session, does it answer. The exit status is that of ping(8): 0 it answered at least once, 1 it never did, 2 the
//! question could not be put (wrong call, no Qnet, no such node or link).

mod service;
mod tally;
mod wait;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::libc;
use qnet::netmgr::Silence;
use qnet::{Error, Netmgr};

use crate::tally::Tally;
use crate::wait::Interrupts;

/// Ask a Qnet node whether it answers, by which link, and how fast
#[derive(Debug, Parser)]
#[command(name = "qnet-ping", version, after_help = EXAMPLES)]
struct RawArgs {
    /// Stop after so many questions [default: when interrupted]
    #[arg(short = 'c', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "name")]
    count: Option<u64>,
    /// Seconds from one question to the next, with a fraction
    #[arg(short = 'i', value_name = "SECONDS", default_value = "1", value_parser = seconds, conflicts_with = "name")]
    interval: Duration,
    /// Seconds to wait for each answer, with a fraction
    #[arg(short = 'W', value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    patience: Duration,
    /// Ask over this link only, such as en0 [default: the best one]
    #[arg(short = 'I', value_name = "LINK")]
    link: Option<String>,
    /// Only print the summary; with NAME, only what failed
    #[arg(short = 'q')]
    quiet: bool,
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The node, as it stands below /net
    #[arg(value_name = "NODE")]
    node: String,
    /// A name on it: a local one, or a path such as /dev/name/global/NAME. Asked once: can its server be reached, and if
    /// not, which step fails?
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

const EXAMPLES: &str = "Examples:
  qnet-ping joseph
  qnet-ping -c 3 -i 0.2 joseph.lab
  qnet-ping -c 1 -I en1 joseph
  qnet-ping joseph plant/valve

Exit status:
  0 the node (with NAME, the server) answered, 1 it did not, 2 the question could not be put";

fn main() -> ExitCode {
    let raw = RawArgs::parse();
    match run(&raw) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qnet-ping: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether the node answered at least once.
fn run(raw: &RawArgs) -> Result<bool> {
    let found = ctl::Root::find(raw.root.as_deref())?;
    let root = qnet::Root::at(found.dir())?;
    let netmgr = Netmgr::attach(&root).map_err(|error| match error.errno() {
        libc::ENOTSUP => {
            anyhow::anyhow!(
                "Qnet does not run on this node (nobody answers at {})",
                root.qnet_socket().display()
            )
        }
        _ => anyhow::Error::from(error).context("cannot reach Qnet"),
    })?;
    let node = &raw.node;
    let nd = match netmgr.strtond(node) {
        Ok(nd) => nd,
        Err(error) if error.errno() == libc::ENOENT => {
            bail!("{node}: not found: no node of this name is known, and none answers to it")
        }
        Err(error) => return Err(error).with_context(|| format!("{node}: not found")),
    };
    let interrupts = Interrupts::catch().context("cannot catch SIGINT")?;
    let mut out = io::stdout().lock();
    if !raw.quiet {
        writeln!(out, "qnet-ping {node}: found, node number {nd}")?;
    }
    if let Some(name) = &raw.name {
        let reached = service::check(raw, name, (&root, &netmgr, nd), &mut out)?;
        out.flush()?;
        return Ok(reached);
    }
    let tally = ask(raw, &netmgr, nd, &interrupts, &mut out)?;
    write!(out, "{}", tally.summary(node))?;
    out.flush()?;
    Ok(tally.answered() > 0)
}

/// Asks until the count is reached or the user has had enough.
fn ask(
    raw: &RawArgs,
    netmgr: &Netmgr,
    nd: u32,
    interrupts: &Interrupts,
    out: &mut impl Write,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut next = Instant::now();
    while raw.count.is_none_or(|count| tally.asked() < count) {
        if interrupts.wait_until(next)? {
            break;
        }
        next += raw.interval;
        let seq = tally.asked() + 1;
        match netmgr.ping(nd, raw.link.as_deref(), raw.patience) {
            Ok(Ok(pong)) => {
                if !raw.quiet {
                    let milliseconds = pong.rtt.as_secs_f64() * 1000.0;
                    match pong.link.as_str() {
                        "" => writeln!(out, "seq={seq} this node itself")?,
                        link => writeln!(
                            out,
                            "seq={seq} from {} over {link} time={milliseconds:.3} ms",
                            pong.addr
                        )?,
                    }
                }
                tally.answer(pong.rtt, &pong.link);
            }
            Ok(Err(silence)) => {
                let why = reason(&silence, raw);
                if !raw.quiet {
                    writeln!(out, "seq={seq} {why}")?;
                }
                tally.silence(why);
            }
            Err(error) => return Err(refusal(&error, raw)),
        }
        out.flush()?;
    }
    Ok(tally)
}

/// Why there was no answer, and where it was asked.
pub(crate) fn reason(silence: &Silence, raw: &RawArgs) -> String {
    let ways: Vec<String> = silence.ways.iter().map(|(link, addr)| format!("{link} at {addr}")).collect();
    let over = if ways.is_empty() { String::new() } else { format!(" over {}", ways.join(" or ")) };
    match silence.errno {
        libc::EHOSTUNREACH => format!(
            "no session: the node is known but does not answer the set-up{over}; is io-pkt with Qnet running there?"
        ),
        libc::EHOSTDOWN => format!("the session to the node{over} ended"),
        libc::ETIMEDOUT => format!("no answer within {} s{over}", raw.patience.as_secs_f64()),
        errno => format!("no answer{over}: {}", Error::Errno(errno)),
    }
}

/// Why it makes no sense to ask.
pub(crate) fn refusal(error: &Error, raw: &RawArgs) -> anyhow::Error {
    let RawArgs { node, link, .. } = raw;
    match error.errno() {
        libc::EAGAIN => anyhow::anyhow!("{node}: too many questions are under way here"),
        libc::ENODEV => {
            let link = link.as_deref().unwrap_or_default();
            anyhow::anyhow!(
                "{node}: not over {link}: there is no such link, or the node was never heard on it"
            )
        }
        libc::ENOSYS => anyhow::anyhow!("the Qnet that runs here is too old to be asked"),
        _ => anyhow::anyhow!("{node}: {error}"),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text} is not a number of seconds"))?;
    match Duration::try_from_secs_f64(number) {
        Ok(time) if (0.001..=3600.0).contains(&number) => Ok(time),
        _ => Err(format!("{text}: from 0.001 to 3600 seconds")),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
