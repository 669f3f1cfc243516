//! Names and attributes that callers change.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use qnet_iomsg::connect::EFLAG_DIR;
use qnet_iomsg::filesys::{self, Request as Filesys, SetTime, access, rename};
use qnet_iomsg::flags::{IOFLAG_TRUNC, IOFLAG_WRITE, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFREG, S_IFSOCK};
use qnet_iomsg::message::{XTYPE_DIR_ATTRIBUTES, XTYPE_DIR_EXTRA_HINT, space};
use qnet_iomsg::stat::{FLAG_BARE, REPLY_LEN};
use qnet_iomsg::{Connect, Dirents, Extra, Io, Link, Stat, StatReply, Subtype, Timestamp};

use crate::Case;
use crate::support::{Need, Result, Server, Start, public_dir};
use crate::writing::{open, ours};

pub(crate) const CASES: &[Case] = &[
    ("directories_and_fifos_are_made_and_devices_are_not", Need::Nothing, made_and_not_made),
    ("names_are_removed", Need::Nothing, names_are_removed),
    ("names_are_changed_with_and_without_flags", Need::Nothing, names_are_changed),
    ("links_are_made_and_not_followed", Need::Nothing, links_are_made),
    ("any_byte_makes_a_name_and_long_ones_are_errors", Need::Nothing, any_byte_makes_a_name),
    ("permissions_owner_and_times_are_set", Need::Nothing, attributes_are_set),
    ("access_is_what_the_caller_may_do", Need::Root, access_is_told),
    ("a_guard_keeps_from_another_directory", Need::Nothing, guard_keeps),
    ("a_change_is_for_the_file_that_is_expected_or_for_none", Need::Nothing, expected_or_none),
    ("entries_come_with_attributes_when_asked_for", Need::Nothing, entries_with_attributes),
    ("mount_points_come_without_attributes", Need::Root, mount_points_without_attributes),
];

pub(crate) fn send(server: &mut Server, conn: u32, connect: &Connect<'_>) -> Result<Option<Stat>> {
    let answer = server.call(conn, 0, &connect.emit().unwrap(), REPLY_LEN as u32)?;
    assert_eq!(answer.status, 0);
    Ok((!answer.data.is_empty()).then(|| StatReply::parse(&answer.data).unwrap().stat))
}

pub(crate) fn mknod(server: &mut Server, conn: u32, path: &str, mode: u32) -> Result<Option<Stat>> {
    send(server, conn, &Connect { mode, ..Connect::new(Subtype::Mknod, path.as_bytes()) })
}

pub(crate) fn mkdir(server: &mut Server, conn: u32, path: &str) -> Result<()> {
    mknod(server, conn, path, S_IFDIR | 0o755).map(drop)
}

pub(crate) fn unlink(server: &mut Server, conn: u32, path: &str) -> Result<()> {
    send(server, conn, &Connect::new(Subtype::Unlink, path.as_bytes())).map(drop)
}

pub(crate) fn rmdir(server: &mut Server, conn: u32, path: &str) -> Result<()> {
    let new = Connect::new(Subtype::Unlink, path.as_bytes());
    send(server, conn, &Connect { eflag: EFLAG_DIR, ..new }).map(drop)
}

pub(crate) fn rename_to(server: &mut Server, conn: u32, old: &str, new: &str) -> Result<Option<Stat>> {
    let new = Connect::new(Subtype::Rename, new.as_bytes());
    send(server, conn, &Connect { extra: Extra::Rename(old.as_bytes()), ..new })
}

pub(crate) fn make_symlink(server: &mut Server, conn: u32, target: &str, path: &str) -> Result<Option<Stat>> {
    let new = Connect::new(Subtype::Link, path.as_bytes());
    send(server, conn, &Connect { extra: Extra::Symlink(target.as_bytes()), ..new })
}

/// One of our requests behind a path.
pub(crate) fn by_path(
    server: &mut Server,
    conn: u32,
    path: &str,
    request: &Filesys<'_>,
) -> Result<Option<Stat>> {
    let message = request.to_bytes();
    send(server, conn, &Connect::combine_close(path.as_bytes(), false, &message))
}

