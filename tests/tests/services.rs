//! Services found by name, on this node, on another one, on any: their owners are killed, their nodes die.
//!
//! Called with `SERVICE` in its environment this program is such a server, or a client of one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use qnet::names::{self, Scope};
use qnet::{Channel, ChannelFlags, Received, Root};
use qnet_lab::{Lab, Node, Options};
use system_tests::{Case, Need, Pair, eventually, refused, shell_as};

const CASES: &[Case] = &[
    case("a_service_of_another_node_is_opened_by_its_path", a_service_of_another_node),
    case("names_are_listed_whatever_a_node_has_at_dev_name", real_directory),
    case("a_redundant_service_is_found_by_name_and_a_backup_takes_over", redundant),
    case("a_service_of_another_node_needs_its_leave", leave_of_the_node),
    case("servers_and_clients_are_any_users_of_the_node", any_users),
    case("global_names_are_found_by_way_of_a_server", global_names),
    case("a_backup_takes_over_when_the_server_and_its_node_die", backup),
    case("the_names_of_a_dead_node_are_forgotten", dead_node),
    case("qnet_ping_says_which_step_to_a_service_fails", pinged),
];

const fn case(name: &'static str, run: fn() -> Result<()>) -> Case {
    Case { name, needs: &[Need::RootNodes, Need::Fuse], run }
}

