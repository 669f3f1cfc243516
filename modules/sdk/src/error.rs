//! The one error type of modules: an errno value for programs and a sentence for people.

use std::{borrow::Cow, fmt, io};

/// Why something failed. Crosses the border as `-errno` and, where the call has room for it, as the sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    errno: i32,
    text: Cow<'static, str>,
}

impl Error {
    /// An error with a Linux errno value (`libc::ENODEV`) and a sentence that names what failed, with which value, and
    /// why. A value outside 1..=4095 becomes `EIO`.
    #[must_use]
    pub fn new(errno: i32, text: impl Into<Cow<'static, str>>) -> Self {
        Self { errno: if (1..=4095).contains(&errno) { errno } else { libc::EIO }, text: text.into() }
    }

    /// `what`, followed by the system's reason: `cannot open /dev/net/tun: Permission denied`.
    #[must_use]
    pub fn os(what: impl fmt::Display, reason: &io::Error) -> Self {
        Self::new(reason.raw_os_error().unwrap_or(libc::EIO), format!("{what}: {}", describe(reason)))
    }

    /// What the last failed system call of this thread left in `errno`, with `what` in front.
    #[must_use]
    pub fn last_os(what: impl fmt::Display) -> Self {
        Self::os(what, &io::Error::last_os_error())
    }

    /// The errno value, 1 to 4095.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// The sentence.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same error with `what: ` in front of its sentence.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Self {
        Self { errno: self.errno, text: format!("{what}: {}", self.text).into() }
    }

    /// Turns a host function's `-errno` into an error about `what`.
    pub(crate) fn from_code(what: impl fmt::Display, code: i64) -> Self {
        let errno = i32::try_from(-code).unwrap_or(libc::EIO);
        Self::os(what, &io::Error::from_raw_os_error(errno))
    }
}

impl From<io::Error> for Error {
    fn from(reason: io::Error) -> Self {
        Self::new(reason.raw_os_error().unwrap_or(libc::EIO), describe(&reason))
    }
}

/// The system's text without Rust's ` (os error N)`.
fn describe(reason: &io::Error) -> String {
    let text = reason.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
