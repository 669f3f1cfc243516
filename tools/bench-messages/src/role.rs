//! The parts of this benchmark.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::messages;

/// A part to play in a namespace.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// What every benchmark may need
    #[command(flatten)]
    Common(bench_support::role::Role),
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
}

/// Plays a part.
///
/// # Errors
/// When it fails.
pub fn play(role: Role) -> Result<()> {
    match role {
        Role::Common(role) => bench_support::role::play(role),
        Role::Client { root, nd, pid, chid } => messages::client(&root, nd, (pid, chid)),
    }
}
