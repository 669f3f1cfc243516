//! Checks of the documents: rustdoc without warnings, no dead link between the `.md` files, no table that names a test
//! that is not there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, run};
use crate::sources::files_ending;
use crate::workspace::root;

/// Builds the documentation, follows every relative link and looks for every test that is named.
pub(crate) fn check() -> Result<()> {
    dead_links()?;
    missing_tests()?;
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

/// Looks for the tests that tables name in a last column headed `Test`. A document may say where those behind a letter are:
/// what is called ``F `name` `` has to be below `tests/faults` then, if that document says `` `F` in `tests/faults` ``.
fn missing_tests() -> Result<()> {
    let files = files_ending(root(), "rs")?;
    let sources: Vec<(&Path, String)> = files
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Ok((path.strip_prefix(root()).unwrap_or(path), text))
        })
        .collect::<Result<_>>()?;
    let (mut named, mut missing) = (0, 0);
    for path in files_ending(root(), "md")? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let places = places(&text);
        for (letter, test) in tests_named(&text) {
            named += 1;
            let place = places.iter().find(|(key, _)| Some(*key) == letter).map_or("", |(_, place)| place);
            let mut there = sources.iter().filter(|(path, _)| path.starts_with(place));
            if !there.any(|(_, text)| has_test(text, test)) && !root().join(test).exists() {
                eprintln!(
                    "{}: no test `{test}` in /{place}",
                    path.strip_prefix(root()).unwrap_or(&path).display()
                );
                missing += 1;
            }
        }
    }
    if missing > 0 {
        bail!("{missing} test(s) that are not there");
    }
    eprintln!("{named} tests named in documents, all there");
    Ok(())
}

/// A test is a function, or has its name as text in a table of cases.
fn has_test(source: &str, name: &str) -> bool {
    source.contains(&format!("fn {name}(")) || source.contains(&format!("\"{name}\""))
}

/// Where tests are by the letter that they are named with: `` `F` in `path` `` or `` `C` a case of `path` ``.
fn places(text: &str) -> Vec<(&str, &str)> {
    let words: Vec<&str> = text.split('`').collect();
    let said = words.windows(3).skip(1).step_by(2);
    let said = said.filter(|said| is_letter(said[0]) && matches!(said[1], " in " | " in\n" | " a case of "));
    said.map(|said| (said[0], said[2])).collect()
}

fn is_letter(word: &str) -> bool {
    word.len() == 1 && word.chars().all(|letter| letter.is_ascii_uppercase())
}

/// What stands in backquotes in the last column of tables whose last heading is `Test`, with the letter before it.
fn tests_named(text: &str) -> Vec<(Option<&str>, &str)> {
    let mut found = Vec::new();
    let mut before = "";
    let mut counts = false;
    for line in text.lines() {
        let last = line.strip_suffix('|').and_then(|line| line.rsplit(" | ").next()).map(str::trim);
        match last {
            None => counts = false,
            Some(_) if !before.starts_with('|') => counts = last == Some("Test"),
            Some(last) if counts => found.extend(tests_of_cell(last)),
            Some(_) => {}
        }
        before = line;
    }
    found
}

/// Tests of a cell: ``C `a`, `b`; P `c` ``. A letter counts until the next word.
fn tests_of_cell(cell: &str) -> Vec<(Option<&str>, &str)> {
    let mut found = Vec::new();
    let mut letter = None;
    for (at, part) in cell.split('`').enumerate() {
        if at % 2 == 1 {
            found.push((letter, part));
        } else if let Some(word) = part.split([' ', ',', ';']).rfind(|word| !word.is_empty()) {
            letter = is_letter(word).then_some(word);
        }
    }
    found
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
    fn tests_are_named_in_the_last_column_of_tables_that_say_so() {
        let text = "| What | Test |\n|---|---|\n| `a` | M `b_c`, `d e`; tests of `f` |\n| x |  |\n\n| What | Why |\n|---|---|\n| a | `g` |\n";
        assert_eq!(tests_named(text), [(Some("M"), "b_c"), (Some("M"), "d e"), (None, "f")]);
        assert!(has_test("fn b_c() {}", "b_c") && has_test("(\"d e\", run)", "d e"));
        assert!(!has_test("fn ab_c() {} // b_c", "b_c"));
    }

    #[test]
    fn letters_stand_for_places() {
        let text = "The `x` in `y`: `M` in `a/b` (real), `C` a case of `d`, and `F` in\n`e`.";
        assert_eq!(places(text), [("M", "a/b"), ("C", "d"), ("F", "e")]);
    }

    #[test]
    fn only_relative_links_are_followed() {
        let folder = Path::new("/nowhere");
        assert!(reaches(folder, "https://example.org/x"));
        assert!(reaches(folder, "#section"));
        assert!(!reaches(folder, "missing.md#section"));
    }
}
