//! A daemon under test: the real binary below a temporary root, with real modules.
//!
//! Modules are built by Cargo into the directory of the binary, where it finds them as it does for a developer.
//! Waiting is polling with a deadline; a daemon that a failing test leaves behind is killed by its own handle.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use conformance::Workshop;
use ctl::{Client, Root};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long anything may take on a machine that does ten other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What Cargo has built, the modules beside the executable among it. All tests share one build: Cargo replaces the files of
/// modules when it builds a part of the workspace, because that resolves other features, and a daemon that runs maps both.
pub(crate) fn workshop() -> &'static Workshop {
    static BUILT: OnceLock<Workshop> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("daemon");
        std::fs::create_dir_all(&dir).expect("a directory for modules of the tests");
        Workshop::new(&dir).expect("cargo builds the workspace")
    })
}

/// A place for nodes: a root directory that goes with it.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        workshop();
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn root(&self) -> Root {
        Root::at(self.dir.path().join("node"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A copy of a driver's file, for a test that must not see Cargo replace it.
    pub(crate) fn module(&self, name: &str) -> String {
        let copy = self.path(&format!("devn-{name}.so"));
        let built = Path::new(env!("CARGO_BIN_EXE_io-pkt")).with_file_name(format!("libdevn_{name}.so"));
        std::fs::copy(built, &copy).expect("a copy of a module");
        copy.display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_io-pkt"));
        command.arg("--root").arg(self.root().dir()).args(args).stdin(Stdio::null());
        command.env_remove("RUST_LOG").env_remove("IO_PKT_ROOT").env_remove("IO_PKT_MODULE_PATH");
        command
    }

    /// Starts a daemon and waits until it answers.
    pub(crate) fn start(&self, args: &[&str]) -> Daemon {
        let instance =
            args.windows(2).find(|pair| pair[0] == "-i").map_or(0, |pair| pair[1].parse().unwrap());
        let log = self.path(&format!("log{instance}"));
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = self.command(args).stderr(file).spawn().expect("io-pkt starts");
        let mut daemon = Daemon { child, root: self.root(), instance, log };
        eventually("the daemon answers", || {
            assert!(daemon.child.try_wait().unwrap().is_none(), "it ended: {}", daemon.log());
            // The socket is there before the mounts of the command line are done; the answer comes after them.
            daemon.connect().and_then(|mut client| client.ping()).is_ok()
        });
        daemon
    }

    /// Runs a daemon that is expected to end by itself; returns its status and what it said.
    pub(crate) fn run(&self, args: &[&str]) -> (ExitStatus, String) {
        let output = self.command(args).output().expect("io-pkt starts");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A running daemon. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    root: Root,
    instance: u32,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn connect(&self) -> Result<Client, ctl::ClientError> {
        Client::connect_instance(&self.root, self.instance, PATIENCE)
    }

    pub(crate) fn client(&self) -> Client {
        self.connect().expect("the daemon listens")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("the daemon is ours");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM and an orderly end.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// What an accident does.
    pub(crate) fn crash(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Whether all its threads sleep just now.
    pub(crate) fn sleeps(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, fields)| fields.starts_with(" S"))
        })
    }

    /// Processor time used so far, in clock ticks.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until `holds`, for a long time at most.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Names in a directory, sorted; empty when it is not there.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
