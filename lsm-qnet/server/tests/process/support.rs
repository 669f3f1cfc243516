//! A server process and the client side of its socket.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use qnet_iomsg::flags::{IOFLAG_LARGEFILE, IOFLAG_READ};
use qnet_iomsg::message::XTYPE_DIR_EXTRA_HINT;
use qnet_iomsg::stat::REPLY_LEN;
use qnet_iomsg::{Connect, Dirents, Io, Stat, StatReply};
use qnet_ipc::packet::{Connect as ConnectPacket, Send, right};
use qnet_ipc::{Claim, ClientPeer, MAX_DATA, ReceiveBuffer, ToClient, ToServer};
use qnet_server::identity::{Identity, Switcher};
use tempfile::TempDir;

/// How long any single answer may take; far more than it ever should.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// User and group of `nobody`.
pub(crate) const NOBODY: u32 = 65534;

/// What a test cannot do without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    /// The right to become other users.
    Root,
    /// Root and `/dev/fuse`.
    Fuse,
    /// Root, a file system that keeps blocks for root, and a loop device to mount it from.
    Loop,
    /// `unshare -r` for ordinary users.
    UserNamespace,
}

impl Need {
    /// Why it is not there.
    pub(crate) fn missing(self) -> Option<&'static str> {
        match self {
            Self::Root | Self::Fuse | Self::Loop if !may_become_nobody() => {
                Some("needs root, and nobody to become")
            }
            Self::Fuse if !Path::new("/dev/fuse").exists() => Some("needs /dev/fuse"),
            Self::Loop if !(runs("mkfs.ext4", "-V") && runs("losetup", "-f")) => {
                Some("needs mkfs.ext4 and a free loop device")
            }
            Self::UserNamespace if !user_namespaces() => Some("needs user namespaces"),
            _ => None,
        }
    }
}

/// In some containers root is root only in name.
fn may_become_nobody() -> bool {
    let attempt = || {
        let mut switcher = Switcher::new(qnet_server::sys::thread_identity().ok()?).ok()?;
        switcher.become_identity(&Identity::nobody()).ok()
    };
    geteuid().is_root() && std::thread::spawn(attempt).join().unwrap().is_some()
}

fn runs(program: &str, option: &str) -> bool {
    let status = Command::new(program).arg(option).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn user_namespaces() -> bool {
    let unshare = Command::new("unshare").args(["-r", "true"]).stderr(Stdio::null()).status();
    unshare.is_ok_and(|status| status.success())
}

/// Runs `test` in a thread with a mount namespace of its own; processes started there share it.
pub(crate) fn in_mount_namespace(test: impl FnOnce() + std::marker::Send + 'static) {
    let run = move || {
        use nix::mount::{MsFlags, mount};
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        test();
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A successful reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: i64,
    pub(crate) data: Vec<u8>,
}

/// An errno, or an answer.
pub(crate) type Result<T> = std::result::Result<T, i32>;

/// How a server is started.
pub(crate) struct Start {
    program: PathBuf,
    before: Vec<String>,
    options: Vec<String>,
    user: Option<u32>,
    dir: TempDir,
}

impl Start {
    /// The program, copied to where every user may run it.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let program = dir.path().join("qnet-server");
        // by another process: a file that is open for writing here could be inherited by a child of another
        // test, and cannot be executed meanwhile
        let copied =
            Command::new("cp").arg(env!("CARGO_BIN_EXE_qnet-server")).arg(&program).status().unwrap();
        assert!(copied.success());
        Self { program, before: Vec::new(), options: Vec::new(), user: None, dir }
    }

    /// With more options.
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(ToString::to_string));
        self
    }

    /// The node's root.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Serving this directory.
    pub(crate) fn export(self, path: &Path) -> Self {
        self.options(&["--export", path.to_str().unwrap()])
    }

    /// Started by another program, which execs the one behind its options.
    pub(crate) fn through(mut self, command: &[&str]) -> Self {
        self.before = command.iter().map(ToString::to_string).collect();
        self
    }

    /// As another user.
    pub(crate) fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// Runs it.
    pub(crate) fn start(self) -> Server {
        let (peer, socket) = qnet_ipc::pair().unwrap();
        let log = self.dir.path().join("log");
        let (child, mut peer) = (self.spawn(socket, &log), peer);
        // tests send faster than the server takes it
        peer.set_queue_limit(64 << 20);
        Server {
            child,
            peer,
            buffer: ReceiveBuffer::new(),
            answers: HashMap::new(),
            long: HashMap::new(),
            last: 0,
            log,
            _dir: self.dir,
        }
    }

    fn spawn(&self, socket: OwnedFd, log: &Path) -> Child {
        let mut words = self.before.clone();
        words.push(self.program.to_str().unwrap().to_owned());
        words.extend(["--root".to_owned(), self.dir.path().to_str().unwrap().to_owned()]);
        words.extend(self.options.iter().cloned());
        // the shell moves the socket to descriptor 3, which Command cannot
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$@\" 3<&0 0</dev/null", "sh"]).args(words);
        command.stdin(socket).stdout(Stdio::null()).stderr(File::create(log).unwrap());
        command.current_dir("/");
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        command.spawn().unwrap()
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    peer: ClientPeer,
    buffer: ReceiveBuffer,
    /// What came in, by transaction or (with the top bit) connection.
    answers: HashMap<u64, Result<Answer>>,
    /// Messages that do not fit into a packet, by transaction.
    long: HashMap<u32, Vec<u8>>,
    last: u32,
    log: PathBuf,
    _dir: TempDir,
}

