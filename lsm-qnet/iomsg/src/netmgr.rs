//! `_IO_MSG` requests to the network manager (`/dev/netmgr` on QNX, nd 0 pid 0 chid 0 here).
//!
//! STRTOND turns a node's name into its descriptor, NDTOSTR back, REMOTE_ND into the number another
//! node uses, QOS_FLUSH sends at once what waits for its acknowledgement. NODES (ours) lists the nodes this
//! one knows, its own first with nd 0; LIST (ours) lists them for one network directory, FORGET (ours) takes one off the list;
//! STATS (ours) gives the statistics as a text for people, PING (ours) tells
//! whether a node answers, SIGNAL (ours) sends a signal to a process of a node (`SignalKill`):
//!
//! ```text
//! NODES reply: records of  nd u32, state u16, flags u16, name_len u16, domain_len u16, name, domain
//! LIST reply: a record without a name, whose domain is the directory's; then as NODES
//! STATS reply: the text; status: its length
//! PING:        nd u32, patience u32 (milliseconds), name of a link with its NUL, or only the NUL for the best one
//! STRTOND reply: how many bytes of the text name the node, u32; status: the nd
//! SIGNAL:      nd u32, pid, tid, signo (QNX's number), code, value i32 each; the reply tells that it is on its way
//! PING reply:  nanoseconds u64, link_len u16, addr_len u16, name of the link, address there as a text; with a status other
//!              than 0 (QNX's errno) nobody answered: such a record, of 0 nanoseconds, for each link that was tried
//! ```

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::message::Io;
use crate::meter;
use crate::{BuildError, ParseError, take, until_nul};

/// The network manager's id in `_IO_MSG`.
pub const MGRID: u16 = 0x0e;

const REMOTE_ND: u16 = 1;
const STRTOND: u16 = 2;
const NDTOSTR: u16 = 3;
const QOS_FLUSH: u16 = 0x100;
const NODES: u16 = 0xf001;
const STATS: u16 = 0xf002;
const PING: u16 = 0xf005;
const METER: u16 = 0xf010;
const LIST: u16 = 0xf003;
const FORGET: u16 = 0xf004;
const SIGNAL: u16 = 0xf006;

/// Longest node name in a request, with domain and quality of service.
pub const NAME_MAX: usize = 1024;

/// Longest name of a link.
pub const LINK_MAX: usize = 64;

