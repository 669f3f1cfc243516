//! The way that packets take: the socket, then shared memory, and how the two ends change over.
//!
//! ```text
//!  client                                          server
//!    │ Offer + memfd ─────────────────────────────────▶│   after some messages, on the socket
//!    │◀──────────── Answer{0}: what follows is in the ring │
//!    │ Switch: what follows is in the ring ───────────▶│
//!    │ Bell ─────────────────── when the other sleeps ─── Bell │
//! ```
//!
//! Offer, Answer and Switch travel on the socket among the other packets, so both directions keep their order: each end
//! looks into the ring only once it has read that the other one began to use it. A server that cannot (no memory, a
//! descriptor that is not what it should be) answers with an errno, and everything stays on the socket. Afterwards the
//! socket carries bells, and its end is the end of the connection. With `IO_PKT_RING=0` in its environment a process
//! uses sockets only.

use std::{
    io::IoSlice,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, OnceLock},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, recv, send, sendmsg},
};

use super::{Next, PeerError, Role};
use crate::{
    MAX_PACKET,
    codec::{self, DecodeError, Inner},
    ring::{Direction, Inlet, Pushed, Ring},
    sys::recv_with_descriptor,
};

/// Layout of the shared memory.
const LAYOUT: u32 = 1;
/// Packets of a client before it makes a ring: few enough for a program that means it, too many for a connection that is
/// opened for one question.
const RING_AFTER: u32 = 8;

/// How far the ring is.
#[derive(Debug)]
enum Stage {
    /// There is none yet; packets sent.
    Young(u32),
    /// The client waits for the answer.
    Offered(Ring),
    Up(Up),
    /// There will be none.
    Closed,
}

#[derive(Debug)]
struct Up {
    ring: Ring,
    sends: bool,
    receives: bool,
    /// The socket has ended.
    ended: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Pathway(Stage);

impl Default for Pathway {
    fn default() -> Self {
        static SOCKETS_ONLY: OnceLock<bool> = OnceLock::new();
        // For whoever suspects the ring, and for benchmarks that compare.
        let only =
            SOCKETS_ONLY.get_or_init(|| std::env::var_os("IO_PKT_RING").is_some_and(|value| value == "0"));
        Self(if *only { Stage::Closed } else { Stage::Young(0) })
    }
}

impl Pathway {
    pub(super) fn close(&mut self) {
        self.0 = Stage::Closed;
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.0, Stage::Closed)
    }

    fn up(&self) -> Option<&Up> {
        match &self.0 {
            Stage::Up(up) => Some(up),
            _ => None,
        }
    }

    /// Whether packets are sent through the ring.
    pub(super) fn sends(&self) -> bool {
        self.up().is_some_and(|up| up.sends)
    }

    /// Whether packets come through the ring.
    pub(super) fn receives(&self) -> bool {
        self.up().is_some_and(|up| up.receives)
    }

    /// Where packets come in, if they do.
    pub(super) fn inlet(&self) -> Option<&Arc<Inlet>> {
        self.up().filter(|up| up.receives).map(|up| &up.ring.inlet)
    }

    /// What was sent last said so.
    pub(super) fn send_through_ring(&mut self) {
        if let Stage::Up(up) = &mut self.0 {
            up.sends = true;
        }
    }

    /// Bytes of the largest data that shared memory takes now.
    pub(super) fn room(&mut self) -> usize {
        match &mut self.0 {
            Stage::Up(up) if up.sends => up.ring.outlet.room(),
            _ => 0,
        }
    }

    /// Counts a packet, and offers a ring when it is time.
    pub(super) fn offer_in_time(&mut self, socket: &OwnedFd) -> Result<(), PeerError> {
        let Stage::Young(sent) = &mut self.0 else { return Ok(()) };
        *sent += 1;
        if *sent < RING_AFTER {
            return Ok(());
        }
        // No memory or no descriptor: the socket serves as well.
        let Ok((ring, fd)) = Ring::create(Direction::ToServer) else {
            self.close();
            return Ok(());
        };
        let mut head = Vec::new();
        codec::encode_inner(Inner::Offer { layout: LAYOUT }, &mut head);
        let fds = [fd.as_raw_fd()];
        match transmit(socket, &head, &[], &[ControlMessage::ScmRights(&fds)]) {
            Ok(true) => self.0 = Stage::Offered(ring),
            // It is tried again with the next packet.
            Ok(false) => {}
            Err(PeerError::Closed) => return Err(PeerError::Closed),
            // Such as too many descriptors on their way.
            Err(_) => self.close(),
        }
        Ok(())
    }

