//! Who is behind a file request, as far as the other node needs to know.
//!
//! The kernel puts the file-system uid and gid into each request. Supplementary groups are not there; they are read from
//! `/proc/PID/status` of the asking process. A node of ours is told all of them, a plain QNX node the first eight, for which
//! QNX's `_client_info` has room.

use std::{
    collections::HashMap,
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    rc::Rc,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qnet_ipc::Claim;

use crate::sys;

/// Most supplementary groups that a node is told.
pub const MAX_GROUPS: usize = qnet_ipc::MAX_GROUPS;

/// The identity under which a node decides what may be done. Equal callers share one connection to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups, at most [`MAX_GROUPS`].
    pub groups: Vec<u32>,
}

impl Caller {
    /// The claim to make about this caller; `pid` is the process that makes it.
    pub fn claim(&self, pid: i32) -> Claim {
        Claim { pid, ..Claim::user(self.uid, self.gid, self.groups.clone()) }
    }
}

/// Finds the supplementary groups that a thread has now. What it is read from may be kept in the second argument, and is
/// handed in again for the same thread as long as that lives.
pub type ReadGroups = fn(u32, &mut Option<File>) -> Vec<u32>;

/// Threads whose groups are remembered; each costs two descriptors.
const MAX_KNOWN: usize = 128;

/// Supplementary groups of those who ask, remembered for each thread and identity.
///
/// A descriptor of the thread tells when it has ended, so that another one with its number is never taken for it. Groups are
/// read anew when the thread asks as another user or group, and whenever it opens or makes a file: one that changes its groups and
/// nothing else is taken for what it was until then.
#[derive(Debug)]
pub struct Groups {
    read: ReadGroups,
    known: HashMap<u32, Known>,
}

#[derive(Debug)]
struct Known {
    alive: OwnedFd,
    status: Option<File>,
    caller: Rc<Caller>,
}

impl Groups {
    /// Groups as `read` finds them.
    pub fn new(read: ReadGroups) -> Self {
        Self { read, known: HashMap::new() }
    }

    /// Who the thread is, with its groups as they were when it opened something last.
    pub fn caller(&mut self, thread: u32, uid: u32, gid: u32) -> Rc<Caller> {
        if let Some(known) = self.known.get(&thread)
            && (known.caller.uid, known.caller.gid) == (uid, gid)
            && is_alive(&known.alive)
        {
            return Rc::clone(&known.caller);
        }
        self.caller_now(thread, uid, gid)
    }

    /// The same, with the groups that the thread has now.
    pub fn caller_now(&mut self, thread: u32, uid: u32, gid: u32) -> Rc<Caller> {
        // Its descriptor first: what is read afterwards is this thread's or, if it has ended meanwhile, not remembered.
        let (alive, mut status) = match self.known.remove(&thread) {
            Some(known) if is_alive(&known.alive) => (Some(known.alive), known.status),
            _ if thread == 0 => (None, None),
            _ => (sys::thread_descriptor(thread), None),
        };
        let caller = Rc::new(Caller { uid, gid, groups: (self.read)(thread, &mut status) });
        if let Some(alive) = alive.filter(is_alive) {
            if self.known.len() >= MAX_KNOWN {
                self.known.clear();
            }
            self.known.insert(thread, Known { alive, status, caller: Rc::clone(&caller) });
        }
        caller
    }
}

fn is_alive(thread: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(thread.as_fd(), PollFlags::POLLIN)];
    poll(&mut watched, PollTimeout::ZERO) == Ok(0)
}

/// Supplementary groups of a thread of this PID namespace. Empty when it is gone or not visible (number 0): a group that
/// is not passed on grants nothing, but a mode that denies it is not met either.
///
/// The status file stays open in `status`: to find and open it anew costs two thirds of what it costs to read it, and whoever reads
/// small files opens one after the other. It belongs to the thread, not to its number, and reads as nothing when that has ended.
pub fn groups_of(thread: u32, status: &mut Option<File>) -> Vec<u32> {
    if thread == 0 {
        return Vec::new();
    }
    if status.is_none() {
        *status = File::open(format!("/proc/{thread}/status")).ok();
    }
    // One read suffices: the line is near the beginning, and this is room for as many groups
    // as are passed on.
    let mut text = [0; 4096];
    let read = status.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
    parse_groups(&String::from_utf8_lossy(&text[..read.unwrap_or_default()]))
}

