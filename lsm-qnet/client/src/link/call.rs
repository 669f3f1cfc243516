//! One MsgSend: from the first byte to the reply, serving what the server reads meanwhile.
//!
//! Leaving early (a signal, a deadline) follows QNX's rule: a sender whose message was not received yet leaves at once; one
//! whose message was received leaves at once, too, unless the channel has `_NTO_CHF_UNBLOCK`: then the server is told and
//! decides. Servers of this library say which it is (`Channel`, `Received`); of one that does not (on another node) the sender
//! waits until it agrees.
//!
//! A message that is received in the very moment in which its sender leaves may find its sender gone: the server's answer
//! then gets `ESRCH`, as after any sender that left.

use std::{
    io::{IoSlice, IoSliceMut},
    sync::MutexGuard,
    time::Instant,
};

use qnet_ipc::{
    MAX_DATA, PeerError, Signals, ToServer,
    packet::{self, info},
};

use super::{ConnState, Direct, Link, State, Step};
use crate::{
    ChannelFlags, Error, Event, Reply, event,
    iov::{self, Chunk},
    thread::{Timeout, state},
};

/// What is sent, and how.
#[derive(Debug)]
pub(crate) struct Call<'p, 'b> {
    pub(crate) conn: u32,
    pub(crate) message: &'p [IoSlice<'b>],
    pub(crate) tid: i32,
    pub(crate) coid: i32,
    pub(crate) priority: i32,
    pub(crate) keydata: u32,
    pub(crate) timeout: Option<Timeout>,
    /// A signal handler makes the call leave with `EINTR`.
    pub(crate) interruptible: bool,
}

/// A call under way.
struct Running<'l, 'c, 'p, 'b> {
    link: &'l Link,
    call: &'c Call<'p, 'b>,
    txn: u32,
    timeout: Option<Timeout>,
    /// The server was asked to let us go, with this errno in the end.
    leaving: Option<i32>,
    /// Those that may end the call.
    signals: &'c Signals,
    /// One did while the call waited for something else.
    interrupted: bool,
}

impl Link {
    /// Sends and waits for the reply.
    pub(crate) fn call(&self, call: &Call<'_, '_>, reply: &mut [IoSliceMut<'_>]) -> Result<Reply, Error> {
        // Before anything is sent: its server may be the one who signals.
        let mut signals = Signals::new(call.interruptible);
        signals.hold();
        loop {
            match self.call_once(call, reply, &signals) {
                // The server wants to see it again (`MsgError(rcvid, ERESTART)`).
                Err(Error::Errno(libc::ERESTART)) => {}
                outcome => return outcome,
            }
        }
    }

    fn call_once(
        &self,
        call: &Call<'_, '_>,
        reply: &mut [IoSliceMut<'_>],
        signals: &Signals,
    ) -> Result<Reply, Error> {
        let too_long = |_| Error::Errno(libc::EMSGSIZE);
        let room: usize = reply.iter().map(|part| part.len()).sum();
        let srcmsglen = u32::try_from(iov::len(call.message)).map_err(too_long)?;
        let dstmsglen = u32::try_from(room).map_err(too_long)?;
        let mut state = self.lock();
        let limit = state.limit(call.conn).map_err(Error::Errno)?;
        let txn = state.begin(call.conn, room);
        let exact = call.timeout.is_some_and(|timeout| !timeout.is_for_both());
        let head = packet::Send {
            txn,
            conn: call.conn,
            tid: call.tid,
            coid: call.coid,
            priority: call.priority,
            srcmsglen,
            dstmsglen,
            keydata: call.keydata,
            flags: if exact { info::TELL_RECEIVED } else { 0 },
            ..packet::Send::default()
        };
        let timeout = call.timeout;
        let mut running =
            Running { link: self, call, txn, timeout, leaving: None, signals, interrupted: false };
        let mut direct = Direct { txn, parts: reply, end: 0 };
        let outcome = running.begin(state, head, limit).and_then(|state| running.finish(state, &mut direct));
        let mut state = self.lock();
        state.end_txn(txn);
        let refused = match state.conns.get(&call.conn) {
            Some(ConnState::Refused { errno }) => Some(*errno),
            _ => None,
        };
        self.leave(state);
        // A message on a connection that the server did not want.
        if let (Err(_), Some(errno)) = (&outcome, refused) {
            return Err(Error::Errno(errno));
        }
        Ok(Reply { status: outcome?, len: direct.end })
    }
}

impl<'l> Running<'l, '_, '_, '_> {
    /// Gets the head of the message out.
    fn begin(
        &mut self,
        mut state: MutexGuard<'l, State>,
        head: packet::Send,
        mut limit: usize,
    ) -> Result<MutexGuard<'l, State>, Error> {
        loop {
            // What is more, the server fetches.
            let first = limit.min(state.room()).min(head.srcmsglen as usize);
            let first = iov::piece(self.call.message, 0, first);
            match state.send(&ToServer::Send(head, &first)) {
                Ok(()) => return Ok(state),
                Err(PeerError::Full { .. }) => {}
                // The room was taken meanwhile; so little always goes.
                Err(PeerError::TooLong { .. }) if limit > MAX_DATA => {
                    limit = MAX_DATA;
                    continue;
                }
                // It was gone before: nothing was sent.
                Err(_) => return Err(Error::Errno(libc::EBADF)),
            }
            let (now, step) = self.link.step(state, 0, self.deadline(state::SEND), None, self.signals)?;
            state = now;
            match (step, self.timeout.map(|timeout| timeout.event)) {
                (Step::Interrupted, _) if self.call.interruptible => return Err(Error::Errno(libc::EINTR)),
                (Step::TimedOut, Some(Event::Unblock)) => return Err(Error::Errno(libc::ETIMEDOUT)),
                (Step::TimedOut, _) => self.expire(),
                _ => {}
            }
        }
    }

