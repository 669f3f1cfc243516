//! What holds at every step of a scenario, and what holds at its end.
//!
//! Together with the ledger (exactly once, order, nobody forgotten) and the programs (every byte
//! compared) this is the contract of the core:
//!
//! - memory for incomplete messages stays within `Limits`, and every table within what the peers
//!   and programs can account for;
//! - a session id always leads to a session, and a session always has a deadline: none is stuck;
//! - no sender waits longer than [`PATIENCE`];
//! - when nobody uses Qnet any more nothing is held but known nodes and idle sessions, and when those are
//!   closed nothing but known nodes.

use std::time::Duration;

use qnet_proto::{Holdings, Node};

use crate::ledger::Ledger;
use crate::network::{HostId, Network};

/// The longest a sender may wait for its answer or its error.
const PATIENCE: Duration = Duration::from_secs(150);
/// Messages that may wait to be sent or acknowledged at one node: what a scenario's programs can
/// have under way at once, many times over.
const MOST_QUEUED: usize = 4096;
/// Steps between two looks at those who wait.
const PERIOD: u64 = 64;

/// The watcher.
#[derive(Debug, Default)]
pub(super) struct Watch {
    steps: u64,
}

impl Watch {
    /// Steps watched.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Looks at every host that did something.
    ///
    /// # Panics
    /// When a promise is broken.
    pub(super) fn look(&mut self, net: &Network, ledger: &Ledger) {
        self.steps += 1;
        for &host in net.touched() {
            let node = net.node(host);
            check(node, &node.holdings(), host);
        }
        if self.steps.is_multiple_of(PERIOD)
            && let Some(number) = ledger.overdue(net.now(), PATIENCE)
        {
            self.accuse(net, number);
        }
    }

    /// Somebody has been waiting for too long: who holds what?
    fn accuse(&self, net: &Network, number: u64) -> ! {
        let hosts = (0..net.hosts()).map(HostId).map(|host| (host, net.node(host).holdings()));
        for (host, held) in hosts.filter(|(_, held)| held.queued + held.sends + held.received > 0) {
            eprintln!("{host:?}: {held:?}");
        }
        panic!("the sender of message {number} has been waiting for more than {PATIENCE:?} at {}", net.now());
    }

    /// Nobody uses Qnet any more: only known nodes and idle sessions are left.
    pub(super) fn nothing_is_used(&self, net: &Network, hosts: usize) {
        for host in (0..hosts).map(HostId) {
            let held = net.node(host).holdings();
            let expected = Holdings {
                peers: held.peers,
                sessions: held.sessions,
                session_ids: held.session_ids,
                // An announcement may have been heard just now.
                replies: held.replies,
                passing_timers: held.passing_timers,
                periodic_timers: held.periodic_timers,
                ..Holdings::default()
            };
            assert_eq!(held, expected, "{host:?} holds what nobody needs at {}", net.now());
        }
    }

    /// All sessions are closed: only known nodes are left.
    pub(super) fn nothing_is_left(&self, net: &Network, hosts: usize) {
        for host in (0..hosts).map(HostId) {
            let held = net.node(host).holdings();
            let expected = Holdings {
                peers: held.peers,
                replies: held.replies,
                passing_timers: held.replies,
                periodic_timers: held.periodic_timers,
                ..Holdings::default()
            };
            assert_eq!(held, expected, "{host:?} holds something at {}", net.now());
            let periodic = 1 + net.segments(host).len();
            assert!(
                held.periodic_timers <= periodic,
                "{host:?} has {} periodic timers",
                held.periodic_timers
            );
        }
    }
}

fn check(node: &Node, held: &Holdings, host: HostId) {
    let limits = node.config().limits;
    assert!(held.reassembly_bytes <= limits.reassembly_total, "{host:?}: {held:?}");
    assert!(held.peers <= limits.nodes, "{host:?}: {held:?}");
    assert!(held.sessions <= 2 * held.peers, "{host:?}: {held:?}");
    assert_eq!(held.session_ids, held.sessions, "{host:?}: an id without a session: {held:?}");
    assert!(held.passing_timers <= held.peers + held.lookups + held.replies, "{host:?}: {held:?}");
    assert!(held.queued <= MOST_QUEUED, "{host:?}: {held:?}");
    assert!(held.received <= held.servers * limits.messages_per_peer, "{host:?}: {held:?}");
    assert!(
        held.sessions == 0 || held.passing_timers > 0,
        "{host:?}: a session without a deadline: {held:?}"
    );
    assert!(held.lookups + held.replies <= held.passing_timers, "{host:?}: a wait without an end: {held:?}");
    assert_eq!(held.control, 0, "{host:?}: not drained");
}
