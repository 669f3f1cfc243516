//! Files of another node that are more than bytes with a size: FIFOs, devices, terminals, kernel files, sockets; their extended
//! attributes; and links that lead from node to node.
//!
//! Called with `SPECIAL_FILES` in its environment this program is a process inside of a node.

#[expect(unsafe_code, reason = "calls of the C library, in the process that is told to make them")]
mod player;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, Player, eventually, refused};

const CASES: &[system_tests::Case] = &[
    case("fifos_of_another_node_carry_bytes_both_ways", fifos),
    case("a_full_fifo_is_in_nobodys_way_but_its_writers", full_fifo),
    case("whoever_polls_a_fifo_of_another_node_is_woken", polls),
    case("devices_of_another_node_are_read_and_written", devices),
    case("terminals_and_devices_of_another_node_can_be_waited_for", terminal_polls),
    case("settings_of_another_nodes_kernel_are_written", kernel_settings),
    case("files_of_sys_are_read_and_written", sys_files),
    case("extended_attributes_are_those_of_the_node", attributes),
    case("a_terminal_of_another_node_becomes_a_local_one", terminal),
    case("links_between_nodes_end_in_an_error_and_never_in_a_circle", circles),
];

const fn case(name: &'static str, run: fn() -> Result<()>) -> system_tests::Case {
    system_tests::Case { name, needs: &[Need::RootNodes, Need::Fuse], run }
}

fn main() -> ExitCode {
    let Some(role) = std::env::var_os("SPECIAL_FILES") else { return system_tests::main(CASES) };
    let words: Vec<String> = std::env::args().skip(1).collect();
    match player::play(&role.to_string_lossy(), &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up() -> Result<Pair> {
    Pair::up(&Options { qnet: vec!["mapany=off".to_owned()], ..Options::default() })
}

/// A process of this program in a node, which plays a role.
fn in_role(node: &Node, role: &str, words: &[&str]) -> Result<Player> {
    Player::of_this_program(node, &format!("SPECIAL_FILES={role}"), words)
}

/// A program in a node.
fn program(node: &Node, words: &[&str]) -> Result<Player> {
    let mut command = node.command(words[0]);
    command.args(&words[1..]);
    Player::start(command)
}

fn fifos() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    // a FIFO for each, so that none finds a reader that is about to go
    joseph.shell("cd /tmp && mkfifo -m 666 there here late full")?;
    // whoever opens one end waits for the other, on whichever node it is
    let mut reader = program(joseph, &["cat", "/tmp/there"])?;
    alonzo.shell("echo from afar >/net/joseph/tmp/there")?;
    ensure!(reader.hear()? == "from afar");
    let mut reader = program(alonzo, &["cat", "/net/joseph/tmp/here"])?;
    joseph.shell("echo from here >/tmp/here")?;
    ensure!(reader.hear()? == "from here");
    let mut writer = program(alonzo, &["sh", "-c", "echo late >/net/joseph/tmp/late; echo written"])?;
    ensure!(joseph.shell("cat /tmp/late")? == "late\n");
    ensure!(writer.hear()? == "written");
    // more than a FIFO holds
    let line = "head -c 1000000 /dev/zero >/net/joseph/tmp/full; echo written";
    let mut writer = program(alonzo, &["sh", "-c", line])?;
    ensure!(joseph.shell("wc -c </tmp/full")? == "1000000\n");
    ensure!(writer.hear()? == "written");
    Ok(())
}

/// Several write to a FIFO that nobody reads: each of them can be killed, and the file can be changed, moved and removed meanwhile.
fn full_fifo() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("mkdir -m 777 /tmp/d && mkfifo -m 666 /tmp/d/p")?;
    let _both_ends = program(joseph, &["sh", "-c", "exec 3<>/tmp/d/p; read line"])?;
    let write = |how: &str| format!("echo $$; exec head -c 1000000 /dev/zero {how}/net/joseph/tmp/d/p");
    let mut writers = Vec::new();
    for how in [">", ">", ">>"] {
        let mut writer = program(alonzo, &["sh", "-c", &write(how)])?;
        let pid = writer.hear()?;
        eventually("a writer that waits", || waits_for_an_answer(alonzo, &pid))?;
        writers.push((pid, writer));
    }
    let (first, mut second) = (writers.remove(0), writers.remove(0));
    alonzo.shell(&format!("kill -INT {}", second.0))?;
    eventually("the end of one that is interrupted", || {
        second.1.process().try_wait().is_ok_and(|end| end.is_some())
    })?;
    alonzo.shell("cd /net/joseph/tmp/d && chmod 622 p && mv p q && touch new && rm q")?;
    ensure!(joseph.shell("ls /tmp/d")? == "new\n");
    let (pid, mut third) = writers.remove(0);
    alonzo.shell(&format!("kill -KILL {pid}"))?;
    eventually("the end of one that is killed", || {
        third.process().try_wait().is_ok_and(|end| end.is_some())
    })?;
    ensure!(waits_for_an_answer(alonzo, &first.0), "it still writes");
    Ok(())
}

