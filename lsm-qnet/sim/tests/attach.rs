//! Connections that the other node hears of with their first message: `ConnectAttach` succeeds whatever becomes of it, the
//! first message or pulse tells, and to a node of ours it saves a round trip.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::time::Duration;

use qnet_proto::{
    Body, ClientId, ClientInfo, Command, CommandError, Errno, Event, Handle, NodeId, Outlet, PulseInfo,
    VtidInfo,
};
use qnet_sim::{Faults, HostId, Network};

const CLIENT: ClientId = ClientId(1);
const PATIENCE: Duration = Duration::from_secs(20);

struct Pair {
    net: Network,
    a: HostId,
    b: HostId,
}

impl Pair {
    /// Alonzo, and joseph who is a plain QNX node or one of ours.
    fn new(plain: bool) -> Pair {
        let mut net = Network::new(3);
        let a = net.add("alonzo");
        let b = net.add_with("joseph", |config| config.extensions = !plain);
        net.run_for(Duration::from_secs(1));
        let mut pair = Pair { net, a, b };
        pair.net.events(a);
        pair.net.events(b);
        pair
    }

    fn nd(&self) -> NodeId {
        self.net.node(self.a).nodes().find(|node| node.name.as_str() == "joseph").unwrap().nd
    }

    fn attach(&mut self, client: ClientId) -> Result<(), CommandError> {
        self.attach_with(client, Vec::new())
    }

    fn attach_with(&mut self, client: ClientId, groups: Vec<i32>) -> Result<(), CommandError> {
        let cred = ClientInfo { pid: 77, euid: 1000, groups, ..ClientInfo::default() };
        let nd = self.nd();
        self.net.command(self.a, Command::Attach { client, nd, pid: 4242, chid: 3, cred })
    }

    fn send(&mut self, client: ClientId, handle: u64, len: u32) {
        let info = VtidInfo { srcmsglen: len, dstmsglen: 4, tid: 1, ..VtidInfo::default() };
        let first = Body::from(vec![0x55; len as usize]);
        let send = Command::Send { client, handle: Handle(handle), info, first, reply: Outlet::nowhere() };
        self.net.command(self.a, send).unwrap();
    }

    fn pulse(&mut self, value: u64) {
        let pulse = PulseInfo { code: 5, value, priority: 10 };
        let command = Command::Pulse { client: CLIENT, info: VtidInfo::default(), pulse };
        self.net.command(self.a, command).unwrap();
    }

    fn wait<T>(&mut self, host: HostId, pick: impl Fn(&Event) -> Option<T>) -> T {
        let mut found = None;
        self.net.run_while(PATIENCE, |net| {
            found = found.take().or_else(|| net.events(host).iter().find_map(&pick));
            found.is_some()
        });
        found.expect("it happens in time")
    }

    /// Joseph takes the connection that is asked for; returns what comes with it at once.
    fn accept(&mut self) -> Vec<Event> {
        let server = self.wait(self.b, |event| match event {
            Event::Connect { server, pid: 4242, chid: 3, client_pid: 77, .. } => Some(*server),
            _ => None,
        });
        self.net.command(self.b, Command::Accept { server, scoid: 5, nbytes: 8192 }).unwrap();
        self.net.events(self.b)
    }

    /// A session, which the first connection of all has made.
    fn acquainted(plain: bool) -> Pair {
        let mut pair = Pair::new(plain);
        pair.attach(ClientId(99)).unwrap();
        pair.send(ClientId(99), 99, 1);
        pair.accept();
        pair.wait(pair.a, |event| matches!(event, Event::Connected { .. }).then_some(()));
        pair.net.events(pair.b);
        pair
    }
}

#[test]
fn nothing_is_sent_for_a_connection_that_is_not_used() {
    let mut pair = Pair::new(false);
    pair.attach(CLIENT).unwrap();
    assert_eq!(pair.attach(CLIENT), Err(CommandError::KeyInUse));
    pair.net.run_for(Duration::from_secs(5));
    assert!(pair.net.events(pair.b).iter().all(|event| !matches!(event, Event::Connect { .. })));
    pair.net.command(pair.a, Command::Disconnect { client: CLIENT }).unwrap();
    pair.attach(CLIENT).unwrap();
}

