//! Several links between two nodes: they share the work, replace each other, and are chosen by policy.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use qnet_proto::{Config, PathState, Qos};
use qnet_sim::apps::{Client, Ledger, Op, Server, SharedLedger, Station};
use qnet_sim::{Faults, HostId, Network, Wire, seeds};

/// Two hosts with links on these segments, the second one with a server; all paths are known and proven.
fn pair(seed: u64, segments: &[u32], settings: fn(&mut Config)) -> (Network, HostId, HostId, SharedLedger) {
    let mut net = Network::new(seed);
    net.configure(settings);
    let ledger = Ledger::shared();
    let (a, b) = (net.add("alonzo"), net.add("server"));
    for host in [a, b] {
        for &segment in segments {
            net.attach(host, segment);
        }
    }
    for &segment in segments {
        net.set_wire(segment, Wire { rate: Some(500_000_000), queue: 200, ..Wire::default() });
    }
    net.install(b, Server::boxed(&ledger, 3));
    net.run_for(Duration::from_secs(1));
    (net, a, b, ledger)
}

fn start(net: &mut Network, on: HostId, ledger: &SharedLedger, plan: Vec<Op>, qos: Qos) -> Rc<RefCell<bool>> {
    let (client, done) = Client::boxed(ledger, "server", 3, plan, 8, false);
    net.install(on, client.under(qos));
    done
}

/// Runs a plan to its end; how long it took.
fn run(net: &mut Network, on: HostId, ledger: &SharedLedger, plan: Vec<Op>, qos: Qos) -> Duration {
    let begin = net.now();
    let done = start(net, on, ledger, plan, qos);
    assert!(net.run_while(Duration::from_secs(100), |_| *done.borrow()), "not done");
    ledger.borrow().check();
    net.now().since(begin)
}

/// The longest time without an answer from now to the end of the plan.
fn longest_pause(net: &mut Network, ledger: &SharedLedger, done: &Rc<RefCell<bool>>) -> Duration {
    let (mut answered, mut since, mut longest) = (ledger.borrow().answered(), net.now(), Duration::ZERO);
    net.run_while(Duration::from_secs(100), |net| {
        if ledger.borrow().answered() != answered {
            longest = longest.max(net.now().since(since));
            (answered, since) = (ledger.borrow().answered(), net.now());
        }
        *done.borrow()
    });
    assert!(*done.borrow());
    longest
}

fn states(net: &Network, host: HostId) -> Vec<PathState> {
    let view = net.node(host).nodes().nth(1).expect("the other node is known");
    view.paths.iter().map(|path| path.state).collect()
}

#[test]
fn two_links_of_limited_rate_carry_almost_twice_as_much_as_one() {
    let time = |segments: &[u32]| {
        let (mut net, a, _, ledger) = pair(1, segments, |_| {});
        run(&mut net, a, &ledger, vec![Op::Put { len: 1 << 20 }; 200], Qos::LoadBalance)
    };
    let (one, two) = (time(&[0]), time(&[0, 1]));
    assert!(two * 18 <= one * 10, "one link {one:?}, two {two:?}");
}

/// How long 300 messages take, 32 under way, over lines of 500 Mbit/s that are so many microseconds long.
fn over_lines(micros: &[u64]) -> Duration {
    let segments: Vec<u32> = (0..micros.len() as u32).collect();
    let (mut net, a, _, ledger) = pair(1, &segments, |_| {});
    for (&segment, &micros) in segments.iter().zip(micros) {
        let faults = Faults { delay: Duration::from_micros(micros), ..Faults::default() };
        net.set_wire(segment, Wire { rate: Some(500_000_000), queue: 800, faults });
    }
    let begin = net.now();
    let (client, done) = Client::boxed(&ledger, "server", 3, vec![Op::Put { len: 1 << 20 }; 300], 32, false);
    net.install(a, client);
    assert!(net.run_while(Duration::from_secs(100), |_| *done.borrow()), "not done");
    ledger.borrow().check();
    net.now().since(begin)
}

