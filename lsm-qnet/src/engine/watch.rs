//! What the log tells of nodes and links to whoever asked for more: `verbose` and `qos_verbose=`.
//!
//! | option | the log has |
//! |---|---|
//! | neither | what needs somebody: nodes that fall silent, two of one name or address, refused callers |
//! | `qos_verbose=1` | also sessions that begin and end |
//! | `qos_verbose=2` | also their paths, when they begin to work, fall silent and work again |
//! | `verbose` | also nodes that come into the list and leave it, and sessions as with `qos_verbose=1` |
//!
//! Both changes are found by comparing, since the core has no events for them; paths are looked at ten times a second at
//! the most, and only for those who want to know. What happens between two looks is seen by the next one: it has a
//! deadline.

use std::collections::HashMap;
use std::time::Duration;

use qnet_proto::{Instant, LinkAddr, LinkId, Node, NodeId, NodeState, PathState};

/// Time between two looks at the paths.
const PAUSE: Duration = Duration::from_millis(100);

/// What is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verbosity {
    /// Nodes that come into the list and leave it.
    pub nodes: bool,
    /// Sessions that begin and end.
    pub sessions: bool,
    /// Paths that work or do not.
    pub paths: bool,
}

impl Verbosity {
    /// As the options say.
    #[must_use]
    pub fn new(verbose: bool, qos_verbose: u64) -> Self {
        Self { nodes: verbose, sessions: verbose || qos_verbose >= 1, paths: qos_verbose >= 2 }
    }
}

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) verbosity: Verbosity,
    listed: HashMap<NodeId, String>,
    paths: HashMap<(NodeId, LinkId, LinkAddr), bool>,
    looked: Option<Instant>,
    /// Something happened since that look.
    due: Option<Instant>,
}

impl Watch {
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, ..Self::default() }
    }

    /// When [`Watch::on_event`] is wanted although nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The list of nodes changed.
    pub(super) fn on_list(&mut self, node: &Node) {
        if !self.verbosity.nodes {
            return;
        }
        let others = node.nodes().filter(|view| view.state != NodeState::Local);
        let now: HashMap<NodeId, String> = others
            .map(|view| {
                let dot = if view.domain.as_str().is_empty() { "" } else { "." };
                (view.nd, format!("{}{dot}{}", view.name, view.domain))
            })
            .collect();
        for (nd, name) in &self.listed {
            if now.get(nd) != Some(name) {
                tracing::info!("node {name} left the list");
            }
        }
        for (nd, name) in &now {
            if self.listed.get(nd) != Some(name) {
                tracing::info!("node {name} came into the list");
            }
        }
        self.listed = now;
    }

    /// Something happened that may have changed a path.
    pub(super) fn on_event(&mut self, node: &Node, now: Instant) {
        if !self.verbosity.paths {
            return;
        }
        if let Some(looked) = self.looked.filter(|looked| now.since(*looked) < PAUSE) {
            // At the same time nothing is new.
            if now > looked {
                self.due = Some(looked + PAUSE);
            }
            return;
        }
        self.looked = Some(now);
        self.due = None;
        let mut current = HashMap::new();
        for view in node.nodes() {
            for path in &view.paths {
                let key = (view.nd, path.link, path.addr);
                let before = self.paths.get(&key).copied();
                let works = match path.state {
                    PathState::Up => true,
                    PathState::Suspect | PathState::Down => false,
                    // Nobody has asked it yet, or it has not answered yet.
                    PathState::Unproven => continue,
                };
                current.insert(key, works);
                if before != Some(works) {
                    let link = node.links().find(|(id, _)| *id == path.link);
                    let link = link.map_or("a link that is gone", |(_, info)| info.name.as_str());
                    let what = if works { "answers" } else { "does not answer" };
                    tracing::info!("node {} {what} over {link}, at {}", view.name, path.addr);
                }
            }
        }
        self.paths = current;
    }
}
