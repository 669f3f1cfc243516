//! What `/net` does when something goes wrong: an error that docs/net.md names, never wrong data, nobody stuck.
//!
//! Called with `NET_FAULTS` in its environment this program is one of the players inside of a node: `sick` is a disk
//! that fails, `append` a writer that takes notes, `replaced` and `append-now` have files open, `bare` looks for attributes.

mod actor;
mod awake;
mod dead;
mod disks;
mod ends;
mod holder;
mod outages;
mod sick;
mod waiting;
mod writer;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, eventually};

/// A process that is killed is gone within a second; the machine may take ten times that. One whose signal does nothing goes when
/// its request has waited for thirty seconds.
const TO_DIE: Duration = Duration::from_secs(10);

const CASES: &[system_tests::Case] = &[
    case("who_waits_for_a_silent_node_dies_when_he_is_killed", killed_while_waiting),
    case("sigint_does_what_posix_says_to_who_waits", waiting::interrupted),
    case("who_waits_for_a_lock_dies_of_sigint_and_who_dies_with_one_lets_go", ends::lockers),
    case("who_has_changed_mapped_pages_ends_with_the_session_at_the_latest", ends::mapper),
    case("what_was_written_is_there_after_cables_were_pulled", cables),
    case("what_was_written_is_there_after_io_pkt_was_killed", kills),
    case("helpers_that_are_killed_come_back_and_open_files_tell", helpers),
    case("two_nodes_that_append_lose_nothing", two_append),
    case("a_full_disk_is_told_and_damages_nothing", full_disk),
    case("a_sick_disk_gives_its_own_errors", sick_disk),
    case("a_dead_disk_of_a_node_is_no_dead_node", dead_disk),
    case("what_a_disk_says_late_is_told_to_who_asks", disks::late_errors),
    case("a_write_that_does_not_fit_says_how_much_was_written", disks::short_write),
    case("mount_points_of_a_node_do_not_show", disks::mount_points),
    case("a_file_that_was_replaced_stays_with_who_has_it_open", replaced),
    case("a_change_never_hits_the_file_that_has_taken_the_name", names_taken),
    case("append_is_what_the_descriptor_says_when_it_writes", append_now),
    case("net_stays_mounted_while_io_pkt_is_started_anew", stays_mounted),
    case("an_outage_longer_than_the_session_is_told_and_the_next_open_works", outages::long),
    case("an_outage_shorter_than_the_session_is_a_wait", outages::short),
    case("files_of_a_node_that_started_anew_are_never_others", outages::reboot),
    case("a_file_system_that_stands_still_holds_up_nobody_else", awake::file_system),
    case("a_server_that_stands_still_holds_up_nobody_else", awake::server),
    case("all_nodes_of_a_listing_are_asked_at_the_same_time", dead::asked_at_once),
    system_tests::Case {
        needs: &[Need::RootNodes, Need::Fuse, Need::Program("updatedb"), Need::Program("script")],
        ..case("five_dead_nodes_are_in_nobodys_way", dead::in_nobodys_way)
    },
];

const fn case(name: &'static str, run: fn() -> Result<()>) -> system_tests::Case {
    system_tests::Case { name, needs: &[Need::RootNodes, Need::Fuse], run }
}

