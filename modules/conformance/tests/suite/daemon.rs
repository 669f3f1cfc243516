//! The same modules in the real daemon, below a temporary root: what it refuses leaves nothing, what fails is taken away,
//! and every other use keeps carrying frames.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use conformance::forge::{forge, note_at};
use ctl::{Client, ClientError, Modules, Mounted, Root};
use tempfile::TempDir;

use crate::common::{module, workshop};

/// How long anything may take on a machine that does ten other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon with a bridge and a driver that makes a frame every millisecond, `en0`.
struct Daemon {
    child: Child,
    client: Client,
    root: Root,
    dir: TempDir,
}

impl Daemon {
    fn start() -> Self {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        let program =
            PROGRAM.get_or_init(|| workshop().program("io-pkt").unwrap_or_else(|error| panic!("{error}")));
        let dir = TempDir::new().expect("a temporary directory");
        let root = Root::at(dir.path().join("node"));
        let log = File::create(dir.path().join("log")).expect("a log file");
        let mut command = Command::new(program);
        command.arg("--root").arg(root.dir()).args(["-d", "template", "period=1", "-p", "bridge"]);
        command.env_remove("RUST_LOG").env_remove("IO_PKT_ROOT");
        let child = command.stdin(Stdio::null()).stderr(log).spawn().expect("io-pkt starts");
        let mut client = None;
        eventually("the daemon answers", || {
            client = Client::connect_instance(&root, 0, PATIENCE).ok();
            client.as_mut().is_some_and(|client| client.ping().is_ok())
        });
        Self { child, client: client.expect("connected"), root, dir }
    }

