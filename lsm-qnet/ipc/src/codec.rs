//! Packets as bytes.
//!
//! ```text
//!  0      2      4          8
//!  | verb | zero | id       | fixed part by verb ... | data to the end of the packet |
//! ```
//!
//! `id` is the connection or the transaction. All numbers are little-endian, so that 32-bit and foreign user space on
//! one kernel agree. Decoding is total: any bytes give a value or a [`DecodeError`]; no length in a packet makes it
//! allocate more than the packet itself holds (a claim's groups) and nothing panics.

use thiserror::Error;

use crate::{
    MAX_DATA, MAX_GROUPS, MAX_LENT,
    packet::{Claim, Connect, Hello, Pulse, Send, Sigevent, ToClient, ToServer},
};

/// First word of a hello.
const HELLO_MAGIC: u32 = u32::from_le_bytes(*b"qnet");

/// First 16 bits of a packet. Clients' verbs are below 0x20, servers' above; both may say hello. From 0x40 on the ends
/// themselves talk to each other, unheard by their owners.
mod verb {
    pub(super) const HELLO: u16 = 0x01;
    pub(super) const CONNECT: u16 = 0x02;
    pub(super) const SEND: u16 = 0x03;
    pub(super) const READ_DATA: u16 = 0x04;
    pub(super) const READ_ERROR: u16 = 0x05;
    pub(super) const UNBLOCK: u16 = 0x06;
    pub(super) const PULSE: u16 = 0x07;
    pub(super) const DISCONNECT: u16 = 0x08;
    pub(super) const CREDENTIALS: u16 = 0x09;
    pub(super) const CONNECT_OK: u16 = 0x21;
    pub(super) const CONNECT_FAIL: u16 = 0x22;
    pub(super) const READ: u16 = 0x23;
    pub(super) const WRITE: u16 = 0x24;
    pub(super) const REPLY: u16 = 0x25;
    pub(super) const ERROR: u16 = 0x26;
    pub(super) const DEATH: u16 = 0x27;
    pub(super) const EVENT: u16 = 0x28;
    pub(super) const CHANNEL: u16 = 0x29;
    pub(super) const RECEIVED: u16 = 0x2a;
    pub(super) const LOST: u16 = 0x2b;
    pub(super) const RING_OFFER: u16 = 0x41;
    pub(super) const RING_ANSWER: u16 = 0x42;
    pub(super) const RING_SWITCH: u16 = 0x43;
    pub(super) const BELL: u16 = 0x44;
}

/// A packet that breaks the rules. The connection that carried it is not worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The packet ends inside its fixed part.
    #[error("packet of {len} bytes ends inside its fixed part")]
    Short {
        /// Bytes of the packet.
        len: usize,
    },
    /// No such verb, or one that only the other side may use.
    #[error("verb {verb:#06x} is unknown or not allowed from this side")]
    Verb {
        /// As received.
        verb: u16,
    },
    /// A field holds a value that it must not have.
    #[error("{field} is {value}, which is not allowed")]
    Field {
        /// Its name.
        field: &'static str,
        /// As received.
        value: u64,
    },
    /// Bytes follow a packet that carries no data.
    #[error("{extra} bytes too many after the packet")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// Writes the header and fixed parts of one packet.
struct Writer<'h>(&'h mut Vec<u8>);

impl<'h> Writer<'h> {
    fn new(head: &'h mut Vec<u8>, verb: u16, id: u32) -> Self {
        head.clear();
        head.extend_from_slice(&verb.to_le_bytes());
        head.extend_from_slice(&[0; 2]);
        Self(head).u32(id)
    }

    fn i16(self, value: i16) -> Self {
        self.u16(value.cast_unsigned())
    }

