//! Looking for a node by its name: which resolvers are asked, in which order, and who waits for the
//! outcome.
//!
//! ```text
//!  Resolve ─┐            known, with an address ──► Resolved
//!  session ─┴─► Lookup ─► resolver 1 ─ no ─► resolver 2 ─ no ─► … ─► ResolveFailed, EHOSTUNREACH
//!                            └─ an address ──► Resolved, the session is set up
//! ```
//!
//! A network directory has its list of resolvers ([`Directory`](crate::config::Directory)). The LAN is asked from here; all
//! others are outside of the core, which asks by an event and takes what comes back as hearsay: the
//! session's set-up proves it.

use std::time::Duration;

use crate::command::Errno;
use crate::config::{Resolver, Zone};
use crate::event::{Event, NodeId};
use crate::link::{Destination, LinkAddr, LinkId};
use crate::names::{Domain, Fqnn, NameError};
use crate::session::End;
use crate::time::Instant;
use crate::wire::lr::LrKind;

use super::peers::Peer;
use super::timers::Timer;
use super::transmit::{Control, LrTo};
use super::{CommandError, Node};

/// Names looked for at once; beyond: `Busy`.
const MAX_LOOKUPS: usize = 4096;
/// Time that a resolver outside of the core may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of one answer that are used.
const MAX_ADDRESSES: usize = 8;

/// A name being looked for.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) name: Fqnn,
    directory: usize,
    tokens: Vec<u64>,
    /// Nodes whose sessions wait for the address.
    waiting: Vec<u16>,
    /// Who is to be asked, the present one first.
    resolvers: Vec<Resolver>,
    /// Requests on the LAN so far.
    tries: u32,
    /// When the present step is over.
    due: Instant,
}

impl Lookup {
    /// Who is being asked, and how often that was done before.
    #[cfg(test)]
    pub(super) fn asks(&self) -> Option<(Resolver, u32)> {
        self.resolvers.first().map(|&resolver| (resolver, self.tries))
    }

    /// Whether the LAN is being asked for that name.
    pub(super) fn asks_lan_for(&self, name: &Fqnn) -> bool {
        self.name == *name && self.resolvers.first() == Some(&Resolver::Lan)
    }
}

impl Node {
    // ---- programs ask ----

    pub(super) fn resolve(
        &mut self,
        now: Instant,
        token: u64,
        directory: usize,
        name: &str,
    ) -> Result<(), CommandError> {
        let name = self.meant(directory, name).map_err(|_| CommandError::BadName)?;
        if name == self.own {
            self.event(Event::Resolved { token, nd: NodeId::LOCAL });
            return Ok(());
        }
        if let Some(nd) = self.peers.find(&name)
            && let Some(peer) = self.peers.get_mut(nd)
            && (!peer.paths.is_empty() || peer.is_up())
        {
            // What a program named is shown from then on, whoever brought the address.
            let new = !std::mem::replace(&mut peer.listed, true);
            if new {
                self.event(Event::NodesChanged);
            }
            self.event(Event::Resolved { token, nd: NodeId(nd.into()) });
            return Ok(());
        }
        self.look_up(now, directory, name, Some(token), None)
    }

    /// The node that a program means. A bare name is one of the directory's domain; a node that has no domain is listed by
    /// its bare name too, and is meant when the directory's domain has no such node.
    fn meant(&self, directory: usize, text: &str) -> Result<Fqnn, NameError> {
        let name = Fqnn::parse(text, self.default_domain(directory))?;
        if text.contains('.') || name == self.own || self.peers.find(&name).is_some() {
            return Ok(name);
        }
        let bare = Fqnn { name: name.name.clone(), domain: Domain::default() };
        Ok(if self.peers.find(&bare).is_some() { bare } else { name })
    }

    /// The domain of names without one in a network directory.
    pub(super) fn default_domain(&self, directory: usize) -> &Domain {
        self.zones(directory).first().map_or(&self.own.domain, |zone| self.domain_of(zone))
    }

    fn domain_of<'a>(&'a self, zone: &'a Zone) -> &'a Domain {
        zone.domain.as_ref().unwrap_or(&self.own.domain)
    }

    fn zones(&self, directory: usize) -> &[Zone] {
        self.config.directories.get(directory).map_or(&[], |directory| &directory.zones)
    }

    /// Who is asked for a name: the zone whose domain covers it best, or the first.
    fn resolvers(&self, directory: usize, name: &Fqnn) -> Vec<Resolver> {
        let zones = self.zones(directory);
        let covering = zones.iter().filter(|zone| self.domain_of(zone).covers(&name.domain));
        let best = covering.max_by_key(|zone| self.domain_of(zone).as_str().len()).or(zones.first());
        best.map_or_else(|| vec![Resolver::Lan], |zone| zone.resolvers.clone())
    }

    // ---- the way through the resolvers ----

    /// Looks for a name, unless that is being done already.
    pub(super) fn look_up(
        &mut self,
        now: Instant,
        directory: usize,
        name: Fqnn,
        token: Option<u64>,
        waiting: Option<u16>,
    ) -> Result<(), CommandError> {
        let same = |lookup: &&mut Lookup| lookup.name == name && lookup.directory == directory;
        if let Some(lookup) = self.lookups.values_mut().find(same) {
            lookup.tokens.extend(token);
            lookup.waiting.extend(waiting);
            return Ok(());
        }
        if self.lookups.len() >= MAX_LOOKUPS {
            return Err(CommandError::Busy);
        }
        let id = self.new_id();
        let resolvers = self.resolvers(directory, &name);
        let lookup = Lookup {
            name,
            directory,
            tokens: Vec::from_iter(token),
            waiting: Vec::from_iter(waiting),
            resolvers,
            tries: 0,
            due: now,
        };
        self.lookups.insert(id, lookup);
        self.step(now, id);
        Ok(())
    }

