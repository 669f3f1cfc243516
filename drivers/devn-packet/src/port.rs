//! An open interface: receiving and sending in one of two ways.
//!
//! | `mode=` | receive | send |
//! |---|---|---|
//! | `ring` | TPACKET_V2 ring, one copy into a chunk, no system call while frames are there | V2 ring, one copy, one call a batch |
//! | `mmsg` | `recvmmsg` straight into chunks, one call for up to 64 | `sendmmsg` straight from chunks |
//!
//! Two sockets are used: the sending one never hears anything, so its options cannot disturb the other.

use std::io;

use io_pkt_sdk::{BATCH, ETHERNET_HEADER, TxBatch, linux::FrameSender};

use crate::{
    intake::Intake,
    offload::{LONGEST, Todo},
    stats::Counters,
    sys::{
        Hearing, PacketSocket,
        messages::Receiver,
        ring::{ReceiveRing, TransmitRing},
    },
};

/// Two VLAN tags.
const TAGS: usize = 8;

/// How frames pass between kernel and pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Rings of memory shared with the kernel.
    Ring,
    /// Batches of messages.
    Messages,
}

/// How a port is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortConfig {
    pub(crate) receive_mode: Mode,
    pub(crate) transmit_mode: Mode,
    pub(crate) hearing: Hearing,
    /// Past queueing disciplines and taps.
    pub(crate) bypass: bool,
    /// Slots of the receive ring.
    pub(crate) receive_slots: usize,
    /// Slots of the transmit ring.
    pub(crate) transmit_slots: usize,
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
    sending: PacketSocket,
    receive: Receive,
    transmit: Transmit,
    /// Longest frame that may be sent.
    longest: usize,
    /// The kernel was told of frames in the transmit ring and could not send them yet.
    unsent: bool,
}

#[derive(Debug)]
enum Receive {
    /// The messages are for frames that do not fit a slot.
    Ring(ReceiveRing, Box<Receiver>),
    Messages(Box<Receiver>),
}

#[derive(Debug)]
enum Transmit {
    Ring(TransmitRing),
    Messages(Box<FrameSender>),
}

impl Port {
    /// Opens the interface of this number, which carries `mtu` bytes of payload.
    pub(crate) fn open(index: i32, mtu: u32, config: &PortConfig) -> io::Result<Self> {
        let longest = mtu as usize + ETHERNET_HEADER + TAGS;
        let (receiving, receive) = PacketSocket::receiver(index, config.hearing, |socket| {
            Ok(match config.receive_mode {
                Mode::Ring => Receive::Ring(
                    ReceiveRing::open(socket, longest, config.receive_slots)?,
                    Box::new(Receiver::new()),
                ),
                Mode::Messages => Receive::Messages(Box::new(Receiver::new())),
            })
        })?;
        let (sending, transmit) = PacketSocket::sender(index, config.bypass, |socket| {
            Ok(match config.transmit_mode {
                Mode::Ring => Transmit::Ring(TransmitRing::open(socket, longest, config.transmit_slots)?),
                Mode::Messages => Transmit::Messages(Box::new(FrameSender::new())),
            })
        })?;
        Ok(Self { receiving, sending, receive, transmit, longest, unsent: false })
    }

    /// The socket to watch for reading.
    pub(crate) fn receiving(&self) -> &PacketSocket {
        &self.receiving
    }

    /// The socket to watch for writing after [`Sent::Blocked`].
    pub(crate) fn sending(&self) -> &PacketSocket {
        &self.sending
    }

    /// Fetches up to `limit` frames; false when there was nothing left before that.
    pub(crate) fn receive(&mut self, intake: &mut Intake, limit: usize) -> bool {
        match &mut self.receive {
            Receive::Ring(ring, queue) => from_ring(ring, queue, &self.receiving, intake, limit),
            Receive::Messages(receiver) => from_messages(receiver, &self.receiving, intake, limit),
        }
    }

    /// Sends frames; what it cannot send now stays in `frames`.
    pub(crate) fn transmit(&mut self, frames: &mut TxBatch<'_>, counters: &mut Counters) -> Sent {
        match &mut self.transmit {
            Transmit::Ring(ring) => {
                let full = !fill_ring(ring, self.longest, frames, counters);
                match self.kick() {
                    Sent::All if full => Sent::Blocked,
                    outcome => outcome,
                }
            }
            Transmit::Messages(sender) => {
                send_messages(sender, &self.sending, self.longest, frames, counters)
            }
        }
    }

    /// Whether frames wait in the transmit ring because the kernel could not send them.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent
    }

    /// Tells the kernel of the frames in the transmit ring.
    pub(crate) fn kick(&mut self) -> Sent {
        let Transmit::Ring(ring) = &self.transmit else { return Sent::All };
        let outcome = ring.kick(&self.sending);
        self.unsent = outcome.is_err();
        match outcome {
            Ok(()) => Sent::All,
            Err(error) if is_down(&error) => Sent::Down,
            Err(_) => Sent::Blocked,
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
    for _ in 0..limit {
        let Some(slot) = ring.next() else { return false };
        let frame = slot.frame();
        if frame.len() == slot.whole_len() {
            intake.copy(frame, slot.todo(), slot.tag());
        } else if slot.queued() {
            // Each such slot has put one frame into the queue, in the same order.
            match queue.receive_one(socket) {
                Ok(_) => {
                    let (todo, tag) = (*queue.todo(0), queue.tag(0));
                    intake.copy(queue.whole(0, &[]), todo, tag);
                }
                Err(_) => intake.counters.rx_overrun += 1,
            }
        } else {
            intake.counters.rx_overrun += 1;
        }
    }
    true
}

fn from_messages(receiver: &mut Receiver, socket: &PacketSocket, intake: &mut Intake, limit: usize) -> bool {
    let mut left = limit;
    while left > 0 {
        let fresh = intake.fresh();
        if fresh == 0 {
            // The pool is empty. The frame must be fetched all the same, or no edge would ever wake us again.
            if receiver.receive_one(socket).is_err() {
                return false;
            }
            intake.counters.rx_no_memory += 1;
            left -= 1;
            continue;
        }
        let wanted = fresh.min(left);
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

/// Puts frames into the ring; false when it is full.
fn fill_ring(
    ring: &mut TransmitRing,
    longest: usize,
    frames: &mut TxBatch<'_>,
    counters: &mut Counters,
) -> bool {
    let longest = longest.min(ring.longest());
    let mut done = 0;
    let mut room = true;
    for frame in frames.frames() {
        let len = frame.len();
        if len > longest {
            counters.tx_too_long += 1;
        } else if ring.put(frame.pieces()) {
            counters.tx_packets += 1;
            counters.tx_bytes += len as u64;
        } else {
            room = false;
            break;
        }
        done += 1;
    }
    frames.finish(done);
    room
}

fn send_messages(
    sender: &mut FrameSender,
    socket: &PacketSocket,
    longest: usize,
    frames: &mut TxBatch<'_>,
    counters: &mut Counters,
) -> Sent {
    while !frames.is_empty() {
        let fit = frames.frames().take(BATCH).take_while(|frame| frame.len() <= longest);
        match sender.send(socket, fit) {
            // The first frame is too long.
            Ok(0) => {
                counters.tx_too_long += 1;
                frames.finish(1);
            }
            Ok(sent) => {
                counters.tx_packets += sent as u64;
                counters.tx_bytes += frames.frames().take(sent).map(|frame| frame.len() as u64).sum::<u64>();
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
    Sent::All
}

/// The interface is off or gone.
fn is_down(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV))
}
