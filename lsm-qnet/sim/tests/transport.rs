//! The transport: order where it is promised, no waiting where it is not, bounded memory, plain
//! QNX peers, narrow links, links that fail.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use qnet_proto::Config;
use qnet_sim::apps::{Client, Ledger, Op, Server, SharedLedger};
use qnet_sim::{Faults, HostId, Network, Wire, seeds};

fn client(
    net: &mut Network,
    on: HostId,
    ledger: &SharedLedger,
    plan: Vec<Op>,
    at_once: usize,
) -> Rc<RefCell<bool>> {
    let (client, done) = Client::boxed(ledger, "server", 3, plan, at_once, true);
    net.install(on, client);
    done
}

fn server(net: &mut Network, ledger: &SharedLedger) -> HostId {
    let host = net.add("server");
    net.install(host, Server::boxed(ledger, 3));
    host
}

fn mixed() -> Vec<Op> {
    let sizes = [0, 1, 2, 1400, 1462, 1463, 8191, 8192, 8193, 60_000, 200_000, 1 << 20];
    sizes.into_iter().flat_map(|len| [Op::Put { len }, Op::Read { offset: len, len: len / 2 }]).collect()
}

#[test]
fn pulses_keep_their_order_among_messages_whatever_the_wire_does() {
    seeds::each(50, |seed| {
        let mut net = Network::new(seed);
        net.configure(|config| {
            config.conn_est_retries = 20;
            config.res_retries = 20;
        });
        let a = net.add("alonzo");
        net.set_faults(Faults { duplicate: 100, reorder: 300, ..Faults::lossy(200) });
        let ledger = Ledger::shared();
        server(&mut net, &ledger);
        let plan = (0..300).map(|i| if i % 3 == 0 { Op::Echo { len: 3000 } } else { Op::Pulse }).collect();
        let done = client(&mut net, a, &ledger, plan, 8);
        assert!(net.run_while(Duration::from_secs(200), |_| *done.borrow()));
        net.run_for(Duration::from_secs(5));
        ledger.borrow().check();
        assert_eq!(ledger.borrow().pulses(), 200);
    });
}

#[test]
fn a_plain_peer_is_served_with_plain_acknowledgements_both_ways() {
    seeds::each(60, |seed| {
        for plain in ["alonzo", "server"] {
            let mut net = Network::new(seed);
            net.configure(|config| {
                config.do_crc = true;
                config.conn_est_retries = 20;
                config.res_retries = 20;
            });
            let setting = |name: &str| {
                let off = name == plain;
                move |config: &mut Config| config.extensions = !off
            };
            let (a, b) =
                (net.add_with("alonzo", setting("alonzo")), net.add_with("server", setting("server")));
            let faults = Faults::random(net.rng(), 80);
            net.set_faults(faults);
            let ledger = Ledger::shared();
            net.install(b, Server::boxed(&ledger, 3));
            let done = client(&mut net, a, &ledger, mixed(), 3);
            assert!(net.run_while(Duration::from_secs(200), |_| *done.borrow()), "{plain} {faults:?}");
            ledger.borrow().check();
        }
    });
}

#[test]
fn small_messages_do_not_wait_behind_the_bulk_of_their_session() {
    // Six mebibytes on a line of 100 Mbit/s, and beside them in the same session one small message after the other.
    let bulk = || vec![Op::Put { len: 1 << 20 }; 6];
    let time_until = |plan: Vec<Op>, answers: usize| {
        let mut net = Network::new(4);
        net.set_wire(0, Wire { rate: Some(100_000_000), queue: 200, ..Wire::default() });
        let a = net.add("alonzo");
        let ledger = Ledger::shared();
        server(&mut net, &ledger);
        client(&mut net, a, &ledger, plan, 7);
        let begun = net.now();
        assert!(net.run_while(Duration::from_secs(100), |_| ledger.borrow().answered() >= answers));
        net.now().since(begun)
    };
    let bulk_alone = time_until(bulk(), 6);
    let small = vec![Op::Echo { len: 100 }; 100];
    // Behind the bulk, all but a few answers would come after it.
    let small_beside_it = time_until([bulk(), small].concat(), 10);
    assert!(small_beside_it < bulk_alone / 2, "{small_beside_it:?}, and the bulk alone {bulk_alone:?}");
}

