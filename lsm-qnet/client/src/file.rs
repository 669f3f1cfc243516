//! A file of a node, read with messages alone: for programs where no network directory is mounted.
//!
//! ```text
//!  File::open   _IO_CONNECT   to the node's process manager (process 1, channel 1)
//!  read         _IO_READ      at the reader's position
//!  drop         _IO_CLOSE
//! ```
//!
//! The node decides, under the identity that it maps the caller to, as it does for callers that come through `/net`.

use std::io::{self, Read};

use qnet_iomsg::{
    Connect, Io,
    flags::{IOFLAG_LARGEFILE, IOFLAG_READ},
};

use crate::{Connection, Error, Root};

/// Most bytes asked for at once; a server may give fewer.
const LARGEST: usize = 64 * 1024;
/// In the status of an open: the path belongs to another process, which only QNX's own nodes have.
const REDIRECTED: i64 = 0x8000_0000;

/// A file that is open for reading, over a connection of its own. Dropping it closes it.
#[derive(Debug)]
pub struct File {
    connection: Connection,
    position: u64,
}

impl File {
    /// Opens `path`, which counts from the root directory of node `nd`; 0 is this node.
    ///
    /// # Errors
    /// What [`Connection::attach`] and the node refuse with: `ENOENT`, `EACCES`, … `EOPNOTSUPP` for a path that a
    /// resource manager of a QNX node keeps.
    pub fn open(root: &Root, nd: u32, path: &str) -> Result<Self, Error> {
        let connection = Connection::attach(root, nd, 1, 1)?;
        let open = Connect::open(path.trim_start_matches('/').as_bytes(), IOFLAG_READ | IOFLAG_LARGEFILE, 0);
        let message = open.emit().map_err(|error| Error::Errno(error.linux_errno()))?;
        let reply = connection.send(&message, &mut [0; 1024])?;
        if reply.status & REDIRECTED != 0 {
            return Err(Error::Errno(libc::EOPNOTSUPP));
        }
        Ok(Self { connection, position: 0 })
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(LARGEST);
        let message = Io::Read { nbytes: wanted as u32, xtype: 0, offset: Some(self.position) }.to_bytes();
        let reply = self
            .connection
            .send(&message, &mut buffer[..wanted])
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        self.position += reply.len as u64;
        Ok(reply.len)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A node that is gone has closed it already.
        let _ = self.connection.send(&Io::Close.to_bytes(), &mut []);
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
