//! Nodes that have died, and who goes through `/net` all the same.
//!
//! A node here dies by its cable: nobody is told. Its session ends when it has said nothing for `tx_retries` + 1 ticks of a fifth of
//! a second; then it is looked for once more, for two ticks, and after that its paths fail at once.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail, ensure};
use qnet_lab::{Lab, Node, Options};
use system_tests::eventually;

/// Seconds, ten times what anything may take that concerns no dead node.
const SOON: u32 = 10;
/// Five dead ones, this one, and one that is well.
const NODES: usize = 7;
/// Retransmissions until a node counts as dead, instead of 25: the sessions are the same, the test is shorter.
const RETRIES: u32 = 5;
/// Nodes are not asked for a sign of life while the test takes its time.
const SILENCE: &str = "conn_up_idle=5000";
/// Seconds, ten times what is promised: one session after another ends twice at most, and each node is looked for once more.
const BOUND: u32 = 10 * 2 * (RETRIES + 1 + 2) / 5;

/// Seven nodes of which each has its `/tmp` alone to show: who goes through `/net` sees all of it.
struct World {
    /// Its processes end with it.
    _lab: Lab,
    nodes: Vec<Node>,
}

impl World {
    fn up(options: &[String]) -> Result<Self> {
        let lab = Lab::temporary()?;
        let common = ["mapany=off".to_owned(), "export=/tmp".to_owned()];
        let qnet = common.iter().chain(options).cloned().collect();
        let nodes = lab.up(NODES, &Options { qnet, ..Options::default() })?;
        for node in &nodes {
            node.shell("echo well >/tmp/file")?;
        }
        let world = Self { _lab: lab, nodes };
        world.know_each_other()?;
        Ok(world)
    }

    fn here(&self) -> &Node {
        &self.nodes[0]
    }

    fn well(&self) -> &Node {
        &self.nodes[1]
    }

    fn mortal(&self) -> &[Node] {
        &self.nodes[2..]
    }

    /// All nodes are listed, and there is a session with each.
    fn know_each_other(&self) -> Result<()> {
        let here = self.here();
        for node in &self.nodes {
            let line = format!("cat /net/{}/tmp/file", node.name());
            eventually(&line, || here.shell(&line).is_ok())?;
        }
        let listed = || here.shell("ls /net").is_ok_and(|names| names.lines().count() == NODES);
        eventually("all of them in /net", listed)?;
        // Who has closed his file has not waited for that.
        eventually("the end of what was said", || self.under_way().is_ok_and(|counts| counts == [0; 5]))
    }

    fn cables(&self, state: &str) -> Result<()> {
        for node in self.mortal() {
            node.shell(&format!("ip link set eth0 {state}"))?;
        }
        Ok(())
    }

    /// Five nodes that were well a moment ago are dead from now on.
    fn let_die(&self) -> Result<()> {
        self.cables("up")?;
        self.know_each_other()?;
        self.cables("down")
    }

    /// Runs `line` while five nodes are dead that were well a moment ago; gives what it said.
    fn with_dead(&self, line: &str) -> Result<String> {
        self.let_die()?;
        let said = self.here().shell(&format!("timeout {BOUND} bash -c '{line}' 2>&1"));
        said.with_context(|| format!("with five dead nodes: {line}"))
    }

    /// Messages that each of the five has not acknowledged yet.
    fn under_way(&self) -> Result<Vec<u64>> {
        let statistics = self.here().shell("qnetstats")?;
        self.mortal().iter().map(|node| under_way(&statistics, node.name())).collect()
    }
}

/// Messages to a node that are under way or wait, by the statistics.
fn under_way(statistics: &str, name: &str) -> Result<u64> {
    let block = statistics.split_once(&format!("\n  {name} (nd ")).with_context(|| format!("no {name}"))?.1;
    let line = block.lines().find(|line| line.trim_start().starts_with("window ")).context("a window")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "messages").context("messages")?;
    Ok(words[at - 1].parse()?)
}

