//! The driver's behaviour: frames between the packet pool and the other ports.
//!
//! Sending works on one batch at a time, [`Port::out`]: every peer has a mask of the frames in it that it has not got
//! yet, and the batch goes back to the pool when no mask has a bit left. Until then the host keeps what comes next. The
//! sockets need no privilege and no stand-in: the tests use real ones.

use io_pkt_sdk::{
    BATCH, Batch, ETHERNET_HEADER, Error, Host, Interest, Interface, Mac, PollHandle, TxBatch, Work,
    linux::FrameSender,
};

use crate::{
    address::Origin,
    greeting::Greeting,
    meeting::{self, Entered, Place},
    peer::{Flow, Outcome, PATIENCE, Peer},
    stats::Counters,
    sys::Receiver,
};

/// Token of the listening socket.
const NEWCOMERS: u64 = 1;
/// Token of the first peer.
const PEERS: u64 = 16;
/// How long until a port that was too busy is tried again. Nanoseconds.
const RETRY: u64 = 100_000_000;
/// A VLAN tag.
const TAG: usize = 4;

/// One use of the driver. Handles come before what they watch.
#[derive(Debug)]
pub(crate) struct Port {
    _newcomers: PollHandle,
    peers: Vec<Option<Peer>>,
    place: Place,
    /// Ports that were too busy to be connected to.
    busy: Vec<String>,
    host: Host,
    greeting: Greeting,
    /// Longest frame.
    longest: usize,
    /// Chunks for the longest frame.
    pieces: usize,
    /// Frames on their way out.
    out: Batch,
    /// Fresh chunks.
    fresh: Batch,
    sender: FrameSender,
    receiver: Receiver,
    /// The peer that is read first next time, so that none is always last.
    first: usize,
    pub(crate) counters: Counters,
}

impl Port {
    /// Enters the segment and tells the host of the interface, which gets its address from `origin` if there is one.
    pub(crate) fn open(
        host: Host,
        path: &str,
        interface: &mut Interface,
        origin: Option<&Origin>,
    ) -> Result<Self, Error> {
        let given = interface.mac;
        let choose = |taken: &[Mac]| origin.map_or(given, |origin| origin.address(taken));
        let Entered { place, peers, busy, mac, is_taken } = meeting::enter(path, choose)?;
        if is_taken {
            tracing::warn!(
                "mac={mac} is the address of another port of {path} too: frames for it reach both"
            );
        }
        (interface.mac, interface.permanent_mac) = (mac, mac);
        let view = host.pool_view();
        let room = view.chunk_size.saturating_sub(view.headroom).max(1);
        let longest = interface.mtu as usize + ETHERNET_HEADER + TAG;
        let pieces = longest.div_ceil(room);
        if pieces > BATCH {
            return Err(Error::new(
                libc::EINVAL,
                format!("mtu={}: frames that long do not fit a batch", interface.mtu + 14),
            ));
        }
        let mut this = Self {
            _newcomers: host.watch(&place, Interest::Read, NEWCOMERS)?,
            peers: Vec::new(),
            place,
            busy,
            greeting: Greeting {
                mac: interface.mac,
                promiscuous: interface.promiscuous,
                multicast: interface.multicast,
            },
            longest,
            pieces,
            out: host.batch(),
            fresh: host.batch(),
            sender: FrameSender::new(),
            receiver: Receiver::new(),
            first: 0,
            counters: Counters::default(),
            host,
        };
        for socket in peers {
            this.add(socket);
        }
        this.host.interface(interface)?;
        this.set_deadline();
        this.host.wake();
        Ok(this)
    }

    pub(crate) fn poll(&mut self, work: &mut Work<'_>) {
        let now = work.now();
        for ready in work.events() {
            match ready.token() {
                NEWCOMERS => {
                    while let Some(socket) = self.place.accept() {
                        self.add(socket);
                    }
                }
                token if token >= PEERS => {
                    if let Some(Some(peer)) = self.peers.get_mut((token - PEERS) as usize) {
                        peer.readable |= ready.is_readable() || ready.is_error();
                        if ready.is_writable() {
                            peer.on_writable();
                        }
                    }
                }
                _ => {}
            }
        }
        self.try_busy();
        self.push(now);
        self.receive(work);
        self.set_deadline();
    }

