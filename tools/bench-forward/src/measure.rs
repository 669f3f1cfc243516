//! One forwarder in the row, one frame size: how much passes under overload, and how much passes without loss.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bench_support::part::Part;

use crate::{
    peers::Peer,
    rig::{FORWARDER_CPU, GENERATOR_CPU, Rig},
    role::SINK,
};

/// Who forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarder {
    /// `io-pkt` with `lsm-bridge`.
    IoPkt {
        /// The program.
        program: PathBuf,
        /// Packet threads (`-t`). With more than one it may use every CPU, the generator's too.
        threads: u32,
    },
    /// The minimal forwarder with rings.
    MinimalRing,
    /// The minimal forwarder that receives with rings and sends out of their slots with `sendmmsg`.
    MinimalRingMmsg,
    /// The minimal forwarder with `recvmmsg`.
    MinimalMmsg,
    /// The kernel's bridge.
    KernelBridge,
    /// Somebody else's program.
    Peer(Peer),
}

impl Forwarder {
    /// Name in the table.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::IoPkt { threads: 1, .. } => "io-pkt bridge".to_owned(),
            Self::IoPkt { threads, .. } => format!("io-pkt bridge, -t {threads}"),
            Self::MinimalRing => "minimal, V2 ring".to_owned(),
            Self::MinimalRingMmsg => "minimal, ring and sendmmsg".to_owned(),
            Self::MinimalMmsg => "minimal, recvmmsg".to_owned(),
            Self::KernelBridge => "kernel bridge".to_owned(),
            Self::Peer(peer) => peer.name().to_owned(),
        }
    }
}

/// Outcome of one measurement, frames a second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Offered under overload.
    pub offered: f64,
    /// Delivered under overload.
    pub overload: f64,
    /// Highest rate tried at which no more than [`TOLERATED_LOSS`] of the frames were lost.
    pub loss_free: f64,
}

/// Share of frames whose loss still counts as none: a virtual machine loses its CPU for milliseconds now and then.
pub const TOLERATED_LOSS: f64 = 0.001;

/// How long each step lasts.
#[derive(Clone, Copy, Debug)]
pub struct Spans {
    /// Overload.
    pub overload: Duration,
    /// Each step of the search for the loss-free rate.
    pub step: Duration,
    /// Steps of that search.
    pub steps: u32,
}

/// Measures a forwarder with frames of `size` bytes.
///
/// # Errors
/// When the row cannot be built or the forwarder does not forward.
pub fn measure(forwarder: &Forwarder, size: usize, spans: Spans) -> Result<Rates> {
    let rig = Rig::new()?;
    measure_in(&rig, forwarder, size, spans).with_context(|| rig.log())
}

fn measure_in(rig: &Rig, forwarder: &Forwarder, size: usize, spans: Spans) -> Result<Rates> {
    let mut sink = rig.play("sink", None, &words(&["sink", "s0"]))?;
    sink.line()?;
    let _forwarding = start(rig, forwarder)?;
    let mut hold = rig.play("fwd", None, &words(&["hold", "f0"]))?;
    hold.line()?;
    settle(rig, &mut sink)?;
    let (offered, overload) = overload(rig, &mut sink, size, spans.overload)?;
    let loss_free = loss_free(rig, &mut sink, size, overload, spans)?;
    Ok(Rates { offered, overload, loss_free })
}

/// What must live while the forwarder forwards.
struct Forwarding {
    _parts: Vec<Part>,
    _root: Option<tempfile::TempDir>,
}

