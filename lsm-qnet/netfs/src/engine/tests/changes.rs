//! What changes files, names and attributes: one message each, never twice, never on another file.

use std::time::Duration;

use qnet_iomsg::{
    Connect, Extra, Io, Stat, Subtype, chain,
    filesys::{self, Request, guard},
    flags::{IOFLAG_CREAT, IOFLAG_EXCL, IOFLAG_WRITE, S_IFLNK},
    message::space,
    stat,
};
use qnet_ipc::ToClient;
use zerocopy::{FromBytes, IntoBytes};

use super::bench::{Answer, Bench, Heard, directory, ended, is_close, regular};
use crate::fuse::{
    Opcode,
    abi::{
        AttrOut, CopyFileRangeIn, CreateIn, EntryOut, FATTR_GID, FATTR_MODE, FATTR_SIZE, FOPEN_DIRECT_IO,
        GetattrIn, LinkIn, LseekIn, MkdirIn, MknodIn, OpenIn, OpenOut, Rename2In, SetattrIn, WriteIn,
        WriteOut,
    },
};

/// A directory `d` below node 5, whose root everybody may search.
pub(super) fn in_directory() -> (Bench, u64) {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let d = bench.file(node, "d", &Stat { ino: 77, ..directory(0o755) }).nodeid;
    (bench, d)
}

pub(super) fn named(head: &(impl IntoBytes + zerocopy::Immutable), names: &[u8]) -> Vec<u8> {
    [head.as_bytes(), names].concat()
}

fn create(bench: &mut Bench, parent: u64, name: &[u8], flags: i32) -> u64 {
    let flags = (flags | libc::O_CREAT).cast_unsigned();
    let args = CreateIn { flags, mode: libc::S_IFREG | 0o666, umask: 0o022, open_flags: 0 };
    bench.ask(Opcode::Create, parent, &named(&args, &[name, b"\0"].concat()))
}

/// Creates a file with these attributes; its nodeid, its number there, its handle and how it is open.
pub(super) fn created(
    bench: &mut Bench,
    parent: u64,
    name: &[u8],
    flags: i32,
    stat: &Stat,
) -> (u64, i32, OpenOut) {
    let unique = create(bench, parent, name, flags);
    let (txn, coid, _) = bench.sent();
    bench.reply(txn, 0, &stat.emit(stat::REPLY_LEN));
    let answer = bench.answer_to(unique);
    let (entry, open) = EntryOut::read_from_prefix(&answer.body).unwrap();
    (entry.nodeid, coid, OpenOut::read_from_bytes(open).unwrap())
}

fn write(bench: &mut Bench, fh: u64, offset: u64, data: &[u8]) -> u64 {
    let args = WriteIn { fh, offset, size: data.len() as u32, ..WriteIn::default() };
    bench.ask(Opcode::Write, 0, &named(&args, data))
}

pub(super) fn first(message: &[u8]) -> Io<'_> {
    chain(message).next().unwrap().unwrap().0
}

#[test]
fn a_file_is_made_and_opened_in_one_message() {
    let (mut bench, d) = in_directory();
    let unique = create(&mut bench, d, b"f", libc::O_WRONLY | libc::O_EXCL);
    let (txn, _, message) = bench.sent();
    let connect = Connect::parse(&message).unwrap();
    assert_eq!((connect.subtype, connect.path), (Subtype::Combine, &b"d/f"[..]));
    assert_eq!(connect.ioflag & (IOFLAG_CREAT | IOFLAG_EXCL), IOFLAG_CREAT | IOFLAG_EXCL);
    assert_eq!(connect.ioflag & IOFLAG_WRITE, IOFLAG_WRITE);
    assert_eq!(connect.mode, S_IFLNK | 0o644, "masked; a symbolic link of that name is not followed");
    assert_eq!(connect.guard(), Some(guard((8, 1), 77)), "in this directory or nowhere");
    assert!(matches!(connect.extra, Extra::Messages(messages) if first(messages) == Io::Stat));
    bench.reply(txn, 0, &regular(10, 0).emit(stat::REPLY_LEN));
    let answer = bench.answer();
    assert_eq!((answer.unique, answer.error), (unique, 0));
    let (entry, open) = EntryOut::read_from_prefix(&answer.body).unwrap();
    assert_eq!((entry.entry_valid, entry.attr.mode), (1, libc::S_IFREG | 0o644));
    let open = OpenOut::read_from_bytes(open).unwrap();
    assert_eq!(open.open_flags, FOPEN_DIRECT_IO, "what is only written needs no pages here");
}

