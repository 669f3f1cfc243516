//! A world drawn from a seed: 2 to 64 hosts on up to four wires of all kinds, programs that talk
//! across each other, and a list of misfortunes.
//!
//! [`Scenario::draw`] decides everything in advance, so that a scenario can be printed; [`run`] plays it
//! and holds every node to the contract at every step (see `scenario/watch.rs` for what is checked).
//!
//! What is drawn stays inside what an operator may set: nodes that do not speak the extensions have
//! equal MTUs, for they cannot tell theirs; and a wire that damages frames has nodes that check them.

mod play;
mod watch;

use std::time::Duration;

use qnet_proto::Config;

use crate::apps::Op;
use crate::faults::Faults;
use crate::rng::Rng;
use crate::wire::Wire;

pub use play::run;

/// One host of a scenario.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Its links: segment and MTU. Every host has one on segment 0.
    pub links: Vec<(u32, u32)>,
    /// Its settings.
    pub settings: Settings,
    /// What its clients do.
    pub clients: Vec<ClientPlan>,
}

/// The settings of a host that are not the usual ones.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    crc: bool,
    enforce_crc: bool,
    extensions: bool,
    auto_add: u32,
    mtu_en: u32,
    tries: u32,
    tx_retries: u32,
    idle: u32,
    reassembly_per_peer: u32,
    messages_per_peer: usize,
    /// What its server takes with a message at once.
    pub(crate) first_chunk: u32,
}

impl Settings {
    pub(crate) fn apply(&self, config: &mut Config) {
        config.do_crc = self.crc;
        config.enforce_crc = self.enforce_crc;
        config.extensions = self.extensions;
        config.auto_add = self.auto_add;
        config.mtu_en = self.mtu_en;
        config.conn_est_retries = self.tries;
        config.res_retries = self.tries;
        config.tx_retries = self.tx_retries;
        config.conn_up_idle = self.idle;
        config.limits.reassembly_per_peer = self.reassembly_per_peer;
        config.limits.reassembly_total = self.reassembly_per_peer * 4;
        config.limits.messages_per_peer = self.messages_per_peer;
    }
}

/// One client of a host.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// The host its server is on.
    pub target: usize,
    /// What it does.
    pub ops: Vec<Op>,
    /// How many messages it has under way at once.
    pub at_once: usize,
    /// Whether it sends before its connection is there.
    pub eager: bool,
    /// When it begins.
    pub start: Duration,
}

/// Something that goes wrong, or is mended.
#[derive(Clone, Copy, Debug)]
pub enum Misfortune {
    /// Nothing gets from the first to the second any more.
    OneWay(usize, usize),
    /// Nothing passes between them in either direction.
    Partition(usize, usize),
    /// All of these are over.
    Heal,
    /// A segment is dead, or alive again.
    Segment(u32, bool),
    /// A host's link on a segment is gone, or back.
    Link(usize, u32, bool),
    /// A host's MTU on a segment changes.
    Mtu(usize, u32, u32),
    /// A host crashes; it starts again after a while.
    Crash(usize, Duration),
    /// A host does nothing for a while.
    Freeze(usize, Duration),
    /// A host's clock jumps ahead.
    Clock(usize, Duration),
    /// A segment gets better or worse.
    Weather(u32, Faults),
}

/// A world, and what happens in it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where it came from.
    pub seed: u64,
    /// The wires, by segment.
    pub wires: Vec<Wire>,
    /// The hosts.
    pub hosts: Vec<HostPlan>,
    /// What happens, and when.
    pub misfortunes: Vec<(Duration, Misfortune)>,
    /// When the wires become good enough for everything to end.
    pub calm: Duration,
}

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Scenario {
        let mut rng = Rng::new(seed ^ 0x5ce_4a10);
        let rng = &mut rng;
        let count = match rng.below(20) {
            0 => 2 + rng.below(63),
            1..=4 => 2 + rng.below(12),
            _ => 2 + rng.below(4),
        } as usize;
        let segments = 1 + rng.below(4) as u32;
        let plain = rng.chance(150);
        let wires: Vec<Wire> = (0..segments).map(|_| wire(rng)).collect();
        let damaging = wires.iter().any(|wire| wire.faults.corrupt > 0);
        let hosts = (0..count).map(|i| host(rng, i, count, segments, plain, damaging)).collect();
        let calm = Duration::from_millis(500 + rng.below(15_000));
        let mut misfortunes: Vec<_> = (0..rng.below(10))
            .map(|_| (calm.mul_f64(rng.below(1000) as f64 / 1000.0), misfortune(rng, count, segments, plain)))
            .collect();
        misfortunes.sort_by_key(|(at, _)| *at);
        Scenario { seed, wires, hosts, misfortunes, calm }
    }
}

/// Loss: often none or little, sometimes up to three in ten.
fn loss(rng: &mut Rng) -> u32 {
    match rng.below(6) {
        0 | 1 => 0,
        2 => 300,
        _ => 100,
    }
}

