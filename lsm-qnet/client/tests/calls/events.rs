//! Events: registered ones, forged ones, and who may let them happen.

use std::thread;

use libtest_mimic::Trial;
use qnet::{
    Event,
    calls::{self, Received},
};

use crate::{
    support::{Pair, Role, errno, message, pulse, receive_into, reply, send},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_registered_event_happens_in_a_client_that_waits_elsewhere", a_registered_event),
        trial("a_handle_that_was_taken_back_does_nothing", taken_back),
        trial("events_that_make_no_sense_are_refused", nonsense),
        trial("a_pulse_happens_in_the_own_process", local),
    ]
}

fn a_registered_event() {
    let pair = Pair::new(0);
    let mut client = Role::start("waiter", &[std::process::id().cast_signed(), pair.chid]);
    let mut handle = [0; 4];
    let Received::Message { rcvid, .. } = receive_into(pair.chid, &mut handle).unwrap() else {
        panic!("no message")
    };
    let handle = i32::from_le_bytes(handle);
    reply(rcvid, 0, b"").unwrap();
    calls::msg_deliver_event(rcvid, &Event::Registered { handle: handle + 1 }).unwrap();
    calls::msg_deliver_event(rcvid, &Event::Registered { handle }).unwrap();
    assert_eq!(client.hear(), "pulse 5 77 12");
}

fn taken_back() {
    let pair = Pair::new(0);
    let event = Event::Pulse { coid: pair.coid, priority: 10, code: 2, value: 1 };
    let registered = calls::msg_register_event(&event, pair.coid).unwrap();
    let kept = calls::msg_register_event(&event, -1).unwrap();
    assert_ne!(registered, kept);
    let rcvid = thread::scope(|scope| {
        scope.spawn(|| send(pair.coid, b"x", &mut []).unwrap());
        let (rcvid, _) = message(pair.chid);
        reply(rcvid, 0, b"").unwrap();
        rcvid
    });
    calls::msg_unregister_event(&registered).unwrap();
    assert_eq!(errno(calls::msg_unregister_event(&registered)), libc::EINVAL);
    calls::msg_deliver_event(rcvid, &registered).unwrap();
    calls::msg_deliver_event(rcvid, &kept).unwrap();
    assert_eq!(pulse(pair.chid).code, 2);
    calls::msg_send_pulse(pair.coid, 1, 99, 0).unwrap();
    assert_eq!(pulse(pair.chid).code, 99, "one event came, not two");
    calls::msg_unregister_event(&kept).unwrap();
}

fn nonsense() {
    let pair = Pair::new(0);
    for event in [
        Event::Unblock,
        Event::None,
        Event::Registered { handle: 1 },
        Event::Signal { signo: 0 },
        Event::Signal { signo: 4711 },
        Event::Pulse { coid: pair.coid, priority: 10, code: -1, value: 0 },
    ] {
        assert_eq!(errno(calls::msg_register_event(&event, -1)), libc::EINVAL, "{event:?}");
    }
    let pulse = Event::Pulse { coid: pair.coid, priority: 10, code: 1, value: 0 };
    assert_eq!(errno(calls::msg_register_event(&pulse, 4711)), libc::EBADF);
    assert_eq!(errno(calls::msg_deliver_event(4711, &pulse)), libc::ESRCH);
    assert_eq!(errno(calls::msg_verify_event(4711, &pulse)), libc::ESRCH);
    calls::msg_verify_event(0, &pulse).unwrap();
}

fn local() {
    let pair = Pair::new(0);
    calls::deliver_local(&Event::Pulse { coid: pair.coid, priority: -1, code: 1, value: 8 }).unwrap();
    let came = pulse(pair.chid);
    assert_eq!((came.value, came.priority), (8, calls::priority()));
    assert_eq!(errno(calls::deliver_local(&Event::Unblock)), libc::EINVAL);
    let lost = Event::Pulse { coid: 4711, priority: 1, code: 1, value: 0 };
    assert_eq!(errno(calls::deliver_local(&lost)), libc::EBADF);
}