    pub(crate) fn transmit(&mut self, frames: &mut TxBatch<'_>) {
        while self.out.is_empty() && !frames.is_empty() {
            if frames.move_to(&mut self.out) == 0 {
                // A frame of more than a batch; the host does not make such.
                frames.finish(1);
                self.counters.tx_too_long += 1;
                continue;
            }
            self.offer();
            self.push(self.host.now());
        }
        if !self.out.is_empty() {
            self.set_deadline();
        }
    }

    /// Notes for every peer which frames of the batch it is to get.
    fn offer(&mut self) {
        for (at, frame) in self.out.frames().enumerate() {
            let len = frame.len();
            let Some(destination) = frame.destination().filter(|_| len <= self.longest) else {
                self.counters.tx_too_long += 1;
                continue;
            };
            self.counters.tx_packets += 1;
            self.counters.tx_bytes += len as u64;
            for peer in self.peers.iter_mut().flatten() {
                self.counters.tx_stalled += peer.offer(at, destination);
            }
        }
    }

    /// Sends what is pending, gives up on ports that have not read for too long, and frees the batch when it is done.
    fn push(&mut self, now: u64) {
        if self.out.is_empty() {
            return;
        }
        let mut left = false;
        for slot in &mut self.peers {
            let Some(peer) = slot else { continue };
            let before = peer.flow;
            match peer.send(&mut self.sender, &self.out, now) {
                Outcome::Done => {}
                Outcome::Gone => *slot = None,
                Outcome::Waiting => match peer.flow {
                    Flow::Waiting(since) if now.saturating_sub(since) >= PATIENCE => {
                        let lost = peer.give_up();
                        self.counters.tx_stalled += lost;
                        tracing::debug!("a port does not read; it misses frames");
                    }
                    flow => {
                        self.counters.tx_waits += u64::from(before == Flow::Open && flow != Flow::Open);
                        left = true;
                    }
                },
            }
        }
        if !left {
            self.out.clear();
        }
    }

    /// Reads from all ports in turn until there is nothing left or the budget is used up.
    fn receive(&mut self, work: &mut Work<'_>) {
        let count = self.peers.len();
        let mut more = false;
        for step in 0..count {
            let index = (self.first + step) % count;
            more |= self.receive_from(index, work);
        }
        self.first = if count == 0 { 0 } else { (self.first + 1) % count };
        if more {
            work.more();
        }
    }

    /// Reads from one port; true when something may be left.
    fn receive_from(&mut self, index: usize, work: &mut Work<'_>) -> bool {
        while let Some(peer) = self.peers[index].as_mut().filter(|peer| peer.readable) {
            if !peer.has_greeted() {
                match peer.hear_greeting() {
                    Ok(true) => {}
                    Ok(false) => peer.readable = false,
                    Err(why) => {
                        tracing::debug!("a port is given up: {why}");
                        self.peers[index] = None;
                    }
                }
                continue;
            }
            if !work.may_go_on() {
                return true;
            }
            if self.fresh.refill(BATCH) < self.pieces {
                self.discard(index, work);
                continue;
            }
            // Frames of one chunk are read many at a time, longer ones singly: their spare chunks are used again.
            let packets = if self.pieces == 1 { work.frames_left().min(self.fresh.len()) } else { 1 };
            match self.receiver.receive(&peer.socket, &mut self.fresh, 0, packets, self.pieces) {
                Ok(got) => {
                    // Fewer than asked for: there was nothing left.
                    peer.readable = got == packets;
                    self.take(index, got, work);
                }
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => peer.readable = false,
                Err(_) => self.peers[index] = None,
            }
        }
        false
    }