#[test]
fn links_of_different_mtu_carry_frames_both_ends_can_take() {
    for (a_mtu, b_mtu, limit) in [
        (1500, 576, 9000),
        (9000, 1500, 9000),
        (9000, 9000, 9000),
        (40_000, 65_535, 65_535),
        (1500, 1500, 150),
    ] {
        let mut net = Network::new(5);
        net.set_faults(Faults::lossy(30));
        let set = move |config: &mut Config| config.mtu_en = limit;
        let (a, b) = (net.add_with("alonzo", set), net.add_with("server", set));
        net.set_mtu(a, a_mtu);
        net.set_mtu(b, b_mtu);
        let ledger = Ledger::shared();
        net.install(b, Server::boxed(&ledger, 3));
        let done = client(&mut net, a, &ledger, mixed(), 3);
        assert!(net.run_while(Duration::from_secs(200), |_| *done.borrow()), "{a_mtu} {b_mtu} {limit}");
        ledger.borrow().check();
    }
}

#[test]
fn little_memory_slows_but_does_not_stop() {
    let mut net = Network::new(6);
    net.configure(|config| {
        config.limits.reassembly_per_peer = 70_000;
        config.limits.reassembly_total = (1 << 20) + 100_000;
    });
    net.set_faults(Faults::lossy(20));
    let ledger = Ledger::shared();
    let b = server(&mut net, &ledger);
    let clients: Vec<_> = (0..6).map(|i| net.add(&format!("client{i}"))).collect();
    let plan = vec![Op::Put { len: 150_000 }; 8];
    let done: Vec<_> = clients.iter().map(|&host| client(&mut net, host, &ledger, plan.clone(), 4)).collect();
    let mut most = 0;
    let all = net.run_while(Duration::from_secs(300), |net| {
        most = most.max(net.node(b).reassembly_bytes());
        done.iter().all(|done| *done.borrow())
    });
    assert!(all, "{:?}", ledger.borrow().errors());
    assert!(most > 0 && most <= (1 << 20) + 100_000, "{most}");
    assert_eq!(net.node(b).reassembly_bytes(), 0);
}

#[test]
fn traffic_goes_on_over_the_other_link_when_one_dies() {
    seeds::each(20, |seed| {
        let mut net = Network::new(seed);
        let a = net.add("alonzo");
        let ledger = Ledger::shared();
        let b = server(&mut net, &ledger);
        for host in [a, b] {
            net.attach(host, 1);
        }
        net.run_for(Duration::from_secs(1));
        let done = client(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 60], 4);
        net.run_for(Duration::from_millis(2));
        let dead = (seed % 2) as u32;
        net.set_segment(dead, false);
        assert!(net.run_while(Duration::from_secs(30), |_| *done.borrow()));
        ledger.borrow().check();
        assert_eq!(ledger.borrow().errors(), [], "nothing was lost and nobody told of it");
        assert_eq!(net.node(a).counters().sessions_down, 0);
    });
}

#[test]
fn a_link_that_goes_and_comes_back_is_used_again() {
    let mut net = Network::new(8);
    let a = net.add("alonzo");
    let ledger = Ledger::shared();
    server(&mut net, &ledger);
    net.run_for(Duration::from_secs(1));
    let done = client(&mut net, a, &ledger, vec![Op::Put { len: 100_000 }; 60], 4);
    net.run_for(Duration::from_millis(2));
    net.detach(a, 0);
    net.run_for(Duration::from_secs(2));
    assert!(!*done.borrow());
    net.attach(a, 0);
    assert!(net.run_while(Duration::from_secs(10), |_| *done.borrow()));
    assert_eq!(ledger.borrow().errors(), []);
}

#[test]
fn a_slow_line_is_waited_for_and_not_flooded() {
    let mut net = Network::new(12);
    net.configure(|config| config.conn_est_timeout = 5);
    let a = net.add("alonzo");
    net.set_faults(Faults { delay: Duration::from_millis(300), ..Faults::default() });
    let ledger = Ledger::shared();
    server(&mut net, &ledger);
    net.run_for(Duration::from_secs(2));
    let done = client(&mut net, a, &ledger, vec![Op::Put { len: 200_000 }; 4], 2);
    assert!(net.run_while(Duration::from_secs(60), |_| *done.borrow()));
    let c = net.node(a).counters();
    assert!(c.tx_retransmits * 20 < c.tx_frames, "{c:?}");
}
