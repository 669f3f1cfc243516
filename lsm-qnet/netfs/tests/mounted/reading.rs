//! Names, attributes and contents.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::{
        fs::{MetadataExt, symlink},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use nix::sys::statvfs::statvfs;

use crate::{
    Tests,
    support::{
        Node, eventually,
        world::{Content, Host, World},
    },
};

pub(crate) const TESTS: &Tests = &[
    ("nodes_are_listed_and_their_files_are_read", nodes_are_listed_and_their_files_are_read),
    ("listing_a_directory_takes_its_types_from_the_node", listing_a_directory_takes_its_types_from_the_node),
    ("large_files_arrive_byte_for_byte", large_files_arrive_byte_for_byte),
    ("files_without_a_size_are_read_to_their_end", files_without_a_size_are_read_to_their_end),
    ("a_file_that_changed_is_read_anew", a_file_that_changed_is_read_anew),
    ("attributes_are_the_nodes_own", attributes_are_the_nodes_own),
    ("absolute_links_stay_on_their_node", absolute_links_stay_on_their_node),
    ("links_are_verbatim_when_asked", links_are_verbatim_when_asked),
    (
        "a_node_that_is_not_listed_is_resolved_on_first_use",
        a_node_that_is_not_listed_is_resolved_on_first_use,
    ),
    ("a_read_only_node_is_read_only_here", a_read_only_node_is_read_only_here),
    ("a_long_path_is_fetched_piece_by_piece", a_long_path_is_fetched_piece_by_piece),
    ("large_directories_are_complete", large_directories_are_complete),
    ("each_caller_is_announced_as_himself", each_caller_is_announced_as_himself),
    (
        "a_private_directory_is_never_served_from_the_cache",
        a_private_directory_is_never_served_from_the_cache,
    ),
    ("many_readers_get_their_own_bytes", many_readers_get_their_own_bytes),
];

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Bytes that differ everywhere.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn nodes_are_listed_and_their_files_are_read() {
    let mut foreign = Host::new(2, "eileen");
    foreign.domain = "elsewhere".into();
    let node = Node::start(World::pair().with(foreign), &[]);
    assert_eq!(names(&node.net()), ["alonzo", "eileen.elsewhere", "joseph"]);
    assert_eq!(names(&node.path("joseph")), ["etc"]);
    assert_eq!(fs::read_to_string(node.path("joseph/etc/hostname")).unwrap(), "joseph\n");
    assert_eq!(fs::read_to_string(node.path("alonzo/etc/hostname")).unwrap(), "alonzo\n");
    assert!(node.path("eileen.elsewhere").is_dir());
    let joseph = fs::metadata(node.path("joseph")).unwrap();
    assert_eq!(joseph.ino() & 0xffff, 1, "the low half of a node's inode number is its nd");
    assert_eq!(statvfs(&node.net()).unwrap().blocks(), 0);
    eventually("all files are closed", || node.world().open.is_empty());
}

fn listing_a_directory_takes_its_types_from_the_node() {
    let host = Host::new(2, "eileen")
        .with_directory("d")
        .with_directory("d/sub")
        .with_file("d/file", "x")
        .with("d/link", 0o777, Content::Link("file".into()))
        .with("d/fifo", 0o644, Content::Blocking);
    let node = Node::start(World::pair().with(host), &[]);
    let entries = fs::read_dir(node.path("eileen/d")).unwrap().map(Result::unwrap);
    let types: BTreeMap<_, _> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), (entry.file_type().unwrap(), entry)))
        .collect();
    assert!(types["sub"].0.is_dir() && types["file"].0.is_file() && types["link"].0.is_symlink());
    assert!(types["fifo"].0.is_file(), "a FIFO of another node is no FIFO here");
    for (name, (kind, _)) in &types {
        let found = fs::symlink_metadata(node.path("eileen/d").join(name)).unwrap().file_type();
        assert_eq!(*kind, found, "{name}");
    }
}

