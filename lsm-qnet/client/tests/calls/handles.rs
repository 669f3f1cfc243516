//! Numbers: of channels, connections, messages, clients.

use libtest_mimic::Trial;
use qnet::calls;

use crate::{
    support::{Pair, attach, errno, message, reply, send},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "channels_are_counted_from_one_and_the_lowest_free_number_is_taken",
            channels_are_counted_from_one,
        ),
        trial("a_channel_with_flags_that_mean_nothing_here_is_refused", flags_that_mean_nothing),
        trial("a_connection_takes_the_lowest_number_that_no_descriptor_has", connection_numbers),
        trial("a_message_is_answered_once", a_message_is_answered_once),
        trial("numbers_that_nobody_gave_out_are_refused", numbers_that_nobody_gave_out),
        trial("a_connection_says_where_it_leads", a_connection_says_where_it_leads),
        trial("a_number_stays_good_for_events_after_the_answer", a_number_stays_good_for_events),
    ]
}

fn channels_are_counted_from_one() {
    let chids: Vec<i32> = (0..3).map(|_| calls::channel_create(0).unwrap()).collect();
    assert_eq!(chids, [1, 2, 3]);
    calls::channel_destroy(2).unwrap();
    assert_eq!(errno(calls::channel_destroy(2)), libc::EINVAL);
    assert_eq!(calls::channel_create(0).unwrap(), 2);
    // _NTO_CHF_ASYNC, _NTO_CHF_GLOBAL, and what nobody has heard of: not taken for a channel that does it.
    for flags in [0x200, 0x400, 0x8000_0000] {
        assert_eq!(errno(calls::channel_create(flags)), libc::EINVAL);
    }
    chids.into_iter().for_each(|chid| calls::channel_destroy(chid).unwrap());
}

fn flags_that_mean_nothing() {
    for flag in (0..32).map(|bit| 1 << bit) {
        match calls::channel_create(flag) {
            Ok(chid) => {
                assert!(flag <= 0x80 || flag == 0x1000, "{flag:#x}");
                calls::channel_destroy(chid).unwrap();
            }
            Err(error) => assert_eq!(error.errno(), libc::EINVAL, "{flag:#x}"),
        }
    }
    assert_eq!(errno(calls::channel_create(0x10ff | 0x100)), libc::EINVAL);
}

fn connection_numbers() {
    let pair = Pair::new(0);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let low: Vec<i32> = (0..4).map(|_| calls::connect_attach(0, 0, pair.chid, 0, 0).unwrap()).collect();
    assert!(low.windows(2).all(|two| two[0] < two[1]) && low[0] >= 3, "{low:?}");
    assert!(!low.contains(&std::os::fd::AsRawFd::as_raw_fd(&file)));
    calls::connect_detach(low[1]).unwrap();
    assert_eq!(calls::connect_attach(0, 0, pair.chid, 0, 0).unwrap(), low[1], "the lowest free one");
    let from = calls::connect_attach(0, 0, pair.chid, 500, 0).unwrap();
    assert!(from >= 500);
    assert_eq!(attach(0, pair.chid), pair.coid + 1, "on the side, from 0x40000000");
    assert_eq!(errno(calls::connect_attach(0, 0, 4711, 0, 0)), libc::ESRCH);
    for coid in low.into_iter().chain([from, pair.coid + 1]) {
        calls::connect_detach(coid).unwrap();
    }
}

fn a_message_is_answered_once() {
    let pair = Pair::new(0);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| send(pair.coid, b"x", &mut []));
        let (rcvid, _) = message(pair.chid);
        assert_eq!(reply(rcvid, 5, b""), Ok(()));
        assert_eq!(reply(rcvid, 6, b""), Err(libc::ESRCH));
        assert_eq!(errno(calls::msg_error(rcvid, libc::EIO)), libc::ESRCH);
        assert_eq!(errno(calls::msg_readv(rcvid, &mut [], 0)), libc::ESRCH);
        assert_eq!(errno(calls::msg_info(rcvid)), libc::ESRCH);
        assert_eq!(client.join().unwrap(), Ok(5));
    });
}

fn numbers_that_nobody_gave_out() {
    let pair = Pair::new(0);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| send(pair.coid, b"x", &mut []));
        let (rcvid, _) = message(pair.chid);
        for wrong in [-1, 0, 1, i32::MAX, rcvid + 1, rcvid + (1 << 11), rcvid ^ 1 << 30] {
            assert_eq!(reply(wrong, 0, b""), Err(libc::ESRCH), "{wrong:#x}");
        }
        reply(rcvid, 0, b"").unwrap();
        assert_eq!(client.join().unwrap(), Ok(0));
    });
    assert_eq!(send(12345, b"", &mut []), Err(libc::EBADF));
    assert_eq!(errno(calls::connect_detach(12345)), libc::EINVAL);
    assert_eq!(errno(calls::msg_receive_pulse(12345)), libc::ESRCH);
    assert_eq!(errno(calls::msg_send_pulse(pair.coid, 10, -1, 0)), libc::EINVAL);
}

fn a_connection_says_where_it_leads() {
    let pair = Pair::new(0);
    let info = calls::connect_server_info(0, pair.coid).unwrap();
    assert_eq!((info.nd, info.pid, info.chid), (0, std::process::id().cast_signed(), pair.chid));
    assert_eq!((info.coid, info.flags), (pair.coid, 0));
    let below = calls::connect_server_info(0, pair.coid - 1).unwrap();
    assert_eq!(below.coid, pair.coid, "the next higher one");
    assert_eq!(errno(calls::connect_server_info(0, pair.coid + 1)), libc::EINVAL);
    assert_eq!(calls::connect_flags(0, pair.coid, 1, 1).unwrap(), 0);
    assert_eq!(calls::connect_flags(0, pair.coid, 0, 0).unwrap(), 1);
    calls::channel_destroy(pair.chid).unwrap();
    assert_eq!(calls::connect_server_info(0, pair.coid).unwrap().flags, 0x3, "_NTO_COF_DEAD");
}

fn a_number_stays_good_for_events() {
    let pair = Pair::new(0);
    let rcvid = std::thread::scope(|scope| {
        scope.spawn(|| send(pair.coid, b"x", &mut []).unwrap());
        let (rcvid, _) = message(pair.chid);
        reply(rcvid, 0, b"").unwrap();
        rcvid
    });
    let event = qnet::Event::Pulse { coid: pair.coid, priority: 10, code: 3, value: 9 };
    calls::msg_verify_event(rcvid, &event).unwrap();
    calls::msg_deliver_event(rcvid, &event).unwrap();
    assert_eq!(crate::support::pulse(pair.chid).value, 9);
    assert_eq!(errno(calls::msg_deliver_event(rcvid, &qnet::Event::Unblock)), libc::EINVAL);
    calls::connect_detach(pair.coid).unwrap();
    crate::support::until("the client is forgotten", || {
        calls::timer_timeout(
            calls::state::RECEIVE,
            std::time::Duration::from_millis(1),
            qnet::Event::Unblock,
        );
        let _nothing = calls::msg_receive_pulse(pair.chid);
        calls::msg_deliver_event(rcvid, &event).is_err_and(|error| error.errno() == libc::ESRCH)
    });
}
