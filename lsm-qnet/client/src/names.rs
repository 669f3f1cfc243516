//! Services found by name: `name_attach`, `name_open`.
//!
//! A server gives a name to one of its channels; a client opens the name and gets a connection, wherever the server runs.
//!
//! ```text
//!  open("plant/valve")                               entries of this node          (qnet_ipc::names)
//!  open("/net/NODE/dev/name/local/plant/valve")      _IO_CONNECT to NODE's server ─▶ link reply: its pid, chid
//!  open("plant/valve", Global)                       entries of this node, then its gns ─▶ nodes, pids, chids
//!                                     └──▶ ConnectAttach to each until one takes an _IO_CONNECT
//! ```
//!
//! DEVIATION: global names may be attached by the owner of the node's root, not only by root, because a node may belong to any
//! user; and neither attaching one nor finding one of the own node needs a gns, which on QNX has to run before.
//!
//! The `_IO_CONNECT` at the end is an ordinary message to the server, which answers it itself (`EOK` lets the client in), as
//! QNX's servers do. Local names need no daemon; those of other nodes need Qnet, and global ones of other nodes `gns`.
//!
//! ```
//! use qnet::{Channel, ChannelFlags, Received, Root, names::{self, Scope}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let root = Root::at(directory.path())?;
//! let channel = Channel::create(&root, ChannelFlags::empty())?;
//! let _name = names::attach(&root, "plant/valve", channel.chid(), Scope::Local)?;
//! std::thread::scope(|scope| -> Result<(), qnet::Error> {
//!     scope.spawn(|| {
//!         for _ in 0..2 {
//!             let Ok(Received::Message(message)) = channel.receive(None) else { panic!("a message was sent") };
//!             message.reply(0, b"open")?; // the first one is name_open's _IO_CONNECT
//!         }
//!         Ok::<_, qnet::Error>(())
//!     });
//!     let valve = names::open(&root, "plant/valve", Scope::Local)?;
//!     let mut state = [0; 4];
//!     valve.send(b"state?", &mut state)?;
//!     assert_eq!(&state, b"open");
//!     Ok(())
//! })?;
//! # Ok(())
//! # }
//! ```

mod handles;
mod manager;
mod remote;
mod target;

use std::{ffi::OsStr, io::IoSlice, time::Instant};

use nix::errno::Errno;
use qnet_iomsg::{
    Connect, Subtype,
    connect::FTYPE_NAME,
    flags::{IOFLAG_READ, IOFLAG_WRITE},
};
use qnet_ipc::{Root, names};

use crate::{Connection, Error, LOCAL_NODE, SendOptions};

pub use handles::{Attached, name_attach, name_attach_to, name_close, name_detach, name_open};
pub use manager::{Manager, Offered, offered};
pub use qnet_iomsg::gns;
pub use remote::{find_at, manager_of};
pub use target::{Scope, Target};

/// `NAME_FLAG_ATTACH_GLOBAL`: the name is, or is looked up among, those of all nodes.
pub const ATTACH_GLOBAL: u32 = 0x2;
/// `NAME_FLAG_DETACH_SAVEDPP`: the channel of a name that is given up stays.
pub const DETACH_SAVEDPP: u32 = 0x1;
/// Entries that are looked at for dead owners with each name that is attached.
const LOOKED_AT: usize = 256;
/// Global names that begin so are reserved.
const RESERVED: &str = "net/";

/// A name that a channel of this process has. Dropping it gives the name up.
#[doc(alias("name_attach_t", "name_detach"))]
#[derive(Debug)]
pub struct Name {
    // Held for what dropping it does.
    _entry: names::HeldName,
}

/// A channel behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Its node; 0 is this one.
    pub nd: u32,
    /// Its process.
    pub pid: i32,
    /// Its number there.
    pub chid: i32,
}

/// Gives channel `chid` of this process a name, until the returned value is dropped or the process ends.
///
/// # Errors
/// `EEXIST`: a living process of this node has it, or it is a directory of other names. `ENOTDIR`: a part of it is the
/// name of a channel. `EPERM`: only the owner of the node's root (and root) may attach global names. `EINVAL`: not a
/// name; a global one that begins with `net/`. `ENAMETOOLONG`. `EACCES`: this user may make no names below this root.
#[doc(alias = "name_attach")]
pub fn attach(root: &Root, name: &str, chid: i32, scope: Scope) -> Result<Name, Error> {
    let base = match scope {
        Scope::Local => root.local_names(),
        Scope::Global if name.starts_with(RESERVED) => return Err(Error::Errno(libc::EINVAL)),
        Scope::Global => root.offered_names(),
    };
    names::check(OsStr::new(name))?;
    let made = match scope {
        _ if base.is_dir() => Ok(()),
        Scope::Local => names::make_local_directory(root),
        Scope::Global => names::make_offered_directory(root),
    };
    let entry = match made.map_err(Error::Io) {
        Ok(()) => names::attach(&base, OsStr::new(name), chid).map_err(Error::from),
        Err(error) => Err(error),
    };
    match entry {
        Ok(entry) => {
            // Where nobody sees to it, the living clear away the dead.
            names::clear(&base, LOOKED_AT);
            if scope == Scope::Global {
                remote::tell_gns(root);
            }
            Ok(Name { _entry: entry })
        }
        Err(error) if scope == Scope::Global && error.errno() == libc::EACCES => {
            Err(Error::Errno(libc::EPERM))
        }
        Err(error) => Err(error),
    }
}

