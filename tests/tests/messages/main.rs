//! Messages between programs of two nodes: the play that reads the same everywhere, and a test for each row in which a remote
//! call differs from a local one (`docs/messages.md`).
//!
//! Called with `MESSAGES` in its environment this program is the server or one of the clients.

#[expect(unsafe_code, reason = "a signal handler, in the process that is told to use it")]
mod interrupt;
#[expect(unsafe_code, reason = "memory that is mostly not there")]
mod long;
mod play;
mod serve;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use play::{Server, message, send};
use qnet::calls::{self, state};
use qnet_lab::{Node, Options};
use system_tests::capture::{Capture, ask, count, is_clean};
use system_tests::{Case, Need, Pair, eventually, shell_as};

const CASES: &[Case] = &[
    case("the_play_reads_the_same_on_one_node_and_on_two_and_on_a_bad_wire", the_play),
    case("attaching_succeeds_and_the_first_message_tells", first_message_tells),
    case("eight_kibibytes_arrive_at_first_and_writes_are_counted", first_chunk_and_writes),
    case("a_message_as_long_as_may_be_is_read_in_pieces_here_and_there", long_message),
    case("a_node_that_dies_ends_calls_and_its_clients", node_dies),
    case("a_stopped_server_holds_its_callers_no_longer_than_they_want", stopped_server),
    case("without_qnet_other_nodes_are_out_of_reach_and_this_one_is_not", without_qnet),
    case("strangers_need_leave_and_a_denial_names_it", strangers_need_leave),
    case("server_and_client_are_any_users_and_the_server_knows_who_calls", any_users),
    case("a_program_needs_one_socket_for_all_of_another_node", one_socket),
    Case {
        name: "tshark_reads_the_play_as_kernel_messages",
        needs: &[Need::RootNodes, Need::Fuse, Need::Program("tshark")],
        run: on_the_wire,
    },
    case("a_signal_goes_to_a_process_of_another_node_if_that_allows_it", signals),
    case("numbers_and_names_of_nodes_lead_to_each_other", numbers_and_names),
];

const fn case(name: &'static str, run: fn() -> Result<()>) -> Case {
    Case { name, needs: &[Need::RootNodes, Need::Fuse], run }
}

