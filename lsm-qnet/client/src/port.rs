//! The server's side of a channel: where its clients' packets arrive and what is received from there.
//!
//! Any number of threads share one; as everywhere in this library whoever waits reads for all ([`crate::crew`]). Only when
//! a reply did not fit into its socket and nobody waits, a thread is started that ends as soon as the client took it:
//! replying does not wait for the client, up to a mebibyte.

mod lookout;
mod queue;
mod state;
mod transfer;

use std::{
    io::IoSliceMut,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, Weak},
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        eventfd::{EfdFlags, EventFd},
    },
};
use qnet_ipc::{Claim, Listener, Root, Signals};

use crate::{
    ChannelFlags, Error, Event, MessageInfo, Pulse,
    iov::Payload,
    process::{self, SEQUENCE_BITS, lock, pid},
    sys::{self, KeptFromChild},
    thread,
};
use lookout::Vigil;
pub(crate) use state::FIRST_SCOID;
use state::{Key, State};
use transfer::Wanted;

/// What was received.
#[derive(Debug)]
pub(crate) enum Ready {
    Pulse(Pulse),
    /// A message with the bytes that came along.
    Message {
        rcvid: i32,
        info: MessageInfo,
        data: Payload,
    },
}

/// How to wait for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait {
    pub(crate) deadline: Option<Instant>,
    /// A signal handler ends the call with `EINTR`.
    pub(crate) interruptible: bool,
    pub(crate) pulses_only: bool,
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
pub(crate) struct Port {
    _kept: KeptFromChild,
    state: Mutex<State>,
    epoll: Arc<Epoll>,
    vigil: Vigil,
    /// Wakes the leader, and event loops, for what does not come from a socket.
    bell: OnceLock<EventFd>,
    flags: ChannelFlags,
    chid: i32,
    generation: u32,
}

impl Port {
    /// Opens a channel of this process.
    pub(crate) fn create(root: &Root, flags: ChannelFlags) -> Result<Arc<Self>, Error> {
        process::get().add_port(|chid| {
            let listener = match Listener::channel(&root.channel(pid(), chid)?) {
                Ok(listener) => listener,
                // Somebody sits on our address; nobody can make us share it, but there are other numbers.
                Err(error) if error.source.raw_os_error() == Some(libc::EADDRINUSE) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
            let mut failed = None;
            let port = Arc::new_cyclic(|this: &Weak<Self>| {
                let mut state = State::new(listener, Arc::clone(&epoll), flags, chid, root.path(), this);
                failed = state.listen().err();
                let (state, vigil, bell) = (Mutex::new(state), Vigil::default(), OnceLock::new());
                let (_kept, generation) = (KeptFromChild::new(epoll.0.as_fd()), sys::generation());
                Self { _kept, state, epoll, vigil, bell, flags, chid, generation }
            });
            failed.map_or(Ok(Some(port)), |errno| Err(errno.into()))
        })
    }

    pub(crate) fn flags(&self) -> ChannelFlags {
        self.flags
    }

    pub(crate) fn chid(&self) -> i32 {
        self.chid
    }

    /// Waits for the next message or pulse.
    pub(crate) fn receive(self: &Arc<Self>, how: Wait) -> Result<Ready, Error> {
        // Dropped after the lock: then the handlers run that came too late for the call.
        let mut signals = Signals::new(how.interruptible);
        let mut state = self.lock()?;
        state.listen_again();
        // What arrived meanwhile may be more urgent than what waits already.
        if state.has_ready() && !state.crew.leading {
            let now = Some(Instant::now());
            (state, _) = self.advance(state, Key::Receive, now, None, &mut Signals::unnoticed())?;
        }
        // A deadline that is over already still gives what is there: so programs ask without waiting.
        let mut looked = false;
        loop {
            if let Some(ready) = state.next(how.pulses_only) {
                let more = state.has_ready();
                if more {
                    state.crew.wake_one(Key::Receive);
                } else {
                    state.crew.hand_over();
                }
                let ring = (more || state.has_stopped()) && state.exposed;
                drop(state);
                if ring {
                    self.ring()?;
                }
                if !self.flags.contains(ChannelFlags::FIXED_PRIORITY) {
                    thread::inherit(match &ready {
                        Ready::Pulse(pulse) => pulse.priority,
                        Ready::Message { info, .. } => info.priority,
                    });
                }
                return Ok(ready);
            }
            let step;
            (state, step) = if looked {
                self.step(state, Key::Receive, how.deadline, None, &mut signals)?
            } else {
                self.advance(state, Key::Receive, how.deadline, None, &mut signals)?
            };
            looked = true;
            // A thread that always finds something, for others, never sleeps.
            let step = match step {
                Step::Something if !state.has_ready() && signals.came() => Step::Interrupted,
                step => step,
            };
            match step {
                Step::TimedOut if state.has_wanted(how.pulses_only) => {}
                Step::TimedOut => return Err(self.give_up(&state, libc::ETIMEDOUT)),
                Step::Interrupted if how.interruptible && !state.has_wanted(how.pulses_only) => {
                    return Err(self.give_up(&state, libc::EINTR));
                }
                Step::Interrupted | Step::Something => {}
            }
        }
    }

    /// As [`Port::receive`], with the message in the caller's buffers: as much of it as they hold, when its sender is on this
    /// node.
    pub(crate) fn receive_into(
        self: &Arc<Self>,
        parts: &mut [IoSliceMut<'_>],
        how: Wait,
    ) -> Result<Ready, Error> {
        let mut ready = self.receive(how)?;
        if let Ready::Message { rcvid, info, data } = &mut ready {
            // What was lent is given back before the server answers.
            let data = std::mem::replace(data, Payload::Bytes(Vec::new()));
            info.msglen = self.fill(*rcvid, info, data, parts)?;
        }
        Ok(ready)
    }

    /// A pulse of this process itself.
    pub(crate) fn post(&self, pulse: Pulse) {
        let Ok(mut state) = self.lock() else { return };
        state.push_pulse(pulse);
        let ring = state.crew.leading || state.exposed;
        drop(state);
        if ring {
            // Without a descriptor for it the pulse waits until something else wakes the receiver.
            let _no_bell = self.ring();
        }
    }

    /// About a message that waits for its answer.
    pub(crate) fn info(&self, rcvid: i32) -> Result<MessageInfo, Error> {
        self.lock()?.info(rcvid).ok_or(Error::Errno(libc::ESRCH))
    }

    /// Who a client is.
    pub(crate) fn claim(&self, client: u32) -> Result<Arc<Claim>, Error> {
        self.lock()?.claim(client).ok_or(Error::Errno(libc::ESRCH))
    }

    /// Disconnects a client.
    pub(crate) fn drop_client(&self, client: u32) -> Result<(), Error> {
        self.lock()?.remove(client);
        Ok(())
    }

    /// Lets an event happen in the client that sent, or once sent, message `rcvid`.
    pub(crate) fn deliver(&self, rcvid: i32, event: Event) -> Result<(), Error> {
        let client = rcvid.cast_unsigned() >> SEQUENCE_BITS;
        self.lock()?.deliver(client, event.to_packet()).map_err(Error::Errno)
    }

    /// Ends the channel, although messages of it may still be held.
    pub(crate) fn close(&self) {
        let Ok(mut state) = self.lock() else { return };
        state.close();
        let leading = state.crew.leading;
        drop(state);
        if leading {
            let _no_bell = self.ring();
        }
    }

    /// A descriptor that is readable when something may be received.
    pub(crate) fn expose(&self) -> BorrowedFd<'_> {
        if let Ok(mut state) = self.lock() {
            state.expose();
            let ready = state.has_ready() || state.has_stopped();
            drop(state);
            if ready {
                let _no_bell = self.ring();
            }
        }
        self.epoll.0.as_fd()
    }

    /// The state; a child of the process that made the channel has none.
    fn lock(&self) -> Result<MutexGuard<'_, State>, Error> {
        if self.generation != sys::generation() {
            return Err(Error::Errno(libc::ESRCH));
        }
        Ok(lock(&self.state))
    }

