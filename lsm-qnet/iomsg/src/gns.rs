//! `_IO_MSG` requests to a `gns`: the global names of all nodes. All of it is ours.
//!
//! LOOKUP asks for the channels that have a name. SYNC is what the gns of one node tells that of another: all global names
//! that its own node offers, each time; the answer holds those of all nodes, unless nothing changed since the caller's last
//! SYNC. So a lost, repeated or late message does no harm, and a new server knows everything after one from each node. CHANGED
//! asks the own node's gns to look at what the node offers.
//!
//! ```text
//! LOOKUP: name with its NUL          reply: instances
//! SYNC:   flags u32 (1: a server)  zero u32  known u64, then names offered: instances without a node
//! reply:  generation u64  nservers u32  zero u32, then the servers (name_len u16, name), then instances
//! CHANGED: nothing                   reply: nothing
//!
//! instance: pid u32  chid u32  node_len u16  name_len u16, node, name
//! ```
//!
//! Nodes are fully qualified names: a number means something on one node only.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::message::Io;
use crate::{BuildError, ParseError, take, until_nul};

/// The id of these requests in `_IO_MSG`, one of those that QNX leaves to everybody.
pub const MGRID: u16 = 0xf001;
/// Most bytes of an answer.
pub const MAX_REPLY: usize = 1024 * 1024;
/// Most bytes of the names that one node offers.
pub const MAX_OFFER: usize = 256 * 1024;

const LOOKUP: u16 = 1;
const SYNC: u16 = 2;
const CHANGED: u16 = 3;
const FLAG_SERVER: u32 = 1;

/// A request to a gns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// Which channels have that name? The reply is read with [`instances`].
    Lookup {
        /// The name.
        name: &'a [u8],
    },
    /// What the caller's node offers; the reply is a [`Table`].
    Sync {
        /// The caller is a server itself.
        server: bool,
        /// Generation of the table that the caller has; 0: none.
        known: u64,
        /// The names, their nodes empty.
        offered: Vec<Instance<'a>>,
    },
    /// The names that the own node offers are others now.
    Changed,
}

/// A channel that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Its node, fully qualified.
    pub node: &'a [u8],
    /// Its process.
    pub pid: i32,
    /// Its number there.
    pub chid: i32,
}

/// What a server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<'a> {
    /// Number of this state of the table, never 0.
    pub generation: u64,
    /// All servers that it knows, itself included, fully qualified.
    pub servers: Vec<&'a [u8]>,
    /// All names; empty when the caller knew this generation.
    pub instances: Vec<Instance<'a>>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Record {
    pid: U32,
    chid: U32,
    node_len: U16,
    name_len: U16,
}

impl<'a> Request<'a> {
    /// Reads the request out of a whole `_IO_MSG` message.
    ///
    /// # Errors
    /// Not an `_IO_MSG`, another manager's, an unknown subtype, a body that ends early.
    pub fn parse(message: &'a [u8]) -> Result<Self, ParseError> {
        let (subtype, data) = Io::parse_for(MGRID, message)?;
        Ok(match subtype {
            LOOKUP => Self::Lookup { name: until_nul(data, "name")? },
            SYNC => {
                let ([flags, _], rest) = take::<[U32; 2]>(data, "SYNC")?;
                let (known, rest) = take::<U64>(rest, "SYNC")?;
                let server = flags.get() & FLAG_SERVER != 0;
                Self::Sync { server, known: known.get(), offered: instances(rest)? }
            }
            CHANGED => Self::Changed,
            _ => return Err(ParseError::Unknown { what: "gns subtype", value: subtype.into() }),
        })
    }

    /// The whole `_IO_MSG` message.
    ///
    /// # Errors
    /// A name with a NUL; more names than [`MAX_OFFER`] bytes hold.
    pub fn emit(&self) -> Result<Vec<u8>, BuildError> {
        let mut data = Vec::new();
        let subtype = match self {
            Self::Lookup { name } => {
                if name.contains(&0) {
                    return Err(BuildError::Nul { what: "name" });
                }
                data.extend_from_slice(name);
                data.push(0);
                LOOKUP
            }
            Self::Sync { server, known, offered } => {
                let flags = if *server { FLAG_SERVER } else { 0 };
                data.extend_from_slice([U32::new(flags), U32::ZERO].as_bytes());
                data.extend_from_slice(U64::new(*known).as_bytes());
                offered.iter().for_each(|instance| instance.emit(&mut data));
                if data.len() > MAX_OFFER {
                    return Err(BuildError::TooLong { what: "names", len: data.len(), max: MAX_OFFER });
                }
                SYNC
            }
            Self::Changed => CHANGED,
        };
        Ok(Io::Msg { mgrid: MGRID, subtype, data: &data }.to_bytes())
    }
}

