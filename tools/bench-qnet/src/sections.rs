//! What is measured: bulk, round trips, and what many nodes cost.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench_support::{
    contestant::Contestant,
    daemon::Daemon,
    part::Part,
    pingpong::Carrier,
    placement::{CPU_A, CPU_B, Placement},
    report::Table,
    rig::{self, Rig},
    trips::Plan,
};
use qnet::Netmgr;

use crate::{
    crowd,
    others::{Flood, Iperf, Zmq},
    process::{Done, Load, meter},
};

/// The veth pairs.
const PAIRS: [rig::Pair; 7] = [
    rig::Pair::Bare("q"),
    rig::Pair::Bare("c"),
    rig::Pair::Bare("m"),
    rig::Pair::Bare("x"),
    rig::Pair::Plain("t"),
    rig::Pair::Addressed("o"),
    rig::Pair::Bare("z"),
];

/// Nodes that are compared: their pair, what is special about them, options of devn-packet and of Qnet for that.
const SETUPS: [(&str, &str, &str, &str); 4] = [
    ("q", "", "", ""),
    ("c", ", do_crc=1", "", ",do_crc=1"),
    ("m", ", mode=mixed", ",mode=mixed", ""),
    ("x", ", send=xdp", ",send=xdp", ""),
];

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// The installed io-pkt.
    pub program: PathBuf,
    /// Rounds; in each, everything has its turn.
    pub rounds: usize,
    /// Length of each measurement.
    pub span: Duration,
    /// Bytes of a bulk message.
    pub size: u32,
    /// Bulk messages under way.
    pub in_flight: u32,
    /// What each link of section `lines` carries, as `tc` writes it.
    pub rate: String,
    /// Only lines whose name contains this.
    pub only: String,
}

impl Effort {
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}

/// Two nodes with a process at each end.
struct Pair {
    near: Daemon,
    far: Daemon,
    nd: u32,
    server: Part,
    client: Part,
}

impl Pair {
    fn start(rig: &Rig, program: &Path, pair: &str, device: &str, options: &str) -> Result<Self> {
        // A daemon that starts on one CPU would not spin: as users start it, it has them all.
        let daemon = |side: &str, end: u8| {
            let options = format!("host={pair}{side},allow=connect,{options}");
            Daemon::start(rig, program, side, &format!("{pair}{end}{device}"), None, &options, &[])
        };
        let (near, far) = (daemon("a", 0)?, daemon("b", 1)?);
        let nd = near.find(&format!("{pair}b"))?;
        let (near_root, far_root) = (text(near.root_path())?, text(far.root_path())?);
        let mut server = rig.play("b", None, &["serve", &far_root, "4"])?;
        let address = server.line()?;
        let (pid, chid) = address.split_once(' ').context("the server's address")?;
        let mut client = rig.play("a", None, &["client", &near_root, &nd.to_string(), pid, chid])?;
        ensure!(client.line()? == "ready", "the client does not reach its server:\n{}", rig.log("a"));
        let this = Self { near, far, nd, server, client };
        this.place(Placement::Split)?;
        Ok(this)
    }

    fn wire(&self, load: Load) -> Result<Done> {
        meter(&self.near.root()?, self.nd, load)
    }

    fn process(&mut self, load: Load) -> Result<Done> {
        Done::parse(&self.client.ask(&load.line())?)
    }

    /// Puts both ends where the placement wants them.
    fn place(&self, placement: Placement) -> Result<()> {
        placement.apply(&[self.near.pid(), self.client.pid()], CPU_A)?;
        placement.apply(&[self.far.pid(), self.server.pid()], CPU_B)
    }
}

