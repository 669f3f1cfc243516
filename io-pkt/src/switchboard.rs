//! Routes frames between drivers and protocols.
//!
//! ```text
//!  driver.poll ─ deliver ─► rx of its port ─ route ─► pending of each protocol ─► protocol.receive
//!  protocol    ─ send ────► tx of a port (bounded) ──────────────────────────────► driver.transmit
//! ```
//!
//! The switchboard calls nobody: the event loop moves batches in and out between the calls of modules. It holds the
//! references of all frames that lie in its queues. A frame with several receivers goes to each by reference.

mod claims;
mod queue;

use io_pkt_abi::frame::{FLAG_CONTINUES, FrameDesc};

use crate::{
    drops::{DropReason, Drops},
    pool::{ETHERNET_HEADER, Holder, Pool},
};

pub use claims::ClaimError;
use claims::Claims;
use queue::FrameQueue;

/// Most descriptors in one call of a module. No frame is cut in two.
pub const BATCH: usize = 64;
/// Most pieces of one frame: 64 KiB and a bit, in chunks of 2 KiB.
pub const MAX_PIECES: usize = 40;
/// Most descriptors that wait for one interface.
pub const TX_QUEUE: usize = 512;
/// Most descriptors that a driver may deliver in one call.
pub const RX_BURST: usize = 1024;

/// The host's id of an interface: above 0, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceId(pub u32);

/// The place of a protocol in the switchboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProtocolSlot(pub u8);

/// Frames counted by the switchboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Taken over from drivers.
    pub delivered: u64,
    /// Handed to protocols; a frame with two receivers counts twice.
    pub routed: u64,
    /// Handed to drivers.
    pub sent: u64,
}

#[derive(Debug)]
struct Port {
    id: InterfaceId,
    rx: FrameQueue,
    tx: FrameQueue,
    /// Frames wait in `tx` and nobody has offered them since.
    dirty: bool,
    /// The driver did not take all; offer the rest after its next poll.
    blocked: bool,
    drops: Drops,
}

#[derive(Debug)]
struct Receiver {
    /// Frames of the interface that was routed last; empty before the next one is.
    pending: FrameQueue,
}

/// The switchboard. Lives on the loop thread.
#[derive(Debug)]
pub struct Switchboard {
    ports: Vec<Port>,
    receivers: Vec<Option<Receiver>>,
    claims: Claims,
    next_id: u32,
    /// Descriptors in all send queues.
    queued: usize,
    /// Bound of `queued`.
    reserve: usize,
    flow: Flow,
    /// Drops that belong to no present interface.
    drops: Drops,
}

impl Switchboard {
    /// An empty switchboard over a pool of that many chunks.
    #[must_use]
    pub fn new(chunks: u32) -> Self {
        Self {
            ports: Vec::new(),
            receivers: Vec::new(),
            claims: Claims::default(),
            next_id: 1,
            queued: 0,
            reserve: chunks as usize / 2,
            flow: Flow::default(),
            drops: Drops::default(),
        }
    }

    /// Adds an interface.
    pub fn add_port(&mut self) -> InterfaceId {
        let id = InterfaceId(self.next_id);
        self.next_id += 1;
        self.ports.push(Port {
            id,
            rx: FrameQueue::new(RX_BURST),
            tx: FrameQueue::new(TX_QUEUE),
            dirty: false,
            blocked: false,
            drops: Drops::default(),
        });
        id
    }

    /// Removes an interface and drops what waits for it or came from it.
    pub fn remove_port(&mut self, id: InterfaceId, pool: &mut Pool) {
        let Some(at) = self.ports.iter().position(|port| port.id == id) else { return };
        let mut port = self.ports.swap_remove(at);
        let waiting = port.tx.all();
        self.queued -= waiting.len();
        port.drops.count(DropReason::UseGone, frames_in(waiting) + frames_in(port.rx.all()));
        pool.release(waiting);
        pool.release(port.rx.all());
        self.drops.add(&port.drops);
    }