    fn u16(self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u32(self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn i32(self, value: i32) -> Self {
        self.u32(value.cast_unsigned())
    }

    fn u64(self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}

/// Reads the header and fixed parts of one packet.
struct Reader<'p> {
    rest: &'p [u8],
    len: usize,
}

impl<'p> Reader<'p> {
    /// The reader behind the header, the verb and the id.
    fn new(packet: &'p [u8]) -> Result<(Self, u16, u32), DecodeError> {
        let mut reader = Self { rest: packet, len: packet.len() };
        let verb = u16::from_le_bytes(reader.take()?);
        let zero = u16::from_le_bytes(reader.take()?);
        let id = reader.u32()?;
        match zero {
            0 => Ok((reader, verb, id)),
            value => Err(DecodeError::Field { field: "the reserved word", value: value.into() }),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short { len: self.len })?;
        self.rest = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.take().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_le_bytes)
    }

    /// An error number: above zero, as `errno` has them.
    fn errno(&mut self) -> Result<i32, DecodeError> {
        match self.i32()? {
            errno @ 1..=4095 => Ok(errno),
            value => Err(DecodeError::Field { field: "errno", value: value.cast_unsigned().into() }),
        }
    }

    /// The message data: all that is left.
    fn data(self) -> Result<&'p [u8], DecodeError> {
        match self.rest.len() {
            0..=MAX_LENT => Ok(self.rest),
            len => Err(DecodeError::Field { field: "length of the data", value: len as u64 }),
        }
    }

    fn end(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }
}

impl<'a> ToServer<'a> {
    /// Reads a packet as a server does.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are none.
    pub fn decode(packet: &'a [u8]) -> Result<Self, DecodeError> {
        decode_to_server(packet)
    }

    /// The packet as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let data = encode_to_server(self, &mut bytes);
        bytes.extend_from_slice(data);
        bytes
    }
}

impl<'a> ToClient<'a> {
    /// Reads a packet as a client does.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are none.
    pub fn decode(packet: &'a [u8]) -> Result<Self, DecodeError> {
        decode_to_client(packet)
    }

    /// The packet as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let data = encode_to_client(self, &mut bytes);
        bytes.extend_from_slice(data);
        bytes
    }
}

/// Writes a hello into `head`.
pub(crate) fn encode_hello(hello: Hello, head: &mut Vec<u8>) {
    Writer::new(head, verb::HELLO, HELLO_MAGIC).u16(hello.version).u16(0).u64(hello.abilities);
}

/// Reads a hello. Later versions may append to it, so bytes behind it are ignored.
pub(crate) fn decode_hello(packet: &[u8]) -> Result<Hello, DecodeError> {
    let (mut reader, verb, magic) = Reader::new(packet)?;
    if verb != verb::HELLO {
        return Err(DecodeError::Verb { verb });
    }
    if magic != HELLO_MAGIC {
        return Err(DecodeError::Field { field: "the magic of the hello", value: magic.into() });
    }
    let version = reader.u16()?;
    reader.u16()?;
    Ok(Hello { version, abilities: reader.u64()? })
}

/// What the ends say to each other about the ring between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inner {
    /// From the client, with the descriptor of the memory: let us use a ring of this layout.
    Offer { layout: u32 },
    /// From the server: with errno 0 its next packet is in the ring, else everything stays as it is.
    Answer { errno: u32 },
    /// From the client: its next packet is in the ring.
    Switch,
    /// Look into the ring.
    Bell,
}

/// [`Inner::Bell`] as it stands on the socket.
pub(crate) const BELL: [u8; 8] = (verb::BELL as u64).to_le_bytes();

pub(crate) fn encode_inner(inner: Inner, head: &mut Vec<u8>) {
    match inner {
        Inner::Offer { layout } => Writer::new(head, verb::RING_OFFER, layout),
        Inner::Answer { errno } => Writer::new(head, verb::RING_ANSWER, errno),
        Inner::Switch => Writer::new(head, verb::RING_SWITCH, 0),
        Inner::Bell => Writer::new(head, verb::BELL, 0),
    };
}

/// How a packet between the ends begins.
pub(crate) fn inner_verb(inner: Inner) -> u16 {
    match inner {
        Inner::Offer { .. } => verb::RING_OFFER,
        Inner::Answer { .. } => verb::RING_ANSWER,
        Inner::Switch => verb::RING_SWITCH,
        Inner::Bell => verb::BELL,
    }
}

