//! Moving data between a server and a client that waits for it: MsgRead, MsgWrite, MsgReply.
//!
//! The client's own library hands over and takes in what is moved, while its thread waits in MsgSend. A client that was
//! stopped, or whose library is not ours, may keep a server waiting: after [`PATIENCE`] it is given up.

use std::{
    collections::VecDeque,
    io::{IoSlice, IoSliceMut},
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use qnet_ipc::{MAX_DATA, Signals, ToClient};

use super::{
    Port, State, Step,
    state::{Id, Key},
};
use crate::{
    Error, MessageInfo,
    iov::{self, Chunk, Payload},
    process::{self, lock},
    sys,
};

/// How long a client may take to hand over a piece of its message, or to take in one of the reply.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a receive waits for what did not come with the message; after that, the server gets what is there. A sender that
/// wants to run and is not let has [`PATIENCE`]: on a busy machine, too, a message is received whole.
const RECEIVE_PATIENCE: Duration = Duration::from_secs(1);
/// Pieces that are asked for at once.
const PIECES: usize = 4;

/// A MsgRead under way: what it still waits for, and where that belongs.
#[derive(Debug)]
pub(super) struct Wanted<'p, 'b> {
    pub(super) id: Id,
    parts: &'p mut [IoSliceMut<'b>],
    /// Numbers of the pieces asked for, with their place in `parts` and their length.
    asked: VecDeque<(u64, usize, usize)>,
    done: usize,
    failed: Option<i32>,
    /// The message ended before what was asked for.
    ended: bool,
}

impl Wanted<'_, '_> {
    /// A piece came; `false` when it is somebody else's.
    pub(super) fn place(&mut self, ticket: u64, data: Result<Chunk<'_>, i32>) -> bool {
        let Some(at) = self.asked.iter().position(|(asked, ..)| *asked == ticket) else { return false };
        let Some((_, place, len)) = self.asked.remove(at) else { return false };
        match data {
            Err(errno) => self.failed = Some(errno),
            Ok(data) => {
                self.ended |= data.len() < len;
                self.done = self.done.max(place + data.scatter_at(len, self.parts, place));
            }
        }
        true
    }
}

