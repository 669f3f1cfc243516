//! The file that is meant, the end that is meant, and who means it: none of them is guessed from what has the name now, from how
//! a file was opened, or from the user alone.

use std::cell::Cell;

use qnet_iomsg::{
    Connect, Extra, Io, Stat, chain,
    filesys::{Identity, expected, xattr},
    flags::IOFLAG_TRUNC,
    message::XTYPE_APPEND,
    stat,
};
use qnet_ipc::ToClient;
use zerocopy::{FromBytes, IntoBytes};

use super::bench::{Bench, ended, regular};
use super::changes::{created, first, in_directory, named};
use crate::fuse::{
    Opcode,
    abi::{
        AccessIn, FATTR_MODE, FATTR_SIZE, FOPEN_DIRECT_IO, FUSE_WRITE_CACHE, GetxattrIn, OpenIn, OpenOut,
        SetattrIn, WriteIn,
    },
};

thread_local! {
    /// The groups of whoever asks.
    static GROUPS: Cell<u32> = const { Cell::new(4) };
}

/// The node is told that this file is meant, before anything else.
#[track_caller]
fn expects(message: &[u8], file: &Stat) {
    let connect = Connect::parse(message).unwrap();
    let Extra::Messages(messages) = connect.extra else { panic!("{connect:?}") };
    assert_eq!(expected(messages), Some(Identity::of(file)), "{connect:?}");
}

fn set(name: &[u8], value: &[u8]) -> Vec<u8> {
    let size = value.len() as u32;
    [&size.to_ne_bytes()[..], &[0; 4], name, b"\0", value].concat()
}

fn get(name: &[u8]) -> Vec<u8> {
    named(&GetxattrIn { size: 20, padding: 0 }, &[name, b"\0"].concat())
}

#[test]
fn what_is_done_to_a_file_by_its_name_says_which_one_it_means() {
    let (mut bench, d) = in_directory();
    let file = regular(10, 3);
    let f = bench.file(d, "f", &file).nodeid;
    let truncate = SetattrIn { valid: FATTR_SIZE, ..SetattrIn::default() };
    let empty = OpenIn { flags: (libc::O_WRONLY | libc::O_TRUNC).cast_unsigned(), open_flags: 0 };
    for (opcode, body) in [
        (Opcode::Setattr, truncate.as_bytes().to_vec()),
        (Opcode::Open, empty.as_bytes().to_vec()),
        (Opcode::Setxattr, set(b"user.a", b"x")),
        (Opcode::Getxattr, get(b"user.a")),
        (Opcode::Removexattr, b"user.a\0".to_vec()),
        (Opcode::Readlink, Vec::new()),
        (Opcode::Access, AccessIn { mask: 4, padding: 0 }.as_bytes().to_vec()),
    ] {
        let unique = bench.ask(opcode, f, &body);
        let (txn, _, message) = bench.sent();
        expects(&message, &file);
        bench.error(txn, libc::ESTALE);
        assert_eq!(bench.answer(), ended(unique, libc::ESTALE), "{opcode:?}: it is another one");
    }
}

#[test]
fn a_qnx_node_is_asked_in_its_own_words() {
    let (mut bench, d) = in_directory();
    let f = bench.file(d, "f", &regular(10, 3)).nodeid;
    let chmod = SetattrIn { valid: FATTR_MODE, mode: 0o600, ..SetattrIn::default() };
    let unique = bench.ask(Opcode::Setattr, f, chmod.as_bytes());
    let (txn, ..) = bench.sent();
    bench.error(txn, libc::ENOSYS);
    let (txn, _, message) = bench.sent();
    let Extra::Messages(messages) = Connect::parse(&message).unwrap().extra else { panic!("{message:?}") };
    let done: Vec<_> = chain(messages).map(|io| io.unwrap().0).collect();
    assert_eq!(done, [Io::Chmod { mode: 0o600 }, Io::Stat]);
    bench.reply(txn, 0, &regular(10, 3).emit(stat::REPLY_LEN));
    assert_eq!(bench.answer_to(unique).error, 0);

    let empty = OpenIn { flags: (libc::O_WRONLY | libc::O_TRUNC).cast_unsigned(), open_flags: 0 };
    bench.ask(Opcode::Open, f, empty.as_bytes());
    let (txn, ..) = bench.sent();
    bench.error(txn, libc::ENOSYS);
    let (_, _, message) = bench.sent();
    let connect = Connect::parse(&message).unwrap();
    assert_ne!(connect.ioflag & IOFLAG_TRUNC, 0);
    assert!(matches!(connect.extra, Extra::Messages(messages) if first(messages) == Io::Stat));
}

#[test]
fn extended_attributes_of_an_open_file_are_asked_through_it() {
    let (mut bench, d) = in_directory();
    let file = regular(10, 3);
    let (f, coid, _) = created(&mut bench, d, b"f", libc::O_RDONLY, &file);
    let unique = bench.ask(Opcode::Setxattr, f, &set(b"user.a", b"x"));
    let (txn, on, message) = bench.sent();
    let request = xattr::Request::Set { name: b"user.a", value: b"x", flags: 0 };
    assert_eq!((on, &message[..]), (coid, &request.emit()[..]), "whatever has its name now");
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer(), ended(unique, 0));
    bench.ask(Opcode::Getxattr, f, &get(b"user.a"));
    let (txn, on, _) = bench.sent();
    assert_eq!(on, coid);
    bench.reply(txn, 1, b"x");
    assert_eq!(bench.answer().body, b"x");
    bench.uid = 2000;
    bench.ask(Opcode::Getxattr, f, &get(b"user.a"));
    let (_, on, message) = bench.sent();
    assert_ne!(on, coid, "another user's would lend his rights");
    expects(&message, &file);
}

