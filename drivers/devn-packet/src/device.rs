//! The driver's behaviour: an interface that is there or not, has a carrier or not, and what becomes of frames meanwhile.
//!
//! ```text
//!            interface found: settings, sockets
//!   away ───────────────────────────────────────► open      changes are heard through rtnetlink; each is only a hint
//!        ◄───────────────────────────────────────           after which the driver looks what is the case now
//!            it vanished: sockets closed
//! ```
//!
//! While it is away, or has no carrier, frames to be sent are dropped and counted. What the kernel is like to talk to
//! is behind [`Kernel`] and [`Wire`], so that all this is tested without one.

use io_pkt_sdk::{
    Error, Host, Interface, Mac, PollHandle, TxBatch, Work,
    linux::{Link, LinkCounters},
};

use crate::{intake::Intake, port::Sent, stats::Counters};

/// Token of the receiving socket.
const RECEIVING: u64 = 1;
/// Token of the sending socket, watched only while it has no room.
const SENDING: u64 = 2;
/// Token of the notifications about interfaces.
const LINKS: u64 = 3;

/// The kernel as the place where interfaces are.
pub(crate) trait Kernel {
    /// An open interface.
    type Wire: Wire;

    /// Starts the notifications, which arrive with `token`.
    fn watch(&mut self, host: &Host, token: u64) -> Result<PollHandle, Error>;

    /// Takes in notifications; true when there were any.
    fn changed(&mut self) -> bool;

    /// The interface, if it is there: the one of this number, or else the one that has the name from `dev=`.
    fn find(&mut self, index: Option<i32>) -> Result<Option<Link>, Error>;

    /// Makes settings and opens the interface.
    fn open(&mut self, link: &Link) -> Result<Self::Wire, Error>;

    /// What is to be told of the interface; `None` while it is away.
    fn describe(&self, link: Option<&Link>) -> Interface;

    /// The error for `dev=` at mount time.
    fn not_found(&mut self) -> Error;
}

/// An open interface. Dropping it closes it and puts its settings back.
pub(crate) trait Wire {
    /// Watches for frames.
    fn watch_receiving(&self, host: &Host, token: u64) -> Result<PollHandle, Error>;

    /// Watches for room to send.
    fn watch_sending(&self, host: &Host, token: u64) -> Result<PollHandle, Error>;

    /// Fetches up to `limit` frames, or what the intake can take; false when there was nothing left before that.
    fn receive(&mut self, intake: &mut Intake, limit: usize) -> bool;

    /// Sends; what it cannot send now stays in `frames`.
    fn transmit(&mut self, frames: &mut TxBatch<'_>, counters: &mut Counters) -> Sent;

    /// Goes on with frames that were accepted and are not on their way yet; false when there are still some.
    fn resume(&mut self) -> bool;

    /// Frames that the kernel dropped since the last call.
    fn drops(&mut self) -> u64;
}

/// One use of the driver. Handles of watched descriptors come before what holds the descriptors, so that watching ends
/// before they are closed, however the use ends.
#[derive(Debug)]
pub(crate) struct Device<K: Kernel> {
    links: Option<PollHandle>,
    open: Option<Open<K::Wire>>,
    kernel: K,
    intake: Intake,
    told: Option<Interface>,
    host: Host,
}

#[derive(Debug)]
struct Open<W> {
    _receiving: PollHandle,
    sending: Option<PollHandle>,
    wire: W,
    link: Link,
}

impl<K: Kernel> Device<K> {
    pub(crate) fn new(host: Host, kernel: K, multicast: bool) -> Self {
        let intake = Intake::new(&host, multicast);
        Self { links: None, open: None, kernel, intake, told: None, host }
    }

    /// Opens the interface, which must be there now.
    pub(crate) fn start(&mut self) -> Result<(), Error> {
        self.links = Some(self.kernel.watch(&self.host, LINKS)?);
        let Some(link) = self.kernel.find(None)? else { return Err(self.kernel.not_found()) };
        self.open(link)?;
        let Some(link) = self.link() else { return Err(self.kernel.not_found()) };
        if !link.has_carrier() {
            tracing::warn!("{} has no carrier", link.name);
        }
        self.tell()
    }

    pub(crate) fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        self.intake.begin(work.frames_left(), work.bytes_left());
        for ready in work.events() {
            match ready.token() {
                LINKS if self.kernel.changed() => self.look()?,
                // There is room to send again: the host offers what it has after this poll.
                SENDING => self.unblock()?,
                _ => {}
            }
        }
        if let Some(open) = &mut self.open {
            // A frame that came while the ring was being read has been fetched or has made a new edge.
            if open.wire.receive(&mut self.intake, work.frames_left()) {
                work.more();
            }
            self.intake.flush();
        }
        let (frames, bytes) = self.intake.amount();
        work.handled(frames, bytes);
        Ok(())
    }