#[test]
fn links_whose_acknowledgements_overtake_each_other_carry_almost_twice_as_much_as_one() {
    let one = over_lines(&[30]);
    for other in [300, 1000, 3000] {
        let two = over_lines(&[30, other]);
        assert!(two * 18 <= one * 10, "one link {one:?}, two {two:?}, the second one {other} µs long");
    }
}

#[test]
fn four_links_are_used_when_that_many_are_allowed() {
    for (allowed, used) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        let mut net = Network::new(2);
        let ledger = Ledger::shared();
        let set = move |config: &mut Config| config.max_num_l4s = allowed;
        let (a, b) = (net.add_with("alonzo", set), net.add_with("server", set));
        for host in [a, b] {
            (1..4).for_each(|segment| net.attach(host, segment));
        }
        net.install(b, Server::boxed(&ledger, 3));
        net.run_for(Duration::from_secs(1));
        run(&mut net, a, &ledger, vec![Op::Put { len: 1 << 20 }; 20], Qos::LoadBalance);
        let shares: Vec<u64> = (0..4).map(|segment| net.carried(segment)).collect();
        assert_eq!(shares.iter().filter(|&&bytes| bytes > 1 << 20).count(), used, "{shares:?}");
    }
}

#[test]
fn a_busy_session_pauses_for_less_than_50_ms_when_a_link_dies_silently() {
    for dead in [0, 1] {
        let (mut net, a, _, ledger) = pair(3, &[0, 1], |_| {});
        let done = start(&mut net, a, &ledger, vec![Op::Echo { len: 2000 }; 20_000], Qos::LoadBalance);
        net.run_for(Duration::from_millis(100));
        assert!(!*done.borrow());
        net.set_segment(dead, false);
        let pause = longest_pause(&mut net, &ledger, &done);
        assert!(pause < Duration::from_millis(50), "{pause:?}");
        ledger.borrow().check();
        assert_eq!(ledger.borrow().errors(), []);
        assert_eq!(net.node(a).counters().sessions_down, 0);
    }
}

#[test]
fn the_first_message_after_a_silent_loss_arrives_over_the_other_link_within_100_ms() {
    for dead in [0, 1] {
        let (mut net, a, _, ledger) = pair(4, &[0, 1], |_| {});
        run(&mut net, a, &ledger, vec![Op::Echo { len: 100 }; 20], Qos::LoadBalance);
        net.run_for(Duration::from_secs(3));
        net.set_segment(dead, false);
        let took = run(&mut net, a, &ledger, vec![Op::Echo { len: 100 }], Qos::LoadBalance);
        assert!(took < Duration::from_millis(100), "link {dead}: {took:?}");
        assert_eq!(ledger.borrow().errors(), []);
    }
}

#[test]
fn each_path_counts_what_it_sent_and_lost() {
    let (mut net, a, _, ledger) = pair(9, &[0, 1], |_| {});
    let paths = |net: &Network| net.node(a).nodes().nth(1).expect("the other node is known").paths;
    run(&mut net, a, &ledger, vec![Op::Echo { len: 3000 }; 50], Qos::LoadBalance);
    let before = paths(&net);
    // What overtakes on the other path may make one look lost.
    assert!(before.iter().all(|path| path.sent > 20 && path.lost <= 2), "nothing was lost: {before:?}");
    net.set_segment(1, false);
    run(&mut net, a, &ledger, vec![Op::Echo { len: 3000 }; 50], Qos::LoadBalance);
    let after = paths(&net);
    let gone = after.iter().position(|path| path.state != PathState::Up).expect("one path does not answer");
    assert!(after[gone].lost > before[gone].lost, "{before:?} {after:?}");
    assert!(after[1 - gone].sent >= before[1 - gone].sent + 50, "the other one carried it all: {after:?}");
}

