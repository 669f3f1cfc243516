//! The real daemon below a temporary root: no privilege, no names of the machine, real modules.
//!
//! `life` is start and end, `modules` mounting and frames, `isolation` modules that fail, `hostile` clients that do.
//! Nodes, namespaces and the wire are the system tests' work (`tests/`).

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

mod hostile;
mod isolation;
mod life;
mod modules;
mod support;
mod threads;
