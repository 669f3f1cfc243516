//! A second address for an interface of Linux: its card hears frames for it, too, as long as this value lives.
//!
//! The module ABI has no call for that, and needs none: whose interface has a name in Linux says so
//! (`Interface::system_name`), and the kernel keeps such addresses for sockets, whoever else uses the interface. It takes them back
//! when the socket closes, however the daemon ends. Other devices of io-pkt hear everything that is on their wire.

#![expect(unsafe_code, reason = "nix has no memberships of packet sockets")]

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd, OwnedFd},
};

use io_pkt_sdk::Mac;
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

/// An address that an interface has beside its own.
#[derive(Debug)]
pub(crate) struct Hearing(#[expect(dead_code, reason = "held for what closing it does")] OwnedFd);

impl Hearing {
    /// Adds the address to the Linux interface of this name.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW, ENODEV when there is no such interface, EINVAL when it has no stations' addresses.
    pub(crate) fn open(interface: &str, mac: Mac) -> io::Result<Self> {
        let index = if_nametoindex(interface)?;
        // Of no protocol: it hears nothing itself.
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        let [a, b, c, d, e, f] = mac.0;
        let request = libc::packet_mreq {
            mr_ifindex: index.cast_signed(),
            mr_type: libc::PACKET_MR_UNICAST as u16,
            mr_alen: 6,
            mr_address: [a, b, c, d, e, f, 0, 0],
        };
        // SAFETY: the socket is open, and `request` is as long as it is said to be.
        let outcome = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(socket)) }
    }
}
