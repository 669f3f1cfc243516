//! FIFOs, devices and terminals: writing, readiness, attributes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;

use nix::pty::openpty;
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, ttyname};
use qnet_iomsg::filesys::special;
use qnet_iomsg::flags::{IOFLAG_LARGEFILE, IOFLAG_NONBLOCK, IOFLAG_READ, IOFLAG_WRITE};
use qnet_iomsg::terminal::{self, Attributes, Size, command};
use qnet_iomsg::{Connect, Io};
use qnet_ipc::ToServer;

use crate::Case;
use crate::support::{Need, PublicDir, Result, Server, Start, public_dir};
use crate::writing::open;

pub(crate) const CASES: &[Case] = &[
    ("a_fifo_is_opened_for_writing_when_somebody_reads_it", Need::Nothing, opened_when_read),
    ("a_full_fifo_is_written_when_there_is_room_and_holds_no_worker", Need::Nothing, full_fifo),
    ("what_is_ready_is_told_when_it_is", Need::Nothing, readiness),
    ("a_socket_is_refused", Need::Nothing, sockets),
    ("a_terminal_is_read_written_and_controlled", Need::Nothing, terminals),
    ("a_terminal_is_controlled_by_who_may_change_it_only", Need::Nothing, terminals_of_others),
    ("kernel_settings_are_written_as_who_asks", Need::Root, kernel_settings),
];

fn with_fifo(options: &[&str]) -> (Server, PublicDir) {
    let dir = public_dir();
    mkfifo(&dir.path().join("fifo"), Mode::from_bits_truncate(0o644)).unwrap();
    fs::write(dir.path().join("f"), "content").unwrap();
    let server = Start::new().export(dir.path()).options(options).start();
    (server, dir)
}

fn reader(dir: &PublicDir) -> File {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(dir.path().join("fifo")).unwrap()
}

fn write(data: &[u8]) -> Vec<u8> {
    Io::Write { nbytes: data.len() as u32, xtype: 0, offset: Some(0), data }.to_bytes()
}

fn poll(events: u32, wait: bool) -> Vec<u8> {
    special::Request { events, wait }.emit()
}

fn opened_when_read() {
    let (mut server, dir) = with_fifo(&["--workers", "1"]);
    let conn = server.connect_owner();
    let at_once = open(&mut server, conn, "fifo", IOFLAG_WRITE | IOFLAG_NONBLOCK, 0);
    assert_eq!(at_once, Err(libc::ENXIO));
    let message = |ioflag| Connect::open(b"fifo", ioflag | IOFLAG_LARGEFILE, 0).emit().unwrap();
    let given_up = server.submit(conn, 700, &message(IOFLAG_WRITE), 0);
    let waiting = server.submit(conn, 701, &message(IOFLAG_WRITE), 0);
    assert_eq!(server.cat(conn, "f").unwrap(), b"content", "the only worker is free");
    server.send(&ToServer::Unblock { txn: given_up, tid: 1 });
    assert_eq!(server.wait(given_up), Err(libc::EINTR));
    assert!(!server.is_answered(waiting));
    let mut reader = reader(&dir);
    server.wait(waiting).unwrap();
    assert_eq!(server.call(conn, 701, &write(b"hello"), 0).unwrap().status, 5);
    let mut got = [0; 9];
    assert_eq!(reader.read(&mut got).unwrap(), 5);
    drop(reader);
    assert_eq!(server.call(conn, 701, &write(b"hello"), 0), Err(libc::EPIPE));
    // the place of the open that was given up is free
    assert_eq!(server.call(conn, 700, &message(IOFLAG_WRITE | IOFLAG_NONBLOCK), 0), Err(libc::ENXIO));
}

fn full_fifo() {
    let (mut server, dir) = with_fifo(&["--workers", "1"]);
    let conn = server.connect_owner();
    let mut reader = reader(&dir);
    let fifo = open(&mut server, conn, "fifo", IOFLAG_WRITE, 0).unwrap();
    let mut written = 0;
    let full = loop {
        let txn = server.submit(conn, fifo, &write(&[7; 4096]), 0);
        server.stat(conn, "f").unwrap();
        if !server.is_answered(txn) {
            break txn;
        }
        written += server.wait(txn).unwrap().status as usize;
    };
    assert!(written >= 4096, "{written}");
    let mut got = vec![0; written];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(server.wait(full).unwrap().status, 4096);
}