#[test]
fn bytes_are_written_where_they_belong() {
    let (mut bench, d) = in_directory();
    let (_, coid, open) = created(&mut bench, d, b"f", libc::O_RDWR, &regular(10, 0));
    let long: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 7) as u8).collect();
    for data in [&b"abc"[..], &long] {
        let unique = write(&mut bench, open.fh, 1 << 33, data);
        let (txn, on, head) = bench.sent();
        assert_eq!(on, coid);
        let mut message = head;
        let head_len = Io::Write { nbytes: 0, xtype: 0, offset: Some(0), data: &[] }.to_bytes().len();
        while message.len() < head_len + data.len() {
            let offset = message.len() as u32;
            bench.say(&ToClient::Read { txn, offset, nbytes: 65536 });
            message.extend_from_slice(&bench.rest());
        }
        let expected = Io::Write { nbytes: data.len() as u32, xtype: 0, offset: Some(1 << 33), data };
        assert!(first(&message) == expected, "{} bytes", data.len());
        bench.reply(txn, data.len() as i64, b"");
        let written = WriteOut { size: data.len() as u32, padding: 0 };
        assert_eq!(bench.answer(), Answer { unique, error: 0, body: written.as_bytes().to_vec() });
    }
}

#[test]
fn a_short_write_is_told_and_nonsense_is_an_error() {
    let (mut bench, d) = in_directory();
    let (_, _, open) = created(&mut bench, d, b"f", libc::O_WRONLY, &regular(10, 0));
    for (status, error, size) in [(2, 0, 2_u32), (-1, libc::EIO, 0), (i64::MAX, libc::EIO, 0)] {
        let unique = write(&mut bench, open.fh, 0, b"abc");
        let (txn, ..) = bench.sent();
        bench.reply(txn, status, b"");
        let answer = bench.answer();
        assert_eq!((answer.unique, answer.error), (unique, error));
        assert!(error != 0 || answer.body == WriteOut { size, padding: 0 }.as_bytes());
    }
    let unique = write(&mut bench, 99, 0, b"abc");
    assert_eq!(bench.answer(), ended(unique, libc::EBADF));
}

#[test]
fn what_was_written_is_read_to_its_new_end() {
    let (mut bench, d) = in_directory();
    let (_, _, open) = created(&mut bench, d, b"f", libc::O_RDWR, &regular(10, 0));
    write(&mut bench, open.fh, 0, b"0123456789");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 10, b"");
    bench.answer();
    let unique = bench.read(open.fh, 4096);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 4, b"0123");
    assert!(bench.answers().is_empty(), "four bytes are not the end");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 6, b"456789");
    assert_eq!(bench.answer(), Answer { unique, error: 0, body: b"0123456789".to_vec() });
}

#[test]
fn new_names_come_with_their_attributes_or_are_looked_up() {
    let made = Stat { ino: 30, ..directory(0o700) };
    let linked = Stat { nlink: 2, ..regular(10, 5) };
    let symlink = Stat { mode: libc::S_IFLNK | 0o777, ino: 31, size: 3, ..regular(0, 0) };
    let mkdir = MkdirIn { mode: 0o777, umask: 0o077 };
    let cases = [
        (Opcode::Mkdir, named(&mkdir, b"new\0"), made),
        (Opcode::Link, b"new\0".to_vec(), linked),
        (Opcode::Symlink, b"new\0../x\0".to_vec(), symlink),
    ];
    for (opcode, body, stat) in cases {
        for told in [true, false] {
            let (mut bench, d) = in_directory();
            let f = bench.file(d, "f", &regular(10, 5)).nodeid;
            let head = if opcode == Opcode::Link { f.to_ne_bytes().to_vec() } else { Vec::new() };
            let body = [head, body.clone()].concat();
            let unique = bench.ask(opcode, d, &body);
            let (mut txn, _, message) = bench.sent();
            expect_made(opcode, &Connect::parse(&message).unwrap());
            if !told {
                // As a QNX node answers.
                bench.reply(txn, 0, b"");
                let (again, _, message) = bench.sent();
                let look_up = Connect::parse(&message).unwrap();
                assert_eq!((look_up.subtype, look_up.path), (Subtype::CombineClose, &b"d/new"[..]));
                txn = again;
            }
            bench.reply(txn, 0, &stat.emit(stat::REPLY_LEN));
            let entry = bench.entry(unique);
            assert_eq!(entry.attr.mode, stat.mode);
            assert_eq!(entry.nodeid == f, opcode == Opcode::Link, "one file, one number");
        }
    }
}

