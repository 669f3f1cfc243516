//! What clients say.

use std::{
    collections::{VecDeque, btree_map::Entry},
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};

use qnet_ipc::{
    Claim, Loan, ToClient, ToServer,
    packet::{self, Connect, Send},
};

use super::{Caller, Key, Pending, State, Wanted, clients::credentials, pulse, scoid, tells_received};
use crate::{
    ChannelFlags, MessageInfo, Pulse,
    iov::{Chunk, Payload},
    process::pid,
};

/// Messages of one client that may wait; beyond, its sends end with `EAGAIN`.
const MAX_WAITING: usize = 65_536;
/// Bytes of them that are kept; what is beyond is fetched when its message is received.
const MAX_KEPT: usize = 4 * 1024 * 1024;
/// Pulses that may wait; beyond, clients' pulses are dropped.
const MAX_PULSES: usize = 65_536;
/// Connections of one client.
const MAX_CONNS: usize = 1 << 20;

impl State {
    pub(super) fn on_packet(
        &mut self,
        number: u32,
        packet: ToServer<'_>,
        loan: Option<Loan>,
        wanted: Option<&mut Wanted<'_, '_>>,
    ) {
        match packet {
            ToServer::Connect(connect) => self.on_connect(number, connect),
            ToServer::Send(send, data) => self.on_send(number, send, data, loan),
            ToServer::ReadData { txn, data, .. } => {
                self.on_read((number, txn), Ok(Chunk::of(data, loan.as_ref())), wanted);
            }
            ToServer::ReadError { txn, errno, .. } => self.on_read((number, txn), Err(errno), wanted),
            ToServer::Unblock { txn, .. } => self.on_unblock((number, txn)),
            ToServer::Pulse(pulse) => self.on_pulse(number, &pulse),
            ToServer::Disconnect { conn } => self.on_disconnect(number, conn),
            // What callers may do with files and signals is the node's server's business.
            ToServer::Credentials { conn, claim, .. } => self.on_credentials(number, conn, claim),
        }
    }

