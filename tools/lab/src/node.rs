//! One node of a lab: programs run in it, its io-pkt is started and ended.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::daemon::Start;
use crate::error::LabError;
use crate::programs::Programs;
use crate::state::{Isolation, LabRecord, NodeRecord, Process, State};
use crate::wait::until;

/// A start takes milliseconds; this is for machines under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that is up.
#[derive(Clone, Debug)]
pub struct Node {
    state: State,
    lab: LabRecord,
    name: String,
    number: usize,
}

impl Node {
    pub(crate) fn new(state: &State, lab: &LabRecord, record: &NodeRecord) -> Self {
        Self { state: state.clone(), lab: lab.clone(), name: record.name.clone(), number: record.number }
    }

    /// Its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address on the switch, for comparisons with TCP. None of Qnet needs it.
    #[must_use]
    pub fn address(&self) -> String {
        crate::net::address(self.number)
    }

    /// Its network directory, as its programs see it.
    #[must_use]
    pub fn net(&self) -> String {
        if self.has_own_files() { "/net".to_owned() } else { self.own_folder("net") }
    }

    /// Its directory of interfaces, as its programs see it.
    #[must_use]
    pub fn devices(&self) -> String {
        if self.has_own_files() { "/dev/io-net".to_owned() } else { self.own_folder("dev/io-net") }
    }

    /// A folder for short-lived files of its own, as its programs see it.
    #[must_use]
    pub fn scratch(&self) -> String {
        if self.has_own_files() { "/tmp".to_owned() } else { self.own_folder("..") }
    }

