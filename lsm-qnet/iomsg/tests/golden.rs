//! Messages byte for byte, as in the reference frames that stock tshark decodes.
//!
//! Each case goes both ways: the bytes parse to the value and the value emits the bytes.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use qnet_iomsg::connect::FTYPE_ANY;
use qnet_iomsg::flags::{IOFLAG_CREAT, IOFLAG_LARGEFILE, S_IFREG};
use qnet_iomsg::message::Whence;
use qnet_iomsg::{Connect, Extra, Io, Link, ParseError, Subtype, chain};

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn both_ways(connect: &Connect<'_>, bytes: &str) {
    let bytes = hex(bytes);
    assert_eq!(Connect::parse(&bytes).unwrap(), *connect);
    assert_eq!(connect.emit().unwrap(), bytes);
    assert_eq!(Connect::declared_len(&bytes), Ok(bytes.len()));
}

fn io_both_ways(io: &Io<'_>, bytes: &str) {
    let bytes = hex(bytes);
    assert_eq!(Io::parse(&bytes).unwrap(), (*io, None));
    assert_eq!(io.to_bytes(), bytes);
}

/// A connect as the reference frames have it: no LARGEFILE unless they say so.
fn bare(subtype: Subtype, path: &[u8]) -> Connect<'_> {
    Connect { ioflag: 0, ..Connect::new(subtype, path) }
}

#[test]
fn open_of_dev_null() {
    let open =
        Connect { reply_max: 1024, entry_max: 8, access: 3, ..Connect::open(b"dev/null", 0o100_001, 0) };
    assert_eq!(open.file_type, FTYPE_ANY);
    both_ways(
        &open,
        "00 01 02 00 00 00 00 00 00 04 08 00 00 00 00 00 00 00 00 00 01 80 00 00 00 00 00 00 40 00 03 00
         00 00 09 00 00 00 00 00 64 65 76 2f 6e 75 6c 6c 00",
    );
}

#[test]
fn open_that_creates() {
    let ioflag = IOFLAG_LARGEFILE | IOFLAG_CREAT | 3;
    both_ways(
        &Connect::open(b"tmp/f", ioflag, S_IFREG | 0o644),
        "00 01 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 03 81 00 00 a4 81 00 00 40 00 00 00
         00 00 06 00 00 00 00 00 74 6d 70 2f 66 00",
    );
}

#[test]
fn stat_by_path_in_one_round_trip() {
    let stat = Io::Stat.to_bytes();
    both_ways(
        &Connect::combine_close(b"tmp/f", true, &stat),
        "00 01 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80 00 00 00 00 00 00 40 00 00 00
         00 00 06 00 00 00 08 00 74 6d 70 2f 66 00 00 00 04 01 08 00 00 00 00 00",
    );
}

#[test]
fn readlink_and_the_messages_that_change_names() {
    both_ways(
        &bare(Subtype::Readlink, b"tmp/l"),
        "00 01 06 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 40 00 00 00
         00 00 06 00 00 00 00 00 74 6d 70 2f 6c 00",
    );
    both_ways(
        &Connect { extra: Extra::Symlink(b"target"), ..bare(Subtype::Link, b"tmp/l") },
        "00 01 07 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 40 00 00 00
         00 00 06 00 00 02 07 00 74 6d 70 2f 6c 00 00 00 74 61 72 67 65 74 00",
    );
    both_ways(
        &Connect { extra: Extra::Rename(b"tmp/old"), ..bare(Subtype::Rename, b"tmp/new") },
        "00 01 04 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 40 00 00 00
         00 00 08 00 00 09 08 00 74 6d 70 2f 6e 65 77 00 74 6d 70 2f 6f 6c 64 00",
    );
}

#[test]
fn read_and_pread() {
    io_both_ways(
        &Io::Read { nbytes: 512, xtype: 0, offset: Some(4096) },
        "01 01 18 00 00 02 00 00 05 00 00 00 00 00 00 00 00 10 00 00 00 00 00 00",
    );
    io_both_ways(
        &Io::Read { nbytes: 32, xtype: 0, offset: None },
        "01 01 10 00 20 00 00 00 00 00 00 00 00 00 00 00",
    );
}

#[test]
fn pwrite_does_not_count_its_data() {
    io_both_ways(
        &Io::Write { nbytes: 4, xtype: 0, offset: Some(4096), data: b"data" },
        "02 01 18 00 04 00 00 00 05 00 00 00 00 00 00 00 00 10 00 00 00 00 00 00 64 61 74 61",
    );
}

