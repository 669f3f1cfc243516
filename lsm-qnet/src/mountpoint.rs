//! Whether a directory can become the network directory, before anything is mounted.
//!
//! `qnet-netfs` mounts it later, in a process of its own. A directory that it can never have is an error of `mount=`, so
//! it is refused here, with the cure, and Qnet is not mounted at all. What may change by itself or needs no change (no
//! FUSE on this machine, a mount that a dead server left) is left to `qnet-netfs`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use io_pkt_sdk::Error;
use nix::{
    errno::Errno,
    unistd::{AccessFlags, access},
};

/// Type of a network directory that is mounted.
const TYPE: &str = "fuse.qnet";
const CURE: &str = "choose another directory with mount=/qnet";

/// Sees whether `path` is absolute, free and empty, or can be made.
///
/// # Errors
/// `EINVAL`, `EBUSY`, `ENOTEMPTY`, `ENOTDIR`, or why it cannot be made; the text names the directory, who has it, and the
/// cure.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    let shown = path.display();
    if !path.is_absolute() {
        return Err(Error::new(libc::EINVAL, format!("mount={shown}: an absolute path is expected")));
    }
    // A mount whose server is dead cannot be entered: the table is asked first, and nothing is looked up below it.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match mounted_at(&table, &resolved(path)) {
        Some((kind, _)) if kind == TYPE => return Ok(()),
        Some((kind, source)) => {
            let owner = if kind == "autofs" {
                "the automounter (autofs)".to_owned()
            } else {
                format!("{source} (type {kind})")
            };
            return Err(Error::new(libc::EBUSY, format!("mount={shown}: in use by {owner}; {CURE}")));
        }
        None => {}
    }
    let refused = |errno: i32, why: &str| Err(Error::new(errno, format!("mount={shown}: {why}; {CURE}")));
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => refused(libc::ENOTDIR, "is not a directory"),
        Ok(_) => match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(false) => Ok(()),
            Ok(true) => refused(libc::ENOTEMPTY, "is not empty, and what is in it would be hidden"),
            Err(error) => {
                refused(error.raw_os_error().unwrap_or(libc::EIO), &format!("cannot be read: {error}"))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path);
            match access(parent, AccessFlags::W_OK | AccessFlags::X_OK) {
                Ok(()) if parent.is_dir() => Ok(()),
                Ok(()) => refused(libc::ENOTDIR, &format!("{} is not a directory", parent.display())),
                Err(Errno::ENOENT) => refused(libc::ENOENT, &format!("{} does not exist", parent.display())),
                Err(errno) => refused(
                    errno as i32,
                    &format!("cannot be made in {}: {}", parent.display(), errno.desc()),
                ),
            }
        }
        Err(error) => refused(error.raw_os_error().unwrap_or(libc::EIO), &error.to_string()),
    }
}

/// As the mount table writes it, without looking at the directory itself.
fn resolved(path: &Path) -> PathBuf {
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// Type and source of the uppermost mount on `path`.
fn mounted_at(table: &str, path: &Path) -> Option<(String, String)> {
    // Field 5 is the mount point, with blanks as three octal digits; behind ` - ` come type and source.
    let path = path.to_str()?.replace('\\', "\\134").replace(' ', "\\040");
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(&path))?;
    let mut words = line.split_once(" - ")?.1.split(' ');
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> (i32, String) {
        let error = check(path).unwrap_err();
        (error.errno(), error.text().to_owned())
    }

    #[test]
    fn an_empty_directory_will_do_and_so_will_one_that_can_be_made() {
        let place = tempfile::tempdir().unwrap();
        check(place.path()).unwrap();
        check(&place.path().join("net")).unwrap();
    }

    #[test]
    fn a_directory_with_files_is_refused_with_the_cure() {
        let (errno, text) = refusal(Path::new("/etc"));
        assert_eq!(errno, libc::ENOTEMPTY);
        assert!(text.starts_with("mount=/etc: is not empty") && text.contains("mount=/qnet"), "{text}");
    }

    #[test]
    fn what_can_never_be_mounted_on_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(refusal(&file).0, libc::ENOTDIR);
        assert_eq!(refusal(&file.join("net")).0, libc::ENOTDIR);
        assert_eq!(refusal(&place.path().join("a/b")).0, libc::ENOENT);
        assert_eq!(refusal(Path::new("net")).0, libc::EINVAL);
        assert_eq!(refusal(Path::new("/proc")).0, libc::EBUSY, "somebody else's mount");
        assert!(matches!(refusal(Path::new("/")).0, libc::EBUSY | libc::ENOTEMPTY));
    }

    #[test]
    fn the_mount_table_says_who_has_it() {
        let table = "\
25 1 0:23 / / rw shared:1 - ext4 /dev/sda1 rw
40 25 0:40 / /net rw shared:2 - autofs systemd-1 rw
41 25 0:41 / /my\\040net rw - tmpfs tmpfs rw
42 40 0:42 / /net rw,nosuid - fuse.qnet qnet rw";
        let qnet = Some(("fuse.qnet".to_owned(), "qnet".to_owned()));
        assert_eq!(mounted_at(table, Path::new("/net")), qnet);
        assert!(mounted_at(table, Path::new("/my net")).is_some());
        assert_eq!(mounted_at(table, Path::new("/qnet")), None);
    }
}
