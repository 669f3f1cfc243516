//! One control connection, served in small steps.
//!
//! ```text
//!  bytes ─ read ─► lines ─ parse ─► answer ─► out ─ write ─► bytes
//! ```
//!
//! A step does one of these. While an answer waits to be written nothing is read, so a client that never reads
//! holds one answer and no more.

use std::{
    io,
    io::Write,
    os::fd::{AsFd, OwnedFd},
};

use ctl::{
    ErrorReply, LineBuffer, MAX_DESCRIPTORS, MAX_REQUEST, Outcome, PROTOCOL_VERSION, Reply, codec, sys,
};
use mio::net::UnixStream;
use nix::{
    errno::Errno,
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::Uid,
};

use super::{Answer, Request, loads::Ticket};

/// Bytes read in one step.
const READ_PIECE: usize = 16 << 10;

/// What to do with a client after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It may have more to do.
    Again,
    /// It waits for the poller.
    Wait,
    /// The connection is over.
    Close,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) generation: u32,
    /// In the list of busy clients.
    pub(super) queued: bool,
    /// The server's clock when bytes came last.
    pub(super) last_heard: u64,
    /// Root's or the owner's.
    pub(super) may_change: bool,
    lines: LineBuffer,
    files: Vec<OwnedFd>,
    out: Vec<u8>,
    sent: usize,
    readable: bool,
    writable: bool,
    /// Close once `out` is written.
    closing: bool,
    /// The answer to this request comes later.
    waiting: Option<(Ticket, u64)>,
}

impl Client {
    pub(super) fn new(stream: UnixStream, generation: u32, clock: u64) -> Self {
        // The credentials are those of the moment of connect(2); without them nothing may be changed.
        let peer = getsockopt(&stream, PeerCredentials).map(|peer| Uid::from_raw(peer.uid()));
        let may_change = peer.is_ok_and(|uid| uid.is_root() || uid == Uid::effective());
        Self {
            stream,
            generation,
            queued: false,
            last_heard: clock,
            may_change,
            lines: LineBuffer::with_limit(MAX_REQUEST),
            files: Vec::new(),
            out: Vec::new(),
            sent: 0,
            readable: true,
            writable: true,
            closing: false,
            waiting: None,
        }
    }

    pub(super) fn waits_for(&self, ticket: Ticket) -> bool {
        self.waiting.is_some_and(|(waiting, _)| waiting == ticket)
    }

    /// The answer that it waits for.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        if let Some((_, id)) = self.waiting.take() {
            self.reply(id, outcome);
        }
    }

    pub(super) fn on_ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Writes, answers or reads, whichever comes first. Nothing is read while an answer waits to be written.
    pub(super) fn step(&mut self, clock: u64, answer: impl FnOnce(Request, bool) -> Answer) -> Step {
        if self.sent < self.out.len() {
            return if self.writable { self.write() } else { Step::Wait };
        }
        if self.closing {
            return Step::Close;
        }
        if self.waiting.is_some() {
            return Step::Wait;
        }
        match self.lines.next_line() {
            Ok(Some(line)) => {
                let parsed = parse(line);
                let files = std::mem::take(&mut self.files);
                let (id, answer) = match parsed {
                    Ok(request) => {
                        (request.id, answer(Request { command: request.command, files }, self.may_change))
                    }
                    Err((id, error)) => (id, Answer::Now(Outcome::Error(error))),
                };
                match answer {
                    Answer::Now(outcome) => self.reply(id, outcome),
                    Answer::Later(ticket) => self.waiting = Some((ticket, id)),
                }
                Step::Again
            }
            Ok(None) if self.readable => self.read(clock),
            Ok(None) => Step::Wait,
            Err(error) => {
                self.reply(0, Outcome::Error(ErrorReply::new(Errno::EMSGSIZE, error.to_string())));
                self.closing = true;
                Step::Again
            }
        }
    }

    fn read(&mut self, clock: u64) -> Step {
        let mut room = [0; READ_PIECE];
        match sys::recv_with_descriptors(self.stream.as_fd(), &mut room, &mut self.files) {
            Ok(0) => Step::Close,
            Ok(n) => {
                self.last_heard = clock;
                self.lines.push(&room[..n]);
                if !self.may_change {
                    // Nobody else has a use for them here.
                    self.files.clear();
                }
                if self.files.len() > MAX_DESCRIPTORS { Step::Close } else { Step::Again }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Step::Wait
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Step::Again,
            Err(_) => Step::Close,
        }
    }

    fn write(&mut self) -> Step {
        match self.stream.write(&self.out[self.sent..]) {
            Ok(n) => {
                self.sent += n;
                if self.sent == self.out.len() {
                    self.out = Vec::new();
                    self.sent = 0;
                }
                Step::Again
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Step::Wait
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Step::Again,
            Err(_) => Step::Close,
        }
    }

    fn reply(&mut self, id: u64, outcome: Outcome) {
        let reply = Reply { v: PROTOCOL_VERSION, id, outcome };
        match codec::encode(&reply) {
            Ok(line) => self.out = line,
            Err(_) => self.closing = true,
        }
    }
}

/// Reads a request. An error carries the request's id as far as it could be found.
fn parse(line: &[u8]) -> Result<ctl::Request, (u64, ErrorReply)> {
    let refused = |id, text: String| (id, ErrorReply::new(Errno::EINVAL, text));
    let request: ctl::Request = serde_json::from_slice(line).map_err(|cause| {
        #[derive(serde::Deserialize)]
        struct Head {
            id: u64,
        }
        let id = serde_json::from_slice::<Head>(line).map_or(0, |head| head.id);
        refused(id, format!("not a request of this version: {cause}"))
    })?;
    if request.v != PROTOCOL_VERSION {
        let text = format!("version {} is not spoken here, {PROTOCOL_VERSION} is", request.v);
        return Err((request.id, ErrorReply::new(Errno::EPROTONOSUPPORT, text)));
    }
    Ok(request)
}
