//! Where log lines go: stderr until the daemon leaves its terminal, the system log afterwards.
//!
//! The system log is spoken to in datagrams of `<priority>io-pkt[pid]: text`, without waiting: a log that does not
//! keep up loses lines, the frames lose nothing.

use std::{
    env,
    io::{self, IsTerminal, Write},
    os::unix::net::UnixDatagram,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

use nix::sys::stat::fstat;

/// Who reads the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Style {
    /// A file or a pipe.
    Plain,
    /// A terminal.
    Terminal,
    /// systemd's journal.
    Journal,
    /// The system log.
    Syslog,
}

/// The present [`Style`] plus one; 0 before anybody asked.
static STYLE: AtomicU8 = AtomicU8::new(0);
static SYSLOG: OnceLock<UnixDatagram> = OnceLock::new();

impl Style {
    pub(super) fn current() -> Self {
        match STYLE.load(Ordering::Relaxed) {
            1 => Self::Plain,
            2 => Self::Terminal,
            3 => Self::Journal,
            4 => Self::Syslog,
            _ => {
                let style = Self::of_stderr();
                style.set();
                style
            }
        }
    }

    fn set(self) {
        STYLE.store(self as u8 + 1, Ordering::Relaxed);
    }

    /// What stderr is connected to.
    pub(super) fn of_stderr() -> Self {
        if io::stderr().is_terminal() {
            return Self::Terminal;
        }
        // systemd names the device and inode of the stream that it reads.
        let journal = env::var("JOURNAL_STREAM").ok();
        let here = fstat(io::stderr()).map(|meta| format!("{}:{}", meta.st_dev, meta.st_ino)).ok();
        if journal.is_some() && journal == here { Self::Journal } else { Self::Plain }
    }
}

/// Sends lines to the system log from now on, if there is one. Called when stderr is about to be given up.
pub fn detach() {
    let connect = || -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect("/dev/log")?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    if let Ok(socket) = connect()
        && SYSLOG.set(socket).is_ok()
    {
        Style::Syslog.set();
    }
}

/// Writes whole lines.
pub(super) struct Sink;

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match SYSLOG.get().filter(|_| Style::current() == Style::Syslog) {
            Some(socket) => {
                // `<6>text` becomes `<30>io-pkt[pid]: text`; 24 is the facility "daemon".
                let text = String::from_utf8_lossy(line);
                let (priority, text) = split_priority(&text);
                let packet =
                    format!("<{}>io-pkt[{}]: {}", 24 + priority, std::process::id(), text.trim_end());
                // A log that does not keep up loses lines; the frames do not wait for it.
                let _ = socket.send(packet.as_bytes());
            }
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn split_priority(line: &str) -> (u8, &str) {
    let parsed = line
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .and_then(|(number, text)| Some((number.parse().ok()?, text)));
    parsed.unwrap_or((6, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priority_prefix_is_taken_off() {
        assert_eq!(split_priority("<3>en0: gone\n"), (3, "en0: gone\n"));
        assert_eq!(split_priority("no prefix"), (6, "no prefix"));
        assert_eq!(split_priority("<x>odd"), (6, "<x>odd"));
    }
}