#[test]
fn a_link_that_recovers_is_used_again_by_itself() {
    let (mut net, a, b, ledger) = pair(5, &[0, 1], |_| {});
    let done = start(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 50_000], Qos::LoadBalance);
    net.run_for(Duration::from_millis(100));
    net.set_segment(1, false);
    net.run_for(Duration::from_secs(3));
    assert!(states(&net, a).contains(&PathState::Down), "{:?}", states(&net, a));
    let before = net.carried(1);
    net.run_for(Duration::from_millis(500));
    assert_eq!(net.carried(1), before, "probes only");
    net.set_segment(1, true);
    net.run_for(Duration::from_secs(1) + Duration::from_millis(200));
    assert_eq!(states(&net, a), [PathState::Up; 2]);
    assert_eq!(states(&net, b), [PathState::Up; 2]);
    let before = net.carried(1);
    net.run_for(Duration::from_millis(200));
    assert!(net.carried(1) > before + 1_000_000);
    assert!(!*done.borrow() && ledger.borrow().errors().is_empty());
}

#[test]
fn an_idle_link_that_dies_is_known_to_be_dead_before_anybody_needs_it() {
    let (mut net, a, b, ledger) = pair(6, &[0, 1], |_| {});
    run(&mut net, a, &ledger, vec![Op::Echo { len: 100 }], Qos::LoadBalance);
    net.set_segment(1, false);
    net.run_for(Duration::from_secs(13));
    for host in [a, b] {
        assert_eq!(states(&net, host).iter().filter(|state| **state == PathState::Up).count(), 1);
    }
}

#[test]
fn a_preferred_link_is_used_alone_falls_over_and_comes_back() {
    let (mut net, a, _, ledger) = pair(7, &[0, 1], |_| {});
    let preferred = || "preferred:en1".parse::<Qos>().expect("a policy");
    // While a session is young only the path it was set up by is proven.
    run(&mut net, a, &ledger, vec![Op::Echo { len: 100 }; 20], preferred());
    let young = net.carried(0);
    let done = start(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 50_000], preferred());
    net.run_for(Duration::from_millis(100));
    assert_eq!(net.carried(0), young, "all of it takes the preferred link, answers too");
    net.set_segment(1, false);
    net.run_for(Duration::from_secs(2));
    let other = net.carried(0) - young;
    assert!(other > 1_000_000, "{other}");
    net.set_segment(1, true);
    net.run_for(Duration::from_millis(1300));
    let (other, own) = (net.carried(0), net.carried(1));
    net.run_for(Duration::from_millis(300));
    assert_eq!(net.carried(0), other, "back on the preferred link alone");
    assert!(net.carried(1) > own + 1_000_000);
    assert!(!*done.borrow() && ledger.borrow().errors().is_empty());
}

#[test]
fn an_exclusive_link_is_waited_for_and_never_replaced() {
    let (mut net, a, b, ledger) = pair(8, &[0, 1], |_| {});
    let done =
        start(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 3000], Qos::Exclusive("en1".into()));
    net.run_for(Duration::from_millis(50));
    net.set_segment(1, false);
    net.run_for(Duration::from_secs(2));
    assert!(!*done.borrow() && ledger.borrow().errors().is_empty(), "patience is five seconds");
    net.set_segment(1, true);
    assert!(net.run_while(Duration::from_secs(20), |_| *done.borrow()));
    ledger.borrow().check();
    assert_eq!(ledger.borrow().errors(), []);
    assert_eq!(net.carried(0), 0);
    assert_eq!(net.node(a).counters().sessions_down + net.node(b).counters().sessions_down, 0);
}

#[test]
fn an_exclusive_link_that_stays_away_fails_its_senders_and_nobody_else() {
    let (mut net, a, b, ledger) = pair(9, &[0, 1], |_| {});
    let (other, other_done) =
        Client::boxed(&ledger, "server", 3, vec![Op::Echo { len: 3000 }; 300_000], 4, false);
    let (client, done) = Client::boxed(&ledger, "server", 3, vec![Op::Put { len: 200_000 }; 3000], 4, false);
    let client = client.under(Qos::Exclusive("en1".into()));
    net.install(a, Station::boxed(Server::boxed(&ledger, 4), vec![*other, *client]));
    net.run_for(Duration::from_millis(50));
    net.set_segment(1, false);
    let at = net.now();
    assert!(net.run_while(Duration::from_secs(20), |_| *done.borrow()));
    let waited = net.now().since(at);
    assert!(waited > Duration::from_secs(4) && waited < Duration::from_secs(7), "{waited:?}");
    assert!(!ledger.borrow().errors().is_empty() && !*other_done.borrow());
    let answered = ledger.borrow().answered();
    net.run_for(Duration::from_secs(1));
    assert!(ledger.borrow().answered() > answered + 100, "the session goes on");
    assert_eq!(net.node(a).counters().sessions_down + net.node(b).counters().sessions_down, 0);
    assert!(ledger.borrow().disconnects > 0, "the server knows that the connection is over");
}

