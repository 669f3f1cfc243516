//! The process of one measurement: it mounts, works, tells a number, and is gone with its mounts.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::work::{self, Plan, Work};

/// How long a file system may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long its server may take to end, before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// A mount to work on.
#[derive(Args, Clone, Debug)]
pub struct OnMount {
    /// What to do
    #[arg(long)]
    work: Work,
    /// Milliseconds of random reads
    #[arg(long)]
    span: u64,
    /// What is unpacked
    #[arg(long)]
    archive: PathBuf,
    /// Where the served files appear
    #[arg(long)]
    top: PathBuf,
    /// Process whose mounts are seen, too
    #[arg(long)]
    within: Option<i32>,
    /// A program that mounts and serves in the foreground, with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Mounts, works, and prints the number.
///
/// # Errors
/// The file system does not appear, or the work fails.
pub fn on_mount(arguments: &OnMount) -> Result<()> {
    if let Some(process) = arguments.within {
        see_mounts_of(process)?;
    }
    let mut server = Foreground::start(&arguments.command, Stdio::null())?;
    let ready = arguments.top.join("ready");
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = fs::read(&ready) {
        ensure!(server.runs()?, "{} ended early", arguments.command[0]);
        ensure!(Instant::now() < deadline, "{}: {error}", ready.display());
        thread::sleep(LOOK);
    }
    let span = Duration::from_millis(arguments.span);
    let plan = Plan { work: arguments.work, span, archive: &arguments.archive };
    println!("{}", work::run(&arguments.top, &plan)?);
    Ok(())
}

/// Joins another process's mount namespace and leaves it again with a copy of its mounts.
fn see_mounts_of(process: i32) -> Result<()> {
    let path = format!("/proc/{process}/ns/mnt");
    let file = fs::File::open(&path).with_context(|| path.clone())?;
    setns(file, CloneFlags::CLONE_NEWNS).with_context(|| path)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?)
}

/// What is counted of a program's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Bytes: MB/s.
    Bytes,
    /// Lines: thousand a second.
    Lines,
}

impl Counted {
    /// For the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Lines => "lines",
        }
    }
}

impl FromStr for Counted {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "bytes" => Ok(Self::Bytes),
            "lines" => Ok(Self::Lines),
            _ => bail!("`{word}` is not known; there are bytes, lines"),
        }
    }
}

/// A client that needs no mount.
#[derive(Args, Clone, Debug)]
pub struct OfOutput {
    /// What to count
    #[arg(long)]
    count: Counted,
    /// How much there must be at least
    #[arg(long)]
    least: u64,
    /// A program that writes what it fetches to standard output, with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs a program to its end and prints the rate of what it wrote.
///
/// # Errors
/// It fails, or writes less than it should.
pub fn of_output(arguments: &OfOutput) -> Result<()> {
    let mut block = vec![0; 1 << 20];
    let begin = Instant::now();
    let mut program = Foreground::start(&arguments.command, Stdio::piped())?;
    let mut output = program.child.stdout.take().context("no pipe to read from")?;
    let mut total = 0;
    loop {
        match output.read(&mut block)? {
            0 => break,
            got if arguments.count == Counted::Bytes => total += got as u64,
            got => total += block[..got].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
    let time = begin.elapsed().as_secs_f64();
    let status = program.child.wait()?;
    ensure!(status.success(), "{} failed", arguments.command[0]);
    ensure!(total >= arguments.least, "{} gave {total} of {}", arguments.command[0], arguments.least);
    let unit = if arguments.count == Counted::Bytes { 1e6 } else { 1e3 };
    println!("{}", total as f64 / unit / time);
    Ok(())
}

/// A program that ends when its handle does, or with this process.
struct Foreground {
    child: Child,
}

impl Foreground {
    fn start(command: &[String], output: Stdio) -> Result<Self> {
        ensure!(!command.is_empty(), "no program to run");
        // setpriv: the program is told when this process ends, however that happens.
        let mut starter = Command::new("setpriv");
        starter.args(["--pdeathsig", "TERM", "--"]).args(command);
        let child = starter.stdin(Stdio::null()).stdout(output).spawn().context("setpriv")?;
        Ok(Self { child })
    }

    fn runs(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // Each of these fails only when the process is gone already.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if !matches!(self.runs(), Ok(true)) {
                return;
            }
            thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words that make a part work on a mount.
#[must_use]
pub fn mount_words(plan: &Plan<'_>, top: &Path, within: Option<i32>, command: &[String]) -> Vec<String> {
    let mut words = vec!["on-mount".to_owned()];
    let mut option = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    option("work", plan.work.word().to_owned());
    option("span", plan.span.as_millis().to_string());
    option("archive", plan.archive.display().to_string());
    option("top", top.display().to_string());
    if let Some(process) = within {
        option("within", process.to_string());
    }
    words.push("--".to_owned());
    words.extend_from_slice(command);
    words
}

/// The words that make a part run a client without a mount.
#[must_use]
pub fn output_words(count: Counted, least: u64, command: &[String]) -> Vec<String> {
    let head = ["of-output", "--count", count.word(), "--least", &least.to_string(), "--"];
    head.into_iter().map(str::to_owned).chain(command.iter().cloned()).collect()
}
