//! METER, a request of ours to the network manager: measure the way to another node from inside `lsm-qnet`.
//!
//! The own `lsm-qnet` sends messages to the meter of the other one (channel [`CHANNEL`] there), which takes them and
//! answers each; no process beside the two daemons is involved. The reply comes when the time is over.
//!
//! ```text
//! request: nd u32, size u32, in_flight u32, millis u32
//! reply:   messages u64, nanos u64, then round trip times u64 ns: shortest, median, 99 of 100, longest
//! ```

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{ParseError, take};

/// Process and channel of a node's meter, beside its server at (1, 1).
pub const CHANNEL: (i32, i32) = (1, 2);

/// What is to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The node.
    pub nd: u32,
    /// Bytes of a message.
    pub size: u32,
    /// Messages under way at a time.
    pub in_flight: u32,
    /// How long new messages are sent.
    pub millis: u32,
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Messages that were answered.
    pub messages: u64,
    /// From the first message to the last answer, nanoseconds.
    pub nanos: u64,
    /// Shortest time from a message to its answer, nanoseconds.
    pub shortest: u64,
    /// Half of the times were not above this; within 7 %.
    pub median: u64,
    /// 99 of 100 were not above this; within 7 %.
    pub most: u64,
    /// Longest.
    pub longest: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PlanBytes([U32; 4]);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct OutcomeBytes([U64; 6]);

impl Plan {
    /// Reads the body of the request.
    pub(crate) fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let PlanBytes(words) = take(data, "METER")?.0;
        let [nd, size, in_flight, millis] = words.map(U32::get);
        Ok(Self { nd, size, in_flight, millis })
    }

    /// Appends the body of the request.
    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        let words = [self.nd, self.size, self.in_flight, self.millis].map(U32::new);
        out.extend_from_slice(PlanBytes(words).as_bytes());
    }
}

impl Outcome {
    /// Reads the reply.
    ///
    /// # Errors
    /// A reply that is too short.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let OutcomeBytes(words) = take(data, "METER reply")?.0;
        let [messages, nanos, shortest, median, most, longest] = words.map(U64::get);
        Ok(Self { messages, nanos, shortest, median, most, longest })
    }

    /// The reply's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { messages, nanos, shortest, median, most, longest } = *self;
        OutcomeBytes([messages, nanos, shortest, median, most, longest].map(U64::new)).as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_read_as_they_were_written_and_not_when_they_are_cut() {
        let plan = Plan { nd: 3, size: 1 << 20, in_flight: 4, millis: 500 };
        let mut bytes = Vec::new();
        plan.emit(&mut bytes);
        assert_eq!((Plan::parse(&bytes), bytes.len()), (Ok(plan), 16));
        assert!(Plan::parse(&bytes[..15]).is_err());
        let outcome = Outcome { messages: 1, nanos: 2, shortest: 3, median: 4, most: 5, longest: u64::MAX };
        assert_eq!(Outcome::parse(&outcome.to_bytes()), Ok(outcome));
        assert!(Outcome::parse(&outcome.to_bytes()[..47]).is_err());
    }
}
