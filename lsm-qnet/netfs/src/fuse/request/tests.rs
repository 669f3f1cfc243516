//! Locks, extended attributes and readiness, as the kernel writes them down.

use zerocopy::IntoBytes;

use super::*;
use crate::fuse::{
    abi::{FUSE_LK_FLOCK, FUSE_POLL_SCHEDULE_NOTIFY, GetxattrIn, LkIn, PollIn, SetxattrIn},
    operation::FileLock,
};

/// What a request asks for, or why it does not.
fn parse(opcode: Opcode, body: &[u8]) -> Result<Operation<'_>, MalformedRequest> {
    Arguments { unique: 7, opcode, body }.operation()
}

#[test]
fn locks_carry_their_owner_and_their_bytes() {
    let body = LkIn { fh: 3, owner: 9, start: 10, end: 19, kind: 1, pid: 42, ..LkIn::default() };
    let lock = FileLock { owner: 9, pid: 42, start: 10, end: 19, kind: 1, whole: false };
    let cases = [
        (Opcode::Getlk, Operation::Getlk { fh: 3, lock }),
        (Opcode::Setlk, Operation::Setlk { fh: 3, lock, wait: false }),
        (Opcode::Setlkw, Operation::Setlk { fh: 3, lock, wait: true }),
    ];
    for (opcode, expected) in cases {
        assert_eq!(parse(opcode, body.as_bytes()), Ok(expected));
    }
    let flock = LkIn { lk_flags: FUSE_LK_FLOCK, ..body };
    let lock = FileLock { whole: true, ..lock };
    assert_eq!(parse(Opcode::Setlk, flock.as_bytes()), Ok(Operation::Setlk { fh: 3, lock, wait: false }));
}

#[test]
fn attributes_carry_names_and_values_of_any_bytes() {
    let set = |size, rest: &[u8]| [SetxattrIn { size, flags: 2 }.as_bytes(), rest].concat();
    let expected = Operation::Setxattr { name: b"user.a", value: b"x\0y", flags: 2 };
    assert_eq!(parse(Opcode::Setxattr, &set(3, b"user.a\0x\0y")), Ok(expected));
    let expected = Operation::Setxattr { name: b"user.a", value: b"", flags: 2 };
    assert_eq!(parse(Opcode::Setxattr, &set(0, b"user.a\0")), Ok(expected));
    for (size, rest) in [(4, &b"user.a\0x\0y"[..]), (u32::MAX, b"user.a\0"), (0, b"user.a"), (1, b"\0x")] {
        assert!(parse(Opcode::Setxattr, &set(size, rest)).is_err(), "{rest:?}");
    }
    let get = [GetxattrIn { size: 64, padding: 0 }.as_bytes(), b"user.a\0"].concat();
    assert_eq!(parse(Opcode::Getxattr, &get), Ok(Operation::Getxattr { name: b"user.a", size: 64 }));
    assert_eq!(parse(Opcode::Listxattr, &get[..8]), Ok(Operation::Listxattr { size: 64 }));
    assert_eq!(parse(Opcode::Removexattr, b"user.a\0"), Ok(Operation::Removexattr { name: b"user.a" }));
    assert!(parse(Opcode::Removexattr, b"user.a").is_err() && parse(Opcode::Getxattr, &get[..8]).is_err());
}

#[test]
fn a_poll_says_whether_somebody_waits() {
    let body = PollIn { fh: 3, kh: 5, flags: 0, events: 0x2005 };
    let expected = Operation::Poll { fh: 3, events: 0x2005, notify: None };
    assert_eq!(parse(Opcode::Poll, body.as_bytes()), Ok(expected));
    let body = PollIn { flags: FUSE_POLL_SCHEDULE_NOTIFY, ..body };
    let expected = Operation::Poll { fh: 3, events: 0x2005, notify: Some(5) };
    assert_eq!(parse(Opcode::Poll, body.as_bytes()), Ok(expected));
}
