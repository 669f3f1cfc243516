//! What the failure of links costs, in simulated time, with two to four of them (docs/protocol.md §8); and what else happens
//! once in the life of a session: its packets become shorter, its numbers wrap.
//!
//! The bounds are the project's own: a busy session pauses for less than 50 ms; the first message after a silent loss arrives
//! within 100 ms; nothing is lost or doubled (the ledger sees to that).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use qnet_proto::{Config, PathState};
use qnet_sim::apps::{Client, Ledger, Op, Server, SharedLedger};
use qnet_sim::{Faults, HostId, Network, Wire};

struct World {
    net: Network,
    a: HostId,
    b: HostId,
    ledger: SharedLedger,
}

impl World {
    /// Two hosts joined by so many links of 500 Mbit/s, the second with a server; all paths are known.
    fn with_links(seed: u64, links: u32) -> World {
        let mut net = Network::new(seed);
        let ledger = Ledger::shared();
        let set = move |config: &mut Config| config.max_num_l4s = links.max(2);
        let (a, b) = (net.add_with("alonzo", set), net.add_with("server", set));
        let faults = Faults { delay: Duration::from_micros(100), ..Faults::default() };
        for segment in 0..links {
            net.set_wire(segment, Wire { rate: Some(500_000_000), queue: 200, faults });
            if segment > 0 {
                net.attach(a, segment);
                net.attach(b, segment);
            }
        }
        net.install(b, Server::boxed(&ledger, 3));
        net.run_for(Duration::from_secs(1));
        World { net, a, b, ledger }
    }

    fn start(&mut self, plan: Vec<Op>) -> Rc<RefCell<bool>> {
        let (client, done) = Client::boxed(&self.ledger, "server", 3, plan, 8, false);
        self.net.install(self.a, client);
        done
    }

    /// Runs a plan to its end; how long it took.
    fn run(&mut self, plan: Vec<Op>) -> Duration {
        let begin = self.net.now();
        let done = self.start(plan);
        assert!(self.net.run_while(Duration::from_secs(100), |_| *done.borrow()), "not done");
        self.ledger.borrow().check();
        self.net.now().since(begin)
    }

    /// The longest time without an answer from now to the end of the plan.
    fn longest_pause(&mut self, done: &Rc<RefCell<bool>>) -> Duration {
        let ledger = &self.ledger;
        let (mut answered, mut since, mut longest) =
            (ledger.borrow().answered(), self.net.now(), Duration::ZERO);
        let over = self.net.run_while(Duration::from_secs(100), |net| {
            if ledger.borrow().answered() != answered {
                longest = longest.max(net.now().since(since));
                (answered, since) = (ledger.borrow().answered(), net.now());
            }
            *done.borrow()
        });
        assert!(over, "not done");
        longest
    }

    fn nothing_failed(&self) {
        self.ledger.borrow().check();
        assert_eq!(self.ledger.borrow().errors(), []);
        let downs = [self.a, self.b].map(|host| self.net.node(host).counters().sessions_down);
        assert_eq!(downs, [0, 0]);
    }
}

/// Every number of links, and each of them.
fn each_of_each() -> impl Iterator<Item = (u32, u32)> {
    (2..=4).flat_map(|links| (0..links).map(move |one| (links, one)))
}

#[test]
fn a_busy_session_pauses_for_less_than_50_ms_whichever_link_dies() {
    for (links, dead) in each_of_each() {
        let mut world = World::with_links(1, links);
        let done = world.start(vec![Op::Echo { len: 2000 }; 2500]);
        world.net.run_for(Duration::from_millis(60));
        assert!(!*done.borrow());
        world.net.set_segment(dead, false);
        let pause = world.longest_pause(&done);
        assert!(pause < Duration::from_millis(50), "{dead} of {links}: {pause:?}");
        world.nothing_failed();
    }
}

#[test]
fn a_busy_session_outlives_all_links_but_one_dying_one_after_the_other() {
    for links in 2..=4 {
        let mut world = World::with_links(2, links);
        let done = world.start(vec![Op::Echo { len: 2000 }; 5000]);
        for dead in 1..links {
            world.net.run_for(Duration::from_millis(30));
            world.net.set_segment(dead, false);
        }
        assert!(!*done.borrow());
        let pause = world.longest_pause(&done);
        assert!(pause < Duration::from_millis(50), "{links}: {pause:?}");
        world.nothing_failed();
    }
}

#[test]
fn the_first_message_after_a_silent_loss_arrives_within_100_ms_whichever_link_died() {
    for (links, dead) in each_of_each() {
        let mut world = World::with_links(3, links);
        world.run(vec![Op::Echo { len: 100 }; 40]);
        world.net.run_for(Duration::from_secs(3));
        world.net.set_segment(dead, false);
        let took = world.run(vec![Op::Echo { len: 100 }]);
        assert!(took < Duration::from_millis(100), "{dead} of {links}: {took:?}");
        world.nothing_failed();
    }
}

