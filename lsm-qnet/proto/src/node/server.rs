//! The kernel interface where channels are: connections asked for, messages received, replies.
//!
//! ```text
//!   CONNECT ──► Asked ── Accept ──► Open ── DISCONNECT, ConnectDeath, session's end ──► gone
//!   MSGSEND ──► received ── Read, Write any number of times ── Reply, Error ──► gone
//! ```

use std::rc::Rc;

use crate::command::{Errno, PulseInfo, Rcv, ServerId};
use crate::event::{Data, Event, NodeId};
use crate::session::message::Message;
use crate::session::order::{Class, GateKey};
use crate::session::ranges::Ranges;
use crate::sink::Outlet;
use crate::source::{Body, Source};
use crate::time::Instant;
use crate::wire::Order;
use crate::wire::kif::{self, ClientInfo, Connect, Kif, MsgSend, Xfer};

use super::tables::{First, Reading, Received, Server, ServerState};
use super::{CommandError, Node};

/// Pieces, apart from each other, that a read may be answered in; a node of ours sends few, in order.
const MAX_CRUMBS: usize = 4096;

/// Bytes of one peer's messages that came with connections nobody has accepted yet; beyond: `EAGAIN`.
const MAX_EARLY: usize = 1 << 20;

impl Node {
    // ---- what the client's node says ----

    pub(super) fn on_connect(
        &mut self,
        now: Instant,
        nd: u16,
        connect: Connect,
        first: Option<First>,
        order: Order,
    ) {
        let client_id = connect.client_id;
        let share = self.servers.share(nd);
        let bytes = if let Some(First::Send(_, data)) = &first { data.len() } else { 0 };
        let full = share.connections >= self.config.limits.connections_per_peer
            || share.early_bytes + bytes > MAX_EARLY;
        let server = Server {
            nd,
            qos: self.answer_qos,
            client_id,
            last_handle: 0,
            state: ServerState::Asked { first },
            received: Default::default(),
        };
        let number = if full { None } else { self.servers.add(server) };
        let Some(number) = number else {
            return self.refuse_connect(now, nd, client_id, Errno::EAGAIN);
        };
        let nd = NodeId(nd.into());
        let cred = connect.cred.map(|mut cred| {
            cred.nd = nd.0; // what the client's node calls itself means nothing here
            cred
        });
        self.event(Event::Connect {
            server: ServerId(number),
            nd,
            pid: connect.server_pid,
            chid: connect.server_chid,
            client_pid: connect.client_pid,
            cred,
            big_endian: order == Order::Big,
        });
    }

    /// The client of a connection is somebody else from now on.
    pub(super) fn on_credentials(&mut self, nd: u16, server: u32, cred: ClientInfo) {
        if self.servers.of(nd, server).is_some_and(|s| matches!(s.state, ServerState::Open)) {
            let cred = ClientInfo { nd: nd.into(), ..cred };
            self.event(Event::Credentials { server: ServerId(server), cred });
        }
    }

    fn refuse_connect(&mut self, now: Instant, nd: u16, client_id: u32, errno: Errno) {
        let fail = Kif::ConnectFail { version: kif::VERSION, client_id, status: errno.0 };
        self.send_message(now, nd, Message::kif(&fail, Body::empty()));
    }

    pub(super) fn on_msg_send(&mut self, now: Instant, nd: u16, send: MsgSend, data: Data) {
        let qos = self.answer_qos;
        let server = self.servers.of(nd, send.server_id).filter(|s| matches!(s.state, ServerState::Open));
        let open = server.map(|server| server.qos = qos).is_some();
        if !open {
            return self.fail(now, nd, send.client_handle, Errno::EBADF);
        }
        if self.servers.share(nd).messages >= self.config.limits.messages_per_peer {
            return self.fail(now, nd, send.client_handle, Errno::EAGAIN);
        }
        let received = Received {
            server: send.server_id,
            nd,
            client_handle: send.client_handle,
            // Older senders leave the length out.
            whole: Some(send.info.srcmsglen).filter(|&len| len >= send.nbytes && len > 0),
            reads: Default::default(),
        };
        let Some(rcv) = self.servers.add_received(received) else {
            return self.fail(now, nd, send.client_handle, Errno::EAGAIN);
        };
        if let Some(server) = self.servers.connections.get_mut(send.server_id) {
            server.last_handle = send.client_handle;
        }
        let server = ServerId(send.server_id);
        self.event(Event::Message { rcv: Rcv(rcv), server, info: send.info, data });
    }

    fn fail(&mut self, now: Instant, nd: u16, handle: u32, errno: Errno) {
        let xfer = Xfer { status: errno.0 as i32, handle, offset: 0, nbytes: 0 };
        self.send_message(now, nd, Message::kif(&Kif::MsgError(xfer), Body::empty()));
    }

