//! Disks of another node that fail, fill up or have many mount points: what is told to who writes, syncs, closes and maps.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use nix::libc;
use qnet_lab::Node;
use system_tests::{Pair, eventually};

use super::actor::Actor;
use super::{pair, player, sick};

/// The status of a process that SIGBUS ended, as its starter tells it.
const BUS: i32 = 128 + libc::SIGBUS;

/// A sick disk at joseph's `/mnt/sick`.
pub(crate) struct Disk<'n> {
    node: &'n Node,
    server: Child,
}

impl<'n> Disk<'n> {
    pub(crate) fn mount(node: &'n Node) -> Result<Self> {
        node.shell("mkdir -p /mnt/sick")?;
        let mut server = player(node, "sick", &["/mnt/sick"])?.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().context("its output")?).read_line(&mut line)?;
        ensure!(line == "mounted\n", "{line:?}");
        Ok(Self { node, server })
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Whoever has files open there keeps nobody waiting; it ends with its mount.
        let _ = self.node.shell("umount -l /mnt/sick");
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What a disk says at fsync, at a close and when a mapped page is written or read.
pub(crate) fn late_errors() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    let _disk = Disk::mount(joseph)?;
    let mut actor = Actor::start(alonzo)?;
    let at = |name: &str| format!("/net/joseph/mnt/sick/{name}");
    actor.must(&format!("open sync rw {}", at("sync")), "ok")?;
    actor.must("write sync 0 text", "ok 4")?;
    actor.must("sync sync", &format!("errno {}", libc::EIO))?;
    actor.must("write sync 4 text", "ok 4")?;
    actor.must("read sync 0 8", "ok texttext")?;
    // A close waits for nobody: who wants to know what a disk says then asks by fsync.
    actor.must(&format!("open close w {}", at("close")), "ok")?;
    actor.must("write close 0 text", "ok 4")?;
    actor.must("close close", "ok")?;
    for (name, errno) in [("write", libc::EIO), ("full", libc::ENOSPC), ("quota", libc::EDQUOT)] {
        actor.must(&format!("open {name} rw {}", at(name)), "ok")?;
        actor.must(&format!("map {name} {}", sick::SIZE), "ok")?;
        actor.must(&format!("store {name}'s 100"), "ok")?;
        actor.must(&format!("msync {name}'s"), "ok")?;
        actor.must(&format!("store {name}'s {}", sick::SIZE - 100), "ok")?;
        let said = actor.does(&format!("msync {name}'s"))?;
        ensure!(said == format!("errno {errno}"), "a page of {name}: {said}");
    }
    // A page that cannot be read ends who needs it.
    actor.must(&format!("open read rw {}", at("read")), "ok")?;
    actor.must(&format!("map read {}", sick::SIZE), "ok")?;
    actor.tell(&format!("store read's {}", sick::SIZE - 100))?;
    eventually("the end by SIGBUS", || actor.ended() == Some(BUS))?;
    let said = alonzo.shell(&format!("ln {} {} 2>&1; true", at("good"), at("another")))?;
    ensure!(said.contains("Too many links"), "{said}");
    Ok(())
}

/// A write that does not fit is written as far as it does, and says how far.
pub(crate) fn short_write() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("mkdir -p /mnt/small && mount -t tmpfs -o size=1m small /mnt/small")?;
    let half = 1 << 19;
    for how in ["w", "directw"] {
        joseph.shell(&format!("cd /mnt/small; rm -f *; head -c {half} /dev/zero >taken; : >file"))?;
        let mut actor = Actor::start(alonzo)?;
        actor.must(&format!("open file {how} /net/joseph/mnt/small/file"), "ok")?;
        actor.must("fill file 0 1048576", &format!("ok {half}"))?;
        actor.must(&format!("fill file {half} 1048576"), &format!("errno {}", libc::ENOSPC))?;
        actor.must("write file 0 begin", "ok 5")?;
        actor.must("close file", "ok")?;
        let size = joseph.shell("stat -c %s /mnt/small/file; head -c 5 /mnt/small/file")?;
        ensure!(size == format!("{half}\nbegin"), "{how}: {size}");
    }
    Ok(())
}

/// All of /net is one file system here: mount points of the node do not show.
pub(crate) fn mount_points() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("mkdir -p /mnt/one && mount -t tmpfs one /mnt/one && mkdir /mnt/one/two && mount -t tmpfs two /mnt/one/two && echo deep >/mnt/one/two/file")?;
    let found = alonzo.shell("find /net/joseph/mnt -xdev -name file -exec cat {} +")?;
    ensure!(found == "deep\n", "{found:?}");
    // Their roots have the same number on each; here no two are the same.
    let numbers = alonzo.shell("stat -c %i /net/joseph/mnt/one /net/joseph/mnt/one/two | sort -u | wc -l")?;
    ensure!(numbers == "2\n", "two directories have one number");
    let said = alonzo.shell("ln /net/joseph/mnt/one/two/file /net/joseph/mnt/one/ 2>&1; true")?;
    ensure!(said.contains("Invalid cross-device link"), "{said}");
    let said = alonzo.shell("mv /net/joseph/mnt/one/two/file /net/joseph/mnt/one/ && cat /net/joseph/mnt/one/file; rmdir /net/joseph/mnt/one/two 2>&1; true")?;
    ensure!(said.starts_with("deep\n") && said.contains("busy"), "{said}");
    Ok(())
}
