//! A node's private root: what its processes see instead of the machine's file system.
//!
//! ```text
//! /                tmpfs
//! /usr /var ...    the machine's, read-only
//! /etc             files copied (hostname and hosts are the node's), folders read-only
//! /dev             null zero full random urandom tty fuse net/tun, own pts and shm
//! /proc /sys       of the node's own namespaces
//! /run /tmp /root  empty
//! /lab/programs    where io-pkt and its modules are      /lab/bin   QNX's names for them
//! /lab/wire        shared by all nodes
//! ```
//!
//! `/net` and `/dev/io-net` are not made here: io-pkt makes them.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::programs::Programs;
use crate::sys;

/// Folders of the machine that a node gets fresh, or not at all.
const NOT_SHARED: [&str; 12] =
    ["boot", "dev", "etc", "lab", "lost+found", "media", "mnt", "net", "proc", "root", "run", "sys"];

/// Device files of the machine that a node may use.
const DEVICES: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun"];

/// Larger files in `/etc` are data bases that no node needs.
const LARGEST_COPY: u64 = 1 << 20;

/// Where the lab's own things are, inside of a node.
pub(crate) const PROGRAMS: &str = "/lab/programs";
/// QNX's names for the programs, inside of a node.
pub(crate) const LINKS: &str = "/lab/bin";
/// What all nodes share, inside of a node.
pub(crate) const WIRE: &str = "/lab/wire";

/// What a root is built of.
pub(crate) struct Root<'a> {
    /// Where it is mounted before it becomes `/`.
    pub(crate) at: &'a Path,
    /// The node's host name.
    pub(crate) name: &'a str,
    /// The node's address on the wire.
    pub(crate) address: &'a str,
    /// Bound to `/lab/programs`.
    pub(crate) programs: &'a Programs,
    /// Bound to `/lab/wire`.
    pub(crate) wire: &'a Path,
    /// Bound under the same names.
    pub(crate) share: &'a [PathBuf],
}

