//! What a lab remembers between two calls: a folder with one record for the lab and one per node.
//!
//! ```text
//! $XDG_RUNTIME_DIR/qnet-lab  or  /tmp/qnet-lab-UID      0700, must be ours
//!   lock                     held while the lab is changed
//!   lab.json                 LabRecord
//!   wire/                    what all nodes share: the segment's socket
//!   links/                   QNX's names for the programs
//!   nodes/NAME/node.json     NodeRecord
//!   nodes/NAME/root/         the node's root is mounted here, seen by the node alone
//!   nodes/NAME/io-pkt.log    what the node's io-pkt says
//! ```
//!
//! Processes are remembered by number and start time, so a number that was given to somebody
//! else is never taken for the node's.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::sys;

/// What joins the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// A veth pair per node into one bridge, and `devn-packet` on it.
    #[default]
    Packet,
    /// The same, with a TAP device between the node's end and `devn-tap`.
    Tap,
    /// `devn-segment` on a socket that all nodes see; no Linux interface at all.
    Segment,
}

/// What keeps the nodes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Namespaces, made by root.
    Namespaces,
    /// Namespaces inside a user namespace of each node's own, made by anybody.
    UserNamespaces,
    /// No namespaces: each node has a folder for its names (`io-pkt --root`).
    Roots,
}

/// A process, for longer than its number is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number in the PID namespace of the lab's user.
    pub pid: i32,
    /// Its start time in clock ticks since boot.
    pub start: u64,
}

impl Process {
    /// The process that has this number now.
    ///
    /// # Errors
    /// There is none, or it has ended.
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start: sys::start_time(pid)? })
    }

    /// Is it still this process?
    #[must_use]
    pub fn is_alive(&self) -> bool {
        sys::start_time(self.pid).is_ok_and(|start| start == self.start)
    }

    /// A descriptor for it, checked after opening: from then on the number cannot change hands.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let fd = sys::pidfd(self.pid)?;
        if self.is_alive() { Ok(fd) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    }
}

/// What all nodes of a lab have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabRecord {
    /// What joins the nodes.
    pub wire: Wire,
    /// What keeps them apart.
    pub isolation: Isolation,
    /// Keeps the switch's namespaces; `None` without namespaces.
    pub switch: Option<Process>,
    /// Where the programs are: cargo's folder, or an install prefix.
    pub programs: PathBuf,
    /// Further folders of the machine that every node sees.
    #[serde(default)]
    pub share: Vec<PathBuf>,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its host name.
    pub name: String,
    /// Its number in the lab, from 1: the last octet of its addresses.
    pub number: usize,
    /// The first process of its namespaces; `None` without namespaces.
    pub holder: Option<Process>,
    /// Its io-pkt, where the lab started it.
    pub daemon: Option<Process>,
}

/// The folder of a lab.
#[derive(Clone, Debug)]
pub struct State {
    dir: PathBuf,
}

impl State {
    /// The folder `dir`, or the usual one of this user.
    #[must_use]
    pub fn new(dir: Option<PathBuf>) -> Self {
        let usual = || match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(runtime) if runtime.is_dir() => runtime.join("qnet-lab"),
            _ => PathBuf::from(format!("/tmp/qnet-lab-{}", Uid::effective())),
        };
        Self { dir: dir.unwrap_or_else(usual) }
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of one node.
    #[must_use]
    pub fn node_dir(&self, name: &str) -> PathBuf {
        self.dir.join("nodes").join(name)
    }

    /// What all nodes share.
    #[must_use]
    pub fn wire_dir(&self) -> PathBuf {
        self.dir.join("wire")
    }

    /// QNX's names for the programs, where nodes have no file system of their own.
    #[must_use]
    pub fn links_dir(&self) -> PathBuf {
        self.dir.join("links")
    }

    /// Makes the folder, or checks that the present one is ours alone, and takes its lock.
    ///
    /// # Errors
    /// The folder belongs to somebody else, or cannot be made.
    pub fn lock(&self) -> Result<Flock<File>, LabError> {
        let fail = |source| LabError::State { path: self.dir.clone(), source };
        match DirBuilder::new().recursive(false).mode(0o700).create(&self.dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fail(error)),
        }
        let meta = fs::symlink_metadata(&self.dir).map_err(fail)?;
        if !meta.is_dir() || meta.uid() != Uid::effective().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(LabError::ForeignState { path: self.dir.clone() });
        }
        let path = self.dir.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| fail(errno.into()))
    }

    /// The lab's record; `None` when there is no lab.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn lab(&self) -> Result<Option<LabRecord>, LabError> {
        read(&self.dir.join("lab.json"))
    }

    pub(crate) fn write_lab(&self, record: &LabRecord) -> Result<(), LabError> {
        write(&self.dir.join("lab.json"), record)
    }

    /// One node's record; `None` when there is no such node.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn node(&self, name: &str) -> Result<Option<NodeRecord>, LabError> {
        read(&self.node_dir(name).join("node.json"))
    }

    pub(crate) fn write_node(&self, record: &NodeRecord) -> Result<(), LabError> {
        write(&self.node_dir(&record.name).join("node.json"), record)
    }

    /// All nodes, by number.
    ///
    /// # Errors
    /// A record cannot be read or understood.
    pub fn nodes(&self) -> Result<Vec<NodeRecord>, LabError> {
        let folder = self.dir.join("nodes");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(LabError::State { path: folder, source }),
        };
        let mut nodes = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| LabError::State { path: folder.clone(), source })?;
            if let Some(record) = self.node(&entry.file_name().to_string_lossy())? {
                nodes.push(record);
            }
        }
        nodes.sort_by_key(|node| node.number);
        Ok(nodes)
    }

    /// Removes the folder with all that is in it.
    pub(crate) fn remove(&self) -> Result<(), LabError> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LabError::State { path: self.dir.clone(), source: error })
            }
            _ => Ok(()),
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LabError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| LabError::State { path: path.to_owned(), source: error.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LabError::State { path: path.to_owned(), source }),
    }
}

/// Written beside and renamed, so that a reader sees the old record or the new one.
fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), LabError> {
    let fail = |source| LabError::State { path: path.to_owned(), source };
    let text = serde_json::to_vec_pretty(record).map_err(|error| fail(error.into()))?;
    let fresh = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    fs::write(&fresh, text).map_err(fail)?;
    fs::rename(&fresh, path).map_err(fail)
}
