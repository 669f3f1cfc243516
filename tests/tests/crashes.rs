//! What is killed comes back, what ends cleans up, and nobody waits for ever.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_lab::{Node, Options, Process};
use system_tests::{Need, Pair, cases, eventually};

fn up() -> Result<Pair> {
    Pair::up(&Options::default())
}

/// Ends the node's io-pkt with `signal` and waits for its end.
fn end(node: &Node, signal: Signal) -> Result<Process> {
    let daemon = node.daemon().context("io-pkt runs")?;
    kill(Pid::from_raw(daemon.pid), signal)?;
    eventually("the end of io-pkt", || !daemon.is_alive())?;
    Ok(daemon)
}

/// The number of a program inside of the node, when exactly one runs.
fn one(node: &Node, program: &str) -> Result<String> {
    let pids = node.shell(&format!("pgrep -x {program}"))?;
    ensure!(pids.lines().count() == 1, "{program}: {pids}");
    Ok(pids.trim().to_owned())
}

fn reads(node: &Node, other: &str) -> bool {
    node.shell(&format!("cat /net/{other}/etc/hostname")).is_ok_and(|name| name == format!("{other}\n"))
}

fn a_crash_of_io_pkt_leaves_net_mounted() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    let netfs = one(alonzo, "qnet-netfs")?;
    end(alonzo, Signal::SIGKILL)?;
    let mount = alonzo.shell("grep -c ' /net .* - fuse.qnet ' /proc/self/mountinfo")?;
    ensure!(mount == "1\n" && one(alonzo, "qnet-netfs")? == netfs, "/net outlives the crash");
    alonzo.start(&alonzo.usual_start(&[])).context("a start after a crash")?;
    eventually("joseph after the restart", || reads(alonzo, "joseph"))?;
    // The new one's stands by.
    let server = alonzo.shell("head -qn 1 /run/io-pkt/netfs-*.pid")?;
    ensure!(server.trim() == netfs, "the living file system is taken over, not replaced by {server}");
    ensure!(alonzo.shell("ls /dev/io-net")? == "en0\n", "names of the dead one are gone");
    Ok(())
}

fn a_file_system_that_was_taken_over_is_replaced_when_it_dies() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    let old = one(alonzo, "qnet-netfs")?;
    end(alonzo, Signal::SIGKILL)?;
    alonzo.start(&alonzo.usual_start(&[])).context("a start after a crash")?;
    eventually("joseph after the restart", || reads(alonzo, "joseph"))?;
    alonzo.shell(&format!("kill -9 {old}"))?;
    eventually("joseph by way of another qnet-netfs", || reads(alonzo, "joseph"))?;
    end(alonzo, Signal::SIGTERM)?;
    nothing_is_left(alonzo)
}

fn an_end_right_after_a_restart_leaves_nothing() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    for _ in 0..5 {
        end(alonzo, Signal::SIGKILL)?;
        alonzo.start(&alonzo.usual_start(&[])).context("a start after a crash")?;
        // Its own qnet-netfs may not even know yet that the old one lives.
        end(alonzo, Signal::SIGTERM)?;
        nothing_is_left(alonzo)?;
        alonzo.start(&alonzo.usual_start(&[])).context("a start after an end")?;
        eventually("/net after a start", || {
            alonzo.shell("grep -c fuse.qnet /proc/self/mountinfo").is_ok_and(|count| count == "1\n")
        })?;
    }
    Ok(())
}

/// No process, no name, no mount. One that has ended and waits for the node's first process to notice is none.
fn nothing_is_left(node: &Node) -> Result<()> {
    let left = node.shell(
        "pgrep -r D,R,S,T -l 'io-pkt|qnet' | grep -v qnet-lab; ls -d /dev/io-net; ls -A /run/io-pkt; true",
    )?;
    ensure!(left.is_empty(), "{left}");
    let mounts = node.shell("grep -c fuse.qnet /proc/self/mountinfo; true")?;
    ensure!(mounts == "0\n", "{mounts}");
    Ok(())
}

