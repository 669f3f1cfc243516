//! The rules for source files that no lint knows: each begins with a `//!` header, none grows
//! past 600 lines unless its header says `Long because`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace::root;

const MOST_LINES: usize = 600;
const EXCUSE: &str = "Long because";

/// Folders that hold no source of ours.
const SKIPPED: [&str; 3] = ["target", ".git", "corpus"];

/// Checks every `.rs` file of the workspace.
pub(crate) fn check() -> Result<()> {
    let files = files_ending(root(), "rs")?;
    let mut faults = 0;
    for path in &files {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        if let Some(fault) = fault(&text) {
            eprintln!("{}: {fault}", path.strip_prefix(root()).unwrap_or(path).display());
            faults += 1;
        }
    }
    if faults > 0 {
        bail!("{faults} source file(s) break the rules");
    }
    eprintln!("{} source files keep the rules", files.len());
    Ok(())
}

fn fault(text: &str) -> Option<String> {
    // A test case for the compiler or a generated file may start with a shebang or an attribute.
    let header: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("//!"))
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let lines = text.lines().count();
    if header.is_empty() {
        return Some("has no //! header that tells its purpose".to_owned());
    }
    if lines > MOST_LINES && !header.iter().any(|line| line.contains(EXCUSE)) {
        return Some(format!("{lines} lines: split it, or say `{EXCUSE} ...` in its header"));
    }
    None
}

/// All files below `folder` whose name ends in `.ending`, sorted.
pub(crate) fn files_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry.with_context(|| folder.display().to_string())?;
            let kind = entry.file_type().with_context(|| entry.path().display().to_string())?;
            let name = entry.file_name();
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                folders.push(entry.path());
            } else if kind.is_file() && entry.path().extension().is_some_and(|e| e == ending) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_header_is_a_fault() {
        assert!(fault("fn main() {}\n").is_some());
        assert!(fault("//! What it is for.\nfn main() {}\n").is_none());
    }

    #[test]
    fn a_long_file_needs_an_excuse() {
        let body = "\n".repeat(MOST_LINES + 1);
        assert!(fault(&format!("//! Purpose.\n{body}")).is_some());
        assert!(fault(&format!("//! Purpose. Long because it is one table.\n{body}")).is_none());
    }
}
