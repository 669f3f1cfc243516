//! Descriptors that modules watch.
//!
//! A module holds a handle with a generation, so a handle that was removed never reaches the descriptor that came
//! after it. Everything of a use is removed before the use is destroyed, because destroying closes the descriptors.

use std::{io, os::fd::RawFd};

use io_pkt_abi::info::{INTEREST_READ, INTEREST_WRITE, READY_ERROR, READY_READ, READY_WRITE};
use mio::{Interest, Registry, event::Event, unix::SourceFd};
use nix::errno::Errno;
use slab::Slab;

use crate::{
    token::{Address, Class},
    uses::UseId,
};

/// Most descriptors that one use may watch.
pub const MAX_PER_USE: usize = 4096;

#[derive(Debug)]
struct Source {
    owner: UseId,
    fd: RawFd,
    /// The module's own number for it.
    token: u64,
    generation: u32,
    /// False while the interest is empty.
    registered: bool,
}

/// All watched descriptors.
#[derive(Debug)]
pub struct Sources {
    registry: Registry,
    entries: Slab<Source>,
    generation: u32,
}

impl Sources {
    /// An empty table on that poller.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self { registry, entries: Slab::new(), generation: 0 }
    }

    /// Watches `fd` for `interest` (`INTEREST_*`); returns a handle above 0.
    ///
    /// # Errors
    /// `EBADF`, `EEXIST`, `EPERM` as epoll_ctl(2); `EINVAL` for unknown interest; `ENOSPC` above [`MAX_PER_USE`].
    pub fn add(&mut self, owner: UseId, fd: RawFd, interest: u32, token: u64) -> Result<i64, Errno> {
        let wanted = parse(interest)?;
        if self.entries.iter().filter(|(_, source)| source.owner == owner).count() >= MAX_PER_USE {
            return Err(Errno::ENOSPC);
        }
        self.generation = self.generation.wrapping_add(1);
        let place = self.entries.vacant_key();
        let address = Address::new(Class::Source, place, self.generation);
        if let Some(wanted) = wanted {
            self.registry.register(&mut SourceFd(&fd), address.token(), wanted).map_err(errno)?;
        }
        let generation = address.generation;
        self.entries.insert(Source { owner, fd, token, generation, registered: wanted.is_some() });
        Ok(address.handle())
    }

    /// Changes what a handle watches for; an empty interest pauses it.
    ///
    /// # Errors
    /// `ENOENT` for a handle that is not the owner's; otherwise as [`Sources::add`].
    pub fn modify(&mut self, owner: UseId, handle: i64, interest: u32) -> Result<(), Errno> {
        let wanted = parse(interest)?;
        let address = self.find(owner, handle)?;
        let source = &mut self.entries[address.place as usize];
        let mut fd = SourceFd(&source.fd);
        match (source.registered, wanted) {
            (true, Some(wanted)) => self.registry.reregister(&mut fd, address.token(), wanted),
            (false, Some(wanted)) => self.registry.register(&mut fd, address.token(), wanted),
            (true, None) => self.registry.deregister(&mut fd),
            (false, None) => Ok(()),
        }
        .map_err(errno)?;
        source.registered = wanted.is_some();
        Ok(())
    }

    /// Stops watching.
    ///
    /// # Errors
    /// `ENOENT` for a handle that is not the owner's.
    pub fn remove(&mut self, owner: UseId, handle: i64) -> Result<(), Errno> {
        let address = self.find(owner, handle)?;
        let source = self.entries.remove(address.place as usize);
        self.forget(&source);
        Ok(())
    }

    /// Stops watching everything of a use; returns how many descriptors that were.
    pub fn remove_all(&mut self, owner: UseId) -> usize {
        let of_owner = |(place, source): (usize, &Source)| (source.owner == owner).then_some(place);
        let places: Vec<_> = self.entries.iter().filter_map(of_owner).collect();
        for place in &places {
            let source = self.entries.remove(*place);
            self.forget(&source);
        }
        places.len()
    }

    /// Whose descriptor an event is about: the use, its own token, and `READY_*`.
    #[must_use]
    pub fn resolve(&self, address: Address, event: &Event) -> Option<(UseId, u64, u32)> {
        let source = self.entries.get(address.place as usize)?;
        if source.generation != address.generation {
            return None;
        }
        let mut ready = 0;
        if event.is_readable() || event.is_read_closed() {
            ready |= READY_READ;
        }
        if event.is_writable() {
            ready |= READY_WRITE;
        }
        if event.is_error() || event.is_write_closed() {
            ready |= READY_ERROR;
        }
        Some((source.owner, source.token, ready))
    }

    /// Descriptors watched in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find(&self, owner: UseId, handle: i64) -> Result<Address, Errno> {
        let address = Address::of_handle(Class::Source, handle).ok_or(Errno::ENOENT)?;
        let source = self.entries.get(address.place as usize).ok_or(Errno::ENOENT)?;
        if source.owner == owner && source.generation == address.generation {
            Ok(address)
        } else {
            Err(Errno::ENOENT)
        }
    }

    fn forget(&self, source: &Source) {
        if source.registered {
            // A module that closed the descriptor too early has unregistered it that way already.
            let _ = self.registry.deregister(&mut SourceFd(&source.fd));
        }
    }
}

