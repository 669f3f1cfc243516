//! The network manager: node names and node descriptors.

mod naming;

pub use naming::{nd2s, ndtostr, node_cmp, path, remote_nd, signal, strtond};
pub use qnet_iomsg::meter;
use std::time::Duration;

pub use qnet_iomsg::netmgr::NodeState;
use qnet_iomsg::netmgr::{self, ADDRESS_CLASH, NAME_CLASH, RENAMED, Request, nodes};
use qnet_ipc::Root;

use crate::{Connection, Error};

/// Room for the list of nodes.
const NODES_ROOM: usize = 4 * 1024 * 1024;

/// Room for the statistics; the daemon writes at most half of it.
const STATISTICS_ROOM: usize = 1024 * 1024;

/// A node as this one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// This node's number for it; 0 is this node itself.
    pub nd: u32,
    /// What is known of it.
    pub state: NodeState,
    /// It calls itself by another name, which another node had when it came.
    pub renamed: bool,
    /// Another living node calls itself the same.
    pub name_clash: bool,
    /// Another living node has its address on a link.
    pub address_clash: bool,
    /// Name without domain.
    pub name: String,
    /// Domain, possibly empty.
    pub domain: String,
}

/// A node's sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// How long it took there and back.
    pub rtt: Duration,
    /// The link it took; empty for this node itself.
    pub link: String,
    /// The node's address there.
    pub addr: String,
}

/// A node that gave no sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// `EHOSTUNREACH`: no address is known for it, or it does not answer the set-up of a session. `EHOSTDOWN`: the session to
    /// it ended. `ETIMEDOUT`: no answer in time.
    pub errno: i32,
    /// Where it was asked: links, and the node's addresses there. One when the question was sent; when it was not, those by
    /// which the set-up of a session was tried.
    pub ways: Vec<(String, String)>,
}

/// A connection to the network manager of this node.
#[derive(Debug)]
pub struct Netmgr {
    connection: Connection,
}

impl Netmgr {
    /// Connects.
    ///
    /// # Errors
    /// `ENOTSUP` when the node runs no Qnet.
    pub fn attach(root: &Root) -> Result<Self, Error> {
        match Connection::attach(root, 0, 0, 0) {
            Ok(connection) => Ok(Self { connection }),
            Err(Error::Connect(error)) if error.errno() == libc::ESRCH => Err(Error::Errno(libc::ENOTSUP)),
            Err(error) => Err(error),
        }
    }

    /// A connection to the server of node `nd` (0 is this one), over the same socket.
    ///
    /// # Errors
    /// As [`Connection::attach`].
    pub fn server_of(&self, nd: u32) -> Result<Connection, Error> {
        self.connection.attach_beside(nd, 1, 1)
    }

    /// A connection to a channel of node `nd`, over the same socket.
    ///
    /// # Errors
    /// As [`Connection::attach`].
    pub fn connect(&self, nd: u32, pid: i32, chid: i32) -> Result<Connection, Error> {
        self.connection.attach_beside(nd, pid, chid)
    }

    /// The descriptor of a node, resolved on the network when it is not known yet.
    ///
    /// # Errors
    /// `ENOENT` when no node answers to the name.
    pub fn strtond(&self, name: &str) -> Result<u32, Error> {
        self.strtond_used(name).map(|(nd, _)| nd)
    }

    /// The same, and how many bytes of the text name the node: a path may go on behind it.
    ///
    /// # Errors
    /// As [`Netmgr::strtond`]; `EINVAL` when there is no such quality of service.
    #[doc(alias = "netmgr_strtond")]
    pub fn strtond_used(&self, text: &str) -> Result<(u32, usize), Error> {
        let mut used = [0; 4];
        let (status, len) = self.ask(&Request::Strtond { name: text.as_bytes() }, &mut used)?;
        let nd = u32::try_from(status).map_err(|_| Error::Errno(libc::EIO))?;
        // A Qnet that is older than this answer took all of the text for the name.
        let used = if len == used.len() { u32::from_le_bytes(used) as usize } else { text.len() };
        Ok((nd, used.min(text.len())))
    }

    /// Sends a signal, in this system's numbers, to thread `tid` (0: any) of process `pid` on another node; success means that
    /// it is on its way.
    ///
    /// # Errors
    /// `EHOSTUNREACH`: no such node. `EINVAL`: a signal that QNX has not, or this node.
    #[doc(alias = "SignalKill")]
    pub fn signal(
        &self,
        nd: u32,
        (pid, tid): (i32, i32),
        signo: i32,
        (code, value): (i32, i32),
    ) -> Result<(), Error> {
        let signo = qnet_iomsg::signal::linux_to_qnx(signo).ok_or(Error::Errno(libc::EINVAL))?;
        let signal = netmgr::Signal { nd, pid, tid, signo, code, value };
        self.ask(&Request::Signal(signal), &mut []).map(drop)
    }

