//! Memory for messages that do not come in one piece.
//!
//! A message is asked for only when there is room for all of it; until then it waits, and its sender with it. What is in
//! use counts from the first question until the request is done, whatever becomes of it: a [`Grant`] gives its bytes
//! back when it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits;

/// Buffers that are kept for the next messages.
const SPARE_BUFFERS: usize = 8;
/// Buffers below this size are not worth keeping.
const SPARE_SIZE: usize = 256 * 1024;

/// Bytes in use, all together and by node.
#[derive(Debug, Default)]
struct Ledger {
    total: usize,
    nodes: HashMap<u32, usize>,
}

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    ledger: Arc<Mutex<Ledger>>,
    spare: Vec<Vec<u8>>,
}

/// Bytes that one message may take up.
#[derive(Debug)]
pub(super) struct Grant {
    ledger: Arc<Mutex<Ledger>>,
    nd: u32,
    bytes: usize,
}

impl Memory {
    /// Room for a message of a node, if there is any. Nodes that hold all there is, and never send the rest of their
    /// messages, do not stop one that has nothing: it gets room for a single message, from [`limits::MESSAGES_BEYOND`].
    pub(super) fn grant(&self, nd: u32, bytes: usize) -> Option<Grant> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let of_node = ledger.nodes.get(&nd).copied().unwrap_or(0);
        let beyond = if of_node == 0 { limits::MESSAGES_BEYOND } else { 0 };
        if ledger.total + bytes > limits::MESSAGES + beyond || of_node + bytes > limits::MESSAGES_PER_NODE {
            return None;
        }
        ledger.total += bytes;
        ledger.nodes.insert(nd, of_node + bytes);
        Some(Grant { ledger: Arc::clone(&self.ledger), nd, bytes })
    }

    /// A buffer that begins with `first` and will hold `wanted` bytes.
    pub(super) fn buffer(&mut self, first: &[u8], wanted: usize) -> Vec<u8> {
        let mut buffer = if wanted >= SPARE_SIZE { self.spare.pop() } else { None }.unwrap_or_default();
        buffer.reserve_exact(wanted);
        buffer.extend_from_slice(first);
        buffer
    }

    /// Takes a buffer back.
    pub(super) fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= SPARE_SIZE && self.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.total -= self.bytes;
        let left = ledger.nodes.get(&self.nd).map_or(0, |bytes| bytes - self.bytes);
        if left == 0 {
            ledger.nodes.remove(&self.nd);
        } else {
            ledger.nodes.insert(self.nd, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_cannot_take_all_and_what_is_dropped_comes_back() {
        let memory = Memory::default();
        let piece = 1 << 20;
        let mut greedy: Vec<Grant> = std::iter::from_fn(|| memory.grant(1, piece)).collect();
        assert_eq!(greedy.len(), limits::MESSAGES_PER_NODE / piece);
        let other = memory.grant(2, piece).unwrap();
        let others: Vec<Grant> = std::iter::from_fn(|| memory.grant(2, piece)).collect();
        assert_eq!(greedy.len() + 1 + others.len(), limits::MESSAGES / piece);
        let third = memory.grant(3, piece).expect("the first message of a third one");
        assert!(memory.grant(3, 1).is_none(), "and no other one");
        drop((greedy.pop(), third));
        assert!(memory.grant(1, piece).is_some(), "and it is gone again at once");
        let nodes: Vec<Grant> = (100..).map_while(|nd| memory.grant(nd, piece)).collect();
        assert!(nodes.len() >= limits::MESSAGES_BEYOND / piece, "many nodes, not any number");
        drop((other, others, greedy, nodes));
        assert_eq!(memory.ledger.lock().unwrap().total, 0);
        assert!(memory.ledger.lock().unwrap().nodes.is_empty());
    }

    #[test]
    fn large_buffers_are_used_again() {
        let mut memory = Memory::default();
        let first = memory.buffer(b"abc", 1 << 20);
        let (address, capacity) = (first.as_ptr(), first.capacity());
        memory.keep(first);
        memory.keep(vec![0; 10]);
        let again = memory.buffer(b"xy", 1 << 20);
        assert_eq!((again.as_ptr(), again.capacity(), again.as_slice()), (address, capacity, &b"xy"[..]));
        assert_eq!(memory.spare.len(), 0);
    }
}
