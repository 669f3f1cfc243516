//! Who may change files, where, and as whom.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use qnet_iomsg::filesys::{Request as Filesys, SetTime};
use qnet_iomsg::flags::{
    IOFLAG_CREAT, IOFLAG_EXCL, IOFLAG_READ, IOFLAG_TRUNC, IOFLAG_WRITE, S_IFDIR, S_IFIFO,
};
use qnet_iomsg::message::space;
use qnet_iomsg::{Connect, Io};
use qnet_ipc::Claim;
use qnet_ipc::packet::right;

use crate::Case;
use crate::changing::{link, make_symlink, mkdir, mknod, rename_to, rmdir, unlink};
use crate::support::{NOBODY, Need, PublicDir, Result, Server, Start, in_mount_namespace, public_dir};
use crate::writing::{open, write_at};

pub(crate) const CASES: &[Case] = &[
    ("without_the_right_nothing_is_changed_and_the_log_says_what_gives_it", Need::Nothing, without_the_right),
    ("with_the_right_it_is_done", Need::Nothing, with_the_right),
    ("where_all_is_read_only_nothing_is_changed", Need::Nothing, read_only_exports),
    ("what_lies_above_served_directories_is_nobodys_to_change", Need::Nothing, above_served_directories),
    ("new_files_belong_to_the_caller", Need::Root, new_files_belong),
    ("what_nobody_may_not_do_here_he_may_not_do_from_elsewhere", Need::Root, nobody_may_not),
    ("sticky_directories_protect_the_files_of_others", Need::Root, sticky_directories),
    ("an_open_file_is_written_as_who_opened_it", Need::Root, open_files_keep_their_identity),
    ("rights_go_with_the_identity_that_had_them", Need::Root, rights_go_with_the_identity),
    ("only_root_keeps_setuid_bits_when_writing", Need::Root, setuid_bits_are_dropped),
    ("blocks_kept_for_root_are_kept_from_nobody", Need::Loop, blocks_kept_for_root),
    ("reserved_names_are_closed", Need::Root, reserved_names_are_closed),
];

type Attempt = fn(&mut Server, u32, &str) -> Result<()>;

/// All that changes something, to be tried in a directory as [`prepared`] whose path ends in a slash.
const EVERYTHING: &[(&str, Attempt)] = &[
    ("write", |server, conn, dir| open(server, conn, &path(dir, "f"), IOFLAG_WRITE, 0).map(drop)),
    ("cut", |server, conn, dir| open(server, conn, &path(dir, "f"), IOFLAG_READ | IOFLAG_TRUNC, 0).map(drop)),
    ("create", |server, conn, dir| {
        open(server, conn, &path(dir, "new"), IOFLAG_READ | IOFLAG_CREAT, 0o644).map(drop)
    }),
    ("mkdir", |server, conn, dir| mkdir(server, conn, &path(dir, "new"))),
    ("fifo", |server, conn, dir| mknod(server, conn, &path(dir, "new"), S_IFIFO | 0o644).map(drop)),
    ("symlink", |server, conn, dir| make_symlink(server, conn, "x", &path(dir, "new")).map(drop)),
    ("link", |server, conn, dir| link(server, conn, &path(dir, "f"), &path(dir, "new")).map(drop)),
    ("rename", |server, conn, dir| rename_to(server, conn, &path(dir, "f"), &path(dir, "new")).map(drop)),
    ("swap", |server, conn, dir| {
        let swap = Filesys::Rename { flags: 2, guard: 0, old: path(dir, "f").as_bytes() }.to_bytes();
        on_path(server, conn, &path(dir, "d"), &swap)
    }),
    ("chmod", |server, conn, dir| {
        on_path(server, conn, &path(dir, "f"), &Io::Chmod { mode: 0o600 }.to_bytes())
    }),
    ("chown", |server, conn, dir| {
        on_path(server, conn, &path(dir, "f"), &Io::Chown { uid: NOBODY, gid: NOBODY }.to_bytes())
    }),
    ("size", |server, conn, dir| {
        let size = Io::Space { subtype: space::FREE, whence: 0, start: 1, len: 0 };
        on_path(server, conn, &path(dir, "f"), &size.to_bytes())
    }),
    ("times", |server, conn, dir| {
        let times = Filesys::Times { atime: SetTime::Now, mtime: SetTime::Now };
        on_path(server, conn, &path(dir, "f"), &times.to_bytes())
    }),
    ("utime", |server, conn, dir| {
        let utime = Io::Utime { now: true, atime: 0, mtime: 0 };
        on_path(server, conn, &path(dir, "f"), &utime.to_bytes())
    }),
    ("rmdir", |server, conn, dir| rmdir(server, conn, &path(dir, "d"))),
    ("unlink", |server, conn, dir| unlink(server, conn, &path(dir, "f"))),
];

