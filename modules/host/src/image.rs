//! Mapping a module file. A mapped image is never unmapped.
//!
//! DEVIATION: QNX unloads a driver with its last interface. Rust code that a host thread has run cannot be unmapped
//! safely: its thread-local destructors run when that thread ends.
//!
//! The bytes that were inspected are the bytes that run: they are copied to a sealed memfd named after the module, and
//! that is handed to the dynamic linker. Symbols and debugging information stay behind, which are most of a file and
//! would keep the frames waiting. A newer file at the same path is therefore really loaded. The memfd stays open
//! for ever, because the linker compares names: another memfd under the same `/proc/self/fd` number would give the old
//! image again. Where executable memfds are forbidden (`vm.memfd_noexec`), the file that was read is mapped through its
//! descriptor, and with [`LoadMode::Path`], for debuggers, through its path; then it must not be written in place.

use std::{
    fs::File,
    io::{self, Write},
    mem::ManuallyDrop,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};

use crate::error::Refusal;

/// How module files are mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadMode {
    /// Through a sealed memfd; the file itself where the system forbids that.
    #[default]
    Memfd,
    /// By path, for debuggers and profilers, which cannot find symbols through a memfd's name.
    Path,
}

/// A mapped module file. Dropping it leaves it mapped.
#[derive(Debug)]
pub(crate) struct Image {
    // `Library` would unmap on drop; nobody takes it out again.
    pub(crate) library: ManuallyDrop<Library>,
    pub(crate) mode: LoadMode,
    /// Keeps the number in `/proc/self/fd` taken.
    _fd: Option<ManuallyDrop<OwnedFd>>,
}

/// An inspected file.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: File,
    /// What the operator calls it. With a descriptor from another mount namespace it may name nothing here.
    pub(crate) path: PathBuf,
    /// What of it is loaded; the whole file if it is no module.
    pub(crate) bytes: Vec<u8>,
    /// Length of the file.
    pub(crate) len: u64,
}

impl Image {
    /// Maps the file, or its sealed `copy`. `name` shows up in `/proc/PID/maps`; `nth` counts the loads of this process, so that one path can
    /// be loaded twice in path mode.
    pub(crate) fn map(
        mode: LoadMode,
        name: &str,
        source: Source,
        copy: Option<io::Result<OwnedFd>>,
        nth: usize,
    ) -> Result<Self, Refusal> {
        let path = &source.path;
        match mode {
            LoadMode::Memfd => match copy.unwrap_or_else(|| sealed_memfd(name, &source.bytes)) {
                Ok(memfd) => Self::open_fd(memfd, path, mode),
                Err(reason) => {
                    tracing::warn!(file = %path.display(), %reason, "no executable memfd here: mapping the file itself");
                    Self::open_fd(source.file.into(), path, LoadMode::Path)
                }
            },
            LoadMode::Path if names(path, &source.file) => {
                let absolute = path.canonicalize().map_err(Refusal::from)?;
                Ok(Self { library: open(&alias(&absolute, nth), path)?, mode, _fd: None })
            }
            LoadMode::Path => Self::open_fd(source.file.into(), path, mode),
        }
    }

    fn open_fd(fd: OwnedFd, shown: &Path, mode: LoadMode) -> Result<Self, Refusal> {
        let library = open(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())), shown)?;
        Ok(Self { library, mode, _fd: Some(ManuallyDrop::new(fd)) })
    }
}

/// Whether the path leads to that very file, as seen from this process.
fn names(path: &Path, file: &File) -> bool {
    match (path.metadata(), file.metadata()) {
        (Ok(there), Ok(here)) => (there.dev(), there.ino()) == (here.dev(), here.ino()),
        _ => false,
    }
}

/// The same file under a name that the dynamic linker has not seen.
fn alias(path: &Path, nth: usize) -> PathBuf {
    let (Some(dir), Some(file)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    let mut alias = dir.as_os_str().to_owned();
    for _ in 0..nth.min(1024) {
        alias.push("/.");
    }
    alias.push("/");
    alias.push(file);
    alias.into()
}

fn open(path: &Path, shown: &Path) -> Result<ManuallyDrop<Library>, Refusal> {
    // SAFETY: this runs the module's constructors. The file has been inspected: it is whole, for this machine, and says of
    // itself that it is an io-pkt module of our ABI; the operator asked for it.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    opened.map(ManuallyDrop::new).map_err(|error| {
        let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Refusal::Link(text.replace(&*path.to_string_lossy(), &shown.to_string_lossy()))
    })
}

pub(crate) fn sealed_memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Without MFD_EXEC a kernel from 6.3 on may be set to make the memfd not executable; older ones do not know it.
    let exec = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let memfd = match memfd_create(name, flags | exec) {
        Err(nix::Error::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let mut file = File::from(memfd);
    file.write_all(bytes)?;
    let seals =
        SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    // A /proc that is missing fails here rather than in the dynamic linker.
    Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())).metadata()?;
    Ok(file.into())
}
