//! The local ceiling: libfuse's own example of a pass-through file system, without a wire.
//!
//! `passthrough_ll` is what the FUSE library's authors give as the fast way: low-level API, several threads, `splice`, and
//! directories listed with attributes. It is compiled once from the source that Debian's `libfuse3-dev` brings, and
//! kept below `target/bench`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use bench_support::install;

/// Where Debian has the examples.
const EXAMPLES: &str = "/usr/share/doc/libfuse3-dev/examples";
/// How the example is built, in their folder; the program is the argument.
const BUILD: &str = "cc -O2 passthrough_ll.c -o \"$0\" $(pkg-config fuse3 --cflags --libs)";
/// What it takes.
const PACKAGES: &str = "gcc pkg-config libfuse3-dev";

/// The program; `None`, and a line that says so, when it cannot be compiled.
///
/// # Errors
/// The folder below `target` cannot be made.
pub fn program() -> Result<Option<PathBuf>> {
    let folder = install::top()?.join("target/bench/peers/passthrough");
    fs::create_dir_all(&folder)?;
    let program = folder.join("passthrough_ll");
    if program.exists() {
        return Ok(Some(program));
    }
    eprintln!("compiling the pass-through file system");
    match compile(&program)? {
        None => Ok(Some(program)),
        Some(reason) => {
            eprintln!(
                "the local ceiling does not take part: it needs Debian's packages {PACKAGES} ({reason})"
            );
            Ok(None)
        }
    }
}

/// Why it did not work.
fn compile(program: &Path) -> Result<Option<String>> {
    if !Path::new(EXAMPLES).is_dir() {
        return Ok(Some(format!("no {EXAMPLES}")));
    }
    let mut shell = Command::new("sh");
    let output = shell.current_dir(EXAMPLES).args(["-ec", BUILD]).arg(program).output().context("sh")?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Ok(Some(reason.to_owned()))
}
