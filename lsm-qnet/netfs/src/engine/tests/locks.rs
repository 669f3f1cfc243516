//! Locks, extended attributes and readiness: what is asked of the node, when, and what a signal or a silent node does to it.

use std::time::Duration;

use qnet_iomsg::{
    Io, Stat,
    filesys::{
        MGRID,
        lock::{Kind, Request, Verb},
        special,
    },
};
use zerocopy::{FromBytes, IntoBytes};

use super::bench::{ALIVE, Answer, Bench, DEADLINE, DIES, Heard, ended, regular};
use crate::{
    engine::polls::PAUSE,
    fuse::{
        Opcode, ROOT_ID,
        abi::{FUSE_POLL_SCHEDULE_NOTIFY, FlushIn, GetxattrIn, LkIn, PollIn, PollOut},
    },
};

const OWNER: u64 = 77;

fn opened(stat: &Stat) -> (Bench, u64) {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", stat).nodeid;
    let (_, fh) = bench.opened(file, stat);
    bench.answers();
    (bench, fh)
}

fn lock(bench: &mut Bench, opcode: Opcode, fh: u64, kind: i32) -> u64 {
    let args = LkIn { fh, owner: OWNER, start: 3, end: 9, kind: kind.cast_unsigned(), ..LkIn::default() };
    bench.ask(opcode, 0, args.as_bytes())
}

fn flush(bench: &mut Bench, fh: u64, lock_owner: u64) -> u64 {
    bench.ask(Opcode::Flush, 0, FlushIn { fh, lock_owner, ..FlushIn::default() }.as_bytes())
}

/// The lock request that was sent, with its transaction.
#[track_caller]
fn asked(bench: &mut Bench) -> (u32, Request) {
    let (txn, _, message) = bench.sent();
    let Ok((Io::Msg { mgrid: MGRID, subtype, data }, None)) = Io::parse(&message) else {
        panic!("{message:?}")
    };
    (txn, Request::parse(subtype, data).unwrap())
}

fn answer_of(bench: &mut Bench, unique: u64) -> Answer {
    bench.answers().into_iter().find(|answer| answer.unique == unique).unwrap()
}

#[test]
fn a_close_is_told_to_the_node_only_if_its_process_may_hold_locks() {
    let (mut bench, fh) = opened(&regular(10, 10));
    let unique = flush(&mut bench, fh, OWNER);
    assert_eq!(bench.answer(), ended(unique, 0));
    let unique = lock(&mut bench, Opcode::Setlk, fh, libc::F_WRLCK);
    let (txn, request) = asked(&mut bench);
    assert_eq!((request.verb, request.kind, request.start, request.end), (Verb::Set, Kind::Write, 3, 9));
    bench.reply(txn, 0, b"");
    assert_eq!(answer_of(&mut bench, unique), ended(unique, 0));
    let unique = flush(&mut bench, fh, OWNER + 1);
    assert_eq!(bench.answer(), ended(unique, 0), "another process");
    let unique = flush(&mut bench, fh, OWNER);
    let (txn, released) = asked(&mut bench);
    assert_eq!((released.verb, released.owner, released.mount), (Verb::Release, OWNER, request.mount));
    assert!(bench.answers().is_empty(), "the close waits for the node");
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer(), ended(unique, 0));
    let unique = flush(&mut bench, fh, OWNER);
    assert_eq!(bench.answer(), ended(unique, 0), "once is enough");
}

#[test]
fn a_close_waits_for_a_silent_node_no_longer_than_a_second_and_is_not_taken_back() {
    let (mut bench, fh) = opened(&regular(10, 10));
    lock(&mut bench, Opcode::Setlk, fh, libc::F_RDLCK);
    let (txn, _) = asked(&mut bench);
    bench.reply(txn, 0, b"");
    bench.answers();
    let unique = flush(&mut bench, fh, OWNER);
    bench.heard();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.answer(), ended(unique, libc::EHOSTDOWN));
    assert!(bench.heard().is_empty(), "the node is not asked to leave the locks as they are");
}

