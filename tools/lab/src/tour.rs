//! `qnet-lab tour`: the main job shown on two nodes, with every command as it is typed.
//!
//! The tour has a lab of its own, which ends with it, and never meets a lab that is up. What stands
//! behind a prompt really runs; the tour fails when one of the commands does.

use std::io::{self, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use qnet_lab::{Abilities, Isolation, Lab, Lack, Node, Options, Wire, wait};

/// For two nodes to find each other on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Shows the tour.
pub(crate) fn tour(options: &Options) -> Result<()> {
    let start = Instant::now();
    let abilities = Abilities::probe()?;
    let isolation = options.isolation.unwrap_or(abilities.isolation);
    let wire = format!("{:?}", options.wire).to_lowercase();
    say(&format!("Two nodes of a Qnet network on this machine, joined by --wire {wire}."))?;
    let lab = Lab::temporary()?;
    let nodes = lab.up(2, &Options { start: true, ..options.clone() })?;
    let [alonzo, joseph] = &nodes[..] else { bail!("two nodes were asked for, {} came up", nodes.len()) };
    say(match isolation {
        Isolation::Namespaces => "Each has its own network, file system, processes and host name.",
        Isolation::UserNamespaces => {
            "Each has its own network, file system, processes and host name. Without root a node cannot\n\
             become `nobody` for its remote callers, so the nodes run with mapany=0: they serve as you."
        }
        Isolation::Roots => "They share this machine's file system; each has a folder for its own names.",
    })?;
    for node in [alonzo, joseph] {
        say(&format!("\n{}# io-pkt {} &", node.name(), node.usual_start(&options.qnet).args.join(" ")))?;
    }
    interface(alonzo)?;
    let shown = match &abilities.no_fuse {
        None => network(alonzo, joseph),
        Some(lack) => messages(alonzo, joseph, lack),
    };
    let modules = modules(alonzo, options.wire);
    // Both are told, the first lack is the tour's.
    if shown.is_err() || modules.is_err() {
        for node in [alonzo, joseph] {
            eprintln!("--- {} said:\n{}", node.name(), node.log().trim_end());
        }
    }
    shown.and(modules)?;
    lab.down()?;
    say(&format!("\nThe nodes are gone, nothing is left behind. {:.1} s.", start.elapsed().as_secs_f64()))
}

fn interface(alonzo: &Node) -> Result<()> {
    say("\nThe interface that io-pkt made, as QNX shows it:")?;
    typed(alonzo, &format!("waitfor {}/en0", alonzo.devices()))?;
    typed(alonzo, "nicinfo -c en0")
}

fn network(alonzo: &Node, joseph: &Node) -> Result<()> {
    say("\nThe other node appears in the network directory by itself:")?;
    let net = alonzo.net();
    typed(alonzo, &format!("waitfor {net}"))?;
    wait::until(&format!("{} in {net}", joseph.name()), PATIENCE, || {
        let names = alonzo.shell(&format!("ls {net}")).ok()?;
        names.lines().any(|name| name == joseph.name()).then_some(())
    })?;
    typed(alonzo, &format!("ls {net}"))?;
    say("\nIts files are ordinary files, from both sides:")?;
    typed(alonzo, &format!("cat {net}/{}/etc/hostname", joseph.name()))?;
    typed(joseph, &format!("cat {}/{}/etc/hostname", joseph.net(), alonzo.name()))?;
    typed(alonzo, &format!("grep Pid {net}/{}/proc/1/status", joseph.name()))
}

/// Without FUSE there is no network directory; Qnet carries the same messages for programs that speak them.
fn messages(alonzo: &Node, joseph: &Node, lack: &Lack) -> Result<()> {
    say(&format!("\nNo network directory can be shown here: {}.\nTo have one, {}", lack.what, lack.cure))?;
    say("A program that speaks Qnet's messages itself reads the other node's files without it:")?;
    typed(alonzo, &format!("qnet-lab read {} /etc/hostname", joseph.name()))?;
    typed(joseph, &format!("qnet-lab read {} /etc/hostname", alonzo.name()))?;
    typed(alonzo, &format!("qnet-lab read {} /proc/1/status | grep Pid", joseph.name()))
}

fn modules(alonzo: &Node, wire: Wire) -> Result<()> {
    say("\nDrivers come and go while io-pkt runs:")?;
    let devices = alonzo.devices();
    let second = if wire == Wire::Segment { "path=/tmp/other" } else { "path=/tmp/segment" };
    let second = second.replace("/tmp", &alonzo.scratch());
    typed(alonzo, &format!("mount -T io-pkt -o {second} devn-segment.so"))?;
    typed(alonzo, &format!("ls {devices}"))?;
    typed(alonzo, "pidin -P io-pkt mem")?;
    typed(alonzo, &format!("umount {devices}/en1"))?;
    typed(alonzo, &format!("ls {devices}"))
}

/// Runs a line in the node, shown as it would stand on a terminal.
fn typed(node: &Node, line: &str) -> Result<()> {
    say(&format!("{}# {line}", node.name()))?;
    let mut command = node.command("sh");
    let output = command.args(["-c", line]).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| line.to_owned())?;
    io::stdout().write_all(&output.stdout)?;
    if !output.status.success() {
        bail!("{}: {line}: {}", node.name(), output.status);
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
