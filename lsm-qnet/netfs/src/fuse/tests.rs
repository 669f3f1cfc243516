//! The codec against well-formed, hostile and random bytes. No kernel needed.

use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    abi::{
        AccessIn, BatchForgetIn, CopyFileRangeIn, CreateIn, Dirent, FATTR_ATIME, FATTR_ATIME_NOW, FATTR_FH,
        FATTR_MODE, FATTR_MTIME, FATTR_SIZE, FATTR_UID, FUSE_KERNEL_MINOR_VERSION, FallocateIn, FlushIn,
        ForgetIn, ForgetOne, FsyncIn, GetattrIn, InHeader, InitIn, InterruptIn, LinkIn, LseekIn, MkdirIn,
        MknodIn, OpenIn, OutHeader, ReadIn, ReleaseIn, Rename2In, RenameIn, SetattrIn, WriteIn,
    },
    *,
};

const UNIQUE: u64 = 0x1234;

fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
    let header = InHeader {
        len: (size_of::<InHeader>() + body.len()) as u32,
        opcode,
        unique: UNIQUE,
        nodeid: 7,
        uid: 1000,
        gid: 100,
        pid: 4242,
        ..InHeader::default()
    };
    [header.as_bytes(), body].concat()
}

fn parse(opcode: Opcode, body: &[u8]) -> Result<String, MalformedRequest> {
    let bytes = request(opcode as u32, body);
    Request::parse(&bytes).map(|request| format!("{:?}", request.operation))
}

fn header_of(reply: &[u8]) -> OutHeader {
    OutHeader::read_from_prefix(reply).unwrap().0
}

#[test]
fn header_names_the_caller_and_the_node() {
    let bytes = request(Opcode::Readlink as u32, &[]);
    let request = Request::parse(&bytes).unwrap();
    let InHeader { unique, nodeid, uid, gid, pid, .. } = request.header;
    assert_eq!((unique, nodeid, uid, gid, pid), (UNIQUE, 7, 1000, 100, 4242));
    assert_eq!(request.operation, Operation::Readlink);
}

#[test]
fn lookup_takes_one_name() {
    assert_eq!(parse(Opcode::Lookup, b"etc\0").unwrap(), format!("{:?}", Operation::Lookup { name: b"etc" }));
    // Newer kernels may append extensions behind the name.
    assert!(parse(Opcode::Lookup, b"etc\0more").is_ok());
    for body in [&b""[..], b"\0", b"unterminated", b"a/b\0"] {
        let error = parse(Opcode::Lookup, body).unwrap_err();
        assert_eq!(error, MalformedRequest::Name { unique: UNIQUE, opcode: Opcode::Lookup }, "{body:?}");
    }
}

#[test]
fn operations_carry_their_arguments() {
    let read = ReadIn { fh: 9, offset: 1 << 33, size: 4096, ..ReadIn::default() };
    let cases: Vec<(Opcode, Vec<u8>, Operation<'_>)> = vec![
        (Opcode::Interrupt, InterruptIn { unique: 5 }.as_bytes().into(), Operation::Interrupt { unique: 5 }),
        (Opcode::Forget, ForgetIn { nlookup: 3 }.as_bytes().into(), Operation::Forget { nlookup: 3 }),
        (Opcode::Open, OpenIn { flags: 2, open_flags: 0 }.as_bytes().into(), Operation::Open { flags: 2 }),
        (Opcode::Opendir, OpenIn::default().as_bytes().into(), Operation::Opendir),
        (Opcode::Read, read.as_bytes().into(), Operation::Read { fh: 9, offset: 1 << 33, size: 4096 }),
        (
            Opcode::Readdir,
            read.as_bytes().into(),
            Operation::Readdir { fh: 9, offset: 1 << 33, size: 4096, plus: false },
        ),
        (
            Opcode::Readdirplus,
            read.as_bytes().into(),
            Operation::Readdir { fh: 9, offset: 1 << 33, size: 4096, plus: true },
        ),
        (
            Opcode::Release,
            ReleaseIn { fh: 9, ..ReleaseIn::default() }.as_bytes().into(),
            Operation::Release { fh: 9 },
        ),
        (Opcode::Getattr, GetattrIn::default().as_bytes().into(), Operation::Getattr { fh: None }),
        (
            Opcode::Getattr,
            GetattrIn { getattr_flags: 1, dummy: 0, fh: 9 }.as_bytes().into(),
            Operation::Getattr { fh: Some(9) },
        ),
        (Opcode::Statfs, vec![], Operation::Statfs),
        (Opcode::Destroy, vec![], Operation::Destroy),
        (Opcode::Tmpfile, vec![], Operation::Tmpfile),
        (Opcode::Ioctl, vec![0; 40], Operation::Other(Some(Opcode::Ioctl))),
    ];
    expect(&cases);
}

