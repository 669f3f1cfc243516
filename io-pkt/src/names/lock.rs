//! A pid file that is locked as long as its process lives.
//!
//! The lock is an open file description lock, so a crash frees it at once, a recycled pid means nothing, and others
//! can ask whether it is held without disturbing it. The content is for people and for the error message that names
//! the running daemon.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{FcntlArg, fcntl};
use thiserror::Error;

/// Why a lock was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// A living process has it.
    #[error("{} is locked by pid {pid}", path.display())]
    Held {
        /// The pid file.
        path: PathBuf,
        /// The process that has it, as it wrote itself; `?` when it has not yet.
        pid: String,
    },
    /// The file cannot be made or locked.
    #[error("{}: {source}", path.display())]
    Io {
        /// The pid file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// A held lock. Dropping it removes the file and frees the lock.
#[derive(Debug)]
pub struct PidLock {
    path: PathBuf,
    // Closed, and so unlocked, after the file is gone: nobody finds an unlocked file with our pid in it.
    _file: File,
}

impl PidLock {
    /// Takes the lock, or says who has it. Never waits.
    ///
    /// # Errors
    /// [`LockError::Held`] with the pid of the holder.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.into(), source };
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // Whoever may read a file may also lock it, and keep the daemon from starting.
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)
                .map_err(failed)?;
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
                Ok(_) => {}
                Err(nix::Error::EAGAIN | nix::Error::EACCES) => return Err(Self::held(path, file)),
                Err(errno) => return Err(failed(errno.into())),
            }
            if !still_there(path, &file) {
                // Its owner removed it between our open and our lock: what we hold is a file without a name.
                continue;
            }
            file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
            return Ok(Self { path: path.into(), _file: file });
        }
    }

    /// True when a living process holds the lock at `path`, or may hold it: somebody else's file cannot be asked.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
            Ok(file) => file,
            Err(e) => return e.kind() == io::ErrorKind::PermissionDenied,
        };
        let mut lock = whole_file();
        let asked = fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock));
        asked.is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
    }

    fn held(path: &Path, file: File) -> LockError {
        let mut text = String::new();
        // A holder that has not written yet is shown as `?`.
        let _ = file.take(32).read_to_string(&mut text);
        let pid = match text.trim() {
            "" => "?".to_owned(),
            pid => pid.chars().filter(char::is_ascii_digit).collect(),
        };
        LockError::Held { path: path.into(), pid }
    }
}

impl Drop for PidLock {
    fn drop(&mut self) {
        // Without the file the next start makes a new one; with it the next start finds it unlocked. Both work.
        let _ = fs::remove_file(&self.path);
    }
}

/// A write lock on everything from the first byte on.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn still_there(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(named), Ok(held)) => (named.dev(), named.ino()) == (held.dev(), held.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("io-pkt0.pid");
        let lock = PidLock::take(&path).unwrap();
        assert!(PidLock::is_held(&path));
        match PidLock::take(&path) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert!(!path.exists() && !PidLock::is_held(&path));
        assert!(PidLock::take(&path).is_ok());
    }

    #[test]
    fn what_a_dead_holder_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("io-pkt0.pid");
        fs::write(&path, "99999999\nrubbish that is longer than a pid").unwrap();
        assert!(!PidLock::is_held(&path));
        let _lock = PidLock::take(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn nobody_else_can_open_and_so_lock_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("io-pkt0.pid");
        let _lock = PidLock::take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("io-pkt0.pid");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(matches!(PidLock::take(&path), Err(LockError::Io { .. })));
        assert!(!dir.path().join("elsewhere").exists());
    }
}
