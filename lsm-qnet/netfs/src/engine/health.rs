//! Which nodes answer: `df`, `ls -l /net`, completion and `find /` must not wait for every dead node again and again.
//!
//! - A node that could not be reached is taken for dead for [`DEAD_FOR`]: paths below it fail at once, with the same error.
//! - Who asks whether a node is there has all nodes of the latest listing asked at the same time, so that `ls -l /net` waits
//!   for the slowest of the dead ones and not for one after the other. The answers hold for [`LIFETIME`].
//! - Who goes through a listing without asking first, as `updatedb` and `cat /net/*/etc/hostname` do, finds the first dead node by
//!   himself; then the others are asked, so that all dead ones together take as long as two.

use std::{
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use qnet_iomsg::{Connect, Io, stat};

use super::{Engine, Owner, job::Job, names::LIFETIME, nodes::Listed, task::Task};
use crate::{
    caller::Caller,
    fuse::reply,
    inodes::Inode,
    link::{Failure, Reply, Request, SessionId, Target},
};

/// How long a node that could not be reached is not tried again.
pub(super) const DEAD_FOR: Duration = Duration::from_secs(2);
/// Names of which something is known; from there on what has become old is dropped.
const MAX_KNOWN: usize = 1024;
/// How long who has listed the nodes may be going through them.
pub(super) const GOES_THROUGH: Duration = Duration::from_secs(60);
/// Nodes that are asked at the same time.
const MAX_PROBES: usize = 256;

/// What is known of a node, by its name in the network directory.
#[derive(Debug, Default)]
pub(super) struct Health {
    nodes: HashMap<Box<[u8]>, State>,
    /// The nodes of the latest listing and their numbers.
    listed: Vec<(Box<[u8]>, u32)>,
    listed_at: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// It answered, whatever it said.
    There { until: Instant },
    /// It could not be reached.
    Dead { until: Instant, errno: i32 },
    /// It is being asked; these requests wait for it.
    Asked { since: Instant, waiting: Vec<u64> },
}

/// A node that is asked whether it is there.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    name: Box<[u8]>,
    nd: u32,
    caller: Rc<Caller>,
    session: Option<SessionId>,
    /// The second attempt.
    again: bool,
}

impl Health {
    /// The list of nodes has come.
    pub(super) fn note_listing(&mut self, now: Instant, listed: &[Listed]) {
        self.listed_at = Some(now);
        self.listed =
            listed.iter().filter_map(|node| Some((node.name.as_slice().into(), node.nd?))).collect();
    }

    fn state(&mut self, now: Instant, name: &[u8]) -> Option<&mut State> {
        if let Some(State::There { until } | State::Dead { until, .. }) = self.nodes.get(name)
            && *until <= now
        {
            self.nodes.remove(name);
        }
        self.nodes.get_mut(name)
    }

    fn insert(&mut self, now: Instant, name: Box<[u8]>, state: State) -> Option<State> {
        if self.nodes.len() >= MAX_KNOWN {
            self.nodes.retain(|_, state| match state {
                State::There { until } | State::Dead { until, .. } => *until > now,
                State::Asked { .. } => true,
            });
        }
        self.nodes.insert(name, state)
    }
}

impl Engine {
    /// Why a node is not even tried.
    pub(super) fn known_dead(&mut self, now: Instant, node: u64) -> Result<(), Failure> {
        if self.health.nodes.is_empty() {
            return Ok(());
        }
        let name = self.inodes.get(node).map_or(&[][..], Inode::name);
        match self.health.state(now, name) {
            Some(State::Dead { errno, .. }) => Err(Failure::of(*errno)),
            _ => Ok(()),
        }
    }

    /// The answer to a look-up of a node, if it was found to be dead or not to be there a moment ago: to find that out once more
    /// takes as long as the first time.
    pub(super) fn known_absent(&mut self, now: Instant, unique: u64, name: &[u8]) -> Option<Vec<u8>> {
        match self.health.state(now, name)? {
            State::Dead { errno: libc::ENOENT, .. } => Some(self.absent(unique, LIFETIME)),
            State::Dead { errno, .. } => Some(reply::status(unique, *errno)),
            _ => None,
        }
    }

    /// Nobody has answered to a name.
    pub(super) fn note_absent(&mut self, now: Instant, name: &[u8]) {
        let state = State::Dead { until: now + LIFETIME, errno: libc::ENOENT };
        if !matches!(self.health.nodes.get(name), Some(State::Asked { .. })) {
            self.health.insert(now, name.into(), state);
        }
    }

