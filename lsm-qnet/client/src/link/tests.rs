//! Threads that share a link, against a server whose every packet the test decides.

use std::{
    io::IoSlice,
    thread,
    time::{Duration, Instant},
};

use qnet_ipc::{
    Listener, Loan, MAX_DATA, MAX_LENT, ReceiveBuffer, Root, ServerPeer, ToClient, ToServer, packet,
};

use super::*;
use crate::{Connection, SendOptions};

const CHID: i32 = 77;

/// Waits until something holds, for longer than any machine needs.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

/// What a scripted server hears.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Connect(u32),
    Send { txn: u32, first: usize },
    ReadData { offset: u32 },
    Pulse(u64),
    Unblock(u32),
}

struct Server {
    peer: ServerPeer,
    buffer: ReceiveBuffer,
    /// Of the last message.
    loan: Option<Loan>,
}

impl Server {
    fn say(&mut self, packet: &ToClient<'_>) {
        self.peer.send(packet).unwrap();
    }

    fn hear(&mut self) -> Option<Heard> {
        let (packet, loan) = self.peer.recv_lent(&mut self.buffer).unwrap()?;
        let lent = loan.as_ref().map_or(0, Loan::len);
        Some(match packet {
            ToServer::Connect(connect) => Heard::Connect(connect.conn),
            ToServer::Send(send, data) => {
                self.loan = loan;
                Heard::Send { txn: send.txn, first: data.len() + lent }
            }
            ToServer::ReadData { offset, .. } => Heard::ReadData { offset },
            ToServer::Pulse(pulse) => Heard::Pulse(pulse.value),
            ToServer::Unblock { txn, .. } => Heard::Unblock(txn),
            other => panic!("nobody asked for {other:?}"),
        })
    }

    fn expect(&mut self) -> Heard {
        let mut heard = None;
        until("the client says nothing", || {
            heard = self.hear();
            heard.is_some()
        });
        heard.unwrap()
    }
}

/// A server that has said nothing yet, and a connection to it.
fn young() -> (tempfile::TempDir, Server, Connection, u32) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path()).unwrap();
    let listener = Listener::channel(&root.channel(process::pid(), CHID).unwrap()).unwrap();
    let connection = Connection::attach(&root, 0, process::pid(), CHID).unwrap();
    let (peer, _) = listener.accept().unwrap().unwrap();
    let mut server = Server { peer, buffer: ReceiveBuffer::new(), loan: None };
    let Heard::Connect(conn) = server.expect() else { panic!("it connects first") };
    (directory, server, connection, conn)
}

/// The same, through shared memory.
fn ringed() -> (tempfile::TempDir, Server, Connection) {
    let (directory, mut server, connection, conn) = young();
    server.say(&ToClient::ConnectOk { conn, scoid: 1, limit: MAX_LENT as u32 });
    let link = connection.link();
    until("there is no ring", || {
        connection.pulse(10, 0, 0).unwrap();
        link.look();
        while let Some(heard) = server.hear() {
            assert_eq!(heard, Heard::Pulse(0));
        }
        server.peer.uses_ring()
    });
    (directory, server, connection)
}

#[test]
fn a_thread_that_waits_for_room_goes_on_when_another_thread_sent_what_waited() {
    let (_directory, server, connection) = ringed();
    let link = connection.link();
    let message = vec![0; 4 * MAX_LENT];
    thread::scope(|scope| {
        // Owned in here: a failure closes the socket, and the threads end.
        let mut server = server;
        scope.spawn(|| connection.send(b"waits and reads for everybody", &mut []));
        let Heard::Send { txn: leader, .. } = server.expect() else { panic!("a message was sent") };
        until("nobody reads", || link.lock().crew.leading);
        scope.spawn(|| connection.send(&message, &mut []));
        let Heard::Send { txn, first } = server.expect() else { panic!("a message was sent") };
        assert_eq!(first, MAX_LENT);
        // More than arena, ring and queue hold beside the first piece.
        let pieces = ((message.len() - first) / MAX_DATA) as u32;
        for n in 0..pieces {
            let (offset, nbytes) = (first as u32 + n * MAX_DATA as u32, MAX_DATA as u32);
            server.say(&ToClient::Read { txn, offset, nbytes });
        }
        until("there is room for everything", || link.lock().crew.has_asleep(0));
        // There is room again, of which no bell tells; a third thread finds it.
        server.loan = None;
        connection.pulse(10, 0, 9).unwrap();
        assert!(!link.lock().has_unsent());
        let mut got = Vec::new();
        while got.len() < pieces as usize {
            match server.expect() {
                Heard::ReadData { offset } => got.push(offset),
                heard => assert_eq!(heard, Heard::Pulse(9)),
            }
        }
        assert!(got.is_sorted());
        for txn in [txn, leader] {
            server.say(&ToClient::Reply { txn, status: 0, offset: 0, data: &[] });
        }
    });
}

#[test]
fn a_thread_that_waits_to_write_leaves_reading_to_the_one_that_leads() {
    let (_directory, mut server, connection, conn) = young();
    let link = connection.link();
    let mut state = link.lock();
    let pulse = packet::Pulse { conn, code: 0, priority: 10, value: 0 };
    while !state.wants_writable() {
        state.send(&ToServer::Pulse(pulse)).unwrap();
    }
    // Another thread leads, and has not noticed yet what comes now.
    state.crew.leading = true;
    while server.hear().is_some() {}
    server.say(&ToClient::ConnectOk { conn, scoid: 1, limit: 1 });
    let (state, step) = link.step(state, 0, None, None, &Signals::unnoticed()).unwrap();
    assert_eq!(step, Step::Something);
    assert!(!state.has_unsent());
    assert_eq!(state.conns.get(&conn), Some(&ConnState::Opening), "that is for the leader to read");
}

#[test]
fn who_wants_to_leave_before_the_channel_is_known_goes_when_it_is() {
    for leads in [true, false] {
        let (_directory, server, connection, conn) = young();
        let (connection, link) = (&connection, connection.link());
        thread::scope(|scope| {
            // Owned in here: a failure closes the socket, and the threads end.
            let mut server = server;
            let sent = |server: &mut Server| match server.expect() {
                Heard::Send { txn, .. } => txn,
                other => panic!("a message was sent, not {other:?}"),
            };
            server.say(&ToClient::ConnectOk { conn, scoid: 1, limit: MAX_DATA as u32 });
            let leader = (!leads).then(|| {
                scope.spawn(|| connection.send(b"waits and reads for everybody", &mut []));
                until("nobody reads", || link.lock().crew.leading);
                sent(&mut server)
            });
            until("it is not open", || {
                link.look();
                matches!(link.lock().conns.get(&conn), Some(ConnState::Open { flags: None, .. }))
            });
            let deadline = Some(Instant::now() + Duration::from_millis(20));
            let options = SendOptions { deadline, ..SendOptions::default() };
            let leaver =
                scope.spawn(move || connection.send_vectored(&[IoSlice::new(b"x")], &mut [], options));
            let txn = sent(&mut server);
            assert_eq!(server.expect(), Heard::Unblock(txn));
            until("it does not wait for the server's word", || {
                let state = link.lock();
                if leads { state.crew.leading } else { state.crew.has_asleep(txn) }
            });
            server.say(&ToClient::Channel { conn, flags: 0 });
            until("it waits on", || leaver.is_finished());
            assert_eq!(leaver.join().unwrap().unwrap_err().errno(), libc::ETIMEDOUT);
            if let Some(txn) = leader {
                server.say(&ToClient::Reply { txn, status: 0, offset: 0, data: &[] });
            }
        });
    }
}
