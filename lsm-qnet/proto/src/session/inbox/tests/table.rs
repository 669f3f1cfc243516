//! The whole state table of an incoming message: what each packet is taken for in each state, and the state after it.
//!
//! A message of 300 bytes comes in thirds. *Middle* and *rest* are what follows the first third, the rest with the end of
//! the message; *packet* is the whole of it at once; *wrong* is marked as the first and is not; *beyond* reaches over the
//! end. Each of the first three comes also while there is no memory, and while the sink of a transfer has no room.

use super::*;

/// Every state of a message, as [`Slot`]s have them or do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nothing is known of it.
    Nothing,
    /// Its last third came.
    Early,
    /// All but its first third came.
    AllButFirst,
    Refused,
    /// Its first third came.
    Begun,
    /// It was delivered.
    Done,
}

const STATES: [At; 6] = [At::Nothing, At::Early, At::AllButFirst, At::Refused, At::Begun, At::Done];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Nothing,
    Memory,
    Room,
}

#[derive(Clone, Copy, Debug)]
enum Input {
    First(Lack),
    Middle(Lack),
    Packet(Lack),
    Rest,
    Wrong,
    Beyond,
}

const INPUTS: [Input; 12] = [
    Input::First(Lack::Nothing),
    Input::First(Lack::Memory),
    Input::First(Lack::Room),
    Input::Middle(Lack::Nothing),
    Input::Middle(Lack::Memory),
    Input::Middle(Lack::Room),
    Input::Packet(Lack::Nothing),
    Input::Packet(Lack::Memory),
    Input::Packet(Lack::Room),
    Input::Rest,
    Input::Wrong,
    Input::Beyond,
];

/// A message that is put together here. One row a state, in the order of `STATES`; the columns are `INPUTS`.
///
/// What the packet is taken for: `.` a part, `a` one that was there, `p` the message itself, `m` the end of the message, `t` the end of the
/// transfer, `d` a duplicate, `n` no room, `x` dropped, `r` refused. Then the state: `-` nothing, `E` early, `R` refused,
/// `W` whole, `S` stream, `D` done.
const MESSAGE: [&str; 6] = [
    // First:        Middle:        Packet:
    //    mem room      mem room      mem room  Rest Wrong Beyond
    ".W nR .W  .E x- .E  pD pD pD  .E r- .E",
    ".W nR .W  .E xE .E  pD pD pD  .E rE .E",
    "mD nR mD  aE aE aE  pD pD pD  .E rE .E",
    ".W nR .W  xR xR xR  pD pD pD  xR rR xR",
    "aW aW aW  .W .W .W  pD pD pD  mD rW rW",
    "dD dD dD  dD dD dD  dD dD dD  dD dD dD",
];

/// A transfer, which goes into its sink.
const TRANSFER: [&str; 6] = [
    ".S nR nR  .E x- .E  tD tD n-  .E r- .E",
    ".S nR nR  .E xE .E  tD tD nE  .E rE .E",
    "tD nR nR  aE aE aE  tD tD nE  .E rE .E",
    ".S nR nR  xR xR xR  tD tD nR  xR rR xR",
    "aS aS aS  .S .S .S  tD tD nS  tD rS rS",
    "dD dD dD  dD dD dD  dD dD dD  dD dD dD",
];

const SEQ: u32 = 1;

impl Bench {
    fn bring_to(&mut self, state: At, bytes: &[u8]) {
        match state {
            At::Nothing => {}
            At::Early => drop(self.part(SEQ, bytes, 200, 300)),
            At::AllButFirst => {
                self.part(SEQ, bytes, 100, 200);
                self.part(SEQ, bytes, 200, 300);
            }
            At::Refused => drop(self.lacking(Lack::Memory, |bench| bench.part(SEQ, bytes, 0, 100))),
            At::Begun => drop(self.part(SEQ, bytes, 0, 100)),
            At::Done => drop(self.hear(&data(SEQ, 0, WHOLE), bytes)),
        }
    }

