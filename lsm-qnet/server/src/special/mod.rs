//! FIFOs and character devices: writing, what is ready, and terminals.
//!
//! Nothing here waits. What would is told as [`Wait`], and tried again when the kernel says that it may go now.
//!
//! Terminals are controlled only as far as [`terminal`] goes (attributes and size); programs on other nodes do not see that a
//! file of `/net` is one, because their `ioctl` gives ENOTTY.

mod sys;

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qnet_iomsg::filesys::special;
use qnet_iomsg::terminal::{self, Request};

use crate::file::{Cancel, Failure};
use crate::wait::Wait;

/// Writes what fits; how many bytes. A FIFO takes up to PIPE_BUF bytes in one piece.
///
/// # Errors
/// Nothing fits: [`Wait::Ready`], or EAGAIN for who does not wait. EPIPE: a FIFO that nobody reads. As `write`.
pub(crate) fn write(
    fd: BorrowedFd<'_>,
    data: &[u8],
    nonblock: bool,
    cancel: &Cancel,
) -> Result<usize, Failure> {
    match cancel.retry(|| nix::unistd::write(fd, data)) {
        Err(Errno::EAGAIN) if !nonblock => Err(Failure::WouldWait(Wait::Ready(PollFlags::POLLOUT))),
        result => Ok(result?),
    }
}

/// Which of the wanted events are there.
///
/// # Errors
/// None, and the caller waits for one: [`Wait::Ready`].
pub(crate) fn events(fd: BorrowedFd<'_>, request: &special::Request) -> Result<i64, Failure> {
    #[expect(clippy::cast_possible_truncation, reason = "the bits that poll() has")]
    let wanted = PollFlags::from_bits_truncate(request.events as i16);
    let mut fds = [PollFd::new(fd, wanted)];
    poll(&mut fds, PollTimeout::ZERO)?;
    let found = fds[0].revents().unwrap_or(PollFlags::empty());
    if found.contains(PollFlags::POLLNVAL) {
        // opened for neither reading nor writing
        return Err(Errno::EBADF.into());
    }
    if found.is_empty() && request.wait {
        return Err(Failure::WouldWait(Wait::Ready(wanted)));
    }
    Ok(found.bits().into())
}

/// Carries out a DEVCTL; the reply's bytes.
///
/// # Errors
/// ENOTTY: not a terminal, or nothing that can be asked of one. What waits until everything is written: [`Wait::Later`].
pub(crate) fn control(fd: BorrowedFd<'_>, request: &Request) -> Result<Vec<u8>, Failure> {
    let data = match request {
        Request::IsTerminal => {
            sys::size(fd)?;
            return Ok(terminal::reply(1, &[]));
        }
        Request::Attributes => sys::attributes(fd)?.emit(),
        Request::SetAttributes { command, attributes } => {
            // tcsetattr() would wait in the kernel, in a thread that others need
            if *command != terminal::command::TCSETATTR && sys::unsent(fd)? > 0 {
                return Err(Failure::WouldWait(Wait::Later));
            }
            sys::set_attributes(fd, attributes, *command == terminal::command::TCSETATTRF)?;
            Vec::new()
        }
        Request::Size => sys::size(fd)?.emit(),
        Request::SetSize(size) => {
            sys::set_size(fd, size)?;
            Vec::new()
        }
    };
    Ok(terminal::reply(0, &data))
}

#[cfg(test)]
mod tests;
