//! The yardstick: the least that a forwarder between two AF_PACKET sockets can do.
//!
//! Three ways, because which one is fastest depends on the kernel: TPACKET_V2 rings on both sides with one copy between
//! them, `recvmmsg`/`sendmmsg` of 64 frames, and a ring to receive with `sendmmsg` straight out of its slots. No
//! addresses are looked at, nothing is counted.

use std::{io, os::fd::AsFd};

use bench_support::sys::packet_socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::{Mmsg, Ring, Vectors};

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

/// Forwards with a ring to receive and `sendmmsg` out of its slots until the process is ended.
///
/// # Errors
/// When an interface cannot be opened or polled.
pub fn ring_mmsg(a: &str, b: &str) -> io::Result<()> {
    let (to_a, to_b) = (packet_socket(a, 0)?, packet_socket(b, 0)?);
    let (mut a, mut b, mut vectors) = (Ring::open(a)?, Ring::open(b)?, Vectors::new());
    println!("ready");
    loop {
        if a.send(&to_b, &mut vectors) + b.send(&to_a, &mut vectors) == 0 {
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
