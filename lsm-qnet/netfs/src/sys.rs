//! The system interfaces that no safe wrapper gives: a descriptor passed over a socket, which fusermount3 does, and one for
//! a thread.

#![expect(unsafe_code, reason = "a descriptor is a bare number until somebody owns it")]

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

/// A descriptor for a thread, readable when the thread has ended. `None` when it has, or where the kernel gives none for
/// threads (before 6.9, for those that do not lead their process).
pub(crate) fn thread_descriptor(thread: u32) -> Option<OwnedFd> {
    /// `PIDFD_THREAD`
    const OF_A_THREAD: libc::c_uint = libc::O_EXCL.cast_unsigned();
    let thread = libc::pid_t::try_from(thread).ok()?;
    [OF_A_THREAD, 0].into_iter().find_map(|flags| {
        // SAFETY: the call takes two numbers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, thread, flags) };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the kernel has just made the descriptor for this process, close-on-exec, and nobody else knows its number.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    })
}
