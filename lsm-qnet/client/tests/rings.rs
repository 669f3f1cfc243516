//! Messages through shared memory: many, from many threads, of every size.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::thread;

use qnet::{Channel, ChannelFlags, Connection, Received, Root};

fn pattern(seed: usize, n: usize) -> Vec<u8> {
    (0..n).map(|i| (seed * 31 + i * 7 + i / 251) as u8).collect()
}

/// Answers each message with itself, backwards, up to one of length 0.
fn mirror(channel: &Channel) {
    loop {
        match channel.receive(None).unwrap() {
            Received::Message(message) => {
                let mut whole = vec![0; message.info().srcmsglen as usize];
                assert_eq!(message.read(0, &mut whole).unwrap(), whole.len());
                whole.reverse();
                message.reply(whole.len() as i64, &whole).unwrap();
                if whole.is_empty() {
                    return;
                }
            }
            Received::Pulse(_) => {}
        }
    }
}

fn talk(connection: &Connection, seed: usize, rounds: usize) {
    let sizes = [1, 8, 100, 4000, 9000, 65_536, 65_537, 200_000, 1 << 20, 1_500_000];
    let mut answer = vec![0; 1_600_000];
    for round in 0..rounds {
        let message = pattern(seed + round, sizes[(seed + round) % sizes.len()]);
        let reply = connection.send(&message, &mut answer).unwrap();
        assert_eq!((reply.status, reply.len), (message.len() as i64, message.len()));
        assert!(answer[..reply.len].iter().rev().eq(&message), "{} bytes of round {round}", message.len());
    }
}

#[test]
fn messages_of_every_size_come_back_whole_from_many_threads_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path()).unwrap();
    let channel = Channel::create(&root, ChannelFlags::empty()).unwrap();
    let attach = || Connection::attach(&root, 0, channel.pid(), channel.chid()).unwrap();
    thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(|| mirror(&channel))));
        let clients: Vec<_> = (0..4)
            .map(|seed| {
                let attach = &attach;
                scope.spawn(move || talk(&attach(), seed, 40))
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        (0..2).for_each(|_| assert!(attach().send(b"", &mut []).is_ok()));
    });
}

#[test]
fn pulses_in_a_flood_are_neither_lost_nor_out_of_order() {
    const PULSES: u64 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path()).unwrap();
    let channel = Channel::create(&root, ChannelFlags::empty()).unwrap();
    let connection = Connection::attach(&root, 0, channel.pid(), channel.chid()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for value in 0..PULSES {
                while connection.pulse(10, 1, value).is_err() {
                    thread::yield_now();
                }
            }
        });
        for expected in 0..PULSES {
            let Received::Pulse(pulse) = channel.receive(None).unwrap() else { panic!("a pulse was sent") };
            assert_eq!(pulse.value, expected);
        }
    });
}
