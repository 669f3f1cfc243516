//! How ports find each other: a directory with one listening socket for each port.
//!
//! ```text
//!  /tmp/seg/                      mode 0700, locked (flock) while a port enters
//!     port-02a1b2c3d4e5-3f9c0a1b2c3d4e5f    listening socket of a port: its address, and a number never used again
//! ```
//!
//! A port that enters takes the lock, connects to every socket there, chooses an address that none of those ports has,
//! makes its own socket, and gives the lock back. So of any two ports exactly the later one connects to the earlier one, and when `enter` returns, the newcomer
//! is connected to everybody who was there. A socket that refuses the connection belongs to a dead port and is removed;
//! that cannot hit a living one, because sockets are made and start listening under the lock.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use io_pkt_sdk::{Error, Mac};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, setsockopt, socket,
            sockopt,
        },
        stat::fstat,
    },
    unistd::geteuid,
};

const PREFIX: &str = "port-";
/// Longest path that fits a Unix address.
const LONGEST_PATH: usize = 107;
/// How long a newcomer waits for others that enter.
const PATIENCE: Duration = Duration::from_millis(900);
/// What each socket may hold on its way, as far as the system allows.
const SEND_BUFFER: usize = 1 << 20;

/// A port's place in the segment. Dropping it removes the socket, and the directory when nobody is left.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    directory: File,
    name: String,
    // Sequenced packets, whatever the type's name says; it accepts all the same.
    listener: UnixListener,
}

/// What a newcomer found.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) place: Place,
    /// Connections to the ports that were there.
    pub(crate) peers: Vec<OwnedFd>,
    /// Names of ports that are too busy to be connected to now; to be tried again.
    pub(crate) busy: Vec<String>,
    /// The newcomer's address.
    pub(crate) mac: Mac,
    /// Another port has the same one.
    pub(crate) is_taken: bool,
}

