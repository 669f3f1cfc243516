//! A segment between io-pkts that are killed without warning. Needs no privilege and no namespace.
//!
//! Each io-pkt has a root of its own and one port of the segment. The callers have the template driver, too, which makes
//! a broadcast frame every few milliseconds, and a bridge that carries it to the segment.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ctl::Client;
use system_tests::{cases, eventually};

cases! {
    the_first_port_may_be_killed: [],
    ports_killed_under_traffic_leave_nothing_behind: [],
}

/// An io-pkt with a port of the segment.
struct Node {
    daemon: Child,
    client: Client,
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL: dying without notice is what these tests are about.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Node {
    fn up(folder: &Path, name: &str, calls: bool) -> Result<Self> {
        let root = folder.join(name);
        fs::create_dir_all(&root)?;
        let mut command = Command::new(built("io-pkt")?);
        command.arg("--root").arg(&root).args(["-d", "segment"]);
        command.arg(format!("path={}", folder.join("segment").display()));
        if calls {
            command.args(["-d", "template", "period=2", "-p", "bridge"]);
        }
        let mut daemon = command.stdin(Stdio::null()).spawn().context("io-pkt")?;
        let mut client = None;
        let ready = eventually(&format!("{name} is ready"), || {
            client = Client::connect(&root.join("io-pkt0.sock"), Duration::from_secs(20)).ok();
            client.as_mut().is_some_and(|client| client.interfaces(Some("en0")).is_ok())
        });
        match (ready, client) {
            (Ok(()), Some(client)) => Ok(Self { daemon, client }),
            (ready, _) => {
                let _ = daemon.kill();
                let _ = daemon.wait();
                ready?;
                anyhow::bail!("{name} has no control socket")
            }
        }
    }

    /// Frames that came in from the segment.
    fn heard(&mut self) -> Result<u64> {
        let interfaces = self.client.interfaces(Some("en0"))?;
        interfaces
            .first()
            .and_then(|interface| interface.stats.rx_packets)
            .context("it counts what it receives")
    }

    fn hears_more(&mut self, what: &str) -> Result<()> {
        let before = self.heard()?;
        eventually(what, || self.heard().is_ok_and(|now| now > before))
    }
}

/// A program in cargo's folder.
fn built(name: &str) -> Result<PathBuf> {
    let us = std::env::current_exe()?;
    let found = us.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built; run cargo build --workspace"))
}

/// Sockets in the segment's directory.
fn sockets(folder: &Path) -> usize {
    fs::read_dir(folder.join("segment")).map_or(0, |entries| entries.flatten().count())
}

fn the_first_port_may_be_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let first = Node::up(folder.path(), "first", true)?;
    let mut second = Node::up(folder.path(), "second", false)?;
    let mut third = Node::up(folder.path(), "third", false)?;
    second.hears_more("the first one's frames at the second")?;
    third.hears_more("the first one's frames at the third")?;
    drop(first);
    let _caller = Node::up(folder.path(), "fourth", true)?;
    second.hears_more("the newcomer's frames at the second")?;
    third.hears_more("the newcomer's frames at the third")?;
    ensure!(sockets(folder.path()) == 3, "the newcomer removed the dead one's socket");
    Ok(())
}

fn ports_killed_under_traffic_leave_nothing_behind() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let _caller = Node::up(folder.path(), "caller", true)?;
    let mut listener = Node::up(folder.path(), "listener", false)?;
    for round in 0..5 {
        let mut passer_by = Node::up(folder.path(), "passer-by", false)?;
        passer_by.hears_more("frames at a port that comes late")?;
        drop(passer_by);
        listener.hears_more(&format!("frames after death {round}"))?;
    }
    let open = fs::read_dir(format!("/proc/{}/fd", listener.daemon.id()))?.count();
    ensure!(open < 40, "the listener keeps {open} descriptors open");
    Ok(())
}