impl Port {
    /// Reads a message from `offset` on; how many bytes there were. Its sender may take `patience` for each piece.
    pub(crate) fn read(
        self: &Arc<Self>,
        rcvid: i32,
        parts: &mut [IoSliceMut<'_>],
        offset: usize,
        patience: Option<Duration>,
    ) -> Result<usize, Error> {
        let patience = patience.unwrap_or(PATIENCE).min(PATIENCE);
        self.read_until(rcvid, parts, 0, offset, Instant::now() + patience).map_err(Error::Errno)
    }

    /// As [`Port::read`], when the first `have` bytes are in `parts` already.
    pub(crate) fn read_rest(
        self: &Arc<Self>,
        rcvid: i32,
        parts: &mut [IoSliceMut<'_>],
        have: usize,
        offset: usize,
    ) -> Result<usize, Error> {
        let more = self.read_until(rcvid, parts, have, offset + have, Instant::now() + PATIENCE);
        more.map(|more| have + more).map_err(Error::Errno)
    }

    /// Reads from `offset` on into `parts` behind their first `skip` bytes.
    fn read_until(
        self: &Arc<Self>,
        rcvid: i32,
        parts: &mut [IoSliceMut<'_>],
        skip: usize,
        offset: usize,
        mut deadline: Instant,
    ) -> Result<usize, i32> {
        let gone = |_: Error| libc::ESRCH;
        let mut state = self.lock().map_err(gone)?;
        let id = state.id_of(rcvid).ok_or(libc::ESRCH)?;
        let whole = state.message_len(id).ok_or(libc::ESRCH)?;
        let room = parts.iter().map(|part| part.len()).sum::<usize>() - skip;
        let total = room.min(whole.saturating_sub(offset));
        let mut sent = 0;
        let mut wanted = Wanted { id, parts, asked: VecDeque::new(), done: skip, failed: None, ended: false };
        let patience = deadline.saturating_duration_since(Instant::now());
        loop {
            state.collect(&mut wanted);
            if let Some(errno) = wanted.failed {
                state.abandon(id, wanted.asked.iter().map(|(ticket, ..)| *ticket));
                state.crew.hand_over();
                return Err(errno);
            }
            while sent < total && wanted.asked.len() < PIECES && !wanted.ended {
                let nbytes = (total - sent).min(MAX_DATA);
                match state.ask(id, (offset + sent) as u32, nbytes as u32) {
                    Some(Ok(ticket)) => wanted.asked.push_back((ticket, skip + sent, nbytes)),
                    Some(Err(errno)) => {
                        state.crew.hand_over();
                        return Err(errno);
                    }
                    None => break,
                }
                sent += nbytes;
            }
            if wanted.asked.is_empty() && (sent == total || wanted.ended) {
                state.crew.hand_over();
                return Ok(wanted.done - skip);
            }
            if state.id_of(rcvid) != Some(id) {
                state.crew.hand_over();
                return Err(libc::ESRCH);
            }
            let (before, step) = (wanted.done, step(self, state, id, deadline, &mut wanted)?);
            state = step.0;
            if wanted.done > before {
                deadline = Instant::now() + patience;
            } else if step.1 == Step::TimedOut {
                state.abandon(id, wanted.asked.iter().map(|(ticket, ..)| *ticket));
                state.crew.hand_over();
                return Err(libc::ETIMEDOUT);
            }
        }
    }

    /// Puts a received message into the caller's buffers; how much of it they hold then. What did not come along is fetched
    /// when the sender is on this node, as the kernel would do; from another node only what came is there (QNX's rule).
    pub(super) fn fill(
        self: &Arc<Self>,
        rcvid: i32,
        info: &MessageInfo,
        data: Payload,
        parts: &mut [IoSliceMut<'_>],
    ) -> Result<usize, Error> {
        let len = data.len();
        let have = data.chunk().scatter_at(len, parts, 0);
        drop(data);
        let room: usize = parts.iter().map(|part| part.len()).sum();
        let whole = if info.nd == 0 { info.srcmsglen as usize } else { info.msglen };
        if have < len || have >= whole.min(room) {
            return Ok(have);
        }
        let last = Instant::now() + PATIENCE;
        loop {
            match self.read_until(rcvid, parts, have, have, Instant::now() + RECEIVE_PATIENCE) {
                Ok(more) => return Ok(have + more),
                Err(libc::ETIMEDOUT) if Instant::now() < last && process::wants_to_run(info.pid) => {}
                // A sender that died meanwhile is told by the answer; one that does not hand over its message is not
                // waited for.
                Err(_) => return Ok(have),
            }
        }
    }

    /// Writes into the sender's reply buffers at `offset`; how many bytes have room there.
    pub(crate) fn write(
        self: &Arc<Self>,
        rcvid: i32,
        parts: &[IoSlice<'_>],
        offset: usize,
    ) -> Result<usize, Error> {
        let total = self.room(rcvid, parts, offset)?;
        let mut done = 0;
        while done < total {
            let piece = iov::piece(parts, done, (total - done).min(MAX_DATA));
            let at = (offset + done) as u32;
            self.tell(rcvid, |txn| ToClient::Write { txn, offset: at, data: &piece })?;
            done += piece.len();
        }
        Ok(total)
    }

    /// Ends the sender's wait with a status and the bytes that fit into its buffers.
    pub(crate) fn reply(
        self: &Arc<Self>,
        rcvid: i32,
        status: i64,
        parts: &[IoSlice<'_>],
    ) -> Result<(), Error> {
        let total = self.room(rcvid, parts, 0)?;
        if total > MAX_DATA && self.reply_at_once(rcvid, status, parts, total)? {
            return Ok(());
        }
        let last = total.saturating_sub(MAX_DATA);
        let mut done = 0;
        while done < last {
            let piece = iov::piece(parts, done, (last - done).min(MAX_DATA));
            let at = done as u32;
            self.tell(rcvid, |txn| ToClient::Write { txn, offset: at, data: &piece })?;
            done += piece.len();
        }
        let piece = iov::piece(parts, last, total - last);
        self.end(rcvid, |txn| ToClient::Reply { txn, status, offset: last as u32, data: &piece })
    }

    /// Replies with one large packet, if there is room for it; whether there was.
    fn reply_at_once(
        &self,
        rcvid: i32,
        status: i64,
        parts: &[IoSlice<'_>],
        total: usize,
    ) -> Result<bool, Error> {
        let data = iov::piece(parts, 0, total);
        let mut state = self.lock()?;
        let id = state.id_of(rcvid).ok_or(Error::Errno(libc::ESRCH))?;
        if state.room(id) < total {
            return Ok(false);
        }
        let told = match state.tell(id, &ToClient::Reply { txn: id.1, status, offset: 0, data: &data }) {
            None | Some(Err(libc::EMSGSIZE)) => return Ok(false),
            Some(told) => told,
        };
        state.forget(id);
        state.crew.hand_over();
        told.map(|()| true).map_err(Error::Errno)
    }

    /// Ends the sender's wait with an error.
    pub(crate) fn error(self: &Arc<Self>, rcvid: i32, errno: i32) -> Result<(), Error> {
        if !(1..4096).contains(&errno) {
            return Err(Error::Errno(libc::EINVAL));
        }
        drop(self.heard(rcvid)?);
        self.end(rcvid, |txn| ToClient::Error { txn, errno })
    }

    /// How many of the bytes find room in the sender's buffers at `offset`.
    fn room(&self, rcvid: i32, parts: &[IoSlice<'_>], offset: usize) -> Result<usize, Error> {
        let state = self.heard(rcvid)?;
        let room = state.id_of(rcvid).and_then(|id| state.reply_len(id)).ok_or(Error::Errno(libc::ESRCH))?;
        Ok(iov::len(parts).min(room.saturating_sub(offset)))
    }

    /// The state, with what the sender of a message has said up to now: the answer to one that has left is refused.
    fn heard(&self, rcvid: i32) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock()?;
        if state.hear(rcvid) {
            // It may have said something for others, too: for who reads, or for an event loop.
            if state.crew.leading || state.exposed && (state.has_ready() || state.has_stopped()) {
                let _no_bell = self.ring();
            }
            state.crew.hand_over();
        }
        Ok(state)
    }

    fn end<'a>(self: &Arc<Self>, rcvid: i32, packet: impl Fn(u32) -> ToClient<'a>) -> Result<(), Error> {
        // From here on nobody else answers it.
        let id = self.lock()?.begin_end(rcvid).ok_or(Error::Errno(libc::ESRCH))?;
        let told = self.tell_id(id, packet);
        self.lock()?.forget(id);
        told
    }

    fn tell<'a>(self: &Arc<Self>, rcvid: i32, packet: impl Fn(u32) -> ToClient<'a>) -> Result<(), Error> {
        let id = self.lock()?.id_of(rcvid).ok_or(Error::Errno(libc::ESRCH))?;
        self.tell_id(id, packet)
    }

    /// Sends a packet about a received message, waiting while its client reads too slowly.
    fn tell_id<'a>(self: &Arc<Self>, id: Id, packet: impl Fn(u32) -> ToClient<'a>) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock()?;
        loop {
            match state.tell(id, &packet(id.1)) {
                Some(Ok(())) => break,
                Some(Err(errno)) => return Err(Error::Errno(errno)),
                None => {}
            }
            let step;
            (state, step) =
                self.step(state, Key::Room(id.0), Some(deadline), None, &mut Signals::unnoticed())?;
            if step == Step::TimedOut {
                // A client that reads nothing and asks for more is not worth its memory.
                state.remove(id.0);
                state.crew.hand_over();
                return Err(Error::Errno(libc::ESRCH));
            }
        }
        let flush = state.has_unsent() && !state.flushing && !state.crew.leading;
        if flush {
            state.flushing = true;
        } else {
            state.crew.hand_over();
        }
        drop(state);
        if flush { self.flush() } else { Ok(()) }
    }

    /// Makes sure that what waits for slow clients is sent although no thread of the program may wait any more.
    fn flush(self: &Arc<Self>) -> Result<(), Error> {
        let port = Arc::clone(self);
        let flush = move || {
            let Ok(mut state) = port.lock() else { return };
            while state.has_unsent() {
                match port.step(state, Key::Flush, None, None, &mut Signals::unnoticed()) {
                    Ok((again, _)) => state = again,
                    Err(_) => return,
                }
            }
            state.flushing = false;
            state.crew.hand_over();
        };
        let started = std::thread::Builder::new().name("qnet-flush".into()).spawn(flush);
        if started.is_err() && self.generation == sys::generation() {
            lock(&self.state).flushing = false;
        }
        started.map(drop).map_err(Error::from)
    }
}

/// One step of a read; its errors as errno values.
fn step<'s>(
    port: &'s Arc<Port>,
    state: std::sync::MutexGuard<'s, super::State>,
    id: Id,
    deadline: Instant,
    wanted: &mut Wanted<'_, '_>,
) -> Result<(std::sync::MutexGuard<'s, super::State>, Step), i32> {
    port.step(state, Key::Answer(id), Some(deadline), Some(wanted), &mut Signals::unnoticed())
        .map_err(|error| error.errno())
}
