//! C programs of `lsm-qnet/client/c/tests/c` with their servers on another node: what they print is what they print on one.

#[path = "../../lsm-qnet/client/c/tests/support/interleaved.rs"]
mod interleaved;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use qnet_lab::{Node, Options};
use system_tests::{Case, Need, Pair};

const CASES: &[Case] = &[
    case("the_conformance_program_gives_the_transcript_of_one_node_between_two", conformance),
    Case {
        name: "the_conformance_program_gives_the_same_transcript_on_a_wire_that_loses_frames",
        needs: &[Need::RootNodes, Need::Fuse, Need::Program("cc"), Need::Program("nft")],
        run: lossy,
    },
    case("a_client_finds_a_server_of_another_node_by_its_name", name_server),
    case("a_controller_rules_traffic_lights_on_both_nodes", traffic_lights),
    case("trains_of_both_nodes_share_a_track", trains),
    case("programs_of_two_roles_print_on_two_nodes_what_they_print_on_one", roles),
];

const fn case(name: &'static str, run: fn() -> Result<()>) -> Case {
    Case { name, needs: &[Need::RootNodes, Need::Fuse, Need::Program("cc")], run }
}

fn main() -> ExitCode {
    system_tests::main(CASES)
}

/// Sources and transcripts.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lsm-qnet/client/c/tests/c")
}

/// Builds a program where the nodes see it; gives its path there.
fn build(name: &str) -> Result<String> {
    let test = std::env::current_exe()?;
    let programs = test.ancestors().nth(2).context("a folder above this test's")?;
    ensure!(programs.join("libqnet.so").exists(), "{} has no libqnet.so", programs.display());
    let folder = programs.join("c-programs");
    fs::create_dir_all(&folder)?;
    // Other tests build the same at the same time.
    let fresh = folder.join(format!("{name}.{}.{:?}", std::process::id(), std::thread::current().id()));
    let include = sources().join("../../../include/qnet");
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-Wl,-rpath,$ORIGIN/.."])
        .arg(format!("-I{}", include.join("overlay").display()))
        .arg(format!("-I{}", include.display()))
        .arg(format!("-L{}", programs.display()))
        .arg("-o")
        .arg(&fresh)
        .arg(sources().join(name).with_extension("c"))
        .arg("-lqnet")
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&fresh, folder.join(name))?;
    Ok(format!("/lab/programs/c-programs/{name}"))
}

/// A program that runs in a node; it is killed with this value.
struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    fn start(node: &Node, program: &str, words: &[&str]) -> Result<Self> {
        let mut child =
            node.command(program).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// What it still prints until its end, of whatever kind.
    fn rest(mut self) -> Result<String> {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest)?;
        self.child.wait()?;
        Ok(rest)
    }

    /// What it still prints, after its good end.
    fn end(mut self) -> Result<String> {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{status}: {rest}");
        Ok(rest)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn open_nodes() -> Options {
    Options { qnet: vec!["allow=connect".to_owned()], ..Options::default() }
}

fn transcript(node: &Node, line: &str) -> Result<String> {
    Ok(node.shell(&format!("timeout 100 {line}"))?)
}

fn conformance() -> Result<()> {
    let program = build("conformance")?;
    let expected = fs::read_to_string(sources().join("conformance.out"))?;
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;

    let mut server = Program::start(joseph, &program, &["serve", "conformance/one"])?;
    server.line()?;
    let printed = transcript(alonzo, &format!("{program} run /net/joseph/dev/name/local/conformance/one"))?;
    ensure!(printed == expected, "by name:\n{printed}");
    server.end()?;

    let mut server = Program::start(joseph, &program, &["serve"])?;
    let address = server.line()?;
    let printed = transcript(alonzo, &format!("{program} run joseph {address}"))?;
    ensure!(printed == expected, "by node, pid and chid:\n{printed}");
    server.end()?;
    Ok(())
}

/// Every tenth frame is lost on its way out of either node, as in `faults.rs`.
fn lossy() -> Result<()> {
    let program = build("conformance")?;
    let expected = fs::read_to_string(sources().join("conformance.out"))?;
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let mut server = Program::start(joseph, &program, &["serve"])?;
    let address = server.line()?;
    // The two have a session: what makes one is repeated a few times only, which all may be lost.
    alonzo.shell("ls /net/joseph")?;
    for node in [alonzo, joseph] {
        node.shell(
            "nft 'add table netdev loss; add chain netdev loss out { type filter hook egress device eth0 priority 0; }; \
             add rule netdev loss out ether type 0x8204 numgen random mod 100 < 10 counter drop'",
        )?;
    }
    let printed = transcript(alonzo, &format!("{program} run joseph {address}"))?;
    ensure!(printed == expected, "{printed}");
    let rules = joseph.shell("nft list table netdev loss")?;
    ensure!(!rules.contains("counter packets 0 "), "nothing was lost: {rules}");
    server.end()?;
    Ok(())
}

/// Programs of `roles.h`, with the words before the role and their transcript.
const ROLES: &[(&str, &[&str], &str)] = &[
    ("iov", &[], "iov"),
    ("thread_pool", &[], "thread_pool"),
    ("priorities", &[], "priorities"),
    ("timeouts", &[], "timeouts"),
    ("unblock", &[], "unblock"),
    ("unblock", &["at_once"], "unblock_at_once"),
    ("cancel", &[], "cancel"),
    ("info", &[], "info"),
    ("deaths", &[], "deaths"),
];

fn roles() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    for (name, words, expected) in ROLES {
        let program = build(name)?;
        let expected = fs::read_to_string(sources().join(format!("{expected}.out")))?;
        let mut server = Program::start(joseph, &program, &[words, &["server"][..]].concat())?;
        let address = server.line()?;
        let client = transcript(alonzo, &format!("{program} {} client joseph {address}", words.join(" ")))
            .with_context(|| format!("{name} {words:?}"))?;
        let served = server.rest()?;
        ensure!(
            interleaved::is_made_of(&expected, &client, &served),
            "{name} {words:?}: the client printed:\n{client}the server:\n{served}"
        );
    }
    Ok(())
}