fn main() -> ExitCode {
    let Some(role) = std::env::var_os("SERVICE") else { return system_tests::main(CASES) };
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match (role.to_str(), words.as_slice()) {
        (Some("serve"), [name, scope, text]) => serve(name, scope_of(scope), text),
        (Some("ask"), [path, scope]) => ask(path, scope_of(scope)),
        _ => bail_out("wrong call"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bail_out(why: &str) -> Result<()> {
    bail!("{why}")
}

fn scope_of(word: &str) -> Scope {
    if word == "global" { Scope::Global } else { Scope::Local }
}

/// A server that answers every message with its text, and says `serves` when it can be found.
fn serve(name: &str, scope: Scope, text: &str) -> Result<()> {
    let root = Root::locate(None)?;
    let channel = Channel::create(&root, ChannelFlags::empty())?;
    let _name = names::attach(&root, name, channel.chid(), scope)?;
    println!("serves {}", std::process::id());
    std::io::stdout().flush()?;
    loop {
        if let Received::Message(message) = channel.receive(None)? {
            // Who leaves before the answer is not missed.
            let _answered = message.reply(0, text.as_bytes());
        }
    }
}

fn ask(path: &str, scope: Scope) -> Result<()> {
    let connection = names::open(&Root::locate(None)?, path, scope)?;
    let mut answer = [0; 100];
    let reply = connection.send(b"who?", &mut answer)?;
    println!("{}", String::from_utf8_lossy(&answer[..reply.len]));
    Ok(())
}

/// This program inside of a node.
fn us() -> Result<String> {
    let us = std::env::current_exe()?;
    let name = us.file_name().and_then(|name| name.to_str()).context("a name")?;
    Ok(format!("/lab/programs/deps/{name}"))
}

/// A server in a node; it is killed with this value.
struct Service<'n> {
    node: &'n Node,
    command: Child,
    /// As the node counts.
    pid: String,
}

impl<'n> Service<'n> {
    fn start(node: &'n Node, name: &str, scope: &str, text: &str) -> Result<Self> {
        Self::run(node, node.command("env"), &[name, scope, text])
    }

    fn start_as(node: &'n Node, uid: u32, name: &str, text: &str) -> Result<Self> {
        Self::run(node, node.command_as(uid, "env"), &[name, "local", text])
    }

    fn run(node: &'n Node, mut command: Command, words: &[&str]) -> Result<Self> {
        command.args(["SERVICE=serve", &us()?]).args(words);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        let Some(pid) = line.trim_end().strip_prefix("serves ") else { bail!("it says {line:?}") };
        Ok(Self { node, command: child, pid: pid.to_owned() })
    }

    fn kill(&mut self) -> Result<()> {
        if self.command.try_wait()?.is_none() {
            self.node.shell(&format!("kill -9 {}", self.pid))?;
            self.command.wait()?;
        }
        Ok(())
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        // With its node it ended already.
        let _ended = self.kill();
        let _ended = self.command.kill().and_then(|()| self.command.wait());
    }
}

fn asking(path: &str, scope: &str) -> Result<String> {
    Ok(format!("SERVICE=ask {} {path} {scope}", us()?))
}

fn asked(node: &Node, path: &str, scope: &str) -> Result<String> {
    Ok(node.shell(&asking(path, scope)?)?.trim_end().to_owned())
}

/// Nobody can be found by that path.
fn missing(node: &Node, path: &str, scope: &str) -> Result<()> {
    refused(node, &asking(path, scope)?, "No such file or directory").map(drop)
}

fn open_nodes() -> Options {
    Options { qnet: vec!["allow=connect".to_owned()], ..Options::default() }
}

fn a_service_of_another_node() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let mut valve = Service::start(joseph, "plant/valve", "local", "open")?;
    let _own = Service::start(alonzo, "plant/valve", "local", "closed")?;
    ensure!(alonzo.shell("ls /net/joseph/dev/name/local/plant")? == "valve\n");
    ensure!(asked(alonzo, "/net/joseph/dev/name/local/plant/valve", "local")? == "open");
    ensure!(asked(alonzo, "/net/alonzo/dev/name/local/plant/valve", "local")? == "closed");
    ensure!(asked(alonzo, "/dev/name/local/plant/valve", "local")? == "closed");
    ensure!(asked(joseph, "plant/valve", "local")? == "open");
    missing(alonzo, "/net/joseph/dev/name/local/plant/pump", "local")?;
    missing(alonzo, "/net/joseph/dev/name/global/plant/valve", "local")?;
    refused(alonzo, &asking("/net/joseph/dev/name/local/plant", "local")?, "Is a directory")?;
    valve.kill()?;
    missing(alonzo, "/net/joseph/dev/name/local/plant/valve", "local")?;
    eventually("an empty list here", || {
        alonzo.shell("ls /net/joseph/dev/name/local").is_ok_and(|names| names.is_empty())
    })?;
    let own = "test -z \"$(ls ${IO_PKT_ROOT:-/run/io-pkt}/dev/name/local)\"";
    eventually("and one over there, where nobody looked", || joseph.shell(own).is_ok())?;
    let _again = Service::start(joseph, "plant/valve", "local", "ajar")?;
    ensure!(asked(alonzo, "/net/joseph/dev/name/local/plant/valve", "local")? == "ajar");
    Ok(())
}

/// What the machine itself has below `/dev/name` are files, and no names.
fn real_directory() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    let _valve = Service::start(joseph, "plant/valve", "local", "open")?;
    for (own, proof) in [
        ("true", "test -L /dev/name -a -e /dev/name/local/plant/valve"),
        ("rm /dev/name", "test ! -e /dev/name"),
        (
            "mkdir -p /dev/name/local/plant && echo pid 1 chid 1 >/dev/name/local/impostor",
            "test -d /dev/name -a ! -L /dev/name -a ! -e /dev/name/local/plant/valve",
        ),
        ("rm -r /dev/name && echo a file >/dev/name", "test -f /dev/name"),
        ("rm /dev/name && ln -s /etc /dev/name", "test -e /dev/name/hostname"),
    ] {
        joseph.shell(&format!("{own} && {proof}"))?;
        for (folder, names) in [("", "local\n"), ("/local", "plant\n"), ("/local/plant", "valve\n")] {
            let list = alonzo.shell(&format!("ls /net/joseph/dev/name{folder}"))?;
            ensure!(list == names, "{own}: {folder}: {list}");
        }
        ensure!(asked(alonzo, "/net/joseph/dev/name/local/plant/valve", "local")? == "open", "{own}");
        missing(alonzo, "/net/joseph/dev/name/local/impostor", "local")?;
    }
    Ok(())
}

