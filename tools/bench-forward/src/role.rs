//! The parts that the benchmark's program plays itself, each in a namespace.

use std::{
    io::{self, BufRead},
    time::Duration,
};

use anyhow::{Context, Result};
use bench_support::{
    frame::{GENERATOR, frame, parse_mac},
    stage,
};
use clap::Subcommand;

use crate::{generate, minimal};

/// A part to play in a namespace.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// Forward between two interfaces with TPACKET_V2 rings
    Ring {
        /// One interface
        a: String,
        /// The other
        b: String,
    },
    /// Forward between two interfaces with TPACKET_V2 rings to receive and sendmmsg to send
    RingMmsg {
        /// One interface
        a: String,
        /// The other
        b: String,
    },
    /// Forward between two interfaces with recvmmsg and sendmmsg
    Mmsg {
        /// One interface
        a: String,
        /// The other
        b: String,
    },
    /// Overload: print how many frames were offered
    Flood {
        /// Interface to send from
        interface: String,
        /// Destination address
        destination: String,
        /// Frame size without checksum, bytes
        size: usize,
        /// Milliseconds
        span: u64,
    },
    /// Keep a pace: print how many frames were sent
    Paced {
        /// Interface to send from
        interface: String,
        /// Destination address
        destination: String,
        /// Frame size without checksum, bytes
        size: usize,
        /// Milliseconds
        span: u64,
        /// Frames a second
        rate: f64,
    },
    /// Let an interface take live frames until standard input ends
    Hold {
        /// Interface
        interface: String,
    },
    /// Answer each line `count` with the receive counter, each line `teach` by sending one frame
    Sink {
        /// Interface
        interface: String,
    },
    /// Replace this process by a program
    Exec {
        /// Program and arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

/// Address that the sink teaches.
pub const SINK: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0b];

/// Plays a part.
///
/// # Errors
/// When it fails.
pub fn play(role: Role) -> Result<()> {
    match role {
        Role::Ring { a, b } => minimal::ring(&a, &b)?,
        Role::RingMmsg { a, b } => minimal::ring_mmsg(&a, &b)?,
        Role::Mmsg { a, b } => minimal::mmsg(&a, &b)?,
        Role::Flood { interface, destination, size, span } => {
            let frame = frame(parse_mac(&destination)?, GENERATOR, size);
            println!("{}", generate::flood(&interface, &frame, Duration::from_millis(span))?);
        }
        Role::Paced { interface, destination, size, span, rate } => {
            let frame = frame(parse_mac(&destination)?, GENERATOR, size);
            println!("{}", generate::paced(&interface, &frame, Duration::from_millis(span), rate)?);
        }
        Role::Hold { interface } => generate::hold_pass(&interface)?,
        Role::Sink { interface } => sink(&interface)?,
        Role::Exec { command } => stage::exec(&command)?,
    }
    Ok(())
}

fn sink(interface: &str) -> Result<()> {
    let teach = frame([0xff; 6], SINK, 60);
    println!("ready");
    for line in io::stdin().lock().lines() {
        if line? == "teach" {
            generate::once(interface, &teach)?;
        }
        println!("{}", received(interface)?);
    }
    Ok(())
}

/// Frames that the interface received, from the current namespace's table.
fn received(interface: &str) -> Result<u64> {
    let table = std::fs::read_to_string("/proc/self/net/dev")?;
    table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))
        .and_then(|numbers| numbers.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no receive counter of {interface}"))
}