fn large_files_arrive_byte_for_byte() {
    let content = noise(9_000_123);
    let host = Host::new(2, "eileen").with_file("big", content.clone());
    let node = Node::start(World::pair().with(host), &[]);
    let copy = node.root().join("copy");
    let status =
        Command::new("cat").arg(node.path("eileen/big")).stdout(fs::File::create(&copy).unwrap()).status();
    assert!(status.unwrap().success());
    assert!(fs::read(&copy).unwrap() == content, "the copy differs");

    let mut file = fs::File::open(node.path("eileen/big")).unwrap();
    let mut part = vec![0; 1000];
    for at in [8_999_000, 0, 4_096_000, 65_535] {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.read_exact(&mut part).unwrap();
        assert!(part == content[at..at + 1000], "the bytes at {at} differ");
    }
}

fn files_without_a_size_are_read_to_their_end() {
    let content = noise(300_000);
    let host =
        Host::new(2, "eileen").with("stream", 0o444, Content::Stream(content.clone())).with_file("empty", "");
    let node = Node::start(World::pair().with(host), &[]);
    assert_eq!(fs::metadata(node.path("eileen/stream")).unwrap().len(), 0);
    let output = Command::new("cat").arg(node.path("eileen/stream")).output().unwrap();
    assert!(output.status.success() && output.stdout == content, "{} bytes came", output.stdout.len());
    assert_eq!(fs::read(node.path("eileen/empty")).unwrap(), b"");
}

