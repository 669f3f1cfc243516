//! Many files at once: a tree copied both ways while frames are lost and io-pkt is killed, and a large directory.

use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, cases, eventually, has_lost, lose};

/// Size of the tree, how often io-pkt is killed while it is copied, entries of the large directory.
struct Share {
    files: usize,
    kills: usize,
    entries: usize,
}

fn share() -> Share {
    if std::env::var_os("IO_PKT_SOAK").is_some() {
        Share { files: 3000, kills: 60, entries: 1_000_000 }
    } else {
        Share { files: 150, kills: 3, entries: 50_000 }
    }
}

fn pair() -> Result<Pair> {
    Pair::up(&Options { qnet: vec!["mapany=off".to_owned()], ..Options::default() })
}

/// Files of sizes from nothing to some megabytes, in directories some levels deep.
fn make_tree(node: &Node, at: &str, files: usize) -> Result<()> {
    node.shell(&format!(
        "for i in $(seq {files}); do d={at}/$((i % 7))/$((i % 5))/$((i % 3)); mkdir -p $d; \
         head -c $(( (i * i * 7919) % 60000 * (i % 4) )) /dev/urandom >$d/file$i; chmod $((400 + i % 8 * 11)) $d/file$i; \
         ln -s file$i $d/link$i; done; head -c 5000000 /dev/urandom >{at}/large"
    ))?;
    Ok(())
}

/// Names, types, permissions, sizes and sums of a tree.
fn known(node: &Node, at: &str) -> Result<String> {
    Ok(node.shell(&format!(
        "cd {at} && find . -printf '%p %y %m %l\\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum"
    ))?)
}

/// Copies a tree again and again until all of it is there: every error ends a round.
fn copier(node: &Node, from: &str, to: &str) -> Result<Child> {
    let line = format!(
        "for round in $(seq 2000); do rsync -a --delete --whole-file {from}/ {to}/ && exit 0; sleep 0.05; done; exit 1"
    );
    let mut command = node.command("sh");
    command.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?)
}

fn kill_and_start(node: &Node) -> Result<()> {
    let daemon = node.daemon().context("io-pkt runs")?;
    kill(Pid::from_raw(daemon.pid), Signal::SIGKILL)?;
    eventually("the end of io-pkt", || !daemon.is_alive())?;
    node.start(&node.usual_start(&["mapany=off".to_owned()])).context("a start after a crash")?;
    Ok(())
}

fn a_tree_is_copied_both_ways_under_loss_and_restarts() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    let Share { files, kills, .. } = share();
    make_tree(alonzo, "/tmp/tree", files)?;
    let right = known(alonzo, "/tmp/tree")?;
    for node in [alonzo, joseph] {
        lose(node, 5)?;
    }
    for (from, to, seen) in [
        ("/tmp/tree", "/net/joseph/tmp/there", (joseph, "/tmp/there")),
        ("/net/joseph/tmp/there", "/tmp/back", (alonzo, "/tmp/back")),
    ] {
        let mut copier = copier(alonzo, from, to)?;
        let count = || seen.0.shell(&format!("find {} -type f | wc -l", seen.1));
        for round in 0..kills {
            let before = count()?;
            eventually("files are copied", || {
                count().is_ok_and(|now| now != before)
                    || copier.try_wait().is_ok_and(|status| status.is_some())
            })?;
            kill_and_start(if round % 2 == 0 { joseph } else { alonzo })?;
        }
        // The last round finds nothing that is missing or different.
        let status = copier.wait()?;
        ensure!(status.success(), "{from} to {to}: {status}");
        let copied = known(seen.0, seen.1)?;
        let differs = copied.lines().zip(right.lines()).find(|(copied, right)| copied != right);
        ensure!(copied == right, "{from} to {to}: {differs:?}");
    }
    ensure!(has_lost(alonzo)? && has_lost(joseph)?, "no frame was lost");
    Ok(())
}

fn a_directory_of_many_entries_is_listed_and_emptied() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    let entries = share().entries;
    joseph.shell(&format!(
        "mkdir /tmp/many && cd /tmp/many && seq -f 'an-entry-with-a-name-of-some-length-%.0f' {entries} | xargs -n 5000 touch"
    ))?;
    let list = |node: &Node, at: &str| {
        node.shell(&format!("ls -U {at} | LC_ALL=C sort | md5sum; ls -U {at} | wc -l"))
    };
    let ours = list(joseph, "/tmp/many")?;
    let theirs = list(alonzo, "/net/joseph/tmp/many")?;
    ensure!(ours == theirs && theirs.contains(&format!("{entries}\n")), "{ours} is listed as {theirs}");
    let found = alonzo.shell("find /net/joseph/tmp/many -type f | wc -l")?;
    ensure!(found.trim() == entries.to_string(), "find sees {found}");
    let look = |node: &Node, at: &str| {
        node.shell(&format!("cd {at} && find . -printf '%p %s %m %y %T@\\n' | LC_ALL=C sort | md5sum"))
    };
    let (ours, theirs) = (look(joseph, "/tmp/many")?, look(alonzo, "/net/joseph/tmp/many")?);
    ensure!(ours == theirs, "the attributes of all are {ours} there and {theirs} here");
    // What is done with each costs a way there and back.
    let some = entries / 100;
    let found = alonzo
        .shell(&format!("cd /net/joseph/tmp/many && ls -U | tail -{some} | xargs stat -c %s | grep -cx 0"))?;
    ensure!(found.trim() == some.to_string(), "{found} of {some} are found");
    alonzo.shell(&format!("cd /net/joseph/tmp/many && ls -U | head -{some} | xargs rm"))?;
    let left = joseph.shell("ls -U /tmp/many | wc -l")?;
    ensure!(left.trim() == (entries - some).to_string(), "{left} are left");
    Ok(())
}

cases! {
    a_tree_is_copied_both_ways_under_loss_and_restarts: [Need::RootNodes, Need::Fuse, Need::Program("nft"), Need::Program("rsync")],
    a_directory_of_many_entries_is_listed_and_emptied: [Need::RootNodes, Need::Fuse],
}
