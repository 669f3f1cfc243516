//! Waiting to take a living server's place.
//!
//! `/net` outlives io-pkt, so after a restart the server of the former daemon goes on. It is nobody's child any more:
//! nobody would start it again after a crash, or end it with the new daemon. A standby closes that gap. It takes over
//! when the other one dies, ends when that one ends in order, and passes a request to end on to it.

use std::{
    fs, io,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        signalfd::SignalFd,
    },
    unistd::Pid,
};
use tracing::{info, warn};

use crate::claim::{Claim, ClaimError, Claimed};

/// How often it is looked whether the other one lives, in milliseconds. Nothing tells us of the end of a lock.
const INTERVAL_MS: u16 = 1000;
/// How long the other one may take to end when asked.
const FAREWELL: Duration = Duration::from_secs(10);

/// Waits until the server of `mount` has died and gives its claim; `None` when there is nothing to take over because it
/// ended in order, or because a signal asked for the end of both.
///
/// # Errors
/// The lock file cannot be read.
pub fn wait(root: &Path, mount: &Path, signals: &SignalFd) -> Result<Option<Claim>, ClaimError> {
    loop {
        let pid = match Claim::inherit(root, mount)? {
            None => return Ok(None),
            Some(Claimed::Ours(claim)) => return Ok(Some(claim)),
            Some(Claimed::Served { pid }) => pid,
        };
        if is_asked_to_end(signals, INTERVAL_MS) {
            info!("{}: asked to end", mount.display());
            if let Some(pid) = pid.filter(|pid| is_server(*pid)) {
                pass_on(pid, root, mount)?;
            }
            return Ok(None);
        }
    }
}

fn pass_on(pid: i32, root: &Path, mount: &Path) -> Result<(), ClaimError> {
    if let Err(errno) = kill(Pid::from_raw(pid), Signal::SIGTERM)
        && errno != Errno::ESRCH
    {
        warn!("{}: cannot end its server, pid {pid}: {errno}", mount.display());
        return Ok(());
    }
    let deadline = Instant::now() + FAREWELL;
    while let Some(Claimed::Served { .. }) = Claim::inherit(root, mount)? {
        if Instant::now() >= deadline {
            warn!("{}: its server, pid {pid}, does not end", mount.display());
            break;
        }
        // A short wait for nothing: poll without descriptors cannot fail.
        let _ = poll(&mut [], PollTimeout::from(10_u8));
    }
    Ok(())
}

/// Waits for a signal.
fn is_asked_to_end(signals: &SignalFd, milliseconds: u16) -> bool {
    let mut watched = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    let ready: io::Result<_> = poll(&mut watched, PollTimeout::from(milliseconds)).map_err(Into::into);
    ready.is_ok_and(|ready| ready > 0) && matches!(signals.read_signal(), Ok(Some(_)))
}

/// The number in the file is of this PID namespace and of one of us; else a stranger would be ended.
fn is_server(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "qnet-netfs")
}
