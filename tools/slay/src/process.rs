//! Processes as `/proc` shows them, and which of them a word means.
//!
//! A name is that of the program file without its path, the first argument's without its path (a program may be called by
//! another name, as `io-pkt` is by `io-pkt-v4-hc`), or the name that the process gave itself, which for a script is the
//! script's. A word with a slash is the path of the program file.
//!
//! Never meant, whatever the word: this process and those above it (a script that says `slay sh` goes on), the system's first
//! process, and threads of the kernel.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use qnet::Connection;

use crate::args::{Match, Wanted};
use crate::place::Place;
use crate::sys;

/// The kernel's own threads are children of this one.
const KTHREADD: i32 = 2;
/// Length at which Linux cuts the name that a process gives itself.
const COMM: usize = 15;

/// A living process.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: i32,
    /// The name it goes by.
    pub(crate) name: String,
    /// Its controlling terminal.
    pub(crate) tty: Option<String>,
    handle: Handle,
}

/// How a process is reached.
#[derive(Debug)]
enum Handle {
    /// By a descriptor that stands for it and no other.
    Here(OwnedFd),
    /// By its number, which could come to mean another one in the time between look and signal.
    There(Arc<Connection>),
}

/// What a word means.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// To be acted on, by number.
    pub(crate) processes: Vec<Process>,
    /// Meant by their number, and never touched: with the reason.
    pub(crate) spared: Vec<(i32, &'static str)>,
}

/// Finds the processes that `word` means.
pub(crate) fn find(place: &Place, word: &str, wanted: &Wanted) -> Result<Found, Errno> {
    let above = match place {
        Place::Here => ancestors(),
        Place::There(_) => BTreeSet::new(),
    };
    let number = word.parse::<i32>().ok().filter(|_| wanted.matching != Some(Match::Name));
    let mut found = Found::default();
    for pid in place.numbers("")? {
        // First the descriptor, then the look at it: it cannot become another process under our eyes.
        let Some(handle) = Handle::of(place, pid) else { continue };
        let Some(stat) = Stat::read(place, pid) else { continue };
        let by_number = number == Some(pid);
        let by_name = wanted.matching != Some(Match::Pid) && has_name(place, pid, &stat, word);
        if !by_number && !by_name {
            continue;
        }
        if let Some(why) = untouchable(pid, &stat, &above) {
            // A name that happens to be ours as well is no reason to complain.
            if by_number {
                found.spared.push((pid, why));
            }
            continue;
        }
        let tty = stat.tty();
        if wanted.tty.is_none() || wanted.tty == tty {
            found.processes.push(Process { pid, name: stat.comm, tty, handle });
        }
    }
    Ok(found)
}

impl Handle {
    fn of(place: &Place, pid: i32) -> Option<Self> {
        match place {
            Place::Here => sys::open(pid).ok().map(Self::Here),
            Place::There(server) => Some(Self::There(Arc::clone(server))),
        }
    }
}

impl Process {
    /// Sends it a signal.
    pub(crate) fn send(&self, signal: Signal) -> Result<(), Errno> {
        match &self.handle {
            Handle::Here(handle) => sys::send(handle.as_fd(), signal),
            Handle::There(server) => qnet::signal_kill(server, self.pid, 0, signal as i32)
                .map_err(|error| Errno::from_raw(error.errno())),
        }
    }

    /// Whether it is another node's.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self.handle, Handle::There(_))
    }

    /// Linux's numbers of its threads on this node, oldest first.
    pub(crate) fn threads(&self) -> Vec<i32> {
        Place::Here.numbers(&format!("{}/task", self.pid)).unwrap_or_default()
    }

    /// Whether it has living children.
    pub(crate) fn has_children(&self, place: &Place) -> bool {
        let all = place.numbers("").unwrap_or_default();
        all.into_iter().filter_map(|pid| Stat::read(place, pid)).any(|stat| stat.parent == self.pid)
    }
}

fn untouchable(pid: i32, stat: &Stat, above: &BTreeSet<i32>) -> Option<&'static str> {
    if pid == 1 {
        Some("the system's first process")
    } else if above.contains(&pid) {
        Some("slay itself or one that waits for it")
    } else if pid == KTHREADD || stat.parent == KTHREADD {
        Some("a thread of the kernel")
    } else {
        None
    }
}

