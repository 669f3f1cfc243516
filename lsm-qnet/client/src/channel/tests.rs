//! Clients and servers in threads of one process, over real sockets.

use std::{thread, time::Duration};

use qnet_ipc::{ClientPeer, ReceiveBuffer, ToClient, ToServer, packet};

use super::*;
use crate::{Connection, SendOptions};

fn setup(flags: ChannelFlags) -> (tempfile::TempDir, Root, Channel) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path()).unwrap();
    let channel = Channel::create(&root, flags).unwrap();
    (directory, root, channel)
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

fn message(channel: &Channel) -> Message {
    match channel.receive(soon()).unwrap() {
        Received::Message(message) => message,
        Received::Pulse(pulse) => panic!("a pulse came: {pulse:?}"),
    }
}

fn pulse(channel: &Channel) -> Pulse {
    match channel.receive(soon()).unwrap() {
        Received::Pulse(pulse) => pulse,
        Received::Message(message) => panic!("a message came: {:?}", message.info()),
    }
}

fn attach(root: &Root, channel: &Channel) -> Connection {
    Connection::attach(root, 0, channel.pid(), channel.chid()).unwrap()
}

#[test]
fn a_long_message_is_read_in_pieces_and_a_long_reply_arrives_whole() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    let question: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
    let answer: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let message = message(&channel);
            assert_eq!(message.info().srcmsglen as usize, question.len());
            let mut read = vec![0; question.len() + 10];
            assert_eq!(message.read(0, &mut read).unwrap(), question.len());
            assert!(read[..question.len()] == question);
            assert_eq!(message.read(999_990, &mut read).unwrap(), 10);
            message.reply(3, &answer).unwrap();
        });
        let connection = attach(&root, &channel);
        let (head, tail) = question.split_at(77_777);
        let mut got = vec![0; answer.len()];
        let (a, b) = got.split_at_mut(1_234_567);
        let parts = [IoSlice::new(head), IoSlice::new(tail)];
        let mut room = [IoSliceMut::new(a), IoSliceMut::new(b)];
        let reply = connection.send_vectored(&parts, &mut room, SendOptions::default()).unwrap();
        assert_eq!((reply.status, reply.len), (3, answer.len()));
        assert!(got == answer);
    });
}

#[test]
fn a_long_message_is_copied_into_the_readers_buffers_and_nowhere_else() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    let connection = attach(&root, &channel);
    let sent: Vec<u8> = (0..200_000).map(|i| (i % 251) as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            // The first ones of a connection go by its socket.
            let rounds = (0..100_000).map(|round| {
                let message = message(&channel);
                let lent = message.body.is_lent();
                let (mut one, mut two, mut end) = ([0; 1000], vec![0; 99_000], [0; 10]);
                let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
                assert_eq!(message.read_vectored(50_000, &mut parts).unwrap(), 100_000);
                assert!(one == sent[50_000..51_000] && two == sent[51_000..150_000]);
                assert_eq!(message.read(199_995, &mut end).unwrap(), 5);
                assert_eq!(message.read(200_000, &mut end).unwrap(), 0);
                assert_eq!((&end[..5], message.body.is_lent()), (&sent[199_995..], lent), "round {round}");
                assert!(message.data() == &sent[..message.data().len()] && !message.body.is_lent());
                let again = message.read(1, &mut end).unwrap();
                assert_eq!(end[..again], sent[1..11]);
                message.reply(lent.into(), b"").unwrap();
                lent
            });
            assert!(rounds.into_iter().any(|lent| lent), "nothing is ever lent");
        });
        let rounds = (0..100_000).map(|_| connection.send(&sent, &mut []).unwrap().status);
        assert!(rounds.into_iter().any(|lent| lent == 1));
    });
}

#[test]
fn a_reply_longer_than_the_room_is_cut() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    thread::scope(|scope| {
        scope.spawn(|| message(&channel).reply(0, b"too long").unwrap());
        let mut room = [0; 3];
        let reply = attach(&root, &channel).send(b"", &mut room).unwrap();
        assert_eq!((reply.len, &room), (3, b"too"));
    });
}

#[test]
fn an_error_reply_becomes_the_senders_errno() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    thread::scope(|scope| {
        scope.spawn(|| {
            message(&channel).error(libc::ENOSYS).unwrap();
            drop(message(&channel));
        });
        let connection = attach(&root, &channel);
        assert_eq!(connection.send(b"x", &mut []).unwrap_err().errno(), libc::ENOSYS);
        assert_eq!(connection.send(b"y", &mut []).unwrap_err().errno(), libc::ESRCH, "dropped unanswered");
    });
}

