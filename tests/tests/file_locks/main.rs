//! Locks of one file by programs of two nodes: they exclude each other, and the node's own programs, and go with their holder.
//!
//! Called with `FILE_LOCKS` in its environment this program is a process inside of a node that locks as it is told.

#[expect(unsafe_code, reason = "flock and a signal handler, in the process that is told to use them")]
mod holder;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, Player, eventually};

const CASES: &[system_tests::Case] = &[
    case("programs_of_two_nodes_exclude_each_other", two_nodes),
    case("local_programs_of_the_serving_node_are_excluded_and_exclude", local_programs),
    case("who_gets_a_lock_sees_what_was_written_under_it", what_was_written),
    case("a_close_lets_go_of_all_locks_of_its_process", closing),
    case("a_waiting_lock_ends_with_a_signal_and_is_not_held", interrupted),
    case("a_process_that_waits_for_a_lock_dies_when_it_is_killed", killed),
    case("deadlocks_between_nodes_are_told", deadlocks),
    case("flock_excludes_opens_of_two_nodes", whole_files),
    case("locks_go_with_their_node", lost_node),
    case("locks_go_with_the_file_system_that_held_them", lost_file_system),
    system_tests::Case {
        needs: &[Need::RootNodes, Need::Fuse, Need::Program("sqlite3")],
        ..case("a_data_base_is_shared_by_two_nodes", data_base)
    },
];

const fn case(name: &'static str, run: fn() -> Result<()>) -> system_tests::Case {
    system_tests::Case { name, needs: &[Need::RootNodes, Need::Fuse], run }
}

fn main() -> ExitCode {
    let Some(path) = std::env::var_os("FILE_LOCKS") else { return system_tests::main(CASES) };
    match holder::obey(Path::new(&path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// joseph has the file; both may write it.
fn up() -> Result<Pair> {
    let pair = Pair::up(&Options { qnet: vec!["mapany=off".to_owned()], ..Options::default() })?;
    pair.joseph.shell("echo before >/tmp/f && chmod 666 /tmp/f")?;
    Ok(pair)
}

const THERE: &str = "/net/joseph/tmp/f";
const HERE: &str = "/tmp/f";

/// A process that locks as it is told.
struct Holder {
    player: Player,
    /// Its number in its node.
    pid: String,
}

impl Holder {
    fn start(node: &Node, path: &str) -> Result<Self> {
        let mut player = Player::of_this_program(node, &format!("FILE_LOCKS={path}"), &[])?;
        let pid = player.hear()?;
        Ok(Self { player, pid })
    }

    fn order(&mut self, line: &str) -> Result<()> {
        self.player.order(line)
    }

    fn hear(&mut self) -> Result<String> {
        self.player.hear()
    }

    fn says(&mut self, line: &str, expected: &str) -> Result<()> {
        self.player.says(line, expected)
    }

    /// It sleeps in the system call for a lock.
    fn is_waiting(&self, node: &Node) -> bool {
        let calls = [libc::SYS_fcntl, libc::SYS_flock].map(|call| format!("{call} "));
        let doing = node.shell(&format!("cat /proc/{}/syscall", self.pid));
        doing.is_ok_and(|doing| calls.iter().any(|call| doing.starts_with(call)))
    }

    fn signal(&self, node: &Node, signal: &str) -> Result<()> {
        node.shell(&format!("kill -{signal} {}", self.pid)).map(drop).context("a signal")
    }
}

fn two_nodes() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut far, mut near) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, "/net/joseph/tmp/f")?);
    far.says("set w 0 10", "ok")?;
    near.says("set w 5 10", "EAGAIN")?;
    near.says("set w 10 10", "ok")?;
    // a piece out of the middle, and the rest stays
    far.says("set u 3 4", "ok")?;
    near.says("set r 3 4", "ok")?;
    near.says("set r 2 1", "EAGAIN")?;
    near.says("set r 7 1", "EAGAIN")?;
    far.says("set w 3 1", "EAGAIN")?;
    far.says("set r 3 1", "ok")?;
    near.says("test w 0 0", "w 0 3 0")?;
    let mut second = Holder::start(alonzo, THERE)?;
    let pid = far.pid.clone();
    second.says("test r 0 3", &format!("w 0 3 {pid}"))?;
    // beyond 4 GiB, and to the end whatever it will be
    far.says("set w 5000000000 0", "ok")?;
    near.says("set w 9000000000 1", "EAGAIN")?;
    near.says("set w 4999999999 1", "ok")
}

