//! Events: what a client wants to happen in its own process when a server says so (`struct sigevent`).

use qnet_ipc::packet::Sigevent;

use crate::{
    Error, calls,
    link::Link,
    process::{self, lock},
    sys,
};

/// QNX's numbers of the kinds of events, as they travel.
mod notify {
    pub(super) const NONE: u32 = 0;
    pub(super) const SIGNAL: u32 = 1;
    pub(super) const SIGNAL_CODE: u32 = 2;
    pub(super) const SIGNAL_THREAD: u32 = 3;
    pub(super) const PULSE: u32 = 4;
    pub(super) const UNBLOCK: u32 = 5;
    pub(super) const HANDLE: u32 = 8;
    /// The bits that hold the kind; flags of C programs stand above.
    pub(super) const KIND: u32 = 0xff;
}

/// What is to happen, `struct sigevent` as a value.
#[doc(alias = "sigevent")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Event {
    /// `SIGEV_NONE`: nothing.
    #[default]
    None,
    /// `SIGEV_UNBLOCK`: the call that waits ends with `ETIMEDOUT`; for [`crate::calls::timer_timeout`] only.
    Unblock,
    /// `SIGEV_PULSE`: a pulse over a connection of the client, usually to a channel of its own.
    Pulse {
        /// Connection of the process that the event happens in.
        coid: i32,
        /// Priority; negative: that of the receiver.
        priority: i16,
        /// Code, 0 to 127.
        code: i16,
        /// Value.
        value: u64,
    },
    /// `SIGEV_SIGNAL`: a signal to the process.
    Signal {
        /// Number of the signal.
        signo: i32,
    },
    /// `SIGEV_SIGNAL_CODE`: a signal with a value to the process.
    SignalCode {
        /// Number of the signal.
        signo: i32,
        /// Code.
        code: i16,
        /// Value.
        value: u64,
    },
    /// `SIGEV_SIGNAL_THREAD`: a signal with a value to the thread that asked for the event. Linux tells a library of no
    /// thread but its own, so it goes to the process: any thread that does not block it takes it.
    SignalThread {
        /// Number of the signal.
        signo: i32,
        /// Code.
        code: i16,
        /// Value.
        value: u64,
    },
    /// An event that the client registered ([`crate::calls::msg_register_event`]), by its handle.
    Registered {
        /// The handle, above 0.
        handle: i32,
    },
}

impl Event {
    /// The event as it travels.
    #[must_use]
    pub fn to_packet(self) -> Sigevent {
        let signal = |notify, id, code, value| Sigevent { notify, id, code, value, priority: 0 };
        match self {
            Self::None => Sigevent::default(),
            Self::Unblock => signal(notify::UNBLOCK, 0, 0, 0),
            Self::Pulse { coid, priority, code, value } => {
                Sigevent { priority, ..signal(notify::PULSE, coid, code, value) }
            }
            Self::Signal { signo } => signal(notify::SIGNAL, signo, 0, 0),
            Self::SignalCode { signo, code, value } => signal(notify::SIGNAL_CODE, signo, code, value),
            Self::SignalThread { signo, code, value } => signal(notify::SIGNAL_THREAD, signo, code, value),
            Self::Registered { handle } => signal(notify::HANDLE, handle, 0, 0),
        }
    }

    /// The event in a packet; `None` for a kind that does not exist.
    #[must_use]
    pub fn from_packet(event: Sigevent) -> Option<Self> {
        let Sigevent { notify, id, value, code, priority } = event;
        Some(match notify & notify::KIND {
            notify::NONE => Self::None,
            notify::UNBLOCK => Self::Unblock,
            notify::PULSE => Self::Pulse { coid: id, priority, code, value },
            notify::SIGNAL => Self::Signal { signo: id },
            notify::SIGNAL_CODE => Self::SignalCode { signo: id, code, value },
            notify::SIGNAL_THREAD => Self::SignalThread { signo: id, code, value },
            notify::HANDLE => Self::Registered { handle: id },
            _ => return None,
        })
    }
}

/// Lets happen what the server behind a link asked for.
///
/// DEVIATION: QNX lets any server deliver any event; here one that the process did not register is taken only from servers of
/// the same user and of root, who could send it signals as well.
pub(crate) fn perform(link: &Link, event: Event) {
    let event = match event {
        Event::Registered { handle } => {
            let registered = lock(&process::get().events).get(&handle).copied();
            let of_link = |coid: i32| {
                coid < 0
                    || process::get().connection(coid).is_ok_and(|connection| connection.is_on(link, None))
            };
            match registered {
                Some((event, coid)) if of_link(coid) => event,
                _ => return,
            }
        }
        event if link.is_trusted() => event,
        _ => return,
    };
    perform_own(event);
}

/// Whether an event can be delivered at all.
pub(crate) fn is_well_formed(event: &Event) -> bool {
    let is_signal = |signo: &i32| (1..=libc::SIGRTMAX()).contains(signo);
    match event {
        Event::None => true,
        Event::Unblock => false,
        Event::Pulse { code, priority, .. } => (0..=127).contains(code) && *priority <= 255,
        Event::Signal { signo } | Event::SignalCode { signo, .. } | Event::SignalThread { signo, .. } => {
            is_signal(signo)
        }
        Event::Registered { handle } => *handle > 0,
    }
}

/// Lets happen what this process itself wanted.
pub(crate) fn perform_own(event: Event) {
    // Nobody is there to hear of an event that cannot happen.
    let _lost = deliver(event);
}

/// Lets an event happen in this process.
///
/// # Errors
/// `EBADF`: no such connection; `EAGAIN`: the pulse or signal finds no room; `EINVAL`: no such signal or code, or an event
/// that cannot happen by itself.
pub(crate) fn deliver(event: Event) -> Result<(), Error> {
    match event {
        Event::None => Ok(()),
        Event::Unblock => Err(Error::Errno(libc::EINVAL)),
        Event::Pulse { coid, priority, code, value } => {
            calls::msg_send_pulse(coid, priority.into(), code.into(), value)
        }
        Event::Signal { signo } => Ok(sys::raise_signal(signo)?),
        Event::SignalCode { signo, value, .. } | Event::SignalThread { signo, value, .. } => {
            Ok(sys::queue_signal(signo, value)?)
        }
        Event::Registered { handle } => {
            let registered = lock(&process::get().events).get(&handle).copied();
            match registered {
                Some((Event::Registered { .. }, _)) | None => Err(Error::Errno(libc::EINVAL)),
                Some((event, _)) => deliver(event),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_survives_the_way_to_a_packet_and_back() {
        let (signo, code, value) = (10, -3, u64::MAX);
        for event in [
            Event::None,
            Event::Unblock,
            Event::Pulse { coid: 0x4000_0001, priority: -1, code, value },
            Event::Signal { signo },
            Event::SignalCode { signo, code, value },
            Event::SignalThread { signo, code, value },
            Event::Registered { handle: 7 },
        ] {
            assert_eq!(Event::from_packet(event.to_packet()), Some(event));
        }
        assert_eq!(Event::from_packet(Sigevent { notify: 99, ..Sigevent::default() }), None);
    }
}
