//! `docs/net.md` against the code: the tests it names exist, the numbers it quotes are right.

use qnet_netfs::{caller, fuse};

const DOCUMENT: &str = include_str!("../../../docs/net.md");
const MOUNTED: [&str; 3] = [
    include_str!("mounted/reading.rs"),
    include_str!("mounted/trouble.rs"),
    include_str!("mounted/mounting.rs"),
];
const ENGINE: [&str; 11] = [
    include_str!("../src/engine/tests/ahead.rs"),
    include_str!("../src/engine/tests/behaviour.rs"),
    include_str!("../src/engine/tests/changes.rs"),
    include_str!("../src/engine/tests/hostile.rs"),
    include_str!("../src/engine/tests/locks.rs"),
    include_str!("../src/engine/tests/lookahead.rs"),
    include_str!("../src/engine/tests/meant.rs"),
    include_str!("../src/engine/tests/nodes.rs"),
    include_str!("../src/engine/tests/spellings.rs"),
    include_str!("../src/engine/tests/statistics.rs"),
    include_str!("../src/engine/tests/waiting.rs"),
];
const FAULTS: [&str; 1] = [include_str!("../../../tests/tests/net_faults/main.rs")];
const MODEL: [&str; 1] = [include_str!("../../../tests/tests/file_model/main.rs")];
const SERVER: [&str; 3] = [
    include_str!("../../server/tests/process/locks.rs"),
    include_str!("../../server/tests/process/places.rs"),
    include_str!("../../server/tests/process/writing.rs"),
];
const PROGRAMS: [&str; 1] = [include_str!("../../../tests/tests/net_programs.rs")];
const DATA: [&str; 1] = [include_str!("../../../tests/tests/data_bases.rs")];
const NAMES: [&str; 1] = [include_str!("../../../tests/tests/net_names.rs")];
const TREES: [&str; 1] = [include_str!("../../../tests/tests/net_trees.rs")];
const IDENTITY: [&str; 1] = [include_str!("../../../tests/tests/identity.rs")];
const LOCKS: [&str; 1] = [include_str!("../../../tests/tests/file_locks/main.rs")];
const SPECIAL: [&str; 1] = [include_str!("../../../tests/tests/special_files/main.rs")];
const CASES: [&str; 11] = [
    include_str!("../../../tests/tests/semantics/cases/content.rs"),
    include_str!("../../../tests/tests/semantics/cases/directories.rs"),
    include_str!("../../../tests/tests/semantics/cases/extended.rs"),
    include_str!("../../../tests/tests/semantics/cases/kinds.rs"),
    include_str!("../../../tests/tests/semantics/cases/locks.rs"),
    include_str!("../../../tests/tests/semantics/cases/names.rs"),
    include_str!("../../../tests/tests/semantics/cases/open.rs"),
    include_str!("../../../tests/tests/semantics/cases/rename.rs"),
    include_str!("../../../tests/tests/semantics/cases/rights.rs"),
    include_str!("../../../tests/tests/semantics/cases/special.rs"),
    include_str!("../../../tests/tests/semantics/cases/times.rs"),
];

/// Where the tests of a letter are, and how one is written there.
fn place(letter: &str, name: &str) -> Option<(&'static [&'static str], String)> {
    Some(match letter {
        "M" => (&MOUNTED, format!("fn {name}()")),
        "E" => (&ENGINE, format!("fn {name}()")),
        "S" => (&SERVER, format!("fn {name}()")),
        "F" => (&FAULTS, format!("case(\"{name}\"")),
        "T" => (&MODEL, format!("name: \"{name}\"")),
        "P" => (&PROGRAMS, format!("case(\"{name}\"")),
        "D" => (&DATA, format!("case(\"{name}\"")),
        "N" => (&NAMES, format!("fn {name}()")),
        "L" => (&TREES, format!("fn {name}()")),
        "I" => (&IDENTITY, format!("case(\"{name}\"")),
        "K" => (&LOCKS, format!("case(\"{name}\"")),
        "X" => (&SPECIAL, format!("case(\"{name}\"")),
        "C" => (&CASES, format!("(\"{name}\", ")),
        _ => return None,
    })
}

#[test]
fn every_test_that_the_document_names_exists() {
    let cells = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_suffix(" |").filter(|line| line.ends_with('`'))?.rsplit("| ").next());
    let mut named = 0;
    for cell in cells {
        // `C `a`, `b`; P `c``: a letter counts until the next one
        let mut letter = "";
        for (at, part) in cell.split('`').enumerate() {
            if at % 2 == 0 {
                letter = part.split([' ', ',', ';']).rfind(|word| !word.is_empty()).unwrap_or(letter);
                continue;
            }
            // "tests of `file`"
            if letter.len() != 1 {
                continue;
            }
            let (sources, written) =
                place(letter, part).unwrap_or_else(|| panic!("no tests are called {letter:?}: {cell}"));
            assert!(sources.iter().any(|source| source.contains(&written)), "{letter} `{part}`");
            named += 1;
        }
    }
    assert!(named > 60, "the tables were found: {named}");
}

#[test]
fn the_numbers_that_the_document_quotes_are_those_of_the_code() {
    assert!(DOCUMENT.contains("at most 256 supplementary groups"));
    assert_eq!(caller::MAX_GROUPS, 256);
    assert!(DOCUMENT.contains("requests of up to 1 MiB"));
    assert_eq!(fuse::MAX_TRANSFER, 1 << 20);
    assert!(DOCUMENT.contains("values of up to 65,536 bytes"));
    assert_eq!(qnet_iomsg::filesys::xattr::VALUE_MAX, 65_536);
}