/// The packet, if it is one between the ends.
pub(crate) fn decode_inner(packet: &[u8]) -> Result<Option<Inner>, DecodeError> {
    let (reader, verb, id) = Reader::new(packet)?;
    let inner = match verb {
        verb::RING_OFFER => Inner::Offer { layout: id },
        verb::RING_ANSWER => Inner::Answer { errno: id },
        verb::RING_SWITCH => Inner::Switch,
        verb::BELL => Inner::Bell,
        _ => return Ok(None),
    };
    reader.end()?;
    Ok(Some(inner))
}

/// Whether `lent` bytes may stand for the data of a packet, which carries none itself.
pub(crate) fn check_lent_to_server(packet: &ToServer<'_>, lent: usize) -> Result<(), DecodeError> {
    match packet {
        ToServer::Send(send, data) if data.is_empty() && lent > send.srcmsglen as usize => {
            Err(DecodeError::Field { field: "length of the message", value: send.srcmsglen.into() })
        }
        ToServer::Send(_, data) | ToServer::ReadData { data, .. } if data.is_empty() => Ok(()),
        _ => Err(DecodeError::Trailing { extra: lent }),
    }
}

/// As [`check_lent_to_server`].
pub(crate) fn check_lent_to_client(packet: &ToClient<'_>, lent: usize) -> Result<(), DecodeError> {
    match packet {
        ToClient::Write { data: [], .. } | ToClient::Reply { data: [], .. } => Ok(()),
        _ => Err(DecodeError::Trailing { extra: lent }),
    }
}

/// Writes the head of a client's packet into `head`; returns the data that follows it on the socket.
pub(crate) fn encode_to_server<'a>(packet: &ToServer<'a>, head: &mut Vec<u8>) -> &'a [u8] {
    match packet {
        ToServer::Connect(connect) => {
            encode_connect(connect, head);
            &[]
        }
        ToServer::Send(send, data) => {
            let writer = Writer::new(head, verb::SEND, send.txn).u32(send.conn).i32(send.tid).i32(send.coid);
            writer
                .i32(send.priority)
                .u32(send.srcmsglen)
                .u32(send.dstmsglen)
                .u32(send.keydata)
                .u32(send.srcnd)
                .u32(send.flags);
            data
        }
        ToServer::ReadData { txn, offset, data } => {
            Writer::new(head, verb::READ_DATA, *txn).u32(*offset);
            data
        }
        ToServer::ReadError { txn, offset, errno } => {
            Writer::new(head, verb::READ_ERROR, *txn).u32(*offset).i32(*errno);
            &[]
        }
        ToServer::Unblock { txn, tid } => {
            Writer::new(head, verb::UNBLOCK, *txn).i32(*tid);
            &[]
        }
        ToServer::Pulse(pulse) => {
            let writer = Writer::new(head, verb::PULSE, pulse.conn).i32(pulse.code.into());
            writer.i32(pulse.priority).u64(pulse.value);
            &[]
        }
        ToServer::Disconnect { conn } => {
            Writer::new(head, verb::DISCONNECT, *conn);
            &[]
        }
        ToServer::Credentials { conn, flags, claim } => {
            encode_claim(Writer::new(head, verb::CREDENTIALS, *conn).u32(*flags), claim);
            &[]
        }
    }
}

fn encode_connect(connect: &Connect, head: &mut Vec<u8>) {
    let writer = Writer::new(head, verb::CONNECT, connect.conn).u32(connect.nd).i32(connect.pid);
    let writer = writer.i32(connect.chid).u32(connect.flags).u32(connect.claim.is_some().into());
    if let Some(claim) = &connect.claim {
        encode_claim(writer, claim);
    }
}

