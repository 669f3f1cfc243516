//! A blocking client. Every call ends within the time given to [`Client::connect`], whatever the daemon does.
//!
//! Tools use one [`Client`] for one instance; which instances there are is [`Root::instances`]'s to say. After an
//! error other than [`ClientError::Refused`] the connection is of no more use.

use std::{
    io::{self, Read},
    os::{fd::BorrowedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{
    Command, Counters, ErrorReply, Interface, LineBuffer, Modules, Mounted, Outcome, Reply, Request, Root,
    Unmounted, Version, codec, sys,
};

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error("io-pkt is not running (nobody answers at {})", path.display())]
    NotRunning {
        /// The control socket tried.
        path: PathBuf,
    },
    /// Others listen, this instance does not.
    #[error("instance {instance} of io-pkt is not running; there is: {running}")]
    NoInstance {
        /// The instance asked for.
        instance: u32,
        /// Numbers of those that run below the same root.
        running: String,
    },
    /// The socket could not be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The control socket.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The daemon did not answer in time.
    #[error("{}: io-pkt did not answer within {waited:?}", path.display())]
    Timeout {
        /// The control socket.
        path: PathBuf,
        /// Time waited.
        waited: Duration,
    },
    /// The daemon ended or closed the connection.
    #[error("{}: io-pkt closed the connection", path.display())]
    Closed {
        /// The control socket.
        path: PathBuf,
    },
    /// The answer makes no sense to this client.
    #[error("{}: not understood: {what}", path.display())]
    Garbled {
        /// The control socket.
        path: PathBuf,
        /// What was wrong.
        what: String,
    },
    /// The daemon says no; its sentence names subject and cause.
    #[error("{0}")]
    Refused(ErrorReply),
}

/// A connection to one instance.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    timeout: Duration,
    lines: LineBuffer,
    next_id: u64,
}

impl Client {
    /// Connects to a control socket. `timeout` bounds each later call.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] when there is no such socket or nobody listens; otherwise the cause.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let stream = sys::connect_stream(path, timeout).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { path: path.into() }
            }
            io::ErrorKind::WouldBlock => ClientError::Timeout { path: path.into(), waited: timeout },
            _ => ClientError::Io { path: path.into(), source },
        })?;
        Ok(Self { stream, path: path.into(), timeout, lines: LineBuffer::default(), next_id: 1 })
    }

    /// Connects to instance `number` below `root`.
    ///
    /// # Errors
    /// As [`Client::connect`], and [`ClientError::NoInstance`].
    pub fn connect_instance(root: &Root, number: u32, timeout: Duration) -> Result<Self, ClientError> {
        let missing = match Self::connect(&root.control_socket(number), timeout) {
            Err(error @ ClientError::NotRunning { .. }) => error,
            other => return other,
        };
        let running: Vec<String> = root.instances().iter().map(|one| one.number.to_string()).collect();
        if running.is_empty() {
            return Err(missing);
        }
        Err(ClientError::NoInstance { instance: number, running: running.join(", ") })
    }

    /// Asks who is there.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for all calls below.
    pub fn ping(&mut self) -> Result<Version, ClientError> {
        self.call(Command::Ping, &[])
    }

    /// Mounts a module. With `file` the daemon loads that open file, which also works for paths that only this
    /// process can see; `module` then gives it its name.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the daemon's sentence; nothing is half-mounted then.
    pub fn mount(
        &mut self,
        module: &str,
        options: &str,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<Mounted, ClientError> {
        let command = Command::Mount { module: module.into(), options: options.into() };
        self.call(command, file.as_slice())
    }

    /// Takes a use away.
    ///
    /// # Errors
    /// [`ClientError::Refused`]: `ENOENT` for an unknown name, `EBUSY` for what cannot be unmounted.
    pub fn umount(&mut self, name: &str) -> Result<Unmounted, ClientError> {
        self.call(Command::Umount { name: name.into() }, &[])
    }

    /// Lists interfaces, or the one called `name`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `ENOENT` for an unknown name.
    pub fn interfaces(&mut self, name: Option<&str>) -> Result<Vec<Interface>, ClientError> {
        self.call(Command::Interfaces { name: name.map(str::to_owned) }, &[])
    }

    /// Lists threads, module builds and their uses.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn modules(&mut self) -> Result<Modules, ClientError> {
        self.call(Command::Modules, &[])
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn counters(&mut self) -> Result<Counters, ClientError> {
        self.call(Command::Counters, &[])
    }

    /// Reads a protocol's report.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `ENOENT` for an unknown protocol.
    pub fn report(&mut self, protocol: &str, topic: &str) -> Result<String, ClientError> {
        self.call(Command::Report { protocol: protocol.into(), topic: topic.into() }, &[])
    }

    /// Reads (`None`) or sets the log filter; returns the one in force.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `EINVAL` for a filter that cannot be read.
    pub fn log_level(&mut self, level: Option<&str>) -> Result<String, ClientError> {
        self.call(Command::LogLevel { level: level.map(str::to_owned) }, &[])
    }

    fn call<T: DeserializeOwned>(
        &mut self,
        command: Command,
        fds: &[BorrowedFd<'_>],
    ) -> Result<T, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let id = self.next_id;
        self.next_id += 1;
        let line = codec::encode(&Request::new(id, command)).map_err(|e| self.garbled(e))?;
        self.send(&line, fds, deadline)?;
        let reply = self.receive(deadline)?;
        if reply.id != id && reply.id != 0 {
            return Err(self.garbled(format!("reply {} to request {id}", reply.id)));
        }
        match reply.outcome {
            Outcome::Ok(value) => serde_json::from_value(value).map_err(|e| self.garbled(e)),
            Outcome::Error(error) => Err(ClientError::Refused(error)),
        }
    }

    fn send(&mut self, line: &[u8], fds: &[BorrowedFd<'_>], deadline: Instant) -> Result<(), ClientError> {
        let (mut rest, mut fds) = (line, fds);
        while !rest.is_empty() {
            let left = self.left(deadline)?;
            self.stream.set_write_timeout(Some(left)).map_err(|e| self.io(e))?;
            match sys::send_with_descriptors(&self.stream, rest, fds) {
                Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.io(e)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Reply, ClientError> {
        let mut room = [0; 16 * 1024];
        loop {
            match self.lines.next_line() {
                Ok(Some(line)) => {
                    let reply = serde_json::from_slice(line);
                    return reply.map_err(|e| self.garbled(e));
                }
                Ok(None) => {}
                Err(e) => return Err(self.garbled(e)),
            }
            let left = self.left(deadline)?;
            self.stream.set_read_timeout(Some(left)).map_err(|e| self.io(e))?;
            match self.stream.read(&mut room) {
                Ok(0) => return Err(ClientError::Closed { path: self.path.clone() }),
                Ok(n) => self.lines.push(&room[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.io(e)),
            }
        }
    }

    fn left(&self, deadline: Instant) -> Result<Duration, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ClientError::Timeout { path: self.path.clone(), waited: self.timeout });
        }
        Ok(left)
    }

    fn io(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ClientError::Timeout { path, waited: self.timeout }
            }
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Closed { path },
            _ => ClientError::Io { path, source },
        }
    }

    fn garbled(&self, what: impl ToString) -> ClientError {
        ClientError::Garbled { path: self.path.clone(), what: what.to_string() }
    }
}

#[cfg(test)]
mod tests;
