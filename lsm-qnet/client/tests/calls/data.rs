//! What is carried: pieces at any offset, cut at the shorter side, in order of priority.

use std::{
    io::{IoSlice, IoSliceMut},
    thread,
    time::Duration,
};

use libtest_mimic::Trial;
use qnet::{
    Event,
    calls::{self, Received},
};

use crate::{
    support::{Pair, blocked, errno, message, receive_into, reply, send},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("what_the_server_does_not_write_stays_as_it_is", what_the_server_does_not_write),
        trial("reads_and_writes_begin_anywhere_and_end_at_the_shorter_side", reads_and_writes),
        trial("a_receive_takes_as_much_as_it_has_room_for", a_receive_takes_as_much),
        trial("the_most_urgent_sender_is_received_first_and_lends_its_priority", priorities),
        trial("a_message_may_be_empty", a_message_may_be_empty),
        trial("a_server_may_ask_for_the_message_again", restart),
        trial("keys_tell_data_apart", keys),
        trial("every_thread_that_receives_gets_messages_and_each_message_one_thread", many_receivers),
        trial("who_waits_for_pulses_leaves_messages_alone", pulses_only),
    ]
}

fn what_the_server_does_not_write() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut room = [b'.'; 10];
            (send(pair.coid, b"x", &mut room), room)
        });
        let (rcvid, _) = message(pair.chid);
        assert_eq!(calls::msg_writev(rcvid, &[IoSlice::new(b"ab")], 7).unwrap(), 2);
        assert_eq!(calls::msg_writev(rcvid, &[IoSlice::new(b"abcd")], 8).unwrap(), 2, "what has room");
        assert_eq!(calls::msg_writev(rcvid, &[IoSlice::new(b"abcd")], 11).unwrap(), 0);
        reply(rcvid, 1, b"XY").unwrap();
        assert_eq!(client.join().unwrap(), (Ok(1), *b"XY.....aab"));
    });
}

fn reads_and_writes() {
    let pair = Pair::new(0);
    let question: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (head, tail) = question.split_at(100_001);
            let (mut a, mut b) = (vec![0; 1], vec![0; 200_000]);
            let parts = [IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(tail)];
            let mut room = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
            let status = calls::msg_sendv(pair.coid, &parts, &mut room).unwrap();
            (status, [a, b].concat())
        });
        let (rcvid, info) = message(pair.chid);
        assert_eq!((info.msglen, info.srcmsglen, info.dstmsglen), (64, 300_000, 200_001));
        let (mut a, mut b) = (vec![0; 3], vec![0; 250_000]);
        let mut parts = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(calls::msg_readv(rcvid, &mut parts, 99_999).unwrap(), 200_001);
        assert!([a, b].concat()[..200_001] == question[99_999..]);
        assert_eq!(calls::msg_readv(rcvid, &mut [IoSliceMut::new(&mut [0; 8])], 299_998).unwrap(), 2);
        assert_eq!(calls::msg_readv(rcvid, &mut [IoSliceMut::new(&mut [0; 8])], 300_000).unwrap(), 0);
        assert_eq!(calls::msg_readv(rcvid, &mut [IoSliceMut::new(&mut [0; 8])], usize::MAX).unwrap(), 0);
        let (head, tail) = question.split_at(7);
        calls::msg_replyv(rcvid, 9, &[IoSlice::new(head), IoSlice::new(tail)]).unwrap();
        let (status, answer) = client.join().unwrap();
        assert!(status == 9 && answer == question[..200_001]);
    });
}

fn a_receive_takes_as_much() {
    let pair = Pair::new(0);
    let question: Vec<u8> = (0..1_000_000u32).map(|i| (i % 253) as u8).collect();
    thread::scope(|scope| {
        for (room, got) in [(2_000_000, 1_000_000), (400_000, 400_000), (10, 10), (0, 0)] {
            let client = scope.spawn(|| send(pair.coid, &question, &mut []));
            let mut buffer = vec![0; room];
            let Received::Message { rcvid, info } = receive_into(pair.chid, &mut buffer).unwrap() else {
                panic!("no message")
            };
            assert_eq!((info.msglen, info.srcmsglen), (got, 1_000_000));
            assert!(buffer[..got] == question[..got]);
            reply(rcvid, 0, b"").unwrap();
            client.join().unwrap().unwrap();
        }
    });
}

