//! Making sockets: listening, connecting, pairs.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    process,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket, socketpair,
    },
};
use thiserror::Error;

use crate::{ChannelAddress, ClientPeer, PeerError, PeerIdentity, ServerPeer, sys};

/// A client could not reach its channel.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody listens there, or the way is barred.
    #[error("cannot connect to {name}: {source}")]
    Unreachable {
        /// Path, or abstract name after `@`.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Another process sits on the address of the one that was meant.
    #[error("{name} belongs to process {found}, not to process {expected}")]
    Impostor {
        /// Abstract name after `@`.
        name: String,
        /// Process in the address.
        expected: i32,
        /// Process that listens.
        found: i32,
    },
    /// The hello did not go out.
    #[error("cannot greet {name}: {source}")]
    Hello {
        /// Path, or abstract name after `@`.
        name: String,
        /// Why.
        source: PeerError,
    },
}

impl ConnectError {
    /// The errno that stands for it: `ESRCH` when nobody is there.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Unreachable { source, .. } => match source.raw_os_error() {
                None | Some(libc::ECONNREFUSED | libc::ENOENT) => libc::ESRCH,
                Some(errno) => errno,
            },
            Self::Impostor { .. } => libc::ESRCH,
            Self::Hello { .. } => libc::EBADF,
        }
    }
}

/// A listening socket could not be made.
#[derive(Debug, Error)]
#[error("cannot listen on {name}: {source}")]
pub struct ListenError {
    /// Path, or abstract name after `@`.
    pub name: String,
    /// Why.
    pub source: io::Error,
}

/// Waits for clients; the server's side of a channel. Non-blocking.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: Option<PathBuf>,
}

impl Listener {
    /// Opens the channel `address`, which must be one of the calling process.
    ///
    /// # Errors
    /// `EADDRINUSE` when the channel exists, or somebody squats on its address.
    pub fn channel(address: &ChannelAddress) -> Result<Self, ListenError> {
        let name = address.to_string();
        let make = || {
            let socket = new_socket()?;
            bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
            listen(&socket, backlog()?)?;
            Ok::<_, Errno>(socket)
        };
        match make() {
            Ok(socket) => Ok(Self { socket, path: None }),
            Err(errno) => Err(ListenError { name: format!("@{name}"), source: errno.into() }),
        }
    }

    /// Listens at `path`, replacing a dead socket there in one step, and lets everybody connect who passes `mode`.
    ///
    /// The path is removed when the listener is dropped.
    ///
    /// # Errors
    /// `EADDRINUSE` when a live process listens there; whatever the directory refuses.
    pub fn at_path(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let make = || -> io::Result<OwnedFd> {
            if is_listening(path) {
                return Err(Errno::EADDRINUSE.into());
            }
            let socket = new_socket()?;
            let fresh = path.with_extension(format!("new-{}", process::id()));
            // Left by a process of the same number that died at this very place.
            fs::remove_file(&fresh).ok();
            bind(socket.as_raw_fd(), &UnixAddr::new(&fresh)?)?;
            let ready = fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))
                .and_then(|()| Ok(listen(&socket, backlog()?)?))
                .and_then(|()| fs::rename(&fresh, path));
            if let Err(error) = ready {
                fs::remove_file(&fresh).ok();
                return Err(error);
            }
            Ok(socket)
        };
        match make() {
            Ok(socket) => Ok(Self { socket, path: Some(path.to_owned()) }),
            Err(source) => Err(ListenError { name: path.display().to_string(), source }),
        }
    }

    /// Takes the next client, with what the kernel knows of it; `None` when none waits.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM`: the client stays in the queue; wait before the next attempt.
    pub fn accept(&self) -> io::Result<Option<(ServerPeer, PeerIdentity)>> {
        loop {
            let fd = match sys::accept(&self.socket) {
                Ok(fd) => fd,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::ECONNABORTED | Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            // A client that is gone already is nobody's error; take the next one.
            let Ok(identity) = PeerIdentity::of(&fd) else { continue };
            let Ok(peer) = ServerPeer::new(fd) else { continue };
            return Ok(Some((peer, identity)));
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            fs::remove_file(path).ok();
        }
    }
}

/// Connects to a channel of this machine and makes sure that its owner is the process in the address.
///
/// # Errors
/// See [`ConnectError`].
pub fn connect_channel(address: &ChannelAddress) -> Result<(ClientPeer, PeerIdentity), ConnectError> {
    let name = format!("@{address}");
    let unreachable = |source| ConnectError::Unreachable { name: name.clone(), source };
    let target = UnixAddr::new_abstract(&name.as_bytes()[1..]).map_err(|errno| unreachable(errno.into()))?;
    let (peer, identity) = open(&target, &name)?;
    if identity.pid != address.pid {
        return Err(ConnectError::Impostor { name, expected: address.pid, found: identity.pid });
    }
    Ok((peer, identity))
}

/// Connects to the listener at `path` (such as [`crate::Root::qnet_socket`]).
///
/// # Errors
/// See [`ConnectError`].
pub fn connect_path(path: &Path) -> Result<(ClientPeer, PeerIdentity), ConnectError> {
    let name = path.display().to_string();
    let target = UnixAddr::new(path)
        .map_err(|errno| ConnectError::Unreachable { name: name.clone(), source: errno.into() })?;
    open(&target, &name)
}

/// A connected pair: the client's end, and a descriptor for the process that will be the server.
///
/// # Errors
/// No descriptors left.
pub fn pair() -> Result<(ClientPeer, OwnedFd), PeerError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (client, server) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        .map_err(|errno| PeerError::Io(errno.into()))?;
    Ok((ClientPeer::new(client)?, server))
}

/// Whether a process listens at `path`. A socket of another type counts as well.
pub(crate) fn is_listening(path: &Path) -> bool {
    let (Ok(probe), Ok(target)) = (new_socket(), UnixAddr::new(path)) else { return false };
    !matches!(connect(probe.as_raw_fd(), &target), Err(Errno::ECONNREFUSED | Errno::ENOENT | Errno::ENOTDIR))
}

fn open(target: &UnixAddr, name: &str) -> Result<(ClientPeer, PeerIdentity), ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { name: name.to_owned(), source };
    let socket = new_socket().map_err(|errno| unreachable(errno.into()))?;
    connect(socket.as_raw_fd(), target).map_err(|errno| unreachable(errno.into()))?;
    let identity = PeerIdentity::of(&socket).map_err(unreachable)?;
    let peer =
        ClientPeer::new(socket).map_err(|source| ConnectError::Hello { name: name.to_owned(), source })?;
    Ok((peer, identity))
}

fn new_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

/// Clients that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
fn backlog() -> nix::Result<Backlog> {
    Backlog::new(4096)
}

#[cfg(test)]
mod tests;