fn main() -> ExitCode {
    let Some(role) = std::env::var_os("MESSAGES") else { return system_tests::main(CASES) };
    let words: Vec<String> = std::env::args().skip(1).collect();
    match act(&role.to_string_lossy(), &words) {
        Ok(said) => {
            // Whoever started the server has heard what it needs.
            let _heard = writeln!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What this program does in a node.
fn act(role: &str, words: &[String]) -> Result<String> {
    match role {
        "serve" => serve::serve().map(|()| String::new()),
        "play" => play::play(Server::of(words)?),
        "first" => Ok(format!("{:?}", send(Server::of(words)?.attach()?, &message(b'e', &[], 8), 8).0)),
        "waited-for" => Ok(format!("{:?}", send(Server::of(words)?.attach()?, &message(b'q', &[], 0), 0).0)),
        "chunk" => {
            let coid = Server::of(words)?.attach()?;
            let first = send(coid, &message(b'f', &[], 20_000), 0).0;
            Ok(format!("{first:?} {:?}", send(coid, &message(b'W', &[], 0), 10).0))
        }
        "long" => {
            let length = words.last().context("a length")?.parse()?;
            long::ask(Server::of(words)?.attach()?, length)
        }
        "wait" => {
            // Says so when it is about to wait for an answer that does not come.
            let coid = Server::of(words)?.attach()?;
            send(coid, &message(b'e', &[], 8), 8).0.map_err(Errno::from_raw)?;
            println!("waits");
            let blocked = send(coid, &message(b'u', &[], 0), 0).0;
            Ok(format!("{blocked:?} then {:?}", send(coid, &message(b'e', &[], 8), 8).0))
        }
        "hurry" => {
            // To a server that has been stopped, says the line: on a connection that it has not seen, then on one that it has.
            let server = Server::of(words)?;
            let known = server.attach()?;
            ensure!(send(known, &message(b'e', &[], 8), 8).0 == Ok(8), "the server does not serve");
            println!("waits");
            std::io::stdin().read_line(&mut String::new())?;
            let fresh = calls::connect_attach(server.nd, server.pid, server.deaf, calls::SIDE_CHANNEL, 0)?;
            let hurried = |coid| {
                let waits = state::SEND | state::REPLY;
                calls::timer_timeout(waits, Duration::from_millis(500), qnet::Event::Unblock);
                send(coid, &message(b'e', &[], 8), 8).0
            };
            Ok(format!("{:?} {:?}", hurried(fresh), hurried(known)))
        }
        "gone" => Ok(format!("{:?}", send(Server::of(words)?.attach()?, &message(b'g', &[], 0), 0).0)),
        "who" => {
            let mut reply = vec![0; 100];
            let server = Server::of(words)?;
            let coid = server.attach()?;
            let own = [i64::from(std::process::id())];
            let (status, said) = send(coid, &message(b'c', &own, 0), reply.len());
            reply.copy_from_slice(&said);
            status.map_err(Errno::from_raw)?;
            Ok(String::from_utf8_lossy(&reply).trim_end_matches('.').to_owned())
        }
        "many" => {
            let server = Server::of(words)?;
            let sockets = || -> Result<usize> {
                let fds = std::fs::read_dir("/proc/self/fd")?.filter_map(Result::ok);
                let links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
                Ok(links.filter(|link| link.to_string_lossy().starts_with("socket:")).count())
            };
            let before = sockets()?;
            for _ in 0..100 {
                send(server.attach()?, &message(b'e', &[], 8), 8).0.map_err(Errno::from_raw)?;
            }
            Ok(format!("{}", sockets()? - before))
        }
        "strtond" => Ok(format!(
            "{:?}",
            qnet::netmgr::strtond(words.first().context("a name")?).map_err(|e| e.errno())
        )),
        "later" => {
            // Attaches, and sends when it is told to; then the same again.
            let server = Server::of(words)?;
            let coid = server.attach()?;
            println!("attached");
            std::io::stdin().read_line(&mut String::new())?;
            let first = send(coid, &message(b'e', &[], 8), 8).0;
            let again = server.attach().map(|coid| send(coid, &message(b'e', &[], 8), 8).0);
            Ok(format!("{first:?} {:?}", again.map_err(|error| error.errno())))
        }
        "unreached" => {
            let attached = calls::connect_attach(7, 1, 1, 0, 0).map_err(|error| error.errno());
            Ok(format!("{attached:?}"))
        }
        "names" => names(words),
        "signal" => {
            let [node, pid] = words else { bail!("no process") };
            let nd = qnet::netmgr::strtond(node)?.0;
            qnet::netmgr::signal(nd, pid.parse()?, 0, Signal::SIGUSR1 as i32, 0, 0)?;
            Ok(String::new())
        }
        _ => bail!("no such role: {role}"),
    }
}

/// Names, numbers and back, of another node and of this one.
fn names(words: &[String]) -> Result<String> {
    use qnet::netmgr::{nd2s, ndtostr, node_cmp, path, remote_nd, strtond};
    let [node] = words else { bail!("no node") };
    let text = format!("/net/{node}/dev/ser1");
    let (nd, used) = strtond(&text)?;
    ensure!(&text[used..] == "/dev/ser1" && nd != 0, "{nd} {used}");
    let full = ndtostr(0, nd)?;
    ensure!(node_cmp(strtond(&full)?.0, nd) == 0, "{full}");
    // The other node calls us by some number, and its own is ours for it.
    let ours = remote_nd(nd, 0)?;
    ensure!(ours != 0 && remote_nd(nd, nd)? == 0 && remote_nd(0, nd)? == nd, "{ours}");
    let own = ndtostr(nd2s::DIR_SHOW, 0)?;
    Ok(format!("{} {} {own}", path(node, "/etc/hostname")?, ndtostr(nd2s::LOCAL_STR, nd)?))
}

/// This program inside of a node.
fn us() -> Result<String> {
    let us = std::env::current_exe()?;
    let name = us.file_name().and_then(|name| name.to_str()).context("a name")?;
    Ok(format!("/lab/programs/deps/{name}"))
}

/// A server in a node; it is killed with this value.
struct Serving {
    command: Child,
    /// Its process and two channels, as a client's words.
    numbers: String,
}

impl Serving {
    fn start(node: &Node) -> Result<Self> {
        Self::run(node.command("env"))
    }

    fn run(mut command: Command) -> Result<Self> {
        command.args(["MESSAGES=serve", &us()?]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        let Some(numbers) = line.trim_end().strip_prefix("serves ") else { bail!("it says {line:?}") };
        Ok(Self { numbers: numbers.to_owned(), command: child })
    }

    /// The words that lead a client to it.
    fn at(&self, node: &str) -> String {
        format!("{node} {}", self.numbers)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended in its role.
        let _ended = self.command.kill().and_then(|()| self.command.wait());
    }
}

fn line(role: &str, words: &str) -> Result<String> {
    Ok(format!("MESSAGES={role} {} {words}", us()?))
}

/// What a client says that runs to its end.
fn said(node: &Node, role: &str, words: &str) -> Result<String> {
    Ok(node.shell(&line(role, words)?)?.trim_end().to_owned())
}

/// A client that has said that it waits, and its further output.
fn waiting(node: &Node, role: &str, words: &str) -> Result<(Child, BufReader<ChildStdout>)> {
    let mut command = node.command("sh");
    command.args(["-c", &line(role, words)?]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("its output")?);
    let mut said = String::new();
    output.read_line(&mut said)?;
    ensure!(said == "waits\n", "{said}");
    Ok((child, output))
}

fn open_nodes() -> Options {
    Options { qnet: vec!["allow=connect".to_owned()], ..Options::default() }
}

fn long_message() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let (near, far) = (Serving::start(alonzo)?, Serving::start(joseph)?);
    for words in [near.at("-"), far.at("joseph")] {
        let length = long::length();
        let said = said(alonzo, "long", &format!("{words} {length}"))?;
        ensure!(said == long::expected(length), "{words}: {said}");
    }
    Ok(())
}

fn the_play() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let (near, far) = (Serving::start(alonzo)?, Serving::start(joseph)?);
    let local = said(alonzo, "play", &near.at("-"))?;
    let remote = said(alonzo, "play", &far.at("joseph"))?;
    ensure!(local == remote, "on one node:\n{local}\non two:\n{remote}");
    // And once more while frames are lost where they leave a node.
    for node in [alonzo, joseph] {
        node.shell(
            "nft 'add table netdev loss; add chain netdev loss out { type filter hook egress device eth0 priority 0; }; \
             add rule netdev loss out ether type 0x8204 numgen random mod 100 < 10 counter drop'",
        )?;
    }
    let another = Serving::start(joseph)?;
    let lossy = said(alonzo, "play", &another.at("joseph"))?;
    ensure!(lossy == remote, "without loss:\n{remote}\nwith it:\n{lossy}");
    let rules = alonzo.shell("nft list table netdev loss")?;
    ensure!(!rules.contains("packets 0 "), "nothing was lost: {rules}");
    for line in [
        "echo of 1000000: Ok(1000000) true",
        "written in pieces: Ok(1) start-middle",
        "pulses: 0:0x0:20 127:0x12345678:20 5:0x7fff00001234:20 6:0xffffffffffffffff:20",
        "a pulse alone: Some(\"3:0x7fff00000007:10\")",
        "one scoid: true",
        "events: true Ok(0) (9, 140733498807928, 12) (9, 2, 12)",
        "a server that decides: Ok(77)",
        "a server that does not care: Err(110)",
        "a channel that is not there: Err(3)",
        "the server ends before it answers: Err(3), then Some(Err(9))",
    ] {
        ensure!(remote.lines().any(|said| said == line), "{line:?} is missing in\n{remote}");
    }
    Ok(())
}

fn first_message_tells() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let server = Serving::start(joseph)?;
    let later = || -> Result<_> {
        let mut command = alonzo.command("sh");
        command.args(["-c", &line("later", &server.at("joseph"))?]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("its output")?);
        let mut said = String::new();
        output.read_line(&mut said)?;
        ensure!(said == "attached\n", "{said}");
        Ok((child, output))
    };
    let go = |(mut child, mut output): (Child, BufReader<_>)| -> Result<String> {
        child.stdin.take().context("its input")?.write_all(b"\n")?;
        let mut said = String::new();
        output.read_line(&mut said)?;
        child.wait()?;
        Ok(said.trim_end().to_owned())
    };
    let outcome = go(later()?)?;
    ensure!(outcome == "Ok(8) Ok(Ok(8))", "{outcome}");
    let waiting = later()?;
    // Killed, it says no goodbye: who sends now finds out.
    joseph.shell("kill -9 $(pgrep -x io-pkt)")?;
    let outcome = go(waiting)?;
    // EHOSTDOWN: the session that was there ended; EHOSTUNREACH: none could be had.
    ensure!(outcome == "Err(112) Ok(Err(113))", "{outcome}");
    Ok(())
}

fn first_chunk_and_writes() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let (near, far) = (Serving::start(alonzo)?, Serving::start(joseph)?);
    let local = said(alonzo, "chunk", &near.at("-"))?;
    ensure!(local == "Ok(20000) Ok(10)", "{local}");
    // QNX counts what was handed over; here the room for the reply is known, and the count is what arrives.
    let remote = said(alonzo, "chunk", &far.at("joseph"))?;
    ensure!(remote == "Ok(8192) Ok(10)", "{remote}");
    Ok(())
}

