//! The sinks of a node, as a session's transport sees them: which one a message's data is for, how
//! much room it has, and what happens to one that has none for too long.

use std::time::Duration;

use crate::session::stream::{Delivery, Opened, Target};
use crate::sink::Sink;
use crate::time::Instant;
use crate::wire::kif::{Kif, Xfer};

use super::tables::{Clients, Reading, Servers};

/// The sinks that one node's messages may reach.
pub(super) struct Sinks<'a> {
    pub(super) nd: u16,
    pub(super) now: Instant,
    /// How long a sink may have no room.
    pub(super) patience: Duration,
    pub(super) clients: &'a mut Clients,
    pub(super) servers: &'a mut Servers,
    /// A transaction whose sink had none for longer.
    pub(super) given_up: Option<u32>,
}

impl Sinks<'_> {
    fn reading(&mut self, number: u32) -> Option<&mut Reading> {
        let received = self.servers.reads.get(number)?.received;
        if self.servers.received.get(received)?.nd != self.nd {
            return None;
        }
        self.servers.reads.get_mut(number)
    }

    fn open_reply(&self, xfer: &Xfer) -> Option<Opened> {
        let send = self.clients.send_at(self.nd, xfer.handle)?;
        let take = send.info.dstmsglen.saturating_sub(xfer.offset).min(xfer.nbytes);
        Some(Opened { target: Target::Reply(xfer.handle), at: xfer.offset.into(), take })
    }

    fn open_read(&self, xfer: &Xfer) -> Option<Opened> {
        let reading = self.servers.reads.get(xfer.handle)?;
        let ours = self.servers.received.get(reading.received)?.nd == self.nd;
        let inside = reading.holds(xfer);
        let opened = Opened { target: Target::Read(xfer.handle), at: xfer.offset.into(), take: xfer.nbytes };
        (ours && inside).then_some(opened)
    }
}

impl Delivery for Sinks<'_> {
    fn open(&self, message: &Kif) -> Opened {
        let opened = match message {
            Kif::MsgWrite(xfer) | Kif::MsgReply(xfer) => self.open_reply(xfer),
            Kif::MsgReadXfer(xfer) => self.open_read(xfer),
            _ => None,
        };
        opened.unwrap_or(Opened { target: Target::Nowhere, at: 0, take: 0 })
    }

    fn room(&self, target: Target) -> u64 {
        let room = match target {
            Target::Reply(number) => self
                .clients
                .send_at(self.nd, number)
                .map(|send| send.outlet.room().saturating_sub(send.promised)),
            Target::Read(number) => {
                self.servers.reads.get(number).map(|r| r.outlet.room().saturating_sub(r.promised))
            }
            Target::Nowhere => None,
        };
        room.unwrap_or(u64::MAX)
    }

    fn promise(&mut self, target: Target, bytes: u64) {
        match target {
            Target::Reply(number) => {
                if let Some(send) = self.clients.send_of(self.nd, number) {
                    send.promised += bytes;
                    send.outlet.keep(send.promised);
                }
            }
            Target::Read(number) => {
                if let Some(reading) = self.reading(number) {
                    reading.promised += bytes;
                    reading.outlet.keep(reading.promised);
                }
            }
            Target::Nowhere => {}
        }
    }

    fn release(&mut self, target: Target, bytes: u64) {
        match target {
            Target::Reply(number) => {
                if let Some(send) = self.clients.send_of(self.nd, number) {
                    send.promised = send.promised.saturating_sub(bytes);
                    send.outlet.keep(send.promised);
                }
            }
            Target::Read(number) => {
                if let Some(reading) = self.reading(number) {
                    reading.promised = reading.promised.saturating_sub(bytes);
                    reading.outlet.keep(reading.promised);
                }
            }
            Target::Nowhere => {}
        }
    }

    fn write(&mut self, target: Target, at: u64, bytes: &[u8]) {
        self.release(target, bytes.len() as u64);
        match target {
            Target::Reply(number) => {
                if let Some(send) = self.clients.send_of(self.nd, number) {
                    send.refused = None;
                    send.outlet.write_at(at, bytes);
                }
            }
            Target::Read(number) => {
                if let Some(reading) = self.reading(number) {
                    reading.outlet.write_at(at, bytes);
                }
            }
            Target::Nowhere => {}
        }
    }

    fn refused(&mut self, target: Target) {
        // The peer asks again and again, so that time need not be watched here.
        let Target::Reply(number) = target else { return };
        let (now, patience) = (self.now, self.patience);
        let Some(send) = self.clients.send_of(self.nd, number) else { return };
        if now.since(*send.refused.get_or_insert(now)) >= patience {
            self.given_up = Some(number);
        }
    }
}
