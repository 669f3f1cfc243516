//! `qnet-lab`: several Qnet nodes on one machine.
//!
//! The exit code is 0 when all went well, 1 when not, 2 for a wrong call; `exec` and `shell` end
//! with the status of the program they ran.

mod tour;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use qnet_lab::{Isolation, Lab, Options, State, Wire, service};

/// Several Qnet nodes on one machine
///
/// Each node has its own network, processes, host name and root. Nothing of the machine itself is changed: all interfaces, /net and /dev/io-net are the nodes' own. Works as root and
/// without. Nodes are called alonzo, joseph, eileen, karl, kenneth and so on.
#[derive(Parser)]
#[command(name = "qnet-lab", version, after_help = EXAMPLES)]
struct Cli {
    /// Folder with the lab's records [default: $XDG_RUNTIME_DIR/qnet-lab or /tmp/qnet-lab-UID]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "Examples:
  qnet-lab tour                    what two nodes can do, in a minute
  qnet-lab up 3                    alonzo, joseph and eileen
  qnet-lab exec alonzo -- ls /net
  qnet-lab shell joseph
  qnet-lab down

Exit status:
  0 all went well, 1 not, 2 for a wrong call; exec and shell end with the
  status of the program they ran";

#[derive(Subcommand)]
enum Task {
    /// Bring nodes up until there are N
    Up {
        /// How many nodes; the switch has room for 1000
        #[arg(default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
        #[command(flatten)]
        how: How,
    },
    /// Run a program in a node
    Exec {
        /// Run it as this user and group number
        #[arg(long, value_name = "UID")]
        user: Option<u32>,
        /// Do not wait for it; append its output to FILE
        #[arg(long, value_name = "FILE")]
        detach: Option<PathBuf>,
        /// The node's name
        node: String,
        /// The program and its arguments
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
    /// Open a shell in a node
    Shell {
        /// The node's name
        node: String,
    },
    /// Show the nodes
    Status,
    /// End all nodes, or one
    Down {
        /// The node's name
        node: Option<String>,
    },
    /// Start two nodes, show what they can do, and clean up
    Tour {
        #[command(flatten)]
        how: How,
    },
    /// Inside a node: print a file of another node, read with messages alone, without FUSE
    Read {
        /// The other node's name
        node: String,
        /// Path from the other node's root directory
        path: String,
    },
    #[command(hide = true)]
    Probe,
    #[command(hide = true)]
    Hold {
        #[arg(long)]
        lifeline: bool,
        #[command(subcommand)]
        what: Held,
    },
    #[command(hide = true)]
    Plug { node: String },
    #[command(hide = true)]
    Connect { node: String },
}

#[derive(Subcommand)]
enum Held {
    Switch {
        #[arg(long)]
        user_namespace: bool,
    },
    Node {
        name: String,
        number: usize,
    },
}

/// How nodes are made.
#[derive(clap::Args)]
struct How {
    /// What joins the nodes
    #[arg(long, value_enum, default_value_t = WireArg::Packet)]
    wire: WireArg,
    /// What keeps the nodes apart [default: the best this machine allows]
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
    /// Options for Qnet, such as do_crc=1
    #[arg(long, value_name = "OPTIONS", value_delimiter = ',')]
    qnet: Vec<String>,
    /// Do not start io-pkt in the nodes
    #[arg(long)]
    bare: bool,
    /// A folder of the machine that the first nodes and all later ones see, too, read-only
    #[arg(long, value_name = "DIR")]
    share: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum WireArg {
    /// Linux interfaces in one bridge
    Packet,
    /// The same through TAP devices
    Tap,
    /// A socket between the processes; needs no privilege
    Segment,
}

#[derive(Clone, Copy, ValueEnum)]
enum IsolationArg {
    /// Namespaces, made by root
    Namespaces,
    /// Namespaces in user namespaces
    UserNamespaces,
    /// Only a folder for each node's names (with --wire segment)
    Roots,
}

impl How {
    fn options(&self) -> Options {
        Options {
            wire: match self.wire {
                WireArg::Packet => Wire::Packet,
                WireArg::Tap => Wire::Tap,
                WireArg::Segment => Wire::Segment,
            },
            isolation: self.isolation.map(|isolation| match isolation {
                IsolationArg::Namespaces => Isolation::Namespaces,
                IsolationArg::UserNamespaces => Isolation::UserNamespaces,
                IsolationArg::Roots => Isolation::Roots,
            }),
            start: !self.bare,
            qnet: self.qnet.clone(),
            share: self.share.clone(),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.state, cli.task) {
        Ok(status) => ExitCode::from(status),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qnet-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(dir: Option<PathBuf>, task: Task) -> Result<u8> {
    let state = State::new(dir.clone());
    match task {
        Task::Exec { user, detach, node, command } => {
            return service::exec(&state, &node, command, user, detach);
        }
        Task::Shell { node } => {
            let shell = std::env::var_os("SHELL").filter(|shell| PathBuf::from(shell).is_file());
            let command = vec![shell.unwrap_or_else(|| "/bin/sh".into())];
            return service::exec(&state, &node, command, None, None);
        }
        Task::Read { node, path } => read(&node, &path).with_context(|| format!("{node}: {path}"))?,
        Task::Probe => service::probe()?,
        Task::Hold { lifeline, what: Held::Switch { user_namespace } } => {
            service::hold_switch(user_namespace, lifeline)?;
        }
        Task::Hold { lifeline, what: Held::Node { name, number } } => {
            service::hold_node(&state, &name, number, lifeline)?;
        }
        Task::Plug { node } => service::plug(&state, &node)?,
        Task::Connect { node } => service::connect(&state, &node)?,
        Task::Up { count, how } => {
            let lab = Lab::open(dir)?;
            lab.up(count.into(), &how.options())?;
            status(&lab)?;
        }
        Task::Status => status(&Lab::open(dir)?)?,
        Task::Down { node: None } => Lab::open(dir)?.down()?,
        Task::Down { node: Some(node) } => Lab::open(dir)?.down_node(&node)?,
        Task::Tour { how } => tour::tour(&how.options())?,
    }
    Ok(0)
}

/// Prints a file of the node `name` as Qnet brings it.
fn read(name: &str, path: &str) -> Result<()> {
    let root = qnet::Root::locate(None)?;
    let nd = qnet::Netmgr::attach(&root)?.strtond(name)?;
    io::copy(&mut qnet::File::open(&root, nd, path)?, &mut io::stdout().lock())?;
    Ok(())
}

/// One line per node.
fn status(lab: &Lab) -> Result<()> {
    let mut out = io::stdout().lock();
    let Some(record) = lab.state().lab()? else {
        writeln!(out, "no lab is up in {}", lab.state().dir().display())?;
        return Ok(());
    };
    writeln!(out, "wire {:?}, {:?}, in {}", record.wire, record.isolation, lab.state().dir().display())?;
    writeln!(out, "{:<16}{:>9}{:>9}  address", "node", "pid", "io-pkt")?;
    for node in lab.state().nodes().context("nodes")? {
        let pid = node
            .holder
            .map_or("-".to_owned(), |p| if p.is_alive() { p.pid.to_string() } else { "dead".into() });
        let daemon = node
            .daemon
            .map_or("-".to_owned(), |p| if p.is_alive() { p.pid.to_string() } else { "dead".into() });
        let address = lab.node(&node.name)?.address();
        writeln!(out, "{:<16}{pid:>9}{daemon:>9}  {address}", node.name)?;
    }
    Ok(())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_has_a_node_at_least_and_no_more_than_the_switch_has_room_for() {
        for (count, accepted) in [("0", false), ("1", true), ("1000", true), ("1001", false), ("two", false)]
        {
            let parsed = Cli::try_parse_from(["qnet-lab", "up", count]);
            assert_eq!(parsed.is_ok(), accepted, "up {count}");
        }
    }
}