fn name_server() -> Result<()> {
    let program = build("name_server")?;
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let mut server = Program::start(joseph, &program, &["server", "course/first"])?;
    let client = format!("{program} client /net/joseph/dev/name/local/course/first");
    system_tests::eventually("the name", || alonzo.shell("ls /net/joseph/dev/name/local/course").is_ok())?;
    let printed = transcript(alonzo, &client)?;
    ensure!(
        printed.starts_with("client: sent 0, status 0, reply 0\nclient: sent 1, status 2, reply 2\n"),
        "{printed}"
    );
    ensure!(printed.ends_with("client: a message of the system: ENOSYS\n"), "{printed}");
    ensure!(server.line()? == "server: number 0");
    let rest = server.end()?;
    ensure!(rest.ends_with("server: stop pulse with value 17\n"), "{rest}");
    Ok(())
}

fn traffic_lights() -> Result<()> {
    let program = build("traffic_lights")?;
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let mut servers = Vec::new();
    for (node, name) in [(alonzo, "north"), (joseph, "south")] {
        let mut server = Program::start(node, &program, &["intersection", name])?;
        ensure!(server.line()? == "ready");
        servers.push(server);
    }
    let printed =
        transcript(alonzo, &format!("{program} controller north /net/joseph/dev/name/local/south"))?;
    for number in 1..=2 {
        for line in
            ["a train comes: all red", "still all red, held 1, changes meanwhile 0", "unknown order: ENOSYS"]
        {
            ensure!(printed.contains(&format!("intersection {number}: {line}\n")), "{line}:\n{printed}");
        }
        ensure!(
            printed.contains(&format!("intersection {number}: runs 1, every state in turn 1\n")),
            "{printed}"
        );
    }
    servers.into_iter().try_for_each(|server| server.end().map(drop))
}

fn trains() -> Result<()> {
    let program = build("train")?;
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let mut controller = Program::start(joseph, &program, &["controller", "track", "4"])?;
    ensure!(controller.line()? == "ready");
    let remote = "/net/joseph/dev/name/local/track";
    let trains =
        [(alonzo, remote, "1"), (joseph, "track", "2"), (alonzo, remote, "3"), (joseph, "track", "4")];
    let started: Result<Vec<Program>> = trains
        .iter()
        .map(|(node, track, number)| Program::start(node, &program, &["train", track, number]))
        .collect();
    for (train, (_, _, number)) in started?.into_iter().zip(trains) {
        ensure!(train.end()? == format!("train {number} made its laps\n"));
    }
    let printed = controller.end()?;
    ensure!(printed == "12 passages, at most 1 train on the track\n", "{printed}");
    Ok(())
}
