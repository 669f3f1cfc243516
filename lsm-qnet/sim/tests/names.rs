//! Names, directories and resolvers; nodes that are renamed, forgotten, or not as unique as they should be.
//!
//! Bounds in time are simulated time.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::time::Duration;

use qnet_proto::{
    Clash, ClientId, ClientInfo, Command, CommandError, Config, Directory, Domain, Errno, Event, LinkAddr,
    NodeId, NodeName, Resolver, Zone,
};
use qnet_sim::{HostId, Network};

fn listed(net: &Network, host: HostId) -> Vec<String> {
    let show = |name: &NodeName, domain: &Domain| match domain.as_str() {
        "lab.example" => name.to_string(),
        domain => format!("{name}.{domain}"),
    };
    net.node(host).nodes().map(|node| show(node.name, node.domain)).collect()
}

fn domain(text: &str) -> Domain {
    Domain::new(text).unwrap()
}

fn zone(text: Option<&str>, resolvers: &[Resolver]) -> Zone {
    Zone { domain: text.map(domain), resolvers: resolvers.to_vec() }
}

/// Looks a name up in a directory; questions to resolvers are answered by `answer`.
fn resolve_in(
    net: &mut Network,
    host: HostId,
    directory: usize,
    name: &str,
    mut answer: impl FnMut(u32, &str) -> Vec<LinkAddr>,
) -> Option<NodeId> {
    net.events(host);
    net.command(host, Command::ResolveIn { token: 9, directory, name: name.to_owned() }).unwrap();
    let mut found = None;
    net.run_while(Duration::from_secs(60), |net| {
        for event in net.events(host) {
            match event {
                Event::Resolved { token: 9, nd } => found = Some(Some(nd)),
                Event::ResolveFailed { token: 9, errno } => {
                    assert_eq!(errno, Errno::ENOENT);
                    found = Some(None);
                }
                Event::Ask { lookup, resolver, name } => {
                    let addresses = answer(resolver, &name.to_string());
                    net.command(host, Command::Found { lookup, addresses }).unwrap();
                }
                _ => {}
            }
        }
        found.is_some()
    });
    found.expect("a resolution always ends")
}

fn resolve(net: &mut Network, host: HostId, name: &str) -> Option<NodeId> {
    resolve_in(net, host, 0, name, |_, _| panic!("nobody outside is asked"))
}

/// Tries to set a session up; whether it came up.
fn connects(net: &mut Network, host: HostId, nd: NodeId, key: u64) -> bool {
    net.events(host);
    let command =
        Command::Connect { client: ClientId(key), nd, pid: 1, chid: 1, cred: ClientInfo::default() };
    net.command(host, command).unwrap();
    let mut up = None;
    net.run_while(Duration::from_secs(30), |net| {
        for event in net.events(host) {
            match event {
                Event::NodeUp { nd: who } if who == nd => up = Some(true),
                Event::ConnectFailed { .. } => up = up.or(Some(false)),
                _ => {}
            }
        }
        up.is_some()
    });
    up.expect("a connection always ends")
}

#[test]
fn nodes_of_two_domains_see_their_own_bare_and_the_others_in_full() {
    let mut net = Network::new(1);
    let other = |config: &mut Config| config.domain = domain("works.example");
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    let (c, d) = (net.add_with("alonzo", other), net.add_with("karl", other));
    net.run_for(Duration::from_secs(1));
    assert_eq!(listed(&net, a), ["alonzo", "joseph", "alonzo.works.example", "karl.works.example"]);
    for (host, name) in [(a, "joseph"), (a, "joseph.lab.example"), (a, "karl.works.example"), (c, "karl")] {
        assert!(resolve(&mut net, host, name).is_some(), "{name}");
    }
    assert_eq!(resolve(&mut net, c, "alonzo"), Some(NodeId::LOCAL));
    assert_ne!(resolve(&mut net, c, "alonzo.lab.example"), Some(NodeId::LOCAL));
    assert_eq!(resolve(&mut net, a, "karl"), None, "another domain must be named");
    assert_eq!(net.node(b).nodes().count(), 4);
    assert_eq!(net.node(d).nodes().count(), 4);
}

