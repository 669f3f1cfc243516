//! A message there and one back, again and again, by others' means.
//!
//! The simplest blocking programs that do it; what they take is what the kernel takes. A server answers as many clients
//! as come, each on a thread of its own.

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::Result;
use clap::ValueEnum;
use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::{
    datagram, shared,
    stream::Stream,
    trips::{self, Plan, Trips},
};

/// Port of UDP and TCP.
const PORT: u16 = 7001;
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the messages travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// Datagrams.
    Udp,
    /// A stream, without delay.
    Tcp,
    /// Ethernet frames through a packet socket.
    Raw,
    /// A Unix stream socket.
    Unix,
    /// A pipe each way; one client.
    Pipe,
    /// Shared memory and a futex each way; one client.
    Futex,
}

impl Carrier {
    /// Longest message, bytes, at an MTU of 1500.
    #[must_use]
    pub const fn longest(self) -> usize {
        match self {
            Self::Udp => 65507,
            Self::Raw => 1500,
            Self::Futex => shared::ROOM,
            Self::Tcp | Self::Unix | Self::Pipe => usize::MAX >> 33,
        }
    }

    /// Name on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Raw => "raw",
            Self::Unix => "unix",
            Self::Pipe => "pipe",
            Self::Futex => "futex",
        }
    }
}

/// Prints `ready` and answers until the process is ended. `at` is an address, the interface for raw frames, or a path.
///
/// # Errors
/// When it cannot be opened.
pub fn echo(carrier: Carrier, at: &str) -> Result<()> {
    match carrier {
        Carrier::Udp => datagram::echo_udp(at, PORT),
        Carrier::Raw => datagram::echo_raw(at),
        Carrier::Futex => shared::echo(Path::new(at)),
        Carrier::Tcp => {
            let listener = TcpListener::bind((at, PORT))?;
            println!("ready");
            for stream in listener.incoming() {
                let stream = stream?;
                stream.set_nodelay(true)?;
                thread::spawn(move || Stream::new(&stream, &stream).echo());
            }
            Ok(())
        }
        Carrier::Unix => {
            let listener = UnixListener::bind(at)?;
            println!("ready");
            for stream in listener.incoming() {
                let stream = stream?;
                thread::spawn(move || Stream::new(&stream, &stream).echo());
            }
            Ok(())
        }
        Carrier::Pipe => {
            let [there, back] = pipes(at);
            mkfifo(there.as_str(), Mode::S_IRWXU)?;
            mkfifo(back.as_str(), Mode::S_IRWXU)?;
            println!("ready");
            Ok(Stream::new(File::open(there)?, File::options().write(true).open(back)?).echo()?)
        }
    }
}

/// Prints `ready`, then answers each plan with what it measured. `to` is an address, `INTERFACE/MAC` for raw frames, or
/// a path.
///
/// # Errors
/// When it cannot be opened or no answer comes.
pub fn ping(carrier: Carrier, to: &str) -> Result<()> {
    match carrier {
        Carrier::Udp => datagram::ping_udp(to, PORT),
        Carrier::Raw => datagram::ping_raw(to),
        Carrier::Futex => shared::ping(Path::new(to)),
        Carrier::Tcp => {
            let stream = TcpStream::connect((to, PORT))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            ping_stream(Stream::new(&stream, &stream))
        }
        Carrier::Unix => {
            let stream = UnixStream::connect(to)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            ping_stream(Stream::new(&stream, &stream))
        }
        Carrier::Pipe => {
            let [there, back] = pipes(to);
            let writer = File::options().write(true).open(there)?;
            ping_stream(Stream::new(File::open(back)?, writer))
        }
    }
}

fn ping_stream(mut stream: Stream<impl Read, impl Write>) -> Result<()> {
    println!("ready");
    trips::answer(|plan: Plan| -> Result<Trips> { stream.measure(&plan) })
}

/// The two pipes by the name of both.
fn pipes(at: &str) -> [String; 2] {
    [format!("{at}.there"), format!("{at}.back")]
}
