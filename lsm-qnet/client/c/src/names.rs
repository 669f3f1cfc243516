//! Names: name_attach, name_open and their ends.

use std::ffi::c_void;
use std::ptr;

use client::names;
use libc::{c_char, c_int, c_uint};

use crate::call::{errno, fenced, ordinary, set_errno};
use crate::memory;

/// `name_attach_t`.
#[derive(Debug)]
#[repr(C)]
pub struct NameAttach {
    dpp: *mut c_void,
    chid: c_int,
    mntid: c_int,
    zero: [c_int; 2],
}

/// Gives a name to a new channel; NULL and errno when it cannot. `dpp` must be NULL: there are no dispatch handles.
///
/// # Safety
/// `path` is NULL or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn name_attach(
    dpp: *mut c_void,
    path: *const c_char,
    flags: c_uint,
) -> *mut NameAttach {
    let attached = fenced(|| {
        if !dpp.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: the caller's promise.
        let path = unsafe { memory::text(path) }?;
        let attached = names::name_attach(path, flags).map_err(errno)?;
        let attach = NameAttach { dpp, chid: attached.chid, mntid: attached.mntid, zero: [0; 2] };
        Ok(Box::into_raw(Box::new(attach)))
    });
    attached.unwrap_or_else(|errno| {
        set_errno(errno);
        ptr::null_mut()
    })
}

/// Gives a name up, and its channel unless NAME_FLAG_DETACH_SAVEDPP is given.
///
/// # Safety
/// `attach` is NULL or came from `name_attach`, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn name_detach(attach: *mut NameAttach, flags: c_uint) -> c_int {
    ordinary(fenced(|| {
        if attach.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: the caller's promise.
        let mntid = unsafe { (*attach).mntid };
        names::name_detach(mntid, flags).map_err(errno)?;
        // SAFETY: the caller's promise; it was made by `Box`.
        drop(unsafe { Box::from_raw(attach) });
        Ok(0)
    }))
}

/// Opens a name; gives a connection outside the range of descriptors.
///
/// # Safety
/// `path` is NULL or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn name_open(path: *const c_char, flags: c_int) -> c_int {
    ordinary(fenced(|| {
        // SAFETY: the caller's promise.
        let path = unsafe { memory::text(path) }?;
        names::name_open(path, flags.cast_unsigned()).map_err(errno)
    }))
}

/// Ends what `name_open` began.
#[unsafe(no_mangle)]
pub extern "C" fn name_close(coid: c_int) -> c_int {
    ordinary(fenced(|| names::name_close(coid).map(|()| 0).map_err(errno)))
}
