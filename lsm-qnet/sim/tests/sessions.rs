//! Sessions: set-up from either side, every way they end, and that nobody waits for ever.
//!
//! Bounds in time are simulated time, and those QNX documents.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::time::Duration;

use qnet_proto::{
    Body, Buffer, ClientId, ClientInfo, Command, DownReason, Errno, Event, Handle, NodeId, NodeState, Outlet,
    Rcv, ServerId, VtidInfo,
};
use qnet_sim::apps::{Client, Ledger, Op, Server};
use qnet_sim::{Faults, HostId, Network, seeds};

const CLIENT: ClientId = ClientId(1);

fn nd(net: &Network, host: HostId, name: &str) -> NodeId {
    net.node(host).nodes().find(|node| node.name.as_str() == name).unwrap().nd
}

fn connect(net: &mut Network, from: HostId, to: &str) {
    let nd = nd(net, from, to);
    let cred = ClientInfo { pid: 77, ..ClientInfo::default() };
    net.command(from, Command::Connect { client: CLIENT, nd, pid: 1, chid: 1, cred }).unwrap();
}

fn send_into(handle: u64, info: VtidInfo, first: Body, reply: Outlet) -> Command {
    Command::Send { client: CLIENT, handle: Handle(handle), info, first, reply }
}

fn send(net: &mut Network, from: HostId, handle: u64) {
    let info = VtidInfo { srcmsglen: 4, dstmsglen: 4, tid: 1, ..VtidInfo::default() };
    let first = Body::from(vec![1, 0x20, 3, 4]);
    net.command(from, send_into(handle, info, first, Outlet::nowhere())).unwrap();
}

/// Two nodes that know each other, the first with an open connection to the second.
fn connected(seed: u64) -> (Network, HostId, HostId, ServerId) {
    let mut net = Network::new(seed);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    connect(&mut net, a, "joseph");
    let server = accept(&mut net, b);
    net.run_for(Duration::from_millis(10));
    assert!(net.events(a).iter().any(|e| matches!(e, Event::Connected { client: CLIENT, limit: 8192, .. })));
    (net, a, b, server)
}

fn accept(net: &mut Network, host: HostId) -> ServerId {
    let mut server = None;
    net.run_while(Duration::from_secs(5), |net| {
        for event in net.events(host) {
            if let Event::Connect { server: id, .. } = event {
                server = Some(id);
            }
        }
        server.is_some()
    });
    let server = server.expect("the connection was asked for");
    net.command(host, Command::Accept { server, scoid: 5, nbytes: 8192 }).unwrap();
    server
}

fn received(net: &mut Network, host: HostId) -> Vec<Rcv> {
    let events = net.events(host).into_iter();
    events.filter_map(|e| if let Event::Message { rcv, .. } = e { Some(rcv) } else { None }).collect()
}

fn errors(events: &[Event]) -> Vec<(u64, Errno)> {
    let error = |e: &Event| match e {
        Event::Error { handle, errno, .. } => Some((handle.0, *errno)),
        _ => None,
    };
    events.iter().filter_map(error).collect()
}

fn down(events: &[Event]) -> Vec<DownReason> {
    let why = |e: &Event| if let Event::NodeDown { why, .. } = e { Some(*why) } else { None };
    events.iter().filter_map(why).collect()
}

#[test]
fn a_message_and_its_reply_cross() {
    let (mut net, a, b, _) = connected(1);
    let buffer = Buffer::new(0, 100);
    let info = VtidInfo { srcmsglen: 4, dstmsglen: 4, tid: 1, ..VtidInfo::default() };
    let first = Body::from(vec![1, 0x20, 3, 4]);
    net.command(a, send_into(7, info, first, Outlet::new(buffer.clone()))).unwrap();
    net.run_for(Duration::from_millis(10));
    let rcv = received(&mut net, b)[0];
    net.command(b, Command::Reply { rcv, status: -3, data: vec![9, 8, 7, 6, 5].into() }).unwrap();
    net.run_for(Duration::from_millis(10));
    let events = net.events(a);
    let reply = events.iter().find(|e| matches!(e, Event::Reply { .. }));
    assert!(matches!(reply, Some(Event::Reply { handle: Handle(7), status: -3 })), "{events:?}");
    assert_eq!(buffer.take(), [9, 8, 7, 6], "cut at the reply buffer");
    assert!(net.command(b, Command::Reply { rcv, status: 0, data: Body::empty() }).is_err(), "once");
}

