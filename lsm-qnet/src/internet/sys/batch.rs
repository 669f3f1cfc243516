//! Many packets with one system call: `recvmmsg` and `sendmmsg`.
//!
//! ```text
//!  slot 0 [ 64 KiB ]  slot 1 [ 64 KiB ]  …      one packet each; of a slot only the pages that a packet needs are ever touched
//! ```
//!
//! Headers hold pointers into the same value during a call and are written anew before each.

use std::{
    io,
    mem::{size_of, zeroed},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use super::Family;

/// Packets in a batch.
pub(crate) const BATCH: usize = 32;
/// Room for the longest packet of all, an IPv4 header before it included.
const SLOT: usize = 65_536;

/// Room for packets, with what the system calls want to know of them.
struct Slots {
    bytes: Box<[u8]>,
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    names: Box<[libc::sockaddr_storage]>,
}

// SAFETY: the pointers in `headers` and `parts` are dead between calls, each of which writes them anew.
unsafe impl Send for Slots {}

impl Slots {
    fn new() -> Self {
        let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: plain data, for which all zeroes is a value: no name, no parts, no control data.
        let header = unsafe { zeroed::<libc::mmsghdr>() };
        // SAFETY: plain data, too.
        let name = unsafe { zeroed::<libc::sockaddr_storage>() };
        Self {
            bytes: vec![0; BATCH * SLOT].into_boxed_slice(),
            headers: vec![header; BATCH].into_boxed_slice(),
            parts: vec![part; BATCH].into_boxed_slice(),
            names: vec![name; BATCH].into_boxed_slice(),
        }
    }

    fn slot(&self, at: usize) -> &[u8] {
        &self.bytes[at * SLOT..(at + 1) * SLOT]
    }

    /// Header `header` is about the first `len` bytes of slot `slot`; its name has `name_len` bytes, or room for them.
    fn prepare(&mut self, header: usize, slot: usize, len: usize, name_len: usize) {
        let bytes = &mut self.bytes[slot * SLOT..slot * SLOT + len];
        self.parts[header] = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let message = &mut self.headers[header].msg_hdr;
        message.msg_name = (&raw mut self.names[header]).cast();
        message.msg_namelen = name_len as libc::socklen_t;
        message.msg_iov = &raw mut self.parts[header];
        message.msg_iovlen = 1;
    }
}

/// Room to receive.
pub(crate) struct Inbound(Slots);

impl Inbound {
    pub(crate) fn new() -> Self {
        Self(Slots::new())
    }

    /// Takes up to [`BATCH`] packets and returns how many came; none when none waits.
    ///
    /// # Errors
    /// What the network said of an earlier packet; there may be packets behind it.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        for at in 0..BATCH {
            self.0.prepare(at, at, SLOT, size_of::<libc::sockaddr_storage>());
        }
        // SAFETY: the socket is open; the headers point to slots and names that live in `self`, which is borrowed
        // exclusively.
        let got = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.0.headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        match usize::try_from(got) {
            Ok(got) => Ok(got),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Packet number `at` of the last call, and its sender.
    pub(crate) fn packet(&self, at: usize) -> Option<(&[u8], SocketAddr)> {
        let header = &self.0.headers[at];
        let from = address(&self.0.names[at], header.msg_hdr.msg_namelen as usize)?;
        Some((self.0.slot(at).get(..header.msg_len as usize)?, from))
    }
}

/// Packets that wait to be sent together.
pub(crate) struct Outbound {
    slots: Slots,
    waiting: Vec<(usize, SocketAddr)>,
}

impl Outbound {
    pub(crate) fn new() -> Self {
        Self { slots: Slots::new(), waiting: Vec::with_capacity(BATCH) }
    }

    /// Where the next packet is to be written.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        let at = self.waiting.len();
        &mut self.slots.bytes[at * SLOT..(at + 1) * SLOT]
    }

    /// The first `len` bytes of the buffer are a packet. Returns whether the batch is full: then it must be sent.
    pub(crate) fn push(&mut self, len: usize, to: SocketAddr) -> bool {
        self.waiting.push((len.min(SLOT), to));
        self.waiting.len() == BATCH
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what waits, each by the socket of its family, and never waits itself. Returns how many the system did not
    /// take.
    pub(crate) fn send<'a>(&mut self, socket: impl Fn(Family) -> Option<BorrowedFd<'a>>) -> u64 {
        let mut unsent = 0;
        for family in [Family::V4, Family::V6] {
            let mut count = 0;
            for (slot, (len, to)) in self.waiting.iter().enumerate() {
                if Family::of(to) == family {
                    let name_len = put_address(&mut self.slots.names[count], to);
                    self.slots.prepare(count, slot, *len, name_len);
                    count += 1;
                }
            }
            if count > 0 {
                unsent += socket(family).map_or(count, |fd| self.call(fd, count)) as u64;
            }
        }
        self.waiting.clear();
        unsent
    }

    /// Sends by the first `count` headers. Returns how many were not taken.
    fn call(&mut self, fd: BorrowedFd<'_>, count: usize) -> usize {
        let (mut at, mut unsent, mut again) = (0, 0, false);
        while at < count {
            let headers = &mut self.slots.headers[at..count];
            // SAFETY: the socket is open; each of these headers was prepared, and points to a slot and a name that live
            // in `self`, which is borrowed exclusively.
            let sent = unsafe {
                libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), headers.len() as u32, libc::MSG_DONTWAIT)
            };
            if let Ok(sent @ 1..) = usize::try_from(sent) {
                (at, again) = (at + sent, false);
                continue;
            }
            match io::Error::last_os_error().raw_os_error() {
                // No room for it, and so for none.
                Some(libc::EAGAIN | libc::ENOBUFS) => return unsent + count - at,
                // What is said may be about an earlier packet to somebody else, and this one was not sent for it.
                errno if errno != Some(libc::EMSGSIZE) && !again => again = true,
                _ => (at, unsent, again) = (at + 1, unsent + 1, false),
            }
        }
        unsent
    }
}

