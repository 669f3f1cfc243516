//! Mapping a module file. A mapped image is never unmapped.
//!
//! The bytes that were inspected are the bytes that run: they are copied to a sealed memfd named after the module, and
//! that is handed to the dynamic linker. A newer file at the same path is therefore really loaded. The memfd stays open
//! for ever, because the linker compares names: another memfd under the same `/proc/self/fd` number would give the old
//! image again. Where executable memfds are forbidden (`vm.memfd_noexec`), and with [`LoadMode::Path`] for debuggers, the
//! path itself is mapped; then the file must not be written in place while it is being loaded.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
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
    /// Through a sealed memfd; by path where the system forbids that.
    #[default]
    Memfd,
    /// By path, for debuggers and profilers, which cannot find symbols through a memfd's name.
    Path,
}

/// A mapped module file. Dropping it leaves it mapped.
#[derive(Debug)]
pub(crate) struct Image {
    // `Library` would unmap on drop; nobody takes it out again.
    pub(crate) library: std::mem::ManuallyDrop<Library>,
    pub(crate) mode: LoadMode,
    /// Keeps the number in `/proc/self/fd` taken.
    _memfd: Option<std::mem::ManuallyDrop<OwnedFd>>,
}

impl Image {
    /// Maps `bytes`, the inspected contents of `path`. `name` shows up in `/proc/PID/maps`; `nth` counts the loads of
    /// this process, so that one path can be loaded twice in path mode.
    pub(crate) fn map(
        mode: LoadMode,
        name: &str,
        bytes: &[u8],
        path: &Path,
        nth: usize,
    ) -> Result<Self, Refusal> {
        if mode == LoadMode::Memfd {
            match sealed_memfd(name, bytes) {
                Ok(memfd) => {
                    let library = open(Path::new(&format!("/proc/self/fd/{}", memfd.as_raw_fd())), path)?;
                    let memfd = Some(std::mem::ManuallyDrop::new(memfd));
                    return Ok(Self { library, mode, _memfd: memfd });
                }
                Err(reason) => {
                    tracing::warn!(file = %path.display(), %reason, "no executable memfd here: mapping the path");
                }
            }
        }
        let absolute = path.canonicalize().map_err(Refusal::from)?;
        let library = open(&alias(&absolute, nth), path)?;
        Ok(Self { library, mode: LoadMode::Path, _memfd: None })
    }
}

/// The same file under a name that the dynamic linker has not seen.
fn alias(path: &Path, nth: usize) -> std::path::PathBuf {
    let (Some(dir), Some(file)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    let mut alias = dir.as_os_str().to_owned();
    for _ in 0..nth.min(1024) {
        alias.push("/.");
    }
    alias.push("/");
    alias.push(file);
    alias.into()
}

fn open(path: &Path, shown: &Path) -> Result<std::mem::ManuallyDrop<Library>, Refusal> {
    // SAFETY: this runs the module's constructors. The file has been inspected: it is whole, for this machine, and says of
    // itself that it is an io-pkt module of our ABI; the operator asked for it.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    opened.map(std::mem::ManuallyDrop::new).map_err(|error| {
        let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Refusal::Link(text.replace(&*path.to_string_lossy(), &shown.to_string_lossy()))
    })
}

fn sealed_memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
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
    // The probe that `vm.memfd_noexec=2` and seccomp filters fail here rather than in the dynamic linker.
    Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())).metadata()?;
    Ok(file.into())
}