fn encode_claim(writer: Writer<'_>, claim: &Claim) {
    let writer = writer.u32(claim.nd).i32(claim.pid).i32(claim.sid);
    let writer = writer.u32(claim.ruid).u32(claim.euid).u32(claim.suid);
    let writer = writer.u32(claim.rgid).u32(claim.egid).u32(claim.sgid);
    let groups = &claim.groups[..claim.groups.len().min(MAX_GROUPS)];
    let mut writer = writer.u32(groups.len() as u32);
    for group in groups {
        writer = writer.u32(*group);
    }
}

/// Reads a client's packet.
pub(crate) fn decode_to_server(packet: &[u8]) -> Result<ToServer<'_>, DecodeError> {
    let (mut reader, verb, id) = Reader::new(packet)?;
    let value = match verb {
        verb::CONNECT => ToServer::Connect(decode_connect(&mut reader, id)?),
        verb::SEND => return decode_send(reader, id),
        verb::READ_DATA => {
            return Ok(ToServer::ReadData { txn: id, offset: reader.u32()?, data: reader.data()? });
        }
        verb::READ_ERROR => ToServer::ReadError { txn: id, offset: reader.u32()?, errno: reader.errno()? },
        verb::UNBLOCK => ToServer::Unblock { txn: id, tid: reader.i32()? },
        verb::PULSE => {
            let code = reader.i32()?;
            let code = i8::try_from(code).map_err(|_| DecodeError::Field {
                field: "pulse code",
                value: code.cast_unsigned().into(),
            })?;
            ToServer::Pulse(Pulse { conn: id, code, priority: reader.i32()?, value: reader.u64()? })
        }
        verb::DISCONNECT => ToServer::Disconnect { conn: id },
        verb::CREDENTIALS => {
            let flags = reader.u32()?;
            ToServer::Credentials { conn: id, flags, claim: decode_claim(&mut reader)? }
        }
        verb => return Err(DecodeError::Verb { verb }),
    };
    reader.end()?;
    Ok(value)
}

fn decode_connect(reader: &mut Reader<'_>, conn: u32) -> Result<Connect, DecodeError> {
    let (nd, pid, chid, flags) = (reader.u32()?, reader.i32()?, reader.i32()?, reader.u32()?);
    let claim = match reader.u32()? {
        0 => None,
        1 => Some(decode_claim(reader)?),
        value => return Err(DecodeError::Field { field: "presence of a claim", value: value.into() }),
    };
    Ok(Connect { conn, nd, pid, chid, flags, claim })
}

fn decode_claim(reader: &mut Reader<'_>) -> Result<Claim, DecodeError> {
    let mut claim = Claim {
        nd: reader.u32()?,
        pid: reader.i32()?,
        sid: reader.i32()?,
        ruid: reader.u32()?,
        euid: reader.u32()?,
        suid: reader.u32()?,
        rgid: reader.u32()?,
        egid: reader.u32()?,
        sgid: reader.u32()?,
        groups: Vec::new(),
    };
    let n = reader.u32()?;
    if n as usize > MAX_GROUPS {
        return Err(DecodeError::Field { field: "number of groups", value: n.into() });
    }
    for _ in 0..n {
        claim.groups.push(reader.u32()?);
    }
    Ok(claim)
}

fn decode_event(reader: &mut Reader<'_>) -> Result<Sigevent, DecodeError> {
    let (notify, id, value) = (reader.u32()?, reader.i32()?, reader.u64()?);
    let (code, priority) = (reader.u16()?.cast_signed(), reader.u16()?.cast_signed());
    Ok(Sigevent { notify, id, value, code, priority })
}

