//! Who is at the other end, and the few socket calls that `nix` offers not at all or without ownership.
#![expect(unsafe_code, reason = "SO_PEERGROUPS, an owning accept and an owning recvmsg have no safe wrapper")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockFlag, accept4, getsockopt, sockopt},
};

/// What the kernel knows of the process that connected, listened or made the socket pair. It cannot be forged; it says
/// who that process was *then*.
#[derive(Debug)]
pub struct PeerIdentity {
    /// Its process, in our PID namespace; 0 when it is not visible from there.
    pub pid: i32,
    /// Effective user, in our user namespace.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// A handle to the process that survives the reuse of its pid (Linux 6.5 and later, `None` before).
    pub pidfd: Option<OwnedFd>,
}

impl PeerIdentity {
    /// Asks the kernel about a connected Unix socket.
    ///
    /// # Errors
    /// The descriptor is not a connected Unix socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
        Ok(Self {
            pid: credentials.pid(),
            uid: credentials.uid(),
            gid: credentials.gid(),
            groups: groups(socket)?,
            pidfd: getsockopt(socket, sockopt::PeerPidfd).ok(),
        })
    }
}

fn groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut groups = vec![0u32; 32];
    loop {
        let mut bytes = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: `groups` has room for `bytes` bytes and any bytes are valid `u32`s; `bytes` is a live variable; the
        // descriptor is open because it is borrowed.
        let result = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let n = bytes as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(n);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // ERANGE comes with the room that is needed.
        if error.raw_os_error() != Some(libc::ERANGE) || n <= groups.len() {
            return Err(error);
        }
        groups.resize(n, 0);
    }
}

/// Takes the next client of a listening socket.
pub(crate) fn accept(listener: &OwnedFd) -> nix::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel has just made the descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// As `recv`, with a descriptor that came along. The kernel closes what came beside the first.
pub(crate) fn recv_with_descriptor(
    socket: &OwnedFd,
    buffer: &mut [u8],
    flags: MsgFlags,
) -> nix::Result<(usize, Option<OwnedFd>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Room for the head and one descriptor, aligned as a head must be. Not more than that: nix would lose descriptors
    // where the kernel cut the list.
    let mut control = [0u64; 3];
    // SAFETY: a message header of zeros is a valid one that names nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: plain arithmetic.
    message.msg_controllen = unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) } as _;
    let flags = flags.bits() | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the descriptor is open because it is borrowed; the header names `buffer` and `control`, which live and
    // have the sizes given.
    let len = Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;
    // SAFETY: the kernel has filled in the header, which still names `control`.
    let head = unsafe { libc::CMSG_FIRSTHDR(&raw const message).as_ref() };
    let fd = head.filter(|head| head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS);
    let fd = fd.map(|head| {
        // SAFETY: a head of this type is followed by descriptors, and `control` has room for exactly one.
        let fd = unsafe { libc::CMSG_DATA(head).cast::<RawFd>().read_unaligned() };
        // SAFETY: the kernel has just made it for us, and nobody else knows it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    });
    Ok((len.cast_unsigned(), fd))
}
