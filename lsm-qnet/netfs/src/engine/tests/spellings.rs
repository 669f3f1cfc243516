//! One node by several names, and special files that several have open.

use zerocopy::IntoBytes;

use qnet_iomsg::{Connect, Stat, flags::S_IFIFO, stat};

use super::bench::{Bench, Heard, directory, ended, regular};
use super::changes::named;
use crate::fuse::{
    Opcode, ROOT_ID,
    abi::{FUSE_NOTIFY_INC_EPOCH, InitIn, LinkIn, Rename2In},
};

/// The number of joseph, and the same with another policy.
const JOSEPH: u32 = 5;
const PREFERRED: u32 = 1 << 16 | JOSEPH;

/// joseph by three names.
fn by_three_names(bench: &mut Bench) -> [u64; 3] {
    [
        bench.numbered_node("joseph", JOSEPH),
        bench.numbered_node("joseph.lab", JOSEPH),
        bench.numbered_node("joseph~preferred:en0", PREFERRED),
    ]
}

/// The nd that the last connection was made to.
fn way(bench: &mut Bench) -> (u32, u32) {
    let heard = bench.heard();
    let nd = heard.iter().find_map(|heard| match heard {
        Heard::Connect { nd, .. } => Some(*nd),
        _ => None,
    });
    let txn = heard.iter().find_map(|heard| match heard {
        Heard::Send { txn, .. } => Some(*txn),
        _ => None,
    });
    (nd.expect("a connection"), txn.expect("a message"))
}

#[test]
fn a_file_is_one_file_by_all_names_of_its_node() {
    let mut bench = Bench::new();
    let names = by_three_names(&mut bench);
    // who may search the directory is known from then on
    bench.file(names[0], "f", &regular(10, 3));
    let first = bench.file(names[0], "f", &regular(10, 3));
    assert_ne!(first.entry_valid, 0, "there is one way to it");
    for name in &names[1..] {
        let entry = bench.file(*name, "f", &regular(10, 3));
        assert_eq!((entry.nodeid, entry.attr.ino), (first.nodeid, first.attr.ino));
        assert_eq!((entry.entry_valid, entry.entry_valid_nsec), (0, 0), "who opens it says by which name");
    }
    let hard_link = bench.file(names[2], "g", &regular(10, 3));
    assert_eq!(hard_link.nodeid, first.nodeid);
    let karl = bench.numbered_node("karl", 6);
    assert_ne!(bench.file(karl, "f", &regular(10, 3)).nodeid, first.nodeid);
    let directories = names.map(|name| bench.file(name, "d", &directory(0o755)));
    assert_ne!(directories[0].nodeid, directories[1].nodeid, "a directory has one parent");
    assert_eq!(directories[0].attr.ino, directories[1].attr.ino);
}

#[test]
fn messages_go_the_way_of_the_name_that_their_thread_has_looked_up() {
    let mut bench = Bench::new();
    let [plain, _, preferred] = by_three_names(&mut bench);
    let mut f = 0;
    for (thread, name) in [(1, plain), (2, preferred)] {
        bench.thread = thread;
        f = bench.file(name, "f", &regular(10, 3)).nodeid;
    }
    // users with connections of their own, so that a new one is made
    for (uid, thread, expected) in [(2001, 1, JOSEPH), (2002, 2, PREFERRED), (2003, 1, JOSEPH)] {
        (bench.uid, bench.thread) = (uid, thread);
        bench.open(f);
        let (nd, txn) = way(&mut bench);
        assert_eq!(nd, expected, "thread {thread}");
        bench.reply(txn, 0, &regular(10, 3).emit(stat::REPLY_LEN));
    }
}

#[test]
fn names_of_one_node_are_no_border() {
    let mut bench = Bench::new();
    let [plain, other, _] = by_three_names(&mut bench);
    let f = bench.file(plain, "f", &regular(10, 3)).nodeid;
    let unique = bench.ask(Opcode::Link, other, &named(&LinkIn { oldnodeid: f }, b"g\0"));
    let (txn, _, message) = bench.sent();
    assert_eq!(Connect::parse(&message).unwrap().path, b"g");
    bench.reply(txn, 0, &regular(10, 3).emit(stat::REPLY_LEN));
    assert_eq!(bench.entry(unique).nodeid, f);
    bench.heard();
    let rename = Rename2In { newdir: other, flags: 0, padding: 0 };
    let unique = bench.ask(Opcode::Rename2, plain, &named(&rename, b"f\0h\0"));
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer_to(unique), ended(unique, 0));
}

