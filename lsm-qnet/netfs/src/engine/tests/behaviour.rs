//! What happens to a request, from every side it can end.

use std::time::Duration;

use qnet_iomsg::{Connect, Io, Stat, Subtype, chain, stat};
use qnet_ipc::ToClient;
use zerocopy::{FromBytes, IntoBytes};

use super::bench::{ALIVE, Answer, Bench, DEADLINE, DIES, Heard, directory, ended, is_close, regular};
use crate::{
    engine::{health::DEAD_FOR, interrupt::LOOK_AGAIN},
    fuse::{
        INIT_FLAGS, Opcode, ROOT_ID,
        abi::{AttrOut, EntryOut, InitIn, InitOut},
    },
    link,
};

#[test]
fn a_look_up_resolves_connects_and_asks() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let unique = bench.lookup(node, "etc");
    let heard = bench.heard();
    let [Heard::Connect { nd: 5, uid: Some(1000), conn }, Heard::Send { txn, conn: on, message, .. }] =
        &heard[..]
    else {
        panic!("{heard:?}")
    };
    assert_eq!(conn, on);
    let connect = Connect::parse(message).unwrap();
    assert_eq!((connect.subtype, connect.path), (Subtype::CombineClose, &b"etc"[..]));
    assert!(connect.is_nofollow());
    bench.reply(*txn, 0, &directory(0o755).emit(stat::REPLY_LEN));
    let entry = bench.entry(unique);
    assert_eq!(entry.attr.mode, libc::S_IFDIR | 0o755);
    assert_eq!(entry.entry_valid, 0, "who may search the node's root is not known yet");
}

#[test]
fn forgetting_all_look_ups_leaves_the_root_only() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let etc = bench.file(node, "etc", &directory(0o755)).nodeid;
    let first = bench.file(etc, "f", &regular(10, 1)).nodeid;
    assert_eq!(bench.file(etc, "f", &regular(10, 1)).nodeid, first);
    let second = bench.file(etc, "f", &regular(11, 1)).nodeid;
    assert_ne!(first, second, "another file has another number");
    assert_eq!(bench.engine.inodes.len(), 5);
    for (nodeid, count) in [(node, 1), (etc, 1), (first, 1), (second, 1)] {
        bench.forget(nodeid, count);
    }
    assert_eq!(bench.engine.inodes.len(), 2, "one reference is left, to a file that has lost its name");
    bench.forget(first, 1);
    assert_eq!(bench.engine.inodes.len(), 1);
    assert!(bench.answers().is_empty(), "forgetting has no answer");
}

#[test]
fn names_are_cached_only_below_directories_that_everybody_searches() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    assert_eq!(bench.file(node, "public", &directory(0o711)).entry_valid, 0);
    let public = bench.file(node, "public", &directory(0o711));
    assert_eq!((public.entry_valid, public.attr_valid), (1, 1), "the root's permissions are known now");
    let private = bench.file(public.nodeid, "private", &directory(0o750)).nodeid;
    let below = bench.file(private, "f", &regular(10, 1));
    assert_eq!((below.entry_valid, below.attr_valid), (0, 0));
    let deep = bench.file(private, "open", &directory(0o777)).nodeid;
    assert_eq!(bench.file(deep, "f", &regular(11, 1)).entry_valid, 0, "one closed door on the way is enough");

    bench.pass(Duration::from_secs(60));
    assert_eq!(
        bench.file(public.nodeid, "f", &regular(12, 1)).entry_valid,
        0,
        "permissions are asked for again"
    );
    assert_eq!(bench.file(public.nodeid, "f", &regular(12, 1)).entry_valid, 1);
}

#[test]
fn absence_is_cached_under_the_same_rule() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let public = bench.file(node, "public", &directory(0o755)).nodeid;
    let private = bench.file(node, "private", &directory(0o700)).nodeid;
    let unique = bench.lookup(private, "none");
    let (txn, ..) = bench.sent();
    bench.error(txn, libc::ENOENT);
    assert_eq!(bench.answer(), ended(unique, libc::ENOENT));
    let unique = bench.lookup(public, "none");
    let (txn, ..) = bench.sent();
    bench.error(txn, libc::ENOENT);
    let entry = bench.entry(unique);
    assert_eq!((entry.nodeid, entry.entry_valid), (0, 1));
}