fn decode_send(mut reader: Reader<'_>, txn: u32) -> Result<ToServer<'_>, DecodeError> {
    let send = Send {
        txn,
        conn: reader.u32()?,
        tid: reader.i32()?,
        coid: reader.i32()?,
        priority: reader.i32()?,
        srcmsglen: reader.u32()?,
        dstmsglen: reader.u32()?,
        keydata: reader.u32()?,
        srcnd: reader.u32()?,
        flags: reader.u32()?,
    };
    let data = reader.data()?;
    if data.len() > send.srcmsglen as usize {
        return Err(DecodeError::Field { field: "length of the message", value: send.srcmsglen.into() });
    }
    Ok(ToServer::Send(send, data))
}

/// Writes the head of a server's packet into `head`; returns the data that follows it on the socket.
pub(crate) fn encode_to_client<'a>(packet: &ToClient<'a>, head: &mut Vec<u8>) -> &'a [u8] {
    match *packet {
        ToClient::ConnectOk { conn, scoid, limit } => {
            Writer::new(head, verb::CONNECT_OK, conn).i32(scoid).u32(limit);
            &[]
        }
        ToClient::ConnectFail { conn, errno } => {
            Writer::new(head, verb::CONNECT_FAIL, conn).i32(errno);
            &[]
        }
        ToClient::Read { txn, offset, nbytes } => {
            Writer::new(head, verb::READ, txn).u32(offset).u32(nbytes);
            &[]
        }
        ToClient::Write { txn, offset, data } => {
            Writer::new(head, verb::WRITE, txn).u32(offset);
            data
        }
        ToClient::Reply { txn, status, offset, data } => {
            Writer::new(head, verb::REPLY, txn).u64(status.cast_unsigned()).u32(offset);
            data
        }
        ToClient::Error { txn, errno } => {
            Writer::new(head, verb::ERROR, txn).i32(errno);
            &[]
        }
        ToClient::Lost { txn, errno } => {
            Writer::new(head, verb::LOST, txn).i32(errno);
            &[]
        }
        ToClient::Channel { conn, flags } => {
            Writer::new(head, verb::CHANNEL, conn).u32(flags);
            &[]
        }
        ToClient::Received { txn } => {
            Writer::new(head, verb::RECEIVED, txn);
            &[]
        }
        ToClient::Event { conn, event } => {
            let writer = Writer::new(head, verb::EVENT, conn).u32(event.notify).i32(event.id);
            writer.u64(event.value).i16(event.code).i16(event.priority);
            &[]
        }
        ToClient::Death { conn } => {
            Writer::new(head, verb::DEATH, conn);
            &[]
        }
    }
}

/// Reads a server's packet.
pub(crate) fn decode_to_client(packet: &[u8]) -> Result<ToClient<'_>, DecodeError> {
    let (mut reader, verb, id) = Reader::new(packet)?;
    let value = match verb {
        verb::CONNECT_OK => {
            let (scoid, limit) = (reader.i32()?, reader.u32()?);
            if limit == 0 || limit as usize > MAX_LENT {
                return Err(DecodeError::Field { field: "limit", value: limit.into() });
            }
            ToClient::ConnectOk { conn: id, scoid, limit }
        }
        verb::CONNECT_FAIL => ToClient::ConnectFail { conn: id, errno: reader.errno()? },
        verb::READ => {
            let (offset, nbytes) = (reader.u32()?, reader.u32()?);
            if nbytes as usize > MAX_DATA {
                return Err(DecodeError::Field { field: "bytes to read", value: nbytes.into() });
            }
            ToClient::Read { txn: id, offset, nbytes }
        }
        verb::WRITE => return Ok(ToClient::Write { txn: id, offset: reader.u32()?, data: reader.data()? }),
        verb::REPLY => {
            let status = reader.u64()?.cast_signed();
            return Ok(ToClient::Reply { txn: id, status, offset: reader.u32()?, data: reader.data()? });
        }
        verb::ERROR => ToClient::Error { txn: id, errno: reader.errno()? },
        verb::LOST => ToClient::Lost { txn: id, errno: reader.errno()? },
        verb::CHANNEL => ToClient::Channel { conn: id, flags: reader.u32()? },
        verb::RECEIVED => ToClient::Received { txn: id },
        verb::EVENT => ToClient::Event { conn: id, event: decode_event(&mut reader)? },
        verb::DEATH => ToClient::Death { conn: id },
        verb => return Err(DecodeError::Verb { verb }),
    };
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
