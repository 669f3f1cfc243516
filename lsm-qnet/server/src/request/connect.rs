//! `_IO_CONNECT`: what begins with a path.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use qnet_iomsg::connect::{EFLAG_DIR, FTYPE_NAME};
use qnet_iomsg::filesys;
use qnet_iomsg::flags::{IOFLAG_ACCESS, IOFLAG_CREAT, IOFLAG_EXCL, IOFLAG_TRUNC};
use qnet_iomsg::{Connect, Extra, Io, Subtype, chain, redirect};

use super::names::{self, OnName};
use super::on_file::OnFile;
use super::{Outcome, Reply, bad_message};
use crate::attributes;
use crate::export::Export;
use crate::file::{Cancel, Failure, OpenFile, Opener, open_flags};
use crate::names::Names;
use crate::resolve::{Found, Nameless, read_link, resolve, resolve_guarded, resolve_parent};
use crate::sys;
use crate::wait::Wait;

/// How often a file that others make and remove all the time is looked for before its opener is told so.
const CREATE_ATTEMPTS: usize = 8;

/// Those of our own messages that only look.
const READING: [u16; 2] = [filesys::subtype::EXPECT, filesys::subtype::ENTRIES];

/// Carries out a message; with it may come the open file that it names.
pub(super) fn run(
    export: &Export,
    opener: &Opener,
    (message, source): (&[u8], Option<&OpenFile>),
    reply: Reply<'_>,
) -> Outcome {
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
    let with = (&request, filesys::xattr::behind(message));
    let result: Result<Outcome, Failure> = match request.subtype {
        Subtype::Open => open(export, opener, &request, reply.cancel).map(|file| Outcome::Opened(0, file)),
        Subtype::Combine => {
            open_and_do(export, opener, with, reply).map(|(status, file)| Outcome::Opened(status, file))
        }
        Subtype::CombineClose => combine_close(export, opener, with, reply).map(Outcome::Done),
        Subtype::Readlink => {
            Ok(readlink(export, &request, reply).map_or_else(Outcome::Failed, Outcome::Done))
        }
        Subtype::Unlink | Subtype::Rename | Subtype::Mknod | Subtype::Link => {
            Ok(names::run(export, opener, (&request, source), reply)
                .map_or_else(Outcome::Failed, Outcome::Done))
        }
        Subtype::Unblock | Subtype::Mount => Err(Errno::ENOSYS.into()),
    };
    match result {
        Ok(outcome) => outcome,
        Err(Failure::Errno(errno)) => Outcome::Failed(errno),
        Err(Failure::WouldWait(wait)) => Outcome::Wait(None, wait),
    }
}

/// Whether a message may change anything, by what it asks for.
pub(super) fn changes(message: &[u8]) -> bool {
    let Ok(request) = Connect::parse(message) else { return false };
    match request.subtype {
        Subtype::Readlink | Subtype::Unblock | Subtype::Mount => false,
        Subtype::Open | Subtype::Combine | Subtype::CombineClose => {
            let reads = |io: &Io<'_>| match io {
                Io::Stat | Io::Read { .. } | Io::Pathconf { .. } | Io::Close => true,
                Io::Msg { mgrid: filesys::MGRID, subtype, .. } => READING.contains(subtype),
                _ => false,
            };
            request.ioflag & (IOFLAG_CREAT | IOFLAG_TRUNC) != 0
                || matches!(request.extra, Extra::Messages(messages)
                    if !chain(messages).all(|item| item.is_ok_and(|(io, _)| reads(&io))))
        }
        Subtype::Unlink | Subtype::Rename | Subtype::Mknod | Subtype::Link => true,
    }
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
        return look_up(export, (&path, request.guard()), follow, cancel);
    }
    look_up(export, (request.path, request.guard()), follow, cancel)
}

/// # Errors
/// ESTALE: not in the directory that the caller means.
fn look_up(
    export: &Export,
    (path, guard): (&[u8], Option<u32>),
    follow: bool,
    cancel: &Cancel,
) -> Result<Found, Errno> {
    cancel.retry(|| match guard {
        Some(guard) => resolve_guarded(export, path, guard, follow),
        None => resolve(export, path, follow),
    })
}

/// What an open itself changes comes before the messages that it brings along, so it is looked there whether it may.
///
/// # Errors
/// ESTALE: not the file that the caller means.
fn check_object(found: &Found, request: &Connect<'_>) -> Result<(), Errno> {
    let Extra::Messages(messages) = request.extra else { return Ok(()) };
    match filesys::expected(messages) {
        Some(identity) if !identity.is_met_by(&attributes::stat(found.fd.as_fd(), found.place)?) => {
            Err(Errno::ESTALE)
        }
        _ => Ok(()),
    }
}

fn open(
    export: &Export,
    opener: &Opener,
    request: &Connect<'_>,
    cancel: &Cancel,
) -> Result<OpenFile, Failure> {
    if request.ioflag & IOFLAG_CREAT == 0 {
        let found = find(export, request, cancel)?;
        if request.ioflag & IOFLAG_TRUNC != 0 {
            check_object(&found, request)?;
        }
        return OpenFile::open(export, found, request.ioflag, opener.clone(), cancel);
    }
    if request.eflag & EFLAG_DIR != 0 {
        return Err(Errno::EISDIR.into());
    }
    // a file that is there is opened, whoever may make one in its directory
    for _ in 0..CREATE_ATTEMPTS {
        let refused = match create(export, opener, request, cancel) {
            Err(errno) if request.ioflag & IOFLAG_EXCL == 0 => errno,
            result => return Ok(result?),
        };
        match find(export, request, cancel) {
            Err(Errno::ENOENT) if refused == Errno::EEXIST => {}
            Err(Errno::ENOENT) => return Err(refused.into()),
            found => return OpenFile::open(export, found?, request.ioflag, opener.clone(), cancel),
        }
    }
    // It comes and goes, or is a link to nothing.
    Err(Errno::ENOENT.into())
}

