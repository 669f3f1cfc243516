//! The parts that the benchmark's program plays itself, each in a namespace.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Subcommand;

use crate::{crowd, others, process};

/// A part to play in a namespace.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// What every benchmark may need
    #[command(flatten)]
    Common(bench_support::role::Role),
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
}

/// Plays a part.
///
/// # Errors
/// When it fails.
pub fn play(role: Role) -> Result<()> {
    match role {
        Role::Common(role) => bench_support::role::play(role),
        Role::Flood { interface, destination, size, span } => {
            others::flood(&interface, &destination, size, Duration::from_millis(span))
        }
        Role::Drain { interface } => others::drain(&interface),
        Role::Client { root, nd, pid, chid } => process::client(&root, nd, (pid, chid)),
        Role::Crowd { interface, nodes, to, announce } => crowd::run(&interface, nodes, &to, announce),
    }
}
