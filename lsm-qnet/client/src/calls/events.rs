//! Events and timeouts.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{
    Error, Event,
    event::{deliver, is_well_formed},
    process::{self, SEQUENCE_BITS, lock},
    thread, watch,
};

/// Lets an event happen in the client that sent message `rcvid`, which may have its answer already: a client's number is
/// good for this as long as the client is connected. Does not wait until it happened.
///
/// # Errors
/// `ESRCH`: the client is gone; `EINVAL`: an event that cannot be delivered; `EAGAIN`: the client reads nothing.
#[doc(alias = "MsgDeliverEvent")]
pub fn msg_deliver_event(rcvid: i32, event: &Event) -> Result<(), Error> {
    if !is_well_formed(event) {
        return Err(Error::Errno(libc::EINVAL));
    }
    match event {
        Event::None => Ok(()),
        event => process::get().port_of(rcvid)?.deliver(rcvid, *event),
    }
}

/// Registers an event of this process: the server behind `coid` (-1: any) may let it happen by the handle that comes back, and
/// no other. From the first one on, a thread waits for events when the program does not.
///
/// # Errors
/// `EINVAL`: an event that cannot be delivered; `EBADF`: no such connection; no thread left.
#[doc(alias = "MsgRegisterEvent")]
pub fn msg_register_event(event: &Event, coid: i32) -> Result<Event, Error> {
    if !is_well_formed(event) || matches!(event, Event::None | Event::Registered { .. }) {
        return Err(Error::Errno(libc::EINVAL));
    }
    let process = process::get();
    if coid >= 0 {
        process.connection(coid)?;
    }
    watch::start()?;
    let mut events = lock(&process.events);
    loop {
        let handle = process.last_event.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        if handle > 0 && !events.contains_key(&handle) {
            events.insert(handle, (*event, coid));
            return Ok(Event::Registered { handle });
        }
    }
}

/// Takes back a registered event.
///
/// # Errors
/// `EINVAL`: it is none.
#[doc(alias = "MsgUnregisterEvent")]
pub fn msg_unregister_event(event: &Event) -> Result<(), Error> {
    let Event::Registered { handle } = event else { return Err(Error::Errno(libc::EINVAL)) };
    lock(&process::get().events).remove(handle).map(drop).ok_or(Error::Errno(libc::EINVAL))
}

/// Whether an event that came in a message can be delivered to its sender, as far as it can be told here: its parts make
/// sense, and the client is there. Whether a handle is registered is known to the client alone.
///
/// # Errors
/// `EINVAL`: it cannot; `ESRCH`: the client is gone.
#[doc(alias = "MsgVerifyEvent")]
pub fn msg_verify_event(rcvid: i32, event: &Event) -> Result<(), Error> {
    if !is_well_formed(event) {
        return Err(Error::Errno(libc::EINVAL));
    }
    // 0 asks about the caller's own events.
    if rcvid == 0 {
        return Ok(());
    }
    let port = process::get().port_of(rcvid)?;
    port.claim(rcvid.cast_unsigned() >> SEQUENCE_BITS).map(drop)
}

/// Lets an event happen in this process, as a timer does.
///
/// # Errors
/// `EBADF`: no such connection; `EAGAIN`: no room; `EINVAL`: an event that cannot happen by itself.
pub fn deliver_local(event: &Event) -> Result<(), Error> {
    deliver(*event)
}

/// The next blocking call of this thread ends after `length`, if it waits in one of `states` then ([`super::state`]): with
/// `ETIMEDOUT` when `event` is [`Event::Unblock`]; any other event happens and the call goes on. The length counts from now;
/// for a wait for the reply alone, from when the message was received (on another node, where that is not known, from now).
/// No states: nothing ends.
#[doc(alias = "TimerTimeout")]
pub fn timer_timeout(states: u32, length: Duration, event: Event) {
    thread::arm_timeout(states, length, event);
}