fn node_dies() -> Result<()> {
    let qnet = vec!["allow=connect".to_owned(), "conn_up_idle=2".to_owned(), "conn_up_retries=2".to_owned()];
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options { qnet, ..Options::default() })?;
    let (near, far) = (Serving::start(alonzo)?, Serving::start(joseph)?);
    let (mut here, mut heard) = waiting(alonzo, "wait", &far.at("joseph"))?;
    let (_there, _) = waiting(joseph, "wait", &near.at("alonzo"))?;
    for (node, server) in [(joseph, &far), (alonzo, &near)] {
        let received = || said(node, "waited-for", &server.at("-")).is_ok_and(|said| said == "Ok(1)");
        eventually("the server has the message", received)?;
    }
    joseph.shell("kill -9 $(pgrep -x io-pkt)")?;
    let mut outcome = String::new();
    heard.read_line(&mut outcome)?;
    here.wait()?;
    // EHOSTDOWN for who waited, EBADF from then on.
    ensure!(outcome == "Err(112) then Err(9)\n", "{outcome}");
    let gone = || said(alonzo, "gone", &near.at("-")).is_ok_and(|gone| gone == "Ok(1)");
    eventually("the server hears that its client is gone", gone)
}

fn stopped_server() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let server = Serving::start(joseph)?;
    let (words, pid) = (server.at("joseph"), server.numbers.split(' ').next().context("a process")?);
    let (mut hurries, mut heard) = waiting(alonzo, "hurry", &words)?;
    joseph.shell(&format!("kill -STOP {pid}"))?;
    writeln!(hurries.stdin.take().context("its input")?)?;
    let mut outcome = String::new();
    heard.read_line(&mut outcome)?;
    hurries.wait()?;
    let late = format!("Err({})", Errno::ETIMEDOUT as i32);
    ensure!(outcome == format!("{late} {late}\n"), "{outcome}");
    // Who waits without a limit can be killed.
    let mut command = alonzo.command("sh");
    let mut waits = command
        .args(["-c", &format!("exec env {}", line("first", &words)?)])
        .stdout(Stdio::null())
        .spawn()?;
    ensure!(waits.try_wait()?.is_none(), "a stopped server answered");
    waits.kill()?;
    eventually("the caller ends", || waits.try_wait().is_ok_and(|status| status.is_some()))?;
    // The server knows of nothing when it goes on, and serves.
    joseph.shell(&format!("kill -CONT {pid}"))?;
    ensure!(said(alonzo, "first", &words)? == "Ok(8)");
    Ok(())
}

