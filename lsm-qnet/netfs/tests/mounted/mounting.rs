//! The mount point: made, taken, left behind, taken over.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        signal::{Signal, kill},
        stat::{Mode, SFlag, makedev, mknod},
    },
    unistd::Pid,
};

use crate::{
    Tests,
    support::{Node, ends, eventually, world::World},
};

pub(crate) const TESTS: &Tests = &[
    ("the_mount_point_is_made_and_removed", the_mount_point_is_made_and_removed),
    ("reading_ahead_is_raised_for_root", reading_ahead_is_raised_for_root),
    ("a_mount_point_that_was_there_stays", a_mount_point_that_was_there_stays),
    ("a_foreign_mount_is_left_alone_and_named", a_foreign_mount_is_left_alone_and_named),
    ("files_are_not_hidden", files_are_not_hidden),
    ("a_second_server_sees_that_the_first_lives", a_second_server_sees_that_the_first_lives),
    ("a_dead_servers_mount_is_replaced", a_dead_servers_mount_is_replaced),
    ("a_standby_takes_over_when_the_server_dies", a_standby_takes_over_when_the_server_dies),
    ("a_standby_ends_both_when_asked", a_standby_ends_both_when_asked),
    ("a_standby_ends_with_a_server_that_ends_in_order", a_standby_ends_with_a_server_that_ends_in_order),
    ("unmounting_ends_the_server", unmounting_ends_the_server),
    ("a_busy_directory_is_unmounted_all_the_same", a_busy_directory_is_unmounted_all_the_same),
    ("errors_name_the_directory_and_the_reason_once", errors_name_the_directory_and_the_reason_once),
    ("it_works_before_qnet_is_there", it_works_before_qnet_is_there),
];

/// Those that need fusermount3.
pub(crate) const HELPER_TESTS: &Tests =
    &[("an_ordinary_user_mounts_through_the_helper", an_ordinary_user_mounts_through_the_helper)];

fn mount_options(node: &Node) -> Option<String> {
    // Each test's mounts are those of its thread.
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let point = node.net();
    let line = table.lines().find(|line| line.split(' ').nth(4) == point.to_str())?;
    Some(line.to_owned())
}

/// Kilobytes that the kernel reads ahead in the mount's files.
fn read_ahead(node: &Node) -> String {
    let line = mount_options(node).unwrap();
    let device = line.split(' ').nth(2).unwrap();
    fs::read_to_string(format!("/sys/class/bdi/{device}/read_ahead_kb")).unwrap().trim().to_owned()
}

fn reading_ahead_is_raised_for_root() {
    let node = Node::start(World::pair(), &[]);
    assert_eq!(fs::read_to_string(node.path("joseph/etc/hostname")).unwrap(), "joseph\n");
    eventually("eight requests of the largest size are read ahead", || read_ahead(&node) == "8192");
}

fn the_mount_point_is_made_and_removed() {
    let mut node = Node::start(World::pair(), &[]);
    let line = mount_options(&node).unwrap();
    for expected in ["rw,nosuid,nodev", "- fuse.qnet qnet", "allow_other"] {
        assert!(line.contains(expected), "{expected} in {line}");
    }
    assert!(!line.contains("default_permissions"));
    assert!(node.end_netfs(Signal::SIGTERM).success());
    assert!(!node.net().exists());
    assert_eq!(mount_options(&node), None);
    let left: Vec<_> = fs::read_dir(node.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["qnet.sock"]);
}

fn a_mount_point_that_was_there_stays() {
    let mut node = Node::unmounted(World::pair());
    fs::create_dir(node.net()).unwrap();
    node.start_netfs(&[]);
    assert!(node.end_netfs(Signal::SIGINT).success());
    assert!(node.net().is_dir());
}

fn a_foreign_mount_is_left_alone_and_named() {
    let node = Node::unmounted(World::pair());
    fs::create_dir(node.net()).unwrap();
    mount(Some("theirs"), &node.net(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let output = node.run_netfs();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for expected in ["in use by theirs", "tmpfs", "mount=/qnet"] {
        assert!(words.contains(expected), "{expected} in {words}");
    }
    assert!(mount_options(&node).unwrap().contains("tmpfs"));
}

fn files_are_not_hidden() {
    let node = Node::unmounted(World::pair());
    fs::create_dir(node.net()).unwrap();
    fs::write(node.path("precious"), "data").unwrap();
    let output = node.run_netfs();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("not empty") && words.contains("mount=/qnet"), "{words}");
}

fn a_second_server_sees_that_the_first_lives() {
    let mut node = Node::start(World::pair(), &[]);
    let output = node.run_netfs();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("served by pid {}\n", node.netfs().id()));
    assert_eq!(fs::read_to_string(node.path("joseph/etc/hostname")).unwrap(), "joseph\n");
}

