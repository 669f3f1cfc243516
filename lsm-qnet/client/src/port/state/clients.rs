//! Clients: how they come, go, and are answered.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
};

use nix::{
    sys::epoll::{EpollEvent, EpollFlags},
    unistd::{Pid, getsid},
};
use qnet_ipc::{Claim, PeerError, PeerIdentity, ToClient};

use super::{super::lookout::Lookout, Client, Key, LISTENER, State, Wanted, pulse};
use crate::{
    ChannelFlags, Pulse,
    process::{self, SEQUENCE_BITS},
    sys::KeptFromChild,
    thread::DEFAULT_PRIORITY,
};

/// Packets of one client that are taken in before the others have their turn.
const PACKETS: usize = 64;

impl State {
    /// Something happened on a socket.
    pub(in super::super) fn on_ready(&mut self, token: u64, wanted: Option<&mut Wanted<'_, '_>>) {
        if token == LISTENER {
            return self.accept();
        }
        if let Some(client) = self.clients.get(&(token as u32)) {
            client.peer.socket_is_ready();
        }
        self.read(token as u32, wanted);
    }

    /// Those whose memory is worth a look.
    pub(in super::super) fn lookout(&self) -> Lookout {
        self.lookout.clone()
    }

    /// Whether clients have more to say, which their sockets do not show.
    pub(in super::super) fn has_stopped(&self) -> bool {
        !self.stopped.is_empty()
    }

    /// Listens to them.
    pub(in super::super) fn go_on(&mut self, mut wanted: Option<&mut Wanted<'_, '_>>) {
        for number in std::mem::take(&mut self.stopped) {
            self.read(number, wanted.as_deref_mut());
        }
    }

    /// An event loop watches from now on: every client tells through its socket that it has spoken.
    pub(in super::super) fn expose(&mut self) {
        self.exposed = true;
        for number in std::mem::take(&mut self.lookout).clients() {
            self.neglect(number);
        }
    }

    /// A client has spoken: for a while it is looked at.
    fn attend(&mut self, number: u32) {
        if self.exposed || self.lookout.contains(number) {
            return;
        }
        let Some(client) = self.clients.get_mut(&number).filter(|client| client.peer.uses_ring()) else {
            return;
        };
        client.peer.set_attended(true);
        // The channel's epoll set does.
        client.peer.set_told_again(true);
        let (lookout, off) = self.lookout.with(number, client.peer.watch());
        self.lookout = lookout;
        if let Some(number) = off {
            self.neglect(number);
        }
    }

    /// A client is not looked at any more.
    fn neglect(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        client.peer.set_attended(false);
        if !client.peer.arm() {
            self.stopped.push(number);
        }
    }

    fn accept(&mut self) {
        loop {
            let Some(listener) = &self.listener else { return };
            let (peer, mut identity) = match listener.accept() {
                Ok(Some(client)) => client,
                Ok(None) => return,
                Err(_) => {
                    // No descriptors left: the client waits in the kernel's queue until there may be one. Meanwhile the
                    // socket would tell of it again and again.
                    self.deaf = self.epoll.delete(listener).is_ok();
                    return;
                }
            };
            // Who it was when it connected is what counts; a second descriptor for each client is not worth it.
            identity.pidfd = None;
            // More clients than there are numbers: the socket closes, as of a server that is gone.
            let Some(number) = process::get().add_client(&self.this) else { continue };
            if self.epoll.add(&peer, EpollEvent::new(EpollFlags::EPOLLIN, number.into())).is_err() {
                process::get().remove_client(number);
                continue;
            }
            let client = Client {
                _kept: KeptFromChild::new(peer.as_fd()),
                peer,
                identity,
                conns: BTreeMap::new(),
                sequence: 0,
                waiting: (0, 0),
                writing: false,
                writable: false,
                attached: false,
                mourned: false,
            };
            self.clients.insert(number, client);
        }
    }

