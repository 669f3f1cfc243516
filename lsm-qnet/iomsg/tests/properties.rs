//! Properties of all codecs: what is emitted parses back, and no bytes whatever cause a panic.

use proptest::prelude::*;
use qnet_iomsg::message::Whence;
use qnet_iomsg::netmgr::{self, Node, Request};
use qnet_iomsg::stat::{QNX_LEN, REPLY_LEN};
use qnet_iomsg::{
    Connect, Dirent, DirentWriter, Dirents, Extra, Io, Link, Stat, StatReply, Subtype, Timestamp, chain,
};

fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1u8.., 0..300)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds })
}

fn stat() -> impl Strategy<Value = Stat> {
    let numbers = (any::<[u64; 3]>(), any::<[u32; 5]>(), any::<(u32, u32)>(), any::<(u32, u32)>());
    (numbers, any::<u32>(), [time(), time(), time(), time()]).prop_map(|(numbers, flags, times)| {
        let ([ino, size, blocks], [mode, nlink, uid, gid, blksize], dev, rdev) = numbers;
        let [atime, mtime, ctime, btime] = times;
        Stat {
            ino,
            size,
            blocks,
            mode,
            nlink,
            uid,
            gid,
            dev,
            rdev,
            blksize,
            flags,
            atime,
            mtime,
            ctime,
            btime,
        }
    })
}

/// Every message; `data` is what WRITE, DEVCTL and MSG carry.
fn messages(n: [u32; 2], wide: u64, offset: Option<u64>, data: &[u8]) -> Vec<Io<'_>> {
    let (low, high) = (n[0] as u16, (n[0] >> 16) as u16);
    // any xtype but the two that add fields
    let xtype = n[1] & !0xff;
    vec![
        Io::Read { nbytes: n[0], xtype, offset },
        Io::Write { nbytes: n[0], xtype, offset, data },
        Io::Stat,
        Io::Close,
        Io::Lseek { whence: Whence::End, offset: wide as i64 },
        Io::Sync { flag: n[0] },
        Io::Devctl { dcmd: n[0], nbytes: n[1], data },
        Io::Pathconf { name: low },
        Io::Chmod { mode: n[0] },
        Io::Chown { gid: n[0], uid: n[1] },
        Io::Utime { now: n[0] & 1 == 1, atime: n[0], mtime: n[1] },
        Io::Space { subtype: low, whence: high, start: wide, len: u64::from(n[1]) },
        Io::Msg { mgrid: low, subtype: high, data },
        Io::Dup,
    ]
}

/// Feeds bytes to every parser.
fn parse_everything(bytes: &[u8]) {
    let _ = Connect::parse(bytes);
    let _ = Connect::declared_len(bytes);
    let _ = Io::parse(bytes);
    // a chain shrinks with every message, so it ends
    assert!(chain(bytes).count() <= bytes.len() / 4 + 1);
    let _ = StatReply::parse(bytes);
    assert!(Dirents::new(bytes).count() <= bytes.len() / 20 + 1);
    let _ = Request::parse(bytes);
    let _ = netmgr::nodes(bytes);
}

