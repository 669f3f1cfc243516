//! What a node holds at the moment: the length of every table, queue and reservation.
//!
//! All of them are bounded (`Limits`, and constants beside each queue), and all but the known nodes
//! go back to nothing when nobody uses Qnet. The simulator holds the node to both.

use super::Node;
use super::timers::Timer;

/// The lengths of a [`Node`]'s tables; see [`Node::holdings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Known nodes, this one not counted.
    pub peers: usize,
    /// Sessions that are up or being set up, and candidates that may replace them.
    pub sessions: usize,
    /// Session ids that lead to a node.
    pub session_ids: usize,
    /// Client-side connections.
    pub clients: usize,
    /// Client-side transactions: blocked senders.
    pub sends: usize,
    /// Server-side connections.
    pub servers: usize,
    /// Received messages without a reply.
    pub received: usize,
    /// Reads from senders' messages under way.
    pub reads: usize,
    /// Messages that wait to be sent or acknowledged.
    pub queued: usize,
    /// Names being looked for.
    pub lookups: usize,
    /// Announcements whose answer waits for its jitter.
    pub replies: usize,
    /// Frames outside of sessions that wait to be sent.
    pub control: usize,
    /// Bytes reserved for incomplete messages.
    pub reassembly_bytes: u32,
    /// Deadlines that belong to something under way, not to the node's periodic work.
    pub passing_timers: usize,
    /// Periodic deadlines: announcements, and the look for entries to drop.
    pub periodic_timers: usize,
}

impl Node {
    /// What the node holds. Costs a look at every known node.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let sessions = || {
            let peers = self.peers.iter().map(|(_, peer)| peer);
            peers.flat_map(|peer| [peer.session.as_deref(), peer.candidate.as_deref()]).flatten()
        };
        let periodic = |timer: &Timer| match timer {
            Timer::Announce(_) | Timer::Expire => true,
            Timer::Reply(_) | Timer::Lookup(_) | Timer::Peer(_) | Timer::Ping(_) => false,
        };
        let periodic_timers = self.timers.iter().filter(|(_, timer)| periodic(timer)).count();
        Holdings {
            peers: self.peers.len(),
            sessions: sessions().count(),
            session_ids: self.peers.ids(),
            clients: self.clients.connections.len(),
            sends: self.clients.sends.len(),
            servers: self.servers.connections.len(),
            received: self.servers.received.len(),
            reads: self.servers.reads.len(),
            queued: sessions().map(|session| session.outbox.queued()).sum(),
            lookups: self.lookups.len(),
            replies: self.replies.len(),
            control: self.control.len(),
            reassembly_bytes: self.budget.reserved,
            passing_timers: self.timers.len() - periodic_timers,
            periodic_timers,
        }
    }
}