fn a_dead_servers_mount_is_replaced() {
    let mut node = Node::start(World::pair(), &[]);
    node.end_netfs(Signal::SIGKILL);
    assert_eq!(fs::metadata(node.net()).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    node.start_netfs(&[]);
    assert_eq!(fs::read_to_string(node.path("joseph/etc/hostname")).unwrap(), "joseph\n");
    assert!(node.end_netfs(Signal::SIGTERM).success());
    assert!(!node.net().exists(), "it was made by the one that died");
}

/// A second server that waits for the first to end.
fn standby(node: &Node) -> Child {
    let mut command = node.command(&["--standby"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(words.any(|line| line.unwrap().contains("standing by")));
    child
}

fn a_standby_takes_over_when_the_server_dies() {
    let mut node = Node::start(World::pair(), &[]);
    let mut second = standby(&node);
    node.end_netfs(Signal::SIGKILL);
    let hostname = node.path("joseph/etc/hostname");
    eventually("the standby serves", || fs::read_to_string(&hostname).is_ok_and(|name| name == "joseph\n"));
    kill(Pid::from_raw(second.id() as i32), Signal::SIGTERM).unwrap();
    assert!(ends("the standby that took over", &mut second).success());
    assert!(!node.net().exists());
}

fn a_standby_ends_both_when_asked() {
    let mut node = Node::start(World::pair(), &[]);
    let mut second = standby(&node);
    kill(Pid::from_raw(second.id() as i32), Signal::SIGTERM).unwrap();
    // The first is this process's child and stays a zombie until it is waited for; its lock goes before.
    assert!(ends("the standby", &mut second).success());
    assert!(ends("the server", node.netfs()).success());
    assert!(!node.net().exists());
}

fn a_standby_ends_with_a_server_that_ends_in_order() {
    let mut node = Node::start(World::pair(), &[]);
    let mut second = standby(&node);
    assert!(node.end_netfs(Signal::SIGTERM).success());
    assert!(ends("the standby", &mut second).success());
    assert!(!node.net().exists());
}

/// Puts a device of mode 0666 over `/dev/fuse`, for this test's mount namespace: not every system has it so.
fn open_fuse_to_everybody(directory: &Path) {
    let devices = directory.join("dev");
    fs::create_dir(&devices).unwrap();
    mount(Some("devices"), &devices, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    let device = devices.join("fuse");
    mknod(&device, SFlag::S_IFCHR, Mode::all(), makedev(10, 229)).unwrap();
    fs::set_permissions(&device, Permissions::from_mode(0o666)).unwrap();
    mount(Some(&device), "/dev/fuse", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

fn an_ordinary_user_mounts_through_the_helper() {
    let node = Node::unmounted(World::pair());
    let binary = node.root().join("qnet-netfs");
    fs::copy(node.command(&[]).get_program(), &binary).unwrap();
    fs::create_dir(node.path("")).unwrap();
    chown(node.root(), Some(65534), Some(65534)).unwrap();
    chown(node.net(), Some(65534), Some(65534)).unwrap();
    open_fuse_to_everybody(node.root());
    let arguments: Vec<_> = node.command(&[]).get_args().map(ToOwned::to_owned).collect();
    let log = node.root().join("log");
    let mut command = Command::new(binary);
    command.args(arguments).uid(65534).gid(65534).stderr(fs::File::create(&log).unwrap());
    let mut server = command.spawn().unwrap();
    let hostname = node.path("joseph/etc/hostname");
    let cat = || Command::new("cat").arg(&hostname).uid(65534).gid(65534).output().unwrap();
    eventually("the helper has mounted", || cat().status.success());
    assert_eq!(cat().stdout, b"joseph\n");
    assert!(fs::metadata(&hostname).is_err(), "others may not enter a private mount, root included");
    let line = mount_options(&node).unwrap();
    assert!(line.contains("rw,nosuid,nodev") && line.contains("- fuse.qnet qnet"), "{line}");
    eventually("a word on what only root may raise", || {
        let said = fs::read_to_string(&log).unwrap();
        said.contains("reading ahead stays at the kernel's 128 KiB, raising it needs root")
    });
    assert_eq!(read_ahead(&node), "128");
    kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM).unwrap();
    assert!(ends("the user's server", &mut server).success());
    assert_eq!(mount_options(&node), None);
    umount2(&node.root().join("dev"), MntFlags::MNT_DETACH).unwrap();
}

fn unmounting_ends_the_server() {
    let mut node = Node::start(World::pair(), &[]);
    umount2(&node.net(), MntFlags::empty()).unwrap();
    assert!(ends("the server of an unmounted directory", node.netfs()).success());
    eventually("the directory is removed", || !node.net().exists());
}

fn a_busy_directory_is_unmounted_all_the_same() {
    let mut node = Node::start(World::pair(), &[]);
    let inside = fs::File::open(node.path("joseph/etc/hostname")).unwrap();
    assert!(node.end_netfs(Signal::SIGTERM).success());
    assert_eq!(mount_options(&node), None);
    assert!(inside.metadata().is_err());
}

fn errors_name_the_directory_and_the_reason_once() {
    let node = Node::unmounted(World::pair());
    let root = node.root().to_str().unwrap();
    let net = node.net();
    let cases = [
        (["--root", root, "--mount", "/no/such/net"], "/no/such/net: cannot use it as the network directory"),
        (["--root", "/no/such/root", "--mount", net.to_str().unwrap()], "/no/such/root/netfs-"),
    ];
    for (arguments, expected) in cases {
        let mut command = Command::new(node.command(&[]).get_program());
        let output = command.args(arguments).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(expected), "{words}");
        assert_eq!(words.matches("No such file or directory").count(), 1, "{words}");
    }
}

fn it_works_before_qnet_is_there() {
    let mut node = Node::unmounted(World::pair());
    node.stop_qnet();
    node.start_netfs(&[]);
    assert_eq!(fs::read_dir(node.net()).unwrap().count(), 0);
    node.start_qnet();
    eventually("the nodes are there", || fs::read_dir(node.net()).is_ok_and(|entries| entries.count() == 2));
}
