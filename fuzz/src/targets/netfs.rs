//! The whole file system behind the FUSE codec, without a node to ask: any requests in any order.
//!
//! The input is a list of requests: `opcode, nodeid, length`, a byte each, then so many bytes of arguments. The handles and
//! inodes that they name exist only by luck (the root, `/net/.qnetstats`), which is what a confused kernel would send. Whatever
//! they are, each is answered once, with bytes that the kernel takes.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use qnet_netfs::engine::{Cache, Config, Engine, Symlinks};
use qnet_netfs::fuse::abi::{InHeader, OutHeader};
use qnet_netfs::fuse::{Opcode, READ_BUFFER};
use qnet_netfs::link::Link;
use zerocopy::{FromBytes, IntoBytes};

/// Requests in one run.
const MOST: usize = 200;

/// Feeds the requests and looks at every answer.
pub(super) fn run(data: &[u8]) {
    let mut engine = engine(PathBuf::from("/nonexistent/qnet.sock"));
    let (mut rest, mut unique, now) = (data, 0, Instant::now());
    let (mut buffer, mut open) = (Vec::new(), HashSet::new());
    while let Some((&[opcode, nodeid, len], behind)) = rest.split_first_chunk() {
        let (body, behind) = behind.split_at(usize::from(len).min(behind.len()));
        rest = behind;
        unique += 2;
        if unique > 2 * MOST as u64 {
            break;
        }
        ask(&mut engine, now, &mut buffer, (unique, opcode, nodeid), body, &mut open);
        answers(&mut engine, &mut open);
    }
    // whoever waits for nobody waits no longer than this
    engine.handle_timeout(now + Duration::from_secs(60));
    answers(&mut engine, &mut open);
    assert!(open.is_empty(), "requests without an answer: {open:?}");
}

/// One request; it is `open` until it is answered, if it will be.
pub(super) fn ask(
    engine: &mut Engine,
    now: Instant,
    buffer: &mut Vec<u8>,
    (unique, opcode, nodeid): (u64, u8, u8),
    body: &[u8],
    open: &mut HashSet<u64>,
) {
    if has_answer(opcode) {
        open.insert(unique);
    }
    let length = size_of::<InHeader>() + body.len();
    let header = InHeader {
        len: length as u32,
        opcode: opcode.into(),
        unique,
        nodeid: nodeid.into(),
        uid: 1000,
        ..InHeader::default()
    };
    buffer.resize(READ_BUFFER, 0);
    buffer[..length].copy_from_slice(&[header.as_bytes(), body].concat());
    engine.handle_request(now, buffer, length);
}

/// A file system that reaches others over the socket at `path`.
pub(super) fn engine(path: PathBuf) -> Engine {
    let config = Config {
        directory: None,
        mount: b"/net".to_vec(),
        symlinks: Symlinks::Node,
        cache: Cache::CloseToOpen,
        deadline: Duration::from_secs(30),
        owner: (0, 0),
        since: SystemTime::UNIX_EPOCH,
        groups_of: |_, _| Vec::new(),
        is_dying: |_| true,
    };
    Engine::new(config, Link::new(path, 1))
}

fn has_answer(opcode: u8) -> bool {
    !matches!(
        Opcode::from_number(opcode.into()),
        Some(Opcode::Forget | Opcode::BatchForget | Opcode::Interrupt)
    )
}

/// Every answer is whole, and to a request that has had none.
pub(super) fn answers(engine: &mut Engine, open: &mut HashSet<u64>) {
    while let Some(reply) = engine.poll_reply() {
        let (header, _) = OutHeader::read_from_prefix(&reply).expect("a header");
        assert_eq!(header.len as usize, reply.len());
        // a word to the kernel that is no answer has number 0; a broken request without one may be told so
        let broken = header.error == -nix::libc::EINVAL;
        assert!(header.unique == 0 || open.remove(&header.unique) || broken, "answered twice: {header:?}");
    }
}
