//! The system calls of the Internet carriers: sockets that never block.

#![expect(
    unsafe_code,
    reason = "nix has no sockets of protocol 106, no path MTU of IPv6, and batches that allocate"
)]

pub(crate) mod batch;

use std::{
    io,
    mem::size_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::sys::socket::{MsgFlags, SockaddrStorage, bind, recv, setsockopt, sockopt};

/// IANA's number for Qnet.
const PROTOCOL: i32 = 106;
/// Room for a burst of packets on either side.
const BUFFER: usize = 4 << 20;
/// Errors taken in one go.
const MAX_ERRORS: usize = 256;
/// Port that path sizes are asked with; nothing is sent to it.
const DISCARD: u16 = 9;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// That of an address.
    pub(crate) fn of(addr: &SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A socket: of protocol 106, or of UDP at a port.
pub(crate) fn open(family: Family, port: Option<u16>) -> io::Result<OwnedFd> {
    let domain = if family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 };
    let (kind, protocol) = if port.is_some() { (libc::SOCK_DGRAM, 0) } else { (libc::SOCK_RAW, PROTOCOL) };
    // SAFETY: the call takes numbers only.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made, and that nobody else knows.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // The system gives what it allows.
    setsockopt(&fd, sockopt::RcvBuf, &BUFFER)?;
    setsockopt(&fd, sockopt::SndBuf, &BUFFER)?;
    // Without it a raw socket of IPv6 never hears how large a packet may be on the way.
    match family {
        Family::V4 => setsockopt(&fd, sockopt::Ipv4RecvErr, &true)?,
        Family::V6 => setsockopt(&fd, sockopt::Ipv6RecvErr, &true)?,
    }
    if let Some(port) = port {
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => {
                setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
                Ipv6Addr::UNSPECIFIED.into()
            }
        };
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(any, port)))?;
    }
    Ok(fd)
}

/// Takes away what the network said of earlier packets (too large, no such host); true when there was something. It would
/// take the room of packets otherwise.
pub(crate) fn take_errors(fd: BorrowedFd<'_>) -> bool {
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let mut packet = [0; 64];
    (0..MAX_ERRORS).take_while(|_| recv(fd.as_raw_fd(), &mut packet, flags).is_ok()).count() > 0
}

/// Bytes, IP header included, that reach an address without being cut, as far as the system knows.
pub(crate) fn path_mtu(to: IpAddr) -> io::Result<u32> {
    let (any, level, option) = match to {
        IpAddr::V4(_) => (IpAddr::from(Ipv4Addr::UNSPECIFIED), libc::IPPROTO_IP, libc::IP_MTU),
        IpAddr::V6(_) => (IpAddr::from(Ipv6Addr::UNSPECIFIED), libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((to, DISCARD))?;
    let mut mtu: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: an open descriptor; `mtu` has room for the `len` bytes that are written.
    let code = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw mut mtu).cast(), &raw mut len)
    };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}
