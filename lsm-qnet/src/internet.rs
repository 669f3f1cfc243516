//! Qnet in IP (`bind=ip`, protocol 106) and in UDP (`bind=udp`, ours): another way for packets beside Ethernet frames.
//!
//! ```text
//!  IP header │ two pad bytes and the packet …              protocol 106
//!  IP header │ UDP header │ two pad bytes and the packet …  UDP
//! ```
//!
//! The system routes, so nodes of other networks are reached; there is no broadcast, so nobody is found but by name. One
//! link of the core stands for all of it, over IPv4 and IPv6 alike. How large a packet may be without being cut on the
//! way the system knows for each destination; it is asked when a destination is used first, and again while it is. Packets
//! go out and come in by batches (`sys/batch.rs`).
//!
//! DEVIATION: QNX has no UDP here; it passes networks that drop protocol 106.

pub(crate) mod sys;

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

use io_pkt_sdk::{Error, Host, Interest, PollHandle};
use qnet_proto::{Instant, LinkAddr, LinkId, LinkInfo, Node};

use crate::places::Carrier;
use sys::{
    Family,
    batch::{BATCH, Inbound, Outbound},
};

/// The core's number of the link; interfaces have numbers above 0.
pub(crate) const LINK: LinkId = LinkId(0);
/// Numbers under which the sockets are watched.
pub(crate) const TOKENS: [u64; 2] = [16, 17];

/// The system is asked again how large a packet to a destination may be after this time, in nanoseconds.
const PATH_AGE: u64 = 5_000_000_000;
/// Destinations that are remembered; beyond, all are asked for anew.
const MAX_PATHS: usize = 4096;
/// Batches of packets taken from a socket in one go.
const BURST: usize = 256 / BATCH;
/// Longest packet, and largest size told to the core: what IPv4 can carry behind its header.
const LONGEST: usize = 65_535 - 20 - 8;

/// The sockets.
pub(crate) struct Internet {
    sockets: Vec<Socket>,
    port: Option<u16>,
    paths: HashMap<LinkAddr, u64>,
    own: LinkAddr,
    inbound: Inbound,
    outbound: Outbound,
    /// Packets that the system did not take; the core sends them again.
    pub(crate) unsent: u64,
}

struct Socket {
    // Declared before the descriptor: watching ends first.
    _watched: PollHandle,
    fd: OwnedFd,
    family: Family,
    token: u64,
}

impl Internet {
    /// Opens the sockets for a carrier; `None` for Ethernet.
    ///
    /// # Errors
    /// Neither IPv4 nor IPv6 can be had: the right is missing (`bind=ip` needs CAP_NET_RAW), or the port is taken.
    pub(crate) fn open(carrier: &Carrier, host: &Host) -> Result<Option<Self>, Error> {
        let port = match carrier {
            Carrier::Ethernet(_) => return Ok(None),
            Carrier::Ip => None,
            Carrier::Udp(port) => Some(*port),
        };
        let mut sockets = Vec::new();
        let mut failed = None;
        for (family, token) in [Family::V4, Family::V6].into_iter().zip(TOKENS) {
            match sys::open(family, port) {
                Ok(fd) => {
                    let watched = host.watch(&fd, Interest::Read, token)?;
                    sockets.push(Socket { _watched: watched, fd, family, token });
                }
                // A machine without IPv6 is an ordinary one.
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(refusal(port, &error));
        }
        let own = LinkAddr::ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
        let (inbound, outbound) = (Inbound::new(), Outbound::new());
        Ok(Some(Self { sockets, port, paths: HashMap::new(), own, inbound, outbound, unsent: 0 }))
    }

    /// The name of the link, for people and policies.
    pub(crate) fn name(&self) -> &'static str {
        if self.port.is_some() { "udp" } else { "ip" }
    }

    /// The own address, as the resolvers have it.
    pub(crate) fn own(&self) -> LinkAddr {
        self.own
    }

    /// Tells the core about the link, with this node's own address if it is known.
    pub(crate) fn tell(&mut self, node: &mut Node, now: Instant, own: Option<LinkAddr>) {
        self.own = own.unwrap_or(self.own);
        let info = LinkInfo { addr: self.own, mtu: LONGEST as u32, name: self.name().to_owned() };
        node.link_up(now, LINK, info);
    }

