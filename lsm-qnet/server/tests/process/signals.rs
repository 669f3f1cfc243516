//! Signals for this node's processes: who may send them, and as whom they are sent.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};

use qnet_iomsg::signal::{Request, linux_to_qnx};
use qnet_ipc::Claim;
use qnet_ipc::packet::right;

use crate::Case;
use crate::support::{NOBODY, Need, Result, Server};

pub(crate) const CASES: &[Case] = &[
    ("signal_needs_the_right_to_send_signals", Need::Root, signal_needs_the_right),
    ("signal_is_sent_as_the_caller_and_not_as_the_server", Need::Root, signal_is_sent_as_the_caller),
    ("root_signals_everybody_but_the_server", Need::Root, root_signals_everybody_but_the_server),
    ("signals_for_nobody_are_errors", Need::Root, signals_for_nobody_are_errors),
    ("after_a_signal_a_worker_is_who_it_was", Need::Root, after_a_signal_a_worker_is_who_it_was),
];

/// A process of that user that waits to be signalled; ended with its handle.
struct Target(Child);

impl Target {
    fn of(uid: u32) -> Self {
        Self(Command::new("sleep").arg("1000").uid(uid).gid(uid).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// The signal that ended it.
    fn ended_by(mut self) -> Option<i32> {
        self.0.wait().unwrap().signal()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn caller(server: &mut Server, uid: u32) -> u32 {
    server.connect_with(2, Some(Claim::user(uid, uid, Vec::new())), right::SIGNAL).unwrap()
}

fn send(server: &mut Server, conn: u32, request: Request) -> Result<()> {
    server.call(conn, 0, &request.emit(), 0).map(drop)
}

fn signal(server: &mut Server, conn: u32, pid: i32, linux: i32) -> Result<()> {
    let signo = linux_to_qnx(linux).unwrap();
    send(server, conn, Request { signo, pid, ..Request::default() })
}

fn signal_needs_the_right() {
    let mut server = Server::new();
    let mut target = Target::of(1001);
    let conn = server.connect(1001).unwrap();
    assert_eq!(signal(&mut server, conn, target.pid(), libc::SIGTERM), Err(libc::EPERM));
    let without_claim = server.connect_with(2, None, right::SIGNAL).unwrap();
    assert_eq!(signal(&mut server, without_claim, target.pid(), libc::SIGTERM), Err(libc::EPERM));
    assert!(target.lives());
    assert!(server.log().contains("allow=signal"), "{}", server.log());
}

fn signal_is_sent_as_the_caller() {
    let mut server = Server::new();
    let (own, other, mut root) = (Target::of(1001), Target::of(1002), Target::of(0));
    let one = caller(&mut server, 1001);
    for foreign in [other.pid(), root.pid()] {
        assert_eq!(signal(&mut server, one, foreign, libc::SIGTERM), Err(libc::EPERM));
        assert_eq!(signal(&mut server, one, foreign, 0), Err(libc::EPERM), "not even a look");
    }
    assert!(root.lives());
    assert_eq!(signal(&mut server, one, own.pid(), 0), Ok(()));
    // a signal that has another number on QNX
    assert_eq!(signal(&mut server, one, own.pid(), libc::SIGUSR1), Ok(()));
    assert_eq!(own.ended_by(), Some(libc::SIGUSR1));
    let nobody = caller(&mut server, NOBODY);
    assert_eq!(signal(&mut server, nobody, other.pid(), libc::SIGKILL), Err(libc::EPERM));
}

fn root_signals_everybody_but_the_server() {
    let mut server = Server::new();
    let conn = caller(&mut server, 0);
    for uid in [0, 1001] {
        let target = Target::of(uid);
        assert_eq!(signal(&mut server, conn, target.pid(), libc::SIGKILL), Ok(()));
        assert_eq!(target.ended_by(), Some(libc::SIGKILL));
    }
    let itself = server.pid() as i32;
    assert_eq!(signal(&mut server, conn, itself, libc::SIGKILL), Err(libc::EPERM));
    let threads: Vec<i32> = std::fs::read_dir(format!("/proc/{itself}/task"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    assert!(threads.len() > 1, "{threads:?}");
    for thread in threads {
        assert_eq!(
            signal(&mut server, conn, thread, libc::SIGKILL),
            Err(libc::EPERM),
            "by its thread {thread}"
        );
    }
    // one thread, and a value
    let target = Target::of(1001);
    let pid = target.pid();
    let signo = linux_to_qnx(libc::SIGTERM).unwrap();
    let request = Request { signo, pid, ..Request::default() };
    assert_eq!(send(&mut server, conn, Request { tid: pid + 1, ..request }), Err(libc::ESRCH));
    assert_eq!(send(&mut server, conn, Request { tid: pid, ..request }), Ok(()));
    assert_eq!(target.ended_by(), Some(libc::SIGTERM));
    let target = Target::of(1001);
    let request = Request { pid: target.pid(), code: -1, value: 7, ..request };
    assert_eq!(send(&mut server, conn, request), Ok(()));
    assert_eq!(target.ended_by(), Some(libc::SIGTERM));
}

fn signals_for_nobody_are_errors() {
    let mut server = Server::new();
    let conn = caller(&mut server, 0);
    let signo = linux_to_qnx(libc::SIGTERM).unwrap();
    let mut try_out = |signo, pid| send(&mut server, conn, Request { signo, pid, ..Request::default() });
    assert_eq!(try_out(signo, 0), Err(libc::EINVAL));
    assert_eq!(try_out(signo, -1), Err(libc::EINVAL));
    assert_eq!(try_out(7, 1), Err(libc::EINVAL), "Linux has no SIGEMT");
    let gone = {
        let target = Target::of(1001);
        target.pid()
    };
    assert_eq!(try_out(signo, gone), Err(libc::ESRCH));
    let cut = &Request { signo, pid: 1, ..Request::default() }.emit()[..12];
    assert!(server.call(conn, 0, cut, 0).is_err());
}

fn after_a_signal_a_worker_is_who_it_was() {
    let mut server = crate::support::Start::new().options(&["--workers", "1"]).start();
    let (root, nobody) = (caller(&mut server, 0), caller(&mut server, NOBODY));
    let target = Target::of(1001);
    assert_eq!(signal(&mut server, nobody, target.pid(), libc::SIGTERM), Err(libc::EPERM));
    assert!(server.cat(root, "etc/shadow").is_ok());
    assert_eq!(server.open(nobody, "etc/shadow"), Err(libc::EACCES));
    assert_eq!(signal(&mut server, root, target.pid(), libc::SIGTERM), Ok(()));
    assert_eq!(target.ended_by(), Some(libc::SIGTERM));
}
