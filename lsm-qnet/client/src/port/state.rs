//! What a channel knows: its clients, the messages that wait, and those received but not answered.
//!
//! ```text
//!  Send ──▶ waiting (queue, by priority) ──receive──▶ received ──reply, error──▶ forgotten
//!              └ Unblock: EINTR                          └ Unblock: pulse, or EINTR without the flag
//! ```
//!
//! An rcvid is the client's number and one of the message, each given in turn: an answer that comes too late finds
//! nothing instead of a stranger.

mod clients;
mod packets;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use qnet_ipc::{
    Claim, Listener, MAX_DATA, PeerError, PeerIdentity, ReceiveBuffer, ServerPeer, ToClient,
    packet::{Sigevent, info},
};

use super::{
    Port, Ready, Wanted,
    lookout::Lookout,
    queue::{Place, Queue, Taken},
};
use crate::{
    ChannelFlags, MessageInfo, Pulse,
    crew::Crew,
    iov::{Chunk, Payload},
    process::{self, SEQUENCE_BITS},
    sys::KeptFromChild,
};

/// Token of the listening socket; clients have their numbers, which begin at 1.
const LISTENER: u64 = 0;
/// Token of the bell.
pub(super) const BELL: u64 = u64::MAX;
/// What an scoid is more than a client's number: so that none is a coid.
pub(crate) const FIRST_SCOID: i32 = 0x2000_0000;

/// A message: its client, and the client's number for it.
pub(super) type Id = (u32, u32);

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Anything to receive.
    Receive,
    /// Pieces of that message.
    Answer(Id),
    /// Room in the socket of that client.
    Room(u32),
    /// Room in all of them.
    Flush,
}

#[derive(Debug)]
struct Client {
    _kept: KeptFromChild,
    peer: ServerPeer,
    identity: PeerIdentity,
    conns: BTreeMap<u32, Caller>,
    /// Number of its last message that was received.
    sequence: u32,
    /// Messages that wait to be received, and their bytes.
    waiting: (usize, usize),
    /// Packets wait to be sent to it.
    writing: bool,
    /// The socket is watched for room for them.
    writable: bool,
    /// It had a connection.
    attached: bool,
    /// The server was told that it is gone.
    mourned: bool,
}

/// Who is behind a connection.
#[derive(Debug)]
struct Caller {
    claim: Arc<Claim>,
    /// They changed since its last message.
    dirty: bool,
}

#[derive(Debug)]
struct Pending {
    conn: u32,
    info: MessageInfo,
    /// 0 until it is received.
    rcvid: i32,
    /// Until it is received: where it stands, and its first bytes.
    waiting: Option<(Place, Payload)>,
    /// Its sender asked to be told when it is received.
    tell_received: bool,
    /// Pieces asked for and not here yet: their numbers, and whether anybody still wants them.
    asked: VecDeque<(u64, bool)>,
    /// Pieces that came for a thread that was not reading.
    answers: Vec<(u64, Result<Vec<u8>, i32>)>,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct State {
    kept: Option<KeptFromChild>,
    listener: Option<Listener>,
    /// It is not listened to: a client waits for whom there is no descriptor.
    deaf: bool,
    epoll: Arc<Epoll>,
    this: Weak<Port>,
    flags: ChannelFlags,
    chid: i32,
    /// The node's root; whoever owns it is believed about other callers.
    root: PathBuf,
    pub(super) crew: Crew<Key>,
    /// A thread of ours sees to it that everything is sent.
    pub(super) flushing: bool,
    /// An event loop watches the channel.
    pub(super) exposed: bool,
    /// Those that spoke last, while no event loop watches.
    lookout: Lookout,
    /// Clients that have more to say, which their sockets do not show.
    stopped: Vec<u32>,
    buffer: ReceiveBuffer,
    clients: HashMap<u32, Client>,
    /// Clients for whom packets wait.
    unsent: usize,
    pending: BTreeMap<Id, Pending>,
    rcvids: HashMap<i32, Id>,
    queue: Queue<Id>,
    last_ticket: u64,
}

impl State {
    pub(super) fn new(
        listener: Listener,
        epoll: Arc<Epoll>,
        flags: ChannelFlags,
        chid: i32,
        root: &Path,
        this: &Weak<Port>,
    ) -> Self {
        use std::os::fd::AsFd;
        Self {
            kept: Some(KeptFromChild::new(listener.as_fd())),
            listener: Some(listener),
            deaf: false,
            epoll,
            this: Weak::clone(this),
            flags,
            chid,
            root: root.to_owned(),
            crew: Crew::default(),
            flushing: false,
            exposed: false,
            lookout: Lookout::default(),
            stopped: Vec::new(),
            buffer: ReceiveBuffer::new(),
            clients: HashMap::new(),
            unsent: 0,
            pending: BTreeMap::new(),
            rcvids: HashMap::new(),
            queue: Queue::new(),
            last_ticket: 0,
        }
    }

