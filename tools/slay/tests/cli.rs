//! `slay` as it is called, on sleepers of our own: each test's are named so that no other process can be meant.

use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SLAY: &str = env!("CARGO_BIN_EXE_qnx-slay");
const PATIENCE: Duration = Duration::from_secs(60);

/// A program of an unheard-of name that sleeps.
struct Sleepers {
    dir: tempfile::TempDir,
    name: String,
    children: Vec<Child>,
}

/// Copies a program, by another process: a file that is open for writing here could be inherited by a child that another
/// test starts just then, and cannot be executed meanwhile.
fn copy(from: &str, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "cp {from} {}: {status}", to.display());
}

impl Sleepers {
    fn new(tag: &str, count: usize) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let name = format!("sl{tag}{}", std::process::id());
        let program = dir.path().join(&name);
        copy("/bin/sleep", &program);
        let mut this = Self { dir, name, children: Vec::new() };
        for _ in 0..count {
            let child = Command::new(&program).arg("1000").spawn().expect("it starts");
            this.children.push(child);
        }
        this
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    fn pid(&self, index: usize) -> String {
        self.children[index].id().to_string()
    }

    /// The signal that ended a child.
    fn ended_by(&mut self, index: usize) -> i32 {
        self.children[index].wait().expect("a child").signal().expect("a signal ended it")
    }