/// A message of which so much came along.
fn whole(bench: &mut Bench, txn: u32, first: Vec<u8>) -> Vec<u8> {
    let (offset, nbytes) = (first.len() as u32, qnet_ipc::MAX_DATA as u32);
    bench.say(&ToClient::Read { txn, offset, nbytes });
    [first, bench.rest()].concat()
}

#[test]
fn the_longest_extended_attribute_is_set_by_path_and_through_an_open_file() {
    let (mut bench, d) = in_directory();
    let file = regular(10, 3);
    let f = bench.file(d, "f", &file).nodeid;
    let value = vec![b'v'; xattr::VALUE_MAX];
    let request = xattr::Request::Set { name: b"user.a", value: &value, flags: 0 };
    let unique = bench.ask(Opcode::Setxattr, f, &set(b"user.a", &value));
    let (txn, _, first) = bench.sent();
    let message = whole(&mut bench, txn, first);
    expects(&message, &file);
    let Extra::Messages(messages) = Connect::parse(&message).unwrap().extra else { panic!() };
    let Io::Msg { subtype, data, .. } = chain(messages).nth(1).unwrap().unwrap().0 else { panic!() };
    assert!(xattr::Request::parse(subtype, data, xattr::behind(&message)) == Ok(request));
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer(), ended(unique, 0));

    let (f, coid, _) = created(&mut bench, d, b"g", libc::O_RDONLY, &regular(11, 3));
    bench.ask(Opcode::Setxattr, f, &set(b"user.a", &value));
    let (txn, on, first) = bench.sent();
    assert_eq!(on, coid);
    assert!(whole(&mut bench, txn, first) == request.emit());
    let unique = bench.ask(Opcode::Setxattr, f, &set(b"user.a", &[&value[..], b"v"].concat()));
    assert_eq!(bench.answer(), ended(unique, libc::E2BIG));
}

fn write(bench: &mut Bench, fh: u64, flags: i32, write_flags: u32) -> Vec<u8> {
    let args =
        WriteIn { fh, offset: 100, size: 3, flags: flags.cast_unsigned(), write_flags, ..WriteIn::default() };
    bench.ask(Opcode::Write, 0, &named(&args, b"abc"));
    let (txn, _, message) = bench.sent();
    bench.reply(txn, 3, b"");
    assert_eq!(bench.answer().error, 0);
    message
}

#[test]
fn the_node_finds_the_place_to_append() {
    let (mut bench, d) = in_directory();
    let flags = libc::O_WRONLY | libc::O_APPEND;
    let (_, _, open) = created(&mut bench, d, b"f", flags, &regular(10, 0));
    assert_ne!(open.open_flags & FOPEN_DIRECT_IO, 0, "the page cache would keep them in the wrong place");
    let message = write(&mut bench, open.fh, flags, 0);
    assert_eq!(first(&message), Io::Write { nbytes: 3, xtype: 0, offset: None, data: b"abc" });
}

#[test]
fn a_descriptor_appends_when_it_says_so_now() {
    let (mut bench, d) = in_directory();
    let (plain, append) = (libc::O_WRONLY, libc::O_WRONLY | libc::O_APPEND);
    let (_, _, open) = created(&mut bench, d, b"f", plain, &regular(10, 0));
    let message = write(&mut bench, open.fh, append, 0);
    let expected = Io::Write { nbytes: 3, xtype: XTYPE_APPEND, offset: Some(100), data: b"abc" };
    assert_eq!(first(&message), expected, "fcntl has set it");
    let there = Io::Write { nbytes: 3, xtype: 0, offset: Some(100), data: b"abc" };
    assert_eq!(first(&write(&mut bench, open.fh, plain, 0)), there);

    let (_, _, open) = created(&mut bench, d, b"g", append, &regular(11, 0));
    assert_eq!(first(&write(&mut bench, open.fh, plain, 0)), there, "fcntl has taken it away");
    let message = write(&mut bench, open.fh, append, FUSE_WRITE_CACHE);
    assert_eq!(first(&message), there, "a page of a mapping has its place");
}

#[test]
fn a_handle_is_lent_to_nobody_who_has_other_groups() {
    let mut bench = Bench::with_groups(|_, _| vec![GROUPS.get()]);
    let node = bench.node("joseph");
    let f = bench.file(node, "f", &regular(10, 3)).nodeid;
    let (coid, _) = bench.opened(f, &regular(10, 3));
    let chmod = SetattrIn { valid: FATTR_MODE, mode: 0o600, ..SetattrIn::default() };
    bench.ask(Opcode::Setattr, f, chmod.as_bytes());
    let (txn, on, _) = bench.sent();
    assert_eq!(on, coid);
    bench.reply(txn, 0, &regular(10, 3).emit(stat::REPLY_LEN));
    bench.answers();

    // another process of the same user
    GROUPS.set(5);
    bench.thread += 1;
    bench.ask(Opcode::Setattr, f, chmod.as_bytes());
    let (txn, on, _) = bench.sent();
    assert_ne!(on, coid);
    bench.error(txn, libc::EPERM);
    let unique = bench.ask(Opcode::Unlink, node, b"f\0");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer_to(unique).error, 0);
    let args = OpenIn { flags: libc::O_RDONLY.cast_unsigned(), open_flags: 0 };
    let unique = bench.ask(Opcode::Open, f, args.as_bytes());
    assert_eq!(bench.answer_to(unique).error, libc::ESTALE, "through /proc/self/fd");
    GROUPS.set(4);
    let unique = bench.ask(Opcode::Open, f, args.as_bytes());
    let again = bench.answer_to(unique);
    bench.read(OpenOut::read_from_bytes(&again.body).unwrap().fh, 3);
    assert_eq!(bench.sent().1, coid);
}
