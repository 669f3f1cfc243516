//! Files and directories of a node, read with messages alone: for programs where no network directory is mounted.
//!
//! ```text
//!  open          _IO_CONNECT   to the node's process manager (process 1, channel 1)
//!  read, entries _IO_READ      at the reader's position
//!  drop          _IO_CLOSE
//! ```
//!
//! The node decides, under the identity that it maps the caller to, as it does for callers that come through `/net`.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use qnet_iomsg::{
    Connect, Dirents, Io,
    connect::EFLAG_DIR,
    flags::{IOFLAG_LARGEFILE, IOFLAG_READ},
    message::XTYPE_DIR_EXTRA_HINT,
};

use crate::{Connection, Error, Reply, Root, SendOptions};

/// Most bytes asked for at once; a server may give fewer.
const LARGEST: usize = 64 * 1024;
/// In the status of an open: the path belongs to another process, which only QNX's own nodes have.
const REDIRECTED: i64 = 0x8000_0000;

/// Servers tell the open files of one connection apart by these numbers.
static LAST_COID: AtomicI32 = AtomicI32::new(0);

/// Something that is open on a node. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Open {
    connection: Arc<Connection>,
    coid: i32,
}

impl Open {
    /// Opens `path` with `ioflag`, which LARGEFILE is added to.
    pub(crate) fn new(
        connection: &Arc<Connection>,
        path: &str,
        ioflag: u32,
        eflag: u8,
    ) -> Result<Self, Error> {
        let coid = LAST_COID.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
        let path = path.trim_start_matches('/').as_bytes();
        let open = Connect::open(path, ioflag | IOFLAG_LARGEFILE, 0);
        let message = Connect { eflag, ..open }.emit().map_err(|error| Error::Errno(error.linux_errno()))?;
        let reply = send(connection, coid, &message, &mut [0; 1024])?;
        if reply.status & REDIRECTED != 0 {
            return Err(Error::Errno(libc::EOPNOTSUPP));
        }
        Ok(Self { connection: Arc::clone(connection), coid })
    }

    /// Sends a message about the open file.
    pub(crate) fn ask(&self, message: &[u8], reply: &mut [u8]) -> Result<Reply, Error> {
        send(&self.connection, self.coid, message, reply)
    }

    fn read(&self, position: u64, xtype: u32, buffer: &mut [u8]) -> Result<Reply, Error> {
        let message = Io::Read { nbytes: buffer.len() as u32, xtype, offset: Some(position) }.to_bytes();
        self.ask(&message, buffer)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A node that is gone has closed it already.
        let _ = self.ask(&Io::Close.to_bytes(), &mut []);
    }
}

fn send(connection: &Connection, coid: i32, message: &[u8], reply: &mut [u8]) -> Result<Reply, Error> {
    let options = SendOptions { coid, ..SendOptions::default() };
    connection.send_vectored(&[IoSlice::new(message)], &mut [IoSliceMut::new(reply)], options)
}

/// A file that is open for reading. Dropping it closes it.
#[derive(Debug)]
pub struct File {
    open: Open,
    position: u64,
}

impl File {
    /// Opens `path`, which counts from the root directory of node `nd`; 0 is this node.
    ///
    /// # Errors
    /// What [`Connection::attach`] and the node refuse with: `ENOENT`, `EACCES`, … `EOPNOTSUPP` for a path that a
    /// resource manager of a QNX node keeps.
    pub fn open(root: &Root, nd: u32, path: &str) -> Result<Self, Error> {
        Self::open_on(&Arc::new(Connection::attach(root, nd, 1, 1)?), path)
    }

    /// Opens `path` over a connection to a node's server, which any number of files may share.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn open_on(server: &Arc<Connection>, path: &str) -> Result<Self, Error> {
        Ok(Self { open: Open::new(server, path, IOFLAG_READ, 0)?, position: 0 })
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(LARGEST);
        let reply = self.open.read(self.position, 0, &mut buffer[..wanted]);
        let reply = reply.map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        self.position += reply.len as u64;
        Ok(reply.len)
    }
}

/// The names in the directory `path` of the node behind `server`, without `.` and `..`.
///
/// # Errors
/// As [`File::open`]; `ENOTDIR`; `EIO` when what came is no directory.
pub fn entries(server: &Arc<Connection>, path: &str) -> Result<Vec<Vec<u8>>, Error> {
    let open = Open::new(server, path, IOFLAG_READ, EFLAG_DIR)?;
    let (mut names, mut position, mut buffer) = (Vec::new(), 0, vec![0; LARGEST]);
    loop {
        let reply = open.read(position, XTYPE_DIR_EXTRA_HINT, &mut buffer)?;
        if reply.len == 0 {
            return Ok(names);
        }
        let before = position;
        for entry in Dirents::new(&buffer[..reply.len]) {
            let entry = entry.map_err(|_| Error::Errno(libc::EIO))?;
            position = entry.next;
            if !matches!(entry.name, b"." | b"..") {
                names.push(entry.name.to_vec());
            }
        }
        // A server that does not move on would be asked for ever.
        if position == before {
            return Err(Error::Errno(libc::EIO));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_qnet_opening_is_an_error() {
        let directory = tempfile::tempdir().expect("a folder");
        let root = Root::at(directory.path()).expect("a root");
        let error = File::open(&root, 0, "/etc/hostname").expect_err("nobody carries it");
        assert_eq!(error.errno(), libc::ESRCH);
    }
}
