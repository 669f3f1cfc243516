//! A node's session with its peer, as the node around it sees it: `NodeState`, with a second call that
//! waits for its confirmation (a candidate) as a state of its own.

use super::bench::{Bench, THEIRS, walk};
use crate::node::NodeState;
use crate::wire::lwl4::{Kind, Layer};
use crate::{ClientId, ClientInfo, Command};

/// The peer's id in another life.
const OTHER: u32 = 8888;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not a node we know.
    Unknown,
    /// An address is known; no session.
    Known,
    /// We called.
    Calling,
    /// The peer called, and was answered.
    Called,
    Up,
    /// Up, and the peer called anew.
    CalledAgain,
}

/// A new state of a node does not build without its name here.
fn name(bench: &Bench) -> State {
    let Some((_, peer)) = bench.node.peers.iter().next() else { return State::Unknown };
    match peer.state() {
        NodeState::Local => unreachable!("the own node is no peer"),
        _ if peer.candidate.is_some() => State::CalledAgain,
        NodeState::Known if !peer.listed => State::Unknown,
        NodeState::Known => State::Known,
        NodeState::Connecting if peer.session.as_ref().is_some_and(|s| s.remote_id == 0) => State::Calling,
        NodeState::Connecting => State::Called,
        NodeState::Up => State::Up,
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Announced,
    Wanted,
    Init,
    OtherInit,
    RemUp,
    TcsUp,
    Data,
    Down,
    RemDown,
    Silence,
    LinkDown,
    Shutdown,
}

const EVENTS: [Event; 12] = [
    Event::Announced,
    Event::Wanted,
    Event::Init,
    Event::OtherInit,
    Event::RemUp,
    Event::TcsUp,
    Event::Data,
    Event::Down,
    Event::RemDown,
    Event::Silence,
    Event::LinkDown,
    Event::Shutdown,
];

fn want(bench: &mut Bench) {
    let client = ClientId(bench.node.clients.by_client.len() as u64 + 1);
    let cred = ClientInfo::default();
    let known = bench.node.peers.iter().next().map(|(nd, _)| nd);
    if let Some(nd) = known {
        bench.command(Command::Connect { client, nd, pid: 1, chid: 1, cred }).expect("a free key");
    }
}

fn build(state: State) -> Bench {
    let mut bench = match state {
        State::Unknown => return Bench::new(),
        State::Up | State::CalledAgain => Bench::up(),
        State::Known | State::Calling | State::Called => {
            let mut bench = Bench::new();
            bench.announce(9);
            bench
        }
    };
    match state {
        State::Calling => want(&mut bench),
        State::Called => bench.init(THEIRS),
        State::CalledAgain => {
            bench.init(OTHER);
            bench.theirs = OTHER;
        }
        State::Unknown | State::Known | State::Up => {}
    }
    bench.outcome();
    // The answer to the announcement has gone.
    bench.pass(if matches!(state, State::Calling | State::Called | State::CalledAgain) { 0 } else { 160 });
    bench.outcome();
    assert_eq!(name(&bench), state);
    bench
}

fn act(bench: &mut Bench, event: Event) {
    match event {
        Event::Announced => bench.announce(9),
        Event::Wanted => want(bench),
        Event::Init => bench.init(bench.theirs),
        Event::OtherInit => bench.init(OTHER + 1),
        Event::RemUp => bench.say(Kind::TcsRemUp, Layer::Kif, &[]),
        Event::TcsUp => bench.say(Kind::TcsUp, Layer::Kif, &[]),
        Event::Data => bench.say(Kind::User, Layer::Nr, &[0]),
        Event::Down => bench.say(Kind::TcsDown, Layer::Kif, &[]),
        Event::RemDown => bench.say(Kind::TcsRemDown, Layer::Kif, &[]),
        Event::Silence => {
            bench.acks = false;
            bench.pass(19_000);
        }
        Event::LinkDown => bench.node.link_down(bench.now, super::bench::LINK),
        Event::Shutdown => bench.node.shutdown(bench.now),
    }
}

/// One row a state, one field an event, in the order of both lists: the state after, and what was told.
const TABLE: [&[&str]; 6] = [
    // Unknown
    &[
        "Known:",              // Announced
        "Unknown:",            // Wanted
        "Called: tcsremup",    // Init
        "Called: tcsremup",    // OtherInit
        "Unknown: tcsremdown", // RemUp
        "Unknown: tcsremdown", // TcsUp
        "Unknown: tcsremdown", // Data
        "Unknown: tcsremdown", // Down
        "Unknown:",            // RemDown
        "Unknown:",            // Silence
        "Unknown:",            // LinkDown
        "Unknown:",            // Shutdown
    ],
    // Known
    &[
        "Known:",            // Announced
        "Calling: tcsinit",  // Wanted
        "Called: tcsremup",  // Init
        "Called: tcsremup",  // OtherInit
        "Known: tcsremdown", // RemUp
        "Known: tcsremdown", // TcsUp
        "Known: tcsremdown", // Data
        "Known: tcsremdown", // Down
        "Known:",            // RemDown
        "Known:",            // Silence
        "Known:",            // LinkDown
        "Known:",            // Shutdown
    ],
    // Calling
    &[
        "Calling:",                               // Announced
        "Calling:",                               // Wanted
        "Called: tcsremup",                       // Init
        "Called: tcsremup",                       // OtherInit
        "Up: NodeUp tcsup connect",               // RemUp
        "Calling:",                               // TcsUp
        "Calling:",                               // Data
        "Unknown: ConnectFailed(265) tcsremdown", // Down
        "Unknown: ConnectFailed(265)",            // RemDown
        "Unknown: ConnectFailed(265)",            // Silence
        "Calling:",                               // LinkDown
        "Unknown: ConnectFailed(265)",            // Shutdown
    ],
    // Called
    &[
        "Called:",             // Announced
        "Called:",             // Wanted
        "Called: tcsremup",    // Init
        "Called: tcsremup",    // OtherInit
        "Up: NodeUp tcsup",    // RemUp
        "Up: NodeUp",          // TcsUp
        "Up: NodeUp pong",     // Data
        "Unknown: tcsremdown", // Down
        "Unknown:",            // RemDown
        "Unknown:",            // Silence
        "Called:",             // LinkDown
        "Unknown: tcsdown",    // Shutdown
    ],
    // Up
    &[
        "Up:",                                // Announced
        "Up: connect",                        // Wanted
        "Up: tcsremup",                       // Init
        "CalledAgain: tcsremup",              // OtherInit
        "Up: tcsup",                          // RemUp
        "Up:",                                // TcsUp
        "Up: pong",                           // Data
        "Known: NodeDown(Closed) tcsremdown", // Down
        "Known: NodeDown(Forgotten)",         // RemDown
        "Unknown: NodeDown(Silent) tcsdown",  // Silence
        "Up:",                                // LinkDown
        "Known: NodeDown(Shutdown) tcsdown",  // Shutdown
    ],
    // CalledAgain
    &[
        "CalledAgain:",                         // Announced
        "CalledAgain: connect",                 // Wanted
        "CalledAgain: tcsremup",                // Init
        "CalledAgain: tcsremup",                // OtherInit
        "Up: NodeDown(Forgotten) NodeUp tcsup", // RemUp
        "Up: NodeDown(Forgotten) NodeUp",       // TcsUp
        "Up: NodeDown(Forgotten) NodeUp pong",  // Data
        "Up: tcsremdown",                       // Down
        "Up:",                                  // RemDown
        "Unknown: NodeDown(Silent) tcsdown",    // Silence
        "CalledAgain:",                         // LinkDown
        "Known: NodeDown(Shutdown) tcsdown",    // Shutdown
    ],
];

#[test]
fn every_state_of_a_node_answers_every_event_as_the_table_says() {
    let states = [State::Unknown, State::Known, State::Calling, State::Called, State::Up, State::CalledAgain];
    walk(&states, &EVENTS, &TABLE, |state, event| {
        let mut bench = build(state);
        act(&mut bench, event);
        let told = bench.outcome();
        format!("{:?}: {told}", name(&bench)).trim_end().to_owned()
    });
}
