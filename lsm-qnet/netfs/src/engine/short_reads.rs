//! A read that ends at the end of the file waits for the reads before it.
//!
//! The kernel learns from a short answer that a file of another node has become shorter, and takes the place where the
//! answer ends for the new end. Of several reads in flight only the first answer counts. When that is the one furthest
//! behind the new end, the kernel takes too much for the file and fills it with zeros, which were never in it. So short
//! answers go out in the order of their places.

use zerocopy::FromBytes;

use super::{Engine, task::Task};
use crate::fuse::{abi::OutHeader, reply};

/// An answer that waits.
#[derive(Debug)]
pub(super) struct ShortRead {
    nodeid: u64,
    offset: u64,
    answer: Vec<u8>,
}

impl Engine {
    /// Gives the answer of a read of `size` bytes to the kernel, now or when the reads before it have ended.
    pub(super) fn answer_read(&mut self, fh: u64, offset: u64, size: u32, answer: Vec<u8>) {
        let good = OutHeader::read_from_prefix(&answer).is_ok_and(|(header, _)| header.error == 0);
        let short = good && answer.len() < reply::HEADER + size as usize;
        // Without the page cache an answer says nothing about the file.
        let cached = self.handle_file(fh).filter(|file| short && !file.direct).map(|file| file.nodeid);
        match cached {
            Some(nodeid) if self.is_read_before(nodeid, offset) => {
                self.short_reads.push(ShortRead { nodeid, offset, answer });
            }
            _ => self.replies.push_back(answer),
        }
    }

    fn is_read_before(&self, nodeid: u64, offset: u64) -> bool {
        self.jobs.values().any(|job| {
            let Task::Read { fh, offset: other, .. } = job.task else { return false };
            other < offset && self.handle_file(fh).is_some_and(|file| file.nodeid == nodeid)
        })
    }

    /// Lets those go that wait for nothing any more, the first places first.
    pub(super) fn release_short_reads(&mut self) {
        if self.short_reads.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.short_reads);
        waiting.sort_by_key(|read| read.offset);
        for read in waiting {
            if self.is_read_before(read.nodeid, read.offset) {
                self.short_reads.push(read);
            } else {
                self.replies.push_back(read.answer);
            }
        }
    }
}
