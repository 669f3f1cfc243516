//! Channels and connections.

use std::ptr;

use client::{Claim, ServerInfo, calls};
use libc::{c_int, c_uint, c_void, gid_t, pid_t, uid_t};

use crate::call::{Outcome, calls, errno, fenced, ordinary};
use crate::info::MsgInfo;
use crate::memory;

/// `_NTO_COF_DEAD`.
const DEAD: u32 = 0x2;

calls! {
    /// Makes a channel; `flags` are `_NTO_CHF_*`.
    ChannelCreate, ChannelCreate_r (flags: c_uint) -> c_int = calls::channel_create(flags).map_err(errno);

    /// Ends a channel.
    ChannelDestroy, ChannelDestroy_r (chid: c_int) -> c_int = calls::channel_destroy(chid).map(|()| 0).map_err(errno);

    /// Attaches to a channel; `index` is the lowest number wanted or `_NTO_SIDE_CHANNEL`.
    ConnectAttach, ConnectAttach_r (nd: u32, pid: pid_t, chid: c_int, index: c_uint, flags: c_int) -> c_int = {
        calls::connect_attach(nd, pid, chid, index, flags.cast_unsigned()).map_err(errno)
    };

    /// Detaches a connection; a server detaches a client's number after its DISCONNECT pulse, too.
    ConnectDetach, ConnectDetach_r (coid: c_int) -> c_int = calls::connect_detach(coid).map(|()| 0).map_err(errno);

    /// Changes flags of a connection of this process; gives the old ones.
    ConnectFlags, ConnectFlags_r (pid: pid_t, coid: c_int, mask: c_uint, bits: c_uint) -> c_int = {
        calls::connect_flags(pid, coid, mask, bits).map(u32::cast_signed).map_err(errno)
    };

    /// Where a connection leads; without one of that number the next higher one, whose number is the result.
    ConnectServerInfo, ConnectServerInfo_r (pid: pid_t, coid: c_int, info: *mut MsgInfo) -> c_int = {
        let found = server_info(pid, coid, info.is_null())?;
        // SAFETY: the caller's promise; NULL is allowed.
        unsafe { memory::put(info, || Ok(MsgInfo::from(&found))) }?;
        Ok(found.coid)
    };

    /// Who a client is; -1 is this process. `ngroups` is the room for supplementary groups.
    ConnectClientInfo, ConnectClientInfo_r (scoid: c_int, info: *mut ClientInfo, ngroups: c_int) -> c_int = {
        if info.is_null() {
            return Err(libc::EFAULT);
        }
        let room = usize::try_from(ngroups).map_err(|_| libc::EINVAL)?;
        let claim = calls::connect_client_info(scoid).map_err(errno)?;
        // SAFETY: the caller's promise: the list has as many places as `ngroups` says.
        unsafe { fill(info, &claim, room) };
        Ok(0)
    };
}

/// The connection with this number or the next higher one; with `living` dead ones are passed over.
fn server_info(pid: pid_t, mut coid: c_int, living: bool) -> Outcome<ServerInfo> {
    loop {
        let found = calls::connect_server_info(pid, coid).map_err(errno)?;
        if !living || found.flags & DEAD == 0 {
            return Ok(found);
        }
        coid = found.coid.checked_add(1).ok_or(libc::EINVAL)?;
    }
}

/// `struct _client_info` with `struct _cred_info`; the list may be longer.
#[repr(C)]
pub struct ClientInfo {
    nd: u32,
    pid: pid_t,
    sid: pid_t,
    flags: u32,
    ruid: uid_t,
    euid: uid_t,
    suid: uid_t,
    rgid: gid_t,
    egid: gid_t,
    sgid: gid_t,
    ngroups: u32,
    grouplist: [gid_t; 8],
}

/// Bytes before the list of groups.
const HEAD: usize = size_of::<ClientInfo>() - size_of::<[gid_t; 8]>();

/// Fills the structure and at most `room` places of its list; the number of groups is that of all.
///
/// # Safety
/// `info` is a place for the structure with `room` places in its list.
unsafe fn fill(info: *mut ClientInfo, claim: &Claim, room: usize) {
    let whole = ClientInfo {
        nd: claim.nd,
        pid: claim.pid,
        sid: claim.sid,
        flags: 0,
        ruid: claim.ruid,
        euid: claim.euid,
        suid: claim.suid,
        rgid: claim.rgid,
        egid: claim.egid,
        sgid: claim.sgid,
        ngroups: u32::try_from(claim.groups.len()).unwrap_or(u32::MAX),
        grouplist: [0; 8],
    };
    // SAFETY: the caller's promise. The list is not copied: the caller's may be shorter than the type's.
    unsafe { ptr::copy_nonoverlapping((&raw const whole).cast::<u8>(), info.cast(), HEAD) };
    for (i, group) in claim.groups.iter().take(room).enumerate() {
        // SAFETY: the caller's promise; the list begins behind the head.
        unsafe { info.cast::<u8>().add(HEAD).cast::<gid_t>().add(i).write_unaligned(*group) };
    }
}

/// `_NTO_CLIENTINFO_GETGROUPS`.
const GETGROUPS: c_int = 1;

/// Who a client is, with all its groups, in memory that ClientInfoExtFree() gives back.
///
/// # Safety
/// `info` is NULL or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ConnectClientInfoExt(
    scoid: c_int,
    info: *mut *mut ClientInfo,
    flags: c_int,
) -> c_int {
    ordinary(fenced(|| {
        if info.is_null() {
            return Err(libc::EFAULT);
        }
        let claim = calls::connect_client_info(scoid).map_err(errno)?;
        let groups = if flags & GETGROUPS == 0 { 0 } else { claim.groups.len() };
        // SAFETY: has no conditions.
        let place = unsafe { libc::calloc(1, size_of::<ClientInfo>() + groups * size_of::<gid_t>()) }
            .cast::<ClientInfo>();
        if place.is_null() {
            return Err(libc::ENOMEM);
        }
        // SAFETY: there is room for that many groups.
        unsafe { fill(place, &claim, groups) };
        // SAFETY: the caller's promise.
        unsafe { memory::put(info, || Ok(place)) }?;
        Ok(0)
    }))
}

/// Gives back what ConnectClientInfoExt() made.
///
/// # Safety
/// `info` is NULL, or points to NULL or to what ConnectClientInfoExt() gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ClientInfoExtFree(info: *mut *mut ClientInfo) -> c_int {
    // SAFETY: the caller's promise.
    let Some(place) = (unsafe { memory::get(info) }) else { return ordinary(Err(libc::EFAULT)) };
    // SAFETY: made by calloc, or NULL.
    unsafe { libc::free(place.cast::<c_void>()) };
    // SAFETY: the caller's promise.
    ordinary(unsafe { memory::put(info, || Ok(ptr::null_mut())) }.map(|()| 0))
}
