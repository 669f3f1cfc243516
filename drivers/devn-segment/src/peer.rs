//! A connection to another port of the segment, and what is still to be sent to it.
//!
//! ```text
//!   open ──── no room in its socket ───► waiting ──── for too long ───► stalled
//!    ▲                                      │                              │
//!    └──────────── it reads again ──────────┴──────────────────────────────┘
//! ```
//!
//! While a port is waiting, the driver takes no new frames: nothing is lost to a port that reads, however slowly. A port
//! that reads nothing for [`PATIENCE`] is stalled: it misses frames, the others do not.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use io_pkt_sdk::{Batch, Error, Host, Interest, Mac, PollHandle, linux::FrameSender};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv, send},
};

use crate::greeting::{self, Greeting, NoGreeting};

/// How long a port may read nothing before it misses frames. Nanoseconds.
pub(crate) const PATIENCE: u64 = 500_000_000;

/// Whether a port can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// As far as is known it has room.
    Open,
    /// It has had no room since then.
    Waiting(u64),
    /// It has had no room for too long.
    Stalled,
}

/// What became of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left to be sent to this port.
    Done,
    /// Something is left.
    Waiting,
    /// The port is gone.
    Gone,
}

/// Another port. The handle comes before the socket, so that watching ends before it is closed.
#[derive(Debug)]
pub(crate) struct Peer {
    handle: PollHandle,
    pub(crate) socket: OwnedFd,
    greeting: Option<Greeting>,
    pub(crate) flow: Flow,
    /// There may be something to read.
    pub(crate) readable: bool,
    /// Frames of the batch on its way that this port has not got yet, by number.
    pending: u64,
}

impl Peer {
    /// Greets the port at the other end and watches it.
    pub(crate) fn new(host: &Host, socket: OwnedFd, token: u64, ours: &Greeting) -> Result<Self, Error> {
        // An empty socket has room for these few bytes, unless its port is gone.
        send(socket.as_raw_fd(), &ours.emit(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
            .map_err(|errno| Error::os("cannot greet a port", &errno.into()))?;
        let handle = host.watch(&socket, Interest::Read, token)?;
        Ok(Self { handle, socket, greeting: None, flow: Flow::Open, readable: true, pending: 0 })
    }

    /// Whether it has introduced itself.
    pub(crate) fn has_greeted(&self) -> bool {
        self.greeting.is_some()
    }

    /// Reads its greeting; false while that is not there.
    pub(crate) fn hear_greeting(&mut self) -> Result<bool, Deaf> {
        let mut room = [0; greeting::LEN];
        match recv(self.socket.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => Err(Deaf::Gone),
            Ok(len) => {
                self.greeting = Some(Greeting::parse(&room[..len])?);
                Ok(true)
            }
            Err(Errno::EAGAIN) => Ok(false),
            Err(_) => Err(Deaf::Gone),
        }
    }

    /// Notes that frame number `at` is to be sent if the port wants it. Returns the frames lost: 1 for a stalled port.
    #[inline]
    pub(crate) fn offer(&mut self, at: usize, destination: Mac) -> u64 {
        if self.greeting.is_some_and(|greeting| !greeting.wants(destination)) {
            return 0;
        }
        if self.flow == Flow::Stalled {
            return 1;
        }
        self.pending |= 1 << at;
        0
    }

    /// Sends what is pending of `batch`. `now` is the time at which waiting would begin.
    pub(crate) fn send(&mut self, sender: &mut FrameSender, batch: &Batch, now: u64) -> Outcome {
        while self.pending != 0 {
            let pending = self.pending;
            let wanted = batch.frames().enumerate().filter(|(at, _)| pending >> at & 1 != 0);
            match sender.send(&self.socket, wanted.map(|(_, frame)| frame)) {
                Ok(sent) => {
                    for _ in 0..sent {
                        // Clears the lowest bit: frames are sent in order.
                        self.pending &= self.pending.wrapping_sub(1);
                    }
                    if sent > 0 && self.flow != Flow::Open {
                        self.set_flow(Flow::Open);
                    }
                }
                Err(error) if is_full(&error) => {
                    if self.flow == Flow::Open {
                        self.set_flow(Flow::Waiting(now));
                    }
                    return Outcome::Waiting;
                }
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    // Longer than the socket's buffer: no port could ever get it.
                    self.pending &= self.pending.wrapping_sub(1);
                }
                Err(_) => return Outcome::Gone,
            }
        }
        Outcome::Done
    }

    /// It has been waited for too long: forgets what is pending and returns how much that was.
    pub(crate) fn give_up(&mut self) -> u64 {
        self.set_flow(Flow::Stalled);
        u64::from(std::mem::take(&mut self.pending).count_ones())
    }

    /// Reads one packet and drops it. `Waiting` when there is none.
    pub(crate) fn skip_packet(&self) -> Outcome {
        let mut room = [0; 1];
        match recv(self.socket.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT) {
            Ok(1..) => Outcome::Done,
            Err(Errno::EAGAIN) => Outcome::Waiting,
            _ => Outcome::Gone,
        }
    }

    /// Whether something of the batch on its way is still to be sent.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending != 0
    }

    /// The socket has room again.
    pub(crate) fn on_writable(&mut self) {
        if self.flow != Flow::Open {
            self.set_flow(Flow::Open);
        }
    }

    fn set_flow(&mut self, flow: Flow) {
        let interest = if flow == Flow::Open { Interest::Read } else { Interest::Both };
        let watched = self.flow == Flow::Open;
        self.flow = flow;
        if watched != (flow == Flow::Open)
            && let Err(error) = self.handle.modify(interest)
        {
            tracing::warn!("a port of the segment cannot be watched: {error}");
        }
    }
}

/// Why a port that has not greeted is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Deaf {
    /// It went away.
    #[error("it went away")]
    Gone,
    /// It is no port of ours.
    #[error(transparent)]
    Stranger(#[from] NoGreeting),
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS))
}