#[test]
fn an_interrupted_request_ends_once_and_the_node_is_told() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let unique = bench.lookup(node, "etc");
    let (txn, ..) = bench.sent();
    bench.interrupt(unique);
    assert_eq!(bench.answer(), ended(unique, libc::EINTR));
    assert_eq!(bench.heard(), [Heard::Unblock { txn }]);
    bench.interrupt(unique);
    bench.reply(txn, 0, &directory(0o755).emit(stat::REPLY_LEN));
    bench.interrupt(99);
    bench.pass(2 * DEADLINE);
    assert!(bench.answers().is_empty(), "nothing more is said about it");
    assert!(
        bench.engine.jobs.is_empty() && bench.engine.owners.is_empty() && bench.engine.deadlines.is_empty()
    );
}

#[test]
fn a_signal_that_ends_nobody_ends_no_request() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    bench.thread = ALIVE;
    let unique = bench.lookup(node, "etc");
    let (txn, ..) = bench.sent();
    bench.interrupt(unique);
    assert!(bench.answers().is_empty() && bench.heard().is_empty(), "stat(2) is not interrupted");
    bench.pass(LOOK_AGAIN);
    assert!(bench.answers().is_empty());
    bench.reply(txn, 0, &directory(0o755).emit(stat::REPLY_LEN));
    assert_eq!(bench.entry(unique).attr.mode, libc::S_IFDIR | 0o755);

    let unique = bench.lookup(node, "var");
    let (txn, ..) = bench.sends().pop().unwrap();
    bench.interrupt(unique);
    DIES.set(true);
    bench.pass(LOOK_AGAIN);
    DIES.set(false);
    assert_eq!(bench.answer(), ended(unique, libc::EINTR), "the kernel does not tell us again");
    assert_eq!(bench.heard(), [Heard::Unblock { txn }]);
}

#[test]
fn an_open_that_succeeds_after_its_caller_left_is_closed() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 100)).nodeid;
    let unique = bench.open(file);
    let (txn, coid, _) = bench.sent();
    bench.interrupt(unique);
    assert_eq!(bench.heard(), [Heard::Unblock { txn }]);
    bench.reply(txn, 0, &regular(10, 100).emit(stat::REPLY_LEN));
    let (_, closed, message) = bench.sent();
    assert_eq!(closed, coid);
    assert!(is_close(&message));
}

#[test]
fn silence_ends_with_the_deadline() {
    let mut bench = Bench::new();
    let unresolved = bench.lookup(ROOT_ID, "nowhere");
    bench.sent();
    bench.pass(DEADLINE - Duration::from_millis(1));
    assert!(bench.answers().is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.answer(), ended(unresolved, libc::EHOSTUNREACH));

    let node = bench.node("joseph");
    let unanswered = bench.lookup(node, "etc");
    bench.heard();
    assert!(bench.engine.poll_timeout() <= Some(bench.now + DEADLINE));
    bench.pass(DEADLINE);
    assert_eq!(bench.answer(), ended(unanswered, libc::EHOSTDOWN));
}

#[test]
fn only_reads_of_streams_wait_without_a_deadline() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let made_up = Stat { flags: stat::FLAG_STREAM, ..regular(10, 0) };
    let stream = bench.file(node, "stream", &made_up).nodeid;
    let (_, fh) = bench.opened(stream, &made_up);
    let direct = bench.read(fh, 100);
    bench.sent();
    bench.pass(10 * DEADLINE);
    assert!(bench.answers().is_empty());
    bench.interrupt(direct);
    assert_eq!(bench.answer(), ended(direct, libc::EINTR));
    bench.heard();

    let sized = bench.file(node, "sized", &regular(11, 100)).nodeid;
    let (_, fh) = bench.opened(sized, &regular(11, 100));
    let cached = bench.read(fh, 100);
    bench.pass(DEADLINE);
    assert_eq!(bench.answer(), ended(cached, libc::EHOSTDOWN));
}

#[test]
fn a_lost_connection_is_made_again_once_for_look_ups() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let unique = bench.lookup(node, "etc");
    let (txn, ..) = bench.sent();
    bench.lose(txn);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 6, b"");
    let heard = bench.heard();
    let [Heard::Connect { nd: 6, .. }, Heard::Send { txn, .. }] = heard[..] else {
        panic!("its number is asked for again, and a new connection made: {heard:?}")
    };
    bench.lose(txn);
    assert_eq!(bench.answer(), ended(unique, libc::EHOSTDOWN));
    assert!(bench.sends().is_empty(), "there is no third attempt");
}

