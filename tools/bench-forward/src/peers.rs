//! Other people's forwarders in user space, where Debian's packages are installed: Open vSwitch with its `netdev` datapath
//! (`openvswitch-switch`) and DPDK's testpmd with its AF_PACKET driver (`dpdk-dev`).
//!
//! Nothing of the system's own is touched: Open vSwitch gets a database and a run directory of its own, and no service
//! is started.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench_support::{is_installed, part::Part};

use crate::rig::{FORWARDER_CPU, GENERATOR_CPU, Rig};

/// Where Debian keeps the layout of Open vSwitch's database.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A program of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Open vSwitch, a learning switch in user space.
    OpenVswitch,
    /// DPDK's testpmd, which passes frames from one port to the other without a look at them.
    Testpmd,
}

impl Peer {
    /// Those that are installed.
    #[must_use]
    pub fn installed() -> Vec<Self> {
        let peers = [(Self::OpenVswitch, "ovs-vswitchd"), (Self::Testpmd, "dpdk-testpmd")];
        peers.into_iter().filter(|(_, program)| is_installed(program)).map(|(peer, _)| peer).collect()
    }

    /// Name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenVswitch => "Open vSwitch, netdev",
            Self::Testpmd => "DPDK testpmd, af_packet",
        }
    }

    /// Starts it between `f0` and `f1`, with its files in `directory`.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(self, rig: &Rig, directory: &Path) -> Result<Vec<Part>> {
        let directory = directory.to_str().context("the temporary directory's path is not UTF-8")?;
        match self {
            Self::OpenVswitch => open_vswitch(rig, directory),
            Self::Testpmd => testpmd(rig).map(|part| vec![part]),
        }
    }
}

fn open_vswitch(rig: &Rig, directory: &str) -> Result<Vec<Part>> {
    let run = format!("OVS_RUNDIR={directory}");
    let (file, socket) = (format!("{directory}/conf.db"), format!("{directory}/db.sock"));
    let play = |cpu: Option<usize>, words: &[&str]| {
        let all: Vec<String> =
            ["exec", "env", &run].iter().chain(words).map(|&word| word.to_owned()).collect();
        rig.play("fwd", cpu, &all)
    };
    let database = format!("unix:{socket}");
    let control = |words: &[&str]| -> Result<()> {
        let to = format!("--db={database}");
        let mut all = vec!["ovs-vsctl", "--timeout=10", &to];
        all.extend_from_slice(words);
        let mut part = play(None, &all)?;
        part.rest()?;
        ensure!(part.ended_well()?, "{} failed", all.join(" "));
        Ok(())
    };
    play(None, &["ovsdb-tool", "create", &file, SCHEMA])?.rest()?;
    let server = play(None, &["ovsdb-server", &file, &format!("--remote=p{database}")])?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !Path::new(&socket).exists() {
        ensure!(Instant::now() < deadline, "ovsdb-server does not come up");
        std::thread::yield_now();
    }
    control(&["--no-wait", "init"])?;
    let log = format!("--log-file={directory}/log");
    let pid = format!("--pidfile={directory}/pid");
    let quiet = ["-vconsole:off", &log, &pid];
    let mut words = vec!["ovs-vswitchd", &database];
    words.extend(quiet);
    let switch = play(Some(FORWARDER_CPU), &words)?;
    // Each waits until the switch has done it.
    control(&[
        "add-br",
        "br0",
        "--",
        "set",
        "bridge",
        "br0",
        "datapath_type=netdev",
        "fail-mode=standalone",
    ])?;
    control(&["add-port", "br0", "f0", "--", "add-port", "br0", "f1"])?;
    Ok(vec![switch, server])
}

fn testpmd(rig: &Rig) -> Result<Part> {
    let cores = format!("--lcores=0@{GENERATOR_CPU},1@{FORWARDER_CPU}");
    let prefix = format!("--file-prefix=io-pkt-bench-{}", std::process::id());
    let words = [
        "exec",
        "dpdk-testpmd",
        &cores,
        "--no-huge",
        "-m",
        "512",
        "--no-pci",
        "--no-telemetry",
        &prefix,
        "--vdev=net_af_packet0,iface=f0",
        "--vdev=net_af_packet1,iface=f1",
        "--",
        "--forward-mode=io",
        "--auto-start",
        "--no-mlockall",
        "--total-num-mbufs=16384",
    ];
    // It forwards as long as its standard input is open.
    rig.play("fwd", None, &words.map(str::to_owned))
}
