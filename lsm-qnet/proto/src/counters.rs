//! What a node counts, for statistics. Every frame that arrives is counted once, as good or with
//! the reason it was dropped.
//!
//! Counters never go back; rates are the reader's business.

/// Running totals since the node was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames given to `poll_transmit`'s caller.
    pub tx_frames: u64,
    /// Payload bytes in them, headers not counted.
    pub tx_bytes: u64,
    /// Data frames sent again.
    pub tx_retransmits: u64,
    /// Sessions lost because data stayed unacknowledged.
    pub tx_failures: u64,
    /// Announcements, replies and set-up frames dropped because their queue was full.
    pub tx_control_overflow: u64,
    /// Frames that arrived and were used.
    pub rx_frames: u64,
    /// Payload bytes in them.
    pub rx_bytes: u64,
    /// Dropped: shorter than a header, or lengths that do not fit.
    pub rx_malformed: u64,
    /// Dropped: wrong checksum.
    pub rx_bad_crc: u64,
    /// Dropped: no checksum though `enforce_crc` is set.
    pub rx_no_crc: u64,
    /// Dropped: data or control for a session this node does not have.
    pub rx_no_session: u64,
    /// Dropped: already delivered.
    pub rx_duplicate: u64,
    /// Dropped: no memory for another incomplete message.
    pub rx_no_room: u64,
    /// Dropped: outside of what the sender may send.
    pub rx_out_of_window: u64,
    /// Dropped: discovery or set-up that is not for this node, and frames of a link that is down.
    pub rx_not_for_us: u64,
    /// Dropped: types and layers this node does not use.
    pub rx_unknown: u64,
    /// Messages that were complete but made no sense to the kernel interface.
    pub rx_bad_message: u64,
    /// Messages delivered to the kernel interface.
    pub messages_in: u64,
    /// Messages the peers acknowledged.
    pub messages_out: u64,
    /// Sessions established.
    pub sessions_up: u64,
    /// Sessions ended, for whatever reason.
    pub sessions_down: u64,
}

/// Running totals of one peer, kept from session to session while the peer is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// Frames sent to it, discovery not counted.
    pub tx_frames: u64,
    /// Bytes in them, headers not counted.
    pub tx_bytes: u64,
    /// Data frames among them that were sent again.
    pub tx_retransmits: u64,
    /// Frames of its sessions that were used.
    pub rx_frames: u64,
    /// Bytes in them, headers not counted.
    pub rx_bytes: u64,
    /// Frames of its sessions that were already delivered.
    pub rx_duplicate: u64,
    /// Frames of its sessions that were dropped for any other reason.
    pub rx_dropped: u64,
    /// Messages it sent.
    pub messages_in: u64,
    /// Messages it acknowledged.
    pub messages_out: u64,
    /// Sessions established with it.
    pub sessions: u64,
}