#[test]
fn an_errno_of_a_nodes_disk_is_no_lost_connection() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let (_, fh) = bench.opened(file, &regular(10, 10));
    for errno in [libc::ENOTCONN, libc::EHOSTDOWN, libc::ECONNRESET, libc::ESRCH, libc::ETIMEDOUT] {
        let unique = bench.lookup(node, "mnt");
        let (txn, ..) = bench.sent();
        bench.error(txn, errno);
        assert_eq!(bench.answer(), ended(unique, errno));
        let unique = bench.read(fh, 1);
        let (txn, ..) = bench.sent();
        bench.error(txn, errno);
        assert_eq!(bench.answer(), ended(unique, errno));
        // the node is not taken for dead, and not connected to anew
        let unique = bench.lookup(node, "etc");
        let [Heard::Send { txn, .. }] = bench.heard()[..] else { panic!("{errno}") };
        bench.reply(txn, 0, &directory(0o755).emit(stat::REPLY_LEN));
        assert_eq!(bench.entry(unique).attr.mode, libc::S_IFDIR | 0o755);
    }
}

#[test]
fn the_network_manager_keeps_its_connection_whatever_it_answers() {
    let mut bench = Bench::new();
    let mut connects = 0;
    for _ in 0..5 {
        let unique = bench.lookup(ROOT_ID, "joseph");
        for _ in 0..2 {
            for heard in bench.heard() {
                match heard {
                    Heard::Connect { .. } => connects += 1,
                    Heard::Send { txn, .. } => bench.error(txn, libc::EHOSTDOWN),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(bench.answer(), ended(unique, libc::EHOSTDOWN));
    }
    assert_eq!(connects, 1);
}

#[test]
fn numbers_of_open_files_are_not_given_twice() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    bench.engine.last_coid = i32::MAX - 2;
    let (first, _) = bench.opened(file, &regular(10, 10));
    assert_eq!(first, i32::MAX - 1);
    bench.engine.last_coid = i32::MAX;
    assert_eq!(bench.opened(file, &regular(10, 10)).0, 1);
    bench.engine.last_coid = i32::MAX - 2;
    assert_eq!(bench.opened(file, &regular(10, 10)).0, i32::MAX, "the one before is in use");
    assert_eq!(bench.opened(file, &regular(10, 10)).0, 2, "so is 1");
}

#[test]
fn a_refused_connection_is_an_error_of_the_node() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    for (sent, seen) in [(libc::EPERM, libc::EPERM), (libc::ESRCH, libc::EHOSTDOWN), (600, libc::EIO)] {
        let unique = bench.lookup(node, "etc");
        for attempt in 0..2 {
            let heard = bench.heard();
            let conn = heard.iter().find_map(|heard| match heard {
                Heard::Connect { conn, uid: Some(_), .. } => Some(*conn),
                _ => None,
            });
            bench.say(&ToClient::ConnectFail { conn: conn.unwrap(), errno: sent });
            if attempt == 0 {
                let (txn, ..) = bench.sent();
                bench.reply(txn, 5, b"");
            }
        }
        assert_eq!(bench.answer(), ended(unique, seen));
        bench.pass(DEAD_FOR);
    }
}

#[test]
fn reads_are_filled_up_to_the_end_of_the_file() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let (coid, fh) = bench.opened(file, &regular(10, 10));
    let unique = bench.read(fh, 8);
    let expect = |message: &[u8], offset, nbytes| {
        let read = Io::Read { nbytes, xtype: 0, offset: Some(offset) };
        assert_eq!(chain(message).next().unwrap().unwrap().0, read);
    };
    let (txn, on, message) = bench.sent();
    assert_eq!(on, coid);
    expect(&message, 0, 8);
    bench.reply(txn, 3, b"abc");
    let (txn, _, message) = bench.sent();
    expect(&message, 3, 5);
    bench.say(&ToClient::Write { txn, offset: 0, data: b"de" });
    bench.say(&ToClient::Reply { txn, status: 5, offset: 2, data: b"fgh" });
    assert_eq!(bench.answer(), Answer { unique, error: 0, body: b"abcdefgh".to_vec() });

    let unique = bench.read(fh, 8);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 2, b"ab");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, b"");
    assert_eq!(bench.answer(), Answer { unique, error: 0, body: b"ab".to_vec() }, "nothing more is the end");

    let unique = bench.read(fh, 4096);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 10, b"0123456789");
    assert_eq!(
        bench.answer(),
        Answer { unique, error: 0, body: b"0123456789".to_vec() },
        "so is the known size"
    );

    let unique = bench.read(fh, 8);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 2, b"ab");
    let (txn, ..) = bench.sent();
    bench.error(txn, libc::EIO);
    assert_eq!(
        bench.answer(),
        ended(unique, libc::EIO),
        "half a page must not look like the end of the file"
    );
}