const EXAMPLE: &str = "/lab/programs/examples/redundant";

/// A provider of the library's example, killed with this value.
struct Example<'n> {
    node: &'n Node,
    command: Child,
}

impl<'n> Example<'n> {
    /// Builds it as fresh as this test.
    fn build() -> Result<()> {
        let us = std::env::current_exe()?;
        let built = us.ancestors().nth(2).context("target/PROFILE/deps")?;
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "--package", "qnet", "--example", "redundant"]);
        cargo.arg("--target-dir").arg(built.parent().context("target")?);
        if built.ends_with("release") {
            cargo.arg("--release");
        }
        let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn start(node: &'n Node) -> Result<Self> {
        let mut command = node.command("sh");
        // The shell's number is the example's, as the node counts.
        command.args(["-c", &format!("echo $$ >/tmp/redundant.pid; exec {EXAMPLE} serve")]);
        let command = command.stdin(Stdio::null()).spawn()?;
        let example = Self { node, command };
        eventually("a provider", || node.shell("test -s /tmp/redundant.pid").is_ok())?;
        Ok(example)
    }

    /// Until this one answers a node: it may be starting, and others hear of it a moment later.
    fn is_found_from(&self, node: &Node) -> Result<()> {
        let what = format!("{}'s to answer {}", self.node.name(), node.name());
        eventually(&what, || self.answers(node).unwrap_or(false))
    }

    fn pid(&self) -> Result<String> {
        Ok(self.node.shell("cat /tmp/redundant.pid")?.trim().to_owned())
    }

    /// Whether it is this one that answers a node's five questions.
    fn answers(&self, node: &Node) -> Result<bool> {
        Ok(node.shell(EXAMPLE)? == format!("process {} answers\n", self.pid()?).repeat(5))
    }

    fn kill(&mut self) -> Result<()> {
        self.node.shell(&format!("kill -9 {}", self.pid()?))?;
        self.command.wait()?;
        Ok(())
    }
}

impl Drop for Example<'_> {
    fn drop(&mut self) {
        // It may have ended, with its node.
        let _ended = self.command.kill().and_then(|()| self.command.wait());
    }
}

/// The example of the Rust library, on two nodes with a gns each.
fn redundant() -> Result<()> {
    Example::build()?;
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    alonzo.shell("gns -s")?;
    joseph.shell("gns alonzo")?;
    answers(joseph, &["alonzo"])?;
    let mut first = Example::start(joseph)?;
    first.is_found_from(joseph)?;
    first.is_found_from(alonzo)?;
    let mut second = Example::start(alonzo)?;
    second.is_found_from(alonzo)?;
    eventually("joseph to know both", || {
        let list = alonzo.shell("ls /net/joseph/dev/name/global/example/clock");
        list.is_ok_and(|list| list.matches(",0,12").count() == 2)
    })?;
    ensure!(first.answers(joseph)?, "the own node's comes first");
    first.kill()?;
    // The backup takes over.
    second.is_found_from(alonzo)?;
    second.is_found_from(joseph)?;
    second.kill()?;
    refused(joseph, EXAMPLE, "Errno(2)").map(drop)
}

fn leave_of_the_node() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options::default())?;
    let _valve = Service::start(joseph, "valve", "local", "open")?;
    ensure!(alonzo.shell("ls /net/joseph/dev/name/local")? == "valve\n", "it is seen");
    fails_at(
        alonzo,
        "joseph valve",
        "connect: failed: the node lets us connect to no channel; allow=connect",
    )?;
    refused(alonzo, &asking("/net/joseph/dev/name/local/valve", "local")?, "Operation not permitted")?;
    Ok(())
}