    fn is_alive(&mut self, index: usize) -> bool {
        self.children[index].try_wait().expect("a child").is_none()
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Those that are gone are gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn slay(args: &[&str]) -> Run {
    slay_answered(args, "")
}

fn slay_answered(args: &[&str], answers: &str) -> Run {
    let mut command = Command::new(SLAY);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    // A call that asks nothing may be over before it is answered.
    let _ = child.stdin.take().expect("a pipe").write_all(answers.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Field `number` of `/proc/PID/stat`, counted behind the name.
fn stat_field(pid: &str, number: usize) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let rest = text.rsplit_once(')').expect("a name").1;
    rest.split_whitespace().nth(number).expect("a field").to_owned()
}

#[test]
fn one_process_is_slain_by_name_with_sigterm() {
    let mut sleepers = Sleepers::new("a", 1);
    let run = slay(&[&sleepers.name]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(1), "", ""));
    assert_eq!(sleepers.ended_by(0), libc::SIGTERM);
}

#[test]
fn a_number_and_a_path_mean_a_process_too() {
    let mut sleepers = Sleepers::new("b", 2);
    let run = slay(&["-9", &sleepers.pid(0)]);
    assert_eq!((run.code, run.err.as_str()), (Some(1), ""));
    assert_eq!(sleepers.ended_by(0), libc::SIGKILL);
    assert!(sleepers.is_alive(1));
    let program = sleepers.program();
    assert_eq!(slay(&["-s", "USR1", program.to_str().expect("text")]).code, Some(1));
    assert_eq!(sleepers.ended_by(1), libc::SIGUSR1);
}

#[test]
fn of_several_each_is_asked_for() {
    let mut sleepers = Sleepers::new("c", 3);
    let run = slay_answered(&[&sleepers.name], "n\ny\n");
    assert_eq!(run.code, Some(1), "the third answer is missing and counts as no");
    assert_eq!(run.err.matches("SIGTERM? (y/n) ").count(), 3, "{}", run.err);
    assert!(run.err.contains(&format!("(process {}, ", sleepers.pid(1))), "{}", run.err);
    let mut pids: Vec<usize> = (0..3).collect();
    pids.sort_by_key(|index| sleepers.pid(*index).parse::<u32>().expect("a number"));
    assert_eq!(sleepers.ended_by(pids[1]), libc::SIGTERM);
    assert!(sleepers.is_alive(pids[0]) && sleepers.is_alive(pids[2]));
}

#[test]
fn force_asks_nobody_and_the_status_counts() {
    let mut sleepers = Sleepers::new("d", 3);
    let run = slay(&["-f", "-v", &sleepers.name]);
    assert_eq!((run.code, run.err.as_str()), (Some(3), ""));
    assert_eq!(run.out.lines().count(), 3);
    for index in 0..3 {
        assert_eq!(sleepers.ended_by(index), libc::SIGTERM);
    }
}

#[test]
fn a_query_is_stronger_than_force() {
    let mut sleepers = Sleepers::new("e", 1);
    let run = slay_answered(&["-f", "-q", &sleepers.name], "n\n");
    assert_eq!(run.code, Some(0));
    assert!(sleepers.is_alive(0));
}

#[test]
fn printing_slays_nobody() {
    let mut sleepers = Sleepers::new("g", 2);
    let run = slay(&["-p", &sleepers.name]);
    let mut pids = [sleepers.pid(0), sleepers.pid(1)].map(|pid| pid.parse::<u32>().expect("a number"));
    pids.sort_unstable();
    assert_eq!(run.out, format!("{}\n{}\n", pids[0], pids[1]));
    assert_eq!((run.code, run.err.as_str()), (Some(2), ""));
    assert!(sleepers.is_alive(0) && sleepers.is_alive(1));
}

#[test]
fn nobody_of_that_name_is_status_zero_and_said_unless_quiet() {
    let run = slay(&["no-such-process-here"]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), "slay: no-such-process-here: no such process\n"));
    let run = slay(&["-Q", "no-such-process-here"]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
}

#[test]
fn a_wrong_call_slays_nobody_and_says_so_by_its_status() {
    let run = slay(&["-s", "NOPE", "no-such-process-here"]);
    assert_eq!(run.code, Some(0));
    assert!(run.err.contains("NOPE is no signal"), "{}", run.err);
    let help = slay(&["--help"]);
    assert!(help.code == Some(0) && help.out.contains("Usage:") && help.err.is_empty());
}

#[test]
fn holding_and_letting_go() {
    let sleepers = Sleepers::new("h", 1);
    let pid = sleepers.pid(0);
    assert_eq!(slay(&["-h", &pid]).code, Some(1));
    let end = Instant::now() + PATIENCE;
    while stat_field(&pid, 0) != "T" {
        assert!(Instant::now() < end, "it is not held");
        std::thread::yield_now();
    }
    assert_eq!(slay(&["-u", &pid]).code, Some(1));
    while stat_field(&pid, 0) == "T" {
        assert!(Instant::now() < end, "it does not go on");
        std::thread::yield_now();
    }
}

#[test]
fn what_must_live_is_never_touched() {
    let run = slay(&["-s", "CONT", "1"]);
    assert_eq!(
        (run.code, run.err.as_str()),
        (Some(0), "slay: 1: process 1 is the system's first process: not touched\n")
    );
    let own = std::process::id().to_string();
    let run = slay(&["-s", "CONT", &own]);
    assert_eq!(run.code, Some(0));
    assert!(run.err.contains("slay itself or one that waits for it"), "{}", run.err);
    // By its own name: it is not even seen.
    let run = slay(&["-s", "CONT", "-m", "name", "qnx-slay", "--", "no-such-process-here"]);
    assert!(!run.err.contains("not touched"), "{}", run.err);
}

#[test]
fn words_may_be_restricted_to_names_or_numbers() {
    let mut sleepers = Sleepers::new("i", 1);
    let pid = sleepers.pid(0);
    assert_eq!(slay(&["-m", "name", &pid]).code, Some(0));
    assert_eq!(slay(&["-m", "pid", &sleepers.name]).code, Some(0));
    assert!(sleepers.is_alive(0));
    assert_eq!(slay(&["-m", "pid", &pid]).code, Some(1));
    assert_eq!(sleepers.ended_by(0), libc::SIGTERM);
}

#[test]
fn a_name_given_at_the_call_counts() {
    let mut sleepers = Sleepers::new("j", 0);
    let called = format!("io-{}", sleepers.name);
    let mut command = Command::new(sleepers.program());
    sleepers.children.push(command.arg0(format!("/sbin/{called}")).arg("1000").spawn().expect("it starts"));
    let end = Instant::now() + PATIENCE;
    // Until it has become the sleeper it is a copy of this test.
    while slay(&["-Q", "-p", &called]).code != Some(1) {
        assert!(Instant::now() < end, "it has not that name");
    }
    assert_eq!(slay(&[&called]).code, Some(1));
    assert_eq!(sleepers.ended_by(0), libc::SIGTERM);
}

#[test]
fn those_with_children_are_left_alone_with_capital_s() {
    let mut sleepers = Sleepers::new("k", 0);
    let script = sleepers.dir.path().join(format!("{}sh", sleepers.name));
    copy("/bin/sh", &script);
    let line = format!("{} 1000 & echo; wait", sleepers.program().display());
    let mut parent =
        Command::new(&script).args(["-c", &line]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut first = [0; 1];
    std::io::Read::read_exact(parent.stdout.as_mut().expect("a pipe"), &mut first).expect("its child runs");
    sleepers.children.push(parent);
    let name = script.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
    let run = slay(&["-S", "-9", &name]);
    assert_eq!(run.code, Some(0));
    assert!(run.err.contains("has children: not touched"), "{}", run.err);
    assert_eq!(slay(&[&sleepers.name]).code, Some(1), "its child");
    assert!(sleepers.children[0].wait().expect("a child").code().is_some(), "it ended by itself");
}

#[test]
fn priority_and_processors_are_set_instead_of_a_signal() {
    let mut sleepers = Sleepers::new("l", 1);
    let pid = sleepers.pid(0);
    let run = slay(&["-P", "5", "-C", "0", "-T", "1", &pid]);
    assert_eq!((run.code, run.err.as_str()), (Some(1), ""));
    assert_eq!(stat_field(&pid, 16), "5", "QNX's 10 is nice 0, so 5 is nice 5");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    assert!(sleepers.is_alive(0));
    let run = slay(&["-P", "5", "-T", "7", &pid]);
    assert_eq!(run.code, Some(0));
    assert!(run.err.contains("-T 7: it has 1 threads"), "{}", run.err);
}