#[test]
fn a_read_that_lies_about_its_length_is_an_error() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let (_, fh) = bench.opened(file, &regular(10, 10));
    for (status, data) in [(9, &b"123456789"[..]), (5, b"abc"), (-1, b""), (i64::MAX, b"abc")] {
        let unique = bench.read(fh, 8);
        let (txn, ..) = bench.sent();
        bench.reply(txn, status, data);
        assert_eq!(bench.answer(), ended(unique, libc::EIO), "{status}");
    }
}

#[test]
fn a_name_that_means_another_file_meanwhile_is_stale() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let opening = bench.open(file);
    let (txn, coid, _) = bench.sent();
    bench.reply(txn, 0, &regular(11, 10).emit(stat::REPLY_LEN));
    assert_eq!(bench.answer(), ended(opening, libc::ESTALE));
    let (_, closed, message) = bench.sent();
    assert!(closed == coid && is_close(&message));

    let asking = bench.ask(Opcode::Getattr, file, &[0; 16]);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, &regular(11, 10).emit(stat::REPLY_LEN));
    assert_eq!(bench.answer(), ended(asking, libc::ESTALE));
}

#[test]
fn opening_a_changed_file_withdraws_its_old_attributes_first() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let unique = bench.open(file);
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, &regular(10, 11).emit(stat::REPLY_LEN));
    let answers = bench.answers();
    assert_eq!((answers[0].unique, answers[1].unique, answers.len()), (0, unique, 2));
    bench.opened(file, &regular(10, 11));
}

#[test]
fn a_released_file_is_closed_and_an_idle_session_after_it() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let (coid, fh) = bench.opened(file, &regular(10, 10));
    bench.pass(2 * link::IDLE);
    assert_eq!(bench.heard(), [], "an open file keeps its session");
    let unique = bench.release(fh);
    assert_eq!(bench.answer(), ended(unique, 0));
    let (txn, closed, message) = bench.sent();
    assert!(closed == coid && is_close(&message));
    bench.reply(txn, 0, b"");
    bench.pass(link::IDLE);
    assert!(matches!(bench.heard()[..], [Heard::Disconnect { .. }]));
}

#[test]
fn a_session_full_of_abandoned_requests_is_closed() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let mut disconnects = 0;
    for _ in 0..=link::MAX_ABANDONED {
        let unique = bench.lookup(node, "etc");
        bench.heard();
        bench.interrupt(unique);
        disconnects += bench.heard().iter().filter(|heard| matches!(heard, Heard::Disconnect { .. })).count();
    }
    assert_eq!(disconnects, 1);
    assert_eq!(bench.answers().len(), link::MAX_ABANDONED + 1);
}

#[test]
fn closes_that_are_under_way_do_not_fill_a_session() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let (_, kept) = bench.opened(file, &regular(10, 10));
    let files: Vec<_> =
        (0..link::MAX_ABANDONED + 10).map(|_| bench.opened(file, &regular(10, 10)).1).collect();
    for fh in files {
        bench.release(fh);
    }
    // The node is slow to answer, and somebody is interrupted.
    let unique = bench.lookup(node, "etc");
    bench.interrupt(unique);
    assert!(bench.heard().iter().all(|heard| !matches!(heard, Heard::Disconnect { .. })));
    bench.answers();
    let unique = bench.read(kept, 10);
    assert_eq!(bench.answers(), [], "the other files stay open");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 10, b"0123456789");
    assert_eq!(bench.answer().unique, unique);
}

