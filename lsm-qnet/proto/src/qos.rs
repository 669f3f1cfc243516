//! Which of a peer's links a message may take: QNX's quality of service.
//!
//! ```text
//!   /net/node~loadbalance/…     every link that works, in turn
//!   /net/node~preferred:en0/…   en0 while it works, else the others
//!   /net/node~exclusive:en0/…   en0 or nothing
//! ```
//!
//! A policy travels in the upper half of a node descriptor, as an index into a table of the node that made it
//! ([`Node::with_qos`](crate::Node::with_qos)), and in two fields of every data packet.

use std::fmt;
use std::str::FromStr;

use crate::link::LinkId;

/// Policies a node remembers; programs choose them, so there must be a bound.
const MAX_POLICIES: usize = 256;

/// A policy, as it stands behind the `~` of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Qos {
    /// All links that work share the work. The default.
    #[default]
    LoadBalance,
    /// The link of this name; the others while it does not work.
    Preferred(String),
    /// The link of this name and no other: messages wait for it, and fail when it stays away.
    Exclusive(String),
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QosError {
    /// Another word.
    #[error("{0}: loadbalance, preferred:LINK or exclusive:LINK is expected")]
    Unknown(String),
    /// `preferred` or `exclusive` without a link's name.
    #[error("{0}: the name of a link is expected behind the colon")]
    NoLink(String),
}

impl Qos {
    /// The type number of the wire.
    pub(crate) fn wire_type(&self) -> u16 {
        match self {
            Qos::LoadBalance => 0,
            Qos::Exclusive(_) => 2,
            Qos::Preferred(_) => 3,
        }
    }

    /// The link it names.
    #[must_use]
    pub fn link(&self) -> Option<&str> {
        match self {
            Qos::LoadBalance => None,
            Qos::Preferred(link) | Qos::Exclusive(link) => Some(link),
        }
    }
}

impl FromStr for Qos {
    type Err = QosError;

    /// Reads what stands behind the `~`.
    fn from_str(text: &str) -> Result<Qos, QosError> {
        if text == "loadbalance" {
            return Ok(Qos::LoadBalance);
        }
        let unknown = || QosError::Unknown(text.to_owned());
        let (word, link) = text.split_once(':').unwrap_or((text, ""));
        let policy = match word {
            "preferred" => Qos::Preferred,
            "exclusive" => Qos::Exclusive,
            _ => return Err(unknown()),
        };
        if link.is_empty() || link.contains(['/', '~', ':']) {
            return Err(QosError::NoLink(text.to_owned()));
        }
        Ok(policy(link.to_owned()))
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Qos::LoadBalance => f.write_str("loadbalance"),
            Qos::Preferred(link) => write!(f, "preferred:{link}"),
            Qos::Exclusive(link) => write!(f, "exclusive:{link}"),
        }
    }
}

/// A policy with its link looked up: what the sending half works with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Its number in the node's table, for the wire.
    pub(crate) index: u16,
    /// Its type number on the wire.
    pub(crate) wire_type: u16,
    /// What it allows at the moment.
    pub(crate) choice: Choice,
}

/// What a route allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Any link.
    #[default]
    Any,
    /// This one while it works.
    First(LinkId),
    /// This one only; `None`: the node has no link of that name.
    Only(Option<LinkId>),
}

/// The policies of a node, by index. Index 0 is the default.
#[derive(Debug)]
pub(crate) struct QosTable {
    policies: Vec<Qos>,
}

impl Default for QosTable {
    fn default() -> QosTable {
        QosTable { policies: vec![Qos::LoadBalance] }
    }
}

impl QosTable {
    /// The index of a policy, a new one if it has none; `None` when the table is full.
    pub(crate) fn index(&mut self, qos: &Qos) -> Option<u16> {
        let at = match self.policies.iter().position(|known| known == qos) {
            Some(at) => at,
            None if self.policies.len() < MAX_POLICIES => {
                self.policies.push(qos.clone());
                self.policies.len() - 1
            }
            None => return None,
        };
        u16::try_from(at).ok()
    }

    /// The index of the policy for answers to a packet of type `wire_type` that came by `link`: the same policy, seen
    /// from here. Unknown types (and `redundant`, which QNX gave up) are answered by any link, and so is everybody when the
    /// table is full.
    pub(crate) fn answer(&mut self, wire_type: u16, link: &str) -> u16 {
        let policy = match wire_type {
            2 => Qos::Exclusive,
            3 => Qos::Preferred,
            _ => return 0,
        };
        let fits = |qos: &Qos| qos.wire_type() == wire_type && qos.link() == Some(link);
        match self.policies.iter().position(fits) {
            Some(at) => u16::try_from(at).unwrap_or(0),
            None => self.index(&policy(link.to_owned())).unwrap_or(0),
        }
    }

    /// The policy of an index.
    pub(crate) fn get(&self, index: u16) -> Option<&Qos> {
        self.policies.get(usize::from(index))
    }

    /// Every index.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u16> + use<> {
        0..u16::try_from(self.policies.len()).unwrap_or(u16::MAX)
    }

    /// The policy with its link looked up by `find`.
    pub(crate) fn route(&self, index: u16, find: impl Fn(&str) -> Option<LinkId>) -> Route {
        let Some(qos) = self.get(index) else { return Route::default() };
        let choice = match qos {
            Qos::LoadBalance => Choice::Any,
            Qos::Preferred(link) => find(link).map_or(Choice::Any, Choice::First),
            Qos::Exclusive(link) => Choice::Only(find(link)),
        };
        Route { index, wire_type: qos.wire_type(), choice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_as_it_is_written() {
        for text in ["loadbalance", "preferred:en0", "exclusive:wm12"] {
            assert_eq!(text.parse::<Qos>().unwrap().to_string(), text);
        }
        for text in ["", "redundant", "preferredly:en0", "loadbalance:en0"] {
            assert_eq!(text.parse::<Qos>(), Err(QosError::Unknown(text.to_owned())), "{text}");
        }
        for text in ["preferred", "exclusive:", "exclusive:a/b", "preferred:en0~"] {
            assert_eq!(text.parse::<Qos>(), Err(QosError::NoLink(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_policy_keeps_its_index_and_the_table_its_bound() {
        let mut table = QosTable::default();
        assert_eq!(table.index(&Qos::LoadBalance), Some(0));
        let first = table.index(&Qos::Exclusive("en0".into()));
        assert_eq!(first, Some(1));
        let given = (0..1000).filter(|i| table.index(&Qos::Preferred(format!("en{i}"))).is_some()).count();
        assert_eq!(given, MAX_POLICIES - 2);
        assert_eq!(table.index(&Qos::Exclusive("en0".into())), first);
        assert_eq!(table.get(1), Some(&Qos::Exclusive("en0".into())));
    }

    #[test]
    fn a_link_that_is_not_there_leaves_a_preference_and_stops_an_exclusion() {
        let mut table = QosTable::default();
        let preferred = table.index(&Qos::Preferred("en0".into())).unwrap();
        let exclusive = table.index(&Qos::Exclusive("en0".into())).unwrap();
        let here = |name: &str| (name == "en0").then_some(LinkId(7));
        assert_eq!(table.route(preferred, here).choice, Choice::First(LinkId(7)));
        assert_eq!(table.route(exclusive, here).choice, Choice::Only(Some(LinkId(7))));
        assert_eq!(table.route(preferred, |_| None).choice, Choice::Any);
        assert_eq!(table.route(exclusive, |_| None).choice, Choice::Only(None));
        assert_eq!((table.route(preferred, here).wire_type, table.route(exclusive, here).wire_type), (3, 2));
    }
}
