//! What the node is called.
//!
//! `board1.lab.example` is node `board1` in domain `lab.example`. A machine without a name of its own (`localhost`, nothing
//! at all) is called after its first interface: `EA` and the last three octets of the address, in hexadecimal.

use std::fs::File;

use io_pkt_sdk::{Error, Host, Interest, PollHandle};
use qnet_proto::{Domain, NodeName};

/// Readable whenever the host name has changed.
const CHANGES: &str = "/proc/sys/kernel/hostname";

/// The machine's host name, empty if it has none.
pub(crate) fn machine_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Follows the host name for a node that is called after it.
pub(crate) struct Follower {
    // Declared before the file: watching ends first.
    _watched: PollHandle,
    _file: File,
    domain: Option<String>,
    last: String,
}

impl Follower {
    /// Watches the host name; `domain` is the option's value. `None` where the kernel does not tell of changes.
    pub(crate) fn new(host: &Host, token: u64, domain: Option<&str>) -> Option<Self> {
        let file = File::open(CHANGES).ok()?;
        let watched = host.watch(&file, Interest::Read, token).ok()?;
        let domain = domain.map(str::to_owned);
        Some(Self { _watched: watched, _file: file, domain, last: machine_name() })
    }

    /// The node's new name and domain, if the machine has another name by now. One that cannot be a node's is told once
    /// and not followed.
    pub(crate) fn look(&mut self) -> Option<(NodeName, Domain)> {
        let name = machine_name();
        if name == self.last {
            return None;
        }
        self.last.clone_from(&name);
        match node_name(None, self.domain.as_deref(), &name) {
            Ok(NameSource::Known(name, domain)) => Some((name, domain)),
            Ok(NameSource::Address(_)) => {
                tracing::warn!("the host name is `{name}` now, which is no name; the node keeps its own");
                None
            }
            Err(error) => {
                tracing::warn!("{error}; the node keeps its name");
                None
            }
        }
    }
}

/// Where a node's name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// It is known.
    Known(NodeName, Domain),
    /// It will be made of an interface's address.
    Address(Domain),
}

impl NameSource {
    /// The node's domain, which is known from the start; may be empty.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        match self {
            Self::Known(_, domain) | Self::Address(domain) => domain,
        }
    }

    /// Name and domain, given the address of an interface.
    #[must_use]
    pub fn resolve(&self, mac: Option<[u8; 6]>) -> Option<(NodeName, Domain)> {
        match self {
            Self::Known(name, domain) => Some((name.clone(), domain.clone())),
            Self::Address(domain) => mac.map(|mac| (NodeName::from_mac(mac), domain.clone())),
        }
    }
}

/// The node's name from the options `host=` and `domain=` and the machine's host name.
///
/// # Errors
/// `EINVAL` with the option and the value when a name or domain has characters that no host name has.
pub fn node_name(host: Option<&str>, domain: Option<&str>, machine: &str) -> Result<NameSource, Error> {
    let whole = host.unwrap_or(machine).trim_end_matches('.');
    let (name, rest) = whole.split_once('.').unwrap_or((whole, ""));
    let bad_host = |error| {
        let sentence = match host {
            Some(host) => format!("host={host}: {error}"),
            None => format!("the host name `{machine}`: {error}; host= gives the node another name"),
        };
        Error::new(libc::EINVAL, sentence)
    };
    let bad_domain = |error| match domain {
        Some(domain) => Error::new(libc::EINVAL, format!("domain={domain}: {error}")),
        None => bad_host(error),
    };
    let nameless = host.is_none() && is_nameless(name);
    // `localhost.localdomain` names a domain no more than it names a node.
    let domain = domain.unwrap_or(if nameless { "" } else { rest });
    let domain = Domain::new(domain).map_err(bad_domain)?;
    if nameless {
        return Ok(NameSource::Address(domain));
    }
    let name = NodeName::new(name).map_err(bad_host)?;
    Ok(NameSource::Known(name, domain))
}

fn is_nameless(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.is_empty() || lower.starts_with("localhost") || lower == "(none)"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(host: Option<&str>, domain: Option<&str>, machine: &str) -> (String, String) {
        match node_name(host, domain, machine).unwrap() {
            NameSource::Known(name, domain) => (name.to_string(), domain.to_string()),
            NameSource::Address(domain) => (String::from("?"), domain.to_string()),
        }
    }

    fn pair(name: &str, domain: &str) -> (String, String) {
        (name.to_owned(), domain.to_owned())
    }

    #[test]
    fn a_dotted_host_name_gives_node_and_domain() {
        assert_eq!(known(None, None, "board1.lab.example"), pair("board1", "lab.example"));
        assert_eq!(known(None, None, "board1"), pair("board1", ""));
        assert_eq!(known(Some("x.y.z"), None, "board1.lab.example"), pair("x", "y.z"));
        assert_eq!(known(None, Some("other"), "board1.lab.example"), pair("board1", "other"));
        assert_eq!(known(Some("x."), Some(".lab"), ""), pair("x", "lab"));
    }

    #[test]
    fn a_machine_without_a_name_is_called_after_its_address() {
        for machine in ["", "localhost", "localhost.localdomain", "Localhost4", "(none)"] {
            assert_eq!(known(None, None, machine), pair("?", ""), "{machine}");
        }
        let source = node_name(None, Some("lab"), "localhost").unwrap();
        assert_eq!(source.resolve(None), None);
        let (name, domain) = source.resolve(Some([0, 0, 0, 0xdd, 0x35, 0x28])).unwrap();
        assert_eq!((name.as_str(), domain.as_str()), ("EAdd3528", "lab"));
    }

    #[test]
    fn a_bad_name_is_refused_with_its_option() {
        let error = node_name(Some("a/b"), None, "").unwrap_err();
        assert!(error.text().starts_with("host=a/b: "), "{error}");
        let error = node_name(None, Some("a b"), "board1").unwrap_err();
        assert!(error.text().starts_with("domain=a b: "), "{error}");
        let error = node_name(Some(".."), None, "").unwrap_err();
        assert!(error.text().starts_with("host=..: "), "{error}");
        for machine in ["my!board", "board1.l b"] {
            let error = node_name(None, None, machine).unwrap_err();
            assert!(error.text().starts_with(&format!("the host name `{machine}`: ")), "{error}");
        }
    }
}
