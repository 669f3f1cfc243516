//! Replies on their way to the socket.
//!
//! A reply larger than a packet goes as WRITE pieces and a REPLY with the last one. What the socket does
//! not take at once waits here, and is sent on when the socket becomes writable.

use std::collections::VecDeque;

use qnet_ipc::{MAX_DATA, PeerError, ServerPeer, ToClient};

/// A reply that the socket has not taken completely.
#[derive(Debug)]
struct Unsent {
    txn: u32,
    status: i64,
    /// What was unsent when it came here, ...
    data: Vec<u8>,
    /// ... where that stands in the reply, ...
    base: usize,
    /// ... and how much of it has been sent since.
    sent: usize,
}

/// Replies that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    unsent: VecDeque<Unsent>,
    bytes: usize,
}

impl Outbox {
    /// Sends a reply, or keeps what the socket does not take.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(crate) fn reply(
        &mut self,
        peer: &mut ServerPeer,
        txn: u32,
        status: i64,
        data: &[u8],
    ) -> Result<(), PeerError> {
        let mut sent = 0;
        if self.unsent.is_empty() && send_pieces(peer, txn, status, data, 0, &mut sent)? {
            return Ok(());
        }
        let data = data.get(sent..).unwrap_or_default().to_vec();
        self.bytes += data.len();
        self.unsent.push_back(Unsent { txn, status, data, base: sent, sent: 0 });
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
            let done = send_pieces(peer, first.txn, first.status, &first.data, first.base, &mut first.sent)?;
            self.bytes = self.bytes.saturating_sub(first.sent - before);
            if !done {
                break;
            }
            self.bytes = self.bytes.saturating_sub(first.data.len() - first.sent);
            self.unsent.pop_front();
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

/// Sends pieces of `data`, which stands at `base` in the reply, until it is sent (true) or the socket
/// takes no more (false).
fn send_pieces(
    peer: &mut ServerPeer,
    txn: u32,
    status: i64,
    data: &[u8],
    base: usize,
    sent: &mut usize,
) -> Result<bool, PeerError> {
    while !peer.wants_write() {
        let rest = data.get(*sent..).unwrap_or_default();
        let offset = u32::try_from(base + *sent).unwrap_or(u32::MAX);
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