impl Instance<'_> {
    /// Appends the record, unless a name is longer than 65,535 bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (Ok(node_len), Ok(name_len)) = (u16::try_from(self.node.len()), u16::try_from(self.name.len()))
        else {
            return;
        };
        let record = Record {
            pid: U32::new(self.pid.cast_unsigned()),
            chid: U32::new(self.chid.cast_unsigned()),
            node_len: U16::new(node_len),
            name_len: U16::new(name_len),
        };
        out.extend_from_slice(record.as_bytes());
        out.extend_from_slice(self.node);
        out.extend_from_slice(self.name);
    }
}

/// The records that fill `bytes`.
///
/// # Errors
/// The last one ends early.
pub fn instances(mut bytes: &[u8]) -> Result<Vec<Instance<'_>>, ParseError> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = take::<Record>(bytes, "instance")?;
        let (node, rest) = text(rest, record.node_len, "node")?;
        let (name, rest) = text(rest, record.name_len, "name")?;
        let (pid, chid) = (record.pid.get().cast_signed(), record.chid.get().cast_signed());
        all.push(Instance { name, node, pid, chid });
        bytes = rest;
    }
    Ok(all)
}

impl<'a> Table<'a> {
    /// Reads the answer to a SYNC.
    ///
    /// # Errors
    /// It ends early.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (generation, rest) = take::<U64>(bytes, "SYNC reply")?;
        let ([count, _], mut rest) = take::<[U32; 2]>(rest, "SYNC reply")?;
        let mut servers = Vec::new();
        for _ in 0..count.get() {
            let (len, after) = take::<U16>(rest, "server")?;
            let (server, after) = text(after, len, "server")?;
            servers.push(server);
            rest = after;
        }
        Ok(Self { generation: generation.get(), servers, instances: instances(rest)? })
    }

    /// The bytes of the answer.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = U64::new(self.generation).as_bytes().to_vec();
        let servers = self.servers.iter().filter_map(|name| Some((u16::try_from(name.len()).ok()?, name)));
        out.extend_from_slice([U32::new(servers.clone().count() as u32), U32::ZERO].as_bytes());
        for (len, name) in servers {
            out.extend_from_slice(U16::new(len).as_bytes());
            out.extend_from_slice(name);
        }
        self.instances.iter().for_each(|instance| instance.emit(&mut out));
        out
    }
}

fn text<'a>(bytes: &'a [u8], len: U16, what: &'static str) -> Result<(&'a [u8], &'a [u8]), ParseError> {
    let need = usize::from(len.get());
    bytes.split_at_checked(need).ok_or(ParseError::Short { what, need, have: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered() -> Vec<Instance<'static>> {
        vec![
            Instance { name: b"plant/valve", node: b"", pid: 77, chid: 1 },
            Instance { name: b"pump", node: b"joseph.lab", pid: 4711, chid: 0x7fff_ffff },
        ]
    }

    #[test]
    fn requests_read_as_they_were_written() {
        for request in [
            Request::Lookup { name: b"plant/valve" },
            Request::Sync { server: true, known: 1 << 60, offered: offered() },
            Request::Sync { server: false, known: 0, offered: Vec::new() },
            Request::Changed,
        ] {
            let bytes = request.emit().unwrap();
            assert_eq!(Request::parse(&bytes), Ok(request));
        }
    }

    #[test]
    fn a_table_reads_as_it_was_written_and_no_part_of_it_does() {
        let table = Table { generation: 9, servers: vec![b"one.lab", b""], instances: offered() };
        let bytes = table.emit();
        assert_eq!(Table::parse(&bytes), Ok(table.clone()));
        // Whole records are a table that is shorter; everything else is none.
        let whole = [table.instances.len(), 1, 0].map(|count| {
            Table { instances: table.instances[..count].to_vec(), ..table.clone() }.emit().len()
        });
        for len in 0..bytes.len() {
            assert_eq!(Table::parse(&bytes[..len]).is_ok(), whole.contains(&len), "{len} bytes");
        }
    }

    #[test]
    fn counts_that_lie_cost_nothing() {
        let mut bytes = Table { generation: 1, servers: Vec::new(), instances: Vec::new() }.emit();
        bytes[8..12].fill(0xff);
        assert!(matches!(Table::parse(&bytes), Err(ParseError::Short { .. })));
    }

    #[test]
    fn a_name_with_a_nul_and_too_many_names_are_not_sent() {
        assert!(matches!(Request::Lookup { name: b"a\0b" }.emit(), Err(BuildError::Nul { .. })));
        let offered = vec![Instance { name: &[b'n'; 1000], node: b"", pid: 1, chid: 1 }; 300];
        let error = Request::Sync { server: false, known: 0, offered }.emit();
        assert!(matches!(error, Err(BuildError::TooLong { .. })));
    }
}