    fn mount(&mut self, module: &Path, options: &str) -> Mounted {
        let path = module.to_str().expect("a path of letters");
        self.client.mount(path, options, None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A mount that must be refused: errno and the one line.
    fn refused(&mut self, module: &Path, options: &str) -> (String, String) {
        match self.client.mount(module.to_str().expect("a path of letters"), options, None) {
            Err(ClientError::Refused(error)) => (error.errno, error.text),
            other => panic!("{}: {other:?}", module.display()),
        }
    }

    fn modules(&mut self) -> Modules {
        self.client.modules().expect("the daemon lists its modules")
    }

    /// Frames that a driver sent and delivered.
    fn traffic(&mut self, name: &str) -> (u64, u64) {
        let interfaces = self.client.interfaces(Some(name)).expect("the interface is there");
        let stats = &interfaces[0].stats;
        (stats.tx_packets.unwrap_or(0), stats.rx_packets.unwrap_or(0))
    }

    /// The interface carries frames from now on.
    fn carries(&mut self, name: &str) {
        let before = self.traffic(name);
        eventually("frames go out and come in", || {
            let now = self.traffic(name);
            now.0 > before.0 + 5 && now.1 > before.1 + 5
        });
    }

    fn devices(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.devices()).expect("the directory of device names");
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// No chunk is lost, and no use named one that it did not own.
    fn pool_is_whole(&mut self) {
        for name in self.devices() {
            self.client.umount(&name).unwrap_or_else(|error| panic!("{error}"));
        }
        let pool = self.client.counters().expect("the daemon counts").pool;
        assert_eq!((pool.free, pool.bad_descriptors), (pool.chunks, 0), "{pool:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
        // Its root goes with it: there is nothing to take down in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn drivers_in_c_and_of_other_minor_versions_carry_frames() {
    let mut daemon = Daemon::start();
    for (name, interface) in [("echo", "en1"), ("frozen", "en2"), ("later", "en3")] {
        assert_eq!(daemon.mount(&module(name), "").name, interface);
        daemon.carries(interface);
    }
    let modules = daemon.modules();
    let abi =
        |name: &str| modules.builds.iter().find(|build| build.name == name).map(|build| build.abi.as_str());
    assert_eq!((abi("devn-frozen"), abi("devn-later")), (Some("1.0"), Some("1.7")));
    daemon.pool_is_whole();
}

#[test]
fn a_driver_whose_poll_panics_under_traffic_is_taken_away_alone() {
    let mut daemon = Daemon::start();
    assert_eq!(daemon.mount(&module("echo"), "").name, "en1");
    assert_eq!(daemon.mount(&module("naughty"), "mode=poll-panic").name, "en2");
    eventually("the use is taken away", || !daemon.devices().contains(&"en2".to_owned()));
    let failed = daemon.modules().failed;
    assert_eq!(
        (failed.len(), failed[0].name.as_str(), failed[0].module.as_str()),
        (1, "en2", "devn-naughty")
    );
    let reason = failed[0].reason.clone().expect("a reason");
    assert!(reason.starts_with("panicked at ") && reason.contains("naughty.rs:"), "{reason}");
    assert_eq!(daemon.log().matches(&reason).count(), 1, "the log says it once");
    daemon.carries("en1");
    // The same build goes on with other uses.
    assert_eq!(daemon.mount(&module("naughty"), "").name, "en2");
    daemon.carries("en2");
    daemon.pool_is_whole();
}

#[test]
fn every_entry_may_fail_without_a_trace() {
    let mut daemon = Daemon::start();
    assert_eq!(daemon.mount(&module("echo"), "").name, "en1");
    for mode in ["poll-error", "transmit-panic", "payload-panic", "stop-panic", "drop-panic", "hold"] {
        daemon.mount(&module("naughty"), &format!("mode={mode}"));
        if matches!(mode, "stop-panic" | "drop-panic" | "hold") {
            daemon.carries("en2");
            // What stop says cannot keep a use from going.
            let _ = daemon.client.umount("en2");
        }
        eventually(mode, || daemon.devices() == ["bridge0", "en0", "en1"]);
    }
    daemon.carries("en1");
    daemon.pool_is_whole();
}

#[test]
fn refused_modules_give_one_line_and_leave_nothing() {
    let mut daemon = Daemon::start();
    assert_eq!(daemon.mount(&module("echo"), "").name, "en1");
    let naughty = module("naughty");
    let cut = forge(&naughty, "cut.so", |bytes| bytes.truncate(bytes.len() / 2)).expect("a copy");
    let major = forge(&naughty, "major-9.so", |bytes| {
        let at = note_at(bytes).expect("a note");
        bytes[at + 4] = 9;
    });
    let text = workshop().dir().join("note.so");
    fs::write(&text, "plain words").expect("a text file");
    for (module, options, errno, says) in [
        (&naughty, "mode=create-error", "ENODEV", "there is no card in slot 5"),
        (&naughty, "mode=create-panic", "EIO", "no card, no driver"),
        (&naughty, "mode=start-error", "EACCES", "slot 5 is locked"),
        (&naughty, "mode=start-panic", "EIO", "slot 5 is on fire"),
        (&naughty, "mode=unheard-of", "EINVAL", "expected one of none, create-error"),
        (&cut, "", "ENOEXEC", "it is truncated"),
        (&major.expect("a copy"), "", "ENOEXEC", "expected module ABI major version 1, found 9."),
        (&text, "", "ENOEXEC", "found a text file"),
    ] {
        let (got, line) = daemon.refused(module, options);
        assert_eq!(got, errno, "{line}");
        assert!(line.contains(says) && line.lines().count() == 1, "{line}");
        assert_eq!(daemon.devices(), ["bridge0", "en0", "en1"], "{line}");
        daemon.carries("en1");
    }
    daemon.pool_is_whole();
}

#[test]
fn a_rebuilt_module_is_the_new_one_after_umount_and_mount() {
    let (mut daemon, shop) = (Daemon::start(), workshop());
    let build = |text: &str| shop.c_module("echo.c", "again.so", &[&format!("BUILD=\"{text}\"")]);
    let path = build("one").unwrap_or_else(|error| panic!("{error}"));
    daemon.mount(&path, "");
    daemon.carries("en1");
    daemon.client.umount("en1").expect("it goes");
    build("two").unwrap_or_else(|error| panic!("{error}"));
    daemon.mount(&path, "");
    daemon.carries("en1");
    let builds = daemon.modules().builds;
    let mut echoes: Vec<_> = builds.iter().filter(|build| build.name == "devn-echo").collect();
    echoes.sort_by_key(|build| build.uses.len());
    assert_eq!(echoes.iter().map(|build| build.uses.len()).collect::<Vec<_>>(), [0, 1]);
    assert_ne!(echoes[0].build_id, echoes[1].build_id);
    assert_eq!(echoes[0].path, echoes[1].path);
    daemon.pool_is_whole();
}

/// What must not grow: descriptors, threads, mappings, and bytes of resident memory.
fn footprint(pid: u32) -> ([usize; 3], u64) {
    let entries = |name: &str| fs::read_dir(format!("/proc/{pid}/{name}")).expect("a living process").count();
    let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("a living process");
    let resident = text("status").lines().find_map(|line| {
        let size = line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?;
        size.parse::<u64>().ok()
    });
    ([entries("fd"), entries("task"), text("maps").lines().count()], resident.expect("a size") * 1024)
}

#[test]
fn mounting_in_a_loop_under_traffic_grows_nothing() {
    let rounds = if std::env::var_os("IO_PKT_SOAK").is_some() { 10_000 } else { 300 };
    let mut daemon = Daemon::start();
    let (rust, c) = (module("naughty"), module("echo"));
    let round = |daemon: &mut Daemon, number: usize| {
        let module = if number.is_multiple_of(2) { &rust } else { &c };
        let name = daemon.mount(module, "").name;
        daemon.client.umount(&name).unwrap_or_else(|error| panic!("{error}"));
    };
    // Queues, tables and log buffers reach their size; pages of the pool are touched for the first time.
    (0..rounds / 3).for_each(|number| round(&mut daemon, number));
    let (before, memory) = footprint(daemon.child.id());
    (0..rounds).for_each(|number| round(&mut daemon, number));
    let (after, grown) = footprint(daemon.child.id());
    assert_eq!(before, after, "descriptors, threads, mappings");
    let grown = grown.saturating_sub(memory);
    assert!(grown <= 1 << 20, "{grown} bytes more after {rounds} rounds");
    daemon.pool_is_whole();
}
