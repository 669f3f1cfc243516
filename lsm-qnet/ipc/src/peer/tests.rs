//! Both ends over a socket pair, well behaved and not.

use std::os::fd::OwnedFd;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use super::*;
use crate::{ToClient, ToServer, packet::Send, pair};

fn peers() -> (ClientPeer, ServerPeer) {
    let (client, server) = pair().unwrap();
    (client, ServerPeer::new(server).unwrap())
}

pub(super) fn raw_pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

pub(super) fn say(socket: &OwnedFd, bytes: &[u8]) {
    send(socket.as_raw_fd(), bytes, MsgFlags::empty()).unwrap();
}

pub(super) fn hello_bytes(version: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_hello(Hello { version, abilities: 0 }, &mut bytes);
    bytes
}

#[test]
fn a_message_and_its_reply_cross() {
    let (mut client, mut server) = peers();
    let mut buffer = ReceiveBuffer::new();
    let head = Send { txn: 1, conn: 2, srcmsglen: 4, dstmsglen: 8, ..Send::default() };
    client.send(&ToServer::Send(head, b"ping")).unwrap();
    assert_eq!(server.recv(&mut buffer).unwrap(), Some(ToServer::Send(head, b"ping")));
    assert_eq!(server.hello().map(|hello| hello.version), Some(VERSION));
    assert_eq!(server.recv(&mut buffer).unwrap(), None);

    server.send(&ToClient::Reply { txn: 1, status: 4, offset: 0, data: b"pong" }).unwrap();
    let reply = client.recv(&mut buffer).unwrap();
    assert_eq!(reply, Some(ToClient::Reply { txn: 1, status: 4, offset: 0, data: b"pong" }));
}

#[test]
fn a_packet_of_the_largest_size_crosses_and_a_larger_one_is_refused() {
    let (mut client, mut server) = peers();
    let mut buffer = ReceiveBuffer::new();
    let data = vec![7; MAX_DATA + 1];
    let fits = ToClient::Reply { txn: 1, status: 0, offset: 0, data: &data[1..] };
    server.send(&fits).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), Some(fits));
    let too_long = ToClient::Write { txn: 1, offset: 0, data: &data };
    assert!(matches!(server.send(&too_long), Err(PeerError::TooLong { .. })));
}

#[test]
fn a_peer_that_does_not_read_fills_a_bounded_queue_and_gets_all_of_it_in_order() {
    let (mut client, mut server) = peers();
    server.set_queue_limit(256 * 1024);
    let data = vec![0; MAX_DATA];
    let mut sent = 0;
    let full = loop {
        match server.send(&ToClient::Write { txn: sent, offset: 0, data: &data }) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1000, "the queue has no bound");
    };
    assert!(matches!(full, PeerError::Full { .. }) && !full.is_fatal());
    assert!(server.wants_write() && server.queued() < 256 * 1024 + MAX_PACKET);

    let mut buffer = ReceiveBuffer::new();
    for expected in 0..sent {
        let packet = loop {
            if let Some(packet) = client.recv(&mut buffer).unwrap() {
                break packet;
            }
            server.flush().unwrap();
        };
        assert!(matches!(packet, ToClient::Write { txn, .. } if txn == expected));
    }
    server.flush().unwrap();
    assert!(!server.wants_write());
    assert_eq!(server.queued(), 0);
}

#[test]
fn the_end_of_the_other_side_is_told_once_its_packets_are_read() {
    let (mut client, mut server) = peers();
    let mut buffer = ReceiveBuffer::new();
    client.send(&ToServer::Disconnect { conn: 1 }).unwrap();
    drop(client);
    assert!(matches!(server.send(&ToClient::Death { conn: 1 }), Err(PeerError::Closed)));
    assert_eq!(server.recv(&mut buffer).unwrap(), Some(ToServer::Disconnect { conn: 1 }));
    assert!(matches!(server.recv(&mut buffer), Err(PeerError::Closed)));
    assert!(matches!(server.send(&ToClient::Death { conn: 1 }), Err(PeerError::Closed)));
}

#[test]
fn another_version_is_refused_by_name() {
    let (ours, theirs) = raw_pair();
    say(&theirs, &hello_bytes(VERSION + 1));
    let mut server = ServerPeer::new(ours).unwrap();
    let error = server.recv(&mut ReceiveBuffer::new()).unwrap_err();
    assert!(matches!(error, PeerError::Version { theirs } if theirs == VERSION + 1), "{error}");
}

#[test]
fn garbage_in_place_of_a_hello_or_a_packet_ends_the_connection() {
    let oversized = vec![0; MAX_PACKET + 1];
    let cases: [&[&[u8]]; 4] = [
        &[b"GET / HTTP/1.1"],
        &[&hello_bytes(VERSION), b"x"],
        &[&hello_bytes(VERSION), &hello_bytes(VERSION)],
        &[&hello_bytes(VERSION), &oversized],
    ];
    for case in cases {
        let (ours, theirs) = raw_pair();
        let mut server = ServerPeer::new(ours).unwrap();
        for bytes in case {
            say(&theirs, bytes);
        }
        let mut buffer = ReceiveBuffer::new();
        let error = server.recv(&mut buffer).unwrap_err();
        assert!(error.is_fatal() && !matches!(error, PeerError::Closed), "{error}");
        assert!(matches!(server.recv(&mut buffer), Err(PeerError::Closed)), "a broken peer stays broken");
    }
}

#[test]
fn waiting_ends_with_the_deadline_or_with_a_packet() {
    let (client, mut server) = peers();
    let mut client = client;
    assert!(client.recv(&mut ReceiveBuffer::new()).unwrap().is_none());
    assert!(!client.wait(Some(Instant::now())).unwrap());
    server.send(&ToClient::Death { conn: 1 }).unwrap();
    assert!(client.wait(None).unwrap());
}

#[test]
fn the_kernel_tells_who_is_at_the_other_end() {
    let (client, _server) = peers();
    let identity = client.identity().unwrap();
    assert_eq!(identity.pid, std::process::id().cast_signed());
    assert_eq!(identity.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(identity.gid, nix::unistd::getegid().as_raw());
    let groups: Vec<_> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
    assert_eq!(identity.groups, groups);
}
