//! Processes in a node that a test gives orders to, a line at a time.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{ControlFlags, LocalFlags, cfgetospeed, tcgetattr};
use nix::unistd::ttyname;

/// Plays `role`.
pub(crate) fn play(role: &str, words: &[String]) -> Result<()> {
    match (role, words) {
        ("terminal", []) => terminal(),
        ("poll", [path]) => readiness(path),
        ("attribute", [verb, path, rest @ ..]) => {
            println!("{}", attribute(verb, path, rest)?);
            Ok(())
        }
        _ => bail!("{role}: what?"),
    }
}

/// A terminal and whoever sits at it: `say TEXT`, `hear`, `state`.
fn terminal() -> Result<()> {
    let ends = openpty(None, None)?;
    let mut screen = BufReader::new(File::from(ends.master.try_clone()?));
    let mut keys = File::from(ends.master);
    println!("{}", ttyname(&ends.slave)?.display());
    for order in std::io::stdin().lines() {
        let order = order?;
        match order.split_once(' ').unwrap_or((&order, "")) {
            ("say", text) => {
                keys.write_all(format!("{text}\n").as_bytes())?;
                println!("said");
            }
            ("hear", _) => {
                let mut line = String::new();
                screen.read_line(&mut line)?;
                println!("{}", line.trim_end());
            }
            _ => {
                let state = tcgetattr(&ends.slave)?;
                let line = if state.local_flags.contains(LocalFlags::ICANON) { "cooked" } else { "raw" };
                let stop = if state.control_flags.contains(ControlFlags::CSTOPB) { "long" } else { "short" };
                let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
                // SAFETY: `size` is the structure that this request fills; the descriptor is open.
                Errno::result(unsafe {
                    libc::ioctl(ends.slave.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size)
                })?;
                println!("{line} {stop} {:?} {}x{}", cfgetospeed(&state), size.ws_row, size.ws_col);
            }
        }
    }
    Ok(())
}

/// Waits until the file can be read, and says what is there.
fn readiness(path: &str) -> Result<()> {
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    println!("{}", std::process::id());
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE)?;
    let events = fds[0].revents().context("events")?;
    let mut text = [0; 64];
    let len = file.read(&mut text)?;
    println!("{events:?} {}", String::from_utf8_lossy(&text[..len]).trim_end());
    Ok(())
}

/// `get NAME`, `set NAME VALUE`, `add NAME VALUE` (a new one), `list`, `remove NAME`; links themselves are meant.
fn attribute(verb: &str, path: &str, words: &[String]) -> Result<String> {
    let path = CString::new(path)?;
    let name = CString::new(words.first().cloned().unwrap_or_default())?;
    let value = words.get(1).cloned().unwrap_or_default();
    let mut room = vec![0_u8; 65_536];
    // SAFETY: all texts end in NUL, the buffers are as long as is told.
    let result = unsafe {
        let (path, name) = (path.as_ptr(), name.as_ptr());
        match verb {
            "get" => libc::lgetxattr(path, name, room.as_mut_ptr().cast(), room.len()),
            "length" => libc::lgetxattr(path, name, std::ptr::null_mut(), 0),
            "list" => libc::llistxattr(path, room.as_mut_ptr().cast(), room.len()),
            "remove" => libc::lremovexattr(path, name) as isize,
            "set" => libc::lsetxattr(path, name, value.as_ptr().cast(), value.len(), 0) as isize,
            "add" => {
                let flags = libc::XATTR_CREATE;
                libc::lsetxattr(path, name, value.as_ptr().cast(), value.len(), flags) as isize
            }
            _ => bail!("{verb}: what?"),
        }
    };
    Ok(match Errno::result(result) {
        Err(errno) => format!("{errno:?}"),
        Ok(length) if verb == "length" => length.to_string(),
        Ok(length) => String::from_utf8_lossy(&room[..length as usize]).replace('\0', " "),
    })
}
