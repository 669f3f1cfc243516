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

/// Chooses and makes the root directory of this daemon: the one the user gave, or the first candidate that is
/// possible.
///
/// # Errors
/// When none can be made or is safe to use; names each one with its cause.
pub fn make_root(explicit: Option<&Path>) -> anyhow::Result<Root> {
    if let Some(root) = Root::given(explicit) {
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
        let root = make_root(Some(&dir.path().join("a/b"))).unwrap();
        assert!(root.dir().is_dir());
    }

    #[test]
    fn a_root_that_cannot_be_made_is_named() {
        let error = make_root(Some(Path::new("/proc/nowhere"))).unwrap_err();
        assert!(format!("{error:#}").contains("/proc/nowhere"), "{error:#}");
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
