//! A mounted network directory for one test: a fake Qnet, the real `qnet-netfs`, a private mount namespace.

pub(crate) mod qnet;
pub(crate) mod world;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{Signal, kill},
        statfs::{FUSE_SUPER_MAGIC, statfs},
    },
    unistd::Pid,
};
use tempfile::TempDir;

use self::{qnet::FakeQnet, world::World};

/// Time after which a condition that is waited for is taken never to come. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const BINARY: &str = env!("CARGO_BIN_EXE_qnet-netfs");

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a process to end; kills it when it does not.
#[track_caller]
pub(crate) fn ends(what: &str, child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() >= deadline {
            child.kill().ok();
            panic!("does not end: {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Why these tests cannot run here, if they cannot.
pub(crate) fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root to mount in a private namespace".into());
    }
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(error) = device {
        return Some(format!("needs FUSE: /dev/fuse: {error}"));
    }
    let tried = thread::spawn(enter_private_namespace).join();
    match tried {
        Ok(Ok(())) => None,
        Ok(Err(errno)) => Some(format!("needs a private mount namespace: {errno}")),
        Err(_) => Some("needs threads".into()),
    }
}

/// Why a mount through the helper cannot be tested here, if it cannot.
pub(crate) fn helper_obstacle() -> Option<String> {
    let tried = Command::new("fusermount3").arg("-V").output();
    tried.err().map(|error| format!("needs fusermount3: {error}"))
}

/// Gives this thread, and what it starts, mounts of its own.
fn enter_private_namespace() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// Runs `test` with mounts of its own.
pub(crate) fn in_private_namespace(test: fn()) {
    let run = thread::spawn(move || {
        enter_private_namespace().expect("obstacle() tried it");
        test();
    });
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

/// One node with its network directory.
pub(crate) struct Node {
    root: TempDir,
    world: Arc<Mutex<World>>,
    qnet: Option<FakeQnet>,
    netfs: Option<Child>,
}

impl Node {
    /// Starts Qnet and the file system.
    pub(crate) fn start(world: World, options: &[&str]) -> Self {
        let mut node = Self::unmounted(world);
        node.start_netfs(options);
        node
    }

    /// Starts Qnet only.
    pub(crate) fn unmounted(world: World) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = Arc::new(Mutex::new(world));
        let mut node = Self { root, world, qnet: None, netfs: None };
        node.start_qnet();
        node
    }

    pub(crate) fn start_qnet(&mut self) {
        self.qnet = Some(FakeQnet::start(&self.root.path().join("qnet.sock"), Arc::clone(&self.world)));
    }

    pub(crate) fn stop_qnet(&mut self) {
        self.qnet = None;
    }

    pub(crate) fn start_netfs(&mut self, options: &[&str]) {
        self.netfs = Some(self.command(options).spawn().unwrap());
        let net = self.net();
        eventually("the network directory is mounted", || {
            statfs(&net).is_ok_and(|found| found.filesystem_type() == FUSE_SUPER_MAGIC)
        });
    }

    /// The file system's command line.
    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("--root").arg(self.root.path()).arg("--mount").arg(self.net()).args(options);
        // Some tests read the log.
        command.stdin(Stdio::null()).env("RUST_LOG", "info");
        command
    }

    /// Runs it to its end.
    pub(crate) fn run_netfs(&self) -> Output {
        self.command(&[]).output().unwrap()
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The network directory.
    pub(crate) fn net(&self) -> PathBuf {
        self.root.path().join("net")
    }

    /// A path below the network directory.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.net().join(below)
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn qnet(&self) -> &FakeQnet {
        self.qnet.as_ref().unwrap()
    }

    /// Ends the file system with a signal.
    #[track_caller]
    pub(crate) fn end_netfs(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.netfs.take().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        ends("qnet-netfs", &mut child)
    }

    pub(crate) fn netfs(&mut self) -> &mut Child {
        self.netfs.as_mut().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.netfs.take() {
            // Also the processes of a failed test must not hang in the mount.
            umount2(&self.net(), MntFlags::MNT_DETACH).ok();
            child.kill().ok();
            child.wait().ok();
        }
        umount2(&self.net(), MntFlags::MNT_DETACH).ok();
    }
}
