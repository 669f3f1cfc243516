//! Names that the core asks others for: its questions out, the resolvers' answers in; and network directories, in which
//! names are written.

use qnet_proto::{Command, Domain, Fqnn, LinkAddr, NodeName};

use super::Engine;
use crate::resolvers::Resolvers;

/// The question for this node's own address; the core's numbers begin at 1.
const OWN: u32 = 0;

impl Engine {
    /// Gives it the resolvers that the core's settings number.
    pub(crate) fn set_resolvers(&mut self, resolvers: Resolvers) {
        self.resolvers = Some(resolvers);
    }

    /// Asks the default directory's resolvers for this node's own address, as the others will.
    pub(crate) fn ask_own_address(&mut self) {
        let config = self.node.config();
        let own = Fqnn { name: config.name.clone(), domain: config.domain.clone() };
        let zone = config.directories.first().and_then(|directory| directory.zones.first());
        let outside = zone.and_then(|zone| {
            zone.resolvers.iter().find_map(|resolver| match resolver {
                qnet_proto::Resolver::External(number) => Some(*number),
                qnet_proto::Resolver::Lan => None,
            })
        });
        if let Some(resolver) = outside {
            self.on_ask(OWN, resolver, &own);
        }
    }

    /// The machine has another name, and so has the node.
    pub(crate) fn rename(&mut self, name: NodeName, domain: Domain) {
        let dot = if domain.as_str().is_empty() { "" } else { "." };
        tracing::info!("this is node {name}{dot}{domain} from now on: the host name was changed");
        if let Some(resolvers) = &mut self.resolvers {
            resolvers.set_domain(&domain);
        }
        self.command(Command::Rename { name, domain });
        self.ask_own_address();
    }

    /// This node's own address, once the resolver has said it: `None` in it when it knows none.
    pub(crate) fn take_own_address(&mut self) -> Option<Option<LinkAddr>> {
        self.own_address.take()
    }

    /// The core looks for a node's address.
    pub(super) fn on_ask(&mut self, lookup: u32, resolver: u32, name: &Fqnn) {
        let answer = match &mut self.resolvers {
            Some(resolvers) => resolvers.ask(lookup, resolver, name),
            None => Some(Vec::new()),
        };
        if let Some(addresses) = answer {
            self.on_answer(lookup, addresses);
        }
    }

    /// Passes on what resolvers have found meanwhile.
    pub(super) fn drain_answers(&mut self) {
        while let Some((lookup, addresses)) = self.resolvers.as_mut().and_then(Resolvers::poll) {
            self.on_answer(lookup, addresses);
        }
    }

    fn on_answer(&mut self, lookup: u32, addresses: Vec<LinkAddr>) {
        if lookup == OWN {
            self.own_address = Some(addresses.first().copied());
        } else {
            self.command(Command::Found { lookup, addresses });
        }
    }

    /// The directory that a name is written in, by its number, and the name itself, with its policy: `/net/joseph/etc` is
    /// `joseph` in `/net`, and a name that does not begin with a slash, such as `joseph/etc`, is one of the default
    /// directory. `None` for a path in no network directory.
    pub(super) fn in_directory<'t>(&self, text: &'t str) -> Option<(usize, &'t str)> {
        if !text.starts_with('/') {
            return Some((0, text.split('/').next().unwrap_or(text)));
        }
        let below = |net: &String| text.strip_prefix(net.as_str())?.strip_prefix('/');
        let found = self.nets.iter().enumerate().filter_map(|(number, net)| Some((number, net, below(net)?)));
        let (number, _, rest) = found.max_by_key(|(_, net, _)| net.len())?;
        Some((number, rest.split('/').next().unwrap_or(rest)))
    }

    /// The number of a network directory by its path.
    pub(super) fn directory(&self, path: &str) -> Option<usize> {
        self.nets.iter().position(|net| net == path)
    }
}
