//! Two ends that change over to shared memory, and ends that misbehave on the way.

use std::{os::fd::OwnedFd, time::Duration};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};

use super::*;
use crate::{ToClient, ToServer, packet::Pulse, pair};

fn peers() -> (ClientPeer, ServerPeer) {
    let (client, server) = pair().unwrap();
    (client, ServerPeer::new(server).unwrap())
}

/// Peers whose packets go through shared memory.
fn ringed() -> (ClientPeer, ServerPeer) {
    let (mut client, mut server) = peers();
    for _ in 0..4 {
        exchange(&mut client, &mut server, 0);
    }
    for _ in 0..20 {
        exchange(&mut client, &mut server, 4);
        if client.uses_ring() && server.uses_ring() {
            return (client, server);
        }
    }
    panic!("there is no ring");
}

fn pulse(value: u64) -> ToServer<'static> {
    ToServer::Pulse(Pulse { conn: 1, code: 0, priority: 10, value })
}

/// A pulse one way and a word the other way.
fn exchange(client: &mut ClientPeer, server: &mut ServerPeer, value: u64) {
    let mut buffer = ReceiveBuffer::new();
    client.send(&pulse(value)).unwrap();
    assert_eq!(server.recv(&mut buffer).unwrap(), Some(pulse(value)));
    assert_eq!(server.recv(&mut buffer).unwrap(), None);
    server.send(&ToClient::Death { conn: value as u32 }).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), Some(ToClient::Death { conn: value as u32 }));
    assert_eq!(client.recv(&mut buffer).unwrap(), None);
}

fn is_readable(socket: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
}

#[test]
fn a_connection_that_is_used_gets_a_ring_and_one_that_is_not_has_none() {
    let (mut client, mut server) = peers();
    exchange(&mut client, &mut server, 1);
    assert!(!client.uses_ring() && !server.uses_ring());
    ringed();
}

#[test]
fn everything_arrives_in_order_whenever_the_ends_change_over() {
    // The change-over falls between other packets for every length of the bursts.
    for burst in 1..40_u32 {
        let (mut client, mut server) = peers();
        let mut buffer = ReceiveBuffer::new();
        let (mut there, mut back) = ((0, 0), (0, 0));
        for _ in 0..20 {
            for _ in 0..burst {
                client.send(&pulse(there.0)).unwrap();
                there.0 += 1;
                server.send(&ToClient::Death { conn: back.0 }).unwrap();
                back.0 += 1;
            }
            for _ in 0..burst.div_ceil(2) {
                if let Some(packet) = server.recv(&mut buffer).unwrap() {
                    assert_eq!(packet, pulse(there.1));
                    there.1 += 1;
                }
                if let Some(packet) = client.recv(&mut buffer).unwrap() {
                    assert_eq!(packet, ToClient::Death { conn: back.1 });
                    back.1 += 1;
                }
            }
        }
        for _ in 0..2 {
            while let Some(packet) = server.recv(&mut buffer).unwrap() {
                assert_eq!(packet, pulse(there.1));
                there.1 += 1;
            }
            while let Some(packet) = client.recv(&mut buffer).unwrap() {
                assert_eq!(packet, ToClient::Death { conn: back.1 });
                back.1 += 1;
            }
        }
        assert_eq!((there.0, back.0), (there.1, back.1), "bursts of {burst}");
        assert!(client.uses_ring() && server.uses_ring(), "bursts of {burst}");
    }
}

#[test]
fn a_reader_that_found_nothing_is_rung_once_and_an_attentive_one_never() {
    let (mut client, mut server) = ringed();
    assert!(!is_readable(&server));
    client.send(&pulse(1)).unwrap();
    assert!(is_readable(&server), "it would sleep for ever");
    let mut buffer = ReceiveBuffer::new();
    assert_eq!(server.recv(&mut buffer).unwrap(), Some(pulse(1)));
    assert_eq!(server.recv(&mut buffer).unwrap(), None);
    assert!(!is_readable(&server), "the bell is taken");

    server.set_attended(true);
    server.watch().disarm();
    client.send(&pulse(2)).unwrap();
    assert!(!is_readable(&server));
    assert_eq!(server.recv(&mut buffer).unwrap(), Some(pulse(2)));
    assert_eq!(server.recv(&mut buffer).unwrap(), None);
    assert!(server.watch().arm());
    client.send(&pulse(3)).unwrap();
    assert!(is_readable(&server) && !server.watch().arm());
}

/// A client that sleeps at once, in the call that takes the bell, and has heard everything so far.
fn sleeper() -> (ClientPeer, ServerPeer) {
    let (mut client, server) = ringed();
    client.patience = Arc::new(Patience::lasting(Duration::ZERO));
    client.set_attended(true);
    client.set_blocking().unwrap();
    assert_eq!(client.recv(&mut ReceiveBuffer::new()).unwrap(), None);
    (client, server)
}