proptest! {
    #[test]
    fn connect_survives_the_round_trip(
        subtype in 0u16..10, path in text(), extra in text(), numbers in any::<[u32; 5]>(), eflag in any::<u8>()
    ) {
        let subtype = Subtype::from_wire(subtype).unwrap();
        let extra = match subtype {
            _ if extra.is_empty() => Extra::None,
            Subtype::Combine | Subtype::CombineClose => Extra::Messages(&extra),
            Subtype::Rename => Extra::Rename(&extra),
            Subtype::Link => Extra::Symlink(&extra),
            Subtype::Mknod => Extra::Link(&extra),
            _ => Extra::Other(11, &extra),
        };
        let [file_type, handle, ioflag, mode, small] = numbers;
        let connect = Connect {
            file_type, handle, ioflag, mode, eflag, extra,
            reply_max: small as u16, entry_max: (small >> 16) as u16, sflag: small as u16, access: 3, key: small,
            ..Connect::new(subtype, &path)
        };
        let bytes = connect.emit().unwrap();
        prop_assert_eq!(Connect::parse(&bytes).unwrap(), connect);
        prop_assert_eq!(Connect::declared_len(&bytes), Ok(bytes.len()));
        for cut in 0..bytes.len() {
            prop_assert!(Connect::parse(&bytes[..cut]).is_err(), "cut at {}", cut);
        }
    }

    #[test]
    fn messages_survive_the_round_trip_alone_and_in_a_chain(
        numbers in any::<[u32; 2]>(), wide in any::<u64>(), offset in any::<Option<u64>>(),
        data in proptest::collection::vec(any::<u8>(), 0..100)
    ) {
        let all = messages(numbers, wide, offset, &data);
        let mut bytes = Vec::new();
        for (index, io) in all.iter().enumerate() {
            let alone = io.to_bytes();
            prop_assert_eq!(Io::parse(&alone).unwrap(), (*io, None));
            io.emit(if index + 1 == all.len() { Link::Last } else { Link::Follows }, &mut bytes);
        }
        let parsed: Vec<Io<'_>> = chain(&bytes).map(|item| item.unwrap().0).collect();
        prop_assert_eq!(parsed, all);
        for cut in 0..bytes.len() {
            prop_assert!(chain(&bytes[..cut]).any(|item| item.is_err()), "cut at {}", cut);
        }
    }

    #[test]
    fn wide_stat_keeps_every_bit_and_narrow_stat_what_qnx_has(stat in stat()) {
        let bytes = stat.emit(REPLY_LEN);
        prop_assert_eq!(bytes.len(), REPLY_LEN);
        prop_assert_eq!(StatReply::parse(&bytes).unwrap(), StatReply { stat, wide: true });
        let narrow = stat.emit(REPLY_LEN - 1);
        prop_assert_eq!(narrow.len(), QNX_LEN);
        let parsed = StatReply::parse(&narrow).unwrap();
        prop_assert!(!parsed.wide);
        prop_assert_eq!((parsed.stat.ino, parsed.stat.size, parsed.stat.mode), (stat.ino, stat.size, stat.mode));
        prop_assert_eq!(parsed.stat.mtime.seconds, stat.mtime.seconds.clamp(0, u32::MAX.into()));
        for cut in 0..bytes.len() {
            prop_assert_eq!(StatReply::parse(&bytes[..cut]).is_ok(), cut >= QNX_LEN);
        }
    }

    #[test]
    fn directory_entries_survive_and_are_never_cut(
        names in proptest::collection::vec("[a-z.é]{1,80}", 0..30), limit in 0usize..3000, with_type in any::<bool>()
    ) {
        let mut writer = DirentWriter::new(limit, with_type);
        let mut written = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let entry = Dirent {
                ino: index as u64 + 7, next: u64::MAX - index as u64, name: name.as_bytes(), file_type: Some(0o4_0000), stat: None,
            };
            if !writer.push(&entry) {
                break;
            }
            written.push(Dirent { file_type: with_type.then_some(0o4_0000), ..entry });
        }
        let data = writer.finish();
        prop_assert!(data.len() <= limit);
        prop_assert_eq!(data.len() % 8, 0);
        let read: Vec<_> = Dirents::new(&data).map(|entry| entry.unwrap()).collect();
        prop_assert_eq!(read, written);
        for cut in 0..data.len() {
            let whole = Dirents::new(&data[..cut]).take_while(Result::is_ok).count();
            prop_assert!(whole < names.len());
        }
    }

    #[test]
    fn attributes_survive_in_directory_entries(stats in proptest::collection::vec(stat(), 1..8)) {
        let mut writer = DirentWriter::new(100_000, true);
        let entry = |stat: &Stat| {
            Dirent { ino: stat.ino, next: 1, name: b"name", file_type: Some(stat.mode & 0o17_0000), stat: Some(*stat) }
        };
        let before = writer.left();
        prop_assert!(stats.iter().all(|stat| writer.push(&entry(stat))));
        prop_assert!(before - writer.left() <= stats.len() * DirentWriter::room_for(4));
        let data = writer.finish();
        let read: Vec<_> = Dirents::new(&data).map(|entry| entry.unwrap()).collect();
        prop_assert_eq!(read, stats.iter().map(entry).collect::<Vec<_>>());
        for cut in 0..data.len() {
            prop_assert!(Dirents::new(&data[..cut]).take_while(Result::is_ok).count() < stats.len());
        }
        let wide = stats[0].to_wide();
        prop_assert_eq!(Stat::parse_wide(&wide), Ok(stats[0]));
        prop_assert!((0..wide.len()).all(|cut| Stat::parse_wide(&wide[..cut]).is_err()));
        prop_assert!(Stat::parse_wide(&[1; 200]).is_err());
    }

    #[test]
    fn a_guard_goes_along_and_is_none_of_qnx(path in text(), guard in 1u32.., key in any::<u32>()) {
        let connect = Connect::new(Subtype::Unlink, &path).guarded(guard);
        let bytes = connect.emit().unwrap();
        prop_assert_eq!(Connect::parse(&bytes).unwrap().guard(), Some(guard));
        prop_assert_eq!(connect.guarded(0).guard(), Some(guard));
        prop_assert_eq!(Connect { key, ..Connect::new(Subtype::Open, &path) }.guard(), None);
    }

    #[test]
    fn manager_requests_survive_the_round_trip(name in text(), a in any::<u32>(), b in any::<u32>()) {
        for request in [
            Request::Strtond { name: &name },
            Request::Ndtostr { flags: a, nd: b },
            Request::RemoteNd { remote: a, local: b },
            Request::QosFlush { nd: a },
            Request::Signal(netmgr::Signal { nd: a, pid: b as i32, signo: 15, ..netmgr::Signal::default() }),
            Request::Nodes,
            Request::Stats,
            Request::Ping { nd: a, patience: b, link: &name[..name.len().min(netmgr::LINK_MAX)] },
        ] {
            let bytes = request.emit().unwrap();
            prop_assert_eq!(Request::parse(&bytes).unwrap(), request);
            for cut in 0..bytes.len() {
                prop_assert!(Request::parse(&bytes[..cut]).is_err());
            }
        }
        let node = Node { nd: a, state: (b as u16).into(), flags: (b >> 16) as u16, name: &name, domain: b"lab.example" };
        let mut bytes = Vec::new();
        node.emit(&mut bytes).unwrap();
        let first = bytes.len();
        node.emit(&mut bytes).unwrap();
        prop_assert_eq!(netmgr::nodes(&bytes).unwrap(), vec![node, node]);
        for cut in (1..bytes.len()).filter(|cut| *cut != first) {
            prop_assert!(netmgr::nodes(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0x0fu8..0x1c) {
        parse_everything(&bytes);
        // the same bytes behind each known type reach the deeper code
        let mut typed = vec![kind.wrapping_sub(0x0f), 1];
        typed.extend_from_slice(&bytes);
        parse_everything(&typed);
        typed[0] = kind;
        parse_everything(&typed);
    }
}

#[test]
fn names_that_are_none_are_not_written() {
    let mut writer = DirentWriter::new(100_000, true);
    let entry = |name| Dirent { ino: 1, next: 1, name, file_type: None, stat: None };
    assert!(!writer.push(&entry(b"")));
    assert!(!writer.push(&entry(b"a/b")));
    assert!(!writer.push(&entry(b"a\0")));
    assert!(!writer.push(&entry(&[b'x'; 40_000])));
    assert!(writer.is_empty());
}

#[test]
fn foreign_extras_behind_a_name_are_skipped() {
    let mut writer = DirentWriter::new(1000, false);
    assert!(writer.push(&Dirent { ino: 1, next: 2, name: b"abc", file_type: None, stat: None }));
    let mut data = writer.finish();
    data[16] += 16 + 16;
    data.extend_from_slice(&[4, 0, 2, 0, 0, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0]);
    data.extend_from_slice(&[8, 0, 0x01, 0x4c, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0]);
    let entries: Vec<_> = Dirents::new(&data).collect();
    assert_eq!(entries, [Ok(Dirent { ino: 1, next: 2, name: b"abc", file_type: Some(0x4000), stat: None })]);
}
