//! One request: from the bytes of an `_IO_` message to the bytes of its reply.
//!
//! This runs in a thread that acts for the caller, may take as long as the disk takes, and knows nothing
//! of sockets and other requests.
//!
//! | module | |
//! |---|---|
//! | `connect` | `_IO_CONNECT`: open, create, read a link |
//! | `names` | `_IO_CONNECT`: make, remove and rename |
//! | `on_file` | messages on an open file, and chains of them |
//!
//! Who may not change files at all (`allow=write`) gets EACCES, and whoever tries where nothing may be changed
//! (`export=PATH:ro`) EROFS; else the kernel decides, who asks who the caller is.

mod connect;
mod names;
mod on_file;

use std::sync::Arc;

use nix::errno::Errno;
use qnet_iomsg::{Io, ParseError, signal};

use self::on_file::OnFile;
use crate::export::Export;
use crate::file::{Cancel, Failure, MAX_READ, OpenFile, Opener};
use crate::identity::Identity;
use crate::opens::Cache;
use crate::signals::send_signal;
use crate::wait::Wait;

/// Most bytes of a reply: a full READ and what else a chain may bring along.
pub const MAX_REPLY: usize = MAX_READ + 4096;

/// What is to be done.
#[derive(Debug)]
pub enum Work {
    /// Only become the caller: is that possible at all?
    Probe,
    /// An `_IO_CONNECT`.
    Connect {
        /// The whole message.
        message: Vec<u8>,
        /// The open file that QNX's LINK gives one more name.
        source: Option<Arc<OpenFile>>,
    },
    /// Messages on an open file.
    File {
        /// The whole message; of a WRITE without data that is beyond [`MAX_WRITE`](crate::file::MAX_WRITE).
        message: Vec<u8>,
        /// The file.
        file: Arc<OpenFile>,
        /// The other file of a COPY.
        source: Option<Arc<OpenFile>>,
    },
    /// Send a signal.
    Signal {
        /// To whom.
        request: signal::Request,
    },
    /// Close files; where that has to wait, it waits here.
    Release {
        /// The files.
        files: Vec<Arc<OpenFile>>,
    },
    /// Nothing any more.
    Finished,
}

/// What came of it. The reply's data are in the buffer that was handed along.
#[derive(Debug)]
pub enum Outcome {
    /// Done; what `MsgSend` returns.
    Done(i64),
    /// Done, and this file stays open.
    Opened(i64, OpenFile),
    /// Not done.
    Failed(Errno),
    /// To be tried again when it may go on; with the file that has to be ready.
    Wait(Option<Arc<OpenFile>>, Wait),
}

/// A request on its way.
#[derive(Debug)]
pub struct Request {
    /// Whom it is done for.
    pub identity: Arc<Identity>,
    /// What.
    pub work: Work,
    /// Bytes the caller has room for.
    pub room: usize,
    /// It may change files.
    pub may_change: bool,
    /// Whom it came from.
    pub cache: Cache,
    /// Has the caller left?
    pub cancel: Arc<Cancel>,
    /// The buffer of a message that was carried out, for the next one.
    pub spent: Vec<u8>,
}

impl Request {
    /// Carries it out. `out` is empty before, and holds the reply's data after success.
    pub fn run(&mut self, export: &Export, out: &mut Vec<u8>) -> Outcome {
        // Files are let go of in here, because closing one may take time.
        let work = std::mem::replace(&mut self.work, Work::Finished);
        let cancel = Arc::clone(&self.cancel);
        if cancel.is_set() && !matches!(work, Work::Release { .. }) {
            return Outcome::Failed(Errno::EINTR);
        }
        let reply = Reply { out, room: self.room.min(MAX_REPLY), cancel: &cancel };
        match work {
            Work::Probe | Work::Finished => Outcome::Done(0),
            Work::Release { files } => {
                drop(files);
                Outcome::Done(0)
            }
            Work::Connect { message, source } => {
                let (may_change, cache) = (self.may_change, self.cache);
                let opener = Opener { identity: Arc::clone(&self.identity), may_change, cache };
                let outcome = connect::run(export, &opener, (&message, source.as_deref()), reply);
                if matches!(outcome, Outcome::Wait(..)) {
                    self.work = Work::Connect { message, source };
                }
                outcome
            }
            Work::Signal { request } => match send_signal(&self.identity, &request) {
                Ok(()) => Outcome::Done(0),
                Err(errno) => Outcome::Failed(errno),
            },
            Work::File { message, file, source } => {
                let on = OnFile { export, file: &file, source: source.as_deref(), behind: &[] };
                let outcome = match on.messages(&message, reply) {
                    Ok(status) => Outcome::Done(status),
                    Err(Failure::Errno(errno)) => Outcome::Failed(errno),
                    Err(Failure::WouldWait(wait)) => {
                        self.work = Work::File { message, file: Arc::clone(&file), source };
                        return Outcome::Wait(Some(file), wait);
                    }
                };
                self.spent = message;
                outcome
            }
        }
    }

    /// Whether its caller may be sent away while it runs: it takes nothing that would be lost with its
    /// reply, such as bytes from a FIFO or a step of a file's position, changes nothing and closes nothing.
    pub fn is_idempotent(&self) -> bool {
        match &self.work {
            Work::Probe | Work::Finished => true,
            Work::Connect { message, .. } => !connect::changes(message),
            Work::File { message, file, .. } => {
                let taken = |io: &Io<'_>| matches!(io, Io::Stat | Io::Read { offset: Some(_), .. });
                file.has_positions()
                    && Io::parse(message).is_ok_and(|(io, next)| taken(&io) && next.is_none())
            }
            Work::Release { .. } | Work::Signal { .. } => false,
        }
    }
}

/// Where reply data goes.
pub(crate) struct Reply<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) room: usize,
    pub(crate) cancel: &'a Cancel,
}

impl Reply<'_> {
    /// Bytes there is room for.
    pub(crate) fn left(&self) -> usize {
        self.room.saturating_sub(self.out.len())
    }

    /// Appends as much as there is room for.
    pub(crate) fn put(&mut self, data: &[u8]) {
        let n = data.len().min(self.left());
        self.out.extend_from_slice(data.get(..n).unwrap_or_default());
    }
}

fn bad_message(error: ParseError) -> Errno {
    Errno::from_raw(error.linux_errno())
}
