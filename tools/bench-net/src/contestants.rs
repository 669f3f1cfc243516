//! Who takes part: how each one's files are reached, and what stands behind it.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use bench_qnet::process::{Load, meter};
use bench_support::{
    daemon::Daemon,
    install,
    part::Part,
    rig::{Pair, Rig},
};
use tempfile::TempDir;

use crate::{
    client::{Counted, mount_words, output_words},
    data::{self, SERVED},
    passthrough,
    sections::Effort,
    servers::{self, Place, Server},
    work::{Plan, Work},
};

/// Name of the line for the local ceiling.
pub const CEILING: &str = "pass-through, local";
/// Name of the line for sshfs.
pub const SSHFS: &str = "sshfs";
/// Name of the line for what the nodes move without files: a source and a sink inside the two lsm-qnet.
pub const WIRE: &str = "node to node";
/// Name of the line for NFS-Ganesha.
const NFS: &str = "NFS, libnfs";
/// Name of the line for diod.
const NINE: &str = "9P, diodcat";
/// Name of our line.
pub const NET: &str = "/net";

/// The veth pairs: of our nodes, of those of another installation, of everybody else.
const PAIRS: [Pair; 3] = [Pair::Bare("q"), Pair::Bare("r"), Pair::Addressed("s")];
/// Those of our nodes with other options of the driver.
const DRIVEN: [&str; 4] = ["t", "u", "v", "w"];
/// What a device has if nobody says otherwise; no option is needed for it.
const ETHERNET: u32 = 1500;
/// Bytes of a message between the nodes, and messages under way.
const BULK: (u32, u32) = (1 << 20, 4);

/// How somebody's files are reached.
#[derive(Debug)]
enum Way {
    /// By a program that mounts them at the path appended to its words; `below` is where they appear there.
    Mount { command: Vec<String>, below: PathBuf, within: Option<i32> },
    /// Without a mount, by a program for each kind of work that it can do.
    Programs(Vec<(Work, Counted, u64, Vec<String>)>),
    /// No files: messages from one node to the other.
    Wire { nodes: usize, nd: u32 },
}

/// One of those that are compared.
#[derive(Debug)]
pub struct Contestant {
    /// For the tables.
    pub name: String,
    way: Way,
}

/// Two nodes.
#[derive(Debug)]
struct Nodes {
    _near: Daemon,
    far: Daemon,
}

/// How two nodes are started, and which lines come of it.
struct Setup<'a> {
    /// For files.
    name: String,
    /// For messages, if that is wanted.
    wire: Option<String>,
    pair: &'a str,
    program: &'a Path,
    /// Options of the driver.
    driver: &'a str,
}

impl<'a> Setup<'a> {
    /// Every pair of nodes that a wanted line needs.
    fn all(effort: &'a Effort) -> Vec<Self> {
        let wire = |name: String| Some(name).filter(|name| effort.wants(name));
        let own = |pair, driver: &'a str| {
            let end = if driver.is_empty() { String::new() } else { format!(", {driver}") };
            let (name, wire) = (format!("{NET}{end}"), wire(format!("{WIRE}{end}")));
            Self { name, wire, pair, program: &effort.program, driver }
        };
        let driven = DRIVEN.into_iter().zip(&effort.drivers).map(|(pair, driver)| own(pair, driver));
        let beside = effort.beside.iter().map(|program| Self {
            name: format!("{NET}, beside"),
            wire: None,
            pair: "r",
            program,
            driver: "",
        });
        let all = std::iter::once(own("q", "")).chain(beside).chain(driven);
        all.filter(|setup| effort.wants(&setup.name) || setup.wire.is_some()).collect()
    }
}

/// Everything that runs while it is measured.
#[derive(Debug)]
pub struct Field {
    // In the order in which they are to end.
    nodes: Vec<Nodes>,
    servers: Vec<Server>,
    holder: Part,
    files: TempDir,
    rig: Rig,
    size: u64,
}

impl Field {
    /// Makes the namespaces and the files, and starts what takes part.
    ///
    /// # Errors
    /// Something that is installed does not start.
    pub fn new(effort: &Effort) -> Result<(Self, Vec<Contestant>)> {
        if effort.drivers.len() > DRIVEN.len() {
            bail!("at most {} sets of driver options are measured in one run", DRIVEN.len());
        }
        let driven = DRIVEN.into_iter().take(effort.drivers.len()).map(Pair::Bare);
        let pairs: Vec<Pair> = PAIRS.into_iter().chain(driven).collect();
        let rig = Rig::new("net", effort.mtu, &pairs)?;
        let files = rig.directory("a")?;
        pack_sources(&files.path().join("sources.tar"))?;
        let mut holder = rig.play("b", None, &["hold", &effort.size.to_string()])?;
        ensure!(holder.line().with_context(|| rig.log("b"))? == "ready", "the files are not made");
        let mut field =
            Self { nodes: Vec::new(), servers: Vec::new(), holder, files, rig, size: effort.size };
        let mut all = Vec::new();
        for setup in Setup::all(effort) {
            all.extend(field.add_nodes(setup, effort.mtu)?);
        }
        field.add_others(&mut all, effort)?;
        all.retain(|one: &Contestant| effort.wants(&one.name));
        Ok((field, all))
    }

