//! Directories that become links while they are used.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use qnet_iomsg::flags::{IOFLAG_CREAT, IOFLAG_READ, IOFLAG_TRUNC, IOFLAG_WRITE};
use qnet_iomsg::{Connect, Io, filesys};

use crate::Case;
use crate::changing::{link, make_symlink, mkdir, rename_to, rmdir, unlink};
use crate::support::{Need, Server, Start, public_dir};
use crate::writing::{open, write_at};

pub(crate) const CASES: &[Case] = &[
    ("a_directory_that_becomes_a_link_leads_nobody_out", Need::Nothing, || race(Swap::Directory)),
    ("a_file_that_becomes_a_link_leads_nobody_out", Need::Nothing, || race(Swap::File)),
    ("a_directory_that_changes_places_leads_nobody_out", Need::Nothing, moved_out),
    ("a_guard_of_a_directory_leads_nobody_out", Need::Nothing, guarded_race),
];

/// How often everything is tried, a dozen requests each time; some thousand swaps happen meanwhile.
fn rounds() -> usize {
    if std::env::var_os("IO_PKT_SOAK").is_some() { 20_000 } else { 400 }
}

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

/// Two directories change places all the time; whoever means one of them by its guard never meets the other one's files.
fn guarded_race() {
    let dir = public_dir();
    for name in ["here", "there"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("f"), name).unwrap();
        symlink(name, dir.path().join(name).join("link")).unwrap();
    }
    let meta = fs::metadata(dir.path().join("here")).unwrap();
    let device = (nix::sys::stat::major(meta.dev()) as u32, nix::sys::stat::minor(meta.dev()) as u32);
    let guard = filesys::guard(device, meta.ino());
    let (one, two) = (dir.path().join("here"), dir.path().join("there"));
    while_swapped(
        (&one, &two),
        || {},
        || {
            let mut server = Start::new().export(dir.path()).start();
            let conn = server.connect_owner();
            let read = Io::Read { nbytes: 10, xtype: 0, offset: None }.to_bytes();
            let by_chain = Connect { ioflag: IOFLAG_READ, ..Connect::combine_close(b"here/f", false, &read) };
            let mut met = 0;
            for _ in 0..5 * rounds() {
                for request in [by_chain, Connect::readlink(b"here/link")] {
                    let message = request.guarded(guard).emit().unwrap();
                    match server.call(conn, 0, &message, 4096) {
                        Ok(answer) => {
                            assert_eq!(answer.data, b"here", "another directory's: {request:?}");
                            met += 1;
                        }
                        Err(errno) => assert_eq!(errno, libc::ESTALE),
                    }
                }
            }
            assert!(met > 0, "it was never there");
        },
    );
}

/// A directory of the export and one from outside change places all the time; what is above them is never reached from within.
fn moved_out() {
    let (dir, outside) = (public_dir(), public_dir());
    let (one, two) = (dir.path().join("d/e"), outside.path().join("e"));
    for path in [&one, &two] {
        fs::create_dir_all(path.join("deep")).unwrap();
        fs::write(path.join("deep/f"), "inside").unwrap();
    }
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let mut met = 0;
    while_swapped(
        (&one, &two),
        || {},
        || {
            let mut server = Start::new().export(dir.path()).start();
            let conn = server.connect_owner();
            for round in 0..2 * rounds() {
                for up in ["..", "deep/../..", "../../d/e/.."] {
                    let name = |what: &str| format!("d/e/{up}/{what}");
                    if let Ok(text) = server.cat(conn, &name("secret")) {
                        panic!("read from outside by {up}: {text:?}");
                    }
                    let new = name(&format!("new {round}"));
                    if let Ok(coid) = open(&mut server, conn, &new, IOFLAG_WRITE | IOFLAG_CREAT, 0o644) {
                        server.close(conn, coid).unwrap();
                    }
                    let _ = mkdir(&mut server, conn, &name("dir"));
                    let _ = rename_to(&mut server, conn, "d/e/deep/f", &name("stolen"));
                    let _ = rename_to(&mut server, conn, &name("stolen"), "d/e/deep/f");
                    let _ = unlink(&mut server, conn, &name("secret"));
                }
                met += usize::from(server.cat(conn, "d/e/deep/f").is_ok());
            }
        },
    );
    assert!(met > 0, "it was never there");
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    let mut names: Vec<_> =
        fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["e", "secret"]);
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
    // in the shape of a file the door comes and goes, by what the caller does
    let mend = || {
        if matches!(swap, Swap::File) && !one.exists() {
            let _ = fs::write(&one, "inside");
        }
    };
    while_swapped((&one, &two), mend, || {
        let mut server = Start::new().export(&export).start();
        let conn = server.connect_owner();
        for round in 0..rounds() {
            try_everything(&mut server, conn, round);
        }
    });
    outside_is_as_it_was(outside.path());
}

/// Does `work` while another thread lets two paths change places, `mend` before each time.
fn while_swapped((one, two): (&Path, &Path), mend: impl Fn() + Sync, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !done.load(Ordering::Relaxed) {
                mend();
                swaps +=
                    u64::from(renameat2(AT_FDCWD, one, AT_FDCWD, two, RenameFlags::RENAME_EXCHANGE).is_ok());
            }
            swaps
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let swaps = swaps.join().unwrap();
        result.unwrap();
        assert!(swaps > 100, "only {swaps} swaps: nothing was tried");
    });
}
