//! As whom requests are done, and who is refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use qnet_ipc::Claim;

use crate::Case;
use crate::support::{NOBODY, Need, Server, Start, public_dir, until};

pub(crate) const CASES: &[Case] = &[
    ("nobody_reads_what_nobody_may_and_nothing_else", Need::Root, nobody_reads_what_nobody_may),
    ("callers_keep_apart_from_each_other", Need::Root, callers_keep_apart),
    ("groups_count", Need::Root, groups_count),
    ("caller_without_claim_is_nobody", Need::Root, caller_without_claim_is_nobody),
    ("root_is_root_only_when_mapped_to_it", Need::Root, root_is_root_only_when_mapped),
    ("kernel_settings_for_root_are_closed_to_nobody", Need::Root, kernel_settings_for_root),
    ("other_processes_are_closed_to_nobody", Need::Root, other_processes_are_closed),
    ("rootless_server_refuses_everybody_but_its_own_user", Need::Root, rootless_server_refuses),
    ("ordinary_user_serves_only_as_itself", Need::Nothing, ordinary_user_serves_only_as_itself),
    ("namespace_without_nobody_refuses_nobody", Need::Root, namespace_without_nobody),
    ("namespace_without_setgroups_refuses_nobody", Need::UserNamespace, namespace_without_setgroups),
];

fn nobody_reads_what_nobody_may() {
    let dir = public_dir();
    for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
        fs::write(dir.path().join(name), name).unwrap();
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(dir.path().join("private")).unwrap();
    fs::write(dir.path().join("private/f"), "x").unwrap();
    fs::set_permissions(dir.path().join("private"), Permissions::from_mode(0o700)).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect(NOBODY).unwrap();
    assert_eq!(server.cat(conn, "open").unwrap(), b"open");
    assert_eq!(server.open(conn, "closed"), Err(libc::EACCES));
    assert_eq!(server.stat(conn, "closed").unwrap().mode & 0o777, 0o600);
    assert_eq!(server.open(conn, "private"), Err(libc::EACCES));
    assert_eq!(server.stat(conn, "private/f"), Err(libc::EACCES));
    let mut all = Server::new();
    let conn = all.connect(NOBODY).unwrap();
    assert_eq!(all.open(conn, "etc/shadow"), Err(libc::EACCES));
    assert_eq!(all.open(conn, "proc/1/maps"), Err(libc::EACCES));
}

fn callers_keep_apart() {
    let dir = public_dir();
    for uid in [1001, 1002] {
        let path = dir.path().join(uid.to_string());
        fs::write(&path, uid.to_string()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        chown(&path, Some(uid), Some(uid)).unwrap();
    }
    let mut server = Start::new().export(dir.path()).options(&["--workers", "2"]).start();
    let (one, two) = (server.connect(1001).unwrap(), server.connect(1002).unwrap());
    // the same threads serve both in turn
    for _ in 0..50 {
        assert_eq!(server.cat(one, "1001").unwrap(), b"1001");
        assert_eq!(server.open(one, "1002"), Err(libc::EACCES));
        assert_eq!(server.cat(two, "1002").unwrap(), b"1002");
        assert_eq!(server.open(two, "1001"), Err(libc::EACCES));
    }
    // an open file belongs to its connection
    let coid = server.open(one, "1001").unwrap();
    assert_eq!(server.read_at(two, coid, 0, 10), Err(libc::EBADF));
}

fn groups_count() {
    let dir = public_dir();
    let path = dir.path().join("f");
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o040)).unwrap();
    chown(&path, Some(0), Some(4711)).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let member = server.connect_from(2, Some(Claim::user(1001, 1001, vec![5, 4711, 5]))).unwrap();
    let other = server.connect_from(2, Some(Claim::user(1001, 1001, vec![]))).unwrap();
    assert_eq!(server.cat(member, "f").unwrap(), b"x");
    assert_eq!(server.open(other, "f"), Err(libc::EACCES));
}

fn caller_without_claim_is_nobody() {
    let mut server = Server::new();
    let conn = server.connect_from(0, None).unwrap();
    assert_eq!(server.open(conn, "etc/shadow"), Err(libc::EACCES));
    server.cat(conn, "etc/passwd").unwrap();
}