const CONNECTION: u64 = 1 << 32;

impl Server {
    /// A server for `/`, nothing special.
    pub(crate) fn new() -> Self {
        Start::new().start()
    }

    /// Another number for a connection, transaction or file.
    pub(crate) fn number(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    pub(crate) fn send(&mut self, packet: &ToServer<'_>) {
        self.peer.send(packet).unwrap();
    }

    /// Connects as `uid` (and a group of the same number) from node `nd`.
    pub(crate) fn connect_from(&mut self, nd: u32, claim: Option<Claim>) -> Result<u32> {
        self.connect_with(nd, claim, 0)
    }

    /// The same with rights.
    pub(crate) fn connect_with(&mut self, nd: u32, claim: Option<Claim>, flags: u32) -> Result<u32> {
        let conn = self.number();
        let claim = claim.map(|claim| Claim { nd, ..claim });
        self.send(&ToServer::Connect(ConnectPacket { conn, nd: 0, pid: 1, chid: 1, flags, claim }));
        self.answer(CONNECTION | u64::from(conn)).map(|_| conn)
    }

    pub(crate) fn connect(&mut self, uid: u32) -> Result<u32> {
        self.connect_from(2, Some(Claim::user(uid, uid, Vec::new())))
    }

    /// Connects as a user who may change files.
    pub(crate) fn connect_writer(&mut self, uid: u32) -> u32 {
        let claim = Claim::user(uid, uid, Vec::new());
        self.connect_with(2, Some(claim), right::WRITE).unwrap()
    }

    /// Connects as the user that runs the test, who may change files.
    pub(crate) fn connect_owner(&mut self) -> u32 {
        let claim = Claim::user(geteuid().as_raw(), getegid().as_raw(), Vec::new());
        self.connect_with(2, Some(claim), right::WRITE).unwrap()
    }

    /// Connects as the user that runs the test.
    pub(crate) fn connect_self(&mut self) -> u32 {
        let claim = Claim::user(geteuid().as_raw(), getegid().as_raw(), Vec::new());
        self.connect_from(2, Some(claim)).unwrap()
    }

    /// Begins a transaction.
    pub(crate) fn submit(&mut self, conn: u32, coid: i32, message: &[u8], room: u32) -> u32 {
        let txn = self.number();
        let head = Send { txn, conn, tid: 1, coid, ..Send::default() };
        let head = Send { srcmsglen: message.len() as u32, dstmsglen: room, ..head };
        let first = message.get(..MAX_DATA).unwrap_or(message);
        if first.len() < message.len() {
            self.long.insert(txn, message.to_vec());
        }
        self.send(&ToServer::Send(head, first));
        txn
    }

    /// The answer to a transaction.
    pub(crate) fn wait(&mut self, txn: u32) -> Result<Answer> {
        self.answer(txn.into())
    }

    pub(crate) fn call(&mut self, conn: u32, coid: i32, message: &[u8], room: u32) -> Result<Answer> {
        let txn = self.submit(conn, coid, message, room);
        self.wait(txn)
    }

    /// Whether a transaction was answered by now, after everything that has arrived is looked at.
    pub(crate) fn is_answered(&mut self, txn: u32) -> bool {
        self.receive(Some(Instant::now()));
        matches!(self.answers.get(&txn.into()), Some(answer) if !is_partial(answer))
    }

    fn answer(&mut self, key: u64) -> Result<Answer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.answers.get(&key).is_some_and(|answer| !is_partial(answer)) {
                return self.answers.remove(&key).unwrap();
            }
            assert!(Instant::now() < deadline, "no answer; the server says: {}", self.log());
            self.receive(Some(deadline));
        }
    }

    fn receive(&mut self, deadline: Option<Instant>) {
        if !self.peer.wait(deadline).unwrap() {
            return;
        }
        if self.peer.wants_write() {
            self.peer.flush().unwrap();
        }
        while let Some(packet) = self.peer.recv(&mut self.buffer).unwrap_or_else(|error| {
            panic!("{error}; the server says: {}", fs::read_to_string(&self.log).unwrap_or_default())
        }) {
            let ToClient::Read { txn, offset, nbytes } = packet else {
                note(&mut self.answers, packet);
                continue;
            };
            let message = self.long.get(&txn).unwrap_or_else(|| panic!("unexpected {packet:?}"));
            let from = message.len().min(offset as usize);
            let to = message.len().min(from + nbytes as usize);
            self.peer.send(&ToServer::ReadData { txn, offset, data: &message[from..to] }).unwrap();
        }
    }

    /// Answers the next Read of the server with what `message` holds there.
    pub(crate) fn feed(&mut self, message: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(self.peer.wait(Some(deadline)).unwrap(), "no Read; the server says: {}", self.log());
            match self.peer.recv(&mut self.buffer).unwrap() {
                Some(ToClient::Read { txn, offset, nbytes }) => {
                    let from = offset as usize;
                    let to = message.len().min(from + nbytes as usize);
                    let data = &message[from.min(to)..to];
                    return self.peer.send(&ToServer::ReadData { txn, offset, data }).unwrap();
                }
                Some(other) => note(&mut self.answers, other),
                None => {}
            }
        }
    }

    pub(crate) fn stat(&mut self, conn: u32, path: &str) -> Result<Stat> {
        self.stat_with(conn, path, false)
    }

    pub(crate) fn stat_with(&mut self, conn: u32, path: &str, follow: bool) -> Result<Stat> {
        let message = Io::Stat.to_bytes();
        let message = Connect::combine_close(path.as_bytes(), follow, &message).emit().unwrap();
        let answer = self.call(conn, 0, &message, REPLY_LEN as u32)?;
        let reply = StatReply::parse(&answer.data).unwrap();
        assert!(reply.wide);
        Ok(reply.stat)
    }

    pub(crate) fn readlink(&mut self, conn: u32, path: &str) -> Result<Vec<u8>> {
        let message = Connect::readlink(path.as_bytes()).emit().unwrap();
        self.call(conn, 0, &message, 4096).map(|answer| answer.data)
    }

    /// Opens for reading; the file's number.
    pub(crate) fn open(&mut self, conn: u32, path: &str) -> Result<i32> {
        self.open_with(conn, path, IOFLAG_LARGEFILE | IOFLAG_READ)
    }

    pub(crate) fn open_with(&mut self, conn: u32, path: &str, ioflag: u32) -> Result<i32> {
        let coid = self.number() as i32;
        let message = Connect::open(path.as_bytes(), ioflag, 0o644).emit().unwrap();
        self.call(conn, coid, &message, 0).map(|_| coid)
    }

    pub(crate) fn io(&mut self, conn: u32, coid: i32, io: &Io<'_>, room: u32) -> Result<Answer> {
        self.call(conn, coid, &io.to_bytes(), room)
    }

    pub(crate) fn read_at(&mut self, conn: u32, coid: i32, offset: u64, nbytes: u32) -> Result<Vec<u8>> {
        let read = Io::Read { nbytes, xtype: 0, offset: Some(offset) };
        let answer = self.io(conn, coid, &read, nbytes)?;
        assert_eq!(answer.status, answer.data.len() as i64);
        Ok(answer.data)
    }

    pub(crate) fn close(&mut self, conn: u32, coid: i32) -> Result<()> {
        self.io(conn, coid, &Io::Close, 0).map(drop)
    }

    /// All of a file.
    pub(crate) fn cat(&mut self, conn: u32, path: &str) -> Result<Vec<u8>> {
        let coid = self.open(conn, path)?;
        let mut content = Vec::new();
        let result = loop {
            match self.read_at(conn, coid, content.len() as u64, 128 * 1024) {
                Ok(data) if data.is_empty() => break Ok(content),
                Ok(data) => content.extend(data),
                Err(errno) => break Err(errno),
            }
        };
        self.close(conn, coid).unwrap();
        result
    }

    /// Names in a directory, with their types, read in pieces of `piece` bytes.
    pub(crate) fn list(&mut self, conn: u32, path: &str, piece: u32) -> Result<Vec<(Vec<u8>, Option<u32>)>> {
        let coid = self.open(conn, path)?;
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let read = Io::Read { nbytes: piece, xtype: XTYPE_DIR_EXTRA_HINT, offset: Some(cookie) };
            let answer = self.io(conn, coid, &read, piece)?;
            if answer.data.is_empty() {
                self.close(conn, coid)?;
                return Ok(names);
            }
            for entry in Dirents::new(&answer.data) {
                let entry = entry.unwrap();
                cookie = entry.next;
                names.push((entry.name.to_vec(), entry.file_type));
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the process has open below `dir`.
    pub(crate) fn descriptors(&self, dir: &Path) -> usize {
        let links = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        links
            .filter_map(|link| fs::read_link(link.unwrap().path()).ok())
            .filter(|to| to.starts_with(dir))
            .count()
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Closes the socket and waits for the server's end.
    pub(crate) fn finish(mut self) -> i32 {
        let (other, _socket) = qnet_ipc::pair().unwrap();
        drop(std::mem::replace(&mut self.peer, other));
        self.exit_code()
    }

    /// Asks the server to end, first as a terminal would, which is not meant for it.
    pub(crate) fn terminate(mut self) -> i32 {
        use nix::sys::signal::{Signal, kill};
        let pid = nix::unistd::Pid::from_raw(self.pid() as i32);
        kill(pid, Signal::SIGINT).unwrap();
        let conn = self.connect_self();
        self.stat(conn, "").unwrap();
        kill(pid, Signal::SIGTERM).unwrap();
        self.exit_code()
    }

    fn exit_code(&mut self) -> i32 {
        let status = until(|| self.child.try_wait().unwrap());
        status.code().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // already gone is fine
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "log of the server:\n{}", self.log());
        }
    }
}

