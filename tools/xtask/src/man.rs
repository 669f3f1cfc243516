//! The man pages: `docs/man/NAME.SECTION`, written by hand, one for each program and module.
//!
//! That their options are those of the programs and modules is a system test (`tests/tests/manpages.rs`).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::workspace::root;

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Its source.
    pub(crate) path: PathBuf,
    /// What it is about.
    pub(crate) name: String,
    /// `1` to `8`.
    pub(crate) section: String,
}

impl Page {
    /// Where it is below `man`: `man1/pidin.1`.
    pub(crate) fn installed(&self) -> String {
        let Self { name, section, .. } = self;
        format!("man{section}/{name}.{section}")
    }
}

/// All pages there are.
pub(crate) fn pages() -> Result<Vec<Page>> {
    let folder = root().join("docs/man");
    let mut pages = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (name, section) = file.rsplit_once('.').with_context(|| format!("{file} has no section"))?;
        pages.push(Page { name: name.to_owned(), section: section.to_owned(), path });
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pages)
}

/// The page of a program.
pub(crate) fn of(program: &str) -> Result<Page> {
    let found = pages()?.into_iter().find(|page| page.name == program);
    found.with_context(|| format!("docs/man has no page for {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install;
    use crate::workspace::Workspace;

    #[test]
    fn every_installed_program_and_module_has_a_page() {
        let workspace = Workspace::load().expect("a workspace");
        let pages = pages().expect("pages");
        for package in workspace.packages.iter().filter(|package| install::is_installed(package)) {
            let module = package.targets_of("cdylib").next().map(|_| package.name.as_str());
            for name in package.targets_of("bin").chain(module.filter(|_| install::is_module(package))) {
                assert!(pages.iter().any(|page| page.name == name), "docs/man has no page for {name}");
            }
        }
    }

    #[test]
    fn a_page_is_installed_in_the_folder_of_its_section() {
        assert_eq!(of("pidin").expect("a page").installed(), "man1/pidin.1");
        assert_eq!(of("io-pkt").expect("a page").installed(), "man8/io-pkt.8");
        assert!(of("nothing").is_err());
    }
}
