//! Opening for writing, and changing what is in files.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal};
use qnet_iomsg::filesys::{Request as Filesys, SeekFor, Statvfs, allocate};
use qnet_iomsg::flags::{
    IOFLAG_APPEND, IOFLAG_CREAT, IOFLAG_DSYNC, IOFLAG_EXCL, IOFLAG_LARGEFILE, IOFLAG_NONBLOCK, IOFLAG_READ,
    IOFLAG_SYNC, IOFLAG_TRUNC, IOFLAG_WRITE, S_IFLNK,
};
use qnet_iomsg::message::{XTYPE_APPEND, space};
use qnet_iomsg::stat::REPLY_LEN;
use qnet_iomsg::{Connect, Extra, Io, StatReply, Subtype};

use crate::Case;
use crate::support::{Need, Result, Server, Start, public_dir, until};

pub(crate) const CASES: &[Case] = &[
    ("a_file_is_created_and_described_at_once", Need::Nothing, created_and_described),
    ("every_flag_of_open_does_what_it_says", Need::Nothing, every_flag),
    ("a_link_to_nothing_is_not_created_through", Need::Nothing, link_to_nothing),
    ("writes_go_where_they_are_meant_to", Need::Nothing, writes_go_where),
    ("appends_of_two_callers_lose_nothing", Need::Nothing, appends_lose_nothing),
    ("each_write_says_whether_it_appends", Need::Nothing, each_write_says_whether_it_appends),
    ("a_write_of_a_mebibyte_arrives_whole", Need::Nothing, large_write),
    ("a_message_longer_than_any_write_is_written_in_part", Need::Nothing, too_large_write),
    ("many_large_writes_at_once_are_all_done", Need::Nothing, many_large_writes),
    ("sizes_are_set_by_path_and_by_file", Need::Nothing, sizes_are_set),
    ("files_beyond_4_gib_and_2038_are_as_they_are", Need::Nothing, beyond_32_bits),
    ("space_is_allocated_and_freed", Need::Nothing, space_is_allocated),
    ("data_and_holes_are_found", Need::Nothing, data_and_holes),
    ("a_file_is_copied_by_the_server", Need::Nothing, copied_by_the_server),
    ("what_is_not_open_for_writing_is_not_written", Need::Nothing, not_open_for_writing),
    ("a_file_of_which_a_local_program_has_a_lease_is_waited_for", Need::Nothing, leased_files_are_waited_for),
    ("a_full_file_system_says_so", Need::Root, full_file_system),
];

/// Opens with everything said.
pub(crate) fn open(server: &mut Server, conn: u32, path: &str, ioflag: u32, mode: u32) -> Result<i32> {
    let coid = server.number() as i32;
    let message = Connect::open(path.as_bytes(), ioflag | IOFLAG_LARGEFILE, mode).emit().unwrap();
    server.call(conn, coid, &message, 0).map(|_| coid)
}

pub(crate) fn write_at(
    server: &mut Server,
    conn: u32,
    coid: i32,
    offset: Option<u64>,
    data: &[u8],
) -> Result<i64> {
    let write = Io::Write { nbytes: data.len() as u32, xtype: 0, offset, data };
    server.io(conn, coid, &write, 0).map(|answer| answer.status)
}

pub(crate) fn ours(server: &mut Server, conn: u32, coid: i32, request: &Filesys<'_>) -> Result<Vec<u8>> {
    server.call(conn, coid, &request.to_bytes(), 4096).map(|answer| answer.data)
}

const WRITE: u32 = IOFLAG_WRITE;
const BOTH: u32 = IOFLAG_READ | IOFLAG_WRITE;

