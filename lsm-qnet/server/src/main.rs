//! `qnet-server`: arguments, logging and exit code; the work is in the library.
//!
//! Started by `lsm-qnet`, not by hand: descriptor 3 is the socket it is asked through.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use qnet_ipc::{Root, ServerPeer};
use qnet_server::export::Export;
use qnet_server::limits::Limits;
use qnet_server::names::Names;
use qnet_server::selection::Only;
use qnet_server::service::Asked;
use qnet_server::{keeper, service, sys};
use tracing_subscriber::EnvFilter;

/// The descriptor that `lsm-qnet` leaves open.
const SOCKET: i32 = 3;

/// Serves this node's files to other nodes, each caller as the local user it is mapped to.
#[derive(Parser, Debug)]
#[command(name = "qnet-server", version)]
#[command(after_help = "lsm-qnet starts this program and asks it through a socket on descriptor 3.")]
struct Arguments {
    /// The node's root directory; names the node in messages
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// The directory that other nodes see as this node's root
    #[arg(long, value_name = "DIR", default_value = "/")]
    export: PathBuf,
    /// Serve this directory only, at its own path; may be repeated
    #[arg(long, value_name = "PATH[:ro]", conflicts_with = "export")]
    only: Vec<Only>,
    /// Requests carried out at once; nodes that have none running get one each beside these, 32 at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Files open at once for all callers; never more than the system lets this process open
    #[arg(long, value_name = "N", default_value_t = 65536, value_parser = clap::value_parser!(u32).range(1..))]
    max_open: u32,
    /// Say more; twice: say everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Arguments {
    /// What is served, for the log.
    fn served(&self) -> String {
        let show = |only: &Only| {
            format!("{}{}", only.path.display(), if only.read_only { " (read-only)" } else { "" })
        };
        match self.only.as_slice() {
            [] => self.export.display().to_string(),
            only => only.iter().map(show).collect::<Vec<_>>().join(", "),
        }
    }
}

fn main() -> ExitCode {
    // before anything else can open a descriptor of that number
    let socket = sys::inherited_socket(SOCKET);
    let arguments = Arguments::parse();
    start_logging(arguments.verbose);
    let result = socket
        .context("descriptor 3 is not the socket of lsm-qnet, which starts this program")
        .and_then(|socket| run(&arguments, socket));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qnet-server: {}: {error:#}", arguments.root.display());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, socket: std::os::fd::OwnedFd) -> anyhow::Result<()> {
    let asked = Asked::hold()?;
    // what a remote caller can make this process do must never include gaining rights by exec
    nix::sys::prctl::set_no_new_privs().context("cannot set no_new_privs")?;
    // what callers do with files is never the end of this process
    sys::ignore_signals_of_files().context("cannot ignore SIGXFSZ and SIGIO")?;
    let export = match arguments.only.as_slice() {
        [] => Export::open(&arguments.export)?,
        only => Export::open_only(only)?,
    };
    let export = match Names::open(&arguments.root) {
        Ok(names) => export.with_names(names),
        Err(error) => {
            tracing::warn!(target: qnet_server::LOG, "names of channels are not served: {error:#}");
            export
        }
    };
    if let Err(error) = keep_names(&arguments.root) {
        tracing::warn!(target: qnet_server::LOG, "names of dead processes stay until somebody looks: {error:#}");
    }
    let limits = Limits::new(arguments.workers.into(), arguments.max_open as usize);
    let peer = ServerPeer::new(socket).context("cannot greet lsm-qnet")?;
    tracing::info!(target: qnet_server::LOG,
        "serving {} for the node at {}, at most {} requests at once and {} open files",
        arguments.served(),
        arguments.root.display(),
        limits.workers,
        limits.open_files
    );
    service::serve(export, peer, limits, asked)?;
    tracing::info!(target: qnet_server::LOG, "served until asked to end");
    Ok(())
}

fn keep_names(root: &Path) -> anyhow::Result<()> {
    Ok(keeper::start(&Root::at(root)?)?)
}

fn start_logging(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    // The journal adds the time itself.
    if std::env::var_os("JOURNAL_STREAM").is_some() { log.without_time().init() } else { log.init() }
}
