//! Every target over its corpus: seeds, what libFuzzer found interesting, and what once broke something.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::path::{Path, PathBuf};

use fuzz::TARGETS;

fn corpus(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn no_input_of_the_corpus_breaks_its_target() {
    for target in TARGETS {
        let files = corpus(target.name);
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let result = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(result.is_ok(), "{} breaks {}", file.display(), target.name);
        }
    }
}

#[test]
fn every_target_takes_every_other_targets_input() {
    for target in TARGETS {
        for other in TARGETS {
            for file in corpus(other.name).into_iter().take(20) {
                (target.run)(&std::fs::read(file).unwrap());
            }
        }
    }
}