/// Whether a process waits for an answer of FUSE. A lock of the kernel would be beyond the reach of signals.
fn waits_for_an_answer(node: &Node, pid: &str) -> bool {
    let at = node.shell(&format!("cat /proc/{pid}/wchan")).unwrap_or_default();
    at.contains("request_wait_answer") || at.contains("fuse")
}

fn polls() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("mkfifo -m 666 /tmp/p")?;
    let mut poller = in_role(alonzo, "poll", &["/net/joseph/tmp/p"])?;
    let pid = poller.hear()?;
    let sleeps = || alonzo.shell(&format!("cat /proc/{pid}/wchan")).is_ok_and(|at| at.contains("poll"));
    eventually("the wait", sleeps)?;
    joseph.shell("echo wake up >/tmp/p")?;
    let heard = poller.hear()?;
    ensure!(heard.contains("POLLIN") && heard.ends_with("wake up"), "{heard}");
    Ok(())
}

fn devices() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    ensure!(alonzo.shell("head -c 3 /net/joseph/dev/zero | od -An -tx1")? == " 00 00 00\n");
    alonzo.shell("echo nothing >/net/joseph/dev/null && echo nothing >>/net/joseph/dev/null")?;
    ensure!(alonzo.shell("stat -c %F /net/joseph/dev/null")?.starts_with("regular"));
    refused(alonzo, "stty -F /net/joseph/dev/null", "Inappropriate ioctl for device")?;
    refused(alonzo, "printf x | cat >/net/joseph/dev/full", "No space left on device")?;
    joseph.shell(
        "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => q(/tmp/s), Listen => 1) or die'",
    )?;
    refused(alonzo, "cat /net/joseph/tmp/s", "No such device or address")?;
    refused(alonzo, "mknod /net/joseph/tmp/null c 1 3", "Operation not permitted").map(|_| ())
}

fn terminal_polls() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let mut far = in_role(joseph, "terminal", &[])?;
    let path = far.hear()?;
    let mut poller = in_role(alonzo, "poll", &[&format!("/net/joseph{path}")])?;
    let pid = poller.hear()?;
    let sleeps = || alonzo.shell(&format!("cat /proc/{pid}/wchan")).is_ok_and(|at| at.contains("poll"));
    eventually("the wait", sleeps)?;
    far.ask("say wake up")?;
    let heard = poller.hear()?;
    ensure!(heard.contains("POLLIN") && heard.ends_with("wake up"), "{heard}");
    // a device that is always ready
    let mut poller = in_role(alonzo, "poll", &["/net/joseph/dev/null"])?;
    poller.hear()?;
    ensure!(poller.hear()?.contains("POLLIN"));
    ensure!(alonzo.shell("stat -c '%s %F' /net/joseph/dev/null")? == "0 regular empty file\n");
    Ok(())
}

fn sys_files() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let file = "sys/class/net/eth0/tx_queue_len";
    let before = joseph.shell(&format!("cat /{file}"))?;
    ensure!(alonzo.shell(&format!("cat /net/joseph/{file}"))? == before);
    alonzo.shell(&format!("echo 1234 >/net/joseph/{file}"))?;
    ensure!(joseph.shell(&format!("cat /{file}"))? == "1234\n");
    ensure!(alonzo.shell(&format!("cat /net/joseph/{file}"))? == "1234\n");
    refused(alonzo, &format!("echo many | cat >/net/joseph/{file}"), "Invalid argument")?;
    ensure!(
        alonzo.shell("readlink -f /net/joseph/sys/class/net/eth0")?.starts_with("/net/joseph/sys/devices/")
    );
    Ok(())
}

fn kernel_settings() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    alonzo.shell("echo lab >/net/joseph/proc/sys/kernel/domainname")?;
    ensure!(joseph.shell("cat /proc/sys/kernel/domainname")? == "lab\n");
    ensure!(alonzo.shell("cat /net/joseph/proc/sys/kernel/domainname")? == "lab\n");
    let line = "echo other >/net/joseph/proc/sys/kernel/domainname";
    ensure!(system_tests::shell_as(alonzo, 1234, line).is_err(), "root's to write");
    ensure!(joseph.shell("cat /proc/sys/kernel/domainname")? == "lab\n");
    Ok(())
}