/// This process and those above it.
fn ancestors() -> BTreeSet<i32> {
    let mut above = BTreeSet::new();
    let mut pid = i32::try_from(std::process::id()).unwrap_or(0);
    while pid > 0 && above.insert(pid) {
        pid = Stat::read(&Place::Here, pid).map_or(0, |stat| stat.parent);
    }
    above
}

fn has_name(place: &Place, pid: i32, stat: &Stat, word: &str) -> bool {
    let program = place.link(&format!("{pid}/exe"));
    if word.contains('/') {
        return program.is_some_and(|program| without_deleted(&program) == OsStr::new(word));
    }
    let is_word = |path: &OsStr| base(path) == word.as_bytes();
    let called = place.read(&format!("{pid}/cmdline")).unwrap_or_default();
    let first = called.split(|byte| *byte == 0).next().unwrap_or_default();
    // A shell at login is called `-sh`.
    let first = first.strip_prefix(b"-").unwrap_or(first);
    is_word(OsStr::from_bytes(first))
        || program.is_some_and(|program| is_word(without_deleted(&program)))
        || (word.len() <= COMM && stat.comm == word)
}

/// Linux marks the name of a program file that has been replaced.
fn without_deleted(path: &Path) -> &OsStr {
    let bytes = path.as_os_str().as_bytes();
    OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes))
}

fn base(path: &OsStr) -> &[u8] {
    path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// `/proc/PID/stat`, as far as it is needed.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: String,
    parent: i32,
    /// Number of the controlling terminal, 0 for none.
    device: i32,
}

impl Stat {
    fn read(place: &Place, pid: i32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&place.read(&format!("{pid}/stat"))?))
    }

    /// `PID (name) state parent group session terminal …`; the name may hold anything, brackets too.
    fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        let mut fields = rest.split_whitespace().skip(1);
        let parent = fields.next()?.parse().ok()?;
        let device = fields.nth(2)?.parse().ok()?;
        Some(Self { comm, parent, device })
    }

    /// The terminal's path, for the kinds that have a name of their own.
    fn tty(&self) -> Option<String> {
        let device = u64::from(self.device.cast_unsigned());
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
        match major {
            0 => None,
            136..=143 => Some(format!("/dev/pts/{}", minor + (major - 136) * 256)),
            4 if minor < 64 => Some(format!("/dev/tty{minor}")),
            4 => Some(format!("/dev/ttyS{}", minor - 64)),
            188 => Some(format!("/dev/ttyUSB{minor}")),
            204 => Some(format!("/dev/ttyAMA{}", minor.saturating_sub(64))),
            _ => Some(format!("terminal {major}:{minor}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_is_read_whole() {
        let stat = Stat::parse("42 (a) b (c)) S 7 42 42 34817 42 0").expect("a line of /proc");
        assert_eq!(stat, Stat { comm: "a) b (c)".into(), parent: 7, device: 34817 });
        assert_eq!(stat.tty().as_deref(), Some("/dev/pts/1"));
        assert_eq!(Stat::parse("42 sleep S"), None);
    }

    #[test]
    fn terminals_are_named_as_below_dev() {
        let tty = |device| Stat { comm: String::new(), parent: 0, device }.tty();
        assert_eq!(tty(0), None);
        assert_eq!(tty(4 << 8 | 1).as_deref(), Some("/dev/tty1"));
        assert_eq!(tty(4 << 8 | 64).as_deref(), Some("/dev/ttyS0"));
        assert_eq!(tty(136 << 8 | 3).as_deref(), Some("/dev/pts/3"));
    }

    #[test]
    fn a_replaced_program_keeps_its_name() {
        assert_eq!(base(without_deleted(Path::new("/opt/io-pkt (deleted)"))), b"io-pkt");
        assert_eq!(base(OsStr::new("io-pkt")), b"io-pkt");
    }

    #[test]
    fn we_are_among_our_own_ancestors_and_so_is_the_first_process() {
        let above = ancestors();
        assert!(above.contains(&i32::try_from(std::process::id()).expect("a number")));
        assert!(above.len() > 1, "{above:?}");
    }
}
