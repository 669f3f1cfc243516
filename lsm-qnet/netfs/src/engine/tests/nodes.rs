//! The entries of `/net`: whether their nodes are there, and how they are struck off the list.

use qnet_iomsg::{
    Connect,
    netmgr::{self, NodeState},
    stat,
};
use zerocopy::{FromBytes, IntoBytes};

use super::bench::{Bench, directory, ended};
use crate::{
    engine::health::{DEAD_FOR, GOES_THROUGH},
    fuse::{
        Opcode, ROOT_ID,
        abi::{AttrOut, OpenOut, ReadIn},
    },
};

const MODE: u32 = libc::S_IFDIR | 0o555;

#[test]
fn attributes_of_a_node_are_given_when_it_is_there() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let unique = bench.ask(Opcode::Getattr, node, &[0; 16]);
    let (txn, _, message) = bench.sent();
    assert_eq!(Connect::parse(&message).unwrap().path, b"", "its root directory is asked for");
    bench.reply(txn, 0, &directory(0o755).emit(stat::REPLY_LEN));
    let answer = bench.answer();
    assert_eq!(answer.unique, unique);
    let out = AttrOut::read_from_bytes(&answer.body).unwrap();
    assert_eq!((out.attr.ino & 0xffff, out.attr.mode, out.attr_valid), (5, MODE, 0));
}

#[test]
fn a_node_that_lets_nobody_in_is_there_and_one_that_does_not_answer_is_not() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let unique = bench.ask(Opcode::Getattr, node, &[0; 16]);
    let (txn, ..) = bench.sent();
    bench.error(txn, libc::EACCES);
    let answer = bench.answer();
    assert_eq!((answer.unique, answer.error), (unique, 0));
    let unique = bench.ask(Opcode::Getattr, node, &[0; 16]);
    let (txn, ..) = bench.sent();
    bench.error(txn, libc::EHOSTUNREACH);
    assert_eq!(bench.answer(), ended(unique, libc::EHOSTUNREACH));
}

#[test]
fn the_own_node_is_there_without_being_asked() {
    let mut bench = Bench::new();
    let unique = bench.lookup(ROOT_ID, "alonzo");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, b"");
    let node = bench.entry(unique).nodeid;
    bench.ask(Opcode::Getattr, node, &[0; 16]);
    assert_eq!(AttrOut::read_from_bytes(&bench.answer().body).unwrap().attr.mode, MODE);
    assert_eq!(bench.heard(), []);
}

#[test]
fn the_owner_and_root_may_strike_a_node_off_the_list_and_nobody_else() {
    let mut bench = Bench::new();
    let unique = bench.ask(Opcode::Rmdir, ROOT_ID, b"joseph\0");
    assert_eq!(bench.answer(), ended(unique, libc::EPERM));
    assert_eq!(bench.heard(), []);
    bench.uid = 0;
    for errno in [0, libc::EBUSY, libc::ENOENT] {
        let unique = bench.ask(Opcode::Rmdir, ROOT_ID, b"joseph\0");
        let (txn, _, message) = bench.sent();
        assert_eq!(netmgr::Request::parse(&message), Ok(netmgr::Request::Forget { name: b"joseph" }));
        match errno {
            0 => bench.reply(txn, 0, b""),
            errno => bench.error(txn, errno),
        }
        assert_eq!(bench.answer(), ended(unique, errno));
    }
}

#[test]
fn only_nodes_can_be_struck_off() {
    let mut bench = Bench::new();
    bench.uid = 0;
    let unique = bench.ask(Opcode::Rmdir, ROOT_ID, b".qnetstats\0");
    assert_eq!(bench.answer(), ended(unique, libc::ENOTDIR));
    assert_eq!(bench.heard(), []);
}

/// Lists `/net` with these nodes, whose numbers are 1, 2, …
fn list(bench: &mut Bench, names: &[&str]) {
    let unique = bench.ask(Opcode::Opendir, ROOT_ID, &[0; 8]);
    let fh = OpenOut::read_from_bytes(&bench.answer_to(unique).body).unwrap().fh;
    let read = ReadIn { fh, size: 4096, ..ReadIn::default() };
    bench.ask(Opcode::Readdir, ROOT_ID, read.as_bytes());
    let (txn, ..) = bench.sent();
    let mut records = Vec::new();
    for (nd, name) in (1..).zip(names) {
        let (state, name) = (NodeState::Known, name.as_bytes());
        netmgr::Node { nd, state, flags: 0, name, domain: b"" }.emit(&mut records).unwrap();
    }
    bench.reply(txn, 0, &records);
    bench.answers();
}

#[test]
fn all_nodes_of_a_listing_are_asked_at_the_same_time() {
    let mut bench = Bench::new();
    list(&mut bench, &["joseph", "karl", "eileen"]);
    assert_eq!(bench.heard(), [], "a listing contacts nobody");
    let joseph = bench.node("joseph");
    let first = bench.ask(Opcode::Getattr, joseph, &[0; 16]);
    let sends = bench.sends();
    assert_eq!(sends.len(), 3, "the others, too: {sends:?}");
    let stat = directory(0o755).emit(stat::REPLY_LEN);
    bench.reply(sends[0].0, 0, &stat);
    assert_eq!((bench.answer().unique, bench.answers().len()), (first, 0));
    let karl = bench.node("karl");
    let second = bench.ask(Opcode::Getattr, karl, &[0; 16]);
    assert_eq!(bench.heard(), [], "it has been asked");
    assert!(bench.answers().is_empty());
    bench.reply(sends[1].0, 0, &stat);
    assert_eq!((bench.answer().unique, bench.answers().len()), (second, 0));
    let eileen = bench.node("eileen");
    bench.lose(sends[2].0);
    let (second_attempt, ..) = bench.sent();
    bench.lose(second_attempt);
    let third = bench.ask(Opcode::Getattr, eileen, &[0; 16]);
    assert_eq!(bench.answer(), ended(third, libc::EHOSTDOWN), "known to be dead");
    let again = bench.ask(Opcode::Getattr, karl, &[0; 16]);
    assert_eq!(bench.answer().unique, again, "known to be there");
    assert_eq!(bench.heard(), []);
    assert!(bench.engine.jobs.is_empty() && bench.engine.owners.is_empty());
}