fn readiness() {
    let (mut server, dir) = with_fifo(&["--workers", "1"]);
    let conn = server.connect_owner();
    let fifo = server.open(conn, "fifo").unwrap();
    let writer = File::options().write(true).open(dir.path().join("fifo")).unwrap();
    assert_eq!(server.call(conn, fifo, &poll(5, false), 0).unwrap().status, 0);
    let waits = [poll(1, true), poll(1, true)].map(|message| server.submit(conn, fifo, &message, 0));
    assert_eq!(server.cat(conn, "f").unwrap(), b"content");
    assert!(!server.is_answered(waits[0]));
    server.send(&ToServer::Unblock { txn: waits[0], tid: 1 });
    assert_eq!(server.wait(waits[0]), Err(libc::EINTR));
    (&writer).write_all(b"x").unwrap();
    assert_eq!(server.wait(waits[1]).unwrap().status, 1);
    let file = server.open(conn, "f").unwrap();
    assert_eq!(server.call(conn, file, &poll(1, true), 0).unwrap().status, 1, "files are always ready");
    let name = server.open_with(conn, "f", IOFLAG_LARGEFILE).unwrap();
    assert_eq!(server.call(conn, name, &poll(1, true), 0), Err(libc::EBADF));
}

fn sockets() {
    let dir = public_dir();
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    for ioflag in [IOFLAG_READ, IOFLAG_WRITE] {
        assert_eq!(open(&mut server, conn, "socket", ioflag, 0), Err(libc::ENXIO));
    }
    assert_eq!(server.stat(conn, "socket").unwrap().mode & libc::S_IFMT, libc::S_IFSOCK);
}

/// What a terminal answers to a request.
fn control(server: &mut Server, conn: u32, coid: i32, request: &terminal::Request) -> Result<Vec<u8>> {
    let answer = server.call(conn, coid, &request.emit(), 128)?;
    Ok(terminal::parse_reply(&answer.data).unwrap().1.to_vec())
}

fn terminals() {
    let ends = openpty(None, None).unwrap();
    let (mut far, path) = (File::from(ends.master), ttyname(&ends.slave).unwrap());
    let mut server = Server::new();
    let conn = server.connect_owner();
    let tty = open(&mut server, conn, path.to_str().unwrap(), IOFLAG_READ | IOFLAG_WRITE, 0).unwrap();
    let asked = control(&mut server, conn, tty, &terminal::Request::Attributes).unwrap();
    let before = Attributes::parse(&asked).unwrap();
    let plain = before.local & !(libc::ICANON | libc::ECHO);
    let attributes = Attributes { local: plain, output: 0, input: 0, ..before };
    let set = terminal::Request::SetAttributes { command: command::TCSETATTRD, attributes };
    control(&mut server, conn, tty, &set).unwrap();
    let size = Size { rows: 12, columns: 34, dots: [0, 0] };
    control(&mut server, conn, tty, &terminal::Request::SetSize(size)).unwrap();
    let asked = control(&mut server, conn, tty, &terminal::Request::Size).unwrap();
    assert_eq!(Size::parse(&asked), Ok(size));

    assert_eq!(server.call(conn, tty, &write(b"to the far end\n"), 0).unwrap().status, 15);
    let mut got = [0; 15];
    far.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"to the far end\n");
    let read = Io::Read { nbytes: 100, xtype: 0, offset: None };
    let waiting = server.submit(conn, tty, &read.to_bytes(), 100);
    server.stat(conn, "/etc").unwrap();
    assert!(!server.is_answered(waiting));
    far.write_all(b"back").unwrap();
    assert_eq!(server.wait(waiting).unwrap().data, b"back");
    let null = server.open(conn, "/dev/null").unwrap();
    assert_eq!(control(&mut server, conn, null, &terminal::Request::IsTerminal), Err(libc::ENOTTY));
    let other = Io::Devctl { dcmd: 0x4004_020d, nbytes: 4, data: &[] };
    assert_eq!(server.io(conn, tty, &other, 100), Err(libc::ENOTTY));
}

fn terminals_of_others() {
    let ends = openpty(None, None).unwrap();
    let path = ttyname(&ends.slave).unwrap();
    let mut server = Server::new();
    let conn = server.connect_self();
    let tty = server.open(conn, path.to_str().unwrap()).unwrap();
    let asked = control(&mut server, conn, tty, &terminal::Request::Attributes).unwrap();
    let attributes = Attributes::parse(&asked).unwrap();
    let set = terminal::Request::SetAttributes { command: command::TCSETATTR, attributes };
    assert_eq!(control(&mut server, conn, tty, &set), Err(libc::EACCES));
    let size = terminal::Request::SetSize(Size::default());
    assert_eq!(control(&mut server, conn, tty, &size), Err(libc::EACCES));
}

fn kernel_settings() {
    const SETTING: &str = "/proc/sys/kernel/domainname";
    let before = fs::read(SETTING).unwrap();
    let mut server = Server::new();
    let (root, user) = (server.connect_writer(0), server.connect_writer(1000));
    assert_eq!(open(&mut server, user, SETTING, IOFLAG_WRITE, 0), Err(libc::EACCES));
    let file = open(&mut server, root, SETTING, IOFLAG_WRITE, 0).unwrap();
    // what it says already: the machine is to stay as it is
    let status = server.call(root, file, &write(&before), 0).unwrap().status;
    assert_eq!((status, fs::read(SETTING).unwrap()), (before.len() as i64, before));
}