fn expect_made(opcode: Opcode, connect: &Connect<'_>) {
    assert_eq!((connect.path, connect.guard()), (&b"d/new"[..], Some(guard((8, 1), 77))));
    match (opcode, connect.subtype, connect.extra) {
        (Opcode::Mkdir, Subtype::Mknod, Extra::None) => {
            assert_eq!(connect.mode, libc::S_IFDIR | 0o700);
        }
        (Opcode::Symlink, Subtype::Link, Extra::Symlink(target)) => assert_eq!(target, b"../x"),
        (Opcode::Link, Subtype::CombineClose, Extra::Messages(messages)) => {
            let expected = Request::Link { guard: guard((8, 1), 77), old: b"d/f" };
            let meant = filesys::Identity::of(&regular(10, 5));
            assert_eq!(filesys::by_path(messages), Ok(Some((expected, Some(meant)))));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn fifos_are_made_and_devices_are_not() {
    let (mut bench, d) = in_directory();
    let mknod = |mode| MknodIn { mode, ..MknodIn::default() };
    let unique = bench.ask(Opcode::Mknod, d, &named(&mknod(libc::S_IFIFO | 0o600), b"fifo\0"));
    let (txn, _, message) = bench.sent();
    let connect = Connect::parse(&message).unwrap();
    assert_eq!((connect.subtype, connect.mode), (Subtype::Mknod, libc::S_IFIFO | 0o600));
    bench.reply(txn, 0, b"");
    let entry = bench.entry(unique);
    assert_eq!(entry.attr.mode, libc::S_IFIFO | 0o600, "the kernel insists");
    assert_eq!((entry.entry_valid, entry.attr_valid), (0, 0), "with the next look-up it is what it is here");
    bench.forget(entry.nodeid, 1);
    for kind in [libc::S_IFCHR, libc::S_IFBLK, libc::S_IFSOCK] {
        let unique = bench.ask(Opcode::Mknod, d, &named(&mknod(kind | 0o600), b"x\0"));
        assert_eq!(bench.answer(), ended(unique, libc::EPERM));
    }
}

#[test]
fn links_that_are_made_lose_what_reading_puts_in_front() {
    let (mut bench, d) = in_directory();
    for (target, kept) in [("/net/joseph/etc/x", "/etc/x"), ("/net/karl/x", "/net/karl/x"), ("/x", "/x")] {
        bench.ask(Opcode::Symlink, d, format!("l\0{target}\0").as_bytes());
        let (txn, _, message) = bench.sent();
        assert_eq!(Connect::parse(&message).unwrap().extra, Extra::Symlink(kept.as_bytes()));
        bench.error(txn, libc::EEXIST);
        bench.answer();
    }
}

#[test]
fn a_removed_file_lives_on_for_who_has_it_open() {
    let (mut bench, d) = in_directory();
    let (f, coid, open) = created(&mut bench, d, b"f", libc::O_RDWR, &regular(10, 3));
    let unique = bench.ask(Opcode::Unlink, d, b"f\0");
    let (txn, _, message) = bench.sent();
    let connect = Connect::parse(&message).unwrap();
    assert_eq!((connect.subtype, connect.path, connect.eflag), (Subtype::Unlink, &b"d/f"[..], 0));
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer(), ended(unique, 0));

    let unique = bench.ask(Opcode::Getattr, f, GetattrIn::default().as_bytes());
    let (txn, on, message) = bench.sent();
    assert_eq!((on, first(&message)), (coid, Io::Stat), "its attributes come from the open file");
    bench.reply(txn, 0, &Stat { nlink: 0, ..regular(10, 3) }.emit(stat::REPLY_LEN));
    let answer = bench.answer();
    let attr = AttrOut::read_from_bytes(&answer.body).unwrap();
    assert_eq!((answer.unique, attr.attr.nlink, attr.attr_valid), (unique, 0, 0));
    bench.read(open.fh, 3);
    assert_eq!(bench.sent().1, coid);

    // As `/proc/self/fd` does.
    let args = OpenIn { flags: libc::O_RDONLY.cast_unsigned(), open_flags: 0 };
    let unique = bench.ask(Opcode::Open, f, args.as_bytes());
    let again = OpenOut::read_from_bytes(&bench.answer_to(unique).body).unwrap();
    bench.read(again.fh, 3);
    assert_eq!(bench.sent().1, coid);
    bench.release(again.fh);
    assert!(bench.heard().is_empty(), "it is still open");
    bench.uid = 2000;
    let unique = bench.ask(Opcode::Open, f, args.as_bytes());
    assert_eq!(bench.answer_to(unique).error, libc::ESTALE, "not for another user");

    bench.release(open.fh);
    bench.answers();
    assert!(bench.sends().iter().any(|(_, on, message)| *on == coid && is_close(message)));
    let unique = bench.ask(Opcode::Getattr, f, GetattrIn::default().as_bytes());
    assert_eq!(bench.answer(), ended(unique, libc::ESTALE), "now nothing is left of it");
}

#[test]
fn paths_follow_a_renamed_directory() {
    let (mut bench, d) = in_directory();
    let f = bench.file(d, "f", &regular(10, 3)).nodeid;
    let node = bench.engine.inodes.get(d).unwrap().node();
    let args = Rename2In { newdir: node, flags: 0, padding: 0 };
    let unique = bench.ask(Opcode::Rename2, node, &named(&args, b"d\0e\0"));
    let (txn, _, message) = bench.sent();
    let connect = Connect::parse(&message).unwrap();
    assert_eq!(
        (connect.subtype, connect.path),
        (Subtype::Rename, &b"e"[..]),
        "nothing but QNX's own is needed"
    );
    assert_eq!(connect.extra, Extra::Rename(b"d"));
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer(), ended(unique, 0));
    bench.ask(Opcode::Getattr, f, GetattrIn::default().as_bytes());
    let (_, _, message) = bench.sent();
    assert_eq!(Connect::parse(&message).unwrap().path, b"e/f");
}

#[test]
fn renames_that_qnx_cannot_say_are_said_in_our_words() {
    let (mut bench, d) = in_directory();
    let e = bench.file(d, "e", &Stat { ino: 78, ..directory(0o755) }).nodeid;
    let ours = |message: &[u8], flags| {
        let connect = Connect::parse(message).unwrap();
        let Extra::Messages(messages) = connect.extra else { panic!("{connect:?}") };
        let expected = Request::Rename { flags, guard: guard((8, 1), 77), old: b"d/f" };
        assert_eq!(filesys::by_path(messages), Ok(Some((expected, None))));
        assert_eq!((connect.path, connect.guard()), (&b"d/e/g"[..], Some(guard((8, 1), 78))));
    };
    let rename = |flags| Rename2In { newdir: e, flags, padding: 0 };
    let unique = bench.ask(Opcode::Rename2, d, &named(&rename(0), b"f\0g\0"));
    let (txn, _, message) = bench.sent();
    ours(&message, 0);
    bench.error(txn, libc::ENOSYS);
    let (txn, _, message) = bench.sent();
    assert_eq!(Connect::parse(&message).unwrap().subtype, Subtype::Rename, "a QNX node is told in its words");
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer(), ended(unique, 0));

    let unique = bench.ask(Opcode::Rename2, d, &named(&rename(libc::RENAME_NOREPLACE), b"f\0g\0"));
    let (txn, _, message) = bench.sent();
    ours(&message, libc::RENAME_NOREPLACE);
    bench.error(txn, libc::ENOSYS);
    assert_eq!(bench.answer(), ended(unique, libc::EINVAL), "which has none for this");
    let unique = bench.ask(Opcode::Rename2, d, &named(&rename(libc::RENAME_WHITEOUT), b"f\0g\0"));
    assert_eq!(bench.answer(), ended(unique, libc::EINVAL));
}

