//! An open interface: the ways of receiving and of sending.
//!
//! | `mode=` | receive |
//! |---|---|
//! | `mixed` | short frames by the ring, others by messages |
//! | `ring` | TPACKET_V2 ring: one copy into a chunk, no system call while frames are there |
//! | `mmsg` | `recvmmsg` straight into chunks, one call for up to 64 |
//!
//! The ring is the cheaper way for a short frame (measured: 1.6 µs against 2.6 µs for a forwarded one of 64 bytes), but the
//! kernel fills it where the frame comes in: with a virtual interface that is the sender's CPU, which then writes each
//! byte into memory that the receiver reads from another CPU. Messages are copied once, by the receiver. So a mixed ring
//! has short slots, and what does not fit one waits whole in the socket's queue, its place in the order kept by its slot.
//!
//! | `send=` | send, through a socket that never hears anything |
//! |---|---|
//! | `mmsg` | `sendmmsg` straight out of chunks, one call for up to 64 |
//! | `xdp` | AF_XDP: one more copy, and less work in the kernel for each frame; frames of up to 4 KiB |

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use io_pkt_sdk::{BATCH, ETHERNET_HEADER, Frame, TxBatch, linux::FrameSender};

use crate::{
    intake::Intake,
    offload::{LONGEST, Todo},
    stats::Counters,
    sys::{Hearing, PacketSocket, messages::Receiver, ring::ReceiveRing, xdp::XdpSender},
};

/// Super-frames that make no more frames than a poll may take in, or not many more.
const FEW: usize = 4;
/// Frames up to this length come by the slots of a mixed ring, of 256 bytes: small messages and acknowledgements do. The
/// kernel writes every slot full, also when its frame goes to the queue, so that short ones cost the sender less.
const SHORT: usize = 160;
/// Two VLAN tags.
const TAGS: usize = 8;

/// How frames are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A ring for short frames, messages for others.
    Mixed,
    /// A ring of memory shared with the kernel.
    Ring,
    /// Batches of messages.
    Messages,
}

/// How frames are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Batches of messages, through the interface's queueing discipline.
    Messages,
    /// AF_XDP, past the queueing discipline; messages where frames may be longer than that takes.
    Xdp,
}

/// How a port is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortConfig {
    pub(crate) mode: Mode,
    pub(crate) sending: Sending,
    pub(crate) hearing: Hearing,
    /// Slots of the receive ring.
    pub(crate) slots: usize,
}

/// What became of frames that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// All of them are on their way.
    All,
    /// The kernel has no room: wait until the socket is writable.
    Blocked,
    /// The interface is off.
    Down,
}

/// An open interface.
#[derive(Debug)]
pub(crate) struct Port {
    receiving: PacketSocket,
    receive: Receive,
    send: Send,
    /// Longest frame that may be sent.
    longest: usize,
}

#[derive(Debug)]
enum Receive {
    /// The messages are for frames that do not fit a slot: super-frames, and in a mixed ring all but short ones.
    Ring(ReceiveRing, Box<Receiver>),
    Messages(Box<Receiver>),
}

#[derive(Debug)]
enum Send {
    Messages(PacketSocket, FrameSender),
    Xdp(Box<XdpSender>),
}

impl Send {
    fn open(index: i32, longest: usize, sending: Sending) -> io::Result<Self> {
        if sending == Sending::Xdp && XdpSender::carries(longest) {
            return Ok(Self::Xdp(Box::new(XdpSender::open(index, longest)?)));
        }
        Ok(Self::Messages(PacketSocket::sender(index)?, FrameSender::new()))
    }

    fn send<'f>(&mut self, frames: impl Iterator<Item = Frame<'f>>) -> io::Result<usize> {
        match self {
            Self::Messages(socket, sender) => sender.send(socket, frames),
            Self::Xdp(sender) => sender.send(frames),
        }
    }
}

impl AsFd for Send {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Messages(socket, _) => socket.as_fd(),
            Self::Xdp(sender) => sender.as_fd(),
        }
    }
}

impl Port {
    /// Opens the interface of this number, which carries `mtu` bytes of payload.
    pub(crate) fn open(index: i32, mtu: u32, config: &PortConfig) -> io::Result<Self> {
        let longest = mtu as usize + ETHERNET_HEADER + TAGS;
        let (receiving, receive) = PacketSocket::receiver(index, config.hearing, |socket| {
            let messages = Box::new(Receiver::new());
            Ok(match config.mode {
                Mode::Mixed => Receive::Ring(ReceiveRing::open(socket, SHORT, config.slots)?, messages),
                Mode::Ring => Receive::Ring(ReceiveRing::open(socket, longest, config.slots)?, messages),
                Mode::Messages => Receive::Messages(messages),
            })
        })?;
        let send = Send::open(index, longest, config.sending)?;
        Ok(Self { receiving, receive, send, longest })
    }

    /// The socket to watch for reading.
    pub(crate) fn receiving(&self) -> &PacketSocket {
        &self.receiving
    }

    /// The socket to watch for writing after [`Sent::Blocked`].
    pub(crate) fn sending(&self) -> &impl AsFd {
        &self.send
    }

    /// Goes on with frames that were accepted and are not on their way yet; false when there are still some.
    pub(crate) fn resume(&mut self) -> bool {
        match &mut self.send {
            Send::Messages(..) => true,
            // What goes wrong shows with the next frames that are sent.
            Send::Xdp(sender) => sender.kick().is_ok() || !sender.is_pending(),
        }
    }

