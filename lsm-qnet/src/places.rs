//! Where names live and how they are found: the options `mount=`, `resolve=` and `bind=`, which hang together.
//!
//! ```text
//!  resolve=a,resolve=b,mount=/x,mount=/y,resolve=c,mount=/z        /x and /y: a, then b;  /z: c
//!  mount=/net:lab.example:.works.example                           one directory, two domains
//!  mount=:                                                         the default directory
//! ```
//!
//! `resolve=` options pile up; a `mount=` takes the list so far, and the first `resolve=` after it begins a new one. A
//! directory that is named twice gets the second's domains with the second's resolvers.
//!
//! DEVIATION: the first directory of a node without a domain has the empty domain; QNX makes `net` of `/net`, which two
//! nodes with different directories would not share. Further directories get their path backwards, as in QNX.

use std::path::{Path, PathBuf};

use io_pkt_sdk::Error;
use qnet_proto::{Directory, Domain, Resolver, Zone};

/// Port of `bind=udp`: Qnet's ethertype.
pub(crate) const UDP_PORT: u16 = 0x8204;
/// File of `resolve=file`.
pub(crate) const HOSTS: &str = "/etc/qnet_hosts";

/// What carries packets from node to node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Frames of these interfaces; none named means all.
    Ethernet(Vec<String>),
    /// IP protocol 106 over the system's routing.
    Ip,
    /// UDP to and from this port. Not in QNX.
    Udp(u16),
}

/// A resolver that is not part of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum External {
    /// A hosts file.
    File(PathBuf),
    /// The system's names: DNS, `/etc/hosts`.
    Dns,
    /// `nr-NAME.so`, with its parameter.
    Module(String, String),
}

/// A network directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it is mounted.
    pub path: PathBuf,
    /// How its names are found.
    pub directory: Directory,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The network directories, the default one first; never none.
    pub places: Vec<Place>,
    /// The resolvers that [`Resolver::External`] numbers.
    pub resolvers: Vec<External>,
    /// The carrier.
    pub carrier: Carrier,
}

impl Places {
    /// Reads the options in the order in which they were given. `net` is the directory to use when none is named, `domain`
    /// the node's own.
    ///
    /// # Errors
    /// `EINVAL` with the option and the value, or with the two that do not go together.
    pub fn read<'a>(
        options: impl Iterator<Item = (&'a str, &'a str)>,
        net: &str,
        domain: &Domain,
    ) -> Result<Self, Error> {
        let mut reader = Reader::new(net, domain);
        for (name, value) in options {
            match name {
                "resolve" => reader.resolve(value)?,
                "mount" => reader.mount(value)?,
                "bind" => reader.bind(value)?,
                _ => {}
            }
        }
        reader.finish()
    }
}

struct Reader<'a> {
    net: &'a str,
    domain: &'a Domain,
    places: Vec<Place>,
    externals: Vec<External>,
    /// The list that the next `mount=` takes, with the options' values for error sentences.
    list: Vec<(Resolver, String)>,
    /// Every resolver that some directory uses.
    used: Vec<(Resolver, String)>,
    /// The list was taken: the next `resolve=` begins a new one.
    taken: bool,
    interfaces: Vec<String>,
    /// `ip` or `udp`, as written.
    internet: Option<(Carrier, String)>,
}

impl<'a> Reader<'a> {
    fn new(net: &'a str, domain: &'a Domain) -> Self {
        Self {
            net,
            domain,
            places: Vec::new(),
            externals: Vec::new(),
            list: Vec::new(),
            used: Vec::new(),
            taken: false,
            interfaces: Vec::new(),
            internet: None,
        }
    }

    fn resolve(&mut self, value: &str) -> Result<(), Error> {
        let (name, parameter) =
            value.split_once(':').map_or((value, None), |(name, rest)| (name, Some(rest)));
        let refuse = |what: &str| Err(invalid(format!("resolve={value}: {what}")));
        let external = match (name, parameter) {
            ("en_ionet" | "ndp", None) => None,
            ("en_ionet" | "ndp" | "dns", Some(_)) => return refuse(&format!("{name} takes no parameter")),
            ("dns", None) => Some(External::Dns),
            ("file", path) => {
                let path = Path::new(path.unwrap_or(HOSTS));
                if !path.is_absolute() {
                    return refuse("an absolute path is expected behind file:");
                }
                Some(External::File(path.to_owned()))
            }
            _ => {
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                if name.is_empty() || !name.bytes().all(plain) {
                    return refuse(
                        "en_ionet, ndp, dns, file[:PATH] or the NAME of a module nr-NAME.so is expected",
                    );
                }
                Some(External::Module(name.to_owned(), parameter.unwrap_or_default().to_owned()))
            }
        };
        let resolver = external.map_or(Resolver::Lan, |external| {
            let known = self.externals.iter().position(|known| *known == external);
            let index = known.unwrap_or_else(|| {
                self.externals.push(external);
                self.externals.len() - 1
            });
            Resolver::External(index as u32)
        });
        if std::mem::take(&mut self.taken) {
            self.list.clear();
        }
        if self.list.iter().any(|(listed, _)| *listed == resolver) {
            return refuse("it is in the list already");
        }
        self.list.push((resolver, value.to_owned()));
        Ok(())
    }