    /// Adds a protocol; `None` when there are 250 already.
    pub fn add_receiver(&mut self) -> Option<ProtocolSlot> {
        let receiver = Receiver { pending: FrameQueue::new(RX_BURST) };
        let at = self.receivers.iter().position(Option::is_none).unwrap_or(self.receivers.len());
        let slot = u8::try_from(at).ok().filter(|slot| *slot < claims::MAX_PROTOCOLS)?;
        if at == self.receivers.len() {
            self.receivers.push(None);
        }
        self.receivers[at] = Some(receiver);
        Some(ProtocolSlot(slot))
    }

    /// Removes a protocol, its claims and what waits for it.
    pub fn remove_receiver(&mut self, slot: ProtocolSlot, pool: &mut Pool) {
        self.claims.remove(slot);
        if let Some(receiver) = self.receivers.get_mut(usize::from(slot.0)).and_then(Option::take) {
            self.drops.count(DropReason::UseGone, frames_in(receiver.pending.all()));
            pool.release(receiver.pending.all());
        }
    }

    /// Registers a protocol for an ethertype, or for all frames with 0.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn claim(&mut self, slot: ProtocolSlot, ethertype: u32) -> Result<(), ClaimError> {
        self.claims.add(slot, ethertype)
    }

    /// Takes received frames over from a driver.
    pub fn deliver(&mut self, id: InterfaceId, driver: Holder, frames: &[FrameDesc], pool: &mut Pool) {
        let Some(port) = self.ports.iter_mut().find(|port| port.id == id) else {
            self.drops.count(DropReason::NoInterface, frames_in(frames));
            return pool.free(driver, frames);
        };
        let Port { rx, drops, .. } = port;
        let mut accepted = 0;
        for_each_frame(frames, |frame| match take_frame(pool, driver, frame) {
            Err(reason) => drops.count(reason, 1),
            Ok(()) if frame[0].len < ETHERNET_HEADER => {
                drops.count(DropReason::Runt, 1);
                pool.release(frame);
            }
            Ok(()) if !rx.push(frame) => {
                drops.count(DropReason::RxBurst, 1);
                pool.release(frame);
            }
            Ok(()) => accepted += 1,
        });
        self.flow.delivered += accepted;
    }

    /// Sorts what an interface received into the protocols' pending lists. True when there is something pending.
    pub fn route(&mut self, id: InterfaceId, pool: &mut Pool) -> bool {
        let Some(port) = self.ports.iter_mut().find(|port| port.id == id) else { return false };
        if port.rx.is_empty() {
            return false;
        }
        if let Some(only) = self.claims.single_all()
            && let Some(receiver) = receiver(&mut self.receivers, only)
        {
            debug_assert!(
                receiver.pending.is_empty(),
                "the loop hands out what is pending before it routes more"
            );
            std::mem::swap(&mut receiver.pending, &mut port.rx);
            return true;
        }
        let Self { receivers, claims, .. } = self;
        let Port { rx, drops, .. } = port;
        for_each_frame(rx.all(), |frame| {
            let ethertype = pool.ethertype(&frame[0]).unwrap_or_default();
            let mut first = true;
            for slot in claims.receivers(ethertype) {
                let Some(receiver) = receiver(receivers, slot) else { continue };
                // The first receiver gets the reference that we hold; each further one a new one.
                // `pending` has the bound of `rx` and was empty, so every frame fits.
                if (first || pool.share(frame)) && receiver.pending.push(frame) {
                    first = false;
                }
            }
            if first {
                drops.count(DropReason::NoProtocol, 1);
                pool.release(frame);
            }
        });
        rx.pop(rx.all().len());
        true
    }

    /// Moves the next pending frames of a protocol, at most [`BATCH`] descriptors, into `batch` (cleared first) and
    /// hands their references to it. An empty batch is the end.
    pub fn to_receive(
        &mut self,
        slot: ProtocolSlot,
        to: Holder,
        batch: &mut Vec<FrameDesc>,
        pool: &mut Pool,
    ) {
        batch.clear();
        if let Some(receiver) = receiver(&mut self.receivers, slot) {
            let waiting = receiver.pending.all();
            batch.extend_from_slice(&waiting[..whole_frames(waiting, BATCH)]);
            receiver.pending.pop(batch.len());
            pool.hand_over(to, batch);
            self.flow.routed += frames_in(batch);
        }
    }

    /// The protocols that have frames pending, in order of their slots, from `from` on.
    #[must_use]
    pub fn next_pending(&self, from: u8) -> Option<ProtocolSlot> {
        let waiting = |slot: &u8| {
            self.receivers[usize::from(*slot)].as_ref().is_some_and(|receiver| !receiver.pending.is_empty())
        };
        (from..self.receivers.len() as u8).find(waiting).map(ProtocolSlot)
    }

    /// Takes frames over from a protocol, to be sent out of an interface. Returns how many descriptors were queued;
    /// the rest were dropped and counted.
    pub fn send(
        &mut self,
        id: InterfaceId,
        protocol: Holder,
        frames: &[FrameDesc],
        pool: &mut Pool,
    ) -> usize {
        // Half of the reserve is there for whoever comes first. The other half is divided, so that interfaces which take
        // nothing (a storm of broadcasts fills all their queues) leave something to those which do.
        let common = self.reserve / 2;
        let share = common / self.ports.len().max(1);
        let Some(port) = self.ports.iter_mut().find(|port| port.id == id) else {
            self.drops.count(DropReason::NoInterface, frames_in(frames));
            pool.free(protocol, frames);
            return 0;
        };
        let Port { tx, drops, .. } = port;
        let room = common.saturating_sub(self.queued).max(share.saturating_sub(tx.all().len()));
        let mut queued = 0;
        for_each_frame(frames, |frame| {
            let refused = match take_frame(pool, protocol, frame) {
                Err(reason) => return drops.count(reason, 1),
                Ok(()) if frame[0].len < ETHERNET_HEADER => DropReason::Runt,
                Ok(()) if tx.all().len() + frame.len() > TX_QUEUE => DropReason::TxQueueFull,
                Ok(()) if queued + frame.len() > room || !tx.push(frame) => DropReason::PoolReserve,
                Ok(()) => {
                    queued += frame.len();
                    return;
                }
            };
            drops.count(refused, 1);
            pool.release(frame);
        });
        port.dirty |= queued > 0;
        self.queued += queued;
        queued
    }

    /// An interface with frames to send whose driver has not said that it is full.
    #[must_use]
    pub fn next_dirty(&self) -> Option<InterfaceId> {
        self.ports.iter().find(|port| port.dirty && !port.blocked).map(|port| port.id)
    }

    /// The driver of `id` was polled: what it refused may be offered again.
    pub fn polled(&mut self, id: InterfaceId) {
        if let Some(port) = self.ports.iter_mut().find(|port| port.id == id && port.blocked) {
            port.blocked = false;
            port.dirty = !port.tx.is_empty();
        }
    }

    /// Copies the next frames to send, at most [`BATCH`] descriptors, into `batch` (cleared first) and hands their
    /// references to the driver. [`Switchboard::transmitted`] must follow.
    pub fn to_transmit(
        &mut self,
        id: InterfaceId,
        driver: Holder,
        batch: &mut Vec<FrameDesc>,
        pool: &mut Pool,
    ) {
        batch.clear();
        if let Some(port) = self.ports.iter_mut().find(|port| port.id == id) {
            let waiting = port.tx.all();
            batch.extend_from_slice(&waiting[..whole_frames(waiting, BATCH)]);
            pool.hand_over(driver, batch);
        }
    }

    /// The driver took the first `taken` descriptors of `batch`; the rest goes back into the queue.
    pub fn transmitted(
        &mut self,
        id: InterfaceId,
        driver: Holder,
        batch: &[FrameDesc],
        taken: usize,
        pool: &mut Pool,
    ) {
        let Some(port) = self.ports.iter_mut().find(|port| port.id == id) else { return };
        let taken = taken.min(batch.len());
        self.flow.sent += frames_in(&batch[..taken]);
        // A driver that takes part of a frame gets no second chance with the rest of it.
        let torn = match batch[..taken].last() {
            Some(last) if last.flags & FLAG_CONTINUES != 0 => whole_frames(&batch[taken..], 1),
            _ => 0,
        };
        pool.free(driver, &batch[taken..taken + torn]);
        port.drops.count(DropReason::BadChain, u64::from(torn > 0));
        let gone = taken + torn;
        // One that freed what it refused loses the rest of this batch: the frames in front of the gap stay.
        let (mut kept, mut sound) = (0, true);
        for_each_frame(&batch[gone..], |frame| {
            let held = take_frame(pool, driver, frame).is_ok();
            sound &= held;
            if sound {
                kept += frame.len();
                return;
            }
            port.drops.count(DropReason::BadDescriptor, 1);
            if held {
                pool.release(frame);
            }
        });
        port.tx.keep(gone, kept, batch.len());
        self.queued -= batch.len() - kept;
        port.blocked = gone < batch.len();
        port.dirty = !port.tx.is_empty();
    }

    /// Drops what waits to be sent out of an interface.
    pub fn clear(&mut self, id: InterfaceId, pool: &mut Pool) {
        if let Some(port) = self.ports.iter_mut().find(|port| port.id == id) {
            let waiting = port.tx.all();
            port.drops.count(DropReason::UseGone, frames_in(waiting));
            pool.release(waiting);
            let n = waiting.len();
            port.tx.pop(n);
            self.queued -= n;
            port.dirty = false;
        }
    }

    /// Descriptors that wait to be sent out of an interface.
    #[must_use]
    pub fn queued(&self, id: InterfaceId) -> usize {
        self.ports.iter().find(|port| port.id == id).map_or(0, |port| port.tx.all().len())
    }

    /// Drops on one interface.
    #[must_use]
    pub fn port_drops(&self, id: InterfaceId) -> Drops {
        self.ports.iter().find(|port| port.id == id).map_or_else(Drops::default, |port| port.drops)
    }

    /// Drops of all interfaces, present and gone.
    #[must_use]
    pub fn all_drops(&self) -> Drops {
        let mut sum = self.drops;
        self.ports.iter().for_each(|port| sum.add(&port.drops));
        sum
    }

    /// Frames that passed.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.flow
    }
}

