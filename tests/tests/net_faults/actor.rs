//! One who has files open and does with them what he is told, a line at a time; he tells in a line what came of it.
//!
//! | Line | What he does | What he says |
//! |---|---|---|
//! | `open NAME HOW PATH` | opens: `r`, `w`, `rw`; `direct`, `directw` past the cache | `ok` |
//! | `read NAME OFFSET COUNT` | reads | `ok` and the bytes as text |
//! | `write NAME OFFSET TEXT` | writes | `ok` and how many |
//! | `fill NAME OFFSET COUNT` | writes so many zeros with one call | the same |
//! | `sync NAME`, `close NAME` | fsync, close | `ok` |
//! | `map NAME COUNT` | maps what is open, shared | `ok` |
//! | `store NAME OFFSET` | changes a byte of the mapping | `ok` |
//! | `msync NAME` | has the mapping written | `ok` |
//! | `lock NAME` | waits for a POSIX lock of the whole file | `ok` |
//!
//! What fails gives `errno` and its number.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use qnet_lab::Node;
use system_tests::sys::Mapping;

use super::player;

/// The player: does as told until its input ends.
pub(crate) fn play() -> Result<()> {
    let mut state = State::default();
    println!("{}", std::process::id());
    for line in io::stdin().lines() {
        let line = line?;
        let said = match state.act(&line) {
            Ok(text) => format!("ok {text}"),
            Err(error) => match error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
                Some(errno) => format!("errno {errno}"),
                None => return Err(error),
            },
        };
        println!("{}", said.trim_end());
    }
    Ok(())
}

#[derive(Default)]
struct State {
    files: HashMap<String, File>,
    maps: HashMap<String, Mapping>,
}

impl State {
    fn act(&mut self, line: &str) -> Result<String> {
        let mut words = line.splitn(4, ' ');
        let (verb, name) = (words.next().unwrap_or_default(), words.next().context("a name")?);
        let (third, fourth) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if verb == "open" {
            self.files.insert(name.to_owned(), open(third, fourth)?);
            return Ok(String::new());
        }
        if let Some(map) = self.maps.get_mut(name) {
            match verb {
                "store" => map.store(third.parse()?, b'!'),
                "msync" => map.sync().map_err(io::Error::from)?,
                "unmap" => drop(self.maps.remove(name)),
                _ => bail!("{line}?"),
            }
            return Ok(String::new());
        }
        let file = self.files.get(name).with_context(|| format!("{line}: no such file is open"))?;
        match verb {
            "read" => {
                let mut bytes = vec![0; fourth.parse()?];
                let n = file.read_at(&mut bytes, third.parse()?)?;
                return Ok(String::from_utf8_lossy(&bytes[..n]).into_owned());
            }
            "write" => return Ok(file.write_at(fourth.as_bytes(), third.parse()?)?.to_string()),
            "fill" => return Ok(file.write_at(&vec![0; fourth.parse()?], third.parse()?)?.to_string()),
            "sync" => file.sync_all()?,
            "map" => {
                let map =
                    Mapping::new(file, third.parse()?, libc::MAP_SHARED, true).map_err(io::Error::from)?;
                self.maps.insert(format!("{name}'s"), map);
            }
            "lock" => lock(file)?,
            "close" => close(self.files.remove(name).context("a file")?)?,
            _ => bail!("{line}?"),
        }
        Ok(String::new())
    }
}

fn open(how: &str, path: &str) -> io::Result<File> {
    let direct = if how.starts_with("direct") { libc::O_DIRECT } else { 0 };
    OpenOptions::new()
        .read(!how.ends_with('w') || how == "rw")
        .write(how.contains('w'))
        .custom_flags(direct)
        .open(path)
}

fn lock(file: &File) -> io::Result<()> {
    let all = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    Ok(fcntl(file, FcntlArg::F_SETLKW(&all)).map(drop)?)
}

fn close(file: File) -> io::Result<()> {
    Ok(nix::unistd::close(file.into_raw_fd())?)
}

/// An actor in a node.
pub(crate) struct Actor {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) pid: String,
}

impl Actor {
    pub(crate) fn start(node: &Node) -> Result<Self> {
        let mut child = player(node, "acts", &[])?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().context("its input")?;
        let answers = BufReader::new(child.stdout.take().context("its output")?);
        let mut actor = Self { child, orders, answers, pid: String::new() };
        actor.pid = actor.hears()?;
        Ok(actor)
    }

    /// Tells it what to do.
    pub(crate) fn tell(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").with_context(|| order.to_owned())
    }

    /// What it says next.
    pub(crate) fn hears(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the actor has ended");
        Ok(line.trim_end().to_owned())
    }

    /// Tells it what to do, and waits for what it says.
    pub(crate) fn does(&mut self, order: &str) -> Result<String> {
        self.tell(order)?;
        self.hears().with_context(|| order.to_owned())
    }

    /// It does this, and this comes of it.
    pub(crate) fn must(&mut self, order: &str, outcome: &str) -> Result<()> {
        let said = self.does(order)?;
        ensure!(said == outcome, "{order}: {said:?} instead of {outcome:?}");
        Ok(())
    }

    /// Its end by a signal: the status that its starter tells as a shell does.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It has ended already, or ends with its node.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
