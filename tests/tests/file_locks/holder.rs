//! A process in a node that locks a file as it is told, a line at a time.
//!
//! ```text
//! set r|w|u START LEN     fcntl, at once        ok | errno
//! wait r|w START LEN      fcntl, waiting        ok | errno
//! test r|w START LEN      fcntl                 free | r|w START LEN PID
//! flock r|w|u             flock, at once        ok | errno
//! fwait r|w               flock, waiting        ok | errno
//! read, write TEXT        all of the file       TEXT | ok
//! again                   opens and closes the file once more; POSIX locks go with that
//! ```
//! SIGALRM only interrupts.

use std::fs::{self, File};
use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

extern "C" fn ignore(_signal: libc::c_int) {}

/// Does what standard input says until it ends.
pub(crate) fn obey(path: &Path) -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    let file = File::options().read(true).write(true).open(path).context("the file")?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", std::process::id())?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let said = match words.as_slice() {
            [verb @ ("set" | "wait" | "test"), kind, start, len] => {
                range(&file, verb, kind, start.parse()?, len.parse()?)?
            }
            [verb @ ("flock" | "fwait"), kind] => whole(&file, verb, kind)?,
            ["read"] => {
                let mut text = vec![0; 64];
                let len = file.read_at(&mut text, 0)?;
                text.truncate(len);
                String::from_utf8_lossy(&text).trim_end().to_owned()
            }
            ["write", text] => {
                file.write_all_at(text.as_bytes(), 0)?;
                "ok".to_owned()
            }
            ["again"] => fs::File::open(path).map(|_| "ok".to_owned())?,
            _ => bail!("{line}: what?"),
        };
        writeln!(out, "{said}")?;
    }
    Ok(())
}

fn answer(result: nix::Result<i32>) -> String {
    result.map_or_else(|errno| format!("{errno:?}"), |_| "ok".to_owned())
}

fn range(file: &File, verb: &str, kind: &str, start: i64, len: i64) -> Result<String> {
    let l_type = match kind {
        "r" => libc::F_RDLCK,
        "w" => libc::F_WRLCK,
        "u" => libc::F_UNLCK,
        _ => bail!("{kind}: no kind of lock"),
    } as libc::c_short;
    let mut lock = libc::flock { l_type, l_whence: 0, l_start: start, l_len: len, l_pid: 0 };
    Ok(match verb {
        "set" => answer(fcntl(file, FcntlArg::F_SETLK(&lock))),
        "wait" => answer(fcntl(file, FcntlArg::F_SETLKW(&lock))),
        _ => match fcntl(file, FcntlArg::F_GETLK(&mut lock)) {
            Err(errno) => format!("{errno:?}"),
            Ok(_) if i32::from(lock.l_type) == libc::F_UNLCK => "free".to_owned(),
            Ok(_) => {
                let kind = if i32::from(lock.l_type) == libc::F_WRLCK { "w" } else { "r" };
                format!("{kind} {} {} {}", lock.l_start, lock.l_len, lock.l_pid)
            }
        },
    })
}

fn whole(file: &File, verb: &str, kind: &str) -> Result<String> {
    let operation = match kind {
        "r" => libc::LOCK_SH,
        "w" => libc::LOCK_EX,
        "u" => libc::LOCK_UN,
        _ => bail!("{kind}: no kind of lock"),
    };
    let operation = operation | if verb == "flock" { libc::LOCK_NB } else { 0 };
    // SAFETY: takes integers only; the descriptor is open.
    Ok(answer(Errno::result(unsafe { libc::flock(file.as_raw_fd(), operation) })))
}
