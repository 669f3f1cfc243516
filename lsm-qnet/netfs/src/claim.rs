//! One server for one mount point: a locked file in the node's root.
//!
//! `ROOT/netfs-HASH.pid` (HASH is of the mount point's path) holds the server's process number and, if it made the mount
//! point, the word `created`. The lock, not the file, says that a server lives; the kernel drops it with the process.
//! `/net` outlives io-pkt, so a newly started io-pkt starts a server while the old one still works; it learns here that
//! it is not needed.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process,
};

/// Attempts to lock a file that others keep replacing.
const MAX_ATTEMPTS: usize = 16;

/// The mount point cannot be claimed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}; is this the root directory of a node?", path.display())]
pub struct ClaimError {
    /// The lock file.
    pub path: PathBuf,
    /// Why.
    pub reason: io::Error,
}

/// Outcome of [`Claim::take`].
#[derive(Debug)]
pub enum Claimed {
    /// The mount point is ours as long as this lives.
    Ours(Claim),
    /// A living server has it.
    Served {
        /// Its process; `None` when it has not written its number yet.
        pid: Option<i32>,
    },
}

/// The right to serve a mount point. Given back when dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: File,
    created_before: bool,
}

impl Claim {
    /// Claims `mount` (absolute) for the node whose root is `root`.
    ///
    /// # Errors
    /// The root does not exist or may not be written.
    pub fn take(root: &Path, mount: &Path) -> Result<Claimed, ClaimError> {
        Self::lock(root, mount, true)
    }

    /// Claims `mount` if its server has died, which leaves the file behind; `None` when the server ended in order.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn inherit(root: &Path, mount: &Path) -> Result<Option<Claimed>, ClaimError> {
        match Self::lock(root, mount, false) {
            Err(error) if error.reason.kind() == io::ErrorKind::NotFound => Ok(None),
            claimed => claimed.map(Some),
        }
    }

    fn lock(root: &Path, mount: &Path, create: bool) -> Result<Claimed, ClaimError> {
        let path = root.join(format!("netfs-{:016x}.pid", hash(mount.as_os_str().as_bytes())));
        let error = |reason| ClaimError { path: path.clone(), reason };
        for _ in 0..MAX_ATTEMPTS {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(create).truncate(false).mode(0o644);
            let mut file = options.custom_flags(libc::O_NOFOLLOW).open(&path).map_err(error)?;
            let mut words = String::new();
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    file.read_to_string(&mut words).map_err(error)?;
                    let pid = words.lines().next().and_then(|line| line.parse().ok());
                    return Ok(Claimed::Served { pid });
                }
                Err(TryLockError::Error(reason)) => return Err(error(reason)),
            }
            // The one before may have removed the file between our open and our lock.
            if !is_at(&file, &path) {
                continue;
            }
            file.read_to_string(&mut words).map_err(error)?;
            let mut claim = Self { path, file, created_before: words.lines().any(|line| line == "created") };
            return match claim.note(claim.created_before) {
                Ok(()) => Ok(Claimed::Ours(claim)),
                Err(reason) => Err(ClaimError { path: claim.path.clone(), reason }),
            };
        }
        Err(error(io::ErrorKind::ResourceBusy.into()))
    }

    /// Whether the mount point was made by a server that died without removing it.
    pub fn created_before(&self) -> bool {
        self.created_before
    }

    /// Writes down who serves, and whether the mount point is to be removed at the end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&mut self, created: bool) -> io::Result<()> {
        let words = format!("{}\n{}", process::id(), if created { "created\n" } else { "" });
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(words.as_bytes())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Removed while still locked, so that nobody can be looking at it as theirs.
        fs::remove_file(&self.path).ok();
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(root: &Path, mount: &str) -> Claimed {
        Claim::take(root, Path::new(mount)).unwrap()
    }

    #[test]
    fn the_second_to_come_learns_who_was_first() {
        let root = tempfile::tempdir().unwrap();
        let Claimed::Ours(first) = take(root.path(), "/net") else { panic!("nobody else is there") };
        let Claimed::Served { pid } = take(root.path(), "/net") else { panic!("it is taken") };
        assert_eq!(pid, i32::try_from(process::id()).ok());
        assert!(matches!(take(root.path(), "/qnet"), Claimed::Ours(_)), "another mount point is free");
        drop(first);
        assert!(matches!(take(root.path(), "/net"), Claimed::Ours(_)));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_dead_servers_file_is_taken_over_with_its_memory() {
        let root = tempfile::tempdir().unwrap();
        let Claimed::Ours(mut first) = take(root.path(), "/net") else { panic!("nobody else is there") };
        assert!(!first.created_before());
        first.note(true).unwrap();
        let left = fs::read(&first.path).unwrap();
        let path = first.path.clone();
        drop(first);
        fs::write(path, left).unwrap();
        let Claimed::Ours(second) = take(root.path(), "/net") else { panic!("the first is dead") };
        assert!(second.created_before());
    }

    #[test]
    fn only_the_dead_leave_something_to_inherit() {
        let root = tempfile::tempdir().unwrap();
        let inherit = || Claim::inherit(root.path(), Path::new("/net")).unwrap();
        assert!(inherit().is_none(), "nobody was there");
        let Claimed::Ours(first) = take(root.path(), "/net") else { panic!("nobody else is there") };
        assert!(matches!(inherit(), Some(Claimed::Served { .. })));
        let path = first.path.clone();
        drop(first);
        assert!(inherit().is_none(), "it ended in order");
        fs::write(path, "1\n").unwrap();
        assert!(matches!(inherit(), Some(Claimed::Ours(_))));
    }

    #[test]
    fn a_missing_root_is_named() {
        let error = Claim::take(Path::new("/no/such/root"), Path::new("/net")).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/root/netfs-"), "{error}");
    }
}
