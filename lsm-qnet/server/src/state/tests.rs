//! The bookkeeping alone: jobs are taken and finished by hand, nothing is carried out.

use std::os::fd::AsRawFd;
use std::path::Path;

use nix::poll::PollFlags;
use nix::sys::epoll::EpollCreateFlags;
use qnet_iomsg::filesys::lock;
use qnet_iomsg::flags::{IOFLAG_READ, IOFLAG_WRITE};
use qnet_iomsg::{Connect as ConnectMessage, Io, errno};
use qnet_ipc::packet::{Send, info};
use qnet_ipc::{Claim, ClientPeer, ReceiveBuffer, ToServer};

use super::*;
use crate::export::Export;
use crate::file::Opener;
use crate::opens::Cache;
use crate::resolve::resolve;
use crate::wait::Wait;

struct Rig {
    state: State,
    client: ClientPeer,
    last_txn: u32,
}

impl Rig {
    fn new(workers: usize) -> Self {
        let (client, socket) = qnet_ipc::pair().unwrap();
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap());
        let limits = Limits { workers, open_files: 8, lock_owners: 8 };
        let state = State::new(ServerPeer::new(socket).unwrap(), epoll, limits).unwrap();
        Self { state, client, last_txn: 0 }
    }

    fn packet(&mut self, packet: ToServer<'_>) {
        self.state.on_packet(packet).unwrap();
    }

    fn begin_connect(&mut self, conn: u32, nd: u32) {
        let claim = Some(Claim { nd, ..Claim::user(1, 1, vec![]) });
        self.packet(ToServer::Connect(Connect { conn, nd: 0, pid: 1, chid: 1, flags: 0, claim }));
    }

    fn connect(&mut self, conn: u32, nd: u32) {
        self.begin_connect(conn, nd);
        let probe = self.state.take_job().unwrap();
        self.finish(probe, Outcome::Done(0));
        assert_eq!(self.heard(), [format!("ok {conn}")]);
    }

    fn send(&mut self, conn: u32, coid: i32, message: &[u8]) -> u32 {
        self.last_txn += 1;
        let txn = self.last_txn;
        let srcmsglen = message.len() as u32;
        self.packet(ToServer::Send(Send { txn, conn, coid, srcmsglen, ..Send::default() }, message));
        txn
    }

    fn lookup(&mut self, conn: u32) -> u32 {
        let stat = Io::Stat.to_bytes();
        self.send(conn, 0, &ConnectMessage::combine_close(b"x", false, &stat).emit().unwrap())
    }

    fn open(&mut self, conn: u32, coid: i32) -> u32 {
        self.send(conn, coid, &ConnectMessage::open(b"x", 1, 0).emit().unwrap())
    }

    fn finish(&mut self, job: Job, outcome: Outcome) {
        self.state.finish(job, outcome, &mut Vec::new()).unwrap();
    }

    /// Connections whose jobs may start now, in their order; the jobs.
    fn take_all(&mut self) -> (Vec<u32>, Vec<Job>) {
        let jobs: Vec<Job> = std::iter::from_fn(|| self.state.take_job()).collect();
        (jobs.iter().map(|job| job.conn).collect(), jobs)
    }

    /// What the client has been told since the last time.
    fn heard(&mut self) -> Vec<String> {
        let mut buffer = ReceiveBuffer::new();
        let mut heard = Vec::new();
        loop {
            // the socket does not hold everything at once
            self.state.settle().unwrap();
            let Some(packet) = self.client.recv(&mut buffer).unwrap() else { break };
            heard.push(match packet {
                ToClient::ConnectOk { conn, .. } => format!("ok {conn}"),
                ToClient::ConnectFail { conn, errno } => format!("refused {conn} {errno}"),
                ToClient::Reply { txn, .. } => format!("reply {txn}"),
                ToClient::Error { txn, errno } => format!("error {txn} {errno}"),
                ToClient::Read { txn, offset, nbytes } => format!("read {txn} {offset} {nbytes}"),
                other => panic!("{other:?}"),
            });
        }
        heard
    }

    /// Nothing is left of anybody.
    fn assert_clean(&self) {
        let state = &self.state;
        assert!(state.connections.is_empty() && state.transactions.is_empty() && state.ring.is_empty());
        assert!(state.shares.is_empty(), "{:?}", state.shares);
        assert_eq!((state.running, state.queued, state.open_files), (0, 0, 0));
    }
}

