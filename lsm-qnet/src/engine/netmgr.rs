//! The network manager: node names, node descriptors, the list of nodes. Reached at nd 0, pid 0, chid 0.

use qnet_iomsg::netmgr::{self, Node as Record, NodeState as State, Request};
use qnet_ipc::packet::Send;
use qnet_proto::{Clash, Command, Domain, Fqnn, NodeId, NodeState, NodeView, Qos};

use super::{CallId, Engine, wire::errno_of};

impl Engine {
    /// A message to the network manager.
    pub(super) fn netmgr(&mut self, id: CallId, send: &Send, data: &[u8]) {
        if data.len() < send.srcmsglen as usize {
            return self.reply_error(id, libc::EMSGSIZE);
        }
        let request = match Request::parse(data) {
            Ok(request) => request,
            Err(error) => return self.reply_error(id, error.linux_errno()),
        };
        match request {
            Request::Strtond { name } => self.strtond(id, name),
            Request::Ndtostr { flags, nd } => match self.ndtostr(flags, nd) {
                Some(text) => self.reply(id, text.len() as i64, 0, text.as_bytes()),
                None => self.reply_error(id, libc::ENOENT),
            },
            Request::Nodes => self.node_list(id, Vec::new()),
            Request::List { directory } => self.list(id, directory),
            Request::Forget { name } => self.forget(id, name),
            Request::Stats => self.asked.push(id),
            Request::Ping { nd, patience, link } => self.ping(id, nd, patience, link),
            Request::Meter(plan) => self.meter(id, plan),
            Request::QosFlush { nd } => self.qos_flush(id, NodeId(nd)),
            Request::RemoteNd { remote, local } => self.remote_nd(id, remote, local),
            Request::Signal(signal) => self.signal(id, &signal),
        }
    }

    /// Whether somebody waits for the statistics: give them to [`Engine::answer_statistics`].
    #[must_use]
    pub fn wants_statistics(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Answers everybody who asked for the statistics since the last call. One text serves them all, so asking often costs
    /// the node no more than asking once a turn.
    pub fn answer_statistics(&mut self, text: &str) {
        for id in std::mem::take(&mut self.asked) {
            self.reply(id, text.len() as i64, 0, text.as_bytes());
        }
    }

    /// A name was resolved, or not.
    pub(super) fn on_resolved(&mut self, token: u64, outcome: Result<NodeId, i32>) {
        let Ok(id) = CallId::try_from(token) else { return };
        let wanted = self.wanted_names.remove(&id);
        let outcome = match (outcome, &wanted) {
            // This node needs no link to itself.
            (Ok(nd), Some((qos, _))) if nd != NodeId::LOCAL => self.node.with_qos(nd, qos).map_err(errno_of),
            (outcome, _) => outcome,
        };
        let used = wanted.map(|(_, used)| used.to_le_bytes());
        match outcome {
            Ok(nd) => self.reply(id, nd.0.into(), 0, used.as_ref().map_or(&[], |used| used.as_slice())),
            Err(errno) => self.reply_error(id, errno),
        }
    }

    /// The number by which node `remote` knows the node that is `local` here.
    fn remote_nd(&mut self, id: CallId, remote: u32, local: u32) {
        let (remote, local) = (NodeId(remote), NodeId(local));
        // What needs no question: our own numbers, and everybody's number for itself.
        if remote.node() == NodeId::LOCAL.node() {
            return self.reply(id, local.0.into(), 0, &[]);
        }
        if remote.node() == local.node() {
            return self.reply(id, 0, 0, &[]);
        }
        let named = |view: &qnet_proto::NodeView<'_>| match view.domain.as_str() {
            "" => format!("{}.", view.name),
            domain => format!("{}.{domain}", view.name),
        };
        let view = self.node.nodes().find(|view| view.nd.node() == local.node());
        let Some(name) = view.as_ref().map(named) else { return self.reply_error(id, libc::ENOENT) };
        let command = Command::RemoteNd { token: id.into(), nd: remote, name };
        if let Err(error) = self.node.handle_command(self.now, command) {
            self.reply_error(id, errno_of(error));
        }
    }