pub(crate) fn link(server: &mut Server, conn: u32, old: &str, new: &str) -> Result<Option<Stat>> {
    by_path(server, conn, new, &Filesys::Link { guard: 0, old: old.as_bytes() })
}

fn made_and_not_made() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let made = mknod(&mut server, conn, "d", S_IFDIR | 0o2751).unwrap().unwrap();
    assert_eq!((made.mode & 0o17_0777, made.nlink >= 1), (S_IFDIR | 0o751, true));
    assert_eq!(mkdir(&mut server, conn, "d/e/"), Ok(()));
    mknod(&mut server, conn, "d/fifo", S_IFIFO | 0o622).unwrap();
    let fifo = fs::symlink_metadata(dir.path().join("d/fifo")).unwrap();
    assert!(fifo.file_type().is_fifo() && fifo.permissions().mode() & 0o777 == 0o622);
    mknod(&mut server, conn, "d/file", S_IFREG | 0o640).unwrap();
    for mode in [S_IFCHR, S_IFBLK, S_IFSOCK] {
        assert_eq!(mknod(&mut server, conn, "d/x", mode | 0o666), Err(libc::EPERM), "{mode:o}");
    }
    for (path, errno) in [
        ("d", libc::EEXIST),
        ("", libc::EEXIST),
        ("/", libc::EEXIST),
        (".", libc::EEXIST),
        ("d/..", libc::EEXIST),
        ("no/such", libc::ENOENT),
        ("d/file/x", libc::ENOTDIR),
    ] {
        assert_eq!(mkdir(&mut server, conn, path), Err(errno), "{path}");
    }
    assert_eq!(fs::read_dir(dir.path().join("d")).unwrap().count(), 3);
}

fn names_are_removed() {
    let dir = public_dir();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("d/e")).unwrap();
    fs::write(path("f"), "").unwrap();
    symlink("d", path("link")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    for (name, errno) in [
        ("d", libc::EISDIR),
        ("f/", libc::ENOTDIR),
        ("", libc::EISDIR),
        ("no", libc::ENOENT),
        ("..", libc::EISDIR),
    ] {
        assert_eq!(unlink(&mut server, conn, name), Err(errno), "{name}");
    }
    for (name, errno) in [
        ("d", libc::ENOTEMPTY),
        ("f", libc::ENOTDIR),
        ("link", libc::ENOTDIR),
        ("d/.", libc::EINVAL),
        ("d/..", libc::ENOTEMPTY),
        ("/", libc::EBUSY),
        ("no", libc::ENOENT),
    ] {
        assert_eq!(rmdir(&mut server, conn, name), Err(errno), "{name}");
    }
    unlink(&mut server, conn, "link").unwrap();
    rmdir(&mut server, conn, "d/e/").unwrap();
    rmdir(&mut server, conn, "d").unwrap();
    // an open file lives on without its name
    let coid = open(&mut server, conn, "f", 3, 0).unwrap();
    unlink(&mut server, conn, "f").unwrap();
    let stat = StatReply::parse(&server.io(conn, coid, &Io::Stat, REPLY_LEN as u32).unwrap().data).unwrap();
    assert_eq!(stat.stat.nlink, 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn names_are_changed() {
    let dir = public_dir();
    let path = |name: &str| dir.path().join(name);
    for name in ["a", "b"] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("f"), name).unwrap();
    }
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let ino = fs::metadata(path("a/f")).unwrap().ino();
    let told = rename_to(&mut server, conn, "a/f", "b/g").unwrap().unwrap();
    assert_eq!((told.ino, fs::read(path("b/g")).unwrap().as_slice()), (ino, &b"a"[..]));
    rename_to(&mut server, conn, "b/g", "b/f").unwrap();
    assert_eq!(fs::read(path("b/f")).unwrap(), b"a", "the new name is replaced");
    for (old, new, errno) in [
        ("no", "x", libc::ENOENT),
        ("a", "a/x", libc::EINVAL),
        ("a", "b", libc::ENOTEMPTY),
        ("b/f", "a", libc::EISDIR),
        ("b/f/", "x", libc::ENOTDIR),
        ("a/..", "x", libc::EBUSY),
        ("a", ".", libc::EBUSY),
        ("", "x", libc::EBUSY),
    ] {
        assert_eq!(rename_to(&mut server, conn, old, new), Err(errno), "{old} {new}");
    }
    fs::write(path("c"), "c").unwrap();
    let flags = |flags, old| Filesys::Rename { flags, guard: 0, old };
    assert_eq!(by_path(&mut server, conn, "b/f", &flags(rename::NOREPLACE, b"c")), Err(libc::EEXIST));
    by_path(&mut server, conn, "d", &flags(rename::NOREPLACE, b"c")).unwrap();
    by_path(&mut server, conn, "b/f", &flags(rename::EXCHANGE, b"d")).unwrap();
    assert_eq!(
        (fs::read(path("b/f")).unwrap(), fs::read(path("d")).unwrap()),
        (b"c".to_vec(), b"a".to_vec())
    );
    assert_eq!(by_path(&mut server, conn, "x", &flags(rename::EXCHANGE, b"d")), Err(libc::ENOENT));
    assert_eq!(by_path(&mut server, conn, "x", &flags(4, b"d")), Err(libc::EINVAL), "a whiteout is nobody's");
    by_path(&mut server, conn, "e", &flags(0, b"d")).unwrap();
}