    fn mount(&mut self, value: &str) -> Result<(), Error> {
        let mut parts = value.split(':');
        let first = parts.next().unwrap_or_default();
        let (path, early) = match first {
            "" => (self.net, None),
            path if path.starts_with('/') => (path, None),
            domain if domain.starts_with('.') => (self.net, Some(domain)),
            _ => return Err(invalid(format!("mount={value}: an absolute path is expected"))),
        };
        let mut domains = Vec::new();
        for text in early.into_iter().chain(parts.filter(|text| !text.is_empty())) {
            let domain = Domain::new(text).map_err(|error| invalid(format!("mount={value}: {error}")))?;
            domains.push(Some(domain));
        }
        if domains.is_empty() {
            domains.push(self.default_domain(path).map_err(|error| {
                invalid(format!("mount={value}: the path gives no domain ({error}); name one behind a colon"))
            })?);
        }
        self.add(path, domains);
        self.taken = true;
        Ok(())
    }

    /// The domain of a directory that names none; `None`: the node's own.
    fn default_domain(&self, path: &str) -> Result<Option<Domain>, qnet_proto::NameError> {
        let other = !self.places.is_empty() && self.places[0].path != Path::new(path);
        let nameless = self.domain.as_str().is_empty();
        if other && nameless { Domain::of_directory(path).map(Some) } else { Ok(None) }
    }

    fn add(&mut self, path: &str, domains: Vec<Option<Domain>>) {
        if self.list.is_empty() {
            self.list.push((Resolver::Lan, "en_ionet".to_owned()));
        }
        let resolvers: Vec<Resolver> = self.list.iter().map(|(resolver, _)| *resolver).collect();
        self.used.extend(self.list.iter().cloned());
        let zones = domains.into_iter().map(|domain| Zone { domain, resolvers: resolvers.clone() });
        // The same place under another spelling would be mounted twice.
        let path: PathBuf = Path::new(path).components().collect();
        match self.places.iter_mut().find(|place| place.path == path) {
            Some(place) => place.directory.zones.extend(zones),
            None => self.places.push(Place { path, directory: Directory { zones: zones.collect() } }),
        }
    }

    fn bind(&mut self, value: &str) -> Result<(), Error> {
        let carrier = match value.split_once(':').map_or((value, None), |(name, rest)| (name, Some(rest))) {
            ("ip", None) => Carrier::Ip,
            ("udp", None) => Carrier::Udp(UDP_PORT),
            ("udp", Some(port)) => match port.parse() {
                Ok(port) if port != 0 => Carrier::Udp(port),
                _ => return Err(invalid(format!("bind={value}: a port from 1 to 65535 is expected"))),
            },
            (_, Some(_)) => {
                let text = format!("bind={value}: an interface such as en0, ip, udp or udp:PORT is expected");
                return Err(invalid(text));
            }
            (interface, None) => {
                self.interfaces.push(interface.to_owned());
                return Ok(());
            }
        };
        if let Some((_, before)) = &self.internet {
            return Err(invalid(format!("bind={value}: does not go together with bind={before}")));
        }
        self.internet = Some((carrier, value.to_owned()));
        Ok(())
    }

    fn finish(mut self) -> Result<Places, Error> {
        if self.places.is_empty() {
            self.add(self.net, vec![None]);
        } else if !self.taken
            && let Some((_, value)) = self.list.first()
        {
            return Err(invalid(format!("resolve={value}: no mount= follows that would use it")));
        }
        let carrier = self.carrier()?;
        Ok(Places { places: self.places, resolvers: self.externals, carrier })
    }

    /// The carrier, if the resolvers know addresses of its kind.
    fn carrier(&mut self) -> Result<Carrier, Error> {
        let is = |wanted: &External, resolver: &Resolver| match resolver {
            Resolver::Lan => false,
            Resolver::External(index) => self.externals.get(*index as usize) == Some(wanted),
        };
        let Some((carrier, bind)) = self.internet.take() else {
            if self.used.iter().any(|(resolver, _)| is(&External::Dns, resolver)) {
                let bind = self.interfaces.first().map_or(String::new(), |name| format!(" with bind={name}"));
                return Err(invalid(format!(
                    "resolve=dns{bind}: it finds addresses of the Internet protocol; bind=ip or bind=udp is needed"
                )));
            }
            return Ok(Carrier::Ethernet(std::mem::take(&mut self.interfaces)));
        };
        if let Some(interface) = self.interfaces.first() {
            return Err(invalid(format!("bind={bind}: does not go together with bind={interface}")));
        }
        for (resolver, value) in &self.used {
            match resolver {
                Resolver::Lan => {
                    return Err(invalid(format!(
                        "bind={bind}: needs resolve=dns; the resolver {value} finds nodes on Ethernet only"
                    )));
                }
                Resolver::External(index) => {
                    if let Some(External::File(_)) = self.externals.get(*index as usize) {
                        let text = format!("bind={bind}: resolve={value} does not go together with it");
                        return Err(invalid(format!("{text}; use resolve=dns with /etc/hosts")));
                    }
                }
            }
        }
        Ok(carrier)
    }
}

fn invalid(text: String) -> Error {
    Error::new(libc::EINVAL, text)
}

#[cfg(test)]
mod tests;
