//! The examples, and the program in the README: they build from what stands there and print what they promise.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

/// Builds the library and its examples, as fresh as this test; gives the folder of what was built.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = env::current_exe().unwrap();
        // target/PROFILE/deps/examples-HASH
        let built = test.ancestors().nth(2).unwrap().to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "--package", "qnet", "--lib", "--examples"]);
        cargo.arg("--target-dir").arg(built.parent().unwrap());
        if built.ends_with("release") {
            cargo.arg("--release");
        }
        let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        built
    })
}

fn example(name: &str) -> PathBuf {
    built().join("examples").join(name)
}

/// A program on a node whose root is `root`.
fn command(program: &Path, root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).args(words).env("IO_PKT_ROOT", root).stdin(Stdio::null());
    command
}

/// What a program prints that comes to a good end.
fn printed(program: &Path, root: &Path, words: &[&str]) -> String {
    let output = command(program, root, words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A server that runs beside the test, killed in the end.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(program: &Path, root: &Path, words: &[&str]) -> Self {
        // Itself, not under timeout(1): what is killed is the server.
        let mut server = Command::new(program);
        server.args(words).env("IO_PKT_ROOT", root).stdin(Stdio::null());
        let mut child = server.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Asks until somebody serves: a server that was just started may not have its name yet.
fn asked(program: &Path, root: &Path, words: &[&str], server: &mut Server) -> String {
    loop {
        let output = command(program, root, words).output().unwrap();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        assert!(server.child.try_wait().unwrap().is_none(), "the server ended");
    }
}

#[test]
fn values_are_kept_under_their_keys() {
    let (program, root) = (example("keyvalue"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&program, root.path(), &["server"]);
    let address = server.line();
    let words: Vec<&str> = address.split(' ').collect();
    let ask = |more: &[&str]| printed(&program, root.path(), &[&words[..], more].concat());
    assert_eq!(ask(&["set", "colour", "blue"]), "");
    assert_eq!(ask(&["set", "size", "7"]), "");
    assert_eq!(ask(&["get", "colour"]), "blue\n");
    assert_eq!(ask(&["set", "colour", "red"]), "");
    assert_eq!(ask(&["get", "colour"]), "red\n");
    let unknown = command(&program, root.path(), &[words[0], words[1], "get", "taste"]).output().unwrap();
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("No such file"), "{unknown:?}");
}

#[test]
fn a_redundant_service_goes_on_when_the_one_that_answered_dies() {
    let (program, root) = (example("redundant"), tempfile::tempdir().unwrap());
    let mut first = Server::start(&program, root.path(), &["serve"]);
    let answer = asked(&program, root.path(), &[], &mut first);
    assert_eq!(answer, format!("process {} answers\n", first.child.id()).repeat(5));
    // The same service again: one process of a node has a name, so the next one has it when the first is gone.
    drop(first);
    let mut second = Server::start(&program, root.path(), &["serve"]);
    let answer = asked(&program, root.path(), &[], &mut second);
    assert_eq!(answer, format!("process {} answers\n", second.child.id()).repeat(5));
}

#[test]
fn a_sensor_answers_with_its_next_measurement() {
    let (program, root) = (example("sensor"), tempfile::tempdir().unwrap());
    let printed = printed(&program, root.path(), &[]);
    let degrees: Vec<i64> =
        printed.lines().map(|line| line.strip_suffix(" degrees").unwrap().parse().unwrap()).collect();
    assert!(matches!(degrees[..], [a, b, c] if 20 < a && a < b && b < c), "{printed}");
}

/// The Rust program in the README, compiled from there against this library, and the commands below it.
#[test]
fn the_rust_example_in_the_readme_builds_and_runs() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let text = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(readme.contains("\n$ cargo run &\n$ cargo run bell\nding\n"));
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.rs");
    fs::write(&source, text).unwrap();
    let bell = folder.path().join("bell");
    let cargo = Path::new(env!("CARGO"));
    let compiled = Command::new(env::var_os("RUSTC").map_or(cargo.with_file_name("rustc"), PathBuf::from))
        .args(["--edition", "2024", "-D", "warnings", "--extern"])
        .arg(format!("qnet={}", built().join("libqnet.rlib").display()))
        .arg("-L")
        .arg(format!("dependency={}", built().join("deps").display()))
        .arg("-o")
        .args([&bell, &source])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let mut server = Server::start(&bell, folder.path(), &[]);
    assert_eq!(asked(&bell, folder.path(), &["bell"], &mut server), "ding\n");
    let mut rest = String::new();
    server.child.kill().unwrap();
    server.output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "a server says nothing");
}
