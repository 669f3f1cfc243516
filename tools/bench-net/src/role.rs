//! The parts of this benchmark.

use anyhow::Result;
use clap::Subcommand;

use crate::{
    client::{self, OfOutput, OnMount},
    data,
};

/// A part to play in a namespace.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// What every benchmark may need
    #[command(flatten)]
    Common(bench_support::role::Role),
    /// Hold the files that are served
    Hold {
        /// Bytes of the large one
        size: u64,
    },
    /// Mount and work
    OnMount(OnMount),
    /// Count what a program fetches
    OfOutput(OfOutput),
}

/// Plays a part.
///
/// # Errors
/// When it fails.
pub fn play(role: Role) -> Result<()> {
    match role {
        Role::Common(role) => bench_support::role::play(role),
        Role::Hold { size } => data::hold(size),
        Role::OnMount(arguments) => client::on_mount(&arguments),
        Role::OfOutput(arguments) => client::of_output(&arguments),
    }
}
