//! A lab: makes the switch and the nodes, finds them again, takes all of it down.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::abilities::Abilities;
use crate::error::LabError;
use crate::names;
use crate::node::{Node, text_of};
use crate::programs::Programs;
use crate::state::{Isolation, LabRecord, NodeRecord, Process, State, Wire};
use crate::sys;
use crate::wait::until;

/// For the kernel to end a node's processes and give back its mounts.
const PATIENCE: Duration = Duration::from_secs(20);

/// How nodes are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// What joins the nodes.
    pub wire: Wire,
    /// What keeps them apart; `None` takes the best that the machine allows.
    pub isolation: Option<Isolation>,
    /// Start io-pkt with the wire's driver and Qnet in each node.
    pub start: bool,
    /// Options of Qnet, such as `do_crc=1`.
    pub qnet: Vec<String>,
    /// Folders of the machine that the nodes see, too, under the same names and read-only. They see those of the system
    /// anyway; this is for what a user keeps in his home.
    pub share: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { wire: Wire::Packet, isolation: None, start: true, qnet: Vec::new(), share: Vec::new() }
    }
}

/// A lab, up or not.
#[derive(Debug)]
pub struct Lab {
    state: State,
    programs: Programs,
    /// For a temporary lab: the holders end when our end of the pipe is closed, so also when we are killed.
    lifeline: Option<(OwnedFd, OwnedFd)>,
}

impl Lab {
    /// The lab in the folder `dir`, or in the usual one of this user. It may be down.
    ///
    /// # Errors
    /// The lab's programs are not beside the running one.
    pub fn open(dir: Option<PathBuf>) -> Result<Self, LabError> {
        Ok(Self { state: State::new(dir), programs: Programs::beside_us()?, lifeline: None })
    }

    /// A lab of the caller's own, which ends when it is dropped and when the calling process ends.
    ///
    /// # Errors
    /// The lab's programs are missing, or no folder can be made in `/tmp`.
    pub fn temporary() -> Result<Self, LabError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("qnet-lab-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let fail = |source| LabError::State { path: path.clone(), source };
        // One that is left here is a dead process's, which had our number before.
        let _ = fs::remove_dir_all(&path);
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(fail)?;
        let lifeline = pipe2(OFlag::O_CLOEXEC).map_err(|errno| fail(errno.into()))?;
        Ok(Self { state: State::new(Some(path)), programs: Programs::beside_us()?, lifeline: Some(lifeline) })
    }

    /// Where the lab keeps its records.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Brings nodes up until there are `count`, with the usual names; gives all of them.
    ///
    /// # Errors
    /// See [`Lab::up_named`].
    pub fn up(&self, count: usize, options: &Options) -> Result<Vec<Node>, LabError> {
        let _lock = self.state.lock()?;
        self.bury()?;
        let present = self.state.nodes()?;
        let free = (1..).map(names::name_of).filter(|name| present.iter().all(|node| node.name != *name));
        let fresh: Vec<String> = free.take(count.saturating_sub(present.len())).collect();
        self.add(&fresh, options)?;
        self.nodes()
    }

    /// Brings up one node for each name; gives those.
    ///
    /// # Errors
    /// The machine does not allow it, a name is taken, the lab is up with another wire, or a node
    /// does not start; then the nodes made before it stay up, the broken one does not.
    pub fn up_named(&self, names: &[String], options: &Options) -> Result<Vec<Node>, LabError> {
        let _lock = self.state.lock()?;
        self.bury()?;
        self.add(names, options)
    }

    /// As [`Lab::up_named`], with the lock held and the dead buried.
    fn add(&self, names: &[String], options: &Options) -> Result<Vec<Node>, LabError> {
        let lab = self.ensure_switch(options)?;
        let mut nodes = Vec::new();
        for name in names {
            if !names::is_valid(name) {
                return Err(LabError::BadName { name: name.clone() });
            }
            if self.state.node(name)?.is_some() {
                return Err(LabError::Exists { name: name.clone() });
            }
            let made = self.make_node(&lab, name).and_then(|node| {
                if options.start {
                    node.start(&node.usual_start(&options.qnet))?;
                }
                Ok(node)
            });
            match made {
                Ok(node) => nodes.push(node),
                Err(error) => {
                    // The first error is the one to report.
                    let _ = self.end_node(name);
                    return Err(error);
                }
            }
        }
        Ok(nodes)
    }