    /// Sends a packet; whether it was taken.
    pub(super) fn transmit(
        &mut self,
        socket: &OwnedFd,
        head: &[u8],
        data: &[IoSlice<'_>],
    ) -> Result<bool, PeerError> {
        let Stage::Up(up) = &mut self.0 else { return transmit(socket, head, data, &[]) };
        if !up.sends {
            return transmit(socket, head, data, &[]);
        }
        let len = data.iter().map(|part| part.len()).sum();
        match up.ring.outlet.push(head, data, len)? {
            Pushed::In { bell: false } => Ok(true),
            Pushed::In { bell: true } => ring_bell(socket).map(|()| true),
            Pushed::Full => Ok(false),
        }
    }

    /// Looks into the ring.
    pub(super) fn pop(
        &mut self,
        socket: &OwnedFd,
        buffer: &mut Vec<u8>,
        lend: bool,
        attended: bool,
    ) -> Result<Next, PeerError> {
        let Stage::Up(up) = &mut self.0 else { return Ok(Next::AskSocket) };
        let inlet = &up.ring.inlet;
        if let Some(packet) = inlet.pop(buffer, lend)? {
            if inlet.is_wanted() {
                // An error shows up as the end of the socket.
                let _gone = ring_bell(socket);
            }
            return Ok(Next::Packet(packet));
        }
        if up.ended {
            return Err(PeerError::Closed);
        }
        if attended {
            return Ok(if inlet.socket_speaks() { Next::AskSocket } else { Next::Nothing });
        }
        Ok(if super::arm(inlet, socket) { Next::AskSocket } else { Next::Again })
    }

    /// Reads the socket, with a descriptor that comes along when one may come.
    pub(super) fn receive(
        &mut self,
        socket: &OwnedFd,
        buffer: &mut [u8],
        client: bool,
    ) -> Result<Option<(usize, Option<OwnedFd>)>, PeerError> {
        // MSG_TRUNC: the true length of a packet that does not fit. Descriptors that nobody expects are closed by the
        // kernel, because no room for them is offered.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let may_come = !client && matches!(self.0, Stage::Young(_));
        loop {
            let received = match may_come {
                true => recv_with_descriptor(socket, buffer, flags),
                false => recv(socket.as_raw_fd(), buffer, flags).map(|len| (len, None)),
            };
            match received {
                Ok((0, _)) => return Err(PeerError::Closed),
                Ok((len, fd)) if len <= MAX_PACKET => return Ok(Some((len, fd))),
                Ok((len, _)) => return Err(PeerError::Oversized { len }),
                Err(Errno::EAGAIN) => {
                    if let Some(inlet) = self.inlet() {
                        inlet.note_socket(false);
                    }
                    return Ok(None);
                }
                // ECONNRESET is told once when the other end left without reading all; its own packets come after it.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(Errno::ENOTCONN) => return Err(PeerError::Closed),
                Err(errno) => return Err(PeerError::Io(errno.into())),
            }
        }
    }

    /// The socket has ended. Whether the ring is still to be looked into.
    pub(super) fn ends(&mut self) -> bool {
        match &mut self.0 {
            Stage::Up(up) if up.receives && !up.ended => {
                up.ended = true;
                true
            }
            _ => false,
        }
    }

    /// The other end speaks of the ring; what to answer.
    pub(super) fn on_inner<R: Role>(
        &mut self,
        inner: Inner,
        fd: Option<OwnedFd>,
    ) -> Result<Option<Inner>, PeerError> {
        match (inner, std::mem::replace(&mut self.0, Stage::Closed)) {
            (Inner::Offer { layout }, Stage::Young(_)) if !R::OFFERS => {
                let ring = match fd {
                    Some(fd) if layout == LAYOUT => Ring::adopt(&fd, Direction::ToClient).ok(),
                    _ => None,
                };
                let Some(ring) = ring else { return Ok(Some(Inner::Answer { errno: libc::ENOMEM as u32 })) };
                self.0 = Stage::Up(Up { ring, sends: false, receives: false, ended: false });
                Ok(Some(Inner::Answer { errno: 0 }))
            }
            (Inner::Offer { .. }, Stage::Closed) if !R::OFFERS => {
                Ok(Some(Inner::Answer { errno: libc::ENOTSUP as u32 }))
            }
            (Inner::Answer { errno: 0 }, Stage::Offered(ring)) => {
                self.0 = Stage::Up(Up { ring, sends: false, receives: true, ended: false });
                Ok(Some(Inner::Switch))
            }
            (Inner::Answer { .. }, Stage::Offered(_)) => Ok(None),
            (Inner::Switch, Stage::Up(up)) if !R::OFFERS && !up.receives => {
                self.0 = Stage::Up(Up { receives: true, ..up });
                Ok(None)
            }
            (Inner::Bell, Stage::Up(up)) => {
                self.0 = Stage::Up(up);
                Ok(None)
            }
            // Out of turn.
            (inner, _) => Err(DecodeError::Verb { verb: codec::inner_verb(inner) }.into()),
        }
    }
}

/// Tells the other end to look into the ring. A socket that is full holds a bell already.
pub(crate) fn ring_bell(socket: &OwnedFd) -> Result<(), PeerError> {
    loop {
        match send(socket.as_raw_fd(), &codec::BELL, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(_) | Err(Errno::EAGAIN) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(lost(errno)),
        }
    }
}

/// Why nothing can be sent.
fn lost(errno: Errno) -> PeerError {
    match errno {
        Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => PeerError::Closed,
        errno => PeerError::Io(errno.into()),
    }
}

/// Whether the socket took the packet.
fn transmit(
    socket: &OwnedFd,
    head: &[u8],
    data: &[IoSlice<'_>],
    control: &[ControlMessage<'_>],
) -> Result<bool, PeerError> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let one;
    let many;
    let parts: &[IoSlice<'_>] = match data {
        [] => &[IoSlice::new(head)],
        [data] => {
            one = [IoSlice::new(head), IoSlice::new(data)];
            &one
        }
        _ => {
            many = gathered(head, data);
            &[IoSlice::new(&many)]
        }
    };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), parts, control, flags, None) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(lost(errno)),
        }
    }
}

/// In one piece: the kernel takes only so many.
fn gathered(head: &[u8], data: &[IoSlice<'_>]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    data.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}