    pub(super) fn on_msg_read_xfer(&mut self, nd: u16, xfer: Xfer) {
        let Some(reading) = self.servers.reads.get_mut(xfer.handle) else { return };
        let ours = self.servers.received.get(reading.received).is_some_and(|received| received.nd == nd);
        if !ours || !reading.holds(&xfer) {
            return;
        }
        reading.got.insert(xfer.offset, xfer.offset + xfer.nbytes, |_, _| {});
        let (rcv, offset) = (Rcv(reading.received), reading.offset);
        // One without data says that there is no more.
        if xfer.nbytes == 0 || reading.got.covers(offset, reading.end) {
            let nbytes = reading.got.bytes() as u32; // no more than was asked for
            self.end_read(xfer.handle);
            self.event(Event::ReadDone { rcv, offset, nbytes });
        } else if reading.got.count() > MAX_CRUMBS {
            self.end_read(xfer.handle);
            self.event(Event::ReadError { rcv, offset, errno: Errno::EIO });
        }
    }

    pub(super) fn on_msg_read_error(&mut self, nd: u16, xfer: Xfer) {
        let Some(reading) = self.servers.reads.get(xfer.handle) else { return };
        if self.servers.received.get(reading.received).is_none_or(|received| received.nd != nd) {
            return;
        }
        let (rcv, offset, errno) = (Rcv(reading.received), reading.offset, Errno(xfer.status as u32));
        self.end_read(xfer.handle);
        self.event(Event::ReadError { rcv, offset, errno });
    }

    fn end_read(&mut self, number: u32) {
        if let Some(reading) = self.servers.reads.remove(number)
            && let Some(received) = self.servers.received.get_mut(reading.received)
        {
            received.reads.remove(&number);
        }
    }

    pub(super) fn on_unblock(&mut self, now: Instant, nd: u16, client_handle: u32) {
        if let Some(&rcv) = self.servers.by_sender.get(&(nd, client_handle)) {
            self.event(Event::Unblock { rcv: Rcv(rcv) });
        } else if self.servers.withdraw(nd, client_handle) {
            self.fail(now, nd, client_handle, Errno::EINTR);
        }
        // Not there: the answer is on its way already.
    }

    pub(super) fn on_pulse(&mut self, nd: u16, server: u32, pulse: PulseInfo) {
        if self.servers.of(nd, server).is_some_and(|s| matches!(s.state, ServerState::Open)) {
            self.event(Event::Pulse { server: ServerId(server), pulse });
        }
    }

    pub(super) fn on_disconnect(&mut self, nd: u16, server: u32) {
        if self.servers.of(nd, server).is_some() {
            self.servers.end(server);
            self.event(Event::Disconnect { server: ServerId(server) });
        }
    }

    /// The node's session is over.
    pub(super) fn servers_down(&mut self, nd: u16) {
        for server in self.servers.of_node(nd) {
            self.servers.end(server);
            self.event(Event::Disconnect { server: ServerId(server) });
        }
    }

    // ---- commands ----

    /// The state of a connection that was asked about, which it leaves.
    fn asked_about(&mut self, server: ServerId) -> Result<(u16, u32, ServerState), CommandError> {
        self.servers.answer(server.0).ok_or(CommandError::NoSuchConnection)
    }

    pub(super) fn accept(
        &mut self,
        now: Instant,
        server: ServerId,
        scoid: i32,
        nbytes: u32,
    ) -> Result<(), CommandError> {
        let (nd, client_id, state) = self.asked_about(server)?;
        let success =
            Kif::ConnectSuccess { version: kif::VERSION, server_id: server.0, client_id, scoid, nbytes };
        let message = Message::kif(&success, Body::empty());
        self.send_message(now, nd, message.map(|m| m.counted(GateKey::Server(server.0))));
        match state {
            ServerState::Asked { first: Some(First::Send(send, data)) } => {
                self.on_msg_send(now, nd, MsgSend { server_id: server.0, ..send }, data);
            }
            ServerState::Asked { first: Some(First::Pulse(pulse)) } => {
                self.event(Event::Pulse { server, pulse });
            }
            ServerState::Asked { first: None } | ServerState::Open => {}
        }
        Ok(())
    }

    pub(super) fn reject(
        &mut self,
        now: Instant,
        server: ServerId,
        errno: Errno,
    ) -> Result<(), CommandError> {
        let (nd, client_id, _) = self.asked_about(server)?;
        self.servers.end(server.0);
        self.refuse_connect(now, nd, client_id, errno);
        Ok(())
    }