fn open_file() -> OpenFile {
    let export = Export::open(Path::new("/")).unwrap();
    let found = resolve(&export, b"etc", true).unwrap();
    let opener =
        Opener { identity: Arc::new(Identity::nobody()), may_change: false, cache: Cache { nd: 7, pid: 1 } };
    OpenFile::open(&export, found, 0, opener, &Cancel::default()).unwrap()
}

#[test]
fn nobody_is_sent_away_from_a_read_that_may_take_what_it_reads() {
    let export = Export::open(Path::new("/")).unwrap();
    let read = Io::Read { nbytes: 10, xtype: 0, offset: Some(0) }.to_bytes();
    for (path, expected) in [(&b"proc/version"[..], false), (b"etc/passwd", true)] {
        let found = resolve(&export, path, true).unwrap();
        let cache = Cache { nd: 7, pid: 1 };
        let opener = Opener { identity: Arc::new(Identity::nobody()), may_change: false, cache };
        let file = OpenFile::open(&export, found, IOFLAG_READ, opener, &Cancel::default()).unwrap();
        let (work, spent) =
            (Work::File { message: read.clone(), file: Arc::new(file), source: None }, Vec::new());
        let identity = Arc::new(Identity::nobody());
        let request =
            Request { identity, work, room: 10, may_change: false, cache, cancel: Arc::default(), spent };
        assert_eq!(request.is_idempotent(), expected, "{}", String::from_utf8_lossy(path));
    }
}

#[test]
fn who_writes_numbers_in_another_order_of_bytes_is_told_so() {
    let mut rig = Rig::new(1);
    rig.connect(1, 7);
    let flags = info::ENDIAN_DIFF;
    rig.packet(ToServer::Send(Send { txn: 9, conn: 1, srcmsglen: 2, flags, ..Send::default() }, b"ab"));
    let errno = errno::qnx_to_linux(errno::qnx::EENDIAN);
    assert_eq!(rig.heard(), [format!("error 9 {errno}")]);
    assert_eq!(rig.take_all().0, [0_u32; 0], "nothing is done for it");
}

#[test]
fn connections_take_turns() {
    let mut rig = Rig::new(1);
    rig.connect(1, 7);
    rig.connect(2, 7);
    (0..3).for_each(|_| _ = rig.lookup(1));
    rig.lookup(2);
    let mut order = Vec::new();
    while let Some(job) = rig.state.take_job() {
        order.push(job.conn);
        rig.finish(job, Outcome::Done(0));
    }
    assert_eq!(order, [1, 2, 1, 1]);
}

#[test]
fn one_connection_gets_half_and_one_node_three_quarters() {
    let mut rig = Rig::new(8);
    rig.connect(1, 7);
    rig.connect(2, 7);
    rig.connect(3, 9);
    for _ in 0..10 {
        rig.lookup(1);
    }
    assert_eq!(rig.take_all().0, [1, 1, 1, 1]);
    for _ in 0..10 {
        rig.lookup(2);
        rig.lookup(3);
    }
    // two more for node 7, and the last two workers for node 9
    let (mut order, _) = rig.take_all();
    order.sort_unstable();
    assert_eq!(order, [2, 2, 3, 3]);
}

