//! Two Linux stacks, with the offloads that Linux gives them, joined by io-pkt: two packet drivers and the bridge, on one
//! packet thread and with one for each interface.
//!
//! ```text
//!   namespace left          namespace middle              namespace right
//!   10.9.0.1 la ──veth── va ─[ en0 io-pkt en1 ]─ vb ──veth── lb 10.9.0.2
//! ```

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ctl::Client;
use io_pkt_sdk::testing::netns::{Netns, ip, run};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use system_tests::{Need, cases, eventually};

cases! {
    ping_and_tcp_survive_the_bridge_and_its_remounting:
        [Need::RootNodes, Need::Program("ping"), Need::Program("ethtool")],
    ping_and_tcp_survive_remounting_with_a_thread_for_each_interface:
        [Need::RootNodes, Need::Program("ping"), Need::Program("ethtool")],
    offloads_of_the_ports_come_back: [Need::RootNodes, Need::Program("ethtool")],
    offloads_of_the_ports_of_packet_threads_come_back: [Need::RootNodes, Need::Program("ethtool")],
    a_tap_and_packet_sockets_meet_across_packet_threads:
        [Need::RootNodes, Need::Tap, Need::Program("ping")],
}

/// Bytes that are sent at once: as many as an offloading card takes.
const PIECE: usize = 64 * 1024;

struct Bridged {
    left: Netns,
    middle: Netns,
    right: Netns,
    daemon: Child,
    client: Client,
    root: tempfile::TempDir,
}

impl Drop for Bridged {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.daemon.id() as i32), Signal::SIGTERM);
        let _ = self.daemon.wait();
    }
}

impl Bridged {
    /// `threads` goes to `-t`.
    fn up(threads: &str) -> Result<Self> {
        let (left, right) = (Netns::enter_fresh(), Netns::enter_fresh());
        let middle = Netns::enter_fresh();
        for (inner, outer, netns, address) in
            [("va", "la", &left, "10.9.0.1"), ("vb", "lb", &right, "10.9.0.2")]
        {
            ip(&format!("link add {inner} type veth peer name {outer}"));
            ip(&format!("link set {outer} netns {}", netns.path()));
            netns.enter();
            ip(&format!("addr add {address}/24 dev {outer}"));
            ip(&format!("link set {outer} up"));
            middle.enter();
        }
        let root = tempfile::tempdir()?;
        let daemon = Command::new(built("io-pkt")?)
            .arg("--root")
            .arg(root.path())
            .args(["-t", threads, "-d", "packet", "dev=va", "-d", "packet", "dev=vb", "-p", "bridge"])
            .stdin(Stdio::null())
            .spawn()
            .context("io-pkt")?;
        let socket = root.path().join("io-pkt0.sock");
        let mut client = None;
        let up = eventually("io-pkt with its bridge", || {
            client = Client::connect(&socket, Duration::from_secs(20)).ok();
            client.as_mut().is_some_and(|client| client.report("bridge0", "").is_ok())
        });
        let mut daemon = daemon;
        if up.is_err() || client.is_none() {
            let _ = daemon.kill();
        }
        up?;
        let client = client.context("connected")?;
        Ok(Self { left, middle, right, daemon, client, root })
    }

    /// Starts a program in a namespace.
    fn start(&self, netns: &Netns, line: &str) -> Result<Child> {
        netns.enter();
        let mut words = line.split_whitespace();
        let program = words.next().context("a program")?;
        let child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| line.to_owned());
        self.middle.enter();
        child
    }

    fn pings(&self) -> Result<bool> {
        let output = self.start(&self.left, "ping -c 1 -W 1 10.9.0.2")?.wait_with_output()?;
        Ok(output.status.success())
    }

    fn ping_until(&self, answered: bool) -> Result<()> {
        let what = if answered { "an answer through the bridge" } else { "silence without the bridge" };
        eventually(what, || self.pings().is_ok_and(|answer| answer == answered))
    }
}

/// A program in cargo's folder.
fn built(name: &str) -> Result<PathBuf> {
    let us = std::env::current_exe()?;
    let found = us.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built; run cargo build --workspace"))
}

/// Bytes that flow from left to right over one TCP connection until they are told to end.
struct Transfer {
    end: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    /// What was sent, and what arrived.
    sender: JoinHandle<io::Result<u64>>,
    receiver: JoinHandle<io::Result<u64>>,
}

impl Transfer {
    fn start(bridged: &Bridged) -> Result<Self> {
        // A socket stays in the namespace in which it was made.
        bridged.right.enter();
        let listener = TcpListener::bind("10.9.0.2:0").context("a listener");
        bridged.left.enter();
        let stream = listener.and_then(|listener| {
            let sender = TcpStream::connect(listener.local_addr()?).context("a connection")?;
            Ok((sender, listener.accept()?.0))
        });
        bridged.middle.enter();
        let (sender, receiver) = stream?;
        let (end, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (Arc::clone(&end), Arc::clone(&arrived));
        Ok(Self {
            end,
            arrived,
            sender: thread::spawn(move || send(sender, &ended)),
            receiver: thread::spawn(move || receive(receiver, &count)),
        })
    }

    /// Waits until a good deal more has arrived.
    fn flows(&self) -> Result<()> {
        let enough = self.arrived.load(Ordering::Relaxed) + 32 * PIECE as u64;
        eventually("bytes that arrive", || self.arrived.load(Ordering::Relaxed) > enough)
    }

    /// Ends it; what was sent must have arrived.
    fn end(self) -> Result<()> {
        self.end.store(true, Ordering::Relaxed);
        let [sent, arrived] = [self.sender, self.receiver]
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))));
        let (sent, arrived) = (sent.context("sending")?, arrived.context("receiving")?);
        ensure!(sent == arrived, "{sent} bytes were sent, and {arrived} arrived as they were");
        Ok(())
    }
}

