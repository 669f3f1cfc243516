//! State tables of the whole node: each test walks every (state, event) of one state machine and compares
//! what came of it with a row of its table.
//!
//! The states are named by a `match` without a wildcard, and the events are an enum whose values are
//! listed by one, so that a new state or event does not build before its row is written. A row says: the
//! state after, and what was told to whom (capital: an event for the programs, small: a message to the peer).
//! The table of the session's set-up is in `session/state.rs`.

mod bench;
mod connections;
mod lookups;
mod servers;
mod sessions;
mod transactions;

use crate::command::Command;
use crate::wire::kif::Kif;

/// Which table has a command; a new one does not build without its place.
fn table_of_command(command: &Command) -> &'static str {
    match command {
        Command::Resolve { .. } | Command::ResolveIn { .. } | Command::Found { .. } => "lookups",
        Command::Connect { .. }
        | Command::Attach { .. }
        | Command::Disconnect { .. }
        | Command::Pulse { .. } => "connections",
        Command::Send { .. }
        | Command::Room { .. }
        | Command::ReadData { .. }
        | Command::ReadError { .. }
        | Command::Unblock { .. } => "transactions",
        Command::Accept { .. }
        | Command::Reject { .. }
        | Command::Read { .. }
        | Command::Write { .. }
        | Command::Reply { .. }
        | Command::Error { .. }
        | Command::ConnectDeath { .. } => "servers",
        // A ping without an answer changes nothing; its own tests are in node/ping.rs.
        Command::Ping { .. } => "none",
        // They change the list of nodes, not a state.
        Command::Rename { .. } | Command::Forget { .. } => "none",
        // Handed on, or asked and answered.
        Command::RemoteNd { .. } | Command::Signal { .. } | Command::Deliver { .. } => "none",
    }
}

/// Which table has a message of the peer; a new one does not build without its place.
fn table_of_message(message: &Kif) -> &'static str {
    match message {
        Kif::ConnectSuccess { .. } | Kif::ConnectFail { .. } | Kif::ConnectDeath { .. } => "connections",
        Kif::MsgRead { .. } | Kif::MsgWrite(_) | Kif::MsgReply(_) | Kif::MsgError(_) => "transactions",
        Kif::Connect(_)
        | Kif::ConnectMsgSend(..)
        | Kif::ConnectPulse(..)
        | Kif::MsgSend(_)
        | Kif::Pulse { .. }
        | Kif::Unblock { .. }
        | Kif::MsgReadXfer(_)
        | Kif::MsgReadError(_)
        | Kif::Disconnect { .. } => "servers",
        // Handed on without a state of their own.
        Kif::Event { .. } | Kif::Signal { .. } => "none",
    }
}

#[test]
fn every_command_and_message_has_its_place_in_a_table() {
    let death = Kif::ConnectDeath { client_id: 1 };
    assert_eq!(table_of_message(&death), "connections");
    assert_eq!(table_of_command(&Command::Unblock { handle: crate::Handle(1) }), "transactions");
}
