//! `qnx-umount`, by link also `umount`: takes a driver or a protocol out of a running io-pkt.
//!
//! It acts for paths in io-pkt's device directory and for Qnet's network directory only. Every other call
//! goes untouched to the next `umount` in `PATH`. Exit code: 0 unmounted, 1 not, 2 for a wrong call.

mod args;
mod target;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use ctl::{Client, Root, handover};

use crate::args::RawArgs;
use crate::target::Ours;

/// A driver is stopped and drained within a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("umount: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Did all of it work? What did not was told already.
fn run(args: &[OsString]) -> Result<bool> {
    let Some(raw) = args::read(args) else { return hand_over(&args[1.min(args.len())..]) };
    let root = Root::find(raw.root.as_deref())?;
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for path in &raw.paths {
        match Ours::find(path, &root) {
            Some(one) => ours.push((path, one)),
            None => others.push(path.clone()),
        }
    }
    if ours.is_empty() {
        return hand_over(&args[1..]);
    }
    let mut all = true;
    for (path, one) in ours {
        if let Err(error) = umount(&one, &raw) {
            eprintln!("umount: {path}: {error:#}");
            all = false;
        }
    }
    if !others.is_empty() {
        all &= system_umount(&raw, &others)?;
    }
    Ok(all)
}

fn umount(one: &Ours, raw: &RawArgs) -> Result<()> {
    let mut client = Client::connect_instance(&one.root, one.instance, PATIENCE)?;
    let gone = client.umount(&one.name)?;
    if raw.verbose {
        println!("{}: {} unmounted", gone.module, gone.name);
    }
    Ok(())
}

/// Paths that are the system's, in a call that has some of ours as well.
fn system_umount(raw: &RawArgs, paths: &[String]) -> Result<bool> {
    let Some(mut next) = handover::next_program("umount") else {
        bail!("{}: not of io-pkt, and there is no other umount in PATH", paths[0]);
    };
    next.args(raw.force.then_some("-f")).args(raw.verbose.then_some("-v")).arg("--").args(paths);
    Ok(next.status()?.success())
}

/// Becomes the system's umount; comes back only when that is impossible.
fn hand_over(args: &[OsString]) -> Result<bool> {
    let Some(mut next) = handover::next_program("umount") else {
        bail!("not a path of io-pkt, and there is no other umount in PATH");
    };
    let error = next.arg0("umount").args(args).exec();
    bail!("{}: {error}", next.get_program().to_string_lossy());
}