fn path(dir: &str, name: &str) -> String {
    format!("{dir}{name}")
}

/// Messages behind a path, which is not followed.
fn on_path(server: &mut Server, conn: u32, path: &str, messages: &[u8]) -> Result<()> {
    let connect = Connect::combine_close(path.as_bytes(), false, messages).emit().unwrap();
    server.call(conn, 0, &connect, 0).map(drop)
}

/// A directory with a file and a directory.
fn prepared() -> PublicDir {
    let dir = public_dir();
    prepare(dir.path());
    dir
}

fn prepare(dir: &Path) {
    fs::create_dir_all(dir.join("d")).unwrap();
    fs::write(dir.join("f"), "content").unwrap();
    fs::set_permissions(dir.join("f"), Permissions::from_mode(0o644)).unwrap();
}

fn is_as_prepared(dir: &Path) -> bool {
    fs::read(dir.join("f")).is_ok_and(|content| content == b"content")
        && fs::metadata(dir.join("f")).unwrap().permissions().mode() & 0o777 == 0o644
        && fs::read_dir(dir).unwrap().count() == 2
}

fn without_the_right() {
    let dir = prepared();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_self();
    for (what, attempt) in EVERYTHING {
        assert_eq!(attempt(&mut server, conn, ""), Err(libc::EACCES), "{what}");
    }
    // what is there is in the way, as everywhere; and it can be opened for reading with any flags
    assert_eq!(mkdir(&mut server, conn, "d"), Err(libc::EEXIST));
    assert_eq!(open(&mut server, conn, "f", IOFLAG_READ | IOFLAG_CREAT | IOFLAG_EXCL, 0), Err(libc::EEXIST));
    let coid = open(&mut server, conn, "f", IOFLAG_READ | IOFLAG_CREAT, 0).unwrap();
    assert_eq!(server.io(conn, coid, &Io::Chmod { mode: 0 }, 0), Err(libc::EACCES));
    assert_eq!(write_at(&mut server, conn, coid, Some(0), b"x"), Err(libc::EBADF));
    assert_eq!(open(&mut server, conn, "missing", IOFLAG_WRITE, 0), Err(libc::ENOENT));
    assert!(is_as_prepared(dir.path()));
    let log = server.log();
    assert_eq!(log.matches("allow=write").count(), 1, "once is enough: {log}");
}

fn with_the_right() {
    let dir = public_dir();
    let mut server = Start::new().export(dir.path()).start();
    // whoever runs the tests may do all of it to his own files, but give them away
    let conn = server.connect_owner();
    let is_root = nix::unistd::geteuid().is_root();
    for (what, attempt) in EVERYTHING.iter().filter(|(what, _)| is_root || *what != "chown") {
        let below = dir.path().join(what);
        prepare(&below);
        assert_eq!(attempt(&mut server, conn, &format!("{what}/")), Ok(()), "{what}");
        let untouched = is_as_prepared(&below) && !matches!(*what, "write" | "chown" | "times" | "utime");
        assert!(!untouched, "{what} was done");
    }
    assert!(!server.log().contains("allow=write"));
}

