//! Finds, checks, maps and runs module files: the daemon's side of the module ABI.
//!
//! ```text
//!  name ── search.rs ── file ── elf.rs (no code runs) ── image.rs (sealed memfd, dlopen) ── handshake.rs ── tables.rs
//!                                                             │
//!            Loader ──────────────── Build (one mapped file, for ever) ── DriverUse, ProtocolUse (one mount each)
//! ```
//!
//! How the daemon uses it:
//!
//! 1. [`SearchPath::resolve`] a name to a file; [`Loader::load`] (or [`Loader::load_file`] with a descriptor) gives an
//!    `Arc<Build>`.
//! 2. [`options::parse`] what was typed, [`Build::accept`] checks it and keeps `lan`, `uptype` and `verbose` for the daemon.
//! 3. `DriverUse::create` or `ProtocolUse::create` with the daemon's `HostTable`, then `start`, then the calls of the
//!    frame path, each of which is one indirect call. Dropping a use stops and destroys it.
//!
//! A call that fails marks the use failed ([`State`]); the daemon drops it. No policy lives here, and no argv.

mod build;
mod driver;
mod elf;
mod error;
mod handshake;
mod image;
mod life;
mod mounted;
pub mod options;
mod protocol;
mod reader;
mod search;
mod tables;

pub use build::{Build, Kind, Loader, MAX_BUILDS};
pub use driver::DriverUse;
pub use elf::{ElfError, ElfFacts, inspect};
pub use error::{LoadError, Refusal};
pub use image::LoadMode;
pub use life::{CallError, State, UseError, UseSpec};
pub use options::{Accepted, Given, OptionError, OptionInfo, OptionKind};
pub use protocol::ProtocolUse;
pub use reader::{ReadModule, Reader};
pub use search::{PATH_VARIABLE, SearchPath, file_names};
