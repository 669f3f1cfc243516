//! A node: an installed release io-pkt with Qnet in a namespace, its root in a directory of its own.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use qnet::{Netmgr, Root};

use crate::{part::Part, rig::Rig, sys};

/// Longest that a node may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running node; ended when dropped.
#[derive(Debug)]
pub struct Daemon {
    part: Part,
    directory: tempfile::TempDir,
}

impl Daemon {
    /// Starts `program` with one interface (`dev=` of devn-packet, further options behind a comma), Qnet with
    /// `options`, and `more` words for io-pkt.
    ///
    /// # Errors
    /// When it does not come up; the error has what it said.
    pub fn start(
        rig: &Rig,
        program: &Path,
        side: &str,
        interface: &str,
        cpu: Option<usize>,
        options: &str,
        more: &[&str],
    ) -> Result<Self> {
        Self::launch(rig, program, (side, interface, cpu), &[], options, more)
    }

    /// The same without further words, in the mount namespace of process `holder` when one is given.
    ///
    /// # Errors
    /// When it does not come up; the error has what it said.
    pub fn start_within(
        rig: &Rig,
        program: &Path,
        (side, interface): (&str, &str),
        options: &str,
        holder: Option<i32>,
    ) -> Result<Self> {
        let mounts = holder.map(|process| format!("--mount=/proc/{process}/ns/mnt"));
        let before = mounts.as_ref().map_or_else(Vec::new, |mounts| vec!["nsenter", mounts, "--"]);
        Self::launch(rig, program, (side, interface, None), &before, options, &[])
    }

    /// `before`: what runs the program.
    fn launch(
        rig: &Rig,
        program: &Path,
        (side, interface, cpu): (&str, &str, Option<usize>),
        before: &[&str],
        options: &str,
        more: &[&str],
    ) -> Result<Self> {
        let directory = rig.directory(side)?;
        let root = directory.path().to_str().context("the temporary directory's path is not UTF-8")?;
        let program = program.to_str().context("the program's path is not UTF-8")?;
        let device = format!("dev={interface}");
        let words = [program, "--root", root, "-d", "packet", &device, "-p", "qnet", options];
        let words = [&["exec"], before, &words, more].concat();
        let part = rig.play(side, cpu, &words)?;
        let mut daemon = Self { part, directory };
        let deadline = Instant::now() + PATIENCE;
        while Netmgr::attach(&daemon.root()?).is_err() {
            if Instant::now() > deadline || !daemon.part.runs()? {
                bail!("io-pkt does not come up in namespace {side}:\n{}", rig.log(side));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// Its root, for programs that use it.
    ///
    /// # Errors
    /// The path of the temporary directory cannot be a root's.
    pub fn root(&self) -> Result<Root> {
        Ok(Root::at(self.directory.path())?)
    }

    /// Its root as text, for parts.
    #[must_use]
    pub fn root_path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.part.pid()
    }

    /// Waits until it knows a node, and gives the descriptor.
    ///
    /// # Errors
    /// When nobody answers to the name in time.
    pub fn find(&self, name: &str) -> Result<u32> {
        let netmgr = Netmgr::attach(&self.root()?)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match netmgr.strtond(name) {
                Ok(nd) => return Ok(nd),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("node {name} does not answer"));
                }
                Err(_) => {}
            }
        }
    }

    /// CPU time that it has used.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        Ok(sys::cpu_time(self.pid())?)
    }

    /// Memory of its own: anonymous pages, in bytes. (The packet pool is a file and not among them.)
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        let kib: u64 = line.split_whitespace().next().context("no number")?.parse()?;
        Ok(kib * 1024)
    }

    /// Frames that an interface of its namespace has received and sent.
    ///
    /// # Errors
    /// When it is gone.
    pub fn frames(&self, interface: &str) -> Result<(u64, u64)> {
        let table = std::fs::read_to_string(format!("/proc/{}/net/dev", self.pid()))?;
        let line = table
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))
            .with_context(|| format!("no counters of {interface}"))?;
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        match fields.as_slice() {
            [_, received, _, _, _, _, _, _, _, sent, ..] => Ok((*received, *sent)),
            _ => bail!("counters of {interface} are cut"),
        }
    }
}
