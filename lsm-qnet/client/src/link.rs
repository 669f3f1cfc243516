//! The client's end of one channel socket, shared by the threads and connections that use it.
//!
//! A process has one for each channel that it is connected to, and one for everything that goes through `lsm-qnet`. There
//! is no thread behind it: whoever waits reads for all ([`crate::crew`]).

mod call;
mod state;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, Weak},
    thread,
    time::{Duration, Instant},
};

use qnet_ipc::{ChannelAddress, ClientPeer, ConnectError, PeerError, PeerIdentity, Root, Signals, ToServer};

use crate::{
    Error, LOCAL_NODE,
    event::perform,
    process::{self, lock},
    sys::{self, KeptFromChild},
};
pub(crate) use call::Call;
pub(crate) use state::ConnState;
use state::{Direct, Notice, State};

/// Where a link leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// A channel of this machine.
    Channel(ChannelAddress),
    /// `lsm-qnet` of a node.
    Qnet(PathBuf),
}

/// What a wait brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Something,
    TimedOut,
    Interrupted,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Link {
    _kept: KeptFromChild,
    state: Mutex<State>,
    socket: Arc<OwnedFd>,
    /// Who is at the other end.
    identity: PeerIdentity,
    through_qnet: bool,
    generation: u32,
}

impl Link {
    /// The link of this process to a channel, made if there is none.
    pub(crate) fn to(root: &Root, nd: u32, pid: i32, chid: i32) -> Result<Arc<Self>, Error> {
        let through_qnet = nd != LOCAL_NODE || matches!((pid, chid), (0, 0) | (1, 1));
        let target = if through_qnet {
            Target::Qnet(root.qnet_socket())
        } else {
            Target::Channel(root.channel(pid, chid)?)
        };
        let known = lock(&process::get().links).get(&target).and_then(Weak::upgrade);
        if let Some(link) = known.filter(|link| link.is_alive()) {
            return Ok(link);
        }
        let (mut peer, identity) = match &target {
            Target::Qnet(path) => in_turn(|| qnet_ipc::connect_path(path))?,
            Target::Channel(address) => in_turn(|| qnet_ipc::connect_channel(address))?,
        };
        // Refused, it sleeps with more system calls.
        let _as_well = peer.set_blocking();
        let socket = peer.socket();
        let link = Arc::new(Self {
            _kept: KeptFromChild::new(socket.as_fd()),
            state: Mutex::new(State::new(peer, through_qnet)),
            socket,
            identity,
            through_qnet,
            generation: sys::generation(),
        });
        let mut links = lock(&process::get().links);
        // Another thread was faster: one socket for both.
        if let Some(other) = links.get(&target).and_then(Weak::upgrade)
            && other.try_is_alive()
        {
            return Ok(other);
        }
        if links.len() >= 64 && links.len().is_power_of_two() {
            links.retain(|_, link| link.strong_count() > 0);
        }
        links.insert(target, Arc::downgrade(&link));
        drop(links);
        crate::watch::on_new_link(&link);
        Ok(link)
    }

