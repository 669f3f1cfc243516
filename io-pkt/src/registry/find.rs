//! From what an operator names to a module file that was read and judged: all that may take time, on any thread.

use std::{fs::File, path::PathBuf};

use io_pkt_host::{Kind, LoadError, ReadModule, Reader, Refusal, SearchPath};

use super::{MountError, explain};

/// Where a module's bytes come from.
#[derive(Debug)]
pub enum ModuleFile {
    /// A name to look up, or a path.
    Named(String),
    /// An open file that `mount` handed over, and what the user called it.
    Open(File, String),
}

/// A module that is ready to be mapped.
#[derive(Debug)]
pub struct Found {
    /// What it may turn out to be; the first is preferred.
    pub(super) kinds: Vec<Kind>,
    pub(super) module: ReadModule,
}

/// Finds and reads modules for one registry.
#[derive(Clone, Debug)]
pub struct Finder {
    reader: Reader,
    search: SearchPath,
}

impl Finder {
    /// Reads with `reader`, and looks names up in `search`.
    #[must_use]
    pub fn new(reader: Reader, search: SearchPath) -> Self {
        Self { reader, search }
    }

    /// Finds a driver or protocol; with no `kind`, whatever the name stands for.
    ///
    /// # Errors
    /// [`MountError`], one sentence: there is no such file, or it is no module.
    pub fn find(&self, kind: Option<Kind>, file: ModuleFile) -> Result<Found, MountError> {
        let kinds = match (kind, &file) {
            (Some(kind), _) => vec![kind],
            (None, ModuleFile::Named(name) | ModuleFile::Open(_, name)) => explain::kinds_of(name),
        };
        match file {
            ModuleFile::Open(file, shown) => {
                let module = self.reader.read_file(file, shown.as_ref()).map_err(MountError::Load)?;
                Ok(Found { kinds, module })
            }
            ModuleFile::Named(name) => self.find_named(&kinds, &name),
        }
    }

    fn find_named(&self, kinds: &[Kind], name: &str) -> Result<Found, MountError> {
        let mut files: Vec<(PathBuf, Vec<Kind>)> = Vec::new();
        let mut first: Option<LoadError> = None;
        for kind in kinds {
            match self.search.resolve(*kind, name) {
                Ok(path) => match files.iter_mut().find(|(known, _)| *known == path) {
                    Some((_, kinds)) => kinds.push(*kind),
                    None => files.push((path, vec![*kind])),
                },
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        for (path, kinds) in files {
            match self.reader.read(&path) {
                Ok(module) => return Ok(Found { kinds, module }),
                // What is wrong with a file that is there matters more than where there is none.
                Err(error) if first.as_ref().is_none_or(is_missing) => first = Some(error),
                Err(_) => {}
            }
        }
        Err(match first {
            Some(error) if is_missing(&error) => {
                MountError::NoModule(explain::no_module(kinds, name, &error, &self.search))
            }
            Some(error) => MountError::Load(error),
            None => MountError::NoModule("no kind of module was asked for".into()),
        })
    }
}

fn is_missing(error: &LoadError) -> bool {
    matches!(error.refusal, Refusal::NotFound { .. })
}