#[test]
fn many_threads_share_one_connection_and_each_gets_its_own_answer() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Received::Message(message) = channel.receive(soon()).unwrap() {
                    let data = message.data().to_vec();
                    message.reply(data.len() as i64, &data).unwrap();
                }
            });
        }
        let connection = attach(&root, &channel);
        thread::scope(|clients| {
            for client in 0..8u32 {
                let connection = &connection;
                clients.spawn(move || {
                    for round in 0..50u32 {
                        let question = (client * 1000 + round).to_le_bytes();
                        let mut answer = [0; 4];
                        let reply = connection.send(&question, &mut answer).unwrap();
                        assert_eq!((reply.status, answer), (4, question));
                    }
                });
            }
        });
        for _ in 0..3 {
            connection.pulse(10, 1, 0).unwrap();
        }
    });
}

#[test]
fn the_most_urgent_is_received_first() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    let connection = attach(&root, &channel);
    for (priority, value) in [(5, 1), (20, 2), (5, 3), (20, 4)] {
        connection.pulse(priority, 7, value).unwrap();
    }
    let order: Vec<u64> = (0..4).map(|_| pulse(&channel).value).collect();
    assert_eq!(order, [2, 4, 1, 3]);
}

#[test]
fn the_sender_is_known_by_what_the_kernel_says() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    thread::scope(|scope| {
        scope.spawn(|| {
            let message = message(&channel);
            let info = message.info().clone();
            assert_eq!((info.pid, info.chid, info.coid), (channel.pid(), channel.chid(), 42));
            assert_eq!(info.credentials.euid, nix::unistd::geteuid().as_raw());
            message.reply(0, b"").unwrap();
        });
        let options = SendOptions { coid: 42, ..SendOptions::default() };
        attach(&root, &channel).send_vectored(&[IoSlice::new(b"who")], &mut [], options).unwrap();
    });
}

/// A client without the library around it: connected, and one message of 100,000 bytes sent as transaction 1.
fn raw_client(root: &Root, channel: &Channel) -> ClientPeer {
    let address = root.channel(channel.pid(), channel.chid()).unwrap();
    let (mut client, _) = qnet_ipc::connect_channel(&address).unwrap();
    let (pid, chid) = (address.pid, address.chid);
    client
        .send(&ToServer::Connect(packet::Connect { conn: 1, nd: 0, pid, chid, flags: 0, claim: None }))
        .unwrap();
    let head = packet::Send { txn: 1, conn: 1, srcmsglen: 100_000, ..packet::Send::default() };
    client.send(&ToServer::Send(head, b"first")).unwrap();
    client
}

/// The errno with which transaction 1 ended.
fn ended(client: &mut ClientPeer) -> i32 {
    let mut buffer = ReceiveBuffer::new();
    loop {
        assert!(client.wait(soon()).unwrap(), "the server does not answer");
        while let Some(packet) = client.recv(&mut buffer).unwrap() {
            if let ToClient::Error { txn: 1, errno } = packet {
                return errno;
            }
        }
    }
}

#[test]
fn a_message_is_received_whole_however_late_its_sender_gets_its_turn() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    let mut client = raw_client(&root, &channel);
    let mut whole = vec![0; 100_000];
    thread::scope(|scope| {
        let receives = scope.spawn(|| channel.receive_into(&mut [IoSliceMut::new(&mut whole)], soon()));
        // Nothing is handed over before it was asked for in vain and once more. The sender is of this process, which runs.
        let (mut buffer, mut asked, mut again) = (ReceiveBuffer::new(), Vec::new(), false);
        let end = soon();
        while !receives.is_finished() {
            assert!(Some(Instant::now()) < end, "it waits on");
            if let Some(ToClient::Read { offset, nbytes, .. }) = client.recv(&mut buffer).unwrap() {
                again |= asked.contains(&(offset, nbytes));
                asked.push((offset, nbytes));
            }
            for (offset, nbytes) in asked.drain(..if again { asked.len() } else { 0 }) {
                let data = &vec![7; nbytes as usize];
                client.send(&ToServer::ReadData { txn: 1, offset, data }).unwrap();
            }
            thread::yield_now();
        }
        let Received::Message(message) = receives.join().unwrap().unwrap() else { panic!("a pulse came") };
        assert_eq!(message.info().msglen, 100_000);
    });
    assert!(whole.starts_with(b"first") && whole[5..].iter().all(|byte| *byte == 7));
}

