//! Listing, attributes, reading, links.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};

use qnet_iomsg::flags::{IOFLAG_LARGEFILE, IOFLAG_READ};
use qnet_iomsg::message::{Whence, pathconf};
use qnet_iomsg::stat::{FLAG_BTIME, FLAG_STREAM, QNX_LEN, REPLY_LEN};
use qnet_iomsg::{Connect, Extra, Io, Link, StatReply, Subtype};

use crate::Case;
use crate::support::{Need, Server, Start, public_dir, until};

pub(crate) const CASES: &[Case] = &[
    ("directory_is_listed_whole_whatever_the_size_of_the_pieces", Need::Nothing, directory_is_listed_whole),
    ("attributes_are_those_of_the_kernel", Need::Nothing, attributes_are_those_of_the_kernel),
    ("narrow_reply_has_qnx_attributes", Need::Nothing, narrow_reply_has_qnx_attributes),
    ("big_file_arrives_intact", Need::Nothing, big_file_arrives_intact),
    ("read_stops_at_the_end_and_at_the_room", Need::Nothing, read_stops_at_the_end_and_at_the_room),
    ("files_above_four_gigabytes_are_read", Need::Nothing, files_above_four_gigabytes_are_read),
    ("position_moves_with_reads_and_seeks", Need::Nothing, position_moves_with_reads_and_seeks),
    ("proc_file_of_size_zero_is_read_whole", Need::Nothing, proc_file_of_size_zero_is_read_whole),
    ("links_are_read_or_followed_as_asked", Need::Nothing, links_are_read_or_followed_as_asked),
    ("open_stat_and_read_go_in_one_message", Need::Nothing, open_stat_and_read_go_in_one_message),
    ("limits_are_told", Need::Nothing, limits_are_told),
    ("silent_fifo_holds_no_worker_and_wakes_its_reader", Need::Nothing, silent_fifo_holds_no_worker),
    ("blocked_reader_can_leave", Need::Nothing, blocked_reader_can_leave),
];

fn directory_is_listed_whole() {
    let dir = public_dir();
    for index in 0..500 {
        File::create(dir.path().join(format!("file-{index:03}"))).unwrap();
    }
    fs::create_dir(dir.path().join("sub")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let mut all = server.list(conn, "", 1 << 20).unwrap();
    assert_eq!(all.len(), 503);
    assert!(all.contains(&(b"sub".to_vec(), Some(libc::S_IFDIR))));
    assert!(all.contains(&(b"file-123".to_vec(), Some(libc::S_IFREG))));
    all.sort();
    for piece in [64, 100, 4096] {
        let mut pieces = server.list(conn, "/", piece).unwrap();
        pieces.sort();
        assert_eq!(pieces, all, "pieces of {piece}");
    }
    assert_eq!(server.list(conn, "", 24), Err(libc::EINVAL), "no entry fits");
}

fn attributes_are_those_of_the_kernel() {
    let dir = public_dir();
    let path = dir.path().join("a");
    fs::write(&path, "some content").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let (told, real) = (server.stat(conn, "a").unwrap(), fs::metadata(&path).unwrap());
    assert_eq!((told.ino, told.size, told.blocks), (real.ino(), real.size(), real.blocks()));
    assert_eq!((told.mode, u64::from(told.nlink)), (real.mode(), real.nlink()));
    assert_eq!((told.uid, told.gid), (real.uid(), real.gid()));
    assert_eq!((told.mtime.seconds, i64::from(told.mtime.nanoseconds)), (real.mtime(), real.mtime_nsec()));
    assert_eq!(told.flags & FLAG_STREAM, 0);
    let coid = server.open(conn, "a").unwrap();
    let answer = server.io(conn, coid, &Io::Stat, REPLY_LEN as u32).unwrap();
    let open = StatReply::parse(&answer.data).unwrap();
    assert_eq!((open.stat.ino, open.stat.flags & FLAG_BTIME), (told.ino, told.flags & FLAG_BTIME));
    assert_eq!(server.stat(conn, "missing"), Err(libc::ENOENT));
    assert_eq!(server.stat(conn, "a/b"), Err(libc::ENOTDIR));
    assert_eq!(server.stat(conn, &"x".repeat(300)), Err(libc::ENAMETOOLONG));
    assert_eq!(server.stat(conn, &"x/".repeat(3000)), Err(libc::ENAMETOOLONG));
}

fn narrow_reply_has_qnx_attributes() {
    let mut server = Server::new();
    let conn = server.connect_self();
    let coid = server.open(conn, "etc").unwrap();
    let answer = server.io(conn, coid, &Io::Stat, QNX_LEN as u32).unwrap();
    let reply = StatReply::parse(&answer.data).unwrap();
    assert!(!reply.wide);
    assert_eq!(reply.stat.ino, fs::metadata("/etc").unwrap().ino());
    // less room than that gets what fits
    assert_eq!(server.io(conn, coid, &Io::Stat, 10).unwrap().data.len(), 10);
}

fn big_file_arrives_intact() {
    let dir = public_dir();
    let content: Vec<u8> = (0..9_000_017u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    fs::write(dir.path().join("big"), &content).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let coid = server.open(conn, "big").unwrap();
    // all at once, answers in any order
    let piece = 1 << 20;
    let reads: Vec<u32> = (0..9)
        .map(|n| {
            let read = Io::Read { nbytes: piece, xtype: 0, offset: Some(u64::from(n * piece)) };
            server.submit(conn, coid, &read.to_bytes(), piece)
        })
        .collect();
    let mut arrived = Vec::new();
    for read in reads {
        arrived.extend(server.wait(read).unwrap().data);
    }
    assert!(arrived == content, "content differs");
}

fn read_stops_at_the_end_and_at_the_room() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "0123456789").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let coid = server.open(conn, "f").unwrap();
    assert_eq!(server.read_at(conn, coid, 4, 100).unwrap(), b"456789");
    assert_eq!(server.read_at(conn, coid, 10, 100).unwrap(), b"");
    assert_eq!(server.read_at(conn, coid, 1 << 50, 100).unwrap(), b"");
    assert_eq!(server.read_at(conn, coid, u64::MAX, 100), Err(libc::EINVAL));
    let read = Io::Read { nbytes: u32::MAX, xtype: 0, offset: Some(0) };
    assert_eq!(server.io(conn, coid, &read, 3).unwrap().data, b"012");
    assert_eq!(server.io(conn, coid, &read, u32::MAX).unwrap().data, b"0123456789");
    server.close(conn, coid).unwrap();
    assert_eq!(server.read_at(conn, coid, 0, 1), Err(libc::EBADF));
}

