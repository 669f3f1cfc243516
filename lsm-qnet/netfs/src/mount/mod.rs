//! Mounting `/net`: the mount point before, during and after.
//!
//! ```text
//!  MountPoint::prepare ──▶ Mount::new ──▶ serve ──▶ drop: unmounted, the directory removed if it was made here
//!      made if missing       /dev/fuse: mount(2) with CAP_SYS_ADMIN, else fusermount3
//!      cleared of a dead predecessor
//! ```
//!
//! The mount is `nosuid,nodev` of type `fuse.qnet`, without `default_permissions`: only the serving node decides who
//! may do what. With mount(2) every user may enter (`allow_other`); through fusermount3 only the one who started us, as
//! the system's administrator has it.

mod table;

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    os::{fd::AsRawFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::statfs,
    unistd::{getgid, getuid},
};
use tracing::{debug, info, warn};

pub use self::table::{MountEntry, entries_at};
use crate::sys;

/// Type under which the mount appears in `/proc/mounts`.
pub const TYPE: &str = "fuse.qnet";

const SOURCE: &str = "qnet";
const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";
/// Dead mounts on top of each other that are cleared away.
const MAX_STALE: usize = 16;
/// Kilobytes the kernel reads ahead: eight requests of the largest size, so that one is being read from the other node's disk, some
/// are on the wire, and some are on their way into the page cache. One alone leaves each of these idle most of the time.
const READ_AHEAD_KB: &str = "8192";

/// `/net` cannot be mounted. Each text is whole: it contains the system's reason.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Somebody else uses the directory.
    #[error(
        "{path}: in use by {source_name} (type {fstype}); choose another directory with mount=/qnet",
        path = path.display()
    )]
    Taken {
        /// The mount point.
        path: PathBuf,
        /// What is mounted there.
        source_name: String,
        /// Its file system type.
        fstype: String,
    },
    /// Files lie in the directory and would be hidden.
    #[error("{}: is not empty; choose another directory with mount=/qnet", path.display())]
    NotEmpty {
        /// The mount point.
        path: PathBuf,
    },
    /// Not a directory.
    #[error("{}: is not a directory; choose another one with mount=/qnet", path.display())]
    NotDirectory {
        /// The mount point.
        path: PathBuf,
    },
    /// The directory can be neither found nor made.
    #[error("{}: cannot use it as the network directory: {reason}; choose another one with mount=/qnet", path.display())]
    Directory {
        /// The mount point.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The list of mounts cannot be read.
    #[error("{}: {reason}", table::MOUNTINFO)]
    Table {
        /// Why.
        reason: io::Error,
    },
    /// No FUSE device.
    #[error("{DEVICE}: {reason}; /net needs FUSE (modprobe fuse; in a container, pass the device in)")]
    Device {
        /// Why.
        reason: io::Error,
    },
    /// The kernel or the helper refused.
    #[error("{}: cannot mount: {reason}", path.display())]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// In their words.
        reason: String,
    },
}

/// A directory to mount on.
#[derive(Debug)]
pub struct MountPoint {
    path: PathBuf,
    created: bool,
}

/// The absolute path of a mount point. Its last component may be missing, or a dead mount that cannot be entered: only
/// the directory above is looked at.
///
/// # Errors
/// [`MountError::Directory`] when that one does not exist.
pub fn absolute(path: &Path) -> Result<PathBuf, MountError> {
    let directory = |reason| MountError::Directory { path: path.to_owned(), reason };
    let path = std::path::absolute(path).map_err(directory)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize().map_err(directory)?.join(name)),
        _ => Err(directory(Errno::EBUSY.into())),
    }
}

impl MountPoint {
    /// Makes sure that `path` (absolute) is an empty directory with nothing mounted on it. A mount of ours whose server
    /// is dead is taken away; `created_before` says that the directory was made by that server.
    ///
    /// # Errors
    /// [`MountError`] names who has it.
    pub fn prepare(path: &Path, created_before: bool) -> Result<Self, MountError> {
        clear_stale(path)?;
        let directory = |reason| MountError::Directory { path: path.to_owned(), reason };
        let created = match fs::symlink_metadata(path) {
            Ok(found) if !found.is_dir() => return Err(MountError::NotDirectory { path: path.into() }),
            Ok(_) => created_before,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o755).create(path).map_err(directory)?;
                true
            }
            Err(error) => return Err(directory(error)),
        };
        if fs::read_dir(path).map_err(directory)?.next().is_some() {
            return Err(MountError::NotEmpty { path: path.into() });
        }
        Ok(Self { path: path.into(), created })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is removed at the end.
    pub fn is_created(&self) -> bool {
        self.created
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        if self.created
            && let Err(error) = fs::remove_dir(&self.path)
        {
            debug!("{}: left behind: {error}", self.path.display());
        }
    }
}

/// A mounted `/net`. Unmounted when dropped, also under those who use it: their requests end with ENOTCONN.
#[derive(Debug)]
pub struct Mount {
    device: File,
    entry: Option<MountEntry>,
    by_helper: bool,
    // Dropped last: the directory can go when nothing is mounted on it.
    point: MountPoint,
}

impl Mount {
    /// Mounts on a prepared directory.
    ///
    /// # Errors
    /// [`MountError`] says who refused.
    pub fn new(point: MountPoint) -> Result<Self, MountError> {
        let (device, by_helper) = match mount_directly(&point.path) {
            Ok(device) => (device, false),
            Err(MountFailure::NotPermitted) => (mount_by_helper(&point.path)?, true),
            Err(MountFailure::Other(error)) => return Err(error),
        };
        let entry = top_entry(&point.path)?.filter(|entry| entry.fstype == TYPE);
        Ok(Self { device, entry, by_helper, point })
    }

