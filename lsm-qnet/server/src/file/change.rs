//! Changing a file's attributes, and asking what may be done with it.
//!
//! All of it works on a file that was opened for neither reading nor writing, too; the kernel asks who the caller is.

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, Gid, Uid, faccessat, fchownat};
use qnet_iomsg::filesys::{SetTime, Statvfs, access};

use super::OpenFile;
use crate::export::Export;
use crate::resolve::Place;

/// Permissions, without the file's type.
const PERMISSIONS: u32 = 0o7777;

impl OpenFile {
    /// Sets permissions.
    ///
    /// # Errors
    /// Those of `chmod`, EOPNOTSUPP for a symbolic link; what who may not change the file is told.
    pub fn set_mode(&self, export: &Export, mode: u32) -> Result<(), Errno> {
        self.may_change(export)?;
        let (directory, number) = export.by_number(self.fd());
        let mode = Mode::from_bits_truncate(mode & PERMISSIONS);
        // the name in /proc leads to the file itself: a symbolic link is not followed any further
        fchmodat(directory, number.as_str(), mode, FchmodatFlags::FollowSymlink)
    }

    /// Sets owner and group; `u32::MAX` leaves one as it is.
    ///
    /// # Errors
    /// Those of `chown`; what who may not change the file is told.
    pub fn set_owner(&self, export: &Export, uid: u32, gid: u32) -> Result<(), Errno> {
        self.may_change(export)?;
        let id = |id: u32| (id != u32::MAX).then_some(id);
        fchownat(
            self.fd(),
            c"",
            id(uid).map(Uid::from_raw),
            id(gid).map(Gid::from_raw),
            AtFlags::AT_EMPTY_PATH,
        )
    }

    /// Sets both times.
    ///
    /// # Errors
    /// Those of `utimensat`; what who may not change the file is told.
    pub fn set_times(&self, export: &Export, atime: SetTime, mtime: SetTime) -> Result<(), Errno> {
        self.may_change(export)?;
        let time = |time| match time {
            SetTime::Omit => TimeSpec::UTIME_OMIT,
            SetTime::Now => TimeSpec::UTIME_NOW,
            SetTime::At(at) => TimeSpec::new(at.seconds, at.nanoseconds.into()),
        };
        let (directory, number) = export.by_number(self.fd());
        let follow = UtimensatFlags::FollowSymlink;
        utimensat(directory, number.as_str(), &time(atime), &time(mtime), follow)
    }

    /// Whether the caller may do what `mask` says, of [`access`].
    ///
    /// # Errors
    /// EACCES: not; EROFS: nobody may write there. Those of `access`.
    pub fn access(&self, export: &Export, mask: u32) -> Result<(), Errno> {
        // closed to everybody, whatever its permissions say
        let inside = access::READ | access::WRITE | access::EXECUTE;
        if self.place() == Place::OwnProcess && mask & inside != 0 {
            return Err(Errno::EACCES);
        }
        if mask & access::WRITE != 0 {
            self.may_change(export)?;
        }
        if self.place() == Place::Network {
            return if mask & access::EXECUTE == 0 { Ok(()) } else { Err(Errno::ELOOP) };
        }
        let mode = AccessFlags::from_bits_truncate(mask.cast_signed());
        faccessat(self.fd(), c"", mode, AtFlags::AT_EACCESS | AtFlags::AT_EMPTY_PATH)
    }

    /// The figures of the file system.
    ///
    /// # Errors
    /// Those of `fstatfs`.
    pub fn statvfs(&self) -> Result<Statvfs, Errno> {
        // its server could wait for this very request
        if self.place() == Place::Network {
            return Ok(Statvfs { flags: Statvfs::READ_ONLY, ..Statvfs::default() });
        }
        let found = fstatvfs(self.fd())?;
        let read_only = self.refusal.is_some() || found.flags().contains(FsFlags::ST_RDONLY);
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Statvfs {
            blocks: found.blocks(),
            free: found.blocks_free(),
            available: found.blocks_available(),
            files: found.files(),
            free_files: found.files_free(),
            block: small(found.block_size()),
            fragment: small(found.fragment_size()),
            name_max: small(found.name_max()),
            flags: if read_only { Statvfs::READ_ONLY } else { 0 },
        })
    }
}