fn without_qnet() -> Result<()> {
    let Pair { alonzo, .. } = &Pair::bare()?;
    let server = Serving::start(alonzo)?;
    ensure!(said(alonzo, "first", &server.at("-"))? == "Ok(8)");
    ensure!(said(alonzo, "strtond", "joseph")? == format!("Err({})", Errno::ENOTSUP as i32));
    ensure!(said(alonzo, "unreached", "")? == format!("Err({})", Errno::EHOSTUNREACH as i32));
    Ok(())
}

fn strangers_need_leave() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options::default())?;
    let server = Serving::start(joseph)?;
    ensure!(said(alonzo, "first", &server.at("joseph"))? == "Err(1)");
    let log = joseph.log();
    let told = format!("channel {}", server.numbers.split(' ').nth(1).context("a channel")?);
    let named =
        |line: &&str| line.contains(&told) && line.contains("allow=connect") && line.contains("mapany=");
    ensure!(log.lines().filter(named).count() == 1, "{log}");
    // Nobody asks the node's own programs.
    ensure!(said(joseph, "first", &server.at("-"))? == "Ok(8)");
    Ok(())
}

fn any_users() -> Result<()> {
    for (option, euid) in [("allow=connect", 65534), ("mapany=1003", 1003), ("mapany=off", 1002)] {
        let qnet = vec![option.to_owned()];
        let Pair { alonzo, joseph, .. } = &Pair::up(&Options { qnet, ..Options::default() })?;
        let server = Serving::run(joseph.command_as(1001, "env"))?;
        let words = server.at("joseph");
        // nd of the caller, its number for this node, user, group, and whether it is the process that asks.
        let remote = shell_as(alonzo, 1002, &line("who", &words)?)?;
        let told: Vec<&str> = remote.split_whitespace().collect();
        let user = euid.to_string();
        ensure!(
            matches!(told[..], [nd, srcnd, uid, _, "true"] if nd != "0" && srcnd != "0" && uid == user),
            "{remote}"
        );
        let local = shell_as(joseph, 1004, &line("who", &server.at("-"))?)?;
        ensure!(local.starts_with("0 0 1004 1004 "), "{local}");
    }
    Ok(())
}

