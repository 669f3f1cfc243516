//! `qnet-netfs`: serves the network directory, one process for one mount point.
//!
//! Started by `lsm-qnet` and by hand. Exit status: 0 when it was asked to end, when the directory was unmounted, or when
//! a living `qnet-netfs` serves it already (then standard output says `served by pid N`); 1 when it cannot serve; 2 for
//! wrong arguments.

use std::{
    io::{self, IsTerminal, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use clap::{ArgAction, Parser, ValueEnum};
use nix::unistd::{getegid, geteuid, getpid};
use qnet_ipc::Root;
use qnet_netfs::{
    caller::{groups_of, is_dying},
    claim::{Claim, Claimed},
    engine::{Cache, Config, Engine, Symlinks},
    link::Link,
    mount::{self, Mount, MountPoint},
    serve::{self, Ended},
    standby,
};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Serve the files of other Qnet nodes under a network directory
///
/// The directory is made if it is missing. It stays mounted while Qnet is restarted; meanwhile it is empty and its files
/// answer "no route to host".
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    qnet-netfs --mount /net\n  \
    qnet-netfs --root /tmp/node1 --mount /tmp/node1/net --symlinks verbatim -v"
)]
struct Arguments {
    /// Root directory of the node [default: where its io-pkt runs]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Network directory [default: /net for /run/io-pkt, else ROOT/net]
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,

    /// Network directory of Qnet whose names are shown [default: its default one]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,

    /// How symbolic links with absolute targets read
    #[arg(long, value_enum, default_value_t = Links::Node)]
    symlinks: Links,

    /// What is remembered of other nodes' files: as they were when opened, or nothing
    #[arg(long, value_enum, default_value_t = Remember::Open)]
    cache: Remember,

    /// Time after which a request that nobody answers ends with an error; what the disk there takes time for (write,
    /// fsync, fallocate, copying) and what may wait for ever (locks, FIFOs, devices) has no such end
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// If a living qnet-netfs serves the directory, wait: take over when it dies, end when it ends, pass signals on
    #[arg(long)]
    standby: bool,

    /// Stay in the foreground, which it always does; for symmetry with io-pkt
    #[arg(long)]
    foreground: bool,

    /// Say more; twice for every request. RUST_LOG has precedence
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Links {
    /// /etc/x of node joseph reads as /net/joseph/etc/x
    Node,
    /// As the node says
    Verbatim,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Remember {
    /// Content until the next open, names and attributes for a second
    Open,
    /// Every read and every look-up is asked of the node
    None,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(arguments.verbose);
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let signals = serve::ending_signals().context("signals")?;
    let root = Root::locate(arguments.root.as_deref())?;
    let path = match &arguments.mount {
        Some(path) => mount::absolute(path)?,
        None => mount::absolute(&default_mount(&root))?,
    };
    let mut claim = match Claim::take(root.path(), &path)? {
        Claimed::Ours(claim) => claim,
        Claimed::Served { pid } if arguments.standby => {
            info!("{}: is served by pid {}, standing by", path.display(), shown(pid));
            match standby::wait(root.path(), &path, &signals)? {
                Some(claim) => claim,
                None => return Ok(()),
            }
        }
        Claimed::Served { pid } => return report_served(&path, pid),
    };
    let point = MountPoint::prepare(&path, claim.created_before())?;
    claim.note(point.is_created()).context("the lock file of the mount point")?;
    let mount = Mount::new(point)?;
    // A working directory on some file system would keep that from being unmounted.
    std::env::set_current_dir("/").context("/")?;

    let config = Config {
        mount: path.as_os_str().as_bytes().to_vec(),
        directory: arguments.directory.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
        symlinks: match arguments.symlinks {
            Links::Node => Symlinks::Node,
            Links::Verbatim => Symlinks::Verbatim,
        },
        cache: match arguments.cache {
            Remember::Open => Cache::CloseToOpen,
            Remember::None => Cache::Nothing,
        },
        deadline: Duration::from_secs(arguments.timeout),
        owner: (geteuid().as_raw(), getegid().as_raw()),
        since: SystemTime::now(),
        groups_of,
        is_dying,
    };
    let mut engine = Engine::new(config, Link::new(root.qnet_socket(), getpid().as_raw()));
    let ended = serve::serve(&mut engine, &mount, &signals).with_context(|| path.display().to_string())?;
    match ended {
        Ended::Asked => info!("{}: unmounting", path.display()),
        Ended::Unmounted => info!("{}: was unmounted", path.display()),
    }
    Ok(())
}

fn default_mount(root: &Root) -> PathBuf {
    if root.path() == Path::new("/run/io-pkt") { "/net".into() } else { root.path().join("net") }
}

/// Another one does the work.
fn report_served(path: &Path, pid: Option<i32>) -> Result<()> {
    let pid = shown(pid);
    info!("{}: is served by pid {pid}, nothing to do", path.display());
    writeln!(io::stdout(), "served by pid {pid}").context("standard output")
}

/// A process number; a server that has just started may not have written it yet.
fn shown(pid: Option<i32>) -> String {
    pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}

/// In the form of io-pkt's own lines, whose log this usually shares: time, level, who, what. The journal adds times itself.
/// Whoever reads the log may end before us, with io-pkt: what cannot be written is dropped.
fn start_log(verbose: u8) {
    let level = ["info", "debug", "trace"][usize::from(verbose.min(2))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let log = log.with_ansi(io::stderr().is_terminal()).log_internal_errors(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() { log.without_time().init() } else { log.init() }
}
