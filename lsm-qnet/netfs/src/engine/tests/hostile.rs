//! Bytes that nobody in his right mind would send, from both sides.

use proptest::prelude::*;
use qnet_ipc::ToClient;
use zerocopy::IntoBytes;

use super::bench::{Bench, directory, regular};
use crate::fuse::{
    Opcode,
    abi::{LseekIn, OpenIn, ReadIn, SetattrIn, WriteIn},
};

#[test]
fn a_malformed_request_is_answered_if_it_has_a_number() {
    let mut bench = Bench::new();
    bench.engine.handle_request(bench.now, &mut vec![1, 2, 3], 3);
    assert!(bench.answers().is_empty());
    let unique = bench.ask(Opcode::Lookup, 1, b"not terminated");
    let answer = bench.answer();
    assert_eq!((answer.unique, answer.error), (unique, libc::EINVAL));
}

#[test]
fn unknown_numbers_are_stale_or_bad() {
    let mut bench = Bench::new();
    bench.lookup(77, "etc");
    assert_eq!(bench.answer().error, libc::ESTALE);
    bench.read(77, 10);
    assert_eq!(bench.answer().error, libc::EBADF);
    bench.release(77);
    assert_eq!(bench.answer().error, 0);
    bench.ask(Opcode::Readdir, 77, ReadIn { fh: 77, ..ReadIn::default() }.as_bytes());
    assert_eq!(bench.answer().error, libc::EBADF);
    let node = bench.node("joseph");
    bench.lookup(node, "..");
    assert_eq!(bench.answer().error, libc::EINVAL);
}

#[test]
fn packets_about_nothing_are_ignored() {
    let mut bench = Bench::new();
    bench.node("joseph");
    for id in [1, 77, u32::MAX] {
        bench.say(&ToClient::Read { txn: id, offset: u32::MAX, nbytes: 0 });
        bench.say(&ToClient::Write { txn: id, offset: u32::MAX, data: b"x" });
        bench.say(&ToClient::Reply { txn: id, status: -1, offset: u32::MAX, data: b"" });
        bench.say(&ToClient::Error { txn: id, errno: 1 });
        bench.say(&ToClient::ConnectOk { conn: id, scoid: 0, limit: 1 });
        bench.say(&ToClient::ConnectFail { conn: id, errno: 1 });
        bench.say(&ToClient::Death { conn: id });
    }
    assert!(bench.answers().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_request_gets_at_most_one_answer(requests in proptest::collection::vec(
        (0_u32..60, 0_u64..4, proptest::collection::vec(any::<u8>(), 0..140)), 0..40)) {
        let mut bench = Bench::new();
        let mut answered = std::collections::HashSet::new();
        for (number, nodeid, body) in requests {
            if let Some(opcode) = Opcode::from_number(number) {
                bench.ask(opcode, nodeid, &body);
            }
            for answer in bench.answers() {
                prop_assert!(answer.unique == 0 || answered.insert(answer.unique));
            }
        }
    }

    #[test]
    fn garbage_from_a_node_is_an_error_at_worst(data in proptest::collection::vec(any::<u8>(), 0..300), status in any::<i64>()) {
        let mut bench = Bench::new();
        let node = bench.node("joseph");
        let file = bench.file(node, "f", &regular(10, 10)).nodeid;
        let (_, fh) = bench.opened(file, &regular(10, 10));
        let directory_id = bench.file(node, "d", &directory(0o755)).nodeid;
        let opening = bench.ask(Opcode::Opendir, directory_id, OpenIn::default().as_bytes());
        let (txn, ..) = bench.sent();
        bench.reply(txn, 0, &directory(0o755).emit(usize::MAX));
        let opened = bench.answer();
        prop_assert_eq!((opened.unique, opened.error), (opening, 0));
        let dir_fh = u64::from_ne_bytes(opened.body[..8].try_into().unwrap());

        let list = ReadIn { fh: dir_fh, size: 4096, ..ReadIn::default() };
        let asked = [
            bench.lookup(node, "x"),
            bench.read(fh, 100),
            bench.ask(Opcode::Getattr, file, &[0; 16]),
            bench.ask(Opcode::Readlink, file, &[]),
            bench.ask(Opcode::Open, file, OpenIn::default().as_bytes()),
            bench.ask(Opcode::Readdir, directory_id, list.as_bytes()),
            bench.ask(Opcode::Readdirplus, directory_id, list.as_bytes()),
            bench.ask(Opcode::Opendir, directory_id, OpenIn::default().as_bytes()),
            bench.ask(Opcode::Create, directory_id, &[&[0; 16][..], b"new\0"].concat()),
            bench.ask(Opcode::Mkdir, directory_id, &[&[0; 8][..], b"new\0"].concat()),
            bench.ask(Opcode::Symlink, directory_id, b"link\0target\0"),
            bench.ask(Opcode::Rename2, directory_id, &[&directory_id.to_ne_bytes()[..], &[0; 8], b"a\0b\0"].concat()),
            bench.ask(Opcode::Unlink, directory_id, b"gone\0"),
            bench.ask(Opcode::Setattr, file, SetattrIn { valid: 0x7f, fh, ..SetattrIn::default() }.as_bytes()),
            bench.ask(Opcode::Write, file, &[WriteIn { fh, size: 1, ..WriteIn::default() }.as_bytes(), b"x"].concat()),
            bench.ask(Opcode::Lseek, file, LseekIn { fh, whence: 3, ..LseekIn::default() }.as_bytes()),
            bench.ask(Opcode::Statfs, file, &[]),
            bench.ask(Opcode::Access, file, &[0; 8]),
        ];
        for _ in 0..50 {
            let sends = bench.sends();
            if sends.is_empty() {
                break;
            }
            for (txn, ..) in sends {
                bench.reply(txn, status, &data);
            }
        }
        // A read that goes on bringing little may still be on its way.
        let answers: Vec<_> = bench.answers().into_iter().filter(|answer| answer.unique != 0).collect();
        prop_assert!(answers.len() + 1 >= asked.len());
        prop_assert!(answers.iter().all(|answer| asked.contains(&answer.unique)));
    }
}
