//! Request bytes to a typed [`Request`].
//!
//! The kernel is trusted to mean well, not to be understood: a request that is too short, that lies about its length or
//! that comes from a newer protocol gives a typed error or [`Operation::Other`], never a panic. Where the header could
//! still be read the error carries `unique`, so that the caller is answered instead of waiting for ever.

mod locks;
#[cfg(test)]
mod tests;
mod xattrs;

use zerocopy::FromBytes;

use super::{
    abi::{
        AccessIn, BatchForgetIn, CopyFileRangeIn, CreateIn, FATTR_ATIME, FATTR_ATIME_NOW, FATTR_FH,
        FATTR_GID, FATTR_MODE, FATTR_MTIME, FATTR_MTIME_NOW, FATTR_SIZE, FATTR_UID, FUSE_FSYNC_FDATASYNC,
        FUSE_GETATTR_FH, FUSE_WRITE_CACHE, FallocateIn, FlushIn, ForgetIn, ForgetOne, FsyncIn, GetattrIn,
        InHeader, InterruptIn, LinkIn, LseekIn, MkdirIn, MknodIn, OpenIn, ReadIn, ReleaseIn, Rename2In,
        RenameIn, SetattrIn, WriteIn,
    },
    opcode::Opcode,
    operation::{Attributes, Forgets, Operation, SetTime},
};

/// Where the data of a WRITE begin in its request: what is before them is known then, and its room may be used for
/// something else.
pub const WRITE_DATA: usize = size_of::<InHeader>() + size_of::<WriteIn>();

/// One request of the kernel. Borrows names from the buffer it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asks, about which `nodeid`, and under which `unique` the answer is awaited.
    pub header: InHeader,
    /// What is asked.
    pub operation: Operation<'a>,
}

/// Why a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRequest {
    /// Not even a header: nothing can be answered.
    #[error("a FUSE request of {got} bytes is shorter than its {expected}-byte header")]
    NoHeader {
        /// Bytes read.
        got: usize,
        /// Bytes of a header.
        expected: usize,
    },
    /// `len` in the header is not the number of bytes read.
    #[error("FUSE request {unique} announces {announced} bytes and has {got}")]
    Length {
        /// Whom to answer.
        unique: u64,
        /// `len` of the header.
        announced: u32,
        /// Bytes read.
        got: usize,
    },
    /// The arguments are cut off.
    #[error("FUSE request {unique} ({opcode:?}) has {got} bytes of arguments, too few")]
    Arguments {
        /// Whom to answer.
        unique: u64,
        /// What was asked.
        opcode: Opcode,
        /// Bytes of arguments.
        got: usize,
    },
    /// A name is empty, not terminated or contains a slash.
    #[error("FUSE request {unique} ({opcode:?}) has no usable name")]
    Name {
        /// Whom to answer.
        unique: u64,
        /// What was asked.
        opcode: Opcode,
    },
}

impl MalformedRequest {
    /// The request to answer with an error, if its header could be read.
    pub const fn unique(self) -> Option<u64> {
        match self {
            Self::NoHeader { .. } => None,
            Self::Length { unique, .. } | Self::Arguments { unique, .. } | Self::Name { unique, .. } => {
                Some(unique)
            }
        }
    }
}

impl<'a> Request<'a> {
    /// Parses what one `read` of `/dev/fuse` returned.
    ///
    /// # Errors
    /// [`MalformedRequest`] for bytes that are not a request.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedRequest> {
        let Ok((header, body)) = InHeader::read_from_prefix(bytes) else {
            return Err(MalformedRequest::NoHeader { got: bytes.len(), expected: size_of::<InHeader>() });
        };
        if header.len as usize != bytes.len() {
            return Err(MalformedRequest::Length {
                unique: header.unique,
                announced: header.len,
                got: bytes.len(),
            });
        }
        let operation = match Opcode::from_number(header.opcode) {
            Some(opcode) => Arguments { unique: header.unique, opcode, body }.operation()?,
            None => Operation::Other(None),
        };
        Ok(Self { header, operation })
    }
}

/// The bytes behind a header, with what an error about them has to name.
struct Arguments<'a> {
    unique: u64,
    opcode: Opcode,
    body: &'a [u8],
}

