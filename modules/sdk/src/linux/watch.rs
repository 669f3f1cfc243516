//! Asking the kernel about interfaces, and hearing when something changed.
//!
//! A change is only a hint here: whoever hears one asks anew what is the case. So a lost or merged notification costs
//! nothing, and there is no second copy of the kernel's state to keep right.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
            setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

use super::message::{Answer, Link, Which, answers, request};

/// Room for the largest datagram of a dump.
const DATAGRAM: usize = 64 * 1024;
/// The kernel answers in microseconds; this only ends a wait that should not be.
const PATIENCE_SECONDS: i64 = 2;

/// A view on the interfaces of the network namespace in which it was opened.
#[derive(Debug)]
pub struct LinkWatch {
    ask: OwnedFd,
    news: OwnedFd,
    seq: u32,
    room: Vec<u8>,
}

impl LinkWatch {
    /// Opens the two sockets. Needs no privilege.
    ///
    /// # Errors
    /// What the kernel says: no descriptors left, or rtnetlink forbidden by a sandbox.
    pub fn open() -> io::Result<Self> {
        let ask = netlink(0, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&ask, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_SECONDS, 0))?;
        let news = netlink(libc::RTMGRP_LINK as u32, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        Ok(Self { ask, news, seq: 0, room: vec![0; DATAGRAM] })
    }

    /// Takes in all notifications and says whether there were any. Never blocks; call it when the descriptor is
    /// readable.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        loop {
            match recv(self.news.as_raw_fd(), &mut self.room, MsgFlags::MSG_DONTWAIT) {
                // ENOBUFS: some were lost, which is news as well.
                Ok(_) | Err(Errno::ENOBUFS) => changed = true,
                Err(Errno::EINTR) => {}
                Err(_) => return changed,
            }
        }
    }

    /// All interfaces.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn all(&mut self) -> io::Result<Vec<Link>> {
        self.ask(Which::All)
    }

    /// The interface with this number, `None` when there is none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn by_index(&mut self, index: i32) -> io::Result<Option<Link>> {
        self.one(Which::Index(index))
    }

    /// The interface of this name, which may be one of its alternative names; `None` when there is none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn by_name(&mut self, name: &str) -> io::Result<Option<Link>> {
        if name.is_empty() || name.len() > 127 || name.contains('\0') {
            return Ok(None);
        }
        self.one(Which::Name(name))
    }

    fn one(&mut self, which: Which<'_>) -> io::Result<Option<Link>> {
        match self.ask(which) {
            Ok(links) => Ok(links.into_iter().next()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ask(&mut self, which: Which<'_>) -> io::Result<Vec<Link>> {
        self.seq = self.seq.wrapping_add(1);
        send(self.ask.as_raw_fd(), &request(which, self.seq), MsgFlags::empty())?;
        let mut links = Vec::new();
        loop {
            let len = match recv(self.ask.as_raw_fd(), &mut self.room, MsgFlags::empty()) {
                Ok(len) => len,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for answer in answers(&self.room[..len], self.seq) {
                match answer {
                    Answer::Link(link) if which == Which::All => links.push(*link),
                    Answer::Link(link) => return Ok(vec![*link]),
                    Answer::Done | Answer::Error(0) => return Ok(links),
                    Answer::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
    }
}

impl AsFd for LinkWatch {
    /// The descriptor to watch for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

fn netlink(groups: u32, flags: SockFlag) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_by_name_and_number() {
        let mut watch = LinkWatch::open().expect("rtnetlink");
        let lo = watch.by_name("lo").expect("an answer").expect("lo is there");
        assert!(!lo.is_ethernet());
        assert_eq!(watch.by_index(lo.index).expect("an answer").map(|link| link.name), Some("lo".to_owned()));
        assert!(watch.all().expect("an answer").iter().any(|link| link.index == lo.index));
    }

    #[test]
    fn an_unknown_name_is_none_and_not_an_error() {
        let mut watch = LinkWatch::open().expect("rtnetlink");
        for name in ["no-such-interface-here", "", "a\0b", &"x".repeat(200)] {
            assert_eq!(watch.by_name(name).expect("an answer"), None, "{name:?}");
        }
    }
}
