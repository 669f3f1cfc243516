//! Signals for processes of other nodes, with an answer.
//!
//! The node's server sends them, as the user that its node maps the caller to; see `qnet_iomsg::signal`.

use qnet_iomsg::signal::{Request, linux_to_qnx};

use crate::{Connection, Error};

/// Sends a signal, in this system's numbers, to a process of the node behind `server` (a connection to its process 1,
/// channel 1: [`Netmgr::server_of`](crate::Netmgr::server_of)), or to one of its threads when `tid` is not 0. Signal 0 only
/// asks whether one could be sent.
///
/// # Errors
/// `EPERM`: that node lets the caller send no signals (`allow=signal` there, or a mapping of its users), or not to that
/// process. `ESRCH`: no such process. `EINVAL`: a signal that QNX has no number for, or a process number below 1.
/// `ENOSYS`: that node's server knows no signals.
#[doc(alias = "SignalKill")]
pub fn signal_kill(server: &Connection, pid: i32, tid: i32, signo: i32) -> Result<(), Error> {
    let signo = linux_to_qnx(signo).ok_or(Error::Errno(libc::EINVAL))?;
    let request = Request { signo, pid, tid, ..Request::default() };
    server.send(&request.emit(), &mut []).map(drop)
}