/// Whoever wants to know of all nodes whether they are there has all of them asked at once, and waits for the slowest only.
pub(crate) fn asked_at_once() -> Result<()> {
    // Nobody is given up while the test looks.
    let world = World::up(&["tx_retries=1000".to_owned(), SILENCE.to_owned()])?;
    world.cables("down")?;
    let mut command = world.here().command("ls");
    let listing = command.args(["-l", "/net"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let all_asked = || world.under_way().is_ok_and(|counts| counts.iter().all(|count| *count > 0));
    let asked = eventually("a question to each of the five while the first is waited for", all_asked);
    world.cables("up")?;
    let output = listing.wait_with_output()?;
    asked?;
    let lines = String::from_utf8_lossy(&output.stdout).lines().count();
    ensure!(output.status.success() && lines == NODES + 1, "{output:?}");
    Ok(())
}

/// The test.
pub(crate) fn in_nobodys_way() -> Result<()> {
    let world = World::up(&[format!("tx_retries={RETRIES}"), SILENCE.to_owned()])?;
    asks_nobody(&world)?;
    // They are as dead as before.
    completes(&world)?;
    finds_what_is_well(&world)?;
    let said = world.with_dead("ls -l /net; true")?;
    let dead = world.mortal().iter().filter(|node| said.contains(&format!("/net/{}", node.name()))).count();
    ensure!(dead == 5 && said.contains("Host is down"), "ls -l names the dead: {said}");
    world.with_dead("for n in /net/*; do cat $n/tmp/file; done; true")?;
    let file = format!("/net/{}/tmp/file", world.well().name());
    eventually("the node that is well", || {
        world.here().shell(&format!("echo new >{file}; cat {file}")).is_ok_and(|text| text == "new\n")
    })
}

/// What only wants names waits for nobody: whoever had been asked would be off the list by now, or have a message under way.
fn asks_nobody(world: &World) -> Result<()> {
    world.let_die()?;
    let well = format!("cat /net/{}/tmp/file", world.well().name());
    let mut said = String::new();
    for line in [
        "df",
        "df /net",
        "ls /net",
        "echo /net/*",
        "compgen -f /net/",
        "find / -xdev -maxdepth 2 -name net",
        &well,
    ] {
        let words = world.here().shell(&format!("timeout {SOON} bash -c '{line}'"));
        said += &words.with_context(|| format!("with five dead nodes: {line}"))?;
    }
    for node in world.mortal() {
        let times = said.matches(node.name()).count();
        ensure!(times == 3, "{} is named {times} times by: {said}", node.name());
    }
    let counts = world.under_way()?;
    ensure!(counts == [0; 5], "they were asked: {counts:?}");
    Ok(())
}

/// A shell at a terminal completes names: it lists them, and marks directories, for which it looks at each.
fn completes(world: &World) -> Result<()> {
    let mut shell = Shell::start(world.here())?;
    shell.says("bash-")?;
    shell.types("cat /net/\t\t")?;
    for node in &world.nodes {
        shell.says(node.name())?;
    }
    shell.types("\u{15}echo it goes $((1 + 1)) on\n")?;
    shell.says("it goes 2 on")
}

/// `find` and `updatedb` go through everything, over all mount points, and end with what is there.
fn finds_what_is_well(world: &World) -> Result<()> {
    let own = format!("/net/{}/tmp/file", world.here().name());
    // The machine's own files take their time with or without nodes.
    let said = world.with_dead("find / -path \"/[!n]*\" -prune -o -name file -print; true")?;
    ensure!(said.lines().any(|line| line == own), "find: {said}");
    // As Debian sets it up: FUSE is gone into.
    let said = world.with_dead(
        "rm -f /tmp/names; updatedb --require-visibility no --output /tmp/names --database-root /net && \
         plocate --database /tmp/names file",
    )?;
    ensure!(said.lines().any(|line| line == own), "updatedb: {said}");
    Ok(())
}

/// An interactive shell at a terminal of its own.
struct Shell {
    script: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    said: String,
}

impl Shell {
    fn start(node: &Node) -> Result<Self> {
        let mut command = node.command("env");
        command.args(["INPUTRC=/dev/null", "TERM=dumb", "timeout", &BOUND.to_string()]);
        command.args(["script", "-qefc", "bash --norc --noprofile -i", "/dev/null"]);
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let keyboard = script.stdin.take().context("its keyboard")?;
        let screen = script.stdout.take().context("its screen")?;
        Ok(Self { script, keyboard, screen, said: String::new() })
    }

    fn types(&mut self, keys: &str) -> Result<()> {
        self.said.clear();
        self.keyboard.write_all(keys.as_bytes())?;
        Ok(self.keyboard.flush()?)
    }

    /// Waits until `text` is on the screen; the time that the shell has bounds the wait.
    fn says(&mut self, text: &str) -> Result<()> {
        while !self.said.contains(text) {
            let mut bytes = [0; 1024];
            match self.screen.read(&mut bytes)? {
                0 => bail!("the shell ended without {text:?}: {:?}", self.said),
                n => self.said.push_str(&String::from_utf8_lossy(&bytes[..n])),
            }
        }
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // What runs below it ends with its terminal.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