fn receiver(receivers: &mut [Option<Receiver>], slot: ProtocolSlot) -> Option<&mut Receiver> {
    receivers.get_mut(usize::from(slot.0))?.as_mut()
}

/// Takes over all pieces of a frame or none.
#[inline]
fn take_frame(pool: &mut Pool, holder: Holder, frame: &[FrameDesc]) -> Result<(), DropReason> {
    if let [desc] = frame
        && desc.flags & FLAG_CONTINUES == 0
    {
        return if pool.take_over(holder, desc) { Ok(()) } else { Err(DropReason::BadDescriptor) };
    }
    let complete = frame.last().is_some_and(|last| last.flags & FLAG_CONTINUES == 0);
    if !complete || frame.len() > MAX_PIECES {
        pool.free(holder, frame);
        return Err(DropReason::BadChain);
    }
    for (done, desc) in frame.iter().enumerate() {
        if !pool.take_over(holder, desc) {
            pool.release(&frame[..done]);
            pool.free(holder, &frame[done + 1..]);
            return Err(DropReason::BadDescriptor);
        }
    }
    Ok(())
}

/// Calls `each` with the pieces of every frame. The last one may be incomplete.
#[inline]
fn for_each_frame(frames: &[FrameDesc], mut each: impl FnMut(&[FrameDesc])) {
    let mut start = 0;
    for end in 0..frames.len() {
        if frames[end].flags & FLAG_CONTINUES == 0 {
            each(&frames[start..=end]);
            start = end + 1;
        }
    }
    if start < frames.len() {
        each(&frames[start..]);
    }
}

fn frames_in(frames: &[FrameDesc]) -> u64 {
    frames.iter().filter(|desc| desc.flags & FLAG_CONTINUES == 0).count() as u64
}

/// How many of the first descriptors make whole frames and are at most `most`; a first frame longer than that counts.
fn whole_frames(frames: &[FrameDesc], most: usize) -> usize {
    if frames.len() <= most {
        return frames.len();
    }
    let ends = |desc: &FrameDesc| desc.flags & FLAG_CONTINUES == 0;
    match frames[..most].iter().rposition(ends) {
        Some(last) => last + 1,
        None => frames.iter().position(ends).map_or(frames.len(), |last| last + 1),
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
