//! One request: from the bytes of an `_IO_` message to the bytes of its reply.
//!
//! This runs in a thread that acts for the caller, may take as long as the disk takes, and knows nothing
//! of sockets and other requests.
//!
//! DEVIATION: a node's files are read-only for other nodes. Whatever would change a file or a name is
//! answered with EROFS, as on a file system mounted read-only, whoever the caller is.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::{PathconfVar, fpathconf};
use qnet_iomsg::connect::{EFLAG_DIR, FTYPE_NAME};
use qnet_iomsg::flags::{IOFLAG_CREAT, IOFLAG_EXCL, IOFLAG_RSYNC, IOFLAG_SYNC, IOFLAG_TRUNC, IOFLAG_WRITE};
use qnet_iomsg::message::{XTYPE_DIR_EXTRA_HINT, XTYPE_NONBLOCK, pathconf};
use qnet_iomsg::{Connect, Extra, Io, Link, ParseError, Subtype, chain, redirect, signal};

use crate::export::Export;
use crate::file::{Cancel, Failure, MAX_READ, OpenFile, ReadArgs};
use crate::identity::Identity;
use crate::names::Names;
use crate::resolve::{Found, read_link, resolve};
use crate::signals::send_signal;

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
    },
    /// Messages on an open file.
    File {
        /// The whole message.
        message: Vec<u8>,
        /// The file.
        file: Arc<OpenFile>,
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
    /// To be tried again when there is something to read.
    Wait(Arc<OpenFile>),
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
    /// Has the caller left?
    pub cancel: Arc<Cancel>,
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
            Work::Connect { message } => connect(export, &message, reply),
            Work::Signal { request } => match send_signal(&self.identity, &request) {
                Ok(()) => Outcome::Done(0),
                Err(errno) => Outcome::Failed(errno),
            },
            Work::File { message, file } => match messages(&file, &message, reply) {
                Ok(status) => Outcome::Done(status),
                Err(Failure::Errno(errno)) => Outcome::Failed(errno),
                Err(Failure::WouldWait) => {
                    self.work = Work::File { message, file: Arc::clone(&file) };
                    Outcome::Wait(file)
                }
            },
        }
    }

    /// Whether its caller may be sent away while it runs: it takes nothing that would be lost with its
    /// reply, such as bytes from a FIFO or a step of a file's position, and closes nothing.
    pub fn is_idempotent(&self) -> bool {
        match &self.work {
            Work::Connect { .. } | Work::Probe | Work::Finished => true,
            Work::File { message, file } => {
                let taken = |io: &Io<'_>| matches!(io, Io::Stat | Io::Read { offset: Some(_), .. });
                file.has_positions()
                    && Io::parse(message).is_ok_and(|(io, next)| taken(&io) && next.is_none())
            }
            Work::Release { .. } | Work::Signal { .. } => false,
        }
    }
}

/// Where reply data goes.
struct Reply<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
    cancel: &'a Cancel,
}

impl Reply<'_> {
    fn left(&self) -> usize {
        self.room.saturating_sub(self.out.len())
    }

    /// Appends as much as there is room for.
    fn put(&mut self, data: &[u8]) {
        let n = data.len().min(self.left());
        self.out.extend_from_slice(data.get(..n).unwrap_or_default());
    }
}

fn bad_message(error: ParseError) -> Errno {
    Errno::from_raw(error.linux_errno())
}

fn connect(export: &Export, message: &[u8], reply: Reply<'_>) -> Outcome {
    let request = match Connect::parse(message) {
        Ok(request) => request,
        Err(error) => return Outcome::Failed(bad_message(error)),
    };
    if let Some(servers) = servers_of(export, &request) {
        return match servers {
            Ok((server, rest)) => {
                let mut reply = reply;
                reply.put(&redirect::emit(&[server], rest));
                Outcome::Done(redirect::STATUS_LINK)
            }
            Err(errno) => Outcome::Failed(errno),
        };
    }
    let result = match request.subtype {
        Subtype::Open => open(export, &request, reply.cancel).map(|file| Outcome::Opened(0, file)),
        Subtype::Combine => open_and_do(export, &request, reply).map(|(n, file)| Outcome::Opened(n, file)),
        Subtype::CombineClose => open_and_do(export, &request, reply).map(|(n, _)| Outcome::Done(n)),
        Subtype::Readlink => readlink(export, &request, reply).map(Outcome::Done),
        Subtype::Unlink | Subtype::Rename | Subtype::Mknod | Subtype::Link => Err(Errno::EROFS),
        Subtype::Unblock | Subtype::Mount => Err(Errno::ENOSYS),
    };
    result.unwrap_or_else(Outcome::Failed)
}

/// For who opens the name of a channel: where the channel is, and what of the path is left.
fn servers_of<'a>(
    export: &Export,
    request: &Connect<'a>,
) -> Option<Result<(redirect::Entry, &'a [u8]), Errno>> {
    if (request.subtype, request.file_type) != (Subtype::Open, FTYPE_NAME) {
        return None;
    }
    let parts = Names::inside(request.path)?;
    Some(export.channel_names()?.servers(export, &parts).map(|server| (server, request.path)))
}

