//! System calls of the driver: packet sockets, the receive ring, batches of messages, AF_XDP, `ethtool` settings.
//!
//! All unsafe code of this crate is here and in the files below. Sockets are made with protocol 0, which receives
//! nothing, then get all their options, and are bound last, so that no frame arrives half-configured or from another
//! interface.

pub(crate) mod ethtool;
pub(crate) mod messages;
pub(crate) mod ring;
pub(crate) mod xdp;

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Room for super-frames that wait outside the ring, and for bursts without one.
const RECEIVE_BUFFER: libc::c_int = 8 << 20;
const SEND_BUFFER: libc::c_int = 4 << 20;
const ETH_P_ALL: u16 = 0x0003;

/// A VLAN tag that the kernel took out of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The ethertype of the tag (0x8100, 0x88a8).
    pub(crate) kind: u16,
    /// Priority and VLAN number.
    pub(crate) control: u16,
}

impl Tag {
    fn from_status(status: u32, kind: u16, control: u16) -> Option<Self> {
        let known = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        (status & libc::TP_STATUS_VLAN_VALID != 0)
            .then_some(Self { kind: if known { kind } else { 0x8100 }, control })
    }

    /// The tag as it stood in the frame.
    pub(crate) fn bytes(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.kind.to_be_bytes(), self.control.to_be_bytes());
        [a, b, c, d]
    }
}

/// What a socket is to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hearing {
    /// Everything, whatever its destination.
    pub(crate) promiscuous: bool,
    /// All multicast.
    pub(crate) multicast: bool,
    /// A second station address beside the interface's own.
    pub(crate) extra_mac: Option<[u8; 6]>,
}

/// A packet socket on one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PacketSocket {
    /// A socket that hears nothing yet.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW.
    fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?))
    }

    /// A socket to receive with: `prepare` gives it a ring or does nothing, then it is bound and hears.
    ///
    /// Each frame comes with the header of [`crate::offload`], frames that this machine sends are left out.
    pub(crate) fn receiver<T>(
        index: i32,
        hearing: Hearing,
        prepare: impl FnOnce(&Self) -> io::Result<T>,
    ) -> io::Result<(Self, T)> {
        let socket = Self::new()?;
        socket.buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let prepared = prepare(&socket)?;
        socket.bind(index, ETH_P_ALL)?;
        socket.join(index, hearing)?;
        Ok((socket, prepared))
    }

    /// A socket to send with.
    ///
    /// # Errors
    /// As [`PacketSocket::new`].
    pub(crate) fn sender(index: i32) -> io::Result<Self> {
        let socket = Self::new()?;
        socket.buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER)?;
        socket.bind(index, 0)?;
        Ok(socket)
    }

    /// Frames that the kernel had to drop for want of room since the last call.
    pub(crate) fn drops(&self) -> u64 {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the socket is open, and `stats` has room for the `len` bytes that this option writes.
        let outcome = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &mut len,
            )
        };
        if outcome == 0 { stats.tp_drops.into() } else { 0 }
    }

    fn join(&self, index: i32, hearing: Hearing) -> io::Result<()> {
        let membership = |kind: libc::c_int, address: [u8; 6]| {
            let [a, b, c, d, e, f] = address;
            let mr_address = [a, b, c, d, e, f, 0, 0];
            let request =
                libc::packet_mreq { mr_ifindex: index, mr_type: kind as u16, mr_alen: 6, mr_address };
            self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
        };
        if hearing.promiscuous {
            membership(libc::PACKET_MR_PROMISC, [0; 6])?;
        }
        if hearing.multicast {
            membership(libc::PACKET_MR_ALLMULTI, [0; 6])?;
        }
        if let Some(address) = hearing.extra_mac {
            membership(libc::PACKET_MR_UNICAST, address)?;
        }
        Ok(())
    }

    fn bind(&self, index: i32, protocol: u16) -> io::Result<()> {
        // SAFETY: `sockaddr_ll` is plain data, for which all zeroes is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = index;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the socket is open, and `address` is a packet address of `len` bytes.
        check(unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
    }

    /// Asks for a larger buffer: beyond the system's limit when privileged, else up to it.
    fn buffer(&self, force: libc::c_int, plain: libc::c_int, bytes: libc::c_int) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, force, &bytes).or_else(|_| self.set(libc::SOL_SOCKET, plain, &bytes))
    }

    /// Sets a socket option whose value is the plain data `T`.
    fn set<T: Copy>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the socket is open, and `value` is `len` readable bytes.
        let outcome =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), level, name, (&raw const *value).cast(), len) };
        check(outcome).map(drop)
    }
}

/// A system call's -1 as an error.
fn check(outcome: libc::c_int) -> io::Result<libc::c_int> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}
