//! The system calls of this crate: descriptors over Unix sockets, and the loader's view of our privileges.
//!
//! This is the only file of the crate with `unsafe` in it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use nix::sys::{
    socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect,
        recvmsg, sendmsg, setsockopt, socket, sockopt::SendTimeout,
    },
    time::{TimeVal, TimeValLike},
};

use crate::MAX_DESCRIPTORS;

/// Connects to a Unix stream socket. A listener whose queue is full is waited for at most `patience`; with none left
/// the error is `WouldBlock`, which proves that somebody listens.
///
/// # Errors
/// As socket(2) and connect(2).
pub fn connect_stream(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // A zero timeout would mean "for ever".
    let micros = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX).max(1);
    setsockopt(&fd, SendTimeout, &TimeVal::microseconds(micros))?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

/// Sends bytes, the first of them together with descriptors. Returns how many bytes the kernel took; the descriptors
/// went along with them.
///
/// # Errors
/// As sendmsg(2); a closed peer is an error and raises no signal.
pub fn send_with_descriptors(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    Ok(sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives bytes and appends the descriptors that came along; they are closed on exec. Returns 0 at the stream's
/// end.
///
/// # Errors
/// As recvmsg(2); `InvalidData` when the peer sent more than [`MAX_DESCRIPTORS`] at once (all of them are closed).
pub fn recv_with_descriptors(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(room)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let before = fds.len();
    for item in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = item {
            for fd in raw {
                // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        fds.truncate(before);
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors in one message"));
    }
    Ok(message.bytes)
}

/// True in a set-uid program or one with file capabilities: its environment belongs to somebody with fewer rights.
#[must_use]
pub fn has_raised_privileges() -> bool {
    // SAFETY: getauxval reads a vector that the kernel made at start; any key is allowed.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