fn priorities() {
    for (flags, inherited) in [(0, 30), (0x1, 10)] {
        let pair = Pair::new(flags);
        thread::scope(|scope| {
            for (priority, value) in [(20, 1), (30, 2), (20, 3)] {
                let pair = &pair;
                calls::msg_send_pulse(pair.coid, priority, 1, value).unwrap();
                blocked(scope, move || {
                    calls::set_priority(priority);
                    send(pair.coid, &[value as u8], &mut []).unwrap();
                });
            }
            let mut order = Vec::new();
            for i in 0..6 {
                match receive_into(pair.chid, &mut [0; 8]).unwrap() {
                    Received::Pulse(pulse) => order.push((pulse.priority, 'p')),
                    Received::Message { rcvid, info } => {
                        order.push((info.priority, 'm'));
                        if i == 1 {
                            assert_eq!(calls::priority(), inherited);
                        }
                        reply(rcvid, 0, b"").unwrap();
                    }
                }
            }
            let expected = [(30, 'p'), (30, 'm'), (20, 'p'), (20, 'm'), (20, 'p'), (20, 'm')];
            assert_eq!(order, expected);
        });
        calls::set_priority(10);
    }
}

fn a_message_may_be_empty() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let client = scope.spawn(|| calls::msg_sendv(pair.coid, &[], &mut []).unwrap());
        let (rcvid, info) = message(pair.chid);
        assert_eq!((info.msglen, info.srcmsglen, info.dstmsglen), (0, 0, 0));
        assert_eq!(calls::msg_readv(rcvid, &mut [IoSliceMut::new(&mut [0; 4])], 0).unwrap(), 0);
        reply(rcvid, 3, b"more than there is room for").unwrap();
        assert_eq!(client.join().unwrap(), 3);
    });
}

fn restart() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let client = scope.spawn(|| send(pair.coid, b"x", &mut []));
        let (first, _) = message(pair.chid);
        calls::msg_error(first, libc::ERESTART).unwrap();
        let (second, _) = message(pair.chid);
        assert_ne!(first, second);
        reply(second, 8, b"").unwrap();
        assert_eq!(client.join().unwrap(), Ok(8));
    });
}

fn keys() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let client = scope.spawn(|| send(pair.coid, b"x", &mut []));
        let (rcvid, _) = message(pair.chid);
        let key = |key, parts: &[IoSlice<'_>]| calls::msg_key_data(rcvid, key, parts).unwrap();
        let whole = key(7, &[IoSlice::new(b"data")]);
        assert_eq!(whole, key(7, &[IoSlice::new(b"data")]));
        assert_ne!(whole, key(8, &[IoSlice::new(b"data")]));
        assert_ne!(whole, key(7, &[IoSlice::new(b"date")]));
        reply(rcvid, 0, b"").unwrap();
        client.join().unwrap().unwrap();
    });
}

fn many_receivers() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let servers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut served = 0;
                    while let Received::Message { rcvid, info } =
                        receive_into(pair.chid, &mut [0; 8]).unwrap()
                    {
                        served += 1;
                        reply(rcvid, i64::from(info.tid), b"").unwrap();
                    }
                    served
                })
            })
            .collect();
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let tid = i64::from(calls::thread_id());
                    (0..500).for_each(|_| assert_eq!(send(pair.coid, b"x", &mut []), Ok(tid)));
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        servers.iter().for_each(|_| calls::msg_send_pulse(pair.coid, 1, 1, 0).unwrap());
        let served: Vec<i32> = servers.into_iter().map(|server| server.join().unwrap()).collect();
        assert_eq!(served.iter().sum::<i32>(), 2000, "{served:?}");
    });
}

fn pulses_only() {
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let client = blocked(scope, || send(pair.coid, b"x", &mut []));
        calls::msg_send_pulse(pair.coid, 1, 4, 5).unwrap();
        crate::support::bounded();
        assert_eq!(calls::msg_receive_pulse(pair.chid).unwrap().value, 5);
        // The message that waits is none of what this one waits for.
        calls::timer_timeout(calls::state::RECEIVE, Duration::from_millis(20), Event::Unblock);
        assert_eq!(errno(calls::msg_receive_pulse(pair.chid)), libc::ETIMEDOUT);
        let (rcvid, _) = message(pair.chid);
        reply(rcvid, 0, b"").unwrap();
        client.join().unwrap().unwrap();
    });
}