#[test]
fn nodes_whose_requests_hang_leave_room_for_every_further_one() {
    let mut rig = Rig::new(8);
    // six workers, and the last two
    for (nd, running) in [(7, 6), (8, 2)] {
        let conns = [nd, nd + 100];
        conns.iter().for_each(|conn| rig.connect(*conn, nd));
        conns.iter().for_each(|conn| (0..4).for_each(|_| _ = rig.lookup(*conn)));
        // what is never finished hangs
        let (_, jobs) = rig.take_all();
        assert_eq!(jobs.len(), running, "node {nd}");
    }
    for nd in 1000..1000 + limits::WORKERS_BEYOND as u32 {
        rig.connect(nd, nd);
        (0..2).for_each(|_| _ = rig.lookup(nd));
        let (conns, mut jobs) = rig.take_all();
        assert_eq!(conns, [nd], "one request at a time");
        rig.finish(jobs.remove(0), Outcome::Done(0));
        assert!(rig.state.has_job());
        assert_eq!(rig.take_all().0, [nd], "and then the next one");
        rig.heard();
    }
    rig.begin_connect(5000, 5000);
    assert!(rig.state.take_job().is_none() && !rig.state.has_job(), "many nodes, not any number");
}

#[test]
fn nothing_runs_before_the_caller_was_tried() {
    let mut rig = Rig::new(4);
    rig.begin_connect(1, 7);
    let early = rig.lookup(1);
    let (_, mut jobs) = rig.take_all();
    assert_eq!(jobs.len(), 1);
    rig.finish(jobs.remove(0), Outcome::Failed(Errno::EPERM));
    assert_eq!(rig.heard(), [format!("refused 1 {}", libc::EPERM)]);
    assert!(rig.take_all().1.is_empty(), "{early} went with its connection");
    rig.assert_clean();
}

#[test]
fn request_left_in_the_queue_is_answered_at_once() {
    let mut rig = Rig::new(1);
    rig.connect(1, 7);
    let (first, second) = (rig.lookup(1), rig.open(1, 5));
    let running = rig.state.take_job().unwrap();
    rig.packet(ToServer::Unblock { txn: second, tid: 1 });
    assert_eq!(rig.heard(), [format!("error {second} {}", libc::EINTR)]);
    assert_eq!(rig.state.open_files, 0);
    // the running one too, and what comes of it later is not heard
    rig.packet(ToServer::Unblock { txn: first, tid: 1 });
    assert_eq!(rig.heard(), [format!("error {first} {}", libc::EINTR)]);
    assert!(running.request.cancel.is_set());
    rig.finish(running, Outcome::Done(0));
    assert!(rig.heard().is_empty());
    rig.packet(ToServer::Disconnect { conn: 1 });
    rig.assert_clean();
}

#[test]
fn file_that_opens_too_late_is_closed_again() {
    let mut rig = Rig::new(2);
    rig.connect(1, 7);
    let txn = rig.open(1, 5);
    let opening = rig.state.take_job().unwrap();
    rig.packet(ToServer::Unblock { txn, tid: 1 });
    // the number is free again, and belongs to another file now
    let again = rig.open(1, 5);
    rig.finish(opening, Outcome::Opened(0, open_file()));
    let mut releases = 0;
    while let Some(job) = rig.state.take_job() {
        releases += usize::from(job.is_release());
        let outcome = if job.is_release() { Outcome::Done(0) } else { Outcome::Opened(0, open_file()) };
        rig.finish(job, outcome);
    }
    assert_eq!(releases, 1);
    assert_eq!(rig.heard(), [format!("error {txn} {}", libc::EINTR), format!("reply {again}")]);
    assert_eq!(rig.state.open_files, 1);
    rig.packet(ToServer::Disconnect { conn: 1 });
    let release = rig.state.take_job().unwrap();
    rig.finish(release, Outcome::Done(0));
    rig.assert_clean();
}

#[test]
fn disconnect_silences_everything_of_its_connection() {
    let mut rig = Rig::new(2);
    rig.connect(1, 7);
    rig.open(1, 5);
    rig.lookup(1);
    rig.lookup(1);
    let running = rig.state.take_job().unwrap();
    rig.packet(ToServer::Disconnect { conn: 1 });
    // the same numbers again, from another node
    rig.begin_connect(1, 8);
    rig.finish(running, Outcome::Opened(0, open_file()));
    let (_, jobs) = rig.take_all();
    assert_eq!(jobs.len(), 2, "closing the late file, trying the new caller");
    for job in jobs {
        rig.finish(job, Outcome::Done(0));
    }
    assert_eq!(rig.heard(), ["ok 1"]);
    rig.packet(ToServer::Disconnect { conn: 1 });
    rig.assert_clean();
}

