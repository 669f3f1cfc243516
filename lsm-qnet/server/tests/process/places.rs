//! Where paths must not lead: into our own process, and into network directories.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use qnet_iomsg::filesys::Request as Filesys;
use qnet_iomsg::{Connect, Io};

use crate::Case;
use crate::changing::{link, mkdir, rename_to, rmdir};
use crate::support::{NOBODY, Need, Server, Start, in_mount_namespace, public_dir};

pub(crate) const CASES: &[Case] = &[
    ("own_process_cannot_be_entered", Need::Nothing, own_process_cannot_be_entered),
    ("proc_self_does_not_exist", Need::Nothing, proc_self_does_not_exist),
    ("links_of_processes_are_not_followed", Need::Nothing, links_of_processes_are_not_followed),
    ("proc_net_and_mounts_are_served", Need::Nothing, proc_net_and_mounts_are_served),
    ("device_links_into_our_process_are_dead", Need::Nothing, device_links_are_dead),
    ("a_process_mounted_elsewhere_is_closed", Need::Root, process_mounted_elsewhere),
    ("other_mounts_are_entered", Need::Root, other_mounts_are_entered),
    ("network_directory_is_seen_but_never_entered", Need::Fuse, network_directory_is_never_entered),
    ("several_directories_are_one_tree", Need::Nothing, several_directories_are_one_tree),
    ("links_in_sticky_directories_are_protected", Need::Root, links_in_sticky_directories),
];

fn own_process_cannot_be_entered() {
    let mut server = Server::new();
    let conn = server.connect_self();
    let own = format!("proc/{}", server.pid());
    for inside in ["/mem", "/maps", "/fd", "/task", "/", "/../1/status", "/cwd/etc"] {
        assert_eq!(server.stat(conn, &format!("{own}{inside}")), Err(libc::EACCES), "{inside}");
    }
    assert_eq!(server.open(conn, &own), Err(libc::EACCES));
    // it is seen in a long listing
    assert_eq!(server.stat(conn, &own).unwrap().mode & libc::S_IFMT, libc::S_IFDIR);
    // each thread has a directory of its own, which is not listed
    let threads = fs::read_dir(format!("/{own}/task")).unwrap();
    for thread in threads {
        let thread = thread.unwrap().file_name().into_string().unwrap();
        assert_eq!(server.stat(conn, &format!("proc/{thread}/mem")), Err(libc::EACCES), "{thread}");
    }
    // by a way with detours
    assert_eq!(server.stat(conn, &format!("etc/..//./{own}/../{}/mem", server.pid())), Err(libc::EACCES));
}

fn proc_self_does_not_exist() {
    let mut server = Server::new();
    let conn = server.connect_self();
    for path in ["proc/self", "proc/thread-self", "proc/self/maps", "proc/self/", "proc/net/../self/maps"] {
        assert_eq!(server.stat(conn, path), Err(libc::ENOENT), "{path}");
        assert_eq!(server.open(conn, path), Err(libc::ENOENT), "{path}");
        assert_eq!(server.readlink(conn, path), Err(libc::ENOENT), "{path}");
    }
    let names: Vec<_> =
        server.list(conn, "proc", 1 << 16).unwrap().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&b"cpuinfo".to_vec()) && names.contains(&b"1".to_vec()));
    assert!(!names.iter().any(|name| matches!(name.as_slice(), b"self" | b"thread-self")));
}

fn links_of_processes_are_not_followed() {
    let mut server = Server::new();
    let conn = server.connect_self();
    let test = format!("proc/{}", std::process::id());
    for link in ["exe", "cwd/etc/passwd", "root/etc/passwd", "fd/0", "ns/mnt"] {
        let path = format!("{test}/{link}");
        assert_eq!(server.stat_with(conn, &path, true), Err(libc::ELOOP), "{link}");
        assert_eq!(server.open(conn, &path), Err(libc::ELOOP), "{link}");
    }
}

fn proc_net_and_mounts_are_served() {
    let mut server = Server::new();
    let conn = server.connect_self();
    assert!(server.cat(conn, "proc/mounts").unwrap().windows(6).any(|w| w == b" proc "));
    assert!(server.cat(conn, "proc/net/dev").unwrap().starts_with(b"Inter-"));
    assert_eq!(server.stat(conn, "proc/net").unwrap().mode & libc::S_IFMT, libc::S_IFDIR);
    assert_eq!(server.stat(conn, "proc/mounts").unwrap().mode & libc::S_IFMT, libc::S_IFREG);
    let names = server.list(conn, "proc", 1 << 16).unwrap();
    assert!(names.contains(&(b"net".to_vec(), Some(libc::S_IFDIR))));
}