/// A Write piece came, the Reply not yet.
fn is_partial(answer: &Result<Answer>) -> bool {
    matches!(answer, Ok(answer) if answer.status == i64::MIN)
}

fn note(answers: &mut HashMap<u64, Result<Answer>>, packet: ToClient<'_>) {
    let mut put = |txn: u32, offset: u32, data: &[u8], status: i64| {
        let partial = || Ok(Answer { status: i64::MIN, data: Vec::new() });
        let answer = answers.entry(txn.into()).or_insert_with(partial).as_mut().unwrap();
        assert_eq!(offset as usize, answer.data.len(), "pieces follow each other");
        answer.data.extend_from_slice(data);
        answer.status = status;
    };
    match packet {
        ToClient::ConnectOk { conn, .. } => {
            let answer = Ok(Answer { status: 0, data: Vec::new() });
            answers.insert(CONNECTION | u64::from(conn), answer);
        }
        ToClient::ConnectFail { conn, errno } => {
            answers.insert(CONNECTION | u64::from(conn), Err(errno));
        }
        ToClient::Write { txn, offset, data } => put(txn, offset, data, i64::MIN),
        ToClient::Reply { txn, status, offset, data } => put(txn, offset, data, status),
        ToClient::Error { txn, errno } | ToClient::Lost { txn, errno } => {
            answers.insert(txn.into(), Err(errno));
        }
        ToClient::Read { .. }
        | ToClient::Channel { .. }
        | ToClient::Received { .. }
        | ToClient::Event { .. }
        | ToClient::Death { .. } => {
            panic!("unexpected {packet:?}")
        }
    }
}

/// Polls until there is something.
pub(crate) fn until<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "nothing happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A directory that everybody may enter, for a test; what the test mounts below it goes with it.
pub(crate) struct PublicDir(TempDir);

pub(crate) fn public_dir() -> PublicDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    PublicDir(dir)
}

impl PublicDir {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for PublicDir {
    fn drop(&mut self) {
        // A mount point cannot be removed. The thread may have a mount namespace of its own.
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        for place in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(place).starts_with(self.path()) {
                let _ = umount2(place, MntFlags::MNT_DETACH);
            }
        }
    }
}
