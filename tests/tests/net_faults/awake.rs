//! Helpers that stand still (SIGSTOP): io-pkt, messages and other nodes' files go on meanwhile.

use anyhow::{Result, ensure};
use qnet_lab::{Lab, Node, Options};
use system_tests::eventually;

use super::{Job, pair};

/// Seconds in which whatever is not concerned is done: ten times what it may take.
const BOUND: u32 = 30;
/// Processes that ask the node whose server stands still for something.
const READERS: usize = 100;
/// Processes that write a megabyte each to it.
const WRITERS: usize = 16;

/// Runs `line`, which concerns nobody who stands still.
fn goes_on(node: &Node, line: &str) -> Result<String> {
    use anyhow::Context as _;
    let said = node.shell(&format!("timeout {BOUND} sh -c '{line}'"));
    said.with_context(|| format!("{} was held up: {line}", node.name()))
}

fn signal(node: &Node, signal: &str, helper: &str) -> Result<()> {
    node.shell(&format!("kill -{signal} $(pgrep -x {helper})"))?;
    Ok(())
}

/// Waits until processes of these names wait for `/net`.
fn wait_in_net(node: &Node, name: &str, count: usize) -> Result<()> {
    let waiting =
        format!("for pid in $(pgrep -x {name}); do grep -l fuse /proc/$pid/stack; done 2>/dev/null | wc -l");
    eventually(&format!("{count} times {name} that waits"), || {
        node.shell(&waiting).is_ok_and(|found| found.trim().parse().is_ok_and(|found: usize| found >= count))
    })
}

/// The file system of a node stands still, and io-pkt, which is to mount a module that lies below it, does not.
pub(crate) fn file_system() -> Result<()> {
    let pair = pair()?;
    let (alonzo, joseph) = (&pair.alonzo, &pair.joseph);
    joseph.shell(
        "cp /lab/programs/libdevn_segment.so /tmp/devn-far.so && head -c 3000000 /dev/urandom >/tmp/big",
    )?;
    alonzo.shell("cat /net/joseph/etc/hostname; cp /net/joseph/tmp/big /tmp/big")?;
    signal(alonzo, "STOP", "qnet-netfs")?;
    let mut reader = Job::start(alonzo, "exec cat /net/joseph/etc/hostname >/tmp/read")?;
    let mut mount =
        Job::start(alonzo, "exec mount -T io-pkt -o path=/tmp/segment /net/joseph/tmp/devn-far.so")?;
    wait_in_net(alonzo, "cat", 1)?;
    for line in ["qnet-ping -q -c 20 -i 0.01 -W 10 joseph", "nicinfo", "pidin mem", "pidin net", "qnetstats"]
    {
        goes_on(alonzo, line)?;
    }
    ensure!(!mount.has_ended() && !reader.has_ended(), "they wait for the file system");
    goes_on(joseph, "cmp /net/alonzo/tmp/big /tmp/big && echo new >/net/alonzo/tmp/new")?;
    signal(alonzo, "CONT", "qnet-netfs")?;
    reader.ends("the reader")?;
    mount.ends("the mount")?;
    ensure!(alonzo.shell("cat /tmp/read")? == "joseph\n");
    ensure!(alonzo.shell("nicinfo")?.contains("en1"), "the module was mounted in the end");
    Ok(())
}

/// The server of a node stands still, with more than a hundred requests before it, small and large.
pub(crate) fn server() -> Result<()> {
    let lab = Lab::temporary()?;
    let nodes = lab.up(3, &Options { qnet: vec!["mapany=off".to_owned()], ..Options::default() })?;
    let [here, still, well] = nodes.as_slice() else { anyhow::bail!("{} nodes", nodes.len()) };
    for node in [still, well] {
        node.shell("head -c 3000000 /dev/urandom >/tmp/big && mkdir /tmp/d")?;
        eventually("a file", || here.shell(&format!("cp /net/{}/tmp/big /tmp/big", node.name())).is_ok())?;
    }
    let (stands, still, well) = (still, still.name(), well.name());
    let mut writers = Job::start(
        here,
        &format!(
            "for i in $(seq {WRITERS}); do (exec 3>/net/{still}/tmp/d/$i; : >/tmp/open$i; while [ ! -e /tmp/go ]; do sleep 0.05; done; \
             exec dd if=/dev/zero bs=1M count=1 >&3) & done; wait"
        ),
    )?;
    eventually("open files", || {
        here.shell(&format!("ls /tmp/open{WRITERS} && ls /tmp/open* | wc -l"))
            .is_ok_and(|found| found.ends_with(&format!("\n{WRITERS}\n")))
    })?;
    signal(stands, "STOP", "qnet-server")?;
    here.shell("touch /tmp/go")?;
    let line = format!("for i in $(seq {READERS}); do cat /net/{still}/tmp/none$i & done; wait");
    let mut readers = Job::start(here, &line)?;
    wait_in_net(here, "cat", READERS)?;
    wait_in_net(here, "dd", WRITERS)?;
    for line in [
        format!("cmp /net/{well}/tmp/big /tmp/big"),
        format!(
            "ls -l /net/{well}/tmp && cp /tmp/big /net/{well}/tmp/d && cmp /tmp/big /net/{well}/tmp/d/big"
        ),
        format!("cat /net/{}/etc/hostname", here.name()),
        "ls /net && df && nicinfo && qnetstats".to_owned(),
        // That node's io-pkt answers, and the messages of others pass by.
        format!("qnet-ping -q -c 20 -i 0.01 -W 10 {still}"),
    ] {
        goes_on(here, &line)?;
    }
    goes_on(stands, &format!("cmp /net/{well}/tmp/big /net/{}/tmp/big", here.name()))?;
    ensure!(!writers.has_ended() && !readers.has_ended(), "those who ask that node wait");
    signal(stands, "CONT", "qnet-server")?;
    readers.ends("the readers")?;
    writers.ends("the writers")?;
    let written = stands.shell(&format!("cat $(seq -f /tmp/d/%.0f {WRITERS}) | wc -c"))?;
    ensure!(written.trim() == (WRITERS << 20).to_string(), "{written} bytes");
    Ok(())
}
