//! What comes from this machine: local channels, the control socket, the kernel's FUSE, module files.

use std::time::{Duration, Instant, SystemTime};

use io_pkt_host::inspect;
use qnet_iomsg::filesys::{self, lock, special, xattr};
use qnet_iomsg::{Connect, Dirents, Extra, Io, Stat, StatReply, chain};
use qnet_iomsg::{gns, meter, netmgr, redirect, signal, terminal};
use qnet_ipc::{ToClient, ToServer};
use qnet_netfs::engine::{Cache, Config, Engine, Symlinks};
use qnet_netfs::fuse::Request;
use qnet_netfs::link::Link;

/// A packet of a local channel, read as either side would.
pub(super) fn ipc(data: &[u8]) {
    if let Ok(packet) = ToServer::decode(data) {
        let again = packet.encode();
        assert_eq!(ToServer::decode(&again).as_ref(), Ok(&packet));
    }
    if let Ok(packet) = ToClient::decode(data) {
        let again = packet.encode();
        assert_eq!(ToClient::decode(&again).as_ref(), Ok(&packet));
    }
}

/// The control socket's lines; the first byte says in which pieces they arrive.
pub(super) fn control(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let mut lines = ctl::LineBuffer::with_limit(1024);
    for piece in bytes.chunks(usize::from(piece).max(1)) {
        lines.push(piece);
        loop {
            match lines.next_line() {
                Ok(Some(line)) => {
                    assert!(line.len() < 1024 && !line.contains(&b'\n'));
                    let _ = serde_json::from_slice::<ctl::Request>(line);
                    let _ = serde_json::from_slice::<ctl::Reply>(line);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(lines.pending() < 1024, "an unfinished line is bounded");
    }
}

/// Messages to managers.
pub(super) fn iomsg(data: &[u8]) {
    for message in chain(data).take(1000) {
        match message {
            Ok((Io::Msg { mgrid: filesys::MGRID, subtype, data }, _)) => ours(subtype, data, &[]),
            Ok((Io::Devctl { dcmd, data, .. }, _)) => control_of(dcmd, data),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    if let Ok(connect) = Connect::parse(data) {
        let _ = connect.guard();
        if let Extra::Messages(messages) = connect.extra {
            let _ = filesys::by_path(messages);
            for (io, _) in chain(messages).take(1000).map_while(Result::ok) {
                if let Io::Msg { mgrid: filesys::MGRID, subtype, data: body } = io {
                    ours(subtype, body, xattr::behind(data));
                }
            }
        }
    }
    let _ = Stat::parse_wide(data);
    let _ = filesys::Statvfs::parse(data);
    let _ = Connect::declared_len(data);
    let _ = StatReply::parse(data);
    let _ = netmgr::nodes(data);
    let _ = netmgr::Request::parse(data);
    if let Ok(request) = signal::Request::parse(data) {
        assert_eq!(signal::Request::parse(&request.emit()), Ok(request), "written, it is read as the same");
    }
    answers(data);
    for entry in Dirents::new(data).take(10_000) {
        if entry.is_err() {
            break;
        }
    }
}

/// What leads to another channel, global names, and what was measured: written, it is read as the same.
fn answers(data: &[u8]) {
    if let Ok((entries, path)) = redirect::parse(data) {
        assert_eq!(redirect::parse(&redirect::emit(&entries, path)), Ok((entries, path)));
    }
    if let Ok(request) = gns::Request::parse(data)
        && let Ok(message) = request.emit()
    {
        assert_eq!(gns::Request::parse(&message), Ok(request));
    }
    if let Ok(table) = gns::Table::parse(data) {
        assert_eq!(gns::Table::parse(&table.emit()), Ok(table));
    }
    if let Ok(outcome) = meter::Outcome::parse(data) {
        assert_eq!(meter::Outcome::parse(&outcome.to_bytes()), Ok(outcome));
    }
}

/// One of our file messages, and what stands behind the connect that brought it: what is read is written and read again as the same.
fn ours(subtype: u16, data: &[u8], behind: &[u8]) {
    if let Ok(request) = filesys::Request::parse(subtype, data) {
        again(&request.to_bytes(), |subtype, data| {
            assert_eq!(filesys::Request::parse(subtype, data), Ok(request))
        });
    }
    if let Ok(request) = lock::Request::parse(subtype, data) {
        again(&request.emit(), |subtype, data| assert_eq!(lock::Request::parse(subtype, data), Ok(request)));
    }
    if let Ok(request) = xattr::Request::parse(subtype, data, behind) {
        let same = |subtype, data: &[u8], behind: &[u8]| {
            assert_eq!(xattr::Request::parse(subtype, data, behind), Ok(request))
        };
        again(&request.emit(), |subtype, data| same(subtype, data, &[]));
        let (message, behind) = request.emit_for_connect();
        again(&message, |subtype, data| same(subtype, data, behind));
    }
    if let Ok(request) = special::Request::parse(subtype, data) {
        again(&request.emit(), |subtype, data| {
            assert_eq!(special::Request::parse(subtype, data), Ok(request))
        });
    }
    let _ = lock::Holder::parse(data);
}

/// What a terminal is asked for, and answers.
fn control_of(dcmd: u32, data: &[u8]) {
    if let Ok(Some(request)) = terminal::Request::parse(dcmd, data) {
        let message = request.emit();
        let Ok((Io::Devctl { dcmd, data, .. }, None)) = Io::parse(&message) else { panic!("{message:?}") };
        assert_eq!(terminal::Request::parse(dcmd, data), Ok(Some(request)));
    }
    let _ = terminal::parse_reply(data);
}

fn again(message: &[u8], check: impl FnOnce(u16, &[u8])) {
    match Io::parse(message) {
        Ok((Io::Msg { mgrid: filesys::MGRID, subtype, data }, None)) => check(subtype, data),
        other => panic!("{other:?}"),
    }
}

/// A request of the kernel; then the same bytes as arguments of many, to a file system that has no network.
pub(super) fn fuse(data: &[u8]) {
    let _ = Request::parse(data);
    let config = Config {
        mount: b"/net".to_vec(),
        directory: None,
        symlinks: Symlinks::Node,
        cache: Cache::CloseToOpen,
        deadline: Duration::from_secs(30),
        owner: (0, 0),
        since: SystemTime::UNIX_EPOCH,
        groups_of: |_, _| Vec::new(),
        is_dying: |_| true,
    };
    // No Qnet is there: whatever would be asked of a node fails, and is answered.
    let mut engine = Engine::new(config, Link::new("/nonexistent/qnet.sock".into(), 1));
    let now = Instant::now();
    let mut rest = data;
    for unique in 1..64_u64 {
        // Operation, file, length of the arguments, and they.
        let Some(([opcode, nodeid, len], others)) = rest.split_first_chunk() else { break };
        let (arguments, others) = others.split_at(others.len().min(usize::from(*len)));
        rest = others;
        let whole = 40 + arguments.len() as u32;
        let head = [whole, u32::from(*opcode)].map(u32::to_ne_bytes).concat();
        let ids = [unique, u64::from(*nodeid)].map(u64::to_ne_bytes).concat();
        let mut request = [&head[..], &ids, &[0; 16], arguments].concat();
        engine.handle_request(now, &mut request, whole as usize);
        let answers = std::iter::from_fn(|| engine.poll_reply()).filter(|reply| reply[8..16] != [0; 8]);
        assert!(answers.count() <= 1, "one request, one answer");
    }
}

/// A file that wants to be a module: nothing of it has run when it is refused.
pub(super) fn elf(data: &[u8]) {
    let _ = inspect(data, data.len() as u64);
}
