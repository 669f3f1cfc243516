//! `gns`: the manager of global names, one on each node that uses them.
//!
//! ```text
//!  gns -s            a server: knows the names of all nodes that come to it
//!  gns -s SERVER     another one, which copies that one's table and is announced to its clients
//!  gns [SERVER ...]  a client: tells servers what this node offers, asks them for the rest
//! ```
//!
//! | file | |
//! |---|---|
//! | `table.rs` | who offers what: pure state |
//! | `manager.rs` | the state shared by the threads, and the keeper that looks at it every second |
//! | `peer.rs` | towards servers: one thread for each |
//! | `serve.rs` | messages that come in |
//! | `mirror.rs` | `/dev/name/global`, for people |

mod manager;
mod mirror;
mod peer;
mod serve;
mod table;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Parser;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::manager::{Gns, Role};
use crate::table::MAX_SERVERS;

/// What a gns in the background prints when it serves.
const READY: &str = "ready";

/// Manage the global names of channels on this node
#[derive(Debug, Parser)]
#[command(name = "gns", version, after_help = EXAMPLES)]
struct RawArgs {
    /// Be a client (the default): tell servers what this node offers, and ask them
    #[arg(short = 'c', conflicts_with = "server")]
    client: bool,
    /// Be a server; with the name of another one, copy its table and stand beside it
    #[arg(short = 's')]
    server: bool,
    /// Say on standard error what happens; together with --foreground
    #[arg(short = 'v')]
    verbose: bool,
    /// Stay in the foreground
    #[arg(long)]
    foreground: bool,
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Nodes on which servers run; a client without any looks for one on every node that it knows
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  gns -s
  gns -s joseph
  gns
  gns joseph alonzo

Exit status:
  0 it serves (in the background) or ended when asked to, 1 it cannot, 2 wrong call";

fn main() -> ExitCode {
    let raw = RawArgs::parse();
    if raw.server && raw.servers.len() > 1 {
        eprintln!("gns: -s takes one server to stand beside, not {}", raw.servers.len());
        return ExitCode::from(2);
    }
    if raw.servers.len() > MAX_SERVERS {
        eprintln!("gns: {} servers are too many; at most {MAX_SERVERS}", raw.servers.len());
        return ExitCode::from(2);
    }
    let outcome = if raw.foreground { serve(&raw) } else { start_in_background() };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gns: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the same again with `--foreground`, and waits until that one serves or gives up.
fn start_in_background() -> Result<ExitCode> {
    let us = std::env::current_exe().context("cannot find this program's file")?;
    let mut child = Command::new(us)
        .arg("--foreground")
        .args(std::env::args_os().skip(1))
        .env("GNS_BACKGROUND", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start in the background")?;
    let output = child.stdout.take().context("the new process has no standard output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).context("cannot hear from the new process")?;
    if line.trim_end() == READY {
        return Ok(ExitCode::SUCCESS);
    }
    // It has said why.
    let status = child.wait().context("cannot wait for the new process")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn serve(raw: &RawArgs) -> Result<ExitCode> {
    let found = ctl::Root::find(raw.root.as_deref())?;
    let root = qnet::Root::at(found.dir())?;
    // Before there are threads, so that all of them leave these signals to the descriptor.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot block signals")?;
    let ended = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("cannot wait for signals")?;
    let role = if raw.server { Role::Server } else { Role::Client };
    let gns = Gns::start(&root, role, &raw.servers, raw.verbose).map_err(|error| explain(error, &root))?;
    if std::env::var_os("GNS_BACKGROUND").is_some() {
        leave_terminal()?;
    }
    let mut fds = [PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
    while let Err(nix::errno::Errno::EINTR) = poll(&mut fds, PollTimeout::NONE) {}
    gns.stop();
    Ok(ExitCode::SUCCESS)
}

/// Says that all is well and lets go of what belongs to the one who started this.
fn leave_terminal() -> Result<()> {
    nix::unistd::setsid().context("cannot leave the terminal")?;
    println!("{READY}");
    std::io::stdout().flush().context("cannot say that it serves")?;
    let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
    nix::unistd::dup2_stdout(&null).context("cannot leave standard output")?;
    nix::unistd::dup2_stderr(&null).context("cannot leave standard error")?;
    Ok(())
}

fn explain(error: anyhow::Error, root: &qnet::Root) -> anyhow::Error {
    let errno = error.downcast_ref::<qnet::Error>().map(qnet::Error::errno);
    let root = root.path().display();
    match errno {
        Some(libc::EEXIST) => {
            let text =
                ["gns_server", "gns_client"].iter().find_map(|name| read(&format!("{root}/dev/name/{name}")));
            let who = text.map(|text| format!(": {text}")).unwrap_or_default();
            anyhow::anyhow!("a gns of this node runs already{who}")
        }
        Some(libc::EACCES | libc::EPERM) => {
            error.context(format!("only the owner of {root} (and root) may manage its global names"))
        }
        _ => error,
    }
}

/// The first line of a file of a few lines.
fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(1024).read_to_string(&mut text).ok()?;
    text.lines().next().map(str::to_owned)
}
