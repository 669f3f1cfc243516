//! `netmgr_ndtostr`: a node's descriptor as a text, by pieces.
//!
//! ```text
//!   directory   name   domain   policy              directory: ends in a slash, and then so does the whole text
//!   /net/       peterv .qnx.com ~preferred:en0 /
//! ```
//!
//! Each piece is shown, hidden, or as follows when neither is asked for:
//!
//! - the directory, when the node is not in the default one, and only in a text for display here (`LOCAL_STR`);
//! - the name, unless it is this node's (a policy is not shown in a directory without a node);
//! - the domain, in a text for display here only when it is not the directory's; else with the name. (QNX's documents
//!   disagree; this is what their examples show.)
//! - the policy, when it is not the default.
//!
//! Without any flag it is the FQNN and a policy that is not the default, for this node, too. A directory shown for this node
//! without its name is the path to its root, `/` (**ours**; what the library says without Qnet).

use qnet_proto::{Domain, NodeId, Qos};

use super::Engine;

/// `ND2S_*`.
mod nd2s {
    pub(super) const DIR_SHOW: u32 = 0x1;
    pub(super) const DIR_HIDE: u32 = 0x2;
    pub(super) const QOS_SHOW: u32 = 0x4;
    pub(super) const QOS_HIDE: u32 = 0x8;
    pub(super) const NAME_SHOW: u32 = 0x10;
    pub(super) const NAME_HIDE: u32 = 0x20;
    pub(super) const DOMAIN_SHOW: u32 = 0x40;
    pub(super) const DOMAIN_HIDE: u32 = 0x80;
    pub(super) const LOCAL_STR: u32 = 0x1000;
    pub(super) const SEP_FORCE: u32 = 0x2000;
}

/// What is known of the node.
struct Described<'a> {
    local: bool,
    name: &'a str,
    domain: &'a Domain,
    qos: &'a Qos,
    /// The network directory it is in, and the domain of that one's bare names.
    directory: (&'a str, &'a Domain),
    /// Whether that is the default directory.
    by_default: bool,
}

impl Engine {
    /// The text for a descriptor; `None` when it names no node.
    pub(super) fn ndtostr(&self, flags: u32, nd: u32) -> Option<String> {
        let nd = NodeId(nd);
        let view = self.node.nodes().find(|view| view.nd.node() == nd.node())?;
        // A node is in the first directory whose bare names are of its domain, or else in the default one.
        let own = (0..self.nets.len()).find(|n| self.node.domain_of_directory(*n) == view.domain);
        let number = own.unwrap_or(0);
        let path = self.nets.get(number).map_or("", String::as_str);
        let node = Described {
            local: view.nd == NodeId::LOCAL,
            name: view.name.as_str(),
            domain: view.domain,
            qos: self.node.qos_of(nd)?,
            directory: (path, self.node.domain_of_directory(number)),
            by_default: number == 0,
        };
        Some(describe(flags, &node))
    }
}

/// What the flags say of a piece: shown, hidden, or as `usual`.
fn piece(flags: u32, show: u32, hide: u32, usual: bool) -> bool {
    flags & show != 0 || (flags & hide == 0 && usual)
}