#[test]
fn a_link_that_carries_one_way_only_is_left_and_the_session_goes_on() {
    for (links, bad) in each_of_each() {
        for server_is_mute in [false, true] {
            let mut world = World::with_links(4, links);
            let done = world.start(vec![Op::Echo { len: 2000 }; 2500]);
            world.net.run_for(Duration::from_millis(60));
            let (a, b) = (world.a, world.b);
            world.net.mute(if server_is_mute { b } else { a }, bad, true);
            let pause = world.longest_pause(&done);
            assert!(pause < Duration::from_millis(50), "{bad} of {links}, {server_is_mute}: {pause:?}");
            world.net.run_for(Duration::from_secs(13));
            for host in [a, b] {
                let view = world.net.node(host).nodes().nth(1).expect("known");
                let up = view.paths.iter().filter(|path| path.state == PathState::Up).count();
                assert_eq!(up, links as usize - 1, "neither side trusts it: {:?}", view.paths);
            }
            world.net.mute(if server_is_mute { b } else { a }, bad, false);
            world.net.run_for(Duration::from_secs(3));
            let view = world.net.node(a).nodes().nth(1).expect("known");
            assert!(view.paths.iter().all(|path| path.state == PathState::Up), "{:?}", view.paths);
            world.nothing_failed();
        }
    }
}

#[test]
fn load_balance_uses_what_all_links_carry() {
    let time = |links| World::with_links(5, links).run(vec![Op::Put { len: 1 << 20 }; 60]).as_secs_f64();
    let one = time(1);
    for links in 2..=4 {
        let gain = one / time(links);
        assert!(gain >= 0.9 * f64::from(links), "{links} links carry {gain:.2} times as much as one");
    }
}

#[test]
fn what_was_cut_for_a_jumbo_link_that_died_goes_over_a_narrower_one() {
    let mut net = Network::new(6);
    let ledger = Ledger::shared();
    let set = |config: &mut Config| config.mtu_en = 9000;
    let (a, b) = (net.add_with("alonzo", set), net.add_with("server", set));
    for host in [a, b] {
        net.set_link_mtu(host, 0, 9000);
    }
    net.set_wire(0, Wire { rate: Some(20_000_000), ..Wire::default() });
    net.install(b, Server::boxed(&ledger, 3));
    net.run_for(Duration::from_secs(1));
    let (client, done) = Client::boxed(&ledger, "server", 3, vec![Op::Echo { len: 200_000 }; 12], 6, false);
    net.install(a, client);
    // Long messages are under way when the narrow link comes and the wide one falls silent.
    net.run_for(Duration::from_millis(100));
    for host in [a, b] {
        net.attach(host, 1);
        net.set_link_mtu(host, 1, 1500);
    }
    net.run_for(Duration::from_millis(200));
    net.set_segment(0, false);
    assert!(!*done.borrow());
    assert!(net.run_while(Duration::from_secs(60), |_| *done.borrow()), "not done");
    ledger.borrow().check();
    assert_eq!(ledger.borrow().errors(), []);
    assert_eq!(net.node(a).counters().sessions_down, 0);
}

#[test]
fn the_number_of_messages_wraps_in_the_middle_of_everything() {
    for (seed, extensions) in [(7, true), (8, false)] {
        let mut net = Network::new(seed);
        let ledger = Ledger::shared();
        let set = move |config: &mut Config| {
            config.first_message = u32::MAX - 100;
            config.extensions = extensions;
            config.conn_est_retries = 10;
        };
        let (a, b) = (net.add_with("alonzo", set), net.add_with("server", set));
        net.install(b, Server::boxed(&ledger, 3));
        let faults = Faults { loss: 30, reorder: 50, duplicate: 20, ..Faults::default() };
        net.set_faults(faults);
        net.run_for(Duration::from_secs(1));
        let plan = (0..300).map(|i| match i % 3 {
            0 => Op::Echo { len: 20_000 },
            1 => Op::Pulse,
            _ => Op::Read { offset: i, len: 5000 },
        });
        let (client, done) = Client::boxed(&ledger, "server", 3, plan.collect(), 6, false);
        net.install(a, client);
        assert!(net.run_while(Duration::from_secs(100), |_| *done.borrow()), "not done");
        net.run_for(Duration::from_secs(2));
        ledger.borrow().check();
        assert_eq!(ledger.borrow().errors(), []);
        assert_eq!((ledger.borrow().answered(), ledger.borrow().pulses()), (200, 100));
    }
}
