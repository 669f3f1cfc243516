//! The client's side: attach, send, pulse, detach.

use std::{
    io::{IoSlice, IoSliceMut},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use qnet_ipc::{ClientPeer, ConnectError, MAX_DATA, PeerIdentity, Root, ToServer, packet};

use crate::{
    Error, LOCAL_NODE, iov,
    link::{ConnState, Link, State},
};

/// What a `MsgSend` brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The server's status.
    pub status: i64,
    /// Bytes in the reply buffers, up to the last one that the server wrote.
    pub len: usize,
}

/// How to send, where the usual way will not do.
#[derive(Clone, Copy, Debug)]
pub struct SendOptions {
    /// The caller's thread number, from 1.
    pub tid: i32,
    /// The caller's own number for the connection, which servers see.
    pub coid: i32,
    /// Priority of the message.
    pub priority: i32,
    /// When to give up: the server is told, and once it agrees the call ends with `ETIMEDOUT`.
    pub deadline: Option<Instant>,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self { tid: 1, coid: 0, priority: 10, deadline: None }
    }
}

/// A connection to a channel, shared freely between threads. Dropping it detaches.
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
        let through_qnet = nd != LOCAL_NODE || matches!((pid, chid), (0, 0) | (1, 1));
        let peer = if through_qnet {
            let path = root.qnet_socket();
            in_turn(|| qnet_ipc::connect_path(&path))?
        } else {
            let address = root.channel(pid, chid)?;
            in_turn(|| qnet_ipc::connect_channel(&address))?
        };
        let connection = Self::open(&Arc::new(Link::new(peer)), nd, pid, chid)?;
        if through_qnet {
            connection.wait_open()?;
        }
        Ok(connection)
    }

    /// Attaches to one more channel over the socket of this connection, which goes through `lsm-qnet`: a program that talks
    /// to a thousand nodes needs one socket.
    ///
    /// # Errors
    /// As [`Connection::attach`]; `EBADF` when the socket is gone.
    pub fn attach_beside(&self, nd: u32, pid: i32, chid: i32) -> Result<Self, Error> {
        let connection = Self::open(&self.link, nd, pid, chid)?;
        connection.wait_open()?;
        Ok(connection)
    }

    fn open(link: &Arc<Link>, nd: u32, pid: i32, chid: i32) -> Result<Self, Error> {
        let conn = {
            let mut state = link.lock();
            let conn = state.fresh_id();
            state.conns.insert(conn, ConnState::Opening);
            conn
        };
        link.send(&ToServer::Connect(packet::Connect { conn, nd, pid, chid, flags: 0, claim: None }))?;
        Ok(Self { link: Arc::clone(link), conn, to: (nd, pid, chid) })
    }

    fn wait_open(&self) -> Result<(), Error> {
        let answer = self.link.wait(None, |state| match state.conns.get(&self.conn) {
            Some(ConnState::Opening) => None,
            other => other.copied(),
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
    /// it serves the server's reads of the message from the caller's own buffers.
    ///
    /// # Errors
    /// The server's errno; `ESRCH` when it died meanwhile; `EBADF` when it was gone before; `ETIMEDOUT` after the
    /// deadline; `EMSGSIZE` above 4 GiB - 1.
    #[doc(alias = "MsgSendv")]
    pub fn send_vectored(
        &self,
        message: &[IoSlice<'_>],
        reply: &mut [IoSliceMut<'_>],
        options: SendOptions,
    ) -> Result<Reply, Error> {
        let too_long = |_| Error::Errno(libc::EMSGSIZE);
        let room: usize = reply.iter().map(|part| part.len()).sum();
        let srcmsglen = u32::try_from(iov::len(message)).map_err(too_long)?;
        let dstmsglen = u32::try_from(room).map_err(too_long)?;
        let (txn, limit) = {
            let mut state = self.link.lock();
            let limit = self.limit(&state)?;
            (state.begin(self.conn, room), limit)
        };
        let head = packet::Send {
            txn,
            conn: self.conn,
            tid: options.tid,
            coid: options.coid,
            priority: options.priority,
            srcmsglen,
            dstmsglen,
            ..packet::Send::default()
        };
        let first = iov::gather(message, 0, limit);
        let outcome =
            self.link.send(&ToServer::Send(head, &first)).and_then(|()| self.serve(txn, message, options));
        let mut state = self.link.lock();
        let bytes = state.txns.remove(&txn).map(|txn| txn.reply).unwrap_or_default();
        // A message on a connection that the server did not want.
        if let (Err(_), Some(ConnState::Refused { errno })) = (&outcome, state.conns.get(&self.conn)) {
            return Err(self.refused(*errno));
        }
        drop(state);
        Ok(Reply { status: outcome?, len: iov::scatter(&bytes, reply) })
    }

    /// Sends a pulse; does not wait for anything.
    ///
    /// # Errors
    /// `EBADF` when the connection is gone, `EAGAIN` when the server reads nothing.
    #[doc(alias = "MsgSendPulse")]
    pub fn pulse(&self, priority: i32, code: i8, value: u64) -> Result<(), Error> {
        let mut state = self.link.lock();
        self.limit(&state)?;
        let pulse = packet::Pulse { conn: self.conn, code, priority, value };
        if state.try_send(&ToServer::Pulse(pulse)) { Ok(()) } else { Err(Error::Errno(libc::EAGAIN)) }
    }

    /// The server's number for this client, once the server has told it.
    #[must_use]
    pub fn scoid(&self) -> Option<i32> {
        match self.link.lock().conns.get(&self.conn) {
            Some(ConnState::Open { scoid, .. }) => Some(*scoid),
            _ => None,
        }
    }

    /// Most bytes that may go with a send, if anything may be sent at all.
    fn limit(&self, state: &State) -> Result<usize, Error> {
        match state.conns.get(&self.conn) {
            _ if state.is_dead() => Err(Error::Errno(libc::EBADF)),
            Some(ConnState::Open { limit, .. }) => Ok((*limit as usize).min(MAX_DATA)),
            Some(ConnState::Opening) => Ok(MAX_DATA),
            Some(ConnState::Refused { errno }) => Err(self.refused(*errno)),
            Some(ConnState::Dead) | None => Err(Error::Errno(libc::EBADF)),
        }
    }

    fn refused(&self, errno: i32) -> Error {
        let (nd, pid, chid) = self.to;
        Error::Refused { nd, pid, chid, errno }
    }

    /// Answers the server's reads until the transaction ends.
    fn serve(&self, txn: u32, message: &[IoSlice<'_>], options: SendOptions) -> Result<i64, Error> {
        enum Step {
            Read(u32, u32),
            Done(Result<i64, i32>),
        }
        let (mut deadline, mut timed_out) = (options.deadline, false);
        loop {
            let step = self.link.wait(deadline, |state| {
                let txn = state.txns.get_mut(&txn)?;
                match txn.reads.pop_front() {
                    Some((offset, nbytes)) => Some(Step::Read(offset, nbytes)),
                    None => txn.done.map(Step::Done),
                }
            })?;
            match step {
                Some(Step::Read(offset, nbytes)) => {
                    let data = iov::gather(message, offset as usize, nbytes as usize);
                    self.link.send(&ToServer::ReadData { txn, offset, data: &data })?;
                }
                Some(Step::Done(Ok(status))) => return Ok(status),
                Some(Step::Done(Err(libc::EINTR))) if timed_out => return Err(Error::Errno(libc::ETIMEDOUT)),
                Some(Step::Done(Err(errno))) => return Err(Error::Errno(errno)),
                None => {
                    timed_out = true;
                    deadline = None;
                    self.link.send(&ToServer::Unblock { txn, tid: options.tid })?;
                }
            }
        }
    }
}

/// Connects. While more clients wait at the server's door than the kernel holds, it waits for its turn: there is no
/// event to wait for, so it asks again and again, ever more rarely, for some ten seconds.
fn in_turn(
    mut attempt: impl FnMut() -> Result<(ClientPeer, PeerIdentity), ConnectError>,
) -> Result<ClientPeer, ConnectError> {
    let mut pause = Duration::from_millis(1);
    loop {
        match attempt() {
            Ok((peer, _)) => return Ok(peer),
            Err(error) if error.errno() == libc::EAGAIN && pause < Duration::from_secs(8) => {
                thread::sleep(pause);
                pause *= 2;
            }
            Err(error) => return Err(error),
        }
    }
}

impl Drop for Connection {
    #[doc(alias = "ConnectDetach")]
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.conns.remove(&self.conn);
        state.try_send(&ToServer::Disconnect { conn: self.conn });
    }
}