    /// A request that went to a node has ended.
    pub(super) fn note_health(&mut self, now: Instant, node: u64, dead: Option<i32>) {
        // As long as nobody asks and nobody is dead nothing is kept.
        if dead.is_none() && self.health.nodes.is_empty() {
            return;
        }
        if let Some(name) = self.inodes.get(node).map(|inode| Box::from(inode.name())) {
            self.settle_health(now, name, dead);
        }
    }

    /// Begins a request for the attributes of a node's entry: answered by what is known, else by asking it, and with it all
    /// others that nothing is known of.
    pub(super) fn ask_whether_there(&mut self, now: Instant, unique: u64, job: Job) {
        let Task::Getattr { nodeid } = job.task else { return };
        let name: Box<[u8]> = self.inodes.get(nodeid).map_or(&[][..], Inode::name).into();
        let patience = self.config.deadline;
        let caller = Rc::clone(&job.caller);
        match self.health.state(now, &name) {
            Some(State::There { .. }) => {
                let answer = self.own_attributes(unique, nodeid);
                self.finish(unique, &job, answer);
            }
            Some(State::Asked { since, waiting }) if now < *since + patience => {
                waiting.push(unique);
                self.jobs.insert(unique, job);
            }
            // Its own message fails at once when it is known to be dead.
            _ => self.advance(now, unique, job, None),
        }
        self.ask_others(now, &name, &caller);
    }

    /// The connection to a node was lost under a request: those that were listed with it may be away, too.
    pub(super) fn doubt_others(&mut self, now: Instant, job: &Job) {
        let goes_through = self.health.listed_at.is_some_and(|at| now < at + GOES_THROUGH);
        if goes_through
            && self.link.descriptor().is_some()
            && let Some((nodeid, _)) = job.task.start()
            && let Some(node) = self.inodes.get(nodeid).map(Inode::node)
        {
            let name: Box<[u8]> = self.inodes.get(node).map_or(&[][..], Inode::name).into();
            self.ask_others(now, &name, &Rc::clone(&job.caller));
        }
    }

    fn ask_others(&mut self, now: Instant, but: &[u8], caller: &Rc<Caller>) {
        let listed = std::mem::take(&mut self.health.listed);
        for (name, nd) in listed.iter().filter(|(name, nd)| **name != *but && *nd != 0).take(MAX_PROBES) {
            if self.health.state(now, name).is_none() {
                let probe = Probe {
                    name: name.clone(),
                    nd: *nd,
                    caller: Rc::clone(caller),
                    session: None,
                    again: false,
                };
                if self.ask(now, probe) {
                    self.health.insert(now, name.clone(), State::Asked { since: now, waiting: Vec::new() });
                }
            }
        }
        self.health.listed = listed;
    }

    /// Asks a node; false without a connection: then nothing is known, and whoever wants to know asks himself.
    fn ask(&mut self, now: Instant, mut probe: Probe) -> bool {
        let Ok(message) = Connect::combine_close(b"", false, &Io::Stat.to_bytes()).emit() else {
            return false;
        };
        let target = Target::Node { nd: probe.nd, caller: Rc::clone(&probe.caller) };
        let coid = self.next_coid();
        let Ok(session) = self.link.session(now, &target) else { return false };
        let request = Request::new(coid, message, stat::REPLY_LEN);
        let Ok(txn) = self.link.request(session, request) else { return false };
        probe.session = Some(session);
        self.owners.insert(txn, Owner::Probe(probe));
        true
    }

    /// A node that was asked has answered, or will not.
    pub(super) fn on_probe(&mut self, now: Instant, probe: Probe, result: Result<Reply, Failure>) {
        let lost = result.is_err_and(|failure| failure.lost);
        let name = probe.name.clone();
        if lost && !probe.again {
            // The connection may have been an old one.
            probe.session.into_iter().for_each(|session| self.link.retire(session));
            if self.ask(now, Probe { again: true, session: None, ..probe }) {
                return;
            }
        }
        self.settle_health(now, name, lost.then_some(libc::EHOSTDOWN));
    }

    /// Notes what is known of a node now, and answers those who have waited for it.
    fn settle_health(&mut self, now: Instant, name: Box<[u8]>, dead: Option<i32>) {
        let state = match dead {
            Some(errno) => State::Dead { until: now + DEAD_FOR, errno },
            None => State::There { until: now + LIFETIME },
        };
        let Some(State::Asked { waiting, .. }) = self.health.insert(now, name, state) else { return };
        for unique in waiting {
            // Those who were interrupted meanwhile are gone.
            let Some(job) = self.jobs.remove(&unique) else { continue };
            let answer = match (dead, &job.task) {
                (None, Task::Getattr { nodeid }) => self.own_attributes(unique, *nodeid),
                (errno, _) => reply::status(unique, errno.unwrap_or(libc::EIO)),
            };
            self.finish(unique, &job, answer);
        }
    }
}