    /// What its io-pkt says, as long as the lab started it.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.state.node_dir(&self.name).join("io-pkt.log")
    }

    /// The log's text so far, empty when there is none.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A path of the node as seen from outside, as long as the node is up (needs the node's own user or root).
    #[must_use]
    pub fn outside(&self, path: &str) -> PathBuf {
        let path = path.trim_start_matches('/');
        match self.record().and_then(|record| record.holder) {
            Some(holder) => PathBuf::from(format!("/proc/{}/root", holder.pid)).join(path),
            None => self.state.node_dir(&self.name).join("root").join(path),
        }
    }

    /// A command that runs `program` in the node, with its `PATH`; add arguments and files as usual.
    ///
    /// Killing the command kills the program. The exit status is the program's; 128 + N when signal N ended it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.exec(&[]);
        command.arg(program);
        command
    }

    /// The same as the user and group `uid` of the node.
    pub fn command_as(&self, uid: u32, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.exec(&["--user".to_owned(), uid.to_string()]);
        command.arg(program);
        command
    }

    /// Runs a shell line in the node and gives what it printed.
    ///
    /// # Errors
    /// The shell did not start, or ended with a bad status: the error has its standard error.
    pub fn shell(&self, line: &str) -> Result<String, LabError> {
        let what = || format!("{}: {line}", self.name);
        let output = self
            .command("sh")
            .args(["-c", line])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| LabError::Start { program: what(), source })?;
        text_of(what(), &output)
    }

    /// The arguments with which the lab starts io-pkt here.
    #[must_use]
    pub fn usual_start(&self, qnet_options: &[String]) -> Start {
        Start::usual(&self.state, &self.lab, &self.name, qnet_options)
    }

    /// The wire's driver here: its name, and its options.
    #[must_use]
    pub fn driver(&self) -> [String; 2] {
        crate::daemon::driver(&self.state, &self.lab)
    }

    /// Starts io-pkt in the node, in the background, with its output in the log, and waits until it answers.
    ///
    /// # Errors
    /// It ended at once or did not answer in time: the error has the end of its log.
    pub fn start(&self, start: &Start) -> Result<Process, LabError> {
        let log = self.log_path();
        let before = self.log().len();
        let mut command = self.exec(&["--detach".to_owned(), log.display().to_string()]);
        command.arg("io-pkt").args(&start.args);
        let what = format!("{}: io-pkt {}", self.name, start.args.join(" "));
        let output = command.output().map_err(|source| LabError::Start { program: what.clone(), source })?;
        let inner = text_of(what.clone(), &output)?;
        let inner: i32 =
            inner.trim().parse().map_err(|_| LabError::Failed { what: what.clone(), text: inner })?;
        let said = || format!(":\n{}", self.log().get(before..).unwrap_or_default().trim_end());
        let answer = until(&what, PATIENCE, || {
            if !self.has_process(inner) {
                return Some(false);
            }
            self.answers().then_some(true)
        });
        match answer {
            Ok(true) => self.remember(inner, what),
            Ok(false) => Err(LabError::Failed { what, text: said() }),
            Err(LabError::Late { what, seconds, .. }) => Err(LabError::Late { what, seconds, text: said() }),
            Err(error) => Err(error),
        }
    }

    /// Does the node's first instance of io-pkt answer on its control socket?
    #[must_use]
    pub fn answers(&self) -> bool {
        self.command("nicinfo")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Waits with the `waitfor` tool until `path` is there; a network directory must be live.
    ///
    /// # Errors
    /// It is not there in time.
    pub fn wait_for(&self, path: &str, most: Duration) -> Result<(), LabError> {
        let what = || format!("{}: waitfor {path}", self.name);
        let output = self
            .command("waitfor")
            .args([path, &most.as_secs().to_string()])
            .output()
            .map_err(|source| LabError::Start { program: what(), source })?;
        text_of(what(), &output).map(|_| ())
    }

    /// The process id of the node's io-pkt inside of the node.
    #[must_use]
    pub fn daemon(&self) -> Option<Process> {
        self.record().and_then(|record| record.daemon).filter(Process::is_alive)
    }

    fn record(&self) -> Option<NodeRecord> {
        self.state.node(&self.name).ok().flatten()
    }

    fn has_own_files(&self) -> bool {
        self.lab.isolation != Isolation::Roots
    }

    /// Without namespaces: a place in the folder that holds the node's names.
    fn own_folder(&self, name: &str) -> String {
        self.state.node_dir(&self.name).join("root").join(name).display().to_string()
    }

    /// Does the process with this number, as the node counts them, still exist?
    fn has_process(&self, inner: i32) -> bool {
        let path = format!("/proc/{inner}");
        if self.has_own_files() { self.outside(&path).exists() } else { Path::new(&path).exists() }
    }

    /// Notes which process of the machine the node's process `inner` is.
    fn remember(&self, inner: i32, what: String) -> Result<Process, LabError> {
        let outer = if self.has_own_files() { self.outer_pid(inner) } else { Some(inner) };
        let process = outer.and_then(|pid| Process::of(pid).ok());
        let process = process.ok_or(LabError::Failed { what, text: "it ended at once".to_owned() })?;
        if let Some(mut record) = self.record() {
            record.daemon = Some(process);
            self.state.write_node(&record)?;
        }
        Ok(process)
    }

    /// Finds the process whose number is `inner` in the node's PID namespace.
    fn outer_pid(&self, inner: i32) -> Option<i32> {
        let holder = self.record()?.holder?;
        let namespace = fs::read_link(format!("/proc/{}/ns/pid", holder.pid)).ok()?;
        let entries = fs::read_dir("/proc").ok()?;
        entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .find(|pid| {
                let innermost = || -> io::Result<bool> {
                    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
                    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
                    let last = numbers.and_then(|numbers| numbers.split_whitespace().last());
                    Ok(last.and_then(|last| last.parse().ok()) == Some(inner)
                        && fs::read_link(format!("/proc/{pid}/ns/pid"))? == namespace)
                };
                innermost().unwrap_or(false)
            })
    }

    fn exec(&self, options: &[String]) -> Command {
        let program = Programs::new(self.lab.programs.clone()).find("qnet-lab");
        let mut command = Command::new(program.unwrap_or_else(|_| PathBuf::from("qnet-lab")));
        command.arg("--state").arg(self.state.dir()).arg("exec").args(options).arg(&self.name).arg("--");
        command
    }
}

/// What a program printed, or an error with what it complained about.
pub(crate) fn text_of(what: String, output: &Output) -> Result<String, LabError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    if text.is_empty() {
        text = output.status.to_string();
    }
    Err(LabError::Failed { what, text })
}
