//! `mount` as it is called: for io-pkt, and for the system.

#[path = "../../tests/support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::{Node, Run};

const MOUNT: &str = env!("CARGO_BIN_EXE_qnx-mount");

fn mounted(request: &Value) -> Value {
    if request["module"].as_str().is_some_and(|module| module.contains("bad")) {
        return json!({"error": {"errno": "EINVAL", "text": "bad.so: not a module of io-pkt (a text file)"}});
    }
    json!({"ok": {"name": "en0", "module": "devn-packet", "path": "/dev/io-net/en0"}})
}

/// Our mount under its QNX name in front of a stand-in for the system's, which prints its arguments and ends with 3.
struct SearchPath {
    dir: tempfile::TempDir,
}

impl SearchPath {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        for folder in ["ours", "again", "system"] {
            fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        symlink(MOUNT, dir.path().join("ours/mount")).expect("a link");
        let script = dir.path().join("system/mount");
        fs::write(&script, "#!/bin/sh\nprintf '<%s>' \"$@\"\nexit 3\n").expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
        Self { dir }
    }

    fn search(&self) -> std::ffi::OsString {
        std::env::join_paths(["ours", "again", "system"].map(|folder| self.dir.path().join(folder)))
            .expect("a PATH")
    }

    fn call(&self, args: &[&str]) -> Run {
        Run::of(Command::new(self.dir.path().join("ours/mount")).args(args).env("PATH", self.search()))
    }
}

fn module(folder: &Path) -> PathBuf {
    let path = folder.join("devn-x.so");
    fs::write(&path, "only the daemon looks inside").expect("a file");
    path
}

#[test]
fn a_bare_name_is_left_to_the_daemon_to_find() {
    let node = Node::new();
    node.run(0, mounted);
    let run = node.call(MOUNT, &["-T", "io-pkt", "-o", "dev=eth1", "devn-packet.so"]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(0), "", ""));
    let request = &node.requests()[0];
    assert_eq!((&request["cmd"], &request["module"]), (&json!("mount"), &json!("devn-packet.so")));
    assert_eq!(request["options"], "dev=eth1");
}

#[test]
fn what_was_mounted_is_told_on_request() {
    let node = Node::new();
    node.run(0, mounted);
    let run = node.call(MOUNT, &["-vTio-pkt", "devn-packet.so"]);
    assert_eq!(run.out, "devn-packet: en0 at /dev/io-net/en0\n");
}

#[test]
fn a_relative_path_reaches_the_daemon_as_an_absolute_one() {
    let node = Node::new();
    node.run(0, mounted);
    let file = module(node.path());
    let mut command = Command::new(MOUNT);
    command.args(["-Tio-pkt", "./devn-x.so"]).current_dir(node.path()).env("IO_PKT_ROOT", node.path());
    let run = Run::of(&mut command);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(node.requests()[0]["module"], file.to_string_lossy().as_ref());
}

#[test]
fn the_type_chooses_the_instance() {
    let node = Node::new();
    node.run(1, mounted);
    assert_eq!(node.call(MOUNT, &["-T", "io-pkt1", "x.so"]).code, Some(0));
    let run = node.call(MOUNT, &["-T", "io-pkt", "x.so"]);
    assert_eq!(run.code, Some(1));
    assert_eq!(run.err, "mount: instance 0 of io-pkt is not running; there is: 1\n");
}

#[test]
fn the_daemons_sentence_is_the_error() {
    let node = Node::new();
    node.run(0, mounted);
    let run = node.call(MOUNT, &["-T", "io-pkt", "bad.so"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert_eq!(run.err, "mount: bad.so: not a module of io-pkt (a text file)\n");
}

#[test]
fn a_fifo_is_left_to_the_daemon_to_refuse() {
    let node = Node::new();
    node.run(0, mounted);
    let fifo = node.path().join("fifo.so");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    // Nobody ever writes into it. `timeout` gives 124 for a program that still waits.
    let run = node.call("timeout", &["60", MOUNT, "-T", "io-pkt", &fifo.to_string_lossy()]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(node.requests().len(), 1);
}

#[test]
fn a_missing_file_is_named() {
    let node = Node::new();
    node.run(0, mounted);
    let run = node.call(MOUNT, &["-T", "io-pkt", "/no/such.so"]);
    assert_eq!(
        (run.code, run.err.as_str()),
        (Some(1), "mount: /no/such.so: No such file or directory (os error 2)\n")
    );
    assert!(node.requests().is_empty());
}

#[test]
fn other_calls_reach_the_systems_mount_untouched() {
    let path = SearchPath::new();
    let run = path.call(&["-t", "ext4", "-o", "ro,noexec", "/dev/x y", "/mnt", ""]);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert_eq!((run.out.as_str(), run.err.as_str()), ("<-t><ext4><-o><ro,noexec></dev/x y></mnt><>", ""));
}

#[test]
fn a_copy_of_ourselves_in_the_path_does_not_call_us_back_for_ever() {
    let path = SearchPath::new();
    fs::copy(MOUNT, path.dir.path().join("again/mount")).expect("a copy");
    assert_eq!(path.call(&["-a"]).out, "<-a>");
}

#[test]
fn without_another_mount_the_error_says_so() {
    let path = SearchPath::new();
    fs::remove_file(path.dir.path().join("system/mount")).expect("the script is there");
    let run = path.call(&["-a"]);
    assert_eq!(run.code, Some(1));
    assert_eq!(run.err, "mount: not a type of io-pkt, and there is no other mount in PATH\n");
}

#[test]
fn the_systems_mount_finds_us_as_its_helper() {
    let node = Node::new();
    node.run(0, mounted);
    let helper = node.path().join("mount.io-pkt");
    symlink(MOUNT, &helper).expect("a link");
    let run = node.call(&helper, &["devn-packet.so", "none", "-o", "rw,dev=eth1"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(node.requests()[0]["options"], "dev=eth1");
}
