//! Real children: shells that exit, wait, ignore signals or talk over the descriptors they were given.
//!
//! Nothing here sleeps: the end of a child is an event of the poller, and a child that waits does so in `exec
//! sleep`, so that killing it leaves no grandchild behind.

use std::{
    io::Read,
    os::{fd::AsRawFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use mio::{Events, Poll};

use super::*;

const ME: UseId = UseId(1);
const SHELL: &str = "/bin/sh";

struct Nursery {
    poll: Poll,
    helpers: Helpers,
}

impl Nursery {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let helpers = Helpers::new(poll.registry().try_clone().unwrap());
        Self { poll, helpers }
    }

    fn shell(&mut self, script: &str, fds: &[RawFd], token: u64) -> i64 {
        let args: [&[u8]; 2] = [b"-c", script.as_bytes()];
        let spawn = Spawn { program: Path::new(SHELL), args: &args, fds, token };
        self.helpers.spawn(ME, &spawn).unwrap()
    }

    fn next_exit(&mut self) -> Exit {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut events = Events::with_capacity(8);
        while Instant::now() < deadline {
            self.poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
            for event in &events {
                if let Some(exit) = Address::of(event.token()).and_then(|at| self.helpers.reap(at)) {
                    return exit;
                }
            }
        }
        panic!("no helper ended");
    }
}

#[test]
fn the_end_of_a_helper_is_told_with_its_status() {
    let mut n = Nursery::new();
    n.shell("exit 7", &[], 42);
    let exit = n.next_exit();
    assert_eq!((exit.owner, exit.token, exit.describe().as_str()), (Some(ME), 42, "exit status 7"));
    assert!(n.helpers.is_empty());
}

#[test]
fn descriptors_arrive_as_three_and_four_whatever_their_numbers_were() {
    let mut n = Nursery::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    n.shell(
        "echo hello >&3; cat <&4; [ -e /proc/self/fd/5 ] && exit 1; exit 0",
        &[theirs.as_raw_fd(), null.as_raw_fd()],
        0,
    );
    drop(theirs);
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
    assert_eq!(n.next_exit().describe(), "exit status 0");
}

#[test]
fn signals_reach_the_helper_of_the_owner_only() {
    let mut n = Nursery::new();
    let handle = n.shell("exec sleep 1000", &[], 1);
    assert_eq!(n.helpers.kill(UseId(9), handle, libc::SIGTERM), Err(Errno::ENOENT));
    assert_eq!(n.helpers.kill(ME, handle, 9999), Err(Errno::EINVAL));
    assert_eq!(n.helpers.kill(ME, handle, libc::SIGTERM), Ok(()));
    assert_eq!(n.next_exit().describe(), "killed by signal 15");
    assert_eq!(n.helpers.kill(ME, handle, libc::SIGTERM), Err(Errno::ENOENT));
}

#[test]
fn a_helper_that_ignores_sigterm_is_killed_when_its_grace_is_over() {
    let mut n = Nursery::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    n.shell("trap '' TERM; echo ready >&3; exec 3>&-; exec sleep 1000", &[theirs.as_raw_fd()], 1);
    drop(theirs);
    let mut line = [0; 6];
    ours.read_exact(&mut line).unwrap();
    n.helpers.retire(ME, 5);
    assert_eq!(n.helpers.deadline(), Some(5 + GRACE));
    n.helpers.expire(4 + GRACE);
    assert_eq!(n.helpers.deadline(), Some(5 + GRACE));
    n.helpers.expire(5 + GRACE);
    let exit = n.next_exit();
    assert_eq!((exit.owner, exit.describe().as_str()), (None, "killed by signal 9"));
    assert_eq!(n.helpers.deadline(), None);
}

#[test]
fn a_program_that_is_not_there_is_an_error_at_once() {
    let mut n = Nursery::new();
    let spawn = Spawn { program: Path::new("/nowhere/qnet-server"), args: &[], fds: &[], token: 0 };
    assert_eq!(n.helpers.spawn(ME, &spawn), Err(Errno::ENOENT));
    let spawn = Spawn { program: Path::new(SHELL), args: &[b"a\0b"], fds: &[], token: 0 };
    assert_eq!(n.helpers.spawn(ME, &spawn), Err(Errno::EINVAL));
    let spawn = Spawn { program: Path::new(SHELL), args: &[], fds: &[-1], token: 0 };
    assert_eq!(n.helpers.spawn(ME, &spawn), Err(Errno::EBADF));
}