/// Makes a file that is not there yet, and opens it.
///
/// DEVIATION: a symbolic link to nothing is never created through: names on its way are the caller's to resolve.
fn create(
    export: &Export,
    opener: &Opener,
    request: &Connect<'_>,
    cancel: &Cancel,
) -> Result<OpenFile, Errno> {
    let nameless = Nameless { here: Errno::EEXIST, above: Errno::EEXIST };
    let parent = cancel.retry(|| resolve_parent(export, request.path, nameless))?;
    parent.check(request.guard())?;
    if parent.directory {
        return Err(Errno::EISDIR);
    }
    if let Some(refusal) = opener.refusal(parent.dir.read_only) {
        // what is there can be opened, or is in the way; nobody was refused anything then
        return Err(if parent.exists() { Errno::EEXIST } else { export.refusal(refusal) });
    }
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_XDEV
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let flags = open_flags(request.ioflag) | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    let how =
        OpenHow::new().flags(flags).mode(Mode::from_bits_truncate(request.mode & 0o7777)).resolve(resolve);
    let make = || cancel.retry(|| openat2(parent.dir.fd.as_fd(), parent.name.as_c_str(), how));
    let device = sys::file_key(parent.dir.fd.as_fd())?.0;
    OpenFile::create(export, request.ioflag, opener.clone(), (device, make))
}

/// `behind` is what stands behind the message.
fn open_and_do(
    export: &Export,
    opener: &Opener,
    (request, behind): (&Connect<'_>, &[u8]),
    reply: Reply<'_>,
) -> Result<(i64, OpenFile), Failure> {
    let Extra::Messages(chained) = request.extra else { return Err(Errno::EINVAL.into()) };
    // without an access bit nothing is really opened: attributes need none
    let file = open(export, opener, request, reply.cancel)?;
    let on = OnFile { export, file: &file, source: None, behind };
    match on.messages(chained, reply) {
        Ok(status) => Ok((status, file)),
        // a lease on a file whose size is set by its name: nothing else was done to it that cannot be done again
        Err(Failure::WouldWait(Wait::Later)) if request.ioflag & IOFLAG_ACCESS == 0 => {
            Err(Failure::WouldWait(Wait::Later))
        }
        // a partner to wait for needs an open file to wait on
        Err(Failure::WouldWait(_)) => Err(Errno::EAGAIN.into()),
        Err(failure) => Err(failure),
    }
}

fn combine_close(
    export: &Export,
    opener: &Opener,
    (request, behind): (&Connect<'_>, &[u8]),
    reply: Reply<'_>,
) -> Result<i64, Failure> {
    if let Extra::Messages(messages) = request.extra
        && let Some(by_path) = filesys::by_path(messages).map_err(bad_message)?
    {
        let on = OnName { export, opener, new: request };
        let (request, meant) = by_path;
        return Ok(on.run(request, meant, reply)?);
    }
    open_and_do(export, opener, (request, behind), reply).map(|(status, _)| status)
}

fn readlink(export: &Export, request: &Connect<'_>, mut reply: Reply<'_>) -> Result<i64, Errno> {
    let found = look_up(export, (request.path, request.guard()), false, reply.cancel)?;
    check_object(&found, request)?;
    let target = read_link(found.fd.as_fd())?;
    reply.put(&target);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use qnet_iomsg::flags::IOFLAG_READ;

    use super::*;

    #[test]
    fn only_messages_that_change_something_are_carried_through() {
        let stat = Io::Stat.to_bytes();
        let chmod = Io::Chmod { mode: 0o644 }.to_bytes();
        let mut entries = Vec::new();
        let names = filesys::EntryNames::new(b"f\0").unwrap();
        let meant = filesys::Identity::of(&qnet_iomsg::Stat::default());
        filesys::Request::Expect(meant).emit(qnet_iomsg::Link::Follows, &mut entries);
        filesys::Request::Entries(names).emit(qnet_iomsg::Link::Last, &mut entries);
        let combine =
            |messages| Connect { extra: Extra::Messages(messages), ..Connect::new(Subtype::Combine, b"f") };
        for (request, expected) in [
            (Connect::open(b"f", IOFLAG_READ, 0), false),
            (Connect::open(b"f", IOFLAG_READ | IOFLAG_TRUNC, 0), true),
            (Connect::open(b"f", IOFLAG_CREAT, 0), true),
            (Connect::readlink(b"f"), false),
            (Connect::new(Subtype::Unlink, b"f"), true),
            (combine(&stat), false),
            (combine(&chmod), true),
            (combine(&entries), false),
            (Connect::combine_close(b"f", true, &chmod), true),
        ] {
            assert_eq!(changes(&request.emit().unwrap()), expected, "{request:?}");
        }
        assert!(!changes(b"no message"));
    }
}