#[test]
fn closing_is_done_even_if_its_caller_leaves() {
    let mut rig = Rig::new(1);
    rig.connect(1, 7);
    rig.open(1, 5);
    let opening = rig.state.take_job().unwrap();
    rig.finish(opening, Outcome::Opened(0, open_file()));
    let txn = rig.send(1, 5, &Io::Close.to_bytes());
    rig.packet(ToServer::Unblock { txn, tid: 1 });
    assert_eq!(rig.state.open_files, 1);
    let close = rig.state.take_job().unwrap();
    assert!(close.is_release());
    rig.finish(close, Outcome::Done(0));
    assert_eq!(rig.heard(), ["reply 1", "reply 2"]);
    assert_eq!(rig.state.open_files, 0);
}

#[test]
fn queues_are_bounded() {
    let mut rig = Rig::new(1);
    rig.connect(1, 7);
    for _ in 0..limits::QUEUE_PER_CONNECTION {
        rig.lookup(1);
    }
    let txn = rig.lookup(1);
    assert_eq!(rig.heard(), [format!("error {txn} {}", libc::EAGAIN)]);
    // other connections of the node have room until the node's bound is reached
    let more = limits::QUEUE_PER_NODE / limits::QUEUE_PER_CONNECTION;
    for conn in 2..=more as u32 + 1 {
        rig.begin_connect(conn, 7);
        (0..limits::QUEUE_PER_CONNECTION).for_each(|_| _ = rig.lookup(conn));
    }
    assert_eq!(
        rig.state.shares[&7].queued,
        limits::QUEUE_PER_NODE + 1,
        "the last connection's trial included"
    );
    assert!(rig.heard().iter().all(|told| told.ends_with(&format!(" {}", libc::EAGAIN))));
    rig.begin_connect(100, 8);
    rig.lookup(100);
    assert!(rig.heard().is_empty());
}

#[test]
fn what_gives_something_back_finds_room_in_a_full_queue() {
    const FILES: usize = 600;
    let mut rig = Rig::new(1);
    rig.state.limits.open_files = 4 * FILES;
    rig.connect(1, 7);
    for coid in 0..FILES as i32 {
        rig.open(1, coid);
        let opening = rig.state.take_job().unwrap();
        rig.finish(opening, Outcome::Opened(0, open_file()));
    }
    rig.heard();
    // the workers are busy
    (0..=limits::QUEUE_PER_CONNECTION).for_each(|_| _ = rig.lookup(1));
    let refused = rig.heard();
    assert_eq!(refused.len(), 1, "an ordinary request has no room: {refused:?}");
    let unlock = lock::Request {
        verb: lock::Verb::Release,
        scope: lock::Scope::Owner,
        kind: lock::Kind::Unlock,
        mount: 1,
        owner: 2,
        pid: 3,
        start: 0,
        end: lock::END,
    };
    for coid in 0..FILES as i32 {
        let verb = if coid % 2 == 0 { lock::Verb::Release } else { lock::Verb::Set };
        rig.send(1, coid, &lock::Request { verb, ..unlock }.emit());
        rig.send(1, coid, &Io::Close.to_bytes());
    }
    assert!(rig.heard().is_empty(), "none of them is refused");
    let lockless = lock::Request { verb: lock::Verb::Set, kind: lock::Kind::Read, ..unlock };
    rig.open(1, 7);
    rig.send(1, 7, &lockless.emit());
    assert_eq!(rig.heard().len(), 2, "nothing else profits from that");
    while let Some(job) = rig.state.take_job() {
        rig.finish(job, Outcome::Done(0));
    }
    assert_eq!(rig.state.open_files, 0);
    rig.packet(ToServer::Disconnect { conn: 1 });
    rig.assert_clean();
}