    /// The name of a node.
    ///
    /// # Errors
    /// `ENOENT` when the descriptor names no node.
    #[doc(alias = "netmgr_ndtostr")]
    pub fn ndtostr(&self, flags: u32, nd: u32) -> Result<String, Error> {
        let mut text = [0; 1024];
        let (_, len) = self.ask(&Request::Ndtostr { flags, nd }, &mut text)?;
        Ok(String::from_utf8_lossy(&text[..len]).into_owned())
    }

    /// The descriptor by which node `remote` knows the node that is `local` here; both are descriptors of this node.
    ///
    /// # Errors
    /// `ENOENT` when one of them does not know the other, `EHOSTUNREACH` or `EHOSTDOWN` when `remote` is not reached.
    #[doc(alias = "netmgr_remote_nd")]
    pub fn remote_nd(&self, remote: u32, local: u32) -> Result<u32, Error> {
        let status = self.ask(&Request::RemoteNd { remote, local }, &mut [])?.0;
        u32::try_from(status).map_err(|_| Error::Errno(libc::EIO))
    }

    /// Sends everything that is unacknowledged again at once, to every node.
    ///
    /// # Errors
    /// The connection broke.
    #[doc(alias = "_NETMGR_QOS_FLUSH")]
    pub fn qos_flush(&self) -> Result<(), Error> {
        self.ask(&Request::QosFlush { nd: 0 }, &mut []).map(drop)
    }

    /// The nodes that this one knows, itself first.
    ///
    /// # Errors
    /// The connection broke.
    pub fn nodes(&self) -> Result<Vec<Node>, Error> {
        let mut data = vec![0; NODES_ROOM];
        let (_, len) = self.ask(&Request::Nodes, &mut data)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let owned = |node: &qnet_iomsg::netmgr::Node<'_>| Node {
            nd: node.nd,
            state: node.state,
            renamed: node.flags & RENAMED != 0,
            name_clash: node.flags & NAME_CLASH != 0,
            address_clash: node.flags & ADDRESS_CLASH != 0,
            name: text(node.name),
            domain: text(node.domain),
        };
        Ok(nodes(&data[..len])?.iter().map(owned).collect())
    }

    /// The node's statistics, a text for people that begins with the lines of QNX's `/proc/qnetstats`.
    ///
    /// # Errors
    /// The connection broke; `ENOSYS` from a Qnet that is older than this call.
    pub fn statistics(&self) -> Result<String, Error> {
        let mut text = vec![0; STATISTICS_ROOM];
        let (_, len) = self.ask(&Request::Stats, &mut text)?;
        text.truncate(len);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Measures the way to another node from inside the two `lsm-qnet`; returns when the time is over.
    ///
    /// # Errors
    /// `EPERM` for anybody but the owner of this node, or when the other node does not let this one connect
    /// (`allow=connect` there would); `EINVAL` for a plan beyond the bounds; `EBUSY` while other measurements run.
    pub fn meter(&self, plan: &meter::Plan) -> Result<meter::Outcome, Error> {
        let mut data = [0; 64];
        let (_, len) = self.ask(&Request::Meter(*plan), &mut data)?;
        Ok(meter::Outcome::parse(&data[..len])?)
    }

    /// Asks node `nd` for a sign of life, over `link` or the best one, and waits for at most `patience`.
    ///
    /// # Errors
    /// It could not be asked. `ENODEV`: it was never heard on that link. `ENOENT`: no such node. `EAGAIN`: too many questions
    /// are under way.
    pub fn ping(
        &self,
        nd: u32,
        link: Option<&str>,
        patience: Duration,
    ) -> Result<Result<Pong, Silence>, Error> {
        let patience = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let mut data = [0; 1024];
        let request = Request::Ping { nd, patience, link: link.unwrap_or_default().as_bytes() };
        let (status, len) = self.ask(&request, &mut data)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if let Ok(errno @ 1..) = i32::try_from(status) {
            let ways = netmgr::Pong::parse_all(&data[..len])?;
            let ways = ways.iter().map(|way| (text(way.link), text(way.addr))).collect();
            return Ok(Err(Silence { errno: qnet_iomsg::qnx_to_linux(errno), ways }));
        }
        let pong = netmgr::Pong::parse(&data[..len])?;
        let (link, addr) = (text(pong.link), text(pong.addr));
        Ok(Ok(Pong { rtt: Duration::from_nanos(pong.nanoseconds), link, addr }))
    }

    fn ask(&self, request: &Request<'_>, reply: &mut [u8]) -> Result<(i64, usize), Error> {
        let message = request.emit().map_err(|error| Error::Errno(error.linux_errno()))?;
        let reply = self.connection.send(&message, reply)?;
        Ok((reply.status, reply.len))
    }
}
