//! The process itself: background, priority, limits.
//!
//! Going to the background happens first of all, while there is one thread and nothing is open; the half that stays
//! in front waits for the word that everything is mounted, because QNX's scripts go on as soon as `io-pkt-v4-hc`
//! returns.

mod sys;

use std::{
    fs::File,
    io::{self, Read, Write},
};

use nix::{
    fcntl::OFlag,
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid},
};

/// The background half tells the waiting foreground half that it is ready, or ends without doing so. Keep it until the end of
/// the process: who waits goes on when it is dropped, and may start the next daemon at once.
#[derive(Debug)]
pub struct Launch {
    tell: Option<File>,
}

/// QNX priority that corresponds to nice 0.
const NORMAL_PRIORITY: i32 = 21;
/// Descriptors that a daemon with many clients and modules may need.
const DESCRIPTORS: u64 = 16 * 1024;

impl Launch {
    /// Stays in the foreground.
    #[must_use]
    pub fn foreground() -> Self {
        Self { tell: None }
    }

    /// Goes to the background: returns in the child. The parent waits and ends with status 0 when the child is
    /// ready, or with 1 when it ended first, having said why on stderr. Call before any other thread exists.
    ///
    /// # Errors
    /// As pipe(2) and fork(2).
    pub fn background() -> io::Result<Self> {
        // No helper must have it: the half that waits would wait for that, too.
        let (hear, tell) = pipe2(OFlag::O_CLOEXEC)?;
        if sys::fork()? {
            drop(tell);
            let mut word = Vec::new();
            let ready = File::from(hear).read_to_end(&mut word).is_ok() && word == b"ready";
            std::process::exit(i32::from(!ready));
        }
        setsid()?;
        Ok(Self { tell: Some(File::from(tell)) })
    }

    /// The daemon is ready: in the background, leaves the terminal and lets the foreground half go.
    ///
    /// # Errors
    /// When the standard descriptors cannot be redirected.
    pub fn ready(&mut self) -> io::Result<()> {
        let Some(mut tell) = self.tell.take() else { return Ok(()) };
        let null = File::options().read(true).write(true).open("/dev/null")?;
        std::env::set_current_dir("/")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        // A user who sent stderr to a file wants the log there; a terminal or pipe would keep its other end waiting.
        let is_file = nix::sys::stat::fstat(io::stderr())
            .is_ok_and(|meta| meta.st_mode & libc::S_IFMT == libc::S_IFREG);
        if !is_file {
            crate::logging::detach();
            dup2_stderr(&null)?;
        }
        // A foreground half that was killed meanwhile does not matter.
        let _ = tell.write_all(b"ready");
        Ok(())
    }
}

/// Applies QNX's `-P`: 21 is nice 0 and each step is one step of nice.
///
/// DEVIATION: QNX schedules threads in real time by priority; a daemon in a real-time class that spins would starve
/// its own clients here, so this is nice(2), and what is not permitted is only warned of.
///
/// # Errors
/// A sentence for the log.
pub fn set_priority(priority: u8) -> Result<i32, String> {
    let nice = (NORMAL_PRIORITY - i32::from(priority)).clamp(-20, 19);
    sys::set_nice(nice).map(|()| nice).map_err(|cause| {
        format!("-P {priority} (nice {nice}): {cause}; it needs CAP_SYS_NICE or a higher RLIMIT_NICE")
    })
}

/// Raises the limit on open descriptors as far as it may.
pub fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = DESCRIPTORS.min(hard).max(soft);
        if let Err(cause) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
            tracing::debug!("limit of descriptors stays at {soft}: {cause}");
        }
    }
}