#[test]
fn the_servers_node_sees_who_calls() {
    let mut net = Network::new(2);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    let to = nd(&net, a, "joseph");
    let cred =
        ClientInfo { nd: 999, pid: 77, euid: 1000, groups: (0..12).collect(), ..ClientInfo::default() };
    net.command(a, Command::Connect { client: CLIENT, nd: to, pid: 4242, chid: 3, cred }).unwrap();
    net.run_for(Duration::from_secs(1));
    let caller = nd(&net, b, "alonzo");
    let events = net.events(b);
    let connect = events.iter().find(|e| matches!(e, Event::Connect { .. }));
    let Some(Event::Connect { nd, pid: 4242, chid: 3, client_pid: 77, cred: Some(cred), .. }) = connect
    else {
        panic!("{events:?}")
    };
    assert_eq!((*nd, cred.nd, cred.euid), (caller, caller.0, 1000), "the claimed nd is not believed");
    assert_eq!(cred.groups, (0..12).collect::<Vec<_>>());
}

#[test]
fn a_refused_connection_says_why() {
    let mut net = Network::new(3);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    connect(&mut net, a, "joseph");
    send(&mut net, a, 1);
    net.run_for(Duration::from_secs(1));
    let server = net.events(b).iter().find_map(|e| match e {
        Event::Connect { server, .. } => Some(*server),
        _ => None,
    });
    net.command(b, Command::Reject { server: server.unwrap(), errno: Errno::ESRCH }).unwrap();
    net.run_for(Duration::from_millis(10));
    let events = net.events(a);
    assert_eq!(errors(&events), [(1, Errno::ESRCH)], "what was held back fails with it");
    assert!(matches!(events.last(), Some(Event::ConnectFailed { errno: Errno::ESRCH, .. })), "{events:?}");
}

#[test]
fn what_is_sent_before_the_connection_is_there_goes_when_it_is() {
    let mut net = Network::new(4);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    connect(&mut net, a, "joseph");
    send(&mut net, a, 1);
    send(&mut net, a, 2);
    net.command(a, Command::Unblock { handle: Handle(2) }).unwrap();
    assert_eq!(errors(&net.events(a)), [(2, Errno::EINTR)], "it never left");
    accept(&mut net, b);
    net.run_for(Duration::from_millis(10));
    assert_eq!(received(&mut net, b).len(), 1);
}

#[test]
fn both_may_call_at_once_and_get_one_session() {
    seeds::each(200, |seed| {
        let mut net = Network::new(seed);
        let (a, b) = (net.add("alonzo"), net.add("joseph"));
        net.run_for(Duration::from_secs(1));
        let wire = Faults { jitter: Duration::from_micros(seed % 400), ..Faults::default() };
        net.set_faults(wire);
        connect(&mut net, a, "joseph");
        let pause = net.rng().below(300);
        net.run_for(Duration::from_micros(pause));
        connect(&mut net, b, "alonzo");
        net.run_for(Duration::from_secs(1));
        for host in [a, b] {
            let asked = net.events(host).into_iter().find_map(|e| match e {
                Event::Connect { server, .. } => Some(server),
                _ => None,
            });
            net.command(host, Command::Accept { server: asked.unwrap(), scoid: 5, nbytes: 8192 }).unwrap();
        }
        net.run_for(Duration::from_secs(1));
        for host in [a, b] {
            let c = net.node(host).counters();
            assert_eq!((c.sessions_up, c.sessions_down), (1, 0));
            assert!(net.events(host).iter().any(|e| matches!(e, Event::Connected { .. })));
        }
    });
}

#[test]
fn a_node_that_does_not_answer_is_unreachable_within_its_tries() {
    let mut net = Network::new(5);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    net.crash(b);
    connect(&mut net, a, "joseph");
    send(&mut net, a, 1);
    net.run_for(Duration::from_millis(401));
    let events = net.events(a);
    assert_eq!(errors(&events), [(1, Errno::EHOSTUNREACH)]);
    assert!(events.iter().any(|e| matches!(e, Event::ConnectFailed { errno: Errno::EHOSTUNREACH, .. })));
    assert_eq!(net.node(a).nodes().count(), 1, "a dead entry that was used leaves");
}