fn parse(interest: u32) -> Result<Option<Interest>, Errno> {
    const BOTH: u32 = INTEREST_READ | INTEREST_WRITE;
    match interest {
        0 => Ok(None),
        INTEREST_READ => Ok(Some(Interest::READABLE)),
        INTEREST_WRITE => Ok(Some(Interest::WRITABLE)),
        BOTH => Ok(Some(Interest::READABLE | Interest::WRITABLE)),
        _ => Err(Errno::EINVAL),
    }
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsRawFd, os::unix::net::UnixStream, time::Duration};

    use mio::{Events, Poll};

    use super::*;

    const ME: UseId = UseId(1);
    const OTHER: UseId = UseId(2);

    fn ready(poll: &mut Poll, sources: &Sources) -> Vec<(UseId, u64, u32)> {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().filter_map(|e| sources.resolve(Address::of(e.token())?, e)).collect()
    }

    #[test]
    fn readiness_reaches_the_owner_with_its_token() {
        let mut poll = Poll::new().unwrap();
        let mut sources = Sources::new(poll.registry().try_clone().unwrap());
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let handle = sources.add(ME, theirs.as_raw_fd(), INTEREST_READ, 77).unwrap();
        assert_eq!(ready(&mut poll, &sources), []);
        ours.write_all(b"x").unwrap();
        assert_eq!(ready(&mut poll, &sources), [(ME, 77, READY_READ)]);
        sources.modify(ME, handle, INTEREST_WRITE).unwrap();
        assert_eq!(ready(&mut poll, &sources), [(ME, 77, READY_WRITE)]);
        sources.modify(ME, handle, 0).unwrap();
        ours.write_all(b"y").unwrap();
        assert_eq!(ready(&mut poll, &sources), []);
        sources.modify(ME, handle, INTEREST_READ).unwrap();
        assert_eq!(ready(&mut poll, &sources), [(ME, 77, READY_READ)]);
        drop(ours);
        assert_eq!(ready(&mut poll, &sources), [(ME, 77, READY_READ | READY_ERROR)]);
    }

    #[test]
    fn handles_belong_to_their_owner_and_die_with_removal() {
        let poll = Poll::new().unwrap();
        let mut sources = Sources::new(poll.registry().try_clone().unwrap());
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let handle = sources.add(ME, theirs.as_raw_fd(), INTEREST_READ, 0).unwrap();
        assert_eq!(sources.remove(OTHER, handle), Err(Errno::ENOENT));
        assert_eq!(sources.add(OTHER, theirs.as_raw_fd(), INTEREST_READ, 0), Err(Errno::EEXIST));
        assert_eq!(sources.remove(ME, handle), Ok(()));
        let next = sources.add(OTHER, theirs.as_raw_fd(), INTEREST_READ, 0).unwrap();
        assert_ne!(next, handle);
        assert_eq!(sources.modify(ME, handle, INTEREST_READ), Err(Errno::ENOENT));
        assert_eq!((sources.remove_all(OTHER), sources.len()), (1, 0));
    }

    #[test]
    fn what_cannot_be_watched_is_refused() {
        let poll = Poll::new().unwrap();
        let mut sources = Sources::new(poll.registry().try_clone().unwrap());
        assert_eq!(sources.add(ME, -1, INTEREST_READ, 0), Err(Errno::EBADF));
        assert_eq!(sources.add(ME, 0, 4, 0), Err(Errno::EINVAL));
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(sources.add(ME, file.as_raw_fd(), INTEREST_READ, 0), Err(Errno::EPERM));
        assert!(sources.is_empty());
    }
}