fn created_and_described() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let stat = Io::Stat.to_bytes();
    let create = Connect {
        ioflag: BOTH | IOFLAG_CREAT | IOFLAG_LARGEFILE,
        mode: S_IFLNK | 0o666,
        extra: Extra::Messages(&stat),
        ..Connect::new(Subtype::Combine, b"new")
    };
    let answer = server.call(conn, 7, &create.emit().unwrap(), REPLY_LEN as u32).unwrap();
    let told = StatReply::parse(&answer.data).unwrap().stat;
    assert_eq!((told.mode, told.size, told.nlink), (libc::S_IFREG | 0o666, 0, 1), "no umask of the server's");
    assert_eq!(write_at(&mut server, conn, 7, Some(0), b"text"), Ok(4));
    assert_eq!(server.read_at(conn, 7, 0, 10).unwrap(), b"text");
    assert_eq!(told.ino, fs::metadata(dir.path().join("new")).unwrap().ino());
    // the mode counts for the file, not for this open of it
    assert!(open(&mut server, conn, "unreadable", BOTH | IOFLAG_CREAT | IOFLAG_EXCL, 0).is_ok());
}

fn every_flag() {
    let dir = public_dir();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("old"), "content").unwrap();
    fs::create_dir(path("dir")).unwrap();
    symlink("old", path("link")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    for (name, ioflag, expected) in [
        ("old", WRITE | IOFLAG_CREAT | IOFLAG_EXCL, Err(libc::EEXIST)),
        ("link", WRITE | IOFLAG_CREAT | IOFLAG_EXCL, Err(libc::EEXIST)),
        ("missing", WRITE, Err(libc::ENOENT)),
        ("no/such", WRITE | IOFLAG_CREAT, Err(libc::ENOENT)),
        ("old/x", WRITE | IOFLAG_CREAT, Err(libc::ENOTDIR)),
        ("dir", WRITE, Err(libc::EISDIR)),
        ("dir", WRITE | IOFLAG_CREAT, Err(libc::EISDIR)),
        ("new/", WRITE | IOFLAG_CREAT, Err(libc::EISDIR)),
        ("", IOFLAG_READ | IOFLAG_CREAT, Ok(())),
        ("dir/..", WRITE | IOFLAG_CREAT, Err(libc::EISDIR)),
        ("old", IOFLAG_TRUNC, Err(libc::EINVAL)),
        ("old", WRITE | IOFLAG_SYNC, Ok(())),
        ("old", WRITE | IOFLAG_DSYNC, Ok(())),
        ("old", IOFLAG_READ | IOFLAG_CREAT, Ok(())),
        ("link", BOTH | IOFLAG_CREAT, Ok(())),
        ("new", WRITE | IOFLAG_CREAT | IOFLAG_EXCL | IOFLAG_TRUNC, Ok(())),
    ] {
        assert_eq!(open(&mut server, conn, name, ioflag, 0o644).map(drop), expected, "{name} {ioflag:o}");
    }
    let long = "x".repeat(256);
    assert_eq!(open(&mut server, conn, &long, WRITE | IOFLAG_CREAT, 0o644), Err(libc::ENAMETOOLONG));
    assert_eq!(fs::read(path("old")).unwrap(), b"content");
    open(&mut server, conn, "old", WRITE | IOFLAG_TRUNC, 0).unwrap();
    assert_eq!(fs::read(path("old")).unwrap(), b"");
    assert_eq!(fs::metadata(path("new")).unwrap().permissions().mode() & 0o7777, 0o644);
}

