//! A fake `lsm-qnet` with a fake server behind every node: the other end of `ROOT/qnet.sock`.
//!
//! Small limits on purpose: few bytes of a message come with its Send, the rest must be read; a READ gives at most
//! [`MOST_AT_ONCE`] bytes.

use std::{
    collections::HashMap,
    io::Write,
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qnet_iomsg::{
    Connect, Dirent, DirentWriter, Extra, Io, Stat, Subtype, chain, filesys,
    flags::{IOFLAG_CREAT, IOFLAG_TRUNC, IOFLAG_WRITE},
    message,
    netmgr::{self, NodeState},
};
use qnet_ipc::{Listener, MAX_DATA, ReceiveBuffer, ServerPeer, ToClient, ToServer, packet};

use super::world::{Content, File, Host, World};

/// Message bytes that may come with a Send.
const LIMIT: u32 = 48;
/// Largest answer to a READ.
const MOST_AT_ONCE: usize = 100_000;

/// What to do besides answering.
enum Order {
    /// End all connections to this node.
    Cut(u32),
}

pub(crate) struct FakeQnet {
    orders: mpsc::Sender<Order>,
    /// A byte wakes the thread; closing it ends the thread.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl FakeQnet {
    pub(crate) fn start(path: &Path, world: Arc<Mutex<World>>) -> Self {
        let listener = Listener::at_path(path, 0o666).unwrap();
        let (wake, woken) = UnixStream::pair().unwrap();
        let (orders, inbox) = mpsc::channel();
        let thread = thread::spawn(move || run(&listener, &woken, &inbox, &world));
        Self { orders, wake: Some(wake), thread: Some(thread) }
    }

    /// The session with a node is lost: its callers get errors.
    pub(crate) fn cut(&self, nd: u32) {
        self.orders.send(Order::Cut(nd)).unwrap();
        self.wake.as_ref().unwrap().write_all(&[1]).unwrap();
    }
}

impl Drop for FakeQnet {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn run(listener: &Listener, woken: &UnixStream, inbox: &mpsc::Receiver<Order>, world: &Mutex<World>) {
    let mut clients: Vec<Client> = Vec::new();
    let mut buffer = ReceiveBuffer::new();
    loop {
        let mut watched = vec![
            PollFd::new(woken.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        for client in &clients {
            let mut interest = PollFlags::POLLIN;
            interest.set(PollFlags::POLLOUT, client.peer.wants_write());
            watched.push(PollFd::new(client.peer.as_fd(), interest));
        }
        poll(&mut watched, PollTimeout::NONE).unwrap();
        if watched[0].any().unwrap_or_default() {
            let mut byte = [0];
            if std::io::Read::read(&mut &*woken, &mut byte).unwrap() == 0 {
                return;
            }
        }
        drop(watched);
        while let Ok(Some((mut peer, identity))) = listener.accept() {
            peer.set_queue_limit(64 << 20);
            clients.push(Client { peer, uid: identity.uid, conns: HashMap::new(), txns: HashMap::new() });
        }
        while let Ok(Order::Cut(nd)) = inbox.try_recv() {
            clients.iter_mut().for_each(|client| client.cut(nd, &mut world.lock().unwrap()));
        }
        clients.retain_mut(|client| client.work(&mut buffer, world));
    }
}

/// A connection to a node's server, or (no caller) to the network manager.
struct Conn {
    nd: u32,
    uid: Option<u32>,
}

struct Txn {
    head: packet::Send,
    message: Vec<u8>,
}

struct Client {
    peer: ServerPeer,
    /// Whose process it is.
    uid: u32,
    conns: HashMap<u32, Conn>,
    txns: HashMap<u32, Txn>,
}

impl Client {
    /// Handles what has come; `false` when the client is gone.
    fn work(&mut self, buffer: &mut ReceiveBuffer, world: &Mutex<World>) -> bool {
        loop {
            let world = &mut world.lock().unwrap();
            match self.peer.recv(buffer) {
                Ok(None) => return self.peer.flush().is_ok(),
                Err(_) => return false,
                Ok(Some(packet)) => match packet {
                    ToServer::Connect(connect) => self.connect(connect, world),
                    ToServer::Send(head, data) => {
                        let txn = head.txn;
                        self.txns.insert(txn, Txn { head, message: data.to_vec() });
                        self.collect(txn, world);
                    }
                    ToServer::ReadData { txn, offset, data } => {
                        // Late data of a transaction whose connection was cut.
                        let Some(entry) = self.txns.get_mut(&txn) else { continue };
                        assert_eq!(entry.message.len(), offset as usize);
                        entry.message.extend_from_slice(data);
                        self.collect(txn, world);
                    }
                    ToServer::Unblock { txn, .. } => {
                        world.unblocked += 1;
                        if self.txns.remove(&txn).is_some() {
                            world.waiting = world.waiting.saturating_sub(1);
                            self.say(&ToClient::Error { txn, errno: libc::EINTR });
                        }
                    }
                    ToServer::Disconnect { conn } => {
                        self.conns.remove(&conn);
                        world.open.retain(|(at, _), _| *at != conn);
                    }
                    other => panic!("netfs does not send {other:?}"),
                },
            }
        }
    }

    fn say(&mut self, packet: &ToClient<'_>) {
        // A client that left is noticed when it is read.
        let _ = self.peer.send(packet);
    }

    fn connect(&mut self, connect: packet::Connect, world: &mut World) {
        let packet::Connect { conn, nd, pid, chid, claim, .. } = connect;
        let netmgr = (nd, pid, chid) == (0, 0, 0);
        assert!(netmgr || (pid, chid) == (1, 1), "netfs connects to a node's server");
        assert!(!netmgr || claim.is_none(), "netfs speaks for its callers to nodes only");
        if let Some(claim) = &claim {
            world.groups.clone_from(&claim.groups);
        }
        let uid = (!netmgr).then(|| claim.map_or(self.uid, |claim| claim.euid));
        self.conns.insert(conn, Conn { nd, uid });
        self.say(&ToClient::ConnectOk { conn, scoid: 1, limit: LIMIT });
    }

    /// Fetches the rest of a message, then answers it.
    fn collect(&mut self, txn: u32, world: &mut World) {
        let Txn { head, message } = &self.txns[&txn];
        let have = u32::try_from(message.len()).unwrap();
        if have < head.srcmsglen {
            let nbytes = (head.srcmsglen - have).min(MAX_DATA as u32);
            return self.say(&ToClient::Read { txn, offset: have, nbytes });
        }
        let (head, message) = (*head, message.clone());
        let answer = match self.conns.get(&head.conn) {
            // Sent before the client heard that the connection has ended.
            None => Some(Err(libc::EBADF)),
            Some(Conn { uid: None, .. }) => Some(ask_netmgr(&message, world)),
            Some(Conn { nd, uid: Some(uid) }) => ask_node(*nd, *uid, &head, &message, world),
        };
        let Some(answer) = answer else {
            world.waiting += 1;
            return;
        };
        self.txns.remove(&txn);
        match answer {
            Err(errno) => self.say(&ToClient::Error { txn, errno }),
            Ok((status, data)) => self.reply(txn, status, &data),
        }
    }

    fn reply(&mut self, txn: u32, status: i64, data: &[u8]) {
        let mut pieces: Vec<_> = data.chunks(MAX_DATA).collect();
        let last = pieces.pop().unwrap_or_default();
        let mut offset = 0;
        for piece in pieces {
            self.say(&ToClient::Write { txn, offset, data: piece });
            offset += piece.len() as u32;
        }
        self.say(&ToClient::Reply { txn, status, offset, data: last });
    }

    fn cut(&mut self, nd: u32, world: &mut World) {
        let conns: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.nd == nd && conn.uid.is_some())
            .map(|(id, _)| *id)
            .collect();
        for conn in conns {
            let gone: Vec<_> =
                self.txns.iter().filter(|(_, txn)| txn.head.conn == conn).map(|(id, _)| *id).collect();
            for txn in gone {
                self.txns.remove(&txn);
                world.waiting = world.waiting.saturating_sub(1);
                self.say(&ToClient::Lost { txn, errno: libc::EHOSTDOWN });
            }
            self.conns.remove(&conn);
            world.open.retain(|(at, _), _| *at != conn);
            self.say(&ToClient::Death { conn });
        }
    }
}

type Answer = Result<(i64, Vec<u8>), i32>;

fn ask_netmgr(message: &[u8], world: &mut World) -> Answer {
    match netmgr::Request::parse(message).unwrap() {
        netmgr::Request::Strtond { name } => {
            let name = String::from_utf8_lossy(name).into_owned();
            world.asked.push(format!("resolve {name}"));
            let found = world
                .hosts
                .iter()
                .find(|host| name == host.name || name == format!("{}.{}", host.name, host.domain));
            found.map(|host| (i64::from(host.nd), Vec::new())).ok_or(libc::ENOENT)
        }
        netmgr::Request::Nodes => {
            let mut out = Vec::new();
            for host in world.hosts.iter().filter(|host| host.listed) {
                let (name, domain) = (host.name.as_bytes(), host.domain.as_bytes());
                netmgr::Node { nd: host.nd, state: NodeState::Known, flags: 0, name, domain }
                    .emit(&mut out)
                    .unwrap();
            }
            Ok((0, out))
        }
        other => panic!("netfs does not ask {other:?}"),
    }
}

/// `None`: no answer, yet or ever.
fn ask_node(nd: u32, uid: u32, head: &packet::Send, message: &[u8], world: &mut World) -> Option<Answer> {
    let host = world.by_nd(nd)?;
    let name = host.name.clone();
    let key = (head.conn, head.coid);
    if message::peek_type(message) == Some(qnet_iomsg::message_type::CONNECT) {
        let connect = Connect::parse(message).unwrap();
        let path = String::from_utf8(connect.path.to_vec()).unwrap();
        world.asked.push(format!("{uid} {name} {path}"));
        let host = world.by_nd(nd).filter(|host| host.alive)?;
        if !host.may_reach(uid, &path) {
            return Some(Err(libc::EACCES));
        }
        if changes(&connect) {
            return Some(Err(libc::EROFS));
        }
        let Some(file) = host.files.get(&path) else { return Some(Err(libc::ENOENT)) };
        let answer = on_connect(&connect, file);
        if answer.is_ok() && connect.subtype == Subtype::Combine {
            let opened = world.open.insert(key, (nd, path));
            assert!(opened.is_none(), "this number is in use");
        }
        return Some(answer);
    }
    if !host.alive {
        return None;
    }
    let Some((_, path)) = world.open.get(&key) else { return Some(Err(libc::EBADF)) };
    let Some(file) = host.files.get(path) else { return Some(Err(libc::ENOENT)) };
    match chain(message).next().unwrap().unwrap().0 {
        Io::Stat => Some(Ok((0, file.stat().emit(head.dstmsglen as usize)))),
        Io::Read { nbytes, offset, .. } => on_read(host, path, file, nbytes, offset.unwrap_or_default()),
        Io::Close => {
            world.open.remove(&key);
            Some(Ok((0, Vec::new())))
        }
        other => panic!("netfs does not send {other:?}"),
    }
}

/// The fake nodes are read-only, as one is whose `export=` says so.
fn changes(connect: &Connect<'_>) -> bool {
    let by_flags = connect.ioflag & (IOFLAG_WRITE | IOFLAG_CREAT | IOFLAG_TRUNC) != 0;
    let by_messages = match connect.extra {
        Extra::Messages(messages) => {
            chain(messages).any(|io| io.unwrap().0.changes()) || filesys::by_path(messages).unwrap().is_some()
        }
        _ => false,
    };
    let by_name =
        matches!(connect.subtype, Subtype::Unlink | Subtype::Mknod | Subtype::Link | Subtype::Rename);
    by_flags || by_messages || by_name
}

fn on_connect(connect: &Connect<'_>, file: &File) -> Answer {
    match (connect.subtype, &file.content) {
        (Subtype::Readlink, Content::Link(target)) => Ok((0, target.clone().into_bytes())),
        (Subtype::Readlink, _) => Err(libc::EINVAL),
        (Subtype::Combine | Subtype::CombineClose, _) => {
            assert!(connect.subtype == Subtype::Combine || connect.is_nofollow());
            assert!(matches!(connect.extra, Extra::Messages(_)));
            let stat: Stat = file.stat();
            Ok((0, stat.emit(usize::MAX)))
        }
        (other, _) => panic!("netfs does not connect for {other:?}"),
    }
}

fn on_read(host: &Host, path: &str, file: &File, nbytes: u32, offset: u64) -> Option<Answer> {
    let data = match &file.content {
        Content::Blocking => return None,
        Content::Link(_) => return Some(Err(libc::EINVAL)),
        Content::Directory => return Some(entries(host, path, nbytes, offset)),
        Content::File(data) | Content::Stream(data) => data,
    };
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
    let most = (nbytes as usize).min(MOST_AT_ONCE).min(data.len() - from);
    Some(Ok((most as i64, data[from..from + most].to_vec())))
}

fn entries(host: &Host, path: &str, nbytes: u32, offset: u64) -> Answer {
    let mut writer = DirentWriter::new(nbytes as usize, true);
    let own = [".", ".."].map(|name| (name.to_owned(), host.files[path].clone()));
    let names = own.into_iter().chain(host.names_in(path));
    for (number, (name, file)) in names.enumerate().skip(offset as usize) {
        let file_type = Some(file.stat().mode);
        if !writer.push(&Dirent {
            ino: file.ino,
            next: number as u64 + 1,
            name: name.as_bytes(),
            file_type,
            stat: None,
        }) {
            break;
        }
    }
    let data = writer.finish();
    Ok((data.len() as i64, data))
}
