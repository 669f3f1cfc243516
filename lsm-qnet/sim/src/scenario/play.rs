//! A scenario is played: built, disturbed, calmed, finished, taken down.
//!
//! ```text
//!   0 ── misfortunes ──► calm ── every plan is finished ──► idle ── sessions closed ──► nothing is left
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::apps::{Client, Ledger, Server, SharedLedger, Station};
use crate::network::{HostId, Network};

use super::watch::Watch;
use super::{ClientPlan, Misfortune, Scenario};

/// Simulated time within which everything ends once it is calm.
const ENOUGH: Duration = Duration::from_secs(400);
/// Simulated time within which the dead are noticed: `conn_up_idle` and `conn_up_retries`.
const NOTICED: Duration = Duration::from_secs(30);
/// The most loss when it is calm, of 1000.
const CALM_LOSS: u32 = 50;

struct World {
    net: Network,
    ledger: SharedLedger,
    /// Whether the clients of each host are done.
    done: Vec<Vec<Rc<RefCell<bool>>>>,
    watch: Watch,
}

/// What came of a scenario, for whoever runs many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Messages that were answered.
    pub answered: usize,
    /// Messages whose sender got an error.
    pub failed: usize,
    /// Pulses that arrived.
    pub pulses: usize,
    /// Steps after which everything was checked.
    pub steps: u64,
}

/// Tells what was played when it fails.
struct Teller<'a>(&'a Scenario);

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && crate::seeds::is_repetition() {
            eprintln!("{:#?}", self.0);
        }
    }
}

/// Plays the scenario of a seed.
///
/// # Panics
/// When a promise is broken.
pub fn run(seed: u64) -> Summary {
    let scenario = Scenario::draw(seed);
    let _teller = Teller(&scenario);
    let mut world = World::build(&scenario);
    for &(at, misfortune) in &scenario.misfortunes {
        world.pass_until(at);
        world.suffer(&scenario, misfortune);
    }
    world.pass_until(scenario.calm);
    world.calm(&scenario);
    world.finish();
    world.take_down();
    let ledger = world.ledger.borrow();
    Summary {
        answered: ledger.answered(),
        failed: ledger.errors().len(),
        pulses: ledger.pulses(),
        steps: world.watch.steps(),
    }
}

impl World {
    fn build(scenario: &Scenario) -> World {
        let mut net = Network::new(scenario.seed);
        for (segment, wire) in scenario.wires.iter().enumerate() {
            net.set_wire(segment as u32, *wire);
        }
        let done = vec![Vec::new(); scenario.hosts.len()];
        for (i, plan) in scenario.hosts.iter().enumerate() {
            let host = net.add_with(&format!("host{i}"), |config| plan.settings.apply(config));
            for &(segment, mtu) in &plan.links {
                net.attach(host, segment);
                net.set_link_mtu(host, segment, mtu);
            }
        }
        let mut world = World { net, ledger: Ledger::shared(), done, watch: Watch::default() };
        for (i, plan) in scenario.hosts.iter().enumerate() {
            world.start_programs(scenario, i, &plan.clients);
        }
        world
    }

    /// Starts a host's programs, those before are gone.
    fn start_programs(&mut self, scenario: &Scenario, host: usize, plans: &[ClientPlan]) {
        self.done[host].clear();
        let mut clients = Vec::new();
        for plan in plans {
            let target = format!("host{}", plan.target);
            let salt = plan.target as u64;
            let (client, done) =
                Client::boxed(&self.ledger, &target, salt, plan.ops.clone(), plan.at_once, true);
            let start = self.net.now() + plan.start;
            clients.push(*client.starting(start, plan.eager));
            self.done[host].push(done);
        }
        let limit = scenario.hosts[host].settings.first_chunk;
        let server = Server::boxed(&self.ledger, host as u64).with_limit(limit);
        self.net.install(HostId(host), Station::boxed(server, clients));
    }

