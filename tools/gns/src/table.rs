//! What a gns knows: who offers which global name. No clock, no files, no messages.
//!
//! ```text
//!  own       names of this node, as last looked at
//!  nodes     (server) what each node told last, for EXPIRY or until its gns leaves
//!  copies    what each server told last, for EXPIRY: the cache of a client, and what a backup has before nodes come to it
//! ```
//!
//! Only `own` and `nodes` are told to others, so a name whose node is gone does not wander from server to server for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use qnet::names::Offered;
use qnet::names::gns::Instance;

/// How long a node's names, and a server's answer, are good for without being told again.
pub(crate) const EXPIRY: Duration = Duration::from_secs(10);
/// Most names of one node.
const MAX_NAMES: usize = 4096;
/// Most servers that are remembered.
pub(crate) const MAX_SERVERS: usize = 16;

/// A channel that has a name, and its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) pid: i32,
    pub(crate) chid: i32,
}

#[derive(Clone, Debug)]
struct Told<T> {
    what: T,
    at: Instant,
    server: bool,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    node: String,
    own: Vec<Offered>,
    nodes: BTreeMap<String, Told<Vec<Offered>>>,
    copies: BTreeMap<String, Told<Vec<Known>>>,
    generation: u64,
}

impl Table {
    /// Nothing known yet; `seed` makes its generations different from those of an earlier gns.
    pub(crate) fn new(seed: u64) -> Self {
        Self { generation: seed.max(1), ..Self::default() }
    }

    /// Number of the present state of what others are told, never 0.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// This node's fully qualified name; empty while Qnet does not run.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// This node, and what it offers now. True when that is news.
    pub(crate) fn set_own(&mut self, node: &str, mut offered: Vec<Offered>) -> bool {
        offered.truncate(MAX_NAMES);
        let news = (self.node.as_str(), &self.own) != (node, &offered);
        if news {
            (self.node, self.own) = (node.to_owned(), offered);
            self.touch();
        }
        news
    }

    /// What this node offers.
    pub(crate) fn own(&self) -> &[Offered] {
        &self.own
    }

    /// A node's gns told what it offers; `server`: it is a server itself.
    pub(crate) fn tell_node(&mut self, node: &str, server: bool, offered: &[Instance<'_>], now: Instant) {
        let owned = |instance: &Instance<'_>| {
            let name = std::str::from_utf8(instance.name).ok().filter(|name| is_name(name))?;
            Some(Offered { name: name.to_owned(), pid: instance.pid, chid: instance.chid })
        };
        let what: Vec<Offered> = offered.iter().take(MAX_NAMES).filter_map(owned).collect();
        let told = Told { what, at: now, server };
        let before = self.nodes.insert(node.to_owned(), told.clone());
        if before.is_none_or(|before| (before.what, before.server) != (told.what, told.server)) {
            self.touch();
        }
    }

    /// A node's gns is gone, and its names with it.
    pub(crate) fn drop_node(&mut self, node: &str) {
        if self.nodes.remove(node).is_some() {
            self.touch();
        }
    }

    /// A server told all that it knows; `None`: what it told last is still true.
    pub(crate) fn tell_copy(&mut self, server: &str, instances: Option<&[Instance<'_>]>, now: Instant) {
        let owned = |instance: &Instance<'_>| {
            let name = std::str::from_utf8(instance.name).ok().filter(|name| is_name(name))?;
            let node = std::str::from_utf8(instance.node).ok().filter(|node| is_node(node))?;
            Some(Known {
                name: name.to_owned(),
                node: node.to_owned(),
                pid: instance.pid,
                chid: instance.chid,
            })
        };
        match instances {
            Some(instances) => {
                let what = instances.iter().filter_map(owned).collect();
                self.copies.insert(server.to_owned(), Told { what, at: now, server: true });
            }
            None => {
                if let Some(copy) = self.copies.get_mut(server) {
                    copy.at = now;
                }
            }
        }
    }

    /// Forgets what nobody has said for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        let before = self.nodes.len();
        self.nodes.retain(|_, told| now.saturating_duration_since(told.at) < EXPIRY);
        self.copies.retain(|_, told| now.saturating_duration_since(told.at) < EXPIRY);
        if self.nodes.len() != before {
            self.touch();
        }
    }

    /// What others are told: names that this node, and nodes that came to it themselves, offer.
    pub(crate) fn first_hand(&self) -> BTreeSet<Known> {
        let own = self.own.iter().map(|offered| known(&self.node, offered));
        let nodes = self.nodes.iter().filter(|(node, _)| **node != self.node);
        own.chain(nodes.flat_map(|(node, told)| told.what.iter().map(|offered| known(node, offered))))
            .collect()
    }

    /// All that is known.
    pub(crate) fn all(&self) -> BTreeSet<Known> {
        let mut all = self.first_hand();
        // What a node said itself is truer than what a server says of it.
        let told = |node: &str| node == self.node || self.nodes.contains_key(node);
        let copied = self.copies.values().flat_map(|copy| &copy.what);
        all.extend(copied.filter(|known| !told(&known.node)).cloned());
        all
    }

    /// The channels that have that name, this node's first.
    pub(crate) fn look_up(&self, name: &str) -> Vec<Known> {
        let mut found: Vec<Known> = self.all().into_iter().filter(|known| known.name == name).collect();
        found.sort_by_key(|known| known.node != self.node);
        found
    }

    /// Nodes whose gns is a server, by what they said themselves.
    pub(crate) fn servers(&self) -> Vec<String> {
        let servers = self.nodes.iter().filter(|(_, told)| told.server);
        servers.map(|(node, _)| node.clone()).take(MAX_SERVERS).collect()
    }

    /// Nodes that told this server what they offer.
    pub(crate) fn clients(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// Servers whose answers are in the cache.
    pub(crate) fn sources(&self) -> Vec<String> {
        self.copies.keys().cloned().collect()
    }

    fn touch(&mut self) {
        self.generation = self.generation.wrapping_add(1).max(1);
    }
}

