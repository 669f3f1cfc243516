//! Bad packets, exhaustion, ends.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;

use nix::mount::{MsFlags, mount};
use qnet_iomsg::{Connect, Io};
use qnet_ipc::packet::{Connect as ConnectPacket, Pulse, Send};
use qnet_ipc::{Claim, ToServer};

use crate::Case;
use crate::support::{NOBODY, Need, Server, Start, in_mount_namespace, public_dir, until};

pub(crate) const CASES: &[Case] = &[
    ("broken_messages_get_errors_and_harm_nobody", Need::Nothing, broken_messages_get_errors),
    ("senseless_packets_are_ignored", Need::Nothing, senseless_packets_are_ignored),
    ("only_the_node_itself_is_served", Need::Nothing, only_the_node_itself_is_served),
    ("long_message_is_fetched_in_pieces", Need::Nothing, long_message_is_fetched_in_pieces),
    ("open_files_are_bounded_for_each_caller", Need::Nothing, open_files_are_bounded),
    ("waiting_requests_are_bounded", Need::Nothing, waiting_requests_are_bounded),
    (
        "a_hundred_readers_wait_and_each_gets_his_byte",
        Need::Nothing,
        a_hundred_readers_wait_and_each_gets_his_byte,
    ),
    ("closed_connection_gives_its_files_back", Need::Nothing, closed_connection_gives_files_back),
    ("flood_is_answered_to_the_last_request", Need::Nothing, flood_is_answered),
    ("hanging_file_system_stops_its_caller_only", Need::Fuse, hanging_file_system),
    ("every_request_of_a_busy_day_is_answered", Need::Nothing, busy_day),
    ("server_ends_with_its_socket_or_when_asked", Need::Nothing, server_ends_with_its_socket),
    ("server_says_what_is_wrong_at_its_start", Need::Nothing, server_says_what_is_wrong),
];

fn broken_messages_get_errors() {
    let mut server = Server::new();
    let conn = server.connect_self();
    let good = Connect::open(b"etc/passwd", 1, 0).emit().unwrap();
    for cut in 0..good.len() {
        let answer = server.call(conn, 1, &good[..cut], 100);
        assert_eq!(answer, Err(libc::EBADMSG), "cut at {cut}");
    }
    let mut unknown = good.clone();
    unknown[2] = 200;
    assert_eq!(server.call(conn, 1, &unknown, 0), Err(libc::ENOSYS));
    let mut no_nul = good.clone();
    *no_nul.last_mut().unwrap() = b'x';
    assert_eq!(server.call(conn, 1, &no_nul, 0), Err(libc::EBADMSG));
    assert_eq!(server.call(conn, 1, &[0xff, 0xff, 0, 0], 0), Err(libc::ENOSYS), "an application's message");
    server.call(conn, 1, &good, 0).unwrap();
    // every message type, cut and with every kind of nonsense behind it
    for kind in 0x101..=0x11a_u16 {
        for len in 2..40 {
            let mut message = vec![0xa5; len];
            message[..2].copy_from_slice(&kind.to_le_bytes());
            // CLOSE really closes
            if kind != 0x116 {
                server.call(conn, 1, &message, 100).unwrap_err();
            }
        }
    }
    assert!(!server.read_at(conn, 1, 0, 100).unwrap().is_empty());
}

fn senseless_packets_are_ignored() {
    let mut server = Server::new();
    let conn = server.connect_self();
    for packet in [
        ToServer::ReadData { txn: 12345, offset: 9, data: b"nobody asked" },
        ToServer::ReadError { txn: 12345, offset: 9, errno: libc::EIO },
        ToServer::Unblock { txn: 12345, tid: -1 },
        ToServer::Disconnect { conn: 12345 },
        ToServer::Pulse(Pulse { conn: 12345, code: -128, priority: -1, value: u64::MAX }),
    ] {
        server.send(&packet);
    }
    assert_eq!(server.call(12345, 1, &Io::Stat.to_bytes(), 0), Err(libc::EBADF));
    assert_eq!(server.call(conn, 999, &Io::Stat.to_bytes(), 0), Err(libc::EBADF));
    assert_eq!(server.call(conn, 999, &Io::Close.to_bytes(), 0), Err(libc::EBADF));
    server.stat(conn, "etc").unwrap();
}