fn root_is_root_only_when_mapped() {
    let mut server = Server::new();
    let root = server.connect(0).unwrap();
    server.cat(root, "etc/shadow").unwrap();
    let nobody = server.connect(NOBODY).unwrap();
    assert_eq!(server.open(nobody, "etc/shadow"), Err(libc::EACCES));
}

/// `/proc/sys` looks at the effective user, not at the one for file access.
fn kernel_settings_for_root() {
    let secret = "proc/sys/kernel/cad_pid";
    assert_eq!(fs::metadata(format!("/{secret}")).unwrap().permissions().mode() & 0o777, 0o600);
    let mut server = Server::new();
    let nobody = server.connect(NOBODY).unwrap();
    assert_eq!(server.open(nobody, secret), Err(libc::EACCES));
    let root = server.connect(0).unwrap();
    server.cat(root, secret).unwrap();
}

fn other_processes_are_closed() {
    let mut server = Server::new();
    let conn = server.connect(NOBODY).unwrap();
    let test = format!("proc/{}", std::process::id());
    assert_eq!(server.list(conn, &format!("{test}/fd"), 4096), Err(libc::EACCES));
    assert_eq!(server.readlink(conn, &format!("{test}/exe")), Err(libc::EACCES));
    for file in ["environ", "maps", "mem"] {
        assert_eq!(server.open(conn, &format!("{test}/{file}")), Err(libc::EACCES), "{file}");
    }
    // what everybody may read is served
    server.cat(conn, &format!("{test}/status")).unwrap();
}

fn rootless_server_refuses() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "x").unwrap();
    let mut server = Start::new().export(dir.path()).user(1001).start();
    assert_eq!(server.connect(NOBODY), Err(libc::EPERM));
    assert_eq!(server.connect(0), Err(libc::EPERM));
    assert_eq!(server.connect(NOBODY), Err(libc::EPERM));
    let log = server.log();
    assert!(log.contains("mapany=1001"), "{log}");
    assert_eq!(log.matches("mapped to uid 65534").count(), 1, "once is enough: {log}");
    let own = server.connect(1001).unwrap();
    assert_eq!(server.cat(own, "f").unwrap(), b"x");
}

fn ordinary_user_serves_only_as_itself() {
    let mut server = Server::new();
    let own = server.connect_self();
    server.stat(own, "").unwrap();
    if !nix::unistd::geteuid().is_root() {
        assert_eq!(server.connect(NOBODY), Err(libc::EPERM));
    }
}

fn namespace_without_setgroups() {
    let mut server = Start::new().through(&["unshare", "-r"]).start();
    assert_eq!(server.connect(NOBODY), Err(libc::EPERM));
    assert!(server.log().contains("mapany=0"), "{}", server.log());
    let own = server.connect(0).unwrap();
    server.cat(own, "etc/passwd").unwrap();
}

/// A user namespace that maps the users below 1000 and no others.
fn namespace_without_nobody() {
    let wait = "until grep -q . /proc/self/gid_map; do :; done; exec \"$@\"";
    let mut server = Start::new().through(&["unshare", "-U", "sh", "-c", wait, "sh"]).start();
    let process = format!("/proc/{}", server.pid());
    let ours = fs::read_link("/proc/self/ns/user").unwrap();
    until(|| fs::read_link(format!("{process}/ns/user")).ok().filter(|theirs| *theirs != ours));
    fs::write(format!("{process}/uid_map"), "0 0 1000").unwrap();
    fs::write(format!("{process}/gid_map"), "0 0 1000").unwrap();
    assert_eq!(server.connect(NOBODY), Err(libc::EPERM));
    let log = server.log();
    assert!(log.contains("is the id mapped") && log.contains("mapany=0"), "{log}");
    // who is mapped is served, by the same threads
    for uid in [7, 0, 7] {
        let conn = server.connect(uid).unwrap();
        let shadow = server.open(conn, "etc/shadow");
        assert_eq!(shadow.is_ok(), uid == 0, "uid {uid}: {shadow:?}");
    }
    assert_eq!(server.connect(NOBODY), Err(libc::EPERM));
}