#[test]
fn a_wait_that_is_interrupted_ends_as_the_node_says() {
    let (mut bench, fh) = opened(&regular(10, 10));
    for (result, errno) in [(Some(libc::EINTR), libc::EINTR), (None, 0)] {
        let unique = lock(&mut bench, Opcode::Setlkw, fh, libc::F_WRLCK);
        let (txn, request) = asked(&mut bench);
        assert_eq!(request.verb, Verb::Wait);
        bench.pass(10 * DEADLINE);
        bench.interrupt(unique);
        bench.interrupt(unique);
        assert_eq!(bench.heard(), [Heard::Unblock { txn }]);
        assert!(bench.answers().is_empty(), "the lock may be had already");
        match result {
            Some(errno) => bench.error(txn, errno),
            None => bench.reply(txn, 0, b""),
        }
        assert_eq!(answer_of(&mut bench, unique), ended(unique, errno));
    }
}

#[test]
fn a_lock_that_comes_after_nobody_waits_any_more_is_given_back() {
    let (mut bench, fh) = opened(&regular(10, 10));
    let unique = lock(&mut bench, Opcode::Setlkw, fh, libc::F_WRLCK);
    let (txn, _) = asked(&mut bench);
    bench.interrupt(unique);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.answer(), ended(unique, libc::EINTR));
    bench.heard();
    bench.reply(txn, 0, b"");
    let (_, undone) = asked(&mut bench);
    assert_eq!((undone.verb, undone.kind, undone.start, undone.end), (Verb::Set, Kind::Unlock, 3, 9));
}

#[test]
fn who_goes_on_after_a_signal_waits_until_the_node_says_what_has_become_of_his_lock() {
    let (mut bench, fh) = opened(&regular(10, 10));
    bench.thread = ALIVE;
    let unique = lock(&mut bench, Opcode::Setlkw, fh, libc::F_WRLCK);
    let (txn, _) = asked(&mut bench);
    bench.interrupt(unique);
    bench.pass(10 * DEADLINE);
    assert_eq!(bench.heard(), [Heard::Unblock { txn }], "once is enough");
    assert!(bench.answers().is_empty());
    bench.reply(txn, 0, b"");
    assert_eq!(answer_of(&mut bench, unique), ended(unique, 0));

    let unique = lock(&mut bench, Opcode::Setlkw, fh, libc::F_WRLCK);
    let (txn, _) = asked(&mut bench);
    bench.interrupt(unique);
    DIES.set(true);
    for _ in 0..2 {
        bench.pass(Duration::from_millis(500));
    }
    assert_eq!(bench.answer(), ended(unique, libc::EINTR), "another signal has ended it");
    bench.heard();
    bench.reply(txn, 0, b"");
    assert_eq!(asked(&mut bench).1.kind, Kind::Unlock);
}

#[test]
fn a_lock_that_is_not_waited_for_has_no_deadline() {
    let (mut bench, fh) = opened(&regular(10, 10));
    let unique = lock(&mut bench, Opcode::Setlk, fh, libc::F_WRLCK);
    let (txn, _) = asked(&mut bench);
    bench.pass(10 * DEADLINE);
    assert!(bench.answers().is_empty(), "it may be granted later, and nobody would know");
    bench.reply(txn, 0, b"");
    assert_eq!(answer_of(&mut bench, unique), ended(unique, 0));

    let unique = lock(&mut bench, Opcode::Setlk, fh, libc::F_RDLCK);
    let (txn, _) = asked(&mut bench);
    bench.interrupt(unique);
    assert_eq!(bench.answer(), ended(unique, libc::EINTR));
    bench.heard();
    bench.reply(txn, 0, b"");
    assert_eq!(asked(&mut bench).1.kind, Kind::Unlock);
}