    /// All nodes, by number.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn nodes(&self) -> Result<Vec<Node>, LabError> {
        let Some(lab) = self.state.lab()? else { return Ok(Vec::new()) };
        Ok(self.state.nodes()?.iter().map(|record| Node::new(&self.state, &lab, record)).collect())
    }

    /// The node `name`.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn node(&self, name: &str) -> Result<Node, LabError> {
        let found = self.nodes()?.into_iter().find(|node| node.name() == name);
        found.ok_or_else(|| LabError::NoSuchNode { name: name.to_owned(), known: known(&self.state) })
    }

    /// Ends all nodes and the switch and removes the lab's folder. Does nothing when it is down.
    ///
    /// # Errors
    /// A process does not end in time, or a file cannot be removed.
    pub fn down(&self) -> Result<(), LabError> {
        if !self.state.dir().exists() {
            return Ok(());
        }
        let _lock = self.state.lock()?;
        self.end_all()?;
        self.state.remove()
    }

    /// Ends one node.
    ///
    /// # Errors
    /// There is no such node, or it does not end in time.
    pub fn down_node(&self, name: &str) -> Result<(), LabError> {
        let _lock = self.state.lock()?;
        self.node(name)?;
        self.end_node(name)
    }

    fn end_all(&self) -> Result<(), LabError> {
        for node in self.state.nodes()? {
            self.end_node(&node.name)?;
        }
        if let Some(switch) = self.state.lab()?.and_then(|lab| lab.switch) {
            end("the switch", switch)?;
        }
        let _ = fs::remove_file(self.state.dir().join("lab.json"));
        Ok(())
    }

    /// Removes what killed nodes left, and everything when the switch was killed.
    fn bury(&self) -> Result<(), LabError> {
        let switch = self.state.lab()?.and_then(|lab| lab.switch);
        if switch.is_some_and(|switch| !switch.is_alive()) {
            return self.end_all();
        }
        for node in self.state.nodes()? {
            if node.holder.is_some_and(|holder| !holder.is_alive()) {
                self.end_node(&node.name)?;
            }
        }
        Ok(())
    }

    /// The lab's record, and its switch if it needs one.
    fn ensure_switch(&self, options: &Options) -> Result<LabRecord, LabError> {
        if let Some(lab) = self.state.lab()? {
            return check_same(lab, options);
        }
        let isolation = self.choose(options)?;
        let switch = match isolation {
            Isolation::Roots => None,
            Isolation::Namespaces => Some(self.hold(&["switch".to_owned()])?),
            Isolation::UserNamespaces => {
                Some(self.hold(&["switch".to_owned(), "--user-namespace".to_owned()])?)
            }
        };
        let lab = LabRecord {
            wire: options.wire,
            isolation,
            switch,
            programs: self.programs.folder().to_owned(),
            share: options.share.clone(),
        };
        for folder in [self.state.wire_dir(), self.state.links_dir()] {
            fs::create_dir_all(&folder).map_err(|source| LabError::State { path: folder, source })?;
        }
        if isolation == Isolation::Roots {
            let at = self.programs.inside(self.programs.folder());
            self.programs.make_links(&self.state.links_dir(), &at).map_err(|error| LabError::Failed {
                what: "links to the programs".to_owned(),
                text: format!("{error:#}"),
            })?;
        }
        self.state.write_lab(&lab)?;
        Ok(lab)
    }

    fn choose(&self, options: &Options) -> Result<Isolation, LabError> {
        let abilities = Abilities::probe()?;
        if options.wire == Wire::Tap
            && let Some(lack) = abilities.no_tap
        {
            return Err(LabError::Lacking(lack));
        }
        let wanted = options.isolation.unwrap_or(abilities.isolation);
        match abilities.no_namespaces {
            Some(lack) if wanted != Isolation::Roots => Err(LabError::Lacking(lack)),
            Some(mut lack) if options.wire != Wire::Segment => {
                lack.cure.push_str(", or use --wire segment, which needs no namespaces");
                Err(LabError::Lacking(lack))
            }
            _ if wanted == Isolation::Roots && options.wire != Wire::Segment => {
                Err(LabError::WireNeedsNamespaces { wire: format!("{:?}", options.wire).to_lowercase() })
            }
            _ => Ok(wanted),
        }
    }

    fn make_node(&self, lab: &LabRecord, name: &str) -> Result<Node, LabError> {
        let number = self.state.nodes()?.iter().map(|node| node.number).max().unwrap_or(0) + 1;
        let root = self.state.node_dir(name).join("root");
        fs::create_dir_all(&root).map_err(|source| LabError::State { path: root, source })?;
        let mut record = NodeRecord { name: name.to_owned(), number, holder: None, daemon: None };
        if lab.isolation != Isolation::Roots {
            record.holder = Some(self.hold(&["node".to_owned(), name.to_owned(), number.to_string()])?);
        }
        self.state.write_node(&record)?;
        if lab.isolation != Isolation::Roots && lab.wire != Wire::Segment {
            self.call("plug", &["plug", name])?;
            self.call("connect", &["connect", name])?;
        }
        Ok(Node::new(&self.state, lab, &record))
    }

    /// Starts a holder and waits until it is ready.
    fn hold(&self, what: &[String]) -> Result<Process, LabError> {
        let shown = format!("hold {}", what.join(" "));
        let mut command = self.program()?;
        command.arg("hold");
        match &self.lifeline {
            Some((theirs, _)) => {
                let end = theirs
                    .try_clone()
                    .map_err(|source| LabError::Start { program: shown.clone(), source })?;
                command.arg("--lifeline").stdin(end);
            }
            None => {
                command.stdin(Stdio::null());
            }
        }
        let text = run(&shown, command.args(what))?;
        let process = text.trim().parse().ok().and_then(|pid| Process::of(pid).ok());
        process.ok_or(LabError::Failed { what: shown, text })
    }

    fn call(&self, what: &str, args: &[&str]) -> Result<(), LabError> {
        run(what, self.program()?.args(args)).map(|_| ())
    }

    fn program(&self) -> Result<Command, LabError> {
        let mut command = Command::new(self.programs.find("qnet-lab")?);
        command.arg("--state").arg(self.state.dir());
        Ok(command)
    }

    fn end_node(&self, name: &str) -> Result<(), LabError> {
        if let Some(record) = self.state.node(name)? {
            // Asked first, so that it removes its names; with namespaces the rest goes with process 1.
            if let Some(daemon) = record.daemon.filter(|_| record.holder.is_none()) {
                end(name, daemon)?;
            }
            if let Some(holder) = record.holder {
                end(name, holder)?;
            }
        }
        let path = self.state.node_dir(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LabError::State { path, source: error })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.lifeline.is_some()
            && let Err(error) = self.down()
        {
            eprintln!("qnet-lab: {error}");
        }
    }
}

