//! How long a request may take, and what a signal does to it.

use qnet_iomsg::{Stat, stat};
use qnet_ipc::ToClient;
use zerocopy::IntoBytes;

use super::bench::{ALIVE, Answer, Bench, DEADLINE, DIES, Heard, directory, ended, regular};
use crate::{
    engine::interrupt::LOOK_AGAIN,
    fuse::{
        Opcode,
        abi::{FUSE_WRITE_CACHE, FsyncIn, OpenIn, WriteIn},
    },
    link::MAX_UNDER_WAY,
};

/// A file that is open for writing; its handle.
fn open_file() -> (Bench, u64) {
    open_as(&regular(10, 10))
}

/// A FIFO that is open for reading and writing, for somebody who lives.
fn open_fifo() -> (Bench, u64) {
    let (mut bench, fh) = open_as(&Stat { mode: libc::S_IFIFO | 0o644, ..regular(10, 0) });
    bench.thread = ALIVE;
    (bench, fh)
}

fn open_as(stat: &Stat) -> (Bench, u64) {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", stat).nodeid;
    let args = OpenIn { flags: libc::O_RDWR.cast_unsigned(), open_flags: 0 };
    let fh = bench.open_with(file, args, stat);
    (bench, fh)
}

fn write(bench: &mut Bench, fh: u64, write_flags: u32) -> u64 {
    let args = WriteIn { fh, size: 1, write_flags, ..WriteIn::default() };
    bench.ask(Opcode::Write, 0, &[args.as_bytes(), b"x"].concat())
}

#[test]
fn what_takes_its_time_over_there_has_no_deadline() {
    let (mut bench, fh) = open_file();
    bench.thread = ALIVE;
    let fsync = bench.ask(Opcode::Fsync, 0, FsyncIn { fh, ..FsyncIn::default() }.as_bytes());
    let written = write(&mut bench, fh, 0);
    let sends = bench.sends();
    bench.pass(10 * DEADLINE);
    bench.interrupt(fsync);
    bench.interrupt(written);
    bench.pass(LOOK_AGAIN);
    assert!(bench.answers().is_empty(), "nor does a signal that ends nobody end it");
    DIES.set(true);
    bench.pass(LOOK_AGAIN);
    DIES.set(false);
    let mut answers = bench.answers();
    answers.sort_by_key(|answer| answer.unique);
    assert_eq!(answers, [ended(fsync, libc::EINTR), ended(written, libc::EINTR)]);
    let told: Vec<_> =
        bench.heard().into_iter().filter(|heard| matches!(heard, Heard::Unblock { .. })).collect();
    assert_eq!(told.len(), sends.len());
}

#[test]
fn the_kernel_does_not_hang_over_pages_of_a_mapping() {
    let (mut bench, fh) = open_file();
    let unique = write(&mut bench, fh, FUSE_WRITE_CACHE);
    bench.pass(DEADLINE);
    assert_eq!(bench.answer(), ended(unique, libc::EHOSTDOWN));
}

#[test]
fn bytes_of_a_fifo_that_were_on_their_way_when_a_signal_came_are_not_lost() {
    let (mut bench, fh) = open_fifo();
    let read = bench.read(fh, 100);
    let (txn, ..) = bench.sent();
    bench.interrupt(read);
    assert_eq!(bench.heard(), [Heard::Unblock { txn }]);
    bench.interrupt(read);
    bench.pass(10 * DEADLINE);
    assert_eq!(
        (bench.heard(), bench.answers()),
        (vec![], vec![]),
        "the node has been asked, and says what it did"
    );
    bench.reply(txn, 3, b"abc");
    assert_eq!(bench.answer(), Answer { unique: read, error: 0, body: b"abc".to_vec() });

    let read = bench.read(fh, 100);
    let (txn, ..) = bench.sent();
    bench.interrupt(read);
    bench.error(txn, libc::EINTR);
    assert_eq!(bench.answer(), ended(read, libc::EINTR));
}

#[test]
fn bytes_that_a_fifo_took_when_a_signal_came_are_not_written_again() {
    let (mut bench, fh) = open_fifo();
    let written = write(&mut bench, fh, 0);
    let (txn, ..) = bench.sent();
    bench.interrupt(written);
    assert_eq!(bench.heard(), [Heard::Unblock { txn }]);
    assert_eq!(bench.answers(), []);
    bench.reply(txn, 1, b"");
    assert_eq!(bench.answer_to(written).error, 0, "who were told EINTR would write it again");
}

