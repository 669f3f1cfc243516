//! `pidin`: what runs, in the columns of QNX's pidin: io-pkt with the modules in it (`mem`), and the nodes of the network
//! (`net`).
//!
//! Exit code: 0 shown, 1 no such process or no network manager, 2 for a wrong call.

mod calendar;
mod facts;
mod mem;
mod net;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use ctl::{Client, Modules, Root};

/// For a question that a healthy daemon answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reports there are, with the letters that are enough to name them.
const REPORTS: [(&str, usize); 2] = [("memory", 2), ("net", 2)];

/// Show threads, modules and memory of io-pkt, or the nodes of the network
#[derive(Debug, Parser)]
#[command(name = "pidin", version, after_help = EXAMPLES)]
struct RawArgs {
    /// For mem, only this process: its number or one of its names (io-pkt, io-pkt-v4-hc, io-net)
    #[arg(short = 'P', visible_short_alias = 'p', value_name = "PID|NAME")]
    process: Option<String>,
    /// Root directory of the node [default: $IO_PKT_ROOT, /run/io-pkt, ...]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// mem: the threads, then one line for each module; net: every node of the network, with its processors, free memory
    /// and time of boot, or why it does not answer
    #[arg(value_name = "REPORT", value_parser = report)]
    report: String,
}

const EXAMPLES: &str = "Examples:
  pidin -P io-pkt mem
  pidin -P 4242 mem
  pidin net

Exit status:
  0 shown, 1 no such process or no network manager, 2 for a wrong call";

fn main() -> ExitCode {
    let raw = RawArgs::parse();
    match run(&raw) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pidin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(raw: &RawArgs) -> Result<()> {
    let root = Root::find(raw.root.as_deref())?;
    if raw.report == "net" {
        return net::print(&root, &mut io::stdout().lock());
    }
    let mut found = Vec::new();
    for instance in root.instances() {
        let modules = Client::connect(&instance.socket, PATIENCE)?.modules()?;
        if raw.process.as_deref().is_none_or(|wanted| is_called(&modules, wanted)) {
            found.push(modules);
        }
    }
    if found.is_empty() {
        match &raw.process {
            Some(wanted) => bail!("{wanted}: no such io-pkt runs in {}", root.dir().display()),
            None => bail!("io-pkt is not running (no instance answers in {})", root.dir().display()),
        }
    }
    let mut out = io::stdout().lock();
    out.write_all(mem::table(&found).as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Does a process answer to this number or name? All names that io-pkt can be started by are its own.
fn is_called(modules: &Modules, wanted: &str) -> bool {
    if let Ok(pid) = wanted.parse::<u32>() {
        return modules.version.pid == pid;
    }
    let name = wanted.rsplit('/').next().unwrap_or(wanted);
    name == modules.version.name || name == "io-net" || name == "io-pkt" || name.starts_with("io-pkt-v")
}

/// A report may be shortened as long as it is told apart from the others of the original.
fn report(text: &str) -> Result<String, String> {
    let found = REPORTS.iter().find(|(name, least)| text.len() >= *least && name.starts_with(text));
    match found {
        Some((name, _)) => Ok((*name).to_owned()),
        None => Err("there are: mem, net".to_owned()),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
