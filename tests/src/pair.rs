//! Two nodes that know each other: what most system tests start with.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use qnet_lab::{Lab, Node, Options, wait};

/// For anything that should take less than a second, on a machine that does other work as well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes `alonzo` and `joseph`, which end with this value.
#[derive(Debug)]
pub struct Pair {
    /// The first node.
    pub alonzo: Node,
    /// The second node.
    pub joseph: Node,
    /// Their lab.
    pub lab: Lab,
}

impl Pair {
    /// Two nodes with io-pkt, each seeing the other in `/net`.
    ///
    /// # Errors
    /// They do not come up, or do not see each other in time.
    pub fn up(options: &Options) -> Result<Self> {
        let pair = Self::start(options)?;
        for (node, other) in [(&pair.alonzo, &pair.joseph), (&pair.joseph, &pair.alonzo)] {
            sees(node, other.name())?;
        }
        Ok(pair)
    }

    /// Two nodes as `options` say, without waiting for more.
    ///
    /// # Errors
    /// They do not come up.
    pub fn start(options: &Options) -> Result<Self> {
        let lab = Lab::temporary()?;
        let nodes = lab.up(2, options)?;
        let [alonzo, joseph] =
            <[Node; 2]>::try_from(nodes).map_err(|nodes| anyhow::anyhow!("{} nodes", nodes.len()))?;
        Ok(Self { alonzo, joseph, lab })
    }

    /// Two nodes without io-pkt.
    ///
    /// # Errors
    /// They do not come up.
    pub fn bare() -> Result<Self> {
        Self::start(&Options { start: false, ..Options::default() })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // nextest keeps the output of a test and shows it when the test fails.
        if std::thread::panicking() || std::env::var_os("NEXTEST").is_some() {
            for node in [&self.alonzo, &self.joseph] {
                eprintln!("--- {}\n{}", node.name(), node.log());
            }
        }
    }
}

/// Waits until `/net` of `node` lists `other`.
fn sees(node: &Node, other: &str) -> Result<()> {
    let listed = || node.shell("ls /net").ok().filter(|names| names.lines().any(|name| name == other));
    let result = wait::until(&format!("{other} in /net of {}", node.name()), PATIENCE, listed);
    result.map(|_| ()).with_context(|| format!("{} says:\n{}", node.name(), node.log()))
}

/// Asks until `check` says true.
///
/// # Errors
/// It does not in time; `what` names it.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) -> Result<()> {
    Ok(wait::until(what, PATIENCE, || check().then_some(()))?)
}

/// Runs `line` in the node's shell and asserts that it fails for `reason`; gives its standard error.
///
/// # Errors
/// It succeeds, or says something else.
pub fn refused(node: &Node, line: &str, reason: &str) -> Result<String> {
    let output = shell(node.command("sh"), line)?;
    ensure!(!output.status.success(), "{}: {line}: was not refused: {output:?}", node.name());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(error.contains(reason), "{}: {line}: expected `{reason}`, got: {error}", node.name());
    Ok(error)
}

/// Runs `line` as user `uid` of the node and gives its output.
///
/// # Errors
/// It fails.
pub fn shell_as(node: &Node, uid: u32, line: &str) -> Result<String> {
    let output = shell(node.command_as(uid, "sh"), line)?;
    if !output.status.success() {
        bail!("{}: {line}: {}", node.name(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shell(mut command: Command, line: &str) -> Result<Output> {
    command.args(["-c", line]).stdin(Stdio::null()).output().context("sh")
}