/// A signal for a process of another node (`SignalKill`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signal {
    /// The node.
    pub nd: u32,
    /// The process there.
    pub pid: i32,
    /// Its thread; 0: any.
    pub tid: i32,
    /// QNX's number of the signal, see [`crate::signal`].
    pub signo: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_value`.
    pub value: i32,
}

/// A request to the network manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Node name → nd, which is the reply's status. Waits for the name's resolution.
    Strtond {
        /// Name, optionally with domain and `~qos`.
        name: &'a [u8],
    },
    /// nd → text, which is the reply's data (without a NUL).
    Ndtostr {
        /// `ND2S_*`.
        flags: u32,
        /// The node.
        nd: u32,
    },
    /// The nd by which node `remote` knows our node `local`; the reply's status.
    RemoteNd {
        /// The node that is asked.
        remote: u32,
        /// The node it is asked about.
        local: u32,
    },
    /// Forget what is known about the links of a node.
    QosFlush {
        /// The node; 0 is all.
        nd: u32,
    },
    /// The nodes this one knows; the reply is read with [`nodes`].
    Nodes,
    /// The statistics of this node; the reply's data is the text of `/net/.qnetstats`.
    Stats,
    /// Does the node answer? With status 0 the reply is a [`Pong`]; with EHOSTUNREACH, EHOSTDOWN or ETIMEDOUT as status there
    /// was no answer, and it has a record for each way that was tried. Error: ENODEV for a link on which the node was never
    /// heard.
    Ping {
        /// The node.
        nd: u32,
        /// How long to wait, in milliseconds.
        patience: u32,
        /// The link to take, by its name; empty: the best one.
        link: &'a [u8],
    },
    /// Sends a signal. EHOSTUNREACH: no such node. Whether it is delivered is not told.
    Signal(Signal),
    /// Measure the way to a node; the reply is a [`meter::Outcome`].
    Meter(meter::Plan),
    /// The same nodes as they are listed in a network directory: the reply begins with a record
    /// without a name, whose domain is the one that the directory's bare names are of.
    List {
        /// Path of the directory.
        directory: &'a [u8],
    },
    /// Takes a node off the list (`rmdir /net/NODE`): EBUSY for the own one, EPERM for callers who
    /// are neither root nor the node's owner.
    Forget {
        /// Its name, as STRTOND takes it.
        name: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// Reads the request out of a whole `_IO_MSG` message.
    ///
    /// # Errors
    /// Not an `_IO_MSG`, another manager's, an unknown subtype, a body that is too short or a name
    /// that is too long.
    pub fn parse(message: &'a [u8]) -> Result<Self, ParseError> {
        let (subtype, data) = Io::parse_for(MGRID, message)?;
        let two = |what| take::<[U32; 2]>(data, what).map(|(words, _)| (words[0].get(), words[1].get()));
        Ok(match subtype {
            STRTOND => Self::Strtond { name: text(data)? },
            LIST => Self::List { directory: text(data)? },
            FORGET => Self::Forget { name: text(data)? },
            NDTOSTR => two("NDTOSTR").map(|(flags, nd)| Self::Ndtostr { flags, nd })?,
            REMOTE_ND => two("REMOTE_ND").map(|(remote, local)| Self::RemoteNd { remote, local })?,
            QOS_FLUSH => Self::QosFlush { nd: take::<U32>(data, "QOS_FLUSH")?.0.get() },
            NODES => Self::Nodes,
            STATS => Self::Stats,
            PING => {
                let ([nd, patience], link) = take::<[U32; 2]>(data, "PING")?;
                let link = until_nul(link, "link")?;
                if link.len() > LINK_MAX {
                    return Err(ParseError::Invalid { what: "link", value: link.len() as u64 });
                }
                Self::Ping { nd: nd.get(), patience: patience.get(), link }
            }
            SIGNAL => {
                let ([nd, pid, tid, signo, code, value], _) = take::<[U32; 6]>(data, "SIGNAL")?;
                let signed = |word: U32| word.get().cast_signed();
                Self::Signal(Signal {
                    nd: nd.get(),
                    pid: signed(pid),
                    tid: signed(tid),
                    signo: signed(signo),
                    code: signed(code),
                    value: signed(value),
                })
            }
            METER => Self::Meter(meter::Plan::parse(data)?),
            _ => return Err(ParseError::Unknown { what: "netmgr subtype", value: subtype.into() }),
        })
    }

    /// The whole `_IO_MSG` message.
    ///
    /// # Errors
    /// A name that is too long or contains a NUL.
    pub fn emit(&self) -> Result<Vec<u8>, BuildError> {
        let mut data = Vec::new();
        let subtype = match *self {
            Self::Strtond { name } | Self::Forget { name } | Self::List { directory: name } => {
                if name.len() > NAME_MAX {
                    return Err(BuildError::TooLong { what: "node name", len: name.len(), max: NAME_MAX });
                }
                if name.contains(&0) {
                    return Err(BuildError::Nul { what: "node name" });
                }
                data.extend_from_slice(name);
                data.push(0);
                match self {
                    Self::Forget { .. } => FORGET,
                    Self::List { .. } => LIST,
                    _ => STRTOND,
                }
            }
            Self::Ndtostr { flags, nd } => {
                data.extend_from_slice([U32::new(flags), U32::new(nd)].as_bytes());
                NDTOSTR
            }
            Self::RemoteNd { remote, local } => {
                data.extend_from_slice([U32::new(remote), U32::new(local)].as_bytes());
                REMOTE_ND
            }
            Self::QosFlush { nd } => {
                data.extend_from_slice(U32::new(nd).as_bytes());
                QOS_FLUSH
            }
            Self::Nodes => NODES,
            Self::Stats => STATS,
            Self::Ping { nd, patience, link } => {
                if link.len() > LINK_MAX {
                    return Err(BuildError::TooLong { what: "link", len: link.len(), max: LINK_MAX });
                }
                if link.contains(&0) {
                    return Err(BuildError::Nul { what: "link" });
                }
                data.extend_from_slice([U32::new(nd), U32::new(patience)].as_bytes());
                data.extend_from_slice(link);
                data.push(0);
                PING
            }
            Self::Signal(Signal { nd, pid, tid, signo, code, value }) => {
                let words = [nd, pid.cast_unsigned(), tid.cast_unsigned(), signo.cast_unsigned()];
                let more = [code.cast_unsigned(), value.cast_unsigned()];
                data.extend_from_slice(words.map(U32::new).as_bytes());
                data.extend_from_slice(more.map(U32::new).as_bytes());
                SIGNAL
            }
            Self::Meter(plan) => {
                plan.emit(&mut data);
                METER
            }
        };
        Ok(Io::Msg { mgrid: MGRID, subtype, data: &data }.to_bytes())
    }
}

/// A name or path of a request.
fn text(data: &[u8]) -> Result<&[u8], ParseError> {
    let text = until_nul(data, "node name")?;
    if text.len() > NAME_MAX {
        return Err(ParseError::Invalid { what: "node name", value: text.len() as u64 });
    }
    Ok(text)
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Its name and address are known, nothing more.
    Known,
    /// There is a session with it.
    Up,
    /// It does not answer.
    Down,
    /// A number of a later version.
    Other(u16),
}

impl From<u16> for NodeState {
    fn from(value: u16) -> Self {
        match value {
            0 => Self::Known,
            1 => Self::Up,
            2 => Self::Down,
            other => Self::Other(other),
        }
    }
}

impl From<NodeState> for u16 {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Known => 0,
            NodeState::Up => 1,
            NodeState::Down => 2,
            NodeState::Other(other) => other,
        }
    }
}

/// Flag of a [`Node`]: it calls itself by another name, which was taken when it came.
pub const RENAMED: u16 = 1;
/// Flag of a [`Node`]: another living node calls itself the same.
pub const NAME_CLASH: u16 = 2;
/// Flag of a [`Node`]: another living node has its address on a link.
pub const ADDRESS_CLASH: u16 = 4;

/// One record of the NODES reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node<'a> {
    /// This node's number for it; 0 is this node itself.
    pub nd: u32,
    /// What is known of it.
    pub state: NodeState,
    /// [`RENAMED`], [`NAME_CLASH`], [`ADDRESS_CLASH`].
    pub flags: u16,
    /// Name without domain.
    pub name: &'a [u8],
    /// Domain, possibly empty.
    pub domain: &'a [u8],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct NodeHead {
    nd: U32,
    state: U16,
    flags: U16,
    name_len: U16,
    domain_len: U16,
}

impl Node<'_> {
    /// Appends the record to a reply.
    ///
    /// # Errors
    /// A name or domain longer than its 16-bit length.
    pub fn emit(&self, out: &mut Vec<u8>) -> Result<(), BuildError> {
        let max = usize::from(u16::MAX);
        let len = |what, text: &[u8]| {
            u16::try_from(text.len()).map_err(|_| BuildError::TooLong { what, len: text.len(), max })
        };
        let head = NodeHead {
            nd: U32::new(self.nd),
            state: U16::new(self.state.into()),
            flags: U16::new(self.flags),
            name_len: U16::new(len("node name", self.name)?),
            domain_len: U16::new(len("domain", self.domain)?),
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.name);
        out.extend_from_slice(self.domain);
        Ok(())
    }
}

/// The reply of PING.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong<'a> {
    /// There and back, in nanoseconds.
    pub nanoseconds: u64,
    /// The link it took.
    pub link: &'a [u8],
    /// The node's address there, as a text.
    pub addr: &'a [u8],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PongHead {
    nanoseconds: U64,
    link_len: U16,
    addr_len: U16,
}

impl<'a> Pong<'a> {
    /// The reply's data.
    ///
    /// # Errors
    /// A text longer than its 16-bit length.
    pub fn emit(&self) -> Result<Vec<u8>, BuildError> {
        let max = usize::from(u16::MAX);
        let len = |what, text: &[u8]| {
            u16::try_from(text.len()).map_err(|_| BuildError::TooLong { what, len: text.len(), max })
        };
        let head = PongHead {
            nanoseconds: U64::new(self.nanoseconds),
            link_len: U16::new(len("link", self.link)?),
            addr_len: U16::new(len("address", self.addr)?),
        };
        Ok([head.as_bytes(), self.link, self.addr].concat())
    }

    /// Reads the reply's data.
    ///
    /// # Errors
    /// It is cut.
    pub fn parse(data: &'a [u8]) -> Result<Self, ParseError> {
        Ok(Self::take(data)?.0)
    }

    /// Reads the data of a reply that tells which ways were tried.
    ///
    /// # Errors
    /// A record is cut.
    pub fn parse_all(mut data: &'a [u8]) -> Result<Vec<Self>, ParseError> {
        let mut records = Vec::new();
        while !data.is_empty() {
            let (record, rest) = Self::take(data)?;
            records.push(record);
            data = rest;
        }
        Ok(records)
    }

    fn take(data: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let (head, rest) = take::<PongHead>(data, "PING reply")?;
        let (link, addr) = (usize::from(head.link_len.get()), usize::from(head.addr_len.get()));
        let short = ParseError::Short { what: "PING reply", need: link + addr, have: rest.len() };
        let (texts, rest) = rest.split_at_checked(link + addr).ok_or(short)?;
        let (link, addr) = texts.split_at(link);
        Ok((Self { nanoseconds: head.nanoseconds.get(), link, addr }, rest))
    }
}

/// The records of a NODES reply.
///
/// # Errors
/// A record that is cut.
pub fn nodes(mut data: &[u8]) -> Result<Vec<Node<'_>>, ParseError> {
    let mut nodes = Vec::new();
    while !data.is_empty() {
        let (head, rest) = take::<NodeHead>(data, "node record")?;
        let name_len = usize::from(head.name_len.get());
        let need = name_len + usize::from(head.domain_len.get());
        let short = ParseError::Short { what: "node record", need, have: rest.len() };
        let (texts, rest) = rest.split_at_checked(need).ok_or(short)?;
        let (name, domain) = texts.split_at(name_len);
        nodes.push(Node {
            nd: head.nd.get(),
            state: head.state.get().into(),
            flags: head.flags.get(),
            name,
            domain,
        });
        data = rest;
    }
    Ok(nodes)
}
