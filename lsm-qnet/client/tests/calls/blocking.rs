//! Leaving a call early: timeouts, signals, channels that end, and what a server has to say about it.

use std::{thread, time::Duration};

use libtest_mimic::Trial;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use qnet::{
    Event, MessageInfo, Pulse,
    calls::{self, state},
};

use crate::{
    support::{Pair, blocked, errno, message, pulse, reply, send},
    trial,
};

/// `_NTO_CHF_UNBLOCK`.
const UNBLOCK: u32 = 0x2;
const SHORT: Duration = Duration::from_millis(20);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_timeout_ends_a_send_that_nobody_receives", nobody_receives),
        trial("a_timeout_is_for_one_call", a_timeout_is_for_one_call),
        trial("a_timeout_ends_a_receive", a_timeout_ends_a_receive),
        trial("without_unblock_a_sender_leaves_at_once", without_unblock),
        trial("with_unblock_the_server_decides", with_unblock),
        trial("a_timeout_for_the_reply_does_not_run_before_the_receive", reply_only),
        trial("a_timeout_for_the_send_does_not_run_after_the_receive", send_only),
        trial("another_event_happens_and_the_call_goes_on", another_event),
        trial("a_signal_ends_a_send_and_a_receive", a_signal),
        trial("the_end_of_a_channel_wakes_who_receives_and_who_sends", the_end_of_a_channel),
    ]
}

fn timeout(states: u32) {
    calls::timer_timeout(states, SHORT, Event::Unblock);
}

/// Comes back when a timeout that was armed before this call is long over: one that was armed later, and is longer, is.
fn until_it_would_be_over() {
    let quiet = Pair::new(0);
    calls::timer_timeout(state::RECEIVE, SHORT * 3, Event::Unblock);
    assert_eq!(errno(calls::msg_receive_pulse(quiet.chid)), libc::ETIMEDOUT);
}

fn nobody_receives() {
    for flags in [0, UNBLOCK] {
        let pair = Pair::new(flags);
        for _ in 0..2 {
            timeout(state::SEND | state::REPLY);
            assert_eq!(send(pair.coid, b"x", &mut []), Err(libc::ETIMEDOUT));
        }
        // Who left is not received.
        calls::msg_send_pulse(pair.coid, 1, 1, 0).unwrap();
        assert_eq!(pulse(pair.chid).code, 1);
    }
}

fn a_timeout_is_for_one_call() {
    let pair = Pair::new(0);
    timeout(state::SEND);
    // A call that does not block uses it up, as well.
    calls::msg_send_pulse(pair.coid, 100, 1, 0).unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            timeout(state::RECEIVE);
            send(pair.coid, b"x", &mut [])
        });
        assert_eq!(pulse(pair.chid).code, 1);
        let (rcvid, _) = message(pair.chid);
        until_it_would_be_over();
        reply(rcvid, 0, b"").unwrap();
        assert_eq!(client.join().unwrap(), Ok(0));
    });
}

fn a_timeout_ends_a_receive() {
    let pair = Pair::new(0);
    timeout(state::RECEIVE);
    assert_eq!(errno(calls::msg_receivev(pair.chid, &mut [])), libc::ETIMEDOUT);
    timeout(state::RECEIVE);
    assert_eq!(errno(calls::msg_receive_pulse(pair.chid)), libc::ETIMEDOUT);
}

fn without_unblock() {
    take_signals(SaFlags::empty());
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let client = blocked(scope, || send(pair.coid, b"x", &mut []));
        let (rcvid, _) = message(pair.chid);
        client.interrupt();
        assert_eq!(client.join().unwrap(), Err(libc::EINTR));
        // The server learns it when it answers, or before, when something comes.
        calls::msg_send_pulse(pair.coid, 1, 1, 0).unwrap();
        assert_eq!(pulse(pair.chid).code, 1);
        assert_eq!(reply(rcvid, 0, b""), Err(libc::ESRCH));
    });
}

fn with_unblock() {
    let pair = Pair::new(UNBLOCK);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            timeout(state::REPLY);
            let mut answer = [0; 2];
            (send(pair.coid, b"x", &mut answer), answer)
        });
        let (rcvid, info) = message(pair.chid);
        assert_eq!(info.flags & MessageInfo::UNBLOCK_REQ, 0);
        let wants = pulse(pair.chid);
        assert_eq!((wants.code, wants.value), (Pulse::UNBLOCK, rcvid as u64));
        assert_eq!(
            calls::msg_info(rcvid).unwrap().flags & MessageInfo::UNBLOCK_REQ,
            MessageInfo::UNBLOCK_REQ
        );
        reply(rcvid, 4, b"ok").unwrap();
        assert_eq!(client.join().unwrap(), (Ok(4), *b"ok"), "an answer is an answer");

        let client = scope.spawn(|| {
            timeout(state::REPLY);
            send(pair.coid, b"x", &mut [])
        });
        let (rcvid, _) = message(pair.chid);
        assert_eq!(pulse(pair.chid).code, Pulse::UNBLOCK);
        calls::msg_error(rcvid, libc::EINTR).unwrap();
        assert_eq!(client.join().unwrap(), Err(libc::ETIMEDOUT));
    });
}

