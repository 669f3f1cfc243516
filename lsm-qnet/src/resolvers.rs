//! The resolvers that are not part of the protocol: hosts files, the system's names, loadable modules.
//!
//! ```text
//!  core ── Event::Ask ──► Resolvers ──┬─ file: answered at once
//!                                     └─ dns, nr-*.so: a thread ── answer, wake ──► poll
//! ```
//!
//! Looking a name up in the system or in a module may take seconds, so it never happens on the loop's thread. Threads are
//! started with the first question, and are few; questions that find no room are answered "not known".

mod hosts_file;
mod worker;

use std::{
    net::IpAddr,
    sync::mpsc::{self, Receiver, Sender},
};

use io_pkt_sdk::{Error, Host, NodeAddress, OpenResolver};
use qnet_proto::{Domain, Fqnn, LinkAddr};

use crate::places::{Carrier, External};
use hosts_file::HostsFile;
use worker::{Answer, Lookup, Pool};

/// Threads that ask the system for names: so many names that nobody answers for delay no other.
const SYSTEM_THREADS: usize = 4;

enum Source {
    File(HostsFile),
    Pool(Pool),
}

/// All resolvers of the node, by the number that the core knows them by.
pub(crate) struct Resolvers {
    sources: Vec<Source>,
    answers: Receiver<Answer>,
    _keeps_open: Sender<Answer>,
}

impl std::fmt::Debug for Resolvers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolvers").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl Resolvers {
    /// Opens every resolver. `domain` is the node's own, for hosts without one.
    ///
    /// # Errors
    /// A hosts file that cannot be read or has a line that is none; a module that is not there.
    pub(crate) fn open(
        externals: &[External],
        carrier: &Carrier,
        domain: &Domain,
        host: &Host,
    ) -> Result<Self, Error> {
        let (sender, answers) = mpsc::channel();
        let port = match carrier {
            Carrier::Udp(port) => Some(*port),
            Carrier::Ethernet(_) | Carrier::Ip => None,
        };
        let mut sources = Vec::new();
        for external in externals {
            sources.push(match external {
                External::File(path) => Source::File(HostsFile::open(path, domain)?),
                External::Dns => {
                    let waker = host.waker();
                    let wake = move || waker.wake();
                    let ask = move |name: &Fqnn| system_addresses(name, port);
                    Source::Pool(Pool::new("qnet-dns", SYSTEM_THREADS, sender.clone(), wake, move || {
                        Box::new(ask)
                    }))
                }
                External::Module(name, parameter) => {
                    let opened = host.open_resolver(name, parameter, domain.as_str());
                    let resolver = opened.map_err(|error| error.context(format_args!("resolve={name}")))?;
                    Source::Pool(module(name, resolver, port, &sender, host))
                }
            });
        }
        Ok(Self { sources, answers, _keeps_open: sender })
    }

    /// Asks resolver number `resolver`. The answer comes now, or later from [`Resolvers::poll`].
    pub(crate) fn ask(&mut self, lookup: u32, resolver: u32, name: &Fqnn) -> Option<Vec<LinkAddr>> {
        match self.sources.get_mut(resolver as usize) {
            Some(Source::File(file)) => Some(file.find(name)),
            Some(Source::Pool(pool)) => {
                let asked = pool.ask(Lookup { lookup, name: name.clone() });
                if asked { None } else { Some(Vec::new()) }
            }
            None => Some(Vec::new()),
        }
    }

    /// The node is of another domain now.
    ///
    /// Loadable resolvers were told the domain once, when they were opened; the names they are asked for are complete.
    pub(crate) fn set_domain(&mut self, domain: &Domain) {
        for source in &mut self.sources {
            if let Source::File(file) = source {
                file.set_domain(domain);
            }
        }
    }

    /// The next late answer. Ask after each wake-up until there is none.
    pub(crate) fn poll(&mut self) -> Option<(u32, Vec<LinkAddr>)> {
        self.answers.try_recv().ok().map(|answer| (answer.lookup, answer.addresses))
    }
}

/// A module has a thread of its own, since it is called once at a time.
fn module(
    name: &str,
    resolver: OpenResolver,
    port: Option<u16>,
    answers: &Sender<Answer>,
    host: &Host,
) -> Pool {
    let waker = host.waker();
    let mut resolver = Some(resolver);
    let make = move || -> worker::Ask {
        let mut resolver = resolver.take();
        Box::new(move |name| {
            let Some(resolver) = &mut resolver else { return Vec::new() };
            match resolver.resolve(name.name.as_str(), name.domain.as_str()) {
                Ok(found) => found.into_iter().map(|address| link_address(address, port)).collect(),
                Err(error) => {
                    tracing::debug!("{error}");
                    Vec::new()
                }
            }
        })
    };
    Pool::new(&format!("qnet-nr-{name}"), 1, answers.clone(), move || waker.wake(), make)
}

fn link_address(address: NodeAddress, port: Option<u16>) -> LinkAddr {
    match address {
        NodeAddress::Mac(mac) => LinkAddr::mac(mac),
        NodeAddress::Ip(ip) => LinkAddr::ip(ip, port),
    }
}

/// What the system knows of a name.
fn system_addresses(name: &Fqnn, port: Option<u16>) -> Vec<LinkAddr> {
    use std::net::ToSocketAddrs;

    match (name.to_string().as_str(), 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses = Vec::new();
            for ip in found.map(|address| address.ip()).filter(leads_to_one_node) {
                let address = LinkAddr::ip(ip, port);
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            addresses
        }
        Err(error) => {
            tracing::debug!("{name}: {error}");
            Vec::new()
        }
    }
}

/// Debian's `/etc/hosts` calls the machine itself 127.0.1.1, which is nobody for the others.
fn leads_to_one_node(ip: &IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}
