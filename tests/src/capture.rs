//! What is on a node's wire, judged by stock tshark: a capture from the first frame to the last.

use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_lab::Node;

use crate::eventually;

const CAPTURE: &str = "/tmp/capture.pcap";

/// Captures everything on the node's wire until it is stopped.
#[derive(Debug)]
pub struct Capture<'a> {
    node: &'a Node,
    tshark: Child,
}

impl<'a> Capture<'a> {
    /// Begins.
    ///
    /// # Errors
    /// tshark does not start.
    pub fn start(node: &'a Node) -> Result<Self> {
        let mut command = node.command("tshark");
        command.args(["-q", "-i", "eth0", "-F", "pcap", "-w", CAPTURE]);
        let tshark = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // The file gets its header when the interface is open.
        eventually("the capture", || node.shell(&format!("test -s {CAPTURE}")).is_ok())?;
        Ok(Self { node, tshark })
    }

    /// Ends the capture when a frame that matches `last` is in the file.
    ///
    /// # Errors
    /// There is no such frame in time.
    pub fn stop(mut self, last: &str) -> Result<()> {
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
///
/// # Errors
/// tshark fails.
pub fn ask(node: &Node, args: &str) -> Result<String> {
    Ok(node.shell(&format!("tshark -r {CAPTURE} {args} 2>/dev/null"))?)
}

/// Frames that match a display filter.
///
/// # Errors
/// As [`ask`].
pub fn count(node: &Node, filter: &str) -> Result<usize> {
    Ok(ask(node, &format!("-Y '{filter}'"))?.lines().count())
}

/// Asserts that the capture holds Qnet alone, well formed, each whole packet with its right checksum.
///
/// # Errors
/// It does not.
pub fn is_clean(node: &Node) -> Result<()> {
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
