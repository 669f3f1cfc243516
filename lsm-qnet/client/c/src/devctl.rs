//! Device control: `_IO_DEVCTL` over a connection.
//!
//! ```text
//!  0 type 0x106   2 combine_len   4 dcmd   8 nbytes   12 zero   16 data     request
//!  0 zero         4 ret_val       8 nbytes 12 zero    16 data               reply
//! ```

use std::io::{IoSlice, IoSliceMut};

use client::calls;
use libc::{c_int, c_void, iovec};

use crate::call::{Outcome, errno, fenced};
use crate::memory::{Source, Target, put};

const IO_DEVCTL: u16 = 0x106;
const HEAD: usize = 16;
/// Bit of a command: data goes to the server. Without it nothing is sent, however long the buffer is.
const TO: u32 = 0x8000_0000;
/// Bit of a command: data comes back.
const FROM: u32 = 0x4000_0000;

fn head(command: c_int, nbytes: usize) -> Outcome<[u8; HEAD]> {
    let nbytes = i32::try_from(nbytes).map_err(|_| libc::EINVAL)?;
    let mut head = [0; HEAD];
    head[0..2].copy_from_slice(&IO_DEVCTL.to_le_bytes());
    head[2..4].copy_from_slice(&(HEAD as u16).to_le_bytes());
    head[4..8].copy_from_slice(&command.to_le_bytes());
    head[8..12].copy_from_slice(&nbytes.to_le_bytes());
    Ok(head)
}

/// Sends the command; gives the server's result and what QNX's `dev_info` gets, which are the same number.
fn control(
    coid: c_int,
    command: c_int,
    sent: &[IoSlice<'_>],
    wanted: &mut [IoSliceMut<'_>],
    nbytes: usize,
) -> Outcome<c_int> {
    let head = head(command, nbytes)?;
    let mut answer = [0; HEAD];
    let message: Vec<IoSlice<'_>> =
        std::iter::once(IoSlice::new(&head)).chain(sent.iter().map(|s| IoSlice::new(s))).collect();
    let mut reply = vec![IoSliceMut::new(&mut answer)];
    reply.extend(wanted.iter_mut().map(|part| IoSliceMut::new(part)));
    // A descriptor of the system is no connection: what devctl() would do there is ioctl()'s.
    match calls::msg_sendv(coid, &message, &mut reply).map_err(errno) {
        Err(libc::EBADF) if is_descriptor(coid) => Err(libc::ENOTTY),
        outcome => outcome.map(|_| i32::from_le_bytes([answer[4], answer[5], answer[6], answer[7]])),
    }
}

fn is_descriptor(fd: c_int) -> bool {
    // SAFETY: has no conditions.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Device control; the result is EOK or an errno value.
///
/// # Safety
/// `data` is NULL or has `nbytes` bytes; `info` is NULL or a place for an int.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn devctl(
    coid: c_int,
    command: c_int,
    data: *mut c_void,
    nbytes: usize,
    info: *mut c_int,
) -> c_int {
    let outcome = fenced(|| {
        let bits = command.cast_unsigned();
        let sent = if bits & TO == 0 { 0 } else { nbytes };
        let wanted = if bits & FROM == 0 { 0 } else { nbytes };
        // SAFETY: the caller's promise. The message is copied before the reply is written, as the sockets do it.
        let copy: Vec<u8> =
            unsafe { Source::one(data, sent) }?.slices().iter().flat_map(|part| part.to_vec()).collect();
        // SAFETY: the caller's promise.
        let mut target = unsafe { Target::one(data, wanted) }?;
        let value = control(coid, command, &[IoSlice::new(&copy)], target.slices(), nbytes)?;
        // SAFETY: the caller's promise.
        unsafe { put(info, || Ok(value)) }
    });
    outcome.err().unwrap_or(0)
}

/// Device control with vectors; the result is EOK or an errno value.
///
/// # Safety
/// The vectors have as many entries as said, as for MsgSendv; `info` is NULL or a place for an int.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn devctlv(
    coid: c_int,
    command: c_int,
    sparts: c_int,
    rparts: c_int,
    sv: *const iovec,
    rv: *const iovec,
    info: *mut c_int,
) -> c_int {
    let outcome = fenced(|| {
        let count = |parts: c_int| usize::try_from(parts).map_err(|_| libc::EINVAL);
        // SAFETY: the caller's promise.
        let source = unsafe { Source::parts(sv, count(sparts)?) }?;
        // SAFETY: the caller's promise.
        let mut target = unsafe { Target::parts(rv, count(rparts)?) }?;
        let nbytes = target.room().max(source.slices().iter().map(|part| part.len()).sum());
        let value = control(coid, command, source.slices(), target.slices(), nbytes)?;
        // SAFETY: the caller's promise.
        unsafe { put(info, || Ok(value)) }
    });
    outcome.err().unwrap_or(0)
}
