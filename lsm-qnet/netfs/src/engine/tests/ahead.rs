//! What comes along with an open, and how long it may be used; what is remembered at all.

use std::time::Duration;

use qnet_iomsg::{
    Connect, Dirent, DirentWriter, Extra, Io, Stat, Timestamp, chain,
    message::{XTYPE_DIR_ATTRIBUTES, XTYPE_DIR_EXTRA_HINT},
    stat,
};
use zerocopy::{FromBytes, IntoBytes};

use super::bench::{Answer, Bench, directory, ended, regular};
use crate::{
    engine::{Cache, names::LIFETIME},
    fuse::{
        Opcode, ROOT_ID,
        abi::{self, EntryOut, FOPEN_DIRECT_IO, GetxattrIn, OpenIn, OpenOut, ReadIn},
    },
};

const CONTENT: &[u8] = b"0123456789";

/// A small file, looked up.
fn small_file() -> (Bench, u64) {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    (bench, file)
}

/// Opens the small file, which brings its content along; its handle.
fn open_with_content(bench: &mut Bench, file: u64) -> u64 {
    let unique = bench.open(file);
    let (txn, _, message) = bench.sent();
    let connect = Connect::parse(&message).unwrap();
    let Extra::Messages(messages) = connect.extra else { panic!("{connect:?}") };
    let asked: Vec<_> = chain(messages).map(|io| io.unwrap().0).collect();
    assert_eq!(asked, [Io::Stat, Io::Read { nbytes: 10, xtype: 0, offset: Some(0) }]);
    bench.reply(txn, 10, &[&regular(10, 10).emit(stat::REPLY_LEN)[..], CONTENT].concat());
    let answer = bench.answer_to(unique);
    OpenOut::read_from_bytes(&answer.body).unwrap().fh
}

#[test]
fn a_small_file_comes_along_with_its_open() {
    let (mut bench, file) = small_file();
    let fh = open_with_content(&mut bench, file);
    let unique = bench.read(fh, 4);
    assert_eq!(bench.answer(), Answer { unique, error: 0, body: CONTENT[..4].to_vec() });
    let args = ReadIn { fh, offset: 4, size: 4096, ..ReadIn::default() };
    let unique = bench.ask(Opcode::Read, 0, args.as_bytes());
    assert_eq!(bench.answer(), Answer { unique, error: 0, body: CONTENT[4..].to_vec() });
    assert_eq!(bench.heard(), []);
    bench.read(fh, 4);
    assert_eq!(bench.sends().len(), 1, "it is given out once");
}

#[test]
fn a_read_that_ends_early_is_answered_after_those_before_it() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 1 << 20)).nodeid;
    let (_, fh) = bench.opened(file, &regular(10, 1 << 20));
    let at = |bench: &mut Bench, offset| {
        let args = ReadIn { fh, offset, size: 4096, ..ReadIn::default() };
        let unique = bench.ask(Opcode::Read, 0, args.as_bytes());
        (unique, bench.sent().0)
    };
    let [first, second, third] = [0, 4096, 65536].map(|offset| at(&mut bench, offset));
    // The file has been cut to 4,100 bytes meanwhile.
    bench.reply(third.1, 0, b"");
    assert_eq!(bench.answers(), []);
    bench.reply(second.1, 4, b"1234");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answers(), []);
    bench.reply(first.1, 4096, &[7; 4096]);
    let order: Vec<_> = bench.answers().iter().map(|answer| (answer.unique, answer.body.len())).collect();
    assert_eq!(order, [(first.0, 4096), (second.0, 4), (third.0, 0)]);

    // Who is interrupted holds up nobody.
    let [first, second] = [0, 65536].map(|offset| at(&mut bench, offset));
    bench.reply(second.1, 0, b"");
    bench.error(first.1, libc::EIO);
    let order: Vec<_> = bench.answers().iter().map(|answer| (answer.unique, answer.error)).collect();
    assert_eq!(order, [(first.0, libc::EIO), (second.0, 0)]);
}

#[test]
fn content_that_came_along_gets_old() {
    let (mut bench, file) = small_file();
    let fh = open_with_content(&mut bench, file);
    bench.pass(LIFETIME);
    bench.read(fh, 10);
    assert_eq!(bench.sends().len(), 1, "after a while");

    let (mut bench, file) = small_file();
    let fh = open_with_content(&mut bench, file);
    let node = bench.engine.inodes.get(file).unwrap().node();
    bench.ask(Opcode::Unlink, node, b"other\0");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, b"");
    bench.answers();
    bench.read(fh, 10);
    assert_eq!(bench.sends().len(), 1, "when anything was changed from here");
}

