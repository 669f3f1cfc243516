//! Why a file is not loaded: always the file, what was expected, what was found.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::elf::ElfError;

/// A module that was not loaded. One line for people, an errno value for programs.
#[derive(Debug, thiserror::Error)]
#[error("{}: {refusal}", .file.display())]
pub struct LoadError {
    /// The file as the operator named it, or as it was found.
    pub file: PathBuf,
    /// What is wrong with it.
    pub refusal: Refusal,
}

/// What is wrong with a file that should be a module.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// No directory of the search path has such a file.
    #[error("no such module; looked for {}", list(.tried))]
    NotFound {
        /// Every path that was tried, in order.
        tried: Vec<PathBuf>,
    },
    /// The system does not let us have it.
    #[error("expected a readable module file, the system says: {text}")]
    Io {
        /// The errno value.
        errno: i32,
        /// The system's sentence.
        text: String,
    },
    /// It is no regular file.
    #[error("expected a module file (.so), found {0}")]
    NotAFile(&'static str),
    /// It is too large to be a module.
    #[error("expected a module of at most {limit} bytes, found {found} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// The size.
        found: u64,
    },
    /// Its bytes are not those of a module for this machine and this host.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The dynamic linker refuses it.
    #[error("expected a file that the dynamic linker loads, found: {0}")]
    Link(String),
    /// The handshake is not what the note promised, or is missing.
    #[error("expected {expected}, found {found}")]
    Handshake {
        /// What the host needs.
        expected: String,
        /// What the module offers.
        found: String,
    },
    /// More module files are mapped than allowed; a mapped one stays until the daemon ends.
    #[error("{0} module builds are mapped already and none is ever unmapped: restart io-pkt")]
    TooMany(usize),
}

impl LoadError {
    pub(crate) fn new(file: &Path, refusal: impl Into<Refusal>) -> Self {
        Self { file: file.to_owned(), refusal: refusal.into() }
    }

    /// The Linux errno value that fits best.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match &self.refusal {
            Refusal::NotFound { .. } => libc::ENOENT,
            Refusal::Io { errno, .. } => *errno,
            Refusal::NotAFile("a directory") => libc::EISDIR,
            Refusal::NotAFile(_) | Refusal::Elf(_) | Refusal::Link(_) => libc::ENOEXEC,
            Refusal::TooLarge { .. } => libc::EFBIG,
            Refusal::Handshake { .. } => libc::ELIBBAD,
            Refusal::TooMany(_) => libc::ENFILE,
        }
    }
}

impl Refusal {
    pub(crate) fn handshake(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Handshake { expected: expected.into(), found: found.into() }
    }
}

impl From<io::Error> for Refusal {
    fn from(reason: io::Error) -> Self {
        let text = reason.to_string();
        let text = text.split(" (os error ").next().unwrap_or_default().to_owned();
        Self::Io { errno: reason.raw_os_error().unwrap_or(libc::EIO), text }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(", ")
}