#[test]
fn an_exclusive_link_that_does_not_exist_fails_in_the_end() {
    let (mut net, a, _, ledger) = pair(10, &[0, 1], |_| {});
    let took = run(&mut net, a, &ledger, vec![Op::Echo { len: 10 }], Qos::Exclusive("wm7".into()));
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(7), "{took:?}");
    assert_eq!(net.carried(0) + net.carried(1), 0);
}

#[test]
fn links_that_end_in_one_switch_are_told_apart_and_replaced() {
    for pulled in [0, 1] {
        let mut net = Network::new(11);
        net.join([0, 1]);
        let ledger = Ledger::shared();
        let (a, b) = (net.add("alonzo"), net.add("server"));
        for host in [a, b] {
            net.attach(host, 1);
        }
        net.install(b, Server::boxed(&ledger, 3));
        net.run_for(Duration::from_secs(1));
        let done = start(&mut net, a, &ledger, vec![Op::Echo { len: 3000 }; 20_000], Qos::LoadBalance);
        net.run_for(Duration::from_millis(100));
        let view = net.node(a).nodes().nth(1).expect("known").paths;
        assert_eq!(view.len(), 2, "{view:?}");
        assert!(view[0].addr != view[1].addr && view[0].link != view[1].link, "{view:?}");
        net.pull(b, pulled, true);
        let pause = longest_pause(&mut net, &ledger, &done);
        assert!(pause < Duration::from_millis(50), "{pause:?}");
        assert_eq!(ledger.borrow().errors(), []);
    }
}

#[test]
fn links_that_come_and_go_lose_and_double_nothing() {
    seeds::each(60, |seed| {
        let (mut net, a, b, ledger) = pair(seed, &[0, 1, 2], |config| {
            config.max_num_l4s = 3;
            config.do_crc = true;
            config.conn_est_retries = 20;
        });
        let faults = Faults::random(net.rng(), 50);
        net.set_faults(faults);
        let plan = (0..400).map(|i| match i % 4 {
            0 => Op::Put { len: 50_000 },
            1 => Op::Pulse,
            2 => Op::Read { offset: i, len: 20_000 },
            _ => Op::Echo { len: 1000 },
        });
        let qos = match seed % 3 {
            0 => Qos::Preferred("en2".into()),
            _ => Qos::LoadBalance,
        };
        let done = start(&mut net, a, &ledger, plan.collect(), qos);
        let end = net.now() + Duration::from_secs(300);
        while !*done.borrow() && net.now() < end {
            // Two of the three may be bad at once, in three ways; the third one never is.
            let (good, bad) = (net.rng().below(3) as u32, net.rng().below(3) as u32);
            let silent = net.rng().chance(500);
            for segment in (0..3).filter(|&segment| segment != good) {
                if silent {
                    net.set_segment(segment, false);
                } else if segment == bad {
                    net.detach(a, segment);
                } else {
                    net.pull(b, segment, true);
                }
            }
            let pause = net.rng().below(400);
            net.run_for(Duration::from_millis(pause));
            for segment in 0..3 {
                net.set_segment(segment, true);
                net.pull(b, segment, false);
                net.attach(a, segment);
            }
            let pause = net.rng().below(200);
            net.run_for(Duration::from_millis(pause));
        }
        assert!(*done.borrow(), "not done: {faults:?}");
        ledger.borrow().check();
        assert_eq!(ledger.borrow().errors(), []);
    });
}
