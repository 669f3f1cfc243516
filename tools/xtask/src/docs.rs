//! Checks of the documents: rustdoc without warnings, and no dead link between the `.md` files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, run};
use crate::sources::files_ending;
use crate::workspace::root;

/// Builds the documentation and follows every relative link.
pub(crate) fn check() -> Result<()> {
    dead_links()?;
    run(cargo().args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn dead_links() -> Result<()> {
    let mut dead = 0;
    let files = files_ending(root(), "md")?;
    for path in &files {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let folder = path.parent().unwrap_or(root());
        for target in links(&text).into_iter().filter(|target| !reaches(folder, target)) {
            eprintln!("{}: dead link {target}", path.strip_prefix(root()).unwrap_or(path).display());
            dead += 1;
        }
    }
    if dead > 0 {
        bail!("{dead} dead link(s)");
    }
    eprintln!("{} documents, no dead link", files.len());
    Ok(())
}

/// Does a relative link lead to a file? Links into the web and inside the page are not followed.
fn reaches(folder: &Path, target: &str) -> bool {
    let file = target.split('#').next().unwrap_or_default();
    file.is_empty() || file.contains("://") || file.starts_with("mailto:") || folder.join(file).exists()
}

/// The targets of `[text](target)` outside of fenced code.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let mut rest = line;
        while let Some(start) = rest.find("](") {
            rest = &rest[start + 2..];
            let Some(end) = rest.find(')') else { break };
            found.push(&rest[..end]);
            rest = &rest[end..];
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_blocks_are_not_links() {
        let text = "see [a](b.md) and [c](d.md#e)\n```\n[x](y)\n```\n[f](g)\n";
        assert_eq!(links(text), ["b.md", "d.md#e", "g"]);
    }

    #[test]
    fn only_relative_links_are_followed() {
        let folder = Path::new("/nowhere");
        assert!(reaches(folder, "https://example.org/x"));
        assert!(reaches(folder, "#section"));
        assert!(!reaches(folder, "missing.md#section"));
    }
}
