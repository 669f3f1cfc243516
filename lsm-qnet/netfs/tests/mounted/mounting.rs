//! The mount point: made, taken, left behind, taken over.

use std::fs;

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};

use crate::{
    Tests,
    support::{Node, ends, eventually, world::World},
};

pub(crate) const TESTS: &Tests = &[
    ("the_mount_point_is_made_and_removed", the_mount_point_is_made_and_removed),
    ("a_mount_point_that_was_there_stays", a_mount_point_that_was_there_stays),
    ("a_foreign_mount_is_left_alone_and_named", a_foreign_mount_is_left_alone_and_named),
    ("files_are_not_hidden", files_are_not_hidden),
    ("a_second_server_sees_that_the_first_lives", a_second_server_sees_that_the_first_lives),
    ("a_dead_servers_mount_is_replaced", a_dead_servers_mount_is_replaced),
    ("unmounting_ends_the_server", unmounting_ends_the_server),
    ("a_busy_directory_is_unmounted_all_the_same", a_busy_directory_is_unmounted_all_the_same),
    ("it_works_before_qnet_is_there", it_works_before_qnet_is_there),
];

fn mount_options(node: &Node) -> Option<String> {
    // Each test's mounts are those of its thread.
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let point = node.net();
    let line = table.lines().find(|line| line.split(' ').nth(4) == point.to_str())?;
    Some(line.to_owned())
}

fn the_mount_point_is_made_and_removed() {
    let mut node = Node::start(World::pair(), &[]);
    let line = mount_options(&node).unwrap();
    for expected in ["ro,nosuid,nodev", "- fuse.qnet qnet", "allow_other"] {
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

fn it_works_before_qnet_is_there() {
    let mut node = Node::unmounted(World::pair());
    node.stop_qnet();
    node.start_netfs(&[]);
    assert_eq!(fs::read_dir(node.net()).unwrap().count(), 0);
    node.start_qnet();
    eventually("the nodes are there", || fs::read_dir(node.net()).is_ok_and(|entries| entries.count() == 2));
}