    /// Fetches up to `limit` frames, or what the intake can take; false when there was nothing left before that.
    pub(crate) fn receive(&mut self, intake: &mut Intake, limit: usize) -> bool {
        match &mut self.receive {
            Receive::Ring(ring, queue) => from_ring(ring, queue, &self.receiving, intake, limit),
            Receive::Messages(receiver) => from_messages(receiver, &self.receiving, intake, limit),
        }
    }

    /// Sends frames; what it cannot send now stays in `frames`.
    pub(crate) fn transmit(&mut self, frames: &mut TxBatch<'_>, counters: &mut Counters) -> Sent {
        while !frames.is_empty() {
            let longest = self.longest;
            let fit = frames.frames().take(BATCH).take_while(|frame| frame.len() <= longest);
            match self.send.send(fit) {
                // The first frame is too long.
                Ok(0) => {
                    counters.tx_too_long += 1;
                    frames.finish(1);
                }
                Ok(sent) => {
                    counters.tx_packets += sent as u64;
                    let bytes = frames.frames().take(sent).map(|frame| frame.len() as u64);
                    counters.tx_bytes += bytes.sum::<u64>();
                    frames.finish(sent);
                }
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Sent::Blocked,
                Err(error) if is_down(&error) => return Sent::Down,
                Err(_) => {
                    counters.tx_refused += 1;
                    frames.finish(1);
                }
            }
        }
        match &self.send {
            Send::Xdp(sender) if sender.is_pending() => Sent::Blocked,
            _ => Sent::All,
        }
    }
}

fn from_ring(
    ring: &mut ReceiveRing,
    queue: &mut Receiver,
    socket: &PacketSocket,
    intake: &mut Intake,
    limit: usize,
) -> bool {
    let mut left = limit;
    while left > 0 && intake.left() > 0 {
        let Some(slot) = ring.next() else { return false };
        if slot.is_queued() {
            slot.keep();
            let queued = ring.skip_queued(queued_at_once(intake).min(left));
            from_queue(queue, socket, intake, queued);
            left -= queued;
            continue;
        }
        let frame = slot.frame();
        if frame.len() == slot.whole_len() {
            intake.copy(frame, slot.todo(), slot.tag());
        } else {
            intake.counters.rx_overrun += 1;
        }
        left -= 1;
    }
    true
}

/// How many frames that wait in the queue may be fetched with one call: as many as there are chunks, or one to be
/// dropped when there are none.
fn queued_at_once(intake: &mut Intake) -> usize {
    let most = if intake.cautious() { FEW } else { BATCH };
    intake.many_fresh().max(1).min(intake.left()).min(most)
}

/// Fetches the frames of `count` slots from the queue, which has them in the same order.
fn from_queue(queue: &mut Receiver, socket: &PacketSocket, intake: &mut Intake, count: usize) {
    if intake.fresh() == 0 {
        // The pool is empty.
        let fetched = queue.receive_one(socket).is_ok();
        let counters = &mut intake.counters;
        *if fetched { &mut counters.rx_no_memory } else { &mut counters.rx_overrun } += 1;
        return;
    }
    let (batch, first) = intake.chunks();
    let got = queue.receive(socket, batch, first, count).unwrap_or(0);
    for at in 0..got {
        take_message(queue, at, intake);
    }
    intake.counters.rx_overrun += (count - got) as u64;
}

fn from_messages(receiver: &mut Receiver, socket: &PacketSocket, intake: &mut Intake, limit: usize) -> bool {
    let mut left = limit;
    while left > 0 && intake.left() > 0 {
        let fresh = intake.many_fresh();
        if fresh == 0 {
            // The pool is empty. The frame must be fetched all the same, or no edge would ever wake us again.
            if receiver.receive_one(socket).is_err() {
                return false;
            }
            intake.counters.rx_no_memory += 1;
            left -= 1;
            continue;
        }
        // What one call fetches is ours, however many frames are in it.
        let most = if intake.cautious() { FEW } else { BATCH };
        let wanted = fresh.min(left).min(intake.left()).min(most);
        let (batch, first) = intake.chunks();
        let Ok(got) = receiver.receive(socket, batch, first, wanted) else { return false };
        for at in 0..got {
            take_message(receiver, at, intake);
        }
        if got < wanted {
            return false;
        }
        left -= got;
    }
    true
}

/// Takes message number `at` from the first fresh chunk.
#[inline]
fn take_message(receiver: &mut Receiver, at: usize, intake: &mut Intake) {
    let (len, tag) = (receiver.len(at), receiver.tag(at));
    let header = *receiver.todo(at);
    let todo = Todo::parse(&header);
    if len <= intake.chunk_room() && !todo.is_super_frame() {
        return intake.arrived(len, &todo, tag);
    }
    if receiver.is_cut(at) || len > LONGEST {
        intake.counters.rx_malformed += 1;
    } else {
        let (batch, first) = intake.chunks();
        let start = batch.bytes(first);
        let whole = receiver.whole(at, &start[..start.len().min(len)]);
        intake.copy_large(whole, &todo, tag);
    }
    intake.skip_chunk();
}

/// The interface is off or gone.
fn is_down(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV))
}
