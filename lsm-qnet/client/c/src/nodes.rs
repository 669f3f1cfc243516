//! Node descriptors: netmgr_strtond, netmgr_ndtostr, netmgr_remote_nd, netmgr_path.
//!
//! A length counts the NUL, as that of QNX's C library does.

use client::netmgr;
use libc::{c_char, c_int, c_uint};

use crate::call::{Outcome, errno, fenced, ordinary};
use crate::memory;

/// Turns a node's name, at the beginning of a text, into its descriptor; `end` gets where the name ends.
///
/// # Safety
/// `name` is NULL or a string; `end` is NULL or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netmgr_strtond(name: *const c_char, end: *mut *mut c_char) -> c_int {
    ordinary(fenced(|| {
        // SAFETY: the caller's promise.
        let text = unsafe { memory::text(name) }?;
        let (nd, used) = netmgr::strtond(text).map_err(errno)?;
        // SAFETY: `used` bytes of the text were read, so the pointer stays in it.
        unsafe { memory::put(end, || Ok(name.add(used).cast_mut())) }?;
        Ok(nd.cast_signed())
    }))
}

/// The text for a node, as far as there is room; the result is the length of the whole one, with its NUL.
///
/// # Safety
/// `buffer` is NULL or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netmgr_ndtostr(flags: c_uint, nd: c_int, buffer: *mut c_char, size: usize) -> c_int {
    ordinary(fenced(|| {
        let text = netmgr::ndtostr(flags, nd.cast_unsigned()).map_err(errno)?;
        // SAFETY: the caller's promise.
        unsafe { put_text(&text, buffer, size) }
    }))
}

/// Writes a text with its NUL, cut where the room ends; gives the length of the whole, with the NUL.
///
/// # Safety
/// `buffer` is NULL or has `size` bytes.
unsafe fn put_text(text: &str, buffer: *mut c_char, size: usize) -> Outcome<c_int> {
    let whole = c_int::try_from(text.len() + 1).map_err(|_| libc::EOVERFLOW)?;
    if size > 0 {
        // SAFETY: the caller's promise.
        let mut target = unsafe { memory::Target::one(buffer.cast(), size) }?;
        let kept = text.len().min(size - 1);
        let bytes: Vec<u8> = text.bytes().take(kept).chain([0]).collect();
        target.fill(&bytes);
    }
    Ok(whole)
}

/// The descriptor by which node `remote` knows the node that is `local` here.
#[unsafe(no_mangle)]
pub extern "C" fn netmgr_remote_nd(remote: c_int, local: c_int) -> c_int {
    let outcome = fenced(|| netmgr::remote_nd(remote.cast_unsigned(), local.cast_unsigned()).map_err(errno));
    ordinary(outcome.map(u32::cast_signed))
}

/// The path of `suffix` on the node that `network` names, such as `/net/joseph/dev/ser1`; the result is its length, with its
/// NUL. `network` NULL or empty is this node.
///
/// # Safety
/// The strings are NULL or strings; `path` is NULL or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netmgr_path(
    network: *const c_char,
    suffix: *const c_char,
    path: *mut c_char,
    size: usize,
) -> c_int {
    ordinary(fenced(|| {
        // SAFETY: the caller's promise.
        let network = if network.is_null() { "" } else { unsafe { memory::text(network) }? };
        // SAFETY: the caller's promise.
        let suffix = if suffix.is_null() { "" } else { unsafe { memory::text(suffix) }? };
        let whole = if network.is_empty() {
            format!("/{}", suffix.trim_start_matches('/'))
        } else {
            netmgr::path(network, suffix).map_err(errno)?
        };
        if whole.len() >= size {
            return Err(libc::ENAMETOOLONG);
        }
        // SAFETY: the caller's promise.
        unsafe { put_text(&whole, path, size) }
    }))
}
