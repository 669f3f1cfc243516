//! A name that is looked for: which resolver is asked (`Resolver`), and who waits.

use super::bench::{Bench, addr, walk};
use crate::config::{Directory, Resolver, Zone};
use crate::node::Node;
use crate::{Command, Config, Domain, Instant, LinkInfo, NodeName};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody looks for it.
    Idle,
    /// The LAN is asked, and will be asked again.
    Lan,
    /// The LAN is asked for the last time.
    LastOnLan,
    /// Somebody outside of the core is asked.
    External,
}

/// A new kind of resolver does not build without its name here.
fn name(bench: &Bench) -> State {
    let Some(lookup) = bench.node.lookups.values().next() else { return State::Idle };
    match lookup.asks() {
        None => State::Idle,
        Some((Resolver::Lan, tries)) if tries < bench.node.config.res_retries => State::Lan,
        Some((Resolver::Lan, _)) => State::LastOnLan,
        Some((Resolver::External(_), _)) => State::External,
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    AskedAgain,
    Announced,
    Tick,
    LongTime,
    Nobody,
    Somebody,
    LinkDown,
}

const EVENTS: [Event; 7] = [
    Event::AskedAgain,
    Event::Announced,
    Event::Tick,
    Event::LongTime,
    Event::Nobody,
    Event::Somebody,
    Event::LinkDown,
];

/// A node that asks the LAN (one more time after the first), then resolver 3.
fn node() -> Bench {
    let mut bench = Bench::new();
    let name = NodeName::new("alonzo").expect("a good name");
    let mut config = Config::new(name, Domain::default(), 77, 1);
    let resolvers = vec![Resolver::Lan, Resolver::External(3)];
    config.directories = vec![Directory { zones: vec![Zone { domain: None, resolvers }] }];
    config.res_retries = 1;
    bench.now = Instant::from_millis(1);
    bench.node = Node::new(config, bench.now);
    let info = LinkInfo { addr: addr(1), mtu: 1500, name: "en0".into() };
    bench.node.link_up(bench.now, super::bench::LINK, info);
    bench.outcome();
    bench
}

fn build(state: State) -> Bench {
    let mut bench = node();
    if state != State::Idle {
        ask(&mut bench);
        bench.outcome();
    }
    let ticks = match state {
        State::Idle | State::Lan => 0,
        State::LastOnLan => 1,
        State::External => 2,
    };
    for _ in 0..ticks {
        bench.pass(200);
        bench.outcome();
    }
    assert_eq!(name(&bench), state);
    bench
}

fn ask(bench: &mut Bench) {
    bench.command(Command::Resolve { token: 1, name: "joseph".into() }).expect("a good name");
}

fn act(bench: &mut Bench, event: Event) {
    let lookup = bench.node.lookups.keys().next().copied().unwrap_or(99);
    match event {
        Event::AskedAgain => ask(bench),
        Event::Announced => bench.announce(9),
        Event::Tick => bench.pass(200),
        Event::LongTime => bench.pass(11_000),
        Event::Nobody => drop(bench.command(Command::Found { lookup, addresses: Vec::new() })),
        Event::Somebody => drop(bench.command(Command::Found { lookup, addresses: vec![addr(9)] })),
        Event::LinkDown => bench.node.link_down(bench.now, super::bench::LINK),
    }
}

/// One row a state, one field an event, in the order of both lists: the state after, and what was told.
const TABLE: [&[&str]; 4] = [
    // Idle
    &[
        "Lan: ask", // AskedAgain
        "Idle:",    // Announced
        "Idle:",    // Tick
        "Idle:",    // LongTime
        "Idle:",    // Nobody
        "Idle:",    // Somebody
        "Idle:",    // LinkDown
    ],
    // Lan
    &[
        "Lan:",                        // AskedAgain
        "Idle: Resolved",              // Announced
        "LastOnLan: ask",              // Tick
        "Idle: Ask ResolveFailed ask", // LongTime
        "Lan:",                        // Nobody
        "Lan:",                        // Somebody
        "Lan:",                        // LinkDown
    ],
    // LastOnLan
    &[
        "LastOnLan:",              // AskedAgain
        "Idle: Resolved",          // Announced
        "External: Ask",           // Tick
        "Idle: Ask ResolveFailed", // LongTime
        "LastOnLan:",              // Nobody
        "LastOnLan:",              // Somebody
        "LastOnLan:",              // LinkDown
    ],
    // External
    &[
        "External:",           // AskedAgain
        "Idle: Resolved",      // Announced
        "External:",           // Tick
        "Idle: ResolveFailed", // LongTime
        "Idle: ResolveFailed", // Nobody
        "Idle: Resolved",      // Somebody
        "External:",           // LinkDown
    ],
];

#[test]
fn every_state_of_a_lookup_answers_every_event_as_the_table_says() {
    let states = [State::Idle, State::Lan, State::LastOnLan, State::External];
    walk(&states, &EVENTS, &TABLE, |state, event| {
        let mut bench = build(state);
        act(&mut bench, event);
        let told = bench.outcome();
        format!("{:?}: {told}", name(&bench)).trim_end().to_owned()
    });
}