    /// Asks the lookup's present resolver, or ends it when there is none left.
    fn step(&mut self, now: Instant, id: u32) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        // A step that ended early leaves no deadline behind.
        self.timers.remove(&(lookup.due, Timer::Lookup(id)));
        let name = lookup.name.clone();
        let wait = match lookup.resolvers.first() {
            Some(Resolver::Lan) => self.config.ticks(self.config.res_ticks.max(1)),
            Some(Resolver::External(_)) => PATIENCE,
            None => {
                if let Some(lookup) = self.lookups.remove(&id) {
                    self.not_found(now, lookup);
                }
                return;
            }
        };
        lookup.due = now + wait;
        let resolver = lookup.resolvers.first().copied();
        match resolver {
            Some(Resolver::External(resolver)) => self.event(Event::Ask { lookup: id, resolver, name }),
            _ => self.ask(&name),
        }
        self.set_timer(now + wait, Timer::Lookup(id));
    }

    /// Broadcasts a request on every link that has a broadcast.
    pub(super) fn ask(&mut self, name: &Fqnn) {
        let to = LrTo { name: Some(name.clone()), mac: None };
        let links: Vec<LinkId> = self.links.keys().copied().filter(|&link| self.speaks_lan(link)).collect();
        for link in links {
            let dst = Destination::Broadcast;
            self.push_control(Control::Lr { link, dst, kind: LrKind::Request, to: to.clone() });
        }
    }

    /// Whether nodes are found by LR on a link: the format of LR names Ethernet addresses.
    pub(super) fn speaks_lan(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|info| info.addr.as_mac().is_some())
    }

    pub(super) fn on_lookup_timer(&mut self, now: Instant, id: u32) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        if now < lookup.due {
            return; // the timer of a step that ended early
        }
        lookup.tries += 1;
        if lookup.resolvers.first() != Some(&Resolver::Lan) || lookup.tries > self.config.res_retries {
            lookup.next_resolver();
        }
        self.step(now, id);
    }

    /// A resolver outside of the core has answered.
    pub(super) fn on_answer(&mut self, now: Instant, id: u32, addresses: &[LinkAddr]) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        if !matches!(lookup.resolvers.first(), Some(Resolver::External(_))) {
            return; // too late: somebody else is asked now
        }
        let (name, directory) = (lookup.name.clone(), lookup.directory);
        let links = self.links.iter();
        let paths = links.flat_map(|(&link, info)| {
            let reached = addresses.iter().filter(|addr| addr.is_like(&info.addr) && **addr != info.addr);
            reached.map(move |&addr| (link, addr))
        });
        let paths: Vec<_> = paths.take(MAX_ADDRESSES).collect();
        match self.told(now, name, directory, &paths) {
            Some(nd) => self.on_found(now, nd),
            None => {
                if let Some(lookup) = self.lookups.get_mut(&id) {
                    lookup.next_resolver();
                }
                self.step(now, id);
            }
        }
    }

    /// A resolver named a node's addresses: finds or makes its entry.
    fn told(
        &mut self,
        now: Instant,
        name: Fqnn,
        directory: usize,
        paths: &[(LinkId, LinkAddr)],
    ) -> Option<u16> {
        paths.first()?;
        let nd = match self.peers.find(&name) {
            Some(nd) => nd,
            None if self.peers.len() >= self.config.limits.nodes => return None,
            None => {
                let mut peer = Peer::new(name.clone(), name, now);
                peer.hearsay = true;
                self.peers.insert(peer)?
            }
        };
        let peer = self.peers.get_mut(nd)?;
        peer.directory = directory;
        peer.listed = true;
        peer.heard = now;
        for &(link, addr) in paths {
            peer.add_path(link, addr);
        }
        self.update_paths(now, nd);
        self.event(Event::NodesChanged);
        Some(nd)
    }

    // ---- outcomes ----

    /// Nobody knows the name.
    fn not_found(&mut self, now: Instant, lookup: Lookup) {
        for token in lookup.tokens {
            self.event(Event::ResolveFailed { token, errno: Errno::ENOENT });
        }
        self.give_up(now, lookup.waiting);
    }

    /// The sessions of nodes whose address was not found cannot be.
    fn give_up(&mut self, now: Instant, waiting: Vec<u16>) {
        for nd in waiting {
            if self.peers.get(nd).is_some_and(|peer| peer.paths.is_empty() && !peer.is_up()) {
                self.end_session(now, nd, End::Unreachable);
            }
        }
    }

    /// A node's address became known: whoever waited for it goes on.
    pub(super) fn on_found(&mut self, now: Instant, nd: u16) {
        let Some(peer) = self.peers.get(nd) else { return };
        let (name, own_name) = (peer.name.clone(), peer.own_name.clone());
        let found = |lookup: &Lookup| lookup.name == name || lookup.name == own_name;
        let ids: Vec<u32> = self.lookups.iter().filter(|(_, l)| found(l)).map(|(&id, _)| id).collect();
        self.address_known(now, nd);
        for id in ids {
            let Some(lookup) = self.lookups.remove(&id) else { continue };
            self.timers.remove(&(lookup.due, Timer::Lookup(id)));
            for token in lookup.tokens {
                self.event(Event::Resolved { token, nd: NodeId(nd.into()) });
            }
            // Another node answers to that name now.
            self.give_up(now, lookup.waiting);
        }
    }
}

impl Lookup {
    fn next_resolver(&mut self) {
        if !self.resolvers.is_empty() {
            self.resolvers.remove(0);
        }
        self.tries = 0;
    }
}