fn attributes() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("cd /tmp && echo x >f && chmod 666 f && mkdir -m 777 d && ln -s f link && mkfifo p")?;
    let asked = |node: &Node, words: &[&str]| in_role(node, "attribute", words)?.hear();
    for path in ["f", "d"] {
        let (there, here) = (format!("/net/joseph/tmp/{path}"), format!("/tmp/{path}"));
        ensure!(asked(alonzo, &["add", &there, "user.colour", "red"])?.is_empty());
        ensure!(asked(alonzo, &["add", &there, "user.colour", "blue"])? == "EEXIST");
        ensure!(asked(joseph, &["get", &here, "user.colour"])? == "red");
        ensure!(asked(alonzo, &["length", &there, "user.colour"])? == "3");
        ensure!(asked(alonzo, &["list", &there])? == "user.colour");
        ensure!(asked(alonzo, &["remove", &there, "user.colour"])?.is_empty());
        ensure!(asked(alonzo, &["get", &there, "user.colour"])? == "ENODATA");
    }
    let long = "x".repeat(3000);
    asked(alonzo, &["set", "/net/joseph/tmp/f", "user.long", &long])?;
    ensure!(asked(joseph, &["get", "/tmp/f", "user.long"])? == long);
    // what the file system there takes of the longest that Linux knows, it takes from here, too
    let longest = "y".repeat(65_536);
    let local = asked(joseph, &["set", "/tmp/f", "user.long", &longest])?;
    asked(joseph, &["set", "/tmp/f", "user.long", "x"])?;
    ensure!(asked(alonzo, &["set", "/net/joseph/tmp/f", "user.long", &longest])? == local);
    if local.is_empty() {
        ensure!(asked(joseph, &["get", "/tmp/f", "user.long"])? == longest);
        ensure!(asked(alonzo, &["get", "/net/joseph/tmp/f", "user.long"])? == longest);
    }
    ensure!(asked(alonzo, &["set", "/net/joseph/tmp/link", "user.a", "b"])? == "EPERM");
    for (path, expected) in [("dev/null", "character 1:3"), ("tmp/p", "fifo"), ("tmp/f", "ENODATA")] {
        let path = format!("/net/joseph/{path}");
        ensure!(asked(alonzo, &["get", &path, "user.qnet.type"])? == expected, "{path}");
    }
    ensure!(asked(alonzo, &["set", "/net/joseph/dev/null", "user.qnet.type", "x"])? == "EPERM");
    ensure!(asked(alonzo, &["get", "/net/joseph/tmp/f", "security.capability"])? == "ENODATA");
    ensure!(asked(alonzo, &["list", "/net"])?.is_empty());
    Ok(())
}

fn terminal() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    refused(alonzo, "qnet-tty joseph /etc/hostname", "joseph:/etc/hostname: not a terminal")?;
    refused(alonzo, "qnet-tty nosuch /dev/tty1", "nosuch: not found")?;
    let mut far = in_role(joseph, "terminal", &[])?;
    let path = far.hear()?;
    let before = far.ask("state")?;
    ensure!(before.starts_with("cooked"), "{before}");
    let mut relay = program(alonzo, &["qnet-tty", "-l", "/tmp/t", "joseph", &path])?;
    let local = relay.hear()?;
    ensure!(alonzo.shell("readlink /tmp/t")?.trim_end() == local);
    ensure!(far.ask("state")?.starts_with("raw"));
    alonzo.shell("stty -F /tmp/t raw -echo && echo to the far end >/tmp/t")?;
    ensure!(far.ask("hear")? == "to the far end");
    far.ask("say and back")?;
    ensure!(alonzo.shell("head -n 1 </tmp/t")? == "and back\n");
    alonzo.shell("stty -F /tmp/t rows 50 cols 132 9600 cstopb")?;
    let changed = || far.ask("state").is_ok_and(|state| state == "raw long B9600 50x132");
    eventually("the settings at the far end", changed)?;
    alonzo.shell("kill -TERM $(pgrep -x qnet-tty)")?;
    eventually("its end", || relay.process().try_wait().is_ok_and(|status| status.is_some()))?;
    ensure!(relay.process().wait()?.success());
    ensure!(far.ask("state")?.starts_with("cooked"), "it has its own settings again");
    ensure!(alonzo.shell("ls /tmp/t 2>&1 || true")?.contains("No such file"));
    Ok(())
}

fn circles() -> Result<()> {
    const ROUND: &str = "Too many levels of symbolic links";
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("mkdir /tmp/d && cd /tmp && ln -s /net/alonzo/tmp/loop loop && ln -s .. d/up && ln -s ../../../../etc d/out")?;
    alonzo.shell("ln -s /net/joseph/tmp/loop /tmp/loop")?;
    for path in [
        "/net/joseph/tmp/loop",
        "/net/alonzo/tmp/loop",
        "/net/joseph/net/alonzo/etc/hostname",
        "/net/alonzo/net/joseph/etc/hostname",
    ] {
        refused(alonzo, &format!("cat {path}"), ROUND)?;
    }
    let line =
        "cd /net/joseph/tmp/d && cat ../../etc/hostname up/../etc/hostname out/hostname && ls /net/joseph/..";
    ensure!(alonzo.shell(line)? == "joseph\njoseph\njoseph\nalonzo\njoseph\n");
    // what finds and copies whole trees comes to an end; `out` leads into all that the machine has
    alonzo.shell("find -L /net/joseph/tmp -maxdepth 6 -name out -prune >/dev/null 2>&1; true").map(drop)?;
    Ok(())
}
