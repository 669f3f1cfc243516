//! One who waits for another node, and what a SIGINT does to him.
//!
//! | he waits for | with a handler | without |
//! |---|---|---|
//! | bytes of a FIFO | EINTR | dies |
//! | bytes of a file of a silent node | goes on, as on a disk | dies |
//! | a page of a mapped file of a silent node | | dies |

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use qnet_lab::Node;
use system_tests::sys::Mapping;
use system_tests::{Pair, eventually};

use super::{pair, player};

/// Far behind what is read ahead from the beginning.
const FAR: usize = 200 << 20;

extern "C" fn caught(_signal: libc::c_int) {}

/// The player: opens, says its number, and waits as it is told, behind the word to go on.
pub(crate) fn play(what: &str, path: &Path, handler: &str) -> Result<()> {
    let handler = if handler == "caught" { SigHandler::Handler(caught) } else { SigHandler::SigDfl };
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGINT, &action) }?;
    let direct = if what == "bytes" { libc::O_DIRECT } else { 0 };
    let file = OpenOptions::new().read(true).custom_flags(direct).open(path).context("the file")?;
    let map = match what {
        "page" => Some(Mapping::new(&file, FAR + 1, libc::MAP_PRIVATE, false)?),
        _ => None,
    };
    println!("{}", std::process::id());
    io::stdout().flush()?;
    io::stdin().read_line(&mut String::new()).context("the word to go on")?;
    let outcome = match (what, map) {
        ("page", Some(map)) => Ok(usize::from(map.load(FAR)) + 1),
        ("bytes", _) => file.read_at(&mut [0; 100], FAR as u64),
        ("fifo", _) => read(&file),
        _ => bail!("{what}?"),
    };
    match outcome {
        Ok(bytes) => println!("{bytes} bytes"),
        Err(error) => println!("errno {}", error.raw_os_error().unwrap_or_default()),
    }
    Ok(())
}

fn read(file: &File) -> io::Result<usize> {
    Ok(nix::unistd::read(file, &mut [0; 100])?)
}

/// A player in a node.
struct Waiter {
    child: std::process::Child,
    said: BufReader<std::process::ChildStdout>,
    pid: String,
}

impl Waiter {
    fn start(node: &Node, what: &str, path: &str, handler: &str) -> Result<Self> {
        let mut command = player(node, "waits", &[what, path, handler])?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(child.stdout.take().context("its output")?);
        let mut pid = String::new();
        said.read_line(&mut pid)?;
        ensure!(!pid.is_empty(), "{what}: it did not begin");
        Ok(Self { child, said, pid: pid.trim_end().to_owned() })
    }

    /// Lets it go on, to where it waits for the node.
    fn wait(&mut self, node: &Node) -> Result<()> {
        writeln!(self.child.stdin.take().context("its input")?, "go on")?;
        let sleeps = format!(
            "grep -q '^State:.[SD]' /proc/{0}/status && grep -qE 'fuse|filemap' /proc/{0}/stack",
            self.pid
        );
        eventually("who waits for the node", || node.shell(&sleeps).is_ok())
    }

    fn signal(&self, node: &Node) -> Result<()> {
        node.shell(&format!("kill -INT {}", self.pid)).map(drop).context("a signal")
    }

    fn dies(&mut self, what: &str) -> Result<()> {
        eventually(&format!("{what}: the end"), || {
            self.child.try_wait().is_ok_and(|status| status.is_some())
        })?;
        let status = self.child.wait()?;
        // what starts a program in a node tells its end as a shell does
        ensure!(status.code() == Some(128 + libc::SIGINT), "{what}: {status}");
        Ok(())
    }

    fn says(&mut self, expected: &str) -> Result<()> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        ensure!(line.trim_end() == expected, "{line:?} instead of {expected:?}");
        ensure!(self.child.wait()?.success());
        Ok(())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // Whoever has ended already needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The test.
pub(crate) fn interrupted() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("mkdir /tmp/d; mkfifo /tmp/d/fifo; truncate -s 256M /tmp/d/file")?;
    let (fifo, file) = ("/net/joseph/tmp/d/fifo", "/net/joseph/tmp/d/file");
    let mut waiter = Waiter::start(alonzo, "fifo", fifo, "caught")?;
    waiter.wait(alonzo)?;
    waiter.signal(alonzo)?;
    waiter.says(&format!("errno {}", libc::EINTR))?;
    let mut waiter = Waiter::start(alonzo, "fifo", fifo, "default")?;
    waiter.wait(alonzo)?;
    waiter.signal(alonzo)?;
    waiter.dies("bytes of a FIFO")?;

    let mut page = Waiter::start(alonzo, "page", file, "default")?;
    let mut bytes = Waiter::start(alonzo, "bytes", file, "default")?;
    let mut stays = Waiter::start(alonzo, "bytes", file, "caught")?;
    // With its server stopped the node is there and says nothing.
    joseph.shell("kill -STOP $(pgrep -x qnet-server)")?;
    for (waiter, what) in [(&mut page, "a page"), (&mut bytes, "bytes of a file")] {
        waiter.wait(alonzo)?;
        waiter.signal(alonzo)?;
        waiter.dies(what)?;
    }
    stays.wait(alonzo)?;
    stays.signal(alonzo)?;
    joseph.shell("kill -CONT $(pgrep -x qnet-server)")?;
    stays.says("100 bytes")
}
