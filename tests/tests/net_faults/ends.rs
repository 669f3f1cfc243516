//! Processes that end while a node has something of theirs: a lock, a wait for one, pages that were not written yet.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::libc;
use qnet_lab::{Node, Options};
use system_tests::{Pair, eventually};

use super::actor::Actor;
use super::{TO_DIE, pair};

/// What ends with the session of three seconds ends before a request's deadline of thirty.
const BEFORE_THE_DEADLINE: Duration = Duration::from_secs(25);

fn signal(node: &Node, name: &str, actor: &Actor) -> Result<()> {
    node.shell(&format!("kill -{name} {}", actor.pid))?;
    Ok(())
}

/// It ends by this signal, in time.
fn dies(actor: &mut Actor, signal: i32, most: Duration, what: &str) -> Result<()> {
    let begun = Instant::now();
    eventually(&format!("{what}: the end"), || actor.ended().is_some())?;
    let status = actor.ended();
    ensure!(status == Some(128 + signal), "{what}: {status:?}");
    ensure!(begun.elapsed() < most, "{what}: it took {:?} to die", begun.elapsed());
    Ok(())
}

/// Waits until it waits in a lock's request.
fn waits(node: &Node, actor: &Actor) -> Result<()> {
    let line = format!(
        "grep -qE 'fuse|setlk' /proc/{0}/stack && grep -q '^State:.[SD]' /proc/{0}/status",
        actor.pid
    );
    eventually("who waits for a lock", || node.shell(&line).is_ok())
}

/// One who locks a file of joseph's, on either node.
fn locker(node: &Node, path: &str) -> Result<Actor> {
    let mut actor = Actor::start(node)?;
    actor.must(&format!("open file rw {path}"), "ok")?;
    Ok(actor)
}

/// Who waits for a lock dies of SIGINT and does not get it; who dies with a lock lets go of it.
pub(crate) fn lockers() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("echo text >/tmp/file")?;
    let far = "/net/joseph/tmp/file";
    let mut holder = locker(alonzo, far)?;
    holder.must("lock file", "ok")?;
    let mut quits = locker(alonzo, far)?;
    quits.tell("lock file")?;
    waits(alonzo, &quits)?;
    let mut next = locker(joseph, "/tmp/file")?;
    next.tell("lock file")?;
    waits(joseph, &next)?;
    signal(alonzo, "INT", &quits)?;
    dies(&mut quits, libc::SIGINT, TO_DIE, "who waits for a lock")?;
    signal(alonzo, "KILL", &holder)?;
    dies(&mut holder, libc::SIGKILL, TO_DIE, "who has a lock")?;
    ensure!(next.hears()? == "ok", "the next one gets it");
    let mut last = locker(alonzo, far)?;
    last.tell("lock file")?;
    waits(alonzo, &last)?;
    signal(joseph, "KILL", &next)?;
    dies(&mut next, libc::SIGKILL, TO_DIE, "who has a lock over there")?;
    ensure!(last.hears()? == "ok", "the last one gets it");
    Ok(())
}

/// Who has changed mapped pages of a node that is away ends with the session, also when he is killed.
pub(crate) fn mapper() -> Result<()> {
    let qnet = vec!["mapany=off".to_owned(), "tx_retries=15".to_owned()];
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options { qnet, ..Options::default() })?;
    joseph.shell("head -c 65536 /dev/zero >/tmp/file")?;
    let mut actor = locker(alonzo, "/net/joseph/tmp/file")?;
    actor.must("map file 65536", "ok")?;
    actor.must("store file's 5000", "ok")?;
    joseph.shell("ip link set eth0 down")?;
    signal(alonzo, "KILL", &actor)?;
    dies(&mut actor, libc::SIGKILL, BEFORE_THE_DEADLINE, "who has written to mapped pages")
}