#[test]
fn a_directory_has_its_own_domain_and_its_own_resolvers() {
    let mut net = Network::new(2);
    let a = net.add_with("alonzo", |config| {
        config.auto_add = 0;
        let first = Directory { zones: vec![zone(None, &[Resolver::Lan])] };
        let works = zone(Some("works.example"), &[Resolver::External(7), Resolver::Lan]);
        config.directories = vec![first, Directory { zones: vec![works] }];
    });
    let b = net.add_with("karl", |config| config.domain = domain("works.example"));
    let _ = b;
    assert_eq!(resolve(&mut net, a, "karl"), None, "the first directory is about another domain");
    let mut asked = Vec::new();
    let nd = resolve_in(&mut net, a, 1, "karl", |resolver, name| {
        asked.push((resolver, name.to_owned()));
        Vec::new()
    });
    assert!(nd.is_some(), "who does not know hands on to the next resolver");
    assert_eq!(asked, [(7, "karl.works.example".to_owned())]);
}

#[test]
fn the_zone_that_covers_a_name_best_is_asked() {
    let mut net = Network::new(3);
    let a = net.add_with("alonzo", |config| {
        let zones = vec![
            zone(None, &[Resolver::External(1)]),
            zone(Some("example"), &[Resolver::External(2)]),
            zone(Some("works.example"), &[Resolver::External(3)]),
        ];
        config.directories = vec![Directory { zones }];
    });
    let asked = |net: &mut Network, name: &str| {
        let mut who = None;
        assert_eq!(
            resolve_in(net, a, 0, name, |resolver, _| {
                who = Some(resolver);
                Vec::new()
            }),
            None
        );
        who.unwrap()
    };
    assert_eq!(asked(&mut net, "x"), 1);
    assert_eq!(asked(&mut net, "x.lab.example"), 1, "the own domain, in full");
    assert_eq!(asked(&mut net, "x.other.example"), 2);
    assert_eq!(asked(&mut net, "x.y.works.example"), 3);
    assert_eq!(asked(&mut net, "x.org"), 1, "the first has what nobody else covers");
}

#[test]
fn an_address_from_outside_leads_to_a_session_without_any_broadcast() {
    let mut net = Network::new(4);
    net.configure(|config| config.auto_add = 0);
    let a = net.add_with("alonzo", |config| {
        config.directories = vec![Directory { zones: vec![zone(None, &[Resolver::External(0)])] }];
    });
    let b = net.add("joseph");
    let addr = net.node(b).nodes().next().unwrap().addresses[0].1;
    let nd = resolve_in(&mut net, a, 0, "joseph", |_, _| vec![addr]).unwrap();
    assert!(connects(&mut net, a, nd, 1));
    assert_eq!(listed(&net, a), ["alonzo", "joseph"]);
    assert_eq!(listed(&net, b), ["joseph"], "auto_add=0: a caller makes no entry");
    assert_eq!(net.node(a).counters().tx_control_overflow, 0);
}

#[test]
fn a_wrong_address_from_outside_is_given_up_and_asked_for_again() {
    let mut net = Network::new(5);
    let a = net.add_with("alonzo", |config| {
        config.auto_add = 0;
        config.directories = vec![Directory { zones: vec![zone(None, &[Resolver::External(0)])] }];
    });
    let b = net.add("joseph");
    let right = net.node(b).nodes().next().unwrap().addresses[0].1;
    let wrong = LinkAddr::mac([2, 9, 9, 9, 9, 9]);
    let nd = resolve_in(&mut net, a, 0, "joseph", |_, _| vec![wrong]).unwrap();
    assert!(!connects(&mut net, a, nd, 1));
    assert_eq!(listed(&net, a), ["alonzo"], "an entry that was used and found dead leaves");
    let nd = resolve_in(&mut net, a, 0, "joseph", |_, _| vec![right]).unwrap();
    assert!(connects(&mut net, a, nd, 2));
}

#[test]
fn a_resolver_that_never_answers_is_not_waited_for_for_ever() {
    let mut net = Network::new(6);
    let a = net.add_with("alonzo", |config| {
        config.directories = vec![Directory { zones: vec![zone(None, &[Resolver::External(0)])] }];
    });
    net.command(a, Command::Resolve { token: 1, name: "joseph".into() }).unwrap();
    net.run_for(Duration::from_secs(11));
    let failed = |event: &Event| matches!(event, Event::ResolveFailed { token: 1, .. });
    assert!(net.events(a).iter().any(failed));
}

#[test]
fn a_renamed_node_is_followed_and_its_session_goes_on() {
    let mut net = Network::new(7);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    let nd = resolve(&mut net, a, "joseph").unwrap();
    assert!(connects(&mut net, a, nd, 1));
    net.command(b, Command::Rename { name: NodeName::new("karl").unwrap(), domain: domain("lab.example") })
        .unwrap();
    net.run_for(Duration::from_secs(1));
    assert_eq!(listed(&net, a), ["alonzo", "karl"]);
    assert_eq!(resolve(&mut net, a, "karl"), Some(nd), "the same node under another name");
    let ended = |event: &Event| matches!(event, Event::NodeDown { .. });
    assert!(!net.events(a).iter().any(ended));
    assert_eq!(listed(&net, b), ["karl", "alonzo"]);
}

