//! The client's side: attach, send, pulse, detach.

use std::{
    io::{IoSlice, IoSliceMut},
    sync::Arc,
    time::{Duration, Instant},
};

use qnet_ipc::{Root, ToServer, packet};

use crate::{
    Error, Event, LOCAL_NODE, ServerInfo,
    link::{Call, ConnState, Link},
    thread::{self, Timeout},
    watch,
};

/// `_NTO_COF_DEAD`: the server behind the connection is gone.
const COF_DEAD: u32 = 0x2;
/// `_NTO_COF_NETCON`: the connection goes to another node.
const COF_NETCON: u32 = 0x80;

/// How long a call that does not wait may wait for a server that is behind by all that a socket holds: what is in the
/// socket survives the end of this process, and what waits in its memory does not.
const DRAIN: Duration = Duration::from_millis(200);

/// What a `MsgSend` brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The server's status.
    pub status: i64,
    /// Bytes in the reply buffers, up to the last one that the server wrote.
    pub len: usize,
}

/// How to send, where the usual way will not do.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendOptions {
    /// The caller's thread number, from 1; 0: the library's number for the calling thread.
    pub tid: i32,
    /// The caller's own number for the connection, which servers see.
    pub coid: i32,
    /// Priority of the message; 0: that of the calling thread.
    pub priority: i32,
    /// When to give up with `ETIMEDOUT`. A server that has received the message and asked for it
    /// ([`crate::ChannelFlags::UNBLOCK`]) is told, and decides.
    pub deadline: Option<Instant>,
    /// Whether a signal handler that ran ends the call with `EINTR`, under the same rule; otherwise it goes on.
    pub interruptible: bool,
    /// `MsgKeyData` key, which the server sees.
    pub keydata: u32,
}

/// A connection to a channel, shared freely between threads. Dropping it detaches.
///
/// All connections of a process to one channel share one socket, and those through `lsm-qnet` another.
#[doc(alias = "ConnectAttach")]
#[derive(Debug)]
pub struct Connection {
    link: Arc<Link>,
    conn: u32,
    to: (u32, i32, i32),
}

impl Connection {
    /// Attaches to channel `chid` of process `pid` on node `nd` (0, or this node's own number, is the own node).
    ///
    /// A channel of another node, the network manager (0, 0, 0) and the node's server (0, 1, 1) are reached through
    /// `lsm-qnet`; a local channel directly, and without waiting for its server, which may be busy: what it refuses
    /// shows up in the first send.
    ///
    /// # Errors
    /// `ESRCH`: no such process or channel. `EHOSTUNREACH`, `EHOSTDOWN`: no way to the node. Whatever a channel of
    /// another node refuses with.
    #[doc(alias = "ConnectAttach")]
    pub fn attach(root: &Root, nd: u32, pid: i32, chid: i32) -> Result<Self, Error> {
        let connection = Self::open(&link_to(root, nd, pid, chid)?, nd, pid, chid, 0)?;
        if connection.link.is_through_qnet() {
            connection.wait_open()?;
        }
        Ok(connection)
    }

    /// Attaches as [`Connection::attach`], without asking a channel of another node: whether the node and the channel are
    /// there shows in the first send (QNX's rule).
    ///
    /// # Errors
    /// As [`Connection::attach`] for channels of this node; for others `EHOSTUNREACH` when this node runs no Qnet.
    pub fn attach_lazy(root: &Root, nd: u32, pid: i32, chid: i32) -> Result<Self, Error> {
        if nd == LOCAL_NODE {
            return Self::attach(root, nd, pid, chid);
        }
        Self::open(&link_to(root, nd, pid, chid)?, nd, pid, chid, packet::LAZY)
    }

    /// Attaches to one more channel over the socket of this connection, which goes through `lsm-qnet`: a program that talks
    /// to a thousand nodes needs one socket.
    ///
    /// # Errors
    /// As [`Connection::attach`]; `EBADF` when the socket is gone.
    pub fn attach_beside(&self, nd: u32, pid: i32, chid: i32) -> Result<Self, Error> {
        let connection = Self::open(&self.link, nd, pid, chid, 0)?;
        connection.wait_open()?;
        Ok(connection)
    }

    fn open(link: &Arc<Link>, nd: u32, pid: i32, chid: i32, flags: u32) -> Result<Self, Error> {
        let conn = {
            let mut state = link.lock();
            let conn = state.fresh_id();
            state.conns.insert(conn, ConnState::Opening);
            conn
        };
        let connection = Self { link: Arc::clone(link), conn, to: (nd, pid, chid) };
        let connect = packet::Connect { conn, nd, pid, chid, flags, claim: None };
        link.send(&ToServer::Connect(connect)).map_err(|_| Error::Errno(libc::ESRCH))?;
        Ok(connection)
    }

    fn wait_open(&self) -> Result<(), Error> {
        let answer = self.link.wait(self.conn, |state| match state.conns.get(&self.conn) {
            Some(ConnState::Opening) => None,
            other => Some(other.copied()),
        })?;
        match answer {
            Some(ConnState::Refused { errno }) => Err(self.refused(errno)),
            Some(ConnState::Open { .. }) => Ok(()),
            _ => Err(Error::Errno(libc::ESRCH)),
        }
    }

    /// Sends a message and waits for the reply.
    ///
    /// # Errors
    /// As [`Connection::send_vectored`].
    #[doc(alias = "MsgSend")]
    pub fn send(&self, message: &[u8], reply: &mut [u8]) -> Result<Reply, Error> {
        self.send_vectored(&[IoSlice::new(message)], &mut [IoSliceMut::new(reply)], SendOptions::default())
    }