fn link_to_nothing() {
    let dir = public_dir();
    let outside = public_dir();
    symlink(outside.path().join("made"), dir.path().join("link")).unwrap();
    symlink("made", dir.path().join("near")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    for name in ["link", "near"] {
        assert_eq!(open(&mut server, conn, name, WRITE | IOFLAG_CREAT, 0o644), Err(libc::ENOENT), "{name}");
        let nofollow = open(&mut server, conn, name, WRITE | IOFLAG_CREAT, S_IFLNK | 0o644);
        assert_eq!(nofollow, Err(libc::ELOOP), "{name}");
    }
    assert!(!outside.path().join("made").exists() && !dir.path().join("made").exists());
}

fn writes_go_where() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let coid = open(&mut server, conn, "f", BOTH | IOFLAG_CREAT, 0o644).unwrap();
    assert_eq!(write_at(&mut server, conn, coid, None, b"abc"), Ok(3));
    assert_eq!(write_at(&mut server, conn, coid, None, b"def"), Ok(3));
    assert_eq!(write_at(&mut server, conn, coid, Some(1), b"XY"), Ok(2));
    assert_eq!(write_at(&mut server, conn, coid, None, b"g"), Ok(1), "a place of its own moves nothing");
    assert_eq!(write_at(&mut server, conn, coid, Some(10), b"!"), Ok(1));
    assert_eq!(write_at(&mut server, conn, coid, Some(0), b""), Ok(0));
    assert_eq!(write_at(&mut server, conn, coid, Some(u64::MAX), b"x"), Err(libc::EINVAL));
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"aXYdefg\0\0\0!");
    server.io(conn, coid, &Io::Sync { flag: IOFLAG_SYNC }, 0).unwrap();
    server.io(conn, coid, &Io::Sync { flag: IOFLAG_DSYNC }, 0).unwrap();
}

fn appends_lose_nothing() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conns = [server.connect_owner(), server.connect_owner()];
    let files = conns.map(|conn| {
        (conn, open(&mut server, conn, "f", WRITE | IOFLAG_CREAT | IOFLAG_APPEND, 0o644).unwrap())
    });
    let mut calls = Vec::new();
    for n in 0..400_u32 {
        let (conn, coid) = files[n as usize % 2];
        let line = format!("{n:07}\n");
        // with the flag of one write, the offset is the caller's belief about the end, and not asked for
        let (xtype, offset) = if n % 3 == 0 { (XTYPE_APPEND, Some(0)) } else { (0, None) };
        let write = Io::Write { nbytes: 8, xtype, offset, data: line.as_bytes() };
        calls.push(server.submit(conn, coid, &write.to_bytes(), 0));
    }
    for txn in calls {
        assert_eq!(server.wait(txn).unwrap().status, 8);
    }
    let text = fs::read_to_string(dir.path().join("f")).unwrap();
    let mut lines: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, (0..400).collect::<Vec<u32>>());
}

fn each_write_says_whether_it_appends() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let plain = open(&mut server, conn, "f", WRITE | IOFLAG_CREAT, 0o644).unwrap();
    let appending = open(&mut server, conn, "f", WRITE | IOFLAG_APPEND, 0).unwrap();
    let append = |server: &mut Server, coid, data: &[u8]| {
        let write = Io::Write { nbytes: data.len() as u32, xtype: XTYPE_APPEND, offset: Some(0), data };
        server.io(conn, coid, &write, 0).map(|answer| answer.status)
    };
    assert_eq!(write_at(&mut server, conn, plain, None, b"abc"), Ok(3));
    assert_eq!(append(&mut server, plain, b"def"), Ok(3));
    assert_eq!(write_at(&mut server, conn, plain, None, b"D"), Ok(1), "the position has stayed");
    assert_eq!(write_at(&mut server, conn, appending, Some(1), b"B"), Ok(1), "a place that was said counts");
    assert_eq!(write_at(&mut server, conn, appending, None, b"gh"), Ok(2));
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"aBcDefgh");
}

/// Bytes that tell where they belong.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

fn large_write() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let coid = open(&mut server, conn, "f", WRITE | IOFLAG_CREAT, 0o644).unwrap();
    for len in [64 << 10, (64 << 10) + 1, 1 << 20] {
        let data = pattern(len);
        assert_eq!(write_at(&mut server, conn, coid, Some(5), &data), Ok(len as i64));
        assert!(fs::read(dir.path().join("f")).unwrap()[5..] == data, "{len} bytes");
    }
}

fn too_large_write() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let coid = open(&mut server, conn, "f", WRITE | IOFLAG_CREAT, 0o644).unwrap();
    let data = pattern((1 << 20) + 1000);
    assert_eq!(write_at(&mut server, conn, coid, Some(0), &data), Ok(1 << 20));
    assert!(fs::read(dir.path().join("f")).unwrap() == data[..1 << 20]);
}