    /// Serves the server until the transaction ends.
    fn finish(
        &mut self,
        mut state: MutexGuard<'l, State>,
        direct: &mut Direct<'_, '_>,
    ) -> Result<i64, Error> {
        loop {
            let Some(txn) = state.txn(self.txn) else { return Err(Error::Errno(libc::ESRCH)) };
            for (offset, piece) in txn.take_pieces() {
                direct.write(offset, Chunk::Here(&piece), piece.len());
            }
            if let Some((offset, nbytes)) = txn.reads.pop_front() {
                state = self.serve(state, offset, nbytes)?;
                continue;
            }
            if let Some(done) = txn.done {
                return done.map_err(|errno| Error::Errno(self.errno(errno)));
            }
            let waits_in = if txn.received.is_some() { state::REPLY } else { state::SEND };
            let since = txn.received;
            // Whether it may leave at once can be known later than that it wants to.
            if let Some(why) = self.leaving
                && self.may_leave(&mut state)
            {
                return Err(Error::Errno(why));
            }
            let deadline = self.deadline_since(waits_in, since);
            let step;
            (state, step) = match std::mem::take(&mut self.interrupted) {
                true => (state, Step::Interrupted),
                false => self.link.step(state, self.txn, deadline, Some(direct), self.signals)?,
            };
            let why = match step {
                Step::Something => {
                    // A thread that always finds something, for others, never sleeps.
                    self.interrupted = !state.concerns(self.txn) && self.signals.came();
                    continue;
                }
                Step::Interrupted if !self.call.interruptible => continue,
                Step::Interrupted => libc::EINTR,
                Step::TimedOut if self.timeout.is_some_and(|timeout| timeout.event != Event::Unblock) => {
                    self.expire();
                    continue;
                }
                Step::TimedOut => libc::ETIMEDOUT,
            };
            if self.leave(&mut state, why, direct) {
                return Err(Error::Errno(why));
            }
        }
    }

