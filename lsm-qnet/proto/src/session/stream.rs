//! A long incoming message whose data goes into a sink, fragment by fragment, as it arrives.
//!
//! Nothing of it is kept here but which bytes arrived. What a sink was asked to have room for is
//! *promised*: a beginning of the data, all of it for messages of the usual size. So a message that
//! was begun can be finished, whatever order its fragments come in.
//!
//! ```text
//!   message   | fixed part | data: delivered, promised ... limit | not yet | beyond `take`: dropped |
//! ```

use crate::wire::kif::{Kif, Xfer};

use super::partial::Stored;
use super::ranges::Ranges;

/// Gaps of one message that are remembered; fragments that would make another are dropped. A sender
/// leaves no more than it has fragments on the wire.
const MAX_RANGES: usize = 4096;

/// Whose data it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A blocked sender's reply buffer: the number of its transaction.
    Reply(u32),
    /// What a server asked for: the number of the read.
    Read(u32),
    /// Nobody's, any more.
    Nowhere,
}

/// Where the data of a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// To whom.
    pub(crate) target: Target,
    /// Place of its first byte.
    pub(crate) at: u64,
    /// Bytes of it that are wanted; the rest is dropped.
    pub(crate) take: u32,
}

/// The sinks of a node, as the transport sees them. A target that is gone takes everything.
pub(crate) trait Delivery {
    /// Where the data of a transfer goes.
    fn open(&self, message: &Kif) -> Opened;
    /// Bytes the target can take beside those promised.
    fn room(&self, target: Target) -> u64;
    /// So many more bytes will come.
    fn promise(&mut self, target: Target, bytes: u64);
    /// So many of those promised will not come.
    fn release(&mut self, target: Target, bytes: u64);
    /// Here they are: part of what was promised.
    fn write(&mut self, target: Target, at: u64, bytes: &[u8]);
    /// The target had too little room.
    fn refused(&mut self, target: Target);
}

/// The fixed part of a message whose data is streamed.
pub(crate) fn transfer(message: &Kif) -> Option<Xfer> {
    match message {
        Kif::MsgReadXfer(xfer) | Kif::MsgWrite(xfer) | Kif::MsgReply(xfer) => Some(*xfer),
        _ => None,
    }
}

/// A message on its way into a sink.
#[derive(Debug)]
pub(crate) struct Stream {
    message: Kif,
    opened: Opened,
    /// Bytes of its fixed part.
    head: u32,
    /// Bytes of all of it.
    total: u32,
    /// Bytes of its data that were promised, from the first on.
    limit: u32,
    /// Of those, how many did not come yet.
    owed: u32,
    ranges: Ranges,
}

impl Stream {
    /// Begins with a transfer of `head` bytes and its data; `None` when the sink has no room.
    pub(crate) fn begin(message: Kif, head: u32, nbytes: u32, delivery: &mut dyn Delivery) -> Option<Stream> {
        let total = head.checked_add(nbytes)?;
        let opened = delivery.open(&message);
        let room = delivery.room(opened.target);
        let fits = room >= u64::from(opened.take);
        // Ours are never longer than what a sink must be able to hold; those of a plain node may be.
        if !fits && (opened.take as usize <= crate::MAX_TRANSFER || room == 0) {
            delivery.refused(opened.target);
            return None;
        }
        let ranges = Ranges::default();
        let mut stream = Stream { message, opened, head, total, limit: 0, owed: 0, ranges };
        stream.extend(delivery);
        Some(stream)
    }

    /// Promises as much more as there is room for.
    fn extend(&mut self, delivery: &mut dyn Delivery) {
        let room = u32::try_from(delivery.room(self.opened.target)).unwrap_or(u32::MAX);
        let more = room.min(self.opened.take - self.limit);
        delivery.promise(self.opened.target, more.into());
        self.limit += more;
        self.owed += more;
    }

    /// A fragment.
    pub(crate) fn store(
        &mut self,
        offset: u32,
        bytes: &[u8],
        last: bool,
        delivery: &mut dyn Delivery,
    ) -> Stored {
        let Some(end) = u32::try_from(bytes.len()).ok().and_then(|len| offset.checked_add(len)) else {
            return Stored::Refused;
        };
        if end > self.total || (last && end != self.total) {
            return Stored::Refused;
        }
        let needed = end.saturating_sub(self.head).min(self.opened.take);
        if needed > self.limit {
            self.extend(delivery);
            if needed > self.limit {
                delivery.refused(self.opened.target);
                return Stored::NoRoom;
            }
        }
        if self.ranges.count() >= MAX_RANGES && self.ranges.is_apart(offset, end) {
            return Stored::NoRoom;
        }
        let (opened, head, mut new) = (self.opened, self.head, false);
        let wanted = head.saturating_add(opened.take);
        let owed = &mut self.owed;
        self.ranges.insert(offset, end, |from, to| {
            new = true;
            let (from, to) = (from.max(head), to.min(wanted));
            if from < to {
                let data = &bytes[(from - offset) as usize..(to - offset) as usize];
                *owed = owed.saturating_sub(to - from);
                delivery.write(opened.target, opened.at + u64::from(from - head), data);
            }
        });
        if self.ranges.covers(0, self.total) {
            Stored::Whole
        } else if new {
            Stored::Kept
        } else {
            Stored::Known
        }
    }

    /// It will not be finished, or has been: what was promised in vain.
    pub(crate) fn close(&self, delivery: &mut dyn Delivery) {
        delivery.release(self.opened.target, self.owed.into());
    }

    /// Its fixed part.
    pub(crate) fn message(&self) -> Kif {
        self.message.clone()
    }

    /// What arrived.
    pub(crate) fn ranges(&self) -> &Ranges {
        &self.ranges
    }
}
