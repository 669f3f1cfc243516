//! The state that the threads share, and the keeper: a thread that looks every second at what the node offers, forgets
//! what is too old, looks for servers, and shows everything to people.
//!
//! A *round* is one exchange with every server. Who needs the newest (a name that is not known, a name that was just
//! attached) asks for a round and waits for its end, for a bounded time.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use qnet::names::{self, Manager};
use qnet::netmgr::NodeState;
use qnet::{Channel, ChannelFlags, Netmgr, Root};

use crate::mirror::Mirror;
use crate::peer;
use crate::serve;
use crate::table::{MAX_SERVERS, Table, is_node};

/// Time between two looks, and between two exchanges with a server.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// Longest wait for a round.
const ROUND: Duration = Duration::from_secs(3);
/// Threads that answer messages: one may wait for another node while others go on.
const THREADS: usize = 4;
/// `ND2S_DIR_HIDE | ND2S_QOS_HIDE | ND2S_NAME_SHOW | ND2S_DOMAIN_SHOW`: a name that means the same on every node.
const FQNN: u32 = 0x2 | 0x8 | 0x10 | 0x40;

/// What this gns is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// What is known of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerState {
    /// The last round that it took part in, or failed to.
    pub(crate) done: u64,
    /// Why it does not answer; `None`: it does.
    pub(crate) trouble: Option<String>,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) table: Table,
    /// Servers that a thread of ours talks to.
    pub(crate) peers: BTreeMap<String, PeerState>,
    /// Nodes behind the clients of our channel, once it is sure that they are the gns there.
    pub(crate) callers: BTreeMap<i32, String>,
    /// The last round that was asked for.
    pub(crate) round: u64,
    pub(crate) stopping: bool,
}

/// What all threads have.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: Root,
    pub(crate) role: Role,
    /// Servers that the user named.
    pub(crate) named: Vec<String>,
    verbose: bool,
    state: Mutex<State>,
    turn: Condvar,
}

/// A running gns.
#[derive(Debug)]
pub(crate) struct Gns {
    shared: Arc<Shared>,
    keeper: thread::JoinHandle<()>,
}

impl Gns {
    /// Becomes the node's gns.
    pub(crate) fn start(root: &Root, role: Role, servers: &[String], verbose: bool) -> Result<Self> {
        let channel = Arc::new(Channel::create(root, ChannelFlags::DISCONNECT)?);
        let manager = Manager::attach(root, role == Role::Server, channel.chid())?;
        let mirror = Mirror::new(root.global_names())
            .with_context(|| format!("cannot show names in {}", root.global_names().display()))?;
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
        let state = State { table: Table::new(seed), ..State::default() };
        let shared = Arc::new(Shared {
            root: root.clone(),
            role,
            named: servers.to_vec(),
            verbose,
            state: Mutex::new(state),
            turn: Condvar::new(),
        });
        let mut keeper = Keeper { shared: Arc::clone(&shared), netmgr: None, manager, mirror, last: None };
        keeper.look();
        for number in 0..THREADS {
            let (shared, channel) = (Arc::clone(&shared), Arc::clone(&channel));
            let name = format!("messages {number}");
            thread::Builder::new().name(name).spawn(move || serve::run(&shared, &channel))?;
        }
        let keeper = thread::Builder::new().name("keeper".into()).spawn(move || keeper.run())?;
        Ok(Self { shared, keeper })
    }

    /// Gives up its entry and what it shows. What it told servers they forget when its socket closes.
    pub(crate) fn stop(self) {
        self.shared.lock().stopping = true;
        self.shared.turn.notify_all();
        // A keeper that panicked has nothing left to give up.
        let _ended = self.keeper.join();
    }
}

impl Shared {
    /// The state. A thread that panicked holding it left it consistent: it is changed by whole calls.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the waiting threads that something changed.
    pub(crate) fn notify(&self) {
        self.turn.notify_all();
    }

    /// Waits until something changed, or for that long.
    pub(crate) fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        self.turn.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Exchanges everything with every server, and waits for that as long as is reasonable.
    pub(crate) fn run_round(&self) {
        let deadline = Instant::now() + ROUND;
        let mut state = self.lock();
        state.round += 1;
        let round = state.round;
        self.notify();
        while !state.stopping && state.peers.values().any(|peer| peer.done < round) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.wait(state, left);
        }
    }

    /// Looks at what this node offers. True when that is news.
    pub(crate) fn look_at_own(&self) -> bool {
        let offered = names::offered(&self.root);
        let mut state = self.lock();
        let node = state.table.node().to_owned();
        state.table.set_own(&node, offered)
    }

    /// A line for an operator who watches.
    pub(crate) fn say(&self, line: &str) {
        if self.verbose {
            eprintln!("gns: {line}");
        }
    }
}

