//! The kernel interface where programs send: connections, blocked senders, and what comes back.
//!
//! ```text
//!   Attach  ──► Attached (`attach.rs`) ── first Send or Pulse ─┐
//!   Connect ──► Connecting ◄───────────────────────────────────┘
//!               Connecting ── CONNECT_SUCCESS ──► Open ── Disconnect, death ──► gone
//!   Send    ──► Held (until Open) ──► Sent ── Unblock ──► Unblocking ── reply, error ──► gone
//! ```

use crate::command::{ClientId, Errno, Handle, PulseInfo, SignalInfo, VtidInfo};
use crate::event::{Event, NodeId};
use crate::session::message::Message;
use crate::session::order::{Class, GateKey};
use crate::sink::Outlet;
use crate::source::{Body, Source};
use crate::time::Instant;
use crate::wire::kif::{self, ClientInfo, Kif, MsgSend, Xfer};
use crate::wire::{WireError, groups};

use super::attach::NO_SERVER;
use super::frames::Incoming;
use super::tables::{Asked, Client, ClientState, First, Held, Send, SendState};
use super::{CommandError, Node};
use crate::event::Data;

/// Reads of one message that may be unanswered; beyond, the server gets `EAGAIN`.
const MAX_ASKED: usize = 64;
/// Messages and pulses held back until the connection is there; beyond: `Busy`.
const MAX_HELD: usize = 1024;

impl Node {
    // ---- commands ----

    pub(super) fn connect(
        &mut self,
        now: Instant,
        key: ClientId,
        nd: NodeId,
        server: (i32, i32),
        cred: ClientInfo,
    ) -> Result<(), CommandError> {
        self.check_queue(nd.node())?;
        let number = self.attached(key, nd, server, cred)?;
        let first = self.leave_attached(number);
        self.say_connect(now, number, first.map(|connect| Kif::Connect(*connect)), Body::empty());
        Ok(())
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        client: ClientId,
        handle: Handle,
        info: VtidInfo,
        (first, outlet): (Body, Outlet),
    ) -> Result<(), CommandError> {
        if self.clients.by_handle.contains_key(&handle) {
            return Err(CommandError::KeyInUse);
        }
        let (number, connection) = self.clients.client(client).ok_or(CommandError::NoSuchConnection)?;
        let nd = connection.nd;
        let state = match &connection.state {
            ClientState::Open { .. } => SendState::Sent,
            ClientState::Attached { .. } => SendState::Held,
            ClientState::Connecting { held } if held.len() < MAX_HELD => SendState::Held,
            ClientState::Connecting { .. } => return Err(CommandError::Busy),
            ClientState::Abandoned { .. } => return Err(CommandError::NoSuchConnection),
        };
        self.check_queue(nd)?;
        let send = Send {
            key: handle,
            client: number,
            info,
            state,
            asked: Vec::new(),
            outlet,
            promised: 0,
            refused: None,
        };
        let transaction = self.clients.sends.insert(send).ok_or(CommandError::Busy)?;
        self.clients.by_handle.insert(handle, transaction);
        if let Some(connection) = self.clients.connections.get_mut(number) {
            connection.sends.insert(transaction);
        }
        let Some(first) = self.send_attached(now, number, transaction, first) else { return Ok(()) };
        if let Some(Client { state: ClientState::Connecting { held }, .. }) =
            self.clients.connections.get_mut(number)
        {
            held.push(Held::Send(transaction, first));
            return Ok(());
        }
        self.start_send(now, number, transaction, first);
        Ok(())
    }

    /// The connection is open: the message goes out.
    fn start_send(&mut self, now: Instant, client: u32, transaction: u32, first: Body) {
        let Some(Client { nd, state: ClientState::Open { server_id, limit }, .. }) =
            self.clients.connections.get(client)
        else {
            return;
        };
        let (nd, server_id, limit) = (*nd, *server_id, *limit);
        let Some(send) = self.clients.sends.get_mut(transaction) else { return };
        send.state = SendState::Sent;
        let first = first.cut(u64::from(limit.min(send.info.srcmsglen)));
        let message = MsgSend {
            server_id,
            client_handle: transaction,
            info: VtidInfo { srcnd: nd.into(), ..send.info },
            nbytes: first.len() as u32, // bounded by the limit
        };
        let message = Message::kif(&Kif::MsgSend(message), first);
        let message = message.map(|m| m.behind(GateKey::Client(client), Class::Free));
        self.send_message(now, nd, message);
    }