    fn on_connect(&mut self, number: u32, connect: Connect) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let conn = connect.conn;
        let private = self.flags.contains(ChannelFlags::PRIVATE) && client.identity.pid != pid();
        let credentials = match client.conns.len() {
            _ if private => Err(libc::EPERM),
            MAX_CONNS.. => Err(libc::EAGAIN),
            _ => credentials(connect.claim, &client.identity, owner(&self.root)),
        };
        let opened = credentials.and_then(|claim| match client.conns.entry(conn) {
            Entry::Occupied(_) => Err(libc::EINVAL),
            Entry::Vacant(free) => {
                free.insert(Caller { claim, dirty: false });
                client.attached = true;
                client.mourned = false;
                Ok(())
            }
        });
        match opened {
            Ok(()) => {
                let limit = client.peer.max_data() as u32;
                self.answer(number, &ToClient::ConnectOk { conn, scoid: scoid(number), limit });
                self.answer(number, &ToClient::Channel { conn, flags: self.flags.bits() });
            }
            Err(errno) => self.answer(number, &ToClient::ConnectFail { conn, errno }),
        }
    }

    fn on_credentials(&mut self, number: u32, conn: u32, claim: Claim) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if owner(&self.root) == Some(client.identity.uid)
            && let Some(caller) = client.conns.get_mut(&conn)
        {
            caller.claim = Arc::new(claim);
            caller.dirty = true;
        }
    }

    fn on_send(&mut self, number: u32, send: Send, data: &[u8], loan: Option<Loan>) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let id = (number, send.txn);
        let refused = match client.conns.get(&send.conn) {
            None => Some(libc::EBADF),
            Some(_) if self.pending.contains_key(&id) => Some(libc::EINVAL),
            Some(_) if client.waiting.0 >= MAX_WAITING => Some(libc::EAGAIN),
            Some(_) => None,
        };
        if let Some(errno) = refused {
            return self.answer(number, &ToClient::Error { txn: send.txn, errno });
        }
        let Some(caller) = client.conns.get_mut(&send.conn) else { return };
        let dirty = if std::mem::take(&mut caller.dirty) { MessageInfo::NET_CRED_DIRTY } else { 0 };
        let flags = send.flags & (packet::info::ENDIAN_BIG | packet::info::ENDIAN_DIFF) | dirty;
        let info = MessageInfo {
            nd: caller.claim.nd,
            srcnd: send.srcnd,
            pid: caller.claim.pid,
            tid: send.tid,
            chid: self.chid,
            scoid: scoid(number),
            coid: send.coid,
            msglen: loan.as_ref().map_or(data.len(), Loan::len),
            srcmsglen: send.srcmsglen,
            dstmsglen: send.dstmsglen,
            priority: send.priority,
            flags,
            keydata: send.keydata,
            credentials: Arc::clone(&caller.claim),
        };
        let kept = match loan {
            // It lies in what the client gave for it.
            Some(loan) => Payload::Lent(loan),
            None if client.waiting.1 + data.len() <= MAX_KEPT => Payload::Bytes(data.to_vec()),
            None => Payload::Bytes(Vec::new()),
        };
        client.waiting.0 += 1;
        client.waiting.1 += kept.len();
        let place = self.queue.push(send.priority, id);
        let pending = Pending {
            conn: send.conn,
            info,
            rcvid: 0,
            waiting: Some((place, kept)),
            tell_received: tells_received(send.flags),
            asked: VecDeque::new(),
            answers: Vec::new(),
        };
        self.pending.insert(id, pending);
        self.crew.wake_one(Key::Receive);
    }

    fn on_read(&mut self, id: super::Id, data: Result<Chunk<'_>, i32>, wanted: Option<&mut Wanted<'_, '_>>) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        // Answers come in the order of the questions; one that nobody asked for is nothing.
        let Some((ticket, true)) = pending.asked.pop_front() else { return };
        if let Some(wanted) = wanted.filter(|wanted| wanted.id == id)
            && wanted.place(ticket, data)
        {
            return;
        }
        pending.answers.push((ticket, data.map(|data| data.to_vec(data.len()))));
        self.crew.wake(Key::Answer(id));
    }

    fn on_unblock(&mut self, id: super::Id) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if pending.waiting.is_some() || !self.flags.contains(ChannelFlags::UNBLOCK) {
            return self.refuse(id, libc::EINTR);
        }
        if pending.info.flags & MessageInfo::UNBLOCK_REQ == 0 {
            pending.info.flags |= MessageInfo::UNBLOCK_REQ;
            let (rcvid, priority) = (pending.rcvid as u64, pending.info.priority);
            self.push_pulse(pulse(Pulse::UNBLOCK, rcvid, priority, id.0));
        }
    }

    fn on_pulse(&mut self, number: u32, sent: &packet::Pulse) {
        let Some(client) = self.clients.get(&number) else { return };
        // Negative codes are the system's.
        if client.conns.contains_key(&sent.conn) && sent.code >= 0 && self.queue.pulses() < MAX_PULSES {
            self.push_pulse(pulse(sent.code, sent.value, sent.priority, number));
        }
    }

    fn on_disconnect(&mut self, number: u32, conn: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        if client.conns.remove(&conn).is_none() {
            return;
        }
        let last = client.conns.is_empty();
        let of_client = self.pending.range((number, 0)..=(number, u32::MAX));
        let gone: Vec<_> = of_client.filter(|(_, pending)| pending.conn == conn).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.forget(id));
        if last {
            self.mourn(number);
        }
    }
}

/// Who owns the node's root, if it exists. Asked for each claim: the daemon may be started after the channel.
fn owner(root: &Path) -> Option<u32> {
    fs::metadata(root).ok().map(|data| data.uid())
}