fn start(rig: &Rig, forwarder: &Forwarder) -> Result<Forwarding> {
    let minimal = |kind: &str| -> Result<Forwarding> {
        let mut part = rig.play("fwd", Some(FORWARDER_CPU), &words(&[kind, "f0", "f1"]))?;
        part.line()?;
        Ok(Forwarding { _parts: vec![part], _root: None })
    };
    match forwarder {
        Forwarder::MinimalRing => minimal("ring"),
        Forwarder::MinimalRingMmsg => minimal("ring-mmsg"),
        Forwarder::MinimalMmsg => minimal("mmsg"),
        Forwarder::Peer(peer) => {
            let directory = rig.directory()?;
            let parts = peer.start(rig, directory.path())?;
            Ok(Forwarding { _parts: parts, _root: Some(directory) })
        }
        Forwarder::KernelBridge => {
            rig.ip(
                "fwd",
                &["link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"],
            )?;
            rig.ip("fwd", &["link", "set", "f0", "master", "br0"])?;
            rig.ip("fwd", &["link", "set", "f1", "master", "br0"])?;
            rig.ip("fwd", &["link", "set", "br0", "addrgenmode", "none", "up"])?;
            Ok(Forwarding { _parts: Vec::new(), _root: None })
        }
        Forwarder::IoPkt { program, threads } => {
            let root = rig.directory()?;
            let program = program.to_str().context("the program's path is not UTF-8")?;
            let directory = root.path().to_str().context("the temporary directory's path is not UTF-8")?;
            let line = format!(
                "exec {program} --root {directory} -t {threads} -d packet dev=f0 -d packet dev=f1 -p bridge"
            );
            let part = rig.play(
                "fwd",
                (*threads == 1).then_some(FORWARDER_CPU),
                &line.split(' ').map(str::to_owned).collect::<Vec<_>>(),
            )?;
            Ok(Forwarding { _parts: vec![part], _root: Some(root) })
        }
    }
}

/// Sends frames from both ends until they arrive at the sink, and the forwarder has seen both addresses.
fn settle(rig: &Rig, sink: &mut Part) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let before = count(sink, "teach")?;
        run_paced(rig, 60, Duration::from_millis(50), 2_000.0)?;
        if count(sink, "count")? > before + 50 {
            return Ok(());
        }
    }
    bail!("no frame came through within 20 seconds")
}

fn overload(rig: &Rig, sink: &mut Part, size: usize, span: Duration) -> Result<(f64, f64)> {
    let flood = words(&["flood", "g0", &mac(SINK), &size.to_string(), &span.as_millis().to_string()]);
    let (start, before) = (Instant::now(), count(sink, "count")?);
    let mut generator = rig.play("gen", Some(GENERATOR_CPU), &flood)?;
    let offered: f64 = generator.line()?.parse()?;
    let (elapsed, after) = (start.elapsed().as_secs_f64(), count(sink, "count")?);
    Ok((offered / elapsed, (after - before) as f64 / elapsed))
}

fn loss_free(rig: &Rig, sink: &mut Part, size: usize, ceiling: f64, spans: Spans) -> Result<f64> {
    let (mut low, mut high) = (0.0, ceiling * 1.2);
    for _ in 0..spans.steps {
        let rate = f64::midpoint(low, high);
        let before = count(sink, "count")?;
        let sent = run_paced(rig, size, spans.step, rate)?;
        let got = drained(sink, before)?;
        let seconds = spans.step.as_secs_f64();
        let reached = sent as f64 / seconds;
        if (got as f64) < sent as f64 * (1.0 - TOLERATED_LOSS) {
            high = rate;
        } else if reached < rate * 0.98 {
            // The generator itself cannot go faster: this is what can be shown.
            return Ok(reached);
        } else {
            low = rate;
        }
    }
    Ok(low)
}

/// Frames since `before`, once no more arrive.
fn drained(sink: &mut Part, before: u64) -> Result<u64> {
    let mut last = count(sink, "count")?;
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(20) {
        let now = count(sink, "count")?;
        if now != last {
            (last, quiet) = (now, Instant::now());
        }
    }
    Ok(last - before)
}

fn run_paced(rig: &Rig, size: usize, span: Duration, rate: f64) -> Result<u64> {
    let part = words(&[
        "paced",
        "g0",
        &mac(SINK),
        &size.to_string(),
        &span.as_millis().to_string(),
        &rate.to_string(),
    ]);
    Ok(rig.play("gen", Some(GENERATOR_CPU), &part)?.line()?.parse()?)
}

fn count(sink: &mut Part, question: &str) -> Result<u64> {
    Ok(sink.ask(question)?.parse()?)
}

fn mac(address: [u8; 6]) -> String {
    address.map(|octet| format!("{octet:02x}")).join(":")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
