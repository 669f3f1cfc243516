//! Who lists a directory first and looks its names up afterwards.

use std::time::Duration;

use qnet_iomsg::{
    Connect, Dirent, DirentWriter, Extra, Io, Stat, chain,
    filesys::{self, ENTRIES_MAX},
    stat,
};
use qnet_ipc::ToClient;
use zerocopy::{FromBytes, IntoBytes};

use super::bench::{Bench, directory, regular};
use crate::{
    attributes::{FileId, mixed_ino, seed},
    engine::{Cache, names::LIFETIME},
    fuse::{
        Opcode,
        abi::{EntryOut, OpenIn, OpenOut, ReadIn, ReleaseIn},
    },
    inodes::Kind,
};

const MANY: u64 = 50_000;
/// Messages that as many look-ups may cost: those of 512 names each, the smaller ones at the beginning, and a few more.
const MESSAGES: usize = MANY as usize / ENTRIES_MAX + 20;

fn name(number: u64) -> String {
    format!("file-{:05}", number * 7919 % 100_000)
}

/// A directory of `count` files that was listed by a reader who did not ask for attributes.
struct Listed {
    bench: Bench,
    nodeid: u64,
    count: u64,
    mode: u32,
    /// Messages to the node since it was listed.
    messages: usize,
    /// Names asked for ahead.
    ahead: usize,
    /// What the node tells of a file.
    size: u64,
    /// How it answers requests for several names, where it does not do them.
    refuses: Option<i32>,
    /// The file with the first number is the one with the second.
    same: Option<(u64, u64)>,
}

impl Listed {
    fn new(count: u64) -> Self {
        Self::with(count, 0o755)
    }

    fn with(count: u64, mode: u32) -> Self {
        let mut bench = Bench::new();
        let node = bench.node("joseph");
        let nodeid = bench.file(node, "d", &Stat { ino: 77, ..directory(mode) }).nodeid;
        let (messages, ahead, size, refuses, same) = (0, 0, 5, None, None);
        let mut listed = Self { bench, nodeid, count, mode, messages, ahead, size, refuses, same };
        let fh = listed.list();
        listed.close(fh);
        listed.messages = 0;
        listed
    }

    /// Opens the directory and reads all of it; the handle.
    fn list(&mut self) -> u64 {
        let bench = &mut self.bench;
        let unique = bench.ask(Opcode::Opendir, self.nodeid, OpenIn::default().as_bytes());
        let (txn, ..) = bench.sent();
        bench.reply(txn, 0, &Stat { ino: 77, ..directory(self.mode) }.emit(stat::REPLY_LEN));
        let fh = OpenOut::read_from_bytes(&bench.answer_to(unique).body).unwrap().fh;
        let mut offset = 0;
        for _ in 0..self.count + 2 {
            let args = ReadIn { fh, offset, size: 32 * 1024, ..ReadIn::default() };
            let unique = self.bench.ask(Opcode::Readdir, self.nodeid, args.as_bytes());
            self.serve();
            let body = self.bench.answer_to(unique).body;
            let Some(last) = last_offset(&body) else { return fh };
            offset = last;
        }
        panic!("the directory has no end");
    }

    fn close(&mut self, fh: u64) {
        let args = ReleaseIn { fh, ..ReleaseIn::default() };
        self.bench.ask(Opcode::Releasedir, self.nodeid, args.as_bytes());
        self.serve();
        self.bench.answers();
    }

    /// Answers what the node is asked.
    fn serve(&mut self) {
        for (txn, _, message) in self.bench.sends() {
            self.messages += 1;
            self.answer(txn, &message);
        }
    }