    /// A pair of nodes, the far one with the files.
    fn add_nodes(&mut self, setup: Setup<'_>, mtu: u32) -> Result<Vec<Contestant>> {
        let Setup { name, wire, pair, program, driver } = setup;
        let host = format!("{pair}b");
        let device = |end: u8| match driver {
            "" => format!("{pair}{end}"),
            _ => format!("{pair}{end},{driver}"),
        };
        let longer = if mtu == ETHERNET { String::new() } else { format!(",mtu_en={mtu}") };
        let helper = program.with_file_name("../lib/io-pkt/qnet-netfs");
        let far = Daemon::start_within(
            &self.rig,
            program,
            ("b", &device(1)),
            &format!("host={host},maproot=0,allow=connect{longer}"),
            Some(self.holder.pid()),
        )?;
        let near = Daemon::start_within(
            &self.rig,
            program,
            ("a", &device(0)),
            &format!("host={pair}a,allow=connect{longer}"),
            None,
        )?;
        near.find(&host)?;
        let nd = far.find(&format!("{pair}a"))?;
        let root = near.root_path().display().to_string();
        self.nodes.push(Nodes { _near: near, far });
        let words = [helper.display().to_string(), "--root".to_owned(), root, "--mount".to_owned()];
        let below = Path::new(&host).join(SERVED.trim_start_matches('/'));
        let mut all =
            vec![Contestant { name, way: Way::Mount { command: words.to_vec(), below, within: None } }];
        let nodes = self.nodes.len() - 1;
        all.extend(wire.map(|name| Contestant { name, way: Way::Wire { nodes, nd } }));
        Ok(all)
    }

    fn add_others(&mut self, all: &mut Vec<Contestant>, effort: &Effort) -> Result<()> {
        let holder = self.holder.pid();
        let mount = |name: &str, command, within| Contestant {
            name: name.to_owned(),
            way: Way::Mount { command, below: PathBuf::new(), within },
        };
        let address: Ipv4Addr = self.rig.address("s")?.parse()?;
        let place = Place { rig: &self.rig, holder, address };
        if effort.wants(SSHFS)
            && let Some((server, command)) = started(SSHFS, servers::sshfs(&place))
        {
            self.servers.push(server);
            all.push(mount(SSHFS, command, None));
        }
        if effort.wants(NFS)
            && let Some((server, [before, behind])) = started(NFS, servers::nfs(&place))
        {
            self.servers.push(server);
            let program = |name: &str, words: &[&str], path: &str| {
                let words = words.iter().map(|word| (*word).to_owned());
                [name.to_owned()]
                    .into_iter()
                    .chain(words)
                    .chain([format!("{before}{path}{behind}")])
                    .collect()
            };
            let files = (data::TREE * data::TREE) as u64;
            let programs = vec![
                (Work::Read, Counted::Bytes, effort.size, program("nfs-cat", &[], "big")),
                (Work::Walk, Counted::Lines, files, program("nfs-ls", &["-R"], "tree")),
            ];
            all.push(Contestant { name: NFS.to_owned(), way: Way::Programs(programs) });
        }
        if effort.wants(NINE)
            && let Some((server, mut command)) = started(NINE, servers::nine(&place))
        {
            self.servers.push(server);
            command.push("big".to_owned());
            let programs = vec![(Work::Read, Counted::Bytes, effort.size, command)];
            all.push(Contestant { name: NINE.to_owned(), way: Way::Programs(programs) });
        }
        if effort.wants(CEILING)
            && let Some(program) = passthrough::program()?
        {
            let source = format!("source={SERVED}");
            let words = [&program.display().to_string(), "-f", "-o", source.as_str()].map(str::to_owned);
            all.push(mount(CEILING, words.to_vec(), Some(holder)));
        }
        Ok(())
    }

    /// Measures one kind of work; `None` when the contestant does not do it.
    ///
    /// # Errors
    /// It should, and failed.
    pub fn measure(&self, contestant: &Contestant, effort: &Effort, work: Work) -> Result<Option<f64>> {
        let words = match &contestant.way {
            Way::Wire { nodes, nd } if matches!(work, Work::Read | Work::Write) => {
                let (size, in_flight) = BULK;
                let load = Load { size, in_flight, span: effort.span };
                let done = meter(&self.nodes[*nodes].far.root()?, *nd, load)?;
                return Ok(Some(done.rate(size) / 1e6));
            }
            Way::Wire { .. } => return Ok(None),
            Way::Programs(programs) => {
                let Some((_, counted, least, command)) = programs.iter().find(|one| one.0 == work) else {
                    return Ok(None);
                };
                output_words(*counted, *least, command)
            }
            Way::Mount { command, below, within } => {
                let point = tempfile::TempDir::new_in(self.files.path())?.keep();
                let command = [command.as_slice(), &[point.display().to_string()]].concat();
                let archive = self.files.path().join("sources.tar");
                let plan = Plan { work, span: effort.span, archive: &archive };
                mount_words(&plan, &point.join(below), *within, &command)
            }
        };
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut part = self.rig.play("a", None, &words)?;
        let said = part.line().with_context(|| last_line(&self.rig.log("a")))?;
        let number = said.parse().with_context(|| format!("`{said}` is no number"))?;
        // It ends with its mounts before the next one begins.
        ensure!(part.ended_well()?, "{}", last_line(&self.rig.log("a")));
        Ok(Some(number))
    }

    /// Bytes of the large file.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

/// A server that does not start leaves the others theirs.
fn started<T>(who: &str, outcome: Result<Option<T>>) -> Option<T> {
    outcome.unwrap_or_else(|error| {
        eprintln!("{who} does not take part: {error:#}");
        None
    })
}

fn last_line(log: &str) -> String {
    log.lines().next_back().unwrap_or("it does not say why").to_owned()
}

/// This workspace's own sources, as a tree to unpack.
fn pack_sources(archive: &Path) -> Result<()> {
    const FOLDERS: [&str; 7] = ["io-pkt", "modules", "drivers", "lsm-qnet", "tools", "tests", "docs"];
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(archive).arg("--exclude=target").arg("-C").arg(install::top()?).args(FOLDERS);
    ensure!(tar.status().context("tar")?.success(), "tar failed");
    Ok(())
}