/// More than the server keeps in memory for one node.
fn many_large_writes() {
    const PIECE: usize = 1 << 20;
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let coid = open(&mut server, conn, "f", WRITE | IOFLAG_CREAT, 0o644).unwrap();
    let data = pattern(PIECE);
    let calls: Vec<u32> = (0..80_u64)
        .map(|n| {
            let offset = Some(n * PIECE as u64);
            let write = Io::Write { nbytes: PIECE as u32, xtype: 0, offset, data: &data };
            server.submit(conn, coid, &write.to_bytes(), 0)
        })
        .collect();
    for txn in calls {
        assert_eq!(server.wait(txn).unwrap().status, PIECE as i64);
    }
    let written = fs::read(dir.path().join("f")).unwrap();
    assert!(written.len() == 80 * PIECE && written.chunks(PIECE).all(|piece| piece == data));
}

fn size_of_path(server: &mut Server, conn: u32, path: &str, size: u64) -> Result<()> {
    let message = Io::Space { subtype: space::FREE, whence: 0, start: size, len: 0 }.to_bytes();
    let message = Connect::combine_close(path.as_bytes(), true, &message).emit().unwrap();
    server.call(conn, 0, &message, 100).map(drop)
}

fn sizes_are_set() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "content").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    size_of_path(&mut server, conn, "f", 3).unwrap();
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"con");
    assert_eq!(size_of_path(&mut server, conn, "", 3), Err(libc::EISDIR));
    assert_eq!(size_of_path(&mut server, conn, "f", u64::MAX), Err(libc::EINVAL));
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(size_of_path(&mut server, conn, "fifo", 3), Err(libc::EINVAL));
    let coid = open(&mut server, conn, "f", WRITE, 0).unwrap();
    let grow = Io::Space { subtype: space::FREE, whence: 0, start: 5, len: 0 };
    assert_eq!(server.io(conn, coid, &grow, 8).unwrap().data, 5_u64.to_le_bytes(), "the new size");
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"con\0\0");
    // what is done in one go: attributes, and what they are then
    let mut chain = Vec::new();
    Io::Chmod { mode: 0o600 }.emit(qnet_iomsg::Link::Follows, &mut chain);
    Io::Space { subtype: space::FREE, whence: 0, start: 1, len: 0 }
        .emit(qnet_iomsg::Link::Follows, &mut chain);
    Io::Stat.emit(qnet_iomsg::Link::Last, &mut chain);
    let message = Connect::combine_close(b"f", false, &chain).emit().unwrap();
    let stat =
        StatReply::parse(&server.call(conn, 0, &message, REPLY_LEN as u32).unwrap().data).unwrap().stat;
    assert_eq!((stat.size, stat.mode & 0o7777), (1, 0o600));
}

fn beyond_32_bits() {
    use qnet_iomsg::Timestamp;
    use qnet_iomsg::filesys::SetTime;
    const FAR: u64 = (5 << 30) + 3;
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let coid = open(&mut server, conn, "f", BOTH | IOFLAG_CREAT, 0o644).unwrap();
    assert_eq!(write_at(&mut server, conn, coid, Some(FAR), b"end"), Ok(3));
    assert_eq!(server.read_at(conn, coid, FAR, 10).unwrap(), b"end");
    let at = |seconds| SetTime::At(Timestamp { seconds, nanoseconds: 123_456_789 });
    ours(&mut server, conn, coid, &Filesys::Times { atime: at(4_102_444_800), mtime: at(-1) }).unwrap();
    let stat = server.stat(conn, "f").unwrap();
    assert_eq!(stat.size, FAR + 3);
    assert_eq!(stat.atime, Timestamp { seconds: 4_102_444_800, nanoseconds: 123_456_789 });
    assert_eq!(stat.mtime, Timestamp { seconds: -1, nanoseconds: 123_456_789 });
}

