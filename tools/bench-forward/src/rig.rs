//! Three namespaces in a row, made for one run and taken away with it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
pub use bench_support::part::Part;

/// Where the generator and the kernel's own forwarding run.
pub const GENERATOR_CPU: usize = 0;
/// Where the forwarder under test runs.
pub const FORWARDER_CPU: usize = 1;

/// The namespaces `gen`, `fwd`, `sink` with a veth pair between neighbours.
#[derive(Debug)]
pub struct Rig {
    prefix: String,
}

impl Rig {
    /// Builds the row.
    ///
    /// # Errors
    /// Without root, or when `ip` is missing or fails.
    pub fn new() -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "this benchmark makes network namespaces and needs root");
        let rig = Self { prefix: format!("iopkt-bench-{}-", std::process::id()) };
        for name in ["gen", "fwd", "sink"] {
            ip(&["netns", "add", &rig.name(name)])?;
        }
        rig.wire("gen", "g0", "fwd", "f0")?;
        rig.wire("fwd", "f1", "sink", "s0")?;
        Ok(rig)
    }

    /// Path of a namespace, for [`crate::role::play`].
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new("/run/netns").join(self.name(name))
    }

    /// Runs `ip` inside a namespace.
    ///
    /// # Errors
    /// When it fails; the error holds what it printed.
    pub fn ip(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let namespace = self.name(name);
        let mut all = vec!["-n", &namespace];
        all.extend_from_slice(arguments);
        ip(&all)
    }

    /// Starts this program again in a namespace to play a part.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn play(&self, namespace: &str, cpu: Option<usize>, part: &[String]) -> Result<Part> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--namespace").arg(self.path(namespace));
        if let Some(cpu) = cpu {
            command.arg("--cpu").arg(cpu.to_string());
        }
        Part::start(command.args(part))
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn wire(&self, left: &str, a: &str, right: &str, b: &str) -> Result<()> {
        let (left, right) = (self.name(left), self.name(right));
        ip(&["link", "add", a, "netns", &left, "type", "veth", "peer", "name", b, "netns", &right])?;
        for (namespace, interface) in [(&left, a), (&right, b)] {
            // Nothing but the benchmark's frames: no neighbour discovery in between.
            ip(&["-n", namespace, "link", "set", interface, "addrgenmode", "none"])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
        }
        Ok(())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for name in ["gen", "fwd", "sink"] {
            // A namespace that was never made cannot be deleted; nothing else can be done here anyway.
            let _ = ip(&["netns", "del", &self.name(name)]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip (package iproute2)")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
