//! Extended attributes of what a descriptor means, O_PATH ones and symbolic links included.
//!
//! The calls for descriptors refuse O_PATH, and those for paths need one: `/proc/self/fd/N`, which leads to the very file, and
//! not further where that is a symbolic link. (Linux 6.13 has calls without the detour.)
#![expect(unsafe_code, reason = "calls without a safe wrapper")]

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

fn path_of(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("digits and letters")
}

fn length(result: isize) -> Result<usize, Errno> {
    Errno::result(result).map(|n| n as usize)
}

/// The value of `name` into `value`; its length. With an empty `value` only the length.
///
/// # Errors
/// As `getxattr`.
pub(super) fn get(fd: BorrowedFd<'_>, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
    let path = path_of(fd);
    // SAFETY: both texts end in NUL, `value` is writable for the length that is told.
    length(unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) })
}

/// All names, each with a NUL behind it, into `names`; how many bytes they are.
///
/// # Errors
/// As `listxattr`.
pub(super) fn list(fd: BorrowedFd<'_>, names: &mut [u8]) -> Result<usize, Errno> {
    let path = path_of(fd);
    // SAFETY: the path ends in NUL, `names` is writable for the length that is told.
    length(unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) })
}

/// Whether the entry of that name in `directory`, itself and not where a link leads, has no attributes that could be listed.
pub(super) fn lists_nothing(directory: BorrowedFd<'_>, name: &CStr) -> bool {
    let mut path = path_of(directory).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name.to_bytes_with_nul());
    // SAFETY: the path ends in the name's NUL; without room only the length is told.
    unsafe { libc::llistxattr(path.as_ptr().cast(), std::ptr::null_mut(), 0) == 0 }
}

/// Gives `name` a value.
///
/// # Errors
/// As `setxattr`.
pub(super) fn set(fd: BorrowedFd<'_>, name: &CStr, value: &[u8], flags: i32) -> Result<(), Errno> {
    let path = path_of(fd);
    // SAFETY: both texts end in NUL, `value` is readable for the length that is told.
    let result =
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    Errno::result(result).map(drop)
}

/// Takes `name` away.
///
/// # Errors
/// As `removexattr`.
pub(super) fn remove(fd: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let path = path_of(fd);
    // SAFETY: both texts end in NUL.
    Errno::result(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}