    /// Sends a message gathered from several buffers; the reply is spread over several buffers. While the call waits
    /// it serves the server's reads of the message from the caller's own buffers, and puts what the server writes straight
    /// into those for the reply.
    ///
    /// # Errors
    /// The server's errno; `ESRCH` when it died meanwhile; `EBADF` when it was gone before; `ETIMEDOUT` after the
    /// deadline; `EINTR` after a signal, if the options say so; `EMSGSIZE` above 4 GiB - 1.
    #[doc(alias = "MsgSendv")]
    #[doc(alias = "MsgSendsv")]
    #[doc(alias = "MsgSendvs")]
    pub fn send_vectored(
        &self,
        message: &[IoSlice<'_>],
        reply: &mut [IoSliceMut<'_>],
        options: SendOptions,
    ) -> Result<Reply, Error> {
        let timeout = options.deadline.map(|deadline| Timeout {
            states: thread::state::SEND | thread::state::REPLY,
            deadline,
            length: deadline.saturating_duration_since(Instant::now()),
            event: Event::Unblock,
        });
        self.call(message, reply, options, timeout)
    }

    /// Sends with a timeout of QNX's kind.
    pub(crate) fn call(
        &self,
        message: &[IoSlice<'_>],
        reply: &mut [IoSliceMut<'_>],
        options: SendOptions,
        timeout: Option<Timeout>,
    ) -> Result<Reply, Error> {
        self.check()?;
        let call = Call {
            conn: self.conn,
            message,
            tid: if options.tid == 0 { thread::number() } else { options.tid },
            coid: options.coid,
            priority: if options.priority == 0 { thread::priority() } else { options.priority },
            keydata: options.keydata,
            timeout,
            interruptible: options.interruptible,
        };
        self.link.call(&call, reply).map_err(|error| match error {
            Error::Errno(errno) if self.was_refused(errno) => self.refused(errno),
            error => error,
        })
    }

    /// Sends a pulse; does not wait for anything.
    ///
    /// # Errors
    /// `EBADF` when the connection is gone, `EAGAIN` when a mebibyte waits because the server reads nothing.
    #[doc(alias = "MsgSendPulse")]
    #[doc(alias = "MsgSendPulsePtr")]
    pub fn pulse(&self, priority: i32, code: i8, value: u64) -> Result<(), Error> {
        self.check()?;
        let mut state = self.link.lock();
        state.limit(self.conn).map_err(Error::Errno)?;
        let pulse = packet::Pulse { conn: self.conn, code, priority, value };
        let sent = state.send(&ToServer::Pulse(pulse));
        drop(state);
        self.see_off();
        match sent {
            Ok(()) => Ok(()),
            Err(error) if !error.is_fatal() => Err(Error::Errno(libc::EAGAIN)),
            Err(_) => {
                // Those who expect to hear of a server's end do so, too.
                self.link.look();
                Err(Error::Errno(libc::EBADF))
            }
        }
    }

    /// The server's number for this client, once the server has told it.
    #[must_use]
    pub fn scoid(&self) -> Option<i32> {
        match self.link.lock().conns.get(&self.conn) {
            Some(ConnState::Open { scoid, .. }) => Some(*scoid),
            _ => None,
        }
    }

    /// Where it leads; `coid` and flags of its own are for whoever numbers connections.
    #[must_use]
    #[doc(alias = "ConnectServerInfo")]
    pub fn server_info(&self) -> ServerInfo {
        self.link.look();
        let (nd, pid, chid) = self.to;
        let dead = if self.link.lock().limit(self.conn).is_err() { COF_DEAD } else { 0 };
        let net = if nd == LOCAL_NODE { 0 } else { COF_NETCON };
        ServerInfo { nd, pid, chid, scoid: self.scoid(), coid: 0, flags: dead | net }
    }

    #[cfg(test)]
    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// Whether it goes over that link, and is that one of it.
    pub(crate) fn is_on(&self, link: &Link, conn: Option<u32>) -> bool {
        std::ptr::eq(&*self.link, link) && conn.is_none_or(|conn| conn == self.conn)
    }

    /// Nobody waits for what was just sent: it goes out in a moment, or when the server has room for it.
    fn see_off(&self) {
        if !self.link.drain(DRAIN) {
            watch::flush_later(&self.link);
        }
    }

    /// A child of the process that attached has no connection.
    fn check(&self) -> Result<(), Error> {
        if self.link.is_ours() { Ok(()) } else { Err(Error::Errno(libc::EBADF)) }
    }

    fn was_refused(&self, with: i32) -> bool {
        matches!(self.link.lock().conns.get(&self.conn), Some(ConnState::Refused { errno }) if *errno == with)
    }

    fn refused(&self, errno: i32) -> Error {
        let (nd, pid, chid) = self.to;
        Error::Refused { nd, pid, chid, errno }
    }
}

impl Drop for Connection {
    #[doc(alias = "ConnectDetach")]
    fn drop(&mut self) {
        if !self.link.is_ours() {
            return;
        }
        let mut state = self.link.lock();
        state.conns.remove(&self.conn);
        // A server that is gone has forgotten it already.
        let _gone = state.send(&ToServer::Disconnect { conn: self.conn });
        drop(state);
        self.see_off();
    }
}

/// The link to a channel. Without Qnet no other node is reached.
fn link_to(root: &Root, nd: u32, pid: i32, chid: i32) -> Result<Arc<Link>, Error> {
    Link::to(root, nd, pid, chid).map_err(|error| match error.errno() {
        libc::ESRCH if nd != LOCAL_NODE => Error::Errno(libc::EHOSTUNREACH),
        _ => error,
    })
}