    pub(super) fn read_data(
        &mut self,
        now: Instant,
        handle: Handle,
        offset: u32,
        data: Body,
    ) -> Result<(), CommandError> {
        let (asked, (nd, qos), at) = self.asked(handle, offset)?;
        let inside = |len: &u32| offset.checked_add(*len).is_some_and(|end| end <= asked.end);
        let nbytes = u32::try_from(data.len()).ok().filter(inside).ok_or(CommandError::NoSuchRead)?;
        self.check_queue(nd)?;
        if let Some((_, send)) = self.clients.send(handle) {
            let left = asked.left.saturating_sub(nbytes);
            if left == 0 || nbytes == 0 {
                send.asked.remove(at);
            } else {
                send.asked[at].left = left;
            }
        }
        let xfer = Xfer { status: 0, handle: asked.msgread_handle, offset, nbytes };
        self.send_message(now, nd, Message::kif(&Kif::MsgReadXfer(xfer), data).map(|m| m.by(qos)));
        Ok(())
    }

    pub(super) fn read_error(
        &mut self,
        now: Instant,
        handle: Handle,
        offset: u32,
        errno: Errno,
    ) -> Result<(), CommandError> {
        let (asked, (nd, _), at) = self.asked(handle, offset)?;
        if let Some((_, send)) = self.clients.send(handle) {
            send.asked.remove(at);
        }
        self.refuse_read(now, nd, asked.msgread_handle, errno);
        Ok(())
    }

    fn refuse_read(&mut self, now: Instant, nd: u16, handle: u32, errno: Errno) {
        let xfer = Xfer { status: errno.0 as i32, handle, offset: 0, nbytes: 0 };
        self.send_message(now, nd, Message::kif(&Kif::MsgReadError(xfer), Body::empty()));
    }

    /// The oldest unanswered read around an offset.
    fn asked(&mut self, handle: Handle, offset: u32) -> Result<(Asked, (u16, u16), usize), CommandError> {
        let (_, send) = self.clients.send(handle).ok_or(CommandError::NoSuchMessage)?;
        let at = send.asked.iter().position(|a| a.offset <= offset && offset < a.end);
        let at = at.ok_or(CommandError::NoSuchRead)?;
        let (asked, client) = (send.asked[at], send.client);
        let client = self.clients.connections.get(client).ok_or(CommandError::NoSuchMessage)?;
        Ok((asked, (client.nd, client.qos), at))
    }

    pub(super) fn unblock(&mut self, now: Instant, handle: Handle) -> Result<(), CommandError> {
        let (number, send) = self.clients.send(handle).ok_or(CommandError::NoSuchMessage)?;
        let (state, client) = (send.state, send.client);
        match state {
            SendState::Held => {
                self.clients.end_send(number);
                if let Some(Client { state: ClientState::Connecting { held }, .. }) =
                    self.clients.connections.get_mut(client)
                {
                    held.retain(|h| !matches!(h, Held::Send(n, _) if *n == number));
                }
                self.event(Event::Error { handle, errno: Errno::EINTR, lost: false });
            }
            SendState::Sent => {
                send.state = SendState::Unblocking;
                self.start_unblock(now, client, number);
            }
            SendState::Unblocking => {}
        }
        Ok(())
    }

    /// Where the message left with a connect that nobody has answered, the other node goes by the number of the
    /// transaction: a server that does not even look at its connections holds nobody.
    fn start_unblock(&mut self, now: Instant, client: u32, number: u32) {
        let (Some(connection), Some(send)) =
            (self.clients.connections.get(client), self.clients.sends.get(number))
        else {
            return;
        };
        let server_id = match connection.state {
            ClientState::Open { server_id, .. } => server_id,
            _ => NO_SERVER,
        };
        let (nd, tid) = (connection.nd, send.info.tid);
        let message = Message::kif(&Kif::Unblock { server_id, client_handle: number, tid }, Body::empty());
        let message = message.map(|m| m.behind(GateKey::Client(client), Class::Ordered));
        self.send_message(now, nd, message);
    }

