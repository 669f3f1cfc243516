//! The client's side of a transaction: `SendState`.

use super::bench::{Bench, walk};
use crate::node::tables::SendState;
use crate::sink::Outlet;
use crate::wire::kif::{Kif, Xfer};
use crate::wire::lwl4::{Kind, Layer};
use crate::{Body, ClientId, ClientInfo, Command, CommandError, Errno, Handle, VtidInfo};

const CLIENT: ClientId = ClientId(1);
const HANDLE: Handle = Handle(7);

#[derive(Clone, Copy, Debug)]
enum State {
    Gone,
    Held,
    Sent,
    Unblocking,
}

/// The transaction's state; a new one does not build without its name here.
fn name(state: Option<SendState>) -> State {
    match state {
        None => State::Gone,
        Some(SendState::Held) => State::Held,
        Some(SendState::Sent) => State::Sent,
        Some(SendState::Unblocking) => State::Unblocking,
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Unblock,
    ReadData,
    ReadError,
    Room,
    Read,
    ReadNothing,
    Write,
    Reply,
    Error,
    Accepted,
    Refused,
    Death,
    SessionDown,
}

const EVENTS: [Event; 13] = [
    Event::Unblock,
    Event::ReadData,
    Event::ReadError,
    Event::Room,
    Event::Read,
    Event::ReadNothing,
    Event::Write,
    Event::Reply,
    Event::Error,
    Event::Accepted,
    Event::Refused,
    Event::Death,
    Event::SessionDown,
];

/// A bench with a transaction in this state, the numbers of its connection and of itself.
fn build(state: State) -> (Bench, u32, u32) {
    let mut bench = Bench::up();
    let (nd, cred) = (bench.nd(), ClientInfo::default());
    bench.command(Command::Connect { client: CLIENT, nd, pid: 1, chid: 1, cred }).expect("a free key");
    let connection = bench.node.clients.by_client[&CLIENT];
    if !matches!(state, State::Held) {
        accepted(&mut bench, connection);
    }
    if !matches!(state, State::Gone) {
        let info = VtidInfo { tid: 1, srcmsglen: 10, dstmsglen: 10, ..VtidInfo::default() };
        let (first, reply) = (Body::from(vec![1, 2]), Outlet::nowhere());
        bench
            .command(Command::Send { client: CLIENT, handle: HANDLE, info, first, reply })
            .expect("a free key");
    }
    bench.outcome();
    if matches!(state, State::Unblocking) {
        bench.command(Command::Unblock { handle: HANDLE }).expect("it is there");
        bench.outcome();
    }
    let number = bench.node.clients.by_handle.get(&HANDLE).copied().unwrap_or(12345);
    (bench, connection, number)
}

fn accepted(bench: &mut Bench, client_id: u32) {
    bench.kif(&Kif::ConnectSuccess { version: 1, server_id: 5, client_id, scoid: 1, nbytes: 100 }, &[]);
}

fn refusal(result: Result<(), CommandError>) -> String {
    result.err().map(|error| format!("{error:?} ")).unwrap_or_default()
}

fn act(bench: &mut Bench, connection: u32, handle: u32, event: Event) -> String {
    let xfer = |status, nbytes| Xfer { status, handle, offset: 0, nbytes };
    let read = |nbytes| Kif::MsgRead { msgread_handle: 3, client_handle: handle, offset: 2, nbytes };
    match event {
        Event::Unblock => return refusal(bench.command(Command::Unblock { handle: HANDLE })),
        Event::ReadData => {
            let data = Body::from(vec![0; 4]);
            return refusal(bench.command(Command::ReadData { handle: HANDLE, offset: 2, data }));
        }
        Event::ReadError => {
            let errno = Errno::EINTR;
            return refusal(bench.command(Command::ReadError { handle: HANDLE, offset: 2, errno }));
        }
        Event::Room => return refusal(bench.command(Command::Room { handle: HANDLE })),
        Event::Read => bench.kif(&read(4), &[]),
        Event::ReadNothing => bench.kif(&read(0), &[]),
        Event::Write => bench.kif(&Kif::MsgWrite(xfer(0, 2)), b"ab"),
        Event::Reply => bench.kif(&Kif::MsgReply(xfer(9, 2)), b"ab"),
        Event::Error => bench.kif(&Kif::MsgError(xfer(14, 0)), &[]),
        Event::Accepted => accepted(bench, connection),
        Event::Refused => {
            bench.kif(&Kif::ConnectFail { version: 1, client_id: connection, status: 3 }, &[]);
        }
        Event::Death => bench.kif(&Kif::ConnectDeath { client_id: connection }, &[]),
        Event::SessionDown => bench.say(Kind::TcsDown, Layer::Kif, &[]),
    }
    String::new()
}

/// One row a state, one field an event, in the order of both lists: the state after, and what was told.
const TABLE: [&[&str]; 4] = [
    // Gone
    &[
        "Gone: NoSuchMessage",                     // Unblock
        "Gone: NoSuchMessage",                     // ReadData
        "Gone: NoSuchMessage",                     // ReadError
        "Gone: NoSuchMessage",                     // Room
        "Gone: msgreaderror",                      // Read
        "Gone: msgreaderror",                      // ReadNothing
        "Gone:",                                   // Write
        "Gone:",                                   // Reply
        "Gone:",                                   // Error
        "Gone:",                                   // Accepted
        "Gone:",                                   // Refused
        "Gone: Death",                             // Death
        "Gone: Death NodeDown(Closed) tcsremdown", // SessionDown
    ],
    // Held
    &[
        "Gone: Error(4)",                                                  // Unblock
        "Held: NoSuchRead",                                                // ReadData
        "Held: NoSuchRead",                                                // ReadError
        "Held:",                                                           // Room
        "Held: msgreaderror",                                              // Read
        "Held: msgreaderror",                                              // ReadNothing
        "Held:",                                                           // Write
        "Held:",                                                           // Reply
        "Held:",                                                           // Error
        "Sent: Connected msgsend",                                         // Accepted
        "Gone: Error(3) ConnectFailed(3)",                                 // Refused
        "Gone: Error(3) ConnectFailed(3)",                                 // Death
        "Gone: Error(264) ConnectFailed(264) NodeDown(Closed) tcsremdown", // SessionDown
    ],
    // Sent
    &[
        "Unblocking: unblock",                                // Unblock
        "Sent: NoSuchRead",                                   // ReadData
        "Sent: NoSuchRead",                                   // ReadError
        "Sent:",                                              // Room
        "Sent: Read",                                         // Read
        "Sent: msgreadxfer",                                  // ReadNothing
        "Sent:",                                              // Write
        "Gone: Reply",                                        // Reply
        "Gone: Error(14)",                                    // Error
        "Sent:",                                              // Accepted
        "Sent:",                                              // Refused
        "Gone: Error(3) Death",                               // Death
        "Gone: Error(264) Death NodeDown(Closed) tcsremdown", // SessionDown
    ],
    // Unblocking
    &[
        "Unblocking:",                                        // Unblock
        "Unblocking: NoSuchRead",                             // ReadData
        "Unblocking: NoSuchRead",                             // ReadError
        "Unblocking:",                                        // Room
        "Unblocking: Read",                                   // Read
        "Unblocking: msgreadxfer",                            // ReadNothing
        "Unblocking:",                                        // Write
        "Gone: Reply",                                        // Reply
        "Gone: Error(14)",                                    // Error
        "Unblocking:",                                        // Accepted
        "Unblocking:",                                        // Refused
        "Gone: Error(3) Death",                               // Death
        "Gone: Error(264) Death NodeDown(Closed) tcsremdown", // SessionDown
    ],
];

#[test]
fn every_state_of_a_transaction_answers_every_event_as_the_table_says() {
    let states = [State::Gone, State::Held, State::Sent, State::Unblocking];
    walk(&states, &EVENTS, &TABLE, |state, event| {
        let (mut bench, connection, number) = build(state);
        let refused = act(&mut bench, connection, number, event);
        let told = bench.outcome();
        let after = name(bench.node.clients.sends.get(number).map(|send| send.state));
        format!("{after:?}: {refused}{told}").trim_end().to_owned()
    });
}
