//! C programs of the kind that courses use, written for QNX's headers: they build with what pkg-config says and print what
//! they would print on QNX. `tests/c/NAME.out` is the transcript of `tests/c/NAME.c`.

#[path = "support/interleaved.rs"]
mod interleaved;
mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use support::{build, command, compiler, sources, succeed, transcript};

/// Runs a program that needs no partner.
fn prints_its_transcript(name: &str) {
    prints(name, &[], name);
}

/// Runs a program with arguments; `expected` names the file with what it must print.
fn prints(name: &str, arguments: &[&str], expected: &str) {
    compiler("cc");
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), &format!("{name}.c"));
    let expected = fs::read_to_string(sources().join(format!("{expected}.out"))).expect("a transcript");
    assert_eq!(transcript(&program, folder.path(), arguments), expected);
}

/// Runs a program of `roles.h` in one process, if it can be, and in two.
fn plays_its_roles(name: &str, words: &[&str], expected: &str, in_one: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), &format!("{name}.c"));
    let expected = fs::read_to_string(sources().join(format!("{expected}.out"))).expect("a transcript");
    if in_one {
        assert_eq!(transcript(&program, folder.path(), words), expected, "in one process");
    }
    let mut server = Server::start(&program, folder.path(), &[words, &["server"]].concat());
    let address = server.line();
    let (pid, chid) = address.split_once(' ').expect("pid and chid");
    let client = transcript(&program, folder.path(), &[words, &["client", "0", pid, chid]].concat());
    let server = server.rest();
    assert!(interleaved::is_made_of(&expected, &client, &server), "in two processes:\n{client}---\n{server}");
}

/// A server that runs beside the test, and what it prints.
struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Server {
    fn start(program: &Path, root: &Path, arguments: &[&str]) -> Self {
        let mut server: Command = command(program, root);
        let mut child = server.args(arguments).stdout(Stdio::piped()).spawn().expect("the server starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Ends a server that does not end by itself.
    fn stop(mut self) {
        // What runs is timeout(1), which passes SIGTERM on.
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
        self.child.wait().expect("an end");
    }

    /// Everything it still prints until its end, of whatever kind.
    fn rest(mut self) -> String {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.lines, &mut rest).expect("text");
        self.child.wait().expect("an end");
        rest
    }

    /// Everything it still prints, after its good end.
    fn end(mut self) -> String {
        let rest: Vec<String> = (&mut self.lines).lines().map(|line| line.expect("a line")).collect();
        assert!(self.child.wait().expect("an end").success(), "{rest:?}");
        rest.join("\n")
    }
}

#[test]
fn a_timer_sends_pulses() {
    prints_its_transcript("timer_pulse");
}

#[test]
fn a_timer_sends_signals_and_calls_functions() {
    prints_its_transcript("timer_signal");
}

#[test]
fn every_message_to_a_pool_of_threads_is_answered_once() {
    plays_its_roles("thread_pool", &[], "thread_pool", true);
}

#[test]
fn messages_wait_in_the_order_of_priority() {
    plays_its_roles("priorities", &[], "priorities", true);
}

#[test]
fn without_the_right_to_realtime_priorities_their_order_stays_and_one_line_tells() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "priorities.c");
    let mut run = command(&program, folder.path());
    if nix::unistd::geteuid().is_root() {
        // The same program without CAP_SYS_NICE.
        let mut without = Command::new("setpriv");
        without.args(["--bounding-set=-sys_nice", "timeout", "60"]).arg(&program);
        without.env("IO_PKT_ROOT", folder.path()).env_remove("LD_LIBRARY_PATH");
        run = without;
    }
    let output = run.output().expect("setpriv and the program run");
    let expected = fs::read_to_string(sources().join("priorities.out")).expect("a transcript");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.starts_with("libqnet: no right to realtime priority ") && told.lines().count() == 1,
        "{told}"
    );
}

#[test]
fn a_client_that_leaves_is_let_go_as_its_channel_says() {
    plays_its_roles("unblock", &[], "unblock", true);
    plays_its_roles("unblock", &["at_once"], "unblock_at_once", true);
}

#[test]
fn vectors_are_read_and_written_in_pieces() {
    plays_its_roles("iov", &[], "iov", true);
}

#[test]
fn the_end_of_clients_servers_and_threads_is_told() {
    plays_its_roles("deaths", &[], "deaths", false);
}

#[test]
fn a_kernel_timeout_ends_one_call() {
    plays_its_roles("timeouts", &[], "timeouts", true);
}

#[test]
fn a_thread_that_waits_for_a_message_can_be_cancelled() {
    plays_its_roles("cancel", &[], "cancel", true);
}

#[test]
fn a_message_queue_sends_a_pulse() {
    prints_its_transcript("queue");
}

#[test]
fn every_form_of_a_call_works() {
    prints_its_transcript("forms");
}

#[test]
fn threads_clocks_and_small_calls_work() {
    prints_its_transcript("threadctl");
}

