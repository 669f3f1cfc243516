//! The parts that every benchmark may need, and how a part begins.

use std::{fs::File, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::pingpong::{self, Carrier};

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
    /// Replace this process by a program
    Exec {
        /// Program and arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// Joins a namespace and pins this process, which has one thread so far.
///
/// # Errors
/// When the namespace cannot be joined or there is no such CPU.
pub fn enter(namespace: &Path, cpu: Option<usize>) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("{}", namespace.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).context("cannot join the namespace")?;
    // Whatever is mounted here (a node's /net) is seen by nobody else.
    unshare(CloneFlags::CLONE_NEWNS).context("cannot have mounts of its own")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    if let Some(cpu) = cpu {
        crate::sys::pin(cpu).with_context(|| format!("CPU {cpu}"))?;
    }
    Ok(())
}

/// Plays a part.
///
/// # Errors
/// When it fails.
pub fn play(role: Role) -> Result<()> {
    match role {
        Role::Echo { carrier, at } => pingpong::echo(carrier, &at),
        Role::Ping { carrier, to } => pingpong::ping(carrier, &to),
        Role::Exec { command } => {
            let Some((program, arguments)) = command.split_first() else { bail!("no program to run") };
            Err(Command::new(program).args(arguments).exec()).with_context(|| program.clone())
        }
    }
}