fn local_programs() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut far, mut local) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, HERE)?);
    far.says("set w 0 10", "ok")?;
    local.says("set r 9 1", "EAGAIN")?;
    local.says("test r 0 0", "w 0 10 -1")?;
    local.says("set w 10 10", "ok")?;
    far.says("set r 19 1", "EAGAIN")?;
    far.order("wait r 19 1")?;
    eventually("the wait", || far.is_waiting(alonzo))?;
    local.says("set u 10 10", "ok")?;
    ensure!(far.hear()? == "ok");
    local.order("wait w 0 1")?;
    eventually("the wait", || local.is_waiting(joseph))?;
    drop(far);
    ensure!(local.hear()? == "ok", "the locks of a process that was killed are gone");
    Ok(())
}

fn what_was_written() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut far, mut local) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, HERE)?);
    far.says("read", "before")?;
    local.says("set w 0 0", "ok")?;
    far.order("wait r 0 0")?;
    eventually("the wait", || far.is_waiting(alonzo))?;
    local.says("write behind", "ok")?;
    local.says("set u 0 0", "ok")?;
    ensure!(far.hear()? == "ok");
    far.says("read", "behind")?;
    far.says("set u 0 0", "ok")?;
    local.says("flock w", "ok")?;
    local.says("write BEHIND", "ok")?;
    local.says("flock u", "ok")?;
    far.says("fwait r", "ok")?;
    far.says("read", "BEHIND")
}

fn closing() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut far, mut local) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, HERE)?);
    far.says("set w 0 10", "ok")?;
    local.says("set w 0 1", "EAGAIN")?;
    // another descriptor of the same file is closed: POSIX
    far.says("again", "ok")?;
    local.says("set w 0 1", "ok")?;
    local.says("set u 0 1", "ok")?;
    far.says("set w 0 10", "ok")?;
    far.says("flock w", "ok")?;
    far.says("again", "ok")?;
    local.says("flock r", "EAGAIN")?;
    drop(far);
    local.says("wait w 0 1", "ok")?;
    local.says("fwait w", "ok")
}

fn interrupted() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut far, mut local) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, HERE)?);
    for (wait, hold, let_go, take) in [
        ("wait w 0 10", "set w 0 10", "set u 0 10", "set w 0 10"),
        ("fwait w", "flock w", "flock u", "flock w"),
    ] {
        local.says(hold, "ok")?;
        far.order(wait)?;
        eventually("the wait", || far.is_waiting(alonzo))?;
        far.signal(alonzo, "ALRM")?;
        ensure!(far.hear()? == "EINTR");
        local.says(let_go, "ok")?;
        local.says(take, "ok")?;
        local.says(let_go, "ok")?;
        far.says(wait, "ok")?;
        local.says(take, "EAGAIN")?;
        far.says(let_go, "ok")?;
    }
    Ok(())
}

fn killed() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut far, mut local) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, HERE)?);
    local.says("set w 0 10", "ok")?;
    far.order("wait w 0 10")?;
    eventually("the wait", || far.is_waiting(alonzo))?;
    far.signal(alonzo, "KILL")?;
    eventually("its end", || far.player.process().try_wait().is_ok_and(|status| status.is_some()))?;
    local.says("set u 0 10", "ok")?;
    local.says("set w 0 10", "ok")
}

