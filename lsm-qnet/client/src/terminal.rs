//! Terminals of other nodes: bytes, attributes, the window's size.
//!
//! Below `/net` a terminal is a file like others, and `ioctl` gives ENOTTY. Over a connection to its node it can be asked what
//! a local one is asked by `tcgetattr` and its kin. Reading waits at the node; a read that another thread no longer wants ends
//! with the connection.

use std::sync::Arc;

pub use qnet_iomsg::terminal::{Attributes, Size, command, speed_number};
use qnet_iomsg::{
    Io,
    flags::{IOFLAG_NOCTTY, IOFLAG_READ, IOFLAG_WRITE},
    terminal::{Request, parse_reply},
};

use crate::file::Open;
use crate::{Connection, Error};

/// Bytes of a DEVCTL's reply: its head and the largest structure.
const REPLY: usize = 128;
/// Most bytes of one message.
const LARGEST: usize = 64 * 1024;

/// A terminal that is open on a node. Dropping it closes it.
#[derive(Debug)]
pub struct Terminal {
    open: Open,
}

impl Terminal {
    /// Opens `path` for reading and writing over a connection to its node's server. It becomes nobody's controlling terminal.
    ///
    /// # Errors
    /// `ENOTTY`: not a terminal. What the node refuses with: `EACCES`, `ENOENT`, …
    pub fn open_on(server: &Arc<Connection>, path: &str) -> Result<Self, Error> {
        let open = Open::new(server, path, IOFLAG_READ | IOFLAG_WRITE | IOFLAG_NOCTTY, 0)?;
        let terminal = Self { open };
        terminal.ask(&Request::IsTerminal)?;
        Ok(terminal)
    }

    /// Waits for bytes; how many came. 0: the terminal hung up.
    ///
    /// # Errors
    /// As `read`; `EHOSTDOWN`: the node is gone.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Error> {
        let wanted = buffer.len().min(LARGEST);
        let message = Io::Read { nbytes: wanted as u32, xtype: 0, offset: None }.to_bytes();
        self.open.ask(&message, &mut buffer[..wanted]).map(|reply| reply.len)
    }

    /// Writes all bytes, however long the terminal takes.
    ///
    /// # Errors
    /// As `write`; `EHOSTDOWN`: the node is gone. Some bytes may have been written.
    pub fn write_all(&self, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            let piece = &data[..data.len().min(LARGEST)];
            let nbytes = piece.len() as u32;
            let message = Io::Write { nbytes, xtype: 0, offset: None, data: piece }.to_bytes();
            let status = self.open.ask(&message, &mut [])?.status;
            let written = usize::try_from(status).ok().filter(|n| (1..=piece.len()).contains(n));
            data = &data[written.ok_or(Error::Errno(libc::EIO))?..];
        }
        Ok(())
    }

    /// Its attributes.
    ///
    /// # Errors
    /// As `tcgetattr`.
    pub fn attributes(&self) -> Result<Attributes, Error> {
        Attributes::parse(&self.ask(&Request::Attributes)?).map_err(|_| Error::Errno(libc::EIO))
    }

    /// New attributes; `command` of [`command`] says when.
    ///
    /// # Errors
    /// As `tcsetattr`; `EACCES`: the node lets nobody change anything.
    pub fn set_attributes(&self, command: u16, attributes: &Attributes) -> Result<(), Error> {
        self.ask(&Request::SetAttributes { command, attributes: *attributes }).map(drop)
    }

    /// Size of its window.
    ///
    /// # Errors
    /// As `ioctl` with `TIOCGWINSZ`.
    pub fn size(&self) -> Result<Size, Error> {
        Size::parse(&self.ask(&Request::Size)?).map_err(|_| Error::Errno(libc::EIO))
    }

    /// A new size; those who use the terminal get `SIGWINCH`.
    ///
    /// # Errors
    /// As [`Self::set_attributes`].
    pub fn set_size(&self, size: Size) -> Result<(), Error> {
        self.ask(&Request::SetSize(size)).map(drop)
    }

    /// The data of a DEVCTL's reply.
    fn ask(&self, request: &Request) -> Result<Vec<u8>, Error> {
        let mut room = [0; REPLY];
        let reply = self.open.ask(&request.emit(), &mut room)?;
        let (_, data) = parse_reply(&room[..reply.len]).map_err(|_| Error::Errno(libc::EIO))?;
        Ok(data.to_vec())
    }
}
