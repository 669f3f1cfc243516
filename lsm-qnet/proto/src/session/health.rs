//! Whether a path to the peer works, and when to ask it.
//!
//! ```text
//!               proof                    silence, others work
//!   Unproven ───────────► Up ──────────────────────────────► Suspect
//!      │                   ▲  two probes unanswered             │ four probes
//!      │ four probes       │                proof               ▼ unanswered
//!      └───────────────────┴───────────────────────────────── Down
//! ```
//!
//! A proof is the answer to something that went out on the path: a probe (NR ping, docs/protocol.md §8), or a fragment
//! that was acknowledged. Data goes over paths that are up as long as there is one. Probes of a path in doubt follow each
//! other at the retransmission timeout, doubled each time; a path that is down is asked once in five ticks, which is
//! how it comes back by itself.

use std::time::Duration;

use crate::time::Instant;

/// Unanswered probes after which an idle path counts as suspect.
const DOUBTS: u32 = 2;
/// Unanswered probes after which a path counts as down.
const PROBES: u32 = 4;

/// How a path to a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathState {
    /// An address was heard; nothing has come back from it yet.
    Unproven,
    /// It works.
    Up,
    /// It fell silent; the others carry the data.
    Suspect,
    /// It has been silent for a while.
    Down,
}

/// The spacing of probes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spacing {
    /// Time without proof after which a path that is up is asked; `None`: its session does that.
    pub(crate) idle: Option<Duration>,
    /// Time between the first probes of a path in doubt.
    pub(crate) first: Duration,
    /// The longest time between probes.
    pub(crate) longest: Duration,
}

/// A path's health.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: PathState,
    /// Probes sent since the last proof.
    probes: u32,
    /// Since when: the last proof or the last probe.
    since: Instant,
    /// A probe is to be sent.
    due: bool,
    /// When the only probe since the last proof was sent: its answer tells the round trip time.
    single: Option<Instant>,
}

impl Health {
    /// Of an address that was just heard.
    pub(crate) fn new(now: Instant) -> Health {
        Health { state: PathState::Unproven, probes: 0, since: now, due: true, single: None }
    }

    pub(crate) fn state(&self) -> PathState {
        self.state
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == PathState::Up
    }

    /// Something that went out on the path arrived.
    pub(crate) fn prove(&mut self, now: Instant) {
        *self = Health { state: PathState::Up, probes: 0, since: now, due: false, single: None };
    }

    /// A probe was answered. Returns the round trip time if it is known which one.
    pub(crate) fn on_answer(&mut self, now: Instant) -> Option<Duration> {
        let sample = self.single.map(|sent| now.since(sent));
        self.prove(now);
        sample
    }

    /// Nothing of what went out on the path arrived.
    pub(crate) fn suspect(&mut self, now: Instant) {
        if self.state == PathState::Up {
            *self = Health { state: PathState::Suspect, probes: 0, since: now, due: true, single: None };
        }
    }

    /// Asks the path at the next opportunity.
    pub(crate) fn ask(&mut self) {
        self.due = true;
    }

    /// Whether a probe is to be sent now; if so, it counts as sent.
    pub(crate) fn take_probe(&mut self, now: Instant) -> bool {
        if !std::mem::take(&mut self.due) {
            return false;
        }
        self.probes = self.probes.saturating_add(1);
        self.single = (self.probes == 1).then_some(now);
        self.since = now;
        true
    }

    /// When [`Health::on_time`] is wanted.
    pub(crate) fn deadline(&self, spacing: Spacing) -> Option<Instant> {
        if self.due {
            return None;
        }
        let wait = match (self.state, self.probes) {
            (PathState::Up, 0) => spacing.idle?,
            (PathState::Down, _) => spacing.longest,
            (_, probes) => spacing.first.saturating_mul(1 << probes.min(16)).min(spacing.longest),
        };
        Some(self.since + wait)
    }