    /// Begins to hear of new clients.
    pub(super) fn listen(&mut self) -> nix::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        self.deaf = false;
        self.epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))
    }

    /// Hears of new clients again, if there were no descriptors for them: there may be now.
    pub(super) fn listen_again(&mut self) {
        if self.deaf {
            // Refused, it is tried again the next time.
            self.deaf = self.listen().is_err();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.listener.is_none()
    }

    /// Nothing is received any more, and every client is told.
    pub(super) fn close(&mut self) {
        self.kept = None;
        self.listener = None;
        self.queue.clear();
        let all: Vec<u32> = self.clients.keys().copied().collect();
        all.into_iter().for_each(|client| self.remove(client));
        self.queue.clear();
        self.crew.wake_all();
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.queue.is_empty()
    }

    /// As [`State::has_ready`], for who may want pulses only.
    pub(super) fn has_wanted(&self, pulses_only: bool) -> bool {
        if pulses_only { self.queue.pulses() > 0 } else { self.has_ready() }
    }

    /// The next thing to receive.
    pub(super) fn next(&mut self, pulses_only: bool) -> Option<Ready> {
        loop {
            let id = match self.queue.take(pulses_only)? {
                Taken::Pulse(pulse) => return Some(Ready::Pulse(pulse)),
                Taken::Message(id) => id,
            };
            if let Some(ready) = self.take(id) {
                return Some(ready);
            }
        }
    }

    /// Gives a message that was next in the queue its number.
    fn take(&mut self, id: Id) -> Option<Ready> {
        let Some(rcvid) = self.fresh_rcvid(id.0) else {
            // As many messages of one client were received and never answered as there are numbers for them.
            self.refuse(id, libc::EAGAIN);
            return None;
        };
        let pending = self.pending.get_mut(&id)?;
        let (_, data) = pending.waiting.take()?;
        pending.rcvid = rcvid;
        let info = pending.info.clone();
        let tell = pending.tell_received || self.flags.contains(ChannelFlags::UNBLOCK);
        self.rcvids.insert(rcvid, id);
        if let Some(client) = self.clients.get_mut(&id.0) {
            client.waiting.0 -= 1;
            client.waiting.1 -= data.len();
        }
        if tell {
            // A client that is gone or does not read shows soon enough.
            let _told = self.tell(id, &ToClient::Received { txn: id.1 });
        }
        Some(Ready::Message { rcvid, info, data })
    }

    fn fresh_rcvid(&mut self, number: u32) -> Option<i32> {
        let client = self.clients.get_mut(&number)?;
        for _ in 1..1 << SEQUENCE_BITS {
            client.sequence = (client.sequence + 1) & ((1 << SEQUENCE_BITS) - 1);
            let rcvid = (number << SEQUENCE_BITS | client.sequence).cast_signed();
            if !self.rcvids.contains_key(&rcvid) {
                return Some(rcvid);
            }
        }
        None
    }

    /// The message of that number, while it waits for its answer.
    pub(super) fn id_of(&self, rcvid: i32) -> Option<Id> {
        self.rcvids.get(&rcvid).copied()
    }

    pub(super) fn info(&self, rcvid: i32) -> Option<MessageInfo> {
        self.pending.get(&self.id_of(rcvid)?).map(|pending| pending.info.clone())
    }

    /// Length of the whole message.
    pub(super) fn message_len(&self, id: Id) -> Option<usize> {
        self.pending.get(&id).map(|pending| pending.info.srcmsglen as usize)
    }

    /// Room in the sender's reply buffers.
    pub(super) fn reply_len(&self, id: Id) -> Option<usize> {
        self.pending.get(&id).map(|pending| pending.info.dstmsglen as usize)
    }

    /// Most bytes of data that a packet about a message may carry now.
    pub(super) fn room(&mut self, id: Id) -> usize {
        self.clients.get_mut(&id.0).map_or(MAX_DATA, |client| client.peer.room())
    }

    /// Sends a packet about a message; `None`: not now, the client does not read.
    pub(super) fn tell(&mut self, id: Id, packet: &ToClient<'_>) -> Option<Result<(), i32>> {
        let Some(client) = self.clients.get_mut(&id.0).filter(|_| self.pending.contains_key(&id)) else {
            return Some(Err(libc::ESRCH));
        };
        let outcome = match client.peer.send(packet) {
            Ok(()) => Some(Ok(())),
            Err(PeerError::Full { .. }) => None,
            Err(PeerError::TooLong { .. }) => Some(Err(libc::EMSGSIZE)),
            Err(_) => Some(Err(libc::ESRCH)),
        };
        self.watch(id.0);
        outcome
    }

    /// Asks for a piece of a message; gives the number of the answer. `None`: not now.
    pub(super) fn ask(&mut self, id: Id, offset: u32, nbytes: u32) -> Option<Result<u64, i32>> {
        match self.tell(id, &ToClient::Read { txn: id.1, offset, nbytes })? {
            Err(errno) => Some(Err(errno)),
            Ok(()) => {
                self.last_ticket += 1;
                let pending = self.pending.get_mut(&id)?;
                pending.asked.push_back((self.last_ticket, true));
                Some(Ok(self.last_ticket))
            }
        }
    }

    /// Nobody wants these pieces any more.
    pub(super) fn abandon(&mut self, id: Id, tickets: impl Iterator<Item = u64>) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        for ticket in tickets {
            pending
                .asked
                .iter_mut()
                .filter(|(asked, _)| *asked == ticket)
                .for_each(|(_, wanted)| *wanted = false);
            pending.answers.retain(|(answered, _)| *answered != ticket);
        }
    }

    /// Hands over the pieces that other threads took in.
    pub(super) fn collect(&mut self, wanted: &mut Wanted<'_, '_>) {
        let Some(pending) = self.pending.get_mut(&wanted.id) else { return };
        pending.answers.retain(|(ticket, data)| {
            !wanted.place(*ticket, data.as_ref().map(|data| Chunk::Here(data)).map_err(|errno| *errno))
        });
    }

    /// Whether packets wait for slow clients.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// The message is about to be answered: its number is void from now on.
    pub(super) fn begin_end(&mut self, rcvid: i32) -> Option<Id> {
        self.rcvids.remove(&rcvid)
    }

    /// The message is over.
    pub(super) fn forget(&mut self, id: Id) {
        let Some(pending) = self.pending.remove(&id) else { return };
        self.rcvids.remove(&pending.rcvid);
        if let Some((place, data)) = pending.waiting {
            self.queue.remove(place);
            if let Some(client) = self.clients.get_mut(&id.0) {
                client.waiting.0 -= 1;
                client.waiting.1 -= data.len();
            }
        }
        self.crew.wake(Key::Answer(id));
    }

    /// Ends a message with an error, if its client still listens.
    pub(super) fn refuse(&mut self, id: Id, errno: i32) {
        if self.tell(id, &ToClient::Error { txn: id.1, errno }).is_none() {
            // A client that reads nothing and asks for more is not worth its memory.
            self.remove(id.0);
        }
        self.forget(id);
    }

    /// Who a client is: as it claims for its first connection, if it may.
    pub(super) fn claim(&self, number: u32) -> Option<Arc<Claim>> {
        let client = self.clients.get(&number)?;
        let first = client.conns.first_key_value().map(|(_, caller)| Arc::clone(&caller.claim));
        first.or_else(|| Some(Arc::new(clients::own_claim(&client.identity))))
    }

    /// Sends an event to a client.
    pub(super) fn deliver(&mut self, number: u32, event: Sigevent) -> Result<(), i32> {
        let client = self.clients.get_mut(&number).ok_or(libc::ESRCH)?;
        let conn = *client.conns.first_key_value().ok_or(libc::ESRCH)?.0;
        let sent = match client.peer.send(&ToClient::Event { conn, event }) {
            Ok(()) => Ok(()),
            Err(PeerError::Full { .. }) => Err(libc::EAGAIN),
            Err(_) => Err(libc::ESRCH),
        };
        self.watch(number);
        sent
    }

    pub(super) fn push_pulse(&mut self, pulse: Pulse) {
        self.queue.push_pulse(pulse);
        self.crew.wake_one(Key::Receive);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let process = process::get();
        process.remove_port(self.chid);
        self.clients.keys().for_each(|number| process.remove_client(*number));
    }
}

/// A pulse about a client.
fn pulse(code: i8, value: u64, priority: i32, number: u32) -> Pulse {
    Pulse { code, value, priority, scoid: scoid(number) }
}

/// A client's number as programs see it.
fn scoid(number: u32) -> i32 {
    FIRST_SCOID + number.cast_signed()
}

/// Whether a sender asked to be told.
fn tells_received(flags: u32) -> bool {
    flags & info::TELL_RECEIVED != 0
}
