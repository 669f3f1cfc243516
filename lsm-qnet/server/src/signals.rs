//! Signals that other nodes send to processes of this one.
//!
//! Who may is said twice: the connection's rights (`allow=signal` or a mapping, checked before the request is queued), and then
//! the kernel, which sees the mapped caller send. This server's own process is nobody's to signal.
//!
//! DEVIATION: process groups (a negative number) are not reached from other nodes: a number that reaches many processes is
//! not worth its risk across a network. A signal for one thread carries no value.

use std::path::Path;

use nix::errno::Errno;
use qnet_iomsg::signal::{self, Request};

use crate::identity::Identity;
use crate::sys::{self, Signal};

/// Sends it.
///
/// # Errors
/// `EINVAL` for a signal that this system has not, or a process number below 1; then the kernel's: `ESRCH`, `EPERM`, …
pub(crate) fn send_signal(identity: &Identity, request: &Request) -> Result<(), Errno> {
    let Request { signo, pid, tid, code, value } = *request;
    let signo = signal::qnx_to_linux(signo).ok_or(Errno::EINVAL)?;
    if pid < 1 || tid < 0 {
        return Err(Errno::EINVAL);
    }
    // the number of any thread reaches the whole process
    if Path::new("/proc/self/task").join(pid.to_string()).exists() {
        return Err(Errno::EPERM);
    }
    let value = (code != 0 || value != 0).then_some(value);
    sys::signal_as(identity.uid, identity.gid, &Signal { signo, pid, tid, value })
}
