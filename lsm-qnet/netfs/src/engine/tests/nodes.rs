//! The entries of `/net`: whether their nodes are there, and how they are struck off the list.

use qnet_iomsg::{Connect, netmgr, stat};
use zerocopy::FromBytes;

use super::bench::{Bench, directory, ended};
use crate::fuse::{Opcode, ROOT_ID, abi::AttrOut};

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
