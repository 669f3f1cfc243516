//! Local message channels: how programs of one node speak QNX messages to each other, to `lsm-qnet` and to its helpers.
//!
//! A channel is a `SOCK_SEQPACKET` Unix socket. Its packets mirror the kernel-interface messages of Qnet one to one, so
//! that a message from another node reaches a server exactly as a local one does.
//!
//! ```text
//!  client                                             server
//!    │ Hello ─────────────────────────────────── Hello  │   versions and abilities, first packet of both
//!    │ Connect{conn} ──────────────────────────────────▶│
//!    │◀───────────────────── ConnectOk{conn} or ConnectFail
//!    │ Send{conn, txn, first data} ────────────────────▶│
//!    │◀──────────────────────────────── Read{txn, …}  ┐ │   any number of times
//!    │ ReadData{txn, …} ───────────────────────────── │▶│
//!    │◀──────────────────────────────── Write{txn, …} ┘ │
//!    │◀────────────────────────── Reply{txn} or Error{txn}
//!    │ Unblock{txn} · Pulse{conn} · Disconnect{conn} ──▶│
//!    │◀────────────────────── Event{conn} · Death{conn} │
//! ```
//!
//! [`packet`] is what may be said, [`Peer`] one end of a connection, [`Listener`] waits for new ones, [`Root`] and
//! [`ChannelAddress`] say where everything is found, [`PeerIdentity`] who is at the other end. Nothing here blocks
//! (except [`Peer::wait`], for programs without an event loop) and nothing here knows about wire formats of networks.
//!
//! Both roles over a socket pair, as `lsm-qnet` and `qnet-server` use them:
//!
//! ```
//! use qnet_ipc::{ReceiveBuffer, ServerPeer, ToClient, ToServer, packet::{Connect, Send}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut client, descriptor) = qnet_ipc::pair()?;      // the server inherits the descriptor as number 3
//! let mut server = ServerPeer::new(descriptor)?;
//! let mut buffer = ReceiveBuffer::new();
//!
//! client.send(&ToServer::Connect(Connect { conn: 1, nd: 0, pid: 1, chid: 1, flags: 0, claim: None }))?;
//! let Some(ToServer::Connect(connect)) = server.recv(&mut buffer)? else { panic!("a Connect was sent") };
//! server.send(&ToClient::ConnectOk { conn: connect.conn, scoid: 1, limit: qnet_ipc::MAX_DATA as u32 })?;
//! assert!(matches!(client.recv(&mut buffer)?, Some(ToClient::ConnectOk { conn: 1, .. })));
//!
//! // A message of 10 bytes whose first piece carries 4: the server asks for the rest.
//! let head = Send { txn: 5, conn: 1, tid: 1, srcmsglen: 10, dstmsglen: 100, ..Send::default() };
//! client.send(&ToServer::Send(head, b"0123"))?;
//! let Some(ToServer::Send(got, first)) = server.recv(&mut buffer)? else { panic!("a Send was sent") };
//! let rest = got.srcmsglen - first.len() as u32;
//! server.send(&ToClient::Read { txn: got.txn, offset: 4, nbytes: rest })?;
//! let Some(ToClient::Read { txn, offset, nbytes: 6 }) = client.recv(&mut buffer)? else { panic!("a Read was sent") };
//! client.send(&ToServer::ReadData { txn, offset, data: b"456789" })?;
//! assert!(matches!(server.recv(&mut buffer)?, Some(ToServer::ReadData { data: b"456789", .. })));
//!
//! server.send(&ToClient::Reply { txn, status: 0, offset: 0, data: b"thanks" })?;
//! assert!(matches!(client.recv(&mut buffer)?, Some(ToClient::Reply { data: b"thanks", .. })));
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod address;
mod codec;
pub mod names;
pub mod packet;
mod peer;
mod ring;
mod root;
mod signals;
mod socket;
mod sys;
mod wait;

pub use address::{ChannelAddress, pid_namespace};
pub use codec::DecodeError;
pub use packet::{Claim, ToClient, ToServer};
pub use peer::{ClientPeer, ClientSide, Lent, Peer, PeerError, ReceiveBuffer, Role, ServerPeer, ServerSide};
pub use ring::{Broken, Loan};
pub use root::{Root, RootError};
pub use signals::Signals;
pub use socket::{ConnectError, ListenError, Listener, connect_channel, connect_path, pair};
pub use sys::PeerIdentity;
pub use wait::{Patience, SPIN, Watch, wait_ready};

/// Most bytes of message data in one packet. Longer messages and replies travel in pieces.
pub const MAX_DATA: usize = 64 * 1024;
/// Largest packet: [`MAX_DATA`] and the largest fixed part.
pub const MAX_PACKET: usize = MAX_DATA + 64;
/// Most bytes of message data in one packet through shared memory, when it has room for them.
pub const MAX_LENT: usize = 1024 * 1024;
/// Version of the packet layout; both ends must have the same.
pub const VERSION: u16 = 4;
/// Most supplementary groups in a [`Claim`].
pub const MAX_GROUPS: usize = 256;