    /// Hands over a piece of the message.
    fn serve(
        &mut self,
        mut state: MutexGuard<'l, State>,
        offset: u32,
        nbytes: u32,
    ) -> Result<MutexGuard<'l, State>, Error> {
        let nbytes = (nbytes as usize).min(MAX_DATA);
        let whole = iov::len(self.call.message);
        let nbytes = nbytes.min(whole.saturating_sub(offset as usize));
        let data = iov::piece(self.call.message, offset as usize, nbytes);
        loop {
            match state.send(&ToServer::ReadData { txn: self.txn, offset, data: &data }) {
                // The end of the server shows in the transaction.
                Ok(()) | Err(PeerError::Closed | PeerError::Io(_)) => return Ok(state),
                Err(PeerError::Full { .. }) => {}
                Err(error) => return Err(Error::Peer(error)),
            }
            let step;
            (state, step) = self.link.step(state, 0, None, None, self.signals)?;
            self.interrupted |= step == Step::Interrupted;
        }
    }

    /// The sender wants to go; whether it may at once.
    fn leave(&mut self, state: &mut State, why: i32, direct: &mut Direct<'_, '_>) -> bool {
        if self.leaving.is_some() {
            return false;
        }
        // What the server said up to now counts. A thread that leads takes it in by itself: from under its eyes it would be
        // taken without waking it, and what was for itself would not be seen.
        if !state.crew.leading {
            state.take_in(direct);
        }
        let Some(txn) = state.txn(self.txn) else { return true };
        if txn.done.is_some() {
            return false;
        }
        let may = self.may_leave(state);
        // A server that is gone needs no notice.
        let _gone = state.send(&ToServer::Unblock { txn: self.txn, tid: self.call.tid });
        self.leaving = Some(why);
        self.timeout = None;
        may
    }

    /// Whether a sender that wants to go need not wait for its server.
    fn may_leave(&self, state: &mut State) -> bool {
        let received = state.txn(self.txn).is_some_and(|txn| txn.received.is_some());
        match state.conns.get(&self.call.conn) {
            Some(ConnState::Open { flags: Some(flags), .. }) => {
                !received || !flags.contains(ChannelFlags::UNBLOCK)
            }
            // The server has not even seen the connection; of one behind lsm-qnet nothing is known.
            Some(ConnState::Opening) => !self.link.is_through_qnet(),
            _ => false,
        }
    }

    /// The timeout is over, and something else than leaving was to happen then.
    fn expire(&mut self) {
        if let Some(timeout) = self.timeout.take() {
            event::perform_own(timeout.event);
        }
    }

    fn errno(&self, errno: i32) -> i32 {
        match self.leaving {
            Some(why) if errno == libc::EINTR => why,
            _ => errno,
        }
    }

    fn deadline(&self, waits_in: u32) -> Option<Instant> {
        self.deadline_since(waits_in, None)
    }

    fn deadline_since(&self, waits_in: u32, received: Option<Instant>) -> Option<Instant> {
        let timeout = self.timeout.as_ref()?;
        // Whether the message was received is not known of a server on another node.
        if timeout.is_for_both() || self.link.is_through_qnet() {
            return Some(timeout.deadline);
        }
        if timeout.states & waits_in == 0 {
            return None;
        }
        match received {
            Some(since) => since.checked_add(timeout.length),
            None => Some(timeout.deadline),
        }
    }
}

impl Timeout {
    /// Whether it runs before and after the message is received.
    fn is_for_both(&self) -> bool {
        self.states & (state::SEND | state::REPLY) == state::SEND | state::REPLY
    }
}

impl State {
    /// Most bytes that may go with a send, if anything may be sent at all; or the errno.
    pub(crate) fn limit(&self, conn: u32) -> Result<usize, i32> {
        match self.conns.get(&conn) {
            _ if self.is_dead() => match self.conns.get(&conn) {
                Some(ConnState::Refused { errno }) => Err(*errno),
                _ => Err(libc::EBADF),
            },
            Some(ConnState::Open { limit, .. }) => Ok(*limit as usize),
            Some(ConnState::Opening) => Ok(MAX_DATA),
            Some(ConnState::Refused { errno }) => Err(*errno),
            Some(ConnState::Dead) | None => Err(libc::EBADF),
        }
    }
}