/// Nodes that are asked whether they are there, of what is sent.
fn asked(sends: Vec<(u32, i32, Vec<u8>)>) -> Vec<u32> {
    let is_question = |message: &[u8]| Connect::parse(message).is_ok_and(|connect| connect.path.is_empty());
    sends.into_iter().filter(|(_, _, message)| is_question(message)).map(|(txn, ..)| txn).collect()
}

#[test]
fn the_first_node_that_is_found_dead_makes_all_of_a_listing_be_asked() {
    let mut bench = Bench::new();
    list(&mut bench, &["joseph", "karl", "eileen"]);
    let joseph = bench.node("joseph");
    bench.lookup(joseph, "etc");
    let (txn, ..) = bench.sent();
    assert_eq!(bench.heard(), [], "who uses one node contacts no other");
    bench.lose(txn);
    let questions = asked(bench.sends());
    assert_eq!(questions.len(), 2, "karl and eileen, while joseph is looked for");
    for txn in questions {
        bench.lose(txn);
        let again = asked(bench.sends());
        bench.lose(again[0]);
    }
    for name in ["karl", "eileen"] {
        let unique = bench.lookup(ROOT_ID, name);
        assert_eq!(bench.answer(), ended(unique, libc::EHOSTDOWN), "{name} costs no time any more");
    }
}

#[test]
fn a_listing_of_long_ago_makes_nobody_be_asked() {
    let mut bench = Bench::new();
    list(&mut bench, &["joseph", "karl"]);
    let joseph = bench.node("joseph");
    bench.pass(GOES_THROUGH);
    bench.lookup(joseph, "etc");
    let (txn, ..) = bench.sent();
    bench.lose(txn);
    assert_eq!(asked(bench.sends()), []);
}

#[test]
fn a_request_that_waits_for_anothers_question_can_be_given_up() {
    let mut bench = Bench::new();
    list(&mut bench, &["joseph", "karl"]);
    let joseph = bench.node("joseph");
    bench.ask(Opcode::Getattr, joseph, &[0; 16]);
    let sends = bench.sends();
    let karl = bench.node("karl");
    let waiting = bench.ask(Opcode::Getattr, karl, &[0; 16]);
    bench.interrupt(waiting);
    assert_eq!(bench.answer(), ended(waiting, libc::EINTR));
    bench.reply(sends[1].0, 0, &directory(0o755).emit(stat::REPLY_LEN));
    assert!(bench.answers().is_empty());
}

#[test]
fn a_dead_node_is_not_tried_again_at_once() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let unique = bench.lookup(node, "etc");
    let (txn, ..) = bench.sent();
    bench.lose(txn);
    let (txn, ..) = bench.sent();
    // The network manager does not find it any more.
    bench.error(txn, libc::ENOENT);
    assert_eq!(bench.answer(), ended(unique, libc::EHOSTUNREACH));
    let unique = bench.lookup(node, "var");
    assert_eq!(bench.answer(), ended(unique, libc::EHOSTUNREACH));
    assert_eq!(bench.heard(), []);
    bench.pass(DEAD_FOR);
    let unique = bench.lookup(node, "var");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 5, b"");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, &directory(0o755).emit(stat::REPLY_LEN));
    assert_eq!(bench.answer().unique, unique);
}

#[test]
fn a_node_that_was_just_found_missing_is_not_looked_for_again_at_once() {
    let mut bench = Bench::new();
    let unique = bench.lookup(ROOT_ID, "nobody");
    let (txn, ..) = bench.sent();
    bench.error(txn, libc::ENOENT);
    assert_eq!(bench.entry(unique).nodeid, 0);
    let unique = bench.lookup(ROOT_ID, "nobody");
    assert_eq!(bench.entry(unique).nodeid, 0);
    let node = bench.node("joseph");
    let unique = bench.lookup(node, "etc");
    for _ in 0..2 {
        let (txn, ..) = bench.sent();
        bench.lose(txn);
    }
    bench.answers();
    let again = bench.lookup(ROOT_ID, "joseph");
    let answer = bench.answer();
    assert_eq!((answer.unique, answer.error != 0), (again, true), "not there, and nobody is asked");
    assert!(again > unique && bench.heard().is_empty());
    bench.pass(DEAD_FOR);
    bench.lookup(ROOT_ID, "nobody");
    bench.lookup(ROOT_ID, "joseph");
    assert_eq!(bench.sends().len(), 2);
}

#[test]
fn names_of_another_directory_are_asked_for_with_it() {
    let mut bench = Bench::in_directory("/far");
    bench.lookup(ROOT_ID, "joseph~preferred:en0");
    let (_, _, message) = bench.sent();
    let name = b"/far/joseph~preferred:en0";
    assert_eq!(netmgr::Request::parse(&message), Ok(netmgr::Request::Strtond { name }));
    let unique = bench.lookup(ROOT_ID, "joseph~fastest");
    let mut answers = bench.answers();
    assert_eq!(answers.pop(), Some(ended(unique, libc::EINVAL)));
}
