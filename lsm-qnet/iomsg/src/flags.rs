//! Open flags as they travel in `_IO_CONNECT`, against Linux's.
//!
//! QNX writes the access mode as open()'s value plus one, so that it is a mask: 1 read, 2 write, 3
//! both, 0 neither (a look-up). The other flags have QNX's own octal values. O_CLOEXEC is the
//! caller's business and never sent.
//!
//! Linux's flags that QNX has no bit for (`O_DIRECTORY`, `O_NOFOLLOW`, `O_DIRECT`, `O_PATH`, …) are
//! not part of `ioflag`: a client says "do not follow" with the file type in `connect.mode`.

/// The connection may read (`_IO_FLAG_RD`).
pub const IOFLAG_READ: u32 = 0o1;
/// The connection may write (`_IO_FLAG_WR`).
pub const IOFLAG_WRITE: u32 = 0o2;
/// Both access bits.
pub const IOFLAG_ACCESS: u32 = 0o3;
/// Every write goes to the end.
pub const IOFLAG_APPEND: u32 = 0o10;
/// Writes wait for the data to be stored.
pub const IOFLAG_DSYNC: u32 = 0o20;
/// Writes wait for data and attributes.
pub const IOFLAG_SYNC: u32 = 0o40;
/// Reads wait as writes do.
pub const IOFLAG_RSYNC: u32 = 0o100;
/// Nothing on this connection waits.
pub const IOFLAG_NONBLOCK: u32 = 0o200;
/// Create the file when it is missing.
pub const IOFLAG_CREAT: u32 = 0o400;
/// Cut the file to nothing.
pub const IOFLAG_TRUNC: u32 = 0o1000;
/// With CREAT: fail when the name exists.
pub const IOFLAG_EXCL: u32 = 0o2000;
/// A terminal does not become the controlling one.
pub const IOFLAG_NOCTTY: u32 = 0o4000;
/// Checks use the real ids.
pub const IOFLAG_REALIDS: u32 = 0o40000;
/// Offsets have 64 bits.
pub const IOFLAG_LARGEFILE: u32 = 0o10_0000;
/// Asynchronous input and output.
pub const IOFLAG_ASYNC: u32 = 0o20_0000;

/// Flags that ask for a change of the file or its directory.
pub const IOFLAG_CHANGES: u32 = IOFLAG_WRITE | IOFLAG_CREAT | IOFLAG_TRUNC;

// Linux's values on x86-64 and AArch64 (O_LARGEFILE aside they agree); a test compares them with libc.
const O_ACCMODE: i32 = 0o3;
const O_WRONLY: i32 = 0o1;
const O_RDWR: i32 = 0o2;
const O_CREAT: i32 = 0o100;
const O_EXCL: i32 = 0o200;
const O_NOCTTY: i32 = 0o400;
const O_TRUNC: i32 = 0o1000;
const O_APPEND: i32 = 0o2000;
const O_NONBLOCK: i32 = 0o4000;
const O_DSYNC: i32 = 0o10000;
const O_ASYNC: i32 = 0o20000;
/// Linux's O_SYNC contains O_DSYNC.
const O_SYNC: i32 = 0o401_0000;

/// Bits that mean one thing each on both sides; SYNC and the access mode are not among them.
const SINGLE: &[(u32, i32)] = &[
    (IOFLAG_APPEND, O_APPEND),
    (IOFLAG_NONBLOCK, O_NONBLOCK),
    (IOFLAG_CREAT, O_CREAT),
    (IOFLAG_TRUNC, O_TRUNC),
    (IOFLAG_EXCL, O_EXCL),
    (IOFLAG_NOCTTY, O_NOCTTY),
    (IOFLAG_ASYNC, O_ASYNC),
];

/// `ioflag` for an open with Linux's `oflag`; always with LARGEFILE.
#[must_use]
pub fn ioflag_from_linux(oflag: i32) -> u32 {
    let access = match oflag & O_ACCMODE {
        O_WRONLY => IOFLAG_WRITE,
        O_RDWR => IOFLAG_ACCESS,
        // Linux's "3" is for ioctl only; without an access bit nothing can be read or written
        O_ACCMODE => 0,
        _ => IOFLAG_READ,
    };
    let sync = match oflag & O_SYNC {
        O_SYNC => IOFLAG_SYNC,
        O_DSYNC => IOFLAG_DSYNC,
        _ => 0,
    };
    SINGLE
        .iter()
        .filter(|(_, linux)| oflag & linux != 0)
        .fold(access | sync | IOFLAG_LARGEFILE, |flags, (io, _)| flags | io)
}

