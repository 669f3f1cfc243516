//! What each packet of the client side does to the bookkeeping.

use std::sync::Arc;

use nix::errno::Errno;
use qnet_iomsg::filesys::lock::{self, Kind, Verb};
use qnet_iomsg::message::{message_type, peek_type};
use qnet_iomsg::{Connect as ConnectMessage, Extra, Io, Subtype, errno, filesys, signal};
use qnet_ipc::packet::{Connect, Send, info, right};
use qnet_ipc::{Loan, PeerError, ToClient, ToServer};

use super::memory::Grant;
use super::{Job, Slot, Stage, State, Transaction};
use crate::file::OpenFile;
use crate::identity::Identity;
use crate::limits;
use crate::request::Work;

/// Process and channel that stand for the node itself, as on QNX.
const SERVER_PID: i32 = 1;
const SERVER_CHID: i32 = 1;
/// QNX's mark of a channel outside the range of descriptors.
const SIDE_CHANNEL: i32 = 0x4000_0000;

impl State {
    /// # Errors
    /// The socket is closed or broken.
    pub(crate) fn on_packet(&mut self, packet: ToServer<'_>) -> Result<(), PeerError> {
        match packet {
            ToServer::Connect(connect) => self.on_connect(&connect),
            ToServer::Send(send, data) => self.on_send(send, data),
            ToServer::ReadData { txn, offset, data } => {
                let fill = |room: &mut [u8]| room.copy_from_slice(data.get(..room.len()).unwrap_or_default());
                self.gather_more(txn, offset, (data.len(), fill))
            }
            ToServer::ReadError { txn, errno, .. } => match self.transactions.get(&txn) {
                Some(Transaction { stage: Stage::Gathering(_), .. }) => {
                    self.fail(txn, Errno::from_raw(errno))
                }
                _ => Ok(()),
            },
            ToServer::Unblock { txn, .. } => self.on_unblock(txn),
            ToServer::Disconnect { conn } => {
                self.disconnect(conn);
                Ok(())
            }
            // as who a request runs, and what it may do, is told with it; those that wait keep theirs
            ToServer::Credentials { conn, flags, claim } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.identity = Arc::new(Identity::new(claim.euid, claim.egid, claim.groups));
                    connection.rights = flags & right::ALL;
                }
                Ok(())
            }
            // this server has nothing to be told by pulses
            ToServer::Pulse(_) => Ok(()),
        }
    }

    /// A packet whose data still lie where the sender put them: what is kept is copied from there at once.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(crate) fn on_lent(&mut self, packet: ToServer<'_>, loan: &Loan) -> Result<(), PeerError> {
        let fill = |room: &mut [u8]| _ = loan.copy(0, room);
        match packet {
            ToServer::ReadData { txn, offset, .. } => self.gather_more(txn, offset, (loan.len(), fill)),
            ToServer::Send(send, _) => {
                let mut data = vec![0; loan.len()];
                fill(&mut data);
                self.on_send(send, &data)
            }
            // no other packet has data
            packet => self.on_packet(packet),
        }
    }

    fn on_connect(&mut self, connect: &Connect) -> Result<(), PeerError> {
        let conn = connect.conn;
        if let Err(errno) = self.check_connect(connect) {
            return self.peer.send(&ToClient::ConnectFail { conn, errno: errno as i32 });
        }
        let (identity, nd) = match &connect.claim {
            Some(claim) => (Identity::new(claim.euid, claim.egid, claim.groups.clone()), claim.nd),
            None => (Identity::nobody(), 0),
        };
        let connection = self.new_connection(connect, identity, nd);
        self.connections.insert(conn, connection);
        // a worker tries whether this caller can be served at all; the answer follows from that
        if let Some(mut job) = self.new_job(conn, Work::Probe, 0) {
            job.probe = true;
            self.enqueue(job);
        }
        Ok(())
    }

    fn check_connect(&self, connect: &Connect) -> Result<(), Errno> {
        if connect.pid != SERVER_PID || connect.chid & !SIDE_CHANNEL != SERVER_CHID {
            return Err(Errno::ESRCH);
        }
        if self.connections.contains_key(&connect.conn) {
            tracing::warn!(target: crate::LOG, conn = connect.conn, "the number of an open connection was used for another one");
            return Err(Errno::EBUSY);
        }
        let nd = connect.claim.as_ref().map_or(0, |claim| claim.nd);
        let of_node = self.shares.get(&nd).map_or(0, |share| share.connections);
        if self.connections.len() >= limits::CONNECTIONS || of_node >= limits::CONNECTIONS_PER_NODE {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    fn on_send(&mut self, send: Send, data: &[u8]) -> Result<(), PeerError> {
        if self.transactions.contains_key(&send.txn) {
            // an answer would end the transaction that is meant by the number
            tracing::warn!(target: crate::LOG, txn = send.txn, "the number of a running transaction was used for another one");
            return Ok(());
        }
        let wanted = send.srcmsglen as usize;
        let message = data.get(..wanted).unwrap_or(data);
        if let Err(errno) = self.check_queue(send.conn, giving_back(message)) {
            return self.fail(send.txn, errno);
        }
        if send.flags & info::ENDIAN_DIFF != 0 {
            // numbers in messages are the caller's, as on QNX
            let errno = errno::qnx_to_linux(errno::qnx::EENDIAN);
            return self.peer.send(&ToClient::Error { txn: send.txn, errno });
        }
        match peek_type(message) {
            Some(message_type::CONNECT) if wanted > limits::CONNECT_MESSAGE => {
                self.fail(send.txn, Errno::ENAMETOOLONG)
            }
            Some(message_type::CONNECT) if message.len() < wanted => self.gather(send, message, wanted),
            Some(message_type::CONNECT) => self.on_connect_message(send, message.to_vec(), None),
            Some(message_type::MSG) if signal::is_request(message) => self.on_signal_message(send, message),
            Some(kind) if message_type::RANGE.contains(&kind) => self.on_file_send(send, kind, message),
            Some(_) => self.fail(send.txn, Errno::ENOSYS),
            None => self.fail(send.txn, Errno::EBADMSG),
        }
    }

    /// Whether a connection is there, and one more request of it may wait. What gives something back finds room: its caller takes
    /// it for done, and would keep what nobody uses any more.
    fn check_queue(&self, conn: u32, giving_back: Option<GivingBack>) -> Result<(), Errno> {
        let connection = self.connections.get(&conn).ok_or(Errno::EBADF)?;
        let (own, of_node, all) = match giving_back {
            // there is one for each open file
            Some(GivingBack::File) => return Ok(()),
            // one for each open file beside its close; those that are being closed count
            Some(GivingBack::Lock) => {
                let closing = connection.queue.iter().filter(|job| job.is_release()).count();
                let files = self.shares.get(&connection.nd).map_or(0, |share| share.files);
                (2 * (connection.files.len() + closing), 2 * files, 2 * self.open_files)
            }
            None => (0, 0, 0),
        };
        let queued = self.shares.get(&connection.nd).map_or(0, |share| share.queued);
        if connection.queue.len() >= limits::QUEUE_PER_CONNECTION + own
            || queued >= limits::QUEUE_PER_NODE + of_node
            || self.queued >= limits::QUEUE + all
        {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    pub(super) fn on_connect_message(
        &mut self,
        send: Send,
        message: Vec<u8>,
        grant: Option<Grant>,
    ) -> Result<(), PeerError> {
        let serial = self.next_serial();
        // COMBINE (0) and OPEN (2) keep a file; all others leave nothing behind
        let keeps_file = matches!(message.get(2..4), Some([0 | 2, 0]));
        if keeps_file && let Err(errno) = self.reserve_file(&send, serial) {
            return self.fail(send.txn, errno);
        }
        let source = link_source(&message).and_then(|coid| self.open_file(send.conn, coid));
        self.queue_transaction(send, serial, Work::Connect { message, source }, grant)
    }

    fn open_file(&self, conn: u32, coid: i32) -> Option<Arc<OpenFile>> {
        match self.connections.get(&conn)?.files.get(&coid)? {
            Slot::Open(file) => Some(Arc::clone(file)),
            Slot::Opening(_) => None,
        }
    }

    fn reserve_file(&mut self, send: &Send, serial: u64) -> Result<(), Errno> {
        let Some(connection) = self.connections.get_mut(&send.conn) else { return Err(Errno::EBADF) };
        if connection.files.contains_key(&send.coid) {
            return Err(Errno::EBUSY);
        }
        let share = self.shares.entry(connection.nd).or_default();
        if connection.files.len() >= self.limits.files_per_connection()
            || share.files >= self.limits.files_per_node()
        {
            return Err(Errno::EMFILE);
        }
        if self.open_files >= self.limits.open_files {
            return Err(Errno::ENFILE);
        }
        self.open_files += 1;
        share.files += 1;
        connection.files.insert(send.coid, Slot::Opening(serial));
        Ok(())
    }

    fn on_signal_message(&mut self, send: Send, message: &[u8]) -> Result<(), PeerError> {
        let may = self.connections.get(&send.conn).is_some_and(|c| c.rights & right::SIGNAL != 0);
        if !may {
            if !std::mem::replace(&mut self.told_of_signals, true) {
                tracing::warn!(target: crate::LOG, "another node wanted to send a signal and may not: allow=signal, or a mapping of its users, would let it");
            }
            return self.fail(send.txn, Errno::EPERM);
        }
        let request = match signal::Request::parse(message) {
            Ok(request) => request,
            Err(error) => return self.fail(send.txn, Errno::from_raw(error.linux_errno())),
        };
        let serial = self.next_serial();
        self.queue_transaction(send, serial, Work::Signal { request }, None)
    }

    /// A message on an open file, of which at least the first piece is here.
    fn on_file_send(&mut self, send: Send, kind: u16, message: &[u8]) -> Result<(), PeerError> {
        let most = if kind == message_type::WRITE { limits::WRITE_MESSAGE } else { limits::FILE_MESSAGE };
        let wanted = (send.srcmsglen as usize).min(most);
        if message.len() < wanted {
            // what can go nowhere is not fetched
            let slot = self.connections.get(&send.conn).and_then(|c| c.files.get(&send.coid));
            let takes = |file: &OpenFile| kind != message_type::WRITE || file.is_writable();
            return match slot {
                Some(Slot::Open(file)) if takes(file) => self.gather(send, message, wanted),
                _ => self.fail(send.txn, Errno::EBADF),
            };
        }
        self.on_file_message(send, kind, message.get(..wanted).unwrap_or(message).to_vec(), None)
    }

    pub(super) fn on_file_message(
        &mut self,
        send: Send,
        kind: u16,
        message: Vec<u8>,
        grant: Option<Grant>,
    ) -> Result<(), PeerError> {
        let Some(file) = self.open_file(send.conn, send.coid) else {
            return self.fail(send.txn, Errno::EBADF);
        };
        let work = if kind == message_type::CLOSE {
            // later messages do not find it any more; requests that run keep it open until they end
            if let Some(connection) = self.connections.get_mut(&send.conn) {
                connection.files.remove(&send.coid);
            }
            Work::Release { files: vec![file] }
        } else {
            let source = copy_source(&message).and_then(|coid| self.open_file(send.conn, coid));
            Work::File { message, file, source }
        };
        let serial = self.next_serial();
        self.queue_transaction(send, serial, work, grant)
    }

    fn queue_transaction(
        &mut self,
        send: Send,
        serial: u64,
        work: Work,
        grant: Option<Grant>,
    ) -> Result<(), PeerError> {
        let Some(mut job) = self.new_job(send.conn, work, send.dstmsglen) else {
            return self.fail(send.txn, Errno::EBADF);
        };
        job.txn = Some((send.txn, serial));
        job.coid = send.coid;
        job.grant = grant;
        job.closes = usize::from(matches!(job.request.work, Work::Release { .. }));
        let transaction = Transaction { conn: send.conn, coid: send.coid, serial, stage: Stage::Queued };
        self.transactions.insert(send.txn, transaction);
        self.enqueue(job);
        Ok(())
    }

    fn on_unblock(&mut self, txn: u32) -> Result<(), PeerError> {
        let Some(transaction) = self.transactions.get(&txn) else { return Ok(()) };
        match &transaction.stage {
            Stage::Running(cancel, may_leave) => {
                cancel.set();
                if *may_leave {
                    let (conn, coid, serial) = (transaction.conn, transaction.coid, transaction.serial);
                    self.unreserve_file(conn, coid, serial);
                    return self.fail(txn, Errno::EINTR);
                }
            }
            Stage::Queued => {
                let (conn, coid, serial) = (transaction.conn, transaction.coid, transaction.serial);
                if self.take_from_queue(conn, txn) {
                    self.unreserve_file(conn, coid, serial);
                    return self.fail(txn, Errno::EINTR);
                }
            }
            Stage::Gathering(_) => return self.fail(txn, Errno::EINTR),
            Stage::Later => {
                let (conn, coid, serial) = (transaction.conn, transaction.coid, transaction.serial);
                self.cancel_later(|job| job.txn.is_some_and(|(number, _)| number == txn));
                self.unreserve_file(conn, coid, serial);
                return self.fail(txn, Errno::EINTR);
            }
            Stage::Waiting(fd) => {
                let fd = *fd;
                self.cancel_waiting(fd, |job| job.txn.is_some_and(|(number, _)| number == txn));
                return self.fail(txn, Errno::EINTR);
            }
        }
        Ok(())
    }

    /// Forgets a request before its turn. Not a close: the caller could not repeat it.
    fn take_from_queue(&mut self, conn: u32, txn: u32) -> bool {
        let Some(connection) = self.connections.get_mut(&conn) else { return false };
        let meant = |job: &Job| job.txn.is_some_and(|(number, _)| number == txn) && !job.is_release();
        let Some(job) = connection.queue.iter().position(meant).and_then(|at| connection.queue.remove(at))
        else {
            return false;
        };
        if connection.queue.is_empty() {
            self.ring.retain(|queued| *queued != conn);
        }
        self.count_queued(job.nd, -1);
        true
    }

    /// Ends a connection: its transactions without an answer, its files closed.
    pub(super) fn disconnect(&mut self, conn: u32) {
        let Some(mut connection) = self.connections.remove(&conn) else { return };
        self.ring.retain(|queued| *queued != conn);
        let places = connection.files.len();
        let open = connection.files.drain().filter_map(|(_, slot)| match slot {
            Slot::Open(file) => Some(file),
            Slot::Opening(_) => None,
        });
        let mut files: Vec<_> = open.collect();
        // what was only reserved; an open that still succeeds is counted when it is found to be too late
        self.forget_files(connection.nd, places - files.len());
        self.abandon_transactions(conn);
        for job in connection.queue.drain(..) {
            self.count_queued(job.nd, -1);
            // a file whose close was still to be done
            if let Work::Release { files: closing } = job.request.work {
                files.extend(closing);
            }
        }
        if !files.is_empty() {
            self.release(connection.nd, files);
        }
        if let Some(share) = self.shares.get_mut(&connection.nd) {
            share.connections = share.connections.saturating_sub(1);
        }
        self.drop_idle_share(connection.nd);
    }

    fn abandon_transactions(&mut self, conn: u32) {
        let of_conn: Vec<u32> =
            self.transactions.iter().filter(|(_, t)| t.conn == conn).map(|(txn, _)| *txn).collect();
        for txn in &of_conn {
            let Some(transaction) = self.transactions.remove(txn) else { continue };
            match transaction.stage {
                Stage::Running(cancel, _) => cancel.set(),
                Stage::Waiting(fd) => self.cancel_waiting(fd, |job| job.conn == conn),
                Stage::Later => self.cancel_later(|job| job.conn == conn),
                Stage::Gathering(_) | Stage::Queued => {}
            }
        }
        self.outbox.forget(|txn| of_conn.contains(&txn));
    }
}

/// What a message gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivingBack {
    File,
    Lock,
}

/// What a message gives back, if it does.
fn giving_back(message: &[u8]) -> Option<GivingBack> {
    match peek_type(message)? {
        message_type::CLOSE => Some(GivingBack::File),
        message_type::MSG => {
            let Ok((Io::Msg { mgrid: filesys::MGRID, subtype, data }, _)) = Io::parse(message) else {
                return None;
            };
            // one with a long tail would be a way to make this process hold more than it says
            let request =
                lock::Request::parse(subtype, data).ok().filter(|_| data.len() <= lock::REQUEST_LEN)?;
            let unlocks = request.verb == Verb::Set && request.kind == Kind::Unlock;
            (unlocks || request.verb == Verb::Release).then_some(GivingBack::Lock)
        }
        _ => None,
    }
}

/// The number of the file that QNX's LINK gives one more name: `coid` in the `_msg_info` behind the path.
fn link_source(message: &[u8]) -> Option<i32> {
    match ConnectMessage::parse(message).ok()? {
        ConnectMessage { subtype: Subtype::Link, extra: Extra::Link(info), .. } => {
            info.get(24..28)?.try_into().ok().map(i32::from_le_bytes)
        }
        _ => None,
    }
}

/// The number of the file that a COPY reads from.
fn copy_source(message: &[u8]) -> Option<i32> {
    let Ok((Io::Msg { mgrid: filesys::MGRID, subtype: filesys::subtype::COPY, data }, _)) =
        Io::parse(message)
    else {
        return None;
    };
    match filesys::Request::parse(filesys::subtype::COPY, data) {
        Ok(filesys::Request::Copy { source, .. }) => Some(source),
        _ => None,
    }
}