#[test]
fn who_dies_while_a_fifo_is_silent_does_not_stay_for_the_nodes_word() {
    let (mut bench, fh) = open_fifo();
    let read = bench.read(fh, 100);
    let (txn, ..) = bench.sent();
    bench.interrupt(read);
    assert_eq!(bench.heard(), [Heard::Unblock { txn }]);
    DIES.set(true);
    bench.pass(LOOK_AGAIN);
    DIES.set(false);
    assert_eq!(bench.answer(), ended(read, libc::EINTR));
    bench.heard();
    bench.reply(txn, 3, b"abc");
    assert_eq!(bench.answers(), []);
}

#[test]
fn a_crowd_of_requests_is_not_more_than_its_node_takes() {
    const CROWD: usize = 600;
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let (_, fh) = bench.opened(file, &regular(10, 10));
    let mut asked: Vec<u64> = (0..CROWD).map(|n| bench.lookup(node, &format!("n{n}"))).collect();
    let mut under_way = bench.sends();
    assert_eq!(under_way.len(), MAX_UNDER_WAY);
    // one of those that are kept back dies, and the node has heard nothing of him
    let dead = asked.pop().unwrap();
    bench.interrupt(dead);
    assert_eq!((bench.answer(), bench.heard()), (ended(dead, libc::EINTR), vec![]));
    // one that is under way dies: the node lets go of him, and has room
    let dead = asked.remove(0);
    bench.interrupt(dead);
    assert_eq!(bench.answer(), ended(dead, libc::EINTR));
    let heard = bench.heard();
    let [Heard::Unblock { txn }, Heard::Send { txn: next, coid, ref message, .. }] = heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(txn, under_way.remove(0).0);
    under_way.push((next, coid, message.clone()));
    // a close is not kept waiting
    let closed = bench.release(fh);
    assert_eq!((bench.answer(), bench.sends().len()), (ended(closed, 0), 1));
    let mut answered = Vec::new();
    while !under_way.is_empty() {
        let (txn, ..) = under_way.remove(0);
        bench.reply(txn, 0, &Stat { ino: 1000 + u64::from(txn), ..directory(0o755) }.emit(stat::REPLY_LEN));
        answered.extend(bench.answers().into_iter().map(|answer| (answer.unique, answer.error)));
        under_way.extend(bench.sends());
        assert!(under_way.len() <= MAX_UNDER_WAY);
    }
    assert_eq!(answered, asked.iter().map(|unique| (*unique, 0)).collect::<Vec<_>>(), "in their order");
}

#[test]
fn a_crowd_whose_time_is_over_costs_nobody_his_connection() {
    const CROWD: usize = 1500;
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    for n in 0..CROWD {
        bench.lookup(node, &format!("n{n}"));
    }
    assert_eq!(bench.sends().len(), MAX_UNDER_WAY);
    bench.pass(DEADLINE);
    let answers = bench.answers();
    assert_eq!(answers.len(), CROWD);
    assert!(answers.iter().all(|answer| answer.error == libc::EHOSTDOWN), "{answers:?}");
    let heard = bench.heard();
    assert!(
        heard.iter().all(|heard| matches!(heard, Heard::Unblock { .. })),
        "nothing more is asked: {heard:?}"
    );
    assert_eq!(heard.len(), MAX_UNDER_WAY);
}

#[test]
fn what_was_kept_back_when_a_connection_is_lost_is_done_on_the_next_one() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    for n in 0..MAX_UNDER_WAY {
        bench.lookup(node, &format!("n{n}"));
    }
    let made = bench.ask(Opcode::Unlink, node, b"d\0");
    let under_way: Vec<(u32, u32)> = bench
        .heard()
        .into_iter()
        .filter_map(|heard| if let Heard::Send { txn, conn, .. } = heard { Some((txn, conn)) } else { None })
        .collect();
    assert_eq!(under_way.len(), MAX_UNDER_WAY, "the change waits for its turn");
    for (txn, _) in &under_way {
        bench.lose(*txn);
    }
    bench.say(&ToClient::Death { conn: under_way[0].1 });
    let mut answers = bench.answers();
    for _ in 0..=2 * MAX_UNDER_WAY {
        for (txn, ..) in bench.sends() {
            bench.error(txn, libc::EISDIR);
        }
        answers.extend(bench.answers());
    }
    let found = answers.iter().find(|answer| answer.unique == made);
    assert_eq!(found.map(|answer| answer.error), Some(libc::EISDIR), "the node's word");
}

#[test]
fn who_waits_for_bytes_keeps_nobody_waiting() {
    let (mut bench, fh) = open_fifo();
    let node = bench.node("joseph");
    for _ in 0..2 * MAX_UNDER_WAY {
        bench.read(fh, 1);
    }
    assert_eq!(bench.sends().len(), 2 * MAX_UNDER_WAY);
    bench.lookup(node, "etc");
    assert_eq!(bench.sends().len(), 1);
}
