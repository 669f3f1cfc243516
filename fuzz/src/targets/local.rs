//! What comes from this machine: local channels, the control socket, the kernel's FUSE, module files.

use io_pkt_host::inspect;
use qnet_iomsg::{Connect, Dirents, StatReply, chain};
use qnet_iomsg::{netmgr, signal};
use qnet_ipc::{ToClient, ToServer};
use qnet_netfs::fuse::Request;

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
        if message.is_err() {
            break;
        }
    }
    let _ = Connect::parse(data);
    let _ = Connect::declared_len(data);
    let _ = StatReply::parse(data);
    let _ = netmgr::nodes(data);
    let _ = netmgr::Request::parse(data);
    if let Ok(request) = signal::Request::parse(data) {
        assert_eq!(signal::Request::parse(&request.emit()), Ok(request), "written, it is read as the same");
    }
    for entry in Dirents::new(data).take(10_000) {
        if entry.is_err() {
            break;
        }
    }
}

/// A request of the kernel.
pub(super) fn fuse(data: &[u8]) {
    let _ = Request::parse(data);
}

/// A file that wants to be a module: nothing of it has run when it is refused.
pub(super) fn elf(data: &[u8]) {
    let _ = inspect(data, data.len() as u64);
}