    /// The calling thread gives up waiting.
    fn give_up(&self, state: &State, errno: i32) -> Error {
        state.crew.hand_over();
        Error::Errno(errno)
    }

    fn ring(&self) -> Result<(), Error> {
        let bell = match self.bell.get() {
            Some(bell) => bell,
            None => {
                let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
                let bell = self.bell.get_or_init(|| bell);
                match self.epoll.add(bell, EpollEvent::new(EpollFlags::EPOLLIN, state::BELL)) {
                    Ok(()) | Err(Errno::EEXIST) => bell,
                    Err(errno) => return Err(errno.into()),
                }
            }
        };
        match bell.write(1) {
            // Full: it rings already.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until something happened that may concern `key`, reading the sockets for everybody if nobody else does.
    fn step<'s>(
        &'s self,
        state: MutexGuard<'s, State>,
        key: Key,
        deadline: Option<Instant>,
        wanted: Option<&mut Wanted<'_, '_>>,
        signals: &mut Signals,
    ) -> Result<(MutexGuard<'s, State>, Step), Error> {
        if deadline.is_some_and(|at| at <= Instant::now()) && !state.is_closed() {
            return Ok((state, Step::TimedOut));
        }
        self.advance(state, key, deadline, wanted, signals)
    }

    /// As [`Port::step`], and looks into the sockets also when the deadline is over.
    fn advance<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        key: Key,
        deadline: Option<Instant>,
        wanted: Option<&mut Wanted<'_, '_>>,
        signals: &mut Signals,
    ) -> Result<(MutexGuard<'s, State>, Step), Error> {
        if state.is_closed() {
            return Err(Error::Errno(libc::ESRCH));
        }
        if state.crew.leading {
            let parker = state.crew.join(key);
            drop(state);
            signals.hold();
            let woken = parker.park(deadline, signals);
            let mut state = self.lock()?;
            state.crew.leave(&parker);
            let step = if woken.is_err() { Step::Interrupted } else { Step::Something };
            return Ok((state, step));
        }
        if state.has_stopped() {
            state.go_on(wanted);
            return Ok((state, Step::Something));
        }
        state.crew.leading = true;
        let lookout = state.lookout();
        drop(state);
        let mut events = [EpollEvent::empty(); 64];
        let woken = self.vigil.wait(&self.epoll, &lookout, &mut events, deadline, signals);
        let mut state = self.lock()?;
        state.crew.leading = false;
        match woken {
            Ok(n) => {
                let mut wanted = wanted;
                self.on_events(&mut state, &events[..n], wanted.as_deref_mut());
                for client in lookout.speaking() {
                    state.read(client, wanted.as_deref_mut());
                }
                Ok((state, Step::Something))
            }
            Err(Errno::EINTR) => Ok((state, Step::Interrupted)),
            Err(errno) => {
                state.crew.hand_over();
                Err(errno.into())
            }
        }
    }

    fn on_events(&self, state: &mut State, events: &[EpollEvent], mut wanted: Option<&mut Wanted<'_, '_>>) {
        for event in events {
            if event.data() == state::BELL {
                // Nothing in it: another thread was here before.
                let _empty = self.bell.get().map(EventFd::read);
                state.go_on(wanted.as_deref_mut());
            } else {
                state.on_ready(event.data(), wanted.as_deref_mut());
            }
        }
    }
}
