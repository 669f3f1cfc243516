//! `qnet-lab tour`: the main job shown on two nodes, with every command as it is typed.

use anyhow::{Result, bail};
use qnet_lab::Options;

pub(crate) fn tour(_options: &Options) -> Result<()> {
    bail!("x")
}
