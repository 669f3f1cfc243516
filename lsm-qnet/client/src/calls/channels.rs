//! Channels and connections.

use std::{
    process::id,
    sync::{Arc, atomic::Ordering},
};

use qnet_ipc::Claim;

use super::SIDE_CHANNEL;
use crate::{
    ChannelFlags, Connection, Error, LOCAL_NODE, ServerInfo,
    channel::client_number,
    port::Port,
    process::{self, Attached, lock, pid},
    sys, watch,
};

/// `_NTO_COF_CLOEXEC`; all our sockets close on exec in any case.
const COF_CLOEXEC: u32 = 0x1;
/// The flags that a program may change.
const COF_OWN: u32 = COF_CLOEXEC;

/// Makes a channel; `flags` are `_NTO_CHF_*`.
///
/// # Errors
/// `EINVAL`: a flag that means nothing here (asynchronous, sticky and global channels of QNX among them). As
/// [`crate::Channel::create`].
#[doc(alias = "ChannelCreate")]
pub fn channel_create(flags: u32) -> Result<i32, Error> {
    if flags & !ChannelFlags::KNOWN != 0 {
        return Err(Error::Errno(libc::EINVAL));
    }
    let process = process::get();
    let port = Port::create(process.root()?, ChannelFlags::from_bits(flags))?;
    let chid = port.chid();
    lock(&process.channels).insert(chid, port);
    watch::on_new_channel();
    Ok(chid)
}

/// Ends a channel: its clients are told, and threads that receive on it end with `ESRCH`.
///
/// # Errors
/// `EINVAL`: no such channel.
#[doc(alias = "ChannelDestroy")]
pub fn channel_destroy(chid: i32) -> Result<(), Error> {
    let port = lock(&process::get().channels).remove(&chid);
    port.map(|port| port.close()).ok_or(Error::Errno(libc::EINVAL))
}

/// Attaches to channel `chid` of process `pid` on node `nd`; `pid` 0 is this process when `nd` is 0. `index` is the lowest
/// number that is wanted, or [`SIDE_CHANNEL`]; `flags` are `_NTO_COF_*`. A channel of another node is not asked: whether it
/// is there shows in the first send.
///
/// # Errors
/// As [`Connection::attach_lazy`]; `EMFILE`: no number left.
#[doc(alias = "ConnectAttach")]
pub fn connect_attach(nd: u32, pid: i32, chid: i32, index: u32, flags: u32) -> Result<i32, Error> {
    let process = process::get();
    let pid = if (nd, pid) == (LOCAL_NODE, 0) && chid != 0 { id().cast_signed() } else { pid };
    let connection = Arc::new(Connection::attach_lazy(process.root()?, nd, pid, chid)?);
    let side = index & SIDE_CHANNEL != 0;
    let hint = &process.hints[usize::from(side)];
    let lowest = if side { index.cast_signed() } else { index.cast_signed().max(3) };
    let mut connections = lock(&process.connections);
    // Below the hint none is free; it moves up while connections are made and down when one is given back.
    let known = hint.load(Ordering::Relaxed);
    let is_free = |coid: &i32| !connections.contains_key(coid) && (side || !sys::is_open(*coid));
    let coid = (lowest.max(known)..i32::MAX).find(is_free).ok_or(Error::Errno(libc::EMFILE))?;
    if lowest <= known {
        hint.store(coid, Ordering::Relaxed);
    }
    connections.insert(coid, Attached { connection, flags: flags & COF_OWN });
    Ok(coid)
}

/// Detaches a connection; or, as the server, a client (`scoid`).
///
/// # Errors
/// `EINVAL`: no such connection.
#[doc(alias = "ConnectDetach")]
pub fn connect_detach(coid: i32) -> Result<(), Error> {
    let process = process::get();
    let mut connections = lock(&process.connections);
    let Some(attached) = connections.remove(&coid) else {
        drop(connections);
        return detach_client(coid);
    };
    let side = coid.cast_unsigned() & SIDE_CHANNEL != 0;
    process.hints[usize::from(side)].fetch_min(coid, Ordering::Relaxed);
    drop(connections);
    drop(attached);
    Ok(())
}