fn main() -> ExitCode {
    let Some(role) = std::env::var_os("NET_FAULTS") else { return system_tests::main(CASES) };
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match (role.to_str(), words.as_slice()) {
        (Some("sick"), [at]) => sick::serve(Path::new(at)),
        (Some("append"), [letter, file, most]) => most.parse().map_err(Into::into).and_then(|most| {
            writer::append(letter, Path::new(file), Path::new("/tmp/noted"), Path::new("/tmp/errors"), most)
        }),
        (Some("replaced"), [directory]) => holder::replaced(Path::new(directory)),
        (Some("append-now"), [directory]) => holder::append_now(Path::new(directory)),
        (Some("waits"), [what, file, handler]) => waiting::play(what, Path::new(file), handler),
        (Some("acts"), []) => actor::play(),
        (Some("bare"), [file]) => holder::is_bare(Path::new(file)),
        _ => Err(anyhow::anyhow!("wrong call")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// This program in a node, in a role.
fn player(node: &Node, role: &str, words: &[&str]) -> Result<Command> {
    let us = std::env::current_exe()?;
    let name = us.file_name().and_then(|name| name.to_str()).context("a name")?;
    let mut command = node.command("env");
    command.args([format!("NET_FAULTS={role}"), format!("/lab/programs/deps/{name}")]).args(words);
    command.stdin(Stdio::null());
    Ok(command)
}

/// How often something is killed or pulled.
fn rounds(usual: usize, many: usize) -> usize {
    if std::env::var_os("IO_PKT_SOAK").is_some() { many } else { usual }
}

/// Nodes that believe each other's users.
fn pair() -> Result<Pair> {
    Pair::up(&Options { qnet: vec!["mapany=off".to_owned()], ..Options::default() })
}

/// A shell line that runs in a node until it ends or is killed with this value.
struct Job {
    child: Child,
}

impl Job {
    fn start(node: &Node, line: &str) -> Result<Self> {
        let mut command = node.command("sh");
        command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { child: command.spawn()? })
    }

    fn ends(&mut self, what: &str) -> Result<()> {
        eventually(what, || self.has_ended())
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn killed_while_waiting() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("mkdir /tmp/d; echo text >/tmp/d/file; echo old >/tmp/d/old; chmod 700 /tmp/d")?;
    alonzo.shell("cat /net/joseph/tmp/d/file")?;
    let waiting = [
        "exec stat /net/joseph/tmp/d/file",
        "exec ls /net/joseph/tmp/d",
        "exec cat /net/joseph/tmp/d/file",
        "exec touch /net/joseph/tmp/d/new",
        "exec mkdir /net/joseph/tmp/d/newdir",
        "exec mv /net/joseph/tmp/d/old /net/joseph/tmp/d/moved",
        "exec rm /net/joseph/tmp/d/file",
        "exec dd if=/dev/zero of=/net/joseph/tmp/d/file bs=4k count=1 conv=notrunc,fsync",
        "cd /net/joseph/tmp/d; exec ls",
        "exec df /net/joseph/tmp",
    ];
    // With its server stopped the node is there and says nothing.
    joseph.shell("kill -STOP $(pgrep -x qnet-server)")?;
    for (number, line) in waiting.into_iter().enumerate() {
        let mut job = Job::start(alonzo, &format!("echo $$ >/tmp/pid{number}; {line}"))?;
        let sleeps = format!(
            "grep -q '^State:.[SD]' /proc/$(cat /tmp/pid{number})/status && grep -q fuse /proc/$(cat /tmp/pid{number})/stack"
        );
        eventually(&format!("{line}: waits"), || alonzo.shell(&sleeps).is_ok())?;
        let begun = Instant::now();
        alonzo.shell(&format!("kill -KILL $(cat /tmp/pid{number})"))?;
        job.ends(&format!("{line}: the end"))?;
        ensure!(begun.elapsed() < TO_DIE, "{line}: it took {:?} to die", begun.elapsed());
    }
    // Nobody else is held up meanwhile, and all goes on afterwards.
    ensure!(alonzo.shell("ls /net && cat /net/alonzo/etc/hostname")?.contains("alonzo"));
    joseph.shell("kill -CONT $(pgrep -x qnet-server)")?;
    eventually("joseph's files", || {
        alonzo.shell("ls /net/joseph/tmp/d && echo back >/net/joseph/tmp/d/file").is_ok()
    })?;
    ensure!(joseph.shell("cat /tmp/d/file")? == "back\n");
    Ok(())
}

/// Bytes of notes by which a writer is seen to go on.
const NOTICED: usize = 4096;

/// A writer on a node, his file on another.
struct Writer<'n> {
    node: &'n Node,
    job: Child,
}

impl<'n> Writer<'n> {
    fn start(node: &'n Node, letter: &str, file: &str, most: usize) -> Result<Self> {
        node.shell("rm -f /tmp/stop; : >/tmp/noted")?;
        let job = player(node, "append", &[letter, file, &most.to_string()])?.spawn()?;
        Ok(Self { node, job })
    }

    fn notes(&self) -> Result<String> {
        Ok(self.node.shell("cat /tmp/noted")?)
    }

    /// Waits until `more` further records are written.
    fn goes_on(&self, what: &str, more: usize) -> Result<()> {
        let count = || self.notes().map(|notes| notes.lines().count());
        let before = count()?;
        eventually(what, || count().is_ok_and(|now| now >= before + more))
    }

    fn stop(mut self) -> Result<String> {
        self.node.shell("touch /tmp/stop")?;
        self.ends()
    }

    /// Waits for his end, for as long as he writes; gives his notes.
    fn ends(&mut self) -> Result<String> {
        let mut known = 0;
        loop {
            let mut ended = false;
            eventually("the writer's end, or more records", || {
                ended = self.job.try_wait().is_ok_and(|status| status.is_some());
                ended || self.notes().is_ok_and(|notes| notes.len() > known + NOTICED)
            })?;
            let notes = self.notes()?;
            if ended {
                return Ok(notes);
            }
            known = notes.len();
        }
    }

    /// The errors that he met, each once.
    fn errors(&self) -> Result<Vec<i32>> {
        let text = self.node.shell("sort -un /tmp/errors")?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // He has ended already when all went well.
        let _ = self.job.kill();
        let _ = self.job.wait();
    }
}

/// Errors that docs/net.md names for a node that is away.
const AWAY: [i32; 6] =
    [libc::EHOSTDOWN, libc::EHOSTUNREACH, libc::ENOENT, libc::ENOTCONN, libc::ECONNABORTED, libc::ESTALE];

fn writes_through(trouble: impl Fn(&Pair, usize) -> Result<()>, rounds: usize) -> Result<()> {
    let pair = pair()?;
    let writer = Writer::start(&pair.alonzo, "r", "/net/joseph/tmp/records", usize::MAX)?;
    for round in 0..rounds {
        writer.goes_on("records before the trouble", 20)?;
        trouble(&pair, round)?;
        writer.goes_on(&format!("records after trouble {round}"), 1)?;
    }
    let errors = writer.errors()?;
    ensure!(errors.iter().all(|errno| AWAY.contains(errno)), "errors: {errors:?}");
    let notes = writer.stop()?;
    let count = writer::judge(&pair.joseph.shell("cat /tmp/records")?, &[("r", &notes)])?;
    ensure!(count >= 20 * rounds, "{count} records");
    Ok(())
}

fn cables() -> Result<()> {
    let trouble = |pair: &Pair, round: usize| {
        let node = if round.is_multiple_of(2) { &pair.alonzo } else { &pair.joseph };
        node.shell("ip link set eth0 down")?;
        node.shell("ip link set eth0 up")?;
        Ok(())
    };
    writes_through(trouble, rounds(4, 50))
}

fn kills() -> Result<()> {
    let trouble = |pair: &Pair, round: usize| {
        let node = if round.is_multiple_of(2) { &pair.joseph } else { &pair.alonzo };
        let daemon = node.daemon().context("io-pkt runs")?;
        kill(Pid::from_raw(daemon.pid), Signal::SIGKILL)?;
        eventually("the end of io-pkt", || !daemon.is_alive())?;
        node.start(&node.usual_start(&["mapany=off".to_owned()])).context("a start after a crash")?;
        Ok(())
    };
    writes_through(trouble, rounds(4, 200))
}

fn helpers() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("seq 100000 >/tmp/numbers; echo other >/tmp/other")?;
    let works = |what: &str| {
        eventually(what, || alonzo.shell("cmp /net/joseph/tmp/numbers /lab/wire/../../tmp/copy").is_ok())
    };
    alonzo.shell("seq 100000 >/tmp/copy")?;
    works("before anything is killed")?;
    // The file stays open while the far server dies: who holds it is told, and reads no other file's data.
    let held = |which: &Node, helper: &str| -> Result<String> {
        let line = "exec 3</net/joseph/tmp/numbers; read a <&3; echo $a; touch /tmp/open; while [ ! -e /tmp/killed ]; do sleep 0.01; done; \
             tail -c +500000 <&3 | head -c 7 || true";
        alonzo.shell("rm -f /tmp/open /tmp/killed")?;
        let mut command = alonzo.command("sh");
        let child = command
            .args(["-c", line])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        eventually("an open file", || alonzo.shell("test -e /tmp/open").is_ok())?;
        let pid = which.shell(&format!("pgrep -x {helper}"))?;
        which.shell(&format!("kill -9 {}", pid.trim()))?;
        eventually(&format!("another {helper}"), || {
            which.shell(&format!("pgrep -x {helper}")).is_ok_and(|now| now.trim() != pid.trim())
        })?;
        alonzo.shell("touch /tmp/killed")?;
        let output = child.wait_with_output()?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let said = held(joseph, "qnet-server")?;
    ensure!(said.starts_with("1\n") && said.contains("Host is down"), "the far server was killed: {said}");
    works("after the far server was killed")?;
    let said = held(alonzo, "qnet-netfs")?;
    ensure!(said.starts_with("1\n") && said.contains("not connected"), "the file system was killed: {said}");
    works("after the file system was killed")
}

fn two_append() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    let each = rounds(500, 50_000);
    let mut one = Writer::start(alonzo, "a", "/net/joseph/tmp/records", each)?;
    let mut two = Writer::start(joseph, "j", "/net/joseph/tmp/records", each)?;
    let (ours, theirs) = (one.ends()?, two.ends()?);
    let count = writer::judge(&joseph.shell("cat /tmp/records")?, &[("a", &ours), ("j", &theirs)])?;
    ensure!(count == 2 * each, "{count} records of {}", 2 * each);
    Ok(())
}

fn full_disk() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("mkdir -p /mnt/small && mount -t tmpfs -o size=1m,nr_inodes=20 small /mnt/small")?;
    let write = "dd if=/dev/zero bs=64k count=64 2>&1 of=/net/joseph/mnt/small";
    let said = alonzo.shell(&format!("{write}/big; true"))?;
    ensure!(said.contains("No space left on device"), "{said}");
    // What was told to be written is there, and nothing else.
    let size: u64 = joseph.shell("stat -c %s /mnt/small/big")?.trim().parse()?;
    ensure!(size <= 1 << 20, "{size} bytes");
    ensure!(alonzo.shell("stat -c %s /net/joseph/mnt/small/big")?.trim() == size.to_string());
    let said = alonzo.shell("for i in $(seq 30); do echo >/net/joseph/mnt/small/n$i; done 2>&1; true")?;
    ensure!(said.contains("No space left on device"), "{said}");
    let free = alonzo.shell("df --output=avail /net/joseph/mnt/small | tail -1")?;
    ensure!(free.trim() == "0", "df says {free}");
    alonzo.shell("rm /net/joseph/mnt/small/*; echo again >/net/joseph/mnt/small/file")?;
    ensure!(joseph.shell("cat /mnt/small/file")? == "again\n");
    // And one that may only be read, once the last close from afar has got there.
    eventually("a disk that nobody writes", || joseph.shell("mount -o remount,ro /mnt/small").is_ok())?;
    let said =
        alonzo.shell("{ echo >/net/joseph/mnt/small/file; rm -f /net/joseph/mnt/small/file; } 2>&1; true")?;
    ensure!(said.matches("Read-only file system").count() == 2, "{said}");
    Ok(())
}

