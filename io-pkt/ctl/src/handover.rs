//! Handing a call to the system's own program of the same name.
//!
//! `mount` and `umount` in front of the system's in `PATH` act for io-pkt only; everything else goes, untouched, to
//! the next program of that name that is not themselves. Links and copies under other names are told apart by device
//! and inode. Two installed copies that find each other would call each other for ever: the ones already visited
//! travel along in an environment variable.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Programs that have passed the call on already, as `device:inode` separated by commas.
const VISITED: &str = "IO_PKT_HANDED_OVER_BY";

/// A command that runs the next program called `name` in `PATH` which is not the running one; without arguments yet.
/// `None` when there is no other.
#[must_use]
pub fn next_program(name: &str) -> Option<Command> {
    let mut visited: Vec<String> =
        env::var(VISITED).map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
    visited.extend(identity(Path::new("/proc/self/exe")));
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let program = next_in(&path, name, &visited)?;
    let mut command = Command::new(program);
    command.env(VISITED, visited.join(","));
    Some(command)
}

fn next_in(path: &OsStr, name: &str, visited: &[String]) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join(name)).find(|candidate| {
        let is_program = fs::metadata(candidate).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
        is_program && identity(candidate).is_some_and(|identity| !visited.contains(&identity))
    })
}

/// What a file is, whatever it is called.
fn identity(path: &Path) -> Option<String> {
    fs::metadata(path).ok().map(|meta| format!("{}:{}", meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn program(dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        fs::create_dir_all(dir).unwrap();
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn links_to_ourselves_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, system) = (dir.path().join("a"), dir.path().join("b"));
        let own = program(&ours, "qnx-mount");
        symlink("qnx-mount", ours.join("mount")).unwrap();
        let other = program(&system, "mount");
        let path = env::join_paths([&ours, &system]).unwrap();
        let visited = [identity(&own).unwrap()];
        assert_eq!(next_in(&path, "mount", &visited), Some(other));
        assert_eq!(next_in(&path, "nosuch", &visited), None);
    }

    #[test]
    fn a_file_that_cannot_be_run_is_no_program() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mount"), "text").unwrap();
        assert_eq!(next_in(dir.path().as_os_str(), "mount", &[]), None);
    }
}