#[test]
fn content_that_came_along_is_not_given_after_an_open_that_found_another() {
    let (mut bench, file) = small_file();
    let first = open_with_content(&mut bench, file);
    // another node writes as many bytes, and somebody opens the file anew here
    let newer = Stat { mtime: Timestamp { seconds: 9, nanoseconds: 9 }, ..regular(10, 10) };
    let unique = bench.open(file);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 10, &[&newer.emit(stat::REPLY_LEN)[..], b"9876543210"].concat());
    let second = OpenOut::read_from_bytes(&bench.answer_to(unique).body).unwrap().fh;
    let unique = bench.read(first, 10);
    assert_eq!(bench.answers(), [], "what came along is not what the page cache may have");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 10, b"9876543210");
    assert_eq!(bench.answer().unique, unique);
    let unique = bench.read(second, 10);
    assert_eq!(bench.answer(), Answer { unique, error: 0, body: b"9876543210".to_vec() });
}

#[test]
fn only_readers_of_whole_small_files_get_them_along() {
    let (mut bench, file) = small_file();
    for flags in [libc::O_RDWR, libc::O_DIRECT] {
        let args = OpenIn { flags: flags.cast_unsigned(), open_flags: 0 };
        bench.ask(Opcode::Open, file, args.as_bytes());
        let (_, _, message) = bench.sent();
        let Extra::Messages(messages) = Connect::parse(&message).unwrap().extra else { panic!() };
        assert_eq!(chain(messages).count(), 1, "{flags:o}");
    }
    // It has grown since the look-up: a part of it is of no use.
    let unique = bench.open(file);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 10, &[&regular(10, 11).emit(stat::REPLY_LEN)[..], CONTENT].concat());
    let fh = OpenOut::read_from_bytes(&bench.answer_to(unique).body).unwrap().fh;
    bench.read(fh, 11);
    assert_eq!(bench.sends().len(), 1);
}

/// The reply to an open of a directory with two entries.
fn listing(room: usize) -> (i64, Vec<u8>) {
    let mut writer = DirentWriter::new(room, true);
    for (next, name, stat) in [
        (1, &b"."[..], Some(directory(0o755))),
        (2, b"one", Some(Stat { flags: stat::FLAG_BARE, ..regular(21, 5) })),
        (3, b"two", None),
    ] {
        let file_type = Some(libc::S_IFREG);
        let ino = stat.map_or(22, |stat: Stat| stat.ino);
        assert!(writer.push(&Dirent { ino, next, name, file_type, stat }));
    }
    let entries = writer.finish();
    let stat = Stat { ino: 77, ..directory(0o755) }.emit(stat::REPLY_LEN);
    (entries.len() as i64, [stat, entries].concat())
}

/// An open directory that everybody may search, with its entries.
fn open_directory() -> (Bench, u64) {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let d = bench.file(node, "d", &Stat { ino: 77, ..directory(0o755) }).nodeid;
    let unique = bench.ask(Opcode::Opendir, d, OpenIn::default().as_bytes());
    let (txn, _, message) = bench.sent();
    let Extra::Messages(messages) = Connect::parse(&message).unwrap().extra else { panic!() };
    let asked: Vec<_> = chain(messages).map(|io| io.unwrap().0).collect();
    let [Io::Stat, Io::Read { xtype, offset: Some(0), .. }] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(xtype, XTYPE_DIR_EXTRA_HINT | XTYPE_DIR_ATTRIBUTES);
    let (status, data) = listing(4096);
    bench.reply(txn, status, &data);
    let fh = OpenOut::read_from_bytes(&bench.answer_to(unique).body).unwrap().fh;
    (bench, fh)
}

fn readdir(bench: &mut Bench, opcode: Opcode, fh: u64, offset: u64) -> u64 {
    let args = ReadIn { fh, offset, size: 4096, ..ReadIn::default() };
    bench.ask(opcode, 0, args.as_bytes())
}

