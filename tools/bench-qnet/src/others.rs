//! Bulk by others' means: iperf3, ZeroMQ, and a flood of raw frames.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench_support::{
    frame::{self, GENERATOR, parse_mac},
    is_installed,
    part::Part,
    placement::{CPU_A, CPU_B},
    rig::Rig,
    sys::{packet_socket, send_copies, set_option},
};

use crate::{process::Done, sys::Drain};

/// The flood's ethertype: not the one of the ping-pong, whose echo would answer.
const ETHERTYPE: u16 = 0x88b6;
/// Silence after which a stream counts as over.
const SILENCE: Duration = Duration::from_millis(200);
/// Bytes of ZeroMQ's messages.
const ZMQ_SIZE: u32 = 64 * 1024;
const ZMQ_PORT: u16 = 7003;

/// Sends frames of `size` bytes for `span` with `sendmmsg`.
///
/// # Errors
/// When the socket cannot be opened.
pub fn flood(interface: &str, destination: &str, size: usize, span: Duration) -> Result<()> {
    let socket = packet_socket(interface, 0)?;
    let mut frame = frame::frame(parse_mac(destination)?, GENERATOR, size);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    let start = Instant::now();
    while start.elapsed() < span {
        // A full queue costs frames; the other end counts what arrives.
        let _full = send_copies(&socket, &frame, 64);
    }
    println!("sent");
    Ok(())
}

/// Takes frames with `recvmmsg`; prints `BYTES NANOS` after each stream.
///
/// # Errors
/// When the socket cannot be opened.
pub fn drain(interface: &str) -> Result<()> {
    let socket = packet_socket(interface, ETHERTYPE)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(16_i32 << 20))?;
    let timeout = nix::sys::time::TimeVal::new(0, SILENCE.as_micros() as i64);
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
    let mut buffers = Drain::new(9216);
    println!("ready");
    let (mut bytes, mut stream): (u64, Option<(Instant, Instant)>) = (0, None);
    loop {
        match buffers.fetch(&socket) {
            Ok((frames, more)) => {
                let now = Instant::now();
                stream = Some((stream.map_or(now, |(first, _)| first), now));
                // Ethernet's header is not payload.
                bytes += more - 14 * frames as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some((first, last)) = stream.take() {
                    println!("{bytes} {}", (last - first).as_nanos());
                    bytes = 0;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A raw flood from `a` to `b`: bytes a second that arrived.
#[derive(Debug)]
pub struct Flood {
    drain: Part,
    mac: String,
    size: usize,
}

impl Flood {
    /// With frames that fill the MTU.
    ///
    /// # Errors
    /// The receiving end does not start.
    pub fn start(rig: &Rig, mtu: u32) -> Result<Self> {
        let mut drain = rig.play("b", Some(CPU_B), &["drain", "t1"])?;
        drain.line()?;
        Ok(Self { drain, mac: rig.mac("b", "t1")?, size: mtu as usize + 14 })
    }

    /// One measurement.
    ///
    /// # Errors
    /// An end failed.
    pub fn run(&mut self, rig: &Rig, span: Duration) -> Result<f64> {
        let words = ["flood", "t0", &self.mac, &self.size.to_string(), &span.as_millis().to_string()];
        rig.play("a", Some(CPU_A), &words)?.line()?;
        Ok(Done::parse(&self.drain.line()?)?.rate(1))
    }
}

/// iperf3 with one TCP stream over a pair.
#[derive(Debug)]
pub struct Iperf {
    _server: Part,
    address: String,
}

impl Iperf {
    /// Starts the server; `None` when iperf3 is not installed.
    ///
    /// # Errors
    /// It is installed and does not start.
    pub fn start(rig: &Rig, pair: &str) -> Result<Option<Self>> {
        if !is_installed("iperf3") {
            return Ok(None);
        }
        let address = rig.address(pair)?;
        let server = rig.play("b", Some(CPU_B), &["exec", "iperf3", "-s", "-B", &address, "--forceflush"])?;
        Ok(Some(Self { _server: server, address }))
    }

    /// One measurement of whole seconds.
    ///
    /// # Errors
    /// It failed.
    pub fn run(&self, rig: &Rig, span: Duration) -> Result<f64> {
        let seconds = span.as_secs().max(1).to_string();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let words = ["exec", "iperf3", "-c", &self.address, "-t", &seconds, "-J"];
            let json: serde_json::Value = serde_json::from_str(&rig.play("a", Some(CPU_A), &words)?.rest()?)
                .context("iperf3's report")?;
            if let Some(bits) = json["end"]["sum_received"]["bits_per_second"].as_f64() {
                return Ok(bits / 8.0);
            }
            // Its server takes one client at a time and needs a moment to be ready for the next.
            ensure!(Instant::now() < deadline, "iperf3: {}", json["error"]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// ZeroMQ PUSH and PULL, a small program that is compiled for the run.
#[derive(Debug)]
pub struct Zmq {
    program: PathBuf,
    pull: Part,
    address: String,
}

impl Zmq {
    /// Compiles and starts the receiving end; `None` without a compiler or libzmq3-dev.
    ///
    /// # Errors
    /// It was compiled and does not start.
    pub fn start(rig: &Rig, directory: &Path) -> Result<Option<Self>> {
        let (source, program) = (directory.join("zmqbulk.c"), directory.join("zmqbulk"));
        std::fs::write(&source, include_str!("zmqbulk.c"))?;
        let compiled =
            Command::new("cc").arg("-O2").arg(&source).arg("-o").arg(&program).arg("-lzmq").output();
        if !compiled.is_ok_and(|output| output.status.success()) {
            return Ok(None);
        }
        let address = format!("tcp://{}:{ZMQ_PORT}", rig.address("t")?);
        let path = program.to_string_lossy().into_owned();
        let mut pull = rig.play("b", Some(CPU_B), &["exec", &path, "pull", &address])?;
        pull.line()?;
        Ok(Some(Self { program, pull, address }))
    }

    /// One measurement.
    ///
    /// # Errors
    /// An end failed.
    pub fn run(&mut self, rig: &Rig, span: Duration) -> Result<f64> {
        let path = self.program.to_string_lossy().into_owned();
        let (size, millis) = (ZMQ_SIZE.to_string(), span.as_millis().to_string());
        let words = ["exec", &path, "push", &self.address, &size, &millis];
        let mut push = rig.play("a", Some(CPU_A), &words)?;
        let done = Done::parse(&self.pull.line()?)?;
        push.rest()?;
        Ok(done.rate(1))
    }
}
