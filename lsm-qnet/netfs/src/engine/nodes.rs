//! `/net` itself: the nodes, as the network manager knows them.
//!
//! Listing shows what is known now, the own node first. A name that is not known is resolved when it is first used, so
//! that any node can be entered at once. Without Qnet the directory is empty.

use std::time::{Duration, Instant};

use qnet_iomsg::netmgr;

use super::{
    Engine,
    files::Handle,
    names::{LIFETIME, attributes_for, entry},
    task::Task,
};
use crate::{
    attributes,
    fuse::{
        ROOT_ID,
        abi::{EntryOut, OpenOut},
        reply,
    },
    inodes::{Inode, Kind},
};

/// A line of the listing.
#[derive(Debug)]
pub(super) struct Listed {
    ino: u64,
    pub(super) name: Vec<u8>,
    /// The node's number; `.` and `..` have none.
    pub(super) nd: Option<u32>,
}

/// The task for a name in `/net`. What cannot be a node's name is answered without asking the network: hidden names
/// (desktops look for many) and those that no host can have.
pub(super) fn lookup_task(name: &[u8]) -> Result<Task, i32> {
    if name.len() > 255 {
        return Err(libc::ENAMETOOLONG);
    }
    if name.starts_with(b".") || !name.iter().all(u8::is_ascii_graphic) {
        return Err(libc::ENOENT);
    }
    check_policy(name)?;
    Ok(Task::LookupNode { name: name.into() })
}

/// The task for `rmdir` of a name in `/net`.
pub(super) fn forget_task(name: &[u8]) -> Result<Task, i32> {
    if name == super::statistics::NAME {
        return Err(libc::ENOTDIR);
    }
    match lookup_task(name)? {
        Task::LookupNode { name } => Ok(Task::Forget { name }),
        other => Ok(other),
    }
}

/// What may stand behind a node's name: `~loadbalance`, `~preferred:LINK`, `~exclusive:LINK`. Anything else would be taken
/// for a node that is not there, so it is EINVAL; whether the link exists Qnet knows.
fn check_policy(name: &[u8]) -> Result<(), i32> {
    let Some(at) = name.iter().position(|byte| *byte == b'~') else { return Ok(()) };
    let (node, policy) = (&name[..at], &name[at + 1..]);
    let mut words = policy.splitn(2, |byte| *byte == b':');
    let is_link = |link: &[u8]| !link.is_empty() && link.iter().all(u8::is_ascii_alphanumeric);
    let fits = match (words.next(), words.next()) {
        (Some(b"loadbalance"), None) => true,
        (Some(b"preferred" | b"exclusive"), Some(link)) => is_link(link),
        _ => false,
    };
    if fits && !node.is_empty() { Ok(()) } else { Err(libc::EINVAL) }
}

impl Engine {
    /// Whether a nodeid is `/net`, the own node's entry in it or the statistics, whose attributes are known without asking.
    pub(super) fn is_own(&self, nodeid: u64) -> bool {
        let own = |inode: &Inode| match inode.kind() {
            Kind::Root | Kind::Statistics => true,
            Kind::Node => inode.last_nd().is_some_and(|nd| nd & 0xffff == 0),
            Kind::File(_) => false,
        };
        self.inodes.get(nodeid).is_some_and(own)
    }

    /// Whether a nodeid is `/net` itself or the statistics: no node has anything to do with them.
    pub(super) fn is_local(&self, nodeid: u64) -> bool {
        self.inodes.get(nodeid).is_some_and(|inode| matches!(inode.kind(), Kind::Root | Kind::Statistics))
    }

    /// Whether a nodeid is a node's entry. Its attributes are our own, but to give them the node is asked whether it is
    /// there: so `ls -l` finds the dead ones, as in QNX, and Qnet strikes them off the list.
    pub(super) fn is_node(&self, nodeid: u64) -> bool {
        self.inodes.get(nodeid).is_some_and(|inode| inode.kind() == Kind::Node)
    }

    /// Attributes of such a directory or file.
    pub(super) fn own_attributes(&self, unique: u64, nodeid: u64) -> Vec<u8> {
        if self.is_statistics(nodeid) {
            let attr = attributes::of_statistics(self.config.owner, self.config.since);
            return reply::body(unique, &attributes_for(LIFETIME, attr));
        }
        let lifetime = if self.is_own(nodeid) { LIFETIME } else { Duration::ZERO };
        let nd = self.inodes.get(nodeid).and_then(Inode::last_nd);
        let ino = nd.map_or(ROOT_ID, attributes::node_ino);
        let attr = attributes::of_own_directory(ino, self.config.owner, self.config.since);
        reply::body(unique, &attributes_for(lifetime, attr))
    }

    /// The network manager has found a node.
    pub(super) fn on_node(&mut self, unique: u64, name: &[u8], status: i64) -> Result<Vec<u8>, i32> {
        let nd = u32::try_from(status).map_err(|_| libc::EIO)?;
        let nodeid = self.inodes.intern(ROOT_ID, name, Kind::Node).ok_or(libc::ESTALE)?;
        self.inodes.set_nd(nodeid, Some((self.link.generation(), nd)));
        let attr =
            attributes::of_own_directory(attributes::node_ino(nd), self.config.owner, self.config.since);
        // Whoever wants attributes wants to know whether the node is there.
        Ok(reply::body(
            unique,
            &EntryOut { attr_valid: 0, attr_valid_nsec: 0, ..entry(nodeid, LIFETIME, attr) },
        ))
    }

