//! `qnx-mount`, by link also `mount`: mounts a module into a running io-pkt.
//!
//! It acts for the types `io-pkt`, `io-pktN` and `io-net` only. Every other call goes untouched to the
//! next `mount` in `PATH`, so that it can stand in front of the system's. As `mount.io-pkt` it serves
//! `mount -t io-pkt` of the system's mount. Exit code: 0 mounted, 1 not, 2 for a wrong call.

mod args;
mod module;

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ctl::{Client, Root, handover};

use crate::args::{Call, Wanted};

/// Loading a module and opening its device takes milliseconds; a busy machine is given more.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let result = match args::read(&args) {
        Call::Ours(wanted) => mount(&wanted),
        Call::NotOurs => hand_over(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mount: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn mount(wanted: &Wanted) -> Result<()> {
    let root = Root::find(wanted.root.as_deref())?;
    let mut client = Client::connect_instance(&root, wanted.instance, PATIENCE)?;
    let file = open(&wanted.module)?;
    let module = match &file {
        // The daemon may stand in another folder, or in another root: it gets the file itself.
        Some(_) => std::path::absolute(&wanted.module)?.to_string_lossy().into_owned(),
        None => wanted.module.clone(),
    };
    let mounted = client.mount(&module, &wanted.options, file.as_ref().map(AsFd::as_fd))?;
    if wanted.verbose {
        let path = mounted.path.map(|path| format!(" at {}", path.display())).unwrap_or_default();
        println!("{}: {}{path}", mounted.module, mounted.name);
    }
    Ok(())
}

/// Opens a module that was given as a path. A bare name is looked for by the daemon.
fn open(module: &str) -> Result<Option<File>> {
    if !module.contains('/') {
        return Ok(None);
    }
    module::open(Path::new(module)).map(Some).with_context(|| module.to_owned())
}

/// Becomes the system's mount; comes back only when that is impossible.
fn hand_over(args: &[OsString]) -> Result<()> {
    let Some(mut next) = handover::next_program("mount") else {
        bail!("not a type of io-pkt, and there is no other mount in PATH");
    };
    let error = next.arg0("mount").args(&args[1..]).exec();
    bail!("{}: {error}", next.get_program().to_string_lossy());
}