#[test]
fn who_sleeps_for_the_bell_has_taken_it() {
    let (mut client, mut server) = sleeper();
    let mut buffer = ReceiveBuffer::new();
    assert!(client.arm());
    server.send(&ToClient::Death { conn: 7 }).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), Some(ToClient::Death { conn: 7 }));
    assert!(is_readable(&client), "the bell, which nobody waited for");
    assert!(client.wait(None).unwrap());
    assert!(!is_readable(&client));
    assert_eq!(client.recv(&mut buffer).unwrap(), None);
    // With a deadline poll(2) waits, and receiving takes the bell.
    assert!(client.arm());
    server.send(&ToClient::Death { conn: 8 }).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), Some(ToClient::Death { conn: 8 }));
    assert!(client.wait(Some(Instant::now() + Duration::from_secs(60))).unwrap());
    assert_eq!(client.recv(&mut buffer).unwrap(), None);
    assert!(!is_readable(&client));
}

#[test]
fn who_sleeps_for_the_bell_hears_of_the_end() {
    let (mut client, mut server) = sleeper();
    server.send(&ToClient::Death { conn: 7 }).unwrap();
    drop(server);
    let mut buffer = ReceiveBuffer::new();
    assert_eq!(client.recv(&mut buffer).unwrap(), Some(ToClient::Death { conn: 7 }));
    // The bell for it comes first, of which nothing is left.
    assert!(client.wait(None).unwrap());
    assert_eq!(client.recv(&mut buffer).unwrap(), None);
    assert!(client.wait(None).unwrap());
    assert!(matches!(client.recv(&mut buffer), Err(PeerError::Closed)));
}

#[test]
fn a_peer_that_says_something_else_than_a_bell_to_a_sleeper_is_left() {
    for words in [&b"what is this"[..], &[0x44, 0, 0, 0], &[0x44, 0, 1, 0, 0, 0, 0, 0], &[0; 4000]] {
        let (mut client, server) = sleeper();
        assert_eq!(nix::sys::socket::send(server.as_raw_fd(), words, MsgFlags::empty()), Ok(words.len()));
        assert!(client.wait(None).unwrap());
        assert!(client.recv(&mut ReceiveBuffer::new()).is_err(), "{words:?}");
        assert!(server.wait(None).unwrap(), "the other end hears of it");
    }
}

#[test]
fn what_lies_behind_a_bell_is_heard_by_who_is_told_again() {
    let (mut client, mut server) = ringed();
    let mut buffer = ReceiveBuffer::new();
    server.set_attended(true);
    server.set_told_again(true);
    assert!(server.arm());
    client.send(&pulse(1)).unwrap();
    drop(client);
    server.socket_is_ready();
    assert_eq!(server.recv(&mut buffer).unwrap(), Some(pulse(1)));
    assert_eq!(server.recv(&mut buffer).unwrap(), None, "the bell");
    assert!(is_readable(&server), "it is told again");
    server.socket_is_ready();
    assert!(matches!(server.recv(&mut buffer), Err(PeerError::Closed)));
}

#[test]
fn a_full_ring_queues_and_the_reader_rings_for_more() {
    let (mut client, mut server) = ringed();
    let mut buffer = ReceiveBuffer::new();
    let data = [7; 4000];
    let mut sent = 0;
    let full = loop {
        match server.send(&ToClient::Write { txn: sent, offset: 0, data: &data }) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 10_000, "the queue has no bound");
    };
    assert!(matches!(full, PeerError::Full { .. }));
    assert!(server.wants_write() && !server.wants_writable(), "the socket is writable all the time");
    for expected in 0..sent {
        let packet = loop {
            if let Some(packet) = client.recv(&mut buffer).unwrap() {
                break packet;
            }
            assert!(is_readable(&server), "nobody told the writer");
            assert_eq!(server.recv(&mut ReceiveBuffer::new()).unwrap(), None);
            server.flush().unwrap();
        };
        assert_eq!(packet, ToClient::Write { txn: expected, offset: 0, data: &data });
    }
    assert!(!server.wants_write());
}

#[test]
fn a_bell_for_room_that_a_receive_takes_is_not_lost() {
    for attended in [false, true] {
        let (mut client, mut server) = ringed();
        server.set_attended(attended);
        let mut buffer = ReceiveBuffer::new();
        let write = ToClient::Write { txn: 1, offset: 0, data: &[7; 4000] };
        while !server.wants_write() {
            server.send(&write).unwrap();
        }
        // The owner of an event loop flushes, there is no room; it goes on to receive, and now there is some.
        server.flush().unwrap();
        assert!(server.wants_write());
        assert_eq!(client.recv(&mut buffer).unwrap(), Some(write));
        assert!(is_readable(&server), "the reader rings for the room");
        server.socket_is_ready();
        assert_eq!(server.recv(&mut buffer).unwrap(), None);
        assert!(!is_readable(&server) && !server.wants_write(), "nobody will ring for that again");
    }
}

