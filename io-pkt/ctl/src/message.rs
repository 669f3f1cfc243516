//! Requests and replies as they stand on the wire.
//!
//! A request names its command in `cmd`; the command's own fields stand beside it. A reply repeats the request's `id`
//! and carries either `ok`, whose shape depends on the command (see [`crate::report`]), or `error`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::PROTOCOL_VERSION;

/// One line from a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL_VERSION`].
    pub v: u32,
    /// Chosen by the client, repeated in the reply.
    pub id: u64,
    /// What is asked for.
    #[serde(flatten)]
    pub command: Command,
}

impl Request {
    /// A request of the present version.
    #[must_use]
    pub const fn new(id: u64, command: Command) -> Self {
        Self { v: PROTOCOL_VERSION, id, command }
    }
}

/// What a client may ask for. The comment names the type of the `ok` value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
pub enum Command {
    /// Who is there? [`crate::Version`]
    Ping,
    /// Mounts a driver or a protocol. [`crate::Mounted`]. For root and the daemon's user only.
    ///
    /// When the request brings a descriptor along, the module is read from it and `module` only names it.
    Mount {
        /// Module name (`devn-packet.so`, `packet`, `qnet`) or a path.
        module: String,
        /// Comma-separated options, empty for none.
        #[serde(default)]
        options: String,
    },
    /// Takes a driver or a protocol away. [`crate::Unmounted`]. For root and the daemon's user only.
    Umount {
        /// `en0`, `/dev/io-net/en0`, the Linux name behind an interface, or the name of a protocol's use (`bridge0`).
        name: String,
    },
    /// Interfaces with their data and counters. A list of [`crate::Interface`]
    Interfaces {
        /// Only the interface called so (any form that `umount` takes); an unknown one is an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// The process, its threads, its modules and their uses. [`crate::Modules`]
    Modules,
    /// Counters of the pool, the switchboard and the loop. [`crate::Counters`]
    Counters,
    /// A protocol's report for humans. A text.
    Report {
        /// Name of the use (`qnet`, `bridge0`).
        protocol: String,
        /// Part of the report, empty for the whole.
        #[serde(default)]
        topic: String,
    },
    /// Reads or changes what is logged. The filter now in force, a text. Changing is for root and the daemon's user.
    LogLevel {
        /// New filter in the syntax of `RUST_LOG` (`debug`, `info,devn-packet=trace`); none only reads.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        level: Option<String>,
    },
}

impl Command {
    /// True when the command changes something, so that only root and the daemon's user may give it.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::Mount { .. } | Self::Umount { .. } => true,
            Self::LogLevel { level } => level.is_some(),
            Self::Ping | Self::Interfaces { .. } | Self::Modules | Self::Counters | Self::Report { .. } => {
                false
            }
        }
    }
}

/// One line from the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// [`PROTOCOL_VERSION`].
    pub v: u32,
    /// The request's `id`; 0 when the request could not be read so far.
    pub id: u64,
    /// The outcome, as field `ok` or `error`.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// `ok` or `error` of a [`Reply`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It worked; the value depends on the command.
    Ok(serde_json::Value),
    /// It did not.
    Error(ErrorReply),
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    /// Name of the errno that fits best (`EBUSY`).
    pub errno: String,
    /// One sentence for humans that names the subject and the cause.
    pub text: String,
}

impl ErrorReply {
    /// An error of that errno and text.
    #[must_use]
    pub fn new(errno: nix::errno::Errno, text: impl Into<String>) -> Self {
        Self { errno: format!("{errno:?}"), text: text.into() }
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ErrorReply {}
