//! QNX's calls with integer handles, as safe functions on slices: what the C face converts its pointers for.
//!
//! | handle | is |
//! |---|---|
//! | `chid` | a channel of this process, from 1 |
//! | `coid` | a connection of this process: the lowest number from 3 that no descriptor uses, or one from [`SIDE_CHANNEL`] |
//! | `rcvid` | a received message, above 0; refused with `ESRCH` once it was answered or its sender left |
//! | `scoid` | a client process of a channel |
//!
//! One table of them lives behind the process; nothing of it is made before the first call and no thread belongs to it. A
//! child begins with an empty one. The root of the node is the one that [`Root::locate`] finds at the first call.
//!
//! A call that waits ends with `EINTR` when a signal handler ran, whatever `SA_RESTART` says (as in QNX); under the rule of
//! `_NTO_CHF_UNBLOCK` when its message was received already. It does not matter in which moment of the wait the signal comes:
//! signals are held back while the thread looks for packets, and let in by its sleep ([`qnet_ipc::Signals`]).

mod channels;
mod events;
mod messages;

pub use channels::{
    channel_create, channel_destroy, connect_attach, connect_client_info, connect_detach, connect_flags,
    connect_server_info,
};
pub use events::{
    deliver_local, msg_deliver_event, msg_register_event, msg_unregister_event, msg_verify_event,
    timer_timeout,
};
pub use messages::{
    Received, msg_current, msg_error, msg_info, msg_key_data, msg_readv, msg_receive_pulse, msg_receivev,
    msg_replyv, msg_send_pulse, msg_sendv, msg_writev,
};

pub use crate::thread::state;
use crate::{Error, Root, process, thread};

/// `_NTO_SIDE_CHANNEL`: in the index of [`connect_attach`], a number outside the range of descriptors.
pub const SIDE_CHANNEL: u32 = 0x4000_0000;

/// The root of the node that the calls work on.
///
/// # Errors
/// As [`Root::locate`].
pub fn root() -> Result<&'static Root, Error> {
    process::get().root()
}

/// The calling thread's number, from 1 for the first thread. From now on its end is told to the channels of this process that
/// asked for it (`_NTO_CHF_THREAD_DEATH`).
#[must_use]
#[doc(alias = "gettid")]
pub fn thread_id() -> i32 {
    thread::number()
}

/// Makes the end of the calling thread known to the channels of this process that asked for it.
pub fn watch_thread() {
    thread::number();
}

/// The calling thread's priority, QNX's 1 to 255: of the messages and pulses that it sends. 10 unless set; receiving a
/// message changes it to its sender's.
#[must_use]
#[doc(alias("getprio", "SchedGet"))]
pub fn priority() -> i32 {
    thread::priority()
}

/// Sets the calling thread's priority for messages; what the kernel makes of it is the caller's business.
#[doc(alias("setprio", "SchedSet"))]
pub fn set_priority(priority: i32) {
    thread::set_priority(priority);
}
