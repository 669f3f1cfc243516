//! The installed release programs that are measured.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// Top folder of the workspace. (cargo runs a bench in its package's folder.)
///
/// # Errors
/// It is not where it was when this was compiled.
pub fn top() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("the workspace's folder")
}

/// The io-pkt to measure: the one that is given, or the workspace's own, installed below `target/bench`.
///
/// # Errors
/// It is missing or cannot be installed.
pub fn io_pkt(given: Option<PathBuf>) -> Result<PathBuf> {
    let program = match given {
        Some(program) => program,
        None => install(&top()?)?,
    };
    ensure!(program.exists(), "{} is missing", program.display());
    Ok(program)
}

fn install(top: &Path) -> Result<PathBuf> {
    let prefix = top.join("target/bench/install");
    let status = Command::new(env!("CARGO"))
        .current_dir(top)
        .args(["xtask", "install", "--prefix"])
        .arg(&prefix)
        .status()
        .context("cargo xtask install")?;
    ensure!(status.success(), "cargo xtask install failed");
    Ok(prefix.join("bin/io-pkt"))
}