fn a_file_that_changed_is_read_anew() {
    let node = Node::start(World::pair(), &[]);
    let path = node.path("joseph/etc/hostname");
    assert_eq!(fs::read_to_string(&path).unwrap(), "joseph\n");
    node.world().host("joseph").rewrite("etc/hostname", "a longer name for joseph\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "a longer name for joseph\n");
    node.world().host("joseph").put("etc/hostname", 0o644, Content::File(b"another file\n".to_vec()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "another file\n");
}

fn attributes_are_the_nodes_own() {
    let host = Host::new(2, "eileen").with("odd", 0o4751, Content::File(noise(1234)));
    let node = Node::start(World::pair().with(host), &[]);
    let found = fs::metadata(node.path("eileen/odd")).unwrap();
    assert_eq!((found.mode(), found.len()), (libc::S_IFREG | 0o4751, 1234));
    assert_eq!((found.uid(), found.gid(), found.nlink()), (1000, 100, 1));
    assert_eq!((found.mtime(), found.mtime_nsec()), (1 << 33, 123_456_789));
    let open = fs::File::open(node.path("eileen/odd")).unwrap().metadata().unwrap();
    assert_eq!((open.ino(), open.len()), (found.ino(), 1234));
    let twin = fs::metadata(node.path("joseph/etc")).unwrap();
    assert_ne!(twin.ino(), found.ino());
}

fn links() -> World {
    let host = Host::new(2, "eileen")
        .with_directory("etc")
        .with_file("etc/hosts", "hosts of eileen\n")
        .with("absolute", 0o777, Content::Link("/etc/hosts".into()))
        .with("relative", 0o777, Content::Link("etc/hosts".into()))
        .with("climbing", 0o777, Content::Link("../../../../../../etc/hosts".into()));
    World::pair().with(host)
}

fn absolute_links_stay_on_their_node() {
    let node = Node::start(links(), &[]);
    let absolute = node.path("eileen/absolute");
    assert_eq!(fs::read_link(&absolute).unwrap(), node.path("eileen/etc/hosts"));
    assert_eq!(fs::read_link(node.path("eileen/relative")).unwrap(), Path::new("etc/hosts"));
    assert_eq!(fs::read_to_string(absolute).unwrap(), "hosts of eileen\n");
    assert_eq!(fs::read_to_string(node.path("eileen/climbing")).unwrap(), "hosts of eileen\n");
    assert_eq!(fs::read_to_string(node.path("eileen/relative")).unwrap(), "hosts of eileen\n");
}

fn links_are_verbatim_when_asked() {
    let node = Node::start(links(), &["--symlinks", "verbatim"]);
    assert_eq!(fs::read_link(node.path("eileen/absolute")).unwrap(), Path::new("/etc/hosts"));
}

fn a_node_that_is_not_listed_is_resolved_on_first_use() {
    let mut hidden = Host::new(2, "eileen").with_file("f", "found\n");
    hidden.listed = false;
    let node = Node::start(World::pair().with(hidden), &[]);
    assert_eq!(names(&node.net()), ["alonzo", "joseph"]);
    assert_eq!(fs::read_to_string(node.path("eileen/f")).unwrap(), "found\n");
    assert_eq!(fs::metadata(node.path("nobody-there")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::metadata(node.path(".hidden")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(node.world().times("resolve .hidden"), 0, "hidden names are no node names");
}

fn a_read_only_node_is_read_only_here() {
    let node = Node::start(World::pair(), &[]);
    let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
    let file = node.path("joseph/etc/hostname");
    assert_eq!(errno(fs::write(&file, "x")), Some(libc::EROFS));
    assert_eq!(errno(fs::write(node.path("joseph/new"), "x")), Some(libc::EROFS));
    assert_eq!(errno(fs::create_dir(node.path("joseph/new"))), Some(libc::EROFS));
    assert_eq!(errno(fs::remove_file(&file)), Some(libc::EROFS));
    assert_eq!(errno(fs::rename(&file, node.path("joseph/new"))), Some(libc::EROFS));
    assert_eq!(errno(fs::hard_link(&file, node.path("joseph/new"))), Some(libc::EROFS));
    assert_eq!(errno(symlink("x", node.path("joseph/new"))), Some(libc::EROFS));
    assert_eq!(errno(fs::rename(&file, node.path("alonzo/new"))), Some(libc::EXDEV), "another file system");
    assert_eq!(errno(fs::create_dir(node.path("new"))), Some(libc::EROFS), "names of nodes are Qnet's");
    assert_eq!(fs::read_to_string(file).unwrap(), "joseph\n");
}

fn a_long_path_is_fetched_piece_by_piece() {
    let mut host = Host::new(2, "eileen");
    let mut path = String::new();
    for _ in 0..12 {
        path.push_str(&"d".repeat(250));
        host.put(&path, 0o755, Content::Directory);
        path.push('/');
    }
    path.push_str("file");
    host.put(&path, 0o644, Content::File(b"deep\n".to_vec()));
    let node = Node::start(World::pair().with(host), &[]);
    assert_eq!(fs::read_to_string(node.path("eileen").join(path)).unwrap(), "deep\n");
}

fn large_directories_are_complete() {
    let mut host = Host::new(2, "eileen").with_directory("d");
    let expected: Vec<_> = (0..5000).map(|i| format!("{:0>width$}", i, width = 5 + i % 40)).collect();
    for name in &expected {
        host.put(&format!("d/{name}"), 0o644, Content::File(Vec::new()));
    }
    let mut expected: Vec<_> = expected.into_iter().collect();
    expected.sort();
    let node = Node::start(World::pair().with(host), &[]);
    assert_eq!(names(&node.path("eileen/d")), expected);
}

fn each_caller_is_announced_as_himself() {
    let node = Node::start(World::pair(), &[]);
    let path = node.path("joseph/etc/hostname");
    assert!(Command::new("cat").arg(&path).output().unwrap().status.success());
    // setpriv exists wherever util-linux does.
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65533", "--groups=7,8", "cat"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(node.world().times("0 joseph etc/hostname") > 0);
    assert!(node.world().times("65534 joseph etc/hostname") > 0);
    assert_eq!(node.world().groups, [7, 8]);
}

fn a_private_directory_is_never_served_from_the_cache() {
    let host = Host::new(2, "eileen")
        .with("private", 0o700, Content::Directory)
        .with_file("private/secret", "secret\n");
    let node = Node::start(World::pair().with(host), &[]);
    let path = node.path("eileen/private/secret");
    for _ in 0..20 {
        assert!(fs::metadata(&path).is_ok(), "root may");
        let output = Command::new("stat").arg(&path).uid(65534).gid(65534).output().unwrap();
        assert!(!output.status.success(), "nobody may not, whoever asked before");
    }
    assert!(node.world().times("65534 eileen private/secret") >= 20);
}

fn many_readers_get_their_own_bytes() {
    let mut host = Host::new(2, "eileen");
    for i in 0..20 {
        host.put(&format!("f{i}"), 0o644, Content::File(vec![i; 300_000 + usize::from(i)]));
    }
    let node = Node::start(World::pair().with(host), &[]);
    std::thread::scope(|scope| {
        for i in 0..20_u8 {
            let path = node.path(&format!("eileen/f{i}"));
            scope.spawn(move || {
                for _ in 0..5 {
                    let data = fs::read(&path).unwrap();
                    assert!(data.len() == 300_000 + usize::from(i) && data.iter().all(|byte| *byte == i));
                }
            });
        }
    });
}
