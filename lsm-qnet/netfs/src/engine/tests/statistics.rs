//! `/net/.qnetstats` as the kernel sees it.

use qnet_iomsg::netmgr::Request;
use zerocopy::{FromBytes, IntoBytes};

use super::bench::Bench;
use crate::fuse::{
    Opcode, ROOT_ID,
    abi::{AttrOut, FOPEN_DIRECT_IO, GetattrIn, OpenIn, OpenOut, ReadIn},
};

fn opened(bench: &mut Bench, nodeid: u64, text: &str) -> u64 {
    let unique = bench.open(nodeid);
    let (txn, _, message) = bench.sent();
    assert_eq!(Request::parse(&message), Ok(Request::Stats));
    bench.reply(txn, text.len() as i64, text.as_bytes());
    let answer = bench.answer();
    assert_eq!((answer.unique, answer.error), (unique, 0));
    let open = OpenOut::read_from_bytes(&answer.body).unwrap();
    assert_eq!(open.open_flags, FOPEN_DIRECT_IO, "its size is not known before it is read");
    open.fh
}

fn read(bench: &mut Bench, fh: u64, offset: u64, size: u32) -> String {
    bench.ask(Opcode::Read, 0, ReadIn { fh, offset, size, ..ReadIn::default() }.as_bytes());
    let answer = bench.answer();
    assert_eq!(answer.error, 0);
    String::from_utf8(answer.body).unwrap()
}

#[test]
fn an_open_file_keeps_its_text() {
    let mut bench = Bench::new();
    let unique = bench.lookup(ROOT_ID, ".qnetstats");
    let entry = bench.entry(unique);
    assert_eq!((entry.attr.mode, entry.attr.size), (libc::S_IFREG | 0o444, 0));
    let first = opened(&mut bench, entry.nodeid, "**** Qnet, first");
    let second = opened(&mut bench, entry.nodeid, "**** Qnet, second");
    assert_eq!(read(&mut bench, first, 0, 4096), "**** Qnet, first");
    assert_eq!(read(&mut bench, second, 11, 4), "seco");
    assert_eq!(read(&mut bench, first, 11, 4096), "first");
    assert_eq!(read(&mut bench, first, 16, 4096), "");
    assert_eq!(read(&mut bench, first, u64::MAX, 4096), "");
    bench.release(first);
    assert_eq!(bench.answer().error, 0);
    bench.read(first, 10);
    assert_eq!(bench.answer().error, libc::EBADF);
}

#[test]
fn its_attributes_are_known_without_asking() {
    let mut bench = Bench::new();
    let unique = bench.lookup(ROOT_ID, ".qnetstats");
    let nodeid = bench.entry(unique).nodeid;
    bench.ask(Opcode::Getattr, nodeid, GetattrIn::default().as_bytes());
    let attr = AttrOut::read_from_bytes(&bench.answer().body).unwrap().attr;
    assert_eq!((attr.mode, attr.nlink), (libc::S_IFREG | 0o444, 1));
    bench.lookup(nodeid, "etc");
    assert_ne!(bench.answer().error, 0, "nothing lies below it");
}

#[test]
fn it_cannot_be_written() {
    let mut bench = Bench::new();
    let unique = bench.lookup(ROOT_ID, ".qnetstats");
    let nodeid = bench.entry(unique).nodeid;
    let flags = (libc::O_WRONLY | libc::O_TRUNC).cast_unsigned();
    bench.ask(Opcode::Open, nodeid, OpenIn { flags, ..OpenIn::default() }.as_bytes());
    assert_eq!(bench.answer().error, libc::EROFS);
}

#[test]
fn without_qnet_there_is_none() {
    let mut bench = Bench::new();
    let unique = bench.lookup(ROOT_ID, ".qnetstats");
    let nodeid = bench.entry(unique).nodeid;
    bench.open(nodeid);
    assert_eq!(bench.sends().len(), 1);
    // Qnet goes away while it is asked, and is not there for the second attempt.
    bench.peer = None;
    bench.engine.handle_link(bench.now, usize::MAX);
    assert_eq!(bench.answer().error, libc::ENOENT);
}