#[test]
fn what_went_through_the_ring_before_the_end_is_read() {
    for attended in [false, true] {
        let (mut client, mut server) = ringed();
        server.set_attended(attended);
        let mut buffer = ReceiveBuffer::new();
        client.send(&pulse(1)).unwrap();
        client.send(&pulse(2)).unwrap();
        drop(client);
        assert!(server.wait(None).unwrap());
        assert_eq!(server.recv(&mut buffer).unwrap(), Some(pulse(1)));
        assert_eq!(server.recv(&mut buffer).unwrap(), Some(pulse(2)));
        assert!(server.wait(None).unwrap());
        assert!(matches!(server.recv(&mut buffer), Err(PeerError::Closed)));
        assert!(matches!(server.recv(&mut buffer), Err(PeerError::Closed)));
    }
}

#[test]
fn more_than_a_packet_goes_through_shared_memory_and_may_stay_there() {
    let (mut client, mut server) = ringed();
    let mut buffer = ReceiveBuffer::new();
    let data: Vec<u8> = (0..MAX_LENT).map(|i| (i / 3) as u8).collect();
    assert_eq!((client.room(), client.max_data()), (MAX_LENT, MAX_LENT));
    let head = crate::packet::Send { txn: 1, conn: 1, srcmsglen: data.len() as u32, ..Default::default() };
    client
        .send_gather(&ToServer::Send(head, &[]), &[IoSlice::new(&data[..9]), IoSlice::new(&data[9..])])
        .unwrap();
    let (packet, loan) = server.recv_lent(&mut buffer).unwrap().unwrap();
    assert_eq!(packet, ToServer::Send(head, &[]));
    let (loan, mut copy) = (loan.unwrap(), vec![0; data.len()]);
    assert_eq!(loan.copy(0, &mut copy), data.len());
    assert!(copy == data);

    let reply = ToClient::Reply { txn: 1, status: 0, offset: 0, data: &data };
    server.send(&reply).unwrap();
    assert!(client.recv(&mut buffer).unwrap() == Some(reply), "without a loan it is copied");
    let second = ToServer::Send(head, &data);
    client.send(&second).unwrap();
    assert_eq!(client.room(), MAX_DATA);
    assert!(matches!(client.send(&second), Err(PeerError::TooLong { .. })), "two fit");
}

#[test]
fn a_loan_with_a_packet_that_has_no_data_is_refused() {
    let (mut client, mut server) = ringed();
    let lying = crate::packet::Send { txn: 1, conn: 1, srcmsglen: 10, ..Default::default() };
    let data = vec![0; 20_000];
    client.send_gather(&ToServer::Send(lying, &[]), &[IoSlice::new(&data)]).unwrap();
    assert!(matches!(server.recv_lent(&mut ReceiveBuffer::new()), Err(PeerError::Decode(_))));

    let (mut client, mut server) = ringed();
    client.send_gather(&ToServer::Disconnect { conn: 1 }, &[IoSlice::new(&data)]).unwrap();
    assert!(matches!(server.recv_lent(&mut ReceiveBuffer::new()), Err(PeerError::Decode(_))));
}

#[test]
fn bells_are_heard_without_taking_packets() {
    let (mut client, mut server) = ringed();
    let mut buffer = ReceiveBuffer::new();
    // More than the ring holds: what is left waits for room.
    let data = vec![7; 4000];
    while !server.wants_write() {
        server.send(&ToClient::Write { txn: 1, offset: 0, data: &data }).unwrap();
    }
    client.send(&pulse(1)).unwrap();
    while client.recv(&mut buffer).unwrap().is_some() {}
    assert!(is_readable(&server), "a bell for the packet or for the room");
    server.hear_bells(&mut buffer).unwrap();
    assert!(!is_readable(&server) && !server.wants_write(), "what waited is sent");
    assert!(matches!(client.recv(&mut buffer).unwrap(), Some(ToClient::Write { .. })));
    assert_eq!(server.recv(&mut buffer).unwrap(), Some(pulse(1)), "and the packet is still there");
    drop(client);
    assert!(matches!(server.hear_bells(&mut buffer), Err(PeerError::Closed)));
}

#[test]
fn an_end_that_keeps_to_the_socket_is_served_there() {
    for closed in 0..2 {
        let (mut client, mut server) = peers();
        if closed == 0 {
            client.keep_to_socket();
        } else {
            server.keep_to_socket();
        }
        for value in 0..40 {
            exchange(&mut client, &mut server, value);
        }
        assert!(!client.uses_ring() && !server.uses_ring());
    }
}

