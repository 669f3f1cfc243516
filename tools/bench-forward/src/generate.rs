//! Frame generators: one that overloads any forwarder, one that keeps a pace.

use std::{
    io,
    time::{Duration, Instant},
};

use bench_support::sys::{interface_index, packet_socket, send_copies};

use crate::sys::{self, XDP_PASS, XDP_TX};

/// Sends for `span` as fast as the driver takes frames, without sockets; how many frames were offered.
///
/// # Errors
/// When the kernel refuses the program or the frames.
pub fn flood(interface: &str, frame: &[u8], span: Duration) -> io::Result<u64> {
    // Live frames need receive queues registered for XDP on the interface that they claim to come from.
    let pass = sys::verdict_program(XDP_PASS)?;
    let _link = sys::attach(&pass, interface)?;
    let program = sys::verdict_program(XDP_TX)?;
    let index = interface_index(interface)?;
    // Large enough that the cost of setting up a call does not count, small enough to end in time.
    const REPEAT: u32 = 1 << 17;
    let start = Instant::now();
    let mut offered = 0;
    while start.elapsed() < span {
        sys::send_live(&program, index, frame, REPEAT)?;
        offered += u64::from(REPEAT);
    }
    Ok(offered)
}

/// Sends for `span` at `rate` frames a second through a packet socket; how many frames went.
///
/// # Errors
/// When the socket cannot be opened.
pub fn paced(interface: &str, frame: &[u8], span: Duration, rate: f64) -> io::Result<u64> {
    let socket = packet_socket(interface, 0)?;
    let start = Instant::now();
    let mut sent = 0_u64;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= span {
            return Ok(sent);
        }
        let due = (elapsed.as_secs_f64() * rate) as u64;
        if due > sent {
            let count = usize::try_from(due - sent).unwrap_or(usize::MAX).min(16);
            sent += send_copies(&socket, frame, count).unwrap_or(0) as u64;
        }
    }
}

/// Sends one frame, to teach a bridge where an address lives.
///
/// # Errors
/// When the socket cannot be opened or the frame not sent.
pub fn once(interface: &str, frame: &[u8]) -> io::Result<()> {
    let socket = packet_socket(interface, 0)?;
    send_copies(&socket, frame, 1).map(|_| ())
}

/// Keeps an XDP program that passes everything on an interface until standard input ends. A veth takes live frames
/// only while its far end has one.
///
/// # Errors
/// When the kernel refuses the program.
pub fn hold_pass(interface: &str) -> io::Result<()> {
    let pass = sys::verdict_program(XDP_PASS)?;
    let _link = sys::attach(&pass, interface)?;
    println!("ready");
    io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ())
}
