//! The groups of a client who has more than the eight that KIF's credentials hold (**ours**).
//!
//! ```text
//! behind a CONNECT with eight groups:   "Qgrp" 4, count 4, then count x group 4
//! ```
//! They are those behind the eight. A plain node skips what stands behind a CONNECT. They come from the same node as the
//! credentials, and are believed or not with them.

use super::bytes::{Order, Reader};
use super::kif::{ClientInfo, MAX_GROUPS};

/// Marks the list.
const MARK: u32 = u32::from_le_bytes(*b"Qgrp");
/// Most groups behind the eight; more of a client are neither sent nor taken.
pub const MAX_MORE: usize = 1016;

/// The list for a client, in the byte order that we send; empty when eight groups hold them all.
pub(crate) fn emit(cred: &ClientInfo) -> Vec<u8> {
    let more = cred.groups.get(MAX_GROUPS..).unwrap_or_default();
    let more = more.get(..MAX_MORE).unwrap_or(more);
    if more.is_empty() {
        return Vec::new();
    }
    let head = [MARK, more.len() as u32]; // at most MAX_MORE
    let words = head.into_iter().chain(more.iter().map(|group| group.cast_unsigned()));
    words.flat_map(u32::to_le_bytes).collect()
}

/// The groups behind a CONNECT that ends at `end`; none when something else stands there, or nothing.
pub(crate) fn parse(bytes: &[u8], end: usize, order: Order) -> Vec<i32> {
    let mut r = Reader::new(bytes.get(end..).unwrap_or_default(), order, "groups");
    match (r.u32(), r.u32()) {
        (Ok(mark), Ok(count)) if mark == MARK && count as usize <= MAX_MORE => {
            (0..count).map_while(|_| r.i32().ok()).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(count: i32) -> ClientInfo {
        ClientInfo { groups: (0..count).collect(), ..ClientInfo::default() }
    }

    #[test]
    fn what_does_not_fit_is_read_as_it_was_written() {
        for count in [9, 10, 256, 1024, 1025] {
            let mut bytes = vec![7; 5];
            bytes.extend(emit(&client(count)));
            let expected: Vec<i32> = (8..count.min(1024)).collect();
            assert_eq!(parse(&bytes, 5, Order::Little), expected, "{count}");
        }
        assert!(emit(&client(8)).is_empty() && emit(&client(0)).is_empty());
    }

    #[test]
    fn anything_else_is_no_list() {
        let list = emit(&client(20));
        for len in 0..list.len() {
            assert!(parse(&list[..len], 0, Order::Little).len() < 12);
        }
        assert!(parse(&list, list.len() + 1, Order::Little).is_empty());
        assert!(parse(&[0; 100], 0, Order::Little).is_empty());
        let mut many = list;
        many[4..8].copy_from_slice(&2000_u32.to_le_bytes());
        assert!(parse(&many, 0, Order::Little).is_empty());
    }
}