fn deadlocks() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut one, mut two) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, "/net/joseph/tmp/f")?);
    one.says("set w 0 1", "ok")?;
    two.says("set w 1 1", "ok")?;
    one.order("wait w 1 1")?;
    eventually("the wait", || one.is_waiting(alonzo))?;
    two.order("wait w 0 1")?;
    // whoever closes the circle, who is the last whose wish gets to joseph, is told; the other one waits on
    let told = std::thread::scope(|scope| {
        let both = [(&mut one, "set u 0 1"), (&mut two, "set u 1 1")].map(|(holder, let_go)| {
            scope.spawn(move || {
                let told = holder.hear()?;
                if told == "EDEADLK" {
                    holder.says(let_go, "ok")?;
                }
                anyhow::Ok(told)
            })
        });
        let told = both.map(|one| one.join().map_err(|_| anyhow!("a holder panicked"))?);
        told.into_iter().collect::<Result<Vec<_>>>()
    })?;
    ensure!(told == ["EDEADLK", "ok"] || told == ["ok", "EDEADLK"], "{told:?}");
    Ok(())
}

fn whole_files() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut far, mut local) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, HERE)?);
    let mut second = Holder::start(alonzo, THERE)?;
    far.says("flock r", "ok")?;
    local.says("flock r", "ok")?;
    second.says("flock w", "EAGAIN")?;
    local.says("flock u", "ok")?;
    far.says("flock w", "ok")?;
    second.says("flock r", "EAGAIN")?;
    local.says("set w 0 0", "ok")?;
    second.order("fwait w")?;
    eventually("the wait", || second.is_waiting(alonzo))?;
    drop(far);
    ensure!(second.hear()? == "ok");
    local.says("flock r", "EAGAIN")?;
    // the program of util-linux does the same
    let line = format!("flock -n {THERE} true; echo $?; flock -n -s {THERE} true; echo $?");
    ensure!(alonzo.shell(&line)? == "1\n1\n");
    Ok(())
}

fn lost_node() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut far, mut local) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, HERE)?);
    far.says("set w 0 10", "ok")?;
    far.says("flock w", "ok")?;
    local.says("set w 0 1", "EAGAIN")?;
    let daemon = alonzo.daemon().context("io-pkt of alonzo")?;
    kill(Pid::from_raw(daemon.pid), Signal::SIGKILL)?;
    local.says("wait w 0 10", "ok")?;
    local.says("fwait w", "ok")?;
    // who held them is told when he uses the file
    eventually("the error", || far.player.ask("set w 20 1").is_ok_and(|said| said == "EHOSTDOWN"))
}

fn lost_file_system() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let (mut far, mut local) = (Holder::start(alonzo, THERE)?, Holder::start(joseph, HERE)?);
    far.says("set w 0 10", "ok")?;
    local.says("set w 0 1", "EAGAIN")?;
    alonzo.shell("kill -KILL $(pgrep -x qnet-netfs)")?;
    local.says("wait w 0 10", "ok")
}

fn data_base() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph
        .shell("mkdir -m 777 /tmp/db && sqlite3 /tmp/db/x 'create table t(who, n)' && chmod 666 /tmp/db/x")?;
    let add = |node: &Node, path: &str| {
        let line = format!(
            "for i in $(seq 25); do echo \".timeout 60000\ninsert into t values('{}', $i);\" | sqlite3 {path} || exit 1; done",
            node.name()
        );
        let mut command = node.command("sh");
        command.args(["-c", &line]).spawn()
    };
    let mut both = [add(alonzo, "/net/joseph/tmp/db/x")?, add(joseph, "/tmp/db/x")?];
    for child in &mut both {
        ensure!(child.wait()?.success(), "an insert failed");
    }
    let count = "select who, count(*), sum(n) from t group by who; pragma integrity_check";
    for (node, path) in [(alonzo, "/net/joseph/tmp/db/x"), (joseph, "/tmp/db/x")] {
        let found = node.shell(&format!("sqlite3 {path} '{count}'"))?;
        ensure!(found == "alonzo|25|325\njoseph|25|325\nok\n", "{found}");
    }
    Ok(())
}
