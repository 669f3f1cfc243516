//! Three namespaces in a row, made for one run and gone with it.

use anyhow::{Context, Result};
use bench_support::{
    part::Part,
    space::{self, Space},
};
use tempfile::TempDir;

/// Where the generator and the kernel's own forwarding run.
pub const GENERATOR_CPU: usize = 0;
/// Where the forwarder under test runs.
pub const FORWARDER_CPU: usize = 1;

/// The namespaces `gen`, `fwd`, `sink` with a veth pair between neighbours.
#[derive(Debug)]
pub struct Rig {
    spaces: [(&'static str, Space); 3],
}

impl Rig {
    /// Builds the row.
    ///
    /// # Errors
    /// Without root, or when `ip` is missing or fails.
    pub fn new() -> Result<Self> {
        const NAME: &str = "forward";
        const MTU: u32 = 1500;
        let spaces = [("gen", Space::new(NAME)?), ("fwd", Space::new(NAME)?), ("sink", Space::new(NAME)?)];
        let [generator, forwarder, sink] = [0, 1, 2].map(|index| &spaces[index].1);
        space::wire((generator, "g0"), (forwarder, "f0"), MTU)?;
        space::wire((forwarder, "f1"), (sink, "s0"), MTU)?;
        Ok(Self { spaces })
    }

    /// Runs `ip` inside a namespace.
    ///
    /// # Errors
    /// When it fails; the error holds what it printed.
    pub fn ip(&self, name: &str, arguments: &[&str]) -> Result<()> {
        self.space(name)?.run("ip", arguments).map(drop)
    }

    /// Starts this program again in a namespace to play a part.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn play(&self, name: &str, cpu: Option<usize>, part: &[String]) -> Result<Part> {
        self.space(name)?.play(cpu, part)
    }

    /// A new directory for the files of a forwarder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self) -> Result<TempDir> {
        self.space("fwd")?.directory()
    }

    /// What the parts said on standard error.
    #[must_use]
    pub fn log(&self) -> String {
        self.spaces.iter().map(|(_, space)| space.log()).collect()
    }

    fn space(&self, name: &str) -> Result<&Space> {
        let found = self.spaces.iter().find(|(own, _)| *own == name);
        found.map(|(_, space)| space).with_context(|| format!("no namespace {name}"))
    }
}
