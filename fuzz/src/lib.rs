//! Hostile bytes for everything that reads foreign bytes.
//!
//! A target is a plain function over a byte slice: it must return, without a panic and without much
//! memory, whatever the bytes are. `cargo xtask fuzz TARGET` lets libFuzzer look for bytes that break that
//! (`main.rs`); `tests/corpus.rs` runs each target over its corpus, which holds seeds, what libFuzzer found
//! interesting, and every input that once broke something.

#![forbid(unsafe_code)]

mod targets;

pub use targets::{TARGETS, Target, target};
