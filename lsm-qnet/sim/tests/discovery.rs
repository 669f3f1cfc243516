//! Finding nodes: /net fills in a second, empties when nodes are gone, and names may collide.
//!
//! Bounds in time are simulated time.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::time::Duration;

use qnet_proto::{Command, Errno, Event, NodeId};
use qnet_sim::{Faults, HostId, Network};

fn names(net: &Network, host: HostId) -> Vec<String> {
    net.node(host).nodes().map(|node| node.name.to_string()).collect()
}

fn resolve(net: &mut Network, host: HostId, name: &str) -> Option<NodeId> {
    net.events(host);
    net.command(host, Command::Resolve { token: 9, name: name.to_owned() }).unwrap();
    let mut found = None;
    net.run_while(Duration::from_secs(5), |net| {
        for event in net.events(host) {
            match event {
                Event::Resolved { token: 9, nd } => found = Some(Some(nd)),
                Event::ResolveFailed { token: 9, errno } => {
                    assert_eq!(errno, Errno::ENOENT);
                    found = Some(None);
                }
                _ => {}
            }
        }
        found.is_some()
    });
    found.expect("a resolution always ends")
}

#[test]
fn a_newcomer_and_sixty_four_nodes_know_each_other_within_a_second() {
    let mut net = Network::new(1);
    let hosts: Vec<HostId> = (0..64).map(|i| net.add(&format!("node{i}"))).collect();
    net.run_for(Duration::from_secs(1));
    for &host in &hosts {
        assert_eq!(net.node(host).nodes().count(), 64);
    }
    net.run_for(Duration::from_secs(10));
    let newcomer = net.add("newcomer");
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.node(newcomer).nodes().count(), 65);
    assert!(hosts.iter().all(|&host| net.node(host).nodes().count() == 65));
}

#[test]
fn on_a_lossy_wire_the_list_is_complete_after_a_few_announcements() {
    let mut net = Network::new(2);
    net.set_faults(Faults::lossy(200));
    let hosts: Vec<HostId> = (0..16).map(|i| net.add(&format!("node{i}"))).collect();
    net.run_for(Duration::from_secs(95));
    for &host in &hosts {
        assert_eq!(net.node(host).nodes().count(), 16, "{:?}", names(&net, host));
    }
}

#[test]
fn the_own_name_is_node_zero_and_needs_no_network() {
    let mut net = Network::new(3);
    let host = net.add_with("alonzo", |config| config.auto_add = 0);
    assert_eq!(resolve(&mut net, host, "alonzo"), Some(NodeId::LOCAL));
    assert_eq!(resolve(&mut net, host, "ALONZO.lab.example"), Some(NodeId::LOCAL));
}

#[test]
fn without_auto_add_nothing_is_listed_until_a_program_asks_for_it() {
    let mut net = Network::new(4);
    net.configure(|config| config.auto_add = 0);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    let loud = net.add_with("loud", |config| config.auto_add = 150);
    net.run_for(Duration::from_secs(65));
    assert_eq!(names(&net, a), ["alonzo"]);
    let nd = resolve(&mut net, a, "joseph").unwrap();
    assert_ne!(nd, NodeId::LOCAL);
    assert_eq!(names(&net, a), ["alonzo", "joseph"]);
    assert_eq!(names(&net, b), ["joseph"]);
    assert!(resolve(&mut net, loud, "joseph").is_some());
}

#[test]
fn a_name_nobody_has_is_refused_after_three_requests() {
    let mut net = Network::new(5);
    let a = net.add("alonzo");
    net.run_for(Duration::from_secs(1));
    let (start, sent) = (net.now(), net.node(a).counters().tx_frames);
    assert_eq!(resolve(&mut net, a, "nobody"), None);
    assert_eq!(net.now().since(start), Duration::from_millis(600));
    assert_eq!(net.node(a).counters().tx_frames - sent, 3);
    assert!(net.command(a, Command::Resolve { token: 1, name: "no/name".into() }).is_err());
}