fn any_start_after_a_crash_puts_the_interface_back() -> Result<()> {
    let Pair { alonzo, .. } = &Pair::bare()?;
    let settings = || alonzo.shell("ethtool -k eth0; cat /sys/class/net/eth0/mtu");
    let before = settings()?;
    alonzo.start(&alonzo.usual_start(&[]))?;
    ensure!(settings()? != before, "io-pkt switches offloads off");
    end(alonzo, Signal::SIGKILL)?;
    // The new one has no use for the interface.
    alonzo.shell("io-pkt --background -d segment path=/tmp/segment")?;
    ensure!(settings()? == before, "as it was before the first start");
    ensure!(alonzo.shell("ls /run/io-pkt | grep -c undo; true")? == "0\n");
    Ok(())
}

fn the_other_node_survives_a_crash_here() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    ensure!(reads(joseph, "alonzo"));
    end(alonzo, Signal::SIGKILL)?;
    alonzo.start(&alonzo.usual_start(&[]))?;
    eventually("alonzo seen from joseph", || reads(joseph, "alonzo"))
}

fn helpers_that_die_are_started_again() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    for (node, program) in [(joseph, "qnet-server"), (alonzo, "qnet-netfs")] {
        let old = one(node, program)?;
        node.shell(&format!("kill -9 {old}"))?;
        eventually(&format!("another {program}"), || one(node, program).is_ok_and(|new| new != old))?;
        eventually(&format!("files after the death of {program}"), || reads(alonzo, "joseph"))?;
    }
    Ok(())
}

fn a_clean_end_leaves_nothing() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    end(alonzo, Signal::SIGTERM)?;
    nothing_is_left(alonzo)?;
    alonzo.start(&alonzo.usual_start(&[])).context("a start after a clean end")?;
    eventually("joseph after the restart", || reads(alonzo, "joseph"))
}

fn readers_of_a_node_that_dies_get_an_error() -> Result<()> {
    let Pair { alonzo, lab, joseph } = &up()?;
    joseph.shell("head -c 1000000 /dev/zero >/tmp/file")?;
    let mut reader = alonzo.command("sh");
    reader.args(["-c", "while cat /net/joseph/tmp/file >/dev/null; do echo; done"]);
    let mut reader = reader.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    lab.down_node("joseph")?;
    eventually("the reader's error", || reader.try_wait().is_ok_and(|status| status.is_some()))?;
    Ok(())
}

fn a_node_that_starts_anew_is_found_again() -> Result<()> {
    let Pair { alonzo, lab, .. } = &up()?;
    lab.down_node("joseph")?;
    let joseph = lab.up_named(&["joseph".to_owned()], &Options::default())?;
    joseph[0].shell("echo fresh >/tmp/mark")?;
    eventually("the new joseph", || {
        alonzo.shell("cat /net/joseph/tmp/mark").is_ok_and(|mark| mark == "fresh\n")
    })
}

cases! {
    a_crash_of_io_pkt_leaves_net_mounted: [Need::RootNodes, Need::Fuse],
    a_file_system_that_was_taken_over_is_replaced_when_it_dies: [Need::RootNodes, Need::Fuse],
    an_end_right_after_a_restart_leaves_nothing: [Need::RootNodes, Need::Fuse],
    any_start_after_a_crash_puts_the_interface_back: [Need::RootNodes, Need::Fuse],
    the_other_node_survives_a_crash_here: [Need::RootNodes, Need::Fuse],
    helpers_that_die_are_started_again: [Need::RootNodes, Need::Fuse],
    a_clean_end_leaves_nothing: [Need::RootNodes, Need::Fuse],
    readers_of_a_node_that_dies_get_an_error: [Need::RootNodes, Need::Fuse],
    a_node_that_starts_anew_is_found_again: [Need::RootNodes, Need::Fuse],
}