fn only_the_node_itself_is_served() {
    let mut server = Server::new();
    for (pid, chid) in [(1, 2), (0, 0), (4711, 1), (-1, -1)] {
        let conn = server.number();
        server.send(&ToServer::Connect(ConnectPacket { conn, nd: 0, pid, chid, flags: 0, claim: None }));
        assert_eq!(server.call(conn, 1, &Io::Stat.to_bytes(), 0), Err(libc::EBADF));
    }
}

fn long_message_is_fetched_in_pieces() {
    let mut server = Server::new();
    let conn = server.connect_self();
    let stat = Io::Stat.to_bytes();
    let path = "etc/../".repeat(500) + "etc";
    let message = Connect::combine_close(path.as_bytes(), true, &stat).emit().unwrap();
    let begin = |server: &mut Server, first: usize, len: usize| {
        let txn = server.number();
        let head = Send { txn, conn, tid: 1, srcmsglen: len as u32, dstmsglen: 300, ..Send::default() };
        server.send(&ToServer::Send(head, &message[..first]));
        txn
    };
    let txn = begin(&mut server, 1000, message.len());
    server.feed(&message);
    assert_eq!(server.wait(txn).unwrap().data.len(), 208);
    // less comes than was announced
    let txn = begin(&mut server, 100, message.len());
    server.feed(&message[..200]);
    assert_eq!(server.wait(txn), Err(libc::EBADMSG));
    // more is announced than a message can have
    let txn = begin(&mut server, 100, usize::MAX);
    assert_eq!(server.wait(txn), Err(libc::ENAMETOOLONG));
}

fn open_files_are_bounded() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "x").unwrap();
    let mut server = Start::new().export(dir.path()).options(&["--max-open", "40"]).start();
    let conn = server.connect_self();
    let mut open = Vec::new();
    let errno = loop {
        match server.open(conn, "f") {
            Ok(coid) => open.push(coid),
            Err(errno) => break errno,
        }
        assert!(open.len() < 100);
    };
    assert_eq!((errno, open.len()), (libc::EMFILE, 20), "half for one connection");
    // another connection of the same node gets up to three quarters, another node the rest
    let same = server.connect_self();
    assert_eq!((0..30).take_while(|_| server.open(same, "f").is_ok()).count(), 10);
    let claim = || {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        Some(Claim::user(uid.as_raw(), gid.as_raw(), Vec::new()))
    };
    let other = server.connect_from(3, claim()).unwrap();
    assert_eq!((0..30).take_while(|_| server.open(other, "f").is_ok()).count(), 10);
    assert_eq!(server.open(other, "f"), Err(libc::ENFILE));
    // failed opens take nothing, closed ones give back
    for _ in 0..100 {
        assert_eq!(server.open(same, "missing"), Err(libc::EMFILE));
    }
    server.close(conn, open[0]).unwrap();
    for _ in 0..100 {
        assert_eq!(server.open(conn, "missing"), Err(libc::ENOENT));
    }
    server.open(conn, "f").unwrap();
}

fn waiting_requests_are_bounded() {
    let dir = public_dir();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
    nix::unistd::mkfifo(&dir.path().join("fifo"), mode).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let read = Io::Read { nbytes: 1, xtype: 0, offset: None }.to_bytes();
    let mut reads = Vec::new();
    // less than may be queued for one connection
    for _ in 0..3 {
        let conn = server.connect_self();
        let fifo = server.open(conn, "fifo").unwrap();
        reads.extend((0..400).map(|_| server.submit(conn, fifo, &read, 1)));
    }
    let most = qnet_server::limits::WAITING_PER_NODE;
    let refused = until(|| {
        let answered: Vec<u32> = reads.iter().copied().filter(|txn| server.is_answered(*txn)).collect();
        (answered.len() >= reads.len() - most).then_some(answered)
    });
    for txn in refused {
        assert_eq!(server.wait(txn), Err(libc::EAGAIN));
    }
}

