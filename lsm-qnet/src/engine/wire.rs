//! Back: other nodes, through the protocol core; and what the core has to tell.

use qnet_ipc::{Claim, MAX_DATA, ToClient, packet};
use qnet_proto::{
    Body, ClientId, ClientInfo, Command, CommandError, DownReason, Event, Handle, NodeId, Outlet, PulseInfo,
    ServerId, Sigevent, VtidInfo,
};

use super::{
    CallId, Caller, ConnId, Engine, Front, MAX_ASKED, MAX_READS, Piece, Stage, Token,
    flow::{Gauge, Load},
    from_wire,
    inlet::Inlet,
    remote::RemoteCaller,
    to_wire,
};

/// Name clashes that are worth a warning; later ones are counted.
const MAX_CLASHES_TOLD: u64 = 20;

impl Engine {
    /// Begins to connect to a channel of another node.
    pub(super) fn wire_connect(
        &mut self,
        id: ConnId,
        connect: &packet::Connect,
        claim: &Claim,
    ) -> Result<(), i32> {
        let cred = client_info(claim);
        let packet::Connect { pid, chid, flags, .. } = *connect;
        let (client, nd) = (client_id(id), NodeId(connect.nd));
        let command = match flags & packet::LAZY {
            0 => Command::Connect { client, nd, pid, chid, cred },
            _ => Command::Attach { client, nd, pid, chid, cred },
        };
        self.node.handle_command(self.now, command).map_err(errno_of)
    }

    pub(super) fn wire_send(&mut self, id: CallId, conn: ConnId, send: &packet::Send, first: Body) {
        let info = VtidInfo {
            tid: send.tid,
            coid: send.coid,
            priority: send.priority,
            srcmsglen: send.srcmsglen,
            keydata: send.keydata.cast_signed(),
            srcnd: 0,
            dstmsglen: send.dstmsglen,
        };
        let inlet = self.inlet(id);
        let reply = inlet.map_or_else(Outlet::nowhere, Outlet::new);
        let command = Command::Send { client: client_id(conn), handle: handle(id), info, first, reply };
        if let Err(error) = self.node.handle_command(self.now, command) {
            self.reply_error(id, errno_of(error));
        }
    }

    /// Where a call's reply goes that another node gives.
    fn inlet(&mut self, id: CallId) -> Option<Inlet> {
        let call = self.calls.get_mut(&id)?;
        let Caller::Local { client, .. } = call.caller else { return None };
        let inlet = Inlet::new(id, &self.clients.get(&client)?.allowance);
        call.inlet = Some(inlet.clone());
        Some(inlet)
    }

    pub(super) fn wire_unblock(&mut self, id: CallId) {
        self.command(Command::Unblock { handle: handle(id) });
    }

    pub(super) fn wire_pulse(&mut self, conn: ConnId, pulse: &packet::Pulse) {
        let info = VtidInfo { tid: 1, priority: pulse.priority, ..VtidInfo::default() };
        let pulse = PulseInfo { code: pulse.code, value: pulse.value, priority: pulse.priority };
        self.command(Command::Pulse { client: client_id(conn), info, pulse });
    }

    /// A server of this node delivers an event to a process of another one.
    pub(super) fn wire_event(&mut self, server: ServerId, event: &packet::Sigevent) {
        let packet::Sigevent { notify, id, value, code, priority } = *event;
        let sigevent = Sigevent { notify, id, value, code, priority };
        self.command(Command::Deliver { server, sigevent });
    }

    pub(super) fn wire_disconnect(&mut self, conn: ConnId) {
        self.command(Command::Disconnect { client: client_id(conn) });
    }

    /// A local caller's answer to a read by another node.
    pub(super) fn wire_read_data(
        &mut self,
        id: CallId,
        offset: u32,
        load: Result<Load<'_>, i32>,
        gauge: &Gauge,
    ) {
        let Some(piece) = self.calls.get_mut(&id).and_then(|call| call.reads.pop_front()) else { return };
        let outcome = match load {
            Ok(load) if piece.offset == offset && load.len() == piece.nbytes as usize => Ok(load),
            // Never beyond the message's length is asked, so less is a caller's mistake.
            Ok(_) => Err(libc::EFAULT),
            Err(errno) => Err(errno),
        };
        let (handle, offset) = (handle(id), piece.offset);
        self.command(match outcome {
            Ok(load) => Command::ReadData { handle, offset, data: gauge.body(load) },
            Err(errno) => Command::ReadError { handle, offset, errno: to_wire(errno) },
        });
        self.ask_caller(id);
    }

