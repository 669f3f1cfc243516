//! Directories that become links while they are used.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use qnet_iomsg::flags::{IOFLAG_CREAT, IOFLAG_TRUNC, IOFLAG_WRITE};

use crate::Case;
use crate::changing::{link, make_symlink, mkdir, rename_to, rmdir, unlink};
use crate::support::{Need, Server, Start, public_dir};
use crate::writing::{open, write_at};

pub(crate) const CASES: &[Case] = &[
    ("a_directory_that_becomes_a_link_leads_nobody_out", Need::Nothing, || race(Swap::Directory)),
    ("a_file_that_becomes_a_link_leads_nobody_out", Need::Nothing, || race(Swap::File)),
];

/// How often everything is tried; some hundred swaps happen meanwhile.
const ROUNDS: usize = 400;

#[derive(Clone, Copy)]
enum Swap {
    Directory,
    File,
}

/// All that a caller can try at a place that changes between inside and outside; what comes of it does not matter.
fn try_everything(server: &mut Server, conn: u32, round: usize) {
    if let Ok(coid) = open(server, conn, "door/f", IOFLAG_WRITE | IOFLAG_TRUNC, 0) {
        let _ = write_at(server, conn, coid, Some(0), b"changed");
        server.close(conn, coid).unwrap();
    }
    let name = |what: &str| format!("door/{what} {round}");
    if let Ok(coid) = open(server, conn, &name("new"), IOFLAG_WRITE | IOFLAG_CREAT, 0o644) {
        server.close(conn, coid).unwrap();
    }
    let chmod = qnet_iomsg::Io::Chmod { mode: 0o600 }.to_bytes();
    for follow in [false, true] {
        let message = qnet_iomsg::Connect::combine_close(b"door/f", follow, &chmod).emit().unwrap();
        let _ = server.call(conn, 0, &message, 0);
    }
    let _ = mkdir(server, conn, &name("dir"));
    let _ = rmdir(server, conn, "door/empty");
    let _ = make_symlink(server, conn, "x", &name("link"));
    let _ = link(server, conn, "door/f", &name("name"));
    let _ = link(server, conn, "door/secret", "stolen");
    let _ = rename_to(server, conn, "door/f", &name("moved"));
    let _ = rename_to(server, conn, "door/secret", "stolen");
    let _ = unlink(server, conn, "door/secret");
    if let Ok(text) = server.cat(conn, "door/secret") {
        panic!("read from outside: {text:?}");
    }
}

fn outside_is_as_it_was(outside: &Path) {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"precious");
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(fs::metadata(outside.join("f")).unwrap().permissions().mode() & 0o777, 0o644);
    let mut names: Vec<_> = fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["empty", "f", "secret"]);
}

fn race(swap: Swap) {
    let (dir, outside) = (public_dir(), public_dir());
    let export = dir.path().join("export");
    fs::create_dir_all(export.join("door")).unwrap();
    fs::create_dir(outside.path().join("empty")).unwrap();
    fs::write(outside.path().join("f"), "precious").unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let (one, two) = match swap {
        Swap::Directory => {
            symlink(outside.path(), export.join("other")).unwrap();
            (export.join("door"), export.join("other"))
        }
        Swap::File => {
            symlink(outside.path().join("f"), export.join("door/other")).unwrap();
            (export.join("door/f"), export.join("door/other"))
        }
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !done.load(Ordering::Relaxed) {
                // in the shape of a file the door comes and goes, by what the caller does
                if matches!(swap, Swap::File) && !one.exists() {
                    let _ = fs::write(&one, "inside");
                }
                swaps += u64::from(
                    renameat2(AT_FDCWD, &one, AT_FDCWD, &two, RenameFlags::RENAME_EXCHANGE).is_ok(),
                );
            }
            swaps
        });
        let mut server = Start::new().export(&export).start();
        let conn = server.connect_owner();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..ROUNDS {
                try_everything(&mut server, conn, round);
            }
        }));
        done.store(true, Ordering::Relaxed);
        let swaps = swaps.join().unwrap();
        result.unwrap();
        assert!(swaps > 100, "only {swaps} swaps: nothing was tried");
    });
    outside_is_as_it_was(outside.path());
}