/// Bulk one way, a table.
///
/// # Errors
/// A part failed.
pub fn bulk(effort: &Effort, mtu: u32) -> Result<Table> {
    let rig = Rig::new("qnet", mtu, &PAIRS)?;
    let directory = rig.directory("b")?;
    let mut nodes = Vec::new();
    for (pair, special, device, options) in SETUPS {
        // Longer frames go by messages anyway.
        let useless = device.contains("send=xdp") && mtu > 4000;
        let names = ["wire", "process"].map(|line| format!("{line}{special}"));
        if !useless && names.iter().any(|name| effort.wants(name)) {
            let options = format!("mtu_en={mtu}{options}");
            nodes.push((names, Pair::start(&rig, &effort.program, pair, device, &options)?));
        }
    }
    let mut flood = Flood::start(&rig, mtu)?;
    let mut zmq = Zmq::start(&rig, directory.path())?;
    let (plain, clever) = (Iperf::start(&rig, "t")?, Iperf::start(&rig, "o")?);
    let load = Load { size: effort.size, in_flight: effort.in_flight, span: effort.span };
    let title =
        format!("bulk, MTU {mtu}, messages of {} KiB, {} under way", effort.size >> 10, effort.in_flight);
    let mut table = Table::new(title, "MB/s", 0, &["raw flood", "TCP, offloads off", "wire"]);
    let mega = |rate: f64| rate / 1e6;
    for _ in 0..effort.rounds {
        for ([wire, process], pair) in &mut nodes {
            if effort.wants(wire) {
                table.add(wire, mega(pair.wire(load)?.rate(load.size)));
            }
            if effort.wants(process) && !process.contains("do_crc") {
                table.add(process, mega(pair.process(load)?.rate(load.size)));
            }
        }
        if effort.wants("raw flood") {
            table.add("raw flood", mega(flood.run(&rig, effort.span)?));
        }
        for (name, iperf) in [("TCP, offloads off", &plain), ("TCP, offloads on", &clever)] {
            if let Some(iperf) = iperf.as_ref().filter(|_| effort.wants(name)) {
                table.add(name, mega(iperf.run(&rig, effort.span)?));
            }
        }
        if let Some(zmq) = zmq.as_mut().filter(|_| effort.wants("ZeroMQ")) {
            table.add("ZeroMQ", mega(zmq.run(&rig, effort.span)?));
        }
    }
    Ok(table)
}

/// Round trips of 64 bytes, a table a placement.
///
/// # Errors
/// A part failed.
pub fn round_trips(effort: &Effort) -> Result<Vec<Table>> {
    const SIZE: u32 = 64;
    let rig = Rig::new("qnet", 1500, &PAIRS)?;
    let mut pair = Pair::start(&rig, &effort.program, "q", "", "mtu_en=1500")?;
    let address = rig.address("t")?;
    let raw = format!("t0/{}", rig.mac("b", "t1")?);
    let mut others = Vec::new();
    for (name, carrier, at, to) in [
        ("UDP", Carrier::Udp, address.as_str(), address.as_str()),
        ("TCP", Carrier::Tcp, &address, &address),
        ("raw frames", Carrier::Raw, "t1", &raw),
    ] {
        if effort.wants(name) {
            others.push(Contestant::carrier(&rig, name, carrier, at, to)?);
        }
    }
    let title = |placement: Placement| format!("round trip of {SIZE} bytes, {}", placement.name());
    let mut tables: Vec<(Placement, Table)> = Placement::ALL
        .map(|p| (p, Table::new(title(p), "µs", 1, &["raw frames", "UDP", "TCP"])))
        .into_iter()
        .collect();
    let load = Load { size: SIZE, in_flight: 1, span: effort.span };
    let plan = Plan::echo(SIZE as usize, effort.span);
    for _ in 0..effort.rounds {
        for (placement, table) in &mut tables {
            pair.place(*placement)?;
            if effort.wants("wire") {
                table.add("wire", pair.wire(load)?.each() * 1e6);
            }
            if effort.wants("process") {
                table.add("process", pair.process(load)?.each() * 1e6);
            }
            for other in &mut others {
                other.place(*placement)?;
                table.add(&other.name.clone(), other.measure(&plan)?.trips.mean() * 1e6);
            }
        }
    }
    Ok(tables.into_iter().map(|(_, table)| table).collect())
}