impl AsFd for Place {
    /// The socket to watch for newcomers.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Enters the segment at `path`, which is made if it is not there. `choose` gives the newcomer's address, knowing those
/// of the others.
///
/// # Errors
/// The directory cannot be made or belongs to somebody else, or a port that is entering never ends.
pub(crate) fn enter(path: &str, choose: impl FnOnce(&[Mac]) -> Mac) -> Result<Entered, Error> {
    let said = |what: &str, error: io::Error| Error::os(format!("path={path}: {what}"), &error);
    let directory = open_locked(Path::new(path))?;
    let (mut peers, mut busy, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for other in others(Path::new(path)).map_err(|error| said("cannot be read", error))? {
        match connect_to(Path::new(path), &directory, &other) {
            Ok(peer) => peers.push(peer),
            Err(Errno::EAGAIN) => busy.push(other.clone()),
            // Its port is dead, and nobody will ever listen there again.
            Err(Errno::ECONNREFUSED) => {
                drop(fs::remove_file(Path::new(path).join(&other)));
                continue;
            }
            Err(Errno::ENOENT) => continue,
            Err(errno) => tracing::warn!("{path}: cannot connect to {other}: {errno}"),
        }
        taken.extend(mac_of(&other));
    }
    let mac = choose(&taken);
    let name = name_for(mac);
    let listener = stream().map_err(|errno| said("cannot make a socket", errno.into()))?;
    let own = address(Path::new(path), &directory, &name);
    let own = own.map_err(|errno| said("cannot name a socket", errno.into()))?;
    bind(listener.as_raw_fd(), &own)
        .and_then(|()| listen(&listener, Backlog::MAXALLOWABLE))
        .map_err(|errno| said("cannot make a socket there", errno.into()))?;
    let clone = directory.try_clone().map_err(|error| said("cannot keep it open", error))?;
    let place = Place { path: path.into(), directory: clone, name, listener: listener.into() };
    Ok(Entered { place, peers, busy, mac, is_taken: taken.contains(&mac) })
}

/// The name of a new socket.
fn name_for(mac: Mac) -> String {
    let address: String = mac.0.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{PREFIX}{address}-{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// The address in the name of a socket.
fn mac_of(name: &str) -> Option<Mac> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// Names of the sockets there.
fn others(path: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(path)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with(PREFIX)).collect())
}

fn connect_to(path: &Path, directory: &File, name: &str) -> Result<OwnedFd, Errno> {
    let fd = stream()?;
    connect(fd.as_raw_fd(), &address(path, directory, name)?)?;
    Ok(fd)
}

impl Place {
    /// The next newcomer, if there is one.
    pub(crate) fn accept(&self) -> Option<OwnedFd> {
        let (peer, _) = self.listener.accept().ok()?;
        peer.set_nonblocking(true).ok()?;
        let fd = OwnedFd::from(peer);
        enlarge(&fd);
        Some(fd)
    }

    /// Connects to the port of this name.
    ///
    /// # Errors
    /// EAGAIN when it is too busy, ECONNREFUSED or ENOENT when it is dead.
    pub(crate) fn connect(&self, name: &str) -> Result<OwnedFd, Errno> {
        connect_to(&self.path, &self.directory, name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(self.path.join(&self.name)) {
            tracing::debug!("{}: {error}", self.path.display());
        }
        // The last one removes the directory, if it looks like one that a port made. Nobody may be entering meanwhile.
        let private = self
            .directory
            .metadata()
            .is_ok_and(|found| found.mode() & 0o7777 == 0o700 && found.uid() == geteuid().as_raw());
        let empty = fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_none());
        if private
            && empty
            && let Ok(_held) = try_lock(&self.path)
        {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Makes the directory if need be, and locks it.
fn open_locked(path: &Path) -> Result<Flock<File>, Error> {
    let shown = path.display();
    let end = Instant::now() + PATIENCE;
    loop {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::os(format!("path={shown}: cannot make the directory"), &error));
            }
            _ => {}
        }
        match try_lock(path) {
            Ok(directory) => {
                check_owner(path, &directory)?;
                return Ok(directory);
            }
            // Held by another newcomer, or removed by the last one that left.
            Err(Errno::EWOULDBLOCK | Errno::ENOENT) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(Errno::EWOULDBLOCK) => {
                return Err(Error::new(
                    libc::EBUSY,
                    format!("path={shown}: another port has been entering for a second; is it stopped?"),
                ));
            }
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(Error::new(libc::ENOTDIR, format!("path={shown} is not a directory")));
            }
            Err(errno) => return Err(Error::os(format!("path={shown}"), &errno.into())),
        }
    }
}

/// Locks the directory that is at `path` at this moment.
fn try_lock(path: &Path) -> Result<Flock<File>, Errno> {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path);
    let directory = open.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let held = Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
    let inside = fstat(held.as_fd())?;
    let same = fs::symlink_metadata(path)
        .is_ok_and(|there| there.ino() == inside.st_ino && there.dev() == inside.st_dev);
    if same { Ok(held) } else { Err(Errno::ENOENT) }
}

/// Whoever owns the directory can hear everything: it must be this user, or root.
fn check_owner(path: &Path, directory: &File) -> Result<(), Error> {
    let found = directory.metadata()?;
    let (owner, me) = (found.uid(), geteuid());
    if owner == me.as_raw() || owner == 0 || me.is_root() {
        return Ok(());
    }
    let text =
        format!("path={}: the directory belongs to user {owner}, who could hear every frame", path.display());
    Err(Error::new(libc::EPERM, text))
}

fn stream() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    enlarge(&fd);
    Ok(fd)
}

/// Room for more frames on the way; the system's limit holds.
fn enlarge(fd: &OwnedFd) {
    let _ = setsockopt(fd, sockopt::SndBuf, &SEND_BUFFER);
}

/// The address of a socket in the directory. A path that is too long for an address is reached through the descriptor.
fn address(path: &Path, directory: &File, name: &str) -> Result<UnixAddr, Errno> {
    let plain = path.join(name);
    if plain.as_os_str().len() <= LONGEST_PATH {
        return UnixAddr::new(&plain);
    }
    let number = directory.as_raw_fd();
    UnixAddr::new(format!("/proc/self/fd/{number}/{name}").as_str())
}
