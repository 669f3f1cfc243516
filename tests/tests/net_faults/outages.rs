//! Nodes that are away for a while, and those who have files of theirs open.

use anyhow::{Context, Result, ensure};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_lab::{Node, Options};
use system_tests::{Pair, eventually};

use super::actor::Actor;

/// A file for reading, of lines that tell their places, and one for writing. On a disk file system, which gives inode numbers again.
const FILES: &str =
    "cd /lab/wire; seq -f %07.0f 0 99999 >data; seq -f %07.0f 0 99999 >page; printf begin >out";
/// Where they are for alonzo.
const THERE: &str = "/net/joseph/lab/wire";

fn nodes(options: &[&str]) -> Result<Pair> {
    let qnet = ["mapany=off"].iter().chain(options).map(ToString::to_string).collect();
    Pair::up(&Options { qnet, ..Options::default() })
}

/// An actor on alonzo who has read and written joseph's files.
fn opened(pair: &Pair) -> Result<Actor> {
    pair.joseph.shell(FILES)?;
    let mut actor = Actor::start(&pair.alonzo)?;
    for (name, how) in [("data", "direct"), ("page", "r"), ("out", "w")] {
        actor.must(&format!("open {name} {how} {THERE}/{name}"), "ok")?;
    }
    actor.must("read data 8 7", "ok 0000001")?;
    actor.must("read page 0 7", "ok 0000000")?;
    actor.must("write out 5 -before", "ok 7")?;
    Ok(actor)
}

fn cable(node: &Node, state: &str) -> Result<()> {
    node.shell(&format!("ip link set eth0 {state}")).map(drop).context("the cable")
}

/// Every use of what was open before gives EHOSTDOWN, or ESTALE for what is asked by name.
fn are_lost(actor: &mut Actor) -> Result<()> {
    for order in
        ["read data 8 7", "read data 400000 7", "read page 600000 7", "write out 30 -lost", "sync out"]
    {
        let said = actor.does(order)?;
        let right = [libc::EHOSTDOWN, libc::ESTALE].iter().any(|errno| said == format!("errno {errno}"));
        ensure!(right, "{order}: {said}");
    }
    Ok(())
}

/// Waits until a new open works, and finds what is there.
fn opens_anew(actor: &mut Actor, expected: &str) -> Result<()> {
    let order = format!("open new direct {THERE}/data");
    eventually("a new open", || actor.does(&order).is_ok_and(|said| said == "ok"))?;
    actor.must("read new 8 7", expected)?;
    actor.must(&format!("open new-out w {THERE}/out"), "ok")?;
    actor.must("write new-out 12 -after", "ok 6")
}

/// A cable is away for longer than a session lasts.
pub(crate) fn long() -> Result<()> {
    let pair = nodes(&["tx_retries=15"])?;
    for node in [&pair.joseph, &pair.alonzo] {
        let mut reader = opened(&pair)?;
        let mut writer = opened(&pair)?;
        cable(node, "down")?;
        reader.tell("read data 8 7")?;
        writer.tell("write out 30 -lost")?;
        for actor in [&mut reader, &mut writer] {
            let said = actor.hears()?;
            ensure!(said == format!("errno {}", libc::EHOSTDOWN), "who waits is told: {said}");
        }
        cable(node, "up")?;
        opens_anew(&mut reader, "ok 0000001")?;
        are_lost(&mut reader)?;
        are_lost(&mut writer)?;
        let out = pair.joseph.shell("cat /lab/wire/out")?;
        ensure!(out == "begin-before-after", "{out:?}");
    }
    Ok(())
}

/// A cable is away for a while, and the session is not: whoever waits goes on as if nothing had been.
pub(crate) fn short() -> Result<()> {
    // However slow the machine is, the session lasts.
    let pair = nodes(&["tx_retries=1000", "conn_up_idle=5000"])?;
    for node in [&pair.joseph, &pair.alonzo] {
        let mut reader = opened(&pair)?;
        let mut writer = opened(&pair)?;
        cable(node, "down")?;
        reader.tell("read data 400000 7")?;
        writer.tell("write out 12 -during")?;
        eventually("some seconds of silence", || silence(&pair.alonzo).is_ok_and(|seconds| seconds > 3.0))?;
        cable(node, "up")?;
        ensure!(reader.hears()? == "ok 0050000" && writer.hears()? == "ok 7");
        reader.must("read page 600000 7", "ok 0075000")?;
        writer.must("sync out", "ok")?;
        writer.must("close out", "ok")?;
        let out = pair.joseph.shell("cat /lab/wire/out")?;
        ensure!(out == "begin-before-during", "{out:?}");
    }
    Ok(())
}

/// How long joseph has not been heard of.
fn silence(node: &Node) -> Result<f64> {
    let text = node.shell("qnetstats")?;
    let (_, heard) = text.split_once("; heard ").context("when it was heard")?;
    let (number, unit) = heard.split_once(' ').context("a unit")?;
    ensure!(unit.starts_with("s ago"), "it was heard {number} {unit}");
    Ok(number.parse()?)
}

/// A node starts anew, and other files have the names, and the inode numbers, of those that were open.
pub(crate) fn reboot() -> Result<()> {
    let pair = nodes(&[])?;
    let joseph = &pair.joseph;
    let mut actor = opened(&pair)?;
    let daemon = joseph.daemon().context("io-pkt runs")?;
    kill(Pid::from_raw(daemon.pid), Signal::SIGKILL)?;
    eventually("the end of io-pkt", || !daemon.is_alive() && joseph.shell("pgrep -x qnet-server").is_err())?;
    // Without anybody who has it open the file is gone with its name.
    joseph.shell("cd /lab/wire; rm data page out; seq -f X%06.0f 0 99999 >data; seq -f Y%06.0f 0 99999 >page; printf other-and-new >out")?;
    joseph.start(&joseph.usual_start(&["mapany=off".to_owned()]))?;
    let order = format!("open new direct {THERE}/data");
    eventually("a new open", || actor.does(&order).is_ok_and(|said| said == "ok"))?;
    // What they cache, nobody may find who means the files that were.
    actor.must(&format!("open new-page r {THERE}/page"), "ok")?;
    actor.must("read new 8 7", "ok X000001")?;
    actor.must("read new-page 600000 7", "ok Y075000")?;
    are_lost(&mut actor)?;
    actor.must("read new-page 0 7", "ok Y000000")?;
    ensure!(joseph.shell("cat /lab/wire/out")? == "other-and-new", "nobody has written to it");
    Ok(())
}
