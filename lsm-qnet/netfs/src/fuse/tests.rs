//! The codec against well-formed, hostile and random bytes. No kernel needed.

use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    abi::{
        BatchForgetIn, Dirent, FUSE_KERNEL_MINOR_VERSION, ForgetIn, ForgetOne, GetattrIn, InHeader, InitIn,
        InterruptIn, OpenIn, OutHeader, ReadIn, ReleaseIn,
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
        (Opcode::Readdir, read.as_bytes().into(), Operation::Readdir { fh: 9, offset: 1 << 33, size: 4096 }),
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
        (Opcode::Write, vec![0; 40], Operation::Other(Some(Opcode::Write))),
    ];
    for (opcode, body, expected) in cases {
        let bytes = request(opcode as u32, &body);
        assert_eq!(Request::parse(&bytes).unwrap().operation, expected);
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
fn negotiation_takes_what_the_kernel_offers() {
    let asked = InitIn { major: 7, minor: 45, max_readahead: 131_072, flags: u32::MAX };
    let Negotiated::Agreed(reply) = negotiate(asked).unwrap() else { panic!("same major version") };
    assert_eq!((reply.major, reply.minor), (7, FUSE_KERNEL_MINOR_VERSION));
    assert_eq!(reply.flags, INIT_FLAGS);
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