    /// The state. A thread that panicked holding it left it consistent: it is changed only by whole packets.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether this process may use it: a child of the one that made it may not.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == sys::generation()
    }

    /// Whether what it leads to is asked through `lsm-qnet`.
    pub(crate) fn is_through_qnet(&self) -> bool {
        self.through_qnet
    }

    /// Whether the other end may let events happen here that this process did not register: whoever could send it signals
    /// may.
    pub(crate) fn is_trusted(&self) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        self.identity.uid == 0 || self.identity.uid == own
    }

    /// Whether the other end is there, as far as it has been heard.
    pub(crate) fn is_alive(&self) -> bool {
        self.look();
        !self.lock().is_dead()
    }

    /// The same for who holds another lock; a link that is in use is alive.
    fn try_is_alive(&self) -> bool {
        self.state.try_lock().map_or(true, |state| !state.is_dead())
    }

    /// The socket, for whoever watches it.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes in what has arrived, without waiting; somebody who waits does it anyway.
    pub(crate) fn look(&self) {
        if !self.is_ours() {
            return;
        }
        let mut state = self.lock();
        if !state.crew.leading {
            state.look();
            state.crew.hand_over();
        }
        self.pass_on(state);
    }

    /// Sends a packet, waiting for room as long as it takes.
    pub(crate) fn send(&self, packet: &ToServer<'_>) -> Result<(), Error> {
        let mut state = self.lock();
        let sent = loop {
            match state.send(packet) {
                Err(PeerError::Full { .. }) => {}
                sent => break sent,
            }
            (state, _) = self.step(state, 0, None, None, &Signals::unnoticed())?;
        };
        self.leave(state);
        sent.map_err(Error::Peer)
    }

    /// Waits a moment until everything is sent; whether it is. Not for a server that was waited for in vain, nor for this very
    /// process, which does not receive meanwhile.
    pub(crate) fn drain(&self, patience: Duration) -> bool {
        let mut state = self.lock();
        if !state.has_unsent() {
            state.stuck = false;
            return true;
        }
        if state.stuck || self.identity.pid == process::pid() {
            return false;
        }
        let deadline = Instant::now() + patience;
        while state.has_unsent() && !state.is_dead() {
            match self.step(state, 0, Some(deadline), None, &Signals::unnoticed()) {
                Ok((now, Step::TimedOut)) => {
                    state = now;
                    state.stuck = true;
                    break;
                }
                Ok((now, _)) => state = now,
                Err(_) => return false,
            }
        }
        let sent = !state.has_unsent();
        self.leave(state);
        sent
    }

    /// Waits until `ready` gives a value.
    pub(crate) fn wait<T>(
        &self,
        key: u32,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, Error> {
        let mut state = self.lock();
        loop {
            if let Some(value) = ready(&mut state) {
                self.leave(state);
                return Ok(value);
            }
            if state.is_dead() {
                return Err(Error::Errno(libc::EBADF));
            }
            (state, _) = self.step(state, key, None, None, &Signals::unnoticed())?;
        }
    }

    /// Waits until something happened that may concern `key` (a transaction, a connection, or 0 for room in the socket),
    /// reading the socket for everybody if nobody else does.
    fn step<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        key: u32,
        deadline: Option<Instant>,
        direct: Option<&mut Direct<'_, '_>>,
        signals: &Signals,
    ) -> Result<(MutexGuard<'s, State>, Step), Error> {
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return Ok((state, Step::TimedOut));
        }
        let (read, write) = (!state.crew.leading, state.wants_writable() && !state.writing);
        if !read && !write {
            let parker = state.crew.join(key);
            drop(state);
            let woken = parker.park(deadline, signals);
            let mut state = self.lock();
            state.crew.leave(&parker);
            let step = if woken.is_err() { Step::Interrupted } else { Step::Something };
            return Ok((state, step));
        }
        state.crew.leading |= read;
        state.writing |= write;
        let watch = state.watch();
        drop(state);
        let woken = watch.wait(read, write, deadline, signals);
        let mut state = self.lock();
        state.crew.leading &= !read;
        state.writing &= !write;
        match woken {
            Ok(woken) => {
                if woken && read {
                    state.pump(direct);
                } else if woken {
                    // Reading is for who leads: it sleeps on, whatever is taken from under its eyes, and does not hear
                    // of memory that the packets go through from then on.
                    state.flush();
                }
                state = self.pass_on_and_return(state);
                Ok((state, Step::Something))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok((state, Step::Interrupted)),
            Err(error) => {
                state.crew.hand_over();
                Err(error.into())
            }
        }
    }

    /// The calling thread is done. If a thread watches the link while nobody waits, it must hear of what comes.
    fn leave(&self, mut state: MutexGuard<'_, State>) {
        state.crew.hand_over();
        if !state.crew.leading && process::get().watch.get().is_some() {
            // The bell may have been taken with something behind it, of which the watching thread was told meanwhile.
            state.look();
            self.pass_on(state);
        }
    }

    /// Does what arrived beside the answers: events, and the end of servers, in their order. Who comes while another thread is
    /// at it leaves his to that one: two at a time would overtake each other.
    fn pass_on<'s>(&'s self, mut state: MutexGuard<'s, State>) {
        if state.passing_on || !state.has_notices() {
            return;
        }
        state.passing_on = true;
        let passing = Passing(self);
        loop {
            let notices = state.take_notices();
            if notices.is_empty() {
                // At once: what comes from here on is for others.
                state.passing_on = false;
                std::mem::forget(passing);
                return;
            }
            drop(state);
            for notice in notices {
                match notice {
                    Notice::Event(event) => perform(self, event),
                    Notice::Death(conn) => {
                        process::get().servers_died(|connection| connection.is_on(self, conn));
                    }
                }
            }
            state = self.lock();
        }
    }

    fn pass_on_and_return<'s>(&'s self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        if !state.has_notices() {
            return state;
        }
        self.pass_on(state);
        self.lock()
    }
}

/// A thread that passes on what arrived; others do when it has come to a sudden end (a panic, `pthread_cancel`).
struct Passing<'l>(&'l Link);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.lock().passing_on = false;
    }
}

/// Connects. While more clients wait at the server's door than the kernel holds, it waits for its turn: there is no
/// event to wait for, so it asks again and again, ever more rarely, for some ten seconds.
fn in_turn(
    mut attempt: impl FnMut() -> Result<(ClientPeer, PeerIdentity), ConnectError>,
) -> Result<(ClientPeer, PeerIdentity), ConnectError> {
    let mut pause = Duration::from_millis(1);
    loop {
        match attempt() {
            Err(error) if error.errno() == libc::EAGAIN && pause < Duration::from_secs(8) => {
                thread::sleep(pause);
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests;