fn files_above_four_gigabytes_are_read() {
    let dir = public_dir();
    let file = File::create(dir.path().join("sparse")).unwrap();
    let far = (5 << 30) + 3;
    file.write_all_at(b"far away", far).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    assert_eq!(server.stat(conn, "sparse").unwrap().size, far + 8);
    let coid = server.open(conn, "sparse").unwrap();
    assert_eq!(server.read_at(conn, coid, far - 2, 100).unwrap(), b"\0\0far away");
}

fn position_moves_with_reads_and_seeks() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "0123456789").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let coid = server.open(conn, "f").unwrap();
    let read = Io::Read { nbytes: 4, xtype: 0, offset: None };
    assert_eq!(server.io(conn, coid, &read, 4).unwrap().data, b"0123");
    assert_eq!(server.io(conn, coid, &read, 4).unwrap().data, b"4567");
    let seek = Io::Lseek { whence: Whence::End, offset: -3 };
    assert_eq!(server.io(conn, coid, &seek, 8).unwrap().data, 7u64.to_le_bytes());
    assert_eq!(server.io(conn, coid, &read, 4).unwrap().data, b"789");
    let mut both = Vec::new();
    Io::Lseek { whence: Whence::Set, offset: 2 }.emit(Link::Follows, &mut both);
    read.emit(Link::Last, &mut both);
    assert_eq!(server.call(conn, coid, &both, 100).unwrap().data, b"2345");
    let before = Io::Lseek { whence: Whence::Current, offset: -100 };
    assert_eq!(server.io(conn, coid, &before, 8), Err(libc::EINVAL));
}

