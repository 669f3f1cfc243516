//! How much is sent and when: tight windows after trouble, media without acknowledgements, the flush that ends a wait.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use qnet_proto::{Config, PathState, Qos};
use qnet_sim::apps::{Client, Ledger, Op, Server, SharedLedger, Station};
use qnet_sim::{Faults, HostId, Network, Wire};

/// Bytes of a packet's payload with MTU 1500.
const PIECE: u64 = 1462;

/// Two hosts on one segment, the second one with a server; they know each other.
fn pair(seed: u64, settings: fn(&mut Config)) -> (Network, HostId, HostId, SharedLedger) {
    let mut net = Network::new(seed);
    net.configure(settings);
    let ledger = Ledger::shared();
    let (a, b) = (net.add("alonzo"), net.add("server"));
    net.install(b, Server::boxed(&ledger, 3));
    net.run_for(Duration::from_secs(1));
    (net, a, b, ledger)
}

fn start(net: &mut Network, on: HostId, ledger: &SharedLedger, plan: Vec<Op>) -> Rc<RefCell<bool>> {
    let (client, done) = Client::boxed(ledger, "server", 3, plan, 8, false);
    net.install(on, client);
    done
}

fn run(net: &mut Network, on: HostId, ledger: &SharedLedger, plan: Vec<Op>) {
    let done = start(net, on, ledger, plan);
    assert!(net.run_while(Duration::from_secs(100), |_| *done.borrow()), "not done");
    ledger.borrow().check();
}

fn window(net: &Network, host: HostId) -> u64 {
    net.node(host).nodes().nth(1).expect("the other node is known").window
}

/// QNX's own test: `tx_ticks=100`, a command waits for a node whose cable is out; the cable comes back.
fn wait_after_the_cable_is_back(flush: bool) -> Duration {
    let (mut net, a, _, ledger) = pair(1, |config| config.tx_ticks = 100);
    run(&mut net, a, &ledger, vec![Op::Echo { len: 10 }]);
    net.set_segment(0, false);
    let done = start(&mut net, a, &ledger, vec![Op::Echo { len: 10 }]);
    net.run_for(Duration::from_secs(12));
    net.set_segment(0, true);
    let back = net.now();
    assert!(!*done.borrow());
    if flush {
        net.flush(a);
    }
    assert!(net.run_while(Duration::from_secs(60), |_| *done.borrow()));
    assert_eq!(ledger.borrow().errors(), []);
    net.now().since(back)
}

#[test]
fn a_flush_ends_the_wait_for_a_timeout_at_once() {
    let alone = wait_after_the_cable_is_back(false);
    assert!(alone > Duration::from_secs(1), "without it the timer is waited for: {alone:?}");
    let flushed = wait_after_the_cable_is_back(true);
    assert!(flushed < Duration::from_millis(5), "{flushed:?}");
}

#[test]
fn after_trouble_the_window_is_tight_until_it_is_forgotten() {
    let (mut net, a, _, ledger) = pair(2, |config| config.slow_mode = 25);
    run(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 50]);
    assert!(window(&net, a) > 16 * PIECE, "{}", window(&net, a));
    let done = start(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 500]);
    net.run_for(Duration::from_millis(5));
    net.set_segment(0, false);
    net.run_for(Duration::from_secs(1));
    net.set_segment(0, true);
    assert!(net.run_while(Duration::from_secs(4), |_| *done.borrow()), "slow is not stopped");
    assert_eq!(window(&net, a), 16 * PIECE);
    net.run_for(Duration::from_secs(6));
    assert!(window(&net, a) > 16 * PIECE, "forgotten after 25 ticks");
    assert_eq!(ledger.borrow().errors(), []);
}

#[test]
fn a_node_that_was_given_up_is_called_again_with_a_tight_window() {
    let (mut net, a, _, ledger) = pair(3, |config| config.slow_mode = 100);
    run(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 50]);
    let done = start(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 500]);
    net.run_for(Duration::from_millis(5));
    net.set_segment(0, false);
    assert!(net.run_while(Duration::from_secs(10), |_| *done.borrow()), "the senders are told");
    net.set_segment(0, true);
    run(&mut net, a, &ledger, vec![Op::Echo { len: 10 }]);
    assert_eq!(window(&net, a), 16 * PIECE);
}