fn links_are_made() {
    let dir = public_dir();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("f"), "content").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let told = make_symlink(&mut server, conn, "/etc/passwd", "s").unwrap().unwrap();
    assert_eq!((told.mode & libc::S_IFMT, told.size), (libc::S_IFLNK, 11));
    assert_eq!(fs::read_link(path("s")).unwrap().as_os_str().as_bytes(), b"/etc/passwd");
    assert_eq!(make_symlink(&mut server, conn, "x", "f"), Err(libc::EEXIST));
    assert_eq!(make_symlink(&mut server, conn, "", "empty"), Err(libc::ENOENT));
    let told = link(&mut server, conn, "f", "g").unwrap().unwrap();
    assert_eq!((told.nlink, told.ino), (2, fs::metadata(path("f")).unwrap().ino()));
    // the link itself gets one more name, not what it leads to
    let told = link(&mut server, conn, "s", "t").unwrap().unwrap();
    assert_eq!((told.mode & libc::S_IFMT, told.nlink), (libc::S_IFLNK, 2));
    for (old, new, errno) in [
        ("f", "g", libc::EEXIST),
        ("no", "x", libc::ENOENT),
        ("", "x", libc::EPERM),
        ("f", "no/x", libc::ENOENT),
    ] {
        assert_eq!(link(&mut server, conn, old, new), Err(errno), "{old} {new}");
    }
    fs::create_dir(path("d")).unwrap();
    assert_eq!(link(&mut server, conn, "d", "x"), Err(libc::EPERM), "a directory has one name");
    // QNX's clients name the file by a connection to it
    let coid = server.open(conn, "f").unwrap();
    let mut info = [0; 48];
    info[24..28].copy_from_slice(&coid.to_le_bytes());
    let new = Connect { extra: Extra::Link(&info), ..Connect::new(Subtype::Link, b"q") };
    assert_eq!(send(&mut server, conn, &new).unwrap().unwrap().nlink, 3);
    assert_eq!(send(&mut server, conn, &new), Err(libc::EEXIST));
    let new = Connect { extra: Extra::Link(&[0; 48]), ..Connect::new(Subtype::Link, b"x") };
    assert_eq!(send(&mut server, conn, &new), Err(libc::EBADF));
}

fn any_byte_makes_a_name() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
    for name in all.chunks(100) {
        send(&mut server, conn, &Connect { mode: S_IFDIR | 0o755, ..Connect::new(Subtype::Mknod, name) })
            .unwrap();
    }
    let deep = vec!["d".repeat(250); 8].join("/");
    let mut made = String::new();
    for part in deep.split('/') {
        made.push_str(part);
        mkdir(&mut server, conn, &made).unwrap();
        made.push('/');
    }
    assert_eq!(mkdir(&mut server, conn, &"x".repeat(256)), Err(libc::ENAMETOOLONG));
    assert_eq!(mkdir(&mut server, conn, &"x/".repeat(2500)), Err(libc::ENAMETOOLONG));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
}

