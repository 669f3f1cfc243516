//! A network namespace with a directory for files: made for one run, and gone with it.
//!
//! Neither has a name that could be left behind. The namespace belongs to a process of its own, the keeper, which ends
//! when the benchmark's pipe to it closes: at the end of the run, and just as well after SIGTERM, SIGKILL or a panic.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    part::{self, Part},
    stage,
};

/// How long the keeper may take to clear away.
const GRACE: Duration = Duration::from_secs(15);

/// The namespace.
#[derive(Debug)]
pub struct Space {
    keeper: Child,
    input: Option<ChildStdin>,
    directory: PathBuf,
}

impl Space {
    /// Makes one for a benchmark of that name.
    ///
    /// # Errors
    /// Without root.
    pub fn new(name: &str) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "this benchmark makes network namespaces and needs root");
        let directory = tempfile::Builder::new().prefix(&format!("{name}-bench-")).tempdir()?;
        let mut keeper =
            stage::keeper(directory.path())?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = keeper.stdin.take();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("no pipe to read from")?).read_line(&mut line)?;
        // From here on the keeper removes the directory.
        let space = Self { keeper, input, directory: directory.keep() };
        ensure!(line.trim() == "ready", "the keeper of a namespace ended early");
        Ok(space)
    }

    /// Its file, for `setns`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.keeper.id()))
    }

    /// A new directory that goes away with the namespace at the latest.
    ///
    /// # Errors
    /// The disk is full, or the like.
    pub fn directory(&self) -> Result<TempDir> {
        Ok(TempDir::new_in(&self.directory)?)
    }

    /// Starts this program again to play a part here, on that CPU when one is given. What it says on standard error
    /// is kept for [`Space::log`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn play<S: AsRef<str>>(&self, cpu: Option<usize>, words: &[S]) -> Result<Part> {
        self.play_with(cpu, words, &[])
    }

    /// The same with some variables in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn play_with<S: AsRef<str>>(
        &self,
        cpu: Option<usize>,
        words: &[S],
        environment: &[(&str, &str)],
    ) -> Result<Part> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = stage::part(&self.path(), cpu)?;
        command.envs(environment.iter().copied());
        Part::start(command.args(words.iter().map(AsRef::as_ref)).stderr(log))
    }

    /// What the parts said on standard error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs a program here, and gives what it printed.
    ///
    /// # Errors
    /// It is missing, or it failed; the error has what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg(program).args(arguments);
        output(&mut command)
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.input.take());
        part::end(&mut self.keeper, GRACE);
    }
}

/// Connects two namespaces with a veth pair, both ends up. Nothing travels on it but the benchmark's own frames: there
/// is no neighbour discovery in between.
///
/// # Errors
/// When `ip` is missing or refuses.
pub fn wire(near: (&Space, &str), far: (&Space, &str), mtu: u32) -> Result<()> {
    let pids = [near, far].map(|(space, _)| space.keeper.id().to_string());
    let mut ip = Command::new("ip");
    ip.args(["link", "add", near.1, "netns", &pids[0], "type", "veth", "peer", "name", far.1]);
    output(ip.args(["netns", &pids[1]]))?;
    for (space, interface) in [near, far] {
        let set = ["link", "set", interface, "mtu", &mtu.to_string(), "addrgenmode", "none"];
        space.run("ip", &set)?;
        space.run("ip", &["link", "set", interface, "up"])?;
    }
    Ok(())
}

/// Ethernet address of an interface, as text.
///
/// # Errors
/// There is no such interface.
pub fn mac(space: &Space, interface: &str) -> Result<String> {
    let text = space.run("ip", &["-o", "link", "show", interface])?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
    words.nth(1).map(str::to_owned).with_context(|| format!("no Ethernet address of {interface}"))
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| program.clone())?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        bail!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
