//! How many requests are under way at the same time.
//!
//! A node's server refuses (EAGAIN) what would make its queues longer than it allows a stranger, and no program knows that word from
//! `stat(2)`. So no session has more requests under way than the server has room for; the others wait here, in their order, for
//! one of theirs to end. What may wait for ever would keep them waiting, and is not counted: the server puts it aside. Neither is what
//! gives something back, for which the server always has room.

use qnet_ipc::packet::Send;

use super::{
    Failure, Link, MAX_DATA, PRIORITY, Purpose, Request, Session, SessionId, State, Target, ToServer, Txn,
    TxnId,
};

/// Requests of one session that are under way, of those that are counted. A quarter of what the server queues of one connection, and half
/// of the messages that it takes in pieces; far more than it carries out at once.
pub const MAX_UNDER_WAY: usize = 128;
/// The same of all sessions with one node, which share it: half of what the server queues of one node.
const PER_NODE: usize = 512;
/// What a session may have under way however many others there are.
const ALWAYS: usize = 8;

impl Link {
    pub(super) fn begin(
        &mut self,
        id: SessionId,
        request: Request,
        purpose: Purpose,
    ) -> Result<TxnId, Failure> {
        let txn = TxnId(self.number());
        let session = self.session_mut(id)?;
        session.in_flight += 1;
        let limit = match &mut session.state {
            State::Opening { queued } => {
                queued.push(txn);
                None
            }
            State::Open { limit } => Some(*limit),
        };
        self.txns.insert(txn, Txn { session: id, request, purpose, sent: false, counted: false });
        match limit {
            Some(limit) => self.start(txn, limit),
            None => Ok(()),
        }
        .map(|()| txn)
        .inspect_err(|_| self.completions.retain(|done| done.txn != txn))
    }

    /// Sends the head of a transaction's message, or keeps it back while enough of its session are under way.
    pub(super) fn start(&mut self, txn: TxnId, limit: usize) -> Result<(), Failure> {
        let Some(entry) = self.txns.get(&txn) else { return Ok(()) };
        let id = entry.session;
        if !entry.request.at_once && matches!(entry.purpose, Purpose::Awaited) {
            let has_room = self.has_room(id);
            let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
            if session.target != Target::Netmgr {
                if !has_room || !session.held.is_empty() {
                    session.held.push_back(txn);
                    return Ok(());
                }
                self.count(txn);
            }
        }
        self.send(txn, limit)
    }

    /// Sends what was kept back, as far as there is room now.
    pub(super) fn go_on(&mut self, id: SessionId) {
        while self.sessions.get(&id).is_some_and(|session| !session.held.is_empty()) && self.has_room(id) {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let State::Open { limit } = session.state else { return };
            let Some(txn) = session.held.pop_front() else { return };
            self.count(txn);
            // A failure has ended every transaction, this one included.
            let _ = self.send(txn, limit);
        }
    }

    /// Whether one more request of a session may be under way.
    fn has_room(&self, id: SessionId) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        if session.under_way < ALWAYS {
            return true;
        }
        let Target::Node { nd, .. } = session.target else { return true };
        let is_busy = |other: &&Session| {
            other.under_way > 0 && matches!(other.target, Target::Node { nd: of, .. } if of == nd)
        };
        let busy = self.sessions.values().filter(is_busy).count();
        session.under_way < MAX_UNDER_WAY.min(PER_NODE / busy.max(1))
    }

    fn count(&mut self, txn: TxnId) {
        if let Some(entry) = self.txns.get_mut(&txn)
            && let Some(session) = self.sessions.get_mut(&entry.session)
        {
            entry.counted = true;
            session.under_way += 1;
        }
    }

    fn send(&mut self, txn: TxnId, limit: usize) -> Result<(), Failure> {
        let Some(entry) = self.txns.get_mut(&txn) else { return Ok(()) };
        entry.sent = true;
        let Request { coid, message, reply, filled, .. } = &entry.request;
        let head = Send {
            txn: txn.0,
            conn: entry.session.0,
            tid: 1,
            coid: *coid,
            priority: PRIORITY,
            srcmsglen: u32::try_from(message.len()).unwrap_or(u32::MAX),
            dstmsglen: u32::try_from(reply.limit().saturating_sub(*filled)).unwrap_or(u32::MAX),
            ..Send::default()
        };
        let first = &message[..message.len().min(limit).min(MAX_DATA)];
        let peer = self.peer.as_mut().ok_or(Failure::GONE)?;
        let sent = peer.send(&ToServer::Send(head, first));
        self.check(sent)
    }
}