/// Whether a thread has got a signal that will end it as soon as it does not wait any more, or is gone already.
///
/// The kernel tells us of every signal. Only this kind may end a request: `mkdir` is never interrupted on a local file
/// system, and programs do not expect it (git gets SIGALRM while it shows its progress).
pub fn is_dying(thread: u32) -> bool {
    if thread == 0 {
        // Not to be seen from here: better an interrupted call than one that nothing can end.
        return true;
    }
    match std::fs::read_to_string(format!("/proc/{thread}/status")) {
        Ok(status) => has_fatal_signal(&status),
        Err(error) => {
            error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
        }
    }
}

/// Whether a status file shows a pending signal whose effect is the end. The kernel marks the threads of a process that
/// dies with SIGKILL; signals that dump core stand there by themselves.
fn has_fatal_signal(status: &str) -> bool {
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap_or_default().trim(), 16).unwrap_or_default()
    };
    let bit = |signal: i32| 1_u64 << (signal - 1);
    let harmless = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGURG,
        libc::SIGWINCH,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    let harmless = harmless.into_iter().fold(0, |set, signal| set | bit(signal));
    let pending = set("SigPnd:") | set("ShdPnd:");
    let taken = set("SigBlk:") | set("SigIgn:") | set("SigCgt:");
    pending & bit(libc::SIGKILL) != 0 || pending & !taken & !harmless != 0
}