fn sick_disk() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    let _disk = disks::Disk::mount(joseph)?;
    sick_files(alonzo)
}

fn dead_disk() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("mkdir -p /mnt/sick; echo well >/tmp/well")?;
    let mut disk = player(joseph, "sick", &["/mnt/sick"])?.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(disk.stdout.take().context("its output")?).read_line(&mut line)?;
    ensure!(line == "mounted\n", "{line:?}");
    alonzo.shell("test -e /net/joseph/mnt/sick/good; exec 3</net/joseph/tmp/well; cat <&3")?;
    disk.kill()?;
    disk.wait()?;
    for _ in 0..3 {
        let said = alonzo.shell("ls -l /net/joseph/mnt/sick 2>&1; true")?;
        let locally = joseph.shell("ls -l /mnt/sick 2>&1; true")?;
        ensure!(
            locally.contains("endpoint is not connected") && said.contains("endpoint is not connected"),
            "{said}"
        );
        let well = alonzo.shell("cat /net/joseph/tmp/well")?;
        ensure!(well == "well\n", "{well:?}");
    }
    // nobody from afar has anything of it open any more
    eventually("a disk that nobody uses", || joseph.shell("umount /mnt/sick").is_ok())
}

fn sick_files(node: &Node) -> Result<()> {
    let at = |name: &str| format!("/net/joseph/mnt/sick/{name}");
    let right: String = (0..sick::SIZE).map(|at| format!("{:02x}", sick::byte(at))).collect();
    let dump = |name: &str| node.shell(&format!("od -An -v -tx1 {} | tr -d ' \\n'; true", at(name)));
    ensure!(dump("good")? == right, "the good file is not right");
    let read = dump("read")?;
    ensure!(right.starts_with(&read) && read.len() as u64 <= 2 * sick::WELL, "{} digits", read.len());
    let fails = |line: &str, why: &str| -> Result<()> {
        let said = node.shell(&format!("{{ {line}; }} 2>&1; true"))?;
        ensure!(said.contains(why), "{line}: {said}");
        Ok(())
    };
    fails(&format!("cat {} >/dev/null", at("read")), "Input/output error")?;
    fails(&format!("cat {}", at("open")), "Input/output error")?;
    let write = |name: &str| format!("dd if=/dev/zero bs=32k count=4 conv=notrunc of={}", at(name));
    fails(&write("write"), "Input/output error")?;
    fails(&write("full"), "No space left on device")?;
    fails(&write("quota"), "Disk quota exceeded")?;
    fails(&write("good"), "4+0 records out")?;
    // What was written before there was no room is there, and what is behind it is as it was.
    let zeros = "00".repeat(sick::WELL as usize);
    for name in ["write", "full", "quota"] {
        let found = dump(name)?;
        ensure!(found.starts_with(&zeros) && found[zeros.len()..] == right[zeros.len()..], "{name}");
    }
    fails(
        &format!("dd if=/dev/zero bs=4k count=1 conv=notrunc,fsync of={}", at("sync")),
        "Input/output error",
    )?;
    Ok(())
}

