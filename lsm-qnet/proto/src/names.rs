//! Node names, domains and fully qualified node names (FQNN).
//!
//! A node name has no dot and no slash; a FQNN is `name.domain`, split at its first dot. Names are
//! compared without regard to ASCII case, as host names are, and shown as they were given.

use std::fmt;

/// Longest node name, and longest label, in bytes (RFC 1123).
const MAX_LABEL: usize = 63;
/// Longest domain in bytes.
const MAX_DOMAIN: usize = 253;

/// Why a text is no node name or domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a node name must not be empty")]
    Empty,
    /// Over 63 bytes (a domain: 253).
    #[error("`{0}` is too long for a node name or domain")]
    TooLong(String),
    /// Something else than letters, digits, `-` and `_`, or a hyphen at an end.
    #[error("`{0}` is no node name: letters, digits, `-` and `_` are allowed, with no hyphen at either end")]
    BadCharacter(String),
}

fn check_label(label: &str, whole: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::Empty);
    }
    if label.len() > MAX_LABEL {
        return Err(NameError::TooLong(whole.to_owned()));
    }
    let good = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !good || label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::BadCharacter(whole.to_owned()));
    }
    Ok(())
}

/// A node's name inside its domain.
#[derive(Clone, Debug, Eq)]
pub struct NodeName(String);

impl NodeName {
    /// Checks a node name.
    ///
    /// # Errors
    /// [`NameError`] when it is empty, too long, or has other characters than a host name's.
    pub fn new(name: &str) -> Result<NodeName, NameError> {
        check_label(name, name)?;
        Ok(NodeName(name.to_owned()))
    }

    /// The name of a node that has none: `EA` and the last three octets of its Ethernet address.
    #[must_use]
    pub fn from_mac(mac: [u8; 6]) -> NodeName {
        NodeName(ea([mac[3], mac[4], mac[5]]))
    }

    /// The name under which a node is listed whose own name was taken: `NAME-EAxxxxxx`, of the last
    /// three octets of its address.
    #[must_use]
    pub(crate) fn alias(&self, tail: [u8; 3]) -> NodeName {
        let kept = &self.0[..self.0.len().min(MAX_LABEL - 9)];
        NodeName(format!("{kept}-{}", ea(tail)))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn ea(tail: [u8; 3]) -> String {
    format!("EA{:02x}{:02x}{:02x}", tail[0], tail[1], tail[2])
}

impl PartialEq for NodeName {
    fn eq(&self, other: &NodeName) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A domain; may be empty.
#[derive(Clone, Debug, Default, Eq)]
pub struct Domain(String);

impl Domain {
    /// Checks a domain: labels with dots between them, or nothing. A leading dot, as QNX's
    /// `mount=` option allows, is dropped.
    ///
    /// # Errors
    /// [`NameError`] when a label is bad or the whole is too long.
    pub fn new(domain: &str) -> Result<Domain, NameError> {
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        if domain.len() > MAX_DOMAIN {
            return Err(NameError::TooLong(domain.to_owned()));
        }
        if !domain.is_empty() {
            domain.split('.').try_for_each(|label| check_label(label, domain))?;
        }
        Ok(Domain(domain.to_owned()))
    }

    /// The domain of a network directory that has no other: its path backwards, with dots
    /// (`/net/outside/canada` gives `canada.outside.net`).
    ///
    /// # Errors
    /// [`NameError`] when a folder's name cannot be a part of a domain.
    pub fn of_directory(path: &str) -> Result<Domain, NameError> {
        let labels: Vec<&str> = path.split('/').rev().filter(|part| !part.is_empty()).collect();
        Domain::new(&labels.join("."))
    }

    /// Whether a domain is this one or lies below it. The empty domain covers itself only.
    #[must_use]
    pub fn covers(&self, other: &Domain) -> bool {
        let (own, other) = (self.0.as_bytes(), other.0.as_bytes());
        let Some(head) = other.len().checked_sub(own.len()) else { return false };
        let below = head == 0 || (!own.is_empty() && other[head - 1] == b'.');
        below && other[head..].eq_ignore_ascii_case(own)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Domain) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fully qualified node name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fqnn {
    /// The node's name.
    pub name: NodeName,
    /// Its domain.
    pub domain: Domain,
}

impl Fqnn {
    /// Reads `name` (then the domain is `default`) or `name.domain`.
    ///
    /// # Errors
    /// [`NameError`] when either part is bad.
    pub fn parse(text: &str, default: &Domain) -> Result<Fqnn, NameError> {
        Ok(match text.split_once('.') {
            None => Fqnn { name: NodeName::new(text)?, domain: default.clone() },
            Some((name, domain)) => Fqnn { name: NodeName::new(name)?, domain: Domain::new(domain)? },
        })
    }

    /// The key under which tables hold this name: lower case, always with its dot.
    #[must_use]
    pub(crate) fn key(&self) -> String {
        let mut key = format!("{}.{}", self.name.0, self.domain.0);
        key.make_ascii_lowercase();
        key
    }
}

impl fmt::Display for Fqnn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_str())?;
        if self.domain.as_str().is_empty() { Ok(()) } else { write!(f, ".{}", self.domain) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fqnn(text: &str) -> Fqnn {
        Fqnn::parse(text, &Domain::new("lab.example").unwrap()).unwrap()
    }

    #[test]
    fn a_bare_name_takes_the_default_domain() {
        assert_eq!(fqnn("alonzo").to_string(), "alonzo.lab.example");
        assert_eq!(fqnn("alonzo.other").to_string(), "alonzo.other");
        assert_eq!(fqnn("alonzo."), Fqnn::parse("alonzo", &Domain::default()).unwrap());
    }

    #[test]
    fn names_that_no_host_can_have_are_refused() {
        for bad in ["", "-a", "a-", "a/b", "a b", "ä", ".lab"] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
        assert!(NodeName::new(&"x".repeat(64)).is_err());
        assert!(Domain::new("a..b").is_err());
        assert_eq!(Domain::new(".lab").unwrap().as_str(), "lab");
    }

    #[test]
    fn case_does_not_make_another_node() {
        assert_eq!(fqnn("Alonzo.LAB.example"), fqnn("alonzo"));
        assert_eq!(fqnn("Alonzo").key(), fqnn("alonzo").key());
    }

    #[test]
    fn a_nameless_node_and_a_newcomer_are_named_after_their_address() {
        let mac = [0, 0x0c, 0x29, 0xdd, 0x35, 0x28];
        assert_eq!(NodeName::from_mac(mac).as_str(), "EAdd3528");
        let tail = [0xdd, 0x35, 0x28];
        assert_eq!(NodeName::new("joseph").unwrap().alias(tail).as_str(), "joseph-EAdd3528");
        assert_eq!(NodeName::new(&"x".repeat(63)).unwrap().alias(tail).as_str().len(), 63);
    }

    #[test]
    fn a_domain_covers_what_lies_below_it() {
        let covers = |a: &str, b: &str| Domain::new(a).unwrap().covers(&Domain::new(b).unwrap());
        assert!(covers("com", "qnx.com") && covers("qnx.com", "QNX.com") && covers("", ""));
        assert!(!covers("com", "telecom") && !covers("qnx.com", "com") && !covers("", "com"));
    }

    #[test]
    fn a_directory_gives_a_domain_backwards() {
        assert_eq!(Domain::of_directory("/net/outside/canada").unwrap().as_str(), "canada.outside.net");
        assert_eq!(Domain::of_directory("/net/").unwrap().as_str(), "net");
        assert!(Domain::of_directory("/net/a b").is_err());
    }
}