    /// Lets time pass up to `at` from the beginning, watching.
    fn pass_until(&mut self, at: Duration) {
        let passed = Duration::from_nanos(self.net.now().as_nanos());
        self.pass(at.saturating_sub(passed));
    }

    fn pass(&mut self, span: Duration) {
        let (watch, ledger) = (&mut self.watch, &self.ledger);
        self.net.run_while(span, |net| {
            watch.look(net, &ledger.borrow());
            false
        });
    }

    fn suffer(&mut self, scenario: &Scenario, misfortune: Misfortune) {
        let net = &mut self.net;
        match misfortune {
            Misfortune::OneWay(a, b) => net.cut(HostId(a), HostId(b)),
            Misfortune::Partition(a, b) => net.partition(HostId(a), HostId(b)),
            Misfortune::Heal => self.heal(scenario),
            Misfortune::Segment(segment, alive) => net.set_segment(segment, alive),
            Misfortune::Link(host, segment, true) => {
                // A host only gets back what it had.
                if let Some(&(_, mtu)) = scenario.hosts[host].links.iter().find(|(s, _)| *s == segment) {
                    net.attach(HostId(host), segment);
                    net.set_link_mtu(HostId(host), segment, mtu);
                }
            }
            Misfortune::Link(host, segment, false) => net.detach(HostId(host), segment),
            Misfortune::Mtu(host, segment, mtu) => {
                if net.segments(HostId(host)).contains(&segment) {
                    net.set_link_mtu(HostId(host), segment, mtu);
                }
            }
            Misfortune::Crash(host, span) => {
                self.done[host].clear();
                net.crash(HostId(host));
                self.pass(span);
                self.net.reboot(HostId(host));
                let plan = super::client(self.net.rng(), host, scenario.hosts.len());
                self.start_programs(scenario, host, &[plan]);
            }
            Misfortune::Freeze(host, span) => net.freeze(HostId(host), span),
            Misfortune::Clock(host, by) => net.step_clock(HostId(host), by),
            Misfortune::Weather(segment, faults) => {
                let wire = crate::Wire { faults, ..scenario.wires[segment as usize] };
                net.set_wire(segment, wire);
            }
        }
    }

    /// Everything that is broken works again.
    fn heal(&mut self, scenario: &Scenario) {
        self.net.heal();
        for segment in 0..scenario.wires.len() as u32 {
            self.net.set_segment(segment, true);
        }
        for (i, plan) in scenario.hosts.iter().enumerate() {
            let there = self.net.segments(HostId(i));
            for &(segment, mtu) in plan.links.iter().filter(|(segment, _)| !there.contains(segment)) {
                self.net.attach(HostId(i), segment);
                self.net.set_link_mtu(HostId(i), segment, mtu);
            }
        }
    }

    /// The wires stay what they are, but become good enough for everything to end.
    fn calm(&mut self, scenario: &Scenario) {
        self.heal(scenario);
        for (segment, wire) in scenario.wires.iter().enumerate() {
            let mut wire = *wire;
            wire.faults.loss = wire.faults.loss.min(CALM_LOSS);
            self.net.set_wire(segment as u32, wire);
        }
    }

    /// Every plan is finished, and everything that was needed for it is given back.
    fn finish(&mut self) {
        let (watch, ledger, done) = (&mut self.watch, &self.ledger, &self.done);
        let all = self.net.run_while(ENOUGH, |net| {
            watch.look(net, &ledger.borrow());
            done.iter().flatten().all(|done| *done.borrow())
        });
        assert!(all, "{} clients are not done at {}", self.unfinished(), self.net.now());
        self.pass(NOTICED);
        self.ledger.borrow().check();
        self.watch.nothing_is_used(&self.net, self.done.len());
    }

    fn unfinished(&self) -> usize {
        self.done.iter().flatten().filter(|done| !*done.borrow()).count()
    }

    fn take_down(&mut self) {
        for host in 0..self.done.len() {
            self.net.close_sessions(HostId(host));
        }
        self.pass(NOTICED);
        self.watch.nothing_is_left(&self.net, self.done.len());
    }
}