#[test]
fn a_node_of_ours_learns_all_groups_before_the_first_message_or_pulse() {
    for (with_pulse, count) in [(false, 300), (true, 300), (false, 2000)] {
        for acquainted in [false, true] {
            let mut pair = if acquainted { Pair::acquainted(false) } else { Pair::new(false) };
            let groups: Vec<i32> = (0..count).collect();
            pair.attach_with(CLIENT, groups.clone()).unwrap();
            if with_pulse {
                pair.pulse(7)
            } else {
                pair.send(CLIENT, 1, 100)
            }
            let (server, told) = pair.wait(pair.b, |event| match event {
                Event::Connect { server, cred: Some(cred), .. } => Some((*server, cred.groups.clone())),
                _ => None,
            });
            assert_eq!(told, groups[..groups.len().min(1024)]);
            pair.net.command(pair.b, Command::Accept { server, scoid: 5, nbytes: 8192 }).unwrap();
            pair.wait(pair.b, |event| match event {
                Event::Message { info, .. } if !with_pulse && info.srcmsglen == 100 => Some(()),
                Event::Pulse { pulse, .. } if with_pulse && pulse.value == 7 => Some(()),
                _ => None,
            });
        }
    }
}

#[test]
fn the_first_message_comes_with_the_connection() {
    for plain in [false, true] {
        let mut pair = Pair::acquainted(plain);
        pair.attach(CLIENT).unwrap();
        pair.send(CLIENT, 1, 20_000);
        let at_once = pair.accept();
        let first = |event: &Event| match event {
            Event::Message { info, data, rcv, .. } => Some((*rcv, info.srcmsglen, data.len())),
            _ => None,
        };
        // A plain node is asked for the connection first.
        assert_eq!(at_once.iter().any(|event| first(event).is_some()), !plain);
        let message = at_once.iter().find_map(first);
        let (rcv, whole, len) = message.unwrap_or_else(|| pair.wait(pair.b, first));
        assert_eq!((whole, len), (20_000, 8192), "plain: {plain}");
        pair.net.command(pair.b, Command::Reply { rcv, status: 7, data: Body::empty() }).unwrap();
        pair.wait(pair.a, |event| matches!(event, Event::Reply { status: 7, .. }).then_some(()));
    }
}

#[test]
fn a_round_trip_is_saved() {
    let took = |plain: bool| {
        let mut pair = Pair::acquainted(plain);
        pair.net.set_faults(Faults { delay: Duration::from_millis(50), ..Faults::default() });
        let begun = pair.net.now();
        pair.attach(CLIENT).unwrap();
        pair.send(CLIENT, 1, 10);
        let at_once = pair.accept();
        if at_once.iter().all(|event| !matches!(event, Event::Message { .. })) {
            pair.wait(pair.b, |event| matches!(event, Event::Message { .. }).then_some(()));
        }
        pair.net.now() - begun
    };
    assert!(took(true) >= took(false) + Duration::from_millis(100));
}

#[test]
fn a_first_pulse_is_delivered_though_its_sender_leaves_at_once() {
    for plain in [false, true] {
        let mut pair = Pair::acquainted(plain);
        pair.attach(CLIENT).unwrap();
        pair.pulse(0x7fff_1234_5678);
        pair.net.command(pair.a, Command::Disconnect { client: CLIENT }).unwrap();
        let pulse = |event: &Event| match event {
            Event::Pulse { pulse, .. } => Some((pulse.code, pulse.value)),
            _ => None,
        };
        let heard = pair.accept().iter().find_map(pulse);
        let heard = heard.unwrap_or_else(|| pair.wait(pair.b, pulse));
        // Half of a value travels to a plain node.
        assert_eq!(heard, (5, if plain { 0x1234_5678 } else { 0x7fff_1234_5678 }));
        pair.wait(pair.b, |event| matches!(event, Event::Disconnect { .. }).then_some(()));
    }
}

