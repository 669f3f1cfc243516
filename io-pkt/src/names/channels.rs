//! The directory of the names that programs give to their channels, below the root; as root also `/dev/name`.
//!
//! Programs make the entries themselves, whatever user they are of and whether or not a daemon runs (`qnet_ipc::names`). But
//! where a root belongs to one user and serves all, only its owner can make the directory.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use ctl::Root;

/// Everybody makes entries, nobody removes another one's.
const MODE: u32 = 0o1777;
/// Where QNX has the names.
const SYSTEM: &str = "/dev/name";

/// The directory. Dropping it removes what of it is empty, and the link to it.
#[derive(Debug)]
pub struct ChannelNames {
    /// `ROOT/dev/name`.
    directory: PathBuf,
    /// A link that this daemon made.
    link: Option<PathBuf>,
}

impl ChannelNames {
    /// Makes it, and for the machine's own root a link to it in `/dev`, unless something else has that place.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn make(root: &Root) -> io::Result<Self> {
        let link = root.is_system().then_some(Path::new(SYSTEM));
        Self::make_at(root.dir().join("dev/name"), link)
    }

    fn make_at(directory: PathBuf, link: Option<&Path>) -> io::Result<Self> {
        let local = directory.join("local");
        fs::create_dir_all(&local)?;
        fs::set_permissions(&local, fs::Permissions::from_mode(MODE))?;
        // Taken places, and those where nothing can be made, change nothing: the names are below the root in any case.
        let is_ours = |link: &&Path| {
            symlink(&directory, link).is_ok() || fs::read_link(link).is_ok_and(|target| target == directory)
        };
        let link = link.filter(is_ours).map(Path::to_owned);
        Ok(Self { directory, link })
    }
}

impl Drop for ChannelNames {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            let _ = fs::remove_file(link);
        }
        // Names of living programs, and other instances, keep what they need.
        let _ = fs::remove_dir(self.directory.join("local"));
        let _ = fs::remove_dir(self.directory.join(".global"));
        let removed = fs::remove_dir(&self.directory).is_ok();
        if let Some(above) = self.directory.parent().filter(|_| removed) {
            let _ = fs::remove_dir(above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_may_make_names_and_nothing_empty_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (names, link) = (dir.path().join("root/dev/name"), dir.path().join("link"));
        let made = ChannelNames::make_at(names.clone(), Some(&link)).unwrap();
        assert_eq!(fs::metadata(link.join("local")).unwrap().permissions().mode() & 0o7777, MODE);
        drop(made);
        assert!(!link.is_symlink() && !dir.path().join("root/dev").exists());
    }

    #[test]
    fn names_of_programs_outlive_the_daemon_and_a_taken_place_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (names, link) = (dir.path().join("dev/name"), dir.path().join("link"));
        fs::write(&link, "somebody's").unwrap();
        let made = ChannelNames::make_at(names.clone(), Some(&link)).unwrap();
        fs::write(names.join("local/valve"), "").unwrap();
        drop(made);
        let left = dir.path().join("left");
        symlink(&names, &left).unwrap();
        drop(ChannelNames::make_at(names.clone(), Some(&left)).unwrap());
        assert!(!left.is_symlink(), "a daemon that was killed left it");
        assert!(names.join("local/valve").exists());
        assert_eq!(fs::read_to_string(&link).unwrap(), "somebody's");
    }
}