#[track_caller]
fn expect(cases: &[(Opcode, Vec<u8>, Operation<'_>)]) {
    for (opcode, body, expected) in cases {
        let bytes = request(*opcode as u32, body);
        assert_eq!(Request::parse(&bytes).unwrap().operation, *expected);
    }
}

fn with_names(head: &(impl IntoBytes + zerocopy::Immutable), names: &[u8]) -> Vec<u8> {
    [head.as_bytes(), names].concat()
}

#[test]
fn what_makes_a_file_comes_with_the_mask_applied() {
    let create = CreateIn { flags: 0o101, mode: libc::S_IFREG | 0o4777, umask: 0o022, open_flags: 0 };
    let mknod = MknodIn { mode: libc::S_IFIFO | 0o666, rdev: 0, umask: 0o077, padding: 0 };
    let mkdir = MkdirIn { mode: 0o1777, umask: 0o7777 };
    expect(&[
        (
            Opcode::Create,
            with_names(&create, b"f\0"),
            Operation::Create { name: b"f", flags: 0o101, mode: libc::S_IFREG | 0o4755 },
        ),
        (
            Opcode::Mknod,
            with_names(&mknod, b"fifo\0"),
            Operation::Mknod { name: b"fifo", mode: libc::S_IFIFO | 0o600 },
        ),
        (Opcode::Mkdir, with_names(&mkdir, b"d\0"), Operation::Mkdir { name: b"d", mode: 0o1000 }),
    ]);
}

#[test]
fn what_changes_names_comes_with_all_of_them() {
    let rename = RenameIn { newdir: 8 };
    let rename2 = Rename2In { newdir: 8, flags: 1, padding: 0 };
    let moved = |flags| Operation::Rename { name: b"old", new_parent: 8, new_name: b"new", flags };
    expect(&[
        (Opcode::Unlink, b"f\0".into(), Operation::Unlink { name: b"f" }),
        (Opcode::Rmdir, b"d\0".into(), Operation::Rmdir { name: b"d" }),
        (Opcode::Rename, with_names(&rename, b"old\0new\0"), moved(0)),
        (Opcode::Rename2, with_names(&rename2, b"old\0new\0"), moved(1)),
        (Opcode::Symlink, b"link\0../a/b\0".into(), Operation::Symlink { name: b"link", target: b"../a/b" }),
        (
            Opcode::Link,
            with_names(&LinkIn { oldnodeid: 3 }, b"other\0"),
            Operation::Link { from: 3, name: b"other" },
        ),
    ]);
    for (opcode, body) in [
        (Opcode::Rename, with_names(&rename, b"old\0new")),
        (Opcode::Rename, with_names(&rename, b"old\0")),
        (Opcode::Rename2, with_names(&rename2, b"old\0a/b\0")),
        (Opcode::Symlink, b"link\0".into()),
        (Opcode::Symlink, b"a/b\0target\0".into()),
        (Opcode::Mkdir, with_names(&MkdirIn::default(), b"\0")),
    ] {
        let error = parse(opcode, &body).unwrap_err();
        assert_eq!(error, MalformedRequest::Name { unique: UNIQUE, opcode }, "{body:?}");
    }
}

#[test]
fn attributes_are_changed_as_far_as_they_are_valid() {
    let args = SetattrIn {
        valid: FATTR_MODE | FATTR_SIZE | FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_FH,
        fh: 9,
        size: 1 << 33,
        mtime: (-1_i64).cast_unsigned(),
        mtimensec: 5,
        mode: libc::S_IFREG | 0o640,
        uid: 7,
        gid: 8,
        ..SetattrIn::default()
    };
    let attributes = Attributes {
        mode: Some(0o640),
        size: Some(1 << 33),
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::To { seconds: -1, nanoseconds: 5 }),
        ..Attributes::default()
    };
    let owner = SetattrIn { valid: FATTR_UID, ..args };
    let gone = Attributes { uid: Some(7), ..Attributes::default() };
    expect(&[
        (Opcode::Setattr, args.as_bytes().into(), Operation::Setattr { fh: Some(9), attributes }),
        (Opcode::Setattr, owner.as_bytes().into(), Operation::Setattr { fh: None, attributes: gone }),
    ]);
}

#[test]
fn operations_on_open_files_carry_their_arguments() {
    let write = WriteIn { fh: 9, offset: 7, size: 3, write_flags: 1, ..WriteIn::default() };
    let copy =
        CopyFileRangeIn { fh_in: 1, off_in: 2, nodeid_out: 3, fh_out: 4, off_out: 5, len: 6, flags: 0 };
    let copied =
        Operation::CopyFileRange { from: 1, from_offset: 2, to: 4, to_nodeid: 3, to_offset: 5, length: 6 };
    let allocate = FallocateIn { fh: 9, offset: 1, length: 2, mode: 3, padding: 0 };
    let flush = FlushIn { fh: 9, lock_owner: 77, ..FlushIn::default() };
    let sync = |fsync_flags| FsyncIn { fh: 9, fsync_flags, padding: 0 }.as_bytes().to_vec();
    let seek = LseekIn { fh: 9, offset: 4, whence: 3, padding: 0 };
    expect(&[
        (
            Opcode::Write,
            with_names(&write, b"abc"),
            Operation::Write { fh: 9, offset: 7, append: false, mapped: true, data: b"abc" },
        ),
        (Opcode::CopyFileRange, copy.as_bytes().into(), copied),
        (
            Opcode::Fallocate,
            allocate.as_bytes().into(),
            Operation::Fallocate { fh: 9, offset: 1, length: 2, mode: 3 },
        ),
        (Opcode::Flush, flush.as_bytes().into(), Operation::Flush { fh: 9, lock_owner: 77 }),
        (Opcode::Fsync, sync(0), Operation::Fsync { fh: 9, data_only: false }),
        (Opcode::Fsyncdir, sync(1), Operation::Fsync { fh: 9, data_only: true }),
        (Opcode::Lseek, seek.as_bytes().into(), Operation::Lseek { fh: 9, offset: 4, whence: 3 }),
        (Opcode::Access, AccessIn { mask: 6, padding: 0 }.as_bytes().into(), Operation::Access { mask: 6 }),
    ]);
    let bytes = request(Opcode::Write as u32, &with_names(&write, b"abc"));
    assert_eq!(&bytes[WRITE_DATA..], b"abc");
    for data in [&b"ab"[..], b"abcd"] {
        assert!(parse(Opcode::Write, &with_names(&write, data)).is_err(), "the data are as long as they say");
    }
}

#[test]
fn batch_forget_lists_every_node() {
    let ones = [ForgetOne { nodeid: 2, nlookup: 1 }, ForgetOne { nodeid: 3, nlookup: 8 }];
    let body = [BatchForgetIn { count: 2, dummy: 0 }.as_bytes(), ones.as_bytes()].concat();
    let bytes = request(Opcode::BatchForget as u32, &body);
    let Operation::BatchForget(forgets) = Request::parse(&bytes).unwrap().operation else {
        panic!("not a forget")
    };
    assert_eq!(forgets.collect::<Vec<_>>(), ones);
}

#[test]
fn batch_forget_with_a_lying_count_is_refused() {
    for count in [3, u32::MAX] {
        let body = [BatchForgetIn { count, dummy: 0 }.as_bytes(), &[0; 32][..]].concat();
        let error = parse(Opcode::BatchForget, &body).unwrap_err();
        assert_eq!(error.unique(), Some(UNIQUE));
    }
}

#[test]
fn every_truncation_of_the_arguments_is_an_error_or_harmless() {
    let longest = [0_u8; 64];
    for opcode in Opcode::ALL {
        for len in 0..longest.len() {
            if let Err(error) = parse(*opcode, &longest[..len]) {
                assert_eq!(error.unique(), Some(UNIQUE), "{opcode:?} {len}");
            }
        }
    }
}

#[test]
fn a_wrong_length_is_refused_and_can_still_be_answered() {
    let mut bytes = request(Opcode::Statfs as u32, &[]);
    bytes.push(0);
    let error = Request::parse(&bytes).unwrap_err();
    assert_eq!(error, MalformedRequest::Length { unique: UNIQUE, announced: 40, got: 41 });
    assert_eq!(Request::parse(&bytes[..39]).unwrap_err().unique(), None);
}

#[test]
fn an_unknown_operation_is_reported_as_such() {
    let bytes = request(4096, &[1, 2, 3]);
    assert_eq!(Request::parse(&bytes).unwrap().operation, Operation::Other(None));
}

#[test]
fn opcodes_keep_their_numbers() {
    for opcode in Opcode::ALL {
        assert_eq!(Opcode::from_number(*opcode as u32), Some(*opcode));
    }
    assert_eq!(Opcode::from_number(7), None);
}

#[test]
fn a_newer_kernel_says_more_of_itself_than_is_asked() {
    let asked = InitIn { major: 7, minor: 45, max_readahead: 0, flags: 1 };
    let longer = [asked.as_bytes(), &[0xff; 48]].concat();
    expect(&[
        (Opcode::Init, asked.as_bytes().into(), Operation::Init { asked }),
        (Opcode::Init, longer, Operation::Init { asked }),
    ]);
}

#[test]
fn negotiation_takes_what_the_kernel_offers() {
    let asked = InitIn { major: 7, minor: 45, max_readahead: 131_072, flags: u32::MAX };
    let Negotiated::Agreed(reply) = negotiate(asked).unwrap() else { panic!("same major version") };
    assert_eq!((reply.major, reply.minor), (7, FUSE_KERNEL_MINOR_VERSION));
    assert_eq!((reply.flags, reply.flags2), (INIT_FLAGS, 0));
    assert_eq!((reply.max_readahead, reply.max_write, reply.max_pages), (131_072, MAX_TRANSFER, 256));
    assert!(reply.congestion_threshold < reply.max_background);

    let asked = InitIn { major: 7, minor: MIN_MINOR, max_readahead: u32::MAX, flags: 0 };
    let Negotiated::Agreed(reply) = negotiate(asked).unwrap() else { panic!("same major version") };
    assert_eq!((reply.minor, reply.flags, reply.max_readahead), (MIN_MINOR, 0, MAX_TRANSFER));
}

#[test]
fn negotiation_refuses_old_kernels_and_asks_newer_ones_again() {
    for (major, minor) in [(6, 99), (7, MIN_MINOR - 1)] {
        assert_eq!(
            negotiate(InitIn { major, minor, ..InitIn::default() }),
            Err(UnsupportedKernel { major, minor })
        );
    }
    let Ok(Negotiated::Again(reply)) = negotiate(InitIn { major: 8, minor: 0, ..InitIn::default() }) else {
        panic!("a newer kernel is asked again")
    };
    assert_eq!((reply.major, reply.minor), (7, FUSE_KERNEL_MINOR_VERSION));
}

#[test]
fn status_replies_negate_the_errno() {
    let reply = reply::status(UNIQUE, libc::EINTR);
    assert_eq!(header_of(&reply), OutHeader { len: 16, error: -libc::EINTR, unique: UNIQUE });
    assert_eq!(reply.len(), 16);
}

#[test]
fn an_errno_that_the_kernel_would_not_take_becomes_eio() {
    for errno in [-5, 512, i32::MAX, i32::MIN] {
        assert_eq!(header_of(&reply::status(UNIQUE, errno)).error, -libc::EIO);
    }
}

#[test]
fn buffer_keeps_pieces_in_place_and_in_bounds() {
    let mut buffer = reply::Buffer::new(8);
    buffer.place(0, b"ab");
    buffer.place(2, b"cd");
    buffer.place(6, b"ghijkl");
    buffer.place(usize::MAX, b"far away");
    buffer.place(4, b"ef");
    assert_eq!(buffer.data(), b"abcdefgh");
    buffer.truncate(usize::MAX);
    buffer.truncate(3);
    let reply = buffer.into_reply(UNIQUE);
    assert_eq!(header_of(&reply), OutHeader { len: 19, error: 0, unique: UNIQUE });
    assert_eq!(&reply[16..], b"abc");
}

#[test]
fn memory_that_served_before_shows_nothing_of_it() {
    let mut buffer = reply::Buffer::reusing(vec![9; 100], 64);
    assert_eq!(buffer.data(), b"");
    buffer.place(4, b"ef");
    assert_eq!(buffer.data(), b"\0\0\0\0ef", "a gap reads as zeros");
    buffer.truncate(5);
    buffer.place(7, b"h");
    assert_eq!(buffer.data(), b"\0\0\0\0e\0\0h", "what was cut off is gone");
    let reply = buffer.into_reply(UNIQUE);
    assert_eq!(header_of(&reply), OutHeader { len: 24, error: 0, unique: UNIQUE });
    assert_eq!(reply.len(), 24);
}

#[test]
fn directory_entries_are_padded_and_stop_at_the_limit() {
    let mut entries = reply::Directory::new(64);
    assert!(entries.push(11, 1, 4, b"node"));
    assert!(entries.push(12, 2, 0, b"x"));
    assert!(!entries.push(13, 3, 0, b"y"), "32 + 32 bytes are used up");
    let reply = entries.into_reply(UNIQUE);
    assert_eq!(reply.len(), 16 + 64);
    let (first, rest) = Dirent::read_from_prefix(&reply[16..]).unwrap();
    assert_eq!(first, Dirent { ino: 11, off: 1, namelen: 4, kind: 4 });
    assert_eq!(&rest[..8], b"node\0\0\0\0");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = Request::parse(&bytes);
    }

    #[test]
    fn random_arguments_never_panic(opcode in 0_u32..64, body in proptest::collection::vec(any::<u8>(), 0..128)) {
        let bytes = request(opcode, &body);
        if let Ok(Request { operation: Operation::BatchForget(forgets), .. }) = Request::parse(&bytes) {
            prop_assert!(forgets.count() * size_of::<ForgetOne>() <= body.len());
        }
    }

    #[test]
    fn random_pieces_never_exceed_the_buffer(pieces in proptest::collection::vec((0_usize..100, 0_usize..100), 0..20)) {
        let mut buffer = reply::Buffer::new(64);
        for (offset, len) in pieces {
            buffer.place(offset, &vec![1; len]);
            prop_assert!(buffer.data().len() <= 64);
        }
    }
}
