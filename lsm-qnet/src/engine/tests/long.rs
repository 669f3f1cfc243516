//! Messages of any length through the engines: pieces of a packet, and nobody given more than it reads.

use qnet_ipc::ServerPeer;

use super::super::meter::tests::Lab;
use super::*;

/// Turns after which a test gives up.
const MANY: usize = 400_000;

fn byte(at: usize) -> u8 {
    (at % 251) as u8 ^ (at / 65_521) as u8
}

fn bytes(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(byte).collect()
}

/// A caller with one message, of which it gives what it is asked for.
struct Caller {
    end: End<ClientPeer>,
    message: Vec<u8>,
    reply: Vec<u8>,
    status: Option<Result<i64, i32>>,
}

impl Caller {
    /// Hears one packet, if one is there; answers reads.
    fn hear(&mut self) -> bool {
        self.end.peer.flush().unwrap();
        let Some(packet) = self.end.peer.recv(&mut self.end.buffer).unwrap() else { return false };
        match packet {
            ToClient::Read { txn, offset, nbytes } => {
                let data = &self.message[offset as usize..][..nbytes as usize];
                self.end.peer.send(&ToServer::ReadData { txn, offset, data }).unwrap();
            }
            ToClient::Write { offset, data, .. } => {
                self.reply[offset as usize..][..data.len()].copy_from_slice(data)
            }
            ToClient::Reply { offset, data, status, .. } => {
                self.reply[offset as usize..][..data.len()].copy_from_slice(data);
                self.status = Some(Ok(status));
            }
            ToClient::Error { errno, .. } => self.status = Some(Err(errno)),
            other => panic!("{other:?}"),
        }
        true
    }
}

/// A server that reads one message whole, many pieces at a time, and writes a long reply.
struct Server {
    end: End<ServerPeer>,
    txn: u32,
    message: Vec<u8>,
    got: usize,
    asked: usize,
    reply: usize,
    written: usize,
    done: bool,
}

impl Server {
    fn new(end: End<ServerPeer>, reply: usize) -> Server {
        Server { end, txn: 0, message: Vec::new(), got: 0, asked: 0, reply, written: 0, done: false }
    }

    /// Says as much as its socket takes, and hears what there is.
    fn act(&mut self) {
        self.end.peer.flush().unwrap();
        while let Some(packet) = self.end.peer.recv(&mut self.end.buffer).unwrap() {
            match packet {
                ToServer::Connect(connect) => {
                    let limit = MAX_DATA as u32;
                    self.end.peer.send(&ToClient::ConnectOk { conn: connect.conn, scoid: 1, limit }).unwrap();
                }
                ToServer::Send(send, data) => {
                    self.txn = send.txn;
                    self.message = vec![0; send.srcmsglen as usize];
                    self.message[..data.len()].copy_from_slice(data);
                    (self.got, self.asked) = (data.len(), data.len());
                }
                ToServer::ReadData { offset, data, .. } => {
                    assert_eq!(offset as usize, self.got, "reads are answered in order");
                    self.message[self.got..][..data.len()].copy_from_slice(data);
                    self.got += data.len();
                }
                other => panic!("{other:?}"),
            }
        }
        let txn = self.txn;
        while self.asked < self.message.len() && self.asked < self.got + 100 * MAX_DATA {
            let nbytes = MAX_DATA.min(self.message.len() - self.asked);
            let read = ToClient::Read { txn, offset: self.asked as u32, nbytes: nbytes as u32 };
            self.end.peer.send(&read).unwrap();
            self.asked += nbytes;
        }
        let ready = !self.message.is_empty() && self.got == self.message.len();
        while ready && !self.done && !self.end.peer.wants_write() {
            let data = bytes(self.written..self.reply.min(self.written + MAX_DATA));
            let offset = self.written as u32;
            self.written += data.len();
            self.done = self.written == self.reply;
            let packet = if self.done {
                ToClient::Reply { txn, status: 5, offset, data: &data }
            } else {
                ToClient::Write { txn, offset, data: &data }
            };
            self.end.peer.send(&packet).unwrap();
        }
    }
}

/// A caller at the first node, and a server at the second: the caller's message is on its way.
fn call(lab: &mut Lab, len: usize, reply: usize) -> (Caller, Server) {
    let mut server = Server::new(lab.desks[1].server(), reply);
    let mut end = lab.desks[0].client();
    let nd = lab.desks[0].engine.core().nodes().find(|view| view.nd != NodeId::LOCAL).unwrap().nd.0;
    end.say(ToServer::Connect(Connect { conn: 1, nd, pid: 1, chid: 1, flags: 0, claim: None }));
    let open = (0..MANY).any(|_| {
        lab.step();
        server.act();
        matches!(end.peer.recv(&mut end.buffer).unwrap(), Some(ToClient::ConnectOk { .. }))
    });
    assert!(open);
    let head = Send { dstmsglen: reply as u32, ..send(77, 1, len as u32) };
    let message = bytes(0..len);
    end.say(ToServer::Send(head, &message[..len.min(8192)]));
    (Caller { end, message, reply: vec![0; reply], status: None }, server)
}