fn one_socket() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let server = Serving::start(joseph)?;
    ensure!(said(alonzo, "many", &server.at("joseph"))? == "1");
    Ok(())
}

/// The whole play, captured.
fn on_the_wire() -> Result<()> {
    let pair = Pair::bare()?;
    let Pair { alonzo, joseph, .. } = &pair;
    let capture = Capture::start(alonzo)?;
    let options = ["do_crc=1".to_owned(), "allow=connect".to_owned()];
    for node in [joseph, alonzo] {
        node.start(&node.usual_start(&options))?;
    }
    eventually("joseph in /net", || alonzo.shell("ls /net").is_ok_and(|names| names.contains("joseph")))?;
    let server = Serving::start(joseph)?;
    // The first connection of all makes the session, so the second one finds it up.
    ensure!(said(alonzo, "first", &server.at("joseph"))? == "Ok(8)");
    said(alonzo, "play", &server.at("joseph"))?;
    let daemon = alonzo.daemon().context("io-pkt runs")?;
    kill(Pid::from_raw(daemon.pid), Signal::SIGTERM)?;
    eventually("the end of io-pkt", || !daemon.is_alive())?;
    capture.stop("qnet6.kif.type == 15")?;
    is_clean(alonzo)?;
    for (what, filter) in [
        ("a connect", "qnet6.kif.type == 0"),
        ("a connect with its first message", "qnet6.kif.type == 1 && qnet6.kif.connect.client_pid"),
        ("a success", "qnet6.kif.type == 2 && qnet6.kif.connect_success.nbytes == 8192"),
        ("a refusal", "qnet6.kif.type == 3 && qnet6.kif.connect_fail.status == 3"),
        ("a wish to leave", "qnet6.kif.type == 4 && qnet6.kif.unblock.tid"),
        ("a message", "qnet6.kif.type == 5 && qnet6.kif.msgsend.nbytes == 8192"),
        ("a read", "qnet6.kif.type == 6 && qnet6.kif.msgread.offset == 8192"),
        ("its data", "qnet6.kif.type == 7"),
        ("a write", "qnet6.kif.type == 8 && qnet6.kif.msgwrite.offset == 6"),
        ("a reply", "qnet6.kif.type == 9 && qnet6.kif.msgwrite.status == 77"),
        ("an error", "qnet6.kif.type == 10 && qnet6.kif.msgwrite.status == 2"),
        ("an event", "qnet6.kif.type == 11 && qnet6.kif.event.sigevent_union2"),
        ("a pulse", "qnet6.kif.type == 12 && qnet6.kif.pulse.pulse.value == 0x12345678"),
        ("a farewell", "qnet6.kif.type == 14"),
        ("a death", "qnet6.kif.type == 15"),
        ("a connect with its first pulse", "qnet6.kif.type == 17"),
    ] {
        ensure!(count(alonzo, filter)? > 0, "{what}: no frame matches {filter}\n{}", ask(alonzo, "-Y kif")?);
    }
    Ok(())
}

