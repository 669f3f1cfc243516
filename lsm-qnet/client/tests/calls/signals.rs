//! One signal ends one wait, in whatever moment of it it comes.
//!
//! A wait looks for packets before it sleeps. Here it looks for a tenth of a second, so that the signal comes while it does,
//! or not at all, so that it comes while it sleeps.

use std::{fs, thread};

use libtest_mimic::Trial;
use nix::sys::signal::SaFlags;
use qnet::calls;

use crate::{
    blocking::take_signals,
    support::{Pair, Role, errno, message, reply, send, until, waits},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("one_signal_ends_a_wait_that_looks_for_packets", || plays("100000")),
        trial("one_signal_ends_a_wait_that_sleeps", || plays("0")),
    ]
}

fn plays(microseconds: &str) {
    let mut role = Role::start_with("signalled", &[], &[("IO_PKT_SPIN", microseconds)]);
    assert_eq!(role.hear(), "every wait ended");
}

/// The process whose calls are signalled.
pub(crate) fn signalled() {
    take_signals(SaFlags::SA_RESTART);
    for flags in [0, qnet::ChannelFlags::UNBLOCK.bits()] {
        sends(flags);
    }
    receives();
}

fn sends(flags: u32) {
    let pair = Pair::new(flags);
    thread::scope(|scope| {
        // One leads and reads for all, the others wait until it tells them.
        let senders: Vec<_> =
            (0..3).map(|_| Waiting::start(scope, || send(pair.coid, b"x", &mut []))).collect();
        // What was received was sent: all of them are in their calls.
        let received: Vec<_> = (0..3).map(|_| message(pair.chid).0).collect();
        senders.iter().for_each(Waiting::signal);
        if flags != 0 {
            for _ in &received {
                let pulse = crate::support::pulse(pair.chid);
                calls::msg_error(pulse.value as i32, libc::EINTR).unwrap();
            }
        }
        senders.into_iter().for_each(|sender| assert_eq!(sender.join(), Err(libc::EINTR)));
        received.into_iter().for_each(|rcvid| assert_eq!(reply(rcvid, 0, b""), Err(libc::ESRCH)));
    });
}

fn receives() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let mut receivers = Vec::new();
        for _ in 0..3 {
            let receiver = Waiting::start(scope, || errno(calls::msg_receivev(pair.chid, &mut [])));
            until("it waits", || receiver.is_in_call());
            receivers.push(receiver);
        }
        receivers.iter().for_each(Waiting::signal);
        receivers.into_iter().for_each(|receiver| assert_eq!(receiver.join(), libc::EINTR));
    });
}

/// A thread that makes a call.
struct Waiting<'scope, T> {
    thread: thread::ScopedJoinHandle<'scope, T>,
    tid: i32,
}

impl<'scope, T: Send + 'scope> Waiting<'scope, T> {
    fn start(scope: &'scope thread::Scope<'scope, '_>, call: impl FnOnce() -> T + Send + 'scope) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let thread = scope.spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            call()
        });
        Self { thread, tid: told.recv().unwrap() }
    }

    /// Whether a signal that comes now ends its call: it is held back until the call sleeps, or finds it asleep.
    fn is_in_call(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/self/task/{}/status", self.tid)).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
        blocked & 1 << (libc::SIGUSR1 - 1) != 0 || waits(std::process::id().cast_signed(), self.tid)
    }

    /// Once.
    fn signal(&self) {
        // SAFETY: plain values, of which the second names a thread that was not joined.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.tid, libc::SIGUSR1) };
        assert_eq!(sent, 0);
    }

    fn join(self) -> T {
        until("a signal ends the call", || self.thread.is_finished());
        self.thread.join().unwrap()
    }
}
