//! Where a node keeps its names: the root directory and what lies in it.
//!
//! ```text
//! ROOT/io-pktN.sock    control socket of instance N        ROOT/io-pktN.pid   its lock file
//! ROOT/qnet.sock       Qnet's socket for local programs    ROOT/io-pkt-qnet.lock  lock: one Qnet per node
//! ```
//!
//! Device names and the network directory are the machine's own (`/dev/io-net`, `/net`) when the root is
//! [`SYSTEM_ROOT`], and lie below the root otherwise. This file finds; making the directory is the daemon's work.

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::Uid;
use thiserror::Error;

use crate::sys;

/// Root of the node that root runs.
pub const SYSTEM_ROOT: &str = "/run/io-pkt";
/// Environment variable that names the root. Ignored in a program that was started with raised privileges.
pub const ROOT_VARIABLE: &str = "IO_PKT_ROOT";

/// Why no root could be chosen.
#[derive(Debug, Error)]
pub enum RootError {
    /// The directory exists and is not safe to trust.
    #[error("{}: {why}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The directory cannot be looked at.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// A node's root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    dir: PathBuf,
}

/// An instance of io-pkt that listens below a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its number.
    pub number: u32,
    /// Its control socket.
    pub socket: PathBuf,
}

impl Root {
    /// The root at `dir`, without looking.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The root that a client should talk to: `explicit` (from `--root`), `IO_PKT_ROOT`, [`SYSTEM_ROOT`] when a node
    /// is alive there, `$XDG_RUNTIME_DIR/io-pkt`, `/tmp/io-pkt-UID`.
    ///
    /// # Errors
    /// When the chosen directory under `/tmp` belongs to somebody else or is open to others.
    pub fn find(explicit: Option<&Path>) -> Result<Self, RootError> {
        if let Some(dir) = Self::given(explicit) {
            return Ok(dir);
        }
        let system = Self::at(SYSTEM_ROOT);
        if Uid::effective().is_root() || !system.instances().is_empty() {
            return Ok(system);
        }
        let runtime = runtime_dir().map(|dir| Self::at(dir.join("io-pkt")));
        let private = Self::at(private_dir());
        match runtime {
            // Without a live node in either, the first one is named in error messages.
            Some(runtime) if !runtime.instances().is_empty() || private.instances().is_empty() => Ok(runtime),
            _ => {
                if private.dir.exists() {
                    check_private(&private.dir)?;
                }
                Ok(private)
            }
        }
    }

    /// The root that the user chose by `--root` or `IO_PKT_ROOT`, if any. Relative paths are taken from here.
    #[must_use]
    pub fn given(explicit: Option<&Path>) -> Option<Self> {
        let dir =
            explicit.map(Path::to_path_buf).or_else(|| trusted_var(ROOT_VARIABLE).map(PathBuf::from))?;
        let dir =
            if dir.is_absolute() { dir } else { env::current_dir().map(|cwd| cwd.join(&dir)).unwrap_or(dir) };
        Some(Self { dir })
    }

    /// The directories that a daemon without a given root may use, best first. The caller makes the first it can.
    #[must_use]
    pub fn candidates() -> Vec<Self> {
        if Uid::effective().is_root() {
            return vec![Self::at(SYSTEM_ROOT)];
        }
        let runtime = runtime_dir().map(|dir| Self::at(dir.join("io-pkt")));
        runtime.into_iter().chain([Self::at(private_dir())]).collect()
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// True for [`SYSTEM_ROOT`], whose device names and network directory are the machine's own.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.dir == Path::new(SYSTEM_ROOT)
    }

    /// Control socket of an instance.
    #[must_use]
    pub fn control_socket(&self, instance: u32) -> PathBuf {
        self.dir.join(format!("io-pkt{instance}.sock"))
    }

    /// Lock file of an instance; holds its pid and is locked as long as it lives.
    #[must_use]
    pub fn lock_file(&self, instance: u32) -> PathBuf {
        self.dir.join(format!("io-pkt{instance}.pid"))
    }

    /// Qnet's socket for local programs.
    #[must_use]
    pub fn qnet_socket(&self) -> PathBuf {
        self.dir.join("qnet.sock")
    }

    /// Directory of the device files.
    #[must_use]
    pub fn devices(&self) -> PathBuf {
        if self.is_system() { PathBuf::from("/dev/io-net") } else { self.dir.join("dev/io-net") }
    }

