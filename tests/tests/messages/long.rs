//! A message as long as there may be, out of memory that is mostly not there, and the end of a reply of that length.
//!
//! The server has no room for it: it reads a mebibyte at a time, counts what it finds, and writes four bytes where the reply
//! ends.

use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroUsize;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use qnet::{MessageInfo, calls};

/// What the server reads at a time.
const PIECE: usize = 1 << 20;
/// What stands at the end of message and reply.
const END: &[u8; 4] = b"tail";

/// Bytes of the message: the most that there may be, if this is to take long.
pub(crate) fn length() -> usize {
    if std::env::var_os("IO_PKT_SOAK").is_some() { u32::MAX as usize } else { 16 << 20 }
}

/// Memory that is there where it was written to.
fn sparse(len: usize) -> Result<&'static mut [u8]> {
    let length = NonZeroUsize::new(len).context("no bytes")?;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: at a place that the kernel chooses, which nobody else has.
    let place = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)? };
    // SAFETY: mapped above for as long as the program runs, known to nobody else, and zeroed by the kernel.
    Ok(unsafe { std::slice::from_raw_parts_mut(place.as_ptr().cast(), len) })
}

/// Marks in a message of that length: where, and what.
fn marks(len: usize) -> [(usize, u8); 4] {
    [(0, b'l'), (PIECE - 1, 1), (PIECE, 2), (len / 4 * 3, 3)]
}

/// The client: says what the server counted.
pub(crate) fn ask(coid: i32, len: usize) -> Result<String> {
    let (message, reply) = (sparse(len)?, sparse(len)?);
    for (at, byte) in marks(len) {
        message[at] = byte;
    }
    message[len - END.len()..].copy_from_slice(END);
    let parts = [IoSlice::new(message)];
    let status = calls::msg_sendv(coid, &parts, &mut [IoSliceMut::new(reply)]);
    let status = status.map_err(|error| Errno::from_raw(error.errno()))?;
    ensure!(&reply[len - END.len()..] == END && reply[..PIECE].iter().all(|byte| *byte == 0));
    let longer = [IoSlice::new(message), IoSlice::new(&message[..PIECE])];
    let refused = calls::msg_sendv(coid, &longer, &mut []).map_err(|error| error.errno());
    let refused =
        if len + PIECE > u32::MAX as usize { format!(", longer: {refused:?}") } else { String::new() };
    Ok(format!("{status}{refused}"))
}

/// What the server counts in such a message.
pub(crate) fn expected(len: usize) -> String {
    let sum: usize = marks(len).iter().map(|(at, byte)| (at + 1) * usize::from(*byte)).sum();
    let end: usize = END.iter().zip(len - END.len()..).map(|(byte, at)| (at + 1) * usize::from(*byte)).sum();
    let refused = if len + PIECE > u32::MAX as usize { ", longer: Err(90)" } else { "" };
    // 32 bits of a status travel between nodes.
    format!("{}{refused}", (sum + end) % 1_000_000_007)
}

/// The server.
pub(crate) fn serve(rcvid: i32, info: &MessageInfo) -> Result<(), qnet::Error> {
    let (len, mut piece) = (info.srcmsglen as usize, vec![0; PIECE]);
    let (mut at, mut sum) = (0, 0);
    while at < len {
        let read = calls::msg_readv(rcvid, &mut [IoSliceMut::new(&mut piece)], at)?;
        if read != PIECE.min(len - at) {
            return Err(qnet::Error::Errno(libc::EIO));
        }
        let found = piece[..read].iter().enumerate().filter(|(_, byte)| **byte != 0);
        sum += found.map(|(i, byte)| (at + i + 1) * usize::from(*byte)).sum::<usize>();
        at += read;
    }
    // Behind the end there is nothing, and no room.
    let (beyond, end) = (&mut [IoSliceMut::new(&mut piece)], len - END.len());
    let nothing = calls::msg_readv(rcvid, beyond, len)?;
    let room = calls::msg_writev(rcvid, &[IoSlice::new(END), IoSlice::new(b"and more")], end)?;
    if (nothing, room) != (0, END.len()) {
        return Err(qnet::Error::Errno(libc::ERANGE));
    }
    calls::msg_replyv(rcvid, (sum % 1_000_000_007) as i64, &[])
}
