//! `nr-static`: a node resolver whose whole knowledge is its parameter, and an example of how to write one.
//!
//! ```text
//!  resolve=static:joseph=02:00:00:00:00:01;karl.works.example=10.0.0.7+fd00::7
//!                 └ node   └ address        └ node, domain     └ addresses
//! ```
//!
//! Nodes are separated by `;`, addresses by `+` (options are separated by commas already). A node without a domain is one
//! of this node's domain. Ethernet addresses serve the Ethernet carrier, the others `bind=ip` and `bind=udp`.
//!
//! A resolver is a crate that builds a `cdylib` called `nr-NAME.so`: it implements [`Resolver`] and ends with
//! `export_resolver!`. It is called on a thread of its own and may wait for what it asks (a directory service, a file on
//! a slow disk); after ten seconds nobody waits for the answer any more.

#![deny(unsafe_code)]

use std::collections::BTreeMap;

use io_pkt_sdk::{Error, Log, Mac, NodeAddress, Resolver};

/// The list.
#[derive(Debug)]
pub struct Static {
    /// By `name.domain` in lower case.
    nodes: BTreeMap<String, Vec<NodeAddress>>,
}

impl Resolver for Static {
    fn create(parameter: &str, domain: &str, log: Log) -> Result<Self, Error> {
        let nodes = parse(parameter, domain).map_err(|what| Error::new(libc::EINVAL, what))?;
        log.info(&format!("{} nodes", nodes.len()));
        Ok(Self { nodes })
    }

    fn resolve(&mut self, name: &str, domain: &str) -> Result<Vec<NodeAddress>, Error> {
        Ok(self.nodes.get(&key(name, domain)).cloned().unwrap_or_default())
    }
}

fn key(name: &str, domain: &str) -> String {
    format!("{name}.{domain}").to_ascii_lowercase()
}

/// The list in a parameter; an error is what is wrong with it.
fn parse(parameter: &str, own: &str) -> Result<BTreeMap<String, Vec<NodeAddress>>, String> {
    let mut nodes = BTreeMap::new();
    for entry in parameter.split(';').filter(|entry| !entry.is_empty()) {
        let (node, list) =
            entry.split_once('=').ok_or_else(|| format!("`{entry}`: NODE=ADDRESS[+ADDRESS…] is expected"))?;
        let (name, domain) = node.split_once('.').unwrap_or((node, own));
        if name.is_empty() {
            return Err(format!("`{entry}` names no node"));
        }
        let addresses = list.split('+').map(address).collect::<Result<Vec<_>, _>>()?;
        if nodes.insert(key(name, domain), addresses).is_some() {
            return Err(format!("`{node}` is there twice"));
        }
    }
    if nodes.is_empty() {
        return Err("a list is expected behind the name: static:NODE=ADDRESS[+ADDRESS…][;…]".to_owned());
    }
    Ok(nodes)
}

fn address(text: &str) -> Result<NodeAddress, String> {
    // An IPv6 address has colons, too, but never six pairs of digits and nothing else.
    if let Ok(mac) = text.parse::<Mac>() {
        return Ok(NodeAddress::Mac(mac.0));
    }
    text.parse().map(NodeAddress::Ip).map_err(|_| format!("`{text}` is no Ethernet, IPv4 or IPv6 address"))
}

io_pkt_sdk::export_resolver!("nr-static", Static);

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn find(parameter: &str, name: &str, domain: &str) -> Vec<NodeAddress> {
        let mut list = Static { nodes: parse(parameter, "lab").unwrap() };
        list.resolve(name, domain).unwrap()
    }

    #[test]
    fn nodes_are_found_by_name_and_domain() {
        let list = "joseph=02:00:00:00:00:01;karl.works=10.0.0.7+fd00::7;";
        assert_eq!(find(list, "Joseph", "lab"), [NodeAddress::Mac([2, 0, 0, 0, 0, 1])]);
        let ip = |text: &str| NodeAddress::Ip(text.parse::<IpAddr>().unwrap());
        assert_eq!(find(list, "karl", "works"), [ip("10.0.0.7"), ip("fd00::7")]);
        assert!(find(list, "joseph", "works").is_empty());
    }

    #[test]
    fn a_wrong_list_is_refused_with_what_is_wrong() {
        for (list, what) in [
            ("", "a list is expected"),
            ("joseph", "`joseph`: NODE=ADDRESS"),
            ("=1.2.3.4", "names no node"),
            ("joseph=nowhere", "`nowhere` is no Ethernet"),
            ("a=1.2.3.4;A=1.2.3.5", "`A` is there twice"),
        ] {
            let error = parse(list, "lab").unwrap_err();
            assert!(error.contains(what), "{list}: {error}");
        }
    }
}
