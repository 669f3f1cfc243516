//! Two namespaces with veth pairs between them, made for one run and taken away with it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use bench_forward::rig::Part;

/// Where everything of namespace `a` runs, when both sides have a CPU of their own.
pub const CPU_A: usize = 0;
/// Where everything of namespace `b` runs then.
pub const CPU_B: usize = 1;

/// The pairs, by the first letter of their ends (`q0` in `a`, `q1` in `b`).
const PAIRS: [&str; 6] = ["q", "c", "m", "t", "o", "z"];
/// The pairs whose ends have addresses; the index is the third number of the address.
const ADDRESSED: [&str; 2] = ["t", "o"];

/// The namespaces.
#[derive(Debug)]
pub struct Rig {
    prefix: String,
    logs: tempfile::TempDir,
}

impl Rig {
    /// Builds both, with pairs of that MTU.
    ///
    /// # Errors
    /// Without root, or when `ip` or `ethtool` is missing or fails.
    pub fn new(mtu: u32) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "this benchmark makes network namespaces and needs root");
        let prefix = format!("qnet-bench-{}-{mtu}-", std::process::id());
        let rig = Self { prefix, logs: tempfile::tempdir()? };
        for side in ["a", "b"] {
            run("ip", &["netns", "add", &rig.name(side)])?;
        }
        let mtu = mtu.to_string();
        for pair in PAIRS {
            let (near, far) = (format!("{pair}0"), format!("{pair}1"));
            let (a, b) = (rig.name("a"), rig.name("b"));
            run(
                "ip",
                &["link", "add", &near, "netns", &a, "type", "veth", "peer", "name", &far, "netns", &b],
            )?;
            for (side, interface) in [("a", &near), ("b", &far)] {
                // Nothing but the benchmark's frames: no neighbour discovery in between.
                rig.ip(side, &["link", "set", interface, "mtu", &mtu, "addrgenmode", "none"])?;
                rig.ip(side, &["link", "set", interface, "up"])?;
            }
        }
        for (index, pair) in ADDRESSED.iter().enumerate() {
            rig.ip("a", &["addr", "add", &format!("10.98.{index}.1/24"), "dev", &format!("{pair}0")])?;
            rig.ip("b", &["addr", "add", &format!("10.98.{index}.2/24"), "dev", &format!("{pair}1")])?;
        }
        for (side, interface) in [("a", "t0"), ("b", "t1")] {
            let off = ["tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off"];
            let mut words = vec!["netns", "exec"];
            let namespace = rig.name(side);
            words.extend([namespace.as_str(), "ethtool", "-K", interface]);
            words.extend(off);
            run("ip", &words)?;
        }
        Ok(rig)
    }

    /// Address of the far end of a pair.
    ///
    /// # Errors
    /// The pair has none.
    pub fn address(pair: &str) -> Result<String> {
        let index = ADDRESSED.iter().position(|p| *p == pair).with_context(|| format!("pair {pair}"))?;
        Ok(format!("10.98.{index}.2"))
    }

    /// Path of a namespace, for [`crate::role::play`].
    #[must_use]
    pub fn path(&self, side: &str) -> PathBuf {
        Path::new("/run/netns").join(self.name(side))
    }

    /// Ethernet address of an interface.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn mac(&self, side: &str, interface: &str) -> Result<String> {
        let output = Command::new("ip")
            .args(["-n", &self.name(side), "-o", "link", "show", interface])
            .output()
            .context("ip (package iproute2)")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
        words.nth(1).map(str::to_owned).with_context(|| format!("no interface {interface}"))
    }

    /// Starts this program again in a namespace to play a part. What it says on standard error goes to a file of the
    /// part's name, which [`Rig::log`] reads.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn play(&self, side: &str, cpu: Option<usize>, words: &[&str]) -> Result<Part> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--namespace").arg(self.path(side));
        if let Some(cpu) = cpu {
            command.arg("--cpu").arg(cpu.to_string());
        }
        let log = File::options().create(true).append(true).open(self.log_path(side))?;
        Part::start(command.args(words).stderr(Stdio::from(log)))
    }

    /// What the parts of a namespace said on standard error.
    #[must_use]
    pub fn log(&self, side: &str) -> String {
        std::fs::read_to_string(self.log_path(side)).unwrap_or_default()
    }

    fn log_path(&self, side: &str) -> PathBuf {
        self.logs.path().join(side)
    }

    fn ip(&self, side: &str, arguments: &[&str]) -> Result<()> {
        let namespace = self.name(side);
        let mut all = vec!["-n", &namespace];
        all.extend_from_slice(arguments);
        run("ip", &all)
    }

    fn name(&self, side: &str) -> String {
        format!("{}{side}", self.prefix)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for side in ["a", "b"] {
            // A namespace that was never made cannot be deleted; nothing else can be done here anyway.
            let _ = run("ip", &["netns", "del", &self.name(side)]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
