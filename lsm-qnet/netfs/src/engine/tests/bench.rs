//! Both ends of an engine, for scripts.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

use qnet_iomsg::{Connect, Io, Stat, chain, netmgr, stat};
use qnet_ipc::{Listener, ReceiveBuffer, ServerPeer, ToClient, ToServer, packet::Send};
use tempfile::TempDir;
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    caller::ReadGroups,
    engine::{Cache, Config, Engine, Symlinks},
    fuse::{
        Opcode, READ_BUFFER, ROOT_ID,
        abi::{EntryOut, ForgetIn, InHeader, InterruptIn, OpenIn, OpenOut, OutHeader, ReadIn, ReleaseIn},
    },
    link::Link,
};

pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// A thread that lives on after a signal, until [`DIES`].
pub(super) const ALIVE: u32 = 7;

thread_local! {
    /// [`ALIVE`] has got a signal that ends it.
    pub(super) static DIES: Cell<bool> = const { Cell::new(false) };
}

/// What the engine said to `lsm-qnet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Connect { conn: u32, nd: u32, uid: Option<u32> },
    Send { txn: u32, conn: u32, coid: i32, message: Vec<u8> },
    Unblock { txn: u32 },
    Disconnect { conn: u32 },
}

/// What the engine said to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) unique: u64,
    pub(super) error: i32,
    pub(super) body: Vec<u8>,
}

pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    /// Who asks.
    pub(super) uid: u32,
    pub(super) thread: u32,
    pub(super) peer: Option<ServerPeer>,
    /// Whether connections are granted as they are asked for.
    pub(super) grants: bool,
    listener: Listener,
    buffer: ReceiveBuffer,
    last_unique: u64,
    _root: TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::make(None, |_, _| Vec::new())
    }

    /// One whose callers have groups.
    pub(super) fn with_groups(groups_of: ReadGroups) -> Self {
        Self::make(None, groups_of)
    }

    /// One that shows another network directory than the default one.
    pub(super) fn in_directory(path: &str) -> Self {
        Self::make(Some(path.as_bytes().to_vec()), |_, _| Vec::new())
    }

    fn make(shown: Option<Vec<u8>>, groups_of: ReadGroups) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("qnet.sock");
        let listener = Listener::at_path(&path, 0o600).unwrap();
        let config = Config {
            directory: shown,
            mount: b"/net".to_vec(),
            symlinks: Symlinks::Node,
            cache: Cache::CloseToOpen,
            deadline: DEADLINE,
            owner: (0, 0),
            since: SystemTime::UNIX_EPOCH,
            groups_of,
            is_dying: |thread| thread != ALIVE || DIES.get(),
        };
        let engine = Engine::new(config, Link::new(path, 1));
        let now = Instant::now();
        let mut bench = Self {
            engine,
            now,
            uid: 1000,
            thread: 4242,
            peer: None,
            grants: true,
            listener,
            buffer: ReceiveBuffer::new(),
            last_unique: 0,
            _root: root,
        };
        bench.engine.handle_timeout(now);
        bench
    }

    /// Sends a request and returns its number.
    pub(super) fn ask(&mut self, opcode: Opcode, nodeid: u64, body: &[u8]) -> u64 {
        self.last_unique += 2;
        let header = InHeader {
            len: (size_of::<InHeader>() + body.len()) as u32,
            opcode: opcode as u32,
            unique: self.last_unique,
            nodeid,
            uid: self.uid,
            gid: 100,
            pid: self.thread,
            ..InHeader::default()
        };
        let mut request = [header.as_bytes(), body].concat();
        let len = request.len();
        if len > 64 * 1024 {
            // As long as the one that serve() reads into.
            request.resize(READ_BUFFER, 0);
        }
        self.engine.handle_request(self.now, &mut request, len);
        assert!(request.len() >= len, "there is a buffer for the next request");
        self.last_unique
    }

    pub(super) fn lookup(&mut self, parent: u64, name: &str) -> u64 {
        self.ask(Opcode::Lookup, parent, format!("{name}\0").as_bytes())
    }

    pub(super) fn open(&mut self, nodeid: u64) -> u64 {
        self.ask(Opcode::Open, nodeid, OpenIn::default().as_bytes())
    }

    pub(super) fn read(&mut self, fh: u64, size: u32) -> u64 {
        self.ask(Opcode::Read, 0, ReadIn { fh, size, ..ReadIn::default() }.as_bytes())
    }

    pub(super) fn release(&mut self, fh: u64) -> u64 {
        self.ask(Opcode::Release, 0, ReleaseIn { fh, ..ReleaseIn::default() }.as_bytes())
    }

    pub(super) fn interrupt(&mut self, unique: u64) {
        self.ask(Opcode::Interrupt, 0, InterruptIn { unique }.as_bytes());
    }

    pub(super) fn forget(&mut self, nodeid: u64, nlookup: u64) {
        self.ask(Opcode::Forget, nodeid, ForgetIn { nlookup }.as_bytes());
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.engine.handle_timeout(self.now);
    }

    /// Everything the engine has said to the kernel since the last call.
    pub(super) fn answers(&mut self) -> Vec<Answer> {
        std::iter::from_fn(|| self.engine.poll_reply())
            .map(|reply| {
                let (header, body) = OutHeader::read_from_prefix(&reply).unwrap();
                assert_eq!(header.len as usize, reply.len());
                Answer { unique: header.unique, error: -header.error, body: body.to_vec() }
            })
            .collect()
    }

    /// The one thing the engine has said to the kernel.
    #[track_caller]
    pub(super) fn answer(&mut self) -> Answer {
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// Everything the engine has said to `lsm-qnet` since the last call. Connections are granted on the way.
    pub(super) fn heard(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        if self.peer.is_none() {
            self.peer = self.listener.accept().unwrap().map(|(peer, _)| peer);
        }
        loop {
            let Some(peer) = &mut self.peer else { return heard };
            let mut granted = None;
            match peer.recv(&mut self.buffer) {
                Ok(None) => return heard,
                Err(_) => {
                    self.peer = None;
                    return heard;
                }
                Ok(Some(packet)) => heard.push(match packet {
                    ToServer::Connect(connect) => {
                        granted = Some(connect.conn);
                        let uid = connect.claim.map(|claim| claim.euid);
                        Heard::Connect { conn: connect.conn, nd: connect.nd, uid }
                    }
                    ToServer::Send(Send { txn, conn, coid, .. }, data) => {
                        Heard::Send { txn, conn, coid, message: data.to_vec() }
                    }
                    ToServer::Unblock { txn, .. } => Heard::Unblock { txn },
                    ToServer::Disconnect { conn } => Heard::Disconnect { conn },
                    other => panic!("unexpected: {other:?}"),
                }),
            }
            if let Some(conn) = granted.filter(|_| self.grants) {
                self.say(&ToClient::ConnectOk { conn, scoid: 1, limit: 65536 });
            }
        }
    }

    /// Says something as `lsm-qnet`.
    pub(super) fn say(&mut self, packet: &ToClient<'_>) {
        self.peer.as_mut().unwrap().send(packet).unwrap();
        self.engine.handle_link(self.now, usize::MAX);
    }

    pub(super) fn reply(&mut self, txn: u32, status: i64, data: &[u8]) {
        self.say(&ToClient::Reply { txn, status, offset: 0, data });
    }

    pub(super) fn error(&mut self, txn: u32, errno: i32) {
        self.say(&ToClient::Error { txn, errno });
    }

    /// Says that the connection of a transaction is gone.
    pub(super) fn lose(&mut self, txn: u32) {
        self.say(&ToClient::Lost { txn, errno: libc::EHOSTDOWN });
    }

    /// The next messages sent, as (txn, coid, message), connections granted.
    pub(super) fn sends(&mut self) -> Vec<(u32, i32, Vec<u8>)> {
        self.heard()
            .into_iter()
            .filter_map(|heard| match heard {
                Heard::Send { txn, coid, message, .. } => Some((txn, coid, message)),
                _ => None,
            })
            .collect()
    }

    /// The one message that was sent.
    #[track_caller]
    pub(super) fn sent(&mut self) -> (u32, i32, Vec<u8>) {
        let mut sends = self.sends();
        assert_eq!(sends.len(), 1, "{sends:?}");
        sends.remove(0)
    }

    /// Looks a node up; its number is 5.
    #[track_caller]
    pub(super) fn node(&mut self, name: &str) -> u64 {
        self.numbered_node(name, 5)
    }

    /// Looks a node up that has this number.
    #[track_caller]
    pub(super) fn numbered_node(&mut self, name: &str, nd: u32) -> u64 {
        let unique = self.lookup(ROOT_ID, name);
        let (txn, _, message) = self.sent();
        assert_eq!(netmgr::Request::parse(&message), Ok(netmgr::Request::Strtond { name: name.as_bytes() }));
        self.reply(txn, nd.into(), b"");
        self.entry(unique).nodeid
    }

    /// Looks a file up that has these attributes. Answers the question for its directory's permissions as well.
    #[track_caller]
    pub(super) fn file(&mut self, parent: u64, name: &str, stat: &Stat) -> EntryOut {
        let unique = self.lookup(parent, name);
        let (txn, _, message) = self.sent();
        assert!(Connect::parse(&message).unwrap().path.ends_with(name.as_bytes()));
        self.reply(txn, 0, &stat.emit(stat::REPLY_LEN));
        for (txn, _, _) in self.sends() {
            self.reply(txn, 0, &directory(0o755).emit(stat::REPLY_LEN));
        }
        self.entry(unique)
    }

    /// Opens a file that has these attributes; its handle.
    #[track_caller]
    pub(super) fn open_with(&mut self, nodeid: u64, args: OpenIn, stat: &Stat) -> u64 {
        let unique = self.ask(Opcode::Open, nodeid, args.as_bytes());
        let (txn, ..) = self.sent();
        self.reply(txn, 0, &stat.emit(stat::REPLY_LEN));
        OpenOut::read_from_bytes(&self.answer_to(unique).body).unwrap().fh
    }

    /// Opens a file that has these attributes, for reading; its number there and its handle.
    #[track_caller]
    pub(super) fn opened(&mut self, nodeid: u64, stat: &Stat) -> (i32, u64) {
        let unique = self.open(nodeid);
        let (txn, coid, _) = self.sent();
        self.reply(txn, 0, &stat.emit(stat::REPLY_LEN));
        let answer = self.answers().into_iter().find(|answer| answer.unique == unique).unwrap();
        assert_eq!(answer.error, 0);
        (coid, OpenOut::read_from_bytes(&answer.body).unwrap().fh)
    }

    /// The answer to a request, among what else was said.
    #[track_caller]
    pub(super) fn answer_to(&mut self, unique: u64) -> Answer {
        let answers = self.answers();
        let found = answers.iter().find(|answer| answer.unique == unique);
        found.unwrap_or_else(|| panic!("{unique}: {answers:?}")).clone()
    }

    /// The bytes of a message that were asked for with `ToClient::Read`.
    #[track_caller]
    pub(super) fn rest(&mut self) -> Vec<u8> {
        match self.peer.as_mut().unwrap().recv(&mut self.buffer).unwrap() {
            Some(ToServer::ReadData { data, .. }) => data.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn entry(&mut self, unique: u64) -> EntryOut {
        let answer = self.answer();
        assert_eq!((answer.unique, answer.error), (unique, 0));
        EntryOut::read_from_bytes(&answer.body).unwrap()
    }
}

pub(super) fn directory(permissions: u32) -> Stat {
    Stat { mode: libc::S_IFDIR | permissions, ino: 2, dev: (8, 1), nlink: 2, ..Stat::default() }
}

pub(super) fn regular(ino: u64, size: u64) -> Stat {
    Stat { mode: libc::S_IFREG | 0o644, ino, dev: (8, 1), size, nlink: 1, ..Stat::default() }
}

pub(super) fn ended(unique: u64, error: i32) -> Answer {
    Answer { unique, error, body: vec![] }
}

/// The message is a CLOSE.
pub(super) fn is_close(message: &[u8]) -> bool {
    matches!(chain(message).next(), Some(Ok((Io::Close, _))))
}