#[test]
fn another_domain_needs_its_full_name() {
    let mut net = Network::new(6);
    net.configure(|config| config.auto_add = 0);
    let a = net.add("alonzo");
    net.add_with("joseph", |config| config.domain = qnet_proto::Domain::new("other.example").unwrap());
    assert_eq!(resolve(&mut net, a, "joseph"), None);
    assert!(resolve(&mut net, a, "joseph.other.example").is_some());
}

#[test]
fn a_node_without_a_domain_is_found_by_the_name_it_is_listed_with() {
    let mut net = Network::new(12);
    let a = net.add("alonzo");
    net.add_with("joseph", |config| config.domain = qnet_proto::Domain::default());
    net.run_for(Duration::from_secs(1));
    assert_eq!(names(&net, a), ["alonzo", "joseph"]);
    let bare = resolve(&mut net, a, "joseph").unwrap();
    assert_eq!(resolve(&mut net, a, "joseph."), Some(bare));
    // A node of our own domain goes first; the other keeps its full name.
    net.add("joseph");
    net.run_for(Duration::from_secs(1));
    assert_ne!(resolve(&mut net, a, "joseph"), Some(bare));
    assert_eq!(resolve(&mut net, a, "joseph."), Some(bare));
}

#[test]
fn a_node_nobody_used_leaves_after_three_missed_announcements() {
    let mut net = Network::new(7);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    net.crash(b);
    net.run_for(Duration::from_secs(80));
    assert_eq!(names(&net, a), ["alonzo", "joseph"], "two may be missed");
    net.run_for(Duration::from_secs(60));
    assert_eq!(names(&net, a), ["alonzo"]);
}

#[test]
fn two_nodes_of_one_name_are_both_reachable_and_the_clash_is_told_once() {
    let mut net = Network::new(8);
    let a = net.add("alonzo");
    net.add("twin");
    net.run_for(Duration::from_secs(1));
    let second = net.add("twin");
    net.run_for(Duration::from_secs(31));
    let alias = "twin-EA000003";
    assert_eq!(names(&net, a), ["alonzo", "twin", alias]);
    let clashes = |events: Vec<Event>| {
        events
            .into_iter()
            .filter(|e| matches!(e, Event::NameClash { alias: told, .. } if told == alias))
            .count()
    };
    assert_eq!(clashes(net.events(a)), 1);
    assert_ne!(resolve(&mut net, a, "twin"), resolve(&mut net, a, alias));
    // the twins see each other under an alias, too
    assert!(names(&net, second).contains(&"twin-EA000002".to_owned()), "{:?}", names(&net, second));
}

#[test]
fn a_newcomer_gets_its_name_when_the_rival_has_left() {
    let mut net = Network::new(9);
    let a = net.add("alonzo");
    let first = net.add("twin");
    net.run_for(Duration::from_secs(1));
    net.add("twin");
    net.run_for(Duration::from_secs(1));
    net.crash(first);
    net.run_for(Duration::from_secs(200));
    assert_eq!(names(&net, a), ["alonzo", "twin"]);
}

#[test]
fn a_rebooted_node_keeps_its_name_and_number() {
    let mut net = Network::new(10);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    net.run_for(Duration::from_secs(1));
    let before = resolve(&mut net, a, "joseph");
    net.reboot(b);
    net.run_for(Duration::from_secs(1));
    assert_eq!(names(&net, a), ["alonzo", "joseph"]);
    assert_eq!(resolve(&mut net, a, "joseph"), before);
    assert_eq!(names(&net, b), ["joseph", "alonzo"], "it learns of the others at once");
}

#[test]
fn a_node_on_two_links_is_one_node() {
    let mut net = Network::new(11);
    let (a, b) = (net.add("alonzo"), net.add("joseph"));
    for host in [a, b] {
        net.attach(host, 1);
    }
    net.run_for(Duration::from_secs(31));
    let nodes: Vec<_> = net.node(a).nodes().collect();
    assert_eq!(nodes.len(), 2);
    assert_eq!(nodes[1].addresses.len(), 2);
}
