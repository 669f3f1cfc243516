//! Helpers of the system tests: which tests can run here, nodes to run them on, waiting.
//!
//! A test names what it needs. Where that is missing it is reported as ignored, with the reason on
//! standard error; with `CI=true` it fails instead, so that a green run has run everything.

pub mod capture;
mod harness;
mod pair;
mod player;
pub mod sys;
mod trouble;

pub use harness::{Case, Need, main};
pub use pair::{PATIENCE, Pair, eventually, refused, shell_as};
pub use player::Player;
pub use trouble::{has_lost, lose};
