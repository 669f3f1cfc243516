//! Two namespaces with veth pairs between them, made for one run and taken away with it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::part::Part;

/// A veth pair, by the first letter of its ends (`q0` in `a`, `q1` in `b`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// For frames: without addresses.
    Bare(&'static str),
    /// With an address at each end.
    Addressed(&'static str),
    /// The same, with all offloads off: frames of the real size cross it.
    Plain(&'static str),
}

impl Pair {
    const fn letter(self) -> &'static str {
        match self {
            Self::Bare(letter) | Self::Addressed(letter) | Self::Plain(letter) => letter,
        }
    }
}

/// The namespaces.
#[derive(Debug)]
pub struct Rig {
    prefix: String,
    pairs: Vec<Pair>,
    logs: tempfile::TempDir,
}

impl Rig {
    /// Builds both for a benchmark of that name, with pairs of that MTU.
    ///
    /// # Errors
    /// Without root, or when `ip` or `ethtool` is missing or fails.
    pub fn new(name: &str, mtu: u32, pairs: &[Pair]) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "this benchmark makes network namespaces and needs root");
        let prefix = format!("{name}-bench-{}-{mtu}-", std::process::id());
        let rig = Self { prefix, pairs: pairs.to_vec(), logs: tempfile::tempdir()? };
        for side in ["a", "b"] {
            run("ip", &["netns", "add", &rig.name(side)])?;
        }
        let mtu = mtu.to_string();
        for (index, pair) in pairs.iter().enumerate() {
            rig.lay(index, *pair, &mtu)?;
        }
        Ok(rig)
    }

    fn lay(&self, index: usize, pair: Pair, mtu: &str) -> Result<()> {
        let (near, far) = (format!("{}0", pair.letter()), format!("{}1", pair.letter()));
        let (a, b) = (self.name("a"), self.name("b"));
        let (a, b) = (a.as_str(), b.as_str());
        run("ip", &["link", "add", &near, "netns", a, "type", "veth", "peer", "name", &far, "netns", b])?;
        for (side, interface, end) in [("a", &near, 1), ("b", &far, 2)] {
            // Nothing but the benchmark's frames: no neighbour discovery in between.
            self.ip(side, &["link", "set", interface, "mtu", mtu, "addrgenmode", "none"])?;
            self.ip(side, &["link", "set", interface, "up"])?;
            if let Pair::Addressed(_) | Pair::Plain(_) = pair {
                self.ip(side, &["addr", "add", &format!("10.98.{index}.{end}/24"), "dev", interface])?;
            }
            if let Pair::Plain(_) = pair {
                let off = ["tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off"];
                let namespace = self.name(side);
                let mut words = vec!["netns", "exec", &namespace, "ethtool", "-K", interface];
                words.extend(off);
                run("ip", &words)?;
            }
        }
        Ok(())
    }

    /// Address of the far end of a pair.
    ///
    /// # Errors
    /// The pair has none.
    pub fn address(&self, letter: &str) -> Result<String> {
        let of = |pair: &Pair| pair.letter() == letter && !matches!(pair, Pair::Bare(_));
        let index =
            self.pairs.iter().position(of).with_context(|| format!("pair {letter} has no address"))?;
        Ok(format!("10.98.{index}.2"))
    }

    /// Path of a namespace, for [`crate::role::enter`].
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
