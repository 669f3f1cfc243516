//! The yardstick: the least that a forwarder between two AF_PACKET sockets can do.
//!
//! Two ways, because which one is faster depends on the kernel: TPACKET_V2 rings on both sides with one copy between
//! them, and `recvmmsg`/`sendmmsg` of 64 frames. No addresses are looked at, nothing is counted.

use std::{io, os::fd::AsFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::{Mmsg, Ring, packet_socket};

/// Frames moved between two looks at the other direction.
const BATCH: usize = 64;

/// Forwards with rings until the process is ended.
///
/// # Errors
/// When an interface cannot be opened or polled.
pub fn ring(a: &str, b: &str) -> io::Result<()> {
    let (mut a, mut b) = (Ring::open(a)?, Ring::open(b)?);
    println!("ready");
    loop {
        let there = a.forward(&mut b, BATCH);
        if there > 0 {
            b.kick();
        }
        let back = b.forward(&mut a, BATCH);
        if back > 0 {
            a.kick();
        }
        if there + back == 0 {
            wait(a.fd(), b.fd())?;
        }
    }
}

/// Forwards with `recvmmsg` and `sendmmsg` until the process is ended.
///
/// # Errors
/// When an interface cannot be opened or polled.
pub fn mmsg(a: &str, b: &str) -> io::Result<()> {
    let all = libc::ETH_P_ALL as u16;
    let (a, b) = (packet_socket(a, all)?, packet_socket(b, all)?);
    let mut buffers = Mmsg::new();
    println!("ready");
    loop {
        if buffers.forward(&a, &b) + buffers.forward(&b, &a) == 0 {
            wait(&a, &b)?;
        }
    }
}

fn wait(a: &impl AsFd, b: &impl AsFd) -> io::Result<()> {
    let mut fds = [PollFd::new(a.as_fd(), PollFlags::POLLIN), PollFd::new(b.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::NONE)?;
    Ok(())
}
