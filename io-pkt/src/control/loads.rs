//! Modules on their way from a file to the loop.
//!
//! Reading a module takes milliseconds, or as long as its file system likes: below `/net` this very daemon carries the
//! answer. So each is read by a thread of its own, which ends with that; mapping and mounting are the loop's.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use ctl::ErrorReply;
use mio::Waker;
use nix::errno::Errno;

use crate::registry::{Finder, Found, ModuleFile, MountError};

/// Modules that may be on their way at a time. A file system that does not answer holds on to its threads.
const MOST: usize = 16;

/// Stands for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// One that has arrived.
#[derive(Debug)]
pub struct Arrived {
    /// Who waits for it.
    pub ticket: Ticket,
    /// Its options.
    pub options: String,
    /// The module, or why there is none.
    pub found: Result<Found, MountError>,
}

/// All that are on their way.
#[derive(Debug)]
pub struct Loads {
    finder: Finder,
    waker: Arc<Waker>,
    sender: Sender<Arrived>,
    receiver: Receiver<Arrived>,
    next: u64,
    /// The threads that read.
    under_way: Vec<(Ticket, JoinHandle<()>)>,
}

impl Loads {
    /// None yet. `waker` wakes the loop when one has arrived.
    #[must_use]
    pub fn new(finder: Finder, waker: Arc<Waker>) -> Self {
        let (sender, receiver) = channel();
        Self { finder, waker, sender, receiver, next: 0, under_way: Vec::new() }
    }

    /// Sends for a module.
    ///
    /// # Errors
    /// `EAGAIN` when too many are on their way or no thread can be had.
    pub fn start(&mut self, file: ModuleFile, options: String) -> Result<Ticket, ErrorReply> {
        let refused = |text: String| ErrorReply::new(Errno::EAGAIN, text);
        if self.under_way.len() >= MOST {
            return Err(refused(format!(
                "{MOST} modules are being read already; does their file system answer?"
            )));
        }
        let ticket = Ticket(self.next);
        let (finder, sender, waker) = (self.finder.clone(), self.sender.clone(), Arc::clone(&self.waker));
        let read = move || {
            let found = finder.find(None, file);
            // Both fail only when the daemon has ended meanwhile.
            let _ = sender.send(Arrived { ticket, options, found });
            let _ = waker.wake();
        };
        let thread = thread::Builder::new().name("module".into()).spawn(read);
        let thread = thread
            .map_err(|error| refused(format!("cannot start a thread that reads the module: {error}")))?;
        self.next += 1;
        self.under_way.push((ticket, thread));
        Ok(ticket)
    }

    /// One that has arrived, if any has.
    pub fn poll(&mut self) -> Option<Arrived> {
        if self.under_way.is_empty() {
            return None;
        }
        let arrived = self.receiver.try_recv().ok()?;
        let at = self.under_way.iter().position(|(ticket, _)| *ticket == arrived.ticket)?;
        let (_, thread) = self.under_way.swap_remove(at);
        // It has nothing left to do but to end; the next one then gets its stack.
        let _ended = thread.join();
        Some(arrived)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use io_pkt_host::{Loader, SearchPath};
    use mio::{Poll, Token};

    use super::*;

    fn loads() -> (Poll, Loads) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let finder = Finder::new(Loader::default().reader(), SearchPath::default());
        (poll, Loads::new(finder, waker))
    }

    #[test]
    fn each_module_arrives_once_and_wakes_the_loop() {
        let (mut poll, mut loads) = loads();
        let mut waiting = Vec::new();
        for _ in 0..MOST {
            waiting.push(loads.start(ModuleFile::Named("/etc/passwd".into()), "a=b".into()).unwrap());
        }
        let refused = loads.start(ModuleFile::Named("x".into()), String::new()).unwrap_err();
        assert!(refused.text.starts_with("16 modules are being read already"), "{}", refused.text);
        let (mut events, end) = (mio::Events::with_capacity(4), Instant::now() + Duration::from_secs(60));
        while !waiting.is_empty() {
            assert!(Instant::now() < end, "they do not arrive");
            poll.poll(&mut events, Some(Duration::from_millis(100))).unwrap();
            while let Some(arrived) = loads.poll() {
                assert_eq!(arrived.options, "a=b");
                let error = arrived.found.unwrap_err().to_string();
                assert!(error.contains("/etc/passwd") && error.contains("a text file"), "{error}");
                waiting.retain(|ticket| *ticket != arrived.ticket);
            }
        }
        assert!(loads.start(ModuleFile::Named("x".into()), String::new()).is_ok(), "there is room again");
    }
}
