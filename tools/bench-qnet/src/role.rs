//! The benchmark's program plays every part itself: it starts again in a namespace with the part's name.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::{
    crowd, others,
    pingpong::{self, Carrier},
    process,
};

/// A part to play in a namespace.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// Answer pings
    Echo {
        /// What they travel in
        carrier: Carrier,
        /// Own address, or interface
        at: String,
    },
    /// Ping and print the mean round trip in nanoseconds
    Ping {
        /// What they travel in
        carrier: Carrier,
        /// Address, or INTERFACE/MAC
        to: String,
        /// Bytes
        size: usize,
        /// Milliseconds
        span: u64,
    },
    /// Send raw frames as fast as possible
    Flood {
        /// Interface
        interface: String,
        /// Destination address
        destination: String,
        /// Frame size, bytes
        size: usize,
        /// Milliseconds
        span: u64,
    },
    /// Take raw frames as fast as possible
    Drain {
        /// Interface
        interface: String,
    },
    /// Serve a channel
    Serve {
        /// The node's root
        root: PathBuf,
        /// Threads
        threads: usize,
    },
    /// Send messages to a channel
    Client {
        /// The node's root
        root: PathBuf,
        /// Node
        nd: u32,
        /// The server's process
        pid: i32,
        /// The server's channel
        chid: i32,
    },
    /// Be many nodes
    Crowd {
        /// Interface
        interface: String,
        /// How many
        nodes: usize,
        /// Node to connect to, once it is asked for on standard input
        to: String,
        /// Announce themselves
        #[arg(long)]
        announce: bool,
    },
    /// Replace this process by a program
    Exec {
        /// Program and arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// Plays a part in the namespace at `namespace`, on that CPU when one is given.
///
/// # Errors
/// When the namespace cannot be joined or the part fails.
pub fn play(namespace: &Path, cpu: Option<usize>, role: Role) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("{}", namespace.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).context("cannot join the namespace")?;
    // Whatever is mounted here (a node's /net) is seen by nobody else.
    unshare(CloneFlags::CLONE_NEWNS).context("cannot have mounts of its own")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    if let Some(cpu) = cpu {
        bench_forward::generate::pin(cpu).with_context(|| format!("CPU {cpu}"))?;
    }
    match role {
        Role::Echo { carrier, at } => pingpong::echo(carrier, &at),
        Role::Ping { carrier, to, size, span } => {
            let each = pingpong::ping(carrier, &to, size, Duration::from_millis(span))?;
            println!("1 {}", each.as_nanos());
            Ok(())
        }
        Role::Flood { interface, destination, size, span } => {
            others::flood(&interface, &destination, size, Duration::from_millis(span))
        }
        Role::Drain { interface } => others::drain(&interface),
        Role::Serve { root, threads } => process::serve(&root, threads),
        Role::Client { root, nd, pid, chid } => process::client(&root, nd, (pid, chid)),
        Role::Crowd { interface, nodes, to, announce } => crowd::run(&interface, nodes, &to, announce),
        Role::Exec { command } => {
            let Some((program, arguments)) = command.split_first() else { bail!("no program to run") };
            Err(Command::new(program).args(arguments).exec()).with_context(|| program.clone())
        }
    }
}
