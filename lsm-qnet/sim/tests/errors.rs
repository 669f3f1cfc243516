//! Whatever goes wrong, who waits is told, with the right number and in time; and the verbs that nobody
//! waits for: events, signals, and the question for another node's number.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::time::Duration;

use qnet_proto::{
    Body, ClientId, ClientInfo, Command, CommandError, Errno, Event, Handle, NodeId, Outlet, Rcv, ServerId,
    Sigevent, SignalInfo, VtidInfo,
};
use qnet_sim::{Faults, HostId, Network, Wire};

const CLIENT: ClientId = ClientId(1);
const ENOMEM: Errno = Errno(12);
const EFAULT: Errno = Errno(14);
/// Five seconds without an acknowledgement, or heartbeats unanswered from ten seconds on, end a session.
const PATIENCE: Duration = Duration::from_secs(20);

/// A caller at `a` and a server at `b`, that know each other.
struct Pair {
    net: Network,
    a: HostId,
    b: HostId,
}

impl Pair {
    fn new() -> Pair {
        let mut net = Network::new(1);
        net.configure(|config| config.limits.messages_per_peer = 1);
        let (a, b) = (net.add("alonzo"), net.add("joseph"));
        net.run_for(Duration::from_secs(1));
        net.events(a);
        net.events(b);
        Pair { net, a, b }
    }

    fn nd(&self, host: HostId, name: &str) -> NodeId {
        self.net.node(host).nodes().find(|node| node.name.as_str() == name).unwrap().nd
    }

    fn connect(&mut self) {
        let nd = self.nd(self.a, "joseph");
        let cred = ClientInfo { pid: 77, euid: 1000, ..ClientInfo::default() };
        self.net.command(self.a, Command::Connect { client: CLIENT, nd, pid: 1, chid: 1, cred }).unwrap();
    }

    /// Something happens at a host that `pick` is looking for.
    fn wait<T>(&mut self, host: HostId, pick: impl Fn(Event) -> Option<T>) -> T {
        let mut found = None;
        self.net.run_while(PATIENCE, |net| {
            found = found.take().or_else(|| net.events(host).into_iter().find_map(&pick));
            found.is_some()
        });
        found.expect("it happens in time")
    }

    fn connected(&mut self) -> ServerId {
        self.connect();
        let server = self.asked();
        self.net.command(self.b, Command::Accept { server, scoid: 5, nbytes: 8192 }).unwrap();
        self.wait(self.a, |event| matches!(event, Event::Connected { .. }).then_some(()));
        server
    }

    fn asked(&mut self) -> ServerId {
        self.wait(self.b, |event| if let Event::Connect { server, .. } = event { Some(server) } else { None })
    }

    fn try_send(&mut self, handle: u64) -> Result<(), CommandError> {
        let info = VtidInfo { srcmsglen: 100, dstmsglen: 4, tid: 1, ..VtidInfo::default() };
        let first = Body::from(vec![1, 0x20, 3, 4]);
        let (client, handle) = (CLIENT, Handle(handle));
        self.net.command(self.a, Command::Send { client, handle, info, first, reply: Outlet::nowhere() })
    }

    fn send(&mut self, handle: u64) {
        self.try_send(handle).unwrap();
    }

    fn received(&mut self) -> Rcv {
        self.wait(self.b, |event| if let Event::Message { rcv, .. } = event { Some(rcv) } else { None })
    }

    /// What the sender of a message is told.
    fn told(&mut self, handle: u64) -> Errno {
        self.wait(self.a, |event| match event {
            Event::Error { handle: Handle(h), errno, .. } if h == handle => Some(errno),
            _ => None,
        })
    }

    fn refused(&mut self) -> Errno {
        self.wait(self.a, |event| match event {
            Event::ConnectFailed { client: CLIENT, errno } => Some(errno),
            _ => None,
        })
    }
}

