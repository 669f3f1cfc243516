//! The node's root directory: below it lie the names of everything that belongs to one node.
//!
//! Every program looks for it in the same order: what the user said (`--root`, then `IO_PKT_ROOT`); `/run/io-pkt` when
//! a live node is there; `$XDG_RUNTIME_DIR/io-pkt`; `/tmp/io-pkt-UID`, which must be the user's own with mode 0700.

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use thiserror::Error;

use crate::{ChannelAddress, address, socket};

/// A root directory, absolute. It need not exist: local channels work without a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    path: PathBuf,
}

/// The root could not be told.
#[derive(Debug, Error)]
pub enum RootError {
    /// `path` is relative and the working directory is not known.
    #[error("cannot make {} absolute: {source}", path.display())]
    Relative {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else made the user's directory in `/tmp`, or left it open to others.
    #[error("{} must belong to uid {uid} with mode 0700, but it belongs to uid {owner} with mode {mode:04o}; use --root or IO_PKT_ROOT", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Who asks.
        uid: u32,
        /// Whose it is.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
}

impl Root {
    /// The root at `path`; symbolic links are resolved as far as it exists, so that every spelling means one node.
    ///
    /// # Errors
    /// See [`RootError::Relative`].
    pub fn at(path: &Path) -> Result<Self, RootError> {
        let relative = |source| RootError::Relative { path: path.to_owned(), source };
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(_) => std::path::absolute(path).map_err(relative)?,
        };
        Ok(Self { path })
    }

    /// Looks for the node's root; `explicit` is the argument of `--root`.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn locate(explicit: Option<&Path>) -> Result<Self, RootError> {
        if let Some(path) = explicit {
            return Self::at(path);
        }
        if let Some(path) = env::var_os("IO_PKT_ROOT").filter(|path| !path.is_empty()) {
            return Self::at(Path::new(&path));
        }
        let system = Self { path: PathBuf::from("/run/io-pkt") };
        let uid = geteuid().as_raw();
        if uid == 0 || system.is_live() {
            return Ok(system);
        }
        if let Some(directory) = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
            && directory.is_dir()
        {
            return Self::at(&directory.join("io-pkt"));
        }
        Self::in_tmp(uid)
    }

    fn in_tmp(uid: u32) -> Result<Self, RootError> {
        let path = PathBuf::from(format!("/tmp/io-pkt-{uid}"));
        if let Ok(data) = fs::symlink_metadata(&path) {
            let mode = data.mode() & 0o7777;
            if data.uid() != uid || mode != 0o700 || !data.is_dir() {
                return Err(RootError::Foreign { path, uid, owner: data.uid(), mode });
            }
        }
        Self::at(&path)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Socket on which `lsm-qnet` of this node listens: connections to other nodes and to the network manager.
    #[must_use]
    pub fn qnet_socket(&self) -> PathBuf {
        self.path.join("qnet.sock")
    }

    /// The number that stands for this root in channel addresses.
    #[must_use]
    pub fn hash(&self) -> u64 {
        address::hash(&self.path)
    }

    /// Where a channel of this node is reached from processes in our PID namespace.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn channel(&self, pid: i32, chid: i32) -> io::Result<ChannelAddress> {
        Ok(ChannelAddress { root: self.hash(), namespace: address::pid_namespace()?, pid, chid })
    }

    /// Whether any process listens on a socket in the directory.
    fn is_live(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.path) else { return false };
        entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .any(|path| path.extension().is_some_and(|end| end == "sock") && socket::is_listening(&path))
    }
}
