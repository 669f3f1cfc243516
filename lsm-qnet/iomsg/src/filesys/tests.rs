//! Every request and reply there and back, and what is wrong with those that are refused.

use proptest::prelude::*;

use super::*;
use crate::{Connect, Extra, Subtype, chain};

fn set_time() -> impl Strategy<Value = SetTime> {
    prop_oneof![
        Just(SetTime::Omit),
        Just(SetTime::Now),
        (any::<i64>(), 0u32..1_000_000_000)
            .prop_map(|(seconds, nanoseconds)| SetTime::At(Timestamp { seconds, nanoseconds })),
    ]
}

fn all<'a>(n: [u64; 3], small: u32, times: [SetTime; 2], name: &'a [u8]) -> Vec<Request<'a>> {
    let [offset, source_offset, len] = n;
    vec![
        Request::Times { atime: times[0], mtime: times[1] },
        Request::Allocate { mode: small, offset, len },
        Request::Seek { what: SeekFor::Data, offset },
        Request::Seek { what: SeekFor::Hole, offset },
        Request::Copy { source: small.cast_signed(), source_offset, offset, len },
        Request::Access { mask: small },
        Request::Statvfs,
        Request::Expect(Identity {
            file_type: small,
            device: (small, !small),
            ino: len,
            born: Timestamp { seconds: offset.cast_signed(), nanoseconds: small },
        }),
        Request::Entries(EntryNames::new(b"one\0two\0").unwrap()),
        Request::Rename { flags: small, guard: !small, old: name },
        Request::Link { guard: small, old: name },
    ]
}

fn read(message: &[u8]) -> Result<Request<'_>, ParseError> {
    let (subtype, data) = Io::parse_for(MGRID, message)?;
    Request::parse(subtype, data)
}

proptest! {
    #[test]
    fn requests_survive_the_round_trip_alone_and_in_a_chain(
        n in any::<[u64; 3]>(), small in any::<u32>(), times in [set_time(), set_time()],
        name in proptest::collection::vec(1u8.., 0..300)
    ) {
        for request in all(n, small, times, &name) {
            let alone = request.to_bytes();
            prop_assert_eq!(read(&alone), Ok(request));
            for cut in (0..alone.len()).filter(|_| request != Request::Statvfs) {
                prop_assert!(read(&alone[..cut]).is_err(), "{:?} cut at {}", request, cut);
            }
            let mut chained = Vec::new();
            request.emit(Link::Follows, &mut chained);
            Io::Stat.emit(Link::Last, &mut chained);
            let messages: Vec<_> = chain(&chained).map(|item| item.unwrap().0).collect();
            let Io::Msg { mgrid: MGRID, subtype, data } = messages[0] else { panic!("{messages:?}") };
            prop_assert_eq!(Request::parse(subtype, data), Ok(request));
            prop_assert_eq!(messages[1], Io::Stat);
        }
    }

    #[test]
    fn figures_of_a_file_system_survive_the_round_trip(counts in any::<[u64; 5]>(), sizes in any::<[u32; 4]>()) {
        let [blocks, free, available, files, free_files] = counts;
        let [block, fragment, name_max, flags] = sizes;
        let statvfs = Statvfs { blocks, free, available, files, free_files, block, fragment, name_max, flags };
        let bytes = statvfs.to_bytes();
        prop_assert_eq!((Statvfs::parse(&bytes), bytes.len()), (Ok(statvfs), Statvfs::LEN));
        for cut in 0..bytes.len() {
            prop_assert!(Statvfs::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(subtype in 0u16..90, data in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Request::parse(subtype, &data);
        let _ = by_path(&data);
        let _ = Statvfs::parse(&data);
    }
}

#[test]
fn bytes_are_those_of_the_table() {
    let at = SetTime::At(Timestamp { seconds: -2, nanoseconds: 5 });
    let times = Request::Times { atime: at, mtime: SetTime::Now }.to_bytes();
    assert_eq!(times[..8], [0x13, 1, 8, 0, 0x11, 0xf0, 1, 0]);
    assert_eq!(times[8..24], [0xfe, 255, 255, 255, 255, 255, 255, 255, 5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(times[32..36], 0x3fff_ffff_u32.to_le_bytes());
    let copy = Request::Copy { source: 7, source_offset: 1, offset: 2, len: 3 }.to_bytes();
    assert_eq!(copy[6..16], [4, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((copy[16], copy[24], copy[32], copy.len()), (1, 2, 3, 40));
    let rename = Request::Rename { flags: 2, guard: 9, old: b"a" }.to_bytes();
    assert_eq!(rename[6..], [16, 0, 2, 0, 0, 0, 9, 0, 0, 0, b'a', 0]);
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let mut times = [0; 32];
    times[8..12].copy_from_slice(&1_000_000_000u32.to_le_bytes());
    assert!(matches!(Request::parse(subtype::TIMES, &times), Err(ParseError::Invalid { .. })));
    let mut seek = [0; 16];
    seek[0] = 2;
    assert!(matches!(Request::parse(subtype::SEEK, &seek), Err(ParseError::Invalid { .. })));
    assert!(matches!(Request::parse(subtype::LINK, b"gardno end"), Err(ParseError::Invalid { .. })));
    assert!(matches!(Request::parse(999, &[]), Err(ParseError::Unknown { .. })));
}

#[test]
fn requests_by_path_are_found_behind_a_connect_and_others_are_not() {
    let link = Request::Link { guard: 1, old: b"old" };
    let message = link.to_bytes();
    let bytes = Connect::combine_close(b"new", false, &message).emit().unwrap();
    let connect = Connect::parse(&bytes).unwrap();
    assert_eq!((connect.subtype, connect.path), (Subtype::CombineClose, &b"new"[..]));
    let Extra::Messages(messages) = connect.extra else { panic!("{connect:?}") };
    assert_eq!(by_path(messages), Ok(Some((link, None))));
    let meant =
        Identity { file_type: crate::flags::S_IFREG, device: (8, 1), ino: 9, born: Timestamp::default() };
    let mut both = Vec::new();
    Request::Expect(meant).emit(Link::Follows, &mut both);
    let alone = both.clone();
    link.emit(Link::Last, &mut both);
    assert_eq!(by_path(&both), Ok(Some((link, Some(meant)))));
    assert_eq!(by_path(&alone), Ok(None));
    assert!(link.is_by_path() && !Request::Statvfs.is_by_path());
    assert_eq!(by_path(&Request::Statvfs.to_bytes()), Ok(None));
    assert_eq!(by_path(&Io::Stat.to_bytes()), Ok(None));
    assert!(by_path(&message[..message.len() - 1]).is_err());
}