    fn strtond(&mut self, id: CallId, text: &[u8]) {
        let Ok(text) = std::str::from_utf8(text) else { return self.reply_error(id, libc::ENOENT) };
        let Some((directory, name)) = self.in_directory(text) else {
            return self.reply_error(id, libc::ENOENT);
        };
        // `name` is a part of `text`.
        let used = name.as_ptr().addr() - text.as_ptr().addr() + name.len();
        // The quality of service may stand behind the name.
        let (name, qos) = match name.split_once('~') {
            None => (name, Qos::LoadBalance),
            Some((name, qos)) => match qos.parse() {
                Ok(qos) => (name, qos),
                Err(error) => {
                    tracing::debug!("{error}");
                    return self.reply_error(id, libc::EINVAL);
                }
            },
        };
        // As the program wrote it: `name.` is a node without a domain, `name` one of ours.
        let command = Command::ResolveIn { token: id.into(), directory, name: name.to_owned() };
        self.wanted_names.insert(id, (qos, used as u32));
        if let Err(error) = self.node.handle_command(self.now, command) {
            self.reply_error(id, errno_of(error));
        }
    }

    /// `_NETMGR_QOS_FLUSH`: what is unacknowledged goes out again at once. It loads the network, so only root and the owner
    /// of the node may.
    fn qos_flush(&mut self, id: CallId, nd: NodeId) {
        if !self.is_of_operator(id) {
            return self.reply_error(id, libc::EPERM);
        }
        self.node.flush(self.now, nd);
        self.reply(id, 0, 0, &[]);
    }

    /// `rmdir /net/NODE`: takes a node off the list. Only root and the owner of the node may.
    fn forget(&mut self, id: CallId, name: &[u8]) {
        let errno = self.try_forget(id, name);
        match errno {
            0 => self.reply(id, 0, 0, &[]),
            errno => self.reply_error(id, errno),
        }
    }

    fn try_forget(&mut self, id: CallId, name: &[u8]) -> i32 {
        if !self.is_of_operator(id) {
            return libc::EPERM;
        }
        let named = std::str::from_utf8(name).ok().and_then(|name| self.in_directory(name));
        let Some((directory, name)) = named else { return libc::ENOENT };
        let Ok(fqnn) = Fqnn::parse(name, self.node.domain_of_directory(directory)) else {
            return libc::ENOENT;
        };
        let bare = |domain: &Domain| !name.contains('.') && domain.as_str().is_empty();
        let is = |view: &NodeView<'_>| *view.name == fqnn.name && *view.domain == fqnn.domain;
        let is_bare = |view: &NodeView<'_>| *view.name == fqnn.name && bare(view.domain);
        let found = self.node.nodes().find(is).or_else(|| self.node.nodes().find(is_bare));
        match found.map(|view| view.nd) {
            None => libc::ENOENT,
            Some(NodeId::LOCAL) => libc::EBUSY,
            Some(nd) => match self.node.handle_command(self.now, Command::Forget { nd }) {
                Ok(()) => 0,
                Err(error) => errno_of(error),
            },
        }
    }

    /// The nodes, behind a record without a name that tells the domain of the directory's bare names.
    fn list(&mut self, id: CallId, directory: &[u8]) {
        let number = std::str::from_utf8(directory).ok().and_then(|path| self.directory(path));
        let Some(number) = number else { return self.reply_error(id, libc::ENOENT) };
        let domain = self.node.domain_of_directory(number).as_str().as_bytes();
        let mut records = Vec::new();
        // A domain of the core is far shorter than a record allows.
        let _fits = Record { nd: 0, state: State::Known, flags: 0, name: b"", domain }.emit(&mut records);
        self.node_list(id, records);
    }

    fn node_list(&mut self, id: CallId, mut records: Vec<u8>) {
        for view in self.node.nodes() {
            let state = match view.state {
                NodeState::Local | NodeState::Up => State::Up,
                NodeState::Known | NodeState::Connecting => State::Known,
            };
            let (name, domain) = (view.name.as_str().as_bytes(), view.domain.as_str().as_bytes());
            // Names of the core are far shorter than a record allows.
            let flags = flags_of(&view);
            let _fits = Record { nd: view.nd.0, state, flags, name, domain }.emit(&mut records);
        }
        self.reply(id, records.len() as i64, 0, &records);
    }
}

/// What is to be known of a node beside its state.
fn flags_of(view: &NodeView<'_>) -> u16 {
    let renamed = if view.own_name == view.name { 0 } else { netmgr::RENAMED };
    let clash = match view.clash {
        None => 0,
        Some(Clash::Name) => netmgr::NAME_CLASH,
        Some(Clash::Address) => netmgr::ADDRESS_CLASH,
    };
    renamed | clash
}