fn attributes_are_set() {
    let dir = public_dir();
    let path = dir.path().join("f");
    fs::write(&path, "content").unwrap();
    symlink("f", dir.path().join("s")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let meta = || fs::metadata(&path).unwrap();
    let on_path = |server: &mut Server, name: &str, follow, message: &[u8]| {
        let connect = Connect::combine_close(name.as_bytes(), follow, message).emit().unwrap();
        server.call(conn, 0, &connect, 0).map(drop)
    };
    on_path(&mut server, "f", false, &Io::Chmod { mode: 0o4711 }.to_bytes()).unwrap();
    assert_eq!(meta().permissions().mode() & 0o7777, 0o4711);
    on_path(&mut server, "s", true, &Io::Chmod { mode: 0o600 }.to_bytes()).unwrap();
    assert_eq!(meta().permissions().mode() & 0o7777, 0o600);
    assert_eq!(
        on_path(&mut server, "s", false, &Io::Chmod { mode: 0o600 }.to_bytes()),
        Err(libc::EOPNOTSUPP)
    );
    let (uid, gid) = (meta().uid(), meta().gid());
    on_path(&mut server, "f", false, &Io::Chown { uid: u32::MAX, gid }.to_bytes()).unwrap();
    on_path(&mut server, "f", false, &Io::Chown { uid: u32::MAX, gid: u32::MAX }.to_bytes()).unwrap();
    assert_eq!((meta().uid(), meta().gid()), (uid, gid));
    on_path(&mut server, "f", false, &Io::Utime { now: false, atime: 1000, mtime: 2000 }.to_bytes()).unwrap();
    assert_eq!((meta().atime(), meta().mtime()), (1000, 2000));
    let at = |seconds, nanoseconds| SetTime::At(Timestamp { seconds, nanoseconds });
    let times = Filesys::Times { atime: SetTime::Omit, mtime: at(5, 6) };
    on_path(&mut server, "f", false, &times.to_bytes()).unwrap();
    assert_eq!((meta().atime(), meta().mtime(), meta().mtime_nsec()), (1000, 5, 6));
    on_path(&mut server, "s", false, &Filesys::Times { atime: at(7, 0), mtime: at(8, 9) }.to_bytes())
        .unwrap();
    let of_link = fs::symlink_metadata(dir.path().join("s")).unwrap();
    assert_eq!((of_link.mtime(), of_link.mtime_nsec(), meta().mtime()), (8, 9, 5));
    // and on an open file, whatever it was opened for
    let coid = server.open(conn, "f").unwrap();
    server.io(conn, coid, &Io::Chmod { mode: 0o640 }, 0).unwrap();
    ours(&mut server, conn, coid, &Filesys::Times { atime: SetTime::Now, mtime: at(1, 1) }).unwrap();
    assert!(meta().atime() > 1_000_000_000 && meta().mtime() == 1);
    assert_eq!(meta().permissions().mode() & 0o7777, 0o640);
}

fn access_is_told() {
    let dir = public_dir();
    for (name, mode) in [("open", 0o646), ("closed", 0o600), ("program", 0o711)] {
        fs::write(dir.path().join(name), name).unwrap();
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
    }
    let mut server = Start::new().export(dir.path()).start();
    let ask = |conn: u32, server: &mut Server, name: &str, mask| {
        by_path(server, conn, name, &Filesys::Access { mask }).map(drop)
    };
    let (nobody, root) = (server.connect_writer(crate::support::NOBODY), server.connect_writer(0));
    let reader = server.connect(crate::support::NOBODY).unwrap();
    let denied = Err(libc::EACCES);
    assert_eq!(ask(nobody, &mut server, "open", access::READ | access::WRITE), Ok(()));
    assert_eq!(ask(nobody, &mut server, "open", access::EXECUTE), denied);
    assert_eq!(ask(nobody, &mut server, "closed", 0), Ok(()));
    assert_eq!(ask(nobody, &mut server, "closed", access::READ), denied);
    assert_eq!(ask(nobody, &mut server, "program", access::EXECUTE), Ok(()));
    assert_eq!(ask(nobody, &mut server, "missing", 0), Err(libc::ENOENT));
    assert_eq!(ask(reader, &mut server, "open", access::WRITE), denied, "nobody was given the right");
    assert_eq!(ask(root, &mut server, "closed", access::READ | access::WRITE), Ok(()));
    assert_eq!(ask(root, &mut server, "closed", access::EXECUTE), denied);
}

fn expected_or_none() {
    let dir = public_dir();
    for name in ["old", "new"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let stat = Io::Stat.to_bytes();
    let look = Connect::combine_close(b"old", false, &stat);
    let old = send(&mut server, conn, &look).unwrap().unwrap();
    let chained = |io: &Io<'_>| {
        let mut messages = Vec::new();
        Filesys::Expect(filesys::Identity::of(&old)).emit(Link::Follows, &mut messages);
        io.emit(Link::Last, &mut messages);
        messages
    };
    // a link, too: what is read is the target of the one that was looked up
    std::os::unix::fs::symlink("target", dir.path().join("link")).unwrap();
    let look = Connect::combine_close(b"link", false, &stat);
    let link = filesys::Identity::of(&send(&mut server, conn, &look).unwrap().unwrap());
    for (ino, read) in [(link.ino, Ok(b"target".to_vec())), (link.ino + 1, Err(libc::ESTALE))] {
        let mut meant = Vec::new();
        Filesys::Expect(filesys::Identity { ino, ..link }).emit(Link::Last, &mut meant);
        let readlink = Connect { extra: Extra::Messages(&meant), ..Connect::readlink(b"link") };
        let answer = server.call(conn, 0, &readlink.emit().unwrap(), 99).map(|answer| answer.data);
        assert_eq!(answer, read);
    }
    let truncate = chained(&Io::Space { subtype: space::FREE, whence: 0, start: 1, len: 0 });
    let truncate = |server: &mut Server, path: &[u8]| {
        server.call(conn, 0, &Connect::combine_close(path, false, &truncate).emit().unwrap(), 99).map(drop)
    };
    let described = chained(&Io::Stat);
    let ioflag = IOFLAG_WRITE | IOFLAG_TRUNC;
    let extra = Extra::Messages(&described);
    let empty = |path| Connect { ioflag, extra, ..Connect::new(Subtype::CombineClose, path) };
    assert_eq!(truncate(&mut server, b"new"), Err(libc::ESTALE));
    assert_eq!(send(&mut server, conn, &empty(b"new")), Err(libc::ESTALE));
    assert_eq!(fs::read(dir.path().join("new")).unwrap(), b"new");
    assert_eq!(truncate(&mut server, b"old"), Ok(()));
    assert_eq!(fs::read(dir.path().join("old")).unwrap(), b"o");
    assert_eq!(send(&mut server, conn, &empty(b"old")).unwrap().unwrap().size, 0);
}

fn guard_keeps() {
    let dir = public_dir();
    for name in ["here", "there"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("f"), name).unwrap();
    }
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let guard_of = |server: &mut Server, path| {
        let stat = server.stat(conn, path).unwrap();
        filesys::guard(stat.dev, stat.ino)
    };
    let (here, there) = (guard_of(&mut server, "here"), guard_of(&mut server, "there"));
    let stat = Io::Stat.to_bytes();
    for connect in [
        Connect::new(Subtype::Unlink, b"there/f"),
        Connect { mode: S_IFDIR | 0o755, ..Connect::new(Subtype::Mknod, b"there/d") },
        Connect { extra: Extra::Rename(b"here/f"), ..Connect::new(Subtype::Rename, b"there/g") },
        Connect { extra: Extra::Symlink(b"x"), ..Connect::new(Subtype::Link, b"there/s") },
        Connect::open(b"there/f", 0o1003, 0),
        Connect::open(b"there/new", 0o403, 0o644),
        Connect::combine_close(b"there/f", false, &stat),
        Connect::readlink(b"there/f"),
    ] {
        assert_eq!(send(&mut server, conn, &connect.guarded(here)), Err(libc::ESTALE), "{connect:?}");
    }
    let old = Filesys::Rename { flags: 0, guard: there, old: b"here/f" };
    assert_eq!(by_path(&mut server, conn, "g", &old), Err(libc::ESTALE));
    let old = Filesys::Link { guard: there, old: b"here/f" };
    assert_eq!(by_path(&mut server, conn, "g", &old), Err(libc::ESTALE));
    // the directory is right, and its file is another one
    let mut meant = filesys::Identity::of(&server.stat(conn, "here/f").unwrap());
    let link = |server: &mut Server, meant: filesys::Identity| {
        let mut messages = Vec::new();
        Filesys::Expect(meant).emit(Link::Follows, &mut messages);
        Filesys::Link { guard: here, old: b"here/f" }.emit(Link::Last, &mut messages);
        send(server, conn, &Connect::combine_close(b"g", false, &messages))
    };
    link(&mut server, meant).unwrap();
    fs::remove_file(dir.path().join("g")).unwrap();
    meant.ino += 1;
    assert_eq!(link(&mut server, meant), Err(libc::ESTALE));
    for name in ["here", "there"] {
        assert_eq!(fs::read_to_string(dir.path().join(name).join("f")).unwrap(), name);
        assert_eq!(fs::read_dir(dir.path().join(name)).unwrap().count(), 1);
    }
    send(&mut server, conn, &Connect::new(Subtype::Unlink, b"there/f").guarded(there)).unwrap();
    let old = Filesys::Rename { flags: 0, guard: here, old: b"here/f" };
    by_path(&mut server, conn, "there/f", &old).unwrap();
}

