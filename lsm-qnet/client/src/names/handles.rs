//! The same with integer handles, for the C face: `name_attach` gives a number, `name_open` a `coid`.

use std::{
    collections::BTreeMap,
    io::IoSlice,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    ATTACH_GLOBAL, DETACH_SAVEDPP, Name, Scope, Target, attach, connect_message, find, first_that_answers,
};
use crate::{Error, calls};

/// `_NTO_CHF_UNBLOCK | _NTO_CHF_DISCONNECT`: the channel that QNX's dispatch layer makes.
const CHANNEL_FLAGS: u32 = 0x2 | 0x8;

/// What [`name_attach`] gives, as the members of `name_attach_t` are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The channel on which the server receives.
    pub chid: i32,
    /// The number of the name, for [`name_detach`].
    pub mntid: i32,
}

/// Names of this process by their numbers, with their channels.
static NAMES: Mutex<BTreeMap<i32, (Name, i32)>> = Mutex::new(BTreeMap::new());

/// Makes a channel, with unblock and disconnect pulses, and gives it a name. `flags` is 0 or [`ATTACH_GLOBAL`].
///
/// # Errors
/// As [`attach`] and [`calls::channel_create`].
pub fn name_attach(name: &str, flags: u32) -> Result<Attached, Error> {
    let chid = calls::channel_create(CHANNEL_FLAGS)?;
    name_attach_to(chid, name, flags).map(|mntid| Attached { chid, mntid }).inspect_err(|_| {
        // Just made, so it is there; and what failed first is what the caller is to hear.
        let _ended = calls::channel_destroy(chid);
    })
}

/// Gives a channel of this process one more name; returns the number for [`name_detach`].
///
/// # Errors
/// As [`attach`].
pub fn name_attach_to(chid: i32, name: &str, flags: u32) -> Result<i32, Error> {
    let name = attach(calls::root()?, name, chid, scope(flags)?)?;
    let mut names = names();
    let mntid = (1..i32::MAX).find(|id| !names.contains_key(id)).ok_or(Error::Errno(libc::EMFILE))?;
    names.insert(mntid, (name, chid));
    Ok(mntid)
}

/// Gives a name up, and its channel too unless `flags` is [`DETACH_SAVEDPP`].
///
/// # Errors
/// `EINVAL`: no such name.
pub fn name_detach(mntid: i32, flags: u32) -> Result<(), Error> {
    let (name, chid) = names().remove(&mntid).ok_or(Error::Errno(libc::EINVAL))?;
    drop(name);
    if flags & DETACH_SAVEDPP == 0 { calls::channel_destroy(chid) } else { Ok(()) }
}

/// Connects to the channel that has a name; `path` is what [`Target::parse`] takes, `flags` 0 or [`ATTACH_GLOBAL`]. The
/// number is outside the range of descriptors, as `_NTO_SIDE_CHANNEL` makes it.
///
/// # Errors
/// As [`super::open`].
pub fn name_open(path: &str, flags: u32) -> Result<i32, Error> {
    let root = calls::root()?;
    let target = Target::parse(root, path, scope(flags)?)?;
    let message = connect_message()?;
    first_that_answers(&find(root, &target)?, |service| {
        let coid = calls::connect_attach(service.nd, service.pid, service.chid, calls::SIDE_CHANNEL, 0)?;
        match calls::msg_sendv(coid, &[IoSlice::new(&message)], &mut []) {
            Ok(_) => Ok(coid),
            Err(error) => {
                // The connection is of no use; why, is what the caller is to hear.
                let _ended = calls::connect_detach(coid);
                Err(error)
            }
        }
    })
}

/// Ends what [`name_open`] gave.
///
/// # Errors
/// `EINVAL`: no such connection.
pub fn name_close(coid: i32) -> Result<(), Error> {
    calls::connect_detach(coid)
}

fn scope(flags: u32) -> Result<Scope, Error> {
    match flags {
        0 => Ok(Scope::Local),
        ATTACH_GLOBAL => Ok(Scope::Global),
        _ => Err(Error::Errno(libc::EINVAL)),
    }
}

fn names() -> MutexGuard<'static, BTreeMap<i32, (Name, i32)>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}
