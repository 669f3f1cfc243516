//! Messages that fit into one packet: UDP datagrams, and Ethernet frames through a packet socket.

use std::{
    net::UdpSocket,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::{
    socket::{MsgFlags, recv, send, setsockopt, sockopt::ReceiveTimeout},
    time::TimeVal,
};

use crate::{
    frame::{self, GENERATOR, parse_mac},
    sys::packet_socket,
    trips::{self, Plan, Trips},
};

/// Ethertype of the raw ping-pong: an experimental one.
const ETHERTYPE: u16 = 0x88b5;
/// Ethernet's addresses and type.
const HEADER: usize = 14;
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers datagrams until the process is ended.
///
/// # Errors
/// When the socket cannot be opened.
pub fn echo_udp(at: &str, port: u16) -> Result<()> {
    let socket = UdpSocket::bind((at, port))?;
    println!("ready");
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..len], from)?;
    }
}

/// Sends datagrams as planned, for as long as plans come.
///
/// # Errors
/// When the socket cannot be opened or an answer is lost.
pub fn ping_udp(to: &str, port: u16) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect((to, port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    println!("ready");
    let mut buffer = vec![0; 1 << 16];
    trips::answer(|plan| {
        trips::take(&plan, || {
            socket.send(&buffer[..plan.size])?;
            let len = socket.recv(&mut buffer)?;
            ensure!(len == plan.size, "an answer of {len} bytes instead of {}", plan.size);
            Ok(())
        })
    })
}

/// Answers frames that arrive at an interface, until the process is ended.
///
/// # Errors
/// When the socket cannot be opened.
pub fn echo_raw(interface: &str) -> Result<()> {
    let socket = packet_socket(interface, ETHERTYPE)?;
    println!("ready");
    let mut frame = [0; 2048];
    loop {
        let len = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty())?;
        let (there, back) = frame.split_at_mut(6);
        there.swap_with_slice(&mut back[..6]);
        send(socket.as_raw_fd(), &frame[..len], MsgFlags::empty())?;
    }
}

/// Sends frames to `INTERFACE/MAC` as planned, for as long as plans come.
///
/// # Errors
/// When the socket cannot be opened or an answer is lost.
pub fn ping_raw(to: &str) -> Result<()> {
    let (interface, mac) = to.split_once('/').context("INTERFACE/MAC is expected")?;
    let (socket, mac) = (packet_socket(interface, ETHERTYPE)?, parse_mac(mac)?);
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs().cast_signed(), 0))?;
    println!("ready");
    trips::answer(|plan| measure_raw(&socket, mac, &plan))
}

fn measure_raw(socket: &OwnedFd, to: [u8; 6], plan: &Plan) -> Result<Trips> {
    // Any source address will do: the echo sends back to it, and a packet socket takes every frame.
    let frame = frame::frame(to, GENERATOR, plan.size + HEADER);
    let mut buffer = [0; 2048];
    trips::take(plan, || {
        send(socket.as_raw_fd(), &frame, MsgFlags::empty())?;
        let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        ensure!(len == frame.len(), "an answer of {len} bytes instead of {}", frame.len());
        Ok(())
    })
}