fn space_is_allocated() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let coid = open(&mut server, conn, "f", BOTH | IOFLAG_CREAT, 0o644).unwrap();
    let get = |server: &mut Server, mode, offset, len| {
        ours(server, conn, coid, &Filesys::Allocate { mode, offset, len })
    };
    get(&mut server, 0, 0, 100_000).unwrap();
    assert_eq!(server.stat(conn, "f").unwrap().size, 100_000);
    get(&mut server, allocate::KEEP_SIZE, 0, 200_000).unwrap();
    let stat = server.stat(conn, "f").unwrap();
    assert!(stat.size == 100_000 && stat.blocks * 512 >= 200_000, "{stat:?}");
    write_at(&mut server, conn, coid, Some(0), &[7; 100_000]).unwrap();
    get(&mut server, allocate::PUNCH_HOLE | allocate::KEEP_SIZE, 4096, 8192).unwrap();
    let content = fs::read(dir.path().join("f")).unwrap();
    assert!(content[4096..12288].iter().all(|byte| *byte == 0) && content[12288] == 7);
    assert_eq!(get(&mut server, 0x8000, 0, 1), Err(libc::EOPNOTSUPP));
    assert_eq!(get(&mut server, 0, 0, 0), Err(libc::EINVAL));
    let free = Io::Space { subtype: space::FREE, whence: 0, start: 0, len: 4096 };
    server.io(conn, coid, &free, 0).unwrap();
    assert!(fs::read(dir.path().join("f")).unwrap()[..4096].iter().all(|byte| *byte == 0));
    let unknown = Io::Space { subtype: 1, whence: 0, start: 0, len: 4096 };
    assert_eq!(server.io(conn, coid, &unknown, 0), Err(libc::EINVAL));
}

fn data_and_holes() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let coid = open(&mut server, conn, "f", BOTH | IOFLAG_CREAT, 0o644).unwrap();
    write_at(&mut server, conn, coid, Some(1 << 20), b"data").unwrap();
    let mut find = |what, offset| ours(&mut server, conn, coid, &Filesys::Seek { what, offset });
    let to = |offset: u64| Ok(offset.to_le_bytes().to_vec());
    assert_eq!(find(SeekFor::Data, 0), to(1 << 20));
    assert_eq!(find(SeekFor::Hole, 0), to(0));
    assert_eq!(find(SeekFor::Hole, 1 << 20), to((1 << 20) + 4));
    assert_eq!(find(SeekFor::Data, (1 << 20) + 4), Err(libc::ENXIO));
}

fn copied_by_the_server() {
    let dir = public_dir();
    let data = pattern(300_000);
    fs::write(dir.path().join("from"), &data).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let from = server.open(conn, "from").unwrap();
    let to = open(&mut server, conn, "to", WRITE | IOFLAG_CREAT, 0o644).unwrap();
    let copy =
        |source, source_offset, offset, len| Filesys::Copy { source, source_offset, offset, len }.to_bytes();
    let status = |answer: Result<crate::support::Answer>| answer.map(|answer| answer.status);
    assert_eq!(status(server.call(conn, to, &copy(from, 100, 50, 1000), 0)), Ok(1000));
    assert!(fs::read(dir.path().join("to")).unwrap()[50..] == data[100..1100]);
    assert_eq!(status(server.call(conn, to, &copy(from, 0, 0, u64::MAX), 0)), Ok(300_000));
    assert!(fs::read(dir.path().join("to")).unwrap() == data);
    assert_eq!(status(server.call(conn, to, &copy(from, 300_000, 0, 10), 0)), Ok(0), "the end");
    assert_eq!(status(server.call(conn, to, &copy(999, 0, 0, 10), 0)), Err(libc::EBADF));
    assert_eq!(status(server.call(conn, from, &copy(to, 0, 0, 10), 0)), Err(libc::EBADF));
    let other = server.connect_owner();
    let foreign = server.open(other, "from").unwrap();
    assert_eq!(
        status(server.call(conn, to, &copy(foreign, 0, 0, 10), 0)),
        Err(libc::EBADF),
        "another caller's"
    );
}

/// What a lease of a file of this process is, or is about to become because somebody else opens the file.
fn lease(file: &fs::File, command: i32, kind: i32) -> nix::Result<i32> {
    // SAFETY: takes integers only; the descriptor is open as long as it is borrowed.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), command, kind) })
}

