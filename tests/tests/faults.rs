//! Real faults under a reader: frames lost on the wire, cables pulled, io-pkt killed on either side.
//!
//! What a read gives is the file or an error, never anything else: every file that is read is compared
//! with its sum. Frames are lost where they leave a node, by nftables.

use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, cases, eventually, has_lost, lose};

/// Files that are read, one after the other, and their size in KiB.
const FILES: usize = 3;
const KIB: usize = 700;

/// How often something is killed or pulled.
fn rounds(usual: usize, many: usize) -> usize {
    if std::env::var_os("IO_PKT_SOAK").is_some() { many } else { usual }
}

/// Numbers without a pattern that a protocol could fall in step with; the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Makes the files on `node`; gives their sums.
fn files(node: &Node) -> Result<Vec<String>> {
    let make = format!("for i in $(seq {FILES}); do head -c {KIB}K /dev/urandom >/tmp/file$i; done");
    node.shell(&make)?;
    let sums = node.shell(&format!("cd /tmp; md5sum $(seq -f file%g {FILES})"))?;
    Ok(sums.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// A process that reads the files again and again, and writes down the sum of each.
struct Reader<'a> {
    node: &'a Node,
    sums: Vec<String>,
    child: Child,
}

impl<'a> Reader<'a> {
    fn start(node: &'a Node, other: &str, sums: Vec<String>) -> Result<Self> {
        let line = format!(
            "while [ ! -e /tmp/stop ]; do for i in $(seq {FILES}); do \
             md5sum /net/{other}/tmp/file$i >>/tmp/sums 2>>/tmp/errors || sleep 0.02; done; done"
        );
        node.shell(": >/tmp/sums; rm -f /tmp/stop")?;
        let mut command = node.command("sh");
        command.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { node, sums, child: command.spawn().context("the reader")? })
    }

    /// Files read so far; all of them must have been right.
    fn right(&self) -> Result<usize> {
        let text = self.node.shell("cat /tmp/sums")?;
        let mut count = 0;
        for line in text.lines() {
            // The last one may be half written.
            let Some((sum, path)) = line.split_once("  ") else { continue };
            let Some(number) = path.rsplit("file").next().and_then(|n| n.parse::<usize>().ok()) else {
                continue;
            };
            ensure!(self.sums.get(number - 1).is_some_and(|right| right == sum), "wrong data: {line}");
            count += 1;
        }
        Ok(count)
    }

    /// Waits until `more` further files were read.
    fn goes_on(&self, what: &str, more: usize) -> Result<()> {
        let before = self.right()?;
        eventually(what, || self.right().is_ok_and(|now| now >= before + more))?;
        self.right().map(drop)
    }

    fn stop(mut self) -> Result<usize> {
        self.node.shell("touch /tmp/stop")?;
        self.child.wait().context("the reader's end")?;
        self.right()
    }
}

fn files_are_read_and_written_right_on_a_lossy_wire() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options::default())?;
    let sums = files(joseph)?;
    for node in [alonzo, joseph] {
        lose(node, 10)?;
    }
    let reader = Reader::start(alonzo, "joseph", sums)?;
    reader.goes_on("files read on a lossy wire", FILES * 2)?;
    ensure!(reader.stop()? >= FILES * 2);
    for node in [alonzo, joseph] {
        ensure!(has_lost(node)?, "nothing was lost");
    }
    Ok(())
}

fn a_cable_that_is_pulled_and_put_back_damages_nothing() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options::default())?;
    let reader = Reader::start(alonzo, "joseph", files(joseph)?)?;
    let mut dice = Dice(1);
    for round in 0..rounds(3, 50) {
        reader.goes_on("files before the cable is pulled", 1 + dice.below(2) as usize)?;
        let node = if dice.below(2) == 0 { alonzo } else { joseph };
        node.shell("ip link set eth0 down")?;
        // While nothing gets through, a read that is under way waits or fails.
        reader.right()?;
        node.shell("ip link set eth0 up")?;
        reader.goes_on(&format!("files after cable {round} was put back"), 1)?;
    }
    reader.stop().map(drop)
}

fn an_io_pkt_that_is_killed_under_a_reader_damages_nothing() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options::default())?;
    let reader = Reader::start(alonzo, "joseph", files(joseph)?)?;
    let mut dice = Dice(2);
    for round in 0..rounds(4, 200) {
        reader.goes_on("files before io-pkt is killed", dice.below(3) as usize)?;
        let node = if dice.below(2) == 0 { alonzo } else { joseph };
        let daemon = node.daemon().context("io-pkt runs")?;
        kill(Pid::from_raw(daemon.pid), Signal::SIGKILL)?;
        eventually("the end of io-pkt", || !daemon.is_alive())?;
        node.start(&node.usual_start(&[])).context("a start after a crash")?;
        reader.goes_on(&format!("files after kill {round} (of {})", node.name()), 1)?;
    }
    reader.stop().map(drop)
}

cases! {
    files_are_read_and_written_right_on_a_lossy_wire: [Need::RootNodes, Need::Fuse],
    a_cable_that_is_pulled_and_put_back_damages_nothing: [Need::RootNodes, Need::Fuse],
    an_io_pkt_that_is_killed_under_a_reader_damages_nothing: [Need::RootNodes, Need::Fuse],
}