    pub(super) fn pulse(
        &mut self,
        now: Instant,
        client: ClientId,
        info: VtidInfo,
        pulse: PulseInfo,
    ) -> Result<(), CommandError> {
        let (number, connection) = self.clients.client(client).ok_or(CommandError::NoSuchConnection)?;
        let nd = connection.nd;
        match &mut connection.state {
            ClientState::Attached { .. } => {
                self.check_queue(nd)?;
                self.pulse_attached(now, number, info, pulse);
            }
            ClientState::Connecting { held } if held.len() >= MAX_HELD => return Err(CommandError::Busy),
            ClientState::Connecting { held } => held.push(Held::Pulse(info, pulse)),
            ClientState::Abandoned { .. } => return Err(CommandError::NoSuchConnection),
            ClientState::Open { .. } => {
                self.check_queue(nd)?;
                self.start_pulse(now, number, info, pulse);
            }
        }
        Ok(())
    }

    fn start_pulse(&mut self, now: Instant, client: u32, info: VtidInfo, mut pulse: PulseInfo) {
        let Some(Client { nd, state: ClientState::Open { server_id, .. }, .. }) =
            self.clients.connections.get(client)
        else {
            return;
        };
        let (nd, server_id) = (*nd, *server_id);
        if self.abilities(nd).is_none() {
            pulse.value &= u64::from(u32::MAX);
        }
        let message = Kif::Pulse {
            server_id,
            client_handle: 0,
            info: VtidInfo { srcnd: nd.into(), srcmsglen: 0, dstmsglen: 0, ..info },
            pulse,
            kind: (0, 0),
            scoid: 0,
            cred: None,
        };
        let message = Message::kif(&message, Body::empty());
        let message = message.map(|m| m.behind(GateKey::Client(client), Class::Ordered));
        self.send_message(now, nd, message);
    }

    pub(super) fn disconnect(&mut self, now: Instant, client: ClientId) -> Result<(), CommandError> {
        let (number, connection) = self.clients.client(client).ok_or(CommandError::NoSuchConnection)?;
        let nd = connection.nd;
        let qos = connection.qos;
        let server_id = match &mut connection.state {
            ClientState::Open { server_id, .. } => Some(*server_id),
            // Nobody heard of it.
            ClientState::Attached { .. } => None,
            ClientState::Connecting { held } => {
                // The answer to CONNECT is on its way: the number must stay until it is here, and pulses are not taken back.
                let pulse =
                    |held| if let Held::Pulse(info, pulse) = held { Some((info, pulse)) } else { None };
                let pulses = std::mem::take(held).into_iter().filter_map(pulse).collect();
                connection.state = ClientState::Abandoned { pulses };
                let sends: Vec<u32> = connection.sends.iter().copied().collect();
                self.clients.by_client.remove(&client);
                sends.into_iter().for_each(|send| drop(self.clients.end_send(send)));
                return Ok(());
            }
            ClientState::Abandoned { .. } => return Err(CommandError::NoSuchConnection),
        };
        self.clients.end_client(number);
        if let Some(server_id) = server_id {
            self.say_disconnect(now, (nd, qos), number, server_id);
        }
        Ok(())
    }

    fn say_disconnect(&mut self, now: Instant, (nd, qos): (u16, u16), client: u32, server_id: u32) {
        let message = Message::kif(&Kif::Disconnect { server_id }, Body::empty());
        let message = message.map(|m| m.by(qos).behind(GateKey::Client(client), Class::Ordered));
        self.send_message(now, nd, message);
    }

    /// The links that a connection may use stayed away: it ends, and its server is told by any link.
    pub(super) fn lose_client(&mut self, now: Instant, client: u32) {
        let Some(connection) = self.clients.connections.get(client) else { return };
        let nd = connection.nd;
        if let ClientState::Open { server_id, .. } = connection.state {
            self.drop_client(client, Errno::EHOSTDOWN);
            self.say_disconnect(now, (nd, 0), client, server_id);
        } else {
            self.drop_client(client, Errno::EHOSTUNREACH);
        }
    }

    // ---- what the server's node says ----

