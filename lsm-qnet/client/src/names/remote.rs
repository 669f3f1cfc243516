//! Names of other nodes, and of all nodes.
//!
//! A node's server answers an `_IO_CONNECT` for the path of a name with the channel that has it, as QNX's process manager
//! does. For a global name that another node offers it leads to the gns of its node, which knows the rest.

use std::{
    ffi::OsStr,
    io::{IoSlice, IoSliceMut},
    time::{Duration, Instant},
};

use qnet_iomsg::{
    Connect, Subtype,
    connect::FTYPE_NAME,
    flags::{IOFLAG_READ, IOFLAG_WRITE},
    gns::{self, Instance, Request},
    redirect,
};
use qnet_ipc::{Root, names};

use super::{Service, Target};
use crate::{Connection, Error, LOCAL_NODE, Netmgr, SendOptions};

/// Room for a list of channels.
const ROOM: usize = 64 * 1024;
/// How long a gns may take, which itself asks others.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the gns of a node is called there, below `/dev/name`: at most one of these exists.
pub(super) const MANAGERS: [&str; 2] = ["gns_server", "gns_client"];

/// As [`super::find`], on the node of that name.
pub(super) fn find(root: &Root, node: &str, target: &Target) -> Result<Vec<Service>, Error> {
    let netmgr = Netmgr::attach(root)?;
    match netmgr.strtond(node)? {
        LOCAL_NODE => super::find_here(root, &Target { node: None, ..target.clone() }),
        nd => find_at(&netmgr, nd, target),
    }
}

/// The channels that have a name as node `nd` knows them; the node in `target` does not matter.
///
/// # Errors
/// Those of [`super::open`], but for those of the channels themselves.
pub fn find_at(netmgr: &Netmgr, nd: u32, target: &Target) -> Result<Vec<Service>, Error> {
    let found = look_up(netmgr, nd, target.path().trim_start_matches('/'))?;
    let services: Vec<Service> =
        found.iter().filter(|entry| entry.file_type == FTYPE_NAME).map(|entry| service(nd, entry)).collect();
    if !services.is_empty() {
        return Ok(services);
    }
    let manager = found.first().map(|entry| service(nd, entry)).ok_or(Error::Errno(libc::ENOENT))?;
    let connection = netmgr.connect(nd, manager.pid, manager.chid)?;
    instances(&connection, Some(netmgr), &target.name)
}

/// The gns of node `nd`: its channel, and whether it is a server.
///
/// # Errors
/// `ENOENT`: there is none; `EHOSTUNREACH`, `EHOSTDOWN`: no way to the node.
pub fn manager_of(netmgr: &Netmgr, nd: u32) -> Result<(Service, bool), Error> {
    for name in MANAGERS {
        match look_up(netmgr, nd, &format!("dev/name/{name}")) {
            Ok(found) => {
                let found = found.first().map(|entry| service(nd, entry));
                return found.map(|service| (service, name == MANAGERS[0])).ok_or(Error::Errno(libc::ENOENT));
            }
            Err(error) if error.errno() == libc::ENOENT => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Errno(libc::ENOENT))
}

/// Asks this node's gns for the channels that have a global name; `ENOENT` without one.
pub(super) fn ask_gns(root: &Root, name: &str) -> Result<Vec<Service>, Error> {
    let manager = MANAGERS.iter().find_map(|manager| names::owner(&root.names(), OsStr::new(manager)).ok());
    let manager = manager.filter(|owner| owner.pid != 0).ok_or(Error::Errno(libc::ENOENT))?;
    let gone = |error: Error| if error.errno() == libc::ESRCH { Error::Errno(libc::ENOENT) } else { error };
    let connection = Connection::attach(root, LOCAL_NODE, manager.pid, manager.chid).map_err(gone)?;
    let netmgr = Netmgr::attach(root).ok();
    instances(&connection, netmgr.as_ref(), name)
}

/// Tells this node's gns, if there is one, that the names that the node offers changed. It hears of it anyway, a little later.
pub(super) fn tell_gns(root: &Root) {
    let manager = MANAGERS.iter().find_map(|manager| names::owner(&root.names(), OsStr::new(manager)).ok());
    let Some(manager) = manager.filter(|owner| owner.pid != 0) else { return };
    // A gns that tells itself would wait for itself.
    if manager.pid == std::process::id().cast_signed() {
        return;
    }
    if let (Ok(connection), Ok(message)) =
        (Connection::attach(root, LOCAL_NODE, manager.pid, manager.chid), Request::Changed.emit())
    {
        let _told = send(&connection, &message, &mut []);
    }
}

fn instances(connection: &Connection, netmgr: Option<&Netmgr>, name: &str) -> Result<Vec<Service>, Error> {
    let lookup = Request::Lookup { name: name.as_bytes() };
    let message = lookup.emit().map_err(|error| Error::Errno(error.linux_errno()))?;
    let mut room = vec![0; ROOM];
    let len = send(connection, &message, &mut room)?.1;
    let here = |instance: &Instance<'_>| {
        // A node that left meanwhile is left out; there may be others.
        let node = std::str::from_utf8(instance.node).ok()?;
        let nd = if node.is_empty() { LOCAL_NODE } else { netmgr?.strtond(node).ok()? };
        Some(Service { nd, pid: instance.pid, chid: instance.chid })
    };
    let services: Vec<Service> = gns::instances(&room[..len])?.iter().filter_map(here).collect();
    if services.is_empty() { Err(Error::Errno(libc::ENOENT)) } else { Ok(services) }
}

/// Where node `nd` says that a path of it leads.
fn look_up(netmgr: &Netmgr, nd: u32, path: &str) -> Result<Vec<redirect::Entry>, Error> {
    let ioflag = IOFLAG_READ | IOFLAG_WRITE;
    let request = Connect {
        file_type: FTYPE_NAME,
        ioflag,
        entry_max: redirect::MAX_ENTRIES as u16,
        ..Connect::new(Subtype::Open, path.as_bytes())
    };
    let message = request.emit().map_err(|error| Error::Errno(error.linux_errno()))?;
    let mut room = [0; 4096];
    let (status, len) = send(&netmgr.server_of(nd)?, &message, &mut room)?;
    if status as u32 != redirect::STATUS_LINK as u32 {
        // It opened a file of that path: a node that knows nothing of names.
        return Err(Error::Errno(libc::ENOENT));
    }
    let (mut entries, _) = redirect::parse(&room[..len])?;
    // Numbers that the other node has for third ones mean nothing here.
    entries.retain(|entry| entry.nd == 0);
    Ok(entries)
}

fn service(nd: u32, entry: &redirect::Entry) -> Service {
    Service { nd, pid: entry.pid, chid: entry.chid }
}

fn send(connection: &Connection, message: &[u8], reply: &mut [u8]) -> Result<(i64, usize), Error> {
    let options = SendOptions { deadline: Some(Instant::now() + PATIENCE), ..SendOptions::default() };
    let reply = connection.send_vectored(&[IoSlice::new(message)], &mut [IoSliceMut::new(reply)], options)?;
    Ok((reply.status, reply.len))
}