#[test]
fn nothing_moves_from_node_to_node() {
    let (mut bench, d) = in_directory();
    let f = bench.file(d, "f", &regular(10, 3)).nodeid;
    let other = bench.numbered_node("karl", 6);
    let rename = Rename2In { newdir: other, flags: 0, padding: 0 };
    let unique = bench.ask(Opcode::Rename2, d, &named(&rename, b"f\0g\0"));
    assert_eq!(bench.answer(), ended(unique, libc::EXDEV));
    let unique = bench.ask(Opcode::Link, other, &named(&LinkIn { oldnodeid: f }, b"g\0"));
    assert_eq!(bench.answer(), ended(unique, libc::EXDEV));
    assert_eq!(bench.heard(), []);
}

#[test]
fn a_node_copies_between_its_own_files() {
    let (mut bench, d) = in_directory();
    let (_, source, from) = created(&mut bench, d, b"f", libc::O_RDWR, &regular(10, 3));
    let (_, target, to) = created(&mut bench, d, b"g", libc::O_RDWR, &regular(11, 3));
    let copy = |fh_out| CopyFileRangeIn {
        fh_in: from.fh,
        off_in: 1,
        fh_out,
        off_out: 2,
        len: u64::MAX,
        ..CopyFileRangeIn::default()
    };
    let unique = bench.ask(Opcode::CopyFileRange, 0, copy(to.fh).as_bytes());
    let (txn, coid, message) = bench.sent();
    assert_eq!(coid, target);
    let Io::Msg { subtype, data, .. } = first(&message) else { panic!("{message:?}") };
    let Ok(Request::Copy { source: on, source_offset: 1, offset: 2, len }) = Request::parse(subtype, data)
    else {
        panic!("{data:?}")
    };
    assert_eq!(on, source);
    assert!(len <= 64 << 20, "it is through before the deadline");
    bench.reply(txn, 40, b"");
    assert_eq!(bench.answer().body, WriteOut { size: 40, padding: 0 }.as_bytes());

    bench.uid = 2000;
    let (_, _, other) = created(&mut bench, d, b"g", libc::O_RDWR, &regular(11, 3));
    let unique_other = bench.ask(Opcode::CopyFileRange, 0, copy(other.fh).as_bytes());
    assert!(unique_other > unique);
    assert_eq!(bench.answer(), ended(unique_other, libc::EXDEV), "the kernel reads and writes instead");
}

