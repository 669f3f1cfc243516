//! A process in a node that does what it is told: an order is a line of its input, an answer a line of its output.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qnet_lab::Node;

use crate::PATIENCE;

/// Such a process. It is killed with this value.
#[derive(Debug)]
pub struct Player {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<Patient>,
}

impl Player {
    /// Starts a program.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().context("its input")?;
        let answers = BufReader::new(Patient(child.stdout.take().context("its output")?));
        Ok(Self { child, orders, answers })
    }

    /// Starts the test program that asks for it, in a node, with `setting` (`NAME=value`) in its environment, which tells it
    /// that it is one of these.
    ///
    /// # Errors
    /// It does not start.
    pub fn of_this_program(node: &Node, setting: &str, words: &[&str]) -> Result<Self> {
        let us = std::env::current_exe()?;
        let name = us.file_name().and_then(|name| name.to_str()).context("a name")?;
        let mut command = node.command("env");
        command.args([setting, &format!("/lab/programs/deps/{name}")]).args(words);
        Self::start(command)
    }

    /// Gives an order; its answer is left for later.
    ///
    /// # Errors
    /// The process is gone.
    pub fn order(&mut self, line: &str) -> Result<()> {
        writeln!(self.orders, "{line}").context("its input")
    }

    /// The next line it says, without its end.
    ///
    /// # Errors
    /// The process is gone, or says nothing for [`PATIENCE`].
    pub fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.answers.read_line(&mut line).context("waiting for an answer")?;
        ensure!(length > 0, "a process has ended");
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// The next bytes it says.
    ///
    /// # Errors
    /// As for [`hear`](Self::hear).
    pub fn hear_bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.answers.read_exact(&mut bytes).context("waiting for bytes")?;
        Ok(bytes)
    }

    /// Gives an order and waits for the answer.
    ///
    /// # Errors
    /// As for [`hear`](Self::hear).
    pub fn ask(&mut self, line: &str) -> Result<String> {
        self.order(line)?;
        self.hear()
    }

    /// Gives an order that has one right answer.
    ///
    /// # Errors
    /// It says something else; as for [`hear`](Self::hear).
    pub fn says(&mut self, line: &str, expected: &str) -> Result<()> {
        let said = self.ask(line)?;
        ensure!(said == expected, "{line}: {said:?}, expected {expected:?}");
        Ok(())
    }

    /// The process, to look whether it has ended or to wait until it does.
    pub const fn process(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It ends with its input as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Output that is not waited for longer than [`PATIENCE`]: a test that would wait for ever tells what for.
#[derive(Debug)]
struct Patient(ChildStdout);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut output = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).map_err(io::Error::other)?;
        match poll(&mut output, patience)? {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing was said for {PATIENCE:?}"))),
            _ => self.0.read(buffer),
        }
    }
}