    fn answer(&mut self, txn: u32, message: &[u8]) {
        let Ok(connect) = Connect::parse(message) else {
            if let Some(Ok((Io::Read { nbytes, offset: Some(from), .. }, _))) = chain(message).next() {
                let entries = self.entries(nbytes as usize, from);
                self.reply(txn, &entries);
            }
            return;
        };
        let Extra::Messages(messages) = connect.extra else { panic!("{connect:?}") };
        let asked: Vec<_> = chain(messages).map(|io| io.unwrap().0).collect();
        match asked[..] {
            [.., Io::Msg { mgrid: filesys::MGRID, subtype: filesys::subtype::ENTRIES, .. }]
                if self.refuses.is_some() =>
            {
                self.bench.error(txn, self.refuses.unwrap());
            }
            [expect, Io::Msg { mgrid: filesys::MGRID, subtype, data }] => {
                assert!(matches!(expect, Io::Msg { subtype: filesys::subtype::EXPECT, .. }), "{expect:?}");
                let Ok(filesys::Request::Entries(names)) = filesys::Request::parse(subtype, data) else {
                    panic!("{asked:?}");
                };
                assert_eq!(connect.path, b"d");
                let mut writer = DirentWriter::new(1 << 20, true);
                for (name, next) in names.iter().zip(1..) {
                    self.ahead += 1;
                    let stat = Some(self.stat(std::str::from_utf8(name).unwrap()));
                    assert!(writer.push(&Dirent { ino: 1, next, name, file_type: None, stat }));
                }
                let entries = writer.finish();
                self.reply(txn, &entries);
            }
            [Io::Stat] if connect.path.len() > 1 => {
                let name = connect.path.rsplit(|byte| *byte == b'/').next().unwrap();
                let stat = self.stat(std::str::from_utf8(name).unwrap());
                self.bench.reply(txn, 0, &stat.emit(stat::REPLY_LEN));
            }
            [Io::Stat] => {
                let mode = if connect.path == b"d" { self.mode } else { 0o755 };
                self.bench.reply(txn, 0, &Stat { ino: 77, ..directory(mode) }.emit(stat::REPLY_LEN));
            }
            _ => panic!("{asked:?}"),
        }
    }

    /// A long reply comes in pieces.
    fn reply(&mut self, txn: u32, data: &[u8]) {
        let pieces = data.chunks(50_000).zip((0..).step_by(50_000));
        for (data, offset) in pieces {
            self.bench.say(&ToClient::Write { txn, offset, data });
        }
        self.bench.reply(txn, data.len() as i64, b"");
    }

    fn stat(&self, name: &str) -> Stat {
        let number = 1000 + name[5..].parse::<u64>().unwrap();
        let same = self.same.filter(|(one, _)| *one == number);
        regular(same.map_or(number, |(_, other)| other), self.size)
    }

    fn entries(&self, room: usize, from: u64) -> Vec<u8> {
        let mut writer = DirentWriter::new(room, true);
        for number in from..self.count {
            let name = name(number);
            let ino = self.stat(&name).ino;
            let entry = Dirent {
                ino,
                next: number + 1,
                name: name.as_bytes(),
                file_type: Some(libc::S_IFREG),
                stat: None,
            };
            if !writer.push(&entry) {
                break;
            }
        }
        writer.finish()
    }

    /// Looks a name up as a program does that waits for the answer.
    #[track_caller]
    fn look_up(&mut self, name: &str) -> EntryOut {
        let unique = self.bench.lookup(self.nodeid, name);
        self.serve();
        let answer = self.bench.answer_to(unique);
        assert_eq!(answer.error, 0, "{name}");
        EntryOut::read_from_bytes(&answer.body).unwrap()
    }

    /// Messages that it takes to look these up.
    #[track_caller]
    fn messages_for(&mut self, names: &[String]) -> usize {
        let before = self.messages;
        for name in names {
            let entry = self.look_up(name);
            assert_eq!(entry.attr.size, self.size);
            let ino = self.stat(name).ino;
            assert_eq!(entry.attr.ino, mixed_ino(seed(b"joseph"), (8, 1), ino), "{name} is another file");
        }
        self.messages - before
    }
}