fn device_links_are_dead() {
    let mut server = Server::new();
    let conn = server.connect_self();
    // /dev/fd leads to /proc/self/fd, /dev/stderr below it
    for path in ["dev/fd/2", "dev/stderr"] {
        assert_eq!(server.open(conn, path), Err(libc::ENOENT), "{path}");
    }
    let zero = server.open(conn, "dev/zero").unwrap();
    assert_eq!(server.read_at(conn, zero, 0, 10).unwrap(), [0; 10]);
}

fn process_mounted_elsewhere() {
    in_mount_namespace(|| {
        let dir = public_dir();
        let (process, part) = (dir.path().join("process"), dir.path().join("part"));
        let bind = |from: &str, to: &Path| {
            fs::create_dir(to).unwrap();
            mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        };
        bind(&format!("/proc/{}", std::process::id()), &process);
        bind("/proc/sys", &part);
        let mut server = Start::new().export(dir.path()).start();
        let conn = server.connect(NOBODY).unwrap();
        assert_eq!(server.stat(conn, "process"), Err(libc::EACCES));
        assert_eq!(server.stat(conn, "process/status"), Err(libc::EACCES));
        assert!(!server.cat(conn, "part/kernel/osrelease").unwrap().is_empty());
    });
}

fn other_mounts_are_entered() {
    in_mount_namespace(|| {
        let dir = public_dir();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let mut server = Start::new().export(dir.path()).start();
        let conn = server.connect(NOBODY).unwrap();
        assert_eq!(server.stat(conn, "a/b/f"), Err(libc::ENOENT));
        // mounted while the server runs
        mount(Some("none"), &inner, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir_all(inner.join("deep/er")).unwrap();
        fs::write(inner.join("deep/er/f"), "x").unwrap();
        symlink("/a/b/deep", dir.path().join("way")).unwrap();
        symlink("../../..", inner.join("deep/up")).unwrap();
        for path in
            ["a/b/deep/er/f", "way/er/f", "a/b/deep/up/way/er/../er/f", "a/b/deep/up/../../way/er//./f"]
        {
            assert_eq!(server.cat(conn, path).unwrap(), b"x", "{path}");
        }
        assert_eq!(server.stat(conn, "a/b/deep/er/f/"), Err(libc::ENOTDIR));
        assert_eq!(server.stat(conn, "a/b/deep/er/f/.."), Err(libc::ENOTDIR));
        assert_eq!(server.stat_with(conn, "way/", false).unwrap().mode & libc::S_IFMT, libc::S_IFDIR);
        assert_eq!(server.list(conn, "a/b", 4096).unwrap().len(), 3);
    });
}

/// The mount answers nothing: a request that reached it would never return.
fn network_directory_is_never_entered() {
    in_mount_namespace(|| {
        let dir = public_dir();
        let net = dir.path().join("net");
        fs::create_dir(&net).unwrap();
        symlink("net/other/etc", dir.path().join("way")).unwrap();
        let mut server = Start::new().export(dir.path()).start();
        let conn = server.connect(NOBODY).unwrap();
        server.stat(conn, "net").unwrap();
        let fuse = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", fuse.as_raw_fd());
        mount(Some("qnet"), &net, Some("fuse.qnet"), MsFlags::MS_NOSUID, Some(options.as_str())).unwrap();
        let stat = server.stat(conn, "net").unwrap();
        assert_eq!(stat.mode, libc::S_IFDIR | 0o555);
        for path in ["net/", "net/other", "net/other/etc/hostname", "net/../net/x", "way", "way/hostname"] {
            assert_eq!(server.stat_with(conn, path, true), Err(libc::ELOOP), "{path}");
        }
        assert_eq!(server.open(conn, "net"), Err(libc::ELOOP));
        assert!(server.list(conn, "", 4096).unwrap().iter().any(|(name, _)| name == b"net"));
        network_directory_is_not_asked(&mut server);
        // with the mount gone the directory is an ordinary one again
        nix::mount::umount2(&net, nix::mount::MntFlags::MNT_DETACH).unwrap();
        assert_eq!(server.list(conn, "net", 4096).unwrap().len(), 2);
    });
}

/// Nobody answers for this one: a request that reached it would never end.
fn network_directory_is_not_asked(server: &mut Server) {
    use qnet_iomsg::message::pathconf;
    let root = server.connect_writer(0);
    let on_path = |server: &mut Server, message: &[u8]| {
        let connect = Connect::combine_close(b"net", false, message).emit().unwrap();
        server.call(root, 0, &connect, 4096).map(drop)
    };
    for (message, expected) in [
        (Io::Chmod { mode: 0 }.to_bytes(), Err(libc::EROFS)),
        (Io::Chown { uid: 0, gid: 0 }.to_bytes(), Err(libc::EROFS)),
        (Io::Utime { now: true, atime: 0, mtime: 0 }.to_bytes(), Err(libc::EROFS)),
        (Io::Sync { flag: 0o20 }.to_bytes(), Ok(())),
        (Io::Pathconf { name: pathconf::NAME_MAX }.to_bytes(), Err(libc::ELOOP)),
        (Filesys::Statvfs.to_bytes(), Ok(())),
        (Filesys::Access { mask: 4 }.to_bytes(), Ok(())),
        (Filesys::Access { mask: 2 }.to_bytes(), Err(libc::EROFS)),
        (Filesys::Access { mask: 1 }.to_bytes(), Err(libc::ELOOP)),
    ] {
        assert_eq!(on_path(server, &message), expected, "{message:?}");
    }
    for path in ["net/new", "net/../net/new"] {
        assert_eq!(mkdir(server, root, path), Err(libc::ELOOP), "{path}");
    }
    assert_eq!(mkdir(server, root, "net"), Err(libc::EEXIST));
    assert_eq!(rmdir(server, root, "net"), Err(libc::EBUSY));
    assert_eq!(rename_to(server, root, "net", "other"), Err(libc::EBUSY));
    assert_eq!(link(server, root, "net", "other"), Err(libc::EXDEV));
}

fn links_in_sticky_directories() {
    use std::os::unix::fs::{PermissionsExt, lchown};
    in_mount_namespace(|| {
        let dir = public_dir();
        let tmp = dir.path().join("tmp");
        fs::create_dir(&tmp).unwrap();
        // on a mount of its own, and through it to another one: the step by step walk
        for (name, mode) in [("tmp", 0o1777), ("data", 0o755)] {
            let at = dir.path().join(name);
            fs::create_dir_all(&at).unwrap();
            mount(Some("none"), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(dir.path().join("data/f"), "x").unwrap();
        symlink("/data/f", tmp.join("link")).unwrap();
        lchown(tmp.join("link"), Some(1001), Some(1001)).unwrap();
        let mut server = Start::new().export(dir.path()).start();
        let (owner, other) = (server.connect(1001).unwrap(), server.connect(1002).unwrap());
        assert_eq!(server.cat(owner, "tmp/link").unwrap(), b"x");
        assert_eq!(server.open(other, "tmp/link"), Err(libc::EACCES));
        assert_eq!(server.readlink(other, "tmp/link").unwrap(), b"/data/f");
    });
}

fn several_directories_are_one_tree() {
    let dir = public_dir();
    for name in ["one", "two", "three"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("file"), name).unwrap();
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (one, two) = (path("one"), format!("{}:ro", path("two")));
    let mut server = Start::new().options(&["--only", &one, "--only", &two]).start();
    let conn = server.connect_self();
    assert_eq!(server.cat(conn, &path("one/file")).unwrap(), b"one");
    assert_eq!(server.cat(conn, &path("two/file")).unwrap(), b"two");
    assert_eq!(server.open(conn, &path("three/file")), Err(libc::ENOENT));
    assert_eq!(server.open(conn, "etc/hostname"), Err(libc::ENOENT));
    let list = |server: &mut Server, path: &str| -> Vec<String> {
        let names = server.list(conn, path, 4096).unwrap().into_iter();
        let mut names: Vec<_> = names.map(|(name, _)| String::from_utf8(name).unwrap()).collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    };
    assert_eq!(list(&mut server, &path("")), ["one", "two"]);
    assert_eq!(list(&mut server, "/"), [dir.path().iter().nth(1).unwrap().to_str().unwrap()]);
    assert_eq!(list(&mut server, &path("one")), ["file"]);
    assert_eq!(server.stat(conn, "/").unwrap().mode & libc::S_IFMT, libc::S_IFDIR);
}
