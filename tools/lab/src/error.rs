//! What can go wrong in a lab.

use std::io;
use std::path::PathBuf;

use crate::abilities::Lack;

/// Why a lab could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file of the lab's folder cannot be read, written or understood.
    #[error("{}: {source}", path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The lab's folder is somebody else's.
    #[error("{}: belongs to another user or is open to others; remove it or give --state DIR", path.display())]
    ForeignState {
        /// The folder.
        path: PathBuf,
    },
    /// The machine does not allow it.
    #[error("{0}")]
    Lacking(Lack),
    /// A node of this name cannot be.
    #[error("{name}: not a name for a node (lower-case letters, digits and -, 15 characters at most)")]
    BadName {
        /// What was given.
        name: String,
    },
    /// There is no such node.
    #[error("{name}: no such node; there are: {known}")]
    NoSuchNode {
        /// What was asked for.
        name: String,
        /// The nodes that exist, or `none`.
        known: String,
    },
    /// A node of this name is up already.
    #[error("{name}: is up already")]
    Exists {
        /// The node.
        name: String,
    },
    /// The lab is up with other wires or other means.
    #[error("the lab is up with {present}; take it down first (qnet-lab down) to use {wanted}")]
    OtherLab {
        /// What it has.
        present: String,
        /// What was asked for.
        wanted: String,
    },
    /// Without namespaces there are no Linux interfaces of a node's own.
    #[error("wire {wire} needs namespaces; without them (--isolation roots) there is --wire segment")]
    WireNeedsNamespaces {
        /// What was asked for.
        wire: String,
    },
    /// One of the lab's own programs is missing.
    #[error("{program}: not found in {}; build it (cargo build --workspace) or install it", folder.display())]
    MissingProgram {
        /// Its name.
        program: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A program could not be started.
    #[error("{program}: {source}")]
    Start {
        /// Its name.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// A program said no.
    #[error("{what} failed: {text}")]
    Failed {
        /// What was to be done.
        what: String,
        /// What it said.
        text: String,
    },
    /// Something did not happen in time.
    #[error("{what}: still waiting after {seconds} s{text}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What is known about the reason, or nothing.
        text: String,
    },
}
