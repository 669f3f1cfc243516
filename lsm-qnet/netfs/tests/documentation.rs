//! `docs/net.md` against the code: the tests it names exist, the numbers it quotes are right.

use qnet_netfs::{caller, fuse};

const DOCUMENT: &str = include_str!("../../../docs/net.md");
const SOURCES: [&str; 8] = [
    include_str!("mounted/reading.rs"),
    include_str!("mounted/trouble.rs"),
    include_str!("mounted/mounting.rs"),
    include_str!("../src/engine/tests/behaviour.rs"),
    include_str!("../src/engine/tests/hostile.rs"),
    include_str!("../src/engine/tests/nodes.rs"),
    include_str!("../src/engine/tests/statistics.rs"),
    include_str!("../src/attributes.rs"),
];

#[test]
fn every_test_that_the_document_names_exists() {
    let last_columns = DOCUMENT.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next());
    let named: Vec<_> = last_columns
        .filter(|column| column.starts_with("M `") || column.starts_with("E `"))
        .map(|column| column[2..].trim_matches('`'))
        .collect();
    assert!(named.len() > 10, "the tables were found: {named:?}");
    for name in named {
        let definition = format!("fn {name}()");
        assert!(SOURCES.iter().any(|source| source.contains(&definition)), "{name}");
    }
}

#[test]
fn the_numbers_that_the_document_quotes_are_those_of_the_code() {
    assert!(DOCUMENT.contains("at most 256 supplementary groups"));
    assert_eq!(caller::MAX_GROUPS, 256);
    assert!(DOCUMENT.contains("requests of up to 1 MiB"));
    assert_eq!(fuse::MAX_TRANSFER, 1 << 20);
}
