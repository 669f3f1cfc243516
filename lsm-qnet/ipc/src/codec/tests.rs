//! Every packet survives the way to bytes and back; no bytes make a decoder panic.

use proptest::prelude::*;

use super::*;
use crate::packet::right;

fn claim() -> Claim {
    Claim { nd: 2, pid: 777, sid: 700, ..Claim::user(1000, 100, vec![100, 27]) }
}

fn to_server_packets() -> Vec<ToServer<'static>> {
    let connect = Connect { conn: 7, nd: 3, pid: 42, chid: 0x4000_0001, flags: 1, claim: None };
    let send = Send {
        txn: 9,
        conn: 7,
        tid: 1,
        coid: -1,
        priority: 10,
        srcmsglen: u32::MAX,
        dstmsglen: 4096,
        keydata: 17,
        srcnd: 0x1_0002,
        flags: 3,
    };
    vec![
        ToServer::Connect(connect.clone()),
        ToServer::Connect(Connect { claim: Some(claim()), ..connect }),
        ToServer::Send(send, b"hello"),
        ToServer::ReadData { txn: 9, offset: 8192, data: b"more" },
        ToServer::ReadError { txn: 9, offset: 8192, errno: 14 },
        ToServer::Unblock { txn: 9, tid: 1 },
        ToServer::Pulse(Pulse { conn: 7, code: -32, priority: 21, value: u64::MAX }),
        ToServer::Disconnect { conn: 7 },
        ToServer::Credentials { conn: 7, flags: right::SIGNAL, claim: claim() },
    ]
}

fn to_client_packets() -> Vec<ToClient<'static>> {
    let event = Sigevent { notify: 0x1_0004, id: -2, value: u64::MAX - 1, code: -3, priority: 21 };
    vec![
        ToClient::ConnectOk { conn: 7, scoid: 3, limit: 8192 },
        ToClient::ConnectFail { conn: 7, errno: 1 },
        ToClient::Read { txn: 9, offset: 5, nbytes: 65536 },
        ToClient::Write { txn: 9, offset: 5, data: b"piece" },
        ToClient::Reply { txn: 9, status: -5, offset: 5, data: b"" },
        ToClient::Error { txn: 9, errno: 2 },
        ToClient::Lost { txn: 9, errno: 112 },
        ToClient::Event { conn: 7, event },
        ToClient::Channel { conn: 7, flags: 10 },
        ToClient::Received { txn: 9 },
        ToClient::Death { conn: 7 },
    ]
}

fn whole(head: &[u8], data: &[u8]) -> Vec<u8> {
    [head, data].concat()
}

#[test]
fn client_packets_survive_the_way_to_bytes_and_back() {
    let mut head = Vec::new();
    for packet in to_server_packets() {
        let data = encode_to_server(&packet, &mut head);
        assert_eq!(decode_to_server(&whole(&head, data)), Ok(packet));
    }
}

#[test]
fn server_packets_survive_the_way_to_bytes_and_back() {
    let mut head = Vec::new();
    for packet in to_client_packets() {
        let data = encode_to_client(&packet, &mut head);
        assert_eq!(decode_to_client(&whole(&head, data)), Ok(packet));
    }
}

#[test]
fn a_packet_cut_inside_its_fixed_part_is_short() {
    let mut head = Vec::new();
    for packet in to_server_packets() {
        encode_to_server(&packet, &mut head);
        for len in 0..head.len() {
            assert_eq!(decode_to_server(&head[..len]), Err(DecodeError::Short { len }), "{packet:?}");
        }
    }
    for packet in to_client_packets() {
        encode_to_client(&packet, &mut head);
        for len in 0..head.len() {
            assert_eq!(decode_to_client(&head[..len]), Err(DecodeError::Short { len }), "{packet:?}");
        }
    }
}

#[test]
fn each_side_refuses_the_packets_of_its_own() {
    let mut head = Vec::new();
    for packet in to_server_packets() {
        let data = encode_to_server(&packet, &mut head);
        assert!(matches!(decode_to_client(&whole(&head, data)), Err(DecodeError::Verb { .. })));
    }
    for packet in to_client_packets() {
        let data = encode_to_client(&packet, &mut head);
        assert!(matches!(decode_to_server(&whole(&head, data)), Err(DecodeError::Verb { .. })));
    }
}

#[test]
fn lies_about_lengths_are_refused() {
    let mut head = Vec::new();
    encode_to_server(
        &ToServer::Connect(Connect { conn: 1, nd: 0, pid: 1, chid: 1, flags: 0, claim: Some(claim()) }),
        &mut head,
    );
    let n = head.len() - 12;
    head[n..n + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(decode_to_server(&head), Err(DecodeError::Field { field: "number of groups", .. })));

    let more_than_said = Send { srcmsglen: 2, ..Send::default() };
    let data = encode_to_server(&ToServer::Send(more_than_said, b"abc"), &mut head);
    assert!(matches!(decode_to_server(&whole(&head, data)), Err(DecodeError::Field { .. })));

    encode_to_client(&ToClient::Death { conn: 1 }, &mut head);
    head.push(0);
    assert_eq!(decode_to_client(&head), Err(DecodeError::Trailing { extra: 1 }));
}

#[test]
fn a_hello_of_a_later_version_may_be_longer() {
    let mut head = Vec::new();
    let hello = Hello { version: 3, abilities: 5 };
    encode_hello(hello, &mut head);
    head.extend_from_slice(b"later");
    assert_eq!(decode_hello(&head), Ok(hello));
    head[4] ^= 1;
    assert!(decode_hello(&head).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(verb in 0u16..0x30, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = whole(&verb.to_le_bytes(), &rest);
        let _ = decode_hello(&bytes);
        let _ = decode_to_server(&bytes);
        let _ = decode_to_client(&bytes);
        let _ = decode_to_server(&rest);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(rest in proptest::collection::vec(any::<u8>(), 0..120), verb in 1u8..0x2b) {
        let bytes = [&[verb, 0, 0, 0][..], &rest].concat();
        let mut head = Vec::new();
        if let Ok(packet) = decode_to_server(&bytes) {
            let data = encode_to_server(&packet, &mut head);
            prop_assert_eq!(whole(&head, data), bytes);
        } else if let Ok(packet) = decode_to_client(&bytes) {
            let data = encode_to_client(&packet, &mut head);
            prop_assert_eq!(whole(&head, data), bytes);
        }
    }
}
