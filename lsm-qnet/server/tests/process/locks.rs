//! Locks of programs on other nodes, against each other and against programs of this one.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use qnet_iomsg::filesys::lock::{END, HOLDER_LEN, Holder, Kind, Request, Scope, Verb};
use qnet_iomsg::flags::{IOFLAG_READ, IOFLAG_WRITE};
use qnet_ipc::ToServer;

use crate::Case;
use crate::support::{Need, PublicDir, Result, Server, public_dir, until};
use crate::writing::open;

pub(crate) const CASES: &[Case] = &[
    ("a_lock_waits_without_a_worker_until_another_owner_lets_go", Need::Nothing, waits_for_another_owner),
    ("a_lock_waits_until_a_local_program_lets_go", Need::Nothing, waits_for_a_local_program),
    ("a_waiting_lock_can_be_taken_back", Need::Nothing, can_be_taken_back),
    ("the_end_of_a_connection_frees_its_locks_and_ends_its_waits", Need::Nothing, end_of_a_connection),
    ("owners_in_a_circle_are_told", Need::Nothing, owners_in_a_circle),
    ("a_whole_file_is_locked_by_an_open", Need::Nothing, whole_files),
    ("who_is_in_the_way_is_told", Need::Nothing, holders),
    ("locks_without_number_are_refused", Need::Nothing, locks_without_number),
];

/// Two connections from two nodes, with a file that each has open.
struct World {
    server: Server,
    dir: PublicDir,
    ends: [(u32, i32); 2],
}

fn world() -> World {
    let (mut server, dir) = (Server::new(), public_dir());
    std::fs::write(dir.path().join("f"), [0; 100]).unwrap();
    let path = dir.path().join("f");
    let ends = [(); 2].map(|()| {
        let conn = server.connect_owner();
        let coid = open(&mut server, conn, path.to_str().unwrap(), IOFLAG_READ | IOFLAG_WRITE, 0).unwrap();
        (conn, coid)
    });
    World { server, dir, ends }
}

pub(crate) fn lock(owner: u64, kind: Kind, start: u64, end: u64) -> Request {
    let verb = Verb::Set;
    Request { verb, scope: Scope::Owner, kind, mount: 1, owner, pid: 100 + owner as u32, start, end }
}

fn waiting(request: Request) -> Request {
    Request { verb: Verb::Wait, ..request }
}

impl World {
    fn ask(&mut self, end: usize, request: Request) -> Result<()> {
        let (conn, coid) = self.ends[end];
        self.server.call(conn, coid, &request.emit(), 0).map(drop)
    }

    fn submit(&mut self, end: usize, request: Request) -> u32 {
        let (conn, coid) = self.ends[end];
        self.server.submit(conn, coid, &request.emit(), 0)
    }

    fn local(&self) -> File {
        File::options().read(true).write(true).open(self.dir.path().join("f")).unwrap()
    }
}

/// Locks or unlocks a range of a file of this process, as a program of this node does.
fn locally(file: &File, kind: i32) -> nix::Result<()> {
    let range = libc_flock(kind);
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range)).map(drop)
}

fn libc_flock(kind: i32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: 0, l_start: 0, l_len: 10, l_pid: 0 }
}

fn waits_for_another_owner() {
    let mut world = world();
    world.ask(0, lock(1, Kind::Write, 0, 9)).unwrap();
    assert_eq!(world.ask(1, lock(2, Kind::Read, 5, 5)), Err(Errno::EAGAIN as i32));
    // far more than there are workers
    let txns: Vec<u32> =
        (0..40).map(|owner| world.submit(1, waiting(lock(10 + owner, Kind::Read, 5, 5)))).collect();
    let (conn, _) = world.ends[1];
    world.server.stat(conn, "/etc").unwrap();
    assert!(txns.iter().all(|txn| !world.server.is_answered(*txn)));
    world.ask(0, lock(1, Kind::Unlock, 5, 5)).unwrap();
    for txn in txns {
        world.server.wait(txn).unwrap();
    }
}

fn waits_for_a_local_program() {
    let mut world = world();
    let local = world.local();
    locally(&local, libc::F_WRLCK).unwrap();
    assert_eq!(world.ask(0, lock(1, Kind::Write, 0, 0)), Err(Errno::EAGAIN as i32));
    let txn = world.submit(0, waiting(lock(1, Kind::Write, 0, 0)));
    let (conn, _) = world.ends[0];
    world.server.stat(conn, "/etc").unwrap();
    assert!(!world.server.is_answered(txn));
    locally(&local, libc::F_UNLCK).unwrap();
    world.server.wait(txn).unwrap();
    assert_eq!(locally(&local, libc::F_RDLCK), Err(Errno::EAGAIN));
}

fn can_be_taken_back() {
    let mut world = world();
    world.ask(0, lock(1, Kind::Write, 0, 9)).unwrap();
    let txn = world.submit(1, waiting(lock(2, Kind::Write, 0, 9)));
    world.server.send(&ToServer::Unblock { txn, tid: 1 });
    assert_eq!(world.server.wait(txn).map(drop), Err(Errno::EINTR as i32));
    world.ask(0, lock(1, Kind::Unlock, 0, 9)).unwrap();
    world.ask(0, lock(3, Kind::Write, 0, 9)).unwrap();
}

