//! The parts that every benchmark may need.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::{
    pingpong::{self, Carrier},
    server, stage,
};

/// A part to play in a namespace.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// Answer pings
    Echo {
        /// What they travel in
        carrier: Carrier,
        /// Own address, interface or path
        at: String,
    },
    /// Ping as planned on standard input
    Ping {
        /// What they travel in
        carrier: Carrier,
        /// Address, INTERFACE/MAC or path
        to: String,
    },
    /// Serve a channel
    Serve {
        /// The node's root
        root: PathBuf,
        /// Threads
        threads: usize,
    },
    /// Replace this process by a program
    Exec {
        /// Program and arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// Plays a part.
///
/// # Errors
/// When it fails.
pub fn play(role: Role) -> Result<()> {
    match role {
        Role::Echo { carrier, at } => pingpong::echo(carrier, &at),
        Role::Ping { carrier, to } => pingpong::ping(carrier, &to),
        Role::Serve { root, threads } => server::serve(&root, threads),
        Role::Exec { command } => stage::exec(&command),
    }
}
