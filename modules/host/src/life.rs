//! The life of a use as data: what it is told, the states it goes through, the errors it may give.

use std::{ffi::c_void, fmt, io};

use io_pkt_abi::{HostTable, TextBuf};

use crate::Build;

/// Bytes of room for an error sentence.
const ERROR_ROOM: usize = 1024;

/// Where a use is in its life.
///
/// ```text
/// Created ──► Started ──► Stopped ──► (dropped)
///    └────────────┴──► Failed (reason) ──► (stopped when it was started) ──► (dropped)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Running.
    Started,
    /// Taken down in order.
    Stopped,
    /// Beyond repair; only `stop` and the end are left.
    Failed {
        /// Why, for the operator.
        reason: String,
    },
}

impl State {
    /// Becomes failed. The first reason is the cause and stays; returns whether this is it.
    pub fn fail(&mut self, reason: impl Into<String>) -> bool {
        let first = !matches!(self, Self::Failed { .. });
        if first {
            *self = Self::Failed { reason: reason.into() };
        }
        first
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Started => f.write_str("started"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
        }
    }
}

/// What a new use is told.
#[derive(Clone, Copy, Debug)]
pub struct UseSpec<'a> {
    /// Its name (`en0`, `bridge0`, `qnet`).
    pub name: &'a str,
    /// Number of the io-pkt instance.
    pub instance: u32,
    /// The host's functions; valid until the use is dropped.
    pub host: *const HostTable,
    /// Their first argument; valid until the use is dropped.
    pub ctx: *mut c_void,
    /// The node's root directory.
    pub root: &'a str,
    /// Directory of this machine's device names.
    pub devices: &'a str,
    /// The network directory.
    pub net: &'a str,
    /// Options as [`Build::accept`] passed them.
    pub options: &'a [(String, String)],
    /// State of a former use, empty on a fresh start.
    pub state: &'a [u8],
}

/// A use that could not be made or started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{module}: cannot {step} {name}: {text}")]
pub struct UseError {
    /// Module name.
    pub module: String,
    /// Name of the use.
    pub name: String,
    /// `create` or `start`.
    pub step: &'static str,
    /// Linux errno value.
    pub errno: i32,
    /// The module's sentence, or the system's for the errno value.
    pub text: String,
}

/// A call that did not succeed. The use is marked failed, except where the call's documentation says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {text}")]
pub struct CallError {
    /// Which function.
    pub call: &'static str,
    /// Linux errno value.
    pub errno: i32,
    /// The system's sentence for it.
    pub text: String,
}

/// Room for a module's error sentence.
pub(crate) struct Sentence {
    bytes: Box<[u8; ERROR_ROOM]>,
    buf: TextBuf,
}

impl Sentence {
    pub(crate) fn new() -> Self {
        let mut bytes = Box::new([0; ERROR_ROOM]);
        let buf = TextBuf { ptr: bytes.as_mut_ptr(), cap: ERROR_ROOM as u64, len: 0 };
        Self { bytes, buf }
    }

    pub(crate) fn room(&mut self) -> *mut TextBuf {
        &raw mut self.buf
    }

    /// What was written, in one line.
    fn text(&self) -> String {
        let len = (self.buf.len as usize).min(ERROR_ROOM);
        String::from_utf8_lossy(&self.bytes[..len]).replace(['\n', '\r'], " ").trim().to_owned()
    }
}

fn errno_of(code: i32) -> i32 {
    if (-4095..0).contains(&code) { -code } else { libc::EIO }
}

fn system_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

pub(crate) fn use_error(
    build: &Build,
    name: &str,
    step: &'static str,
    code: i32,
    sentence: &Sentence,
) -> UseError {
    let (errno, text) = (errno_of(code), sentence.text());
    UseError {
        module: build.name().to_owned(),
        name: name.to_owned(),
        step,
        errno,
        text: if text.is_empty() { system_text(errno) } else { text },
    }
}

pub(crate) fn call_error(call: &'static str, code: i32) -> CallError {
    let errno = errno_of(code);
    CallError { call, errno, text: system_text(errno) }
}