/// What goes wrong, what the one who waits is told, and how to bring it about.
type Case = (&'static str, Errno, fn(&mut Pair) -> Errno);

const CASES: &[Case] = &[
    ("the name is nobody's", Errno::ENOENT, |pair| {
        pair.net.command(pair.a, Command::Resolve { token: 1, name: "nobody".into() }).unwrap();
        pair.wait(pair.a, |e| if let Event::ResolveFailed { errno, .. } = e { Some(errno) } else { None })
    }),
    ("the node is off when it is called", Errno::EHOSTUNREACH, |pair| {
        pair.net.crash(pair.b);
        pair.connect();
        pair.refused()
    }),
    ("the node is off, and a message waits for the connection", Errno::EHOSTUNREACH, |pair| {
        pair.net.crash(pair.b);
        pair.connect();
        pair.send(1);
        pair.told(1)
    }),
    ("the node goes down while it is asked for a connection", Errno::EHOSTDOWN, |pair| {
        pair.connect();
        pair.asked();
        pair.net.crash(pair.b);
        pair.refused()
    }),
    ("the node goes down before the message arrives", Errno::EHOSTDOWN, |pair| {
        pair.connected();
        pair.net.crash(pair.b);
        pair.send(1);
        pair.told(1)
    }),
    ("the node goes down while the sender waits for the reply", Errno::EHOSTDOWN, |pair| {
        pair.connected();
        pair.send(1);
        pair.received();
        pair.net.crash(pair.b);
        pair.send(2); // somebody has to notice
        pair.told(1)
    }),
    ("the node goes down, and nobody has anything to send", Errno::EHOSTDOWN, |pair| {
        pair.connected();
        pair.send(1);
        pair.received();
        pair.net.crash(pair.b);
        pair.told(1)
    }),
    ("the node is restarted while the sender waits for the reply", Errno::EHOSTDOWN, |pair| {
        pair.connected();
        pair.send(1);
        pair.received();
        pair.net.reboot(pair.b);
        pair.told(1)
    }),
    ("the node says good-bye", Errno::EHOSTDOWN, |pair| {
        pair.connected();
        pair.send(1);
        pair.received();
        pair.net.shut_down(pair.b);
        pair.told(1)
    }),
    ("the channel does not exist", Errno::ESRCH, |pair| {
        pair.connect();
        let server = pair.asked();
        pair.net.command(pair.b, Command::Reject { server, errno: Errno::ESRCH }).unwrap();
        pair.refused()
    }),
    ("the server refuses, and a message waits for the connection", ENOMEM, |pair| {
        pair.connect();
        pair.send(1);
        let server = pair.asked();
        pair.net.command(pair.b, Command::Reject { server, errno: ENOMEM }).unwrap();
        pair.told(1)
    }),
    ("the server dies before it receives the message", Errno::ESRCH, |pair| {
        let server = pair.connected();
        pair.send(1);
        pair.received();
        pair.net.command(pair.b, Command::ConnectDeath { server }).unwrap();
        pair.told(1)
    }),
    ("the channel went while the message was on its way", Errno::EBADF, |pair| {
        let server = pair.connected();
        pair.net.cut(pair.b, pair.a); // the news does not get through yet
        pair.net.command(pair.b, Command::ConnectDeath { server }).unwrap();
        pair.send(1);
        pair.net.run_for(Duration::from_millis(1));
        pair.net.heal();
        let errno = pair.told(1);
        // Which of the two gets through first is the wire's business.
        if errno == Errno::ESRCH { Errno::EBADF } else { errno }
    }),
    ("the server answers with an error", EFAULT, |pair| {
        pair.connected();
        pair.send(1);
        let rcv = pair.received();
        pair.net.command(pair.b, Command::Error { rcv, errno: EFAULT }).unwrap();
        pair.told(1)
    }),
    ("the sender's memory cannot be read", EFAULT, |pair| {
        pair.connected();
        pair.send(1);
        let rcv = pair.received();
        let read = Command::Read { rcv, offset: 10, nbytes: 5, into: Outlet::nowhere() };
        pair.net.command(pair.b, read).unwrap();
        let offset =
            pair.wait(pair.a, |e| if let Event::Read { offset, .. } = e { Some(offset) } else { None });
        let failed = Command::ReadError { handle: Handle(1), offset, errno: EFAULT };
        pair.net.command(pair.a, failed).unwrap();
        pair.wait(pair.b, |e| if let Event::ReadError { errno, .. } = e { Some(errno) } else { None })
    }),
    ("the sender left before the read came", Errno::ESRCH, |pair| {
        pair.connected();
        pair.send(1);
        let rcv = pair.received();
        // Its node forgets the transaction; the server has not heard of it yet.
        pair.net.cut(pair.a, pair.b);
        pair.net.command(pair.a, Command::Disconnect { client: CLIENT }).unwrap();
        let read = Command::Read { rcv, offset: 10, nbytes: 5, into: Outlet::nowhere() };
        pair.net.command(pair.b, read).unwrap();
        pair.net.run_for(Duration::from_millis(1));
        pair.net.heal();
        let (errno, b) = (Errno::ESRCH, pair.b);
        let told = pair.wait(b, |e| match e {
            Event::ReadError { errno, .. } => Some(errno),
            Event::Disconnect { .. } => Some(Errno::ESRCH),
            _ => None,
        });
        if told == errno { told } else { Errno(0) }
    }),
    ("the sender gives up before its message left", Errno::EINTR, |pair| {
        pair.connect();
        pair.send(1);
        pair.net.command(pair.a, Command::Unblock { handle: Handle(1) }).unwrap();
        pair.told(1)
    }),
    ("the node's tables are full", Errno::EAGAIN, |pair| {
        pair.connected();
        pair.send(1);
        pair.send(2);
        pair.told(2)
    }),
    ("another node is asked for a number and goes down", Errno::EHOSTDOWN, |pair| {
        pair.connected();
        pair.net.crash(pair.b);
        let nd = pair.nd(pair.a, "joseph");
        let ask = Command::RemoteNd { token: 9, nd, name: "alonzo".into() };
        pair.net.command(pair.a, ask).unwrap();
        pair.wait(pair.a, |e| match e {
            Event::RemoteNd { token: 9, outcome } => Some(outcome.unwrap_err()),
            _ => None,
        })
    }),
];

#[test]
fn whoever_waits_is_told_the_right_number_in_time() {
    for (what, errno, happen) in CASES {
        println!("{what}");
        let mut pair = Pair::new();
        assert_eq!(happen(&mut pair), *errno, "{what}");
    }
}

#[test]
fn who_was_told_is_not_told_again_and_the_connection_is_gone() {
    let mut pair = Pair::new();
    pair.connected();
    pair.send(1);
    pair.net.crash(pair.b);
    pair.told(1);
    pair.net.run_for(Duration::from_secs(30));
    let more = pair.net.events(pair.a);
    assert!(!more.iter().any(|e| matches!(e, Event::Error { .. } | Event::Reply { .. })), "{more:?}");
    // What lsm-qnet answers with EBADF.
    assert_eq!(pair.try_send(2), Err(CommandError::NoSuchConnection));
    let unknown = Command::Connect {
        client: ClientId(2),
        nd: NodeId(77),
        pid: 1,
        chid: 1,
        cred: ClientInfo::default(),
    };
    assert_eq!(pair.net.command(pair.a, unknown), Err(CommandError::NoSuchNode));
}

#[test]
fn a_node_tells_its_number_for_another() {
    let mut pair = Pair::new();
    let nd = pair.nd(pair.a, "joseph");
    let theirs = pair.nd(pair.b, "alonzo");
    let long = "x".repeat(40);
    for (token, (name, expected)) in [
        ("alonzo.lab.example", Ok(theirs.0)),
        ("alonzo", Ok(theirs.0)),
        ("joseph.lab.example", Ok(0)),
        ("stranger.lab.example", Err(Errno::ENOENT)),
        (long.as_str(), Err(Errno::ENOENT)),
    ]
    .into_iter()
    .enumerate()
    {
        let token = token as u64;
        pair.net.command(pair.a, Command::RemoteNd { token, nd, name: name.into() }).unwrap();
        let outcome = pair.wait(pair.a, |e| match e {
            Event::RemoteNd { token: t, outcome } if t == token => Some(outcome),
            _ => None,
        });
        assert_eq!(outcome, expected, "{name}");
    }
    let ask = |nd, name: &str| Command::RemoteNd { token: 1, nd, name: name.into() };
    assert_eq!(pair.net.command(pair.a, ask(NodeId(99), "alonzo")), Err(CommandError::NoSuchNode));
    assert_eq!(pair.net.command(pair.a, ask(nd, &"n".repeat(300))), Err(CommandError::BadName));
}

#[test]
fn an_event_reaches_the_client_that_has_its_reply_already() {
    for plain in ["", "alonzo", "joseph"] {
        let mut net = Network::new(2);
        let mut add = |name: &str| net.add_with(name, |config| config.extensions = plain != name);
        let (a, b) = (add("alonzo"), add("joseph"));
        net.run_for(Duration::from_secs(1));
        let mut pair = Pair { net, a, b };
        let server = pair.connected();
        pair.send(1);
        let rcv = pair.received();
        // What a plain node is told of the value, or can say of it, is its lower half.
        let value = if plain.is_empty() { 0x8_0000_0001 } else { 0x8000_0001 };
        let sigevent = Sigevent { notify: 4, id: -7, value, code: -9, priority: 21 };
        let deliver = || Command::Deliver { server, sigevent };
        let hear = |pair: &mut Pair| {
            pair.wait(pair.a, |e| match e {
                Event::Sigevent { client, sigevent } => Some((client, sigevent)),
                _ => None,
            })
        };
        pair.net.command(pair.b, deliver()).unwrap();
        assert_eq!(hear(&mut pair), (CLIENT, sigevent), "{plain:?}");
        pair.net.command(pair.b, Command::Reply { rcv, status: 0, data: Body::empty() }).unwrap();
        pair.wait(pair.a, |e| matches!(e, Event::Reply { .. }).then_some(()));
        pair.net.command(pair.b, deliver()).unwrap();
        assert_eq!(hear(&mut pair), (CLIENT, sigevent), "{plain:?}");
        pair.net.command(pair.a, Command::Disconnect { client: CLIENT }).unwrap();
        pair.wait(pair.b, |e| matches!(e, Event::Disconnect { .. }).then_some(()));
        assert_eq!(pair.net.command(pair.b, deliver()), Err(CommandError::NoSuchConnection));
    }
}

#[test]
fn events_arrive_in_the_order_of_the_server_whatever_the_wire_does() {
    const EVENTS: u64 = 100;
    let mut pair = Pair::new();
    pair.net.set_wire(0, Wire { faults: Faults::lossy(200), ..Wire::default() });
    let server = pair.connected();
    let mut heard = Vec::new();
    for value in 0..EVENTS {
        let sigevent = Sigevent { notify: 4, id: 3, value, code: 1, priority: 10 };
        pair.net.command(pair.b, Command::Deliver { server, sigevent }).unwrap();
    }
    pair.net.run_while(PATIENCE, |net| {
        heard.extend(net.events(pair.a).into_iter().filter_map(|event| match event {
            Event::Sigevent { sigevent, .. } => Some(sigevent.value),
            _ => None,
        }));
        heard.len() == EVENTS as usize
    });
    assert!(heard.iter().copied().eq(0..EVENTS), "{heard:?}");
}

#[test]
fn a_signal_arrives_with_the_name_of_its_sender() {
    let mut pair = Pair::new();
    let nd = pair.nd(pair.a, "joseph");
    let signal = SignalInfo { pid: 4711, tid: 2, signo: 15, code: 1, value: -3 };
    let cred = ClientInfo { pid: 77, euid: 1000, nd: 5, groups: vec![3], ..ClientInfo::default() };
    pair.net.command(pair.a, Command::Signal { nd, signal, cred: cred.clone() }).unwrap();
    let (from, heard, who) = pair.wait(pair.b, |e| match e {
        Event::Signal { nd, signal, cred } => Some((nd, signal, cred.unwrap())),
        _ => None,
    });
    assert_eq!((from, heard), (pair.nd(pair.b, "alonzo"), signal));
    assert_eq!(who, ClientInfo { nd: from.0, ..cred }, "its node is what we call it");
}