/// The fully qualified name of a node.
pub(crate) fn name_of(netmgr: &Netmgr, nd: u32) -> Option<String> {
    netmgr.ndtostr(FQNN, nd).ok().filter(|name| is_node(name))
}

struct Keeper {
    shared: Arc<Shared>,
    netmgr: Option<Netmgr>,
    manager: Manager,
    mirror: Mirror,
    /// What was shown last.
    last: Option<(Vec<crate::table::Known>, String)>,
}

impl Keeper {
    fn run(mut self) {
        loop {
            let next = Instant::now() + TICK;
            let mut state = self.shared.lock();
            while !state.stopping && Instant::now() < next {
                state = self.shared.wait(state, next.saturating_duration_since(Instant::now()));
            }
            if state.stopping {
                return;
            }
            drop(state);
            self.look();
        }
    }

    fn look(&mut self) {
        let node = self.own_node();
        let offered = names::offered(&self.shared.root);
        let mut state = self.shared.lock();
        if state.table.set_own(&node, offered) {
            state.round += 1;
        }
        state.table.expire(Instant::now());
        let connected = state.peers.values().any(|peer| peer.trouble.is_none());
        drop(state);
        self.shared.notify();
        let mut servers = self.shared.named.clone();
        if servers.is_empty() && self.shared.role == Role::Client && !connected {
            servers = self.scan();
        }
        for server in servers {
            peer::talk_to(&self.shared, &server);
        }
        self.show();
    }

    /// This node's name, from a Qnet that may come and go.
    fn own_node(&mut self) -> String {
        let own = self.netmgr.as_ref().and_then(|netmgr| name_of(netmgr, qnet::LOCAL_NODE));
        if let Some(own) = own {
            return own;
        }
        self.netmgr = Netmgr::attach(&self.shared.root).ok();
        self.netmgr.as_ref().and_then(|netmgr| name_of(netmgr, qnet::LOCAL_NODE)).unwrap_or_default()
    }

    /// Nodes on which a server runs, as far as they are up.
    fn scan(&self) -> Vec<String> {
        let Some(netmgr) = &self.netmgr else { return Vec::new() };
        let nodes = netmgr.nodes().unwrap_or_default();
        let others = nodes.iter().filter(|node| node.nd != qnet::LOCAL_NODE && node.state != NodeState::Down);
        let is_server = |nd| names::manager_of(netmgr, nd).is_ok_and(|(_, server)| server);
        let servers = others.filter(|node| is_server(node.nd));
        servers.filter_map(|node| name_of(netmgr, node.nd)).take(MAX_SERVERS).collect()
    }

    fn show(&mut self) {
        let state = self.shared.lock();
        let all: Vec<_> = state.table.all().into_iter().collect();
        let status = status(self.shared.role, &state);
        drop(state);
        let now = (all, status);
        if self.last.as_ref() == Some(&now) {
            return;
        }
        let shown = self.mirror.show(now.0.iter().cloned(), self.netmgr.as_ref());
        let written = self.manager.write_status(&now.1);
        match shown.and(written) {
            Ok(()) => self.last = Some(now),
            Err(error) => self.shared.say(&format!("cannot show names: {error}")),
        }
    }
}

/// The text in `/dev/name/gns_server` or `gns_client`.
fn status(role: Role, state: &State) -> String {
    let pid = std::process::id();
    let word = if role == Role::Server { "server" } else { "client" };
    let own = state.table.own().len();
    let mut text =
        format!("gns {word} pid {pid}\nnames here {own}\nnames known {}\n", state.table.all().len());
    let clients = state.table.clients();
    if !clients.is_empty() {
        text += &format!("nodes {}\n", clients.join(" "));
    }
    for (server, peer) in &state.peers {
        let how = peer.trouble.as_deref().unwrap_or("answers");
        text += &format!("server {server}: {how}\n");
    }
    let cached = state.table.sources();
    if !cached.is_empty() {
        text += &format!("copies of {}\n", cached.join(" "));
    }
    text
}