    /// Takes in what a client has said; whether it said anything.
    pub(in super::super) fn read(&mut self, number: u32, mut wanted: Option<&mut Wanted<'_, '_>>) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut heard = false;
        for n in 0..=PACKETS {
            let Some(client) = self.clients.get_mut(&number) else { break };
            if n == PACKETS {
                // On a socket the rest shows by itself; in memory it does not.
                self.stopped.push(number);
                self.watch(number);
                break;
            }
            // What cannot be sent any more does not matter: the end shows up in `recv`.
            let _gone = client.peer.flush();
            match client.peer.recv_lent(&mut buffer) {
                Ok(Some((packet, loan))) => {
                    heard = true;
                    self.on_packet(number, packet, loan, wanted.as_deref_mut());
                    if n == 0 {
                        self.attend(number);
                    }
                }
                Ok(None) => {
                    self.watch(number);
                    break;
                }
                Err(_) => {
                    heard = true;
                    self.remove(number);
                    break;
                }
            }
        }
        self.buffer = buffer;
        heard
    }

    /// Takes in what the client behind a message has said up to now: it may have left. Whether it said anything.
    pub(in super::super) fn hear(&mut self, rcvid: i32) -> bool {
        let number = rcvid.cast_unsigned() >> SEQUENCE_BITS;
        let Some(client) = self.clients.get(&number) else { return false };
        // In memory it can be seen, on a socket it must be asked for.
        let speaks = if client.peer.uses_ring() { client.peer.has_packets() } else { true };
        speaks && self.read(number, None)
    }

    /// Answers at once; a client that does not read its answers is dropped.
    pub(super) fn answer(&mut self, number: u32, packet: &ToClient<'_>) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        match client.peer.send(packet) {
            Err(PeerError::Full { .. }) => self.remove(number),
            // Other errors show up in `recv`, behind what the client said before.
            Ok(()) | Err(_) => self.watch(number),
        }
    }

    /// Watches for writability while something waits to be written.
    pub(super) fn watch(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let (writing, writable) = (client.peer.wants_write(), client.peer.wants_writable());
        if writing != client.writing {
            client.writing = writing;
            if writing {
                self.unsent += 1;
            } else {
                self.unsent -= 1;
                self.crew.wake(Key::Room(number));
                self.crew.wake(Key::Flush);
            }
        }
        if writable == client.writable {
            return;
        }
        client.writable = writable;
        let mut interest = EpollFlags::EPOLLIN;
        interest.set(EpollFlags::EPOLLOUT, writable);
        if self.epoll.modify(&client.peer, &mut EpollEvent::new(interest, number.into())).is_err() {
            self.remove(number);
        }
    }

    /// A client is gone, or not wanted any more.
    pub(in super::super) fn remove(&mut self, number: u32) {
        let ids: Vec<_> = self.pending.range((number, 0)..=(number, u32::MAX)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.forget(id));
        self.mourn(number);
        let Some(client) = self.clients.remove(&number) else { return };
        // Its descriptor is free when this call is over, before anybody looks at the socket.
        self.listen_again();
        if self.lookout.contains(number) {
            self.lookout = self.lookout.without(number);
        }
        process::get().remove_client(number);
        if client.writing {
            self.unsent -= 1;
            self.crew.wake(Key::Flush);
        }
        self.crew.wake(Key::Room(number));
        // Closing the socket would do it too, but another thread may hold it for a moment longer.
        let _closed = self.epoll.delete(&client.peer);
        // Its end is for now, whoever still holds the socket.
        let _gone = nix::sys::socket::shutdown(client.peer.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }

    /// Tells the server, once, that a client has no connection any more.
    pub(super) fn mourn(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        // One that never attached was never there.
        if client.mourned || !client.attached {
            return;
        }
        client.mourned = true;
        if self.flags.contains(ChannelFlags::DISCONNECT) {
            self.push_pulse(pulse(Pulse::DISCONNECT, 0, DEFAULT_PRIORITY, number));
        }
    }
}

/// What the kernel says of a process of this node.
pub(super) fn own_claim(identity: &PeerIdentity) -> Claim {
    // A process of another PID namespace has no number here, so no session either.
    let sid =
        if identity.pid > 0 { getsid(Some(Pid::from_raw(identity.pid))).map_or(0, Pid::as_raw) } else { 0 };
    let claim = Claim::user(identity.uid, identity.gid, identity.groups.clone());
    Claim { pid: identity.pid, sid, ..claim }
}

/// The claim of a connection, if the client may make one.
pub(super) fn credentials(
    claim: Option<Claim>,
    identity: &PeerIdentity,
    owner: Option<u32>,
) -> Result<Arc<Claim>, i32> {
    match claim {
        Some(claim) if owner == Some(identity.uid) => Ok(Arc::new(claim)),
        Some(_) => Err(libc::EPERM),
        None => Ok(Arc::new(own_claim(identity))),
    }
}
