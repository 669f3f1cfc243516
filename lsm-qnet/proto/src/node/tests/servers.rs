//! The server's side: a connection (`ServerState`), and a message that waits for its reply.

use super::bench::{Bench, walk};
use crate::node::tables::ServerState;
use crate::sink::Outlet;
use crate::wire::kif::{Connect, Kif, MsgSend, Xfer};
use crate::wire::lwl4::{Kind, Layer};
use crate::{Body, Command, CommandError, Errno, PulseInfo, Rcv, ServerId, VtidInfo};

/// Where a connection and its message stand.
#[derive(Clone, Copy, Debug)]
enum State {
    Gone,
    /// The caller was asked.
    Asked,
    Open,
    /// Open, and a message waits for its reply.
    Received,
    /// And the server reads from it.
    Reading,
}

/// A new state of a connection does not build without its name here.
fn name(bench: &Bench, server: u32) -> State {
    let servers = &bench.node.servers;
    match servers.connections.get(server).map(|server| &server.state) {
        None => State::Gone,
        Some(ServerState::Asked { .. }) => State::Asked,
        Some(ServerState::Open) if servers.reads.len() > 0 => State::Reading,
        Some(ServerState::Open) if servers.received.len() > 0 => State::Received,
        Some(ServerState::Open) => State::Open,
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Connect,
    Send,
    Pulse,
    Unblock,
    ReadXfer,
    ReadError,
    Disconnect,
    SessionDown,
    Accept,
    Reject,
    Read,
    Write,
    Reply,
    Error,
    Die,
}

const EVENTS: [Event; 15] = [
    Event::Connect,
    Event::Send,
    Event::Pulse,
    Event::Unblock,
    Event::ReadXfer,
    Event::ReadError,
    Event::Disconnect,
    Event::SessionDown,
    Event::Accept,
    Event::Reject,
    Event::Read,
    Event::Write,
    Event::Reply,
    Event::Error,
    Event::Die,
];

/// The numbers of what is open.
#[derive(Clone, Copy, Default)]
struct Numbers {
    server: u32,
    rcv: u32,
    read: u32,
}

fn build(state: State) -> (Bench, Numbers) {
    let mut bench = Bench::up();
    let mut numbers = Numbers { server: 4242, rcv: 4243, read: 4244 };
    let steps = match state {
        State::Gone => 0,
        State::Asked => 1,
        State::Open => 2,
        State::Received => 3,
        State::Reading => 4,
    };
    for event in [Event::Connect, Event::Accept, Event::Send, Event::Read].into_iter().take(steps) {
        act(&mut bench, numbers, event);
        bench.outcome();
        let servers = &bench.node.servers;
        numbers.server = servers.connections.iter().next().map_or(numbers.server, |(n, _)| n);
        numbers.rcv = servers.received.iter().next().map_or(numbers.rcv, |(n, _)| n);
        numbers.read = servers.reads.iter().next().map_or(numbers.read, |(n, _)| n);
    }
    (bench, numbers)
}

fn refusal(result: Result<(), CommandError>) -> String {
    result.err().map(|error| format!("{error:?} ")).unwrap_or_default()
}

fn act(bench: &mut Bench, Numbers { server, rcv, read }: Numbers, event: Event) -> String {
    let xfer = |status, nbytes| Xfer { status, handle: read, offset: 2, nbytes };
    let (server_id, client_handle) = (server, 66);
    let (server, rcv) = (ServerId(server), Rcv(rcv));
    let info = VtidInfo { tid: 1, srcmsglen: 10, dstmsglen: 10, ..VtidInfo::default() };
    match event {
        Event::Connect => {
            let (server_pid, server_chid, client_id, client_pid) = (1, 1, 55, 77);
            let connect = Connect { version: 1, server_pid, server_chid, client_id, client_pid, cred: None };
            bench.kif(&Kif::Connect(connect), &[]);
        }
        Event::Send => {
            let send = MsgSend { server_id, client_handle, info, nbytes: 2 };
            bench.kif(&Kif::MsgSend(send), b"ab");
        }
        Event::Pulse => {
            let pulse = PulseInfo::default();
            let (kind, scoid, cred) = ((0, 0), 1, None);
            bench.kif(&Kif::Pulse { server_id, client_handle, info, pulse, kind, scoid, cred }, &[]);
        }
        Event::Unblock => bench.kif(&Kif::Unblock { server_id, client_handle, tid: 1 }, &[]),
        Event::ReadXfer => bench.kif(&Kif::MsgReadXfer(xfer(0, 4)), b"cdef"),
        Event::ReadError => bench.kif(&Kif::MsgReadError(xfer(14, 0)), &[]),
        Event::Disconnect => bench.kif(&Kif::Disconnect { server_id }, &[]),
        Event::SessionDown => bench.say(Kind::TcsDown, Layer::Kif, &[]),
        Event::Accept => return refusal(bench.command(Command::Accept { server, scoid: 1, nbytes: 100 })),
        Event::Reject => return refusal(bench.command(Command::Reject { server, errno: Errno::ESRCH })),
        Event::Read => {
            let into = Outlet::nowhere();
            return refusal(bench.command(Command::Read { rcv, offset: 2, nbytes: 4, into }));
        }
        Event::Write => {
            let data = Body::from(vec![1]);
            return refusal(bench.command(Command::Write { rcv, offset: 0, data }));
        }
        Event::Reply => {
            let data = Body::from(vec![1]);
            return refusal(bench.command(Command::Reply { rcv, status: 0, data }));
        }
        Event::Error => return refusal(bench.command(Command::Error { rcv, errno: Errno::EINTR })),
        Event::Die => return refusal(bench.command(Command::ConnectDeath { server })),
    }
    String::new()
}

/// One row a state, one field an event, in the order of both lists: the state after, and what was told.
const TABLE: [&[&str]; 5] = [
    // Gone
    &[
        "Asked: Connect",                    // Connect
        "Gone: msgerror",                    // Send
        "Gone:",                             // Pulse
        "Gone:",                             // Unblock
        "Gone:",                             // ReadXfer
        "Gone:",                             // ReadError
        "Gone:",                             // Disconnect
        "Gone: NodeDown(Closed) tcsremdown", // SessionDown
        "Gone: NoSuchConnection",            // Accept
        "Gone: NoSuchConnection",            // Reject
        "Gone: NoSuchMessage",               // Read
        "Gone: NoSuchMessage",               // Write
        "Gone: NoSuchMessage",               // Reply
        "Gone: NoSuchMessage",               // Error
        "Gone: NoSuchConnection",            // Die
    ],
    // Asked
    &[
        "Asked: Connect",                               // Connect
        "Asked: msgerror",                              // Send
        "Asked:",                                       // Pulse
        "Asked:",                                       // Unblock
        "Asked:",                                       // ReadXfer
        "Asked:",                                       // ReadError
        "Gone: Disconnect",                             // Disconnect
        "Gone: Disconnect NodeDown(Closed) tcsremdown", // SessionDown
        "Open: connectsuccess",                         // Accept
        "Gone: connectfail",                            // Reject
        "Asked: NoSuchMessage",                         // Read
        "Asked: NoSuchMessage",                         // Write
        "Asked: NoSuchMessage",                         // Reply
        "Asked: NoSuchMessage",                         // Error
        "Gone: connectdeath",                           // Die
    ],
    // Open
    &[
        "Open: Connect",                                // Connect
        "Received: Message",                            // Send
        "Open: Pulse",                                  // Pulse
        "Open:",                                        // Unblock
        "Open:",                                        // ReadXfer
        "Open:",                                        // ReadError
        "Gone: Disconnect",                             // Disconnect
        "Gone: Disconnect NodeDown(Closed) tcsremdown", // SessionDown
        "Open: NoSuchConnection",                       // Accept
        "Open: NoSuchConnection",                       // Reject
        "Open: NoSuchMessage",                          // Read
        "Open: NoSuchMessage",                          // Write
        "Open: NoSuchMessage",                          // Reply
        "Open: NoSuchMessage",                          // Error
        "Gone: connectdeath",                           // Die
    ],
    // Received
    &[
        "Received: Connect",                            // Connect
        "Received: Message",                            // Send
        "Received: Pulse",                              // Pulse
        "Received: Unblock",                            // Unblock
        "Received:",                                    // ReadXfer
        "Received:",                                    // ReadError
        "Gone: Disconnect",                             // Disconnect
        "Gone: Disconnect NodeDown(Closed) tcsremdown", // SessionDown
        "Received: NoSuchConnection",                   // Accept
        "Received: NoSuchConnection",                   // Reject
        "Reading: msgread",                             // Read
        "Received: msgwrite",                           // Write
        "Open: msgreply",                               // Reply
        "Open: msgerror",                               // Error
        "Gone: msgerror connectdeath",                  // Die
    ],
    // Reading
    &[
        "Reading: Connect",                             // Connect
        "Reading: Message",                             // Send
        "Reading: Pulse",                               // Pulse
        "Reading: Unblock",                             // Unblock
        "Received: ReadDone",                           // ReadXfer
        "Received: ReadError(14)",                      // ReadError
        "Gone: Disconnect",                             // Disconnect
        "Gone: Disconnect NodeDown(Closed) tcsremdown", // SessionDown
        "Reading: NoSuchConnection",                    // Accept
        "Reading: NoSuchConnection",                    // Reject
        "Reading: msgread",                             // Read
        "Reading: msgwrite",                            // Write
        "Open: msgreply",                               // Reply
        "Open: msgerror",                               // Error
        "Gone: msgerror connectdeath",                  // Die
    ],
];

#[test]
fn every_state_of_a_served_connection_answers_every_event_as_the_table_says() {
    let states = [State::Gone, State::Asked, State::Open, State::Received, State::Reading];
    walk(&states, &EVENTS, &TABLE, |state, event| {
        let (mut bench, mut numbers) = build(state);
        let refused = act(&mut bench, numbers, event);
        let told = bench.outcome();
        if matches!(state, State::Gone) {
            numbers.server = bench.node.servers.connections.iter().next().map_or(0, |(n, _)| n);
        }
        let after = name(&bench, numbers.server);
        format!("{after:?}: {refused}{told}").trim_end().to_owned()
    });
}
