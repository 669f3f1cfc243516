//! Node descriptors: netmgr_strtond, netmgr_ndtostr, netmgr_remote_nd, netmgr_path.
//!
//! Without Qnet there is this node alone: its texts are those of QNX's C library then (`/` for its directory), and everything
//! else is `ENOTSUP`. A length counts the NUL, as that library's does.

use client::{LOCAL_NODE, Netmgr, calls};
use libc::{c_char, c_int, c_uint};

use crate::call::{Outcome, errno, fenced, ordinary};
use crate::memory;

/// `ND2S_*` that matter without Qnet.
const DIR_SHOW: u32 = 0x1;
/// What `netmgr_path` asks for: the directory of the node, whatever it is.
const AS_DIRECTORY: u32 = DIR_SHOW | 0x10;
/// The bits of a descriptor that are the node's number; above stands the quality of service.
const NODE_MASK: u32 = 0xffff;

fn netmgr() -> Outcome<Netmgr> {
    Netmgr::attach(calls::root().map_err(errno)?).map_err(errno)
}

/// Turns a node's name, at the beginning of a text, into its descriptor; `end` gets where the name ends.
///
/// # Safety
/// `name` is NULL or a string; `end` is NULL or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn netmgr_strtond(name: *const c_char, end: *mut *mut c_char) -> c_int {
    ordinary(fenced(|| {
        // SAFETY: the caller's promise.
        let text = unsafe { memory::text(name) }?;
        let (nd, used) = netmgr()?.strtond_used(text).map_err(errno)?;
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
        let text = text_of(flags, nd.cast_unsigned())?;
        // SAFETY: the caller's promise.
        unsafe { put_text(&text, buffer, size) }
    }))
}

fn text_of(flags: u32, nd: u32) -> Outcome<String> {
    match netmgr() {
        Ok(netmgr) => netmgr.ndtostr(flags, nd).map_err(errno),
        Err(libc::ENOTSUP) if nd & NODE_MASK == LOCAL_NODE => {
            Ok(if flags & DIR_SHOW != 0 { "/".to_owned() } else { String::new() })
        }
        Err(errno) => Err(errno),
    }
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
    ordinary(fenced(|| {
        let (remote, local) = (remote.cast_unsigned(), local.cast_unsigned());
        if remote & NODE_MASK == LOCAL_NODE {
            return Ok(local.cast_signed());
        }
        if remote & NODE_MASK == local & NODE_MASK {
            return Ok(LOCAL_NODE.cast_signed());
        }
        netmgr()?.remote_nd(remote, local).map(u32::cast_signed).map_err(errno)
    }))
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
        let directory = if network.is_empty() {
            "/".to_owned()
        } else {
            let netmgr = netmgr()?;
            let nd = netmgr.strtond(network).map_err(errno)?;
            netmgr.ndtostr(AS_DIRECTORY, nd).map_err(errno)?
        };
        let whole = format!("{}/{}", directory.trim_end_matches('/'), suffix.trim_start_matches('/'));
        if whole.len() >= size {
            return Err(libc::ENAMETOOLONG);
        }
        // SAFETY: the caller's promise.
        unsafe { put_text(&whole, path, size) }
    }))
}