impl Root<'_> {
    /// Builds the root and makes it this process's `/`. The mount namespace must be the caller's own.
    pub(crate) fn enter(&self) -> Result<()> {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .context("cannot keep mounts private")?;
        fs::create_dir_all(self.at).with_context(|| self.at.display().to_string())?;
        self.file_system("tmpfs", Path::new(""), Some("mode=755"))?;
        self.share_machine()?;
        self.fill_etc()?;
        self.fill_dev()?;
        for (name, mode) in [("run", 0o755), ("tmp", 0o1777), ("root", 0o700), ("mnt", 0o755), ("lab", 0o755)]
        {
            self.folder(name, mode)?;
        }
        self.folder("proc", 0o555)?;
        self.file_system("proc", Path::new("proc"), None)
            .context("a container that hides parts of /proc does not allow this; see --isolation roots")?;
        self.fill_sys()?;
        self.fill_lab()?;
        for folder in self.share {
            let to = self.below(&folder.to_string_lossy());
            fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
            self.bind_read_only(folder, &to)?;
        }
        self.pivot()
    }

    fn share_machine(&self) -> Result<()> {
        for entry in fs::read_dir("/").context("/")? {
            let entry = entry.context("/")?;
            let name = entry.file_name();
            if name == "tmp" || NOT_SHARED.iter().any(|skipped| name == *skipped) {
                continue;
            }
            let kind = entry.file_type().with_context(|| entry.path().display().to_string())?;
            if kind.is_symlink() {
                let target =
                    fs::read_link(entry.path()).with_context(|| entry.path().display().to_string())?;
                symlink(&target, self.at.join(&name)).with_context(|| entry.path().display().to_string())?;
            } else if kind.is_dir() {
                self.bind_read_only(&entry.path(), &self.at.join(&name))?;
            }
        }
        Ok(())
    }

    fn fill_etc(&self) -> Result<()> {
        let etc = self.folder("etc", 0o755)?;
        for entry in fs::read_dir("/etc").context("/etc")? {
            let entry = entry.context("/etc")?;
            let to = etc.join(entry.file_name());
            let meta =
                fs::symlink_metadata(entry.path()).with_context(|| entry.path().display().to_string())?;
            let mode = meta.permissions().mode();
            if meta.is_symlink() {
                let target =
                    fs::read_link(entry.path()).with_context(|| entry.path().display().to_string())?;
                symlink(&target, &to).with_context(|| to.display().to_string())?;
            } else if meta.is_dir() && mode & 0o005 == 0o005 {
                self.bind_read_only(&entry.path(), &to)?;
            } else if meta.is_file() && mode & 0o004 != 0 && meta.len() <= LARGEST_COPY {
                // Secrets of the machine (shadow, keys) are readable to nobody and stay outside.
                fs::copy(entry.path(), &to).with_context(|| entry.path().display().to_string())?;
            }
        }
        write(&etc.join("hostname"), &format!("{}\n", self.name))?;
        let hosts = format!("127.0.0.1 localhost\n::1 localhost\n{} {}\n", self.address, self.name);
        write(&etc.join("hosts"), &hosts)
    }

    fn fill_dev(&self) -> Result<()> {
        let dev = self.folder("dev", 0o755)?;
        self.folder("dev/net", 0o755)?;
        for device in DEVICES {
            let from = Path::new("/dev").join(device);
            if from.exists() {
                let to = dev.join(device);
                write(&to, "")?;
                bind(&from, &to)?;
            }
        }
        self.folder("dev/shm", 0o1777)?;
        self.folder("dev/pts", 0o755)?;
        self.file_system("devpts", Path::new("dev/pts"), Some("newinstance,ptmxmode=0666,mode=620"))?;
        let links = [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ];
        for (name, target) in links {
            symlink(target, dev.join(name)).with_context(|| format!("/dev/{name}"))?;
        }
        Ok(())
    }

    /// Own interfaces below `/sys/class/net`, where that is allowed; else the machine's view.
    fn fill_sys(&self) -> Result<()> {
        let sys = self.folder("sys", 0o555)?;
        if self.file_system("sysfs", Path::new("sys"), None).is_ok() {
            return Ok(());
        }
        self.bind_read_only(Path::new("/sys"), &sys)
    }

    fn fill_lab(&self) -> Result<()> {
        self.bind_read_only(self.programs.folder(), &self.below(PROGRAMS))?;
        let wire = self.below(WIRE);
        make_folder(&wire, 0o755)?;
        bind(self.wire, &wire)?;
        let links = self.below(LINKS);
        make_folder(&links, 0o755)?;
        self.programs.make_links(&links, &self.programs.inside(Path::new(PROGRAMS)))
    }

    fn pivot(&self) -> Result<()> {
        chdir(self.at).context("new root")?;
        // Put the old root on top of the new one, then take it away: no folder is needed for it.
        pivot_root(".", ".").context("pivot_root")?;
        umount2(".", MntFlags::MNT_DETACH).context("cannot leave the old root")?;
        chdir("/").context("/")
    }

    fn below(&self, path: &str) -> PathBuf {
        self.at.join(path.trim_start_matches('/'))
    }

    fn folder(&self, name: &str, mode: u32) -> Result<PathBuf> {
        let path = self.at.join(name);
        make_folder(&path, mode)?;
        Ok(path)
    }

    fn file_system(&self, kind: &str, at: &Path, options: Option<&str>) -> Result<()> {
        let flags = if kind == "tmpfs" { MsFlags::empty() } else { MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC };
        mount(Some(kind), &self.at.join(at), Some(kind), flags, options)
            .with_context(|| format!("cannot mount {kind} at /{}", at.display()))
    }

    fn bind_read_only(&self, from: &Path, to: &Path) -> Result<()> {
        make_folder(to, 0o755)?;
        bind(from, to)?;
        sys::read_only_tree(to).with_context(|| format!("cannot make {} read-only", to.display()))
    }
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("cannot bind {} to {}", from.display(), to.display()))
}

fn make_folder(path: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // The umask has had its say in the meantime.
        _ => fs::set_permissions(path, Permissions::from_mode(mode)),
    }
    .with_context(|| path.display().to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .with_context(|| path.display().to_string())?;
    io::Write::write_all(&mut file, text.as_bytes()).with_context(|| path.display().to_string())
}
