//! Request bytes to a typed [`Request`].
//!
//! The kernel is trusted to mean well, not to be understood: a request that is too short, that lies about its length or
//! that comes from a newer protocol gives a typed error or [`Operation::Other`], never a panic. Where the header could
//! still be read the error carries `unique`, so that the caller is answered instead of waiting for ever.

use zerocopy::FromBytes;

use super::{
    abi::{
        BatchForgetIn, FUSE_GETATTR_FH, ForgetIn, ForgetOne, GetattrIn, InHeader, InitIn, InterruptIn,
        OpenIn, ReadIn, ReleaseIn,
    },
    opcode::Opcode,
};

/// One request of the kernel. Borrows names from the buffer it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asks, about which `nodeid`, and under which `unique` the answer is awaited.
    pub header: InHeader,
    /// What is asked.
    pub operation: Operation<'a>,
}

/// What the kernel asks for, with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// First request of a mount: versions and abilities.
    Init(InitIn),
    /// Last request of a mount.
    Destroy,
    /// The request with this `unique` should end with EINTR. Has no reply of its own.
    Interrupt {
        /// `unique` of the request to end.
        unique: u64,
    },
    /// The kernel gives back `nlookup` references to the header's `nodeid`. Has no reply.
    Forget {
        /// References given back.
        nlookup: u64,
    },
    /// The same for many nodes. Has no reply.
    BatchForget(Forgets<'a>),
    /// Find a name in the directory `nodeid`.
    Lookup {
        /// One path component, without NUL.
        name: &'a [u8],
    },
    /// Remove the directory of that name in the directory `nodeid`.
    Rmdir {
        /// One path component, without NUL.
        name: &'a [u8],
    },
    /// Attributes of `nodeid`.
    Getattr {
        /// The open file they are wanted of, if any.
        fh: Option<u64>,
    },
    /// Target of the symbolic link `nodeid`.
    Readlink,
    /// Open the file `nodeid`.
    Open {
        /// Linux `open(2)` flags.
        flags: u32,
    },
    /// Open the directory `nodeid`.
    Opendir,
    /// Read from an open file.
    Read {
        /// From the reply to `Open`.
        fh: u64,
        /// Byte offset in the file.
        offset: u64,
        /// Largest number of bytes to return.
        size: u32,
    },
    /// Read entries of an open directory.
    Readdir {
        /// From the reply to `Opendir`.
        fh: u64,
        /// 0, or the `off` of the last entry the kernel has.
        offset: u64,
        /// Largest number of bytes to return.
        size: u32,
    },
    /// Last close of an open file.
    Release {
        /// From the reply to `Open`.
        fh: u64,
    },
    /// Last close of an open directory.
    Releasedir {
        /// From the reply to `Opendir`.
        fh: u64,
    },
    /// File system statistics.
    Statfs,
    /// An operation whose arguments nobody here needs; the caller answers by its opcode. `None` is one that this
    /// protocol version does not have.
    Other(Option<Opcode>),
}

/// The entries of a BATCH_FORGET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgets<'a>(&'a [u8]);

impl Iterator for Forgets<'_> {
    type Item = ForgetOne;

    fn next(&mut self) -> Option<ForgetOne> {
        let (one, rest) = ForgetOne::read_from_prefix(self.0).ok()?;
        self.0 = rest;
        Some(one)
    }
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
            Opcode::Init => Operation::Init(self.head()?),
            Opcode::Destroy => Operation::Destroy,
            Opcode::Interrupt => Operation::Interrupt { unique: self.head::<InterruptIn>()?.unique },
            Opcode::Forget => Operation::Forget { nlookup: self.head::<ForgetIn>()?.nlookup },
            Opcode::BatchForget => Operation::BatchForget(self.forgets()?),
            Opcode::Lookup => Operation::Lookup { name: self.name()? },
            Opcode::Rmdir => Operation::Rmdir { name: self.name()? },
            Opcode::Getattr => {
                let args = self.head::<GetattrIn>()?;
                Operation::Getattr { fh: (args.getattr_flags & FUSE_GETATTR_FH != 0).then_some(args.fh) }
            }
            Opcode::Readlink => Operation::Readlink,
            Opcode::Open => Operation::Open { flags: self.head::<OpenIn>()?.flags },
            Opcode::Opendir => Operation::Opendir,
            Opcode::Read => {
                let ReadIn { fh, offset, size, .. } = self.head()?;
                Operation::Read { fh, offset, size }
            }
            Opcode::Readdir => {
                let ReadIn { fh, offset, size, .. } = self.head()?;
                Operation::Readdir { fh, offset, size }
            }
            Opcode::Release => Operation::Release { fh: self.head::<ReleaseIn>()?.fh },
            Opcode::Releasedir => Operation::Releasedir { fh: self.head::<ReleaseIn>()?.fh },
            Opcode::Statfs => Operation::Statfs,
            other => Operation::Other(Some(other)),
        })
    }

    /// The fixed structure at the start of the arguments. Newer kernels may append to it.
    fn head<T: FromBytes>(&self) -> Result<T, MalformedRequest> {
        T::read_from_prefix(self.body).map(|(head, _)| head).map_err(|_| self.too_short())
    }

    /// A name that takes all of the arguments, its NUL excluded.
    fn name(&self) -> Result<&'a [u8], MalformedRequest> {
        let end = self.body.iter().position(|byte| *byte == 0);
        match end.map(|end| &self.body[..end]) {
            Some(name) if !name.is_empty() && !name.contains(&b'/') => Ok(name),
            _ => Err(MalformedRequest::Name { unique: self.unique, opcode: self.opcode }),
        }
    }

    /// `count` entries; the count is believed only as far as there are bytes.
    fn forgets(&self) -> Result<Forgets<'a>, MalformedRequest> {
        let (head, rest) = BatchForgetIn::read_from_prefix(self.body).map_err(|_| self.too_short())?;
        let bytes = (head.count as usize).checked_mul(size_of::<ForgetOne>());
        bytes.and_then(|bytes| rest.get(..bytes)).map(Forgets).ok_or_else(|| self.too_short())
    }

    const fn too_short(&self) -> MalformedRequest {
        MalformedRequest::Arguments { unique: self.unique, opcode: self.opcode, got: self.body.len() }
    }
}
