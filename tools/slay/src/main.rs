//! `qnx-slay`, by link also `slay`: signals processes by name or number, or changes how they are scheduled.
//!
//! The exit status is the number of processes that were acted on, at most 255; 0 also stands for a wrong call, because then
//! none was. Standard error says what was not done.
//!
//! | File | What |
//! |---|---|
//! | `args.rs` | the command line, QNX's way |
//! | `place.rs` | this node's `/proc`, or another one's |
//! | `process.rs` | what `/proc` says of a process, and which ones a word means |
//! | `action.rs` | what is done to a process |
//! | `sys.rs` | system calls |
//!
//! A process is held by a descriptor from before it is looked at until it is signalled, so its number cannot come to mean
//! another one in between; on another node (`-n`) there are only numbers.

mod action;
mod args;
mod place;
mod process;
#[expect(unsafe_code, reason = "system calls")]
mod sys;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use crate::action::Action;
use crate::args::Wanted;
use crate::place::Place;
use crate::process::{Found, Process};

/// The largest exit status.
const MOST: usize = 255;

fn main() -> ExitCode {
    let wanted = match args::read(std::env::args_os()) {
        Ok(wanted) => wanted,
        Err(code) => return code,
    };
    let acted_on = run(&wanted);
    ExitCode::from(u8::try_from(acted_on.min(MOST)).unwrap_or(u8::MAX))
}

/// Acts on all that is meant; gives the number of processes acted on.
fn run(wanted: &Wanted) -> usize {
    let node = wanted.node.as_deref();
    let place = match node.map_or(Ok(Place::Here), Place::of) {
        Ok(place) => place,
        Err(why) => {
            complain(wanted, &format!("-n {}: {why}", node.unwrap_or_default()));
            return 0;
        }
    };
    let mut count = 0;
    for name in &wanted.names {
        let Found { processes, spared } = match process::find(&place, name, wanted) {
            Ok(found) => found,
            Err(errno) => {
                complain(wanted, &format!("{name}: the processes cannot be listed: {}", errno.desc()));
                continue;
            }
        };
        for (pid, why) in &spared {
            complain(wanted, &format!("{name}: process {pid} is {why}: not touched"));
        }
        if processes.is_empty() && spared.is_empty() {
            complain(wanted, &format!("{name}: no such process"));
        }
        let ask = wanted.query || (processes.len() > 1 && !wanted.force && wanted.asks());
        for process in processes {
            if wanted.childless && process.has_children(&place) {
                complain(wanted, &format!("{name}: process {} has children: not touched", process.pid));
            } else if !ask || agreed(&process, &wanted.action) {
                count += usize::from(act(wanted, name, &process));
            }
        }
    }
    count
}

fn act(wanted: &Wanted, name: &str, process: &Process) -> bool {
    match wanted.action.apply(process) {
        Ok(()) => {
            if wanted.verbose {
                println!("{}: process {}: {}", process.name, process.pid, wanted.action);
            }
            true
        }
        Err(error) => {
            complain(wanted, &format!("{name}: process {}: {error}", process.pid));
            false
        }
    }
}

/// Asks on standard error and reads a line of standard input; anything but a yes is a no, and so is its end.
fn agreed(process: &Process, action: &Action) -> bool {
    let Process { pid, name, .. } = process;
    let tty = process.tty.as_deref().unwrap_or("no terminal");
    // Without standard error there is nobody to ask, and the answer is read all the same.
    let _ = write!(io::stderr(), "{name} (process {pid}, {tty}): {action}? (y/n) ");
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes")
}

fn complain(wanted: &Wanted, what: &str) {
    if !wanted.quiet {
        eprintln!("slay: {what}");
    }
}
