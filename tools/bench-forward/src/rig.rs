//! Three namespaces in a row, made for one run and taken away with it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

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

/// A process of the benchmark; ended when dropped.
#[derive(Debug)]
pub struct Part {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Part {
    /// Starts a command with pipes on its standard input and output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}", command.get_program().display()))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no pipe to read from")?);
        Ok(Self { child, input, output })
    }

    /// Waits for the next line.
    ///
    /// # Errors
    /// When the process ended instead.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "a part of the benchmark ended early");
        Ok(line.trim().to_owned())
    }

    /// Sends a line and waits for the answer.
    ///
    /// # Errors
    /// When the process ended instead.
    pub fn ask(&mut self, question: &str) -> Result<String> {
        let input = self.input.as_mut().context("the part takes no input")?;
        writeln!(input, "{question}")?;
        input.flush()?;
        self.line()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits until the process has closed its output, and gives what it printed.
    ///
    /// # Errors
    /// What it printed is not text.
    pub fn rest(&mut self) -> Result<String> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Waits for the end of the process; true when it ended well.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn ended_well(&mut self) -> Result<bool> {
        Ok(self.child.wait()?.success())
    }

    /// True while the process runs.
    ///
    /// # Errors
    /// When the process cannot be asked for.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.input.take());
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // Each of these fails only when the process is gone already.
        let _ = kill(pid, Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::yield_now();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
