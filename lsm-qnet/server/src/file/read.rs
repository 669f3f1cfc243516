//! Reading an open file.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::directory::Extras;
use super::{Cancel, Failure, Kind, OpenFile};
use crate::sys;
use crate::wait::Wait;

/// Most bytes that one READ returns.
pub const MAX_READ: usize = 1024 * 1024;
/// Bytes read between two looks at whether the caller still wants them.
const CANCEL_STEP: usize = 256 * 1024;

/// Until there is something to read.
const READABLE: Wait = Wait::Ready(PollFlags::POLLIN);

/// What a READ asks for.
#[derive(Debug, Clone, Copy)]
pub struct ReadArgs {
    /// Most bytes wanted.
    pub max: usize,
    /// Where; `None` is the file's position.
    pub offset: Option<u64>,
    /// This read does not wait.
    pub nonblock: bool,
    /// What directory entries carry beside names.
    pub extras: Extras,
}

impl OpenFile {
    /// Appends data or directory entries to `out`, at most `max` bytes. Fewer than `max` bytes of a file
    /// mean its end, unless it is a FIFO or a device.
    ///
    /// # Errors
    /// EBADF: not open for reading. EINTR: the caller left. Those of `read`. A directory whose next entry
    /// does not fit into `max`: EINVAL.
    pub fn read(&self, out: &mut Vec<u8>, read: &ReadArgs, cancel: &Cancel) -> Result<(), Failure> {
        let max = read.max.min(MAX_READ);
        let offset = match read.offset {
            Some(offset) => Some(i64::try_from(offset).map_err(|_| Errno::EINVAL)?),
            None => None,
        };
        let nonblock = self.nonblock || read.nonblock;
        match self.kind {
            Kind::Name => Err(Errno::EBADF.into()),
            Kind::Data => match offset {
                Some(offset) => self.read_at(out, offset, max, nonblock, cancel),
                None => self.at_position(|position| {
                    let start = out.len();
                    self.read_at(out, *position as i64, max, nonblock, cancel)?;
                    *position += (out.len() - start) as u64;
                    Ok(())
                }),
            },
            Kind::Directory => self.at_position(|position| {
                let from = read.offset.unwrap_or(*position);
                *position = self.read_directory(out, from, max, read.extras, cancel)?;
                Ok(())
            }),
            Kind::Partner => self.read_partner(out, max, nonblock, cancel),
        }
    }

    /// Until `max` bytes or the end. An error after some bytes is told by the next read.
    fn read_at(
        &self,
        out: &mut Vec<u8>,
        offset: i64,
        max: usize,
        nonblock: bool,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        let start = out.len();
        out.reserve_exact(max);
        while out.len() - start < max {
            let have = out.len() - start;
            let at = offset.checked_add(have as i64).ok_or(Errno::EINVAL)?;
            let step = (max - have).min(CANCEL_STEP);
            if cancel.is_set() {
                // what was taken is given: there are files that give it once
                return if have > 0 { Ok(()) } else { Err(Errno::EINTR.into()) };
            }
            match cancel.retry(|| sys::read_more(self.fd(), Some(at), step, out)) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) if have > 0 => break,
                // regular files that deliver events, such as trace_pipe
                Err(Errno::EAGAIN) if !nonblock => return Err(Failure::WouldWait(READABLE)),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn read_partner(
        &self,
        out: &mut Vec<u8>,
        max: usize,
        nonblock: bool,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        // A FIFO that no writer ever opened reads as ended; only poll tells the difference.
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
        let ready = cancel.retry(|| poll(&mut fds, PollTimeout::ZERO))? > 0;
        if !ready && !nonblock {
            return Err(Failure::WouldWait(READABLE));
        }
        match cancel.retry(|| sys::read_more(self.fd(), None, max, out)) {
            Ok(_) => Ok(()),
            Err(Errno::EAGAIN) if !nonblock => Err(Failure::WouldWait(READABLE)),
            Err(errno) => Err(errno.into()),
        }
    }
}
