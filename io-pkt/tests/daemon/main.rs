//! The real daemon below a temporary root: no privilege, no names of the machine, real modules.

#![expect(clippy::unwrap_used, reason = "a test says by panicking what went wrong")]

mod hostile;
mod isolation;
mod life;
mod modules;
mod support;
