//! Helper processes. The host starts them beside the modules, watches them, and ends them with the daemon.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_pkt_abi::{Bytes, SpawnSpec};

use crate::{Error, Host};

/// A helper program to start.
#[derive(Debug)]
pub struct HelperSpec<'a> {
    program: &'a str,
    token: u64,
    args: Vec<String>,
    fds: Vec<BorrowedFd<'a>>,
}

impl<'a> HelperSpec<'a> {
    /// `program` is a file name without a slash; `poll` hears of its end with `token`.
    #[must_use]
    pub fn new(program: &'a str, token: u64) -> Self {
        Self { program, token, args: Vec::new(), fds: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a descriptor, which the child gets as the next number from 3 on. It stays the module's own.
    #[must_use]
    pub fn fd(mut self, fd: &'a impl AsFd) -> Self {
        self.fds.push(fd.as_fd());
        self
    }
}

/// A helper that was started. Dropping it does not end the process.
#[derive(Debug)]
pub struct Helper {
    host: Host,
    handle: i64,
}

impl Host {
    /// Starts a helper.
    ///
    /// # Errors
    /// `ENOENT` when no such program lies beside the modules, or what the system says.
    pub fn spawn(&self, spec: &HelperSpec<'_>) -> Result<Helper, Error> {
        let args: Vec<Bytes> = spec.args.iter().map(|arg| Bytes::borrow(arg.as_bytes())).collect();
        let fds: Vec<i32> = spec.fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let handle = self.spawn_raw(&SpawnSpec {
            size: size_of::<SpawnSpec>() as u32,
            n_args: args.len() as u32,
            program: Bytes::borrow(spec.program.as_bytes()),
            args: args.as_ptr(),
            token: spec.token,
            fds: fds.as_ptr(),
            n_fds: fds.len() as u32,
            reserved: 0,
        });
        if handle < 0 {
            return Err(Error::from_code(format_args!("cannot start {}", spec.program), handle));
        }
        Ok(Helper { host: self.clone(), handle })
    }
}

impl Helper {
    /// Sends a signal (`libc::SIGTERM`).
    ///
    /// # Errors
    /// `ESRCH` when it has ended.
    pub fn kill(&self, signal: i32) -> Result<(), Error> {
        match self.host.kill_raw(self.handle, signal) {
            code if code < 0 => Err(Error::from_code("cannot signal the helper", code.into())),
            _ => Ok(()),
        }
    }
}