    pub(super) fn open_nodes(&mut self, unique: u64) -> Vec<u8> {
        let fh = self.insert_handle(Handle::Nodes(Vec::new()));
        reply::body(unique, &OpenOut { fh, ..OpenOut::default() })
    }

    /// The list of nodes has come: keep it for the rest of this pass over the directory.
    pub(super) fn on_nodes(
        &mut self,
        now: Instant,
        unique: u64,
        (fh, size, plus): (u64, u32, bool),
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let listed = list(data)?;
        self.health.note_listing(now, &listed);
        let answer = entries(unique, &listed, 0, size, plus);
        *self.handles.get_mut(&fh).ok_or(libc::EBADF)? = Handle::Nodes(listed);
        Ok(answer)
    }
}

/// The listing for a NODES reply. Nodes of our own domain are listed without it; one that has none is `name.` when ours has a
/// node of that name.
fn list(data: &[u8]) -> Result<Vec<Listed>, i32> {
    let nodes = netmgr::nodes(data).map_err(|_| libc::EIO)?;
    // A record without a name tells the directory's domain; without it, that is the own node's.
    let domain = nodes.iter().find(|node| node.name.is_empty()).or(nodes.iter().find(|node| node.nd == 0));
    let own_domain = domain.map(|node| node.domain).unwrap_or_default();
    let mut listed: Vec<_> = [&b"."[..], b".."]
        .into_iter()
        .map(|name| Listed { ino: ROOT_ID, name: name.to_vec(), nd: None })
        .collect();
    for node in nodes.iter().filter(|node| !node.name.is_empty()) {
        let mut name = node.name.to_vec();
        let ours = |other: &&netmgr::Node<'_>| other.domain.eq_ignore_ascii_case(own_domain);
        if !ours(&node) {
            let taken = || {
                nodes
                    .iter()
                    .filter(|other| ours(other) && !other.name.is_empty())
                    .any(|other| other.name.eq_ignore_ascii_case(node.name))
            };
            if !node.domain.is_empty() || taken() {
                name.push(b'.');
            }
            name.extend_from_slice(node.domain);
        }
        // What the kernel would take for a broken directory is left out.
        if name.len() <= 255 && !name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            listed.push(Listed { ino: attributes::node_ino(node.nd), name, nd: Some(node.nd) });
        }
    }
    Ok(listed)
}

/// The READDIR reply from entry number `from` on.
pub(super) fn entries(unique: u64, listed: &[Listed], from: u64, size: u32, plus: bool) -> Vec<u8> {
    let mut directory = reply::Directory::new(size as usize);
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    for (number, entry) in listed.iter().enumerate().skip(from) {
        let (ino, next, name) = (entry.ino, number as u64 + 1, &entry.name);
        // Nothing is said about a node before it is looked up.
        let pushed = if plus {
            directory.push_with_attributes(&EntryOut::default(), ino, next, libc::DT_DIR, name)
        } else {
            directory.push(ino, next, libc::DT_DIR, name)
        };
        if !pushed {
            break;
        }
    }
    directory.into_reply(unique)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qnet_iomsg::netmgr::NodeState;

    #[test]
    fn no_name_is_listed_twice_and_each_says_where_its_node_is() {
        let mut records = Vec::new();
        let nodes: [(u32, &[u8], &[u8]); 5] = [
            (0, b"alonzo", b"lab"),
            (1, b"joseph", b"LAB"),
            (2, b"joseph", b""),
            (3, b"joseph", b"other"),
            (4, b"karl", b""),
        ];
        for (nd, name, domain) in nodes {
            netmgr::Node { nd, state: NodeState::Known, flags: 0, name, domain }.emit(&mut records).unwrap();
        }
        let names: Vec<_> = list(&records).unwrap().into_iter().map(|listed| listed.name).collect();
        assert_eq!(names, [&b"."[..], b"..", b"alonzo", b"joseph", b"joseph.", b"joseph.other", b"karl"]);

        let mut elsewhere = Vec::new();
        let head = netmgr::Node { nd: 0, state: NodeState::Known, flags: 0, name: b"", domain: b"other" };
        head.emit(&mut elsewhere).unwrap();
        elsewhere.extend_from_slice(&records);
        let names: Vec<_> = list(&elsewhere).unwrap().into_iter().map(|listed| listed.name).collect();
        let expected = [&b"."[..], b"..", b"alonzo.lab", b"joseph.LAB", b"joseph.", b"joseph", b"karl"];
        assert_eq!(names, expected, "in a directory of another domain");
    }

    #[test]
    fn a_policy_behind_a_name_is_one_of_three() {
        for good in
            ["joseph", "joseph.lab", "joseph~loadbalance", "joseph.lab~preferred:en0", "a~exclusive:en12"]
        {
            assert!(matches!(lookup_task(good.as_bytes()), Ok(Task::LookupNode { .. })), "{good}");
        }
        for bad in [
            "a~",
            "~preferred:en0",
            "a~preferred",
            "a~preferred:",
            "a~loadbalance:en0",
            "a~redundant",
            "a~x:en0",
            "a~exclusive:en0~exclusive:en1",
        ] {
            assert_eq!(lookup_task(bad.as_bytes()).err(), Some(libc::EINVAL), "{bad}");
        }
    }
}
