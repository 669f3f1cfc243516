//! Bad packets, exhaustion, ends.

use std::fs;

use qnet_iomsg::{Connect, Io};
use qnet_ipc::packet::{Connect as ConnectPacket, Pulse, Send};
use qnet_ipc::{Claim, ToServer};

use crate::Case;
use crate::support::{Need, Server, Start, public_dir, until};

pub(crate) const CASES: &[Case] = &[
    ("broken_messages_get_errors_and_harm_nobody", Need::Nothing, broken_messages_get_errors),
    ("senseless_packets_are_ignored", Need::Nothing, senseless_packets_are_ignored),
    ("only_the_node_itself_is_served", Need::Nothing, only_the_node_itself_is_served),
    ("long_message_is_fetched_in_pieces", Need::Nothing, long_message_is_fetched_in_pieces),
    ("open_files_are_bounded_for_each_caller", Need::Nothing, open_files_are_bounded),
    ("waiting_requests_are_bounded", Need::Nothing, waiting_requests_are_bounded),
    ("closed_connection_gives_its_files_back", Need::Nothing, closed_connection_gives_files_back),
    ("flood_is_answered_to_the_last_request", Need::Nothing, flood_is_answered),
    ("server_ends_with_its_socket", Need::Nothing, server_ends_with_its_socket),
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
    assert_eq!(server.wait(txn), Err(libc::EMSGSIZE));
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
    let conn = server.connect_self();
    let fifo = server.open(conn, "fifo").unwrap();
    let read = Io::Read { nbytes: 1, xtype: 0, offset: None }.to_bytes();
    let reads: Vec<u32> = (0..100).map(|_| server.submit(conn, fifo, &read, 1)).collect();
    let refused = until(|| {
        let answered: Vec<u32> = reads.iter().copied().filter(|txn| server.is_answered(*txn)).collect();
        (answered.len() == 36).then_some(answered)
    });
    for txn in refused {
        assert_eq!(server.wait(txn), Err(libc::EAGAIN));
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

fn server_ends_with_its_socket() {
    let mut server = Server::new();
    server.connect_self();
    assert_eq!(server.finish(), 0);
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