#[test]
fn a_number_whose_node_lost_its_address_does_not_leave_its_user_waiting() {
    let mut net = Network::new(20);
    let (a, b) = (net.add("alonzo"), net.add("twin"));
    net.run_for(Duration::from_secs(1));
    let second = net.add("twin");
    net.run_for(Duration::from_secs(1));
    let numbers: Vec<NodeId> = net.node(a).nodes().skip(1).map(|node| node.nd).collect();
    net.crash(b);
    net.crash(second);
    let connect = |net: &mut Network, key, nd| {
        let cred = ClientInfo::default();
        net.command(a, Command::Connect { client: ClientId(key), nd, pid: 1, chid: 1, cred }).unwrap();
    };
    // both addresses turn out to be stale
    (0..2).for_each(|i| connect(&mut net, i, numbers[i as usize]));
    net.run_for(Duration::from_secs(1));
    net.events(a);
    // both names are looked for again, and only one twin comes back
    (2..4).for_each(|i| connect(&mut net, i, numbers[i as usize - 2]));
    net.run_for(Duration::from_millis(300));
    net.reboot(b);
    net.run_for(Duration::from_secs(5));
    let events = net.events(a);
    let failed = events.iter().filter(|e| matches!(e, Event::ConnectFailed { .. })).count();
    assert_eq!(failed, 1, "{events:?}");
    assert!(net.events(b).iter().any(|e| matches!(e, Event::Connect { .. })));
}

#[test]
fn a_partition_under_traffic_ends_in_ehostdown_after_the_documented_time() {
    let (mut net, a, b, _) = connected(6);
    net.partition(a, b);
    let start = net.now();
    send(&mut net, a, 1);
    let mut events = Vec::new();
    assert!(net.run_while(Duration::from_secs(30), |net| {
        events.extend(net.events(a));
        !errors(&events).is_empty()
    }));
    assert_eq!(errors(&events), [(1, Errno::EHOSTDOWN)]);
    // 25 retries of 200 ms
    assert_eq!(net.now().since(start), Duration::from_secs(5));
    net.run_for(Duration::from_millis(1));
    events.extend(net.events(a));
    assert_eq!(down(&events), [DownReason::Unacknowledged]);
    assert!(events.iter().any(|e| matches!(e, Event::Death { client: CLIENT })));
}

#[test]
fn a_sender_blocked_on_a_reply_learns_of_a_silent_partition_by_heartbeats() {
    let (mut net, a, b, server) = connected(7);
    send(&mut net, a, 1);
    net.run_for(Duration::from_millis(100));
    net.partition(a, b);
    net.run_for(Duration::from_secs(20));
    let events = net.events(a);
    assert_eq!(errors(&events), [(1, Errno::EHOSTDOWN)]);
    assert_eq!(down(&events), [DownReason::Silent]);
    let events = net.events(b);
    assert_eq!(down(&events), [DownReason::Silent]);
    assert!(events.iter().any(|e| matches!(e, Event::Disconnect { server: gone } if *gone == server)));
}

#[test]
fn an_idle_session_lives_on_heartbeats() {
    let (mut net, a, b, _) = connected(8);
    net.run_for(Duration::from_secs(300));
    for host in [a, b] {
        assert_eq!(down(&net.events(host)), []);
    }
    send(&mut net, a, 1);
    net.run_for(Duration::from_millis(10));
    assert_eq!(received(&mut net, b).len(), 1);
}

#[test]
fn a_wire_that_carries_one_way_only_is_no_wire() {
    for reversed in [false, true] {
        let (mut net, a, b, _) = connected(9);
        let (from, to) = if reversed { (b, a) } else { (a, b) };
        net.cut(from, to);
        send(&mut net, a, 1);
        net.run_for(Duration::from_secs(25));
        assert_eq!(errors(&net.events(a)), [(1, Errno::EHOSTDOWN)], "reversed: {reversed}");
        assert_eq!(down(&net.events(b)).len(), 1);
        net.heal();
        net.run_for(Duration::from_secs(31));
        net.events(a);
        connect(&mut net, a, "joseph");
        accept(&mut net, b);
        net.run_for(Duration::from_secs(1));
        assert!(net.events(a).iter().any(|e| matches!(e, Event::Connected { .. })));
    }
}