/// A connection to the channel that has the name `path`; see [`Target::parse`] for what that may be.
///
/// # Errors
/// `ENOENT`: nobody has the name. `EISDIR`, `ENOTDIR`: it is a directory of names, or a part of it is a name. `EINVAL`,
/// `ENAMETOOLONG`: not a name. `ENOTSUP`: another node is meant, and Qnet does not run. `EHOSTUNREACH`, `EHOSTDOWN`: no way
/// to it. `EPERM`: it lets nobody connect. And whatever the server answers an `_IO_CONNECT` with.
#[doc(alias = "name_open")]
pub fn open(root: &Root, path: &str, scope: Scope) -> Result<Connection, Error> {
    let target = Target::parse(root, path, scope)?;
    first_that_answers(&find(root, &target)?, |service| {
        let connection = Connection::attach(root, service.nd, service.pid, service.chid)?;
        greet(&connection, None)?;
        Ok(connection)
    })
}

/// The channels that have a name, those of this node first.
///
/// # Errors
/// As [`open`], but for those of the channels themselves.
pub fn find(root: &Root, target: &Target) -> Result<Vec<Service>, Error> {
    match &target.node {
        None => find_here(root, target),
        Some(node) => remote::find(root, node, target),
    }
}

/// Opens a name on an attached connection: the `_IO_CONNECT` that a server answers itself.
///
/// # Errors
/// What the server answers with, `ETIMEDOUT` when it has not by `deadline`, and those of [`Connection::send_vectored`].
pub fn greet(connection: &Connection, deadline: Option<Instant>) -> Result<(), Error> {
    let options = SendOptions { deadline, ..SendOptions::default() };
    connection.send_vectored(&[IoSlice::new(&connect_message()?)], &mut [], options).map(drop)
}

/// The message that [`greet`] sends.
pub(crate) fn connect_message() -> Result<Vec<u8>, Error> {
    let ioflag = IOFLAG_READ | IOFLAG_WRITE;
    let message = Connect { file_type: FTYPE_NAME, ioflag, ..Connect::new(Subtype::Open, b"") };
    message.emit().map_err(|error| Error::Errno(error.linux_errno()))
}

/// The first of `services` with which `connect` succeeds. Of a channel that is gone, the name is as well.
pub(crate) fn first_that_answers<T>(
    services: &[Service],
    mut connect: impl FnMut(Service) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut last = Error::Errno(libc::ENOENT);
    for service in services {
        match connect(*service) {
            Ok(value) => return Ok(value),
            Err(error) if matches!(error.errno(), libc::ESRCH | libc::EBADF) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn find_here(root: &Root, target: &Target) -> Result<Vec<Service>, Error> {
    let base = match target.scope {
        Scope::Local => root.local_names(),
        Scope::Global => root.offered_names(),
    };
    match names::owner(&base, OsStr::new(&target.name)) {
        // A process of another PID namespace cannot be reached from here.
        Ok(owner) if owner.pid == 0 => Err(Error::Errno(libc::ENOENT)),
        Ok(names::Owner { pid, chid }) => Ok(vec![Service { nd: LOCAL_NODE, pid, chid }]),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EISDIR) if target.scope == Scope::Global => {
            find_everywhere(root, target)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// A global name that this node does not offer itself: by way of a link to another node's, as small systems have it, or from
/// the gns.
fn find_everywhere(root: &Root, target: &Target) -> Result<Vec<Service>, Error> {
    match std::fs::read_link(root.global_names()) {
        Ok(link) => {
            let path = link.join(&target.name);
            let path = path.to_str().ok_or(Error::Errno(libc::ENOENT))?;
            match Target::parse(root, path, Scope::Global)? {
                Target { node: None, .. } => Err(Error::Errno(libc::ELOOP)),
                elsewhere => find(root, &elsewhere),
            }
        }
        Err(_) => remote::ask_gns(root, &target.name),
    }
}

#[cfg(test)]
mod tests;
