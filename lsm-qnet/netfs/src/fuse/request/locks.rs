//! Requests about locks and readiness of open files.

use super::{Arguments, MalformedRequest};
use crate::fuse::{
    abi::{FUSE_LK_FLOCK, FUSE_POLL_SCHEDULE_NOTIFY, LkIn, PollIn},
    opcode::Opcode,
    operation::{FileLock, Operation},
};

impl<'a> Arguments<'a> {
    pub(super) fn on_locks(&self) -> Result<Operation<'a>, MalformedRequest> {
        let LkIn { fh, owner, start, end, kind, pid, lk_flags, .. } = self.head()?;
        let whole = lk_flags & FUSE_LK_FLOCK != 0;
        let lock = FileLock { owner, pid, start, end, kind, whole };
        Ok(match self.opcode {
            Opcode::Getlk => Operation::Getlk { fh, lock },
            _ => Operation::Setlk { fh, lock, wait: self.opcode == Opcode::Setlkw },
        })
    }

    pub(super) fn poll(&self) -> Result<Operation<'a>, MalformedRequest> {
        let PollIn { fh, kh, flags, events } = self.head()?;
        let notify = (flags & FUSE_POLL_SCHEDULE_NOTIFY != 0).then_some(kh);
        Ok(Operation::Poll { fh, events, notify })
    }
}
