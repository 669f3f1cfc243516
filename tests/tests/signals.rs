//! `slay -n NODE`: processes of one node, signalled from another, as far as that node lets its callers.

use anyhow::{Context, Result, ensure};
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, cases, eventually};

/// A sleeper of that name as a user of the node; its number.
fn sleeper(node: &Node, name: &str, uid: u32) -> Result<u32> {
    let line = format!(
        "cp /bin/sleep /tmp/{name}; chmod 755 /tmp/{name}; cd /; \
         setpriv --reuid {uid} --regid {uid} --clear-groups /tmp/{name} 1000 >/dev/null 2>&1 & echo $!"
    );
    let pid = node.shell(&line)?.trim().parse().context("a number")?;
    // setpriv has become the sleeper once the process goes by that name.
    let comm = || node.shell(&format!("cat /proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    eventually(&format!("{name} runs"), comm)?;
    Ok(pid)
}

/// Standard output and error of a call, and its exit status at the end.
fn slay(node: &Node, words: &str) -> Result<String> {
    Ok(node.shell(&format!("slay {words} 2>&1; echo $?"))?)
}

fn lives(node: &Node, pid: u32) -> bool {
    node.shell(&format!("grep -q '^State:.[RSD]' /proc/{pid}/status")).is_ok()
}

fn processes_of_another_node_are_signalled_by_name_and_number() -> Result<()> {
    let qnet = vec!["mapany=0".to_owned()];
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options { qnet, ..Options::default() })?;
    let (one, two, other) =
        (sleeper(joseph, "dozer", 0)?, sleeper(joseph, "dozer", 1001)?, sleeper(alonzo, "dozer", 0)?);
    ensure!(slay(alonzo, "-n joseph -p dozer")? == format!("{one}\n{two}\n2\n"));
    ensure!(slay(alonzo, &format!("-n joseph -USR1 {one}"))? == "1\n");
    eventually("the first one ends", || !lives(joseph, one))?;
    let said = slay(alonzo, "-n joseph -f -v -9 dozer")?;
    ensure!(said == format!("dozer: process {two}: SIGKILL\n1\n"), "{said}");
    eventually("the second one ends", || !lives(joseph, two))?;
    ensure!(lives(alonzo, other), "this node's own is another one");
    let said = slay(alonzo, "-n joseph dozer")?;
    ensure!(said.contains("dozer: no such process") && said.ends_with("\n0\n"), "{said}");
    let said = slay(alonzo, "-n joseph 1")?;
    ensure!(said.contains("the system's first process") && said.ends_with("\n0\n"), "{said}");
    let said = slay(alonzo, "-n nosuch dozer")?;
    ensure!(said.contains("-n nosuch: no node answers to that name") && said.ends_with("\n0\n"), "{said}");
    // its own name is this node
    ensure!(slay(alonzo, "-n alonzo dozer")? == "1\n");
    eventually("the own one ends", || !lives(alonzo, other))
}

fn a_node_decides_who_signals_its_processes() -> Result<()> {
    let pair = Pair::start(&Options { start: false, ..Options::default() })?;
    let (alonzo, joseph) = (&pair.alonzo, &pair.joseph);
    let started = |options: &str| -> Result<()> {
        joseph.start(&joseph.usual_start(&[options.to_owned()]))?;
        eventually("joseph in /net", || alonzo.shell("cat /net/joseph/etc/hostname").is_ok())
    };
    alonzo.start(&alonzo.usual_start(&[]))?;
    let (roots, nobodys) = (sleeper(joseph, "rootsleep", 0)?, sleeper(joseph, "nobosleep", 65534)?);
    // With nothing configured nobody may signal, not even its own.
    started("tx_ticks=1")?;
    for name in ["rootsleep", "nobosleep"] {
        let said = slay(alonzo, &format!("-n joseph {name}"))?;
        ensure!(said.contains("Operation not permitted") && said.contains("allow=signal"), "{said}");
        ensure!(said.ends_with("\n0\n"), "{said}");
    }
    ensure!(joseph.log().contains("allow=signal"), "{}", joseph.log());
    slay(joseph, "-f io-pkt")?;
    eventually("joseph's io-pkt ends", || joseph.daemon().is_none())?;
    // With allow=signal it is nobody who sends them.
    started("allow=signal")?;
    let said = slay(alonzo, "-n joseph rootsleep")?;
    ensure!(said.contains("Operation not permitted") && said.ends_with("\n0\n"), "{said}");
    ensure!(slay(alonzo, "-n joseph nobosleep")? == "1\n");
    eventually("nobody's ends", || !lives(joseph, nobodys))?;
    ensure!(lives(joseph, roots), "root's lives on");
    Ok(())
}

cases! {
    processes_of_another_node_are_signalled_by_name_and_number: [
        Need::RootNodes, Need::Fuse, Need::Program("setpriv")
    ],
    a_node_decides_who_signals_its_processes: [Need::RootNodes, Need::Fuse, Need::Program("setpriv")],
}