fn describe(flags: u32, node: &Described<'_>) -> String {
    let Described { local, name, domain, qos, directory: (path, default), by_default } = *node;
    let short = flags & nd2s::LOCAL_STR != 0;
    let dir = piece(flags, nd2s::DIR_SHOW, nd2s::DIR_HIDE, short && !by_default);
    let show_qos = piece(flags, nd2s::QOS_SHOW, nd2s::QOS_HIDE, *qos != Qos::LoadBalance);
    let usual_name = !local || flags == 0 || (dir && show_qos);
    let show_name = piece(flags, nd2s::NAME_SHOW, nd2s::NAME_HIDE, usual_name);
    let usual_domain = show_name && (!short || domain != default);
    let show_domain = piece(flags, nd2s::DOMAIN_SHOW, nd2s::DOMAIN_HIDE, usual_domain);
    // Nothing of the node is shown, and nobody asked for that: what is left is the way to its root.
    if dir && local && !show_name && flags & nd2s::NAME_HIDE == 0 && !show_domain && !show_qos {
        return "/".to_owned();
    }
    let mut text = String::new();
    if dir {
        text.push_str(path);
        text.push('/');
    }
    let before = text.len();
    // The first piece has a separator only when that is asked for.
    let separate = |text: &mut String, separator| {
        if text.len() > before || flags & nd2s::SEP_FORCE != 0 {
            text.push(separator);
        }
    };
    if show_name {
        text.push_str(name);
    }
    if show_domain && !domain.as_str().is_empty() {
        separate(&mut text, '.');
        text.push_str(domain.as_str());
    }
    if show_qos {
        separate(&mut text, '~');
        text.push_str(&qos.to_string());
    }
    if dir && text.len() > before {
        text.push('/');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{nd2s::*, *};

    /// What is seen from alonzo.qnx.com, whose directories are `/net` for qnx.com and `/other` for other.org.
    fn text_of(flags: u32, name: &str, domain: &str, qos: &str) -> String {
        let nets = [("/net", "qnx.com"), ("/other", "other.org")];
        let number = nets.iter().position(|(_, own)| *own == domain).unwrap_or(0);
        let (path, default) = nets[number];
        let [domain, default] = [domain, default].map(|text| Domain::new(text).unwrap());
        let qos: Qos = qos.parse().unwrap();
        let (local, by_default) = (name == "alonzo", number == 0);
        let directory = (path, &default);
        let node = Described { local, name, domain: &domain, qos: &qos, directory, by_default };
        describe(flags, &node)
    }

    const HIDDEN: u32 = DIR_HIDE | NAME_HIDE | DOMAIN_HIDE;

    #[test]
    fn the_documented_examples_read_as_documented() {
        for (flags, name, domain, want) in [
            (DIR_SHOW, "peterv", "qnx.com", "/net/peterv.qnx.com/"),
            (DIR_SHOW, "alonzo", "qnx.com", "/"),
            (LOCAL_STR, "peterv", "qnx.com", "peterv"),
            (LOCAL_STR, "peterv", "anotherhost.com", "peterv.anotherhost.com"),
            (SEP_FORCE | HIDDEN | QOS_SHOW, "alonzo", "qnx.com", "~loadbalance"),
            (HIDDEN | QOS_SHOW, "alonzo", "qnx.com", "loadbalance"),
            (DIR_HIDE | NAME_SHOW | DOMAIN_SHOW, "alonzo", "qnx.com", "alonzo.qnx.com"),
            (DIR_HIDE | NAME_SHOW | DOMAIN_SHOW, "peterv", "qnx.com", "peterv.qnx.com"),
            (DIR_SHOW | NAME_HIDE | DOMAIN_HIDE, "alonzo", "qnx.com", "/net/"),
            (0, "peterv", "qnx.com", "peterv.qnx.com"),
            (0, "alonzo", "qnx.com", "alonzo.qnx.com"),
        ] {
            assert_eq!(text_of(flags, name, domain, "loadbalance"), want, "{flags:#x} {name}.{domain}");
        }
    }

    #[test]
    fn each_flag_shows_or_hides_its_piece() {
        for (flags, name, domain, want) in [
            (DIR_HIDE, "peterv", "qnx.com", "peterv.qnx.com"),
            (QOS_SHOW, "peterv", "qnx.com", "peterv.qnx.com~loadbalance"),
            (QOS_HIDE, "peterv", "qnx.com", "peterv.qnx.com"),
            (NAME_SHOW, "alonzo", "qnx.com", "alonzo.qnx.com"),
            (NAME_HIDE, "peterv", "qnx.com", ""),
            (NAME_HIDE | DOMAIN_SHOW, "peterv", "qnx.com", "qnx.com"),
            (NAME_HIDE | DOMAIN_SHOW | SEP_FORCE, "peterv", "qnx.com", ".qnx.com"),
            (DOMAIN_HIDE, "peterv", "qnx.com", "peterv"),
            (LOCAL_STR | DOMAIN_SHOW, "peterv", "qnx.com", "peterv.qnx.com"),
            (LOCAL_STR, "alonzo", "qnx.com", ""),
            (LOCAL_STR | NAME_SHOW, "alonzo", "qnx.com", "alonzo"),
            (LOCAL_STR, "peterv", "other.org", "/other/peterv/"),
            (LOCAL_STR | DIR_HIDE, "peterv", "other.org", "peterv"),
            (LOCAL_STR | DIR_SHOW, "peterv", "qnx.com", "/net/peterv/"),
            (DIR_SHOW, "peterv", "other.org", "/other/peterv.other.org/"),
            (DIR_SHOW | NAME_SHOW, "alonzo", "qnx.com", "/net/alonzo.qnx.com/"),
            (DIR_SHOW | QOS_SHOW, "alonzo", "qnx.com", "/net/alonzo.qnx.com~loadbalance/"),
            (DIR_SHOW, "peterv", "", "/net/peterv/"),
        ] {
            assert_eq!(text_of(flags, name, domain, "loadbalance"), want, "{flags:#x} {name}.{domain}");
        }
    }

    #[test]
    fn a_policy_that_is_not_the_default_stands_behind_the_name_unless_hidden() {
        for (flags, want) in [
            (0, "peterv.qnx.com~preferred:en0"),
            (QOS_HIDE, "peterv.qnx.com"),
            (LOCAL_STR, "peterv~preferred:en0"),
            (DIR_SHOW, "/net/peterv.qnx.com~preferred:en0/"),
            (HIDDEN | SEP_FORCE, "~preferred:en0"),
        ] {
            assert_eq!(text_of(flags, "peterv", "qnx.com", "preferred:en0"), want, "{flags:#x}");
        }
    }
}
