//! What a request costs at `qnet-server`, beside the same system calls made directly.
//!
//! `cargo bench -p qnet-server`. The server runs as its own user; one request is under way at a time,
//! except where it says otherwise. Ratios are of the same run; nothing is asserted.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first surprise")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use qnet_iomsg::flags::{IOFLAG_CREAT, IOFLAG_WRITE};
use qnet_iomsg::message::{XTYPE_DIR_ATTRIBUTES, XTYPE_DIR_EXTRA_HINT};
use qnet_iomsg::{Connect, Dirents, Io, Subtype};
use support::{Server, Start, public_dir};

#[expect(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/process/support.rs"]
mod support;

const FILE: usize = 64 << 20;
const PIECE: u32 = 1 << 20;
const ROUNDS: u32 = 20_000;

fn main() {
    let dir = public_dir();
    let path = dir.path().join("f");
    fs::write(&path, vec![1; FILE]).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    let coid = server.open(conn, "f").unwrap();
    let file = File::open(&path).unwrap();
    let mut buffer = vec![0; PIECE as usize];

    println!("{}, {} CPUs", os_release(), std::thread::available_parallelism().unwrap());
    let direct = each(ROUNDS, || _ = fs::symlink_metadata(&path).unwrap());
    let served = each(ROUNDS, || _ = server.stat(conn, "f").unwrap());
    row("stat by path", direct, served);
    let direct = each(ROUNDS, || _ = file.read_at(&mut buffer[..4096], 4096).unwrap());
    let served = each(ROUNDS, || _ = server.read_at(conn, coid, 4096, 4096).unwrap());
    row("read of 4 KiB", direct, served);
    let pieces = (FILE / PIECE as usize) as u32;
    let offset = |n: u32| u64::from(n % pieces) * u64::from(PIECE);
    let mut n = 0;
    let direct = each(4 * pieces, || {
        n += 1;
        file.read_at(&mut buffer, offset(n)).unwrap();
    });
    let served = each(4 * pieces, || {
        n += 1;
        server.read_at(conn, coid, offset(n), PIECE).unwrap();
    });
    row("read of 1 MiB", direct, served);
    let served = four_at_a_time(&mut server, conn, coid, 4 * pieces, offset);
    row("read of 1 MiB, four at a time", direct, served);
    changes(&mut server, dir.path());
    entries(&mut server, dir.path());
}

/// Writing, and making and removing names.
fn changes(server: &mut Server, dir: &Path) {
    let conn = server.connect_owner();
    let coid = server.open_with(conn, "w", IOFLAG_WRITE | IOFLAG_CREAT).unwrap();
    let file = File::create(dir.join("w")).unwrap();
    let data = vec![1; PIECE as usize];
    let pieces = (FILE / PIECE as usize) as u32;
    for (what, len) in [("write of 4 KiB", 4096), ("write of 64 KiB", 64 << 10), ("write of 1 MiB", PIECE)] {
        let rounds = if len == PIECE { 4 * pieces } else { ROUNDS / 4 };
        let data = &data[..len as usize];
        let at = |n: u32| u64::from(n % (FILE as u32 / len)) * u64::from(len);
        let mut n = 0;
        let direct = each(rounds, || {
            n += 1;
            file.write_all_at(data, at(n)).unwrap();
        });
        let served = each(rounds, || {
            n += 1;
            let write = Io::Write { nbytes: len, xtype: 0, offset: Some(at(n)), data };
            assert_eq!(server.io(conn, coid, &write, 0).unwrap().status, i64::from(len));
        });
        row(what, direct, served);
    }
    let path = dir.join("new");
    let direct = each(ROUNDS / 4, || {
        File::create_new(&path).unwrap();
        fs::remove_file(&path).unwrap();
    });
    let unlink = Connect::new(Subtype::Unlink, b"new").emit().unwrap();
    let served = each(ROUNDS / 4, || {
        let coid = server.open_with(conn, "new", IOFLAG_WRITE | IOFLAG_CREAT).unwrap();
        server.close(conn, coid).unwrap();
        server.call(conn, 0, &unlink, 0).unwrap();
    });
    row("create, close, unlink", direct, served);
}

/// A directory of 10,000 files with all attributes.
fn entries(server: &mut Server, dir: &Path) {
    let many = dir.join("many");
    fs::create_dir(&many).unwrap();
    (0..10_000).for_each(|n| fs::write(many.join(format!("file {n}")), "").unwrap());
    let conn = server.connect_owner();
    let direct = each(10, || {
        let entries = fs::read_dir(&many).unwrap();
        assert_eq!(entries.filter(|entry| entry.as_ref().unwrap().metadata().is_ok()).count(), 10_000);
    });
    let served = each(10, || {
        let coid = server.open(conn, "many").unwrap();
        let (mut count, mut offset) = (0, 0);
        loop {
            let xtype = XTYPE_DIR_EXTRA_HINT | XTYPE_DIR_ATTRIBUTES;
            let read = Io::Read { nbytes: PIECE, xtype, offset: Some(offset) };
            let answer = server.io(conn, coid, &read, PIECE).unwrap();
            if answer.data.is_empty() {
                break;
            }
            for entry in Dirents::new(&answer.data).map(|entry| entry.unwrap()) {
                (count, offset) = (count + usize::from(entry.stat.is_some()), entry.next);
            }
        }
        assert_eq!(count, 10_000);
        server.close(conn, coid).unwrap();
    });
    row("10,000 entries with attributes", direct, served);
}

fn four_at_a_time(
    server: &mut Server,
    conn: u32,
    coid: i32,
    count: u32,
    at: impl Fn(u32) -> u64,
) -> Duration {
    let mut pending = std::collections::VecDeque::new();
    let start = Instant::now();
    for n in 0..count {
        let read = Io::Read { nbytes: PIECE, xtype: 0, offset: Some(at(n)) };
        pending.push_back(server.submit(conn, coid, &read.to_bytes(), PIECE));
        if pending.len() >= 4 {
            let oldest = pending.pop_front().unwrap();
            server.wait(oldest).unwrap();
        }
    }
    for txn in pending {
        server.wait(txn).unwrap();
    }
    start.elapsed() / count
}

fn each(rounds: u32, mut work: impl FnMut()) -> Duration {
    (0..rounds / 10).for_each(|_| work());
    let start = Instant::now();
    (0..rounds).for_each(|_| work());
    start.elapsed() / rounds
}

fn row(what: &str, direct: Duration, served: Duration) {
    let ratio = served.as_secs_f64() / direct.as_secs_f64();
    println!("{what:<32} direct {direct:>10.1?}   served {served:>10.1?}   ratio {ratio:.1}");
}

fn os_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned()
}
