//! The local terminal: both ends of a pseudo terminal, and a link to the one that programs use.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::pty::openpty;
use nix::unistd::ttyname;

/// Both ends. The slave is held open: without it the master would end whenever a program closes the terminal.
#[derive(Debug)]
pub(crate) struct Pair {
    master: OwnedFd,
    slave: OwnedFd,
    path: PathBuf,
}

impl Pair {
    /// A new one.
    pub(crate) fn open() -> Result<Self> {
        let ends = openpty(None, None)?;
        let path = ttyname(&ends.slave)?;
        Ok(Self { master: ends.master, slave: ends.slave, path })
    }

    /// Where bytes of programs come out, and those for them go in.
    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// What programs use.
    pub(crate) fn slave(&self) -> BorrowedFd<'_> {
        self.slave.as_fd()
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a symbolic link to it. A link that is there already is replaced if it leads nowhere.
    pub(crate) fn link(&self, path: &Path) -> Result<Link> {
        let is_left_over = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) && !path.exists();
        if is_left_over {
            fs::remove_file(path).with_context(|| format!("{}: cannot be replaced", path.display()))?;
        }
        if fs::symlink_metadata(path).is_ok() {
            bail!("{}: is there already", path.display());
        }
        symlink(&self.path, path).with_context(|| format!("{}: no link", path.display()))?;
        Ok(Link { path: path.to_owned(), target: self.path.clone() })
    }
}

/// A link to the local terminal, removed with this value unless somebody has made another one of it.
#[derive(Debug)]
pub(crate) struct Link {
    path: PathBuf,
    target: PathBuf,
}

impl Drop for Link {
    fn drop(&mut self) {
        if fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            // what cannot be removed leads nowhere soon and is replaced next time
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_goes_with_its_value_and_replaces_only_what_leads_nowhere() {
        let dir = std::env::temp_dir().join(format!("qnet-tty-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (pair, at) = (Pair::open().unwrap(), dir.join("tty"));
        symlink("/nowhere/at/all", &at).unwrap();
        let link = pair.link(&at).unwrap();
        assert_eq!(fs::read_link(&at).unwrap(), pair.path());
        let error = pair.link(&at).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        drop(link);
        assert!(fs::symlink_metadata(&at).is_err());
        fs::write(&at, "a file").unwrap();
        assert!(pair.link(&at).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