fn replaced() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("seq 100000 >/tmp/file; seq 200000 300000 >/tmp/next; md5sum </tmp/file >/tmp/sum")?;
    let sum = joseph.shell("cat /tmp/sum")?;
    let line = "exec 3</net/joseph/tmp/file; touch /tmp/open; while [ ! -e /tmp/replaced ]; do sleep 0.01; done; md5sum <&3";
    let mut command = alonzo.command("sh");
    let reader = command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    eventually("an open file", || alonzo.shell("test -e /tmp/open").is_ok())?;
    joseph.shell("mv /tmp/next /tmp/file")?;
    alonzo.shell("touch /tmp/replaced")?;
    let output = reader.wait_with_output()?;
    ensure!(output.stdout == sum.as_bytes(), "who has it open reads {output:?}, not {sum}");
    let first = alonzo.shell("head -1 /net/joseph/tmp/file")?;
    ensure!(first == "200000\n", "who opens it now reads {first}");
    Ok(())
}

/// A player on alonzo opens files in joseph's `/tmp/held`, joseph does his part, the player goes on.
fn while_held(alonzo: &Node, joseph: &Node, role: &str, meanwhile: &str) -> Result<()> {
    let mut command = player(alonzo, role, &["/net/joseph/tmp/held"])?;
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("its output")?).read_line(&mut line)?;
    if line == "open\n" {
        joseph.shell(meanwhile)?;
        writeln!(holder.stdin.take().context("its input")?, "go on")?;
    }
    let output = holder.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn names_taken() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell(
        "mkdir /tmp/held; cd /tmp/held; for f in named open; do echo old >$f; echo new >$f.new; done",
    )?;
    while_held(alonzo, joseph, "replaced", "cd /tmp/held; mv named.new named; mv open.new open")?;
    let names = joseph.shell("ls /tmp/held")?;
    ensure!(names == "named\nopen\n", "{names}");
    let left = joseph.shell("cat /tmp/held/named")?;
    ensure!(left == "new\n", "what has the name now is {left:?}");
    let bare = player(joseph, "bare", &["/tmp/held/open"])?.output()?;
    ensure!(bare.status.success(), "{}", String::from_utf8_lossy(&bare.stderr));
    Ok(())
}