#[test]
fn slow_mode_0_remembers_nothing() {
    let (mut net, a, _, ledger) = pair(4, |config| config.slow_mode = 0);
    run(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 50]);
    let before = window(&net, a);
    let done = start(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 500]);
    net.run_for(Duration::from_millis(5));
    net.set_segment(0, false);
    net.run_for(Duration::from_secs(1));
    net.set_segment(0, true);
    assert!(net.run_while(Duration::from_secs(4), |_| *done.borrow()));
    assert!(window(&net, a) > 16 * PIECE, "{before} {}", window(&net, a));
}

#[test]
fn without_acknowledgements_none_is_sent_and_none_is_missed() {
    let (mut net, a, b, ledger) = pair(5, |config| config.no_ack = true);
    let plan = (0..200).flat_map(|i| [Op::Echo { len: i * 10 }, Op::Put { len: 90_000 }, Op::Pulse]);
    run(&mut net, a, &ledger, plan.collect());
    net.run_for(Duration::from_secs(30));
    assert_eq!(ledger.borrow().errors(), []);
    assert_eq!(ledger.borrow().pulses(), 200);
    assert_eq!(net.acknowledgements(), 0);
    assert_eq!(net.node(a).counters().tx_retransmits + net.node(b).counters().tx_retransmits, 0);
    assert_eq!(net.node(a).counters().sessions_down, 0, "heartbeats go on");
}

#[test]
fn a_loss_that_nobody_repairs_ends_the_session_when_it_shows() {
    let (mut net, a, _, ledger) = pair(6, |config| config.no_ack = true);
    let (unlucky, _) = Client::boxed(&ledger, "server", 3, vec![Op::Echo { len: 10 }; 20_000], 8, false);
    let (other, done) = Client::boxed(&ledger, "server", 3, vec![Op::Echo { len: 10 }; 20_000], 8, false);
    let later = net.now() + Duration::from_millis(10);
    let clients = vec![*unlucky, *other.starting(later, false)];
    net.install(a, Station::boxed(Server::boxed(&ledger, 4), clients));
    net.run_for(Duration::from_millis(5));
    // What is on its way is lost for good; whoever waits for it would wait for ever.
    net.set_segment(0, false);
    net.run_for(Duration::from_millis(1));
    net.set_segment(0, true);
    assert!(net.run_while(Duration::from_secs(60), |_| *done.borrow()));
    ledger.borrow().check();
    assert!(!ledger.borrow().errors().is_empty(), "the senders are told");
    assert!(net.node(a).counters().sessions_down > 0);
}

#[test]
fn a_slow_line_with_a_short_queue_loses_little() {
    let (mut net, a, _, ledger) = pair(7, |_| {});
    net.set_wire(0, Wire { rate: Some(100_000_000), queue: 100, ..Wire::default() });
    run(&mut net, a, &ledger, vec![Op::Put { len: 1 << 20 }; 60]);
    let c = net.node(a).counters();
    assert!(c.tx_retransmits * 50 < c.tx_frames, "{} of {}", c.tx_retransmits, c.tx_frames);
}

#[test]
fn a_conversation_of_small_messages_takes_hardly_more_than_a_packet_each_way() {
    let (mut net, a, b, ledger) = pair(9, |_| {});
    let sent = |net: &Network| net.node(a).counters().tx_frames + net.node(b).counters().tx_frames;
    run(&mut net, a, &ledger, vec![Op::Echo { len: 10 }]);
    let before = sent(&net);
    // One after the other, far faster than the longest wait of an acknowledgement.
    let (client, done) = Client::boxed(&ledger, "server", 3, vec![Op::Echo { len: 10 }; 800], 1, false);
    net.install(a, client);
    assert!(net.run_while(Duration::from_secs(100), |_| *done.borrow()), "not done");
    ledger.borrow().check();
    let frames = sent(&net) - before;
    assert!((1600..2000).contains(&frames), "{frames} frames for 800 calls and their replies");
}