#[test]
fn connections_can_be_asked_about() {
    plays_its_roles("info", &[], "info", true);
}

#[test]
fn small_calls_of_messages_work() {
    prints("small", &["messages"], "small_messages");
}

#[test]
fn device_control_reaches_a_server() {
    prints("small", &["devctl"], "small_devctl");
}

#[test]
fn node_descriptors_without_qnet_name_this_node_alone() {
    prints_its_transcript("nodes");
}

#[test]
fn the_conformance_program_gives_one_transcript_however_the_server_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "conformance.c");
    let expected = fs::read_to_string(sources().join("conformance.out")).expect("a transcript");
    assert_eq!(transcript(&program, folder.path(), &["run"]), expected, "in one process");

    let mut server = Server::start(&program, folder.path(), &["serve"]);
    let address = server.line();
    let (pid, chid) = address.split_once(' ').expect("pid and chid");
    assert_eq!(transcript(&program, folder.path(), &["run", "0", pid, chid]), expected, "by pid and chid");
    server.end();

    let mut server = Server::start(&program, folder.path(), &["serve", "conformance/one"]);
    server.line();
    assert_eq!(transcript(&program, folder.path(), &["run", "conformance/one"]), expected, "by name");
    server.end();
}

#[test]
fn a_client_finds_a_server_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "name_server.c");
    let server = Server::start(&program, folder.path(), &["server", "course/first"]);
    let client = loop {
        // The name is there when the server made it.
        let output =
            command(&program, folder.path()).args(["client", "course/first"]).output().expect("a client");
        if output.status.success() {
            break String::from_utf8_lossy(&output.stdout).into_owned();
        }
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("No such file"),
            "{}",
            support::printed(&output)
        );
    };
    assert_eq!(client.lines().count(), 6, "{client}");
    assert!(
        client.starts_with("client: sent 0, status 0, reply 0\nclient: sent 1, status 2, reply 2\n"),
        "{client}"
    );
    assert!(client.ends_with("client: a message of the system: ENOSYS\n"), "{client}");
    let printed = server.end();
    assert!(printed.starts_with("server: number 0\nserver: number 1\n"), "{printed}");
    assert!(printed.ends_with("server: stop pulse with value 17"), "{printed}");
}

/// The C program in the README, and the command below it, as they stand there.
#[test]
fn the_example_in_the_readme_builds_and_runs() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let program = readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program");
    assert!(readme.contains(
        "$ cc -o bell bell.c $(pkg-config --cflags --libs qnet)\n$ ./bell &\n$ ./bell bell\nding\n"
    ));
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("bell.c"), program).expect("a file");
    let flags = succeed(
        Command::new("pkg-config")
            .env("PKG_CONFIG_PATH", concat!(env!("CARGO_MANIFEST_DIR"), "/pkgconfig"))
            .arg(format!("--define-variable=libdir={}", support::library().display()))
            .args(["--cflags", "--libs", "qnet"]),
    );
    let mut cc = Command::new("cc");
    succeed(
        cc.current_dir(folder.path()).args(["-Wall", "-o", "bell", "bell.c"]).args(flags.split_whitespace()),
    );
    let bell = folder.path().join("bell");
    let mut server = Server::start(&bell, folder.path(), &[]);
    let ring = || command(&bell, folder.path()).arg("bell").output().expect("a client");
    let mut rung = ring();
    while !rung.status.success() {
        assert!(server.child.try_wait().expect("its state").is_none(), "the server ended");
        rung = ring();
    }
    assert_eq!(String::from_utf8_lossy(&rung.stdout), "ding\n");
    server.stop();
}

#[test]
fn traffic_lights_obey_their_controller() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "traffic_lights.c");
    let mut servers: Vec<Server> = ["north", "south"]
        .iter()
        .map(|name| Server::start(&program, folder.path(), &["intersection", name]))
        .collect();
    for server in &mut servers {
        assert_eq!(server.line(), "ready");
    }
    let printed = transcript(&program, folder.path(), &["controller", "north", "south"]);
    for number in 1..=2 {
        for line in [
            "runs 1, every state in turn 1",
            "a train comes: all red",
            "still all red, held 1, changes meanwhile 0",
            "the train is gone: it goes on",
            "unknown order: ENOSYS",
        ] {
            assert!(printed.contains(&format!("intersection {number}: {line}\n")), "{line}:\n{printed}");
        }
    }
    for server in servers {
        server.end();
    }
}

#[test]
fn one_train_at_a_time_is_on_the_track() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = build(folder.path(), "train.c");
    let mut controller = Server::start(&program, folder.path(), &["controller", "track", "3"]);
    assert_eq!(controller.line(), "ready");
    let trains: Vec<Server> = ["1", "2", "3"]
        .iter()
        .map(|number| Server::start(&program, folder.path(), &["train", "track", number]))
        .collect();
    for (i, train) in trains.into_iter().enumerate() {
        assert_eq!(train.end(), format!("train {} made its laps", i + 1));
    }
    assert_eq!(controller.end(), "9 passages, at most 1 train on the track");
}
