//! Is a path there, and does somebody serve it?

use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What a look at a path found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is there.
    There,
    /// It is not.
    Missing,
    /// A network directory that Qnet does not serve.
    NotServed,
    /// Qnet serves it and knows no node yet, not even its own.
    Empty,
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::There => "is there",
            Self::Missing => "still not there",
            Self::NotServed => "still not served by Qnet",
            Self::Empty => "served by Qnet, still without any node",
        })
    }
}

/// Does stat() work?
pub(crate) fn stat(path: &Path) -> Presence {
    if fs::metadata(path).is_ok() { Presence::There } else { Presence::Missing }
}

/// The same, but a network directory must be alive. `net` is the node's usual one.
pub(crate) fn live(path: &Path, net: &Path) -> Presence {
    let path = normal(path);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match mounted_type(&mounts, &path) {
        Some(kind) if kind == "fuse.qnet" => {
            match fs::read_dir(&path).map(|mut entries| entries.next().is_some()) {
                Ok(true) => Presence::There,
                Ok(false) => Presence::Empty,
                Err(_) => Presence::NotServed,
            }
        }
        _ if path == net => Presence::NotServed,
        _ => stat(&path),
    }
}

/// The type of the file system mounted exactly at `path`; the topmost one counts.
fn mounted_type(mounts: &str, path: &Path) -> Option<String> {
    let found = mounts.lines().rev().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let at = unescaped(place.split(' ').nth(4)?);
        (Path::new(&at) == path).then(|| kind.split(' ').next().unwrap_or_default())
    });
    found.map(str::to_owned)
}

/// The kernel writes blanks, tabs, line ends and backslashes as octal numbers.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// An absolute path without `.` and trailing slashes, found without asking the file system.
fn normal(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.components().filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 1 0:5 / / rw - ext4 /dev/vda rw\n\
        36 30 0:31 / /net rw,nosuid,nodev - fuse.qnet qnet rw\n\
        37 30 0:32 / /my\\040net rw shared:1 - fuse.qnet qnet rw\n";

    #[test]
    fn the_type_of_a_mount_is_found() {
        assert_eq!(mounted_type(MOUNTS, Path::new("/net")).as_deref(), Some("fuse.qnet"));
        assert_eq!(mounted_type(MOUNTS, Path::new("/my net")).as_deref(), Some("fuse.qnet"));
        assert_eq!(mounted_type(MOUNTS, Path::new("/net/joseph")), None);
    }

    #[test]
    fn an_empty_folder_is_no_live_network_directory() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(live(dir.path(), dir.path()), Presence::NotServed);
        assert_eq!(live(&dir.path().join("."), dir.path()), Presence::NotServed);
        assert_eq!(stat(dir.path()), Presence::There);
        assert_eq!(live(dir.path(), Path::new("/net")), Presence::There);
    }

    #[test]
    fn a_missing_path_is_missing() {
        assert_eq!(live(Path::new("/no/such/path"), Path::new("/net")), Presence::Missing);
    }
}
