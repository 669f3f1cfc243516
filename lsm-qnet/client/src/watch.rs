//! Events for a process that is not in a call of ours, and the end of servers that nobody is talking to.
//!
//! Links are read by the threads that wait for replies. A process that expects something when no thread waits has one
//! thread more, which sleeps until a link has something and lets nobody else read it: started when the process registers
//! an event, when it has both a channel and a link, and when
//! something could not be sent at once that nobody waits for. No other process has such a thread.

use std::{
    os::fd::AsFd,
    sync::{Arc, Weak},
    thread,
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use crate::{
    Error,
    link::Link,
    process::{self, lock},
    sys::{self, KeptFromChild},
};

/// The thread's end that others see.
#[derive(Debug)]
pub(crate) struct Watch {
    _kept: KeptFromChild,
    epoll: Arc<Epoll>,
}

/// A link was made.
pub(crate) fn on_new_link(link: &Arc<Link>) {
    let process = process::get();
    match process.watch.get() {
        Some(watch) => watch.add(link),
        // Without the thread, what comes is noticed by the next call on the link.
        None if !lock(&process.ports).is_empty() => drop(start()),
        None => {}
    }
}

/// A channel was made.
pub(crate) fn on_new_channel() {
    if !lock(&process::get().links).is_empty() {
        let _later = start();
    }
}

/// Packets wait on a link, and the program may never wait for anything on it again: the thread sends them when there is room.
pub(crate) fn flush_later(link: &Arc<Link>) {
    // Without the thread they go out with the next call on the link.
    let _later = start();
    if let Some(watch) = process::get().watch.get() {
        watch.set(link, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET);
        link.look();
    }
}

/// Starts the thread, if it does not run yet.
///
/// # Errors
/// No descriptors or no thread left.
pub(crate) fn start() -> Result<(), Error> {
    let process = process::get();
    if process.watch.get().is_some() {
        return Ok(());
    }
    let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
    let watch = Watch { _kept: KeptFromChild::new(epoll.0.as_fd()), epoll: Arc::clone(&epoll) };
    if process.watch.set(watch).is_err() {
        return Ok(());
    }
    thread::Builder::new().name("qnet-watch".into()).spawn(move || run(&epoll))?;
    let links: Vec<_> = lock(&process.links).values().filter_map(Weak::upgrade).collect();
    if let Some(watch) = process.watch.get() {
        links.iter().for_each(|link| watch.add(link));
    }
    Ok(())
}

impl Watch {
    fn add(&self, link: &Arc<Link>) {
        use std::os::fd::AsRawFd;
        let token = link.socket().as_raw_fd() as u64;
        // Once for each arrival: whoever waits for a reply has its own way to see it.
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        // Added twice, by two threads: once is enough.
        let _known = self.epoll.add(link.socket(), EpollEvent::new(interest, token));
        // From here on the socket tells of everything.
        link.look();
    }

    fn set(&self, link: &Link, interest: EpollFlags) {
        use std::os::fd::AsRawFd;
        let token = link.socket().as_raw_fd() as u64;
        // One that is not watched (any more) needs nothing.
        let _unknown = self.epoll.modify(link.socket(), &mut EpollEvent::new(interest, token));
    }
}

fn run(epoll: &Epoll) {
    block_signals();
    let generation = sys::generation();
    let mut events = [EpollEvent::empty(); 16];
    while sys::generation() == generation {
        match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(n) => events[..n].iter().for_each(|event| on_arrival(event.data())),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn on_arrival(token: u64) {
    use std::os::fd::AsRawFd;
    let links: Vec<_> = lock(&process::get().links).values().filter_map(Weak::upgrade).collect();
    for link in links.iter().filter(|link| link.socket().as_raw_fd() as u64 == token) {
        link.look();
        // It may be watched for room because something waited to be sent.
        if let Some(watch) = process::get().watch.get().filter(|_| !link.lock().has_unsent()) {
            watch.set(link, EpollFlags::EPOLLIN | EpollFlags::EPOLLET);
        }
    }
}

/// The program's signals are for its own threads.
fn block_signals() {
    let all = nix::sys::signal::SigSet::all();
    // It fails for no set.
    let _never = all.thread_block();
}