#[test]
fn a_sender_blocked_on_a_rebooted_node_is_told_when_the_node_speaks() {
    let (mut net, a, b, _) = connected(10);
    send(&mut net, a, 1);
    net.run_for(Duration::from_millis(100));
    assert_eq!(received(&mut net, b).len(), 1);
    // its announcement is lost
    net.partition(a, b);
    net.reboot(b);
    net.run_for(Duration::from_millis(1));
    net.heal();
    // the next word to it is answered with "I do not know this session"
    send(&mut net, a, 2);
    net.run_for(Duration::from_millis(50));
    let events = net.events(a);
    assert_eq!(errors(&events), [(1, Errno::EHOSTDOWN), (2, Errno::EHOSTDOWN)]);
    assert_eq!(down(&events), [DownReason::Forgotten]);
    assert_eq!(received(&mut net, b), [], "the new life does not get the old one's messages");
}

#[test]
fn a_sender_blocked_on_a_rebooted_node_is_told_when_the_node_announces_itself() {
    let (mut net, a, b, _) = connected(19);
    send(&mut net, a, 1);
    net.run_for(Duration::from_millis(100));
    net.reboot(b);
    net.run_for(Duration::from_millis(10));
    assert_eq!(errors(&net.events(a)), [(1, Errno::EHOSTDOWN)]);
}

#[test]
fn a_rebooted_node_that_calls_is_not_taken_for_its_former_self() {
    let (mut net, a, b, _) = connected(11);
    send(&mut net, a, 1);
    net.run_for(Duration::from_millis(100));
    net.reboot(b);
    net.run_for(Duration::from_secs(1));
    connect(&mut net, b, "alonzo");
    accept(&mut net, a);
    net.run_for(Duration::from_secs(1));
    assert!(net.events(b).iter().any(|e| matches!(e, Event::Connected { .. })));
    assert_eq!(net.node(a).counters().sessions_down, 1);
}

#[test]
fn an_orderly_shutdown_is_told_at_once() {
    let (mut net, a, b, _) = connected(12);
    send(&mut net, a, 1);
    net.run_for(Duration::from_millis(10));
    net.shut_down(b);
    net.run_for(Duration::from_millis(10));
    let events = net.events(a);
    assert_eq!(errors(&events), [(1, Errno::EHOSTDOWN)]);
    assert_eq!(down(&events), [DownReason::Closed]);
}

#[test]
fn the_death_of_a_channel_comes_after_its_last_reply() {
    let (mut net, a, b, server) = connected(13);
    send(&mut net, a, 1);
    send(&mut net, a, 2);
    net.run_for(Duration::from_millis(10));
    let rcvs = received(&mut net, b);
    net.set_faults(Faults::lossy(300));
    net.command(b, Command::Reply { rcv: rcvs[0], status: 0, data: vec![1].into() }).unwrap();
    net.command(b, Command::ConnectDeath { server }).unwrap();
    net.run_for(Duration::from_secs(3));
    let events = net.events(a);
    assert!(matches!(events.last(), Some(Event::Death { client: CLIENT })), "{events:?}");
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Reply { .. })).count(), 1);
    assert_eq!(errors(&events).len(), 1);
    assert_eq!(errors(&events)[0].1, Errno::ESRCH);
}

#[test]
fn a_client_that_leaves_frees_the_servers_side() {
    let (mut net, a, b, server) = connected(14);
    send(&mut net, a, 1);
    net.run_for(Duration::from_millis(10));
    let rcv = received(&mut net, b)[0];
    net.command(a, Command::Disconnect { client: CLIENT }).unwrap();
    net.run_for(Duration::from_millis(10));
    assert!(net.events(b).iter().any(|e| matches!(e, Event::Disconnect { server: gone } if *gone == server)));
    assert!(net.command(b, Command::Reply { rcv, status: 0, data: Body::empty() }).is_err());
    assert!(net.events(a).is_empty(), "the one who leaves hears nothing more");
}

#[test]
fn a_client_that_leaves_before_the_answer_leaves_nothing_behind() {
    let mut net = Network::new(15);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    connect(&mut net, a, "joseph");
    net.command(a, Command::Disconnect { client: CLIENT }).unwrap();
    net.events(a);
    let server = accept(&mut net, b);
    net.run_for(Duration::from_millis(10));
    assert!(net.events(b).iter().any(|e| matches!(e, Event::Disconnect { server: gone } if *gone == server)));
    assert!(!net.events(a).iter().any(|e| matches!(e, Event::Connected { .. })));
}