/// Where the kernel reads on.
fn last_offset(mut body: &[u8]) -> Option<u64> {
    let mut last = None;
    while let Ok((entry, _)) = crate::fuse::abi::Dirent::read_from_prefix(body) {
        last = Some(entry.off);
        body = &body[(size_of::<crate::fuse::abi::Dirent>() + entry.namelen as usize).next_multiple_of(8)..];
    }
    last
}

fn as_listed(count: u64) -> Vec<String> {
    (0..count).map(name).collect()
}

#[test]
fn looking_at_a_large_directory_as_it_was_listed_costs_few_messages() {
    let mut listed = Listed::new(MANY);
    let messages = listed.messages_for(&as_listed(MANY));
    assert!(messages <= MESSAGES, "{messages}");
    assert!(listed.ahead as u64 <= MANY, "no name is asked for twice");
}

#[test]
fn looking_at_it_by_inode_number_or_by_name_costs_few_messages() {
    let mut listed = Listed::new(MANY);
    let mut by_number = as_listed(MANY);
    by_number.sort_by_key(|name| mixed_ino(seed(b"joseph"), (8, 1), listed.stat(name).ino));
    let messages = listed.messages_for(&by_number);
    assert!(messages <= MESSAGES, "{messages}");

    let mut listed = Listed::new(10_000);
    let mut by_name = as_listed(10_000);
    by_name.sort();
    let messages = listed.messages_for(&by_name);
    assert!(messages <= 10_000 / ENTRIES_MAX + 20, "{messages}");
}

#[test]
fn a_directory_that_is_taken_in_portions_costs_few_messages_in_each() {
    let mut listed = Listed::new(4000);
    for _ in 0..2 {
        listed.messages_for(&as_listed(4000));
        // the same reader reads on
        let fh = listed.list();
        listed.messages = 0;
        let messages = listed.messages_for(&as_listed(4000));
        assert!(messages <= 4000 / ENTRIES_MAX + 20, "{messages}");
        listed.close(fh);
    }
}

#[test]
fn look_ups_in_no_order_ask_for_nothing_ahead() {
    let mut listed = Listed::new(5000);
    let names: Vec<_> = (1..1000).map(|number| name(number * number * 31 % 5000)).collect();
    let messages = listed.messages_for(&names);
    assert!(listed.ahead < 100, "{} names asked for ahead", listed.ahead);
    assert!(messages <= names.len() + 10, "{messages}");
}

#[test]
fn threads_that_go_through_a_directory_at_once_do_not_disturb_each_other() {
    let mut listed = Listed::new(4000);
    let names = as_listed(4000);
    for at in 0..1000 {
        for thread in 0..4 {
            listed.bench.thread = 5000 + thread;
            listed.look_up(&names[thread as usize * 1000 + at]);
        }
    }
    assert!(listed.messages < 200, "{}", listed.messages);
}

#[test]
fn attributes_that_came_ahead_are_given_for_what_is_left_of_their_time() {
    let mut listed = Listed::new(100);
    let names = as_listed(100);
    listed.messages_for(&names[..2]);
    assert_eq!(listed.ahead, 16);
    listed.bench.now += LIFETIME * 3 / 4;
    let entry = listed.look_up(&names[2]);
    let left = Duration::new(entry.entry_valid, entry.entry_valid_nsec);
    assert_eq!(left, LIFETIME / 4);
    assert_eq!((entry.attr_valid, entry.attr_valid_nsec), (entry.entry_valid, entry.entry_valid_nsec));
    listed.bench.now += LIFETIME / 4;
    listed.size = 6;
    assert_eq!(listed.look_up(&names[3]).attr.size, 6, "then it is asked again");
}

#[test]
fn a_change_from_here_makes_what_came_ahead_old() {
    let mut listed = Listed::new(1000);
    let names = as_listed(1000);
    listed.messages_for(&names[..2]);
    listed.size = 6;
    listed.bench.engine.changes += 1;
    assert_eq!(listed.look_up(&names[2]).attr.size, 6);

    // Also what is under way when something changes: `rm -r` looks each name up before it goes.
    for name in &names[3..] {
        listed.size += 1;
        assert_eq!(listed.look_up(name).attr.size, listed.size);
        listed.bench.engine.changes += 1;
    }
    assert!(listed.ahead < 150, "{} names asked for in vain", listed.ahead);
}