    /// Network directory of the node when no option says otherwise.
    #[must_use]
    pub fn net(&self) -> PathBuf {
        if self.is_system() { PathBuf::from("/net") } else { self.dir.join("net") }
    }

    /// The instances that listen here now, by number. A socket that a dead daemon left behind is not one.
    #[must_use]
    pub fn instances(&self) -> Vec<Instance> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let number = instance_of_socket(entry.file_name().to_str()?)?;
                // Connecting proves that somebody listens; a full backlog does too.
                let alive = match sys::connect_stream(&entry.path(), Duration::ZERO) {
                    Ok(_) => true,
                    Err(e) => e.kind() == io::ErrorKind::WouldBlock,
                };
                alive.then(|| Instance { number, socket: entry.path() })
            })
            .collect();
        found.sort_by_key(|instance| instance.number);
        found
    }
}

/// `/tmp/io-pkt-UID` must be a real directory of ours that nobody else may enter: anybody can make names in `/tmp`.
///
/// # Errors
/// Names what is wrong with it.
pub fn check_private(dir: &Path) -> Result<(), RootError> {
    let meta = fs::symlink_metadata(dir).map_err(|source| RootError::Io { path: dir.into(), source })?;
    let refuse = |why: String| Err(RootError::Unsafe { path: dir.into(), why });
    if !meta.is_dir() {
        return refuse("not a directory; remove it or give --root".into());
    }
    if meta.uid() != Uid::effective().as_raw() {
        return refuse(format!("belongs to uid {}, not to you; give --root", meta.uid()));
    }
    if meta.mode() & 0o077 != 0 {
        return refuse(format!(
            "open to others (mode {:04o}); chmod 0700 it or give --root",
            meta.mode() & 0o7777
        ));
    }
    Ok(())
}

fn instance_of_socket(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("io-pkt")?.strip_suffix(".sock")?;
    let canonical = digits == "0" || !digits.starts_with('0');
    (canonical && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

fn runtime_dir() -> Option<PathBuf> {
    trusted_var("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute() && dir.is_dir())
}

fn private_dir() -> PathBuf {
    PathBuf::from(format!("/tmp/io-pkt-{}", Uid::effective()))
}

/// A variable of the environment, unless the program runs with more rights than its caller.
fn trusted_var(name: &str) -> Option<std::ffi::OsString> {
    if sys::has_raised_privileges() {
        return None;
    }
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt, net::UnixListener};

    use super::*;

    #[test]
    fn a_given_root_holds_everything_below_itself() {
        let root = Root::at("/tmp/r");
        assert_eq!(root.devices(), Path::new("/tmp/r/dev/io-net"));
        assert_eq!(root.net(), Path::new("/tmp/r/net"));
        assert_eq!(root.control_socket(3), Path::new("/tmp/r/io-pkt3.sock"));
    }

    #[test]
    fn the_system_root_uses_the_machines_names() {
        let root = Root::at(SYSTEM_ROOT);
        assert_eq!(root.devices(), Path::new("/dev/io-net"));
        assert_eq!(root.net(), Path::new("/net"));
    }

    #[test]
    fn only_sockets_that_answer_are_instances() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        drop(UnixListener::bind(root.control_socket(0)).unwrap());
        let alive = UnixListener::bind(root.control_socket(2)).unwrap();
        fs::write(root.control_socket(1), "not a socket").unwrap();
        let numbers: Vec<_> = root.instances().iter().map(|i| i.number).collect();
        assert_eq!(numbers, [2]);
        drop(alive);
        assert!(root.instances().is_empty());
    }

    #[test]
    fn socket_names_are_read_strictly() {
        assert_eq!(instance_of_socket("io-pkt0.sock"), Some(0));
        assert_eq!(instance_of_socket("io-pkt17.sock"), Some(17));
        for other in ["io-pkt.sock", "io-pkt01.sock", "io-pkt-1.sock", "qnet.sock", "io-pkt1.pid"] {
            assert_eq!(instance_of_socket(other), None, "{other}");
        }
    }

    #[test]
    fn a_private_root_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(check_private(dir.path()).is_ok());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = check_private(dir.path()).unwrap_err().to_string();
        assert!(error.contains("0755"), "{error}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(check_private(&link).unwrap_err().to_string().contains("not a directory"));
    }
}