    /// The FUSE device: non-blocking, one request for each read, one reply for each write.
    pub fn device(&self) -> &File {
        &self.device
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point.path
    }

    /// Raises the kernel's readahead to several requests of the largest size. Call when the mount is in use; only root may.
    pub fn raise_readahead(&self) {
        let Some(entry) = &self.entry else { return };
        let path = format!("/sys/class/bdi/{}/read_ahead_kb", entry.device);
        match fs::write(&path, READ_AHEAD_KB) {
            Ok(()) => debug!("{path} = {READ_AHEAD_KB}"),
            Err(error) => {
                info!("{path}: {error}; reading ahead stays at the kernel's 128 KiB, raising it needs root")
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // An administrator may have unmounted it, and somebody else mounted there since.
        let ours = match top_entry(&self.point.path) {
            Ok(top) => top.is_some() && top == self.entry,
            Err(_) => true,
        };
        if ours && let Err(reason) = unmount(&self.point.path, self.by_helper) {
            warn!("{}: cannot unmount: {reason}", self.point.path.display());
        }
    }
}

/// Why mount(2) did not do.
enum MountFailure {
    /// This process may not; the helper perhaps may.
    NotPermitted,
    Other(MountError),
}

fn mount_directly(path: &Path) -> Result<File, MountFailure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(MountFailure::NotPermitted);
    }
    let device = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE);
    let device = device.map_err(|reason| MountFailure::Other(MountError::Device { reason }))?;
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other",
        device.as_raw_fd(),
        getuid(),
        getgid()
    );
    // DEVIATION: on QNX set-user-id bits and devices of other nodes work. Here they are another machine's word.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match mount(Some(SOURCE), path, Some(TYPE), flags, Some(options.as_str())) {
        Ok(()) => Ok(device),
        Err(Errno::EPERM) => Err(MountFailure::NotPermitted),
        Err(errno) => {
            let reason = match errno {
                Errno::ENODEV => "this kernel has no FUSE".to_owned(),
                errno => errno.to_string(),
            };
            Err(MountFailure::Other(MountError::Refused { path: path.into(), reason }))
        }
    }
}

/// Lets the set-uid helper of the FUSE package mount; it passes the device over a socket.
fn mount_by_helper(path: &Path) -> Result<File, MountError> {
    let refused = |reason: String| MountError::Refused { path: path.into(), reason };
    let io_refused = |what: &str, error: io::Error| refused(format!("{what}: {error}"));
    let (ours, theirs) = sys::helper_socket().map_err(|error| io_refused("socket pair", error))?;
    let output = Command::new(HELPER)
        .args(["-o", "fsname=qnet,subtype=qnet,nosuid,nodev", "--"])
        .arg(path)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .output()
        .map_err(|error| io_refused(HELPER, error))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(refused(format!("{} ({})", helpers_words(&words), output.status)));
    }
    sys::receive_descriptor(&ours).map_err(|error| io_refused("no device from fusermount3", error))
}

/// What the helper said, with its name before it once. It writes that itself, but not on every line.
fn helpers_words(said: &str) -> String {
    let said = said.trim();
    let bare = said.strip_prefix(HELPER).and_then(|rest| rest.strip_prefix(':')).unwrap_or(said).trim_start();
    format!("{HELPER}: {}", if bare.is_empty() { "it does not say why" } else { bare })
}

/// Detaches at once: a process that is still inside must not keep us.
fn unmount(path: &Path, by_helper: bool) -> Result<(), String> {
    if !by_helper {
        return umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|errno| errno.to_string());
    }
    let output = Command::new(HELPER).args(["-u", "-z", "-q", "--"]).arg(path).output();
    let output = output.map_err(|error| format!("{HELPER}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{HELPER}: {}", output.status)) }
}

/// Takes away mounts of ours whose server has died.
fn clear_stale(path: &Path) -> Result<(), MountError> {
    for _ in 0..MAX_STALE {
        let Some(top) = top_entry(path)? else { return Ok(()) };
        if top.fstype != TYPE || !matches!(statfs(path), Err(Errno::ENOTCONN)) {
            return Err(taken(path, &top));
        }
        warn!("{}: the server of this mount is dead, replacing it", path.display());
        let by_helper = umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_err();
        if by_helper {
            unmount(path, true).map_err(|reason| MountError::Refused { path: path.into(), reason })?;
        }
    }
    match top_entry(path)? {
        Some(top) => Err(taken(path, &top)),
        None => Ok(()),
    }
}

fn taken(path: &Path, entry: &MountEntry) -> MountError {
    let (source_name, fstype) = (entry.source.clone(), entry.fstype.clone());
    MountError::Taken { path: path.into(), source_name, fstype }
}

/// What is mounted on `path`, the uppermost if several are.
fn top_entry(path: &Path) -> Result<Option<MountEntry>, MountError> {
    Ok(entries_at(path).map_err(|reason| MountError::Table { reason })?.pop())
}

/// A path from the bytes the mount table has.
fn path_from(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::helpers_words;

    #[test]
    fn the_helper_is_named_once() {
        assert_eq!(helpers_words("fusermount3: user has no access\n"), "fusermount3: user has no access");
        assert_eq!(helpers_words("no such device\n"), "fusermount3: no such device");
        assert_eq!(helpers_words(""), "fusermount3: it does not say why");
    }
}
