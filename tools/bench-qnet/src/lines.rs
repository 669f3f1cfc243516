//! Two links between two nodes, each limited to a rate, beside one of the same rate.
//!
//! The limit is tbf at the ends that send, so what counts is how well the transport fills both, not what the machine
//! can carry. Policy `loadbalance`, the default, decides which link a frame takes.

use anyhow::{Context, Result};
use bench_support::{
    daemon::Daemon,
    placement::{CPU_A, CPU_B},
    report::Table,
    rig::{Pair, Rig},
};

use crate::{
    process::{Load, meter},
    sections::Effort,
};

const MTU: u32 = 1500;

/// Two nodes that send and receive inside of lsm-qnet.
struct Nodes {
    near: Daemon,
    _far: Daemon,
    nd: u32,
}

impl Nodes {
    /// With a link over each of these pairs.
    fn start(rig: &Rig, effort: &Effort, pairs: &[&str]) -> Result<Self> {
        let (first, others) = pairs.split_first().context("no link at all")?;
        let daemon = |side: &str, end: u8, cpu| {
            let more: Vec<String> = others
                .iter()
                .flat_map(|pair| ["-d".to_owned(), "packet".to_owned(), format!("dev={pair}{end}")])
                .collect();
            let more: Vec<&str> = more.iter().map(String::as_str).collect();
            let options = format!("host={first}{side},allow=connect,mtu_en={MTU}");
            Daemon::start(rig, &effort.program, side, &format!("{first}{end}"), Some(cpu), &options, &more)
        };
        let (near, far) = (daemon("a", 0, CPU_A)?, daemon("b", 1, CPU_B)?);
        let nd = near.find(&format!("{first}b"))?;
        Ok(Self { near, _far: far, nd })
    }

    /// Megabytes a second.
    fn rate(&self, load: Load) -> Result<f64> {
        Ok(meter(&self.near.root()?, self.nd, load)?.rate(load.size) / 1e6)
    }
}

/// Bulk one way over one link and over two.
///
/// # Errors
/// A part failed.
pub fn two(effort: &Effort) -> Result<Table> {
    let pairs = ["s", "l", "r"];
    let rig = Rig::new("qnet", MTU, &pairs.map(Pair::Bare))?;
    pairs.iter().try_for_each(|pair| rig.limit(pair, &effort.rate))?;
    let one = Nodes::start(&rig, effort, &["s"])?;
    let two = Nodes::start(&rig, effort, &["l", "r"])?;
    let load = Load { size: effort.size, in_flight: effort.in_flight, span: effort.span };
    let title =
        format!("bulk over links of {}, MTU {MTU}, messages of {} KiB", effort.rate, effort.size >> 10);
    let mut table = Table::new(title, "MB/s", 1, &["one link"]);
    // A young session has to find out what its links carry.
    for nodes in [&one, &two] {
        nodes.rate(load)?;
    }
    for _ in 0..effort.rounds {
        table.add("one link", one.rate(load)?);
        table.add("two links", two.rate(load)?);
    }
    Ok(table)
}