fn reply_only() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let client = blocked(scope, || {
            timeout(state::REPLY);
            send(pair.coid, b"x", &mut [])
        });
        until_it_would_be_over();
        let (rcvid, _) = message(pair.chid);
        assert_eq!(client.join().unwrap(), Err(libc::ETIMEDOUT), "it waited for the receive");
        calls::msg_send_pulse(pair.coid, 1, 1, 0).unwrap();
        assert_eq!(pulse(pair.chid).code, 1);
        assert_eq!(reply(rcvid, 0, b""), Err(libc::ESRCH));
    });
}

fn send_only() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            timeout(state::SEND);
            send(pair.coid, b"x", &mut [])
        });
        if let Ok(calls::Received::Message { rcvid, .. }) =
            crate::support::receive_into(pair.chid, &mut [0; 8])
        {
            until_it_would_be_over();
            reply(rcvid, 6, b"").unwrap();
        }
        assert_eq!(client.join().unwrap(), Ok(6));
    });
    timeout(state::SEND);
    assert_eq!(send(pair.coid, b"x", &mut []), Err(libc::ETIMEDOUT));
}

fn another_event() {
    let (pair, other) = (Pair::new(0), Pair::new(0));
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let event = Event::Pulse { coid: other.coid, priority: 5, code: 9, value: 3 };
            calls::timer_timeout(state::SEND | state::REPLY, SHORT, event);
            send(pair.coid, b"x", &mut [])
        });
        let (rcvid, _) = message(pair.chid);
        assert_eq!(pulse(other.chid).code, 9);
        reply(rcvid, 2, b"").unwrap();
        assert_eq!(client.join().unwrap(), Ok(2));
    });
}

extern "C" fn nothing(_signal: i32) {}

/// A handler for SIGUSR1.
pub(crate) fn take_signals(flags: SaFlags) {
    let action = SigAction::new(SigHandler::Handler(nothing), flags, SigSet::empty());
    // SAFETY: the handler does nothing, which is safe anywhere.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

fn a_signal() {
    for restart in [SaFlags::empty(), SaFlags::SA_RESTART] {
        take_signals(restart);
        let pair = Pair::new(0);
        thread::scope(|scope| {
            // Two of each: one leads and reads for both, the other one sleeps.
            let senders: Vec<_> = (0..2).map(|_| blocked(scope, || send(pair.coid, b"x", &mut []))).collect();
            for sender in senders.into_iter().rev() {
                sender.interrupt();
                assert_eq!(sender.join().unwrap(), Err(libc::EINTR));
            }
        });
        let quiet = Pair::new(0);
        thread::scope(|scope| {
            let receive = || errno(calls::msg_receivev(quiet.chid, &mut []));
            let receivers: Vec<_> = (0..2).map(|_| blocked(scope, receive)).collect();
            for receiver in receivers.into_iter().rev() {
                receiver.interrupt();
                assert_eq!(receiver.join().unwrap(), libc::EINTR);
            }
        });
    }
}

fn the_end_of_a_channel() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let receivers: Vec<_> =
            (0..2).map(|_| blocked(scope, || errno(calls::msg_receivev(pair.chid, &mut [])))).collect();
        calls::channel_destroy(pair.chid).unwrap();
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), libc::ESRCH);
        }
    });
    let first = send(pair.coid, b"x", &mut []);
    assert!(matches!(first, Err(libc::ESRCH | libc::EBADF)), "{first:?}: noticed now, or before");
    assert_eq!(send(pair.coid, b"x", &mut []), Err(libc::EBADF));
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..2).map(|_| blocked(scope, || send(pair.coid, b"x", &mut []))).collect();
        let (rcvid, _) = message(pair.chid);
        calls::channel_destroy(pair.chid).unwrap();
        assert_eq!(reply(rcvid, 0, b""), Err(libc::ESRCH));
        for sender in senders {
            assert_eq!(sender.join().unwrap(), Err(libc::ESRCH), "blocked for the reply or before");
        }
    });
}