/// nodeid and name of each entry of a READDIRPLUS.
fn plus_entries(mut body: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    while let Ok((entry, rest)) = EntryOut::read_from_prefix(body) {
        let (dirent, rest) = abi::Dirent::read_from_prefix(rest).unwrap();
        let len = dirent.namelen as usize;
        found.push((entry.nodeid, rest[..len].to_vec()));
        body = &rest[len.next_multiple_of(8)..];
    }
    found
}

#[test]
fn a_directory_costs_one_round_trip() {
    let (mut bench, fh) = open_directory();
    let unique = readdir(&mut bench, Opcode::Readdirplus, fh, 0);
    let answer = bench.answer();
    assert_eq!((answer.unique, answer.error), (unique, 0));
    let entries = plus_entries(&answer.body);
    let names: Vec<_> = entries.iter().map(|(_, name)| name.as_slice()).collect();
    assert_eq!(names, [&b"."[..], b"one", b"two"]);
    assert_eq!((entries[0].0, entries[2].0), (0, 0), "nothing is said of itself and of what nobody told");
    let one = bench.engine.inodes.get(entries[1].0).unwrap();
    assert_eq!(one.name(), b"one");
    let unique = readdir(&mut bench, Opcode::Readdirplus, fh, 3);
    assert_eq!(bench.answer(), ended(unique, 0), "the room was not used up, so there are no more");
    assert_eq!(bench.heard(), []);
    bench.forget(entries[1].0, 1);
    assert!(bench.engine.inodes.get(entries[1].0).is_none(), "an entry counts as a look-up");
}

#[test]
fn an_entry_does_not_take_back_what_the_kernel_was_told_since() {
    let (mut bench, fh) = open_directory();
    let node = bench.node("joseph");
    let link = bench.file(node, "link", &regular(21, 200));
    assert_eq!(link.attr.size, 200, "the entry of the same file says 5");
    readdir(&mut bench, Opcode::Readdirplus, fh, 0);
    let entries = plus_entries(&bench.answer().body);
    assert_eq!((entries[1].0, &entries[1].1[..]), (0, &b"one"[..]), "its name is given alone");
    assert_eq!(bench.engine.inodes.get(link.nodeid).unwrap().told.unwrap().size, 200);
    // what is read now is newer
    bench.now += LIFETIME;
    readdir(&mut bench, Opcode::Readdirplus, fh, 0);
    let (txn, ..) = bench.sent();
    let (status, data) = listing(1000);
    bench.reply(txn, status, &data[stat::REPLY_LEN..]);
    assert_eq!(plus_entries(&bench.answer().body)[1].0, link.nodeid);
}

#[test]
fn attributes_that_may_be_old_are_not_given() {
    for old in [true, false] {
        let (mut bench, fh) = open_directory();
        if old {
            bench.now += LIFETIME;
        } else {
            bench.engine.changes += 1;
        }
        // A pass that begins anew asks anew.
        readdir(&mut bench, Opcode::Readdirplus, fh, 0);
        let (txn, ..) = bench.sent();
        let (status, data) = listing(1000);
        bench.reply(txn, status, &data[stat::REPLY_LEN..]);
        assert_ne!(plus_entries(&bench.answer().body)[1].0, 0);
    }
    let (mut bench, fh) = open_directory();
    let args = ReadIn { fh, size: 200, ..ReadIn::default() };
    bench.ask(Opcode::Readdirplus, 0, args.as_bytes());
    assert_eq!(plus_entries(&bench.answer().body).len(), 1, "only `.` fits");
    bench.engine.changes += 1;
    readdir(&mut bench, Opcode::Readdirplus, fh, 1);
    let entries = plus_entries(&bench.answer().body);
    assert_eq!(entries[0], (0, b"one".to_vec()), "the kernel looks it up itself");
    assert_eq!(bench.heard(), []);
}

#[test]
fn attributes_of_a_listing_are_given_for_what_is_left_of_their_time() {
    let (mut bench, fh) = open_directory();
    bench.now += LIFETIME / 4;
    readdir(&mut bench, Opcode::Readdirplus, fh, 0);
    let body = bench.answer().body;
    let one = (size_of::<EntryOut>() + size_of::<abi::Dirent>() + 1).next_multiple_of(8);
    let entry = EntryOut::read_from_prefix(&body[one..]).unwrap().0;
    assert_eq!(Duration::new(entry.entry_valid, entry.entry_valid_nsec), LIFETIME * 3 / 4);
    assert_eq!(Duration::new(entry.attr_valid, entry.attr_valid_nsec), LIFETIME * 3 / 4);
}