#[test]
fn attributes_change_in_one_message_that_ends_with_what_they_are() {
    let (mut bench, d) = in_directory();
    let f = bench.file(d, "f", &regular(10, 3)).nodeid;
    let args = SetattrIn {
        valid: FATTR_MODE | FATTR_GID | FATTR_SIZE,
        mode: 0o600,
        gid: 5,
        size: 9,
        ..SetattrIn::default()
    };
    let unique = bench.ask(Opcode::Setattr, f, args.as_bytes());
    let (txn, _, message) = bench.sent();
    let connect = Connect::parse(&message).unwrap();
    assert!(connect.is_nofollow() && connect.subtype == Subtype::CombineClose);
    let Extra::Messages(messages) = connect.extra else { panic!("{connect:?}") };
    let done: Vec<_> = chain(messages).skip(1).map(|io| io.unwrap().0).collect();
    assert_eq!(filesys::expected(messages), Some(filesys::Identity::of(&regular(10, 3))));
    let truncate = Io::Space { subtype: space::FREE, whence: 0, start: 9, len: 0 };
    let expected = [Io::Chown { gid: 5, uid: u32::MAX }, truncate, Io::Chmod { mode: 0o600 }, Io::Stat];
    assert_eq!(done, expected);
    bench.reply(txn, 0, &Stat { size: 9, gid: 5, ..regular(10, 0) }.emit(stat::REPLY_LEN));
    let answer = bench.answer();
    assert_eq!((answer.unique, AttrOut::read_from_bytes(&answer.body).unwrap().attr.size), (unique, 9));
}

#[test]
fn a_file_that_is_open_changes_through_the_callers_own_handle() {
    let (mut bench, d) = in_directory();
    let (f, coid, _) = created(&mut bench, d, b"f", libc::O_RDONLY, &regular(10, 3));
    let chmod = SetattrIn { valid: FATTR_MODE, mode: 0o600, ..SetattrIn::default() };
    bench.ask(Opcode::Setattr, f, chmod.as_bytes());
    let (_, on, message) = bench.sent();
    assert_eq!((on, first(&message)), (coid, Io::Chmod { mode: 0o600 }));
    bench.uid = 2000;
    bench.ask(Opcode::Setattr, f, chmod.as_bytes());
    let (_, on, message) = bench.sent();
    assert!(on != coid && Connect::parse(&message).is_ok(), "another user's would lend his rights");
}

