//! Towards servers: a thread for each, which exchanges everything with it once a second and whenever a round is asked for.
//!
//! Servers that a server tells of are talked to as well. So all nodes come to a backup before they need it, and to a server
//! that was started again.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use qnet::names::gns::{Instance, MAX_REPLY, Request, Table as Answer};
use qnet::names::{self, Service};
use qnet::{Connection, Error, Netmgr, SendOptions};

use crate::manager::{PeerState, Role, Shared, TICK, name_of};
use crate::table::{MAX_SERVERS, is_node};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// A server that was not named by the user and has not answered for that long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Starts to talk to the server on that node, unless a thread does already.
pub(crate) fn talk_to(shared: &Arc<Shared>, server: &str) {
    let mut state = shared.lock();
    let own = state.table.node() == server;
    if own || !is_node(server) || state.peers.contains_key(server) || state.peers.len() >= MAX_SERVERS {
        return;
    }
    let starting = PeerState { done: 0, trouble: Some("not asked yet".to_owned()) };
    state.peers.insert(server.to_owned(), starting);
    drop(state);
    let (for_thread, name) = (Arc::clone(shared), server.to_owned());
    let run = move || Peer { shared: for_thread, server: name, link: None, room: vec![0; MAX_REPLY] }.run();
    if let Err(error) = thread::Builder::new().name("peer".into()).spawn(run) {
        shared.say(&format!("cannot talk to {server}: {error}"));
        shared.lock().peers.remove(server);
    }
}

/// A connection to a server.
struct Link {
    // Kept because connections go through it.
    _netmgr: Netmgr,
    connection: Connection,
    /// Its name among all nodes.
    node: String,
    /// Generation of its table that we have.
    known: u64,
}

struct Peer {
    shared: Arc<Shared>,
    server: String,
    link: Option<Link>,
    room: Vec<u8>,
}

impl Peer {
    fn run(mut self) {
        let mut answered = Instant::now();
        loop {
            let round = self.shared.lock().round;
            let outcome = self.exchange();
            let trouble = match outcome {
                Ok(servers) => {
                    answered = Instant::now();
                    servers.iter().for_each(|server| talk_to(&self.shared, server));
                    None
                }
                Err(error) => {
                    self.link = None;
                    Some(explain(&error))
                }
            };
            let mut state = self.shared.lock();
            let is_named = self.shared.named.contains(&self.server);
            if !is_named && trouble.is_some() && answered.elapsed() > FORGOTTEN {
                state.peers.remove(&self.server);
                self.shared.notify();
                return;
            }
            let before =
                state.peers.insert(self.server.clone(), PeerState { done: round, trouble: trouble.clone() });
            self.shared.notify();
            if before.is_none_or(|before| before.trouble != trouble) {
                self.shared.say(&format!(
                    "server {}: {}",
                    self.server,
                    trouble.as_deref().unwrap_or("answers")
                ));
            }
            let next = Instant::now() + TICK;
            while !state.stopping && state.round == round && Instant::now() < next {
                state = self.shared.wait(state, next.saturating_duration_since(Instant::now()));
            }
            if state.stopping {
                return;
            }
        }
    }

    /// Tells the server everything and learns everything; gives the servers that it knows.
    fn exchange(&mut self) -> Result<Vec<String>, Error> {
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(connect(&self.shared, &self.server)?),
        };
        let own = self.shared.lock().table.own().to_vec();
        let offered = own.iter().map(|own| Instance {
            name: own.name.as_bytes(),
            node: b"",
            pid: own.pid,
            chid: own.chid,
        });
        let server = self.shared.role == Role::Server;
        let request = Request::Sync { server, known: link.known, offered: offered.collect() };
        let message = request.emit().map_err(|error| Error::Errno(error.linux_errno()))?;
        let options = SendOptions { deadline: Some(Instant::now() + PATIENCE), ..SendOptions::default() };
        let (parts, mut room) = ([IoSlice::new(&message)], [IoSliceMut::new(&mut self.room)]);
        let reply = link.connection.send_vectored(&parts, &mut room, options)?;
        let answer = Answer::parse(&self.room[..reply.len])?;
        let news = (answer.generation != link.known).then_some(answer.instances.as_slice());
        self.shared.lock().table.tell_copy(&link.node, news, Instant::now());
        link.known = answer.generation;
        let text = |name: &&[u8]| std::str::from_utf8(name).ok().map(str::to_owned);
        Ok(answer.servers.iter().filter_map(text).filter(|name| *name != link.node).collect())
    }
}

fn connect(shared: &Shared, server: &str) -> Result<Link, Error> {
    let netmgr = Netmgr::attach(&shared.root)?;
    let nd = netmgr.strtond(server)?;
    if nd == qnet::LOCAL_NODE {
        return Err(Error::Errno(libc::ELOOP));
    }
    let node = name_of(&netmgr, nd).ok_or(Error::Errno(libc::ENOENT))?;
    let (Service { nd, pid, chid }, is_server) = names::manager_of(&netmgr, nd)?;
    if !is_server {
        return Err(Error::Errno(libc::ENOENT));
    }
    let connection = netmgr.connect(nd, pid, chid)?;
    Ok(Link { _netmgr: netmgr, connection, node, known: 0 })
}

fn explain(error: &Error) -> String {
    match error.errno() {
        libc::ENOTSUP => "Qnet does not run here".to_owned(),
        libc::ELOOP => "is this node".to_owned(),
        libc::ENOENT => "no such node, or no gns server there".to_owned(),
        libc::EPERM => {
            "lets nobody connect (allow=connect there would), or takes us for somebody else".to_owned()
        }
        _ => error.to_string(),
    }
}
