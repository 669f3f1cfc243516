//! What the program `gns` needs beyond what its clients do: its own entry, and the names that its node offers.

use std::{ffi::OsStr, io, path::PathBuf};

use qnet_ipc::{Root, names};

use super::remote::MANAGERS;
use crate::Error;

/// The entry of a node's gns: `ROOT/dev/name/gns_server` or `gns_client`. Dropping it gives it up.
#[derive(Debug)]
pub struct Manager {
    entry: names::HeldName,
}

/// A global name that a channel of this node offers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offered {
    /// The name.
    pub name: String,
    /// The process.
    pub pid: i32,
    /// Its channel.
    pub chid: i32,
}

impl Manager {
    /// Makes channel `chid` of this process the node's gns.
    ///
    /// # Errors
    /// `EEXIST`: there is one. `EACCES`: this user does not own the node's root.
    pub fn attach(root: &Root, server: bool, chid: i32) -> Result<Self, Error> {
        names::make_local_directory(root)?;
        names::make_offered_directory(root)?;
        let base = root.names();
        let name = |server: bool| OsStr::new(MANAGERS[usize::from(!server)]);
        if names::owner(&base, name(!server)).is_ok() {
            return Err(Error::Errno(libc::EEXIST));
        }
        Ok(Self { entry: names::attach(&base, name(server), chid)? })
    }

    /// Replaces the text that people read in the entry.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn write_status(&mut self, text: &str) -> io::Result<()> {
        self.entry.write_note(text)
    }
}

/// The global names that channels of this node offer, sorted. Names that are not UTF-8 are left out.
#[must_use]
pub fn offered(root: &Root) -> Vec<Offered> {
    let text = |name: PathBuf| name.into_os_string().into_string().ok();
    let list = names::list(&root.offered_names());
    let reachable = list.into_iter().filter(|(_, owner)| owner.pid != 0);
    reachable
        .filter_map(|(name, owner)| Some(Offered { name: text(name)?, pid: owner.pid, chid: owner.chid }))
        .collect()
}