#[test]
fn a_long_message_and_a_longer_reply_cross_two_engines() {
    let mut lab = Lab::new(None);
    let (mut caller, mut server) = call(&mut lab, 20_000_001, 30_000_003);
    for _ in 0..MANY {
        lab.step();
        server.act();
        while caller.hear() {}
        if caller.status.is_some() {
            break;
        }
    }
    assert_eq!(caller.status, Some(Ok(5)));
    assert!(server.message == caller.message, "the message came through damaged");
    assert!(caller.reply == bytes(0..30_000_003), "the reply came through damaged");
    assert_eq!(lab.desks[0].engine.population().2 + lab.desks[1].engine.population().2, 0);
}

#[test]
fn a_caller_that_does_not_read_stops_the_reply_and_gets_all_of_it_when_it_does() {
    let mut lab = Lab::new(None);
    let (mut caller, mut server) = call(&mut lab, 100, 90_000_000);
    let mut before = 0;
    // Until nothing moves any more: the reply fills what it may fill, and the server is held up.
    for turn in 0..MANY {
        lab.step();
        server.act();
        if turn % 2000 == 1999 {
            if before == server.written {
                break;
            }
            before = server.written;
        }
    }
    assert!(
        !server.done && server.written < 80_000_000,
        "{} bytes were taken from the server",
        server.written
    );
    assert_eq!(lab.desks[0].engine.totals().clients_dropped, 0);
    for turn in 0..MANY {
        lab.step();
        server.act();
        // It reads, but not all at once.
        if turn % 3 == 0 {
            caller.hear();
        }
        if caller.status.is_some() {
            break;
        }
    }
    assert_eq!(caller.status, Some(Ok(5)));
    assert!(caller.reply == bytes(0..90_000_000), "the reply came through damaged");
}

#[test]
fn between_programs_of_one_node_a_slow_reader_holds_up_its_server_and_nobody_else() {
    let mut desk = Desk::new();
    let address = desk.root.channel(std::process::id().cast_signed(), 1_000_077).unwrap();
    let listener = Listener::channel(&address).unwrap();
    let mut end = desk.client();
    let (pid, chid) = (address.pid, address.chid);
    end.say(ToServer::Connect(Connect { conn: 1, nd: 0, pid, chid, flags: 0, claim: None }));
    desk.step();
    let mut server = Server::new(End::new(listener.accept().unwrap().unwrap().0), 70_000_000);
    server.act();
    desk.step();
    assert!(matches!(end.hear(), ToClient::ConnectOk { .. }));
    let head = Send { dstmsglen: 70_000_000, ..send(5, 1, 10) };
    end.say(ToServer::Send(head, &bytes(0..10)));
    for _ in 0..3000 {
        desk.step();
        server.act();
    }
    assert!(
        !server.done && server.written < 5_000_000,
        "{} bytes were taken from the server",
        server.written
    );
    assert_eq!(desk.engine.totals().clients_dropped, 0);

    let mut own = desk.server();
    let (mut other, _) = desk.connected(&mut own);
    other.say(ToServer::Send(send(1, 1, 1), b"x"));
    desk.step();
    assert!(matches!(own.hear(), ToServer::Send(..)), "others are served");

    let mut caller = Caller { end, message: bytes(0..10), reply: vec![0; 70_000_000], status: None };
    for _ in 0..MANY {
        desk.step();
        server.act();
        caller.hear();
        if caller.status.is_some() {
            break;
        }
    }
    assert_eq!(caller.status, Some(Ok(5)));
    assert!(caller.reply == bytes(0..70_000_000), "the reply came through damaged");
}

#[test]
fn the_network_manager_asks_another_node_for_its_numbers() {
    let mut lab = Lab::new(None);
    let number = |lab: &Lab, desk: usize| {
        lab.desks[desk].engine.core().nodes().find(|view| view.nd != NodeId::LOCAL).unwrap().nd.0
    };
    let (barbara, alonzo) = (number(&lab, 0), number(&lab, 1));
    let mut end = lab.desks[0].client();
    end.say(ToServer::Connect(Connect { conn: 1, nd: 0, pid: 0, chid: 0, flags: 0, claim: None }));
    lab.step();
    assert!(matches!(end.hear(), ToClient::ConnectOk { .. }));
    for (txn, (remote, local, expected)) in [
        (barbara, 0, Ok(i64::from(alonzo))),
        (barbara, barbara, Ok(0)),
        (0, barbara, Ok(i64::from(barbara))),
        (barbara, 999, Err(libc::ENOENT)),
        (999, 0, Err(libc::EHOSTUNREACH)),
    ]
    .into_iter()
    .enumerate()
    {
        let message = Request::RemoteNd { remote, local }.emit().unwrap();
        end.say(ToServer::Send(send(txn as u32 + 1, 1, message.len() as u32), &message));
        let mut answer = None;
        for _ in 0..MANY {
            lab.step();
            answer = match end.peer.recv(&mut end.buffer).unwrap() {
                Some(ToClient::Reply { status, .. }) => Some(Ok(status)),
                Some(ToClient::Error { errno, .. }) => Some(Err(errno)),
                Some(other) => panic!("{other:?}"),
                None => None,
            };
            if answer.is_some() {
                break;
            }
        }
        assert_eq!(answer, Some(expected), "{remote} about {local}");
    }
    let message = Request::QosFlush { nd: 0 }.emit().unwrap();
    end.say(ToServer::Send(send(99, 1, message.len() as u32), &message));
    lab.step();
    assert!(matches!(end.hear(), ToClient::Reply { txn: 99, status: 0, .. }));
}
