//! What goes back to a caller, wherever it is.

use qnet_ipc::{MAX_DATA, ToClient};
use qnet_proto::{Command, CommandError};

use super::{
    Back, CallId, Caller, ConnId, Engine, Front,
    flow::{Gauge, Load},
    to_wire,
};

/// Bytes of a remote message that a program receives at first; it reads the rest.
const FIRST: u32 = 8192;

impl Engine {
    /// Puts bytes into the caller's reply buffer.
    pub(super) fn reply_write(&mut self, id: CallId, offset: u32, load: Load<'_>) {
        let Some(call) = self.calls.get(&id) else { return };
        match call.caller {
            Caller::Local { client, txn } => {
                let mut scratch = std::mem::take(&mut self.scratch);
                for (i, data) in load.bytes(&mut scratch).chunks(MAX_DATA).enumerate() {
                    let Some(offset) = offset.checked_add((i * MAX_DATA) as u32) else { break };
                    self.tell_client(client, &ToClient::Write { txn, offset, data });
                }
                self.scratch = scratch;
            }
            Caller::Nobody => {}
            Caller::Remote { rcv } => {
                let data = self.gauge_of(call.conn).body(load);
                let written = self.node.handle_command(self.now, Command::Write { rcv, offset, data });
                // A reply with a hole must not look like one without.
                if matches!(written, Err(CommandError::Busy | CommandError::TooLarge)) {
                    self.reply_error(id, libc::EAGAIN);
                }
            }
        }
    }

    /// Ends a call.
    pub(super) fn reply(&mut self, id: CallId, status: i64, offset: u32, data: &[u8]) {
        self.reply_with(id, status, offset, Load::Here(data));
    }

    /// Ends a call, with data from anywhere.
    pub(super) fn reply_with(&mut self, id: CallId, status: i64, offset: u32, load: Load<'_>) {
        let Some(call) = self.calls.get(&id) else { return };
        match call.caller {
            Caller::Local { client, txn } => {
                let mut scratch = std::mem::take(&mut self.scratch);
                let data = load.bytes(&mut scratch);
                // All but the last packet's worth goes ahead.
                let ahead = data.len() - data.len().min(MAX_DATA);
                if ahead > 0 {
                    self.reply_write(id, offset, Load::Here(&data[..ahead]));
                }
                let (offset, data) = (offset.saturating_add(ahead as u32), &data[ahead..]);
                self.tell_client(client, &ToClient::Reply { txn, status, offset, data });
                self.scratch = scratch;
            }
            Caller::Nobody => return self.signalled(id, Ok(())),
            Caller::Remote { rcv } => {
                // 32 bits travel; both readings of them are in use.
                let narrow = i32::try_from(status).ok();
                let Some(status) = narrow.or_else(|| u32::try_from(status).ok().map(u32::cast_signed)) else {
                    return self.reply_error(id, libc::EOVERFLOW);
                };
                let gauge = self.gauge_of(call.conn);
                let data = if offset == 0 { gauge.body(load) } else { self.write_ahead(id, offset, load) };
                if !self.calls.contains_key(&id) {
                    return;
                }
                self.command(Command::Reply { rcv, status, data });
            }
        }
        self.remove_call(id);
    }

    /// Ends a call with a Linux errno.
    pub(super) fn reply_error(&mut self, id: CallId, errno: i32) {
        let Some(call) = self.calls.get(&id) else { return };
        match call.caller {
            Caller::Local { client, txn } => self.tell_client(client, &ToClient::Error { txn, errno }),
            Caller::Nobody => return self.signalled(id, Err(errno)),
            Caller::Remote { rcv } => self.command(Command::Error { rcv, errno: to_wire(errno) }),
        }
        self.remove_call(id);
    }

    /// Ends a call whose connection is gone, with a Linux errno that is not the server's. A caller of another node hears it with
    /// the end of his connection, by which his node tells it from an errno of the server.
    pub(super) fn reply_lost(&mut self, id: CallId, errno: i32) {
        match self.calls.get(&id).map(|call| call.caller) {
            Some(Caller::Local { client, txn }) => self.tell_client(client, &ToClient::Lost { txn, errno }),
            Some(Caller::Remote { .. }) => {}
            _ => return self.reply_error(id, errno),
        }
        self.remove_call(id);
    }

    /// The connection is open.
    pub(super) fn tell_connected(&mut self, id: ConnId, front: Front, scoid: i32, limit: u32) {
        let limit = limit.min(MAX_DATA as u32);
        let own_server =
            self.conns.get(&id).is_some_and(|conn| self.server.map(Back::Channel) == Some(conn.back));
        match front {
            Front::Local { client, conn } => {
                self.tell_client(client, &ToClient::ConnectOk { conn, scoid, limit });
            }
            Front::Remote { server, .. } => {
                // A program gets as much at first as QNX gives it; the node's own server knows what to do with more.
                let nbytes = if own_server { limit } else { limit.min(FIRST) };
                self.command(Command::Accept { server, scoid, nbytes });
                tracing::debug!("connection {id} of another node is open");
            }
            Front::Signal => {}
        }
    }

    /// The connection was refused.
    pub(super) fn tell_refusal(&mut self, front: Front, errno: i32) {
        match front {
            Front::Local { client, conn } => self.tell_client(client, &ToClient::ConnectFail { conn, errno }),
            Front::Remote { server, .. } => {
                self.totals.remote_refused += 1;
                self.command(Command::Reject { server, errno: to_wire(errno) });
            }
            Front::Signal => {}
        }
    }

    /// The connection is gone.
    pub(super) fn tell_death(&mut self, front: Front) {
        match front {
            Front::Local { client, conn } => self.tell_client(client, &ToClient::Death { conn }),
            Front::Remote { server, .. } => self.command(Command::ConnectDeath { server }),
            Front::Signal => {}
        }
    }

    /// Gives the core a command about another node. Refusals are of the kind "that is over already".
    pub(super) fn command(&mut self, command: Command) {
        if let Err(error) = self.node.handle_command(self.now, command) {
            tracing::debug!("too late for another node: {error}");
        }
    }

    /// The wire has no place for the offset of a reply's data: it goes ahead of the reply.
    fn write_ahead(&mut self, id: CallId, offset: u32, load: Load<'_>) -> qnet_proto::Body {
        self.reply_write(id, offset, load);
        qnet_proto::Body::empty()
    }

    fn gauge_of(&self, conn: ConnId) -> Gauge {
        let back = self.conns.get(&conn).map(|conn| conn.back);
        let Some(Back::Channel(token)) = back else { return Gauge::default() };
        self.channels.get(&token).map(|channel| channel.gauge.clone()).unwrap_or_default()
    }
}