#[test]
fn the_longest_unused_session_makes_room_for_another() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let mut disconnected = 0;
    for uid in 0..link::MAX_SESSIONS as u32 + 10 {
        bench.uid = uid;
        bench.now += Duration::from_micros(1);
        bench.lookup(node, "etc");
        for heard in bench.heard() {
            match heard {
                Heard::Send { txn, .. } => bench.error(txn, libc::EACCES),
                Heard::Disconnect { .. } => disconnected += 1,
                _ => {}
            }
        }
        assert_eq!(bench.answer().error, libc::EACCES);
    }
    // One of them is the network manager's, which stays.
    assert_eq!(disconnected, 11);
    bench.node("karl");
}

#[test]
fn losing_qnet_ends_everything_and_is_made_good() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let file = bench.file(node, "f", &regular(10, 10)).nodeid;
    let (_, fh) = bench.opened(file, &regular(10, 10));
    let read = bench.read(fh, 8);
    bench.heard();
    bench.peer = None;
    bench.engine.handle_link(bench.now, 10);
    assert_eq!(bench.answer(), ended(read, libc::EHOSTDOWN));
    bench.pass(link::RETRY);
    let again = bench.lookup(node, "etc");
    let (txn, _, message) = bench.sent();
    assert!(qnet_iomsg::netmgr::Request::parse(&message).is_ok(), "old numbers mean nothing to the new one");
    bench.reply(txn, 9, b"");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 0, &directory(0o755).emit(stat::REPLY_LEN));
    assert_eq!(bench.answer().unique, again);
    let read = bench.read(fh, 8);
    assert_eq!(bench.answer(), ended(read, libc::EHOSTDOWN), "the new one does not know the file");
}

#[test]
fn what_net_does_not_do_is_refused_without_asking() {
    let mut bench = Bench::new();
    let cases = [
        (Opcode::Setattr, libc::EROFS),
        (Opcode::Tmpfile, libc::EROFS),
        (Opcode::Ioctl, libc::ENOTTY),
        (Opcode::Access, 0),
        (Opcode::Flush, 0),
        (Opcode::Bmap, libc::ENOSYS),
    ];
    for (opcode, errno) in cases {
        let unique = bench.ask(opcode, ROOT_ID, &[0; 96]);
        assert_eq!(bench.answer(), ended(unique, errno), "{opcode:?}");
    }
    for (opcode, args, name) in [
        (Opcode::Mkdir, 8, &b"d\0"[..]),
        (Opcode::Create, 16, b"f\0"),
        (Opcode::Unlink, 0, b"joseph\0"),
        (Opcode::Rename2, 16, b"joseph\0other\0"),
        (Opcode::Symlink, 0, b"link\0target\0"),
    ] {
        let unique = bench.ask(opcode, ROOT_ID, &[&vec![0; args][..], name].concat());
        assert_eq!(bench.answer(), ended(unique, libc::EROFS), "{opcode:?}");
    }
    let node = 7;
    let unique = bench.ask(Opcode::Tmpfile, node, &[0; 96]);
    assert_eq!(bench.answer(), ended(unique, libc::EOPNOTSUPP));
    assert_eq!(bench.heard(), []);
}

#[test]
fn the_mount_begins_and_ends() {
    let mut bench = Bench::new();
    assert!(!bench.engine.is_ready());
    let asked = InitIn { major: 7, minor: 45, max_readahead: 1 << 17, flags: u32::MAX };
    bench.ask(Opcode::Init, 0, asked.as_bytes());
    let reply = InitOut::read_from_bytes(&bench.answer().body).unwrap();
    assert_eq!(reply.flags, INIT_FLAGS);
    assert!(bench.engine.is_ready() && !bench.engine.is_over());
    let unique = bench.ask(Opcode::Destroy, 0, &[]);
    assert_eq!(bench.answer(), ended(unique, 0));
    assert!(bench.engine.is_over());
}

#[test]
fn the_root_and_the_nodes_are_directories_of_our_own() {
    let mut bench = Bench::new();
    bench.ask(Opcode::Getattr, ROOT_ID, &[0; 16]);
    let root = AttrOut::read_from_bytes(&bench.answer().body).unwrap();
    assert_eq!((root.attr.ino, root.attr.mode), (1, libc::S_IFDIR | 0o555));
    let unique = bench.lookup(ROOT_ID, "joseph");
    let (txn, ..) = bench.sent();
    bench.reply(txn, 5, b"");
    let entry: EntryOut = bench.entry(unique);
    assert_eq!((entry.attr.ino & 0xffff, entry.attr.mode), (5, libc::S_IFDIR | 0o555));
    assert_eq!(bench.heard(), [], "no node is contacted to find a name");
}
