//! What the program `qnet-lab` does for this library in processes of their own.
//!
//! These calls fork or change the caller's namespaces: they are for a program with one thread
//! that ends soon after. Users of the library want [`crate::Lab`].

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::sched::CloneFlags;

use crate::abilities::Abilities;
use crate::enter::{self, Call};
use crate::holder;
use crate::net;
use crate::state::{Isolation, LabRecord, NodeRecord, State, Wire};
use crate::sys;

/// Tries what the machine allows; prints it as JSON.
///
/// # Errors
/// A child process cannot be made.
pub fn probe() -> Result<()> {
    println!("{}", serde_json::to_string(&Abilities::try_all()?)?);
    Ok(())
}

/// Makes the switch's holder; prints its process id.
///
/// # Errors
/// A namespace or the bridge cannot be made.
pub fn hold_switch(user_namespace: bool, lifeline: bool) -> Result<()> {
    let isolation = if user_namespace { Isolation::UserNamespaces } else { Isolation::Namespaces };
    println!("{}", holder::hold_switch(isolation, lifeline)?);
    Ok(())
}

/// Makes a node's holder; prints its process id.
///
/// # Errors
/// A namespace or the private root cannot be made.
pub fn hold_node(state: &State, name: &str, number: usize, lifeline: bool) -> Result<()> {
    let lab = lab(state)?;
    println!("{}", holder::hold_node(state, &lab, name, number, lifeline)?);
    Ok(())
}

/// Joins a node to the switch, in the switch's namespaces.
///
/// # Errors
/// The switch or the node is gone, or `ip` says no.
pub fn plug(state: &State, name: &str) -> Result<()> {
    let (lab, node) = (lab(state)?, node(state, name)?);
    let holder = node.holder.context("the node has no namespaces")?;
    let switch = lab.switch.context("the lab has no switch")?.open().context("the switch is gone")?;
    let mut flags = CloneFlags::CLONE_NEWNET;
    if lab.isolation == Isolation::UserNamespaces {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    sys::enter(&switch, flags).context("cannot enter the switch")?;
    net::plug(name, node.number, holder.pid)
}

/// Brings up the node's end of its cable, in the node's namespaces.
///
/// # Errors
/// The node is gone, or `ip` says no.
pub fn connect(state: &State, name: &str) -> Result<()> {
    let (lab, node) = (lab(state)?, node(state, name)?);
    enter::join(&lab, &node)?;
    net::connect_node(node.number, lab.wire == Wire::Tap)
}

/// Runs a program in a node; gives its exit status.
///
/// # Errors
/// The node is gone or cannot be entered.
pub fn exec(
    state: &State,
    name: &str,
    command: Vec<OsString>,
    user: Option<u32>,
    detached: Option<PathBuf>,
) -> Result<u8> {
    enter::run(state, &lab(state)?, &node(state, name)?, &Call { command, user, detached })
}

fn lab(state: &State) -> Result<LabRecord> {
    state.lab()?.with_context(|| format!("no lab is up in {}", state.dir().display()))
}

fn node(state: &State, name: &str) -> Result<NodeRecord> {
    let known = || crate::lab::known(state);
    state.node(name)?.with_context(|| format!("{name}: no such node; there are: {}", known()))
}