fn read_only_exports() {
    let (closed, free) = (prepared(), prepared());
    let only = |dir: &PublicDir, how| format!("{}{how}", dir.path().display());
    let options = ["--only", &only(&closed, ":ro"), "--only", &only(&free, "")];
    let mut server = Start::new().options(&options).start();
    let conn = server.connect_owner();
    let below = |dir: &PublicDir| format!("{}/", dir.path().display());
    for (what, attempt) in EVERYTHING {
        assert_eq!(attempt(&mut server, conn, &below(&closed)), Err(libc::EROFS), "{what}");
    }
    assert_eq!(mkdir(&mut server, conn, &(below(&closed) + "d")), Err(libc::EEXIST));
    assert!(is_as_prepared(closed.path()));
    // out of there and into it, from where things may be changed
    let (here, there) = (below(&free) + "f", below(&closed) + "f");
    assert_eq!(link(&mut server, conn, &there, &(below(&free) + "g")), Err(libc::EROFS));
    assert_eq!(rename_to(&mut server, conn, &there, &(below(&free) + "g")), Err(libc::EROFS));
    assert_eq!(rename_to(&mut server, conn, &here, &(below(&closed) + "g")), Err(libc::EROFS));
    // and by a way that leads through both
    let around = format!("{}d/../../../{}", below(&free), there.trim_start_matches('/'));
    assert_eq!(unlink(&mut server, conn, &around), Err(libc::EROFS));
    assert!(is_as_prepared(closed.path()) && is_as_prepared(free.path()));
    unlink(&mut server, conn, &here).unwrap();
    let log = server.log();
    assert_eq!(log.matches("export=PATH:ro").count(), 1, "{log}");
    let mut server = Start::new().options(&["--only", "/:ro"]).start();
    let conn = server.connect_owner();
    assert_eq!(mkdir(&mut server, conn, &(below(&free) + "new")), Err(libc::EROFS));
}

fn above_served_directories() {
    let dir = prepared();
    let served = dir.path().join("d");
    let mut server = Start::new().options(&["--only", served.to_str().unwrap()]).start();
    let conn = server.connect_owner();
    let above = format!("{}/", dir.path().display());
    assert_eq!(mkdir(&mut server, conn, &(above.clone() + "new")), Err(libc::EROFS));
    assert_eq!(rmdir(&mut server, conn, &(above.clone() + "d")), Err(libc::EROFS));
    assert_eq!(
        rename_to(&mut server, conn, &(above.clone() + "d"), &(above.clone() + "e")),
        Err(libc::EROFS)
    );
    mkdir(&mut server, conn, &(above + "d/new")).unwrap();
}

fn new_files_belong() {
    let dir = public_dir();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(dir.path().join("group")).unwrap();
    chown(dir.path().join("group"), Some(1001), Some(4711)).unwrap();
    fs::set_permissions(dir.path().join("group"), Permissions::from_mode(0o2775)).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let claim = Claim::user(1001, 1002, vec![4711]);
    let conn = server.connect_with(2, Some(claim), right::WRITE).unwrap();
    open(&mut server, conn, "f", IOFLAG_WRITE | IOFLAG_CREAT, 0o644).unwrap();
    mkdir(&mut server, conn, "d").unwrap();
    mkdir(&mut server, conn, "group/d").unwrap();
    make_symlink(&mut server, conn, "x", "s").unwrap();
    let owner = |name: &str| {
        let meta = fs::symlink_metadata(dir.path().join(name)).unwrap();
        (meta.uid(), meta.gid())
    };
    for name in ["f", "d", "s"] {
        assert_eq!(owner(name), (1001, 1002), "{name}");
    }
    assert_eq!(owner("group/d"), (1001, 4711));
    assert_eq!(fs::metadata(dir.path().join("group/d")).unwrap().mode() & 0o2000, 0o2000, "inherited");
    // to a group of his own, and nothing beyond
    let chown = |server: &mut Server, uid, gid| {
        let message = Io::Chown { uid, gid }.to_bytes();
        on_path(server, conn, "f", &message)
    };
    assert_eq!(chown(&mut server, u32::MAX, 4711), Ok(()));
    assert_eq!(chown(&mut server, u32::MAX, 0), Err(libc::EPERM));
    assert_eq!(chown(&mut server, 0, u32::MAX), Err(libc::EPERM));
    assert_eq!(owner("f"), (1001, 4711));
}