    pub(crate) fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        let counters = &mut self.intake.counters;
        let Some(open) = self.open.as_mut().filter(|open| open.link.has_carrier()) else {
            drop_all(frames, counters);
            return Ok(());
        };
        match open.wire.transmit(frames, counters) {
            Sent::All => {}
            Sent::Down => drop_all(frames, counters),
            Sent::Blocked => {
                if open.sending.is_none() {
                    open.sending = Some(open.wire.watch_sending(&self.host, SENDING)?);
                }
            }
        }
        Ok(())
    }

    /// Counters of the driver, completed by the kernel's.
    pub(crate) fn stats(&mut self) -> (Counters, Option<LinkCounters>) {
        self.collect_drops();
        let index = self.link().map(|link| link.index);
        let link = index.and_then(|index| self.kernel.find(Some(index)).ok().flatten());
        (self.intake.counters, link.map(|link| link.counters))
    }

    /// Closes everything and puts settings back.
    pub(crate) fn stop(&mut self) {
        self.close();
        self.links = None;
    }

    /// Something changed somewhere: looks what is the case with our interface.
    fn look(&mut self) -> Result<(), Error> {
        let index = self.link().map(|link| link.index);
        let found = self.kernel.find(index)?;
        match (found, self.link()) {
            (None, None) => return Ok(()),
            (None, Some(gone)) => {
                tracing::warn!("{} is gone; waiting for it", gone.name);
                self.close();
            }
            (Some(link), None) => {
                tracing::info!("{} is back", link.name);
                self.reopen(link);
            }
            (Some(link), Some(known)) if link.index != known.index || link.mtu != known.mtu => {
                // Slots are made for the payload size; another number is another interface of the same name.
                self.close();
                self.reopen(link);
            }
            // The news were of another interface.
            (Some(link), Some(known)) if is_same(&link, known) => return Ok(()),
            (Some(link), Some(_)) => {
                if let Some(open) = &mut self.open {
                    open.link = link;
                }
            }
        }
        self.tell()
    }

    /// Opens an interface that was there before. It may be gone again, which another notification will tell.
    fn reopen(&mut self, link: Link) {
        let name = link.name.clone();
        if let Err(error) = self.open(link) {
            tracing::warn!("cannot open {name}: {error}");
        }
    }

    fn open(&mut self, link: Link) -> Result<(), Error> {
        let wire = self.kernel.open(&link)?;
        let receiving = wire.watch_receiving(&self.host, RECEIVING)?;
        // Switching it on changed it.
        let link = self.kernel.find(Some(link.index))?.unwrap_or(link);
        self.open = Some(Open { _receiving: receiving, sending: None, wire, link });
        // Frames may be there already, without an edge to come.
        self.host.wake();
        Ok(())
    }

    fn close(&mut self) {
        self.collect_drops();
        self.intake.flush();
        self.open = None;
    }

    fn collect_drops(&mut self) {
        if let Some(open) = &mut self.open {
            self.intake.counters.rx_overrun += open.wire.drops();
        }
    }

    fn unblock(&mut self) -> Result<(), Error> {
        if let Some(open) = &mut self.open {
            open.sending = None;
            if !open.wire.resume() {
                // Watched anew: it is told of what is the case now, not of changes only.
                open.sending = Some(open.wire.watch_sending(&self.host, SENDING)?);
            }
        }
        Ok(())
    }

    /// Tells the host of the interface, if there is news.
    fn tell(&mut self) -> Result<(), Error> {
        let mut interface = self.kernel.describe(self.link());
        if interface.mac == Mac::default() {
            // Away: what was known last still holds, but for the link.
            if let Some(told) = &self.told {
                interface = Interface { link_up: false, ..told.clone() };
            }
        }
        if self.told.as_ref() == Some(&interface) {
            return Ok(());
        }
        if let Some(told) = &self.told
            && told.link_up != interface.link_up
        {
            let state = if interface.link_up { "up" } else { "down" };
            tracing::info!("{}: link {state}", interface.system_name);
        }
        self.host.interface(&interface)?;
        self.told = Some(interface);
        Ok(())
    }

    fn link(&self) -> Option<&Link> {
        self.open.as_ref().map(|open| &open.link)
    }
}

/// Whether two looks at an interface found the same, but for its counters.
fn is_same(one: &Link, other: &Link) -> bool {
    let plain = |link: &Link| Link { counters: LinkCounters::default(), ..link.clone() };
    plain(one) == plain(other)
}

fn drop_all(frames: &mut TxBatch<'_>, counters: &mut Counters) {
    let count = frames.frames().count();
    counters.tx_no_carrier += count as u64;
    frames.finish(count);
}

#[cfg(test)]
mod tests;