    /// Does something while there is no memory, or no room in the sink.
    fn lacking(&mut self, lack: Lack, event: impl FnOnce(&mut Bench) -> Arrival) -> Arrival {
        let (total, room) = (self.budget.total, self.desk.room);
        match lack {
            Lack::Nothing => {}
            Lack::Memory => self.budget.total = 0,
            // No more than what was promised.
            Lack::Room => self.desk.room = self.desk.promised,
        }
        let arrival = event(self);
        self.budget.total = total;
        if lack == Lack::Room {
            self.desk.room = room;
        }
        arrival
    }

    fn suffer(&mut self, input: Input, bytes: &[u8]) -> Arrival {
        match input {
            Input::First(lack) => self.lacking(lack, |bench| bench.part(SEQ, bytes, 0, 100)),
            Input::Middle(lack) => self.lacking(lack, |bench| bench.part(SEQ, bytes, 100, 200)),
            Input::Packet(lack) => self.lacking(lack, |bench| bench.hear(&data(SEQ, 0, WHOLE), bytes)),
            Input::Rest => self.part(SEQ, bytes, 100, 300),
            Input::Wrong => self.hear(&data(SEQ, 100, FIRST), &bytes[100..200]),
            Input::Beyond => self.hear(&data(SEQ, 250, 0), &[0; 100]),
        }
    }

    /// Named by a match without a wildcard: a new state does not build before its row is written.
    fn state(&self) -> char {
        match self.inbox.slots.get(&SEQ.into()).map(|slot| &slot.state) {
            None if self.inbox.seen.place(SEQ) == Place::Old => 'D',
            None => '-',
            Some(State::Early(_)) => 'E',
            Some(State::Refused) => 'R',
            Some(State::Whole(_)) => 'W',
            Some(State::Stream(_)) => 'S',
        }
    }
}

fn letter(arrival: &Arrival) -> char {
    match arrival {
        Arrival::Packet => 'p',
        Arrival::Message(_) => 'm',
        Arrival::Transfer(_) => 't',
        Arrival::Part => '.',
        Arrival::Again => 'a',
        Arrival::Duplicate => 'd',
        Arrival::NoRoom => 'n',
        Arrival::Dropped => 'x',
        Arrival::Refused => 'r',
    }
}

#[test]
fn every_state_answers_every_packet_as_the_table_says() {
    for (bytes, table) in [(message(300), MESSAGE), (write_at(0, 300), TRANSFER)] {
        for (state, row) in STATES.into_iter().zip(table) {
            assert_eq!(row.split_whitespace().count(), INPUTS.len());
            for (input, wanted) in INPUTS.into_iter().zip(row.split_whitespace()) {
                let mut bench = Bench::new();
                bench.bring_to(state, &bytes);
                // Nobody of ours sends as one packet what it has begun to send in three. Who does has it delivered again.
                bench.desk.got.clear();
                let arrival = bench.suffer(input, &bytes);
                let outcome: String = [letter(&arrival), bench.state()].into_iter().collect();
                assert_eq!(outcome, wanted, "{state:?} {input:?}");
                bench.is_square();
            }
        }
    }
}

impl Bench {
    /// What is reserved is what is held, and what is over holds nothing.
    fn is_square(&mut self) {
        let held: u32 = self.inbox.slots.values().map(|slot| slot.reserved).sum();
        assert_eq!((self.inbox.reserved, self.budget.reserved), (held, held));
        assert_eq!(held > 0, matches!(self.state(), 'E' | 'W' | 'S'));
        assert_eq!(self.desk.promised > 0, self.state() == 'S');
        self.inbox.clear(&mut self.budget);
        assert_eq!((self.inbox.reserved, self.budget.reserved, self.inbox.slots.len()), (0, 0, 0));
    }
}
