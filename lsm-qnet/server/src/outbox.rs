//! Replies on their way to the socket.
//!
//! A reply larger than a packet goes as WRITE pieces and a REPLY with the last one. What the socket does
//! not take at once waits here, and is sent on when the socket becomes writable. It waits in the memory in which
//! it was made; who made it gets other memory for the next one.

use std::collections::VecDeque;

use qnet_ipc::{MAX_DATA, PeerError, ServerPeer, ToClient};

/// A reply that the socket has not taken completely.
#[derive(Debug)]
struct Unsent {
    txn: u32,
    status: i64,
    data: Vec<u8>,
    /// Bytes of it that the socket has taken.
    sent: usize,
}

/// Empty buffers that are kept.
const SPARE_BUFFERS: usize = 8;

/// Replies that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    unsent: VecDeque<Unsent>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Outbox {
    /// Sends a reply, or keeps it when the socket does not take all; `data` is another buffer then.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(crate) fn reply(
        &mut self,
        peer: &mut ServerPeer,
        txn: u32,
        status: i64,
        data: &mut Vec<u8>,
    ) -> Result<(), PeerError> {
        let mut sent = 0;
        if self.unsent.is_empty() && send_pieces(peer, txn, status, data, &mut sent)? {
            return Ok(());
        }
        let data = std::mem::replace(data, self.spare.pop().unwrap_or_default());
        self.bytes += data.len() - sent;
        self.unsent.push_back(Unsent { txn, status, data, sent });
        Ok(())
    }

    /// Sends on, after the socket became writable.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(crate) fn flush(&mut self, peer: &mut ServerPeer) -> Result<(), PeerError> {
        peer.flush()?;
        while let Some(first) = self.unsent.front_mut() {
            let before = first.sent;
            let done = send_pieces(peer, first.txn, first.status, &first.data, &mut first.sent)?;
            self.bytes = self.bytes.saturating_sub(first.sent - before);
            if !done {
                break;
            }
            self.bytes = self.bytes.saturating_sub(first.data.len() - first.sent);
            if let Some(Unsent { mut data, .. }) = self.unsent.pop_front()
                && self.spare.len() < SPARE_BUFFERS
            {
                data.clear();
                self.spare.push(data);
            }
        }
        Ok(())
    }

    /// Forgets the reply to a transaction that has been ended.
    pub(crate) fn forget(&mut self, gone: impl Fn(u32) -> bool) {
        self.unsent.retain(|unsent| !gone(unsent.txn));
        self.bytes = self.unsent.iter().map(|unsent| unsent.data.len() - unsent.sent).sum();
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.unsent.is_empty()
    }
}

/// Sends pieces of `data` from `sent` on, until all is sent (true) or the socket takes no more (false).
fn send_pieces(
    peer: &mut ServerPeer,
    txn: u32,
    status: i64,
    data: &[u8],
    sent: &mut usize,
) -> Result<bool, PeerError> {
    while !peer.wants_write() {
        let rest = data.get(*sent..).unwrap_or_default();
        let offset = u32::try_from(*sent).unwrap_or(u32::MAX);
        if rest.len() <= MAX_DATA {
            peer.send(&ToClient::Reply { txn, status, offset, data: rest })?;
            return Ok(true);
        }
        let (piece, _) = rest.split_at(MAX_DATA);
        peer.send(&ToClient::Write { txn, offset, data: piece })?;
        *sent += piece.len();
    }
    Ok(false)
}
