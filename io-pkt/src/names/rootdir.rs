//! Making the root directory, and clearing away what dead daemons left in it.
//!
//! What is left behind is recognised by its name and by the lock of its instance: a living daemon holds the lock on
//! its pid file, so whatever belongs to an unlocked one is nobody's. Names of other programs in the directory are
//! left alone.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use ctl::{Root, root::check_private};

use super::{PidLock, devices::DeviceDir};

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last one is 0.
const LONGEST_SOCKET: usize = 107;

/// Chooses and makes the root directory of this daemon: the one the user gave, or the first candidate that is
/// possible.
///
/// # Errors
/// When none can be made or is safe to use; names each one with its cause.
pub fn make_root(explicit: Option<&Path>, instance: u32) -> anyhow::Result<Root> {
    if let Some(root) = Root::given(explicit) {
        check_length(&root, instance)?;
        make_dir(root.dir(), 0o755).with_context(|| format!("root directory {}", root.dir().display()))?;
        return Ok(root);
    }
    let mut tried = Vec::new();
    for root in Root::candidates() {
        let made = if root.is_system() { make_dir(root.dir(), 0o755) } else { make_dir(root.dir(), 0o700) };
        // In `/run/user/UID` and `/tmp` the directory must be ours alone: others may make names in `/tmp`.
        let safe = made.map_err(|cause| format!("{}: {cause}", root.dir().display())).and_then(|()| {
            if root.is_system() {
                Ok(())
            } else {
                check_private(root.dir()).map_err(|error| error.to_string())
            }
        });
        match safe {
            Ok(()) => return Ok(root),
            Err(sentence) => tried.push(sentence),
        }
    }
    bail!("no place for the node's names ({}); give one with --root", tried.join("; "))
}

/// Every name in the root is short, but sockets are reached by their whole path.
fn check_length(root: &Root, instance: u32) -> anyhow::Result<()> {
    let longest = root.control_socket(instance).as_os_str().len().max(root.qnet_socket().as_os_str().len());
    let Some(over) = longest.checked_sub(LONGEST_SOCKET).filter(|over| *over > 0) else { return Ok(()) };
    bail!(
        "root directory {}: its path is {over} bytes too long for the Unix sockets in it; give a shorter one with --root",
        root.dir().display()
    )
}

fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(dir)
}

/// Removes sockets, pid files and device files of instances that are not alive. The caller holds the lock of
/// `instance`, whose own left-overs go as well. Returns the names removed.
pub fn sweep(root: &Root, instance: u32, devices: &DeviceDir) -> Vec<String> {
    let dead = |number: u32| number == instance || !PidLock::is_held(&root.lock_file(number));
    let mut removed = devices.sweep(dead);
    let Ok(entries) = fs::read_dir(root.dir()) else { return removed };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_use_lock(&name) && !PidLock::is_held(&entry.path()) && fs::remove_file(entry.path()).is_ok() {
            removed.push(name);
            continue;
        }
        let Some(number) = instance_of(&name) else { continue };
        // Our own pid file is our lock.
        let own_lock = number == instance && name.ends_with(".pid");
        if dead(number) && !own_lock && fs::remove_file(entry.path()).is_ok() {
            removed.push(name);
        }
    }
    removed.sort();
    removed
}

/// The lock of what there may be one of on a node.
#[must_use]
pub fn use_lock(root: &Root, name: &str) -> PathBuf {
    root.dir().join(format!("io-pkt-{name}.lock"))
}

fn is_use_lock(name: &str) -> bool {
    name.starts_with("io-pkt-") && name.ends_with(".lock")
}

/// The instance that a file in the root belongs to: `io-pktN.sock`, `io-pktN.pid`.
fn instance_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("io-pkt")?;
    let number = rest.strip_suffix(".sock").or_else(|| rest.strip_suffix(".pid"))?;
    number.parse().ok().filter(|parsed: &u32| parsed.to_string() == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_root_is_made_with_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let root = make_root(Some(&dir.path().join("a/b")), 0).unwrap();
        assert!(root.dir().is_dir());
    }

    #[test]
    fn a_root_that_cannot_be_made_is_named() {
        let error = make_root(Some(Path::new("/proc/nowhere")), 0).unwrap_err();
        assert!(format!("{error:#}").contains("/proc/nowhere"), "{error:#}");
    }

    #[test]
    fn a_root_that_is_too_long_for_sockets_is_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let room = LONGEST_SOCKET - "/io-pkt0.sock".len() - dir.path().as_os_str().len() - 1;
        let longest = dir.path().join("x".repeat(room));
        make_root(Some(&longest), 0).unwrap();
        for (path, instance) in [(dir.path().join("x".repeat(room + 3)), 0), (longest, 1000)] {
            let error = make_root(Some(&path), instance).unwrap_err().to_string();
            assert!(error.contains("3 bytes too long") && error.contains("--root"), "{error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is made");
    }

    #[test]
    fn left_overs_of_dead_instances_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let devices = DeviceDir::new(&root, 0);
        let mine = PidLock::take(&root.lock_file(0)).unwrap();
        let alive = PidLock::take(&root.lock_file(2)).unwrap();
        for instance in [0, 1, 2] {
            fs::write(root.control_socket(instance), "").unwrap();
        }
        fs::write(root.lock_file(1), "1\n").unwrap();
        fs::write(dir.path().join("qnet.sock"), "").unwrap();
        fs::write(dir.path().join("io-pkt01.sock"), "").unwrap();
        fs::write(use_lock(&root, "dead"), "1\n").unwrap();
        let qnet = PidLock::take(&use_lock(&root, "qnet")).unwrap();
        assert_eq!(
            sweep(&root, 0, &devices),
            ["io-pkt-dead.lock", "io-pkt0.sock", "io-pkt1.pid", "io-pkt1.sock"]
        );
        assert!(use_lock(&root, "qnet").exists());
        assert!(root.control_socket(2).exists() && root.qnet_socket().exists());
        assert!(root.lock_file(0).exists() && dir.path().join("io-pkt01.sock").exists());
        drop((mine, alive, qnet));
    }
}