fn leased_files_are_waited_for() {
    // SAFETY: nothing of this process runs when the kernel says that the lease is wanted back.
    unsafe { nix::sys::signal::signal(Signal::SIGIO, SigHandler::SigIgn) }.unwrap();
    let dir = public_dir();
    let path = dir.path().join("f");
    fs::write(&path, "text").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let truncate = Io::Space { subtype: space::FREE, whence: 0, start: 1, len: 0 }.to_bytes();
    let nonblock = Connect::open(b"f", WRITE | IOFLAG_LARGEFILE | IOFLAG_NONBLOCK, 0);
    for connect in [
        Connect::open(b"f", IOFLAG_READ | IOFLAG_LARGEFILE, 0),
        Connect::open(b"f", WRITE | IOFLAG_TRUNC | IOFLAG_LARGEFILE, 0),
        Connect::combine_close(b"f", false, &truncate),
    ] {
        let holder = fs::File::options().write(true).open(&path).unwrap();
        // a child that another test is about to start has the file open until it is another program
        until(|| match lease(&holder, libc::F_SETLEASE, libc::F_WRLCK) {
            Err(Errno::EAGAIN) => None,
            result => Some(result.unwrap()),
        });
        let coid = server.number() as i32;
        let txn = server.submit(conn, coid, &connect.emit().unwrap(), 0);
        until(|| (lease(&holder, libc::F_GETLEASE, 0) != Ok(libc::F_WRLCK)).then_some(()));
        let refused = server.call(conn, coid + 1000, &nonblock.emit().unwrap(), 0);
        assert_eq!(refused, Err(libc::EAGAIN), "who does not want to wait does not");
        assert!(!server.is_answered(txn), "{connect:?}: a local open waits, too");
        lease(&holder, libc::F_SETLEASE, libc::F_UNLCK).unwrap();
        assert_eq!(server.wait(txn).map(|_| ()), Ok(()), "{connect:?}");
        // has it not, there is no lease in the next round
        let _closed = server.close(conn, coid);
    }
}

fn not_open_for_writing() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "content").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let reader = server.open(conn, "f").unwrap();
    let blind = open(&mut server, conn, "f", 0, 0).unwrap();
    for coid in [reader, blind] {
        assert_eq!(write_at(&mut server, conn, coid, Some(0), b"x"), Err(libc::EBADF));
        // and is not even fetched
        assert_eq!(write_at(&mut server, conn, coid, Some(0), &[0; 200_000]), Err(libc::EBADF));
        let allocate = Filesys::Allocate { mode: 0, offset: 0, len: 10 };
        assert_eq!(ours(&mut server, conn, coid, &allocate), Err(libc::EBADF));
    }
    let writer = open(&mut server, conn, "f", WRITE, 0).unwrap();
    assert_eq!(server.read_at(conn, writer, 0, 10), Err(libc::EBADF));
    let figures = Statvfs::parse(&ours(&mut server, conn, blind, &Filesys::Statvfs).unwrap()).unwrap();
    assert!(figures.blocks > 0 && figures.fragment > 0 && figures.name_max >= 255, "{figures:?}");
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"content");
}

fn full_file_system() {
    use nix::mount::{MsFlags, mount};
    crate::support::in_mount_namespace(|| {
        let dir = public_dir();
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=777")).unwrap();
        let mut server = Start::new().export(dir.path()).start();
        let conn = server.connect_writer(crate::support::NOBODY);
        let coid = open(&mut server, conn, "f", BOTH | IOFLAG_CREAT, 0o644).unwrap();
        let written = write_at(&mut server, conn, coid, Some(0), &[1; 100_000]).unwrap();
        assert!((1..100_000).contains(&written), "{written}");
        assert_eq!(write_at(&mut server, conn, coid, Some(written as u64), &[1; 5000]), Err(libc::ENOSPC));
        assert_eq!(server.read_at(conn, coid, 0, 100).unwrap(), [1; 100]);
    });
}
