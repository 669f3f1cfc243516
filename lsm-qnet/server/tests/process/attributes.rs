//! Extended attributes of files, over the path and in one round trip.

use std::fs;
use std::os::unix::fs::symlink;

use qnet_iomsg::Connect;
use qnet_iomsg::filesys::xattr::{CREATE, REPLACE, Request, TRUE_TYPE, VALUE_MAX};

use crate::Case;
use crate::support::{Answer, NOBODY, Need, Result, Server, Start, public_dir};

pub(crate) const CASES: &[Case] = &[
    ("attributes_are_set_listed_and_taken_away", Need::Nothing, set_listed_and_taken_away),
    ("long_values_go_both_ways", Need::Nothing, long_values),
    ("attributes_of_links_are_their_own", Need::Nothing, attributes_of_links),
    ("the_true_type_of_a_special_file_can_be_read", Need::Nothing, true_types),
    ("attributes_are_changed_with_the_right_to_change_only", Need::Nothing, without_the_right),
    ("nobody_sees_and_sets_what_the_kernel_lets_nobody", Need::Root, nobody),
];

fn ask(server: &mut Server, conn: u32, path: &str, request: &Request<'_>) -> Result<Answer> {
    let (message, behind) = request.emit_for_connect();
    let room = match request {
        Request::Get { size, .. } | Request::List { size } => *size,
        _ => 0,
    };
    let connect = Connect::combine_close(path.as_bytes(), false, &message).emit().unwrap();
    server.call(conn, 0, &[&connect, behind].concat(), room)
}

fn set(server: &mut Server, conn: u32, path: &str, name: &str, value: &[u8], flags: u32) -> Result<()> {
    ask(server, conn, path, &Request::Set { name: name.as_bytes(), value, flags }).map(drop)
}

fn get(server: &mut Server, conn: u32, path: &str, name: &str) -> Result<Vec<u8>> {
    ask(server, conn, path, &Request::Get { name: name.as_bytes(), size: 65_536 }).map(|answer| answer.data)
}

fn set_listed_and_taken_away() {
    let dir = public_dir();
    fs::create_dir(dir.path().join("d")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    for path in ["d", ""] {
        assert_eq!(set(&mut server, conn, path, "user.a", b"x", REPLACE), Err(libc::ENODATA));
        set(&mut server, conn, path, "user.a", b"one\0two", CREATE).unwrap();
        assert_eq!(set(&mut server, conn, path, "user.a", b"x", CREATE), Err(libc::EEXIST));
        assert_eq!(get(&mut server, conn, path, "user.a").unwrap(), b"one\0two");
        let length = ask(&mut server, conn, path, &Request::Get { name: b"user.a", size: 0 }).unwrap();
        assert_eq!((length.status, length.data.len()), (7, 0));
        let short = ask(&mut server, conn, path, &Request::Get { name: b"user.a", size: 6 });
        assert_eq!(short, Err(libc::ERANGE));
        let names = ask(&mut server, conn, path, &Request::List { size: 100 }).unwrap();
        assert_eq!(names, Answer { status: 7, data: b"user.a\0".to_vec() });
        ask(&mut server, conn, path, &Request::Remove { name: b"user.a" }).unwrap();
        assert_eq!(get(&mut server, conn, path, "user.a"), Err(libc::ENODATA));
    }
    assert_eq!(get(&mut server, conn, "d", "nonsense"), Err(libc::EOPNOTSUPP));
    assert_eq!(get(&mut server, conn, "none", "user.a"), Err(libc::ENOENT));
}

fn long_values() {
    let dir = public_dir();
    let file = dir.path().join("f");
    fs::write(&file, "").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let value: Vec<u8> = (0..VALUE_MAX).map(|at| at as u8).collect();
    // what the file system takes, and its error where it takes less, are the kernel's
    match set(&mut server, conn, "f", "user.long", &value, 0) {
        Ok(()) => assert_eq!(get(&mut server, conn, "f", "user.long").unwrap(), value),
        Err(errno) => assert!(matches!(errno, libc::ENOSPC | libc::E2BIG), "{errno}"),
    }
    let some = &value[..3000];
    set(&mut server, conn, "f", "user.some", some, 0).unwrap();
    assert_eq!(get(&mut server, conn, "f", "user.some").unwrap(), some);
}

fn attributes_of_links() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "").unwrap();
    symlink("f", dir.path().join("link")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    set(&mut server, conn, "f", "user.a", b"x", 0).unwrap();
    let names = ask(&mut server, conn, "link", &Request::List { size: 100 }).unwrap();
    assert_eq!(names.data, b"");
    assert_eq!(set(&mut server, conn, "link", "user.a", b"y", 0), Err(libc::EPERM));
    assert_eq!(get(&mut server, conn, "f", "user.a").unwrap(), b"x");
}

fn true_types() {
    let mut server = Server::new();
    let conn = server.connect_owner();
    let name = std::str::from_utf8(TRUE_TYPE).unwrap();
    assert_eq!(get(&mut server, conn, "dev/null", name).unwrap(), b"character 1:3");
    assert_eq!(get(&mut server, conn, "dev", name), Err(libc::ENODATA));
    assert_eq!(set(&mut server, conn, "dev/null", name, b"x", 0), Err(libc::EPERM));
}

fn without_the_right() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let (owner, reader) = (server.connect_owner(), server.connect_self());
    set(&mut server, owner, "f", "user.a", b"x", 0).unwrap();
    assert_eq!(get(&mut server, reader, "f", "user.a").unwrap(), b"x");
    assert_eq!(set(&mut server, reader, "f", "user.a", b"y", 0), Err(libc::EACCES));
    assert_eq!(ask(&mut server, reader, "f", &Request::Remove { name: b"user.a" }), Err(libc::EACCES));
    drop(server);
    let served = format!("{}:ro", dir.path().display());
    let mut server = Start::new().options(&["--only", &served]).start();
    let owner = server.connect_owner();
    let path = dir.path().join("f");
    let path = path.to_str().unwrap();
    assert_eq!(set(&mut server, owner, path, "user.a", b"y", 0), Err(libc::EROFS));
    assert_eq!(get(&mut server, owner, path, "user.a").unwrap(), b"x");
}

fn nobody() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let (root, nobody) = (server.connect_writer(0), server.connect_writer(NOBODY));
    set(&mut server, root, "f", "trusted.secret", b"x", 0).unwrap();
    set(&mut server, root, "f", "user.a", b"x", 0).unwrap();
    assert_eq!(get(&mut server, root, "f", "trusted.secret").unwrap(), b"x");
    assert_eq!(get(&mut server, nobody, "f", "trusted.secret"), Err(libc::ENODATA));
    assert_eq!(ask(&mut server, nobody, "f", &Request::List { size: 100 }).unwrap().data, b"user.a\0");
    assert_eq!(set(&mut server, nobody, "f", "trusted.secret", b"y", 0), Err(libc::EPERM));
    assert_eq!(set(&mut server, nobody, "f", "user.a", b"y", 0), Err(libc::EACCES));
    assert_eq!(set(&mut server, nobody, "f", "security.x", b"y", 0), Err(libc::EPERM));
    assert_eq!(set(&mut server, root, "f", "security.capability", b"y", 0), Err(libc::EOPNOTSUPP));
}