/// Names of the nodes there are, for messages.
pub(crate) fn known(state: &State) -> String {
    let nodes = state.nodes().unwrap_or_default();
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

fn check_same(lab: LabRecord, options: &Options) -> Result<LabRecord, LabError> {
    let other_isolation = options.isolation.is_some_and(|wanted| wanted != lab.isolation);
    if lab.wire == options.wire && !other_isolation {
        return Ok(lab);
    }
    Err(LabError::OtherLab {
        present: format!("wire {:?}, {:?}", lab.wire, lab.isolation),
        wanted: format!("wire {:?}, {:?}", options.wire, options.isolation.unwrap_or(lab.isolation)),
    })
}

/// Ends a process: asks, and after a while insists. For process 1 of a node this ends all its processes.
fn end(what: &str, process: Process) -> Result<(), LabError> {
    let Ok(fd) = process.open() else { return Ok(()) };
    for (signal, patience) in [(libc::SIGTERM, PATIENCE / 4), (libc::SIGKILL, PATIENCE)] {
        // An error here means that it ended in the meantime.
        let _ = sys::signal(&fd, signal);
        if until(what, patience, || (!process.is_alive()).then_some(())).is_ok() {
            return Ok(());
        }
    }
    Err(LabError::Late {
        what: format!("{what}: the end of process {}", process.pid),
        seconds: PATIENCE.as_secs(),
        text: String::new(),
    })
}

fn run(what: &str, command: &mut Command) -> Result<String, LabError> {
    let output =
        command.output().map_err(|source| LabError::Start { program: format!("qnet-lab {what}"), source })?;
    text_of(format!("qnet-lab {what}"), &output)
}