fn signals() -> Result<()> {
    let sleeper = |node: &Node| {
        let mut command = node.command_as(65534, "sh");
        command.args(["-c", "echo $$; exec sleep 1000"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut pid = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut pid)?;
        anyhow::Ok((child, pid.trim_end().to_owned()))
    };
    for (option, allowed) in [("allow=connect", false), ("allow=signal", true)] {
        let qnet = vec![option.to_owned()];
        let Pair { alonzo, joseph, .. } = &Pair::up(&Options { qnet, ..Options::default() })?;
        let (mut child, pid) = sleeper(joseph)?;
        said(alonzo, "signal", &format!("joseph {pid}"))?;
        if allowed {
            eventually("it ends", || child.try_wait().is_ok_and(|status| status.is_some()))?;
            let status = child.wait()?;
            ensure!(status.code() == Some(128 + Signal::SIGUSR1 as i32), "{status}");
        } else {
            eventually("the denial", || joseph.log().contains("allow=signal"))?;
            ensure!(child.try_wait()?.is_none(), "it was not signalled");
            child.kill()?;
            child.wait()?;
        }
    }
    Ok(())
}

fn numbers_and_names() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options::default())?;
    let told = said(alonzo, "names", "joseph")?;
    let words: Vec<&str> = told.split_whitespace().collect();
    let [path, short, own] = words[..] else { bail!("{told}") };
    ensure!(short == "joseph" && own == "/" && path.starts_with("/net/joseph"), "{told}");
    ensure!(alonzo.shell(&format!("cat {path}"))? == joseph.shell("cat /etc/hostname")?);
    ensure!(said(alonzo, "strtond", "nobody")? == format!("Err({})", Errno::ENOENT as i32));
    ensure!(said(alonzo, "strtond", "joseph~nosuch")? == format!("Err({})", Errno::EINVAL as i32));
    Ok(())
}
