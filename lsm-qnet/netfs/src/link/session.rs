//! What a [`super::Link`] knows of one session.

use std::{collections::VecDeque, time::Instant};

use super::{IDLE, Target, TxnId};

/// How far the session has come.
#[derive(Debug)]
pub(super) enum State {
    /// The connect has no answer yet.
    Opening {
        /// Transactions that wait for it.
        queued: Vec<TxnId>,
    },
    /// Messages may be sent.
    Open {
        /// Most message bytes in one Send.
        limit: usize,
    },
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) target: Target,
    pub(super) state: State,
    /// Open files on it.
    pub(super) files: usize,
    /// Transactions without an end.
    pub(super) in_flight: usize,
    /// Those among them that are under way, but for some that `flow` names.
    pub(super) under_way: usize,
    /// Those among them that are kept back until others end.
    pub(super) held: VecDeque<TxnId>,
    /// Those among them that nobody waits for.
    pub(super) abandoned: usize,
    last_used: Instant,
}

impl Session {
    pub(super) fn new(target: Target, now: Instant) -> Self {
        Self {
            target,
            state: State::Opening { queued: Vec::new() },
            files: 0,
            in_flight: 0,
            under_way: 0,
            held: VecDeque::new(),
            abandoned: 0,
            last_used: now,
        }
    }

    pub(super) fn touch(&mut self, now: Instant) {
        self.last_used = now;
    }

    /// Takes back a transaction that has not been sent; `false` when it has been.
    pub(super) fn withdraw(&mut self, txn: TxnId) -> bool {
        let mut withdrawn = false;
        let mut keep = |waiting: &TxnId| {
            withdrawn |= *waiting == txn;
            *waiting != txn
        };
        if let State::Opening { queued } = &mut self.state {
            queued.retain(&mut keep);
        }
        self.held.retain(&mut keep);
        self.in_flight = self.in_flight.saturating_sub(usize::from(withdrawn));
        withdrawn
    }

    /// Whether nothing keeps the session open.
    pub(super) fn is_idle(&self) -> bool {
        self.files == 0 && self.in_flight == 0
    }

    /// When it may be closed, once idle. The network manager's session stays.
    pub(super) fn expiry(&self) -> Option<Instant> {
        (self.target != Target::Netmgr).then(|| self.last_used + IDLE)
    }
}