#[test]
fn a_file_outlives_the_name_that_its_node_was_found_by() {
    let mut bench = Bench::new();
    let [plain, other, _] = by_three_names(&mut bench);
    let first = bench.file(plain, "f", &regular(10, 3));
    bench.file(other, "f", &regular(10, 3));
    // the first way leads to another file now, and the kernel forgets all of it
    let replaced = bench.file(plain, "f", &regular(11, 3)).nodeid;
    bench.forget(replaced, 1);
    bench.forget(plain, 1);
    assert_eq!(bench.engine.inodes.get(plain).map(|_| ()), None);
    let entry = bench.file(other, "f", &regular(10, 3));
    assert_eq!((entry.nodeid, entry.attr.ino), (first.nodeid, first.attr.ino));
    bench.ask(Opcode::Link, other, &named(&LinkIn { oldnodeid: entry.nodeid }, b"g\0"));
    let (_, _, message) = bench.sent();
    assert_eq!(Connect::parse(&message).unwrap().path, b"g", "it is that node's");
}

#[test]
fn what_changes_by_one_name_is_not_remembered_by_another() {
    let mut bench = Bench::new();
    let init = InitIn { major: 7, minor: 44, max_readahead: 0, flags: u32::MAX };
    bench.ask(Opcode::Init, ROOT_ID, init.as_bytes());
    bench.answers();
    let [plain, other, _] = by_three_names(&mut bench);
    let epochs = |bench: &mut Bench, directory| {
        let unique = bench.ask(Opcode::Unlink, directory, b"f\0");
        let (txn, ..) = bench.sent();
        bench.reply(txn, 0, b"");
        let answers = bench.answers();
        assert!(answers.iter().any(|answer| answer.unique == unique));
        answers.iter().filter(|answer| answer.unique == 0 && answer.error == -FUSE_NOTIFY_INC_EPOCH).count()
    };
    bench.file(plain, "f", &regular(10, 3));
    assert_eq!(epochs(&mut bench, plain), 0, "the kernel knows of its own change");
    bench.file(plain, "f", &regular(10, 3));
    assert_eq!(epochs(&mut bench, other), 1);
    bench.pass(std::time::Duration::from_secs(2));
    assert_eq!(epochs(&mut bench, other), 0, "nothing is remembered any more");
}

#[test]
fn a_special_file_in_use_gets_another_number() {
    let mut bench = Bench::new();
    let joseph = bench.numbered_node("joseph", JOSEPH);
    let fifo = Stat { mode: S_IFIFO | 0o666, ino: 20, ..regular(20, 0) };
    let entry = bench.file(joseph, "p", &fifo);
    assert_eq!((entry.entry_valid, entry.entry_valid_nsec), (0, 0));
    assert_eq!(bench.file(joseph, "p", &fifo).nodeid, entry.nodeid, "nobody has it open");
    let unique = bench.open(entry.nodeid);
    let (txn, ..) = bench.sent();
    let second = bench.file(joseph, "p", &fifo);
    assert_ne!(second.nodeid, entry.nodeid, "somebody waits for its other end");
    assert_eq!(second.attr.ino, entry.attr.ino);
    bench.reply(txn, 0, &fifo.emit(stat::REPLY_LEN));
    assert_eq!(bench.answer_to(unique).error, 0);
    assert_eq!(bench.file(joseph, "p", &fifo).nodeid, second.nodeid, "that one nobody has open");
    let (_, fh) = bench.opened(second.nodeid, &fifo);
    assert_ne!(bench.file(joseph, "p", &fifo).nodeid, second.nodeid);
    bench.release(fh);
    bench.answers();
    bench.heard();
    let file = bench.file(joseph, "f", &regular(10, 3)).nodeid;
    bench.opened(file, &regular(10, 3));
    assert_eq!(bench.file(joseph, "f", &regular(10, 3)).nodeid, file, "files with a page cache have one");
}

#[test]
fn a_name_that_means_another_node_has_other_files() {
    let mut bench = Bench::new();
    let [_, other, _] = by_three_names(&mut bench);
    let joseph = bench.file(other, "f", &regular(10, 3)).nodeid;
    let other = bench.numbered_node("joseph.lab", 8);
    let karl = bench.file(other, "f", &regular(10, 3)).nodeid;
    assert_ne!(karl, joseph, "two disks may be copies of one");
    assert_eq!(bench.file(other, "f", &regular(10, 3)).nodeid, karl);
    let lookup = bench.ask(Opcode::Getattr, joseph, &[0; 16]);
    assert_eq!(bench.answer(), ended(lookup, libc::ESTALE), "it has no name any more");
}