#[test]
fn what_came_ahead_does_not_take_back_what_the_kernel_was_told_since() {
    for by_open in [false, true] {
        for in_flight in [false, true] {
            let mut listed = Listed::new(100);
            let names = as_listed(100);
            let (old, new) =
                (Stat { size: 100, ..listed.stat(&names[2]) }, Stat { size: 200, ..listed.stat(&names[2]) });
            let node = listed.bench.node("joseph");
            listed.size = 100;
            let link = listed.bench.file(node, "link", &old).nodeid;
            listed.look_up(&names[0]);
            let unique = listed.bench.lookup(listed.nodeid, &names[1]);
            let sends = listed.bench.sends();
            let [(first, _, asked), (second, _, batch)] = &sends[..] else { panic!("{sends:?}") };
            listed.answer(*first, asked);
            listed.bench.answer_to(unique);
            if !in_flight {
                listed.answer(*second, batch);
            }
            if by_open {
                listed.bench.open_with(link, OpenIn::default(), &new);
            } else {
                assert_eq!(listed.bench.file(node, "link", &new).nodeid, link);
            }
            if in_flight {
                // the node has read the attributes before, and its answer was long on the way
                listed.answer(*second, batch);
            }
            listed.size = 200;
            let entry = listed.look_up(&names[2]);
            assert_eq!((entry.nodeid, entry.attr.size), (link, 200), "{by_open} {in_flight}");
            let before = listed.messages;
            listed.size = 100;
            assert_eq!(listed.look_up(&names[3]).attr.size, 100);
            assert_eq!(listed.messages, before, "of others it is as new as anything");
        }
    }
}

#[test]
fn two_names_of_a_file_that_came_in_one_message_are_both_given() {
    let mut listed = Listed::new(100);
    let names = as_listed(100);
    let number = |name: &str| listed.stat(name).ino;
    listed.same = Some((number(&names[3]), number(&names[2])));
    listed.messages_for(&names[..2]);
    let before = listed.messages;
    let ids = [&names[2], &names[3]].map(|name| listed.look_up(name).nodeid);
    assert_eq!((ids[0], listed.messages), (ids[1], before));
}

#[test]
fn a_look_up_waits_for_the_answer_that_is_under_way() {
    let mut listed = Listed::new(100);
    let names = as_listed(100);
    listed.look_up(&names[0]);
    let own = listed.bench.lookup(listed.nodeid, &names[1]);
    let sends = listed.bench.sends();
    let [(first, _, asked), (second, _, batch)] = &sends[..] else { panic!("{sends:?}") };
    let waiting: Vec<_> = (2..5).map(|at| listed.bench.lookup(listed.nodeid, &names[at])).collect();
    assert_eq!(listed.bench.heard(), [], "nobody asks twice");
    listed.answer(*first, asked);
    assert_eq!(listed.bench.answer().unique, own);
    listed.answer(*second, batch);
    let answered: Vec<_> =
        listed.bench.answers().iter().map(|answer| (answer.unique, answer.error)).collect();
    assert_eq!(answered, waiting.iter().map(|unique| (*unique, 0)).collect::<Vec<_>>());
}

#[test]
fn who_waits_for_an_answer_that_does_not_come_asks_by_himself_or_ends_in_time() {
    for (errno, expected) in [(Some(libc::ESTALE), 0), (Some(libc::ENOSYS), 0), (None, libc::EHOSTDOWN)] {
        let mut listed = Listed::new(100);
        let names = as_listed(100);
        listed.look_up(&names[0]);
        listed.bench.lookup(listed.nodeid, &names[1]);
        let sends = listed.bench.sends();
        listed.answer(sends[0].0, &sends[0].2);
        listed.bench.answers();
        let unique = listed.bench.lookup(listed.nodeid, &names[2]);
        match errno {
            Some(errno) => listed.bench.error(sends[1].0, errno),
            None => listed.bench.pass(super::bench::DEADLINE),
        }
        listed.serve();
        assert_eq!(listed.bench.answer_to(unique).error, expected);
        let before = listed.messages;
        if errno.is_some() {
            listed.messages_for(&names[3..50]);
            assert_eq!(listed.messages - before, 47, "a node that does not tell is not asked for many again");
        }
    }
}