    /// Time passed: a probe may be due, and doubts grow.
    pub(crate) fn on_time(&mut self, now: Instant, spacing: Spacing) {
        if self.deadline(spacing).is_none_or(|at| now < at) {
            return;
        }
        self.due = true;
        self.state = match self.state {
            PathState::Up if self.probes >= DOUBTS => PathState::Suspect,
            PathState::Suspect | PathState::Unproven if self.probes >= PROBES => PathState::Down,
            same => same,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACING: Spacing = Spacing {
        idle: Some(Duration::from_secs(10)),
        first: Duration::from_millis(10),
        longest: Duration::from_secs(1),
    };

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Lets time pass without an answer; the times of the probes, up to `end`.
    fn silence(health: &mut Health, start: Instant, end: Instant) -> Vec<(u64, PathState)> {
        let (mut now, mut probes) = (start, Vec::new());
        while now < end {
            if health.take_probe(now) {
                probes.push((now.as_nanos() / 1_000_000, health.state()));
            }
            now = health.deadline(SPACING).unwrap();
            health.on_time(now, SPACING);
        }
        probes
    }

    #[test]
    fn a_new_path_is_asked_at_once_and_up_when_it_answers() {
        let mut health = Health::new(at(0));
        assert!(health.take_probe(at(0)) && !health.take_probe(at(0)));
        assert_eq!(health.on_answer(at(3)), Some(Duration::from_millis(3)));
        assert!(health.is_up());
        assert_eq!(health.deadline(SPACING), Some(at(10_003)), "then not before it is idle");
    }

    #[test]
    fn a_silent_path_is_asked_less_and_less_often_but_for_ever() {
        use PathState::{Down, Suspect};
        let mut health = Health::new(at(0));
        health.prove(at(0));
        health.suspect(at(0));
        let probes = silence(&mut health, at(0), at(6000));
        assert_eq!(
            probes[..5],
            [(0, Suspect), (20, Suspect), (60, Suspect), (140, Suspect), (300, Down)],
            "{probes:?}"
        );
        assert_eq!(probes.len(), 5 + 5, "once a second: {probes:?}");
        assert_eq!(health.on_answer(at(6001)), None, "nobody knows which probe was answered");
        assert!(health.is_up());
    }

    #[test]
    fn an_idle_path_is_asked_and_suspected_after_two_probes() {
        let mut health = Health::new(at(0));
        health.prove(at(0));
        health.on_time(at(9_999), SPACING);
        assert!(!health.take_probe(at(9_999)));
        health.on_time(at(10_000), SPACING);
        assert!(health.take_probe(at(10_000)));
        health.on_time(at(10_020), SPACING);
        assert!(health.is_up() && health.take_probe(at(10_020)), "one lost probe proves nothing");
        health.on_time(at(10_060), SPACING);
        assert_eq!(health.state(), PathState::Suspect);
    }

    #[test]
    fn a_lone_path_is_left_to_its_session() {
        let alone = Spacing { idle: None, ..SPACING };
        let mut health = Health::new(at(0));
        health.prove(at(0));
        assert_eq!(health.deadline(alone), None);
    }

    #[test]
    fn every_state_answers_every_event_as_the_table_says() {
        use PathState::{Down, Suspect, Unproven, Up};
        let events: [fn(&mut Health); 5] = [
            |health| health.prove(at(9000)),
            |health| assert_eq!(health.on_answer(at(9000)), None),
            |health| health.suspect(at(9000)),
            Health::ask,
            |health| drop(silence(health, at(9000), at(12_000))),
        ];
        // proof, answer, suspicion, a question, probes in vain
        let table = [
            (Unproven, [Up, Up, Unproven, Unproven, Down]),
            (Up, [Up, Up, Suspect, Up, Down]),
            (Suspect, [Up, Up, Suspect, Suspect, Down]),
            (Down, [Up, Up, Down, Down, Down]),
        ];
        for (state, wanted) in table {
            for (event, want) in events.iter().zip(wanted) {
                let mut health = Health::new(at(0));
                health.state = state;
                health.since = at(8999);
                event(&mut health);
                assert_eq!(health.state(), want, "{state:?}");
            }
        }
    }
}