fn any_users() -> Result<()> {
    let Pair { alonzo: node, .. } = &Pair::up(&open_nodes())?;
    let mut first = Service::start_as(node, 1001, "valve", "first")?;
    let as_second = |line: &str| shell_as(node, 1002, line);
    ensure!(as_second(&asking("valve", "local")?)? == "first\n");
    let serve =
        |scope: &str| -> Result<String> { Ok(format!("SERVICE=serve {} valve {scope} second", us()?)) };
    let error = as_second(&serve("local")?).err().context("a name was taken twice")?;
    ensure!(error.to_string().contains("File exists"), "{error:#}");
    let error = as_second(&serve("global")?).err().context("a global name without privilege")?;
    ensure!(error.to_string().contains("Operation not permitted"), "{error:#}");
    first.kill()?;
    let _second = Service::start_as(node, 1002, "valve", "second")?;
    ensure!(
        shell_as(node, 1001, &asking("valve", "local")?)? == "second\n",
        "the dead make way for other users"
    );
    Ok(())
}

/// Nodes that know each other.
struct Three {
    nodes: Vec<Node>,
    lab: Lab,
}

impl Three {
    fn up() -> Result<Self> {
        let lab = Lab::temporary()?;
        let nodes = lab.up(3, &open_nodes())?;
        for node in &nodes {
            eventually("three nodes", || {
                node.shell("ls /net").is_ok_and(|names| names.lines().count() == 3)
            })?;
        }
        Ok(Self { nodes, lab })
    }
}

/// The status text of a node's gns.
fn status(node: &Node) -> String {
    node.shell(&format!("cat /net/{}/dev/name/gns_*", node.name())).unwrap_or_default()
}

fn answers(node: &Node, servers: &[&str]) -> Result<()> {
    let all = || servers.iter().all(|server| status(node).contains(&format!("server {server}: answers")));
    eventually(&format!("{servers:?} to answer {}", node.name()), all).with_context(|| status(node))
}

fn global_names() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&open_nodes())?;
    refused(alonzo, "gns joseph && gns", "runs already")?;
    let error = shell_as(joseph, 1001, "gns").err().context("a gns without privilege")?;
    ensure!(error.to_string().contains("only the owner"), "{error:#}");
    joseph.shell("gns -s")?;
    answers(alonzo, &["joseph"])?;
    let mut first = Service::start(joseph, "alarm", "global", "joseph's")?;
    ensure!(asked(alonzo, "alarm", "global")? == "joseph's");
    missing(alonzo, "alarm", "local")?;
    let mut second = Service::start(alonzo, "alarm", "global", "alonzo's")?;
    ensure!(asked(alonzo, "alarm", "global")? == "alonzo's", "the own node's comes first");
    ensure!(asked(joseph, "alarm", "global")? == "joseph's");
    ensure!(asked(alonzo, "/net/joseph/dev/name/global/alarm", "local")? == "joseph's");
    eventually("both in the list", || {
        alonzo.shell("ls /net/joseph/dev/name/global/alarm /net/joseph/dev/name/global/net").is_ok_and(
            |list| {
                list.matches(",0,12").count() == 2 && list.contains("joseph\n") && list.contains("alonzo\n")
            },
        )
    })?;
    first.kill()?;
    ensure!(asked(joseph, "alarm", "global")? == "alonzo's");
    ensure!(
        asked(alonzo, "/net/joseph/dev/name/global/alarm", "local")? == "alonzo's",
        "by way of joseph's gns"
    );
    second.kill()?;
    missing(alonzo, "alarm", "global")?;
    missing(joseph, "alarm", "global")?;
    Ok(())
}