/// Entries of a directory, read in pieces, with what came along.
fn entries(server: &mut Server, conn: u32, path: &str, piece: u32) -> Vec<(Vec<u8>, Option<Stat>)> {
    let coid = server.open(conn, path).unwrap();
    let (mut entries, mut cookie) = (Vec::new(), 0);
    loop {
        let xtype = XTYPE_DIR_EXTRA_HINT | XTYPE_DIR_ATTRIBUTES;
        let read = Io::Read { nbytes: piece, xtype, offset: Some(cookie) };
        let answer = server.io(conn, coid, &read, piece).unwrap();
        if answer.data.is_empty() {
            server.close(conn, coid).unwrap();
            return entries;
        }
        for entry in Dirents::new(&answer.data) {
            let entry = entry.unwrap();
            cookie = entry.next;
            entries.push((entry.name.to_vec(), entry.stat));
        }
    }
}

fn entries_with_attributes() {
    let dir = public_dir();
    for n in 0..300 {
        fs::write(dir.path().join(format!("file {n}")), vec![0; n]).unwrap();
    }
    symlink("nowhere", dir.path().join("link")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    for piece in [300, 4096, 1 << 20] {
        let entries = entries(&mut server, conn, "", piece);
        assert_eq!(entries.len(), 303, "{piece}");
        for (name, stat) in entries {
            let name = String::from_utf8(name).unwrap();
            if matches!(name.as_str(), "." | "..") {
                assert_eq!(stat, None);
            } else {
                // what else a listing tells has a test of its own
                let stat = stat.map(|stat| Stat { flags: stat.flags & !FLAG_BARE, ..stat });
                assert_eq!(stat, Some(server.stat(conn, &name).unwrap()), "{name}");
            }
        }
    }
}

fn mount_points_without_attributes() {
    use nix::mount::{MsFlags, mount};
    crate::support::in_mount_namespace(|| {
        let dir = public_dir();
        for name in ["mounted", "plain"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        mount(Some("tmpfs"), &dir.path().join("mounted"), Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .unwrap();
        let mut server = Start::new().export(dir.path()).start();
        let conn = server.connect_self();
        let entries = entries(&mut server, conn, "", 4096);
        let has = |name: &[u8]| entries.iter().find(|(known, _)| known == name).unwrap().1.is_some();
        assert!(!has(b"mounted") && has(b"plain"));
    });
}
