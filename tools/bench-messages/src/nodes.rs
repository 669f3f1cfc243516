//! Two nodes, and servers and clients of messages on them.

use std::path::Path;

use anyhow::{Context, Result};
use bench_support::{contestant::Contestant, daemon::Daemon, part::Part, rig::Rig};

/// What a node and the programs on it do before they sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// They look for more for a while when that paid lately: the default.
    Adaptive,
    /// They sleep at once.
    Sleep,
}

impl Waits {
    /// Further words for io-pkt.
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Adaptive => &[],
            Self::Sleep => &["--spin", "0"],
        }
    }

    /// The environment of programs.
    const fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Adaptive => &[],
            Self::Sleep => &[("IO_PKT_SPIN", "0")],
        }
    }
}

/// The two daemons of a pair.
#[derive(Debug)]
pub struct Nodes {
    near: Daemon,
    far: Daemon,
    nd: u32,
    waits: Waits,
}

/// Where a server is reached.
#[derive(Clone, Debug)]
pub struct Address {
    root: String,
    nd: u32,
    channel: String,
}

impl Nodes {
    /// Starts them at the ends of a pair of that MTU.
    ///
    /// # Errors
    /// One does not come up, or they do not find each other.
    pub fn start(rig: &Rig, program: &Path, pair: &str, mtu: u32, waits: Waits) -> Result<Self> {
        let daemon = |side: &str, end: u8| {
            let options = format!("host={pair}{side},allow=connect,mtu_en={mtu}");
            Daemon::start(rig, program, side, &format!("{pair}{end}"), None, &options, waits.words())
        };
        let (near, far) = (daemon("a", 0)?, daemon("b", 1)?);
        let nd = near.find(&format!("{pair}b"))?;
        Ok(Self { near, far, nd, waits })
    }

    /// A server with that many threads on the far node.
    ///
    /// # Errors
    /// It does not start.
    pub fn serve(&self, rig: &Rig, threads: usize) -> Result<(Part, Address)> {
        let root = text(&self.near.root_path())?;
        let (server, channel) = serve(rig, "b", &self.far.root_path(), threads, self.waits)?;
        Ok((server, Address { root, nd: self.nd, channel }))
    }

    /// A client on the near node and its server on the far one.
    ///
    /// # Errors
    /// They do not find each other.
    pub fn contestant(&self, rig: &Rig, name: &str, threads: usize) -> Result<Contestant> {
        let (server, address) = self.serve(rig, threads)?;
        let client = address.client(rig, self.waits)?;
        Contestant::new(name, server, client, Some((self.near.pid(), self.far.pid())))
    }
}

impl Address {
    /// Starts a client, which says `ready` once it is attached.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn client(&self, rig: &Rig, waits: Waits) -> Result<Part> {
        let (pid, chid) = self.channel.split_once(' ').context("the server's address")?;
        rig.play_with(
            "a",
            None,
            &["client", &self.root, &self.nd.to_string(), pid, chid],
            waits.environment(),
        )
    }
}

/// A server on side `a`, for local clients.
///
/// # Errors
/// It does not start.
pub fn serve_locally(rig: &Rig, root: &Path, threads: usize, waits: Waits) -> Result<(Part, Address)> {
    let (server, channel) = serve(rig, "a", root, threads, waits)?;
    Ok((server, Address { root: text(root)?, nd: 0, channel }))
}

fn serve(rig: &Rig, side: &str, root: &Path, threads: usize, waits: Waits) -> Result<(Part, String)> {
    let words = ["serve", &text(root)?, &threads.to_string()];
    let mut server = rig.play_with(side, None, &words, waits.environment())?;
    let channel = server.line().with_context(|| rig.log(side))?;
    Ok((server, channel))
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the temporary directory's path is not UTF-8")?.to_owned())
}