fn known(node: &str, offered: &Offered) -> Known {
    Known { name: offered.name.clone(), node: node.to_owned(), pid: offered.pid, chid: offered.chid }
}

/// Whether a name from another node may become a path here.
fn is_name(name: &str) -> bool {
    qnet::names::Target::new(qnet::names::Scope::Global, name).is_ok() && !name.starts_with("net/")
}

/// Whether a node's name may.
pub(crate) fn is_node(node: &str) -> bool {
    !matches!(node, "" | "." | "..") && node.len() <= 255 && !node.contains(['/', '\0', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(name: &str, pid: i32) -> Offered {
        Offered { name: name.to_owned(), pid, chid: 1 }
    }

    fn instance<'a>(name: &'a str, node: &'a str, pid: i32) -> Instance<'a> {
        Instance { name: name.as_bytes(), node: node.as_bytes(), pid, chid: 1 }
    }

    fn pids(found: &[Known]) -> Vec<i32> {
        found.iter().map(|known| known.pid).collect()
    }

    #[test]
    fn the_own_node_is_named_first() {
        let now = Instant::now();
        let mut table = Table::new(0);
        table.tell_node("alonzo", false, &[instance("alarm", "", 1)], now);
        table.set_own("joseph", vec![offered("alarm", 2)]);
        table.tell_copy("server", Some(&[instance("alarm", "kurt", 3)]), now);
        assert_eq!(pids(&table.look_up("alarm")), [2, 1, 3]);
        assert_eq!(pids(&table.look_up("other")), [] as [i32; 0]);
    }

    #[test]
    fn nodes_and_copies_are_forgotten_when_nobody_speaks_of_them() {
        let now = Instant::now();
        let mut table = Table::new(7);
        table.tell_node("alonzo", false, &[instance("alarm", "", 1)], now);
        table.tell_copy("server", Some(&[instance("pump", "kurt", 3)]), now);
        let later = now + EXPIRY - Duration::from_millis(1);
        table.expire(later);
        assert_eq!(table.all().len(), 2);
        table.tell_copy("server", None, later);
        table.expire(now + EXPIRY);
        assert_eq!(pids(&table.look_up("alarm")), [] as [i32; 0]);
        assert_eq!(pids(&table.look_up("pump")), [3], "the server said that nothing changed");
        table.expire(later + EXPIRY);
        assert!(table.all().is_empty());
    }

    #[test]
    fn a_copy_is_not_handed_on_and_gives_way_to_the_node_itself() {
        let now = Instant::now();
        let mut table = Table::new(0);
        let copied = [instance("alarm", "alonzo", 1), instance("alarm", "kurt", 3)];
        table.tell_copy("server", Some(&copied), now);
        assert!(table.first_hand().is_empty());
        table.tell_node("alonzo", false, &[], now);
        assert_eq!(pids(&table.look_up("alarm")), [3], "alonzo knows best that it offers nothing any more");
    }

    #[test]
    fn the_generation_changes_exactly_with_what_others_are_told() {
        let now = Instant::now();
        let mut table = Table::new(0);
        let mut last = table.generation();
        let mut changed =
            |table: &Table| std::mem::replace(&mut last, table.generation()) != table.generation();
        assert!(table.set_own("joseph", vec![offered("a", 1)]) && changed(&table));
        assert!(!table.set_own("joseph", vec![offered("a", 1)]) && !changed(&table));
        table.tell_node("alonzo", false, &[instance("a", "", 1)], now);
        assert!(changed(&table));
        table.tell_node("alonzo", false, &[instance("a", "", 1)], now);
        assert!(!changed(&table));
        table.tell_node("alonzo", true, &[instance("a", "", 1)], now);
        assert!(changed(&table), "it became a server");
        assert_eq!(table.servers(), ["alonzo"]);
        table.tell_copy("alonzo", Some(&[]), now);
        assert!(!changed(&table));
        table.drop_node("alonzo");
        assert!(changed(&table));
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_left_out() {
        let now = Instant::now();
        let mut table = Table::new(0);
        let hostile = ["", "/etc", "../x", "a//b", "net/x", "good"];
        let all: Vec<Instance<'_>> = hostile.iter().map(|name| instance(name, "..", 1)).collect();
        table.tell_node("alonzo", false, &all, now);
        assert_eq!(table.all().into_iter().map(|known| known.name).collect::<Vec<_>>(), ["good"]);
        table.tell_copy("server", Some(&all), now);
        assert_eq!(table.all().len(), 1, "nor nodes");
    }
}
