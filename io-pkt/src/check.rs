//! `--check`: what this machine allows, a line each, with the cure where it does not.
//!
//! ```text
//! ok    raw sockets       an AF_PACKET socket can be opened
//! no    FUSE              /dev/fuse: No such file or directory; modprobe fuse, or …
//! ```
//!
//! `no` lines make the exit status 1, `note` lines do not: what they tell of has a working substitute.

mod probes;

use std::{
    fmt,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
    /// What to do about it; empty when nothing needs doing.
    pub cure: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Works.
    Ok,
    /// Works in another way, or may need attention.
    Note,
    /// Does not work.
    No,
}

impl Finding {
    fn ok(subject: &str, text: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Ok, text: text.into(), cure: String::new() }
    }

    fn note(subject: &str, text: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Note, text: text.into(), cure: cure.into() }
    }

    fn no(subject: &str, text: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::No, text: text.into(), cure: cure.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::No => "no",
        };
        write!(f, "{word:<5} {:<17} {}", self.subject, self.text)?;
        if self.cure.is_empty() { Ok(()) } else { write!(f, "; cure: {}", self.cure) }
    }
}

/// Prints all findings to stdout. Status 1 when something does not work.
#[must_use]
pub fn run(root: Option<&Path>) -> ExitCode {
    let findings = probes::all(root);
    let mut out = io::stdout().lock();
    for finding in &findings {
        // A reader who went away wants no more.
        if writeln!(out, "{finding}").is_err() {
            break;
        }
    }
    ExitCode::from(u8::from(findings.iter().any(|finding| finding.verdict == Verdict::No)))
}
