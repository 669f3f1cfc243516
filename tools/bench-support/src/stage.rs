//! How a benchmark's program plays its parts: it starts itself again, with hidden arguments that say where.
//!
//! A part joins its namespace and pins itself before it does anything else, while it has one thread. It is told with
//! SIGTERM when the benchmark is gone, however that ended.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd::{Pid, getppid},
};

use crate::sys;

/// The hidden arguments; flatten them into a benchmark's own.
#[derive(Args, Clone, Debug, Default)]
pub struct Stage {
    /// Network namespace of a part
    #[arg(long, hide = true)]
    namespace: Option<PathBuf>,
    /// CPU of a part
    #[arg(long, hide = true)]
    cpu: Option<usize>,
    /// The benchmark's process, whose end ends the part
    #[arg(long, hide = true)]
    parent: Option<i32>,
    /// Keep a namespace until standard input ends, then remove this directory
    #[arg(long, hide = true, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Ignored; cargo adds it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Stage {
    /// Plays what this process was started for; `false` when it is the benchmark itself.
    ///
    /// # Errors
    /// When the namespace cannot be joined or the part fails.
    pub fn play<R>(&self, role: Option<R>, act: impl FnOnce(R) -> Result<()>) -> Result<bool> {
        if let Some(directory) = &self.keep {
            keep(directory)?;
            return Ok(true);
        }
        let Some(namespace) = &self.namespace else { return Ok(false) };
        let role = role.context("a part without a role")?;
        self.enter(namespace)?;
        act(role)?;
        Ok(true)
    }

    fn enter(&self, namespace: &Path) -> Result<()> {
        prctl::set_pdeathsig(Signal::SIGTERM).context("cannot ask for the benchmark's end")?;
        let parent = self.parent.map(Pid::from_raw);
        ensure!(parent.is_none_or(|parent| parent == getppid()), "the benchmark is gone");
        let file = File::open(namespace).with_context(|| format!("{}", namespace.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET).context("cannot join the namespace")?;
        // Whatever is mounted here (a node's /net) is seen by nobody else.
        unshare(CloneFlags::CLONE_NEWNS).context("cannot have mounts of its own")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        match self.cpu {
            Some(cpu) => sys::pin(cpu).with_context(|| format!("CPU {cpu}")),
            None => Ok(()),
        }
    }
}

/// The arguments that start this program as a part.
pub(crate) fn part(namespace: &Path, cpu: Option<usize>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--parent").arg(std::process::id().to_string()).arg("--namespace").arg(namespace);
    if let Some(cpu) = cpu {
        command.arg("--cpu").arg(cpu.to_string());
    }
    Ok(command)
}

/// The arguments that start this program as the keeper of a namespace and a directory.
pub(crate) fn keeper(directory: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--keep").arg(directory);
    Ok(command)
}

/// Replaces this process by a program: the part `exec` of every benchmark.
///
/// # Errors
/// There is no such program; otherwise it does not return.
pub fn exec(command: &[String]) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { bail!("no program to run") };
    Err(Command::new(program).args(arguments).exec()).with_context(|| program.clone())
}

/// Holds a network namespace, and removes `directory` at the end.
///
/// The end of standard input is the end of the benchmark, even by SIGKILL. A Ctrl-C is for the whole group of
/// processes; whoever clears away must outlive it.
fn keep(directory: &Path) -> Result<()> {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).thread_block()?;
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace (needs root)")?;
    println!("ready");
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    // Parts that are ending may still write there.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match std::fs::remove_dir_all(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("cannot remove {}", directory.display()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
