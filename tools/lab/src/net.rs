//! The switch and its cables, made with `ip` inside of the lab's own network namespaces.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The bridge in the switch's namespace.
pub(crate) const SWITCH: &str = "switch0";
/// The node's end of its cable.
pub(crate) const PORT: &str = "eth0";
/// The node's TAP device, with `--wire tap`.
pub(crate) const TAP: &str = "tap0";

/// The address of node `number` for programs that compare Qnet with TCP.
pub(crate) fn address(number: usize) -> String {
    format!("10.137.{}.{}", number / 250, number % 250 + 1)
}

/// The MAC address of node `number`.
fn mac(number: usize) -> String {
    format!("02:00:0a:89:{:02x}:{:02x}", (number >> 8) & 0xff, number & 0xff)
}

/// Makes the switch in the present network namespace.
pub(crate) fn make_switch() -> Result<()> {
    quiet();
    ip(&[
        "link set lo up".to_owned(),
        format!("link add {SWITCH} type bridge stp_state 0 mcast_snooping 0 forward_delay 0"),
        format!("link set {SWITCH} addrgenmode none up"),
    ])
}

/// Plugs a cable into the switch of the present network namespace; the other end goes to `holder`.
pub(crate) fn plug(name: &str, number: usize, holder: i32) -> Result<()> {
    // The kernel takes the cable of a node that has ended away in its own time. That there is none is the usual case.
    let _ = ip(&[format!("link delete {name}")]);
    ip(&[
        format!("link add {name} type veth peer name {PORT} address {} netns {holder}", mac(number)),
        format!("link set {name} master {SWITCH} addrgenmode none up"),
    ])
}

/// Prepares the present network namespace to be a node's.
pub(crate) fn prepare_node() -> Result<()> {
    quiet();
    ip(&["link set lo up".to_owned()])
}

/// Brings the node's end of the cable up, after `plug`.
pub(crate) fn connect_node(number: usize, tap: bool) -> Result<()> {
    let mut lines = vec![format!("link set {PORT} up")];
    let mut holds_address = PORT;
    if tap {
        holds_address = "cable0";
        lines.extend([
            format!("tuntap add dev {TAP} mode tap"),
            "link add cable0 type bridge stp_state 0 mcast_snooping 0 forward_delay 0".to_owned(),
            format!("link set {PORT} master cable0"),
            format!("link set {TAP} master cable0 up"),
            "link set cable0 up".to_owned(),
        ]);
    }
    lines.push(format!("address add {}/16 dev {holds_address}", address(number)));
    ip(&lines)
}

/// Keeps Linux from talking IPv6 on the wire by itself, where it lets us.
fn quiet() {
    for which in ["all", "default"] {
        // Without IPv6 in the kernel there is no such file, and nothing to keep quiet.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
    }
}

fn ip(lines: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip (package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.join("\n").as_bytes()).context("ip -batch")?;
    }
    let output = child.wait_with_output().context("ip -batch")?;
    if !output.status.success() {
        bail!("ip {}: {}", lines.join("; ip "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
