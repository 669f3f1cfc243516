//! One small message there and one back, again and again: over UDP, TCP and raw Ethernet frames.
//!
//! The simplest blocking programs that do it; what they take is what the kernel takes.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench_forward::sys::packet_socket;
use clap::ValueEnum;
use nix::sys::socket::{MsgFlags, recv, send};

/// Ethertype of the raw ping-pong: an experimental one.
const ETHERTYPE: u16 = 0x88b5;
/// Port of UDP and TCP.
const PORT: u16 = 7001;

/// What the messages travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// Datagrams.
    Udp,
    /// A stream, without delay.
    Tcp,
    /// Ethernet frames through a packet socket.
    Raw,
}

/// Answers until the process is ended. `at` is an address, or the interface for raw frames.
///
/// # Errors
/// When a socket cannot be opened.
pub fn echo(carrier: Carrier, at: &str) -> Result<()> {
    match carrier {
        Carrier::Udp => {
            let socket = UdpSocket::bind((at, PORT))?;
            println!("ready");
            let mut buffer = [0; 2048];
            loop {
                let (len, from) = socket.recv_from(&mut buffer)?;
                socket.send_to(&buffer[..len], from)?;
            }
        }
        Carrier::Tcp => {
            let listener = TcpListener::bind((at, PORT))?;
            println!("ready");
            for stream in listener.incoming() {
                echo_stream(stream?);
            }
            Ok(())
        }
        Carrier::Raw => {
            let socket = packet_socket(at, ETHERTYPE)?;
            println!("ready");
            let mut frame = [0; 2048];
            loop {
                let len = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty())?;
                let (there, back) = frame.split_at_mut(6);
                there.swap_with_slice(&mut back[..6]);
                send(socket.as_raw_fd(), &frame[..len], MsgFlags::empty())?;
            }
        }
    }
}

/// Until the other end closes; a broken connection is the end too.
fn echo_stream(mut stream: TcpStream) {
    let mut buffer = [0; 2048];
    if stream.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(len) = stream.read(&mut buffer) {
        if len == 0 || stream.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

/// Pings for `span` with `size` bytes; the mean round trip. `to` is an address, or for raw frames
/// `INTERFACE/MAC`.
///
/// # Errors
/// When the sockets cannot be opened or no answer comes.
pub fn ping(carrier: Carrier, to: &str, size: usize, span: Duration) -> Result<Duration> {
    match carrier {
        Carrier::Udp => {
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            socket.connect((to, PORT))?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut buffer = vec![0; size];
            rounds(span, || {
                socket.send(&buffer)?;
                Ok(socket.recv(&mut buffer)?)
            })
        }
        Carrier::Tcp => {
            let mut stream = TcpStream::connect((to, PORT))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut buffer = vec![0; size];
            rounds(span, || {
                stream.write_all(&buffer)?;
                stream.read_exact(&mut buffer)?;
                Ok(size)
            })
        }
        Carrier::Raw => {
            let (interface, mac) = to.split_once('/').context("INTERFACE/MAC is expected")?;
            let socket = packet_socket(interface, ETHERTYPE)?;
            ping_raw(&socket, &bench_forward::role::parse_mac(mac)?, size, span)
        }
    }
}

fn ping_raw(socket: &OwnedFd, to: &[u8; 6], size: usize, span: Duration) -> Result<Duration> {
    let timeout = nix::sys::time::TimeVal::new(5, 0);
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
    // Any source address will do: the echo sends back to it, and a packet socket takes every frame.
    let frame = bench_forward::generate::frame(*to, bench_forward::role::GENERATOR, size + 14);
    let mut buffer = [0; 2048];
    rounds(span, || {
        send(socket.as_raw_fd(), &frame, MsgFlags::empty())?;
        Ok(recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?)
    })
}

/// The mean time of a round over `span`, after a hundred rounds to warm up.
fn rounds(span: Duration, mut round: impl FnMut() -> Result<usize>) -> Result<Duration> {
    for _ in 0..100 {
        ensure!(round()? > 0, "an empty answer");
    }
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < span {
        round()?;
        count += 1;
    }
    Ok(start.elapsed() / count.max(1))
}
