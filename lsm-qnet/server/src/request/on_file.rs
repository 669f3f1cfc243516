//! Messages on an open file, alone or in a chain.

use nix::errno::Errno;
use nix::unistd::{PathconfVar, fpathconf};
use qnet_iomsg::filesys::{self, Request as Filesys, SetTime, lock, special, subtype as number, xattr};
use qnet_iomsg::flags::{IOFLAG_RSYNC, IOFLAG_SYNC};
use qnet_iomsg::message::{
    XTYPE_APPEND, XTYPE_DIR_ATTRIBUTES, XTYPE_DIR_EXTRA_HINT, XTYPE_NONBLOCK, pathconf,
};
use qnet_iomsg::{Io, Link, Timestamp, chain, terminal};

use super::{Reply, bad_message};
use crate::export::Export;
use crate::file::{CopyArgs, Extras, Failure, MAX_WRITE, OpenFile, ReadArgs, WriteArgs};
use crate::resolve::Place;

/// An open file that messages are for.
pub(crate) struct OnFile<'a> {
    pub(crate) export: &'a Export,
    pub(crate) file: &'a OpenFile,
    /// The other file of a COPY.
    pub(crate) source: Option<&'a OpenFile>,
    /// What stands behind the CONNECT that brought the messages.
    pub(crate) behind: &'a [u8],
}