    /// Takes packets from the socket that is ready; true when more may wait.
    pub(crate) fn receive(&mut self, node: &mut Node, now: Instant, token: u64) -> bool {
        let Some(socket) = self.sockets.iter().find(|socket| socket.token == token) else { return false };
        if sys::take_errors(socket.fd.as_fd()) {
            // Perhaps that a packet was too large: every way is looked at again.
            self.paths.clear();
        }
        for _ in 0..BURST {
            let count = match self.inbound.receive(socket.fd.as_fd()) {
                Ok(0) => return false,
                Ok(count) => count,
                // What an ICMP message said of an earlier packet; there may be more behind it.
                Err(_) => continue,
            };
            for (packet, from) in (0..count).filter_map(|at| self.inbound.packet(at)) {
                let packet = if socket.family == Family::V4 && self.port.is_none() {
                    behind_header(packet)
                } else {
                    Some(packet)
                };
                let from = LinkAddr::ip(from.ip(), self.port.map(|_| from.port()));
                if let Some(packet) = packet {
                    node.handle_frame(now, LINK, from, packet);
                }
            }
        }
        true
    }

    /// Where the core is to write the next packet.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        self.outbound.buffer()
    }

    /// The first `len` bytes of the buffer are a packet for `to`. It leaves with the next [`Internet::flush`], or before.
    pub(crate) fn push(&mut self, node: &mut Node, now: Instant, to: LinkAddr, len: usize) {
        let Some((ip, port)) = to.as_ip() else { return };
        self.look_at_path(node, now, to, ip);
        if self.outbound.push(len, SocketAddr::new(ip, port.unwrap_or(0))) {
            self.flush();
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        if !self.outbound.is_empty() {
            let sockets = &self.sockets;
            let of = |family| {
                sockets.iter().find(|socket| socket.family == family).map(|socket| socket.fd.as_fd())
            };
            self.unsent += self.outbound.send(of);
        }
    }

    /// Asks the system how large a packet to a destination may be, if that is not known or was long ago.
    fn look_at_path(&mut self, node: &mut Node, now: Instant, to: LinkAddr, ip: IpAddr) {
        let at = now.as_nanos();
        if self.paths.get(&to).is_some_and(|asked| at.saturating_sub(*asked) < PATH_AGE) {
            return;
        }
        if self.paths.len() >= MAX_PATHS {
            self.paths.clear();
        }
        self.paths.insert(to, at);
        if let Ok(mtu) = sys::path_mtu(ip) {
            let headers = if ip.is_ipv4() { 20 } else { 40 } + if self.port.is_some() { 8 } else { 0 };
            node.path_mtu(now, LINK, to, mtu.saturating_sub(headers).min(LONGEST as u32));
        }
    }
}

/// What an IPv4 raw socket gives, without the header.
fn behind_header(packet: &[u8]) -> Option<&[u8]> {
    let words = usize::from(packet.first()? & 0x0f);
    packet.get(words * 4..)
}

fn refusal(port: Option<u16>, error: &io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let text = match (port, error.kind()) {
        (None, ErrorKind::PermissionDenied) => {
            "bind=ip: raw sockets are not allowed here (CAP_NET_RAW); bind=udp does without".to_owned()
        }
        (None, _) => format!("bind=ip: {error}"),
        (Some(port), _) => format!("bind=udp:{port}: {error}"),
    };
    Error::new(errno, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_ipv4_is_as_long_as_it_says() {
        let mut packet = [0x45_u8; 30];
        assert_eq!(behind_header(&packet).map(<[u8]>::len), Some(10));
        packet[0] = 0x47;
        assert_eq!(behind_header(&packet).map(<[u8]>::len), Some(2));
        packet[0] = 0x4f;
        assert_eq!(behind_header(&packet), None);
        assert_eq!(behind_header(&[]), None);
    }

    #[test]
    fn the_path_to_oneself_has_the_loopbacks_size() {
        assert!(sys::path_mtu(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap() >= 65_535);
    }
}