#[test]
fn a_node_that_knows_no_such_request_is_asked_name_by_name() {
    let mut listed = Listed::new(100);
    listed.refuses = Some(libc::ENOSYS);
    let messages = listed.messages_for(&as_listed(100));
    assert_eq!(messages, 101, "one attempt");
}

#[test]
fn nothing_is_known_ahead_where_not_everybody_may_search_and_with_cache_none() {
    let mut private = Listed::with(100, 0o750);
    let mut strict = Listed::new(100);
    strict.bench.engine.config.cache = Cache::Nothing;
    let fh = strict.list();
    strict.close(fh);
    for listed in [&mut private, &mut strict] {
        assert_eq!(listed.bench.engine.listings.cost(), 0, "names would be of no use");
        for name in as_listed(100) {
            let entry = listed.look_up(&name);
            assert_eq!((entry.entry_valid, entry.entry_valid_nsec), (0, 0));
        }
        assert_eq!(listed.ahead, 0);
    }
}

#[test]
fn an_error_that_passes_does_not_end_the_asking_for_good() {
    for errno in [libc::EAGAIN, libc::EINTR, libc::ENOMEM] {
        let mut listed = Listed::new(1000);
        let names = as_listed(1000);
        listed.refuses = Some(errno);
        listed.messages_for(&names[..20]);
        listed.refuses = None;
        let messages = listed.messages_for(&names[20..]);
        assert!(messages < 200, "{errno}: {messages}");
        assert!(listed.ahead > 800, "{errno}: {}", listed.ahead);
    }
}

#[test]
fn many_small_listings_are_bounded_and_those_in_use_stay() {
    let mut bench = Bench::new();
    let node = bench.node("joseph");
    let kept = bench.file(node, "kept", &directory(0o755)).nodeid;
    let note = |bench: &mut Bench, nodeid, fh| {
        bench.engine.note_listed(bench.now, nodeid, fh, true, vec![(b"x"[..].into(), 1)]);
        assert!(bench.engine.listings.has(nodeid), "the last one is there");
    };
    note(&mut bench, kept, 1);
    let mut first = None;
    for number in 1000..50_000 {
        let id = FileId::of(&Stat { ino: number, ..directory(0o755) });
        let name = format!("d{number}");
        let nodeid = bench.engine.inodes.intern(node, name.as_bytes(), Kind::File(id)).unwrap();
        note(&mut bench, nodeid, number);
        if number % 1000 == 0 {
            bench.lookup(kept, "x");
        }
        first.get_or_insert(nodeid);
    }
    let listings = &bench.engine.listings;
    assert!(listings.cost() <= 16 << 20 && listings.len() <= (16 << 20) / 1024, "{}", listings.len());
    assert!(listings.len() > 5000, "{}", listings.len());
    assert!(listings.has(kept) && !listings.has(first.unwrap()));
}

#[test]
fn what_is_remembered_of_listings_is_bounded_and_forgotten() {
    let mut listed = Listed::new(300_000);
    assert!(listed.bench.engine.listings.cost() <= 16 << 20);
    let messages = listed.messages_for(&as_listed(10_000));
    assert!(messages < 60, "what is known of it helps: {messages}");
    assert_eq!(listed.bench.engine.listings.len(), 1);
    listed.bench.pass(Duration::from_secs(61));
    listed.bench.pass(Duration::from_secs(61));
    assert_eq!(listed.bench.engine.listings.cost(), 0);
    assert_eq!(listed.bench.engine.listings.next(), None);
}
