//! The one system interface that no safe wrapper gives: a descriptor passed over a socket, which fusermount3 does.

#![expect(unsafe_code, reason = "a received descriptor is a bare number until somebody owns it")]

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair},
};

/// A socket pair for the helper: our end, and the end that a started program inherits.
///
/// # Errors
/// No descriptors left.
pub(crate) fn helper_socket() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty())?;
    fcntl(&ours, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok((ours, theirs))
}

/// Takes the FUSE device that the helper has sent, and makes it non-blocking. Does not wait.
///
/// # Errors
/// `ENODATA` when nothing, or something else, was sent.
pub(crate) fn receive_descriptor(socket: &OwnedFd) -> io::Result<File> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut room = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), flags)?;
    let received = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let fd = received.ok_or(Errno::ENODATA)?;
    // SAFETY: the kernel has just installed the descriptor for this process and nobody else knows its number; there is
    // room for one only, so none is lost.
    let device = unsafe { OwnedFd::from_raw_fd(fd) };
    let flags = OFlag::from_bits_retain(fcntl(&device, FcntlArg::F_GETFL)?);
    fcntl(&device, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(File::from(device))
}