/// A raw client that has said hello, and the server that it talks to.
fn raw_client() -> (OwnedFd, ServerPeer) {
    let (theirs, ours) = super::tests::raw_pair();
    let server = ServerPeer::new(ours).unwrap();
    super::tests::say(&theirs, &super::tests::hello_bytes(VERSION));
    (theirs, server)
}

fn inner(inner: Inner) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_inner(inner, &mut bytes);
    bytes
}

fn offer(socket: &OwnedFd, layout: u32, fd: Option<&OwnedFd>) {
    let bytes = inner(Inner::Offer { layout });
    let fds: Vec<RawFd> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &control[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::empty(), None).unwrap();
}

#[test]
fn an_offer_that_cannot_be_used_is_declined_and_the_socket_goes_on() {
    let (_ring, memory) = crate::ring::Ring::create(crate::ring::Direction::ToServer).unwrap();
    let (pipe, _write) = nix::unistd::pipe().unwrap();
    for (layout, fd) in [(1, None), (2, Some(&memory)), (1, Some(&pipe))] {
        let (client, mut server) = raw_client();
        let mut buffer = ReceiveBuffer::new();
        offer(&client, layout, fd);
        assert_eq!(server.recv(&mut buffer).unwrap(), None);
        super::tests::say(&client, &pulse(1).encode());
        assert_eq!(server.recv(&mut buffer).unwrap(), Some(pulse(1)));
        assert!(!server.uses_ring());
    }
}

#[test]
fn what_is_said_of_rings_out_of_turn_ends_the_connection() {
    let (_ring, memory) = crate::ring::Ring::create(crate::ring::Direction::ToServer).unwrap();
    let cases: [&[Inner]; 5] = [
        &[Inner::Bell],
        &[Inner::Switch],
        &[Inner::Answer { errno: 0 }],
        &[Inner::Offer { layout: 1 }, Inner::Offer { layout: 1 }, Inner::Switch],
        &[Inner::Offer { layout: 1 }, Inner::Switch, Inner::Switch],
    ];
    for case in cases {
        let (client, mut server) = raw_client();
        for said in case {
            match said {
                Inner::Offer { layout } => offer(&client, *layout, Some(&memory)),
                said => super::tests::say(&client, &inner(*said)),
            }
        }
        let error = server.recv(&mut ReceiveBuffer::new()).unwrap_err();
        assert!(matches!(error, PeerError::Decode(_)), "{case:?}: {error}");
    }
    // A packet on the socket after the change-over.
    let (client, mut server) = raw_client();
    offer(&client, 1, Some(&memory));
    super::tests::say(&client, &inner(Inner::Switch));
    super::tests::say(&client, &pulse(1).encode());
    assert!(matches!(server.recv(&mut ReceiveBuffer::new()), Err(PeerError::Decode(_))));
}

#[test]
fn a_peer_that_rings_for_ever_is_not_listened_to_for_ever() {
    let (_ring, memory) = crate::ring::Ring::create(crate::ring::Direction::ToServer).unwrap();
    let (client, mut server) = raw_client();
    offer(&client, 1, Some(&memory));
    super::tests::say(&client, &inner(Inner::Switch));
    assert_eq!(server.recv(&mut ReceiveBuffer::new()).unwrap(), None);
    // As much as the socket takes is an honest peer's right.
    let bell = inner(Inner::Bell);
    while nix::sys::socket::send(client.as_raw_fd(), &bell, MsgFlags::MSG_DONTWAIT).is_ok() {}
    assert_eq!(server.recv(&mut ReceiveBuffer::new()).unwrap(), None);
    assert!(!is_readable(&server));
    nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::SndBuf, &(4 << 20)).unwrap();
    while nix::sys::socket::send(client.as_raw_fd(), &bell, MsgFlags::MSG_DONTWAIT).is_ok() {}
    assert!(!matches!(server.recv(&mut ReceiveBuffer::new()), Ok(Some(_))));
}

#[test]
fn descriptors_that_nobody_asked_for_are_not_kept() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (client, mut server) = raw_client();
    let mut buffer = ReceiveBuffer::new();
    let (pipe, _write) = nix::unistd::pipe().unwrap();
    let mut most = 0;
    for _ in 0..200 {
        let fds = [pipe.as_raw_fd(); 8];
        let (bytes, control) = (pulse(1).encode(), [ControlMessage::ScmRights(&fds)]);
        sendmsg::<()>(client.as_raw_fd(), &[IoSlice::new(&bytes)], &control, MsgFlags::empty(), None)
            .unwrap();
        assert_eq!(server.recv(&mut buffer).unwrap(), Some(pulse(1)));
        most = most.max(open());
    }
    // Other tests of this process open some as well.
    assert!(most < 200, "{most} descriptors are open");
}