#[test]
fn a_listing_says_of_which_files_nobody_need_ask_for_extended_attributes() {
    let ask = |bench: &mut Bench, nodeid, name: &[u8]| {
        let args = [GetxattrIn { size: 100, padding: 0 }.as_bytes(), name, b"\0"].concat();
        bench.ask(Opcode::Getxattr, nodeid, &args)
    };
    let list = |bench: &mut Bench, nodeid| {
        bench.ask(Opcode::Listxattr, nodeid, GetxattrIn { size: 100, padding: 0 }.as_bytes())
    };
    let listed = || {
        let (mut bench, fh) = open_directory();
        readdir(&mut bench, Opcode::Readdirplus, fh, 0);
        let nodeid = plus_entries(&bench.answer().body)[1].0;
        (bench, nodeid)
    };
    let (mut bench, nodeid) = listed();
    for name in [&b"security.selinux"[..], b"system.posix_acl_access", b"system.posix_acl_default"] {
        let unique = ask(&mut bench, nodeid, name);
        assert_eq!(bench.answer(), ended(unique, libc::ENODATA));
    }
    let unique = list(&mut bench, nodeid);
    assert_eq!(bench.answer(), ended(unique, 0));
    assert_eq!(bench.heard(), []);

    // What is in no list is asked for, and who may see more asks himself.
    ask(&mut bench, nodeid, b"user.qnet.type");
    assert_eq!(bench.sends().len(), 1);
    bench.uid += 1;
    list(&mut bench, nodeid);
    assert_eq!(bench.sends().len(), 1);

    for gets_old in [|bench: &mut Bench| bench.now += LIFETIME, |bench: &mut Bench| bench.engine.changes += 1]
    {
        let (mut bench, nodeid) = listed();
        gets_old(&mut bench);
        ask(&mut bench, nodeid, b"system.posix_acl_access");
        assert_eq!(bench.sends().len(), 1);
    }
}

#[test]
fn with_cache_none_everything_is_asked_of_the_node() {
    let mut bench = Bench::new();
    bench.engine.config.cache = Cache::Nothing;
    let node = bench.node("joseph");
    for _ in 0..2 {
        let entry = bench.file(node, "f", &regular(10, 10));
        assert_eq!((entry.entry_valid, entry.attr_valid), (0, 0));
    }
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let unique = bench.open(file);
    let (txn, _, message) = bench.sent();
    let Extra::Messages(messages) = Connect::parse(&message).unwrap().extra else { panic!() };
    assert_eq!(chain(messages).count(), 1, "no content comes along");
    bench.reply(txn, 0, &regular(10, 10).emit(stat::REPLY_LEN));
    let open = OpenOut::read_from_bytes(&bench.answer_to(unique).body).unwrap();
    assert_ne!(open.open_flags & FOPEN_DIRECT_IO, 0);
    let unique = bench.read(open.fh, 20);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 10, CONTENT);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer().unique, unique, "whether it has grown meanwhile the node knows");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.engine.inodes.child((ROOT_ID, b"joseph")), Some(node));
}

#[test]
fn what_others_have_open_is_not_cached() {
    let (mut bench, file) = small_file();
    let shared = Stat { flags: stat::FLAG_SHARED, ..regular(10, 10) };
    let unique = bench.open(file);
    let (txn, coid, _) = bench.sent();
    bench.reply(txn, 10, &[&shared.emit(stat::REPLY_LEN)[..], CONTENT].concat());
    let open = OpenOut::read_from_bytes(&bench.answer_to(unique).body).unwrap();
    assert_ne!(open.open_flags & FOPEN_DIRECT_IO, 0);
    bench.read(open.fh, 4);
    let (_, asked, _) = bench.sent();
    assert_eq!(asked, coid, "what came along is old when the others have written");
}

/// Opens a file of ten bytes: the handle, and the `FOPEN_*` flags.
#[track_caller]
fn open_for(bench: &mut Bench, file: u64, flags: i32) -> (u64, u32) {
    let args = OpenIn { flags: flags.cast_unsigned(), ..OpenIn::default() };
    let unique = bench.ask(Opcode::Open, file, args.as_bytes());
    let (txn, ..) = bench.sent();
    bench.reply(txn, 10, &[&regular(10, 10).emit(stat::REPLY_LEN)[..], CONTENT].concat());
    let open = OpenOut::read_from_bytes(&bench.answer_to(unique).body).unwrap();
    (open.fh, open.open_flags)
}