impl<'a> Arguments<'a> {
    fn operation(&self) -> Result<Operation<'a>, MalformedRequest> {
        Ok(match self.opcode {
            Opcode::Init => Operation::Init { asked: self.head()? },
            Opcode::Destroy => Operation::Destroy,
            Opcode::Interrupt => Operation::Interrupt { unique: self.head::<InterruptIn>()?.unique },
            Opcode::Forget => Operation::Forget { nlookup: self.head::<ForgetIn>()?.nlookup },
            Opcode::BatchForget => Operation::BatchForget(self.forgets()?),
            Opcode::Getattr => {
                let args = self.head::<GetattrIn>()?;
                Operation::Getattr { fh: (args.getattr_flags & FUSE_GETATTR_FH != 0).then_some(args.fh) }
            }
            Opcode::Setattr => setattr(&self.head()?),
            Opcode::Readlink => Operation::Readlink,
            Opcode::Access => Operation::Access { mask: self.head::<AccessIn>()?.mask },
            Opcode::Statfs => Operation::Statfs,
            Opcode::Tmpfile => Operation::Tmpfile,
            Opcode::Lookup
            | Opcode::Create
            | Opcode::Mknod
            | Opcode::Mkdir
            | Opcode::Symlink
            | Opcode::Link
            | Opcode::Unlink
            | Opcode::Rmdir
            | Opcode::Rename
            | Opcode::Rename2 => self.on_names()?,
            Opcode::Setxattr | Opcode::Getxattr | Opcode::Listxattr | Opcode::Removexattr => {
                self.on_attributes()?
            }
            _ => self.on_open_file()?,
        })
    }

    /// Operations that take one or two names.
    fn on_names(&self) -> Result<Operation<'a>, MalformedRequest> {
        Ok(match self.opcode {
            Opcode::Create => {
                let (CreateIn { flags, mode, umask, .. }, rest) = self.split()?;
                Operation::Create { name: self.name(rest)?, flags, mode: mode & !(umask & 0o777) }
            }
            Opcode::Mknod => {
                let (MknodIn { mode, umask, .. }, rest) = self.split()?;
                Operation::Mknod { name: self.name(rest)?, mode: mode & !(umask & 0o777) }
            }
            Opcode::Mkdir => {
                let (MkdirIn { mode, umask }, rest) = self.split()?;
                Operation::Mkdir { name: self.name(rest)?, mode: mode & !(umask & 0o777) }
            }
            Opcode::Symlink => {
                let name = self.name(self.body)?;
                let target = self.text(self.body.get(name.len() + 1..).unwrap_or_default())?;
                Operation::Symlink { name, target }
            }
            Opcode::Link => {
                let (LinkIn { oldnodeid }, rest) = self.split()?;
                Operation::Link { from: oldnodeid, name: self.name(rest)? }
            }
            Opcode::Unlink => Operation::Unlink { name: self.name(self.body)? },
            Opcode::Rmdir => Operation::Rmdir { name: self.name(self.body)? },
            Opcode::Rename => {
                let (RenameIn { newdir }, rest) = self.split()?;
                self.rename(newdir, 0, rest)?
            }
            Opcode::Rename2 => {
                let (Rename2In { newdir, flags, .. }, rest) = self.split()?;
                self.rename(newdir, flags, rest)?
            }
            _ => Operation::Lookup { name: self.name(self.body)? },
        })
    }

    fn rename(
        &self,
        new_parent: u64,
        flags: u32,
        names: &'a [u8],
    ) -> Result<Operation<'a>, MalformedRequest> {
        let name = self.name(names)?;
        let new_name = self.name(names.get(name.len() + 1..).unwrap_or_default())?;
        Ok(Operation::Rename { name, new_parent, new_name, flags })
    }

    /// Operations on what is open, and those that nobody here needs.
    fn on_open_file(&self) -> Result<Operation<'a>, MalformedRequest> {
        Ok(match self.opcode {
            Opcode::Open => Operation::Open { flags: self.head::<OpenIn>()?.flags },
            Opcode::Opendir => Operation::Opendir,
            Opcode::Read => {
                let ReadIn { fh, offset, size, .. } = self.head()?;
                Operation::Read { fh, offset, size }
            }
            Opcode::Write => self.write()?,
            Opcode::Readdir | Opcode::Readdirplus => {
                let ReadIn { fh, offset, size, .. } = self.head()?;
                Operation::Readdir { fh, offset, size, plus: self.opcode == Opcode::Readdirplus }
            }
            Opcode::Release => Operation::Release { fh: self.head::<ReleaseIn>()?.fh },
            Opcode::Releasedir => Operation::Releasedir { fh: self.head::<ReleaseIn>()?.fh },
            Opcode::Flush => {
                let FlushIn { fh, lock_owner, .. } = self.head()?;
                Operation::Flush { fh, lock_owner }
            }
            Opcode::Fsync | Opcode::Fsyncdir => {
                let FsyncIn { fh, fsync_flags, .. } = self.head()?;
                Operation::Fsync { fh, data_only: fsync_flags & FUSE_FSYNC_FDATASYNC != 0 }
            }
            Opcode::Fallocate => {
                let FallocateIn { fh, offset, length, mode, .. } = self.head()?;
                Operation::Fallocate { fh, offset, length, mode }
            }
            Opcode::Lseek => {
                let LseekIn { fh, offset, whence, .. } = self.head()?;
                Operation::Lseek { fh, offset, whence }
            }
            Opcode::CopyFileRange => {
                let CopyFileRangeIn { fh_in, off_in, nodeid_out, fh_out, off_out, len, .. } = self.head()?;
                Operation::CopyFileRange {
                    from: fh_in,
                    from_offset: off_in,
                    to: fh_out,
                    to_nodeid: nodeid_out,
                    to_offset: off_out,
                    length: len,
                }
            }
            Opcode::Getlk | Opcode::Setlk | Opcode::Setlkw => self.on_locks()?,
            Opcode::Poll => self.poll()?,
            other => Operation::Other(Some(other)),
        })
    }

    /// The number of bytes is said twice; it has to be the same.
    fn write(&self) -> Result<Operation<'a>, MalformedRequest> {
        let (WriteIn { fh, offset, size, write_flags, flags, .. }, data) = self.split()?;
        if data.len() != size as usize {
            return Err(self.too_short());
        }
        let mapped = write_flags & FUSE_WRITE_CACHE != 0;
        let append = !mapped && flags.cast_signed() & libc::O_APPEND != 0;
        Ok(Operation::Write { fh, offset, append, mapped, data })
    }

    /// The fixed structure at the start of the arguments. Newer kernels may append to it.
    fn head<T: FromBytes>(&self) -> Result<T, MalformedRequest> {
        self.split().map(|(head, _)| head)
    }

    /// The fixed structure and what follows it.
    fn split<T: FromBytes>(&self) -> Result<(T, &'a [u8]), MalformedRequest> {
        T::read_from_prefix(self.body).map_err(|_| self.too_short())
    }

    /// The name at the start of `bytes`, its NUL excluded.
    fn name(&self, bytes: &'a [u8]) -> Result<&'a [u8], MalformedRequest> {
        match self.text(bytes)? {
            name if name.contains(&b'/') => Err(self.no_name()),
            name => Ok(name),
        }
    }

    /// The text at the start of `bytes`, its NUL excluded; there must be one.
    fn text(&self, bytes: &'a [u8]) -> Result<&'a [u8], MalformedRequest> {
        match bytes.iter().position(|byte| *byte == 0) {
            Some(end) if end > 0 => Ok(&bytes[..end]),
            _ => Err(self.no_name()),
        }
    }

    /// `count` entries; the count is believed only as far as there are bytes.
    fn forgets(&self) -> Result<Forgets<'a>, MalformedRequest> {
        let (head, rest) = BatchForgetIn::read_from_prefix(self.body).map_err(|_| self.too_short())?;
        let bytes = (head.count as usize).checked_mul(size_of::<ForgetOne>());
        bytes.and_then(|bytes| rest.get(..bytes)).map(Forgets).ok_or_else(|| self.too_short())
    }

    const fn no_name(&self) -> MalformedRequest {
        MalformedRequest::Name { unique: self.unique, opcode: self.opcode }
    }

    const fn too_short(&self) -> MalformedRequest {
        MalformedRequest::Arguments { unique: self.unique, opcode: self.opcode, got: self.body.len() }
    }
}

fn setattr(args: &SetattrIn) -> Operation<'static> {
    let is_set = |bit| args.valid & bit != 0;
    let time = |bit, now, seconds: u64, nanoseconds| match (is_set(bit), is_set(now)) {
        (false, _) => None,
        (true, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::To { seconds: seconds.cast_signed(), nanoseconds }),
    };
    Operation::Setattr {
        fh: is_set(FATTR_FH).then_some(args.fh),
        attributes: Attributes {
            mode: is_set(FATTR_MODE).then_some(args.mode & 0o7777),
            uid: is_set(FATTR_UID).then_some(args.uid),
            gid: is_set(FATTR_GID).then_some(args.gid),
            size: is_set(FATTR_SIZE).then_some(args.size),
            atime: time(FATTR_ATIME, FATTR_ATIME_NOW, args.atime, args.atimensec),
            mtime: time(FATTR_MTIME, FATTR_MTIME_NOW, args.mtime, args.mtimensec),
        },
    }
}