#[test]
fn small_messages() {
    io_both_ways(&Io::Stat, "04 01 08 00 00 00 00 00");
    io_both_ways(&Io::Close, "16 01 04 00");
    io_both_ways(&Io::Sync { flag: 0o40 }, "19 01 08 00 20 00 00 00");
    io_both_ways(&Io::Pathconf { name: 5 }, "08 01 08 00 05 00 00 00");
    io_both_ways(&Io::Chown { gid: 100, uid: 1000 }, "0b 01 0c 00 64 00 00 00 e8 03 00 00");
    io_both_ways(
        &Io::Utime { now: false, atime: 0x6553_f100, mtime: 0x6553_f101 },
        "0c 01 10 00 00 00 00 00 00 f1 53 65 01 f1 53 65",
    );
    io_both_ways(&Io::Msg { mgrid: 0x0e, subtype: 1, data: &[0; 4] }, "13 01 08 00 0e 00 01 00 00 00 00 00");
    io_both_ways(
        &Io::Space { subtype: 110, whence: 0, start: 0, len: 4096 },
        "10 01 18 00 6e 00 00 00 00 00 00 00 00 00 00 00 00 10 00 00 00 00 00 00",
    );
    io_both_ways(
        &Io::Devctl { dcmd: 0x8004_0102, nbytes: 4, data: &[1, 2, 3, 4] },
        "06 01 10 00 02 01 04 80 04 00 00 00 00 00 00 00 01 02 03 04",
    );
}

#[test]
fn lseek_then_read_is_one_chain() {
    let bytes = hex("09 01 10 80 00 00 00 00 40 00 00 00 00 00 00 00
                     01 01 10 00 20 00 00 00 00 00 00 00 00 00 00 00");
    let seek = Io::Lseek { whence: Whence::Set, offset: 64 };
    let read = Io::Read { nbytes: 32, xtype: 0, offset: None };
    let parsed: Vec<_> = chain(&bytes).collect();
    assert_eq!(parsed, [Ok((seek, Link::Follows)), Ok((read, Link::Last))]);
    let mut out = Vec::new();
    seek.emit(Link::Follows, &mut out);
    read.emit(Link::Last, &mut out);
    assert_eq!(out, bytes);
}

#[test]
fn combine_len_that_would_loop_or_leave_the_message_is_refused() {
    for len in ["00 80", "03 80", "ff ff"] {
        let bytes = hex(&format!("16 01 {len}"));
        assert!(matches!(Io::parse(&bytes), Err(ParseError::Invalid { what: "combine_len", .. })), "{len}");
    }
    // ends inside its own structure
    let cut = hex("01 01 08 80 20 00 00 00 00 00 00 00 00 00 00 00 16 01 04 00");
    assert!(matches!(Io::parse(&cut), Err(ParseError::Short { .. })));
    // a bad second message ends the chain
    let bad = hex("16 01 04 80 ff 01 04 00");
    let parsed: Vec<_> = chain(&bad).collect();
    assert_eq!(parsed.len(), 2);
    assert!(parsed[1].is_err());
}

#[test]
fn paths_need_their_nul_where_the_length_says() {
    let good = Connect::readlink(b"a/b").emit().unwrap();
    let mut no_nul = good.clone();
    *no_nul.last_mut().unwrap() = b'c';
    assert!(matches!(Connect::parse(&no_nul), Err(ParseError::Invalid { what: "path_len", .. })));
    let mut inner = good.clone();
    inner[41] = 0;
    assert!(matches!(Connect::parse(&inner), Err(ParseError::Invalid { what: "path_len", .. })));
    let mut empty = good;
    empty[34] = 0;
    assert_eq!(Connect::parse(&empty).unwrap().path, b"");
}

#[test]
fn texts_with_nul_and_long_paths_are_not_built() {
    assert!(Connect::readlink(b"a\0b").emit().is_err());
    let long = vec![b'x'; 65535];
    assert_eq!(Connect::readlink(&long).emit().unwrap_err().linux_errno(), 36);
}

#[test]
fn unknown_numbers_are_told_apart_from_broken_messages() {
    let unknown = Io::parse(&hex("ff 01 04 00")).unwrap_err();
    assert_eq!(unknown.linux_errno(), 38);
    let short = Io::parse(&hex("01 01 10 00")).unwrap_err();
    assert_eq!(short.linux_errno(), 74);
    let mut subtype = Connect::readlink(b"a").emit().unwrap();
    subtype[2] = 77;
    assert_eq!(Connect::parse(&subtype).unwrap_err().linux_errno(), 38);
}