fn find(export: &Export, request: &Connect<'_>, cancel: &Cancel) -> Result<Found, Errno> {
    let follow = !request.is_nofollow();
    if request.eflag & EFLAG_DIR != 0 && !request.path.ends_with(b"/") {
        let path = [request.path, b"/"].concat();
        return cancel.retry(|| resolve(export, &path, follow));
    }
    cancel.retry(|| resolve(export, request.path, follow))
}

/// Opens for reading; what asks for more meets the errors of a read-only file system, in the order in
/// which Linux finds them.
fn open(export: &Export, request: &Connect<'_>, cancel: &Cancel) -> Result<OpenFile, Errno> {
    let flag = |bits| request.ioflag & bits != 0;
    let found = match find(export, request, cancel) {
        Err(Errno::ENOENT) if flag(IOFLAG_CREAT) => return Err(Errno::EROFS),
        found => found?,
    };
    if flag(IOFLAG_CREAT) && flag(IOFLAG_EXCL) {
        return Err(Errno::EEXIST);
    }
    if flag(IOFLAG_WRITE | IOFLAG_TRUNC) {
        return Err(Errno::EROFS);
    }
    OpenFile::open(export, found, request.ioflag, cancel)
}

fn open_and_do(export: &Export, request: &Connect<'_>, reply: Reply<'_>) -> Result<(i64, OpenFile), Errno> {
    let Extra::Messages(chained) = request.extra else { return Err(Errno::EINVAL) };
    // without an access bit nothing is really opened: attributes need none
    let file = open(export, request, reply.cancel)?;
    match messages(&file, chained, reply) {
        Ok(status) => Ok((status, file)),
        Err(Failure::Errno(errno)) => Err(errno),
        // a partner to wait for needs an open file to wait on
        Err(Failure::WouldWait) => Err(Errno::EAGAIN),
    }
}

fn readlink(export: &Export, request: &Connect<'_>, mut reply: Reply<'_>) -> Result<i64, Errno> {
    let found = reply.cancel.retry(|| resolve(export, request.path, false))?;
    let target = read_link(found.fd.as_fd())?;
    reply.put(&target);
    Ok(0)
}

/// Carries out a chain. The status is that of the last message.
fn messages(file: &OpenFile, chained: &[u8], mut reply: Reply<'_>) -> Result<i64, Failure> {
    let mut status = 0;
    for item in chain(chained) {
        let (io, link) = item.map_err(bad_message)?;
        status = message(file, &io, link, &mut reply)?;
    }
    Ok(status)
}

fn message(file: &OpenFile, io: &Io<'_>, link: Link, reply: &mut Reply<'_>) -> Result<i64, Failure> {
    match *io {
        Io::Read { nbytes, xtype, offset } => {
            let read = ReadArgs {
                max: (nbytes as usize).min(reply.left()),
                offset,
                nonblock: xtype & XTYPE_NONBLOCK != 0,
                with_type: xtype & XTYPE_DIR_EXTRA_HINT != 0,
            };
            let before = reply.out.len();
            file.read(reply.out, &read, reply.cancel)?;
            Ok((reply.out.len() - before) as i64)
        }
        Io::Stat => {
            let stat = reply.cancel.retry(|| file.stat())?;
            reply.put(&stat.emit(reply.left()));
            Ok(0)
        }
        Io::Lseek { whence, offset } => {
            let position = file.seek(whence, offset)?;
            // inside a chain the new position is for the next message only
            if link == Link::Last {
                reply.put(&position.to_le_bytes());
            }
            Ok(0)
        }
        Io::Close => Ok(0),
        Io::Sync { flag } => {
            reply.cancel.retry(|| file.sync(flag & (IOFLAG_SYNC | IOFLAG_RSYNC) == 0))?;
            Ok(0)
        }
        Io::Pathconf { name } => Ok(limit(file, name)?),
        // no device is controlled from another node; programs take this for "not a terminal"
        Io::Devctl { .. } => Err(Errno::ENOTTY.into()),
        Io::Write { .. } | Io::Chmod { .. } | Io::Chown { .. } | Io::Utime { .. } | Io::Space { .. } => {
            Err(Errno::EROFS.into())
        }
        Io::Msg { .. } | Io::Dup => Err(Errno::ENOSYS.into()),
    }
}

fn limit(file: &OpenFile, name: u16) -> Result<i64, Errno> {
    let variable = match name {
        pathconf::LINK_MAX => PathconfVar::LINK_MAX,
        pathconf::NAME_MAX => PathconfVar::NAME_MAX,
        pathconf::PATH_MAX => PathconfVar::PATH_MAX,
        pathconf::PIPE_BUF => PathconfVar::PIPE_BUF,
        pathconf::NO_TRUNC => PathconfVar::_POSIX_NO_TRUNC,
        pathconf::CHOWN_RESTRICTED => PathconfVar::_POSIX_CHOWN_RESTRICTED,
        pathconf::FILESIZEBITS => PathconfVar::FILESIZEBITS,
        pathconf::SYMLINK_MAX => PathconfVar::SYMLINK_MAX,
        _ => return Err(Errno::EINVAL),
    };
    // "no limit" is -1, as in fpathconf()
    Ok(fpathconf(file.fd(), variable)?.unwrap_or(-1))
}