#[test]
fn a_link_on_which_nobody_was_heard_is_asked_for_its_nodes() {
    // Nobody announces anything: the second link is found by the question alone.
    let (mut net, a, b, ledger) = pair(8, |config| config.auto_add = 0);
    run(&mut net, a, &ledger, vec![Op::Echo { len: 10 }]);
    net.attach(a, 1);
    net.attach(b, 1);
    let paths = |net: &Network| {
        let view = net.node(a).nodes().nth(1).expect("known");
        view.paths.iter().map(|path| path.state).collect::<Vec<_>>()
    };
    net.run_for(Duration::from_secs(5));
    assert_eq!(paths(&net).len(), 1);
    net.run_for(Duration::from_secs(8));
    assert_eq!(paths(&net), [PathState::Up; 2]);
}

#[test]
fn a_plain_peer_is_served_over_the_other_link_when_one_dies() {
    for dead in [0, 1] {
        let mut net = Network::new(9);
        let ledger = Ledger::shared();
        let a = net.add("alonzo");
        let b = net.add_with("server", |config| config.extensions = false);
        for host in [a, b] {
            net.attach(host, 1);
        }
        net.install(b, Server::boxed(&ledger, 3));
        net.run_for(Duration::from_secs(1));
        let (client, done) =
            Client::boxed(&ledger, "server", 3, vec![Op::Put { len: 50_000 }; 400], 4, false);
        net.install(a, client.under(Qos::LoadBalance));
        net.run_for(Duration::from_millis(20));
        net.set_segment(dead, false);
        assert!(net.run_while(Duration::from_secs(30), |_| *done.borrow()), "{dead}");
        ledger.borrow().check();
        assert_eq!(ledger.borrow().errors(), []);
    }
}

#[test]
fn a_lost_message_shows_on_a_quiet_session_without_acknowledgements() {
    for lost in 0..2 {
        let (mut net, a, _, ledger) = pair(10 + lost, |config| config.no_ack = true);
        run(&mut net, a, &ledger, vec![Op::Echo { len: 10 }; 5]);
        let done = start(&mut net, a, &ledger, vec![Op::Echo { len: 10 }]);
        // The question or its answer is lost, and nothing follows it.
        let alive = Duration::from_micros(if lost == 0 { 0 } else { 400 });
        net.set_wire(
            0,
            Wire {
                faults: Faults { delay: Duration::from_micros(300), ..Faults::default() },
                ..Wire::default()
            },
        );
        net.run_for(alive);
        net.set_segment(0, false);
        net.run_for(Duration::from_millis(2));
        net.set_segment(0, true);
        let before = net.now();
        assert!(net.run_while(Duration::from_secs(60), |_| *done.borrow()));
        let took = net.now().since(before);
        ledger.borrow().check();
        assert!(took < Duration::from_secs(3), "{lost}: told after {took:?}");
    }
}

#[test]
fn a_plain_peer_behind_a_queue_shorter_than_a_message_gets_everything() {
    for (rate, queue, delay) in [(1_000_000_000, 57, 26), (10_000_000, 20, 1), (4_000_000, 30, 10)] {
        let (mut net, a, _, ledger) = pair(12, |config| config.extensions = false);
        let faults = Faults { delay: Duration::from_millis(delay), ..Faults::default() };
        net.set_wire(0, Wire { rate: Some(rate), queue, faults });
        run(&mut net, a, &ledger, vec![Op::Put { len: 400_000 }; 3]);
        assert_eq!(ledger.borrow().errors(), [], "{rate} {queue}");
        let c = net.node(a).counters();
        assert!(
            c.tx_retransmits * 2 < c.tx_frames,
            "{rate} {queue}: {} of {}",
            c.tx_retransmits,
            c.tx_frames
        );
    }
}
