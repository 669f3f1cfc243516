//! `/net/.qnetstats`: the statistics of Qnet on this node, as a file.
//!
//! Opening asks the network manager for the text; reading gives that text, however long the reader takes, so a file that is
//! open never changes. Like a file of `/proc` it has size 0 and is read directly. It is hidden: listings name nodes only.
//! Without Qnet there is none to open (ENOENT), which is how QNX tells that Qnet does not run.

use crate::{
    attributes,
    fuse::{
        ROOT_ID,
        abi::{FOPEN_DIRECT_IO, OpenOut},
        reply,
    },
    inodes::Kind,
};

use super::{
    Engine,
    files::Handle,
    names::{LIFETIME, entry},
    task::Task,
};

/// Its name in the network directory.
pub(super) const NAME: &[u8] = b".qnetstats";
/// Room for the text.
pub(super) const ROOM: usize = 1 << 20;

impl Engine {
    pub(super) fn lookup_statistics(&mut self, unique: u64) -> Vec<u8> {
        let attr = attributes::of_statistics(self.config.owner, self.config.since);
        match self.inodes.intern(ROOT_ID, NAME, Kind::Statistics) {
            Some(nodeid) => reply::body(unique, &entry(nodeid, LIFETIME, attr)),
            None => reply::status(unique, libc::ESTALE),
        }
    }

    /// Whether a nodeid is the file.
    pub(super) fn is_statistics(&self, nodeid: u64) -> bool {
        self.inodes.get(nodeid).is_some_and(|inode| inode.kind() == Kind::Statistics)
    }

    /// The text has come.
    pub(super) fn on_statistics(&mut self, unique: u64, text: &[u8]) -> Vec<u8> {
        let fh = self.insert_handle(Handle::Text(text.into()));
        reply::body(unique, &OpenOut { fh, open_flags: FOPEN_DIRECT_IO, padding: 0 })
    }

    /// A read of the text, if `fh` is one.
    pub(super) fn read_text(&self, unique: u64, fh: u64, offset: u64, size: u32) -> Option<Vec<u8>> {
        let Handle::Text(text) = self.handles.get(&fh)? else { return None };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let end = start.saturating_add(size as usize).min(text.len());
        Some(reply::bytes(unique, &text[start..end]))
    }
}

/// The task for opening it; nobody writes it.
pub(super) fn open_task(flags: u32) -> Result<Task, i32> {
    let flags = flags.cast_signed();
    if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0 {
        return Err(libc::EROFS);
    }
    Ok(Task::Statistics)
}
