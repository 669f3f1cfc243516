//! Pipes and pseudo terminals of this process.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use qnet_iomsg::terminal::{Attributes, Size, command, parse_reply};

use super::*;

const IN: u32 = 1;
const OUT: u32 = 4;

fn nonblocking(fd: impl AsFd) {
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
}

fn asked(fd: BorrowedFd<'_>, events: u32, wait: bool) -> Result<i64, Failure> {
    super::events(fd, &special::Request { events, wait })
}

/// A terminal's two ends: where it is read and written by programs, and the other one.
fn terminal() -> (OwnedFd, OwnedFd) {
    let ends = openpty(None, None).unwrap();
    (ends.slave, ends.master)
}

fn told(fd: BorrowedFd<'_>, request: &Request) -> Vec<u8> {
    let reply = control(fd, request).unwrap();
    parse_reply(&reply).unwrap().1.to_vec()
}

#[test]
fn a_full_pipe_is_waited_for_and_takes_what_fits() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    nonblocking(&writer);
    let mut written = 0;
    while let Ok(n) = write(writer.as_fd(), &[7; 60_000], false, &Cancel::default()) {
        written += n;
    }
    let full = write(writer.as_fd(), &[7], false, &Cancel::default());
    assert!(matches!(full, Err(Failure::WouldWait(Wait::Ready(PollFlags::POLLOUT)))), "{full:?}");
    assert!(matches!(
        write(writer.as_fd(), &[7], true, &Cancel::default()),
        Err(Failure::Errno(Errno::EAGAIN))
    ));
    assert!(matches!(asked(writer.as_fd(), OUT, false), Ok(0)));
    assert!(matches!(
        asked(writer.as_fd(), OUT, true),
        Err(Failure::WouldWait(Wait::Ready(PollFlags::POLLOUT)))
    ));
    reader.read_exact(&mut vec![0; written]).unwrap();
    assert!(matches!(asked(writer.as_fd(), OUT, true), Ok(4)));
    drop(reader);
    assert!(matches!(
        write(writer.as_fd(), &[7], false, &Cancel::default()),
        Err(Failure::Errno(Errno::EPIPE))
    ));
}

#[test]
fn what_can_be_read_and_the_end_are_told() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    assert!(matches!(asked(reader.as_fd(), IN, false), Ok(0)));
    writer.write_all(b"x").unwrap();
    assert!(matches!(asked(reader.as_fd(), IN, true), Ok(1)));
    drop(writer);
    assert!(matches!(asked(reader.as_fd(), 0, true), Ok(0x10)), "an end is told to who did not ask for it");
}

#[test]
fn attributes_and_size_of_a_terminal_can_be_asked_for_and_changed() {
    let (terminal, _other) = terminal();
    let fd = terminal.as_fd();
    assert_eq!(parse_reply(&control(fd, &Request::IsTerminal).unwrap()).unwrap().0, 1);
    let before = Attributes::parse(&told(fd, &Request::Attributes)).unwrap();
    assert_eq!(before.speed, [38400, 38400]);
    let after = Attributes { local: before.local & !libc::ECHO, speed: [31250, 31250], ..before };
    told(fd, &Request::SetAttributes { command: command::TCSETATTRF, attributes: after });
    assert_eq!(Attributes::parse(&told(fd, &Request::Attributes)), Ok(after));
    told(fd, &Request::SetAttributes { command: command::TCSETATTR, attributes: before });
    let known = nix::sys::termios::tcgetattr(fd).unwrap();
    assert_eq!(Attributes::parse(&told(fd, &Request::Attributes)), Ok(before));
    assert!(known.local_flags.contains(nix::sys::termios::LocalFlags::ECHO));
    let size = Size { rows: 50, columns: 132, dots: [1, 2] };
    told(fd, &Request::SetSize(size));
    assert_eq!(Size::parse(&told(fd, &Request::Size)), Ok(size));
}

#[test]
fn what_is_no_terminal_says_so() {
    let (reader, _writer) = std::io::pipe().unwrap();
    for request in [Request::IsTerminal, Request::Attributes, Request::Size] {
        assert!(
            matches!(control(reader.as_fd(), &request), Err(Failure::Errno(Errno::ENOTTY))),
            "{request:?}"
        );
    }
}
