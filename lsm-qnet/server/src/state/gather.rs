//! Messages of which only the first piece came along: the rest is fetched.

use nix::errno::Errno;
use qnet_iomsg::message::{message_type, peek_type};
use qnet_ipc::packet::Send;
use qnet_ipc::{MAX_DATA, PeerError, ToClient};

use super::memory::Grant;
use super::{Stage, State, Transaction};
use crate::limits;

/// A message that is not complete.
#[derive(Debug)]
pub(super) struct Gather {
    send: Send,
    message: Vec<u8>,
    wanted: usize,
    /// Without it nothing was asked for yet.
    grant: Option<Grant>,
}

impl State {
    /// Asks for the rest of a message, as soon as there is memory for it.
    pub(super) fn gather(&mut self, send: Send, first: &[u8], wanted: usize) -> Result<(), PeerError> {
        if !self.may_gather(send.conn) {
            return self.fail(send.txn, Errno::EAGAIN);
        }
        let serial = self.next_serial();
        let message = self.memory.buffer(first, wanted);
        let stage = Stage::Gathering(Gather { send, message, wanted, grant: None });
        self.transactions.insert(send.txn, Transaction { conn: send.conn, coid: send.coid, serial, stage });
        self.ungranted.push_back(send.txn);
        self.ask_for_more()
    }

    /// Whether one more message of a connection may be incomplete.
    fn may_gather(&self, conn: u32) -> bool {
        let node_of = |conn| self.connections.get(&conn).map(|connection| connection.nd);
        let nd = node_of(conn);
        let (mut all, mut of_node, mut own) = (0, 0, 0);
        for other in self.transactions.values().filter(|t| matches!(t.stage, Stage::Gathering(_))) {
            all += 1;
            of_node += usize::from(node_of(other.conn) == nd);
            own += usize::from(other.conn == conn);
        }
        all < limits::GATHERING
            && of_node < limits::GATHERING_PER_NODE
            && own < limits::GATHERING_PER_CONNECTION
    }

    /// Asks for those messages for which there is memory now, the oldest first.
    pub(super) fn ask_for_more(&mut self) -> Result<(), PeerError> {
        let mut waiting = std::mem::take(&mut self.ungranted);
        let mut result = Ok(());
        waiting.retain(|txn| {
            let Some(Transaction { stage: Stage::Gathering(gather), conn, .. }) =
                self.transactions.get_mut(txn)
            else {
                return false;
            };
            let Some(connection) = self.connections.get(conn) else { return false };
            gather.grant = self.memory.grant(connection.nd, gather.wanted);
            if gather.grant.is_none() {
                return true;
            }
            // all at once: the answers come in order, and only the first takes a round trip
            for offset in (gather.message.len()..gather.wanted).step_by(MAX_DATA) {
                let nbytes = (gather.wanted - offset).min(MAX_DATA);
                // both are far below 4 GiB: see `limits`
                let read = ToClient::Read { txn: *txn, offset: offset as u32, nbytes: nbytes as u32 };
                if result.is_ok() {
                    result = self.peer.send(&read);
                }
            }
            false
        });
        // nothing is added meanwhile
        self.ungranted = waiting;
        result
    }

    /// The next `len` bytes of a message have come; `fill` copies as many of them as it is given room for.
    pub(super) fn gather_more(
        &mut self,
        txn: u32,
        offset: u32,
        (len, fill): (usize, impl FnOnce(&mut [u8])),
    ) -> Result<(), PeerError> {
        let Some(Transaction { stage: Stage::Gathering(gather), .. }) = self.transactions.get_mut(&txn)
        else {
            return Ok(());
        };
        if offset as usize != gather.message.len() {
            return Ok(());
        }
        let had = gather.message.len();
        let asked = (gather.wanted - had).min(MAX_DATA);
        gather.message.resize(had + len.min(asked), 0);
        fill(gather.message.get_mut(had..).unwrap_or_default());
        if len >= asked && gather.message.len() < gather.wanted {
            return Ok(());
        }
        // complete, or ended early: then the parser says what is missing
        let Some(Transaction { stage: Stage::Gathering(gather), .. }) = self.transactions.remove(&txn) else {
            return Ok(());
        };
        let Gather { send, message, grant, .. } = gather;
        match peek_type(&message) {
            Some(message_type::CONNECT) => self.on_connect_message(send, message, grant),
            Some(kind) => self.on_file_message(send, kind, message, grant),
            None => self.fail(txn, Errno::EBADMSG),
        }
    }
}