#[test]
fn a_node_that_takes_a_name_already_there_calls_the_other_by_its_alias() {
    let mut net = Network::new(8);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    net.command(a, Command::Rename { name: NodeName::new("joseph").unwrap(), domain: domain("lab.example") })
        .unwrap();
    net.run_for(Duration::from_secs(1));
    assert_eq!(listed(&net, a), ["joseph", "joseph-EA000002"]);
    assert_eq!(listed(&net, b), ["joseph", "joseph-EA000001"]);
    assert!(net.node(a).nodes().all(|node| node.clash == Some(Clash::Name)));
}

#[test]
fn a_forgotten_node_is_told_nothing_and_comes_back_when_it_is_used() {
    let mut net = Network::new(9);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    let nd = resolve(&mut net, a, "joseph").unwrap();
    let heard = net.node(b).counters().rx_frames;
    net.command(a, Command::Forget { nd }).unwrap();
    assert_eq!(listed(&net, a), ["alonzo"]);
    assert_eq!(net.command(a, Command::Forget { nd }), Err(CommandError::NoSuchNode));
    assert_eq!(net.command(a, Command::Forget { nd: NodeId::LOCAL }), Err(CommandError::NoSuchNode));
    assert_eq!(net.node(b).counters().rx_frames, heard);
    assert!(resolve(&mut net, a, "joseph").is_some());
    assert_eq!(listed(&net, a), ["alonzo", "joseph"]);
}

#[test]
fn forgetting_a_node_leaves_its_session_alone() {
    let mut net = Network::new(10);
    let (a, _) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    let nd = resolve(&mut net, a, "joseph").unwrap();
    assert!(connects(&mut net, a, nd, 1));
    net.command(a, Command::Forget { nd }).unwrap();
    net.run_for(Duration::from_secs(2));
    assert!(!net.events(a).iter().any(|event| matches!(event, Event::NodeDown { .. })));
    assert_eq!(resolve(&mut net, a, "joseph"), Some(nd), "it is the same session's node");
    assert_eq!(listed(&net, a), ["alonzo", "joseph"]);
}

#[test]
fn callers_that_are_not_shown_are_forgotten_in_the_end() {
    let mut net = Network::new(11);
    net.configure(|config| config.auto_add = 0);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    let nd = resolve(&mut net, a, "joseph").unwrap();
    assert!(connects(&mut net, a, nd, 1));
    assert_eq!(listed(&net, b), ["joseph"]);
    net.shut_down(a);
    net.run_for(Duration::from_secs(300));
    // The number is free again: a newcomer is known under it, or none was used up.
    assert_eq!(net.node(b).nodes().count(), 1);
    assert_eq!(net.node(b).known(), 0);
}

#[test]
fn two_nodes_of_one_address_are_told_and_both_reached() {
    let mut net = Network::new(12);
    let (a, b, c) = (net.add("alonzo"), net.add("joseph"), net.add("karl"));
    net.copy_addresses(c, b);
    net.run_for(Duration::from_secs(95));
    let clashes = net.events(a).into_iter().filter(|e| matches!(e, Event::AddressClash { .. })).count();
    assert_eq!(clashes, 1, "told once");
    let shared: Vec<_> = net.node(a).nodes().map(|node| node.clash).collect();
    assert_eq!(shared, [None, Some(Clash::Address), Some(Clash::Address)]);
    assert_eq!(net.node(b).nodes().next().unwrap().clash, Some(Clash::Address), "the culprits know, too");
    for (key, name) in [(1, "joseph"), (2, "karl")] {
        let nd = resolve(&mut net, a, name).unwrap();
        assert!(connects(&mut net, a, nd, key), "{name}");
    }
    net.run_for(Duration::from_secs(60));
    let ended = |event: &Event| matches!(event, Event::NodeDown { .. });
    assert!(!net.events(a).iter().any(ended), "nobody ends the other's session");
}

/// Hosts on a switch that learns addresses; the last two have one address, and `start` is when the second of them comes.
fn twins_on_a_switch(names: [&str; 3], start: Duration, may_move: bool) -> (Network, [HostId; 3]) {
    let mut net = Network::new(15);
    net.learning_switches();
    let [a, b, c] = names;
    let add = |net: &mut Network, name: &str| net.add_with(name, |config| config.may_move = may_move);
    let (a, b) = (add(&mut net, a), add(&mut net, b));
    net.run_for(start);
    let c = add(&mut net, c);
    net.copy_addresses(c, b);
    (net, [a, b, c])
}