#[test]
fn who_waits_for_bytes_is_not_tried_in_vain_whenever_there_is_room() {
    let mut rig = Rig::new(2);
    rig.connect(1, 7);
    rig.open(1, 5);
    let opening = rig.state.take_job().unwrap();
    let dir = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&dir.path().join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let export = Export::open(dir.path()).unwrap();
    let cache = Cache { nd: 7, pid: 1 };
    let opener = Opener { identity: Arc::new(Identity::nobody()), may_change: true, cache };
    let found = resolve(&export, b"p", true).unwrap();
    let open =
        OpenFile::open(&export, found, IOFLAG_READ | IOFLAG_WRITE, opener, &Cancel::default()).unwrap();
    rig.finish(opening, Outcome::Opened(0, open));
    let wait = |rig: &mut Rig, message: &Io<'_>, events| {
        rig.send(1, 5, &message.to_bytes());
        let job = rig.state.take_job().unwrap();
        let Work::File { file, .. } = &job.request.work else { panic!("{job:?}") };
        let file = Arc::clone(file);
        rig.finish(job, Outcome::Wait(Some(Arc::clone(&file)), Wait::Ready(events)));
        file
    };
    let file = wait(&mut rig, &Io::Read { nbytes: 1, xtype: 0, offset: None }, PollFlags::POLLIN);
    let fd = file.fd().as_raw_fd();
    rig.heard();
    for _ in 0..=limits::WAIT_ATTEMPTS {
        wait(&mut rig, &Io::Write { nbytes: 1, xtype: 0, offset: None, data: b"x" }, PollFlags::POLLOUT);
        rig.state.on_file_ready(fd);
        let writer = rig.state.take_job().unwrap();
        assert!(rig.state.take_job().is_none(), "the reader waits on");
        rig.finish(writer, Outcome::Done(1));
        assert!(rig.heard().iter().all(|told| told.starts_with("reply")), "nobody is refused");
    }
    nix::unistd::write(file.fd(), b"x").unwrap();
    rig.state.on_file_ready(fd);
    let reader = rig.state.take_job().unwrap();
    assert_eq!(reader.attempts, 1);
    rig.finish(reader, Outcome::Done(1));
    drop(file);
    rig.packet(ToServer::Disconnect { conn: 1 });
    let release = rig.state.take_job().unwrap();
    rig.finish(release, Outcome::Done(0));
    rig.assert_clean();
}

/// Begins a WRITE of a mebibyte, of which only the first piece comes along.
fn begin_write(rig: &mut Rig, conn: u32, coid: i32) -> u32 {
    rig.last_txn += 1;
    let txn = rig.last_txn;
    let mut first = Io::Write { nbytes: 1 << 20, xtype: 0, offset: Some(0), data: &[] }.to_bytes();
    first.resize(MAX_DATA, 7);
    let srcmsglen = limits::WRITE_MESSAGE as u32;
    rig.packet(ToServer::Send(Send { txn, conn, coid, srcmsglen, ..Send::default() }, &first));
    txn
}

/// Answers what was asked for of the transaction; how many questions there were.
fn feed(rig: &mut Rig, asked: &[String], txn: u32) -> usize {
    let of_txn = asked.iter().filter_map(|text| text.strip_prefix(&format!("read {txn} ")));
    let pieces: Vec<(u32, usize)> = of_txn
        .map(|text| text.split_once(' ').unwrap())
        .map(|(offset, nbytes)| (offset.parse().unwrap(), nbytes.parse().unwrap()))
        .collect();
    for (offset, nbytes) in &pieces {
        rig.packet(ToServer::ReadData { txn, offset: *offset, data: &vec![7; *nbytes] });
    }
    pieces.len()
}

fn with_writable_file(rig: &mut Rig, conn: u32, nd: u32) {
    rig.connect(conn, nd);
    rig.open(conn, 5);
    let opening = rig.state.take_job().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "").unwrap();
    let export = Export::open(dir.path()).unwrap();
    let opener =
        Opener { identity: Arc::new(Identity::nobody()), may_change: true, cache: Cache { nd, pid: 1 } };
    let found = resolve(&export, b"f", true).unwrap();
    let file = OpenFile::open(&export, found, IOFLAG_WRITE, opener, &Cancel::default()).unwrap();
    rig.finish(opening, Outcome::Opened(0, file));
    rig.heard();
}