/// Closes a file, of which the node hears.
#[track_caller]
fn close(bench: &mut Bench, fh: u64) {
    let unique = bench.release(fh);
    assert_eq!(bench.answer_to(unique).error, 0);
    bench.sent();
}

#[test]
fn a_file_that_is_written_and_not_read_is_written_past_the_cache_and_opened_so_meanwhile() {
    let (mut bench, file) = small_file();
    let (writer, flags) = open_for(&mut bench, file, libc::O_WRONLY);
    assert_eq!(flags, FOPEN_DIRECT_IO, "and one write at a time");
    let (reader, flags) = open_for(&mut bench, file, libc::O_RDONLY);
    assert_ne!(flags & FOPEN_DIRECT_IO, 0);
    bench.read(reader, 4);
    assert_eq!(bench.sends().len(), 1, "what came along with the open may be old");
    let (both, flags) = open_for(&mut bench, file, libc::O_RDWR);
    assert_ne!(flags & FOPEN_DIRECT_IO, 0);
    close(&mut bench, writer);
    let (late, flags) = open_for(&mut bench, file, libc::O_RDONLY);
    assert_ne!(flags & FOPEN_DIRECT_IO, 0, "one who writes past the cache is left");
    [reader, both, late].into_iter().for_each(|fh| close(&mut bench, fh));
    assert_eq!(open_for(&mut bench, file, libc::O_RDONLY).1 & FOPEN_DIRECT_IO, 0);
}

#[test]
fn going_past_the_cache_because_of_a_writer_is_not_handed_on() {
    let (mut bench, file) = small_file();
    let (writer, _) = open_for(&mut bench, file, libc::O_WRONLY);
    let (beside, flags) = open_for(&mut bench, file, libc::O_RDWR);
    assert_eq!(flags, FOPEN_DIRECT_IO, "and one write at a time");
    close(&mut bench, writer);
    let (later, flags) = open_for(&mut bench, file, libc::O_RDWR);
    assert_ne!(flags & FOPEN_DIRECT_IO, 0, "the one beside him still writes past the cache");
    close(&mut bench, beside);
    let (cached, flags) = open_for(&mut bench, file, libc::O_RDWR);
    assert_eq!(flags & FOPEN_DIRECT_IO, 0, "this one has met no file that is only written");
    let (writer, flags) = open_for(&mut bench, file, libc::O_WRONLY);
    assert_eq!(flags & FOPEN_DIRECT_IO, 0, "there is a page cache");
    [later, cached, writer].into_iter().for_each(|fh| close(&mut bench, fh));
}

#[test]
fn who_only_reads_past_the_cache_keeps_nobody_from_it() {
    let (mut bench, file) = small_file();
    let (writer, _) = open_for(&mut bench, file, libc::O_WRONLY);
    let (reader, flags) = open_for(&mut bench, file, libc::O_RDONLY);
    assert_ne!(flags & FOPEN_DIRECT_IO, 0);
    close(&mut bench, writer);
    let (cached, flags) = open_for(&mut bench, file, libc::O_RDWR);
    assert_eq!(flags & FOPEN_DIRECT_IO, 0);
    [reader, cached].into_iter().for_each(|fh| close(&mut bench, fh));
}

#[test]
fn a_writer_of_a_file_that_is_in_the_cache_writes_through_it() {
    let (mut bench, file) = small_file();
    let (reader, flags) = open_for(&mut bench, file, libc::O_RDONLY);
    assert_eq!(flags & FOPEN_DIRECT_IO, 0);
    let (writer, flags) = open_for(&mut bench, file, libc::O_WRONLY);
    assert_eq!(flags & FOPEN_DIRECT_IO, 0);
    close(&mut bench, reader);
    let (second, flags) = open_for(&mut bench, file, libc::O_WRONLY);
    assert_eq!(flags & FOPEN_DIRECT_IO, 0, "the first writer may have left pages there");
    [writer, second].into_iter().for_each(|fh| close(&mut bench, fh));
    assert_eq!(open_for(&mut bench, file, libc::O_WRONLY).1, FOPEN_DIRECT_IO);
}