fn end_of_a_connection() {
    let mut world = world();
    world.ask(0, lock(1, Kind::Write, 0, END)).unwrap();
    let txn = world.submit(1, waiting(lock(2, Kind::Write, 0, END)));
    let (first, _) = world.ends[0];
    world.server.send(&ToServer::Disconnect { conn: first });
    world.server.wait(txn).unwrap();
    // now the other way round: who waits leaves, and waits for nothing any more
    let dead = world.server.connect_owner();
    let path = world.dir.path().join("f");
    let coid = open(&mut world.server, dead, path.to_str().unwrap(), IOFLAG_READ | IOFLAG_WRITE, 0).unwrap();
    world.server.submit(dead, coid, &waiting(lock(3, Kind::Write, 0, END)).emit(), 0);
    world.server.send(&ToServer::Disconnect { conn: dead });
    world.ask(1, lock(2, Kind::Unlock, 0, END)).unwrap();
    let local = world.local();
    until(|| locally(&local, libc::F_WRLCK).ok());
    assert!(world.server.log().is_empty(), "{}", world.server.log());
}

fn owners_in_a_circle() {
    let mut world = world();
    world.ask(0, lock(1, Kind::Write, 0, 0)).unwrap();
    world.ask(1, lock(2, Kind::Write, 1, 1)).unwrap();
    let txn = world.submit(0, waiting(lock(1, Kind::Write, 1, 1)));
    // the deadlock is there when the first one waits; before, the second one would
    let (conn, coid) = world.ends[1];
    let message = waiting(lock(2, Kind::Read, 0, 0)).emit();
    let circle = until(|| {
        let second = world.server.submit(conn, coid, &message, 0);
        world.server.send(&ToServer::Unblock { txn: second, tid: 1 });
        let result = world.server.wait(second).map(drop);
        (result != Err(Errno::EINTR as i32)).then_some(result)
    });
    assert_eq!(circle, Err(Errno::EDEADLK as i32));
    assert!(!world.server.is_answered(txn), "only one of them is");
    world.ask(1, lock(2, Kind::Unlock, 1, 1)).unwrap();
    world.server.wait(txn).unwrap();
}

fn whole_files() {
    let mut world = world();
    let whole = |kind| Request { scope: Scope::Open, ..lock(0, kind, 0, END) };
    world.ask(0, whole(Kind::Read)).unwrap();
    world.ask(1, whole(Kind::Read)).unwrap();
    assert_eq!(world.ask(1, whole(Kind::Write)), Err(Errno::EAGAIN as i32));
    let txn = world.submit(1, waiting(whole(Kind::Write)));
    let (conn, coid) = world.ends[0];
    world.server.close(conn, coid).unwrap();
    world.server.wait(txn).unwrap();
    let local = nix::fcntl::Flock::lock(world.local(), nix::fcntl::FlockArg::LockSharedNonblock);
    assert_eq!(local.map(drop).map_err(|(_, errno)| errno), Err(Errno::EAGAIN));
}

fn holders() {
    let mut world = world();
    world.ask(0, lock(1, Kind::Read, 10, 19)).unwrap();
    let (conn, coid) = world.ends[1];
    let mut test = |request: Request| {
        let message = Request { verb: Verb::Test, ..request }.emit();
        let answer = world.server.call(conn, coid, &message, HOLDER_LEN as u32).unwrap();
        Holder::parse(&answer.data).unwrap()
    };
    let expected = Holder { kind: Kind::Read, pid: 101, start: 10, end: 19 };
    assert_eq!(test(lock(2, Kind::Write, 0, END)), expected);
    assert_eq!(test(Request { mount: 2, ..lock(2, Kind::Write, 0, END) }), Holder { pid: 0, ..expected });
    assert_eq!(test(lock(2, Kind::Read, 0, END)), Holder::NOBODY);
    assert_eq!(test(lock(1, Kind::Write, 0, END)), Holder::NOBODY);
}

fn locks_without_number() {
    let mut world = world();
    let refused = (0..10_000).find(|at| world.ask(0, lock(1, Kind::Write, 2 * at, 2 * at)).is_err());
    assert!(refused.is_some_and(|at| at >= 1000), "{refused:?}");
    world.ask(0, lock(1, Kind::Unlock, 0, END)).unwrap();
    let (conn, coid) = world.ends[0];
    world.ask(1, lock(0, Kind::Write, 0, 0)).unwrap();
    let txns: Vec<u32> = (1..400)
        .map(|owner| world.server.submit(conn, coid, &waiting(lock(owner, Kind::Write, 0, 0)).emit(), 0))
        .collect();
    let first = until(|| txns.iter().copied().find(|txn| world.server.is_answered(*txn)));
    assert_eq!(world.server.wait(first).map(drop), Err(Errno::ENOLCK as i32));
}