/// Whether a node answers a host.
fn answers(net: &mut Network, host: HostId, nd: NodeId) -> bool {
    net.events(host);
    let ping = Command::Ping { token: 7, nd, link: None, patience: Duration::from_secs(20) };
    net.command(host, ping).unwrap();
    let mut answer = None;
    net.run_while(Duration::from_secs(30), |net| {
        for event in net.events(host) {
            match event {
                Event::Pong { token: 7, .. } => answer = Some(true),
                Event::PingFailed { token: 7, .. } => answer = Some(false),
                _ => {}
            }
        }
        answer.is_some()
    });
    answer.expect("a ping always ends")
}

/// Whether each of the hosts reaches the others, by the names that they have there.
fn all_reach_each_other(net: &mut Network, hosts: [HostId; 3]) -> bool {
    hosts.into_iter().all(|from| {
        let others: Vec<NodeId> = net.node(from).nodes().skip(1).map(|view| view.nd).collect();
        others.len() == 2 && others.into_iter().all(|nd| answers(net, from, nd))
    })
}

#[test]
fn of_two_nodes_of_one_address_on_a_switch_the_newcomer_takes_another_and_all_reach_each_other() {
    for start in [Duration::ZERO, Duration::from_secs(40)] {
        for names in [["alonzo", "joseph", "karl"], ["alonzo", "joseph", "joseph"]] {
            let (mut net, hosts) = twins_on_a_switch(names, start, true);
            let [_, b, c] = hosts;
            let before = net.node(b).nodes().next().unwrap().addresses.clone();
            net.run_for(Duration::from_secs(5));
            let own = |net: &Network, host| net.node(host).nodes().next().unwrap().addresses.clone();
            if start > Duration::ZERO {
                assert_eq!(own(&net, b), before, "who was there stays where it is");
            }
            assert_ne!(own(&net, b), own(&net, c));
            let told: Vec<Event> = [b, c].into_iter().flat_map(|host| net.events(host)).collect();
            let is_clash = |event: &Event| matches!(event, Event::AddressClash { .. });
            assert!(told.iter().any(is_clash), "the operator learns of it: {told:?}");
            // Until the address is forgotten that the copy had before it was one.
            net.run_for(Duration::from_secs(120));
            assert!(all_reach_each_other(&mut net, hosts), "{names:?} {start:?}");
        }
    }
}

#[test]
fn two_nodes_of_one_address_whose_networks_become_one_are_parted_in_the_end() {
    let (mut net, hosts) = twins_on_a_switch(["alonzo", "joseph", "karl"], Duration::from_secs(1), true);
    let [a, b, c] = hosts;
    net.partition(c, a);
    net.partition(c, b);
    net.reboot(c);
    net.run_for(Duration::from_secs(100));
    net.heal();
    net.run_for(Duration::from_secs(100));
    assert!(all_reach_each_other(&mut net, hosts));
}

#[test]
fn where_no_other_address_can_be_had_a_switch_keeps_two_nodes_of_one_address_apart() {
    let (mut net, hosts) = twins_on_a_switch(["alonzo", "joseph", "karl"], Duration::from_secs(40), false);
    net.run_for(Duration::from_secs(95));
    assert!(!all_reach_each_other(&mut net, hosts));
}

#[test]
fn a_copy_of_a_node_with_its_name_and_address_is_told_apart_by_its_life() {
    let mut net = Network::new(13);
    let (a, b, c) = (net.add("alonzo"), net.add("joseph"), net.add("joseph"));
    net.copy_addresses(c, b);
    net.run_for(Duration::from_secs(200));
    let mut names = listed(&net, a);
    names.sort();
    assert_eq!(names, ["alonzo", "joseph", "joseph-EA000002"]);
    for (key, name) in [(1, "joseph"), (2, "joseph-EA000002")] {
        let nd = resolve(&mut net, a, name).unwrap();
        assert!(connects(&mut net, a, nd, key), "{name}");
    }
    assert!(net.node(b).nodes().any(|n| n.name.as_str() == "alonzo") && net.node(c).nodes().count() > 1);
}

#[test]
fn a_machine_that_is_renamed_at_its_restart_is_no_clash() {
    let mut net = Network::new(14);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    net.crash(b);
    let c = net.add("karl");
    net.copy_addresses(c, b);
    net.run_for(Duration::from_secs(300));
    assert!(!net.events(a).iter().any(|e| matches!(e, Event::AddressClash { .. })));
    assert_eq!(listed(&net, a), ["alonzo", "karl"]);
}
