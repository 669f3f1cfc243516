//! The reply to an `_IO_CONNECT` whose path belongs to another channel: where to go.
//!
//! QNX's process manager answers so for every path that a server keeps, names of channels among them. The status is
//! [`STATUS_LINK`]; the data:
//!
//! ```text
//!  0 reserved 4   4 file_type 4   8 eflag 1   9 reserved 1  10 chroot_len 2  12 umask 4  16 nentries 2  18 path_len 2
//! 20 nentries times:  nd 4  pid 4  chid 4  handle 4  key 4  file_type 4  prefix_len 2  zero 6
//!    path, without a NUL
//! ```
//!
//! Each nd is the answering node's number: 0 is that node.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{ParseError, take};

/// Status of such a reply: redirected, by a list of servers.
pub const STATUS_LINK: i64 = 0x8001_0000;
/// In the status of every redirection.
pub const STATUS_REDIRECTED: i64 = 0x8000_0000;
/// Most servers in one reply that are read.
pub const MAX_ENTRIES: usize = 64;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    reserved: U32,
    file_type: U32,
    eflag: u8,
    reserved2: u8,
    chroot_len: U16,
    umask: U32,
    nentries: U16,
    path_len: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Record {
    nd: U32,
    pid: U32,
    chid: U32,
    handle: U32,
    key: U32,
    file_type: U32,
    prefix_len: U16,
    zero: [u8; 6],
}

/// A server that has the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its node, as the answering node numbers nodes.
    pub nd: u32,
    /// Its process.
    pub pid: i32,
    /// Its channel.
    pub chid: i32,
    /// Its own number for the path.
    pub handle: u32,
    /// `FTYPE_*`.
    pub file_type: u32,
}

/// The data of a reply with [`STATUS_LINK`]; `path` is what the servers have still to resolve. At most
/// [`MAX_ENTRIES`] entries are written.
#[must_use]
pub fn emit(entries: &[Entry], path: &[u8]) -> Vec<u8> {
    let entries = &entries[..entries.len().min(MAX_ENTRIES)];
    let path = &path[..path.len().min(usize::from(u16::MAX))];
    let header = Header {
        reserved: U32::ZERO,
        file_type: U32::new(entries.first().map_or(0, |entry| entry.file_type)),
        eflag: 0,
        reserved2: 0,
        chroot_len: U16::ZERO,
        umask: U32::ZERO,
        nentries: U16::new(entries.len() as u16),
        path_len: U16::new(path.len() as u16),
    };
    let mut out = header.as_bytes().to_vec();
    for entry in entries {
        let record = Record {
            nd: U32::new(entry.nd),
            pid: U32::new(entry.pid.cast_unsigned()),
            chid: U32::new(entry.chid.cast_unsigned()),
            handle: U32::new(entry.handle),
            key: U32::ZERO,
            file_type: U32::new(entry.file_type),
            prefix_len: U16::ZERO,
            zero: [0; 6],
        };
        out.extend_from_slice(record.as_bytes());
    }
    out.extend_from_slice(path);
    out
}

/// Reads the data of a reply with [`STATUS_LINK`]: the servers, and the path that is left.
///
/// # Errors
/// Fewer bytes than the counts in it promise; more than [`MAX_ENTRIES`] servers.
pub fn parse(bytes: &[u8]) -> Result<(Vec<Entry>, &[u8]), ParseError> {
    let (header, mut rest) = take::<Header>(bytes, "link reply")?;
    let count = usize::from(header.nentries.get());
    if count > MAX_ENTRIES {
        return Err(ParseError::Invalid { what: "nentries", value: count as u64 });
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let (record, after) = take::<Record>(rest, "link reply entry")?;
        rest = after;
        entries.push(Entry {
            nd: record.nd.get(),
            pid: record.pid.get().cast_signed(),
            chid: record.chid.get().cast_signed(),
            handle: record.handle.get(),
            file_type: record.file_type.get(),
        });
    }
    let need = usize::from(header.path_len.get());
    let path = rest.get(..need).ok_or(ParseError::Short { what: "path", need, have: rest.len() })?;
    Ok((entries, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry { nd: 0, pid: 4711, chid: 2, handle: 9, file_type: 12 };

    #[test]
    fn a_list_of_servers_reads_as_it_was_written() {
        let second = Entry { nd: 7, pid: -1, ..ENTRY };
        let bytes = emit(&[ENTRY, second], b"rest");
        assert_eq!(bytes.len(), 20 + 2 * 32 + 4);
        assert_eq!(&bytes[16..20], [2, 0, 4, 0]);
        assert_eq!(&bytes[20..32], [0, 0, 0, 0, 0x67, 0x12, 0, 0, 2, 0, 0, 0]);
        assert_eq!(parse(&bytes), Ok((vec![ENTRY, second], &b"rest"[..])));
    }

    #[test]
    fn every_shorter_reply_is_refused() {
        let bytes = emit(&[ENTRY], b"x");
        for len in 0..bytes.len() {
            assert!(matches!(parse(&bytes[..len]), Err(ParseError::Short { .. })), "{len} bytes");
        }
    }

    #[test]
    fn more_servers_than_anybody_needs_are_refused() {
        let mut bytes = emit(&[ENTRY; MAX_ENTRIES], b"");
        assert!(parse(&bytes).is_ok());
        bytes[16] += 1;
        bytes.resize(bytes.len() + 32, 0);
        assert!(matches!(parse(&bytes), Err(ParseError::Invalid { value: 65, .. })));
    }
}
