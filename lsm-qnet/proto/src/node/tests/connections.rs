//! The client's side of a connection: `ClientState`.

use super::bench::{Bench, walk};
use crate::node::tables::ClientState;
use crate::sink::Outlet;
use crate::wire::kif::Kif;
use crate::wire::lwl4::{Kind, Layer};
use crate::{Body, ClientId, ClientInfo, Command, Handle, PulseInfo, VtidInfo};

const CLIENT: ClientId = ClientId(1);

#[derive(Clone, Copy, Debug)]
enum State {
    Gone,
    Attached,
    Connecting,
    Abandoned,
    Open,
}

/// The connection's state; a new one does not build without its name here.
fn name(state: Option<&ClientState>) -> State {
    match state {
        None => State::Gone,
        Some(ClientState::Attached { .. }) => State::Attached,
        Some(ClientState::Connecting { .. }) => State::Connecting,
        Some(ClientState::Abandoned { .. }) => State::Abandoned,
        Some(ClientState::Open { .. }) => State::Open,
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Connect,
    Attach,
    Send,
    Pulse,
    Leave,
    Success,
    Fail,
    Death,
    SessionDown,
}

const EVENTS: [Event; 9] = [
    Event::Connect,
    Event::Attach,
    Event::Send,
    Event::Pulse,
    Event::Leave,
    Event::Success,
    Event::Fail,
    Event::Death,
    Event::SessionDown,
];

fn connect(bench: &mut Bench) -> String {
    let nd = bench.nd();
    let cred = ClientInfo::default();
    refusal(bench.command(Command::Connect { client: CLIENT, nd, pid: 1, chid: 1, cred }))
}

fn attach(bench: &mut Bench) -> String {
    let nd = bench.nd();
    let cred = ClientInfo::default();
    refusal(bench.command(Command::Attach { client: CLIENT, nd, pid: 1, chid: 1, cred }))
}

fn refusal(result: Result<(), crate::CommandError>) -> String {
    result.err().map(|error| format!("{error:?} ")).unwrap_or_default()
}

/// A bench whose connection is in this state, and the connection's number.
fn build(state: State) -> (Bench, u32) {
    let mut bench = Bench::up();
    if matches!(state, State::Gone) {
        return (bench, 0);
    }
    if matches!(state, State::Attached) {
        attach(&mut bench)
    } else {
        connect(&mut bench)
    };
    let number = bench.node.clients.by_client[&CLIENT];
    match state {
        State::Gone | State::Attached | State::Connecting => {}
        State::Abandoned => bench.command(Command::Disconnect { client: CLIENT }).expect("it is there"),
        State::Open => success(&mut bench, number),
    }
    bench.outcome();
    (bench, number)
}

fn success(bench: &mut Bench, client_id: u32) {
    bench.kif(&Kif::ConnectSuccess { version: 1, server_id: 5, client_id, scoid: 1, nbytes: 100 }, &[]);
}

fn act(bench: &mut Bench, number: u32, event: Event) -> String {
    match event {
        Event::Connect => return connect(bench),
        Event::Attach => return attach(bench),
        Event::Send => {
            let info = VtidInfo { srcmsglen: 2, ..VtidInfo::default() };
            let first = Body::from(vec![1, 2]);
            let (handle, reply) = (Handle(1), Outlet::nowhere());
            return refusal(bench.command(Command::Send { client: CLIENT, handle, info, first, reply }));
        }
        Event::Pulse => {
            let (info, pulse) = (VtidInfo::default(), PulseInfo::default());
            return refusal(bench.command(Command::Pulse { client: CLIENT, info, pulse }));
        }
        Event::Leave => return refusal(bench.command(Command::Disconnect { client: CLIENT })),
        Event::Success => success(bench, number),
        Event::Fail => bench.kif(&Kif::ConnectFail { version: 1, client_id: number, status: 3 }, &[]),
        Event::Death => bench.kif(&Kif::ConnectDeath { client_id: number }, &[]),
        Event::SessionDown => bench.say(Kind::TcsDown, Layer::Kif, &[]),
    }
    String::new()
}

/// One row a state, one field an event, in the order of both lists: the state after, and what was told.
const TABLE: [&[&str]; 5] = [
    // Gone
    &[
        "Connecting: connect",               // Connect
        "Attached:",                         // Attach
        "Gone: NoSuchConnection",            // Send
        "Gone: NoSuchConnection",            // Pulse
        "Gone: NoSuchConnection",            // Leave
        "Gone: disconnect",                  // Success
        "Gone:",                             // Fail
        "Gone:",                             // Death
        "Gone: NodeDown(Closed) tcsremdown", // SessionDown
    ],
    // Attached
    &[
        "Attached: KeyInUse",                    // Connect
        "Attached: KeyInUse",                    // Attach
        "Connecting: connect",                   // Send
        "Connecting: connect",                   // Pulse
        "Gone:",                                 // Leave
        "Attached: disconnect",                  // Success
        "Attached:",                             // Fail
        "Attached:",                             // Death
        "Attached: NodeDown(Closed) tcsremdown", // SessionDown
    ],
    // Connecting
    &[
        "Connecting: KeyInUse",                                 // Connect
        "Connecting: KeyInUse",                                 // Attach
        "Connecting:",                                          // Send
        "Connecting:",                                          // Pulse
        "Abandoned:",                                           // Leave
        "Open: Connected",                                      // Success
        "Gone: ConnectFailed(3)",                               // Fail
        "Gone: ConnectFailed(3)",                               // Death
        "Gone: ConnectFailed(264) NodeDown(Closed) tcsremdown", // SessionDown
    ],
    // Abandoned
    &[
        "Connecting: connect",               // Connect
        "Attached:",                         // Attach
        "Abandoned: NoSuchConnection",       // Send
        "Abandoned: NoSuchConnection",       // Pulse
        "Abandoned: NoSuchConnection",       // Leave
        "Gone: disconnect",                  // Success
        "Gone:",                             // Fail
        "Gone:",                             // Death
        "Gone: NodeDown(Closed) tcsremdown", // SessionDown
    ],
    // Open
    &[
        "Open: KeyInUse",                          // Connect
        "Open: KeyInUse",                          // Attach
        "Open: msgsend",                           // Send
        "Open: pulse",                             // Pulse
        "Gone: disconnect",                        // Leave
        "Open:",                                   // Success
        "Open:",                                   // Fail
        "Gone: Death",                             // Death
        "Gone: Death NodeDown(Closed) tcsremdown", // SessionDown
    ],
];

#[test]
fn every_state_of_a_connection_answers_every_event_as_the_table_says() {
    let states = [State::Gone, State::Attached, State::Connecting, State::Abandoned, State::Open];
    walk(&states, &EVENTS, &TABLE, |state, event| {
        let (mut bench, number) = build(state);
        let refused = act(&mut bench, number, event);
        let told = bench.outcome();
        // A key that was used again names another connection.
        let number = bench.node.clients.by_client.get(&CLIENT).copied().unwrap_or(number);
        let after = name(bench.node.clients.connections.get(number).map(|client| &client.state));
        format!("{after:?}: {refused}{told}").trim_end().to_owned()
    });
}