/// What piece `number` is filled with.
fn filling(number: u64) -> u8 {
    (number % 251) as u8
}

fn send(mut stream: TcpStream, end: &AtomicBool) -> io::Result<u64> {
    let mut sent = 0;
    while !end.load(Ordering::Relaxed) {
        stream.write_all(&[filling(sent / PIECE as u64); PIECE])?;
        sent += PIECE as u64;
    }
    Ok(sent)
}

/// Counts what arrives up to the first byte that is not as it was sent.
fn receive(mut stream: TcpStream, count: &AtomicU64) -> io::Result<u64> {
    let (mut arrived, mut room) = (0, vec![0; PIECE]);
    loop {
        let len = stream.read(&mut room)?;
        let as_sent = |at: usize, byte: u8| byte == filling((arrived + at as u64) / PIECE as u64);
        if len == 0 || !room[..len].iter().enumerate().all(|(at, byte)| as_sent(at, *byte)) {
            return Ok(arrived);
        }
        arrived += len as u64;
        count.store(arrived, Ordering::Relaxed);
    }
}

fn ping_and_tcp_survive_the_bridge_and_its_remounting() -> Result<()> {
    survive_remounting(Bridged::up("1")?)
}

fn ping_and_tcp_survive_remounting_with_a_thread_for_each_interface() -> Result<()> {
    survive_remounting(Bridged::up("2")?)
}

fn survive_remounting(mut bridged: Bridged) -> Result<()> {
    for (netns, interface) in [(&bridged.left, "la"), (&bridged.right, "lb")] {
        netns.enter();
        let features = run("ethtool", &format!("-k {interface}"));
        ensure!(
            features.contains("tcp-segmentation-offload: on"),
            "the stations keep their offloads: {features}"
        );
    }
    bridged.middle.enter();
    bridged.ping_until(true)?;

    let transfer = Transfer::start(&bridged)?;
    transfer.flows()?;
    bridged.client.umount("en1")?;
    bridged.ping_until(false)?;
    bridged.client.mount("devn-packet.so", "dev=vb", None)?;
    bridged.ping_until(true)?;
    transfer.flows()?;
    bridged.client.umount("bridge0")?;
    bridged.ping_until(false)?;
    bridged.client.mount("lsm-bridge.so", "", None)?;
    bridged.ping_until(true)?;
    transfer.flows()?;
    transfer.end()?;
    let report = bridged.client.report("bridge0", "table")?;
    ensure!(report.contains("en0") && report.contains("en1"), "{report}");
    Ok(())
}

fn offloads_of_the_ports_come_back() -> Result<()> {
    offloads_come_back(Bridged::up("1")?)
}

fn offloads_of_the_ports_of_packet_threads_come_back() -> Result<()> {
    offloads_come_back(Bridged::up("2")?)
}

fn offloads_come_back(mut bridged: Bridged) -> Result<()> {
    let is_on = |interface| run("ethtool", &format!("-k {interface}")).contains("tx-tcp-segmentation: on");
    ensure!(!is_on("va") && !is_on("vb"), "switched off while mounted");
    bridged.client.umount("en1")?;
    ensure!(!is_on("va") && is_on("vb"), "put back at umount");
    // A killed daemon puts nothing back; the next one does.
    bridged.daemon.kill()?;
    bridged.daemon.wait()?;
    ensure!(!is_on("va"));
    let mut next = Command::new(built("io-pkt")?)
        .arg("--root")
        .arg(bridged.root.path())
        .args(["-d", "packet", "dev=vb"])
        .stdin(Stdio::null())
        .spawn()?;
    let back = eventually("the settings of va to be put back", || is_on("va"));
    kill(Pid::from_raw(next.id() as i32), Signal::SIGTERM)?;
    next.wait()?;
    back?;
    ensure!(is_on("vb"));
    Ok(())
}

fn a_tap_and_packet_sockets_meet_across_packet_threads() -> Result<()> {
    let mut bridged = Bridged::up("3")?;
    bridged.client.mount("devn-tap.so", "dev=tap0", None)?;
    ip("addr add 10.9.0.3/24 dev tap0");
    ip("link set tap0 up");
    let uses = bridged.client.modules()?.builds.into_iter().flat_map(|build| build.uses);
    let mut threads: Vec<_> =
        uses.filter(|use_| use_.kind == "driver").map(|use_| (use_.thread, use_.name)).collect();
    threads.sort();
    let places = [(0, "en0"), (1, "en1"), (2, "en2")].map(|(thread, name)| (thread, name.to_owned()));
    ensure!(threads == places, "an interface on each thread: {threads:?}");
    for address in ["10.9.0.1", "10.9.0.2"] {
        eventually("an answer to the TAP", || {
            let ping = bridged.start(&bridged.middle, &format!("ping -c 1 -W 1 {address}"));
            ping.and_then(|ping| Ok(ping.wait_with_output()?)).is_ok_and(|output| output.status.success())
        })?;
    }
    bridged.ping_until(true)?;
    let pool = bridged.client.counters()?.pool;
    ensure!(pool.bad_descriptors == 0, "{pool:?}");
    Ok(())
}