fn faults(rng: &mut Rng) -> Faults {
    let worst = loss(rng);
    let mut faults = Faults::random(rng, worst);
    if rng.chance(500) {
        faults.corrupt = 0;
    }
    if rng.chance(100) {
        faults.delay = Duration::from_millis(1 + rng.below(60));
    }
    faults
}

fn wire(rng: &mut Rng) -> Wire {
    let rate = match rng.below(5) {
        0 => Some(4_000_000 + rng.below(20_000_000)),
        1 => Some(100_000_000),
        2 => Some(1_000_000_000),
        _ => None,
    };
    Wire { faults: faults(rng), rate, queue: 20 + rng.below(500) as usize }
}

fn mtu(rng: &mut Rng, plain: bool) -> u32 {
    match rng.below(4) {
        0 if !plain => 576 + rng.below(1000) as u32,
        1 if !plain => 9000,
        _ => 1500,
    }
}

fn host(rng: &mut Rng, own: usize, count: usize, segments: u32, plain: bool, damaging: bool) -> HostPlan {
    let others = (1..segments).filter(|_| rng.chance(700)).collect::<Vec<_>>();
    let links = [0].into_iter().chain(others).map(|segment| (segment, mtu(rng, plain))).collect();
    let crc = damaging || rng.chance(300);
    let settings = Settings {
        crc,
        enforce_crc: damaging && rng.chance(300),
        extensions: !(plain && rng.chance(500)),
        auto_add: [0, 15, 150, 150][rng.below(4) as usize],
        mtu_en: if plain { 1500 } else { [1500, 1500, 9000, 700][rng.below(4) as usize] },
        tries: 1 + rng.below(20) as u32,
        tx_retries: 10 + rng.below(90) as u32,
        idle: 10 + rng.below(41) as u32,
        reassembly_per_peer: if plain { 4 << 20 } else { 150_000 << rng.below(6) },
        messages_per_peer: if rng.chance(200) { 8 } else { 16_384 },
        first_chunk: [8192, 8192, 1024, 64][rng.below(4) as usize],
    };
    let busy = if count > 16 { 300 } else { 800 };
    let clients = (0..3).filter(|_| rng.chance(busy / 2)).collect::<Vec<_>>();
    let clients = clients.iter().map(|_| client(rng, own, count)).collect();
    HostPlan { links, settings, clients }
}

/// A client on host `own`, whose server is on another one.
pub(crate) fn client(rng: &mut Rng, own: usize, count: usize) -> ClientPlan {
    let other = 1 + rng.below(count as u64 - 1) as usize;
    let ops = (0..1 + rng.below(25)).map(|_| op(rng)).collect();
    ClientPlan {
        target: (own + other) % count,
        ops,
        at_once: 1 + rng.below(6) as usize,
        eager: rng.chance(300),
        start: Duration::from_millis(rng.below(3000)),
    }
}

fn len(rng: &mut Rng) -> u32 {
    match rng.below(12) {
        0 => 0,
        1..=4 => rng.below(200) as u32,
        5 => 1300 + rng.below(300) as u32,
        6 => 8100 + rng.below(200) as u32,
        7 => rng.below(120_000) as u32,
        _ => rng.below(10_000) as u32,
    }
}

fn op(rng: &mut Rng) -> Op {
    match rng.below(40) {
        0..=11 => Op::Echo { len: len(rng) },
        12..=19 => Op::Put { len: len(rng) },
        20..=25 => Op::Read { offset: rng.below(1 << 20) as u32, len: len(rng) },
        26..=35 => Op::Pulse,
        36 | 37 => Op::Wait { millis: rng.below(800) as u32, patience: rng.below(1200) as u32 },
        38 => Op::Refuse,
        _ if rng.chance(500) => Op::Die,
        _ => Op::Leave,
    }
}

fn misfortune(rng: &mut Rng, count: usize, segments: u32, plain: bool) -> Misfortune {
    let host = rng.below(count as u64) as usize;
    let other = rng.below(count as u64) as usize;
    let segment = rng.below(u64::from(segments)) as u32;
    match rng.below(13) {
        0 | 1 => Misfortune::OneWay(host, other),
        2 => Misfortune::Partition(host, other),
        3 | 4 => Misfortune::Heal,
        5 => Misfortune::Segment(segment, rng.chance(500)),
        6 => Misfortune::Link(host, segment, rng.chance(500)),
        7 => Misfortune::Mtu(host, segment, mtu(rng, plain)),
        8 | 9 => Misfortune::Crash(host, Duration::from_millis(rng.below(4000))),
        10 => Misfortune::Freeze(host, Duration::from_millis(rng.below(6000))),
        11 => Misfortune::Clock(host, Duration::from_millis(1 << rng.below(16))),
        _ => {
            // A wire that damages frames needs nodes that check them: that was drawn before.
            Misfortune::Weather(segment, Faults { corrupt: 0, ..faults(rng) })
        }
    }
}