/// Linux's `oflag` for an `ioflag`. A connection without access bits gives Linux's "3".
///
/// The server adds O_CLOEXEC and whatever else it needs; RSYNC is honoured as SYNC or DSYNC, whichever
/// is set beside it, which is what Linux does.
#[must_use]
pub fn linux_from_ioflag(ioflag: u32) -> i32 {
    let access = match ioflag & IOFLAG_ACCESS {
        IOFLAG_READ => 0,
        IOFLAG_WRITE => O_WRONLY,
        IOFLAG_ACCESS => O_RDWR,
        _ => O_ACCMODE,
    };
    let sync = if ioflag & IOFLAG_SYNC != 0 {
        O_SYNC
    } else if ioflag & IOFLAG_DSYNC != 0 {
        O_DSYNC
    } else {
        0
    };
    SINGLE.iter().filter(|(io, _)| ioflag & io != 0).fold(access | sync, |flags, (_, linux)| flags | linux)
}

/// Bits of a mode that hold the file's type.
pub const S_IFMT: u32 = 0o17_0000;
/// FIFO.
pub const S_IFIFO: u32 = 0o1_0000;
/// Character device.
pub const S_IFCHR: u32 = 0o2_0000;
/// Directory.
pub const S_IFDIR: u32 = 0o4_0000;
/// Named special file (QNX only).
pub const S_IFNAM: u32 = 0o5_0000;
/// Block device.
pub const S_IFBLK: u32 = 0o6_0000;
/// Regular file.
pub const S_IFREG: u32 = 0o10_0000;
/// Symbolic link; in `connect.mode`: the last component is not followed.
pub const S_IFLNK: u32 = 0o12_0000;
/// Socket.
pub const S_IFSOCK: u32 = 0o14_0000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn linux_flags_agree_with_libc() {
        for (ours, theirs) in [
            (O_CREAT, libc::O_CREAT),
            (O_EXCL, libc::O_EXCL),
            (O_NOCTTY, libc::O_NOCTTY),
            (O_TRUNC, libc::O_TRUNC),
            (O_APPEND, libc::O_APPEND),
            (O_NONBLOCK, libc::O_NONBLOCK),
            (O_DSYNC, libc::O_DSYNC),
            (O_SYNC, libc::O_SYNC),
            (O_ASYNC, libc::O_ASYNC),
        ] {
            assert_eq!(ours, theirs);
        }
        assert_eq!(S_IFMT, libc::S_IFMT);
        assert_eq!(S_IFLNK, libc::S_IFLNK);
        assert_eq!(S_IFSOCK, libc::S_IFSOCK);
    }

    #[test]
    fn access_on_the_wire_is_open_value_plus_one() {
        assert_eq!(ioflag_from_linux(libc::O_RDONLY), 0o100_001);
        assert_eq!(ioflag_from_linux(libc::O_WRONLY) & IOFLAG_ACCESS, 2);
        assert_eq!(ioflag_from_linux(libc::O_RDWR) & IOFLAG_ACCESS, 3);
        assert_eq!(linux_from_ioflag(1), libc::O_RDONLY);
        assert_eq!(linux_from_ioflag(0) & libc::O_ACCMODE, 3);
    }

    #[test]
    fn caller_flags_are_not_sent() {
        assert_eq!(ioflag_from_linux(libc::O_CLOEXEC | libc::O_DIRECTORY), 0o100_001);
    }

    proptest! {
        #[test]
        fn known_flags_survive_the_round_trip(bits in any::<i32>()) {
            let known = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_ASYNC;
            let oflag = bits & known;
            prop_assert_eq!(linux_from_ioflag(ioflag_from_linux(oflag)), oflag);
            for sync in [O_SYNC, O_DSYNC] {
                prop_assert_eq!(linux_from_ioflag(ioflag_from_linux(oflag | sync)), oflag | sync);
            }
        }
    }
}