fn a_hundred_readers_wait_and_each_gets_his_byte() {
    let dir = public_dir();
    let path = dir.path().join("fifo");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
    nix::unistd::mkfifo(&path, mode).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let fifo = server.open(conn, "fifo").unwrap();
    let read = Io::Read { nbytes: 1, xtype: 0, offset: None }.to_bytes();
    let reads: Vec<u32> = (0..100).map(|_| server.submit(conn, fifo, &read, 1)).collect();
    // all of them have been looked at
    server.stat(conn, "fifo").unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(&[7; 100]).unwrap();
    for txn in reads {
        assert_eq!(server.wait(txn).map(|answer| answer.data), Ok(vec![7]));
    }
}

fn closed_connection_gives_files_back() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "x").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    // the export itself
    assert_eq!(until(|| Some(server.descriptors(dir.path())).filter(|n| *n > 0)), 1);
    for _ in 0..3 {
        let conn = server.connect_self();
        for _ in 0..50 {
            server.open(conn, "f").unwrap();
        }
        assert_eq!(server.descriptors(dir.path()), 51);
        // with requests under way
        for coid in 0..50 {
            let message = Connect::open(b"f", 1, 0).emit().unwrap();
            server.submit(conn, 1_000_000 + coid, &message, 0);
        }
        server.send(&ToServer::Disconnect { conn });
        assert_eq!(server.call(conn, 1, &Io::Stat.to_bytes(), 0), Err(libc::EBADF));
        until(|| (server.descriptors(dir.path()) == 1).then_some(()));
    }
}

fn flood_is_answered() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), vec![7; 300_000]).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let coid = server.open(conn, "f").unwrap();
    let read = Io::Read { nbytes: 1 << 20, xtype: 0, offset: Some(0) }.to_bytes();
    let mut served = 0;
    for _ in 0..4 {
        let reads: Vec<u32> = (0..200).map(|_| server.submit(conn, coid, &read, 1 << 20)).collect();
        for txn in reads {
            match server.wait(txn) {
                Ok(answer) => {
                    assert_eq!(answer.data, vec![7; 300_000]);
                    served += 1;
                }
                Err(errno) => assert_eq!(errno, libc::EAGAIN),
            }
        }
    }
    assert!(served >= 4, "{served}");
}

/// A mount that answers nothing, of a kind that is not Qnet's: whoever asks it waits for ever.
fn hanging_file_system() {
    in_mount_namespace(|| {
        let dir = public_dir();
        fs::create_dir(dir.path().join("hang")).unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        let fuse = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", fuse.as_raw_fd());
        let target = dir.path().join("hang");
        mount(Some("hang"), &target, Some("fuse.hang"), MsFlags::empty(), Some(options.as_str())).unwrap();
        let mut server = Start::new().export(dir.path()).options(&["--workers", "4"]).start();
        let conn = server.connect(NOBODY).unwrap();
        let message = Connect::combine_close(b"hang/x", false, &Io::Stat.to_bytes()).emit().unwrap();
        let open = Connect::open(b"hang/x", 1, 0).emit().unwrap();
        let mut hanging: Vec<u32> = (0..5).map(|_| server.submit(conn, 0, &message, 300)).collect();
        hanging.push(server.submit(conn, 7, &open, 0));
        // half of the workers hang, the same node has one left, other nodes the last one
        let same = server.connect(NOBODY).unwrap();
        assert_eq!(server.cat(same, "f").unwrap(), b"x");
        hanging.push(server.submit(same, 0, &message, 300));
        let other = server.connect_from(3, Some(Claim::user(NOBODY, NOBODY, vec![]))).unwrap();
        assert_eq!(server.cat(other, "f").unwrap(), b"x");
        assert!(hanging.iter().all(|txn| !server.is_answered(*txn)));
        for txn in hanging {
            server.send(&ToServer::Unblock { txn, tid: 1 });
            assert_eq!(server.wait(txn), Err(libc::EINTR), "{txn}");
        }
        assert_eq!(server.cat(other, "f").unwrap(), b"x");
        // the hang ends, and with it the wait of whoever is still asking
        let txn = server.submit(conn, 0, &message, 300);
        drop(fuse);
        server.wait(txn).unwrap_err();
        assert_eq!(server.cat(conn, "f").unwrap(), b"x");
    });
}

