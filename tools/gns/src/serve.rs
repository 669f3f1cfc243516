//! Messages that come in: from programs of this node, and from the gns of others.
//!
//! Who may say what: this node's programs may ask, and say that names changed (which makes it look, nothing more). A node's
//! names are taken from its gns only: the sender must be the process that this node's Qnet finds at the other node's
//! `/dev/name/gns_client` or `gns_server`. What a node offers is always offered as *its* names.

use std::time::Instant;

use nix::libc;
use qnet::names::gns::{self, Instance, MAX_OFFER, Request, Table as Answer};
use qnet::names::{self};
use qnet::{Channel, Message, Netmgr, Pulse, Received};

use crate::manager::{Role, Shared, TICK, name_of};
use crate::table::Known;

/// Bytes of names that one answer holds; what is more than that is left out.
const ROOM: usize = gns::MAX_REPLY - 64 * 1024;
/// Channels of one name that a client is told of.
const MAX_FOUND: usize = 64;
/// `_IO_CONNECT`: who opens this gns by name.
const IO_CONNECT: [u8; 2] = [0x00, 0x01];

/// Answers until the gns stops.
pub(crate) fn run(shared: &Shared, channel: &Channel) {
    loop {
        match channel.receive(Some(Instant::now() + TICK)) {
            // A sender that left meanwhile needs no answer.
            Ok(Received::Message(message)) => drop(answer(shared, message)),
            Ok(Received::Pulse(pulse)) if pulse.code == Pulse::DISCONNECT => leave(shared, pulse.scoid),
            Ok(Received::Pulse(_)) => {}
            Err(error) if error.errno() == libc::ETIMEDOUT => {}
            Err(error) => {
                shared.say(&format!("cannot receive: {error}"));
                return;
            }
        }
        if shared.lock().stopping {
            return;
        }
    }
}

/// A client of the channel is gone. If it was a node's gns, so are the node's names, unless a newer one came.
fn leave(shared: &Shared, scoid: i32) {
    let mut state = shared.lock();
    let Some(node) = state.callers.remove(&scoid) else { return };
    if !state.callers.values().any(|other| *other == node) {
        state.table.drop_node(&node);
        shared.say(&format!("{node} is gone"));
    }
}

fn answer(shared: &Shared, message: Message) -> Result<(), qnet::Error> {
    let Ok(bytes) = whole(&message) else { return message.error(libc::EMSGSIZE) };
    if bytes.starts_with(&IO_CONNECT) {
        return message.reply(0, b"");
    }
    match Request::parse(&bytes) {
        Ok(Request::Lookup { name }) => {
            let mut found = look_up(shared, name);
            found.truncate(MAX_FOUND);
            let mut data = Vec::new();
            found.iter().map(instance).for_each(|instance| instance.emit(&mut data));
            message.reply(found.len() as i64, &data)
        }
        Ok(Request::Changed) if message.info().credentials.nd != qnet::LOCAL_NODE => {
            message.error(libc::EPERM)
        }
        Ok(Request::Changed) => {
            if shared.look_at_own() {
                shared.run_round();
            }
            message.reply(0, b"")
        }
        Ok(Request::Sync { .. }) if shared.role == Role::Client => message.error(libc::ENOTSUP),
        Ok(Request::Sync { server, known, offered }) => match caller(shared, &message) {
            Ok(node) => {
                let data = sync(shared, &node, (server, known), &offered);
                message.reply(0, &data)
            }
            Err(errno) => message.error(errno),
        },
        Err(_) => message.error(libc::ENOSYS),
    }
}

/// All of a message; an error when it is longer than any that is sent to a gns.
fn whole(message: &Message) -> Result<Vec<u8>, ()> {
    let len = message.info().srcmsglen as usize;
    if len > MAX_OFFER + 64 {
        return Err(());
    }
    let mut bytes = vec![0; len];
    let n = message.read(0, &mut bytes).map_err(drop)?;
    bytes.truncate(n);
    Ok(bytes)
}

fn look_up(shared: &Shared, name: &[u8]) -> Vec<Known> {
    let Ok(name) = std::str::from_utf8(name) else { return Vec::new() };
    let found = shared.lock().table.look_up(name);
    if !found.is_empty() {
        return found;
    }
    // Perhaps it was attached a moment ago.
    shared.look_at_own();
    shared.run_round();
    shared.lock().table.look_up(name)
}

/// The node whose gns sent this.
fn caller(shared: &Shared, message: &Message) -> Result<String, i32> {
    let info = message.info();
    if let Some(node) = shared.lock().callers.get(&info.scoid) {
        return Ok(node.clone());
    }
    let nd = info.credentials.nd;
    if nd == qnet::LOCAL_NODE {
        return Err(libc::EPERM);
    }
    let netmgr = Netmgr::attach(&shared.root).map_err(|error| error.errno())?;
    let node = name_of(&netmgr, nd).ok_or(libc::ENOENT)?;
    match names::manager_of(&netmgr, nd) {
        Ok((service, _)) if service.pid == info.pid => {}
        Ok(_) => return Err(libc::EPERM),
        Err(error) => return Err(error.errno()),
    }
    shared.say(&format!("{node} comes"));
    shared.lock().callers.insert(info.scoid, node.clone());
    Ok(node)
}

/// Notes what a node said, and says all that is known.
fn sync(shared: &Shared, node: &str, (server, known): (bool, u64), offered: &[Instance<'_>]) -> Vec<u8> {
    let mut state = shared.lock();
    state.table.tell_node(node, server, offered, Instant::now());
    let generation = state.table.generation();
    let all = if known == generation { Vec::new() } else { state.table.first_hand().into_iter().collect() };
    let mut servers = state.table.servers();
    servers.push(state.table.node().to_owned());
    drop(state);
    let mut room = ROOM;
    let fits = |known: &&Known| {
        let bytes = known.name.len() + known.node.len() + 12;
        room = room.saturating_sub(bytes);
        room > 0
    };
    let answer = Answer {
        generation,
        servers: servers.iter().map(String::as_bytes).collect(),
        instances: all.iter().take_while(fits).map(instance).collect(),
    };
    answer.emit()
}

fn instance(known: &Known) -> Instance<'_> {
    let Known { name, node, pid, chid } = known;
    Instance { name: name.as_bytes(), node: node.as_bytes(), pid: *pid, chid: *chid }
}