    pub(super) fn on_event(&mut self, event: Event) {
        let Some(event) = self.meter_event(event) else { return };
        match event {
            Event::Resolved { token, nd } => self.on_resolved(token, Ok(nd)),
            Event::ResolveFailed { token, errno } => self.on_resolved(token, Err(from_wire(errno))),
            Event::Pong { token, rtt, link, addr } => self.on_pong(token, rtt, link, addr),
            Event::PingFailed { token, errno, ways } => self.on_ping_failed(token, errno, &ways),
            Event::NodeUp { nd } => self.on_node_up(nd),
            Event::NodeDown { nd, why } => self.on_node_down(nd, why),
            Event::NodesChanged => self.watch.on_list(&self.node),
            Event::Ask { lookup, resolver, name } => self.on_ask(lookup, resolver, &name),
            Event::NameClash { name, alias, addr, .. } => self.on_clash(&format!(
                "two nodes are called {name}: the one at {addr} is listed as {alias}; \
                 give one of them another host name (or host=)"
            )),
            Event::AddressClash { name, other, addr, .. } => self.on_clash(&format!(
                "two nodes have the address {addr}, {name} and {other}: give one of them another \
                 (for a copied virtual machine in its settings, else mac= of its driver)"
            )),
            Event::TakeAddress { link, addr } => self.addresses.push((link, addr)),
            Event::Connected { client, scoid, limit } => self.on_connected(client, scoid, limit),
            Event::ConnectFailed { client, errno } => self.on_back_gone(client, from_wire(errno)),
            Event::Death { client } => self.on_back_gone(client, libc::ESRCH),
            Event::Read { handle, offset, nbytes } => self.on_read(handle, offset, nbytes),
            Event::Reply { handle, status } => self.on_reply(handle, status),
            Event::RemoteNd { token, outcome } => {
                self.on_resolved(token, outcome.map(NodeId).map_err(from_wire));
            }
            Event::Sigevent { client, sigevent } => self.on_sigevent(client, sigevent),
            Event::Signal { nd, signal, cred } => self.remote_signal(nd, &signal, cred.as_ref()),
            Event::Error { handle, errno, lost } => {
                let errno = from_wire(errno);
                match number(handle.0) {
                    Some(id) if lost => self.reply_lost(id, errno),
                    Some(id) => self.reply_error(id, errno),
                    None => {}
                }
            }
            Event::Connect { server, nd, pid, chid, client_pid, cred, big_endian } => {
                let caller = RemoteCaller { nd, pid: client_pid, cred, big_endian };
                self.remote_connect(server, (pid, chid), &caller);
            }
            Event::Message { rcv, server, info, data } => self.remote_message(rcv, server, &info, &data),
            Event::ReadDone { rcv, offset, nbytes } => self.remote_read_done(rcv, offset, Ok(nbytes)),
            Event::ReadError { rcv, offset, errno } => {
                self.remote_read_done(rcv, offset, Err(from_wire(errno)));
            }
            Event::Credentials { server, cred } => self.remote_credentials(server, &cred),
            Event::Unblock { rcv } => self.remote_unblock(rcv),
            Event::Pulse { server, pulse } => self.remote_pulse(server, &pulse),
            Event::Disconnect { server } => self.remote_disconnect(server),
        }
    }

    /// A server of another node delivers an event to a program of this one.
    fn on_sigevent(&mut self, client: ClientId, sigevent: Sigevent) {
        let conn = number(client.0).and_then(|id| self.conns.get(&id));
        let Some(Front::Local { client, conn }) = conn.map(|conn| conn.front) else { return };
        let Sigevent { notify, id, value, code, priority } = sigevent;
        let event = packet::Sigevent { notify, id, value, code, priority };
        self.tell_event(client, conn, event);
    }

    fn on_connected(&mut self, client: ClientId, scoid: i32, limit: u32) {
        let Some((id, conn)) = number(client.0).and_then(|id| Some((id, self.conns.get_mut(&id)?))) else {
            return;
        };
        conn.open = true;
        let front = conn.front;
        // A node that wants no first piece at all would ask for everything; one byte keeps the packet legal.
        self.tell_connected(id, front, scoid, limit.max(1));
    }

    fn on_back_gone(&mut self, client: ClientId, errno: i32) {
        if let Some(id) = number(client.0) {
            self.back_gone(id, errno);
        }
    }

    /// Another node wants a piece of a local caller's message, of any length.
    fn on_read(&mut self, handle: Handle, offset: u32, nbytes: u32) {
        let Some((id, call)) = number(handle.0).and_then(|id| Some((id, self.calls.get_mut(&id)?))) else {
            return;
        };
        if call.wanted.len() >= MAX_READS {
            return self.command(Command::ReadError { handle, offset, errno: to_wire(libc::EAGAIN) });
        }
        call.wanted.push_back((offset, offset.saturating_add(nbytes)));
        self.ask_caller(id);
    }

    /// Asks a caller for the next packets of what other nodes want, a few at once.
    fn ask_caller(&mut self, id: CallId) {
        while let Some(call) = self.calls.get_mut(&id)
            && call.reads.len() < MAX_ASKED
        {
            let Caller::Local { client, txn } = call.caller else { return };
            let Some((offset, end)) = call.wanted.pop_front() else { return };
            let nbytes = (end - offset).min(MAX_DATA as u32);
            if offset + nbytes < end {
                call.wanted.push_front((offset + nbytes, end));
            }
            call.reads.push_back(Piece { offset, nbytes, stage: Stage::Waiting });
            self.tell_client(client, &ToClient::Read { txn, offset, nbytes });
        }
    }

