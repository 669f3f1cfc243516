//! What is measured between one client and one server.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use bench_support::{
    contestant::{Contestant, Measured},
    pingpong::Carrier,
    placement::Placement,
    report::Table,
    rig::{Pair, Rig},
    trips::Plan,
};

use crate::{
    nodes::{Nodes, Waits, serve_locally},
    peers::{GRPC, ZEROMQ},
};

/// The veth pairs: of our nodes, of nodes that never spin, of all others.
pub const PAIRS: [Pair; 3] = [Pair::Bare("q"), Pair::Bare("n"), Pair::Plain("t")];
/// Silence before a cold message.
const SILENCE: Duration = Duration::from_micros(300);
/// Bytes of a bulk message.
const BULK: usize = 1 << 20;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// The installed io-pkt.
    pub program: PathBuf,
    /// Rounds; in each, everything has its turn.
    pub rounds: usize,
    /// Length of each measurement.
    pub span: Duration,
    /// Only lines whose name contains this.
    pub only: String,
}

impl Effort {
    /// Whether a line is wanted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

/// Round trips on one node, a table for each size and placement.
///
/// # Errors
/// A part failed.
pub fn local(effort: &Effort, sizes: &[usize]) -> Result<Vec<Table>> {
    let rig = Rig::new("messages", 1500, &PAIRS)?;
    let directory = rig.directory("a")?;
    let mut all = Vec::new();
    for (name, waits) in [("MsgSend", Waits::Adaptive), ("MsgSend, no spin", Waits::Sleep)] {
        if effort.wants(name) {
            let (server, address) = serve_locally(&rig, directory.path(), 1, waits)?;
            all.push(Contestant::new(name, server, address.client(&rig, waits)?, None)?);
        }
    }
    for (name, carrier) in
        [("Unix socket", Carrier::Unix), ("pipe", Carrier::Pipe), ("futex and shared memory", Carrier::Futex)]
    {
        if effort.wants(name) {
            let path = path_of(directory.path(), carrier)?;
            all.push(Contestant::local(&rig, name, carrier, &path)?);
        }
    }
    let plans: Vec<_> = sizes.iter().map(|&size| Plan::echo(size, effort.span)).collect();
    trips(effort, &mut all, "local", &plans, &Placement::ALL, &["Unix socket", "pipe"])
}

/// Round trips between two nodes, a table for each size and placement, then one a placement for messages after a
/// silence.
///
/// # Errors
/// A part failed.
pub fn remote(effort: &Effort, sizes: &[usize]) -> Result<Vec<Table>> {
    let rig = Rig::new("messages", 1500, &PAIRS)?;
    let mut daemons = Vec::new();
    let mut all = Vec::new();
    for (name, pair, waits) in [("MsgSend", "q", Waits::Adaptive), ("MsgSend, no spin", "n", Waits::Sleep)] {
        if effort.wants(name) {
            let nodes = Nodes::start(&rig, &effort.program, pair, 1500, waits)?;
            all.push(nodes.contestant(&rig, name, 1)?);
            daemons.push(nodes);
        }
    }
    for peer in [ZEROMQ, GRPC] {
        if effort.wants(peer.name) {
            all.extend(peer.start(&rig, "t")?);
        }
    }
    let (address, raw) = (rig.address("t")?, format!("t0/{}", rig.mac("b", "t1")?));
    for (name, carrier, at, to) in [
        ("TCP", Carrier::Tcp, address.as_str(), address.as_str()),
        ("UDP", Carrier::Udp, &address, &address),
        ("raw frames", Carrier::Raw, "t1", &raw),
    ] {
        if effort.wants(name) {
            all.push(Contestant::carrier(&rig, name, carrier, at, to)?);
        }
    }
    let yardsticks = ["TCP", "ZeroMQ", "gRPC", "raw frames"];
    let warm: Vec<_> = sizes.iter().map(|&size| Plan::echo(size, effort.span)).collect();
    let mut tables = trips(effort, &mut all, "node to node", &warm, &Placement::ALL, &yardsticks)?;
    let cold = Plan { pause: SILENCE, ..Plan::echo(64, effort.span) };
    tables.extend(trips(effort, &mut all, "node to node, cold", &[cold], &Placement::ALL, &yardsticks)?);
    Ok(tables)
}

/// Messages of 1 MiB one way, the answer empty, beside TCP with frames of the same size.
///
/// # Errors
/// A part failed.
pub fn bulk(effort: &Effort, mtu: u32) -> Result<Vec<Table>> {
    const PLACEMENTS: [Placement; 2] = [Placement::Split, Placement::Free];
    let rig = Rig::new("messages", mtu, &PAIRS)?;
    let nodes = Nodes::start(&rig, &effort.program, "q", mtu, Waits::Adaptive)?;
    let address = rig.address("t")?;
    let mut all = vec![
        nodes.contestant(&rig, "MsgSend", 4)?,
        Contestant::carrier(&rig, "TCP", Carrier::Tcp, &address, &address)?,
    ];
    all.retain(|one| effort.wants(&one.name));
    let mut tables = Vec::new();
    for placement in PLACEMENTS {
        for in_flight in [1, 4] {
            let title =
                format!("bulk, MTU {mtu}, messages of 1 MiB, {in_flight} under way, {}", placement.name());
            tables.push((
                placement,
                in_flight,
                Table::new(title, "MB/s", 0, &["TCP"]).with_columns(&[("CPU µs", 0)]),
            ));
        }
    }
    for _ in 0..effort.rounds {
        for (placement, in_flight, table) in &mut tables {
            for one in &mut all {
                let plan = Plan { echo: false, in_flight: *in_flight, ..Plan::echo(BULK, effort.span) };
                one.place(*placement)?;
                let Measured { trips, cpu } = one.measure(&plan)?;
                table.add_row(&one.name, trips.rate() * BULK as f64 / 1e6, &[micros(cpu)]);
            }
        }
    }
    Ok(tables.into_iter().map(|(.., table)| table).collect())
}

/// All contestants by turns in each round, for each plan and placement.
fn trips(
    effort: &Effort,
    all: &mut [Contestant],
    what: &str,
    plans: &[Plan],
    placements: &[Placement],
    yardsticks: &[&'static str],
) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for plan in plans {
        for &placement in placements {
            let silence = match plan.pause.as_micros() {
                0 => String::new(),
                micros => format!(" after {micros} µs of silence"),
            };
            let title = format!("{what}, {} B{silence}, {}", plan.size, placement.name());
            let columns = [("p99 µs", 1), ("thousand a second", 1), ("CPU µs a trip", 1)];
            let table = Table::new(title, "p50 µs", 1, yardsticks).with_columns(&columns);
            tables.push((*plan, placement, table));
        }
    }
    for _ in 0..effort.rounds {
        for (plan, placement, table) in &mut tables {
            for one in all.iter_mut().filter(|one| plan.size <= one.longest) {
                one.place(*placement)?;
                let Measured { trips, cpu } = one.measure(plan)?;
                let more = [trips.p99 as f64 / 1e3, trips.rate() / 1e3, micros(cpu)];
                table.add_row(&one.name, trips.p50 as f64 / 1e3, &more);
            }
        }
    }
    Ok(tables.into_iter().map(|(.., table)| table).collect())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn path_of(directory: &Path, carrier: Carrier) -> Result<String> {
    let path = directory.join(carrier.word());
    Ok(path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned())
}
