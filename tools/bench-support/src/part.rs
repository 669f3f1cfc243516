//! A process of a benchmark: lines go in, lines come out, and it ends with its handle.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a part may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

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
        self.tell(question)?;
        self.line()
    }

    /// Sends a line.
    ///
    /// # Errors
    /// When the process ended.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("the part takes no input")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// Closes its standard input, which ends a part that reads it.
    pub fn close(&mut self) {
        drop(self.input.take());
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
        // Fails only when the process is gone already.
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        end(&mut self.child, GRACE);
    }
}

/// Waits for the end of a process that knows that it should end, and kills it after `grace`.
pub(crate) fn end(child: &mut Child, grace: Duration) {
    let deadline = Instant::now() + grace;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::yield_now();
    }
    // Each of these fails only when the process is gone already.
    let _ = child.kill();
    let _ = child.wait();
}
