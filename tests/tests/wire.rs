//! What is on the wire, judged by stock tshark: a capture from the first frame to the last.
//!
//! The commands are those of the wire format's reference: every frame decodes as Qnet, none is
//! malformed, every checksum is right, and the fields say what was sent.

use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_lab::Node;
use system_tests::{Need, Pair, cases, eventually};

const CAPTURE: &str = "/tmp/capture.pcap";

/// Captures everything on the node's wire until it is stopped.
struct Capture<'a> {
    node: &'a Node,
    tshark: Child,
}

impl<'a> Capture<'a> {
    fn start(node: &'a Node) -> Result<Self> {
        let mut command = node.command("tshark");
        command.args(["-q", "-i", "eth0", "-F", "pcap", "-w", CAPTURE]);
        let tshark = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // The file gets its header when the interface is open.
        eventually("the capture", || node.shell(&format!("test -s {CAPTURE}")).is_ok())?;
        Ok(Self { node, tshark })
    }

    /// Ends the capture when everything seen so far is in the file.
    fn stop(mut self, last: &str) -> Result<()> {
        eventually(&format!("`{last}` in the capture"), || {
            count(self.node, last).is_ok_and(|count| count > 0)
        })?;
        let dumpcap = self.node.shell("pgrep -x dumpcap || pgrep -x tshark")?;
        self.node.shell(&format!("kill -INT {}", dumpcap.lines().next().context("dumpcap")?))?;
        eventually("the end of tshark", || self.tshark.try_wait().is_ok_and(|status| status.is_some()))
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.tshark.id()) {
            // It has ended already when all went well.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = self.tshark.wait();
        }
    }
}

/// Asks tshark about the capture.
fn ask(node: &Node, args: &str) -> Result<String> {
    Ok(node.shell(&format!("tshark -r {CAPTURE} {args} 2>/dev/null"))?)
}

/// Frames that match a display filter.
fn count(node: &Node, filter: &str) -> Result<usize> {
    Ok(ask(node, &format!("-Y '{filter}'"))?.lines().count())
}

/// Two nodes find each other, one reads a file of the other, all of it captured on alonzo.
fn exchange() -> Result<Pair> {
    let pair = Pair::bare()?;
    {
        let Pair { alonzo, joseph, .. } = &pair;
        let capture = Capture::start(alonzo)?;
        joseph.shell("head -c 40000 /dev/urandom >/tmp/file")?;
        let options = ["do_crc=1".to_owned()];
        joseph.start(&joseph.usual_start(&options))?;
        alonzo.start(&alonzo.usual_start(&options))?;
        eventually("joseph in /net", || alonzo.shell("ls /net").is_ok_and(|names| names.contains("joseph")))?;
        ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n");
        alonzo.shell("qnet-ping -q -c 3 -i 0.01 -W 10 joseph")?;
        let (here, there) =
            (alonzo.shell("md5sum </net/joseph/tmp/file")?, joseph.shell("md5sum </tmp/file")?);
        ensure!(here == there);
        let daemon = alonzo.daemon().context("io-pkt runs")?;
        kill(Pid::from_raw(daemon.pid), Signal::SIGTERM)?;
        eventually("the end of io-pkt", || !daemon.is_alive())?;
        capture.stop("qnet6.kif.msgsend.msg.connect.path == \"tmp/file\"")?;
    }
    Ok(pair)
}

fn every_frame_is_clean_qnet() -> Result<()> {
    let pair = exchange()?;
    let node = &pair.alonzo;
    let all = count(node, "frame")?;
    ensure!(all > 20, "{all} frames");
    for filter in ["!lwl4", "_ws.malformed || _ws.expert"] {
        let found = ask(node, &format!("-Y '{filter}'"))?;
        ensure!(found.is_empty(), "{filter}:\n{found}");
    }
    let whole = count(node, "qnet6.l4.flags.first == 1 && qnet6.l4.flags.last == 1")?;
    let verdicts = ask(node, "-V -O lwl4")?;
    let right =
        verdicts.lines().filter(|line| line.contains("crc32:0x") && line.contains("[correct]")).count();
    let wrong: Vec<&str> =
        verdicts.lines().filter(|line| line.contains("crc32:") && line.contains("incorrect")).collect();
    ensure!(wrong.is_empty() && whole > 0 && right == whole, "{right} right of {whole}, wrong: {wrong:?}");
    Ok(())
}

fn fields_say_what_was_sent() -> Result<()> {
    let pair = exchange()?;
    let node = &pair.alonzo;
    for (what, filter) in [
        ("an announcement or request", "lr && eth.dst == ff:ff:ff:ff:ff:ff"),
        ("a session", "qos"),
        ("a connect", "qnet6.kif.type == 0 || qnet6.kif.type == 1"),
        ("its success", "qnet6.kif.type == 2"),
        ("an open", "qnet6.kif.msgsend.msg.type == 0x100"),
        ("the path of the first file", "qnet6.kif.msgsend.msg.connect.path == \"etc/hostname\""),
        ("the path of the second file", "qnet6.kif.msgsend.msg.connect.path == \"tmp/file\""),
        ("a read", "qnet6.kif.msgsend.msg.type == 0x101"),
        ("a close", "qnet6.kif.msgsend.msg.type == 0x116"),
    ] {
        ensure!(count(node, filter)? > 0, "{what}: no frame matches {filter}\n{}", ask(node, "")?);
    }
    let names = ask(node, "-Y lr -V -O lwl4,lr")?;
    ensure!(names.contains("alonzo") && names.contains("joseph"), "{names}");
    Ok(())
}

cases! {
    every_frame_is_clean_qnet: [Need::RootNodes, Need::Fuse, Need::Program("tshark")],
    fields_say_what_was_sent: [Need::RootNodes, Need::Fuse, Need::Program("tshark")],
}