#[test]
fn an_unblock_reaches_the_server_after_its_message() {
    let (mut net, a, b, _) = connected(16);
    net.set_faults(Faults::lossy(400));
    send(&mut net, a, 1);
    net.command(a, Command::Unblock { handle: Handle(1) }).unwrap();
    net.run_for(Duration::from_secs(3));
    let events = net.events(b);
    let message = events.iter().position(|e| matches!(e, Event::Message { .. })).unwrap();
    let unblock = events.iter().position(|e| matches!(e, Event::Unblock { .. })).unwrap();
    assert!(message < unblock);
}

#[test]
fn commands_about_nothing_are_refused() {
    let (mut net, a, b, server) = connected(17);
    let info = VtidInfo::default();
    let gone = ClientId(99);
    let again =
        Command::Connect { client: CLIENT, nd: NodeId(1), pid: 1, chid: 1, cred: ClientInfo::default() };
    let refused = [
        again,
        Command::Connect { client: gone, nd: NodeId(77), pid: 1, chid: 1, cred: ClientInfo::default() },
        Command::Connect { client: gone, nd: NodeId::LOCAL, pid: 1, chid: 1, cred: ClientInfo::default() },
        Command::Send {
            client: gone,
            handle: Handle(1),
            info,
            first: Body::empty(),
            reply: Outlet::nowhere(),
        },
        Command::Pulse { client: gone, info, pulse: Default::default() },
        Command::Unblock { handle: Handle(1) },
        Command::ReadData { handle: Handle(1), offset: 0, data: Body::empty() },
        Command::Disconnect { client: gone },
    ];
    for command in refused {
        let shown = format!("{command:?}");
        assert!(net.command(a, command).is_err(), "{shown}");
    }
    assert!(net.command(b, Command::Accept { server, scoid: 1, nbytes: 1 }).is_err(), "accepted before");
    assert!(
        net.command(b, Command::Read { rcv: Rcv(1), offset: 0, nbytes: 1, into: Outlet::nowhere() }).is_err()
    );
    assert!(net.command(b, Command::ConnectDeath { server: ServerId(1) }).is_err());
}

#[test]
fn the_list_shows_the_state_of_a_session() {
    let (net, a, _, _) = connected(18);
    let node = net.node(a).nodes().nth(1).unwrap();
    assert_eq!(node.state, NodeState::Up);
    assert!(node.rtt.is_some_and(|rtt| rtt >= Duration::from_micros(100)));
}

#[test]
fn reboots_and_partitions_at_random_break_no_promise() {
    seeds::each(300, |seed| {
        let mut net = Network::new(seed);
        net.configure(|config| {
            config.do_crc = true;
            config.conn_est_retries = 5;
            config.res_retries = 5;
            config.tx_retries = 5;
        });
        let (a, b) = (net.add("alonzo"), net.add("joseph"));
        let faults = Faults::random(net.rng(), 150);
        net.set_faults(faults);
        let ledger = Ledger::shared();
        net.install(b, Server::boxed(&ledger, 4));
        let plan = (0..200u32)
            .map(|i| match i % 4 {
                0 => Op::Read { offset: i * 100, len: 30_000 },
                1 => Op::Echo { len: i * 50 },
                2 => Op::Put { len: i * 200 },
                _ => Op::Pulse,
            })
            .collect();
        let (client, done) = Client::boxed(&ledger, "joseph", 4, plan, 6, true);
        net.install(a, client);
        for _ in 0..4 {
            let span = Duration::from_millis(50 + net.rng().below(700));
            net.run_for(span);
            match net.rng().below(4) {
                0 => {
                    net.reboot(b);
                    net.install(b, Server::boxed(&ledger, 4));
                }
                1 => net.partition(a, b),
                2 => net.cut(a, b),
                _ => net.cut(b, a),
            }
            let span = Duration::from_millis(net.rng().below(2500));
            net.run_for(span);
            net.heal();
        }
        assert!(net.run_while(Duration::from_secs(120), |_| *done.borrow()), "stuck, {faults:?}");
        ledger.borrow().check();
    });
}