fn append_now() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("mkdir /tmp/held; cd /tmp/held; echo first >grows; echo abcd >placed")?;
    while_held(alonzo, joseph, "append-now", "echo theirs >>/tmp/held/grows")?;
    let (grown, placed) = (joseph.shell("cat /tmp/held/grows")?, joseph.shell("cat /tmp/held/placed")?);
    ensure!(grown == "first\ntheirs\nours\n", "{grown:?}");
    ensure!(placed == "aXYd\n", "{placed:?}");
    Ok(())
}

fn stays_mounted() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair()?;
    joseph.shell("echo there >/tmp/file")?;
    ensure!(alonzo.shell("cat /net/joseph/tmp/file")? == "there\n");
    let mounted = || alonzo.shell("grep ' /net ' /proc/self/mountinfo");
    let before = mounted()?;
    let daemon = alonzo.daemon().context("io-pkt runs")?;
    kill(Pid::from_raw(daemon.pid), Signal::SIGKILL)?;
    eventually("the end of io-pkt", || !daemon.is_alive())?;
    ensure!(mounted()? == before, "/net is another mount");
    let said = alonzo.shell("cat /net/joseph/tmp/file 2>&1; true")?;
    ensure!(said.contains("No route to host") || said.contains("Host is down"), "{said}");
    alonzo.start(&alonzo.usual_start(&["mapany=off".to_owned()]))?;
    eventually("the file after a new start", || {
        alonzo.shell("cat /net/joseph/tmp/file").is_ok_and(|text| text == "there\n")
    })?;
    ensure!(mounted()? == before, "/net is another mount: {before} is now {}", mounted()?);
    Ok(())
}