    pub(super) fn read(
        &mut self,
        now: Instant,
        rcv: Rcv,
        (offset, nbytes): (u32, u32),
        into: Outlet,
    ) -> Result<(), CommandError> {
        let received = self.servers.received.get(rcv.0).ok_or(CommandError::NoSuchMessage)?;
        let (nd, client_handle, server) = (received.nd, received.client_handle, received.server);
        let qos = self.servers.connections.get(server).map_or(0, |server| server.qos);
        let most = received.whole.map_or(u32::MAX - offset, |whole| whole.saturating_sub(offset));
        let left = nbytes.min(most);
        if left == 0 {
            self.event(Event::ReadDone { rcv, offset, nbytes: 0 });
            return Ok(());
        }
        self.check_queue(nd)?;
        let reading = Reading {
            received: rcv.0,
            offset,
            end: offset + left,
            got: Ranges::default(),
            outlet: into,
            promised: 0,
        };
        let number = self.servers.reads.insert(reading).ok_or(CommandError::Busy)?;
        if let Some(received) = self.servers.received.get_mut(rcv.0) {
            received.reads.insert(number);
        }
        let read = Kif::MsgRead { msgread_handle: number, client_handle, offset, nbytes: left };
        self.send_message(now, nd, Message::kif(&read, Body::empty()).map(|m| m.by(qos)));
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        now: Instant,
        rcv: Rcv,
        offset: u32,
        data: Body,
    ) -> Result<(), CommandError> {
        let received = self.servers.received.get(rcv.0).ok_or(CommandError::NoSuchMessage)?;
        let (nd, handle) = (received.nd, received.client_handle);
        let nbytes = length(&data, offset)?;
        self.check_queue(nd)?;
        let message = Message::kif(&Kif::MsgWrite(Xfer { status: 0, handle, offset, nbytes }), data);
        self.send_message(now, nd, message.map(|m| m.behind(GateKey::Rcv(rcv.0), Class::Free)));
        Ok(())
    }

    pub(super) fn reply(
        &mut self,
        now: Instant,
        rcv: Rcv,
        status: i32,
        data: Body,
    ) -> Result<(), CommandError> {
        let nbytes = length(&data, 0)?;
        let received = self.servers.end_received(rcv.0).ok_or(CommandError::NoSuchMessage)?;
        let handle = received.client_handle;
        let first = nbytes.min(crate::MAX_TRANSFER as u32);
        let last = Kif::MsgReply(Xfer { status, handle, offset: 0, nbytes: first });
        if first == nbytes {
            self.end_transaction(now, rcv, &received, Message::kif(&last, data));
            return Ok(());
        }
        // What is too much for one message is written before: the reply comes when all of it is there.
        let (data, rest) = (Rc::new(data), nbytes - first);
        let write = Kif::MsgWrite(Xfer { status: 0, handle, offset: first, nbytes: rest });
        let write = Message::sharing(&write, &data, first.into(), rest.into());
        self.send_message(now, received.nd, write.map(|m| m.behind(GateKey::Rcv(rcv.0), Class::Free)));
        self.end_transaction(now, rcv, &received, Message::sharing(&last, &data, 0, first.into()));
        Ok(())
    }

    pub(super) fn error(&mut self, now: Instant, rcv: Rcv, errno: Errno) -> Result<(), CommandError> {
        let received = self.servers.end_received(rcv.0).ok_or(CommandError::NoSuchMessage)?;
        self.end_with_error(now, rcv, &received, errno);
        Ok(())
    }

    fn end_with_error(&mut self, now: Instant, rcv: Rcv, received: &Received, errno: Errno) {
        let xfer = Xfer { status: errno.0 as i32, handle: received.client_handle, offset: 0, nbytes: 0 };
        self.end_transaction(now, rcv, received, Message::kif(&Kif::MsgError(xfer), Body::empty()));
    }

    /// The last message of a transaction: after its writes, before the connection's death. It is
    /// never refused for a full queue: each needs a place that its own send once had.
    fn end_transaction(&mut self, now: Instant, rcv: Rcv, received: &Received, last: Option<Message>) {
        let message = last
            .map(|m| m.behind(GateKey::Rcv(rcv.0), Class::Ordered).counted(GateKey::Server(received.server)));
        self.send_message(now, received.nd, message);
    }

    pub(super) fn connect_death(&mut self, now: Instant, server: ServerId) -> Result<(), CommandError> {
        let (connection, unanswered) = self.servers.end(server.0).ok_or(CommandError::NoSuchConnection)?;
        // Of our kind, the caller's node ends them with the connection, and tells that from an errno of the server.
        let plain = self.abilities(connection.nd).is_none();
        for (number, received) in unanswered.into_iter().filter(|_| plain) {
            self.end_with_error(now, Rcv(number), &received, Errno::ESRCH);
        }
        let death = Kif::ConnectDeath { client_id: connection.client_id };
        let message = Message::kif(&death, Body::empty());
        let message = message.map(|m| m.behind(GateKey::Server(server.0), Class::Ordered));
        self.send_message(now, connection.nd, message);
        Ok(())
    }
}

/// The length of data that is written from `offset` on.
fn length(data: &Body, offset: u32) -> Result<u32, CommandError> {
    let len = u32::try_from(data.len()).map_err(|_| CommandError::TooLarge)?;
    offset.checked_add(len).ok_or(CommandError::TooLarge)?;
    Ok(len)
}