/// Writes an address as the system has it, and returns its length.
fn put_address(storage: &mut libc::sockaddr_storage, to: &SocketAddr) -> usize {
    match to {
        SocketAddr::V4(to) => {
            // SAFETY: plain data, for which all zeroes is a value.
            let mut name: libc::sockaddr_in = unsafe { zeroed() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = to.port().to_be();
            name.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
            // SAFETY: every kind of address fits into this one, and is no stricter in its alignment.
            unsafe { (&raw mut *storage).cast::<libc::sockaddr_in>().write(name) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(to) => {
            // SAFETY: as above.
            let mut name: libc::sockaddr_in6 = unsafe { zeroed() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = to.port().to_be();
            name.sin6_addr.s6_addr = to.ip().octets();
            name.sin6_flowinfo = to.flowinfo();
            name.sin6_scope_id = to.scope_id();
            // SAFETY: as above.
            unsafe { (&raw mut *storage).cast::<libc::sockaddr_in6>().write(name) };
            size_of::<libc::sockaddr_in6>()
        }
    }
}

/// Reads an address of `len` bytes; `None` when it is of another kind, or cut.
fn address(storage: &libc::sockaddr_storage, len: usize) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: of this family, as long as that, and the kind of all kinds is aligned for each.
            let name = unsafe { (&raw const *storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::from((ip, u16::from_be(name.sin_port))))
        }
        libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let name = unsafe { (&raw const *storage).cast::<libc::sockaddr_in6>().read() };
            let (ip, port) = (Ipv6Addr::from(name.sin6_addr.s6_addr), u16::from_be(name.sin6_port));
            Some(SocketAddrV6::new(ip, port, name.sin6_flowinfo, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    /// A socket of this machine itself; `None` when it has no such addresses.
    fn socket(ip: &str) -> Option<UdpSocket> {
        let socket = UdpSocket::bind((ip, 0)).ok()?;
        socket.set_nonblocking(true).expect("a socket");
        Some(socket)
    }

    fn push(out: &mut Outbound, len: usize, byte: u8, to: SocketAddr) -> bool {
        out.buffer()[..len].fill(byte);
        out.push(len, to)
    }

    #[test]
    fn a_batch_arrives_in_order_with_its_sender_in_one_call() {
        for ip in ["127.0.0.1", "::1"] {
            let (Some(a), Some(b)) = (socket(ip), socket(ip)) else { continue };
            let (mut out, mut inbound) = (Outbound::new(), Inbound::new());
            assert_eq!(inbound.receive(b.as_fd()).expect("nothing is wrong"), 0);
            let to = b.local_addr().expect("it has one");
            let lens = [1, 1500, 60_000];
            for (byte, len) in (1..).zip(lens) {
                assert!(!push(&mut out, len, byte, to));
            }
            assert_eq!(out.send(|_| Some(a.as_fd())), 0);
            assert!(out.is_empty());
            assert_eq!(inbound.receive(b.as_fd()).expect("they are there"), 3);
            for (at, (byte, len)) in (1..).zip(lens).enumerate() {
                let (packet, from) = inbound.packet(at).expect("whole");
                assert_eq!((packet, from), (&vec![byte; len][..], a.local_addr().expect("it has one")));
            }
        }
    }

    #[test]
    fn each_family_has_its_socket_and_what_has_none_counts_as_unsent() {
        let (Some(a), Some(b)) = (socket("127.0.0.1"), socket("127.0.0.1")) else { panic!("no loopback") };
        let mut out = Outbound::new();
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        for to in [v6, b.local_addr().expect("it has one"), v6] {
            push(&mut out, 3, 7, to);
        }
        assert_eq!(out.send(|family| (family == Family::V4).then_some(a.as_fd())), 2);
        assert_eq!(Inbound::new().receive(b.as_fd()).expect("it is there"), 1);
    }

    #[test]
    fn a_packet_that_cannot_be_sent_does_not_keep_the_others() {
        let (Some(a), Some(b)) = (socket("127.0.0.1"), socket("127.0.0.1")) else { panic!("no loopback") };
        let (mut out, to) = (Outbound::new(), b.local_addr().expect("it has one"));
        for len in [10, SLOT, 20] {
            push(&mut out, len, 1, to);
        }
        assert_eq!(out.send(|_| Some(a.as_fd())), 1, "longer than UDP carries");
        assert_eq!(Inbound::new().receive(b.as_fd()).expect("they are there"), 2);
    }

    #[test]
    fn a_full_batch_says_so() {
        let mut out = Outbound::new();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let full: Vec<bool> = (0..BATCH).map(|_| push(&mut out, 1, 1, to)).collect();
        assert_eq!(full.iter().position(|full| *full), Some(BATCH - 1));
        assert_eq!(out.send(|_| None), BATCH as u64);
    }
}