    pub(super) fn on_connect_success(
        &mut self,
        now: Instant,
        nd: u16,
        client: u32,
        (server_id, scoid, limit): (u32, i32, u32),
    ) {
        let Some(connection) = self.clients.connections.get_mut(client).filter(|c| c.awaits(nd)) else {
            let open = self.clients.connections.get(client).is_some_and(|c| c.nd == nd && c.is_open());
            // Given up in the meantime: the server must not keep it.
            if !open {
                self.say_disconnect(now, (nd, 0), client, server_id);
            }
            return;
        };
        // A limit of 0 would never let a message through.
        let limit = limit.clamp(1, crate::MAX_FIRST as u32);
        let open = ClientState::Open { server_id, limit };
        let (key, qos) = (connection.key, connection.qos);
        match std::mem::replace(&mut connection.state, open) {
            ClientState::Connecting { held } => {
                self.event(Event::Connected { client: key, scoid, limit });
                for held in held {
                    match held {
                        Held::Send(transaction, first) => self.start_send(now, client, transaction, first),
                        Held::Pulse(info, pulse) => self.start_pulse(now, client, info, pulse),
                    }
                }
            }
            ClientState::Abandoned { pulses } => {
                pulses.into_iter().for_each(|(info, pulse)| self.start_pulse(now, client, info, pulse));
                self.clients.end_client(client);
                self.say_disconnect(now, (nd, qos), client, server_id);
            }
            ClientState::Attached { .. } | ClientState::Open { .. } => {}
        }
    }

    pub(super) fn on_connect_fail(&mut self, nd: u16, client: u32, errno: Errno) {
        if self.clients.connections.get(client).is_some_and(|c| c.awaits(nd)) {
            self.drop_client(client, errno);
        }
    }

    pub(super) fn on_connect_death(&mut self, nd: u16, client: u32) {
        if self.clients.connections.get(client).is_some_and(|c| c.nd == nd && !c.is_attached()) {
            self.drop_client(client, Errno::ESRCH);
        }
    }

    /// A connection is gone: its senders and its owner are told.
    fn drop_client(&mut self, client: u32, errno: Errno) {
        let Some((connection, handles)) = self.clients.end_client(client) else { return };
        for handle in handles {
            self.event(Event::Error { handle, errno, lost: true });
        }
        match connection.state {
            ClientState::Attached { .. } | ClientState::Connecting { .. } => {
                self.event(Event::ConnectFailed { client: connection.key, errno });
            }
            ClientState::Open { .. } => self.event(Event::Death { client: connection.key }),
            ClientState::Abandoned { .. } => {}
        }
    }

    /// The node's session is over.
    pub(super) fn clients_down(&mut self, nd: u16, errno: Errno) {
        for client in self.clients.of_node(nd) {
            // What nobody heard of yet begins with the next session.
            if self.clients.connections.get(client).is_some_and(|c| !c.is_attached()) {
                self.drop_client(client, errno);
            }
        }
    }

    pub(super) fn on_msg_read(&mut self, now: Instant, nd: u16, read: (u32, u32, u32, u32)) {
        let (msgread_handle, transaction, offset, nbytes) = read;
        let Some(send) = self.clients.send_of(nd, transaction) else {
            return self.refuse_read(now, nd, msgread_handle, Errno::ESRCH);
        };
        let nbytes = nbytes.min(send.info.srcmsglen.saturating_sub(offset));
        if nbytes == 0 {
            let xfer = Xfer { status: 0, handle: msgread_handle, offset, nbytes };
            self.send_message(now, nd, Message::kif(&Kif::MsgReadXfer(xfer), Body::empty()));
            return;
        }
        if send.asked.len() >= MAX_ASKED {
            return self.refuse_read(now, nd, msgread_handle, Errno::EAGAIN);
        }
        send.asked.push(Asked { msgread_handle, offset, end: offset + nbytes, left: nbytes });
        let handle = send.key;
        self.event(Event::Read { handle, offset, nbytes });
    }

    /// The reply is there, its data in the sink.
    fn on_msg_reply(&mut self, nd: u16, xfer: Xfer) {
        if self.clients.send_of(nd, xfer.handle).is_none() {
            return;
        }
        if let Some(send) = self.clients.end_send(xfer.handle) {
            // A plain node names it when it delivers an event later.
            if self.abilities(nd).is_none() {
                self.clients.remember(xfer.handle, send.client);
            }
            self.event(Event::Reply { handle: send.key, status: xfer.status });
        }
    }

    /// A sink had no room for too long: its transaction ends here; what still comes for it is dropped.
    pub(super) fn give_up_sink(&mut self, transaction: u32) {
        if let Some(send) = self.clients.end_send(transaction) {
            self.event(Event::Error { handle: send.key, errno: Errno::ETIMEDOUT, lost: false });
        }
    }