    /// A reply is there: what was not passed on yet goes with it.
    fn on_reply(&mut self, handle: Handle, status: i32) {
        let Some(id) = number(handle.0) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (Caller::Local { client, .. }, Some(inlet)) = (call.caller, call.inlet.take()) else { return };
        let mut runs = inlet.take_all();
        let last = runs.pop();
        for run in runs {
            self.reply_write(id, run.offset, Load::Here(&run.bytes));
            inlet.give_back(run);
        }
        match last {
            Some(run) => {
                self.reply(id, status.into(), run.offset, &run.bytes);
                inlet.give_back(run);
            }
            None => self.reply(id, status.into(), 0, &[]),
        }
        self.tell_room(client);
    }

    /// Passes on what has gathered of replies that are still coming.
    pub(super) fn pass_replies(&mut self) {
        let ready = self.ready.take();
        for id in ready {
            let Some(call) = self.calls.get(&id) else { continue };
            let (Caller::Local { client, .. }, Some(inlet)) = (call.caller, call.inlet.clone()) else {
                continue;
            };
            for run in inlet.take_full() {
                self.reply_write(id, run.offset, Load::Here(&run.bytes));
                inlet.give_back(run);
            }
            self.tell_room(client);
        }
    }

    /// A client may have read, or have got what was held for it: other nodes that wait for room are told.
    pub(super) fn tell_room(&mut self, token: Token) {
        let Some(client) = self.clients.get(&token).filter(|client| client.allowance.has_room_again()) else {
            return;
        };
        let waiting = |id: &&CallId| self.calls.get(*id).is_some_and(|call| call.inlet.is_some());
        let calls: Vec<CallId> = client.txns.values().filter(waiting).copied().collect();
        for id in calls {
            self.command(Command::Room { handle: handle(id) });
        }
    }

    /// Two nodes of one name or address. Anybody on the wire can make such news, so the log hears only of the first few.
    fn on_clash(&mut self, sentence: &str) {
        self.totals.name_clashes += 1;
        if self.totals.name_clashes <= MAX_CLASHES_TOLD {
            tracing::warn!("{sentence}");
        } else {
            tracing::debug!("{sentence}");
        }
    }

    fn on_node_up(&mut self, nd: NodeId) {
        let name = self.name_of(nd);
        self.names.insert(nd, name.clone());
        if self.watch.verbosity.sessions {
            tracing::info!("session with {name} is up");
        } else {
            tracing::debug!("session with {name} is up");
        }
    }

    fn on_node_down(&mut self, nd: NodeId, why: DownReason) {
        // The core may have forgotten the node with its session.
        let name = self.names.remove(&nd).unwrap_or_else(|| self.name_of(nd));
        match why {
            // What an operator wants to hear of without asking.
            DownReason::Unacknowledged | DownReason::Silent => tracing::warn!("node {name} is down: {why}"),
            _ if self.watch.verbosity.sessions => tracing::info!("session with {name} ended: {why}"),
            _ => tracing::debug!("session with {name} ended: {why}"),
        }
    }

    fn name_of(&self, nd: NodeId) -> String {
        let view = self.node.nodes().find(|view| view.nd == nd);
        view.map_or_else(|| format!("nd {}", nd.0), |view| view.name.to_string())
    }
}

/// A local caller as other nodes are told of it.
pub(super) fn client_info(claim: &Claim) -> ClientInfo {
    ClientInfo {
        nd: claim.nd,
        pid: claim.pid,
        sid: claim.sid,
        flags: if cfg!(target_endian = "big") { 1 } else { 0 },
        ruid: claim.ruid.cast_signed(),
        euid: claim.euid.cast_signed(),
        suid: claim.suid.cast_signed(),
        rgid: claim.rgid.cast_signed(),
        egid: claim.egid.cast_signed(),
        sgid: claim.sgid.cast_signed(),
        groups: claim.groups.iter().map(|gid| gid.cast_signed()).collect(),
    }
}

fn client_id(id: ConnId) -> ClientId {
    ClientId(id.into())
}

fn handle(id: CallId) -> Handle {
    Handle(id.into())
}

/// One of our own numbers, as it comes back.
fn number(id: u64) -> Option<u32> {
    u32::try_from(id).ok()
}

/// The errno that stands for a refused command.
pub(super) fn errno_of(error: CommandError) -> i32 {
    match error {
        CommandError::NoSuchConnection => libc::EBADF,
        CommandError::NoSuchMessage => libc::ESRCH,
        CommandError::NoSuchNode => libc::EHOSTUNREACH,
        CommandError::NoSuchPath => libc::ENODEV,
        CommandError::BadName => libc::ENOENT,
        CommandError::TooLarge => libc::EMSGSIZE,
        CommandError::Busy => libc::EAGAIN,
        CommandError::KeyInUse | CommandError::NoSuchRead => libc::EINVAL,
    }
}
