//! The states of a session and every move between them. Pure: no time, no bytes.
//!
//! One session serves both directions: both sides know it by the pair of their connection ids,
//! so that data, acknowledgements and the end of either side always belong to the same life of
//! both nodes (`docs/protocol.md` §4 says why this differs from one connection a direction).
//!
//! ```text
//!             open / INIT                    REM_UP / UP
//!   Closed ───────────────► InitSent ─────────────────────────► Up
//!      │                       │ INIT / REM_UP (both call)       ▲
//!      │ INIT / REM_UP         ▼                                 │
//!      └───────────────► RemUpSent ──────────────────────────────┘
//!                                      UP, REM_UP / UP, data
//!   any ── DOWN / REM_DOWN, REM_DOWN, out of tries ──► Closed
//! ```

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Not there, or over.
    Closed,
    /// TCS_INIT was sent; the peer's id is unknown.
    InitSent,
    /// TCS_REM_UP was sent; the peer has not confirmed.
    RemUpSent,
    /// Data may flow.
    Up,
}

/// What happens to a session. Packets carry the session's ids; those with others never get here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// This node wants to send.
    Open,
    /// TCS_INIT arrived.
    Init,
    /// TCS_REM_UP arrived.
    RemUp,
    /// TCS_UP arrived.
    Up,
    /// Data, an acknowledgement or a ping arrived.
    Data,
    /// TCS_DOWN arrived.
    Down,
    /// TCS_REM_DOWN arrived.
    RemDown,
    /// No answer in time; tries are left.
    Retry,
    /// No answer to the last try, or no sign of life.
    Exhausted,
}

/// What to send on a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Nothing.
    None,
    /// TCS_INIT.
    SendInit,
    /// TCS_REM_UP.
    SendRemUp,
    /// TCS_UP.
    SendUp,
    /// TCS_REM_DOWN.
    SendRemDown,
}

/// The input makes no sense in this phase; it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} does not belong to a session that is {phase:?}")]
pub(crate) struct Illegal {
    /// Where the session stands.
    pub(crate) phase: Phase,
    /// What happened.
    pub(crate) input: Input,
}

/// The move from `phase` on `input`. `initiator`: this node wants the session for itself, not only
/// because the peer asked.
///
/// # Errors
/// [`Illegal`]; the session stays as it is.
pub(crate) fn transition(phase: Phase, input: Input, initiator: bool) -> Result<(Phase, Action), Illegal> {
    use Phase::{Closed, InitSent, RemUpSent, Up};
    Ok(match (phase, input) {
        (Closed, Input::Open) => (InitSent, Action::SendInit),
        (Closed | InitSent | RemUpSent, Input::Init) => (RemUpSent, Action::SendRemUp),
        (InitSent | RemUpSent | Up, Input::Open) => (phase, Action::None),

        (InitSent | RemUpSent | Up, Input::RemUp) => (Up, Action::SendUp),
        (RemUpSent | Up, Input::Up | Input::Data) => (Up, Action::None),
        // The peer did not hear our answer to its own call.
        (Up, Input::Init) => (Up, Action::SendRemUp),

        (InitSent, Input::Retry) => (InitSent, Action::SendInit),
        (RemUpSent, Input::Retry) => (RemUpSent, Action::SendRemUp),

        (InitSent | RemUpSent | Up, Input::Down) => (Closed, Action::SendRemDown),
        // The call answered was an old one; ours stands.
        (RemUpSent, Input::RemDown | Input::Exhausted) if initiator => (InitSent, Action::SendInit),
        (InitSent | RemUpSent | Up, Input::RemDown | Input::Exhausted) => (Closed, Action::None),

        (Closed, Input::RemUp | Input::Up | Input::Data | Input::Down)
        | (Closed, Input::RemDown | Input::Retry | Input::Exhausted)
        | (InitSent, Input::Up | Input::Data)
        | (Up, Input::Retry) => return Err(Illegal { phase, input }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 4] = [Phase::Closed, Phase::InitSent, Phase::RemUpSent, Phase::Up];
    const INPUTS: [Input; 9] = [
        Input::Open,
        Input::Init,
        Input::RemUp,
        Input::Up,
        Input::Data,
        Input::Down,
        Input::RemDown,
        Input::Retry,
        Input::Exhausted,
    ];

    /// The whole table, one row a phase, in the order of `INPUTS`; `-` is illegal. A capital is the
    /// next phase, a small letter the action (i init, r rem_up, u up, d rem_down, n nothing).
    const TABLE: [&str; 4] = [
        // Open Init RemUp Up  Data Down RemDn Retry Exh
        "Ii Rr - - - - - - -",
        "In Rr Uu - - Cd Cn Ii Cn",
        "Rn Rr Uu Un Un Cd Cn Rr Cn",
        "Un Ur Uu Un Un Cd Cn - Cn",
    ];

    fn show(result: Result<(Phase, Action), Illegal>) -> String {
        match result {
            Err(_) => "-".to_owned(),
            Ok((phase, action)) => {
                let phase = match phase {
                    Phase::Closed => 'C',
                    Phase::InitSent => 'I',
                    Phase::RemUpSent => 'R',
                    Phase::Up => 'U',
                };
                let action = match action {
                    Action::None => 'n',
                    Action::SendInit => 'i',
                    Action::SendRemUp => 'r',
                    Action::SendUp => 'u',
                    Action::SendRemDown => 'd',
                };
                format!("{phase}{action}")
            }
        }
    }

    #[test]
    fn every_state_answers_every_event_as_the_table_says() {
        for (phase, row) in PHASES.iter().zip(TABLE) {
            for (input, want) in INPUTS.iter().zip(row.split_whitespace()) {
                assert_eq!(show(transition(*phase, *input, false)), want, "{phase:?} {input:?}");
            }
            assert_eq!(row.split_whitespace().count(), INPUTS.len());
        }
    }

    #[test]
    fn a_node_that_wants_the_session_itself_falls_back_to_its_own_call() {
        for input in [Input::RemDown, Input::Exhausted] {
            assert_eq!(show(transition(Phase::RemUpSent, input, true)), "Ii");
            assert_eq!(show(transition(Phase::InitSent, input, true)), "Cn");
            assert_eq!(show(transition(Phase::Up, input, true)), "Cn");
        }
    }

    #[test]
    fn an_illegal_move_says_what_and_where() {
        let error = transition(Phase::InitSent, Input::Data, false).unwrap_err();
        assert_eq!(error.to_string(), "Data does not belong to a session that is InitSent");
    }
}