    /// Delivers the `got` packets at the front of the fresh chunks.
    fn take(&mut self, index: usize, got: usize, work: &mut Work<'_>) {
        if self.pieces > 1 {
            return self.take_long(index, work);
        }
        // Chunks of packets that are not wanted stay where they are and go back to the pool afterwards, uncommonly.
        let mut unwanted = 0_u64;
        let mut frames = got;
        for at in 0..got {
            let len = self.receiver.len(at);
            if len == 0 {
                self.peers[index] = None;
                frames = at;
                break;
            }
            if self.is_wanted(at, len, self.receiver.is_cut(at)) {
                self.fresh.set_len(at, len);
                self.counters.rx_packets += 1;
                self.counters.rx_bytes += len as u64;
                work.handled(1, len);
            } else {
                unwanted |= 1 << at;
                work.handled(1, 0);
            }
        }
        let mut delivered = 0;
        while delivered < frames {
            let run = (unwanted >> delivered).trailing_zeros() as usize;
            let run = run.min(frames - delivered);
            self.host.deliver_first(&mut self.fresh, run);
            delivered += run;
            if delivered < frames {
                self.fresh.drop_first(1);
                delivered += 1;
            }
        }
    }

    /// Delivers the packet at the front, which may span several chunks.
    fn take_long(&mut self, index: usize, work: &mut Work<'_>) {
        let len = self.receiver.len(0);
        if len == 0 {
            self.peers[index] = None;
            return;
        }
        work.handled(1, len);
        if !self.is_wanted(0, len, self.receiver.is_cut(0)) {
            return;
        }
        let (mut left, mut piece) = (len, 0);
        while left > 0 && piece < self.pieces {
            let count = left.min(self.fresh.bytes(piece).len());
            left -= count;
            self.fresh.set_len(piece, count);
            self.fresh.set_continues(piece, left > 0);
            piece += 1;
        }
        self.counters.rx_packets += 1;
        self.counters.rx_bytes += len as u64;
        self.host.deliver_first(&mut self.fresh, piece);
    }

    /// Whether the packet in chunk `at` is a frame for us.
    fn is_wanted(&mut self, at: usize, len: usize, cut: bool) -> bool {
        if cut || len < ETHERNET_HEADER || len > self.longest {
            self.counters.rx_malformed += 1;
            return false;
        }
        let destination = self.fresh.bytes(at).first_chunk().map(|octets| Mac(*octets));
        destination.is_some_and(|destination| self.greeting.wants(destination))
    }

    /// Reads a packet for which there is no chunk and drops it, so that the next edge can come.
    fn discard(&mut self, index: usize, work: &mut Work<'_>) {
        let Some(peer) = &mut self.peers[index] else { return };
        match peer.skip_packet() {
            Outcome::Done => {
                self.counters.rx_no_memory += 1;
                work.handled(1, 0);
            }
            Outcome::Waiting => peer.readable = false,
            Outcome::Gone => self.peers[index] = None,
        }
    }

    /// Takes a connection in.
    fn add(&mut self, socket: std::os::fd::OwnedFd) {
        let index = self.peers.iter().position(Option::is_none).unwrap_or(self.peers.len());
        match Peer::new(&self.host, socket, PEERS + index as u64, &self.greeting) {
            Ok(peer) if index == self.peers.len() => self.peers.push(Some(peer)),
            Ok(peer) => self.peers[index] = Some(peer),
            Err(error) => tracing::debug!("{error}"),
        }
        // It may have spoken already.
        self.host.wake();
    }

    /// Tries ports again that were too busy when we entered.
    fn try_busy(&mut self) {
        for name in std::mem::take(&mut self.busy) {
            match self.place.connect(&name) {
                Ok(socket) => self.add(socket),
                Err(nix::errno::Errno::EAGAIN) => self.busy.push(name),
                Err(errno) => tracing::debug!("{name}: {errno}"),
            }
        }
    }

    /// Asks to be called when a waiting port is to be given up, or a busy one tried again.
    fn set_deadline(&self) {
        let waiting = self.peers.iter().flatten().filter(|peer| peer.is_pending());
        let since = waiting.filter_map(|peer| match peer.flow {
            Flow::Waiting(since) => Some(since.saturating_add(PATIENCE)),
            _ => None,
        });
        let retry = (!self.busy.is_empty()).then(|| self.host.now().saturating_add(RETRY));
        self.host.set_deadline(since.chain(retry).min());
    }
}

#[cfg(test)]
mod tests;