    /// A sink has room again.
    pub(super) fn room(&mut self, now: Instant, handle: Handle) -> Result<(), CommandError> {
        let (_, send) = self.clients.send(handle).ok_or(CommandError::NoSuchMessage)?;
        let client = send.client;
        let nd = self.clients.connections.get(client).ok_or(CommandError::NoSuchMessage)?.nd;
        if let Some(session) = self.peers.get_mut(nd).and_then(|peer| peer.session.as_mut()) {
            session.on_room();
        }
        self.touch(now, nd);
        Ok(())
    }

    pub(super) fn on_msg_error(&mut self, nd: u16, xfer: Xfer) {
        if self.clients.send_of(nd, xfer.handle).is_none() {
            return;
        }
        if let Some(send) = self.clients.end_send(xfer.handle) {
            let errno = Errno(xfer.status as u32);
            self.event(Event::Error { handle: send.key, errno, lost: false });
        }
    }

    /// A complete KIF message: to the side it is for.
    pub(super) fn on_kif(&mut self, now: Instant, incoming: Incoming<'_>) -> Result<(), WireError> {
        let (message, range) = Kif::parse(&incoming.bytes, incoming.order)?;
        let nd = incoming.nd;
        match message {
            Kif::ConnectSuccess { server_id, client_id, scoid, nbytes, .. } => {
                self.on_connect_success(now, nd, client_id, (server_id, scoid, nbytes));
            }
            Kif::ConnectFail { client_id, status, .. } => {
                self.on_connect_fail(nd, client_id, Errno(status));
            }
            Kif::ConnectDeath { client_id } => self.on_connect_death(nd, client_id),
            Kif::MsgRead { msgread_handle, client_handle, offset, nbytes } => {
                self.on_msg_read(now, nd, (msgread_handle, client_handle, offset, nbytes));
            }
            Kif::MsgWrite(_) | Kif::MsgReply(_) | Kif::MsgReadXfer(_) => self.on_transfer(nd, &message),
            Kif::MsgError(xfer) => self.on_msg_error(nd, xfer),

            Kif::Connect(mut connect) => {
                if let Some(cred) = &mut connect.cred {
                    cred.groups.extend(groups::parse(&incoming.bytes, range.end, incoming.order));
                }
                self.on_connect(now, nd, connect, None, incoming.order);
            }
            Kif::ConnectMsgSend(connect, send) => {
                let order = incoming.order;
                let first = First::Send(send, data(incoming, range.start, send.nbytes));
                self.on_connect(now, nd, connect, Some(first), order);
            }
            Kif::ConnectPulse(connect, pulse) => {
                self.on_connect(now, nd, connect, Some(First::Pulse(pulse)), incoming.order);
            }
            Kif::MsgSend(send) => {
                if let Some(cred) = kif::changed_cred(&incoming.bytes, range.end, incoming.order) {
                    self.on_credentials(nd, send.server_id, cred);
                }
                let data = data(incoming, range.start, send.nbytes);
                self.on_msg_send(now, nd, send, data);
            }
            Kif::MsgReadError(xfer) => self.on_msg_read_error(nd, xfer),
            Kif::Unblock { client_handle, .. } => self.on_unblock(now, nd, client_handle),
            Kif::Pulse { server_id, pulse, cred, .. } => {
                if let Some(cred) = cred {
                    self.on_credentials(nd, server_id, cred);
                }
                self.on_pulse(nd, server_id, pulse);
            }
            Kif::Disconnect { server_id } => self.on_disconnect(nd, server_id),
            Kif::Event { client_handle, sigevent } => self.on_sigevent(nd, client_handle, sigevent),
            Kif::Signal { pid, tid, signo, code, value, cred, .. } => {
                self.on_signal(nd, SignalInfo { pid, tid, signo, code, value }, cred);
            }
        }
        Ok(())
    }
}

impl Node {
    /// A transfer whose data, if it has any, is in its sink.
    pub(super) fn on_transfer(&mut self, nd: u16, message: &Kif) {
        match message {
            Kif::MsgReply(xfer) => self.on_msg_reply(nd, *xfer),
            Kif::MsgReadXfer(xfer) => self.on_msg_read_xfer(nd, *xfer),
            // Bytes in the reply buffer are not worth an event.
            _ => {}
        }
    }
}

/// The data behind a message's fixed part, `len` bytes at most.
pub(super) fn data(incoming: Incoming<'_>, start: usize, len: u32) -> Data {
    let mut data = Data::new(incoming.bytes.into_owned(), start);
    data.truncate(len as usize);
    data
}
