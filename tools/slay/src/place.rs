//! Where processes are looked for: on this node, or on another one by way of Qnet.
//!
//! On another node everything is read under the rights that it gives its callers. Whose program file a process runs is a
//! secret of the process's owner there, so a process goes by the first argument and by the name it gave itself.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;
use qnet::{Connection, File, Netmgr};

/// Longest file of `/proc` that is read.
const LONGEST: u64 = 1024 * 1024;

/// A node's `/proc`.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// This node's.
    Here,
    /// Another node's, through a connection to its server.
    There(Arc<Connection>),
}

impl Place {
    /// The node of that name; this one's own name is [`Place::Here`].
    pub(crate) fn of(node: &str) -> Result<Self, String> {
        let found = ctl::Root::find(None).map_err(|error| error.to_string())?;
        let root = qnet::Root::at(found.dir()).map_err(|error| error.to_string())?;
        let netmgr = Netmgr::attach(&root).map_err(|error| match Errno::from_raw(error.errno()) {
            Errno::ENOTSUP => {
                format!("Qnet does not run here (nobody answers at {})", root.qnet_socket().display())
            }
            errno => format!("Qnet: {}", errno.desc()),
        })?;
        let failed = |error: qnet::Error| match Errno::from_raw(error.errno()) {
            Errno::ENOENT => "no node answers to that name".to_owned(),
            errno => errno.desc().to_owned(),
        };
        let nd = netmgr.strtond(node).map_err(failed)?;
        if nd == 0 {
            return Ok(Self::Here);
        }
        Ok(Self::There(Arc::new(netmgr.server_of(nd).map_err(failed)?)))
    }

    /// A file below `/proc`.
    pub(crate) fn read(&self, path: &str) -> Option<Vec<u8>> {
        let path = format!("/proc/{path}");
        let mut bytes = Vec::new();
        match self {
            Self::Here => fs::File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes),
            Self::There(server) => File::open_on(server, &path).ok()?.take(LONGEST).read_to_end(&mut bytes),
        }
        .ok()?;
        Some(bytes)
    }

    /// Where a link below `/proc` leads, if that is to be known.
    pub(crate) fn link(&self, path: &str) -> Option<PathBuf> {
        match self {
            Self::Here => fs::read_link(format!("/proc/{path}")).ok(),
            Self::There(_) => None,
        }
    }

    /// The entries of a folder below `/proc` whose names are numbers, in their order.
    pub(crate) fn numbers(&self, path: &str) -> Result<Vec<i32>, Errno> {
        let path = format!("/proc/{path}");
        let names = match self {
            Self::Here => {
                let entries = fs::read_dir(path)
                    .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
                entries.filter_map(|entry| Some(entry.ok()?.file_name().as_bytes().to_vec())).collect()
            }
            Self::There(server) => {
                qnet::entries(server, &path).map_err(|error| Errno::from_raw(error.errno()))?
            }
        };
        let number = |name: &Vec<u8>| std::str::from_utf8(name).ok()?.parse().ok();
        let mut numbers: Vec<i32> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}