fn nobody_may_not() {
    let dir = prepared();
    let mut server = Start::new().export(dir.path()).start();
    let nobody = server.connect_writer(NOBODY);
    for (what, attempt) in EVERYTHING {
        let result = attempt(&mut server, nobody, "");
        let expected = match *what {
            "chmod" | "chown" => libc::EPERM,
            // the kernel's rule for links to files of others, where it is on, comes first
            "link" if result == Err(libc::EPERM) => libc::EPERM,
            _ => libc::EACCES,
        };
        assert_eq!(result, Err(expected), "{what}");
    }
    assert!(is_as_prepared(dir.path()));
    let mut all = Server::new();
    let nobody = all.connect_writer(NOBODY);
    let own = std::process::id();
    for (path, errno) in [
        ("etc/passwd".to_owned(), libc::EACCES),
        (format!("proc/{own}/mem"), libc::EACCES),
        (format!("proc/{own}/oom_score_adj"), libc::EACCES),
        ("proc/sys/kernel/hostname".to_owned(), libc::EACCES),
        (format!("proc/{}/comm", all.pid()), libc::EACCES),
    ] {
        assert_eq!(open(&mut all, nobody, &path, IOFLAG_WRITE, 0), Err(errno), "{path}");
    }
    assert_eq!(mknod(&mut all, nobody, "etc/new", S_IFDIR | 0o755), Err(libc::EACCES));
    assert_eq!(rename_to(&mut all, nobody, "etc/passwd", "tmp/x"), Err(libc::EACCES));
}

fn sticky_directories() {
    let dir = public_dir();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let (one, two) = (server.connect_writer(1001), server.connect_writer(1002));
    open(&mut server, one, "f", IOFLAG_WRITE | IOFLAG_CREAT, 0o666).unwrap();
    open(&mut server, two, "g", IOFLAG_WRITE | IOFLAG_CREAT, 0o666).unwrap();
    assert_eq!(unlink(&mut server, two, "f"), Err(libc::EPERM));
    assert_eq!(rename_to(&mut server, two, "f", "h"), Err(libc::EPERM));
    assert_eq!(rename_to(&mut server, two, "g", "f"), Err(libc::EPERM));
    unlink(&mut server, one, "f").unwrap();
}

fn open_files_keep_their_identity() {
    use qnet_ipc::ToServer;
    let dir = public_dir();
    fs::write(dir.path().join("f"), "").unwrap();
    chown(dir.path().join("f"), Some(1001), Some(1001)).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_writer(1001);
    let coid = open(&mut server, conn, "f", IOFLAG_WRITE, 0).unwrap();
    let claim = Claim { nd: 2, ..Claim::user(1002, 1002, vec![]) };
    server.send(&ToServer::Credentials { conn, flags: right::WRITE, claim });
    assert_eq!(open(&mut server, conn, "f", IOFLAG_WRITE, 0), Err(libc::EACCES), "somebody else now");
    assert_eq!(write_at(&mut server, conn, coid, Some(0), b"text"), Ok(4));
    server.io(conn, coid, &Io::Chmod { mode: 0o600 }, 0).unwrap();
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"text");
}

