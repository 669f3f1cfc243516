//! The text of a hosts file (`resolve=file`): which node has which addresses.
//!
//! ```text
//!  # comment
//!  host.domain   addr1[,addr2…]      # address: xx:xx:xx:xx:xx:xx
//!  host          addr1               # a host of the default domain
//! ```
//!
//! A line of another shape makes the whole text an error, because a node that is silently not there
//! is found only when it is needed. Reading the file is the caller's business.

use std::collections::BTreeMap;

use crate::link::LinkAddr;
use crate::names::{Domain, Fqnn, NameError};

/// Most addresses of one node: links that Qnet can use, and as many to come.
pub const MAX_ADDRESSES: usize = 8;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The node's name is none.
    #[error("{0}")]
    Name(#[from] NameError),
    /// Nothing behind the name.
    #[error("`{0}` has no address")]
    NoAddress(String),
    /// Something that is no Ethernet address.
    #[error("`{0}` is no Ethernet address (xx:xx:xx:xx:xx:xx)")]
    Address(String),
    /// An address that cannot be one machine's.
    #[error("`{0}` is the address of many or of nobody")]
    Group(String),
    /// More than [`MAX_ADDRESSES`].
    #[error("more than {MAX_ADDRESSES} addresses for one node")]
    TooMany,
    /// A third word.
    #[error("`{0}` is one word too many: addresses are separated by commas, without blanks")]
    Trailing(String),
    /// The node stands in an earlier line.
    #[error("`{0}` stands in line {1} already")]
    Twice(String, usize),
}

/// A line that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct HostsError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: LineError,
}

/// Nodes and their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// By [`Fqnn::key`]: the line, and the addresses.
    nodes: BTreeMap<String, (usize, Vec<LinkAddr>)>,
}

impl Hosts {
    /// Reads a text; hosts without a domain are of domain `default`.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn parse(text: &str, default: &Domain) -> Result<Hosts, HostsError> {
        let mut hosts = Hosts::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            hosts.add(at + 1, line, default).map_err(|what| HostsError { line: at + 1, what })?;
        }
        Ok(hosts)
    }

    fn add(&mut self, at: usize, line: &str, default: &Domain) -> Result<(), LineError> {
        let mut words = line.split_ascii_whitespace();
        let Some(host) = words.next() else { return Ok(()) };
        let name = Fqnn::parse(host, default)?;
        let list = words.next().ok_or_else(|| LineError::NoAddress(host.to_owned()))?;
        if let Some(word) = words.next() {
            return Err(LineError::Trailing(word.to_owned()));
        }
        let addresses = list.split(',').map(address).collect::<Result<Vec<_>, _>>()?;
        if addresses.len() > MAX_ADDRESSES {
            return Err(LineError::TooMany);
        }
        match self.nodes.insert(name.key(), (at, addresses)) {
            Some((before, _)) => Err(LineError::Twice(host.to_owned(), before)),
            None => Ok(()),
        }
    }

    /// The addresses of a node; none when it is not there.
    #[must_use]
    pub fn find(&self, name: &Fqnn) -> &[LinkAddr] {
        self.nodes.get(&name.key()).map_or(&[], |(_, addresses)| addresses)
    }

    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

fn address(text: &str) -> Result<LinkAddr, LineError> {
    let bad = || LineError::Address(text.to_owned());
    let mut mac = [0; 6];
    let mut octets = text.split(':');
    for byte in &mut mac {
        let octet = octets.next().filter(|octet| matches!(octet.len(), 1 | 2)).ok_or_else(bad)?;
        if !octet.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        *byte = u8::from_str_radix(octet, 16).map_err(|_| bad())?;
    }
    if octets.next().is_some() {
        return Err(bad());
    }
    if mac[0] & 1 == 1 || mac == [0; 6] {
        return Err(LineError::Group(text.to_owned()));
    }
    Ok(LinkAddr::mac(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Hosts, HostsError> {
        Hosts::parse(text, &Domain::new("lab.example").unwrap())
    }

    fn find(hosts: &Hosts, name: &str) -> Vec<String> {
        let name = Fqnn::parse(name, &Domain::new("lab.example").unwrap()).unwrap();
        hosts.find(&name).iter().map(LinkAddr::to_string).collect()
    }

    #[test]
    fn nodes_have_one_address_or_several_and_their_domain_or_ours() {
        let text = "# the lab\n\njoseph.lab.example 02:00:00:00:00:01\n\
                    Karl\t2:0:0:0:0:A,02:00:00:00:00:0b # two cards\nalonzo.works.example 02:00:00:00:00:03\n";
        let hosts = parse(text).unwrap();
        assert_eq!(hosts.len(), 3);
        assert_eq!(find(&hosts, "joseph"), ["02:00:00:00:00:01"]);
        assert_eq!(find(&hosts, "karl.lab.example"), ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]);
        assert_eq!(find(&hosts, "alonzo.works.example"), ["02:00:00:00:00:03"]);
        assert!(find(&hosts, "alonzo").is_empty());
    }

    #[test]
    fn an_error_names_the_line_and_what_is_wrong_with_it() {
        for (text, line, what) in [
            ("joseph\n", 1, "`joseph` has no address"),
            ("\njo/seph 02:00:00:00:00:01", 2, "`jo/seph` is no node name"),
            ("joseph 10.0.0.1", 1, "`10.0.0.1` is no Ethernet address"),
            ("joseph 02:00:00:00:00:01,", 1, "`` is no Ethernet address"),
            ("joseph 02:00:00:00:00:01:07", 1, "is no Ethernet address"),
            ("joseph 02:00:00:00:00:+1", 1, "is no Ethernet address"),
            ("joseph ff:ff:ff:ff:ff:ff", 1, "is the address of many or of nobody"),
            ("a 2:0:0:0:0:1\nb 2:0:0:0:0:2\nA 2:0:0:0:0:3", 3, "`A` stands in line 1 already"),
            ("joseph 2:0:0:0:0:1, 2:0:0:0:0:2", 1, "is one word too many"),
            ("joseph 2:0:0:0:0:1 2:0:0:0:0:2", 1, "is one word too many"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
        let many = format!("joseph {}", ["2:0:0:0:0:1"; MAX_ADDRESSES + 1].join(","));
        assert_eq!(parse(&many).unwrap_err().what, LineError::TooMany);
    }
}