impl OnFile<'_> {
    /// Carries out a chain. The status is that of the last message.
    pub(super) fn messages(&self, chained: &[u8], mut reply: Reply<'_>) -> Result<i64, Failure> {
        let mut status = 0;
        for item in chain(chained) {
            let (io, link) = item.map_err(bad_message)?;
            status = self.message(&io, link, &mut reply)?;
        }
        Ok(status)
    }

    fn message(&self, io: &Io<'_>, link: Link, reply: &mut Reply<'_>) -> Result<i64, Failure> {
        let Self { export, file, .. } = *self;
        let cancel = reply.cancel;
        match *io {
            Io::Read { nbytes, xtype, offset } => {
                let max = (nbytes as usize).min(reply.left());
                let read = ReadArgs { max, offset, nonblock: is_nonblocking(xtype), extras: extras(xtype) };
                let before = reply.out.len();
                file.read(reply.out, &read, cancel)?;
                return Ok((reply.out.len() - before) as i64);
            }
            Io::Write { nbytes, xtype, offset, data } => {
                let data = data.get(..(nbytes as usize).min(MAX_WRITE)).unwrap_or(data);
                let append = xtype & XTYPE_APPEND != 0;
                let write = WriteArgs { data, offset, append, nonblock: is_nonblocking(xtype) };
                return Ok(file.write(&write, cancel)? as i64);
            }
            Io::Stat => {
                let stat = cancel.retry(|| file.stat())?;
                reply.put(&stat.emit(reply.left()));
            }
            Io::Lseek { whence, offset } => {
                let position = file.seek(whence, offset)?;
                // inside a chain the new position is for the next message only
                if link == Link::Last {
                    reply.put(&position.to_le_bytes());
                }
            }
            Io::Close => {}
            Io::Sync { flag } => {
                cancel.retry(|| file.sync(flag & (IOFLAG_SYNC | IOFLAG_RSYNC) == 0))?;
            }
            Io::Pathconf { name } => return Ok(limit(file, name)?),
            Io::Devctl { dcmd, data, .. } => return self.control(dcmd, data, reply),
            Io::Chmod { mode } => cancel.retry(|| file.set_mode(export, mode))?,
            Io::Chown { uid, gid } => cancel.retry(|| file.set_owner(export, uid, gid))?,
            Io::Utime { now, atime, mtime } => {
                let time = |seconds: u32| {
                    if now {
                        SetTime::Now
                    } else {
                        SetTime::At(Timestamp { seconds: seconds.into(), nanoseconds: 0 })
                    }
                };
                cancel.retry(|| file.set_times(export, time(atime), time(mtime)))?;
            }
            Io::Space { whence: 0, subtype, start, len } => {
                file.space(export, subtype, start, len, cancel)?;
                if link == Link::Last {
                    reply.put(&file.stat()?.size.to_le_bytes());
                }
            }
            Io::Space { .. } => return Err(Errno::EINVAL.into()),
            Io::Msg { mgrid: filesys::MGRID, subtype, data } => return self.ours(subtype, data, reply),
            Io::Msg { .. } | Io::Dup => return Err(Errno::ENOSYS.into()),
        }
        Ok(0)
    }

    /// What QNX's messages cannot say.
    fn ours(&self, subtype: u16, data: &[u8], reply: &mut Reply<'_>) -> Result<i64, Failure> {
        let Self { export, file, source, behind } = *self;
        let cancel = reply.cancel;
        if number::LOCKS.contains(&subtype) {
            let request = lock::Request::parse(subtype, data).map_err(bad_message)?;
            if let Some(holder) = file.locks().carry_out(file.fd(), &request)? {
                reply.put(&holder.emit());
            }
            return Ok(0);
        }
        if number::ATTRIBUTES.contains(&subtype) {
            let request = xattr::Request::parse(subtype, data, behind).map_err(bad_message)?;
            if request.changes() {
                file.may_change(export)?;
            }
            let mut data = Vec::new();
            let status =
                cancel.retry(|| crate::xattr::carry_out(file.fd(), file.place(), &request, &mut data))?;
            reply.put(&data);
            return Ok(status);
        }
        if number::SPECIAL.contains(&subtype) {
            let request = special::Request::parse(subtype, data).map_err(bad_message)?;
            return crate::special::events(file.fd(), &request);
        }
        match Filesys::parse(subtype, data).map_err(bad_message)? {
            Filesys::Times { atime, mtime } => cancel.retry(|| file.set_times(export, atime, mtime))?,
            Filesys::Allocate { mode, offset, len } => file.allocate(mode, offset, len, cancel)?,
            Filesys::Seek { what, offset } => {
                let found = cancel.retry(|| file.seek_for(what, offset))?;
                reply.put(&found.to_le_bytes());
            }
            Filesys::Copy { source_offset, offset, len, .. } => {
                let copy = CopyArgs { source_offset, offset, len };
                let copied = file.copy_from(source.ok_or(Errno::EBADF)?, &copy, cancel)?;
                return Ok(copied.cast_signed());
            }
            Filesys::Access { mask } => cancel.retry(|| file.access(export, mask))?,
            Filesys::Statvfs => {
                let statvfs = cancel.retry(|| file.statvfs())?;
                reply.put(&statvfs.to_bytes());
            }
            Filesys::Expect(identity) => cancel.retry(|| file.expect(&identity))?,
            Filesys::Entries(names) => {
                let entries = file.entries(&names, reply.left(), cancel)?;
                reply.put(&entries);
                return Ok(entries.len() as i64);
            }
            // these begin with a path, and stand alone
            Filesys::Rename { .. } | Filesys::Link { .. } => return Err(Errno::EINVAL.into()),
        }
        Ok(0)
    }
}

impl OnFile<'_> {
    /// `_IO_DEVCTL`: of terminals; every other device, and every other request, says ENOTTY.
    fn control(&self, dcmd: u32, data: &[u8], reply: &mut Reply<'_>) -> Result<i64, Failure> {
        let Ok(Some(request)) = terminal::Request::parse(dcmd, data) else {
            return Err(Errno::ENOTTY.into());
        };
        if request.changes() {
            self.file.may_change(self.export)?;
        }
        reply.put(&crate::special::control(self.file.fd(), &request)?);
        Ok(0)
    }
}

fn is_nonblocking(xtype: u32) -> bool {
    xtype & XTYPE_NONBLOCK != 0
}

fn extras(xtype: u32) -> Extras {
    match xtype & (XTYPE_DIR_EXTRA_HINT | XTYPE_DIR_ATTRIBUTES) {
        0 | XTYPE_DIR_ATTRIBUTES => Extras::None,
        XTYPE_DIR_EXTRA_HINT => Extras::Type,
        _ => Extras::Attributes,
    }
}

fn limit(file: &OpenFile, name: u16) -> Result<i64, Errno> {
    // its server would have to be asked
    if file.place() == Place::Network {
        return Err(Errno::ELOOP);
    }
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
