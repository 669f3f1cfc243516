//! Where the lab's programs are: beside this one in cargo's folder, or below an install prefix.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::error::LabError;

/// QNX's name for a program, and its real name.
const LINKS: [(&str, &str); 8] = [
    ("mount", "qnx-mount"),
    ("umount", "qnx-umount"),
    ("on", "qnx-on"),
    ("slay", "qnx-slay"),
    ("io-pkt-v4", "io-pkt"),
    ("io-pkt-v4-hc", "io-pkt"),
    ("io-pkt-v6-hc", "io-pkt"),
    ("io-net", "io-pkt"),
];

/// A folder with `io-pkt`, its modules and the tools.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The programs in `folder`: cargo's `target/debug` or an install prefix.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The programs that belong to the running one: a test in `target/debug/deps` finds `target/debug`.
    pub(crate) fn beside_us() -> Result<Self, LabError> {
        let fail = |source| LabError::Start { program: "/proc/self/exe".to_owned(), source };
        let us = std::env::current_exe().and_then(fs::canonicalize).map_err(fail)?;
        let near = us.ancestors().skip(1).take(2);
        for folder in near {
            if folder.join("qnet-lab").is_file() {
                let prefix = folder.parent().filter(|prefix| prefix.join("lib/io-pkt").is_dir());
                let is_bin = folder.file_name().is_some_and(|name| name == "bin");
                return Ok(Self::new(prefix.filter(|_| is_bin).unwrap_or(folder).to_owned()));
            }
        }
        let folder = us.parent().unwrap_or(Path::new("/")).to_owned();
        Err(LabError::MissingProgram { program: "qnet-lab".to_owned(), folder })
    }

    /// What a node needs to see.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the programs are when the folder is seen at `at`.
    pub(crate) fn inside(&self, at: &Path) -> PathBuf {
        if self.folder.join("bin/io-pkt").is_file() { at.join("bin") } else { at.to_owned() }
    }

    /// One program.
    ///
    /// # Errors
    /// It was not built.
    pub(crate) fn find(&self, program: &str) -> Result<PathBuf, LabError> {
        let folder = self.inside(&self.folder);
        let path = folder.join(program);
        if path.is_file() {
            Ok(path)
        } else {
            Err(LabError::MissingProgram { program: program.to_owned(), folder })
        }
    }

    /// Makes QNX's names in `links` for the programs there are; they are reached at `at`.
    pub(crate) fn make_links(&self, links: &Path, at: &Path) -> Result<()> {
        for (name, program) in LINKS.iter().filter(|(_, program)| self.find(program).is_ok()) {
            match symlink(at.join(program), links.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| links.join(name).display().to_string());
                }
                _ => {}
            }
        }
        Ok(())
    }
}