/// Many connections open, read, list, leave requests and leave altogether, in an order that a seed decides.
fn busy_day() {
    let dir = public_dir();
    for n in 0..20u8 {
        fs::write(dir.path().join(format!("f{n}")), vec![n; 100_000]).unwrap();
    }
    let mut server = Start::new().export(dir.path()).options(&["--max-open", "200"]).start();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    /// A connection, its open files with their content, its requests that were not waited for.
    type Caller = (u32, Vec<(i32, u8)>, Vec<u32>);
    let mut conns: Vec<Caller> = Vec::new();
    for _ in 0..3000 {
        if conns.len() < 5 {
            conns.push((server.connect_self(), Vec::new(), Vec::new()));
        }
        let index = random(conns.len() as u64) as usize;
        let (conn, files, pending) = &mut conns[index];
        match random(20) {
            0..6 => {
                let n = random(20) as u8;
                match server.open(*conn, &format!("f{n}")) {
                    Ok(coid) => files.push((coid, n)),
                    Err(errno) => assert!(matches!(errno, libc::EMFILE | libc::ENFILE), "{errno}"),
                }
            }
            6..12 if !files.is_empty() => {
                let (coid, n) = files[random(files.len() as u64) as usize];
                let read = server.read_at(*conn, coid, random(100_000), 70_000).unwrap();
                assert!(!read.is_empty() && read.iter().all(|byte| *byte == n));
            }
            12..16 if !files.is_empty() => {
                let (coid, _) = files[0];
                let read = Io::Read { nbytes: 200_000, xtype: 0, offset: Some(0) }.to_bytes();
                let txn = server.submit(*conn, coid, &read, 200_000);
                if random(2) == 0 {
                    server.send(&ToServer::Unblock { txn, tid: 1 });
                }
                pending.push(txn);
            }
            16..19 if !files.is_empty() => {
                let (coid, _) = files.swap_remove(random(files.len() as u64) as usize);
                server.close(*conn, coid).unwrap();
            }
            19 => {
                for txn in std::mem::take(pending) {
                    match server.wait(txn) {
                        Ok(answer) => assert_eq!(answer.data.len(), 100_000),
                        Err(errno) => assert_eq!(errno, libc::EINTR),
                    }
                }
                let (conn, ..) = conns.swap_remove(index);
                server.send(&ToServer::Disconnect { conn });
            }
            _ => {}
        }
    }
    for (conn, _, pending) in conns {
        for txn in pending {
            assert!(matches!(server.wait(txn), Ok(_) | Err(libc::EINTR)));
        }
        server.send(&ToServer::Disconnect { conn });
    }
    until(|| (server.descriptors(dir.path()) == 1).then_some(()));
    assert_eq!(server.log(), "");
}

fn server_ends_with_its_socket() {
    let mut server = Server::new();
    server.connect_self();
    assert_eq!(server.finish(), 0);
    let mut asked = Server::new();
    asked.connect_self();
    assert_eq!(asked.terminate(), 0);
}

fn server_says_what_is_wrong() {
    let program = env!("CARGO_BIN_EXE_qnet-server");
    let run = |shell: &str| {
        let output = std::process::Command::new("/bin/sh").args(["-c", shell, program]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run("\"$0\" --root /tmp 3<&-");
    assert_eq!(code, Some(1));
    assert!(text.contains("descriptor 3"), "{text}");
    let (code, text) = run("\"$0\" --root /tmp 3</dev/null");
    assert_eq!(code, Some(1));
    assert!(text.contains("descriptor 3"), "{text}");
    let (code, text) = run("\"$0\" --root /tmp --workers 0");
    assert_eq!(code, Some(2));
    assert!(text.contains("--workers"), "{text}");
}