/// The `Groups:` line of a status file.
fn parse_groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|group| group.parse().ok()).take(MAX_GROUPS).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn groups_are_read_from_the_status_file() {
        let status = "Name:\tcat\nUid:\t1\t1\t1\t1\nGroups:\t4 24 27 \nNStgid:\t9\n";
        assert_eq!(parse_groups(status), [4, 24, 27]);
        assert_eq!(parse_groups("Name:\tcat\nGroups:\t\n"), [0_u32; 0]);
        assert_eq!(parse_groups(""), [0_u32; 0]);
    }

    #[test]
    fn no_more_groups_than_local_channels_carry_are_passed_on() {
        let many: Vec<String> = (0..1000).map(|group| group.to_string()).collect();
        let groups = parse_groups(&format!("Groups:\t{}\n", many.join(" ")));
        assert_eq!(groups, (0..MAX_GROUPS as u32).collect::<Vec<u32>>());
    }

    #[test]
    fn a_process_that_is_not_there_has_no_groups() {
        assert!(groups_of(0, &mut None).is_empty());
        assert!(groups_of(u32::MAX, &mut None).is_empty());
    }

    /// Only root can change the groups of a process; for others the same file says the same again.
    #[test]
    fn groups_that_change_are_seen_in_the_file_that_is_held() {
        let (change, changed) = if nix::unistd::geteuid().is_root() {
            ("setpriv --groups 7,9", vec![7, 9])
        } else {
            ("", groups_of(std::process::id(), &mut None))
        };
        let program = format!("read line; exec {change} sleep 1000");
        let mut child =
            Command::new("sh").args(["-c", program.as_str()]).stdin(Stdio::piped()).spawn().unwrap();
        let mut status = None;
        let before = groups_of(child.id(), &mut status);
        assert_eq!(before, groups_of(std::process::id(), &mut None), "inherited");
        drop(child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(60);
        while groups_of(child.id(), &mut status) != changed && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let after = groups_of(child.id(), &mut status);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(after, changed);
    }

    #[test]
    fn a_held_file_of_a_thread_that_has_ended_gives_no_groups() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut status = None;
        let parent = groups_of(std::process::id(), &mut None);
        assert_eq!(groups_of(child.id(), &mut status), parent, "inherited");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(status.is_some() && groups_of(child.id(), &mut status).is_empty());
    }

    #[test]
    fn groups_are_read_once_for_a_thread_and_an_identity_until_it_opens_something() {
        thread_local! {
            static READ: Cell<u32> = const { Cell::new(0) };
        }
        let read = |_, _: &mut _| {
            READ.set(READ.get() + 1);
            vec![READ.get()]
        };
        let mut groups = Groups::new(read);
        let us = std::process::id();
        assert_eq!(groups.caller(us, 5, 6).groups, [1]);
        assert_eq!(groups.caller(us, 5, 6).groups, [1]);
        assert_eq!(groups.caller(us, 5, 7).groups, [2], "another identity");
        assert_eq!(groups.caller_now(us, 5, 7).groups, [3]);
        assert_eq!(groups.caller(us, 5, 7).groups, [3], "and what was found is remembered");
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id();
        assert_eq!(groups.caller(pid, 5, 6).groups, [4]);
        assert_eq!(groups.caller(pid, 5, 6).groups, [4]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(groups.caller(pid, 5, 6).groups, [5], "whoever has the number now is another one");
        assert_eq!(groups.caller(0, 5, 6).groups, [6]);
        assert_eq!(groups.caller(0, 5, 6).groups, [7], "nobody is known by no number");
    }

    #[test]
    fn what_a_threads_groups_were_read_from_is_held_as_long_as_the_thread_lives() {
        // Tells whether it was handed what it had left.
        let read = |_, held: &mut Option<File>| {
            let before = u32::from(held.is_some());
            *held = Some(File::open("/dev/null").unwrap());
            vec![before]
        };
        let mut groups = Groups::new(read);
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id();
        assert_eq!(groups.caller_now(pid, 5, 6).groups, [0]);
        assert_eq!(groups.caller_now(pid, 5, 6).groups, [1]);
        assert_eq!(groups.caller_now(pid, 5, 7).groups, [1], "whoever the thread is now");
        assert_eq!(groups.caller_now(std::process::id(), 5, 6).groups, [0], "another thread");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(groups.caller_now(pid, 5, 6).groups, [0], "whoever has the number now is another one");
        assert_eq!(groups.caller_now(0, 5, 6).groups, [0]);
        assert_eq!(groups.caller_now(0, 5, 6).groups, [0], "nobody is known by no number");
    }

    #[test]
    fn a_signal_is_fatal_when_nobody_catches_it() {
        let status = |pending: u64, caught: u64| {
            format!(
                "Name:\tx\nSigPnd:\t0000000000000000\nShdPnd:\t{pending:016x}\nSigBlk:\t0\nSigIgn:\t0\nSigCgt:\t{caught:016x}\n"
            )
        };
        let bit = |signal: i32| 1_u64 << (signal - 1);
        for (pending, caught, fatal) in [
            (0, 0, false),
            (bit(libc::SIGKILL), 0, true),
            (bit(libc::SIGINT), 0, true),
            (bit(libc::SIGQUIT), 0, true),
            (bit(libc::SIGALRM), bit(libc::SIGALRM), false),
            (bit(libc::SIGALRM) | bit(libc::SIGTERM), bit(libc::SIGALRM), true),
            (bit(libc::SIGCHLD) | bit(libc::SIGWINCH), 0, false),
        ] {
            assert_eq!(has_fatal_signal(&status(pending, caught)), fatal, "{pending:x} {caught:x}");
        }
    }

    #[test]
    fn this_thread_is_not_dying_and_one_that_is_not_there_is() {
        assert!(!is_dying(std::process::id()));
        assert!(is_dying(u32::MAX) && is_dying(0));
    }

    #[test]
    fn a_claim_names_the_caller_and_the_process_that_speaks_for_it() {
        let claim = Caller { uid: 5, gid: 6, groups: vec![7] }.claim(99);
        assert_eq!((claim.ruid, claim.euid, claim.egid, claim.pid), (5, 5, 6, 99));
        assert_eq!(claim.groups, [7]);
    }
}