#[test]
fn a_node_that_is_off_shows_in_the_first_message() {
    let mut pair = Pair::new(false);
    pair.net.crash(pair.b);
    pair.attach(CLIENT).unwrap();
    pair.net.run_for(Duration::from_secs(2));
    assert!(pair.net.events(pair.a).is_empty());
    pair.send(CLIENT, 1, 10);
    let errno = pair.wait(pair.a, |event| match event {
        Event::Error { handle: Handle(1), errno, .. } => Some(*errno),
        _ => None,
    });
    assert_eq!(errno, Errno::EHOSTUNREACH);
}

#[test]
fn a_session_that_ends_does_not_end_a_connection_nobody_heard_of() {
    let mut pair = Pair::acquainted(false);
    pair.attach(CLIENT).unwrap();
    pair.net.crash(pair.b);
    pair.net.run_for(Duration::from_secs(60));
    assert!(!pair.net.events(pair.a).iter().any(|event| matches!(
        event,
        Event::Death { client: CLIENT } | Event::ConnectFailed { client: CLIENT, .. }
    )));
    pair.net.reboot(pair.b);
    pair.net.run_for(Duration::from_secs(5));
    pair.send(CLIENT, 1, 10);
    // It asks for the connection now, of the node that is there now.
    pair.accept();
}

#[test]
fn who_wants_to_leave_before_the_connection_is_answered_is_let_go_afterwards() {
    let mut pair = Pair::acquainted(false);
    pair.attach(CLIENT).unwrap();
    pair.send(CLIENT, 1, 10);
    pair.net.command(pair.a, Command::Unblock { handle: Handle(1) }).unwrap();
    pair.net.command(pair.a, Command::Unblock { handle: Handle(1) }).unwrap();
    pair.accept();
    let rcv = pair.wait(pair.b, |event| if let Event::Unblock { rcv } = event { Some(*rcv) } else { None });
    pair.net.command(pair.b, Command::Error { rcv, errno: Errno::EINTR }).unwrap();
    let errno = pair.wait(pair.a, |event| match event {
        Event::Error { handle: Handle(1), errno, .. } => Some(*errno),
        _ => None,
    });
    assert_eq!(errno, Errno::EINTR);
}

#[test]
fn a_refused_connection_refuses_its_first_message() {
    let mut pair = Pair::acquainted(false);
    pair.attach(CLIENT).unwrap();
    pair.send(CLIENT, 1, 10);
    pair.send(CLIENT, 2, 10);
    let server =
        pair.wait(pair.b, |e| if let Event::Connect { server, .. } = e { Some(*server) } else { None });
    pair.net.command(pair.b, Command::Reject { server, errno: Errno::ESRCH }).unwrap();
    let told = pair.wait(pair.a, |event| match event {
        Event::Error { errno, .. } => Some(*errno),
        _ => None,
    });
    assert_eq!(told, Errno::ESRCH);
}

#[test]
fn a_number_stays_with_its_node_while_a_connection_counts_on_it_and_is_not_given_away_soon() {
    // Entries that nobody hears of leave after three and a half periods of thirty seconds.
    let long = Duration::from_secs(200);
    let mut pair = Pair::new(false);
    let nd = pair.nd();
    pair.attach(CLIENT).unwrap();
    pair.net.crash(pair.b);
    pair.net.run_for(long);
    assert_eq!(pair.nd(), nd, "an open connection keeps it");
    let other = ClientId(2);
    pair.attach(other).unwrap();
    for client in [CLIENT, other] {
        pair.net.command(pair.a, Command::Disconnect { client }).unwrap();
    }
    pair.net.run_for(long);
    let known = |pair: &Pair, name: &str| {
        pair.net.node(pair.a).nodes().find(|node| node.name.as_str() == name).map(|node| node.nd)
    };
    assert_eq!(known(&pair, "joseph"), None);
    let cred = ClientInfo::default();
    let attach = Command::Attach { client: CLIENT, nd, pid: 1, chid: 1, cred };
    assert_eq!(pair.net.command(pair.a, attach), Err(CommandError::NoSuchNode));
    pair.net.add("carol");
    pair.net.run_for(Duration::from_secs(5));
    assert!(known(&pair, "carol").is_some_and(|other| other != nd && other != NodeId::LOCAL));
}