/// A caller who becomes somebody else keeps nothing of what the one before might do.
fn rights_go_with_the_identity() {
    use qnet_ipc::ToServer;
    let dir = public_dir();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_with(2, Some(Claim::user(0, 0, vec![])), right::ALL).unwrap();
    mkdir(&mut server, conn, "of-root").unwrap();
    let become_nobody = |server: &mut Server, flags| {
        let claim = Claim { nd: 2, ..Claim::user(NOBODY, NOBODY, vec![]) };
        server.send(&ToServer::Credentials { conn, flags, claim });
    };
    become_nobody(&mut server, 0);
    assert_eq!(
        mkdir(&mut server, conn, "of-nobody"),
        Err(libc::EACCES),
        "everybody may write there, he may not"
    );
    let signal = qnet_iomsg::signal::Request { signo: 15, pid: 1, ..Default::default() };
    assert_eq!(server.call(conn, 0, &signal.emit(), 0).map(drop), Err(libc::EPERM));
    assert!(server.log().contains("allow=signal"), "refused for want of the right: {}", server.log());
    become_nobody(&mut server, right::WRITE);
    mkdir(&mut server, conn, "of-nobody").unwrap();
}

fn setuid_bits_are_dropped() {
    let dir = public_dir();
    let path = dir.path().join("f");
    fs::write(&path, "program").unwrap();
    chown(&path, Some(1001), Some(1001)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o6777)).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_writer(NOBODY);
    assert_eq!(server.stat(conn, "f").unwrap().mode & 0o7777, 0o6777, "shown");
    let coid = open(&mut server, conn, "f", IOFLAG_WRITE, 0).unwrap();
    write_at(&mut server, conn, coid, Some(0), b"other").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);
}

/// The names of channels are made and removed by their owners alone, and a network directory by its own server.
fn reserved_names_are_closed() {
    let mut server = Server::new();
    let root = server.connect_writer(0);
    for path in ["dev/name/x", "dev/name/local/x", "dev/name"] {
        let result = mkdir(&mut server, root, path);
        assert!(matches!(result, Err(libc::EROFS | libc::ENOENT | libc::EEXIST)), "{path}: {result:?}");
    }
    assert_eq!(rmdir(&mut server, root, "dev/name/local"), Err(libc::EROFS));
    let own = format!("proc/{}", server.pid());
    assert_eq!(open(&mut server, root, &format!("{own}/oom_score_adj"), IOFLAG_WRITE, 0), Err(libc::EACCES));
}

/// ext4 keeps some of its blocks for CAP_SYS_RESOURCE.
fn blocks_kept_for_root() {
    in_mount_namespace(|| {
        let dir = public_dir();
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        fs::create_dir(&mount).unwrap();
        let run = |program: &str, words: &[&str]| {
            let status = Command::new(program).args(words).args([&image]).status().unwrap();
            assert!(status.success(), "{program}");
        };
        run("mkfs.ext4", &["-q", "-m", "40"]);
        let mounted = Command::new("mount").args(["-o", "loop"]).args([&image, &mount]).status().unwrap();
        assert!(mounted.success());
        fs::set_permissions(&mount, Permissions::from_mode(0o777)).unwrap();
        let mut server = Start::new().export(&mount).start();
        let (nobody, root) = (server.connect_writer(NOBODY), server.connect_writer(0));
        let mut fill = |conn, name: &str| {
            let coid = open(&mut server, conn, name, IOFLAG_WRITE | IOFLAG_CREAT, 0o666).unwrap();
            let mut at = 0;
            let full = loop {
                match write_at(&mut server, conn, coid, Some(at), &[1; 65536]) {
                    Ok(n) => at += n as u64,
                    Err(errno) => break errno,
                }
                assert!(at < 8 << 20, "it is never full");
            };
            assert_eq!(full, libc::ENOSPC);
            at
        };
        let of_nobody = fill(nobody, "f");
        let of_root = fill(root, "g");
        assert!(of_nobody > 1 << 20 && of_root > 1 << 20, "{of_nobody} {of_root}");
    });
}
