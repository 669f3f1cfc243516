//! One server, many client processes at once: what all of them get together, and how fairly.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use bench_support::{
    part::Part,
    pingpong::Carrier,
    report::Table,
    rig::Rig,
    trips::{Plan, Trips, monotonic},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    nodes::{Address, Nodes, Waits, serve_locally},
    sections::{Effort, PAIRS},
};

/// Threads of the server that receives messages. (The others' server has one for each client.)
const THREADS: usize = 4;
/// Bytes of a message and of its answer.
const SIZE: usize = 64;
/// Shortest measurement: with a thousand clients each is to have several turns.
const SHORTEST: Duration = Duration::from_millis(600);
/// So many processes are started before the first is waited for.
const BATCH: usize = 50;

/// A server and its clients, all of them attached.
struct Crowd {
    name: &'static str,
    _server: Part,
    clients: Vec<Part>,
}

/// What all clients did in one measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Together {
    /// Trips a second of all.
    rate: f64,
    /// Jain's index of the clients' rates: 1 when all are equal, 1/n when one has everything.
    fairness: f64,
    /// Rate of the slowest beside the mean.
    slowest: f64,
    /// Middle one of the clients' medians, and their worst 99th of a hundred: seconds.
    p50: f64,
    p99: f64,
}

/// A table for each number of clients, on one node or, with `remote`, with the server on another.
///
/// # Errors
/// A part failed.
pub fn clients(effort: &Effort, counts: &[usize], remote: bool) -> Result<Vec<Table>> {
    let most = counts.iter().copied().max().unwrap_or(0);
    // A pipe each way for each client, and the sockets of the servers.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = 4 * most as u64 + 256;
    ensure!(hard >= wanted, "{most} clients take {wanted} descriptors, and the limit is {hard}");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;

    let rig = Rig::new("messages", 1500, &PAIRS)?;
    let directory = rig.directory("a")?;
    let (place, other) = if remote { ("node to node", "TCP") } else { ("local", "Unix socket") };
    let nodes =
        if remote { Some(Nodes::start(&rig, &effort.program, "q", 1500, Waits::Adaptive)?) } else { None };
    let mut crowds = Vec::new();
    if effort.wants("MsgSend") {
        crowds.push(of_messages(&rig, nodes.as_ref(), directory.path(), most)?);
    }
    if effort.wants(other) {
        crowds.push(of_others(&rig, other, remote, directory.path(), most)?);
    }
    let columns = [("fairness", 3), ("slowest to mean", 2), ("p50 µs", 0), ("worst p99 µs", 0)];
    let title = |count| format!("one server, {count} clients, {place}, {SIZE} B, not pinned");
    let table =
        |count: &usize| Table::new(title(*count), "thousand a second", 1, &[other]).with_columns(&columns);
    let mut tables: Vec<_> = counts.iter().map(|count| (*count, table(count))).collect();
    for _ in 0..effort.rounds {
        for (count, table) in &mut tables {
            for crowd in &mut crowds {
                let together =
                    crowd.measure(*count, effort.span.max(SHORTEST)).with_context(|| rig.log("a"))?;
                let Together { rate, fairness, slowest, p50, p99 } = together;
                table.add_row(crowd.name, rate / 1e3, &[fairness, slowest, p50 * 1e6, p99 * 1e6]);
            }
        }
    }
    Ok(tables.into_iter().map(|(_, table)| table).collect())
}

fn of_messages(rig: &Rig, nodes: Option<&Nodes>, root: &Path, most: usize) -> Result<Crowd> {
    let (server, address): (Part, Address) = match nodes {
        Some(nodes) => nodes.serve(rig, THREADS)?,
        None => serve_locally(rig, root, THREADS, Waits::Adaptive)?,
    };
    Crowd::gather(rig, "MsgSend", server, most, || address.client(rig, Waits::Adaptive))
}

fn of_others(rig: &Rig, name: &'static str, remote: bool, directory: &Path, most: usize) -> Result<Crowd> {
    let (carrier, side) = if remote { (Carrier::Tcp, "b") } else { (Carrier::Unix, "a") };
    let address = match remote {
        true => rig.address("t")?,
        false => directory.join("crowd").to_str().context("a path that is not UTF-8")?.to_owned(),
    };
    let mut server = rig.play(side, None, &["echo", carrier.word(), &address])?;
    ensure!(server.line()? == "ready", "the server of {name} does not start");
    Crowd::gather(rig, name, server, most, || rig.play("a", None, &["ping", carrier.word(), &address]))
}

impl Crowd {
    fn gather(
        rig: &Rig,
        name: &'static str,
        server: Part,
        most: usize,
        start: impl Fn() -> Result<Part>,
    ) -> Result<Self> {
        let mut clients = Vec::with_capacity(most);
        while clients.len() < most {
            let mut batch = (clients.len()..most).take(BATCH).map(|_| start()).collect::<Result<Vec<_>>>()?;
            for client in &mut batch {
                let said =
                    client.line().with_context(|| format!("a client of {name} ended:\n{}", rig.log("a")))?;
                ensure!(said == "ready", "a client of {name} says `{said}`");
            }
            clients.append(&mut batch);
        }
        Ok(Self { name, _server: server, clients })
    }

    /// The first `count` clients at the same time.
    fn measure(&mut self, count: usize, span: Duration) -> Result<Together> {
        let clients = &mut self.clients[..count];
        // Time to tell all of them.
        let start = monotonic()? + Duration::from_millis(20) + Duration::from_micros(100) * count as u32;
        let plan = Plan { start, ..Plan::echo(SIZE, span) };
        clients.iter_mut().try_for_each(|client| client.tell(&plan.line()))?;
        let all = clients.iter_mut().map(|client| client.line()?.parse()).collect::<Result<Vec<Trips>>>()?;
        Ok(Together::of(&all))
    }
}

impl Together {
    fn of(all: &[Trips]) -> Self {
        let rates: Vec<f64> = all.iter().map(Trips::rate).collect();
        let n = rates.len().max(1) as f64;
        let (sum, squares) =
            rates.iter().fold((0.0, 0.0), |(sum, squares), rate| (sum + rate, squares + rate * rate));
        let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let mut medians: Vec<u64> = all.iter().map(|trips| trips.p50).collect();
        medians.sort_unstable();
        let worst = all.iter().map(|trips| trips.p99).max().unwrap_or(0);
        Self {
            rate: sum,
            fairness: if squares > 0.0 { sum * sum / (n * squares) } else { 0.0 },
            slowest: if sum > 0.0 { slowest * n / sum } else { 0.0 },
            p50: medians.get(medians.len() / 2).copied().unwrap_or(0) as f64 / 1e9,
            p99: worst as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(count: u64) -> Trips {
        Trips { all: count, count, nanos: 1_000_000_000, p50: 10, p99: 20 * count }
    }

    #[test]
    fn equal_clients_are_fair() {
        let together = Together::of(&[client(5), client(5)]);
        assert!((together.rate - 10.0).abs() < 1e-9);
        assert!((together.fairness - 1.0).abs() < 1e-9 && (together.slowest - 1.0).abs() < 1e-9);
    }

    #[test]
    fn who_gets_nothing_shows() {
        let together = Together::of(&[client(8), client(0)]);
        assert!((together.fairness - 0.5).abs() < 1e-9);
        assert!(together.slowest.abs() < 1e-9);
        assert!((together.p99 - 160e-9).abs() < 1e-15);
    }
}
