//! The driver's behaviour: frames between a TAP and the packet pool.
//!
//! A TAP passes one frame a system call. Each is read straight into chunks, as many as the longest frame needs, and
//! written straight out of them. [`Tap`] stands for the system, so that all this is tested without one.

use std::io::{self, IoSlice, IoSliceMut};

use io_pkt_sdk::{Batch, ETHERNET_HEADER, Error, Host, Interface, Mac, PollHandle, TxBatch, Work};

use crate::stats::Counters;

/// Token of the TAP.
const FRAMES: u64 = 1;
/// Token of the notifications about interfaces.
const LINKS: u64 = 2;
/// A VLAN tag.
const TAG: usize = 4;

/// What the driver needs of the system.
pub(crate) trait Tap {
    /// Watches for frames.
    fn watch(&self, host: &Host, token: u64) -> Result<PollHandle, Error>;

    /// Watches for changes of the Linux end.
    fn watch_links(&self, host: &Host, token: u64) -> Result<PollHandle, Error>;

    /// Takes in notifications; true when there were any.
    fn changed(&mut self) -> bool;

    /// The state of the Linux end, for [`Interface`]; `None` when it is gone.
    fn link(&mut self) -> Option<LinkState>;

    /// Reads one frame into the slices; returns its length.
    fn read(&self, to: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Writes one frame.
    fn write(&self, from: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// The Linux end of a TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkState {
    /// It is switched on.
    pub(crate) up: bool,
    /// Largest payload.
    pub(crate) mtu: u32,
}

/// One use of the driver. Handles come before the system, so that watching ends before descriptors are closed.
#[derive(Debug)]
pub(crate) struct Device<T> {
    handles: Vec<PollHandle>,
    tap: T,
    host: Host,
    interface: Interface,
    /// Frames, then fresh chunks.
    batch: Batch,
    /// Chunks for the longest frame.
    pieces: usize,
    pub(crate) counters: Counters,
}

impl<T: Tap> Device<T> {
    pub(crate) fn new(host: Host, tap: T, interface: Interface) -> Self {
        let batch = host.batch();
        let counters = Counters::default();
        Self { handles: Vec::new(), tap, host, interface, batch, pieces: 1, counters }
    }

    pub(crate) fn start(&mut self) -> Result<(), Error> {
        self.handles = vec![self.tap.watch(&self.host, FRAMES)?, self.tap.watch_links(&self.host, LINKS)?];
        self.look();
        self.host.interface(&self.interface)?;
        // Frames may be there already, without an edge to come.
        self.host.wake();
        Ok(())
    }

    pub(crate) fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        if work.events().any(|ready| ready.token() == LINKS) && self.tap.changed() && self.look() {
            self.host.interface(&self.interface)?;
        }
        self.receive(work);
        Ok(())
    }

    pub(crate) fn transmit(&mut self, frames: &mut TxBatch<'_>) {
        let mut slices = [IoSlice::new(&[]); io_pkt_sdk::BATCH];
        let mut count = 0;
        for frame in frames.frames() {
            let pieces = frame.descs().len().min(slices.len());
            for (slice, piece) in slices.iter_mut().zip(frame.pieces()) {
                *slice = IoSlice::new(piece);
            }
            match self.tap.write(&slices[..pieces]) {
                Ok(_) => {
                    self.counters.tx_packets += 1;
                    self.counters.tx_bytes += frame.len() as u64;
                }
                Err(error) if is_off(&error) => self.counters.tx_no_carrier += 1,
                Err(_) => self.counters.tx_refused += 1,
            }
            count += 1;
        }
        frames.finish(count);
    }

    /// Stops watching.
    pub(crate) fn stop(&mut self) {
        self.handles.clear();
    }

    /// Looks at the Linux end; true when that is news.
    fn look(&mut self) -> bool {
        let before = (self.interface.link_up, self.interface.mtu);
        match self.tap.link() {
            Some(link) => (self.interface.link_up, self.interface.mtu) = (link.up, link.mtu),
            None => self.interface.link_up = false,
        }
        let view = self.host.pool_view();
        let room = view.chunk_size.saturating_sub(view.headroom).max(1);
        self.pieces = (self.interface.mtu as usize + ETHERNET_HEADER + TAG).div_ceil(room);
        before != (self.interface.link_up, self.interface.mtu)
    }

    /// Reads frames until there is none, or the budget is used up.
    fn receive(&mut self, work: &mut Work<'_>) {
        let mut used = 0;
        while work.may_go_on() {
            if self.batch.len() < used + self.pieces {
                self.host.deliver_first(&mut self.batch, std::mem::take(&mut used));
                if self.batch.refill(io_pkt_sdk::BATCH) < self.pieces {
                    if !self.discard() {
                        break;
                    }
                    work.handled(1, 0);
                    continue;
                }
            }
            let mut slices: [IoSliceMut<'_>; io_pkt_sdk::BATCH] =
                std::array::from_fn(|_| IoSliceMut::new(&mut []));
            let count = self.pieces;
            for (slice, piece) in slices.iter_mut().zip(self.batch.io_slices_mut().skip(used).take(count)) {
                *slice = piece;
            }
            let Ok(len) = self.tap.read(&mut slices[..count]) else {
                self.host.deliver_first(&mut self.batch, used);
                return;
            };
            if self.wants(used, len) {
                used += self.close_frame(used, len);
                self.counters.rx_packets += 1;
                self.counters.rx_bytes += len as u64;
            }
            work.handled(1, len);
        }
        self.host.deliver_first(&mut self.batch, used);
        if !work.may_go_on() {
            work.more();
        }
    }

    /// Whether a frame of `len` bytes that begins in piece `first` is to be kept.
    fn wants(&mut self, first: usize, len: usize) -> bool {
        if len < ETHERNET_HEADER {
            self.counters.rx_malformed += 1;
            return false;
        }
        let destination = self.batch.bytes(first).first_chunk().map(|octets| Mac(*octets));
        self.interface.multicast || destination.is_none_or(|mac| !mac.is_group() || mac == Mac::BROADCAST)
    }

    /// Ties the pieces of a frame together; returns how many it has.
    fn close_frame(&mut self, first: usize, len: usize) -> usize {
        let mut left = len;
        let mut index = first;
        loop {
            let count = left.min(self.batch.bytes(index).len());
            left -= count;
            self.batch.set_len(index, count);
            self.batch.set_continues(index, left > 0);
            index += 1;
            if left == 0 || index == self.batch.len() {
                return index - first;
            }
        }
    }

    /// Reads a frame for which there is no chunk and drops it: it must go, or no edge would ever wake us again. False
    /// when there was none.
    fn discard(&mut self) -> bool {
        let mut nothing = [0; 1];
        let read = self.tap.read(&mut [IoSliceMut::new(&mut nothing)]).is_ok();
        self.counters.rx_no_memory += u64::from(read);
        read
    }
}

/// The Linux end is switched off, or gone.
fn is_off(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EBADFD | libc::ENODEV))
}

#[cfg(test)]
mod tests;