/// What many nodes cost: time to fill the list, and a thousand idle sessions.
///
/// # Errors
/// A part failed.
pub fn crowds(effort: &Effort, counts: &[usize], quiet: Duration) -> Result<Vec<Table>> {
    let mut fill = Table::new("time until every node is listed".to_owned(), "s", 3, &[]);
    let mut idle = Table::new(format!("idle sessions, over {} s", quiet.as_secs()), "value", 3, &[]);
    let most = counts.iter().copied().max().unwrap_or(0);
    for round in 0..effort.rounds.min(3) {
        for &count in counts {
            for announce in [true, false] {
                let rig = Rig::new("qnet", 1500, &PAIRS)?;
                let options = if announce { "host=alone" } else { "host=alone,auto_add=0" };
                let daemon = Daemon::start(&rig, &effort.program, "a", "z0", Some(CPU_A), options, &[])?;
                let memory = daemon.memory()?;
                let mut words =
                    vec!["crowd".to_owned(), "z1".to_owned(), count.to_string(), "alone".to_owned()];
                words.extend(announce.then(|| "--announce".to_owned()));
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let start = Instant::now();
                let mut crowd = rig.play("b", Some(CPU_B), &words)?;
                crowd.line()?;
                let how = if announce { "announced" } else { "auto_add=0, asked for by name" };
                if !announce {
                    ask_for_all(&daemon, count)?;
                }
                wait_for_all(&daemon, count).with_context(|| rig.log("a"))?;
                fill.add(&format!("{count} nodes, {how}"), start.elapsed().as_secs_f64());
                if announce && count == most && round == 0 {
                    ensure!(crowd.ask("attach")? == format!("attached {count}"), "not all nodes attached");
                    idle_cost(&daemon, count, memory, quiet, &mut idle)?;
                }
            }
        }
    }
    Ok(vec![fill, idle])
}

/// Looks all names up, a few at a time.
fn ask_for_all(daemon: &Daemon, count: usize) -> Result<()> {
    const ASKERS: usize = 16;
    let netmgr = Netmgr::attach(&daemon.root()?)?;
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS)
            .map(|asker| {
                let netmgr = &netmgr;
                scope.spawn(move || {
                    (asker..count).step_by(ASKERS).try_for_each(|n| netmgr.strtond(&crowd::name(n)).map(drop))
                })
            })
            .collect();
        askers.into_iter().try_for_each(|asker| Ok(asker.join().ok().context("an asker ended")??))
    })
}

fn wait_for_all(daemon: &Daemon, count: usize) -> Result<()> {
    let netmgr = Netmgr::attach(&daemon.root()?)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let known = netmgr.nodes()?.len() - 1;
        if known >= count {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{known} of {count} nodes are listed after two minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn idle_cost(daemon: &Daemon, count: usize, before: u64, quiet: Duration, table: &mut Table) -> Result<()> {
    // What setting up left behind is over soon.
    std::thread::sleep(Duration::from_secs(2));
    let (cpu, (received, sent)) = (daemon.cpu_time()?, daemon.frames("z0")?);
    std::thread::sleep(quiet);
    let seconds = quiet.as_secs_f64();
    let used = (daemon.cpu_time()? - cpu).as_secs_f64() / seconds;
    let (received_after, sent_after) = daemon.frames("z0")?;
    table.add(&format!("{count} sessions: CPU, percent of one"), used * 100.0);
    table.add(
        &format!("{count} sessions: frames received a second"),
        (received_after - received) as f64 / seconds,
    );
    table.add(&format!("{count} sessions: frames sent a second"), (sent_after - sent) as f64 / seconds);
    let memory = daemon.memory()?.saturating_sub(before) as f64;
    table.add(&format!("{count} sessions: KiB of memory each"), memory / 1024.0 / count as f64);
    Ok(())
}

fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().ok().context("the temporary directory's path is not UTF-8")
}