#[test]
fn a_change_that_may_have_been_done_is_not_sent_again() {
    let (mut bench, d) = in_directory();
    let (_, _, open) = created(&mut bench, d, b"open", libc::O_RDWR, &regular(9, 0));
    let mkdir = named(&MkdirIn { mode: 0o777, umask: 0 }, b"new\0");
    let rename = named(&Rename2In { newdir: d, flags: 0, padding: 0 }, b"a\0b\0");
    let cases: [(Opcode, Vec<u8>); 5] = [
        (Opcode::Mkdir, mkdir),
        (Opcode::Unlink, b"f\0".to_vec()),
        (Opcode::Rename2, rename),
        (Opcode::Create, named(&CreateIn { flags: 1, mode: 0o100_644, ..CreateIn::default() }, b"f\0")),
        (Opcode::Write, named(&WriteIn { fh: open.fh, size: 1, ..WriteIn::default() }, b"x")),
    ];
    for (opcode, body) in cases {
        let unique = bench.ask(opcode, d, &body);
        let (txn, ..) = bench.sent();
        bench.lose(txn);
        assert_eq!(bench.answer(), ended(unique, libc::EHOSTDOWN), "{opcode:?}");
        assert!(bench.sends().is_empty(), "{opcode:?}");
        bench.pass(Duration::from_secs(5));
    }
}

#[test]
fn a_change_that_was_not_sent_goes_out_on_a_new_connection() {
    let (mut bench, d) = in_directory();
    // Another caller has no connection yet.
    bench.uid = 2000;
    bench.grants = false;
    let unique = bench.ask(Opcode::Mkdir, d, &named(&MkdirIn { mode: 0o777, umask: 0 }, b"new\0"));
    let heard = bench.heard();
    let [Heard::Connect { conn, .. }] = heard[..] else { panic!("{heard:?}") };
    bench.grants = true;
    bench.say(&ToClient::ConnectFail { conn, errno: libc::EHOSTDOWN });
    let (txn, ..) = bench.sent();
    bench.reply(txn, 5, b"");
    let (txn, _, message) = bench.sent();
    assert_eq!(Connect::parse(&message).unwrap().subtype, Subtype::Mknod);
    bench.reply(txn, 0, &directory(0o777).emit(stat::REPLY_LEN));
    assert_eq!(bench.answer_to(unique).error, 0);
}

#[test]
fn what_a_node_cannot_do_is_not_taken_for_all_nodes() {
    let (mut bench, d) = in_directory();
    let (f, _, open) = created(&mut bench, d, b"f", libc::O_RDWR, &regular(10, 3));
    let seek = LseekIn { fh: open.fh, whence: libc::SEEK_DATA.cast_unsigned(), ..LseekIn::default() };
    let cases: [(Opcode, Vec<u8>, i32); 4] = [
        (Opcode::Lseek, seek.as_bytes().to_vec(), libc::EINVAL),
        (Opcode::Access, vec![4, 0, 0, 0, 0, 0, 0, 0], 0),
        (Opcode::Fallocate, named(&[open.fh, 0, 9, 0], b""), libc::EOPNOTSUPP),
        (Opcode::Statfs, vec![], libc::EOPNOTSUPP),
    ];
    for (opcode, body, errno) in cases {
        let unique = bench.ask(opcode, f, &body);
        let (txn, ..) = bench.sent();
        bench.error(txn, libc::ENOSYS);
        assert_eq!(bench.answer(), ended(unique, errno), "{opcode:?}");
    }
}

#[test]
fn an_open_that_would_hit_another_file_is_stale() {
    let (mut bench, d) = in_directory();
    let f = bench.file(d, "f", &regular(10, 3)).nodeid;
    let args = OpenIn { flags: (libc::O_WRONLY | libc::O_TRUNC).cast_unsigned(), open_flags: 0 };
    let unique = bench.ask(Opcode::Open, f, args.as_bytes());
    let (txn, _, message) = bench.sent();
    let connect = Connect::parse(&message).unwrap();
    assert!(connect.is_nofollow() && connect.guard() == Some(guard((8, 1), 77)));
    bench.error(txn, libc::ESTALE);
    assert_eq!(bench.answer(), ended(unique, libc::ESTALE));
}
