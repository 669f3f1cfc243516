//! `qnet-tty NODE TERMINAL`: a terminal of another node as a local one.
//!
//! Below `/net` a terminal is a file: bytes go through it, and `ioctl` gives ENOTTY. This program makes a local pseudo terminal
//! that programs can use as what it is (`screen`, `stty`, `minicom`), and carries bytes both ways, unchanged.
//!
//! ```text
//!  program ── slave │ master ── relay.rs ── messages ── terminal of the node (raw)
//!                   └ settings.rs: speed, parity, … and the window's size ──▶
//! ```
//!
//! | file | what |
//! |---|---|
//! | `pair.rs` | the local terminal, its link |
//! | `relay.rs` | bytes, a thread for each direction |
//! | `settings.rs` | which settings are the program's and which the far terminal's |
//! | `sys.rs` | system calls |
//!
//! Exit status: 0 asked to end (SIGINT, SIGTERM, SIGHUP), 2 it could not be done or is over: wrong call, no Qnet, no such
//! node or terminal, no leave, node gone.

mod pair;
mod relay;
mod settings;
#[expect(unsafe_code, reason = "terminal requests without a safe wrapper")]
mod sys;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use qnet::terminal::Terminal;
use qnet::{Error, Netmgr};

use crate::pair::Pair;
use crate::relay::Relay;
use crate::settings::Settings;

/// How often the settings of the local terminal are looked at: the kernel tells nobody when a program changes them.
const LOOK: Duration = Duration::from_millis(200);

/// Use a terminal of another node as a local one
#[derive(Debug, Parser)]
#[command(name = "qnet-tty", version, after_help = EXAMPLES)]
struct RawArgs {
    /// Make a symbolic link to the local terminal; removed at the end
    #[arg(short = 'l', long, value_name = "PATH")]
    link: Option<PathBuf>,
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The node, as it stands below /net
    #[arg(value_name = "NODE")]
    node: String,
    /// Path of the terminal on that node
    #[arg(value_name = "TERMINAL")]
    terminal: String,
}

const EXAMPLES: &str =
    "The path of the local terminal is printed once it is ready. The far one is set to raw and gets back its
settings at the end; a change of speed, size of characters, parity or window here is made there as well.

Examples:
  qnet-tty joseph /dev/ttyS0 &
  qnet-tty -l /tmp/joseph-console joseph /dev/ttyS0 & screen /tmp/joseph-console

Exit status:
  0 asked to end by a signal, 2 it could not be done, or the far terminal is gone

The other node must allow writing (allow=write, or a mapping of its users).";

fn main() -> ExitCode {
    let raw = RawArgs::parse();
    match run(&raw) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qnet-tty: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(raw: &RawArgs) -> Result<()> {
    // before any thread is started: all of them are to leave these to the descriptor
    let signals = ending_signals().context("cannot take signals")?;
    let far = Arc::new(open_far(raw)?);
    let near = Pair::open().context("cannot make a local terminal")?;
    let name = format!("{}:{}", raw.node, raw.terminal);
    let mut settings = Settings::take(&far, near.slave()).with_context(|| format!("{name}: its settings"))?;
    let link = raw.link.as_deref().map(|path| near.link(path)).transpose()?;
    let relay = Relay::start(&far, &near).context("cannot start a thread")?;
    let mut out = io::stdout();
    writeln!(out, "{}", near.path().display()).and_then(|()| out.flush()).context("standard output")?;
    let ended = follow(&relay, &signals, &mut settings, &far, &near);
    drop(link);
    settings.give_back(&far);
    ended.with_context(|| name)
}

/// Until a signal comes or the far terminal is gone: makes there what changes here.
fn follow(
    relay: &Relay,
    signals: &SignalFd,
    settings: &mut Settings,
    far: &Terminal,
    near: &Pair,
) -> Result<()> {
    loop {
        if let Some(ended) = relay.ended(LOOK) {
            return Err(anyhow!(ended));
        }
        if signals.read_signal().context("signals")?.is_some() {
            return Ok(());
        }
        settings.follow(far, near.slave()).context("its settings")?;
    }
}

fn open_far(raw: &RawArgs) -> Result<Terminal> {
    let found = ctl::Root::find(raw.root.as_deref())?;
    let root = qnet::Root::at(found.dir())?;
    let netmgr = Netmgr::attach(&root).map_err(|error| match error.errno() {
        libc::ENOTSUP => {
            anyhow!("Qnet does not run on this node (nobody answers at {})", root.qnet_socket().display())
        }
        _ => anyhow::Error::from(error).context("cannot reach Qnet"),
    })?;
    let (node, terminal) = (&raw.node, &raw.terminal);
    let nd = match netmgr.strtond(node) {
        Ok(nd) => nd,
        Err(error) if error.errno() == libc::ENOENT => {
            bail!("{node}: not found: no node of this name is known, and none answers to it")
        }
        Err(error) => return Err(error).with_context(|| format!("{node}: not found")),
    };
    let server = netmgr.server_of(nd).with_context(|| format!("{node}: no connection to its server"))?;
    Terminal::open_on(&Arc::new(server), terminal)
        .map_err(|error| refusal(&error).context(format!("{node}:{terminal}")))
}

/// An error with the option that would help.
fn refusal(error: &Error) -> anyhow::Error {
    let words = Errno::from_raw(error.errno()).desc();
    match error.errno() {
        libc::ENOTTY => anyhow!("not a terminal"),
        libc::EACCES | libc::EROFS => {
            anyhow!("{words} (does its node say allow=write, or map you to a user who may write there?)")
        }
        _ => anyhow!("{words}"),
    }
}

fn ending_signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}
