//! Shared memory of a client that writes whatever it likes, as a server reads it.
//!
//! The client is a raw one: it makes the memory by hand, offers it, and pokes words into it through the file, while the
//! server receives and sends. Input: 6 bytes a poke, where and what; each fourth one is followed by a turn of the server.

use std::{
    io::IoSlice,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, send, sendmsg, socketpair},
        uio::pwrite,
    },
    unistd::ftruncate,
};
use qnet_ipc::{ReceiveBuffer, ServerPeer, ToClient, VERSION};

/// The layout that `lsm-qnet/ipc/src/ring/memory.rs` describes.
const SIZE: i64 = 4096 + 2 * (256 * 1024 + 2 * 1024 * 1024);
const RING: i64 = 4096;
/// Verbs of the packets that change over to the ring.
const OFFER: u16 = 0x41;
const SWITCH: u16 = 0x43;

/// See the head of this file.
pub(super) fn run(data: &[u8]) {
    // A machine out of descriptors or memory is not a finding.
    let Some((socket, memory, mut server)) = connect() else { return };
    let (mut buffer, mut kept) = (ReceiveBuffer::new(), Vec::new());
    for (i, poke) in data.chunks_exact(6).take(4096).enumerate() {
        let place = i64::from(u16::from_le_bytes([poke[0], poke[1]]));
        // The upper half of the places is the page of words.
        let at = if place & 0x8000 == 0 { RING + place * 4 } else { (place & 0x3ff) * 4 };
        if pwrite(&memory, &poke[2..], at).is_err() {
            return;
        }
        if i % 4 == 3 && !turn(&mut server, &mut buffer, &mut kept, i % 8 == 3) {
            return;
        }
    }
    turn(&mut server, &mut buffer, &mut kept, true);
    drop(socket);
}

/// The server receives what there is and answers; `false` when it ends the connection.
fn turn(
    server: &mut ServerPeer,
    buffer: &mut ReceiveBuffer,
    kept: &mut Vec<qnet_ipc::Loan>,
    lend: bool,
) -> bool {
    for _ in 0..64 {
        let more = match lend {
            false => server.recv(buffer).map(|packet| packet.is_some()),
            true => server.recv_lent(buffer).map(|packet| {
                let loan = packet.as_ref().is_some_and(|(_, loan)| loan.is_some());
                kept.extend(packet.and_then(|(_, loan)| loan).filter(|_| kept.len() < 8));
                loan
            }),
        };
        match more {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => return false,
        }
    }
    let mut bytes = [0; 64];
    for loan in kept.drain(..kept.len() / 2) {
        assert!(loan.copy(0, &mut bytes) <= loan.len());
    }
    let answer = ToClient::Write { txn: 1, offset: 0, data: &[7; 9000] };
    !matches!(server.send(&answer), Err(error) if error.is_fatal())
}

/// A server whose packets come through memory that the caller can write.
fn connect() -> Option<(OwnedFd, OwnedFd, ServerPeer)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).ok()?;
    let memory = memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).ok()?;
    ftruncate(&memory, SIZE).ok()?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(seals)).ok()?;
    let mut server = ServerPeer::new(theirs).ok()?;
    let mut hello = inner(0x01, u32::from_le_bytes(*b"qnet"));
    hello.extend_from_slice(&VERSION.to_le_bytes());
    hello.extend_from_slice(&[0; 2]);
    hello.extend_from_slice(&1_u64.to_le_bytes());
    send(ours.as_raw_fd(), &hello, MsgFlags::empty()).ok()?;
    let (offer, fds) = (inner(OFFER, 1), [memory.as_raw_fd()]);
    let control = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(&offer)], &control, MsgFlags::empty(), None).ok()?;
    send(ours.as_raw_fd(), &inner(SWITCH, 0), MsgFlags::empty()).ok()?;
    let mut buffer = ReceiveBuffer::new();
    let heard = server.recv(&mut buffer);
    assert!(matches!(heard, Ok(None)) && server.uses_ring(), "the layout has changed: {heard:?}");
    Some((ours, memory, server))
}

fn inner(verb: u16, id: u32) -> Vec<u8> {
    let mut bytes = verb.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes
}