#[test]
fn some_attributes_are_answered_here() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let get = |name: &[u8], size| [GetxattrIn { size, padding: 0 }.as_bytes(), name, b"\0"].concat();
    let set = [&[1, 0, 0, 0, 0, 0, 0, 0][..], b"security.capability\0x"].concat();
    for (opcode, nodeid, body, errno) in [
        (Opcode::Getxattr, file, get(b"security.capability", 20), libc::ENODATA),
        (Opcode::Setxattr, file, set, libc::EOPNOTSUPP),
        (Opcode::Getxattr, file, get(&[b'n'; 300], 20), libc::ERANGE),
        (Opcode::Getxattr, ROOT_ID, get(b"user.a", 20), libc::ENODATA),
        (Opcode::Listxattr, ROOT_ID, get(b"", 20), 0),
    ] {
        let unique = bench.ask(opcode, nodeid, &body);
        assert_eq!(bench.answer(), ended(unique, errno), "{opcode:?}");
    }
    let unique = bench.ask(Opcode::Getxattr, file, &get(b"user.a", 0));
    let (txn, ..) = bench.sent();
    bench.error(txn, libc::ENOSYS);
    assert_eq!(bench.answer(), ended(unique, libc::EOPNOTSUPP), "a node without them is not all nodes");
}

#[test]
fn who_polls_is_woken_when_the_node_says_so() {
    let fifo = Stat { mode: libc::S_IFIFO | 0o644, ..regular(10, 0) };
    let (mut bench, fh) = opened(&fifo);
    let args = PollIn { fh, kh: 5, flags: FUSE_POLL_SCHEDULE_NOTIFY, events: 1 };
    let unique = bench.ask(Opcode::Poll, 0, args.as_bytes());
    let (txn, _, message) = bench.sent();
    assert_eq!(message, special::Request { events: 1, wait: false }.emit());
    bench.reply(txn, 0, b"");
    let answer = bench.answer();
    assert_eq!((answer.unique, PollOut::read_from_bytes(&answer.body).unwrap().revents), (unique, 0));
    let (watch, _, message) = bench.sent();
    assert_eq!(message, special::Request { events: 1, wait: true }.emit());
    bench.reply(watch, 1, b"");
    let woken = bench.answer();
    assert_eq!((woken.unique, woken.body), (0, 5_u64.as_bytes().to_vec()));

    let unique = bench.ask(Opcode::Poll, 0, args.as_bytes());
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, b"");
    let (watch, ..) = bench.sent();
    bench.answers();
    bench.release(fh);
    assert!(bench.heard().contains(&Heard::Unblock { txn: watch }), "{unique}: nobody waits any more");
}

#[test]
fn who_polls_where_the_node_has_no_room_for_more_that_wait_asks_again_after_a_pause() {
    let fifo = Stat { mode: libc::S_IFIFO | 0o644, ..regular(10, 0) };
    let (mut bench, fh) = opened(&fifo);
    let args = PollIn { fh, kh: 5, flags: FUSE_POLL_SCHEDULE_NOTIFY, events: 1 };
    for _ in 0..3 {
        bench.ask(Opcode::Poll, 0, args.as_bytes());
        let (txn, ..) = bench.sent();
        bench.reply(txn, 0, b"");
        let (watch, ..) = bench.sent();
        bench.error(watch, libc::EAGAIN);
        assert_eq!(bench.answers().len(), 1, "nothing is ready, and nobody is woken in a hurry");
        // who asks meanwhile does not make the node refuse more often
        bench.ask(Opcode::Poll, 0, args.as_bytes());
        let (txn, ..) = bench.sent();
        bench.reply(txn, 0, b"");
        assert_eq!((bench.answers().len(), bench.heard().len()), (1, 0));
        assert!(bench.engine.poll_timeout() <= Some(bench.now + PAUSE));
        bench.pass(PAUSE);
        let woken = bench.answer();
        assert_eq!((woken.unique, woken.body), (0, 5_u64.as_bytes().to_vec()));
    }
    bench.ask(Opcode::Poll, 0, args.as_bytes());
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, b"");
    let (watch, ..) = bench.sent();
    bench.error(watch, libc::EAGAIN);
    bench.answers();
    bench.release(fh);
    bench.pass(PAUSE);
    assert!(bench.answers().iter().all(|answer| answer.unique != 0), "nobody is there to be woken");
}

#[test]
fn files_with_a_size_are_always_ready() {
    let (mut bench, fh) = opened(&regular(10, 10));
    let args = PollIn { fh, kh: 5, flags: FUSE_POLL_SCHEDULE_NOTIFY, events: 5 };
    bench.ask(Opcode::Poll, 0, args.as_bytes());
    assert_eq!(PollOut::read_from_bytes(&bench.answer().body).unwrap().revents, 5);
    assert!(bench.heard().is_empty());
}
