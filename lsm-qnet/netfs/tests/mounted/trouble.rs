//! Signals, dead nodes, a Qnet that goes away and comes back.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Tests,
    support::{
        Node, ends, eventually,
        world::{Content, Host, World},
    },
};

pub(crate) const TESTS: &Tests = &[
    ("a_signal_ends_a_blocked_read", a_signal_ends_a_blocked_read),
    ("a_blocked_look_up_can_be_killed", a_blocked_look_up_can_be_killed),
    ("a_dead_node_gives_an_error_while_another_works", a_dead_node_gives_an_error_while_another_works),
    ("a_node_that_was_lost_is_found_again", a_node_that_was_lost_is_found_again),
    ("files_of_a_lost_node_stay_lost", files_of_a_lost_node_stay_lost),
    ("the_directory_outlives_qnet", the_directory_outlives_qnet),
    ("a_renumbered_node_is_never_mistaken", a_renumbered_node_is_never_mistaken),
];

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn cat(node: &Node, below: &str) -> Child {
    // Tests that a shell started in the background ignore SIGINT, and so would everybody that they start.
    let mut command = Command::new("env");
    command
        .args(["--default-signal", "cat"])
        .arg(node.path(below))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn words(child: &mut Child) -> String {
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    words
}

fn blocking() -> World {
    World::pair().with(Host::new(2, "eileen").with("wait", 0o644, Content::Blocking).with_file("f", "f\n"))
}

fn a_signal_ends_a_blocked_read() {
    let node = Node::start(blocking(), &[]);
    for (round, signal) in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL].into_iter().enumerate() {
        let mut reader = cat(&node, "eileen/wait");
        eventually("the read has reached the node", || node.world().waiting == 1);
        assert_eq!(fs::read_to_string(node.path("eileen/f")).unwrap(), "f\n", "the node answers others");
        kill(Pid::from_raw(reader.id() as i32), signal).unwrap();
        let status = ends("a reader that got a signal", &mut reader);
        assert_eq!(status.signal(), Some(signal as i32));
        eventually("the node let go of the reader", || node.world().unblocked == round + 1);
        eventually("its file is closed", || node.world().open.is_empty());
        assert_eq!(node.world().waiting, 0);
    }
}

fn a_blocked_look_up_can_be_killed() {
    let node = Node::start(blocking(), &[]);
    node.world().host("eileen").alive = false;
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut reader = cat(&node, "eileen/f");
        eventually("the question has reached the node", || node.world().waiting == 1);
        kill(Pid::from_raw(reader.id() as i32), signal).unwrap();
        assert_eq!(ends("a reader that got a signal", &mut reader).signal(), Some(signal as i32));
        eventually("the node let go", || node.world().waiting == 0);
    }
}

fn a_dead_node_gives_an_error_while_another_works() {
    let node = Node::start(blocking(), &["--timeout", "10"]);
    node.world().host("eileen").alive = false;
    // Threads, which have asked long before the first answer is due.
    let readers: Vec<_> = (0..8)
        .map(|i| node.path(&format!("eileen/f{i}")))
        .map(|path| thread::spawn(move || errno(fs::read(path))))
        .collect();
    eventually("the questions have reached the node", || node.world().waiting >= 8);
    for _ in 0..50 {
        assert_eq!(fs::read_to_string(node.path("joseph/etc/hostname")).unwrap(), "joseph\n");
    }
    assert_eq!(fs::read_dir(node.net()).unwrap().count(), 3, "listing /net waits for nobody");
    let dead = fs::metadata(node.path("eileen")).unwrap_err();
    assert_eq!(dead.raw_os_error(), Some(libc::EHOSTDOWN), "whoever looks closer learns that it is dead");
    for reader in readers {
        assert_eq!(reader.join().unwrap(), Some(libc::EHOSTDOWN));
    }
    node.world().host("eileen").alive = true;
    assert_eq!(fs::read_to_string(node.path("eileen/f")).unwrap(), "f\n", "it is asked again");
}

fn a_node_that_was_lost_is_found_again() {
    let node = Node::start(blocking(), &[]);
    assert_eq!(fs::read_to_string(node.path("eileen/f")).unwrap(), "f\n");
    node.qnet().cut(2);
    assert_eq!(fs::read_to_string(node.path("eileen/f")).unwrap(), "f\n", "a new connection is made");

    // The loss meets a question that is under way: it is asked once more.
    node.world().host("eileen").alive = false;
    thread::scope(|scope| {
        let reader = scope.spawn(|| fs::read_dir(node.path("eileen")).map(Iterator::count));
        eventually("the question has reached the node", || node.world().waiting > 0);
        node.world().host("eileen").alive = true;
        node.qnet().cut(2);
        assert_eq!(reader.join().unwrap().unwrap(), 2);
    });
}

fn files_of_a_lost_node_stay_lost() {
    let node = Node::start(blocking(), &[]);
    let mut waiting = File::open(node.path("eileen/wait")).unwrap();
    node.qnet().cut(2);
    let mut byte = [0];
    assert_eq!(errno(waiting.read(&mut byte)), Some(libc::EHOSTDOWN));
    assert_eq!(errno(waiting.read(&mut byte)), Some(libc::EHOSTDOWN), "also when the node is back");

    let mut waiting = File::open(node.path("eileen/wait")).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(move || errno(waiting.read(&mut [0])));
        eventually("the read has reached the node", || node.world().waiting == 1);
        node.qnet().cut(2);
        assert_eq!(reader.join().unwrap(), Some(libc::EHOSTDOWN));
    });
}

fn the_directory_outlives_qnet() {
    let mut node = Node::start(blocking(), &[]);
    let mut open = File::open(node.path("eileen/wait")).unwrap();
    let mut reader = cat(&node, "eileen/wait");
    eventually("the read has reached the node", || node.world().waiting == 1);
    node.stop_qnet();
    assert!(!ends("a reader when Qnet went away", &mut reader).success());
    assert!(words(&mut reader).contains("Host is down"));
    eventually("the network directory is empty", || {
        fs::read_dir(node.net()).is_ok_and(|entries| entries.count() == 0)
    });
    assert_eq!(errno(fs::metadata(node.path("karl"))), Some(libc::EHOSTUNREACH));
    assert_eq!(errno(File::open(node.path("eileen/f"))), Some(libc::EHOSTUNREACH));
    assert_eq!(errno(open.read(&mut [0])), Some(libc::EHOSTDOWN));
    assert!(node.netfs().try_wait().unwrap().is_none(), "qnet-netfs lives on");

    node.world().open.clear();
    node.start_qnet();
    eventually("the nodes are back", || fs::read_dir(node.net()).is_ok_and(|entries| entries.count() == 3));
    assert_eq!(fs::read_to_string(node.path("eileen/f")).unwrap(), "f\n");
    assert_eq!(errno(open.read(&mut [0])), Some(libc::EHOSTDOWN), "an old file is not a new one");
}

fn a_renumbered_node_is_never_mistaken() {
    let mut node = Node::start(World::pair().with(Host::new(2, "eileen").with_directory("etc")), &[]);
    let path = node.path("joseph/etc/hostname");
    let held = OpenOptions::new().read(true).open(node.path("joseph")).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "joseph\n");
    node.stop_qnet();
    node.world().open.clear();
    node.world().host("joseph").nd = 7;
    node.world().host("eileen").nd = 1;
    node.world().host("eileen").put("etc/hostname", 0o644, Content::File(b"eileen\n".to_vec()));
    node.start_qnet();
    eventually("joseph is back", || fs::read_to_string(&path).is_ok_and(|name| name == "joseph\n"));
    drop(held);
}
