//! Reading module files, which may take as long as a disk takes, on any thread.
//!
//! A file is judged, compared with those that are known and copied here, before the loop thread maps it. A file system that
//! does not answer keeps the thread that asked it, and no frame.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hasher},
    io::{Read, Seek},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    elf::{self, ElfFacts},
    error::{LoadError, Refusal},
    image::{self, LoadMode, Source},
};

/// Largest module file: a debug build of a large module has a tenth of it.
const MAX_FILE: u64 = 1 << 30;
/// Enough of a file for its headers.
const START: u64 = 16 << 10;

/// Hash and length of the part of a file that is loaded.
pub(crate) type Identity = (u64, usize);

/// Reads files for one loader. Clones read for the same one.
#[derive(Clone, Debug)]
pub struct Reader {
    mode: LoadMode,
    /// What is mapped already needs no copy.
    known: Arc<Mutex<HashSet<Identity>>>,
}

/// A file that was read and judged, and not mapped yet. It can be sent to another thread.
#[derive(Debug)]
pub struct ReadModule {
    pub(crate) source: Source,
    pub(crate) facts: ElfFacts,
    pub(crate) identity: Identity,
    /// The sealed copy to be mapped, or why there is none; `None` when none is needed.
    pub(crate) copy: Option<std::io::Result<OwnedFd>>,
}

impl ReadModule {
    /// What the operator calls it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.source.path
    }
}

impl Reader {
    pub(crate) fn new(mode: LoadMode) -> Self {
        Self { mode, known: Arc::default() }
    }

    pub(crate) fn mode(&self) -> LoadMode {
        self.mode
    }

    pub(crate) fn note_known(&self, identity: Identity) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(identity);
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`LoadError`], ready to be shown: it cannot be read, or is no module for this host.
    pub fn read(&self, path: &Path) -> Result<ReadModule, LoadError> {
        // Opening a FIFO for reading would wait for a writer.
        let opened =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
        let file = opened.map_err(|reason| LoadError::new(path, reason))?;
        self.read_file(file, path)
    }

    /// Reads an open file; `shown` is what the operator called it.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_file(&self, file: File, shown: &Path) -> Result<ReadModule, LoadError> {
        let source = read(file, shown)?;
        let facts = elf::inspect(&source.bytes, source.len).map_err(|error| LoadError::new(shown, error))?;
        let identity = identity(&source.bytes);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&identity);
        let wanted = self.mode == LoadMode::Memfd && !known;
        let copy = wanted
            .then(|| image::sealed_memfd(&format!("{}-{:016x}", facts.name, identity.0), &source.bytes));
        Ok(ReadModule { source, facts, identity, copy })
    }
}

/// Reads what of the file is loaded.
fn read(mut file: File, path: &Path) -> Result<Source, LoadError> {
    let fail = |refusal: Refusal| LoadError::new(path, refusal);
    let metadata = file.metadata().map_err(|reason| LoadError::new(path, reason))?;
    let kind = metadata.file_type();
    if !kind.is_file() {
        let found = match () {
            () if kind.is_dir() => "a directory",
            () if kind.is_fifo() => "a FIFO",
            () if kind.is_socket() => "a socket",
            () => "a device",
        };
        return Err(fail(Refusal::NotAFile(found)));
    }
    if metadata.size() > MAX_FILE {
        return Err(fail(Refusal::TooLarge { limit: MAX_FILE, found: metadata.size() }));
    }
    let len = metadata.size();
    let mut bytes = Vec::new();
    // The descriptor may have been read by whoever handed it over.
    file.rewind()
        .and_then(|()| read_up_to(&file, &mut bytes, START))
        .map_err(|reason| LoadError::new(path, reason))?;
    let loaded = elf::loaded_part(&bytes).unwrap_or(len).min(len);
    read_up_to(&file, &mut bytes, loaded).map_err(|reason| LoadError::new(path, reason))?;
    Ok(Source { file, path: path.to_owned(), bytes, len })
}

/// Reads on until `bytes` has `len` of them or the file ends.
fn read_up_to(file: &File, bytes: &mut Vec<u8>, len: u64) -> std::io::Result<()> {
    let more = len.saturating_sub(bytes.len() as u64);
    bytes.reserve_exact(more as usize);
    file.take(more).read_to_end(bytes).map(drop)
}

/// Tells contents apart. Not meant against forgery: whoever chooses modules runs code here anyway.
fn identity(bytes: &[u8]) -> Identity {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    (hasher.finish(), bytes.len())
}