/// The server is done with a client, which is usually gone by now.
fn detach_client(scoid: i32) -> Result<(), Error> {
    let number = client_number(scoid).ok_or(Error::Errno(libc::EINVAL))?;
    match process::get().port_of_client(number) {
        Some(port) => port.drop_client(number),
        None => Ok(()),
    }
}

/// Changes the flags of a connection (`_NTO_COF_CLOEXEC`): those in `mask` become those in `bits`. Gives the old ones.
///
/// DEVIATION: `pid` must be this process or 0; QNX lets root look into others.
///
/// # Errors
/// `EINVAL`: no such connection; `EPERM`: another process.
#[doc(alias = "ConnectFlags")]
pub fn connect_flags(of: i32, coid: i32, mask: u32, bits: u32) -> Result<u32, Error> {
    own(of)?;
    let mut connections = lock(&process::get().connections);
    let attached = connections.get_mut(&coid).ok_or(Error::Errno(libc::EINVAL))?;
    let (old, connection) = (attached.flags, Arc::clone(&attached.connection));
    attached.flags = (old & !mask | bits & mask) & COF_OWN;
    drop(connections);
    Ok(old | connection.server_info().flags)
}

/// Where connection `coid` leads; if there is none of that number, the next higher one ([`ServerInfo::coid`] says which).
///
/// DEVIATION: `pid` must be this process or 0; QNX lets root look into others.
///
/// # Errors
/// `EINVAL`: no such connection and none above; `EPERM`: another process.
#[doc(alias = "ConnectServerInfo")]
pub fn connect_server_info(of: i32, coid: i32) -> Result<ServerInfo, Error> {
    own(of)?;
    let connections = lock(&process::get().connections);
    let found = connections.range(coid..).next();
    let found = found.map(|(coid, attached)| (*coid, attached.flags, Arc::clone(&attached.connection)));
    drop(connections);
    let (coid, flags, connection) = found.ok_or(Error::Errno(libc::EINVAL))?;
    let info = connection.server_info();
    Ok(ServerInfo { coid, flags: flags | info.flags, ..info })
}

/// Who client `scoid` is: from the kernel for a process of this node, mapped by `lsm-qnet` for another one. -1 is this process
/// itself. The client need not have sent anything yet.
///
/// # Errors
/// `EINVAL`: no such client.
#[doc(alias = "ConnectClientInfo")]
#[doc(alias = "ConnectClientInfoExt")]
pub fn connect_client_info(scoid: i32) -> Result<Arc<Claim>, Error> {
    if scoid == -1 {
        return Ok(Arc::new(this_process()));
    }
    let number = client_number(scoid).ok_or(Error::Errno(libc::EINVAL))?;
    let port = process::get().port_of_client(number).ok_or(Error::Errno(libc::EINVAL))?;
    port.claim(number).map_err(|_| Error::Errno(libc::EINVAL))
}

/// This process as others see it.
fn this_process() -> Claim {
    use nix::unistd::{getgroups, getresgid, getresuid, getsid};
    let groups = getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()).collect();
    let (user, group) = (getresuid().ok(), getresgid().ok());
    let (euid, egid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    Claim {
        nd: LOCAL_NODE,
        pid: pid(),
        sid: getsid(None).map_or(0, nix::unistd::Pid::as_raw),
        ruid: user.map_or(euid, |user| user.real.as_raw()),
        euid,
        suid: user.map_or(euid, |user| user.saved.as_raw()),
        rgid: group.map_or(egid, |group| group.real.as_raw()),
        egid,
        sgid: group.map_or(egid, |group| group.saved.as_raw()),
        groups,
    }
}

fn own(of: i32) -> Result<(), Error> {
    if of == 0 || of == pid() { Ok(()) } else { Err(Error::Errno(libc::EPERM)) }
}