fn proc_file_of_size_zero_is_read_whole() {
    let mut server = Server::new();
    let conn = server.connect_self();
    let stat = server.stat(conn, "proc/cpuinfo").unwrap();
    assert_eq!((stat.size, stat.flags & FLAG_STREAM), (0, FLAG_STREAM));
    let served = server.cat(conn, "proc/cpuinfo").unwrap();
    assert!(served.starts_with(b"processor"), "{}", String::from_utf8_lossy(&served));
    // the beginning in one piece, whatever the kernel gives at a time
    let stat = server.cat(conn, "proc/stat").unwrap();
    assert!(stat.windows(7).any(|w| w == b"softirq"));
    let version = fs::read("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(server.cat(conn, "proc/sys/kernel/osrelease").unwrap(), version);
    assert_eq!(server.stat(conn, "sys/kernel").unwrap().flags & FLAG_STREAM, 0);
}

fn links_are_read_or_followed_as_asked() {
    let dir = public_dir();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/f"), "x").unwrap();
    symlink("d/f", dir.path().join("relative")).unwrap();
    symlink("/d/f", dir.path().join("absolute")).unwrap();
    symlink("../../../../etc", dir.path().join("out")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    assert_eq!(server.readlink(conn, "absolute").unwrap(), b"/d/f");
    assert_eq!(server.readlink(conn, "d/f"), Err(libc::EINVAL));
    assert_eq!(server.stat(conn, "relative").unwrap().mode & libc::S_IFMT, libc::S_IFLNK);
    for link in ["relative", "absolute"] {
        assert_eq!(server.stat_with(conn, link, true).unwrap().size, 1);
        assert_eq!(server.cat(conn, link).unwrap(), b"x");
    }
    // the export is all there is
    assert_eq!(server.stat_with(conn, "out", true), Err(libc::ENOENT));
    assert_eq!(server.stat(conn, "../../../d/f").unwrap().size, 1);
    assert_eq!(server.stat_with(conn, "loop", true), Err(libc::ELOOP));
    let nofollow = Connect { mode: libc::S_IFLNK, ..Connect::open(b"relative", IOFLAG_READ, 0) };
    assert_eq!(server.call(conn, 9999, &nofollow.emit().unwrap(), 0), Err(libc::ELOOP));
}

fn open_stat_and_read_go_in_one_message() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "content").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let mut chain = Vec::new();
    Io::Read { nbytes: 100, xtype: 0, offset: None }.emit(Link::Last, &mut chain);
    let ioflag = IOFLAG_READ | IOFLAG_LARGEFILE;
    let whole = Connect { ioflag, ..Connect::combine_close(b"f", true, &chain) }.emit().unwrap();
    let answer = server.call(conn, 0, &whole, 100).unwrap();
    assert_eq!((answer.status, answer.data.as_slice()), (7, &b"content"[..]));
    let stat = Io::Stat.to_bytes();
    let extra = Extra::Messages(&stat);
    let open = Connect { ioflag, extra, ..Connect::new(Subtype::Combine, b"f") }.emit().unwrap();
    let answer = server.call(conn, 77, &open, REPLY_LEN as u32).unwrap();
    assert_eq!(StatReply::parse(&answer.data).unwrap().stat.size, 7);
    assert_eq!(server.read_at(conn, 77, 0, 100).unwrap(), b"content");
    assert_eq!(server.call(conn, 77, &open, REPLY_LEN as u32), Err(libc::EBUSY), "the number is taken");
    // without an access bit there is nothing to read through
    let blind = Connect::combine_close(b"f", true, &chain).emit().unwrap();
    assert_eq!(server.call(conn, 0, &blind, 100), Err(libc::EBADF));
}

fn limits_are_told() {
    let mut server = Server::new();
    let conn = server.connect_self();
    let coid = server.open(conn, "etc").unwrap();
    let name_max = Io::Pathconf { name: pathconf::NAME_MAX };
    assert_eq!(server.io(conn, coid, &name_max, 0).unwrap().status, 255);
    assert_eq!(server.io(conn, coid, &Io::Pathconf { name: 999 }, 0), Err(libc::EINVAL));
    let terminal = Io::Devctl { dcmd: 0x4004_0318, nbytes: 4, data: &[] };
    assert_eq!(server.io(conn, coid, &terminal, 100), Err(libc::ENOTTY));
}

fn silent_fifo_holds_no_worker() {
    let dir = public_dir();
    let path = dir.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
    fs::write(dir.path().join("f"), "content").unwrap();
    let mut server = Start::new().export(dir.path()).options(&["--workers", "1"]).start();
    let conn = server.connect_self();
    let fifo = server.open(conn, "fifo").unwrap();
    let read = Io::Read { nbytes: 100, xtype: 0, offset: None }.to_bytes();
    let waiting = server.submit(conn, fifo, &read, 100);
    // the only worker is free for others
    assert_eq!(server.cat(conn, "f").unwrap(), b"content");
    assert!(!server.is_answered(waiting));
    let writer = File::options().write(true).open(&path).unwrap();
    use std::io::Write as _;
    (&writer).write_all(b"hello").unwrap();
    assert_eq!(server.wait(waiting).unwrap().data, b"hello");
    drop(writer);
    assert_eq!(server.call(conn, fifo, &read, 100).unwrap().data, b"", "the writer is gone");
    // whoever does not want to wait does not
    let nonblock = Io::Read { nbytes: 9, xtype: qnet_iomsg::message::XTYPE_NONBLOCK, offset: None };
    let keep = File::options().read(true).write(true).open(&path).unwrap();
    assert_eq!(server.io(conn, fifo, &nonblock, 9), Err(libc::EAGAIN));
    drop(keep);
}

fn blocked_reader_can_leave() {
    let dir = public_dir();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
    nix::unistd::mkfifo(&dir.path().join("fifo"), mode).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let fifo = server.open(conn, "fifo").unwrap();
    let read = Io::Read { nbytes: 100, xtype: 0, offset: None }.to_bytes();
    let (leaving, staying) = (server.submit(conn, fifo, &read, 100), server.submit(conn, fifo, &read, 100));
    // answered in order of arrival, so both reads have been received
    server.stat(conn, "fifo").unwrap();
    server.send(&qnet_ipc::ToServer::Unblock { txn: leaving, tid: 1 });
    assert_eq!(server.wait(leaving), Err(libc::EINTR));
    assert!(!server.is_answered(staying));
    server.send(&qnet_ipc::ToServer::Disconnect { conn });
    until(|| (server.descriptors(dir.path()) == 1).then_some(()));
    assert!(!server.is_answered(staying), "transactions of a closed connection are not answered");
}