#[test]
fn a_long_write_is_asked_for_at_once_and_runs_when_it_is_complete() {
    let mut rig = Rig::new(2);
    with_writable_file(&mut rig, 1, 7);
    let txn = begin_write(&mut rig, 1, 5);
    let asked = rig.heard();
    assert_eq!(asked.len(), 16, "{asked:?}");
    assert!(rig.state.take_job().is_none());
    assert_eq!(feed(&mut rig, &asked, txn), 16);
    let job = rig.state.take_job().unwrap();
    let Work::File { message, .. } = &job.request.work else { panic!("{job:?}") };
    assert_eq!(message.len(), limits::WRITE_MESSAGE);
    rig.finish(job, Outcome::Done(1 << 20));
    assert_eq!(rig.heard(), [format!("reply {txn}")]);
}

#[test]
fn a_write_that_ends_early_runs_with_what_there_is() {
    let mut rig = Rig::new(2);
    with_writable_file(&mut rig, 1, 7);
    let txn = begin_write(&mut rig, 1, 5);
    rig.packet(ToServer::ReadData { txn, offset: MAX_DATA as u32, data: &[7; 10] });
    // what was asked for beyond is late, and nobody's
    rig.packet(ToServer::ReadData { txn, offset: 2 * MAX_DATA as u32, data: &[] });
    let job = rig.state.take_job().unwrap();
    let Work::File { message, .. } = &job.request.work else { panic!("{job:?}") };
    assert_eq!(message.len(), MAX_DATA + 10);
}

#[test]
fn writes_wait_for_memory_and_those_of_other_nodes_do_not() {
    let mut rig = Rig::new(2);
    with_writable_file(&mut rig, 1, 7);
    with_writable_file(&mut rig, 2, 8);
    let most = limits::MESSAGES_PER_NODE / limits::WRITE_MESSAGE;
    let calls: Vec<u32> = (0..most + 2).map(|_| begin_write(&mut rig, 1, 5)).collect();
    let asked = rig.heard();
    assert_eq!(asked.len(), 16 * most);
    let other = begin_write(&mut rig, 2, 5);
    let asked_other = rig.heard();
    assert_eq!(asked_other.len(), 16, "another node has its share");
    feed(&mut rig, &asked_other, other);
    // who leaves makes room, and so does what is done
    rig.packet(ToServer::Unblock { txn: calls[0], tid: 1 });
    rig.state.settle().unwrap();
    let told = rig.heard();
    assert_eq!(told[0], format!("error {} {}", calls[0], libc::EINTR));
    assert_eq!(told.len(), 17, "the next one is asked for");
    feed(&mut rig, &asked, calls[1]);
    let (_, jobs) = rig.take_all();
    jobs.into_iter().for_each(|job| rig.finish(job, Outcome::Done(1)));
    rig.state.settle().unwrap();
    assert_eq!(rig.heard().len(), 2 + 16);
    rig.packet(ToServer::Disconnect { conn: 1 });
    rig.packet(ToServer::Disconnect { conn: 2 });
    let (_, jobs) = rig.take_all();
    jobs.into_iter().for_each(|job| rig.finish(job, Outcome::Done(0)));
    rig.assert_clean();
}

#[test]
fn incomplete_messages_of_one_node_leave_room_for_those_of_others() {
    let mut rig = Rig::new(2);
    let connections = (limits::GATHERING / limits::GATHERING_PER_CONNECTION) as u32;
    (1..=connections).for_each(|conn| with_writable_file(&mut rig, conn, 7));
    with_writable_file(&mut rig, 99, 8);
    let begun = (1..=connections).flat_map(|conn| [conn; limits::GATHERING_PER_CONNECTION]);
    begun.for_each(|conn| _ = begin_write(&mut rig, conn, 5));
    let refused = rig.heard().iter().filter(|told| told.ends_with(&format!(" {}", libc::EAGAIN))).count();
    assert_eq!(refused, limits::GATHERING - limits::GATHERING_PER_NODE);
    begin_write(&mut rig, 99, 5);
    let heard = rig.heard();
    assert!(heard[0].starts_with("read "), "{heard:?}");
}