fn backup() -> Result<()> {
    let three = Three::up()?;
    let [alonzo, joseph, eileen] = three.nodes.as_slice() else { bail!("three nodes") };
    alonzo.shell("gns -s")?;
    joseph.shell("gns -s alonzo")?;
    eileen.shell("gns")?;
    // The client found the server by looking, and heard from it of the other one.
    answers(eileen, &["alonzo", "joseph"])?;
    let _alarm = Service::start(eileen, "alarm", "global", "eileen's")?;
    for node in [alonzo, joseph] {
        ensure!(asked(node, "alarm", "global")? == "eileen's");
    }
    three.lab.down_node("alonzo")?;
    ensure!(asked(joseph, "alarm", "global")? == "eileen's", "nothing was lost");
    let _pump = Service::start(eileen, "pump", "global", "eileen's pump")?;
    ensure!(asked(joseph, "pump", "global")? == "eileen's pump", "and news come through");
    let _own = Service::start(joseph, "siren", "global", "joseph's siren")?;
    ensure!(asked(eileen, "siren", "global")? == "joseph's siren");
    Ok(())
}

fn dead_node() -> Result<()> {
    let three = Three::up()?;
    let [alonzo, joseph, eileen] = three.nodes.as_slice() else { bail!("three nodes") };
    alonzo.shell("gns -s")?;
    joseph.shell("gns alonzo")?;
    eileen.shell("gns alonzo")?;
    answers(joseph, &["alonzo"])?;
    answers(eileen, &["alonzo"])?;
    let _alarm = Service::start(eileen, "alarm", "global", "eileen's")?;
    let second = Service::start(joseph, "alarm", "global", "joseph's")?;
    three.lab.down_node("eileen")?;
    ensure!(asked(alonzo, "alarm", "global")? == "joseph's", "whether eileen's is still in the list or not");
    drop(second);
    eventually("the end of eileen's name", || missing(alonzo, "alarm", "global").is_ok())?;
    eventually("the end of its entry", || {
        alonzo.shell("ls /net/joseph/dev/name/global").is_ok_and(|names| !names.contains("alarm"))
    })?;
    Ok(())
}

/// `qnet-ping` says that, last, and that the service is not reached.
fn fails_at(node: &Node, args: &str, why: &str) -> Result<()> {
    let told = node.shell(&format!("qnet-ping {args}; test $? = 1"))?;
    let last = told.lines().last().unwrap_or_default();
    ensure!(last.starts_with(why), "expected `{why}`, got: {told}");
    Ok(())
}

fn pinged() -> Result<()> {
    let Pair { alonzo, joseph, lab } = &Pair::up(&open_nodes())?;
    let valve = Service::start(joseph, "valve", "local", "open")?;
    let told = alonzo.shell("qnet-ping joseph valve")?;
    let steps: Vec<&str> =
        told.lines().filter_map(|line| line.split_once(':').map(|(step, _)| step)).collect();
    ensure!(steps == ["qnet-ping joseph", "session", "name", "connect", "server"], "{told}");
    ensure!(
        told.contains(&format!("/dev/name/local/valve is channel 1 of process {}\n", valve.pid)),
        "{told}"
    );
    ensure!(joseph.shell("qnet-ping joseph valve")?.contains("session: this node itself\n"));
    ensure!(alonzo.shell("qnet-ping -q joseph /dev/name/local/valve")?.is_empty());
    fails_at(alonzo, "joseph pump", "name: failed: nobody has /dev/name/local/pump there")?;
    fails_at(
        alonzo,
        "joseph valve/handle",
        "name: failed: a part of /dev/name/local/valve/handle is the name",
    )?;
    fails_at(
        alonzo,
        "joseph /dev/name/global/valve",
        "name: failed: nobody has /dev/name/global/valve, as far as",
    )?;
    joseph.shell(&format!("kill -STOP {}", valve.pid))?;
    fails_at(alonzo, "-W 0.5 joseph valve", "server: failed: it has not answered within 0.5 s; it lives")?;
    let told = alonzo.shell("qnet-ping nosuch valve 2>&1; test $? = 2")?;
    ensure!(told.contains("nosuch: not found"), "{told}");
    let told = alonzo.shell("qnet-ping joseph a//b 2>&1; test $? = 2")?;
    ensure!(told.contains("a//b: not a name of a channel"), "{told}");
    drop(valve);
    lab.down_node("joseph")?;
    fails_at(alonzo, "joseph valve", "session: failed: ")
}