#[test]
fn a_server_that_asked_for_it_is_told_when_a_sender_wants_to_leave() {
    let (_directory, root, channel) = setup(ChannelFlags::UNBLOCK);
    let mut client = raw_client(&root, &channel);
    let message = message(&channel);
    client.send(&ToServer::Unblock { txn: 1, tid: 1 }).unwrap();
    let pulse = pulse(&channel);
    assert_eq!((pulse.code, pulse.value), (Pulse::UNBLOCK, message.rcvid() as u64));
    message.error(libc::EBUSY).unwrap();
    assert_eq!(ended(&mut client), libc::EBUSY);
}

#[test]
fn a_sender_whose_message_was_not_received_leaves_at_once() {
    let (_directory, root, channel) = setup(ChannelFlags::UNBLOCK);
    let mut client = raw_client(&root, &channel);
    client.send(&ToServer::Unblock { txn: 1, tid: 1 }).unwrap();
    thread::scope(|scope| {
        let errno = scope.spawn(|| ended(&mut client));
        scope.spawn(|| attach(&root, &channel).pulse(1, 1, 1).unwrap());
        assert_eq!(pulse(&channel).code, 1);
        assert_eq!(errno.join().unwrap(), libc::EINTR);
    });
}

#[test]
fn a_deadline_ends_a_send_that_nobody_answers() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    thread::scope(|scope| {
        scope.spawn(|| {
            // Received or not, without the flag nothing holds the sender back.
            while let Received::Message(message) = channel.receive(soon()).unwrap() {
                std::mem::forget(message);
            }
        });
        let options = SendOptions { deadline: Some(Instant::now()), ..SendOptions::default() };
        let connection = attach(&root, &channel);
        let error = connection.send_vectored(&[IoSlice::new(b"x")], &mut [], options).unwrap_err();
        assert_eq!(error.errno(), libc::ETIMEDOUT);
        connection.pulse(1, 1, 1).unwrap();
    });
}

#[test]
fn a_dead_client_is_told_and_its_message_cannot_be_answered() {
    let (_directory, root, channel) = setup(ChannelFlags::DISCONNECT);
    let client = raw_client(&root, &channel);
    let message = message(&channel);
    drop(client);
    let gone = pulse(&channel);
    assert_eq!((gone.code, gone.scoid), (Pulse::DISCONNECT, message.info().scoid));
    assert_eq!(message.read(50, &mut [0; 10]).unwrap_err().errno(), libc::ESRCH);
    assert_eq!(message.reply(0, b"").unwrap_err().errno(), libc::ESRCH);
}

#[test]
fn the_death_of_a_server_wakes_its_clients() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    let (pid, chid) = (channel.pid(), channel.chid());
    let connection = thread::scope(|scope| {
        let root = &root;
        let client = scope.spawn(move || {
            let connection = Connection::attach(root, 0, pid, chid).unwrap();
            assert_eq!(connection.send(b"x", &mut []).unwrap_err().errno(), libc::ESRCH);
            connection
        });
        let message = message(&channel);
        drop(channel);
        drop(message);
        client.join().unwrap()
    });
    assert_eq!(connection.send(b"x", &mut []).unwrap_err().errno(), libc::EBADF);
    assert_eq!(Connection::attach(&root, 0, pid, chid).unwrap_err().errno(), libc::ESRCH);
}

#[test]
fn without_qnet_remote_and_netmgr_calls_say_so() {
    let (_directory, root, _channel) = setup(ChannelFlags::empty());
    assert_eq!(crate::Netmgr::attach(&root).unwrap_err().errno(), libc::ENOTSUP);
    assert!(Connection::attach(&root, 7, 100, 1).is_err());
}

#[test]
fn hundreds_of_clients_are_served_by_one_channel() {
    let (_directory, root, channel) = setup(ChannelFlags::empty());
    let mut clients: Vec<_> = (0..200).map(|_| raw_client(&root, &channel)).collect();
    let mut scoids = std::collections::HashSet::new();
    for _ in 0..clients.len() {
        let message = message(&channel);
        scoids.insert(message.info().scoid);
        message.error(libc::EDOM).unwrap();
    }
    assert_eq!(scoids.len(), clients.len(), "each client has a number of its own");
    for client in &mut clients {
        assert_eq!(ended(client), libc::EDOM);
    }
}
